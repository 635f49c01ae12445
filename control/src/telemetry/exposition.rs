//! Metrics as text, in the two formats scrapers ask for.
//!
//! OpenMetrics 1.0 only when the client's `Accept` names it; otherwise the older Prometheus text format, 0.0.4. The
//! two differ: a counter's family is named without `_total` in the first and with it in the second, and only the
//! first has units and an end mark.

use std::fmt::{Display, Write as _};

/// The text format of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus 0.0.4.
    Prometheus,
}

/// What a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; scraped as `<name>_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Values by size; scraped as `<name>_bucket`, `<name>_sum` and `<name>_count`.
    Histogram,
}

impl Kind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Values by size.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// The upper end of each class, growing, and how many values were in it and in no smaller one.
    pub classes: Vec<(f64, u64)>,
    /// How many were larger than all.
    pub larger: u64,
    /// Their sum.
    pub sum: f64,
}

/// One metric: the row its documentation is made from.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, for a counter without `_total`.
    pub name: &'static str,
    /// What it counts.
    pub kind: Kind,
    /// Its unit; its name then ends with it.
    pub unit: Option<&'static str>,
    /// One sentence.
    pub help: &'static str,
    /// Its labels, in their order.
    pub labels: &'static [&'static str],
}

impl Metric {
    /// The name of its samples.
    pub fn sample_name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge | Kind::Histogram => self.name.to_owned(),
        }
    }
}

impl TextFormat {
    /// The format a client wants that sent these `Accept` headers.
    pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let mut open_metrics = 0.0;
        let mut prometheus = 0.0;
        for element in accept.into_iter().flat_map(|header| header.split(',')) {
            let mut parts = element.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts
                .filter_map(|parameter| parameter.strip_prefix("q="))
                .find_map(|quality| quality.parse::<f32>().ok())
                .unwrap_or(1.0);
            match kind.as_str() {
                "application/openmetrics-text" => open_metrics = quality.max(open_metrics),
                "text/plain" => prometheus = quality.max(prometheus),
                _ => {}
            }
        }
        if open_metrics > 0.0 && open_metrics >= prometheus {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The content type of an answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text;charset=utf-8;version=1.0.0",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// An answer that is being written.
pub struct Exposition {
    format: TextFormat,
    text: String,
}

/// The samples of one metric.
pub struct Family<'a> {
    text: &'a mut String,
    sample_name: String,
    labels: &'static [&'static str],
}

impl Exposition {
    /// Begins an answer.
    pub fn new(format: TextFormat) -> Self {
        Self { format, text: String::with_capacity(16 * 1024) }
    }

    /// Begins a metric. Each may appear once.
    pub fn family(&mut self, metric: &Metric) -> Family<'_> {
        let sample_name = metric.sample_name();
        let name = match self.format {
            TextFormat::OpenMetrics => metric.name,
            TextFormat::Prometheus => &sample_name,
        };
        let kind = metric.kind.as_str();
        let _ = writeln!(self.text, "# HELP {name} {}", metric.help);
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
        if let (TextFormat::OpenMetrics, Some(unit)) = (self.format, metric.unit) {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
        Family { text: &mut self.text, sample_name, labels: metric.labels }
    }

    /// The finished answer.
    pub fn finish(mut self) -> String {
        if self.format == TextFormat::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

impl Family<'_> {
    /// Writes one sample; `values` are the values of the metric's labels, in their order. Where fewer are given, the
    /// last labels are left out.
    pub fn sample<'v>(&mut self, values: impl IntoIterator<Item = &'v str>, value: impl Display) {
        self.line("", values, None, value);
    }

    /// Writes the samples of a histogram.
    pub fn histogram(&mut self, values: &[&str], histogram: &Histogram) {
        let mut count = 0;
        for (end, within) in &histogram.classes {
            count += within;
            // `1.0`, not `1`: the format wants the ends of classes to look the same everywhere.
            let end = format!("{end:?}");
            self.line("_bucket", values.iter().copied(), Some(&end), count);
        }
        count += histogram.larger;
        self.line("_bucket", values.iter().copied(), Some("+Inf"), count);
        self.line("_sum", values.iter().copied(), None, histogram.sum);
        self.line("_count", values.iter().copied(), None, count);
    }

