//! The rules, read aloud.
//!
//! * For a workload there are all global policies, the namespace policies of its namespace, and those it names.
//! * A policy matches if any of its rules does; with none it never does.
//! * A rule matches if all of its clauses do; with none it does.
//! * A clause matches if any of its matches does; with none it does.
//! * A match without any entry never matches. Otherwise each of its twelve lists must hold: one that is empty holds; one
//!   of the six holds if an entry is true of the connection; one of the six `not_` lists if no entry is.
//! * Any DENY policy that matches denies. Then, without ALLOW policies, the connection is allowed; with them, if
//!   one matches. Policies on dry run only tell.
//! * A named policy that nobody has seen denies, unless a DENY policy does; one that was removed while a
//!   workload went on naming it is as good as not named.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ringway_engine::snapshot::{
    AuthorizationPolicy, Cidr, PolicyAction, PolicyClause, PolicyMatch, PolicyRule, PolicyScope,
    TextMatch,
};

use crate::coverage::Coverage;
use crate::generate::Connection;
use crate::mesh::Mesh;

/// A policy as `namespace/name`, and one of its rules.
pub(crate) type TriedRule = (String, usize);

/// Why a connection is let in or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    NobodySaysWhom,
    Allowed(BTreeSet<TriedRule>),
    Denied(BTreeSet<TriedRule>),
    NotAllowed,
    Unknown(BTreeSet<String>),
}

/// What is decided and told; nothing for a workload that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) ruling: Option<Ruling>,
    /// Sorted.
    pub(crate) dry_runs: Vec<(&'static str, Option<TriedRule>)>,
}

pub(crate) fn decide(
    mesh: &Mesh,
    uid: &str,
    connection: &Connection,
    coverage: &mut Coverage,
) -> Decision {
    let Some(workload) = mesh.workloads.get(uid) else { return Decision::default() };
    connection.count(coverage);
    let mut tried = Tried { denied: BTreeSet::new(), allowed: BTreeSet::new(), allows: 0 };
    let mut dry = Tried { denied: BTreeSet::new(), allowed: BTreeSet::new(), allows: 0 };
    for (name, policy) in &mesh.policies {
        let is_named = workload.authorization_policies.contains(name);
        let is_for_it = is_named
            || match policy.scope {
                PolicyScope::Global => true,
                PolicyScope::Namespace => *policy.namespace == *workload.namespace,
                PolicyScope::WorkloadSelector => false,
            };
        coverage.count(match (policy.scope, is_named, is_for_it) {
            (_, _, false) => "scope: not for it",
            (PolicyScope::Global, true, _) => "scope: global and named",
            (PolicyScope::Global, false, _) => "scope: global",
            (PolicyScope::Namespace, true, _) => "scope: namespace and named",
            (PolicyScope::Namespace, false, _) => "scope: namespace",
            (PolicyScope::WorkloadSelector, ..) => "scope: named",
        });
        if !is_for_it {
            continue;
        }
        let tried = if policy.dry_run { &mut dry } else { &mut tried };
        let rule = first_rule(policy, connection, coverage).map(|rule| (name.clone(), rule));
        match policy.action {
            PolicyAction::Deny => tried.denied.extend(rule),
            PolicyAction::Allow => {
                tried.allows += 1;
                tried.allowed.extend(rule);
            }
        }
    }
    let unknown = unknown_names(mesh, uid, coverage);
    let decision = Decision { dry_runs: told(&dry, &tried), ruling: Some(rule(tried, unknown)) };
    count(&decision, coverage);
    decision
}

/// What the policies of one kind, in force or on dry run, say.
struct Tried {
    denied: BTreeSet<TriedRule>,
    allowed: BTreeSet<TriedRule>,
    allows: usize,
}

fn rule(tried: Tried, unknown: BTreeSet<String>) -> Ruling {
    if !tried.denied.is_empty() {
        Ruling::Denied(tried.denied)
    } else if !unknown.is_empty() {
        Ruling::Unknown(unknown)
    } else if tried.allows == 0 {
        Ruling::NobodySaysWhom
    } else if !tried.allowed.is_empty() {
        Ruling::Allowed(tried.allowed)
    } else {
        Ruling::NotAllowed
    }
}

