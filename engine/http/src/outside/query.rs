//! What an answer from outside does to the parameters of a request's query.

use std::fmt::Write;

/// See the module's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryChanges {
    /// Names that go.
    pub remove: Vec<String>,
    /// Names and values that are there afterwards, once.
    pub set: Vec<(String, String)>,
}

impl QueryChanges {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty()
    }

    /// The query afterwards; none: there is none.
    pub fn apply(&self, query: Option<&str>) -> Option<String> {
        let set = self.set.iter().map(|(name, _)| name);
        let gone: Vec<&String> = self.remove.iter().chain(set).collect();
        let is_kept = |pair: &&str| {
            let name = decoded(pair.split_once('=').map_or(pair, |(name, _)| name));
            gone.iter().all(|gone| gone.as_bytes() != name)
        };
        let kept = query.into_iter().flat_map(|query| query.split('&')).filter(is_kept);
        let mut after: Vec<String> = kept.map(str::to_owned).collect();
        let pair =
            |(name, value): &(String, String)| format!("{}={}", encoded(name), encoded(value));
        after.extend(self.set.iter().map(pair));
        (!after.is_empty()).then(|| after.join("&"))
    }
}

/// What a name stands for: `%74oken` is `token` to whoever reads the query.
fn decoded(name: &str) -> Vec<u8> {
    let bytes = name.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = || {
            let digits = std::str::from_utf8(bytes.get(at + 1..at + 3)?).ok()?;
            u8::from_str_radix(digits, 16).ok()
        };
        let (meant, length) = match (byte, escaped()) {
            (b'%', Some(meant)) => (meant, 3),
            (b'+', _) => (b' ', 1),
            (byte, _) => (*byte, 1),
        };
        out.push(meant);
        at += length;
    }
    out
}

/// Everything but unreserved characters (RFC 3986 §2.3) as escapes.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            byte => write!(out, "%{byte:02X}").expect("text takes it"),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_go_and_come() {
        let changes = QueryChanges {
            remove: vec!["token".into()],
            set: vec![("user".into(), "a b&c".into())],
        };
        #[rustfmt::skip]
        let rows = [
            (None,                          Some("user=a%20b%26c")),
            (Some("x=1&token=2&y"),         Some("x=1&y&user=a%20b%26c")),
            (Some("%74oken=2&user=root"),   Some("user=a%20b%26c")),
            (Some("tokens=1&token"),        Some("tokens=1&user=a%20b%26c")),
            (Some("a%2=1"),                 Some("a%2=1&user=a%20b%26c")),
        ];
        for (before, want) in rows {
            assert_eq!(changes.apply(before).as_deref(), want, "{before:?}");
        }
        let only = QueryChanges { remove: vec!["token".into()], set: Vec::new() };
        assert_eq!(only.apply(Some("token=1")), None);
    }
}
