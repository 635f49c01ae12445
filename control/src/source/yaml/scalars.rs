//! Reads scalars: text, numbers, addresses, durations, words of a set.
//!
//! Each function takes a value and returns what it means, or reports what was expected and returns `None`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ringway_protocols::dns::Name;

use super::fields::{check_tag, expected};
use super::value::{Content, Meaning, Scalar, Value, shortened};
use crate::source::diagnostics::suggest::{did_you_mean, one_of};
use crate::source::diagnostics::{Problem, Reporter};

/// Text; a number or a boolean must be in quotes to be text, as in Kubernetes.
pub(crate) fn text<'v>(value: &'v Value, reporter: &mut Reporter) -> Option<&'v str> {
    let scalar = scalar("text", value, reporter)?;
    match scalar.meaning() {
        Meaning::Text => Some(&scalar.text),
        Meaning::Null => {
            expected("text", value, reporter);
            None
        }
        Meaning::Boolean | Meaning::Number => {
            let message = format!("expected text, found {}", value.found());
            let help = format!("write it in quotes: \"{}\"", scalar.text);
            reporter.report(Problem::error(value.place, message).help(help));
            None
        }
    }
}

/// Text that is not empty.
pub(crate) fn nonempty<'v>(value: &'v Value, reporter: &mut Reporter) -> Option<&'v str> {
    let text = text(value, reporter)?;
    if text.is_empty() {
        reporter.report(Problem::error(value.place, "this must not be empty"));
        return None;
    }
    Some(text)
}

/// The name of an object: letters, digits, `-` and `.`, as the file names and host names made of it allow.
pub(crate) fn name<'v>(value: &'v Value, reporter: &mut Reporter) -> Option<&'v str> {
    let text = nonempty(value, reporter)?;
    let fault = match text {
        _ if text.len() > NAME_BYTES_MAX => "is longer than 253 characters",
        _ if !text.bytes().all(is_name_byte) => "may only contain a–z, 0–9, `-` and `.`",
        _ if !is_name_end(text.as_bytes()[0]) || !text.bytes().last().is_some_and(is_name_end) => {
            "must begin and end with a letter or a digit"
        }
        _ => return Some(text),
    };
    let message = format!("the name {:?} {fault}", shortened(text));
    let lower = text.to_ascii_lowercase();
    let help = (lower != text && lower.bytes().all(is_name_byte))
        .then(|| format!("did you mean `{lower}`?"));
    reporter.report(Problem::error(value.place, message).help(help));
    None
}

/// RFC 1123 subdomains, which Kubernetes names are, end here.
const NAME_BYTES_MAX: usize = 253;

fn is_name_byte(byte: u8) -> bool {
    is_name_end(byte) || byte == b'-' || byte == b'.'
}

fn is_name_end(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

pub(crate) fn boolean(value: &Value, reporter: &mut Reporter) -> Option<bool> {
    let scalar = scalar("`true` or `false`", value, reporter)?;
    match scalar.meaning() {
        Meaning::Boolean => Some(scalar.text.starts_with(['t', 'T'])),
        _ => {
            expected("`true` or `false`", value, reporter);
            None
        }
    }
}

/// A whole number of a range.
pub(crate) fn integer(
    range: std::ops::RangeInclusive<u64>,
) -> impl Fn(&Value, &mut Reporter) -> Option<u64> {
    move |value, reporter| {
        let what = || format!("a whole number from {} to {}", range.start(), range.end());
        let scalar = scalar(&what(), value, reporter)?;
        let number = (scalar.meaning() == Meaning::Number).then(|| parse_integer(&scalar.text));
        match number.flatten() {
            Some(number) if range.contains(&number) => Some(number),
            _ => {
                expected(&what(), value, reporter);
                None
            }
        }
    }
}

fn parse_integer(text: &str) -> Option<u64> {
    match text.get(..2) {
        Some("0x") => u64::from_str_radix(&text[2..], 16).ok(),
        Some("0o") => u64::from_str_radix(&text[2..], 8).ok(),
        _ => text.parse().ok(),
    }
}

/// A TCP port.
pub(crate) fn port(value: &Value, reporter: &mut Reporter) -> Option<u16> {
    let what = "a port from 1 to 65535";
    let scalar = scalar(what, value, reporter)?;
    let number = (scalar.meaning() == Meaning::Number).then(|| parse_port(&scalar.text));
    if let Some(Some(port)) = number {
        return Some(port);
    }
    let help = (parse_port(&scalar.text).is_some())
        .then(|| format!("write it without quotes: {}", scalar.text));
    let message = format!("expected {what}, found {}", value.found());
    reporter.report(Problem::error(value.place, message).help(help));
    None
}

/// A port where text is all there can be: the key of a mapping. One way to write each: no `+80`, no `080`.
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    text.starts_with(|first| matches!(first, '1'..='9')).then(|| text.parse().ok())?
}

/// An address of one host.
pub(crate) fn ip(value: &Value, reporter: &mut Reporter) -> Option<IpAddr> {
    let text = nonempty(value, reporter)?;
    match text.parse::<IpAddr>() {
        Ok(ip) => Some(ip.to_canonical()),
        Err(_) => {
            let message = format!("expected an IP address, found {:?}", shortened(text));
            reporter.report(Problem::error(value.place, message).help(ip_help(text)));
            None
        }
    }
}

/// An address of one host, or its name.
pub(crate) fn ip_or_host<'v>(
    value: &'v Value,
    reporter: &mut Reporter,
) -> Option<Result<IpAddr, &'v str>> {
    let text = nonempty(value, reporter)?;
    match text.parse::<IpAddr>() {
        Ok(ip) => Some(Ok(ip.to_canonical())),
        Err(_) if is_host(text) => Some(Err(text)),
        Err(_) => {
            let found = shortened(text);
            let message = format!("expected an IP address or the name of a host, found {found:?}");
            reporter.report(Problem::error(value.place, message).help(ip_help(text)));
            None
        }
    }
}

