//! One log line, plain or JSON, that is always one line and never longer than [`LINE_BYTES_MAX`].
//!
//! ```text
//!   plain   time ⇥ level ⇥ scope ⇥ message ⇥ key=value key="text with blanks" …
//!   JSON    {"level":…,"time":…,"scope":…,"message":…,"key":value,…}
//! ```
//!
//! The columns of the plain form are split at tabs by the tools around us, so no value may hold one, nor any other
//! control byte: what peers send can end up in a line.

use std::fmt::{Display, Write as _};
use std::time::SystemTime;

use time::OffsetDateTime;
use time::macros::format_description;
use tracing::Level;

/// A line is never longer, its newline included.
pub const LINE_BYTES_MAX: usize = 8 * 1024;

/// A line that somebody else has made, whole, is not longer.
pub const TEXT_BYTES_MAX: usize = 2 * LINE_BYTES_MAX;

/// A single value is cut here.
const VALUE_BYTES_MAX: usize = 2 * 1024;

/// What closes any line fits in here.
const CLOSING_BYTES: usize = 32;

const CUT: &str = "…";

const _: () = assert!(2 * VALUE_BYTES_MAX + 1024 + CLOSING_BYTES < LINE_BYTES_MAX);

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Columns split by tabs.
    #[default]
    Plain,
    /// One JSON object a line.
    Json,
}

/// A line that is being written.
pub struct Line {
    format: LogFormat,
    text: String,
    has_fields: bool,
    is_cut: bool,
}

