//! B2: HTTP/2 as RFC 9113 says it: the protocol's own table, and the same rows said to the real server.

use anyhow::{Context, Result};

use super::super::arena::{Arena, PATIENCE, TUNNEL};
use super::super::hostile::Hostile;
use super::super::trial::{Trial, not_run};
use crate::lab::Program;

/// The fewest cases that count as a conformance suite, and the fewest of them over a socket.
const CASES_MIN: f64 = 146.0;
const OVER_A_SOCKET_MIN: f64 = 146.0;

/// Applications that the client's rows need: what they do, and where.
const APPLICATIONS: [(&str, &str, &str); 3] =
    [("echo", "8080", "0"), ("stall", "8091", "0"), ("rst", "8092", "1")];

/// Runs the row.
pub(in super::super) fn conformance(trial: &mut Trial<'_>) -> Result<()> {
    let told = trial.settings.given.get("B2").cloned();
    let told =
        told.ok_or_else(|| not_run("nobody has written the table; scripts/torture B2 does"))?;
    let number = |name: &str| told[name].as_u64().unwrap_or(0);
    trial.exactly("runs of the table that fail", number("failures"), "runs", 0);
    trial.at_least("cases", number("cases") as f64, "cases", CASES_MIN);

    // The rows name this pod's address.
    let mut arena = Arena::usual(trial)?;
    let mut applications = Vec::new();
    for (behaviour, port, bytes) in APPLICATIONS {
        let serve = Program::new(&trial.settings.own).arguments(["serve", behaviour, "--listen"]);
        let serve = serve.argument(format!("0.0.0.0:{port}")).arguments(["--bytes", bytes]);
        applications.push(arena.lab.start("client", &format!("app-{behaviour}"), &serve)?);
    }
    let target = arena.address("client", TUNNEL).to_string();
    let table = told["table"].as_str().context("no table in what was told")?;
    let arguments = ["--target", &target, "--table", table];
    let client = Hostile::start(&arena, trial, ("stranger", "rows"), "conformance.py", &arguments)?;
    let outcome = client.finish(trial, PATIENCE * 10)?;
    let wrong = outcome["wrong"].as_array().context("nothing was told")?;
    trial.exactly("rows that the server gets wrong", wrong.len() as u64, "rows", 0);
    let said = outcome["said"].as_f64().unwrap_or(0.0);
    trial.at_least("rows over a socket", said, "rows", OVER_A_SOCKET_MIN);
    trial.tell(
        "rows for clients or small windows",
        outcome["left_out"].as_f64().unwrap_or(0.0),
        "rows",
    );
    for row in wrong.iter().take(5) {
        trial.remark(row.as_str().unwrap_or_default());
    }
    arena.must_work()
}
