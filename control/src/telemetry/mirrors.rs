//! What mirrors answer beside what clients get, summed up by route and mirror: for a scrape, and for people.
//!
//! Samples say of a request its method and path, never what was asked behind a question mark; of answers their head's
//! facts. No body and no header of anybody's is kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ringway_engine::telemetry::http::{Answer, BUCKETS, Difference, MirrorOutcome, MirrorRecord};
use serde_json::{Value, json};

use super::exposition::Histogram;

/// Pairs of a route and a mirror. Configurations have a few; above it, copies are counted together, without names.
const PAIRS_MAX: usize = 1000;

/// Of the last answers that differed, for each pair.
const SAMPLES_MAX: usize = 8;

/// The route and the mirror of copies that found no pair of their own.
const OTHERS: &str = "others";

/// See the module's text. Written on the control thread, read by whoever answers.
#[derive(Debug, Default)]
pub struct Mirrors(Mutex<BTreeMap<Pair, Summary>>);

/// A route, and who gets copies of its requests.
pub type Pair = (Box<str>, Box<str>);

/// What became of the copies of one pair.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Both answers were alike.
    pub equal: u64,
    /// They were not.
    pub different: u64,
    /// The mirror did not answer.
    pub unanswered: u64,
    /// The client's own answer had no end.
    pub incomplete: u64,
    /// Copies that were not sent.
    pub skipped: u64,
    /// In what answers differed, in the order of [`Difference::ALL`].
    pub differences: [u64; Difference::ALL.len()],
    /// How long the clients' answers took, in milliseconds.
    pub original: Times,
    /// How long the mirror's took.
    pub copy: Times,
    samples: VecDeque<Value>,
}

impl Mirrors {
    /// Counts one copy.
    pub fn count(&self, record: MirrorRecord) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pair = (record.route.clone(), record.mirror.clone());
        if known.len() >= PAIRS_MAX && !known.contains_key(&pair) {
            pair = (OTHERS.into(), OTHERS.into());
        }
        known.entry(pair).or_default().count(&record);
    }

    /// All pairs, in order.
    pub fn all(&self) -> Vec<(Pair, Summary)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(pair, summary)| (pair.clone(), summary.clone())).collect()
    }

    /// What `/mirrors` answers.
    pub fn as_json(&self) -> Value {
        let all = self.all();
        let told = all.iter().map(|((route, mirror), summary)| summary.as_json(route, mirror));
        json!({ "mirrors": told.collect::<Vec<_>>() })
    }
}

impl Summary {
    /// Each outcome by its name, as labels have it.
    pub fn outcomes(&self) -> [(&'static str, u64); 5] {
        [
            ("equal", self.equal),
            ("different", self.different),
            ("unanswered", self.unanswered),
            ("incomplete", self.incomplete),
            ("skipped", self.skipped),
        ]
    }

    fn count(&mut self, record: &MirrorRecord) {
        match &record.outcome {
            MirrorOutcome::Compared { original, copy } => self.compare(record, original, copy),
            MirrorOutcome::Unanswered => self.unanswered += 1,
            MirrorOutcome::Incomplete => self.incomplete += 1,
            MirrorOutcome::Skipped => self.skipped += 1,
        }
    }

    fn compare(&mut self, record: &MirrorRecord, original: &Answer, copy: &Answer) {
        self.original.add(original.time);
        self.copy.add(copy.time);
        let differences = original.differences(copy);
        if differences.is_empty() {
            self.equal += 1;
            return;
        }
        self.different += 1;
        for (count, difference) in self.differences.iter_mut().zip(Difference::ALL) {
            *count += u64::from(differences.contains(&difference));
        }
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(json!({
            "method": record.method.as_str(),
            "path": &*record.path,
            "differsIn": differences.iter().map(|one| one.as_str()).collect::<Vec<_>>(),
            "original": described(original),
            "copy": described(copy),
        }));
    }

    fn as_json(&self, route: &str, mirror: &str) -> Value {
        let named = Difference::ALL.iter().zip(self.differences);
        let differences: BTreeMap<_, _> =
            named.map(|(difference, count)| (difference.as_str(), count)).collect();
        let outcomes: BTreeMap<_, _> = self.outcomes().into_iter().collect();
        json!({
            "route": route,
            "mirror": mirror,
            "compared": self.equal + self.different,
            "outcomes": outcomes,
            "differences": differences,
            "milliseconds": {
                "original": self.original.as_json(),
                "copy": self.copy.as_json(),
            },
            "samples": self.samples,
        })
    }
}

fn described(answer: &Answer) -> Value {
    json!({
        "status": answer.status,
        "grpcStatus": answer.grpc_status,
        "contentType": answer.content_type,
        "bytes": answer.bytes,
        "milliseconds": answer.time.as_secs_f64() * 1e3,
    })
}

/// How long answers took, in the buckets of requests.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Times {
    counts: [u64; BUCKETS.len() + 1],
    sum: f64,
}

