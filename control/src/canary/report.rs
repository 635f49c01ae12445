//! How two backends compare, for people and for programs.

use serde_json::{Value, json};

use super::scrape::Block;
use super::statistics::{Counted, quantile};

/// What is to be thought of the canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It fails less often.
    Better,
    /// Nothing says that it is worse.
    NoDifference,
    /// It fails more often, or is slow more often.
    Worse,
    /// Too few requests were seen.
    Undecided,
}

impl Verdict {
    /// For programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::NoDifference => "no-difference",
            Self::Worse => "worse",
            Self::Undecided => "undecided",
        }
    }
}

/// On what terms one is called worse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// One minus the probability of calling a canary worse that is not.
    pub confidence: f64,
    /// Requests of each without which there is no verdict but "worse".
    pub requests_min: u64,
    /// A request that takes longer is slow; none: as nine of ten of the baseline's first requests show.
    pub slow_milliseconds: Option<f64>,
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What is to be thought of it.
    pub verdict: Verdict,
    /// On what terms.
    pub terms: Terms,
    /// The version that is known.
    pub baseline: Side,
    /// The version that is tried.
    pub canary: Side,
    /// How likely so many failures more are, if it fails no oftener.
    pub p_failures: f64,
    /// Whether it is slow more often; none: nothing was seen.
    pub slow: Option<SlowTest>,
}

/// One of both.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// Its requests that failed.
    pub failures: Counted,
    /// In milliseconds: half of its requests, 90 %, 99 % took no longer.
    pub quantiles: [Option<f64>; 3],
}

/// The quantiles that are told.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

impl Side {
    pub(super) fn of(sum: &Block) -> Self {
        let quantiles = QUANTILES.map(|(_, share)| quantile(&sum.buckets, share));
        Self { failures: sum.failures, quantiles }
    }

    fn successes(&self) -> Counted {
        let Counted { some, all } = self.failures;
        Counted { some: all - some, all }
    }

    fn as_json(&self, selector: &str) -> Value {
        let (low, high) = self.successes().wilson();
        let latency = QUANTILES.iter().zip(self.quantiles);
        let latency: serde_json::Map<String, Value> =
            latency.map(|((name, _), value)| ((*name).to_owned(), json!(value))).collect();
        json!({
            "selector": selector,
            "requests": self.failures.all,
            "failures": self.failures.some,
            "successRate": self.successes().share(),
            "successRate95": self.successes().share().map(|_| [low, high]),
            "milliseconds": latency,
        })
    }

    fn as_row(&self, name: &str, selector: &str) -> Vec<String> {
        let percent = |share: f64| format!("{:.3} %", share * 100.0);
        let (low, high) = self.successes().wilson();
        let rate = self.successes().share();
        let mut row = vec![
            name.to_owned(),
            selector.to_owned(),
            self.failures.all.to_string(),
            self.failures.some.to_string(),
            rate.map_or_else(|| "-".to_owned(), percent),
            rate.map_or_else(
                || "-".to_owned(),
                |_| format!("{} … {}", percent(low), percent(high)),
            ),
        ];
        let milliseconds = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} ms"))
        };
        row.extend(self.quantiles.map(milliseconds));
        row
    }
}

/// Whether one is slow more often.
#[derive(Debug, Clone, PartialEq)]
pub struct SlowTest {
    /// A request that takes longer is slow.
    pub milliseconds: f64,
    /// The slow ones of both.
    pub shares: [Counted; 2],
    /// How likely so many more are, if it is slow no oftener.
    pub p: f64,
}

impl Report {
    /// The columns of [`rows`](Report::rows).
    pub const HEADING: [&'static str; 9] = [
        "version",
        "selector",
        "requests",
        "failures",
        "success",
        "95 % interval",
        "p50",
        "p90",
        "p99",
    ];

    /// A row for each of both.
    pub fn rows(&self, selectors: [&str; 2]) -> Vec<Vec<String>> {
        let [baseline, canary] = selectors;
        vec![self.baseline.as_row("baseline", baseline), self.canary.as_row("canary", canary)]
    }

