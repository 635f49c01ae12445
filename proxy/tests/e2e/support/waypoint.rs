//! A waypoint in the mesh: the pod `late`, a process of its own, before the service `web`.
//!
//! | service | address   | port | leads to                    |
//! |---------|-----------|------|-----------------------------|
//! | web     | 10.96.1.1 | 80   | what the routes say         |
//! |         |           | 7000 | server, port 7000, no HTTP  |
//! | web-v1  | 10.96.1.2 | 80   | server and server-2, 8080   |
//! | web-v2  | 10.96.1.3 | 80   | neighbour, 8080             |

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ringway_bench::lab::{Namespace, Program, wait_until};

use super::{
    Application, CONTROL_PLANE_ON_EPOLL, Mesh, PATIENCE, Proxy, TestPlane, http_get, try_connect,
};

/// The service behind the waypoint.
pub(crate) const WEB: &str = "10.96.1.1:80";

/// Its port that is no HTTP.
pub(crate) const WEB_TCP: &str = "10.96.1.1:7000";

/// Where the waypoint's process lives.
pub(crate) const PLACE: &str = "late";

/// The label that puts the waypoint before `web`.
const BOUND: &str = "istio.io/use-waypoint: web-waypoint";

const DOCUMENTS: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web-waypoint, namespace: default}
spec:
  gatewayClassName: ringway-waypoint
  listeners:
  - {name: mesh, port: 15008, protocol: HBONE}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-waypoint
  labels: {gateway.networking.k8s.io/gateway-name: web-waypoint}
  annotations: {ambient.istio.io/redirection: enabled}
spec: {nodeName: host-b, serviceAccountName: web-waypoint}
status: {podIP: 10.2.0.12}
---
apiVersion: v1
kind: Service
metadata: {name: web, labels: {istio.io/use-waypoint: web-waypoint}}
spec:
  clusterIP: 10.96.1.1
  selector: {app: server}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: tcp-raw, port: 7000, targetPort: 7000}
---
apiVersion: v1
kind: Service
metadata: {name: web-v1}
spec: {clusterIP: 10.96.1.2, selector: {app: server}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-v2}
spec: {clusterIP: 10.96.1.3, selector: {app: neighbour}, ports: [{name: http, port: 80, targetPort: 8080}]}
";

/// The mesh, its applications and the waypoint's process.
pub(crate) struct WaypointMesh {
    pub(crate) mesh: Mesh,
    pub(crate) waypoint: Proxy,
    /// Of server, server-2 and neighbour.
    pub(crate) applications: Vec<Application>,
}

impl WaypointMesh {
    /// With these rules of an HTTPRoute for `web`, in a YAML list; none: no route.
    pub(crate) fn start(reactor: &str, rules: &str) -> WaypointMesh {
        WaypointMesh::with(reactor, &documents(rules), "")
    }

    /// The same with further documents.
    pub(crate) fn policed(reactor: &str, rules: &str, policies: &str) -> WaypointMesh {
        WaypointMesh::with(reactor, &(documents(rules) + policies), "")
    }

    /// The same with a collector of traces.
    pub(crate) fn traced_to(reactor: &str, rules: &str, collector: &str) -> WaypointMesh {
        WaypointMesh::with(reactor, &documents(rules), collector)
    }

    /// Under a control plane, nodes and waypoint; with further documents.
    pub(crate) fn told(plane: &str, rules: &str, further: &str) -> WaypointMesh {
        let mesh = Mesh::with(plane).policies(&(documents(rules) + further)).start();
        let waypoint = start_told(&mesh, plane, "web-waypoint");
        let applications = applications(&mesh);
        WaypointMesh { mesh, waypoint, applications }
    }

    fn with(reactor: &str, documents: &str, collector: &str) -> WaypointMesh {
        let mesh = Mesh::with(reactor).policies(documents).start();
        let waypoint = start(&mesh, collector);
        let applications = applications(&mesh);
        WaypointMesh { mesh, waypoint, applications }
    }

