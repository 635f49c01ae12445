//! The runtime on the real kernel: one suite, both reactors.

mod children;
mod harness;
mod listeners;
mod others;
mod rules;
mod streams;
mod support;
mod tasks;

use ringway_engine::runtime::ReactorChoice;

use self::harness::Need;

fn main() {
    if children::play() {
        return;
    }
    let mut cases = Vec::new();
    for choice in support::BOTH {
        let reactor = support::name_of(choice);
        let mut suite = Vec::new();
        suite.extend(tasks::cases(choice, |title| format!("tasks::{title}[{reactor}]")));
        suite.extend(streams::cases(choice, |title| format!("streams::{title}[{reactor}]")));
        suite.extend(others::cases(choice, |title| format!("others::{title}[{reactor}]")));
        suite.extend(listeners::cases(choice, |title| format!("listeners::{title}[{reactor}]")));
        let rules = |title: &str| format!("rules::{title}[{reactor}]");
        suite.extend(rules::namespaces::cases(choice, rules));
        suite.extend(rules::cancellation::cases(choice, rules));
        let needs_ring = choice == ReactorChoice::Ring;
        cases.extend(suite.into_iter().map(|case| match needs_ring {
            true => case.needs(Need::Ring),
            false => case,
        }));
    }
    cases.extend(rules::overflow::cases());
    cases.extend(rules::refusal::cases());
    cases.extend(rules::injection::cases());
    harness::run(cases)
}
