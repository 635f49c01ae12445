//! A client that asks on and on while something else is shown, and what came of it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::bookstore::PATIENCE;
use super::stage::Stage;
use crate::lab::Process;

pub(super) fn start_client(
    stage: &Stage,
    place: &str,
    name: &str,
    to: &str,
    path: &str,
) -> Result<Process> {
    let url = format!("http://{to}{path}");
    let arguments = ["get", &url, "--count", "0", "--rate", "40", "--timeout", "20"];
    stage.start_bench(place, &format!("client-{name}"), &arguments)
}

pub(super) fn end_client(mut client: Process) -> Result<Value> {
    client.terminate(PATIENCE)?;
    let log = client.log();
    let line = log.lines().rev().find(|line| line.starts_with('{')).context("no result")?;
    Ok(serde_json::from_str(line)?)
}

pub(super) fn no_failures(outcome: &Value) -> Result<String> {
    let count = |name: &str| outcome[name].as_u64().unwrap_or(0);
    ensure!(count("requests") > 0, "it made no request");
    ensure!(
        count("failures") == 0,
        "{} of {} failed: {} {}",
        count("failures"),
        count("requests"),
        outcome["errors"],
        outcome["statuses"]
    );
    Ok(format!("{} requests, none failed", count("requests")))
}
