//! A line as text with operators in it: `%NAME%`, `%NAME(ARGUMENT)%`, `%NAME(ARGUMENT):LENGTH%`; `%%` is a percent sign.

use std::fmt::Write as _;
use std::str::FromStr;

use ringway_engine::telemetry::http::RequestRecord;

use super::error::TemplateError;
use super::operator::{Operator, Value};
use crate::telemetry::log::TEXT_BYTES_MAX;

/// What stands for a value that there is not.
const NONE: &str = "-";

/// A value is not longer: a header can be, and the line is to hold the others, too.
const VALUE_BYTES_MAX: usize = 1024;

/// Values of a line that a client can make long.
const LONG_VALUES_MAX: usize = 6;

// Quotes and backslashes take two bytes each.
const _: () = assert!(LONG_VALUES_MAX * 2 * VALUE_BYTES_MAX < TEXT_BYTES_MAX);

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Operator { operator: Operator, characters_max: Option<usize> },
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(source: &str) -> Result<Self, TemplateError> {
        // A line has its own end.
        let source = source.trim_end_matches('\n');
        let (mut parts, mut text, mut rest) = (Vec::new(), String::new(), source);
        while let Some(at) = rest.find('%') {
            text.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(behind) = rest.strip_prefix('%') {
                text.push('%');
                rest = behind;
                continue;
            }
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            let (part, behind) = operator(rest)?;
            parts.push(part);
            rest = behind;
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self { source: source.to_owned(), parts })
    }
}

/// Reads what follows a `%`: an operator to its closing `%`, and the rest.
fn operator(rest: &str) -> Result<(Part, &str), TemplateError> {
    let open = || TemplateError::Open(rest.chars().take(20).collect());
    let name_ends = rest.find(['%', '(', ':']).ok_or_else(open)?;
    let (name, mut behind) = rest.split_at(name_ends);
    let mut argument = None;
    if let Some(within) = behind.strip_prefix('(') {
        // What is within may hold percent signs: the form of a moment does.
        let (inner, after) = within.split_once(')').ok_or_else(open)?;
        argument = Some(inner);
        behind = after;
    }
    let mut characters_max = None;
    if let Some(length) = behind.strip_prefix(':') {
        let (length, _) = length.split_once('%').ok_or_else(open)?;
        let parsed = length.parse().map_err(|_| TemplateError::NoLength(length.to_owned()))?;
        characters_max = Some(parsed);
        behind = &behind[1 + length.len()..];
    }
    let behind = behind.strip_prefix('%').ok_or_else(open)?;
    let operator = Operator::parse(name, argument)?;
    Ok((Part::Operator { operator, characters_max }, behind))
}

impl Template {
    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The line of `record`, without its end.
    pub fn render(&self, record: &RequestRecord) -> String {
        let mut line = String::with_capacity(512);
        for part in &self.parts {
            match part {
                Part::Text(text) => line.push_str(text),
                Part::Operator { operator, characters_max } => match operator.value(record) {
                    Value::None => line.push_str(NONE),
                    Value::Number(number) => {
                        let _ = write!(line, "{number}");
                    }
                    Value::Text(value) => push_value(&mut line, &value, *characters_max),
                },
            }
        }
        line
    }
}

/// What a client sent must not end its quotes, and never the line.
fn push_value(line: &mut String, value: &str, characters_max: Option<usize>) {
    if value.is_empty() {
        return line.push_str(NONE);
    }
    for c in shortened(value).chars().take(characters_max.unwrap_or(usize::MAX)) {
        match c {
            '"' => line.push_str("\\\""),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(line, "\\u{{{:x}}}", u32::from(c));
            }
            c => line.push(c),
        }
    }
}

pub(super) fn shortened(value: &str) -> &str {
    crate::telemetry::log::prefix(value, VALUE_BYTES_MAX)
}
