//! What Ringway promises about its cost, and whether the measurements show it.
//!
//! A target is *met* when its whole interval keeps it, *missed* when its whole interval breaks it, and
//! *not shown* between the two. A target of several points is as good as its worst one.

use std::fmt::Write;

use super::measurements::{Measurements, Metric, Point};
use super::number::{interval, number, unit};
use super::subjects;
use crate::statistics::{Estimate, REPETITIONS_MIN, Verdict};

/// One promise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// What it is about.
    pub(super) what: &'static str,
    /// Where it was set: `design` (its table of targets) or `benchmark` (what the benchmark must show).
    pub(super) source: &'static str,
    /// Where it is measured.
    pub(super) experiment: &'static str,
    /// What is measured.
    pub(super) metric: &'static str,
    /// The points at which it must hold: those with all of these variables.
    pub(super) at: &'static [(&'static str, &'static str)],
    /// What must hold there.
    pub(super) bound: Bound,
}

/// What must hold of a metric.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    /// Ringway's median divided by another subject's.
    Ratio(&'static str, f64),
    /// What Ringway adds to the baseline is less than what another subject adds.
    AddsLessThan(&'static str),
    /// A number in the unit of the record.
    AtMost(f64),
    /// The metric divided by another one of the same subject.
    TimesOwn(&'static str, f64),
    /// Not once, in any repetition, while the other metric reaches at least this sum.
    Never(&'static str, f64),
    /// This harness has nothing that shows it; why.
    Elsewhere(&'static str),
}

/// How a target stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// The interval breaks it.
    Missed,
    /// The interval includes the bound, or there are too few repetitions.
    NotShown,
    /// The interval keeps it.
    Met,
    /// Nothing was measured.
    NotMeasured,
}

/// A target beside what was measured.
#[derive(Clone, Debug)]
pub(super) struct Judgement {
    /// The target.
    pub(super) target: &'static Target,
    /// How it stands.
    pub(super) standing: Standing,
    /// What was measured, at the worst point.
    pub(super) measured: String,
    /// The 95 % interval there.
    pub(super) interval: String,
    /// Where that is, or why nothing can be said.
    pub(super) note: String,
    /// What was measured, as a share of what is allowed.
    pub(super) share: Option<Estimate>,
}

/// All targets.
pub(super) const TARGETS: &[Target] = &[
    // Beside sidecar Envoy.
    target("CPU per request at 1000 requests/s, every connection count", BENCHMARK).of(
        "latency",
        "cpu",
        &[("rate", "1000")],
        Bound::Ratio("envoy-tcp", 0.45),
    ),
    target("CPU per request at capacity, 1 connection", BENCHMARK).of(
        "capacity",
        "cpu",
        &[("connections", "1")],
        Bound::Ratio("envoy-tcp", 0.45),
    ),
    target("CPU per request at capacity, 64 connections", BENCHMARK).of(
        "capacity",
        "cpu",
        &[("connections", "64")],
        Bound::Ratio("envoy-tcp", 0.45),
    ),
    target("CPU per request at capacity, 1000 connections", BENCHMARK).of(
        "capacity",
        "cpu",
        &[("connections", "1000")],
        Bound::Ratio("envoy-tcp", 0.45),
    ),
    target("added p99 at 1000 requests/s, every connection count", BENCHMARK).of(
        "latency",
        "p99",
        &[("rate", "1000")],
        Bound::AddsLessThan("envoy-tcp"),
    ),
    target("added p50 at 1000 requests/s, every connection count", DESIGN).of(
        "latency",
        "p50",
        &[("rate", "1000")],
        Bound::AddsLessThan("envoy-tcp"),
    ),
    // Beside the reference relay.
    target("bulk CPU, every stream count and direction", BENCHMARK).of(
        "throughput",
        "cpu",
        &[],
        Bound::Ratio("reference", 0.60),
    ),
    target("CPU per 1 KiB request, 1 connection", BENCHMARK).of(
        "capacity",
        "cpu",
        &[("connections", "1")],
        Bound::Ratio("reference", 0.75),
    ),
    target("CPU per 1 KiB request, 64 connections", BENCHMARK).of(
        "capacity",
        "cpu",
        &[("connections", "64")],
        Bound::Ratio("reference", 0.50),
    ),
    target("CPU per 1 KiB request, 1000 connections", BENCHMARK).of(
        "capacity",
        "cpu",
        &[("connections", "1000")],
        Bound::Ratio("reference", 0.50),
    ),
    target("CPU per new connection over a live tunnel", BENCHMARK).of(
        "connections",
        "cpu",
        &[("kind", "tunnel-live")],
        Bound::Ratio("reference", 0.75),
    ),
    target("plain bulk relay, CPU beside tokio's with buffers of 256 KiB", DESIGN).of(
        "runtimes",
        "cpu",
        &[("bulk", "*")],
        Bound::Ratio("tokio-256k", 0.60),
    ),
    target("plain bulk relay, CPU beside tokio's", BENCHMARK).of(
        "runtimes",
        "cpu",
        &[("bulk", "*")],
        Bound::Ratio("tokio", 0.60),
    ),
    // By itself.
    target("memory per idle connection, client's side", DESIGN).of(
        "idle",
        "near-per-connection",
        &[],
        Bound::AtMost(2560.0),
    ),
    target("memory per idle connection, server's side", DESIGN).of(
        "idle",
        "far-per-connection",
        &[],
        Bound::AtMost(2560.0),
    ),
    target("idle process, client's side", DESIGN).of("idle", "near-rss", &[], Bound::AtMost(8.0)),
    target("150,000 workloads: steady memory", DESIGN).of(
        "scale",
        "rss",
        &[("workloads", "150000")],
        Bound::AtMost(70.0),
    ),
    target("150,000 workloads: peak beside steady memory", DESIGN).of(
        "scale",
        "peak",
        &[("workloads", "150000")],
        Bound::TimesOwn("rss", 1.5),
    ),
    target("150,000 workloads: one change visible", DESIGN).of(
        "scale",
        "change-visible",
        &[("workloads", "150000")],
        Bound::AtMost(1.0),
    ),
    target("requests that fail in 1000 changes of configuration", DESIGN).of(
        "config-swap",
        "failed",
        &[("swaps", "100")],
        Bound::Never("swaps", 1000.0),
    ),
    target("new connections that fail while the proxies are replaced", DESIGN).of(
        "hand-over",
        "failed",
        &[("replaced", "again")],
        Bound::Never("connections", 300_000.0),
    ),
    // Beside ztunnel.
    target("bulk CPU, 1 stream", DESIGN).of(
        "throughput",
        "cpu",
        &[("streams", "1")],
        Bound::Ratio("ztunnel", 0.55),
    ),
    target("bulk CPU, 8 streams", DESIGN).of(
        "throughput",
        "cpu",
        &[("streams", "8")],
        Bound::Ratio("ztunnel", 0.45),
    ),
    target("CPU per 1 KiB request, 1 connection", DESIGN).of(
        "capacity",
        "cpu",
        &[("connections", "1")],
        Bound::Ratio("ztunnel", 0.65),
    ),
    target("CPU per 1 KiB request, 64 connections", DESIGN).of(
        "capacity",
        "cpu",
        &[("connections", "64")],
        Bound::Ratio("ztunnel", 0.45),
    ),
    target("CPU per 1 KiB request, 1000 connections", DESIGN).of(
        "capacity",
        "cpu",
        &[("connections", "1000")],
        Bound::Ratio("ztunnel", 0.45),
    ),
    target("CPU per new connection over a live tunnel", DESIGN).of(
        "connections",
        "cpu",
        &[("kind", "tunnel-live")],
        Bound::Ratio("ztunnel", 0.60),
    ),
    target("added p50 at 1000 requests/s, every connection count", DESIGN).of(
        "latency",
        "p50",
        &[("rate", "1000")],
        Bound::AddsLessThan("ztunnel"),
    ),
    target("added p99 at 1000 requests/s, every connection count", DESIGN).of(
        "latency",
        "p99",
        &[("rate", "1000")],
        Bound::AddsLessThan("ztunnel"),
    ),
    target("waypoint, CPU per HTTP/1.1 request", DESIGN).of(
        "waypoint",
        "waypoint-cpu",
        &[("load", "http1"), ("connections", "64")],
        Bound::Ratio("envoy-waypoint", 0.40),
    ),
    target("waypoint, CPU per HTTP/2 request", DESIGN).of(
        "waypoint",
        "waypoint-cpu",
        &[("load", "http2"), ("streams", "4")],
        Bound::Ratio("envoy-waypoint", 0.40),
    ),
    target("waypoint, CPU per call of gRPC's shape", DESIGN).of(
        "waypoint",
        "waypoint-cpu",
        &[("load", "grpc"), ("streams", "4")],
        Bound::Ratio("envoy-waypoint", 0.40),
    ),
    target("waypoint, added p99 at 1000 requests/s", DESIGN).of(
        "waypoint",
        "p99",
        &[("load", "*"), ("rate", "1000")],
        Bound::AddsLessThan("envoy-waypoint"),
    ),
    target("waypoint, memory of an idle connection", DESIGN).of(
        "waypoint",
        "waypoint-per-connection",
        &[("held", "*")],
        Bound::Ratio("envoy-waypoint", 1.0),
    ),
    target("waypoint, memory with 5,000 rules", DESIGN).of(
        "waypoint",
        "waypoint-rss",
        &[("rules", "*")],
        Bound::Ratio("envoy-waypoint", 1.0),
    ),
    // Not here.
    target("bulk CPU beside a bare TLS relay, at most 1.10×", DESIGN)
        .elsewhere("no subject of this harness is a bare TLS relay"),
];

const DESIGN: &str = "design";
const BENCHMARK: &str = "benchmark";

const fn target(what: &'static str, source: &'static str) -> Target {
    let bound = Bound::Elsewhere("");
    Target { what, source, experiment: "", metric: "", at: &[], bound }
}

impl Target {
    const fn of(
        self,
        experiment: &'static str,
        metric: &'static str,
        at: &'static [(&'static str, &'static str)],
        bound: Bound,
    ) -> Target {
        Target { experiment, metric, at, bound, ..self }
    }

    const fn elsewhere(self, why: &'static str) -> Target {
        Target { bound: Bound::Elsewhere(why), ..self }
    }

    /// What must hold, in words.
    pub(super) fn wanted(&self, measurements: &Measurements) -> String {
        let found = measurements.experiment(self.experiment);
        let recorded = found.and_then(|found| found.metric_at(self.metric, |p| self.holds_at(p)));
        let recorded = recorded.map_or("", |metric| &metric.unit);
        match self.bound {
            Bound::Ratio(to, at_most) => format!("≤ {at_most:.2}× {}", subjects::title(to)),
            Bound::AddsLessThan(to) => format!("less than {}", subjects::title(to)),
            Bound::AtMost(value) => {
                let unit = unit(recorded);
                format!("≤ {} {}", number(unit.of(value)), unit.label).trim_end().to_owned()
            }
            Bound::TimesOwn(_, at_most) => format!("≤ {at_most:.2}×"),
            Bound::Never(..) => "none".to_owned(),
            Bound::Elsewhere(_) => String::new(),
        }
    }

    /// Whether the target is about this point. All are about 1 KiB, and none about a
    /// rate that was searched for.
    fn holds_at(&self, point: &Point) -> bool {
        let size = point.get("size").is_none_or(|size| size == "1024");
        size && point.get("p99-at-most").is_none()
            && self.at.iter().all(|&(name, value)| match point.get(name) {
                Some(found) => value == "*" || found == value,
                None => false,
            })
    }

    fn judge(&'static self, measurements: &Measurements, subject: &str) -> Judgement {
        if let Bound::Elsewhere(why) = self.bound {
            return self.unmeasured(why.to_owned());
        }
        // Whose waypoint it is that is judged, when waypoints are.
        let subject = if self.experiment == "waypoint" { "ringway-waypoint" } else { subject };
        let Some(experiment) = measurements.experiment(self.experiment) else {
            return self.unmeasured(format!("`{}` was not run", self.experiment));
        };
        if let Bound::Ratio(other, _) | Bound::AddsLessThan(other) = self.bound
            && !experiment.subjects.iter().any(|found| found == other)
        {
            return self.unmeasured(format!("{} was not a subject", subjects::title(other)));
        }
        let Some(metric) = experiment.metric_at(self.metric, |point| self.holds_at(point)) else {
            return self.unmeasured("that point was not measured".to_owned());
        };
        let points = metric.points.iter().filter(|point| self.holds_at(point));
        let judged = points.filter_map(|point| match self.bound {
            Bound::Never(of, sum) => {
                self.judge_never(metric, experiment.metric(of)?, sum, point, subject)
            }
            Bound::TimesOwn(of, _) => {
                let own = experiment.metric(of)?;
                let values = metric.values(point, subject);
                let pairs = values.into_iter().zip(own.values(point, subject));
                self.judge_share(&pairs.collect::<Vec<_>>(), metric, point)
            }
            Bound::Ratio(other, _) | Bound::AddsLessThan(other) => {
                let pairs = metric.pairs(point, subject, other);
                let mut judged = self.judge_share(&pairs, metric, point)?;
                if matches!(self.bound, Bound::AddsLessThan(_)) {
                    judged.measured = added(metric, point, subject, other)?;
                    if !judged.interval.is_empty() {
                        judged.interval = format!("{} is {}×", metric.name, judged.interval);
                    }
                }
                Some(judged)
            }
            _ => {
                let values = metric.values(point, subject);
                let pairs: Vec<_> = values.into_iter().map(|value| (value, 1.0)).collect();
                self.judge_share(&pairs, metric, point)
            }
        });
        // The worst: first by standing, then by how close it comes to the bound, or how far beyond.
        let worst = judged.min_by(|one, other| {
            let share = |judged: &Judgement| judged.share.map_or(0.0, |share| share.value);
            one.standing.cmp(&other.standing).then(share(other).total_cmp(&share(one)))
        });
        worst.unwrap_or_else(|| self.unmeasured("no repetition at this point counts".to_owned()))
    }

    /// Judges pairs of which the ratio is bounded.
    fn judge_share(
        &'static self,
        pairs: &[(f64, f64)],
        metric: &Metric,
        point: &Point,
    ) -> Option<Judgement> {
        let ratio = Estimate::ratio(pairs)?;
        let (allowed, unit) = match self.bound {
            Bound::Ratio(_, at_most) | Bound::TimesOwn(_, at_most) => (at_most, None),
            Bound::AddsLessThan(_) => (1.0, None),
            Bound::AtMost(value) => (value, Some(unit(&metric.unit))),
            Bound::Never(..) | Bound::Elsewhere(_) => return None,
        };
        let share = Estimate {
            value: ratio.value / allowed,
            low: ratio.low / allowed,
            high: ratio.high / allowed,
            ..ratio
        };
        let standing = match share.verdict(1.0) {
            _ if share.high == 1.0 && share.repetitions >= REPETITIONS_MIN => Standing::Met,
            Verdict::Lower => Standing::Met,
            Verdict::Higher => Standing::Missed,
            Verdict::NotShown => Standing::NotShown,
        };
        let (measured, interval) = match unit {
            Some(unit) => {
                let shown = unit.estimate(ratio);
                (format!("{} {}", number(shown.value), unit.label), interval(&shown))
            }
            None => (format!("{}×", number(ratio.value)), interval(&ratio)),
        };
        // One repetition has no interval.
        let interval = if pairs.len() < 2 { String::new() } else { interval };
        let mut note = point.text().to_owned();
        if ratio.repetitions < REPETITIONS_MIN {
            let separator = if note.is_empty() { "" } else { "; " };
            let _ = write!(note, "{separator}{} of {REPETITIONS_MIN} repetitions", pairs.len());
        }
        Some(Judgement { target: self, standing, measured, interval, note, share: Some(share) })
    }

    fn judge_never(
        &'static self,
        metric: &Metric,
        of: &Metric,
        needed: f64,
        point: &Point,
        subject: &str,
    ) -> Option<Judgement> {
        let failed = metric.values(point, subject);
        if failed.is_empty() {
            return None;
        }
        let failed: f64 = failed.iter().sum();
        let tried: f64 = of.values(point, subject).iter().sum();
        let standing = match () {
            () if failed > 0.0 => Standing::Missed,
            () if tried < needed => Standing::NotShown,
            () => Standing::Met,
        };
        Some(Judgement {
            target: self,
            standing,
            measured: number(failed),
            interval: format!("all {} {}", number(tried), of.name),
            note: point.text().to_owned(),
            share: None,
        })
    }

    fn unmeasured(&'static self, note: String) -> Judgement {
        Judgement {
            target: self,
            standing: Standing::NotMeasured,
            measured: String::new(),
            interval: String::new(),
            note,
            share: None,
        }
    }
}

impl Standing {
    /// As it is printed.
    pub(super) fn word(self) -> &'static str {
        match self {
            Standing::Missed => "missed",
            Standing::NotShown => "not shown",
            Standing::Met => "met",
            Standing::NotMeasured => "not measured",
        }
    }
}

/// Judges all targets by what was measured of Ringway.
pub(super) fn judge(measurements: &Measurements) -> Vec<Judgement> {
    TARGETS.iter().map(|target| target.judge(measurements, "ringway")).collect()
}

/// What both subjects add to the baseline, or their numbers if there is none.
fn added(metric: &Metric, point: &Point, one: &str, other: &str) -> Option<String> {
    let unit = unit(&metric.unit);
    let baseline = metric.estimate(point, "none");
    let shown = |subject| -> Option<String> {
        let value = metric.estimate(point, subject)?.value;
        Some(match &baseline {
            Some(baseline) => format!("+{}", number(unit.of(value - baseline.value))),
            None => number(unit.of(value)),
        })
    };
    Some(format!("{} against {} {}", shown(one)?, shown(other)?, unit.label).replace("+−", "−"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Origin, Results, Sample};

    /// Samples: experiment, subject, point, metric, and the values of its repetitions.
    fn measured(rows: &[(&str, &str, &str, &str, &[f64])]) -> Measurements {
        let samples = rows.iter().flat_map(|(experiment, subject, point, metric, values)| {
            values.iter().zip(1..).map(|(value, repetition)| Sample {
                origin: Origin {
                    experiment: (*experiment).to_owned(),
                    subject: (*subject).to_owned(),
                    repetition,
                    point: (*point).to_owned(),
                },
                metric: (*metric).to_owned(),
                unit: "B".to_owned(),
                value: *value,
            })
        });
        Measurements::of(&Results {
            folder: "a".into(),
            manifest: serde_json::Value::Null,
            samples: samples.collect(),
            voids: Vec::new(),
            latencies: Vec::new(),
        })
    }

    fn standing(experiment: &str, metric: &str, of: &Measurements) -> Standing {
        let all = judge(of);
        let found = all.iter().find(|judgement| {
            judgement.target.experiment == experiment && judgement.target.metric == metric
        });
        found.unwrap().standing
    }

    #[test]
    fn standings() {
        let cases: [(&str, &[f64], Standing); 5] = [
            ("all below", &[2400.0, 2410.0, 2420.0, 2430.0, 2440.0], Standing::Met),
            ("all above", &[2600.0, 2610.0, 2620.0, 2630.0, 2640.0], Standing::Missed),
            ("the bound within", &[2400.0, 2410.0, 2600.0, 2620.0, 2640.0], Standing::NotShown),
            ("too few", &[1.0, 1.0, 1.0, 1.0], Standing::NotShown),
            ("exactly the bound", &[2560.0; 5], Standing::Met),
        ];
        for (name, values, want) in cases {
            let of = measured(&[("idle", "ringway", "", "near-per-connection", values)]);
            assert_eq!(standing("idle", "near-per-connection", &of), want, "{name}");
        }
        assert_eq!(standing("idle", "near-per-connection", &measured(&[])), Standing::NotMeasured);
    }

    #[test]
    fn one_bad_point_spoils_a_target() {
        let (one, two) = ("connections=2 rate=1000", "connections=64 rate=1000");
        let of = measured(&[
            ("latency", "ringway", one, "cpu", &[4.0; 5]),
            ("latency", "envoy-tcp", one, "cpu", &[10.0; 5]),
            ("latency", "ringway", two, "cpu", &[6.0; 5]),
            ("latency", "envoy-tcp", two, "cpu", &[10.0; 5]),
        ]);
        let all = judge(&of);
        assert_eq!((all[0].standing, &*all[0].note), (Standing::Missed, two));
        assert_eq!(all[0].measured, "0.600×");
    }

    #[test]
    fn one_failure_is_too_many_and_few_attempts_show_nothing() {
        let failing = |failed: &[f64], swaps: &[f64]| {
            let of = measured(&[
                ("config-swap", "ringway", "swaps=100", "failed", failed),
                ("config-swap", "ringway", "swaps=100", "swaps", swaps),
            ]);
            standing("config-swap", "failed", &of)
        };
        assert_eq!(failing(&[0.0, 0.0], &[500.0, 500.0]), Standing::Met);
        assert_eq!(failing(&[0.0, 1.0], &[500.0, 500.0]), Standing::Missed);
        assert_eq!(failing(&[0.0, 0.0], &[500.0, 400.0]), Standing::NotShown);
    }
}
