//! H1: requests that two readers may take for different ones, through a waypoint to real servers that count what they
//! read.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::arena::{Arena, PATIENCE, Plan};
use super::super::hostile::Hostile;
use super::super::trial::{Trial, need, not_run};
use super::layer7::{WAYPOINT, behind_waypoint, wait_for};
use crate::lab::Program;

/// The servers, on the ports of one pod from the first on, in the order of the script that starts them.
const SERVERS: [&str; 4] = ["python", "lenient", "node", "nginx"];
const FIRST_PORT: u16 = 8081;
/// The service before them.
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 255, 1, 8);
/// The goal asks for 5,000 of them before three servers; these are for each.
const CASES: u64 = 5_000;
const CASES_SHORT: u64 = 250;

/// Runs the row.
pub(in super::super) fn smuggling(trial: &mut Trial<'_>) -> Result<()> {
    need("node", "nodejs")?;
    let python = trial.settings.python.clone().ok_or_else(|| {
        not_run("the servers need Python; scripts/torture makes an environment of its own")
    })?;
    let ports = (FIRST_PORT..).take(SERVERS.len());
    let documents = WAYPOINT.documents() + &behind_waypoint("counted", SERVICE, ports);
    let mut arena = Arena::start(Plan::new(trial.settings).documents(&documents))?;
    let folder = arena.lab.directory().join("seen");
    fs::create_dir(&folder)?;
    let servers = Program::new(&python)
        .argument(trial.settings.clients.join("backends.py"))
        .argument("--folder")
        .argument(&folder)
        .arguments(["--port", &FIRST_PORT.to_string()]);
    let mut servers = arena.lab.start("server", "backends", &servers)?;
    servers.wait_for_log("listening", PATIENCE)?;
    let behind = servers_that_run(&servers.log());
    ensure!(behind.len() >= 3, "only {behind:?} could be started: {}", servers.log());
    let mut waypoint = WAYPOINT.start(trial, &mut arena)?;
    for (_, port) in &behind {
        wait_for(&arena, &waypoint, ("client", (SERVICE, *port).into()), "/")?;
    }

    let client = corpus(trial, &arena, &folder, &behind)?;
    let outcome = client.finish(trial, PATIENCE * 60)?;
    let told = |name: &str| outcome[name].as_u64().unwrap_or(0);
    trial.exactly("disagreements", told("disagreements"), "cases", 0);
    let wanted = trial.amount(CASES_SHORT, CASES) * behind.len() as u64;
    trial.at_least("cases", told("cases") as f64, "cases", wanted as f64);
    // A waypoint that refuses everything agrees with everybody.
    trial.at_least("answered by a server", told("answered") as f64, "cases", wanted as f64 / 50.0);
    trial.tell("refused by the waypoint", told("refused") as f64, "cases");
    trial.tell("neither", told("silent") as f64, "cases");
    trial.tell("servers", behind.len() as f64, "servers");
    for which in outcome["which"].as_array().context("nothing was told")? {
        trial.remark(which.as_str().unwrap_or_default());
    }
    ensure!(waypoint.is_running(), "the waypoint has ended: {}", waypoint.log());
    arena.must_work()
}

/// Which of the servers say that they listen, with their ports.
fn servers_that_run(log: &str) -> Vec<(&'static str, u16)> {
    let line = log.lines().find(|line| line.starts_with("listening")).unwrap_or("");
    let named = |name: &&str| line.split_whitespace().any(|word| word == *name);
    let numbered = SERVERS.into_iter().zip(FIRST_PORT..);
    numbered.filter(|(name, _)| named(name)).collect()
}

fn corpus(
    trial: &Trial<'_>,
    arena: &Arena,
    folder: &Path,
    behind: &[(&str, u16)],
) -> Result<Hostile> {
    let services = behind.iter().map(|(name, port)| format!("{name}={SERVICE}:{port}"));
    let mut arguments = vec!["--services".to_owned()];
    arguments.extend(services);
    let cases = trial.amount(CASES_SHORT, CASES).to_string();
    let folder = folder.display().to_string();
    for (name, value) in
        [("--cases", cases), ("--seed", trial.settings.seed.to_string()), ("--folder", folder)]
    {
        arguments.extend([name.to_owned(), value]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    trial.sleep(Duration::from_millis(200))?;
    Hostile::start(arena, trial, ("client", "smuggling"), "smuggling.py", &arguments)
}
