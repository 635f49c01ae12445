//! The runtime on the real kernel: one suite, both reactors.

mod harness;
mod support;
mod tasks;

use ringway_engine::runtime::ReactorChoice;

use self::harness::Need;

fn main() {
    let mut cases = Vec::new();
    for choice in support::BOTH {
        let reactor = support::name_of(choice);
        let mut suite = Vec::new();
        suite.extend(tasks::cases(choice, |title| format!("tasks::{title}[{reactor}]")));
        let needs_ring = choice == ReactorChoice::Ring;
        cases.extend(suite.into_iter().map(|case| match needs_ring {
            true => case.needs(Need::Ring),
            false => case,
        }));
    }
    harness::run(cases)
}
