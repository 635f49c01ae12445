//! The one canonical form of a request's path.
//!
//! Routing, policies, rate limits, logs and what is passed on all see the same text, made here once. What two
//! programs read differently is how rules are walked around: `/public/..%2fadmin` is below `/public` for one of them
//! and `/admin` for the other (RFC 3986 §6.2.2 and §6.2.3 say what is the same; RFC 9110 §4.2.3 that a proxy may say so).
//!
//! | mode            | `%41` → `A`, `%2f` → `%2F`, `/./`, `/../`, `\` → `/` | `//` → `/` | `%2F`, `%5C` → `/` | refuses |
//! |-----------------|------|------|------|---------|
//! | off             | no   | no   | no   | nothing |
//! | base            | yes  | no   | no   | escapes that are none, `%00` |
//! | merge-slashes   | yes  | yes  | no   | the same |
//! | decode-and-merge| yes  | yes  | yes  | the same |
//! | reject-ambiguous| yes  | –    | –    | also all that the other modes would change the elements by |
//!
//! The query is nobody's to change: it is not given here.
//!
//! **Invariant:** what is canonical stays as it is: `canonical(canonical(p)) == canonical(p)`.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// How much of a path is put into order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PathMode {
    /// Nothing. Rules by path can then be walked around, if what stands behind us reads paths otherwise.
    Off,
    /// Escapes, dot segments, backslashes.
    #[default]
    Base,
    /// And empty elements go.
    MergeSlashes,
    /// And escaped slashes are slashes.
    DecodeAndMerge,
    /// As base; but what could mean another path to somebody is refused.
    RejectAmbiguous,
}

impl FromStr for PathMode {
    type Err = UnknownMode;

    fn from_str(name: &str) -> Result<Self, UnknownMode> {
        match name {
            "off" => Ok(PathMode::Off),
            "base" => Ok(PathMode::Base),
            "merge-slashes" => Ok(PathMode::MergeSlashes),
            "decode-and-merge" => Ok(PathMode::DecodeAndMerge),
            "reject-ambiguous" => Ok(PathMode::RejectAmbiguous),
            _ => Err(UnknownMode),
        }
    }
}

/// There is no such mode; there are off, base, merge-slashes, decode-and-merge and reject-ambiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownMode;

impl fmt::Display for UnknownMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path mode is off, base, merge-slashes, decode-and-merge or reject-ambiguous")
    }
}

impl std::error::Error for UnknownMode {}

/// Why a path is refused; the answer is 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathError {
    /// A per cent sign without two hexadecimal digits (RFC 3986 §2.1).
    BadEscape,
    /// `%00`: where the path ends, for some.
    Nul,
    /// It does not begin with a slash.
    NotAbsolute,
    /// Reject-ambiguous: `.`, `..`, or one of them with parameters, plain or escaped.
    DotSegment,
    /// Reject-ambiguous: two slashes in a row.
    EmptyElement,
    /// Reject-ambiguous: a slash or backslash that is escaped, or a backslash.
    HiddenSlash,
    /// Reject-ambiguous: an escaped per cent sign, which the next one may take for the begin of an escape.
    HiddenEscape,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathError::BadEscape => "the path has a % that two hexadecimal digits do not follow",
            PathError::Nul => "the path has %00 in it",
            PathError::NotAbsolute => "the path does not begin with a slash",
            PathError::DotSegment => "the path has . or .. as an element",
            PathError::EmptyElement => "the path has two slashes in a row",
            PathError::HiddenSlash => "the path has a backslash, or an escaped slash or backslash",
            PathError::HiddenEscape => "the path has an escaped per cent sign",
        })
    }
}

impl std::error::Error for PathError {}

