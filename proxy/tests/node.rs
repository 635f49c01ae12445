//! A running node as its operator meets it: readiness, metrics, dumps, log levels, reloads, rotations, signals.
//!
//! The built program in a laboratory of network namespaces. Needs root, or `scripts/test`.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use ringway_bench::lab::{Lab, Process, Program, wait_until};
use rustix::process::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// One host with two pods, and a node on it.
struct Site {
    lab: Lab,
    process: Process,
}

/// How a site is started.
#[derive(Default)]
struct Start {
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

impl Start {
    fn with(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    fn environment(mut self, name: &'static str, value: String) -> Self {
        self.environment.push((name, value));
        self
    }

    /// A site whose node captures these workloads, and is not waited for.
    fn site(self, captured: &[&str]) -> Site {
        let mut lab = Lab::unique().unwrap();
        lab.add_host("host").unwrap();
        for (number, pod) in (10..).zip(["web", "api"]) {
            lab.add_pod("host", pod, Ipv4Addr::new(10, 1, 0, number)).unwrap();
        }
        fs::write(lab.directory().join("mesh.yaml"), mesh(&lab, captured)).unwrap();
        let process = self.start(&lab);
        Site { lab, process }
    }

    fn start(&self, lab: &Lab) -> Process {
        let directory = lab.directory();
        let mut program = Program::new(env!("CARGO_BIN_EXE_ringway"))
            .arguments(["run", "--reactor", "epoll", "--cores", "1", "--node", "host", "--file"])
            .argument(directory.join("mesh.yaml"))
            .argument("--ca-directory")
            .argument(directory.join("ca"))
            .argument("--state-directory")
            .argument(directory.join("state"))
            .arguments(&self.arguments);
        for (name, value) in &self.environment {
            program = program.environment(name, value);
        }
        lab.start("host", "node", &program).unwrap()
    }
}

fn mesh(lab: &Lab, captured: &[&str]) -> String {
    let mut text = String::from(
        "apiVersion: ringway.dev/v1alpha1\nkind: Node\nmetadata: {name: host}\nspec:\n  drainDeadline: 1s\n  workloads:\n",
    );
    for pod in captured {
        let namespace = match *pod {
            "late" => lab.directory().join("late-namespace").display().to_string(),
            pod => lab.namespace(pod).path().display().to_string(),
        };
        text += &format!("  - {{name: {pod}, namespace: shop, networkNamespace: {namespace}}}\n");
    }
    for (pod, address) in [("web", "10.1.0.10"), ("api", "10.1.0.11"), ("late", "10.1.0.12")] {
        text += &format!(
            "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {pod}, namespace: shop}}\n\
             spec: {{address: {address}, serviceAccount: {pod}}}\n"
        );
    }
    text
}

impl Site {
    fn start(captured: &[&str]) -> Self {
        let site = Start::default().site(captured);
        site.wait_until_ready();
        site
    }

    fn ask(&self, port: u16, request: &str) -> Option<(u16, String)> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = self.lab.namespace("host").connect_timeout(address, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    fn get(&self, port: u16, path: &str) -> (u16, String) {
        self.ask(port, &format!("GET {path}")).expect("it answers")
    }

    fn dump(&self) -> Value {
        serde_json::from_str(&self.get(15000, "/config_dump").1).unwrap()
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.get(15020, "/metrics").1;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
    }

    fn wait_until_ready(&self) {
        self.wait_for("readiness", |site| {
            site.ask(15021, "GET /healthz/ready").is_some_and(|(status, _)| status == 200)
        });
    }

    fn wait_for(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        wait_until(what, PATIENCE, || condition(self))
            .unwrap_or_else(|error| panic!("{error}\n{}", self.process.log()));
    }

    fn rewrite(&self, captured: &[&str]) {
        self.write_mesh(&mesh(&self.lab, captured));
    }

    fn write_mesh(&self, text: &str) {
        let path = self.lab.directory().join("mesh.yaml");
        fs::write(path.with_extension("new"), text).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    fn has_rules(&self, pod: &str) -> bool {
        let rules = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            let output =
                self.lab.namespace(pod).enter(|| command.args(arguments).output()).unwrap();
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).ok()
        };
        let nft = rules("nft", &["list", "ruleset"]);
        let all =
            nft.or_else(|| rules("iptables-save", &[])).expect("nft or iptables-save is installed");
        all.contains("15001")
    }

