//! What policies say of requests, beside an oracle that knows nothing of how.
//!
//! Random sets of policies judge random requests; the oracle ([`oracle`], written from the rules alone) judges the same.
//! They must agree on the outcome, on the policy and rule that decided, on who is asked, and on what is told beside. What
//! was met is counted, so that a generator that stopped meeting something fails the test.
//!
//! `AUTHORIZATION_CASES=1000000` judges more requests; `AUTHORIZATION_SEED=7` others.

mod generate;
mod oracle;

use std::collections::BTreeMap;

use ringway_http::authorize::{Authorizations, Denied, DryRun, Matched, asked, authorize};

use self::generate::{Random, Request, some_policy};
use self::oracle::{Decision, Ruling};

/// Requests of one test run.
const CASES: u64 = 120_000;
/// Requests that one set of policies judges.
const REQUESTS_PER_SET: u64 = 6;

#[test]
fn policies_decide_as_the_oracle_does() {
    let cases = number("AUTHORIZATION_CASES").unwrap_or(CASES);
    let seed = number("AUTHORIZATION_SEED").unwrap_or(0x5eed);
    let mut random = Random::new(seed);
    let mut met = BTreeMap::new();
    let (mut policies, mut sets) = (Vec::new(), Vec::new());
    for case in 0..cases {
        if case % REQUESTS_PER_SET == 0 {
            policies =
                (0..random.below(6)).map(|number| some_policy(&mut random, number)).collect();
            // Two targets, whose policies are judged together.
            sets = vec![Authorizations::default(), Authorizations::default()];
            let half = policies.len() / 2;
            for (number, policy) in policies.iter().enumerate() {
                sets[usize::from(number >= half)].add(policy).unwrap();
            }
        }
        let request = Request::some(&mut random);
        let told = told(&sets.iter().collect::<Vec<_>>(), &request);
        let right = oracle::decide(&policies, &request, &mut met);
        assert_eq!(told, right, "case {case} of seed {seed}\n{request:#?}\n{policies:#?}");
    }
    check(&met, cases);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// What is decided, in the oracle's words.
fn told(sets: &[&Authorizations], request: &Request) -> Decision {
    let facts = request.facts();
    let verdict = authorize(sets, &facts);
    let asked = asked(sets, &facts);
    let ruling = match verdict.outcome {
        Ok(None) => Ruling::NobodySaysWhom,
        Ok(Some(matched)) => Ruling::Allowed(rule(&matched)),
        Err(Denied::Matched(matched)) => Ruling::Denied(rule(&matched)),
        Err(Denied::NotAllowed) => Ruling::NotAllowed,
    };
    let mut dry_runs: Vec<_> =
        verdict.dry_runs.iter().chain(&asked.dry_runs).map(dry_run).collect();
    dry_runs.sort();
    let mut audits: Vec<_> = verdict.audits.iter().map(rule).collect();
    audits.sort();
    let mut providers: Vec<_> = asked.providers.iter().map(|(name, _)| name.to_string()).collect();
    providers.sort();
    Decision { ruling, dry_runs, audits, providers }
}

fn rule(matched: &Matched<'_>) -> (String, usize) {
    (matched.policy.name.to_string(), matched.rule)
}

fn dry_run(dry_run: &DryRun<'_>) -> (&'static str, Option<(String, usize)>) {
    match dry_run {
        DryRun::Denied(matched) => ("denied", Some(rule(matched))),
        DryRun::Allowed(matched) => ("allowed", Some(rule(matched))),
        DryRun::Asked(matched) => ("asked", Some(rule(matched))),
        DryRun::NotAllowed => ("not allowed", None),
    }
}

/// Everything must have come true and come false often enough.
fn check(met: &BTreeMap<(&'static str, bool), u64>, cases: u64) {
    let rare: Vec<_> = oracle::WANTED
        .iter()
        .flat_map(|what| [(*what, true), (*what, false)])
        .filter(|key| met.get(key).copied().unwrap_or(0) < cases / 2_000)
        .collect();
    assert!(rare.is_empty(), "met too seldom: {rare:?} of {met:#?}");
    let more: Vec<_> = met.keys().filter(|(what, _)| !oracle::WANTED.contains(what)).collect();
    assert!(more.is_empty(), "met, and not wanted: {more:?}");
}