    /// The verdict, and what it rests on.
    pub fn sentence(&self) -> String {
        let p = |p: f64| if p < 0.0001 { "p < 0.0001".to_owned() } else { format!("p = {p:.4}") };
        let slow = match &self.slow {
            None => "latency: nothing to compare".to_owned(),
            Some(SlowTest { milliseconds, shares: [baseline, canary], p: found }) => format!(
                "slower than {milliseconds} ms: {} of {} against {} of {} ({})",
                canary.some,
                canary.all,
                baseline.some,
                baseline.all,
                p(*found)
            ),
        };
        let verdict = match self.verdict {
            Verdict::Better => "the canary is better: it fails less often".to_owned(),
            Verdict::NoDifference => "nothing says that the canary is worse".to_owned(),
            Verdict::Worse => "the canary is worse".to_owned(),
            Verdict::Undecided => {
                format!(
                    "not enough was seen: {} requests of each are needed",
                    self.terms.requests_min
                )
            }
        };
        let alpha = 1.0 - self.terms.confidence;
        format!(
            "{verdict}\n  failures: {} against {} ({})\n  {slow}\n  worse is what has p ≤ {alpha:.4}; p may be looked at at any time\n",
            self.canary.failures.some,
            self.baseline.failures.some,
            p(self.p_failures)
        )
    }

    /// For programs.
    pub fn as_json(&self, selectors: [&str; 2]) -> Value {
        let slow = self.slow.as_ref().map(|slow| {
            let [baseline, canary] = slow.shares.map(Counted::share);
            json!({
                "slowerThanMilliseconds": slow.milliseconds,
                "baseline": baseline,
                "canary": canary,
                "p": slow.p,
            })
        });
        json!({
            "verdict": self.verdict.as_str(),
            "confidence": self.terms.confidence,
            "baseline": self.baseline.as_json(selectors[0]),
            "canary": self.canary.as_json(selectors[1]),
            "failures": { "p": self.p_failures },
            "latency": slow,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let block = |some, buckets| Block { failures: Counted { some, all: 100 }, buckets };
        let (baseline, canary) = (
            block(1, vec![(5.0, 50), (10.0, 50), (f64::INFINITY, 0)]),
            block(20, vec![(5.0, 0), (10.0, 0), (f64::INFINITY, 100)]),
        );
        Report {
            verdict: Verdict::Worse,
            terms: Terms { confidence: 0.95, requests_min: 50, slow_milliseconds: None },
            slow: Some(SlowTest {
                milliseconds: 10.0,
                shares: [&baseline, &canary].map(|one| one.slower_than(10.0)),
                p: 0.5,
            }),
            baseline: Side::of(&baseline),
            canary: Side::of(&canary),
            p_failures: 0.000_001,
        }
    }

    #[test]
    fn people_and_programs_are_told_the_same() {
        let report = report();
        let rows = report.rows(["v1", "v2"]);
        assert!(rows.iter().all(|row| row.len() == Report::HEADING.len()));
        assert_eq!(rows[1][..5], ["canary", "v2", "100", "20", "80.000 %"]);
        assert_eq!(rows[0][6..], ["5.0 ms", "9.0 ms", "9.9 ms"]);
        let text = report.sentence();
        assert!(text.starts_with("the canary is worse\n"), "{text}");
        assert!(text.contains("20 against 1 (p < 0.0001)"), "{text}");
        assert!(
            text.contains("slower than 10 ms: 100 of 100 against 0 of 100 (p = 0.5000)"),
            "{text}"
        );
        let told = report.as_json(["v1", "v2"]);
        assert_eq!((&told["verdict"], &told["canary"]["failures"]), (&json!("worse"), &json!(20)));
        assert_eq!(told["canary"]["selector"], "v2");
        assert_eq!(told["latency"]["canary"], 1.0);
        assert_eq!(told["baseline"]["successRate"], 0.99);
    }
}
