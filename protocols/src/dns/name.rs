//! A host name, as text that cannot be wrong.

use std::fmt;

use super::error::Error;

/// Labels of a name and the bytes that end them (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;

/// A name of labels that are made of letters, digits, `-`, `_` and `*`, in small letters and without a dot at the end.
///
/// Other names exist and are forwarded as they came; no service has one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

impl Name {
    /// Reads a name as people write it.
    ///
    /// # Errors
    /// [`Error::Name`] when it is not one.
    pub fn new(text: &str) -> Result<Name, Error> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            !label.is_empty() && label.len() <= LABEL_BYTES_MAX && label.bytes().all(is_usual)
        };
        // One byte more for the length of the first label, and one for the root.
        if text.len() + 2 > NAME_BYTES_MAX || !text.split('.').all(is_label) {
            return Err(Error::Name);
        }
        Ok(Name(text.to_ascii_lowercase().into_boxed_str()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Appends the name as it stands in messages, without compression.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for label in self.0.split('.') {
            out.push(u8::try_from(label.len()).expect("a label is at most 63 bytes"));
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name that begins at `start`, and where what follows it begins. `None` for one that is well-formed but no host's.
///
/// # Errors
/// [`Error::Short`], or [`Error::Name`] when it is too long, has a label of an unknown kind (RFC 1035 §4.1.4: 0x40 and
/// 0x80), or points anywhere but backwards.
pub(super) fn read(message: &[u8], start: usize) -> Result<(Option<Name>, usize), Error> {
    let mut text = String::new();
    let mut usual = true;
    let end = walk(message, start, |label| {
        usual = usual && label.iter().all(|byte| is_usual(*byte));
        if usual {
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
        }
    })?;
    let name = (usual && !text.is_empty()).then(|| Name(text.into_boxed_str()));
    Ok((name, end))
}

/// Where what follows the name at `start` begins.
pub(super) fn skip(message: &[u8], start: usize) -> Result<usize, Error> {
    walk(message, start, |_| {})
}

/// Every pointer leads before where the part of the name that it ends began, so the walk ends.
fn walk(message: &[u8], start: usize, mut label: impl FnMut(&[u8])) -> Result<usize, Error> {
    let (mut at, mut before, mut bytes) = (start, start, 1);
    let mut end = None;
    loop {
        let length = *message.get(at).ok_or(Error::Short)?;
        match length {
            0 => return Ok(end.unwrap_or(at + 1)),
            1..=63 => {
                let from = at + 1;
                at = from + usize::from(length);
                bytes += usize::from(length) + 1;
                if bytes > NAME_BYTES_MAX {
                    return Err(Error::Name);
                }
                label(message.get(from..at).ok_or(Error::Short)?);
            }
            0xc0.. => {
                let low = *message.get(at + 1).ok_or(Error::Short)?;
                let to = usize::from(length & 0x3f) << 8 | usize::from(low);
                end = end.or(Some(at + 2));
                if to >= before {
                    return Err(Error::Name);
                }
                (at, before) = (to, to);
            }
            _ => return Err(Error::Name),
        }
    }
}

fn is_usual(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'*')
}
