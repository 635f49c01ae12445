//! What was really met. A simulation that meets no faults shows nothing: every kind must have happened a
//! number of times over the seeds, or the run fails.

use std::collections::BTreeMap;

use ringway_engine::{
    runtime::FaultsMet,
    sim::SimHost,
    telemetry::{AccessRecord, Direction},
};

/// How often something happened, by what it was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage(BTreeMap<String, u64>);

/// What must be met at least so often in a hundred seeds: about a third of what is usual.
const LEAST_IN_100_SEEDS: [(&str, u64); 57] = [
    ("attack: EmptyData", 2),
    ("attack: EndlessHeaders", 3),
    ("attack: Garbage", 3),
    ("attack: GarbageForHttp2", 3),
    ("attack: HalfAHello", 3),
    ("attack: HugeFrame", 2),
    ("attack: NoPreface", 3),
    ("attack: Pings", 3),
    ("attack: Resets", 3),
    ("attack: Settings", 3),
    ("attack: Silence", 3),
    ("attack: SlowPreface", 3),
    ("attack: SomebodyElsesAddress", 3),
    ("attack: StrangeRoot", 3),
    ("attack: Vanishes", 2),
    ("attack: WindowOverflow", 4),
    ("connections judged", 983),
    ("done: certificates not there", 8),
    ("done: certificates replaced", 11),
    ("done: certificates that run out", 6),
    ("done: clock jumps", 24),
    ("done: connections moved", 200),
    ("done: hosts unplugged", 18),
    ("done: policy sets", 61),
    ("done: swaps with connections open", 85),
    ("done: withdrawals with connections open", 9),
    ("inbound ended: Drained", 7),
    ("inbound ended: Handshake", 21),
    ("inbound ended: HandshakeTimedOut", 10),
    ("inbound ended: Http2", 76),
    ("inbound ended: PolicyChanged", 7),
    ("inbound ended: Refused", 1000),
    ("inbound ended: TunnelLost", 46),
    ("inbound ended: Withdrawn", 6),
    ("network: accepts without a descriptor", 23),
    ("network: connections lost", 122),
    ("network: dials refused", 43),
    ("network: dials unanswered", 40),
    ("network: dials without a descriptor", 29),
    ("network: foreign sources", 864),
    ("network: redirected inbound", 201),
    ("network: redirected outbound", 1173),
    ("network: resets", 67),
    ("network: short reads", 9751),
    ("network: short writes", 7853),
    ("outbound ended: ClientReset", 115),
    ("outbound ended: ConnectRefused", 72),
    ("outbound ended: DialFailed", 160),
    ("outbound ended: Drained", 24),
    ("outbound ended: Finished", 619),
    ("outbound ended: Handshake", 9),
    ("outbound ended: HandshakeTimedOut", 10),
    ("outbound ended: TunnelDialTimedOut", 7),
    ("outbound ended: TunnelLost", 51),
    ("outbound ended: Withdrawn", 9),
    ("retries: endpoint", 37),
    ("retries: tunnel", 15),
];

impl Coverage {
    pub(crate) fn add(&mut self, what: &str, count: u64) {
        *self.0.entry(what.to_owned()).or_default() += count;
    }

    pub(crate) fn add_all(&mut self, kind: &str, counts: &BTreeMap<String, u64>) {
        for (what, count) in counts {
            self.add(&format!("{kind}: {what}"), *count);
        }
    }

    pub(crate) fn merge(&mut self, other: &Coverage) {
        for (what, count) in &other.0 {
            self.add(what, *count);
        }
    }

    pub(crate) fn network(&mut self, met: &FaultsMet) {
        let kinds = [
            ("short reads", met.short_reads),
            ("short writes", met.short_writes),
            ("resets", met.resets),
            ("dials refused", met.refused),
            ("dials unanswered", met.blackholed),
            ("connections lost", met.lost),
            ("accepts without a descriptor", met.accepts_short),
            ("dials without a descriptor", met.dials_short),
            ("redirected outbound", met.redirected_outbound),
            ("redirected inbound", met.redirected_inbound),
            ("foreign sources", met.foreign_sources),
        ];
        for (what, count) in kinds {
            self.add(&format!("network: {what}"), count);
        }
    }

    pub(crate) fn record(&mut self, record: &AccessRecord) {
        let reason = format!("{:?}", record.reason);
        let reason = reason.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        let direction = match record.direction {
            Direction::Outbound => "outbound",
            Direction::Inbound => "inbound",
        };
        self.add(&format!("{direction} ended: {reason}"), 1);
    }

    pub(crate) fn host(&mut self, host: &SimHost) {
        self.add("retries: endpoint", host.telemetry().retries_at_another_endpoint());
        self.add("retries: tunnel", host.telemetry().retries_in_another_tunnel());
    }

    /// Prints everything, and fails when something was met too seldom.
    pub(crate) fn check(&self, seeds: u64) {
        for (what, count) in &self.0 {
            println!("{count:>10}  {what}");
        }
        let missed: Vec<_> = LEAST_IN_100_SEEDS
            .iter()
            .map(|(what, least)| {
                (what, least * seeds / 100, self.0.get(*what).copied().unwrap_or(0))
            })
            .filter(|(_, least, met)| met < least)
            .collect();
        assert!(
            missed.is_empty(),
            "met too seldom in {seeds} seeds (what, least, met): {missed:#?}"
        );
    }
}
