//! What the threads of a run counted, and the one line that comes of it.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::span::Span;
use crate::histogram;

/// Below this share of the scheduled rate the latencies are not those of that rate.
const ACHIEVED_MIN: f64 = 0.995;
/// Above this share of a core the generator measures itself.
const CPU_SHARE_MAX: f64 = 0.70;
/// Requests which may be on their way at the end of a short run beyond those at its start.
const SHORTAGE_MIN: u64 = 2;

/// Counts of one thread, or of all.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Requests of the span that were answered.
    pub(super) requests: u64,
    /// Requests that were due within the span.
    pub(super) scheduled: u64,
    /// Answers that came within the span, whenever they were due.
    pub(super) answered_within: u64,
    pub(super) failures: u64,
    pub(super) first_failure: Option<String>,
    /// Requests of the span that were given up waiting for.
    pub(super) unanswered: u64,
    /// Requests that were due and waited for a connection, at most.
    pub(super) backlog_max: usize,
    pub(super) latency: Histogram<u64>,
    /// How long after its moment a request was sent although a connection was free: the generator's
    /// own fault.
    pub(super) lateness: Histogram<u64>,
    /// Processor time within the span, of each thread.
    pub(super) cpu: Vec<Duration>,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            requests: 0,
            scheduled: 0,
            answered_within: 0,
            failures: 0,
            first_failure: None,
            unanswered: 0,
            backlog_max: 0,
            latency: histogram::empty(),
            lateness: histogram::empty(),
            cpu: Vec::new(),
        }
    }

    /// Takes in another thread's.
    pub(super) fn add(&mut self, other: Tally) {
        self.requests += other.requests;
        self.scheduled += other.scheduled;
        self.answered_within += other.answered_within;
        self.failures += other.failures;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.unanswered += other.unanswered;
        self.backlog_max += other.backlog_max;
        self.latency.add(&other.latency).expect("all have the same bounds");
        self.lateness.add(&other.lateness).expect("all have the same bounds");
        self.cpu.extend(other.cpu);
    }

    /// The largest share of a core that one thread took.
    fn cpu_share_max(&self, span: Span) -> f64 {
        let most = self.cpu.iter().max().copied().unwrap_or_default();
        most.as_secs_f64() / span.seconds()
    }

    /// Why latencies under a fixed rate do not count, if they do not.
    fn void(&self, span: Span) -> Option<String> {
        let share = self.cpu_share_max(span);
        let shortage = self.scheduled.saturating_sub(self.answered_within);
        if self.scheduled == 0 {
            Some("no request was due: the span is too short for the rate".to_owned())
        } else if self.failures > 0 {
            let (failures, scheduled) = (self.failures, self.scheduled);
            let first = self.first_failure.as_deref().unwrap_or("unknown");
            Some(format!("{failures} of {scheduled} requests failed; the first: {first}"))
        } else if shortage > SHORTAGE_MIN
            && (self.answered_within as f64) < ACHIEVED_MIN * self.scheduled as f64
        {
            let percent = 100.0 * self.answered_within as f64 / self.scheduled as f64;
            Some(format!(
                "{} answers came while {} requests were due ({percent:.1} %, needed are {} %): the \
                 target or the generator does not keep up with the rate",
                self.answered_within,
                self.scheduled,
                100.0 * ACHIEVED_MIN
            ))
        } else if self.unanswered > 0 {
            Some(format!("{} requests were still not answered long after the end", self.unanswered))
        } else if share > CPU_SHARE_MAX {
            Some(format!(
                "a thread of the generator took {:.0} % of its core, more than {:.0} %: give it more \
                 --threads and --cores, or ask for a lower rate",
                100.0 * share,
                100.0 * CPU_SHARE_MAX
            ))
        } else {
            None
        }
    }

    /// What is reported of a run in open loop.
    pub(super) fn open_loop(&self, span: Span, rate: f64) -> Result<OpenLoop> {
        Ok(OpenLoop {
            requests: self.requests,
            failures: self.failures,
            scheduled: self.scheduled,
            unanswered: self.unanswered,
            rate_target: rate,
            rate_achieved: self.answered_within as f64 / span.seconds(),
            void: self.void(span),
            backlog_max: self.backlog_max,
            lateness_p50_us: self.lateness.value_at_quantile(0.5),
            lateness_p99_us: self.lateness.value_at_quantile(0.99),
            lateness_max_us: self.lateness.max(),
            common: self.common(span)?,
        })
    }

    /// What is reported of a run in closed loop.
    pub(super) fn closed_loop(&self, span: Span) -> Result<ClosedLoop> {
        Ok(ClosedLoop {
            requests: self.requests,
            failures: self.failures,
            first_failure: self.first_failure.clone(),
            rate: self.requests as f64 / span.seconds(),
            common: self.common(span)?,
        })
    }

    fn common(&self, span: Span) -> Result<Common> {
        let cpu_seconds = self.cpu.iter().sum::<Duration>().as_secs_f64();
        let at = |quantile| self.latency.value_at_quantile(quantile);
        Ok(Common {
            cpu_seconds,
            cpu_share: cpu_seconds / span.seconds() / self.cpu.len().max(1) as f64,
            cpu_share_max: self.cpu_share_max(span),
            threads: self.cpu.len(),
            seconds: span.seconds(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            p9999_us: at(0.9999),
            max_us: self.latency.max(),
            mean_us: self.latency.mean(),
            histogram: histogram::encode(&self.latency)?,
        })
    }
}