impl Line {
    /// Begins a line.
    pub fn new(
        format: LogFormat,
        time: SystemTime,
        level: Level,
        scope: &str,
        message: &str,
    ) -> Self {
        let mut line =
            Self { format, text: String::with_capacity(384), has_fields: false, is_cut: false };
        let time = timestamp(time);
        match format {
            LogFormat::Plain => {
                let _ = write!(line.text, "{time}\t{}\t", level_name(level));
                push_cut(&mut line.text, &escape_control(scope));
                line.text.push('\t');
                push_cut(&mut line.text, &escape_control(message));
            }
            LogFormat::Json => {
                let level = level_name(level);
                let _ = write!(line.text, r#"{{"level":"{level}","time":"{time}","scope":"#);
                push_json_string(&mut line.text, scope);
                line.text.push_str(r#","message":"#);
                push_json_string(&mut line.text, message);
            }
        }
        line
    }

    /// Adds text, quoted.
    pub fn text(&mut self, key: &str, value: &str) {
        self.field(key, |text, format| match format {
            LogFormat::Plain => push_quoted(text, value),
            LogFormat::Json => push_json_string(text, value),
        });
    }

    /// Adds text if there is any.
    pub fn text_if(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.text(key, value);
        }
    }

    /// Adds a number, address or other value that is bare in the plain form, unless it holds what would break it.
    pub fn bare(&mut self, key: &str, value: impl Display) {
        let value = value.to_string();
        self.field(key, |text, format| match format {
            LogFormat::Plain if is_plain(&value) && value.len() <= VALUE_BYTES_MAX => {
                text.push_str(&value);
            }
            LogFormat::Plain => push_quoted(text, &value),
            LogFormat::Json => push_json_string(text, &value),
        });
    }

    /// Adds a number, bare in both forms.
    pub fn number(&mut self, key: &str, value: impl Into<i128>) {
        let value = value.into();
        self.field(key, |text, _| {
            let _ = write!(text, "{value}");
        });
    }

    /// Adds a number with a fraction; what JSON cannot hold becomes null.
    pub fn float(&mut self, key: &str, value: f64) {
        self.field(key, |text, format| {
            let _ = match format {
                LogFormat::Json if !value.is_finite() => write!(text, "null"),
                _ => write!(text, "{value}"),
            };
        });
    }

    /// Adds a truth value.
    pub fn boolean(&mut self, key: &str, value: bool) {
        self.field(key, |text, _| {
            let _ = write!(text, "{value}");
        });
    }

    /// The finished line with its newline.
    pub fn finish(mut self) -> Vec<u8> {
        if self.is_cut {
            match self.format {
                LogFormat::Plain => self.text.push_str(" truncated=true"),
                LogFormat::Json => self.text.push_str(r#","truncated":true"#),
            }
        }
        if self.format == LogFormat::Json {
            self.text.push('}');
        }
        self.text.push('\n');
        debug_assert!(self.text.len() <= LINE_BYTES_MAX);
        self.text.into_bytes()
    }

    /// Writes one field, and takes it back if the line would become too long.
    fn field(&mut self, key: &str, write_value: impl FnOnce(&mut String, LogFormat)) {
        let before = self.text.len();
        match self.format {
            LogFormat::Plain => {
                self.text.push(if self.has_fields { ' ' } else { '\t' });
                self.text.extend(key.chars().map(|c| if is_key(c) { c } else { '_' }));
                self.text.push('=');
            }
            LogFormat::Json => {
                self.text.push(',');
                push_json_string(&mut self.text, key);
                self.text.push(':');
            }
        }
        write_value(&mut self.text, self.format);
        if self.text.len() > LINE_BYTES_MAX - CLOSING_BYTES {
            self.text.truncate(before);
            self.is_cut = true;
        } else {
            self.has_fields = true;
        }
    }
}

/// UTC, RFC 3339 with microseconds.
fn timestamp(time: SystemTime) -> String {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    OffsetDateTime::from(time).format(&format).unwrap_or_default()
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn is_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Whether a value can stand without quotes: nobody who splits at blanks or at `=` is misled.
fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\'))
}

fn push_quoted(text: &mut String, value: &str) {
    text.push('"');
    let start = text.len();
    for c in value.chars() {
        let before = text.len();
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if is_control(c) => text.extend(c.escape_default()),
            c => text.push(c),
        }
        if text.len() - start > VALUE_BYTES_MAX {
            text.truncate(before);
            text.push_str(CUT);
            break;
        }
    }
    text.push('"');
}

fn push_json_string(text: &mut String, value: &str) {
    text.push('"');
    let start = text.len();
    for c in value.chars() {
        let before = text.len();
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c if is_control(c) => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
        if text.len() - start > VALUE_BYTES_MAX {
            text.truncate(before);
            text.push_str(CUT);
            break;
        }
    }
    text.push('"');
}

fn push_cut(text: &mut String, value: &str) {
    let shown = prefix(value, VALUE_BYTES_MAX);
    text.push_str(shown);
    if shown.len() < value.len() {
        text.push_str(CUT);
    }
}

/// As much of `value` as fits into so many bytes.
pub(in crate::telemetry) fn prefix(value: &str, bytes_max: usize) -> &str {
    if value.len() <= bytes_max {
        return value;
    }
    let end = (0..=bytes_max).rev().find(|end| value.is_char_boundary(*end)).unwrap_or(0);
    &value[..end]
}

fn escape_control(value: &str) -> std::borrow::Cow<'_, str> {
    if !value.chars().any(is_control) {
        return value.into();
    }
    let mut escaped = String::with_capacity(value.len() + 16);
    for c in value.chars() {
        if is_control(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped.into()
}

/// Control characters, and the two separators some readers take for the end of a line.
fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn line(format: LogFormat, message: &str) -> Line {
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
        Line::new(format, time, Level::INFO, "access", message)
    }

    fn finish(line: Line) -> String {
        String::from_utf8(line.finish()).unwrap()
    }

    #[test]
    fn the_plain_form() {
        let mut one = line(LogFormat::Plain, "connection complete");
        one.bare("src.addr", "10.0.0.1:5000");
        one.text("src.workload", "web \"a\"\n");
        one.number("bytes_sent", 12u64);
        one.boolean("retried", false);
        one.bare("note", "two words");
        assert_eq!(
            finish(one),
            "2023-11-14T22:13:20.123456Z\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.1:5000 \
             src.workload=\"web \\\"a\\\"\\n\" bytes_sent=12 retried=false note=\"two words\"\n"
        );
    }

    #[test]
    fn the_json_form() {
        let mut one = line(LogFormat::Json, "connection complete");
        one.bare("src.addr", "10.0.0.1:5000");
        one.text("src.workload", "web \"a\"\n\u{1}");
        one.number("bytes_sent", 12u64);
        one.float("ratio", f64::NAN);
        assert_eq!(
            finish(one),
            "{\"level\":\"info\",\"time\":\"2023-11-14T22:13:20.123456Z\",\"scope\":\"access\",\
             \"message\":\"connection complete\",\"src.addr\":\"10.0.0.1:5000\",\
             \"src.workload\":\"web \\\"a\\\"\\n\\u0001\",\"bytes_sent\":12,\"ratio\":null}\n"
        );
    }

    #[test]
    fn a_message_cannot_make_a_second_line_or_column() {
        let one = finish(line(LogFormat::Plain, "one\ntwo\tthree\u{1b}[31m\u{2028}"));
        assert!(one.ends_with("\tone\\ntwo\\tthree\\u{1b}[31m\\u{2028}\n"), "{one}");
    }

    #[test]
    fn a_long_line_says_that_it_was_cut() {
        for format in [LogFormat::Plain, LogFormat::Json] {
            let mut one = line(format, &"m".repeat(100_000));
            for _ in 0..10 {
                one.text("error", &"é".repeat(100_000));
            }
            one.number("after", 1);
            let text = finish(one);
            assert!(text.len() <= LINE_BYTES_MAX);
            assert!(text.contains("truncated"), "{format:?}");
            assert!(text.contains("after"), "what is short still fits");
        }
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![any::<String>(), "[\\x00-\\x20]{0,40}", "\\PC{0,3000}"]
    }

    proptest! {
        #[test]
        fn every_json_line_parses_and_gives_back_short_values(
            values in proptest::collection::vec(value(), 0..6)
        ) {
            let mut one = line(LogFormat::Json, "m");
            for (index, value) in values.iter().enumerate() {
                one.text(&format!("k{index}"), value);
            }
            let text = finish(one);
            prop_assert_eq!(text.matches('\n').count(), 1);
            let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
            for (index, value) in values.iter().enumerate() {
                if value.len() < 200 && !text.contains("truncated") {
                    prop_assert_eq!(parsed[format!("k{index}")].as_str(), Some(value.as_str()));
                }
            }
        }

        #[test]
        fn every_plain_line_has_five_columns(
            key in value(), message in value(), bare in value(), text in value()
        ) {
            let mut one = line(LogFormat::Plain, &message);
            one.bare("b", &bare);
            one.text(&key, &text);
            let text = finish(one);
            prop_assert!(text.len() <= LINE_BYTES_MAX);
            prop_assert_eq!(text.trim_end_matches('\n').split('\t').count(), 5);
            prop_assert!(!text[..text.len() - 1].chars().any(|c| c.is_control() && c != '\t'));
        }
    }
}