    /// Asks `web` from client for a path, with further header lines.
    pub(crate) fn ask(&self, path: &str, headers: &str) -> (u16, String) {
        ask(self.mesh.at("client"), WEB.parse().unwrap(), path, headers)
            .unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.logs()))
    }

    /// The same; all of the answer.
    pub(crate) fn ask_whole(&self, path: &str, headers: &str) -> String {
        try_connect(self.mesh.at("client"), WEB.parse().unwrap())
            .and_then(|stream| whole_over(stream, path, headers))
            .unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.logs()))
    }

    /// Puts the waypoint before `web`, or takes it away.
    pub(crate) fn bind(&self, bound: bool) {
        let text = self.mesh.settings.configuration(&self.mesh.lab);
        let text = if bound { text } else { text.replace(BOUND, "unbound: now") };
        self.mesh.rewrite(&text);
    }

    /// Replaces the rules of the route by others.
    pub(crate) fn route(&self, before: &str, rules: &str) {
        let text = self.mesh.settings.configuration(&self.mesh.lab);
        assert!(text.contains(before), "the rules are in the file");
        self.mesh.rewrite(&text.replace(before, rules));
    }

    /// Writes the configuration with a part of it replaced.
    pub(crate) fn rewrite(&self, part: &str, by: &str) {
        let text = self.mesh.settings.configuration(&self.mesh.lab);
        assert!(text.contains(part), "{part}");
        self.mesh.rewrite(&text.replace(part, by));
    }

    /// Runs `ringway` beside the waypoint: its exit code and what it printed.
    pub(crate) fn ringway(&self, arguments: &[&str], patience: Duration) -> (i32, String) {
        let program = Program::new(env!("CARGO_BIN_EXE_ringway")).arguments(arguments.to_vec());
        let mut process = self.mesh.lab.start(PLACE, arguments[0], &program).unwrap();
        let status = process.wait(patience).unwrap();
        (status.code().unwrap_or(-1), process.log())
    }

    /// The waypoint's line about a path, once it is there.
    pub(crate) fn record(&self, path: &str) -> serde_json::Value {
        let mut found = None;
        wait_until("the waypoint's line", PATIENCE, || {
            let log = self.waypoint.process.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
            found = lines.into_iter().find(|line: &serde_json::Value| line["path"] == path);
            found.is_some()
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.logs()));
        found.expect("it was just seen")
    }

    /// Replaces the policies by others.
    pub(crate) fn police(&self, policies: &str) {
        let text = self.mesh.settings.configuration(&self.mesh.lab);
        let begin = text.find("---\napiVersion: security").expect("there are policies");
        let rest = &text[begin..];
        let end = rest.rmatch_indices("kind: AuthorizationPolicy").next().unwrap().0;
        let end = rest[end..].find("\n---").map_or(text.len(), |next| begin + end + next);
        self.mesh.rewrite(&format!("{}{policies}{}", &text[..begin], &text[end..]));
    }

    /// Whether client's node sends what is for `web` to the waypoint.
    pub(crate) fn is_bound(&self) -> bool {
        let address = SocketAddr::from(([127, 0, 0, 1], 15000));
        let (_, dump) = http_get(self.mesh.at("host-a"), address, "/config_dump").unwrap();
        let dump: serde_json::Value = serde_json::from_str(&dump).unwrap();
        let services = dump["services"].as_array().unwrap();
        let web = services.iter().find(|one| one["name"] == "web").expect("there is a service web");
        !web["waypoint"].is_null()
    }

    /// Everything that was logged, for a test that fails.
    pub(crate) fn logs(&self) -> String {
        let Mesh { a, b, .. } = &self.mesh;
        let all = [("host-a", a), ("host-b", b), ("waypoint", &self.waypoint)];
        all.map(|(name, proxy)| format!("== {name}\n{}", proxy.process.log())).join("\n")
    }
}

fn applications(mesh: &Mesh) -> Vec<Application> {
    let servers = [("server", "v1"), ("server-2", "v1"), ("neighbour", "v2")];
    servers.map(|(pod, name)| speak(mesh.at(pod), pod, name)).into()
}

fn documents(rules: &str) -> String {
    if rules.is_empty() {
        return DOCUMENTS.to_owned();
    }
    format!(
        "{DOCUMENTS}---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web}}\nspec:\n  \
         parentRefs:\n  - {{group: '', kind: Service, name: web, port: 80}}\n  rules:\n{rules}\n"
    )
}

/// Starts a process of a Gateway as istiod does, and waits until it is ready.
pub(crate) fn start_told(mesh: &Mesh, plane: &str, gateway: &str) -> Proxy {
    let address = mesh.at(PLACE).address().to_string();
    let mut program = Program::new(env!("CARGO_BIN_EXE_ringway"))
        .arguments(["--config", "{}"])
        .environment("RINGWAY_ACCESS_LOG", "json")
        .environment(
            "RINGWAY_REACTOR",
            match plane {
                CONTROL_PLANE_ON_EPOLL => "epoll",
                _ => "auto",
            },
        );
    for (name, value) in TestPlane::environment_of(&mesh.lab, gateway, "web-waypoint", &address) {
        program = program.environment(name, &value);
    }
    let process = mesh.lab.start(PLACE, "ringway-waypoint", &program).unwrap();
    let mut waypoint = Proxy::new(process, PLACE);
    waypoint.wait_until_ready(&mesh.lab);
    waypoint
}

/// Starts the process and waits until it is ready.
pub(crate) fn start_waypoint(mesh: &Mesh) -> Proxy {
    start(mesh, "")
}