/// What name servers can be asked for, and is no address with a mistake in it: the last label of a name is no number.
pub(crate) fn is_host(text: &str) -> bool {
    let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let is_of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.bytes().all(is_of_a_name)
        && last.bytes().any(|byte| !byte.is_ascii_digit())
        && Name::new(text).is_ok()
}

fn ip_help(text: &str) -> Option<String> {
    if let Some((address, _)) = text.split_once('/').filter(|(a, _)| a.parse::<IpAddr>().is_ok()) {
        return Some(format!("one address is meant, not a range: {address}"));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(format!("the port does not belong here: {}", address.ip()));
    }
    let octets: Option<Vec<u32>> = text.split('.').map(|octet| octet.parse().ok()).collect();
    match octets.as_deref() {
        Some(octets) if octets.len() == 4 => {
            Some("each of the four numbers is from 0 to 255, without leading zeros".into())
        }
        _ => None,
    }
}

/// An address and a port to listen on: `127.0.0.1:15000`, `[::1]:15000`.
pub(crate) fn socket_address(value: &Value, reporter: &mut Reporter) -> Option<SocketAddr> {
    let what = "an address and a port";
    let parsed = scalar(what, value, reporter)?.text.parse();
    if parsed.is_err() {
        let message = format!("expected {what}, found {}", value.found());
        let help = "for example 127.0.0.1:15000 or [::]:15020";
        reporter.report(Problem::error(value.place, message).help(help.to_owned()));
    }
    parsed.ok()
}

/// A length of time: `5s`, `1m30s`, `500ms`, `24h`.
pub(crate) fn duration(value: &Value, reporter: &mut Reporter) -> Option<Duration> {
    let scalar = scalar("a duration such as `5s`", value, reporter)?;
    if let Some(duration) = parse_duration(&scalar.text) {
        return Some(duration);
    }
    let message = format!("expected a duration, found {}", value.found());
    let help = match scalar.meaning() {
        Meaning::Number => format!("which unit? for example `{}s`", scalar.text),
        _ => "write for example `500ms`, `5s`, `1m30s` or `24h`".to_owned(),
    };
    reporter.report(Problem::error(value.place, message).help(help));
    None
}

/// A duration longer than nothing.
#[cfg(feature = "waypoint")]
pub(crate) fn some_time(value: &Value, reporter: &mut Reporter) -> Option<Duration> {
    let time = duration(value, reporter)?;
    if time.is_zero() {
        let message = "expected a duration of more than nothing";
        reporter.report(Problem::error(value.place, message));
        return None;
    }
    Some(time)
}

/// Numbers, each with its unit: `1m30s`, `0.5s`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let is_number = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
        let (number, behind) = rest.split_at(rest.bytes().take_while(is_number).count());
        let letters = behind.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, behind) = behind.split_at(letters);
        total = total.checked_add(times(unit_of(unit)?, number)?)?;
        rest = behind;
    }
    (!text.is_empty()).then_some(total)
}

fn times(unit: Duration, number: &str) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let tenths = fraction.parse::<u32>().ok()?;
    let divisor = 10_u32.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let whole = unit.checked_mul(whole.parse().ok()?)?;
    whole.checked_add(unit.checked_mul(tenths)? / divisor)
}

fn unit_of(unit: &str) -> Option<Duration> {
    Some(match unit {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(60 * 60),
        _ => return None,
    })
}

/// One word of a set, exactly as it is written there.
pub(crate) fn word<T: Copy>(
    set: &'static [(&'static str, T)],
) -> impl Fn(&Value, &mut Reporter) -> Option<T> {
    move |value, reporter| pick(set.iter().copied(), value, reporter)
}

/// One value of a vocabulary, exactly as it is spelled there.
pub(crate) fn spelled<T: Copy>(
    all: &'static [T],
    spelling: impl Fn(T) -> &'static str + Copy,
) -> impl Fn(&Value, &mut Reporter) -> Option<T> {
    move |value, reporter| pick(all.iter().map(|&each| (spelling(each), each)), value, reporter)
}

fn pick<T>(
    set: impl Iterator<Item = (&'static str, T)> + Clone,
    value: &Value,
    reporter: &mut Reporter,
) -> Option<T> {
    let words = || set.clone().map(|(word, _)| word);
    check_tag(value, reporter);
    let text = value.text().unwrap_or_default();
    if let Some((_, meaning)) = set.clone().find(|(word, _)| *word == text) {
        return Some(meaning);
    }
    let message = format!("expected {}, found {}", one_of(words()), value.found());
    let help = did_you_mean(text, words());
    reporter.report(Problem::error(value.place, message).help(help));
    None
}

fn scalar<'v>(what: &str, value: &'v Value, reporter: &mut Reporter) -> Option<&'v Scalar> {
    check_tag(value, reporter);
    match &value.content {
        Content::Scalar(scalar) => Some(scalar),
        _ => {
            expected(what, value, reporter);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, want) in [
            ("5s", Some(5_000)),
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("24h", Some(86_400_000)),
            ("0.5s", Some(500)),
            ("1.25h", Some(4_500_000)),
            ("1.s", None),
            (".5s", None),
            ("1.2.3s", None),
            ("0.0000000000001s", None),
            ("0s", Some(0)),
            ("5", None),
            ("s", None),
            ("", None),
            ("-5s", None),
            ("5 s", None),
            ("1d", None),
            ("99999999999h", None),
        ] {
            assert_eq!(parse_duration(text), want.map(Duration::from_millis), "{text:?}");
        }
    }
}