    fn end(&mut self) -> ExitStatus {
        self.process.wait(PATIENCE).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.lab.directory().join(name)
    }
}

#[test]
fn a_workload_that_cannot_be_captured_is_named_and_holds_up_nobody() {
    let site = Start::default().site(&["web", "late"]);
    site.wait_for("web is captured", |site| site.has_rules("web"));
    site.wait_for("late is pending", |site| {
        site.ask(15021, "GET /healthz/ready")
            == Some((500, "not ready, pending: workload shop/late\n".to_owned()))
    });
    assert_eq!(site.get(15021, "/healthz/live").0, 200);
    assert_eq!(site.get(15021, "/healthz/startup").0, 500);
    assert_eq!(site.metric("workload_manager_pending_proxy_count"), 1.0);
    let log = site.process.log();
    assert!(log.contains("late-namespace does not exist (yet)"), "{log}");

    // It appears, as a pod that starts later does.
    std::os::unix::fs::symlink(site.lab.namespace("api").path(), site.path("late-namespace"))
        .unwrap();
    site.wait_until_ready();
    assert!(site.has_rules("api"));
    assert_eq!(site.get(15021, "/healthz/startup").0, 200);
    assert_eq!(site.metric("workload_manager_active_proxy_count"), 2.0);
}

#[test]
fn the_dump_shows_workloads_certificates_and_settings() {
    let site = Site::start(&["web"]);
    let dump = site.dump();
    assert_eq!(dump["workloads"].as_array().unwrap().len(), 3);
    let certificate = &dump["certificates"][0];
    assert_eq!(certificate["identity"], "spiffe://cluster.local/ns/shop/sa/web");
    assert_eq!(certificate["state"], "Available");
    let states: Vec<_> = dump["workloadState"].as_object().unwrap().values().collect();
    assert_eq!(states.len(), 1);
    assert_eq!(states[0]["state"], "Up");
    assert_eq!(states[0]["info"]["serviceAccount"], "web");
    assert_eq!(dump["config"]["reactor"], "epoll");
    let key = fs::read_to_string(site.path("ca/root-key.pem")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    assert!(!dump.to_string().contains(secret) && !site.process.log().contains(secret));
}

#[test]
fn the_log_level_changes_while_it_runs() {
    let site = Site::start(&["web"]);
    let (status, body) = site.ask(15000, "POST /logging?level=access:debug").unwrap();
    assert_eq!((status, body.as_str()), (200, "current log level is access=debug,info\n"));
    assert_eq!(site.ask(15000, "POST /logging?level=loud").unwrap().0, 400);
    assert_eq!(site.ask(15000, "GET /logging").unwrap().0, 405);
    assert_eq!(site.ask(15000, "POST /logging?reset").unwrap().1, "current log level is info\n");
}

#[test]
fn a_bad_reload_is_counted_and_changes_nothing_and_sighup_reads_again() {
    let site = Site::start(&["web"]);
    let generation = site.metric("ringway_snapshot_generation");
    site.write_mesh(
        &mesh(&site.lab, &["web", "api"]).replace("serviceAccount: api", "serviceAcount: api"),
    );
    site.wait_for("the refusal", |site| {
        site.metric("ringway_config_reloads_total{result=\"refused\"}") >= 1.0
    });
    let log = site.process.log();
    assert!(log.contains("mesh.yaml:") && log.contains("serviceAcount"), "{log}");
    assert_eq!(site.metric("ringway_snapshot_generation"), generation);
    assert!(!site.has_rules("api"));

    site.rewrite(&["web", "api"]);
    site.wait_for("api is captured", |site| site.has_rules("api"));
    assert!(site.metric("ringway_snapshot_generation") > generation);
    let reloads = site.metric("ringway_config_reloads_total{result=\"ok\"}");
    site.process.signal(Signal::HUP).unwrap();
    site.wait_for("the reload by signal", |site| {
        site.metric("ringway_config_reloads_total{result=\"ok\"}") > reloads
    });
    site.rewrite(&["api"]);
    site.wait_for("web is let go", |site| !site.has_rules("web"));
    assert_eq!(
        site.dump()["certificates"].as_array().unwrap().len(),
        1,
        "and its identity with it"
    );
}

#[test]
fn a_rotated_root_reaches_a_running_node() {
    let site = Site::start(&["web"]);
    let roots =
        |site: &Site| site.dump()["certificates"][0]["rootCerts"].as_array().map_or(0, Vec::len);
    assert_eq!(roots(&site), 1);
    let rotate = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
        command.args(["ca", "rotate", "--directory"]).arg(site.path("ca")).args(arguments);
        assert!(command.output().unwrap().status.success());
    };
    rotate(&["--new-signs-after", "0s", "--old-trusted-for", "1h"]);
    site.wait_for("both roots are trusted", |site| roots(site) == 2);
    assert!(site.metric("ringway_certificates_issued_total{result=\"ok\"}") >= 2.0);

    // What cannot be used is told, and nothing is lost.
    fs::write(site.path("ca/ca-state.json"), "{").unwrap();
    site.wait_for("the complaint", |site| site.process.log().contains("ca-state.json"));
    assert_eq!(roots(&site), 2);
    assert_eq!(site.get(15021, "/healthz/ready").0, 200);
}

#[test]
fn quitquitquit_drains_and_leaves_nothing_behind() {
    let mut site = Site::start(&["web", "api"]);
    assert!(site.has_rules("web") && site.has_rules("api"));
    assert_eq!(site.ask(15000, "GET /quitquitquit").unwrap().0, 405);
    assert_eq!(site.ask(15000, "POST /quitquitquit").unwrap(), (200, "shutdown now\n".to_owned()));
    assert!(site.end().success(), "{}", site.process.log());
    assert!(!site.has_rules("web") && !site.has_rules("api"));
    let ledger = fs::read_dir(site.path("state")).unwrap().next().unwrap().unwrap();
    assert_eq!(fs::read_to_string(ledger.path()).unwrap(), "{}");
}

#[test]
fn rules_of_a_killed_node_are_removed_by_a_start_that_does_not_serve_them() {
    let mut site = Site::start(&["web", "api"]);
    site.process.signal(Signal::KILL).unwrap();
    site.end();
    assert!(site.has_rules("api"), "a kill lets nothing out");
    site.rewrite(&["web"]);
    site.process = Start::default().start(&site.lab);
    site.wait_until_ready();
    assert!(site.has_rules("web") && !site.has_rules("api"), "{}", site.process.log());
}

#[test]
fn a_namespace_that_is_made_anew_is_captured_anew() {
    let site = Start::default().site(&["late"]);
    let link = site.path("late-namespace");
    let lead_to = |pod: &str| {
        let new = site.path("new-link");
        std::os::unix::fs::symlink(site.lab.namespace(pod).path(), &new).unwrap();
        fs::rename(new, &link).unwrap();
    };
    lead_to("web");
    site.wait_until_ready();
    assert!(site.has_rules("web"));
    lead_to("api");
    site.wait_for("the new namespace", |site| site.has_rules("api"));
    assert!(!site.has_rules("web"), "the old one is let go");
}

#[test]
fn the_second_signal_ends_at_once() {
    let mut site = Site::start(&["web"]);
    // A connection that stays open: the drain waits for it.
    let listener = site.lab.namespace("api").listen(8080).unwrap();
    let client = site.lab.namespace("web").connect("10.1.0.11:8080".parse().unwrap()).unwrap();
    let (_server, _) = listener.accept().unwrap();
    site.write_mesh(&mesh(&site.lab, &["web"]).replace("drainDeadline: 1s", "drainDeadline: 10m"));
    site.wait_for("the reload", |site| {
        site.metric("ringway_config_reloads_total{result=\"ok\"}") >= 1.0
    });
    site.process.signal(Signal::TERM).unwrap();
    site.wait_for("the drain", |site| site.process.log().contains("draining"));
    assert!(site.process.is_running());
    assert_eq!(
        site.get(15021, "/healthz/ready"),
        (500, "not ready, pending: draining\n".to_owned())
    );
    site.process.signal(Signal::INT).unwrap();
    assert_eq!(site.end().code(), Some(130));
    drop(client);
}

#[test]
fn a_port_that_is_taken_fails_the_start_with_the_port_and_what_to_do() {
    let mut site = Site::start(&["web"]);
    let beside = Start::default().with("--readiness-address").with("127.0.0.1:16021");
    let mut second = beside.start(&site.lab);
    assert_eq!(second.wait(PATIENCE).unwrap().code(), Some(1));
    let log = second.log();
    for want in
        ["admin server cannot listen on 127.0.0.1:15000", "sport = :15000", "--admin-address"]
    {
        assert!(log.contains(want), "{want} is not in\n{log}");
    }
    assert!(site.process.is_running() && site.has_rules("web"), "what serves is left alone");
}

#[test]
fn the_service_manager_hears_that_it_serves_and_stops() {
    let home = tempfile::TempDir::new().unwrap();
    let path = home.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let start = Start::default()
        .environment("NOTIFY_SOCKET", path.display().to_string())
        .environment("WATCHDOG_USEC", "200000".to_owned());
    let mut site = start.site(&["web"]);
    let hear = |want: &str| loop {
        let mut message = [0; 256];
        let length = manager.recv(&mut message).unwrap();
        if String::from_utf8_lossy(&message[..length]).starts_with(want) {
            break;
        }
    };
    hear("READY=1");
    hear("WATCHDOG=1");
    site.process.signal(Signal::TERM).unwrap();
    hear("STOPPING=1");
    assert!(site.end().success());
}

#[test]
fn a_stuck_reader_of_the_log_stops_nothing() {
    let mut lab = Lab::unique().unwrap();
    lab.add_host("host").unwrap();
    lab.add_pod("host", "web", Ipv4Addr::new(10, 1, 0, 10)).unwrap();
    lab.add_pod("host", "api", Ipv4Addr::new(10, 1, 0, 11)).unwrap();
    fs::write(lab.directory().join("mesh.yaml"), mesh(&lab, &["web"])).unwrap();
    // A pipe that is open for reading, and that nobody reads.
    let directory = lab.directory().display().to_string();
    let pipe = lab.directory().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let _reader = fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let program = env!("CARGO_BIN_EXE_ringway");
    let script = format!(
        "exec {program} run --reactor epoll --cores 1 --node host -f {directory}/mesh.yaml --log-level trace \
         --ca-directory {directory}/ca --state-directory {directory}/state >{directory}/pipe"
    );
    let process =
        lab.start("host", "node", &Program::new("sh").arguments(["-c", &script])).unwrap();
    let site = Site { lab, process };
    site.wait_until_ready();
    let listener = site.lab.namespace("api").listen(8080).unwrap();
    // Far more lines than any pipe holds, one connection each.
    let to = "10.1.0.11:8080".parse().unwrap();
    for _ in 0..600 {
        drop(site.lab.namespace("web").connect_timeout(to, PATIENCE).unwrap());
        drop(listener.accept().unwrap());
    }
    assert_eq!(site.get(15021, "/healthz/ready").0, 200);
    assert_eq!(site.metric("workload_manager_active_proxy_count"), 1.0);
}
