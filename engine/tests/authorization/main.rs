//! What the engine decides, beside an oracle that knows nothing of how.
//!
//! A mesh of two workloads lives through random changes of its policies; after each, random connections are
//! judged by the engine and by the oracle ([`oracle`], written from the rules alone, walking every list). They
//! must agree on the outcome, the policy and rule that decided, and what dry runs tell. What was met is counted
//! ([`coverage`]), so that a generator that stopped meeting something fails the test.
//!
//! `AUTHORIZATION_CASES=1000000` judges more connections; `AUTHORIZATION_SEED=7` others.

mod coverage;
mod generate;
mod mesh;
mod oracle;

use std::collections::BTreeSet;

use ringway_engine::decide::{DryRun, Facts, Matched, Refusal, Verdict, authorize};

use self::{
    coverage::Coverage,
    generate::{Connection, Random},
    mesh::{Mesh, UIDS},
    oracle::{Decision, Ruling, TriedRule},
};

/// Connections of one test run.
const CASES: u64 = 100_000;
/// Connections judged between two changes of the mesh.
const CONNECTIONS_PER_CHANGE: u64 = 4;

#[test]
fn the_engine_decides_as_the_oracle_does() {
    let cases = number("AUTHORIZATION_CASES").unwrap_or(CASES);
    let seed = number("AUTHORIZATION_SEED").unwrap_or(0x5eed);
    let mut random = Random::new(seed);
    let mut mesh = Mesh::new();
    let mut coverage = Coverage::default();
    for case in 0..cases {
        if case % CONNECTIONS_PER_CHANGE == 0 {
            mesh.change(&mut random, &mut coverage);
        }
        let connection = Connection::some(&mut random);
        let uid = UIDS[random.below(UIDS.len())];
        let told = told_by_engine(&mesh, uid, &connection);
        let right = oracle::decide(&mesh, uid, &connection, &mut coverage);
        assert!(
            agrees(&told, &right),
            "case {case} of seed {seed}\n{uid} {:#?}\n{connection:#?}\nthe engine says {told:?}\n\
             the oracle {right:?}\npolicies {:#?}",
            mesh.workloads.get(uid),
            mesh.policies.values().collect::<Vec<_>>(),
        );
    }
    coverage.check(cases);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// What the engine says, in the oracle's words.
fn told_by_engine(mesh: &Mesh, uid: &str, connection: &Connection) -> Decision {
    let Some(local) = mesh.snapshot.workload_by_uid(uid) else { return Decision::default() };
    let identity = connection.identity();
    let facts = Facts::new(connection.source, connection.destination, identity.as_ref());
    let verdict = authorize(&mesh.snapshot, local, &facts);
    Decision { ruling: Some(ruling(&verdict)), dry_runs: dry_runs(&verdict) }
}

fn ruling(verdict: &Verdict<'_>) -> Ruling {
    match &verdict.outcome {
        Ok(None) => Ruling::NobodySaysWhom,
        Ok(Some(matched)) => Ruling::Allowed([tried(matched)].into()),
        Err(Refusal::Denied { policy, rule }) => {
            Ruling::Denied([(policy.to_string(), *rule)].into())
        }
        Err(Refusal::NotAllowed) => Ruling::NotAllowed,
        Err(Refusal::UnknownPolicy { policy }) => Ruling::Unknown([policy.to_string()].into()),
        Err(other) => panic!("policies do not refuse so: {other:?}"),
    }
}

fn dry_runs(verdict: &Verdict<'_>) -> Vec<(&'static str, Option<TriedRule>)> {
    let mut told: Vec<_> = verdict
        .dry_runs
        .iter()
        .map(|dry_run| match dry_run {
            DryRun::Denied(matched) => ("denied", Some(tried(matched))),
            DryRun::Allowed(matched) => ("allowed", Some(tried(matched))),
            DryRun::NotAllowed => ("not allowed", None),
        })
        .collect();
    told.sort();
    told
}

fn tried(matched: &Matched<'_>) -> TriedRule {
    (format!("{}/{}", matched.policy.namespace, matched.policy.name), matched.rule)
}

/// Of several policies that would decide alike, the engine may name any.
fn agrees(told: &Decision, right: &Decision) -> bool {
    let is_one_of = |told: &BTreeSet<TriedRule>, right: &BTreeSet<TriedRule>| told.is_subset(right);
    let is_same = match (&told.ruling, &right.ruling) {
        (Some(Ruling::Denied(told)), Some(Ruling::Denied(right)))
        | (Some(Ruling::Allowed(told)), Some(Ruling::Allowed(right))) => is_one_of(told, right),
        (Some(Ruling::Unknown(told)), Some(Ruling::Unknown(right))) => told.is_subset(right),
        (told, right) => told == right,
    };
    is_same && told.dry_runs == right.dry_runs
}
