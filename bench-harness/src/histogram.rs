//! Latencies: HdrHistograms of microseconds, and the text they are kept as.
//!
//! The text is HdrHistogram's own format, V2 deflated, in base64. Other tools read it, among them the
//! plotter on hdrhistogram.github.io.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// The longest latency that is told apart from longer ones, a minute.
const MICROSECONDS_MAX: u64 = 60_000_000;
/// Three digits are kept: no value is off by more than a thousandth.
const DIGITS: u8 = 3;

/// No latencies yet.
pub fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MICROSECONDS_MAX, DIGITS).expect("the bounds are valid")
}

/// Takes in one latency. More than a minute counts as a minute.
pub fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record(latency.as_micros() as u64);
}

/// The text of a histogram.
pub fn encode(histogram: &Histogram<u64>) -> Result<String> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .map_err(|error| anyhow::anyhow!("cannot write a histogram: {error:?}"))?;
    Ok(STANDARD.encode(bytes))
}

/// The histogram of a text.
///
/// # Errors
/// When the text is not as [`encode`] makes it.
pub fn decode(text: &str) -> Result<Histogram<u64>> {
    let bytes = STANDARD.decode(text.trim()).context("a histogram's text is no base64")?;
    Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| anyhow::anyhow!("the text is no HdrHistogram (V2, deflated): {error:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_the_histogram() {
        let mut histogram = empty();
        for microseconds in [1, 7, 1000, 65_000, 59_999_999] {
            record(&mut histogram, Duration::from_micros(microseconds));
        }
        histogram.record_n(250, 1_000_000).unwrap();
        let text = encode(&histogram).unwrap();
        assert!(text.starts_with("HISTF"), "{text}");
        let read: Histogram<u64> = decode(&text).unwrap();
        assert_eq!(read, histogram);
        assert_eq!(read.len(), 1_000_005);
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        for text in ["", "HISTF!", "AAAA"] {
            assert!(decode(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn longer_than_a_minute_is_a_minute_and_nothing_is_lost() {
        let mut histogram = empty();
        record(&mut histogram, Duration::from_secs(600));
        record(&mut histogram, Duration::ZERO);
        assert_eq!(histogram.len(), 2);
        assert!(histogram.max() >= MICROSECONDS_MAX - 100_000, "{}", histogram.max());
    }
}
