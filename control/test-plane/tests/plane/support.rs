//! A plane that runs, and the two kinds of clients it has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ringway_control::grpc::{Channel, Endpoint, Roots, TokenSource, connect};
use serde_json::{Value, json};

/// How long anything that must happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const MESH: &str = "
apiVersion: ringway.dev/v1alpha1
kind: Node
metadata: {name: host-a}
spec:
  workloads: [{name: web, networkNamespace: /proc/self/ns/net}]
---
apiVersion: ringway.dev/v1alpha1
kind: Node
metadata: {name: host-b}
spec:
  workloads: []
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {nodeName: host-a, serviceAccountName: web-account}
status: {podIP: 10.1.0.1}
";

/// A pod more, that is nobody's but knows a name.
pub(crate) const ANOTHER_POD: &str = "
---
apiVersion: v1
kind: Pod
metadata: {name: legacy}
spec: {nodeName: host-b, serviceAccountName: legacy-account}
status: {podIP: 10.1.0.2}
";

/// A plane in a process of its own.
pub(crate) struct Running {
    directory: tempfile::TempDir,
    process: Child,
}

impl Running {
    pub(crate) fn start() -> Running {
        Running::with(&[])
    }

    pub(crate) fn with(arguments: &[&str]) -> Running {
        Running::of(MESH, arguments)
    }

    /// With another mesh, of the same hosts.
    pub(crate) fn of(mesh: &str, arguments: &[&str]) -> Running {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("mesh.yaml"), mesh).unwrap();
        let process = spawn(directory.path(), "127.0.0.1:0", arguments);
        let running = Running { directory, process };
        running.port();
        running
    }

    /// Ends it without warning, and starts it again on the same port.
    pub(crate) fn kill_and_restart(&mut self) {
        let port = self.port();
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let began = self.count("began");
        self.process = spawn(self.path(), &format!("127.0.0.1:{port}"), &[]);
        wait_until("the plane listens again", || {
            self.count("began") > began && std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn agent_socket(&self) -> PathBuf {
        self.path().join("host-a.sock")
    }

    /// The mesh, and then some.
    pub(crate) fn rewrite(&self, more: &str) {
        let next = self.path().join("mesh.next");
        fs::write(&next, format!("{MESH}{more}")).unwrap();
        fs::rename(next, self.path().join("mesh.yaml")).unwrap();
    }

    pub(crate) fn tell(&self, order: Value) -> Value {
        self.try_tell(&order).unwrap()
    }

    /// The same of an order that may be refused.
    pub(crate) fn try_tell(&self, order: &Value) -> anyhow::Result<Value> {
        let socket = self.path().join(ringway_test_plane::ORDERS_SOCKET);
        ringway_test_plane::tell(&socket, &order.to_string())
    }

    /// The lines of the journal that tell of `what`.
    pub(crate) fn journal(&self, what: &str) -> Vec<Value> {
        let path = self.path().join(ringway_test_plane::JOURNAL_FILE);
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["what"] == what).collect()
    }

    /// Where requests go, as the proxy of `node`.
    pub(crate) fn endpoint(&self, node: &str) -> Endpoint {
        Endpoint {
            uri: format!("https://127.0.0.1:{}", self.port()).parse().unwrap(),
            roots: Roots::File(self.path().join(ringway_test_plane::ROOT_FILE)),
            alternative_hostname: None,
            token: Some(TokenSource::File(
                self.path().join(ringway_test_plane::TOKENS_FOLDER).join(node),
            )),
            cluster_id: "Kubernetes".to_owned(),
            headers: Vec::new(),
            post_quantum_only: false,
        }
    }

    pub(crate) async fn connect(&self, node: &str) -> Channel {
        connect(&self.endpoint(node)).await.unwrap()
    }

    fn count(&self, what: &str) -> usize {
        self.journal(what).len()
    }

    fn port(&self) -> u16 {
        let mut port = None;
        wait_until("the plane listens", || {
            let line = self.journal("listening").pop();
            let address = line.as_ref().and_then(|line| line["address"].as_str());
            port = address.and_then(|text| text.rsplit(':').next()?.parse().ok());
            port.is_some()
        });
        port.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(directory: &Path, listen: &str, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ringway-test-plane"))
        .args(["serve", "--listen", listen, "--no-redirect", "--node", "host-b", "--file"])
        .arg(directory.join("mesh.yaml"))
        .arg("--directory")
        .arg(directory)
        .arg("--agent")
        .arg(format!("host-a={}", directory.join("host-a.sock").display()))
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The same, while the test's own tasks go on.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs a test's future with a deadline.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("a test hangs") });
}

/// An order to stop or start a service.
pub(crate) fn switch(order: &str, service: &str) -> Value {
    json!({"order": order, "service": service})
}