fn told(dry: &Tried, tried: &Tried) -> Vec<(&'static str, Option<TriedRule>)> {
    let mut told: Vec<_> = dry.denied.iter().map(|rule| ("denied", Some(rule.clone()))).collect();
    // Whom ALLOW policies would let in is no question for what is denied already.
    if tried.denied.is_empty() {
        told.extend(dry.allowed.iter().map(|rule| ("allowed", Some(rule.clone()))));
        if tried.allows == 0 && dry.allows > 0 && dry.allowed.is_empty() {
            told.push(("not allowed", None));
        }
    }
    told.sort();
    told
}

fn unknown_names(mesh: &Mesh, uid: &str, coverage: &mut Coverage) -> BTreeSet<String> {
    let mut unknown = BTreeSet::new();
    for name in &mesh.workloads[uid].authorization_policies {
        if mesh.policies.contains_key(name) {
            continue;
        }
        if mesh.tombstones.contains(name) {
            coverage.count("named: removed");
        } else {
            coverage.count("named: never seen");
            unknown.insert(name.clone());
        }
    }
    unknown
}

fn count(decision: &Decision, coverage: &mut Coverage) {
    coverage.count(match decision.ruling {
        None => "ruling: no workload",
        Some(Ruling::NobodySaysWhom) => "ruling: nobody says whom",
        Some(Ruling::Allowed(_)) => "ruling: allowed",
        Some(Ruling::Denied(_)) => "ruling: denied",
        Some(Ruling::NotAllowed) => "ruling: not allowed",
        Some(Ruling::Unknown(_)) => "ruling: unknown",
    });
    for (what, _) in &decision.dry_runs {
        coverage.count(match *what {
            "denied" => "dry run: denied",
            "allowed" => "dry run: allowed",
            _ => "dry run: not allowed",
        });
    }
}

fn first_rule(
    policy: &AuthorizationPolicy,
    connection: &Connection,
    coverage: &mut Coverage,
) -> Option<usize> {
    if policy.rules.is_empty() {
        coverage.count("empty: no rules");
    }
    // All of them are tried, so that all of them are counted.
    let mut first = None;
    for (index, rule) in policy.rules.iter().enumerate() {
        if rule_matches(rule, connection, coverage) && first.is_none() {
            first = Some(index);
        }
    }
    if first.is_some_and(|first| first > 0) {
        coverage.count("rule: not the first");
    }
    first
}

fn rule_matches(rule: &PolicyRule, connection: &Connection, coverage: &mut Coverage) -> bool {
    if rule.clauses.is_empty() {
        coverage.count("empty: no clauses");
    }
    let mut all = true;
    for clause in &rule.clauses {
        all &= clause_matches(clause, connection, coverage);
    }
    all
}

fn clause_matches(clause: &PolicyClause, connection: &Connection, coverage: &mut Coverage) -> bool {
    if clause.matches.is_empty() {
        coverage.count("empty: no matches");
        return true;
    }
    let mut any = false;
    for one in &clause.matches {
        any |= match_matches(one, connection, coverage);
    }
    any
}