/// A run under a fixed rate.
#[derive(Clone, Debug, Serialize)]
pub struct OpenLoop {
    /// Requests of the span that were answered.
    pub requests: u64,
    /// Requests of the span that failed.
    pub failures: u64,
    /// Requests that were due within the span.
    pub scheduled: u64,
    /// Requests of the span that were never answered; the histogram has how long they waited.
    pub unanswered: u64,
    /// Requests a second that were asked for.
    pub rate_target: f64,
    /// Answers a second that came.
    pub rate_achieved: f64,
    /// Why the latencies do not count, if they do not.
    pub void: Option<String>,
    /// Requests that were due and waited for a connection, at most.
    pub backlog_max: usize,
    /// How late requests were sent though a connection was free: the generator's own part of latencies.
    pub lateness_p50_us: u64,
    /// The 99th percentile of that.
    pub lateness_p99_us: u64,
    /// The worst of that.
    pub lateness_max_us: u64,
    /// What both loops report.
    #[serde(flatten)]
    pub common: Common,
}

/// A run as fast as its connections go.
#[derive(Clone, Debug, Serialize)]
pub struct ClosedLoop {
    /// Requests that were answered within the span.
    pub requests: u64,
    /// Requests that failed.
    pub failures: u64,
    /// How the first of them failed.
    pub first_failure: Option<String>,
    /// Requests a second.
    pub rate: f64,
    /// What both loops report.
    #[serde(flatten)]
    pub common: Common,
}

/// Latencies, and what they cost the generator.
#[derive(Clone, Debug, Serialize)]
pub struct Common {
    /// Processor time of all threads within the span.
    pub cpu_seconds: f64,
    /// The share of their cores that the threads took.
    pub cpu_share: f64,
    /// The share of its core that the busiest thread took.
    pub cpu_share_max: f64,
    /// Threads.
    pub threads: usize,
    /// Seconds measured.
    pub seconds: f64,
    /// Latency percentiles in microseconds.
    pub p50_us: u64,
    /// The 90th.
    pub p90_us: u64,
    /// The 99th.
    pub p99_us: u64,
    /// The 99.9th.
    pub p999_us: u64,
    /// The 99.99th.
    pub p9999_us: u64,
    /// The slowest.
    pub max_us: u64,
    /// The mean.
    pub mean_us: f64,
    /// All of them, as [`crate::histogram`] writes them.
    pub histogram: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_does_not_count_says_why() {
        let span = Span::new(0.0, 10.0).unwrap();
        let good = || {
            let mut tally = Tally::new();
            (tally.scheduled, tally.answered_within, tally.requests) = (1000, 1000, 1000);
            tally.cpu = vec![Duration::from_secs(6), Duration::from_secs(2)];
            tally
        };
        type Spoil = fn(&mut Tally);
        let rows: [(&str, Spoil, Option<&str>); 9] = [
            ("as asked for", |_| {}, None),
            ("995 of 1000 are enough", |tally| tally.answered_within = 995, None),
            ("994 are not", |tally| tally.answered_within = 994, Some("99.4 %")),
            ("more than scheduled", |tally| tally.answered_within = 1010, None),
            (
                "two less of a hundred",
                |tally| (tally.scheduled, tally.answered_within) = (100, 98),
                None,
            ),
            ("a failure", |tally| tally.failures = 1, Some("1 of 1000 requests failed")),
            ("no answer", |tally| tally.unanswered = 1, Some("not answered")),
            (
                "a busy thread",
                |tally| tally.cpu[0] = Duration::from_secs(8),
                Some("80 % of its core"),
            ),
            ("nothing due", |tally| tally.scheduled = 0, Some("too short")),
        ];
        for (name, spoil, want) in rows {
            let mut tally = good();
            spoil(&mut tally);
            let void = tally.void(span);
            match want {
                None => assert_eq!(void, None, "{name}"),
                Some(says) => assert!(void.clone().unwrap().contains(says), "{name}: {void:?}"),
            }
        }
    }

    #[test]
    fn threads_add_up() {
        let span = Span::new(0.0, 2.0).unwrap();
        let mut all = Tally::new();
        for (latency, failure) in [(100, None), (300, Some("first")), (500, Some("second"))] {
            let mut tally = Tally::new();
            histogram::record(&mut tally.latency, Duration::from_micros(latency));
            (tally.requests, tally.backlog_max) = (1, 2);
            tally.first_failure = failure.map(str::to_owned);
            tally.cpu.push(Duration::from_millis(latency));
            all.add(tally);
        }
        assert_eq!((all.requests, all.backlog_max), (3, 6));
        assert_eq!(all.first_failure.as_deref(), Some("first"));
        let closed = all.closed_loop(span).unwrap();
        assert_eq!((closed.common.p50_us, closed.common.max_us, closed.rate), (300, 500, 1.5));
        assert_eq!((closed.common.cpu_share, closed.common.cpu_share_max), (0.15, 0.25));
    }
}
