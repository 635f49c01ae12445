//! One YAML value that remembers where every part of it was written.

use crate::source::diagnostics::Place;

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) place: Place,
    /// `Exact` of `!Exact web`; the standard `!!str` is already applied.
    pub(crate) tag: Option<Box<str>>,
    pub(crate) content: Content,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Scalar(Scalar),
    Sequence(Vec<Value>),
    Mapping(Vec<(Key, Value)>),
}

/// The text of a scalar, as written. What it means depends on where it stands: `1.10` is a number or, in quotes, text.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: Box<str>,
    /// Written without quotes, so that it may be a number, a boolean or nothing.
    pub(crate) plain: bool,
}

/// The name of an entry of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) place: Place,
    pub(crate) text: Box<str>,
}

impl Value {
    /// A key without a value, `null` or `~`: the same as leaving the key out.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar(scalar) if scalar.meaning() == Meaning::Null)
    }

    pub(crate) fn entries(&self) -> Option<&[(Key, Value)]> {
        match &self.content {
            Content::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value of a key of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.entries()?.iter().find(|(k, _)| &*k.text == key).map(|(_, value)| value)
    }

    /// The text of a scalar, as written.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// What it is, for "expected …, found …".
    pub(crate) fn found(&self) -> String {
        match &self.content {
            Content::Sequence(_) => "a list".into(),
            Content::Mapping(_) => "a mapping".into(),
            Content::Scalar(scalar) => match scalar.meaning() {
                Meaning::Null => "nothing".into(),
                Meaning::Boolean => format!("the boolean `{}`", scalar.text),
                Meaning::Number => format!("the number `{}`", scalar.text),
                Meaning::Text => format!("the text {:?}", shortened(&scalar.text)),
            },
        }
    }
}

/// What a scalar means when nothing else is known about it (YAML 1.2 §10.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Null,
    Boolean,
    Number,
    Text,
}

impl Scalar {
    pub(crate) fn meaning(&self) -> Meaning {
        match &*self.text {
            _ if !self.plain => Meaning::Text,
            "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
            "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Meaning::Boolean,
            text if is_number(text) => Meaning::Number,
            _ => Meaning::Text,
        }
    }
}

fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned.as_bytes() {
        [b'0', b'x', digits @ ..] => all(digits, u8::is_ascii_hexdigit),
        [b'0', b'o', digits @ ..] => all(digits, |digit| matches!(digit, b'0'..=b'7')),
        [b'0'..=b'9' | b'.', ..] => unsigned.parse::<f64>().is_ok() || is_special(unsigned),
        _ => false,
    }
}

fn is_special(unsigned: &str) -> bool {
    matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN")
}

fn all(digits: &[u8], is_digit: impl Fn(&u8) -> bool) -> bool {
    !digits.is_empty() && digits.iter().all(is_digit)
}

/// Characters of a wrong text that are repeated in the message; the excerpt shows the rest.
const QUOTED_CHARACTERS_MAX: usize = 60;

pub(crate) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTED_CHARACTERS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_the_core_schema_says() {
        for (text, want) in [
            ("", Meaning::Null),
            ("~", Meaning::Null),
            ("null", Meaning::Null),
            ("true", Meaning::Boolean),
            ("yes", Meaning::Text),
            ("8080", Meaning::Number),
            ("-1", Meaning::Number),
            ("1.10", Meaning::Number),
            ("1e3", Meaning::Number),
            ("0x1F", Meaning::Number),
            ("0o17", Meaning::Number),
            (".inf", Meaning::Number),
            ("1.2.3", Meaning::Text),
            ("10.0.0.1", Meaning::Text),
            ("5s", Meaning::Text),
            ("inf", Meaning::Text),
            (".", Meaning::Text),
            ("0x", Meaning::Text),
        ] {
            assert_eq!(Scalar { text: text.into(), plain: true }.meaning(), want, "{text:?}");
            assert_eq!(Scalar { text: text.into(), plain: false }.meaning(), Meaning::Text);
        }
    }
}
