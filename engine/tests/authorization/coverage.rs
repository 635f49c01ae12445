//! What the generated cases have met.

use std::collections::BTreeMap;

/// Everything that must be met, and how often at least in ten thousand cases.
const WANTED: &[(&str, u64)] = &[
    ("change: policy told", 100),
    ("change: policy told again", 100),
    ("change: policy removed", 100),
    ("change: workload told", 50),
    ("change: workload removed", 20),
    ("connection: from IPv4", 1000),
    ("connection: from IPv6", 500),
    ("connection: from mapped", 500),
    ("connection: to IPv4", 1000),
    ("connection: to IPv6", 500),
    ("connection: to mapped", 500),
    ("connection: with identity", 1000),
    ("connection: without identity", 1000),
    ("dry run: allowed", 50),
    ("dry run: denied", 50),
    ("dry run: not allowed", 50),
    ("empty: match", 50),
    ("empty: no clauses", 50),
    ("empty: no matches", 50),
    ("empty: no rules", 50),
    ("list: destination addresses", 500),
    ("list: destination addresses, false", 500),
    ("list: namespaces", 500),
    ("list: namespaces, false", 500),
    ("list: not destination addresses", 500),
    ("list: not destination addresses, false", 500),
    ("list: not namespaces", 500),
    ("list: not namespaces, false", 500),
    ("list: not ports", 500),
    ("list: not ports, false", 500),
    ("list: not principals", 500),
    ("list: not principals, false", 500),
    ("list: not service accounts", 200),
    ("list: not service accounts, false", 500),
    ("list: not source addresses", 500),
    ("list: not source addresses, false", 500),
    ("list: ports", 500),
    ("list: ports, false", 500),
    ("list: principals", 500),
    ("list: principals, false", 500),
    ("list: service accounts", 200),
    ("list: service accounts, false", 500),
    ("list: source addresses", 500),
    ("list: source addresses, false", 500),
    ("named: never seen", 50),
    ("named: removed", 50),
    ("range: of IPv4", 500),
    ("range: of IPv4, false", 500),
    ("range: of IPv6", 200),
    ("range: of IPv6, false", 500),
    ("range: of mapped", 100),
    ("range: of mapped, false", 200),
    ("rule: not the first", 100),
    ("ruling: allowed", 300),
    ("ruling: denied", 300),
    ("ruling: nobody says whom", 300),
    ("ruling: not allowed", 300),
    ("ruling: unknown", 50),
    ("scope: global", 500),
    ("scope: global and named", 50),
    ("scope: named", 200),
    ("scope: namespace", 500),
    ("scope: namespace and named", 50),
    ("scope: not for it", 500),
    ("service account: of another trust domain", 50),
    ("text: exact", 200),
    ("text: exact, false", 500),
    ("text: prefix", 200),
    ("text: prefix, false", 500),
    ("text: presence", 200),
    ("text: presence, false", 50),
    ("text: suffix", 200),
    ("text: suffix, false", 500),
];

#[derive(Debug, Default)]
pub(crate) struct Coverage(BTreeMap<Met, u64>);

/// Group, sign, what, whether it was true.
type Met = (&'static str, &'static str, &'static str, bool);

impl Coverage {
    pub(crate) fn count(&mut self, what: &'static str) {
        self.add(("", "", what, true));
    }

    pub(crate) fn count_list(&mut self, what: &'static str, is_not: bool, is_true: bool) {
        self.add(("list: ", if is_not { "not " } else { "" }, what, is_true));
    }

    pub(crate) fn count_text(&mut self, kind: &'static str, is_true: bool) {
        self.add(("text: ", "", kind, is_true));
    }

    pub(crate) fn count_range(&mut self, is_mapped: bool, is_v6: bool, is_true: bool) {
        let family = match (is_mapped, is_v6) {
            (true, _) => "of mapped",
            (false, true) => "of IPv6",
            (false, false) => "of IPv4",
        };
        self.add(("range: ", "", family, is_true));
    }

    /// Fails unless everything was met often enough.
    pub(crate) fn check(&self, cases: u64) {
        let name = |&(group, sign, what, is_true): &Met| {
            format!("{group}{sign}{what}{}", if is_true { "" } else { ", false" })
        };
        let found: BTreeMap<String, u64> =
            self.0.iter().map(|(met, count)| (name(met), *count)).collect();
        let rare: Vec<_> = WANTED
            .iter()
            .map(|&(what, wanted)| {
                (what, found.get(what).copied().unwrap_or(0), wanted * cases / 10_000)
            })
            .filter(|(_, found, wanted)| found < wanted)
            .collect();
        assert!(rare.is_empty(), "met too seldom (what, how often, wanted): {rare:#?}");
        let wanted = |what: &&String| WANTED.iter().any(|(wanted, _)| wanted == what);
        let more: Vec<_> = found.keys().filter(|what| !wanted(what)).collect();
        assert!(more.is_empty(), "met, and not wanted: {more:?}");
    }

    fn add(&mut self, met: Met) {
        *self.0.entry(met).or_default() += 1;
    }
}
