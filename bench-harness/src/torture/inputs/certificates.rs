//! B8: certificates of every kind. What the node says of each must be what was written down, and what OpenSSL says
//! together with the rules of SPIFFE.

use anyhow::Result;
use serde_json::Value;

use super::super::arena::{Arena, PATIENCE};
use super::super::hostile::Hostile;
use super::super::trial::Trial;

/// The corpus is no smaller.
const CERTIFICATES_MIN: f64 = 150.0;

/// Names of cases that are told when they go wrong.
const TOLD_MAX: usize = 8;

/// Runs the row.
pub(in super::super) fn certificates(trial: &mut Trial<'_>) -> Result<()> {
    let mut arena = Arena::usual(trial)?;
    let authority = arena.authority();
    let key = authority.join("root-key.pem").display().to_string();
    let list = authority.join("crl.pem").display().to_string();
    let arguments = ["--root-key", &key, "--list", &list];
    let client =
        Hostile::start(&arena, trial, ("stranger", "certificates"), "certificates.py", &arguments)?;
    let outcome = client.finish(trial, PATIENCE * 10)?;
    let number = |name: &str| outcome[name].as_f64().unwrap_or(0.0);
    trial.at_least("certificates", number("certificates"), "certificates", CERTIFICATES_MIN);
    for (name, of) in [("node says otherwise", "wrong"), ("OpenSSL says otherwise", "disagree")] {
        let cases = outcome[of].as_array().map_or(&[][..], Vec::as_slice);
        trial.exactly(name, cases.len() as u64, "certificates", 0);
        for case in cases.iter().filter_map(Value::as_str).take(TOLD_MAX) {
            trial.remark(format!("{name}: {case}"));
        }
    }
    trial.remark(format!(
        "{} are good; the slowest handshake took {} ms",
        outcome["good"], outcome["slowest_ms"]
    ));
    let panics = arena.b.process.log().matches("panicked").count() as u64;
    trial.exactly("panics", panics, "lines", 0);
    arena.must_work()
}
