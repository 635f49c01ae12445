//! Numbers as they are read: three digits, and units that people think in.

use crate::statistics::Estimate;

/// How numbers of a unit of the record are shown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unit {
    factor: f64,
    /// What stands behind the number.
    pub(crate) label: String,
}

/// How numbers of a unit are shown.
pub(crate) fn unit(recorded: &str) -> Unit {
    let (factor, label) = match recorded {
        "us" => (1e-3, "ms"),
        "B" => (1.0 / 1024.0, "KiB"),
        "CPU-us/request" => (1.0, "CPU µs per request"),
        "CPU-us/message" => (1.0, "CPU µs per message"),
        "CPU-us/connection" => (1.0, "CPU µs per connection"),
        "CPU-s/GB" => (1.0, "CPU s per GB"),
        "J/request" => (1e3, "mJ per request"),
        "J/connection" => (1e3, "mJ per connection"),
        "J/GB" => (1.0, "J per GB"),
        "CPU-ms/s" => (1.0, "CPU ms per s"),
        "1/s" => (1.0, "per s"),
        "requests/s" => (1.0, "requests per s"),
        "connections/s" => (1.0, "connections per s"),
        other => (1.0, other),
    };
    Unit { factor, label: label.to_owned() }
}

impl Unit {
    /// A recorded value, in this unit.
    pub(crate) fn of(&self, value: f64) -> f64 {
        value * self.factor
    }

    /// A recorded estimate, in this unit.
    pub(crate) fn estimate(&self, recorded: Estimate) -> Estimate {
        Estimate {
            value: self.of(recorded.value),
            low: self.of(recorded.low),
            high: self.of(recorded.high),
            ..recorded
        }
    }
}

/// Three significant digits, with a thin space between thousands.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    let digits = match magnitude {
        _ if magnitude >= 99.95 || magnitude == 0.0 => 0,
        _ if magnitude >= 9.995 => 1,
        _ if magnitude >= 0.9995 => 2,
        _ if magnitude >= 0.09995 => 3,
        _ => 4,
    };
    let rounded = if magnitude >= 1000.0 {
        let unit = 10f64.powi(magnitude.log10().floor() as i32 - 3);
        (value / unit).round() * unit
    } else {
        value
    };
    let text = format!("{rounded:.digits$}");
    match text.strip_prefix('-') {
        Some(_) if rounded.abs() < 5e-5 => "0".to_owned(),
        Some(text) => format!("−{}", grouped(text)),
        None => grouped(&text),
    }
}

/// The two ends of an interval.
pub(crate) fn interval(estimate: &Estimate) -> String {
    format!("{} – {}", number(estimate.low), number(estimate.high))
}

fn grouped(text: &str) -> String {
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (value, want) in [
            (0.0, "0"),
            (0.01234, "0.0123"),
            (0.5, "0.500"),
            (1.0, "1.00"),
            (12.34, "12.3"),
            (999.6, "1\u{202f}000"),
            (123_456.0, "123\u{202f}500"),
            (-2.5, "−2.50"),
            (-0.000_001, "0"),
        ] {
            assert_eq!(number(value), want, "{value}");
        }
    }
}