/// Starts the process of another waypoint in this pod, and waits until it is ready.
pub(crate) fn start_waypoint_of(mesh: &Mesh, gateway: &str, place: &'static str) -> Proxy {
    run(mesh, place, &program(mesh, gateway))
}

fn start(mesh: &Mesh, collector: &str) -> Proxy {
    let program = program(mesh, "web-waypoint");
    let program = match collector {
        "" => program,
        collector => program
            .environment("RINGWAY_TRACES", collector)
            .environment("RINGWAY_TRACES_SHARE", "1"),
    };
    run(mesh, PLACE, &program)
}

fn program(mesh: &Mesh, gateway: &str) -> Program {
    Program::new(env!("CARGO_BIN_EXE_ringway"))
        .arguments(["waypoint", "--name", &format!("default/{gateway}"), "--node", "host-b"])
        .arguments(["--file"])
        .argument(mesh.file())
        .environment("RINGWAY_CORES", "1")
        .environment("RINGWAY_ACCESS_LOG", "json")
}

fn run(mesh: &Mesh, place: &'static str, program: &Program) -> Proxy {
    let process = mesh.lab.start(place, "ringway-waypoint", program).unwrap();
    let mut waypoint = Proxy::new(process, place);
    waypoint.wait_until_ready(&mesh.lab);
    waypoint
}

/// An HTTP/1.1 server that keeps connections open and tells who it is, and the whole head that it got; in headers, which pod
/// it is and how many requests it has had. Paths that begin with `/slow` are answered after two seconds, and `/last` ends the
/// connection; who is named by `x-fails` answers 500.
pub(crate) fn speak(place: &Namespace, pod: &'static str, name: &'static str) -> Application {
    let seen = AtomicUsize::new(0);
    Application::start(place, 8080, move |mut stream, _| {
        let mut received = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
                match stream.read(&mut piece) {
                    Ok(count) if count > 0 => received.extend_from_slice(&piece[..count]),
                    _ => return,
                }
                continue;
            };
            let head = String::from_utf8(received.drain(..end + 4).collect()).unwrap();
            if head.contains(" /slow") {
                thread::sleep(Duration::from_secs(2));
            }
            let fails = head.contains(&format!("x-fails: {name}\r\n"));
            let status = if fails { "500 No" } else { "200 OK" };
            let body = format!("{name}\n{head}");
            let length = body.len();
            let seen = seen.fetch_add(1, Ordering::Relaxed) + 1;
            let answer = format!(
                "HTTP/1.1 {status}\r\nx-pod: {pod}\r\nx-seen: {seen}\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            let written = stream.write_all(answer.as_bytes());
            let is_last = head.contains("connection: close") || head.contains(" /last");
            if written.is_err() || is_last {
                return;
            }
        }
    })
}

/// One request on a connection of its own.
pub(crate) fn ask(
    from: &Namespace,
    to: SocketAddr,
    path: &str,
    headers: &str,
) -> std::io::Result<(u16, String)> {
    ask_over(try_connect(from, to)?, path, headers)
}

fn ask_over(stream: TcpStream, path: &str, headers: &str) -> std::io::Result<(u16, String)> {
    let answer = whole_over(stream, path, headers)?;
    let status = answer.get(9..12).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no answer: {answer:?}")))?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    Ok((status, body.unwrap_or_default()))
}

fn whole_over(mut stream: TcpStream, path: &str, headers: &str) -> std::io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: web\r\n{headers}connection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Asks and asks from other threads until it is told to end.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<Vec<String>>>,
}

impl Load {
    /// From this pod, one request after the other on each of so many threads.
    pub(crate) fn start(from: &Namespace, to: &str, threads: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicUsize::new(0));
        let to: SocketAddr = to.parse().unwrap();
        let asking = |_| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            let body = move || {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let asked = TcpStream::connect_timeout(&to, PATIENCE)
                        .and_then(|stream| ask_over(stream, "/load", ""));
                    match asked {
                        Ok((200, _)) => drop(done.fetch_add(1, Ordering::Relaxed)),
                        other => failures.push(format!("{other:?}")),
                    }
                }
                failures
            };
            // A thread is in the namespace of the one that makes it.
            from.enter(|| thread::spawn(body)).unwrap()
        };
        let threads = (0..threads).map(asking).collect();
        Load { stop, done, threads }
    }

    /// Waits until so many further requests were answered.
    pub(crate) fn go_on_for(&self, requests: usize) {
        let want = self.done.load(Ordering::Relaxed) + requests;
        wait_until("the load goes on", PATIENCE * 2, || self.done.load(Ordering::Relaxed) >= want)
            .unwrap();
    }

    /// Ends, and tells what failed.
    pub(crate) fn failures(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}
