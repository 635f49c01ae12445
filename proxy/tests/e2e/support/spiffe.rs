//! The SPIFFE agents of both hosts. They are in one process, and keep what they keep in the folder `ca`, where the
//! embedded authority of other meshes has its root.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use ringway_bench::lab::{Lab, Process, Program};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{PATIENCE, plane};

/// The host their process is on; they are reached by their sockets.
const HOST: &str = "host-a";

/// Agents that run.
pub(crate) struct SpiffeAgents {
    /// Killed and started again by tests that hold the mesh shared.
    process: Mutex<Process>,
    program: Program,
    directory: PathBuf,
}

impl SpiffeAgents {
    /// Starts an agent for each host, which holds the identities of these service accounts.
    pub(crate) fn start(
        lab: &Lab,
        hosts: &[(&str, Vec<&str>)],
        leaf_lifetime: Duration,
    ) -> SpiffeAgents {
        let directory = lab.directory().join("ca");
        let mut program = Program::new(plane::program())
            .arguments(["spiffe", "--leaf-seconds", &leaf_lifetime.as_secs().to_string()])
            .argument("--directory")
            .argument(&directory);
        for (host, accounts) in hosts {
            let socket = SpiffeAgents::socket(lab, host);
            program = program.arguments(["--agent", &format!("{host}={}", socket.display())]);
            for account in accounts {
                program = program.arguments(["--identity", &format!("{host}={}", id(account))]);
            }
        }
        let process = Mutex::new(launch(lab, &program));
        let agents = SpiffeAgents { process, program, directory };
        agents.wait_until_ready();
        agents
    }

    /// Where the agent of a host listens.
    pub(crate) fn socket(lab: &Lab, host: &str) -> PathBuf {
        lab.directory().join(format!("{host}-spiffe.sock"))
    }

    /// Has the agent of a host hold the identities of these service accounts and no others.
    pub(crate) fn hold(&self, host: &str, accounts: &[&str]) {
        let identities: Vec<String> = accounts.iter().map(|account| id(account)).collect();
        self.tell(json!({"order": "hold", "agent": host, "identities": identities}));
    }

    /// Gives an order.
    pub(crate) fn tell(&self, order: Value) {
        let socket = self.directory.join(ringway_test_plane::ORDERS_SOCKET);
        ringway_test_plane::tell(&socket, &order.to_string())
            .unwrap_or_else(|error| panic!("{error:#}\n{}", self.process().log()));
    }

    /// How often a proxy has called the agent of a host, in all its lives.
    pub(crate) fn calls(&self, host: &str) -> usize {
        let path = self.directory.join(ringway_test_plane::JOURNAL_FILE);
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let calls = lines.filter(|line| line["what"] == "workload-call" && line["agent"] == host);
        calls.inspect(|line| assert_eq!(line["admitted"], true, "{line}")).count()
    }

    /// Ends them without warning.
    pub(crate) fn kill(&self) {
        let mut process = self.process();
        process.signal(Signal::KILL).unwrap();
        process.wait(PATIENCE).unwrap();
    }

    /// Starts them again after they were killed: with the root they had, new certificates, and what they held first.
    pub(crate) fn restart(&self, lab: &Lab) {
        *self.process() = launch(lab, &self.program);
        self.wait_until_ready();
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap()
    }

    fn wait_until_ready(&self) {
        let waited = self.process().wait_for_log("ready", PATIENCE);
        waited.unwrap_or_else(|error| panic!("{error}"));
    }
}

fn launch(lab: &Lab, program: &Program) -> Process {
    lab.start(HOST, "spiffe-agents", program).unwrap()
}

fn id(account: &str) -> String {
    format!("spiffe://cluster.local/ns/default/sa/{account}")
}
