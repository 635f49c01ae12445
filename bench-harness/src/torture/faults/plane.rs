//! F1: the control plane is killed under load, is away, and comes back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::super::arena::{Arena, HOSTS, PATIENCE, Plan, SERVED};
use super::super::traffic::Load;
use super::super::trial::Trial;

/// What is told by its type.
const WORKLOADS: &str = "type.googleapis.com/istio.workload.Address";
/// Requests a second over connections that stay; new connections a second.
const REQUESTS: u32 = 900;
const CONNECTIONS: &str = "100";

/// Runs the row.
pub(in super::super) fn plane_away(trial: &mut Trial<'_>) -> Result<()> {
    let away = Duration::from_secs(trial.amount(5, 60));
    let seconds = away.as_secs_f64() + 8.0;
    let mut arena = Arena::start(Plan::new(trial.settings).under_control_plane())?;
    let to = arena.address("server-2", SERVED).to_string();
    let length = seconds.to_string();
    #[rustfmt::skip]
    let opening = ["connect", &to, "--rate", CONNECTIONS, "--duration", &length, "--connections", "64"];
    let loads = [
        Load::requests(&arena, trial, ("client", "server"), REQUESTS, seconds)?,
        Load::start(&arena, trial, "neighbour", "opening", &opening)?,
    ];
    trial.sleep(Duration::from_secs(2))?;
    arena.plane()?.kill()?;
    let killed = Instant::now();
    // A pair that has no tunnel yet, and asks for nothing that only the plane could say.
    trial.sleep(Duration::from_secs(1))?;
    arena.ask("client", arena.address("server-2", SERVED)).context("a pair without a tunnel")?;
    trial.sleep(away.saturating_sub(killed.elapsed()))?;
    arena.restart_plane()?;
    let back = returned(trial, &mut arena)?;
    let (mut lost, mut made) = (0, 0.0);
    for load in loads {
        let told = load.finish(trial)?;
        (lost, made) = (lost + told.lost(), made + told.number("requests"));
    }
    trial.exactly("requests and connections lost", lost, "of them", 0);
    trial.tell("requests and connections", made, "in all");
    trial.quickly("both nodes back after", back.as_secs_f64(), "s", 2.0);
    let told_again: u64 =
        journal(&mut arena, "xds-response")?.iter().map(|line| number(line, WORKLOADS)).sum();
    trial.exactly("workloads told again, which nodes know", told_again, "resources", 0);
    arena.must_work()
}

/// From the start of the plane until all nodes have asked it.
fn returned(trial: &Trial<'_>, arena: &mut Arena) -> Result<Duration> {
    let began = Instant::now();
    loop {
        let mut asked = Vec::new();
        for line in journal(arena, "xds-request")? {
            if let (Some(at), Some(stream)) = (line["at"].as_u64(), line["stream"].as_u64())
                && !asked.iter().any(|(_, known)| *known == stream)
            {
                asked.push((at, stream));
            }
        }
        if asked.len() >= HOSTS.len() {
            let last = asked.iter().map(|(at, _)| *at).take(HOSTS.len()).max();
            return Ok(Duration::from_millis(last.unwrap_or_default()));
        }
        ensure!(began.elapsed() < PATIENCE, "{} of the nodes came back", asked.len());
        trial.sleep(Duration::from_millis(20))?;
    }
}

fn journal(arena: &mut Arena, what: &str) -> Result<Vec<Value>> {
    let lines = arena.plane_journal()?;
    Ok(lines.into_iter().filter(|line| line["what"] == what).collect())
}

/// Resources of a type in one response.
fn number(line: &Value, of_type: &str) -> u64 {
    match line["type"] == of_type {
        true => line["resources"].as_u64().unwrap_or_default(),
        false => 0,
    }
}
