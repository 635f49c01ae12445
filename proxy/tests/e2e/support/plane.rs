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

/// The host that signs, in a mesh whose authority is no part of its control plane.
const AUTHORITY_HOST: &str = "authority";

const PORT: u16 = 15012;

/// A plane that runs.
pub(crate) struct TestPlane {
    /// Killed and started again by tests that hold the mesh shared.
    process: Mutex<Process>,
    host: &'static str,
    directory: PathBuf,
}

impl TestPlane {
    /// Starts a plane for the mesh that is in the laboratory's `mesh.yaml`.
    pub(crate) fn start(lab: &mut Lab) -> TestPlane {
        TestPlane::start_on(HOST, lab, lab.directory().join("ca"))
    }

    /// Starts another that only signs. It knows whom `self` has given tokens to, and has a root of its own.
    pub(crate) fn start_authority(&self, lab: &mut Lab) -> TestPlane {
        let directory = authority_directory(lab);
        let tokens = directory.join(ringway_test_plane::TOKENS_FOLDER);
        fs::create_dir_all(&tokens).unwrap();
        for token in fs::read_dir(self.directory.join(ringway_test_plane::TOKENS_FOLDER)).unwrap() {
            let token = token.unwrap();
            fs::copy(token.path(), tokens.join(token.file_name())).unwrap();
        }
        TestPlane::start_on(AUTHORITY_HOST, lab, directory)
    }

    fn start_on(host: &'static str, lab: &mut Lab, directory: PathBuf) -> TestPlane {
        lab.add_host(host).unwrap();
        let process = Mutex::new(launch(host, lab, &directory));
        let plane = TestPlane { process, host, directory };
        plane.wait_until_ready();
        plane
    }

    /// What a node proxy is told of an authority of its own, over what it is told of the control plane.
    pub(crate) fn environment_of_authority(lab: &Lab) -> [(&'static str, String); 2] {
        let address = lab.namespace(AUTHORITY_HOST).address();
        let root = authority_directory(lab).join(ringway_test_plane::ROOT_FILE);
        [
            ("CA_ADDRESS", format!("https://{address}:{PORT}")),
            ("CA_ROOT_CA", root.display().to_string()),
        ]
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

    /// What istiod gives the container of a process of a Gateway, which runs as the workload `pod` at this address.
    pub(crate) fn environment_of(
        lab: &Lab,
        gateway: &str,
        pod: &str,
        address: &str,
    ) -> Vec<(&'static str, String)> {
        let directory = lab.directory().join("ca");
        let file = |name: &str| directory.join(name).display().to_string();
        let plane = format!("https://{}:{PORT}", lab.namespace(HOST).address());
        let root = file(ringway_test_plane::ROOT_FILE);
        let token = file(&format!("{}/default~{gateway}", ringway_test_plane::TOKENS_FOLDER));
        vec![
            ("XDS_ADDRESS", plane.clone()),
            ("CA_ADDRESS", plane),
            ("XDS_ROOT_CA", root.clone()),
            ("CA_ROOT_CA", root),
            ("AUTH_TOKEN", token),
            ("POD_NAME", pod.to_owned()),
            ("POD_NAMESPACE", "default".to_owned()),
            ("NAMESPACE", "default".to_owned()),
            ("INSTANCE_IP", address.to_owned()),
            ("SERVICE_ACCOUNT", "web-waypoint".to_owned()),
            ("CPU_LIMIT", "1".to_owned()),
            ("GATEWAY", gateway.to_owned()),
            ("TRUST_DOMAIN", "cluster.local".to_owned()),
            ("RUST_BACKTRACE", "1".to_owned()),
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
        *self.process() = launch(self.host, lab, &self.directory);
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

fn authority_directory(lab: &Lab) -> PathBuf {
    lab.directory().join("authority")
}

fn launch(place: &str, lab: &Lab, directory: &Path) -> Process {
    let mut program = Program::new(program())
        .arguments(["serve", "--file"])
        .argument(lab.directory().join("mesh.yaml"))
        .argument("--directory")
        .argument(directory)
        .argument("--listen")
        .argument(SocketAddr::from(([0, 0, 0, 0], PORT)).to_string())
        .argument("--capture-dns")
        .arguments(["--gateway", "default/web-waypoint/web-waypoint"])
        .arguments(["--gateway", "default/edge/web-waypoint"])
        .arguments(["--name", "istiod.istio-system.svc", "--name"])
        .argument(lab.namespace(place).address().to_string());
    // An authority's agents are in its folder, where no proxy looks for them, and pods are not theirs.
    if place != HOST {
        program = program.argument("--no-redirect");
    }
    for host in ["host-a", "host-b"] {
        let socket = directory.join(format!("{host}.sock"));
        program = program.argument("--agent").argument(format!("{host}={}", socket.display()));
    }
    lab.start(place, &format!("test-plane-{place}"), &program).unwrap()
}

/// Built beside the program under test.
pub(super) fn program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_ringway")).with_file_name("ringway-test-plane");
    let hint = "cargo build --package ringway-test-plane";
    assert!(program.exists(), "{} is not there: {hint}", program.display());
    program
}