    fn line<'v>(
        &mut self,
        suffix: &str,
        values: impl IntoIterator<Item = &'v str>,
        end: Option<&'v str>,
        value: impl Display,
    ) {
        self.text.push_str(&self.sample_name);
        self.text.push_str(suffix);
        let mut separator = '{';
        let labels = self.labels.iter().copied().zip(values);
        for (label, value) in labels.chain(end.map(|end| ("le", end))) {
            self.text.push(separator);
            self.text.push_str(label);
            self.text.push_str("=\"");
            push_escaped(self.text, value);
            self.text.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// Label values: backslash, quote and newline are escaped, the same in both formats.
fn push_escaped(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BYTES: Metric = Metric {
        name: "test_sent_bytes",
        kind: Kind::Counter,
        unit: Some("bytes"),
        help: "Bytes sent.",
        labels: &["from", "to"],
    };
    const OPEN: Metric = Metric {
        name: "test_open",
        kind: Kind::Gauge,
        unit: None,
        help: "Open things.",
        labels: &[],
    };

    fn rendered(format: TextFormat) -> String {
        let mut exposition = Exposition::new(format);
        let mut bytes = exposition.family(&BYTES);
        bytes.sample(["a\\b", "c\"d\ne"], 12u64);
        bytes.sample(["alone"], 3u64);
        exposition.family(&OPEN).sample([], -1i64);
        exposition.finish()
    }

    #[test]
    fn openmetrics() {
        assert_eq!(
            rendered(TextFormat::OpenMetrics),
            "# HELP test_sent_bytes Bytes sent.\n# TYPE test_sent_bytes counter\n# UNIT test_sent_bytes bytes\n\
             test_sent_bytes_total{from=\"a\\\\b\",to=\"c\\\"d\\ne\"} 12\ntest_sent_bytes_total{from=\"alone\"} 3\n\
             # HELP test_open Open things.\n# TYPE test_open gauge\ntest_open -1\n# EOF\n"
        );
    }

    #[test]
    fn prometheus() {
        assert_eq!(
            rendered(TextFormat::Prometheus),
            "# HELP test_sent_bytes_total Bytes sent.\n# TYPE test_sent_bytes_total counter\n\
             test_sent_bytes_total{from=\"a\\\\b\",to=\"c\\\"d\\ne\"} 12\ntest_sent_bytes_total{from=\"alone\"} 3\n\
             # HELP test_open Open things.\n# TYPE test_open gauge\ntest_open -1\n"
        );
    }

    #[test]
    fn the_format_is_the_one_asked_for() {
        use TextFormat::{OpenMetrics, Prometheus};
        let rows: [(&str, &[&str], TextFormat); 8] = [
            ("nothing said", &[], Prometheus),
            ("anything", &["*/*"], Prometheus),
            (
                "Prometheus itself",
                &[
                    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                ],
                OpenMetrics,
            ),
            ("OpenMetrics only", &["application/openmetrics-text"], OpenMetrics),
            ("second header", &["text/html;q=0.1", "application/openmetrics-text"], OpenMetrics),
            ("refused", &["application/openmetrics-text;q=0"], Prometheus),
            ("rather the old one", &["application/openmetrics-text;q=0.3, text/plain"], Prometheus),
            ("a browser", &["text/html,application/xhtml+xml,application/xml;q=0.9"], Prometheus),
        ];
        for (name, accept, want) in rows {
            assert_eq!(TextFormat::negotiate(accept.iter().copied()), want, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_sample_is_one_line_whatever_the_label(value in any::<String>()) {
            let mut exposition = Exposition::new(TextFormat::Prometheus);
            exposition.family(&BYTES).sample([value.as_str(), "x"], 1);
            prop_assert_eq!(exposition.finish().matches('\n').count(), 3);
        }

        #[test]
        fn no_header_panics_the_negotiation(accept in any::<String>()) {
            let _ = TextFormat::negotiate([accept.as_str()]);
        }
    }
}