impl Times {
    fn add(&mut self, time: Duration) {
        let milliseconds = time.as_secs_f64() * 1e3;
        let bucket = BUCKETS.iter().position(|upper| milliseconds <= *upper);
        self.counts[bucket.unwrap_or(BUCKETS.len())] += 1;
        self.sum += milliseconds;
    }

    /// For a scrape.
    pub fn histogram(&self) -> Histogram {
        let (within, larger) = self.counts.split_at(BUCKETS.len());
        Histogram {
            classes: BUCKETS.into_iter().zip(within.iter().copied()).collect(),
            larger: larger[0],
            sum: self.sum,
        }
    }

    /// The bucket in which so much of all is reached, by its upper end.
    fn within(&self, share: f64) -> Option<f64> {
        let all: u64 = self.counts.iter().sum();
        let mut seen = 0;
        let reached = self.counts.iter().position(|count| {
            seen += count;
            seen > 0 && seen as f64 >= share * all as f64
        });
        BUCKETS.get(reached?).copied()
    }

    fn as_json(&self) -> Value {
        let all: u64 = self.counts.iter().sum();
        json!({
            "mean": (all > 0).then(|| self.sum / all as f64),
            "p50AtMost": self.within(0.5),
            "p99AtMost": self.within(0.99),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn answer(status: u16, milliseconds: u64) -> Answer {
        Answer {
            status,
            grpc_status: None,
            content_type: Some("text/plain".into()),
            bytes: 3,
            time: Duration::from_millis(milliseconds),
            digest: 7,
        }
    }

    pub(crate) fn record(route: &str, outcome: MirrorOutcome) -> MirrorRecord {
        MirrorRecord {
            route: route.into(),
            mirror: "web-v2.example:80".into(),
            method: hyper::Method::GET,
            path: "/a".into(),
            outcome,
        }
    }

    pub(crate) fn compared(status: u16) -> MirrorOutcome {
        MirrorOutcome::Compared { original: answer(200, 4), copy: answer(status, 60) }
    }

    #[test]
    fn copies_are_summed_up_by_route_and_mirror() {
        let mirrors = Mirrors::default();
        for status in [200, 200, 204, 503] {
            mirrors.count(record("shop/web.0", compared(status)));
        }
        mirrors.count(record("shop/web.0", MirrorOutcome::Unanswered));
        mirrors.count(record("shop/web.1", MirrorOutcome::Skipped));
        let told = mirrors.as_json();
        let first = &told["mirrors"][0];
        assert_eq!((&first["compared"], &first["outcomes"]["equal"]), (&json!(4), &json!(2)));
        assert_eq!(first["outcomes"]["unanswered"], 1);
        assert_eq!(first["differences"]["status"], 2);
        assert_eq!(first["differences"]["status_class"], 1);
        assert_eq!(first["differences"]["body"], 0);
        assert_eq!(first["milliseconds"]["original"]["p99AtMost"], 5.0);
        assert_eq!(first["milliseconds"]["copy"]["p50AtMost"], 100.0);
        assert_eq!(first["samples"][1]["differsIn"], json!(["status_class", "status"]));
        assert_eq!(told["mirrors"][1]["route"], "shop/web.1");
        assert_eq!(told["mirrors"][1]["milliseconds"]["copy"]["mean"], Value::Null);
    }

    #[test]
    fn samples_and_pairs_have_bounds() {
        let mirrors = Mirrors::default();
        for at in 0..PAIRS_MAX + 10 {
            mirrors.count(record(&format!("shop/web.{at}"), compared(500)));
        }
        for _ in 0..100 {
            mirrors.count(record("shop/web.0", compared(500)));
        }
        let all = mirrors.all();
        assert_eq!(all.len(), PAIRS_MAX + 1);
        let (_, others) = all.iter().find(|((route, _), _)| &**route == OTHERS).unwrap();
        assert_eq!(others.different, 10);
        assert!(all.iter().all(|(_, summary)| summary.samples.len() <= SAMPLES_MAX));
    }
}