fn match_matches(one: &PolicyMatch, connection: &Connection, coverage: &mut Coverage) -> bool {
    let mut lists: Vec<(&'static str, bool, Vec<bool>)> = Vec::new();
    let namespace = connection.account.as_ref().map_or("", |account| &account.namespace);
    let texts = |list: &[TextMatch], text: Option<&str>, coverage: &mut Coverage| {
        list.iter()
            .map(|entry| text.is_some_and(|text| text_matches(entry, text, coverage)))
            .collect()
    };
    lists.push(("namespaces", false, texts(&one.namespaces, Some(namespace), coverage)));
    lists.push(("namespaces", true, texts(&one.not_namespaces, Some(namespace), coverage)));
    // The whole URI is `spiffe://` and what is compared.
    let uri = connection.account.as_ref().map(|account| account.uri());
    let principal = uri.as_ref().map(|uri| &uri["spiffe://".len()..]);
    lists.push(("principals", false, texts(&one.principals, principal, coverage)));
    lists.push(("principals", true, texts(&one.not_principals, principal, coverage)));
    for (list, is_not) in [(&one.service_accounts, false), (&one.not_service_accounts, true)] {
        let holds = list.iter().map(|entry| match &connection.account {
            None => false,
            Some(account) => {
                let is_it = *entry.namespace == *account.namespace
                    && *entry.service_account == *account.service_account;
                if is_it && account.trust_domain != "cluster.local" {
                    coverage.count("service account: of another trust domain");
                }
                is_it
            }
        });
        lists.push(("service accounts", is_not, holds.collect()));
    }
    let (source, destination) = (connection.source, connection.destination.ip());
    for (what, list, is_not, address) in [
        ("source addresses", &one.source_ips, false, source),
        ("source addresses", &one.not_source_ips, true, source),
        ("destination addresses", &one.destination_ips, false, destination),
        ("destination addresses", &one.not_destination_ips, true, destination),
    ] {
        let holds = list.iter().map(|range| range_contains(range, address, coverage)).collect();
        lists.push((what, is_not, holds));
    }
    for (list, is_not) in [(&one.destination_ports, false), (&one.not_destination_ports, true)] {
        let holds = list.iter().map(|&port| port == connection.destination.port()).collect();
        lists.push(("ports", is_not, holds));
    }

    if lists.iter().all(|(_, _, entries)| entries.is_empty()) {
        coverage.count("empty: match");
        return false;
    }
    let mut all = true;
    for (what, is_not, entries) in lists {
        if entries.is_empty() {
            continue;
        }
        let one_is_true = entries.contains(&true);
        coverage.count_list(what, is_not, one_is_true);
        all &= one_is_true != is_not;
    }
    all
}

fn text_matches(entry: &TextMatch, text: &str, coverage: &mut Coverage) -> bool {
    let (text, kind) = (text.as_bytes(), kind(entry));
    let is_same = |one: &[u8], other: &[u8]| {
        one.len() == other.len() && (0..one.len()).all(|at| one[at] == other[at])
    };
    let matches = match entry {
        TextMatch::Exact(exact) => is_same(exact.as_bytes(), text),
        TextMatch::Prefix(prefix) => {
            prefix.len() <= text.len() && is_same(prefix.as_bytes(), &text[..prefix.len()])
        }
        TextMatch::Suffix(suffix) => {
            let from = text.len().checked_sub(suffix.len());
            from.is_some_and(|from| is_same(suffix.as_bytes(), &text[from..]))
        }
        TextMatch::Presence => !text.is_empty(),
    };
    coverage.count_text(kind, matches);
    matches
}

fn kind(entry: &TextMatch) -> &'static str {
    match entry {
        TextMatch::Exact(_) => "exact",
        TextMatch::Prefix(_) => "prefix",
        TextMatch::Suffix(_) => "suffix",
        TextMatch::Presence => "presence",
    }
}

/// Compares bit by bit. An IPv4 address mapped into IPv6 is the IPv4 address, and so is a range of them.
fn range_contains(range: &Cidr, address: IpAddr, coverage: &mut Coverage) -> bool {
    let (first, address) = (octets(range.first()), octets(address));
    let length = usize::from(range.length());
    let of_mapped = is_mapped(&first) && length >= 96;
    let (first, length) =
        if of_mapped { (&first[12..], length - 96) } else { (&first[..], length) };
    let address = if is_mapped(&address) { &address[12..] } else { &address[..] };
    let bit = |octets: &[u8], at: usize| octets[at / 8] & (0x80 >> (at % 8)) != 0;
    let contains =
        first.len() == address.len() && (0..length).all(|at| bit(first, at) == bit(address, at));
    coverage.count_range(of_mapped, first.len() == 16, contains);
    contains
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn is_mapped(octets: &[u8]) -> bool {
    octets.len() == 16
        && octets[..10].iter().all(|&octet| octet == 0)
        && octets[10..12] == [0xff, 0xff]
}
