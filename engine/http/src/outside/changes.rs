//! What an answer from outside does to the headers of a request, or of its answer.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Headers that nobody outside changes: the connection's own, the length of a body, and who is asked.
const UNTOUCHED: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// See the module's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges(Vec<(HeaderName, Change)>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    /// Instead of what is there.
    Set(HeaderValue),
    /// The same, if anything is there.
    Replace(HeaderValue),
    /// If nothing is there.
    Default(HeaderValue),
    /// Beside what is there.
    Append(HeaderValue),
    Remove,
}

impl HeaderChanges {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes a header this and nothing else.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.push(name, Change::Set(value));
    }

    /// Does the same where the header is there.
    pub fn replace(&mut self, name: HeaderName, value: HeaderValue) {
        self.push(name, Change::Replace(value));
    }

    /// Does the same where the header is not there.
    pub fn set_default(&mut self, name: HeaderName, value: HeaderValue) {
        self.push(name, Change::Default(value));
    }

    /// Adds a value to what is there.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.push(name, Change::Append(value));
    }

    /// Takes a header out.
    pub fn remove(&mut self, name: HeaderName) {
        self.push(name, Change::Remove);
    }

    fn push(&mut self, name: HeaderName, change: Change) {
        if !is_untouched(&name) {
            self.0.push((name, change));
        }
    }

    /// Does what is said.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, change) in &self.0 {
            match change {
                Change::Set(value) => drop(headers.insert(name, value.clone())),
                Change::Replace(value) if headers.contains_key(name) => {
                    headers.insert(name, value.clone());
                }
                Change::Default(value) if !headers.contains_key(name) => {
                    headers.insert(name, value.clone());
                }
                Change::Append(value) => drop(headers.append(name, value.clone())),
                Change::Remove => drop(headers.remove(name)),
                Change::Replace(_) | Change::Default(_) => {}
            }
        }
    }

    /// These, and then others.
    pub fn extend(&mut self, others: HeaderChanges) {
        self.0.extend(others.0);
    }
}

/// Whether it is nobody's to change from outside.
pub(super) fn is_untouched(name: &HeaderName) -> bool {
    UNTOUCHED.contains(name)
}

/// A header as messages have it; none where it is none, such as `:path`.
pub(super) fn header_of(
    key: &str,
    value: &str,
    raw_value: &[u8],
) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::try_from(key).ok()?;
    let bytes = if raw_value.is_empty() { value.as_bytes() } else { raw_value };
    Some((name, HeaderValue::from_bytes(bytes).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn each_change_does_what_it_says() {
        const X: HeaderName = HeaderName::from_static("x");
        let new = || HeaderValue::from_static("new");
        type Make = fn(&mut HeaderChanges, HeaderName, HeaderValue);
        #[rustfmt::skip]
        let rows: [(&str, Make, &[&str], &[&str]); 5] = [
            //  name       change                          of one old      of none
            ("set",      HeaderChanges::set,             &["new"],        &["new"]),
            ("replace",  HeaderChanges::replace,         &["new"],        &[]),
            ("default",  HeaderChanges::set_default,     &["old"],        &["new"]),
            ("append",   HeaderChanges::append,          &["old", "new"], &["new"]),
            ("remove",   |it, name, _| it.remove(name),  &[],             &[]),
        ];
        for (name, change, of_old, of_none) in rows {
            for (before, want) in [(of(&[("x", "old")]), of_old), (of(&[]), of_none)] {
                let (mut changes, mut headers) = (HeaderChanges::default(), before);
                change(&mut changes, X, new());
                changes.apply(&mut headers);
                let left: Vec<&HeaderValue> = headers.get_all(X).iter().collect();
                assert_eq!(left, want, "{name}");
            }
        }
    }

    #[test]
    fn what_frames_a_message_is_nobodys_to_change() {
        let before = of(&[("host", "web"), ("content-length", "3"), ("connection", "close")]);
        let (mut changes, mut after) = (HeaderChanges::default(), before.clone());
        for name in before.keys().chain([&header::TRANSFER_ENCODING]) {
            changes.set(name.clone(), HeaderValue::from_static("9"));
            changes.remove(name.clone());
        }
        assert!(changes.is_empty());
        changes.apply(&mut after);
        assert_eq!(after, before);
    }

    #[test]
    fn what_is_no_header_is_left_out() {
        assert_eq!(header_of(":path", "/", b""), None);
        assert_eq!(header_of("x y", "1", b""), None);
        assert_eq!(header_of("x", "a\r\nb: c", b""), None);
        let (name, value) = header_of("X-Raw", "", &[b'a', 0xe4]).expect("a header");
        assert_eq!((name.as_str(), value.as_bytes()), ("x-raw", &[b'a', 0xe4][..]));
    }
}
