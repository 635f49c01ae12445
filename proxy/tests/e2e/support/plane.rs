//! The third way to run a mesh: node proxies in ztunnel's place, under a control plane for tests.
//!
//! The plane is on a host of its own, `istiod`; the agents of both hosts are in its process. What the plane keeps lies
//! in the folder `ca`, where the embedded authority of the other ways has its root.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use ringway_bench::lab::{Lab, Process, Program, wait_until};
use rustix::process::Signal;
use serde_json::Value;

use super::PATIENCE;

/// In place of a reactor's name: the mesh has a control plane, and the reactor is the default.
pub(crate) const CONTROL_PLANE: &str = "control-plane";

/// The same with the epoll reactor.
pub(crate) const CONTROL_PLANE_ON_EPOLL: &str = "control-plane-on-epoll";

/// The host the plane is on.
const HOST: &str = "istiod";

const PORT: u16 = 15012;

/// A plane that runs.
pub(crate) struct TestPlane {
    /// Killed and started again by tests that hold the mesh shared.
    process: Mutex<Process>,
    directory: PathBuf,
}

impl TestPlane {
    /// Starts a plane for the mesh that is in the laboratory's `mesh.yaml`.
    pub(crate) fn start(lab: &mut Lab) -> TestPlane {
        lab.add_host(HOST).unwrap();
        let directory = lab.directory().join("ca");
        let process = Mutex::new(launch(lab, &directory));
        let plane = TestPlane { process, directory };
        plane.wait_until_ready();
        plane
    }

    /// What a node proxy on `host` is told by its environment.
    pub(crate) fn environment(lab: &Lab, host: &str) -> Vec<(&'static str, String)> {
        let directory = lab.directory().join("ca");
        let file = |name: &str| directory.join(name).display().to_string();
        let address = format!("https://{}:{PORT}", lab.namespace(HOST).address());
        let root = file(ringway_test_plane::ROOT_FILE);
        vec![
            ("XDS_ADDRESS", address.clone()),
            ("CA_ADDRESS", address),
            ("XDS_ROOT_CA", root.clone()),
            ("CA_ROOT_CA", root),
            ("AUTH_TOKEN", file(&format!("{}/{host}", ringway_test_plane::TOKENS_FOLDER))),
            ("INPOD_UDS", file(&format!("{host}.sock"))),
            ("NODE_NAME", host.to_owned()),
            ("POD_NAME", format!("ztunnel-{host}")),
            ("POD_NAMESPACE", "istio-system".to_owned()),
            ("SERVICE_ACCOUNT", "ztunnel".to_owned()),
            ("INSTANCE_IP", lab.namespace(host).address().to_string()),
            ("ISTIO_META_ISTIO_VERSION", "1.31.0".to_owned()),
        ]
    }

    /// Gives an order; what the plane answers.
    pub(crate) fn tell(&self, order: Value) -> Value {
        let socket = self.directory.join(ringway_test_plane::ORDERS_SOCKET);
        ringway_test_plane::tell(&socket, &order.to_string())
            .unwrap_or_else(|error| panic!("{error:#}\n{}", self.process().log()))
    }

    /// The lines of the journal that tell of `what`.
    pub(crate) fn journal(&self, what: &str) -> Vec<Value> {
        let path = self.directory.join(ringway_test_plane::JOURNAL_FILE);
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["what"] == what).collect()
    }

    /// Waits for the first line of the journal about `what` that `fits`.
    pub(crate) fn wait_for(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        let seen = wait_until(&format!("the plane writes of {what}"), PATIENCE, || {
            found = self.journal(what).into_iter().find(&fits);
            found.is_some()
        });
        seen.unwrap_or_else(|error| panic!("{error}\n{}", self.process().log()));
        found.expect("it was just seen")
    }

    /// Ends it without warning.
    pub(crate) fn kill(&self) {
        let mut process = self.process();
        process.signal(Signal::KILL).unwrap();
        process.wait(PATIENCE).unwrap();
    }

    /// Starts it again after it was killed.
    pub(crate) fn restart(&self, lab: &Lab) {
        *self.process() = launch(lab, &self.directory);
        self.wait_until_ready();
    }

    /// Stops its clock: its sockets are there, and nothing is answered.
    pub(crate) fn freeze(&self) {
        self.process().signal(Signal::STOP).unwrap();
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.process().signal(Signal::CONT).unwrap();
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap()
    }

    fn wait_until_ready(&self) {
        let waited = self.process().wait_for_log("ready", PATIENCE);
        waited.unwrap_or_else(|error| panic!("{error}"));
    }
}

fn launch(lab: &Lab, directory: &Path) -> Process {
    let mut program = Program::new(program())
        .arguments(["serve", "--file"])
        .argument(lab.directory().join("mesh.yaml"))
        .argument("--directory")
        .argument(directory)
        .argument("--listen")
        .argument(SocketAddr::from(([0, 0, 0, 0], PORT)).to_string())
        .argument("--capture-dns")
        .arguments(["--name", "istiod.istio-system.svc", "--name"])
        .argument(lab.namespace(HOST).address().to_string());
    for host in ["host-a", "host-b"] {
        let socket = directory.join(format!("{host}.sock"));
        program = program.argument("--agent").argument(format!("{host}={}", socket.display()));
    }
    lab.start(HOST, "test-plane", &program).unwrap()
}

/// Built beside the program under test.
fn program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_ringway")).with_file_name("ringway-test-plane");
    let hint = "cargo build --package ringway-test-plane";
    assert!(program.exists(), "{} is not there: {hint}", program.display());
    program
}
