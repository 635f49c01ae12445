//! H1: requests that two readers may take for different ones, through a waypoint to real servers that count what they
//! read.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::arena::{Arena, PATIENCE, Plan};
use super::super::hostile::Hostile;
use super::super::trial::{Trial, need, not_run};
use crate::http::get_from;
use crate::lab::{Process, Program, wait_until};

/// The servers, on the ports of one pod from the first on, in the order of the script that starts them.
const SERVERS: [&str; 4] = ["python", "lenient", "node", "nginx"];
const FIRST_PORT: u16 = 8081;
/// The service before them, and the waypoint's pod.
const SERVICE: [u8; 4] = [10, 255, 1, 8];
const WAYPOINT: [u8; 4] = [10, 2, 0, 20];
/// The goal asks for 5,000 of them before three servers; these are for each.
const CASES: u64 = 5_000;
const CASES_SHORT: u64 = 250;

/// Runs the row.
pub(in super::super) fn smuggling(trial: &mut Trial<'_>) -> Result<()> {
    need("node", "nodejs")?;
    let python = trial.settings.python.clone().ok_or_else(|| {
        not_run("the servers need Python; scripts/torture makes an environment of its own")
    })?;
    let mut arena = Arena::start(Plan::new(trial.settings).documents(&documents()))?;
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
    let mut waypoint = start_waypoint(trial, &mut arena)?;
    for (_, port) in &behind {
        wait_for(&arena, &waypoint, (SERVICE, *port).into())?;
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

/// A service of all the servers, with a waypoint before it.
fn documents() -> String {
    let [a, b, c, d] = SERVICE;
    let [w, x, y, z] = WAYPOINT;
    let ports: Vec<String> = (0..SERVERS.len() as u16)
        .map(|at| format!("{{name: http-{at}, port: {}}}", FIRST_PORT + at))
        .collect();
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: waypoint}}\n\
         spec: {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}\n\
         ---\napiVersion: v1\nkind: Pod\n\
         metadata: {{name: waypoint, labels: {{gateway.networking.k8s.io/gateway-name: waypoint}}}}\n\
         spec: {{serviceAccountName: waypoint}}\nstatus: {{podIP: {w}.{x}.{y}.{z}}}\n\
         ---\napiVersion: v1\nkind: Service\n\
         metadata: {{name: counted, labels: {{istio.io/use-waypoint: waypoint}}}}\n\
         spec: {{clusterIP: {a}.{b}.{c}.{d}, selector: {{app: server}}, ports: [{}]}}\n",
        ports.join(", ")
    )
}

/// Which of the servers say that they listen, with their ports.
fn servers_that_run(log: &str) -> Vec<(&'static str, u16)> {
    let line = log.lines().find(|line| line.starts_with("listening")).unwrap_or("");
    let named = |name: &&str| line.split_whitespace().any(|word| word == *name);
    let numbered = SERVERS.into_iter().zip(FIRST_PORT..);
    numbered.filter(|(name, _)| named(name)).collect()
}

fn start_waypoint(trial: &Trial<'_>, arena: &mut Arena) -> Result<Process> {
    arena.lab.add_pod("host-b", "waypoint", WAYPOINT.into())?;
    let program = Program::new(&trial.settings.ringway)
        .arguments(["waypoint", "--name", "default/waypoint", "--file"])
        .argument(arena.file())
        .arguments(["--node", "host-b", "--access-log", "off"]);
    arena.lab.start("waypoint", "waypoint", &program)
}

/// Until a plain request passes.
fn wait_for(arena: &Arena, waypoint: &Process, to: SocketAddr) -> Result<()> {
    let passes = || get_from(arena.at("client"), to, "/").is_ok_and(|(status, _)| status == 200);
    wait_until("a request passes the waypoint", PATIENCE, passes).with_context(|| {
        let log = waypoint.log();
        log.lines().rev().take(5).collect::<Vec<_>>().join("\n")
    })
}

fn corpus(
    trial: &Trial<'_>,
    arena: &Arena,
    folder: &Path,
    behind: &[(&str, u16)],
) -> Result<Hostile> {
    let [a, b, c, d] = SERVICE;
    let services = behind.iter().map(|(name, port)| format!("{name}={a}.{b}.{c}.{d}:{port}"));
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