/// The canonical form of `path`, which has no query; `*` is its own.
///
/// # Errors
/// What the mode refuses.
pub fn canonical(path: &str, mode: PathMode) -> Result<Cow<'_, str>, PathError> {
    if mode == PathMode::Off || path == "*" {
        return Ok(Cow::Borrowed(path));
    }
    if path.is_empty() {
        // RFC 9110 §4.2.3: an empty path is "/".
        return Ok(Cow::Borrowed("/"));
    }
    if !path.starts_with(['/', '\\']) {
        return Err(PathError::NotAbsolute);
    }
    if is_plain(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    let escaped = escapes(path.as_bytes(), mode)?;
    if mode == PathMode::RejectAmbiguous {
        refuse_ambiguous(&escaped)?;
    }
    let merge = matches!(mode, PathMode::MergeSlashes | PathMode::DecodeAndMerge);
    Ok(Cow::Owned(elements(&escaped, merge)))
}

/// Whether no mode would change anything: the common case, and it costs no memory.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|&byte| {
        let ambiguous = before == b'/' && matches!(byte, b'/' | b'.');
        before = byte;
        !ambiguous && byte != b'%' && byte != b'\\' && byte.is_ascii()
    })
}

/// One form for each byte: unreserved ones plain, others as they came, escapes in upper case (RFC 3986 §6.2.2.1 and
/// §6.2.2.2). The result is ASCII.
fn escapes(path: &[u8], mode: PathMode) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'%' => {
                let [high, low, tail @ ..] = tail else { return Err(PathError::BadEscape) };
                rest = tail;
                push_escape(&mut out, hexadecimal(*high)? << 4 | hexadecimal(*low)?, mode)?;
            }
            b'\\' if mode == PathMode::RejectAmbiguous => return Err(PathError::HiddenSlash),
            b'\\' => out.push('/'),
            byte if byte.is_ascii() => out.push(char::from(*byte)),
            byte => push_escaped(&mut out, *byte),
        }
    }
    Ok(out)
}

/// What an escape of `byte` becomes.
fn push_escape(out: &mut String, byte: u8, mode: PathMode) -> Result<(), PathError> {
    match byte {
        0 => return Err(PathError::Nul),
        b'/' | b'\\' if mode == PathMode::DecodeAndMerge => out.push('/'),
        b'/' | b'\\' if mode == PathMode::RejectAmbiguous => return Err(PathError::HiddenSlash),
        b'%' if mode == PathMode::RejectAmbiguous => return Err(PathError::HiddenEscape),
        byte if is_unreserved(byte) => out.push(char::from(byte)),
        byte => push_escaped(out, byte),
    }
    Ok(())
}

fn push_escaped(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

fn hexadecimal(digit: u8) -> Result<u8, PathError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(PathError::BadEscape),
    }
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `..;x` is `..` to servers that know parameters of elements.
fn refuse_ambiguous(path: &str) -> Result<(), PathError> {
    let elements = path[1..].split('/');
    let last = elements.clone().count() - 1;
    for (at, element) in elements.enumerate() {
        let (name, _) = element.split_once(';').unwrap_or((element, ""));
        if name == "." || name == ".." {
            return Err(PathError::DotSegment);
        }
        if element.is_empty() && at != last {
            return Err(PathError::EmptyElement);
        }
    }
    Ok(())
}

/// Without dot segments (RFC 3986 §5.2.4), and without empty elements if they are to be merged.
fn elements(path: &str, merge: bool) -> String {
    let mut out = String::with_capacity(path.len());
    let mut elements = path[1..].split('/').peekable();
    while let Some(element) = elements.next() {
        let last = elements.peek().is_none();
        match element {
            "." if last => out.push('/'),
            "." => {}
            ".." => {
                out.truncate(out.rfind('/').unwrap_or(0));
                if last {
                    out.push('/');
                }
            }
            element => {
                out.push('/');
                out.push_str(element);
            }
        }
    }
    if merge {
        let merged = merged(&out);
        out = merged;
    }
    if out.is_empty() {
        out.push('/');
    }
    out
}

/// After the dot segments, as others do it: `/a//../b` is `/a/b`.
fn merged(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !out.ends_with('/') {
            out.push(character);
        }
    }
    out
}
