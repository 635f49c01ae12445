//! What the demonstration is played on: hosts, pods, applications, proxies.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::bookstore::{HOSTS, JOINING, LATE, LATE_POD, PAGE, PATIENCE, PODS, SERVICES};
use super::control_plane::{self, ControlPlane};
use crate::http::get_from;
use crate::lab::{Lab, Process, Program, wait_until};
use crate::observe::Metrics;

/// Everything that runs.
pub(super) struct Stage {
    pub(super) applications: Vec<(&'static str, Process)>,
    pub(super) proxies: Vec<(&'static str, Process)>,
    pub(super) mesh: PathBuf,
    pub(super) lab: Lab,
    ringway: PathBuf,
    bench: PathBuf,
    reactor: Option<String>,
    /// The program, and once the mesh is there what it runs as.
    control_plane: Option<(PathBuf, Option<ControlPlane>)>,
}

impl Stage {
    /// Lays out hosts and pods and starts the applications; no proxy yet.
    pub(super) fn build(ringway: &Path, example: &Path, reactor: Option<&str>) -> Result<Stage> {
        let ringway = fs::canonicalize(ringway).context("no program `ringway`")?;
        let mut lab = Lab::named("rw-")?;
        for host in ["host-a", "host-b", "office"] {
            lab.add_host(host)?;
        }
        for (pod, host, address) in PODS {
            lab.add_pod(host, pod, address.into())?;
        }
        let mesh = lab.directory().join("bookinfo");
        copy_folder(example, &mesh)?;
        let bench = std::env::current_exe()?;
        let reactor = reactor.map(str::to_owned);
        let mut stage = Stage {
            applications: Vec::new(),
            proxies: Vec::new(),
            mesh,
            lab,
            ringway,
            bench,
            reactor,
            control_plane: None,
        };
        for host in HOSTS {
            stage.add_service_addresses(host)?;
        }
        for (pod, ..) in PODS.iter().filter(|(pod, ..)| *pod != "outside") {
            let application = stage.start_application(pod)?;
            stage.applications.push((pod, application));
        }
        for (pod, _, address) in PODS.iter().filter(|(pod, ..)| *pod != "outside") {
            let address = SocketAddr::from((Ipv4Addr::from(*address), 9080));
            let from = stage.lab.namespace(pod);
            wait_until(&format!("{pod} answers"), PATIENCE, || {
                get_from(from, address, "/health").is_ok_and(|(status, _)| status == 200)
            })?;
        }
        Ok(stage)
    }

    /// The mesh will have a control plane: `program`.
    pub(super) fn use_control_plane(&mut self, program: &Path) -> Result<()> {
        let program = fs::canonicalize(program).context("no program `ringway-test-plane`")?;
        self.lab.add_host(control_plane::HOST)?;
        self.control_plane = Some((program, None));
        Ok(())
    }

    /// Whether the mesh has a control plane.
    pub(super) fn has_control_plane(&self) -> bool {
        self.control_plane.is_some()
    }

    /// Has all pods leave the mesh, where that is not done by proxies that end.
    pub(super) fn leave_mesh(&mut self) -> Result<()> {
        let running = self.control_plane.as_mut().and_then(|(_, running)| running.take());
        let Some(plane) = running else { return Ok(()) };
        plane.remove_all_pods()?;
        wait_until("all pods have left the mesh", PATIENCE, || {
            PODS.iter().all(|(pod, ..)| !self.rules(pod).contains("15001"))
        })?;
        plane.end()
    }

    /// Starts a proxy on each host and waits until both are ready.
    pub(super) fn start_proxies(&mut self) -> Result<()> {
        if let Some((program, running)) = &mut self.control_plane {
            *running = Some(ControlPlane::start(&self.lab, program, &self.mesh)?);
        }
        for host in HOSTS {
            let program = self.proxy(host);
            let process = self.lab.start(host, &format!("ringway-{host}"), &program)?;
            self.proxies.push((host, process));
        }
        for (host, process) in &mut self.proxies {
            let place = self.lab.namespace(host);
            let ready = SocketAddr::from(([127, 0, 0, 1], 15021));
            wait_until(&format!("the proxy of {host} is ready"), PATIENCE, || {
                !process.is_running()
                    || get_from(place, ready, "/healthz/ready").is_ok_and(|(code, _)| code == 200)
            })
            .with_context(|| process.log())?;
            ensure!(process.is_running(), "the proxy of {host} ended:\n{}", process.log());
        }
        // Under a control plane somebody else redirects, and in a moment of their own.
        let captured = |pod: &str| self.rules(pod).contains("15001");
        let members = PODS.iter().map(|(pod, ..)| *pod);
        wait_until("all applications are captured", PATIENCE, || {
            members.clone().filter(|pod| ![LATE, "outside"].contains(pod)).all(captured)
        })
    }

    fn proxy(&self, host: &str) -> Program {
        let program = Program::new(&self.ringway);
        let reactor = self.reactor.as_deref();
        if let Some((_, Some(plane))) = &self.control_plane {
            let program = plane.proxy(program, host);
            return match reactor {
                Some(reactor) => program.environment("RINGWAY_REACTOR", reactor),
                None => program,
            };
        }
        let program = program.arguments(["run", "--node", host, "--file"]).argument(&self.mesh);
        match reactor {
            Some(reactor) => program.arguments(["--reactor", reactor]),
            None => program,
        }
    }

    /// Asks for the page once, from outside the mesh.
    pub(super) fn page(&self) -> Result<Value> {
        let to = PAGE.parse().expect("an address");
        let (status, body) = get_from(self.lab.namespace("outside"), to, "/productpage")?;
        ensure!(status == 200, "the page answers {status}: {body}");
        Ok(serde_json::from_str(&body)?)
    }

    /// Starts `ringway-bench` with `arguments` in a namespace.
    pub(super) fn start_bench(
        &self,
        place: &str,
        name: &str,
        arguments: &[&str],
    ) -> Result<Process> {
        self.lab.start(place, name, &Program::new(&self.bench).arguments(arguments))
    }

    /// What the proxy of a host has logged so far.
    pub(super) fn log_of(&self, host: &str) -> String {
        let proxy = self.proxies.iter().find(|(name, _)| *name == host);
        proxy.map(|(_, process)| process.log()).unwrap_or_default()
    }

    /// What the proxy of a host counts at this moment.
    pub(super) fn metrics(&self, host: &str) -> Result<Metrics> {
        let metrics = SocketAddr::from(([127, 0, 0, 1], 15020));
        let (status, text) = get_from(self.lab.namespace(host), metrics, "/metrics")?;
        ensure!(status == 200, "the metrics of {host} answer {status}");
        Ok(Metrics::parse(&text))
    }

    /// Adds the late application to the configuration: its Pod, and its namespace on host-b. One host reads this
    /// before the other, so whoever asked it until now may go on without an identity for a while.
    pub(super) fn add_late_workload(&self) -> Result<()> {
        replace(&self.mesh.join("details-v2-joins.yaml"), JOINING)?;
        replace(&self.mesh.join("details-v2.yaml"), LATE_POD)?;
        let nodes = self.mesh.join("nodes.yaml");
        let text = fs::read_to_string(&nodes)?;
        let line = text
            .lines()
            .find(|line| line.contains("rw-ratings-v1"))
            .context("nodes.yaml does not have the line of ratings-v1")?;
        let both = format!("{line}\n{}", line.replace("ratings-v1", LATE));
        replace(&nodes, &text.replace(line, &both))
    }

    /// Everybody knows the late application: it is for identities only, as all others are.
    pub(super) fn close_late_workload(&self) -> Result<()> {
        Ok(fs::remove_file(self.mesh.join("details-v2-joins.yaml"))?)
    }

    /// What `ringway authorize` says: the page of the mesh's own files, asked without starting anything.
    pub(super) fn authorize(&self, from: &str, to: &str) -> Result<String> {
        let mut command = Command::new(&self.ringway);
        command.args([
            "authorize",
            "--node",
            "host-a",
            "--port",
            "9080",
            "--from",
            from,
            "--to",
            to,
        ]);
        let output = command.arg("--file").arg(&self.mesh).output()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        ensure!(!text.is_empty(), "no answer: {}", String::from_utf8_lossy(&output.stderr));
        Ok(text)
    }

    /// The program.
    pub(super) fn ringway(&self) -> &Path {
        &self.ringway
    }

    /// What `ringway canary` says of v1 and v2, asked where a waypoint is.
    pub(super) fn judge_canary(&self, place: &str) -> Result<String> {
        let mut command = Command::new(&self.ringway);
        command.args(["canary", "--baseline", "v1", "--canary", "v2", "--service", "reviews"]);
        command.args(["--duration", "2s", "--interval", "500ms", "--min-requests", "1"]);
        let output = self.lab.namespace(place).enter(|| command.output())??;
        let complaint = String::from_utf8_lossy(&output.stderr);
        // A verdict, whichever: two seconds are few.
        ensure!(matches!(output.status.code(), Some(0..=2)), "{}: {complaint}", output.status);
        let told = String::from_utf8_lossy(&output.stdout);
        Ok(told.lines().map(|line| format!("       {}\n", line.replace('\t', "  "))).collect())
    }

    /// Copies all logs to `folder`.
    pub(super) fn keep_logs(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(self.lab.directory())?.flatten() {
            if entry.path().extension().is_some_and(|ending| ending == "log") {
                fs::copy(entry.path(), folder.join(entry.file_name()))?;
            }
        }
        Ok(())
    }

    /// All packet filter rules of a namespace, as text.
    pub(super) fn rules(&self, name: &str) -> String {
        let list = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments);
            let output = self.lab.namespace(name).enter(|| command.output()).ok()?.ok()?;
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let nft = list("nft", &["list", "ruleset"]).unwrap_or_default();
        nft + &list("iptables-save", &[]).unwrap_or_default()
    }

    /// The ids of the applications, to see that they are the same ones throughout.
    pub(super) fn application_ids(&mut self) -> Vec<u32> {
        let alive = |process: &mut Process| process.is_running().then(|| process.id());
        self.applications.iter_mut().filter_map(|(_, process)| alive(process)).collect()
    }

    fn start_application(&self, pod: &str) -> Result<Process> {
        let (kind, version) = pod.rsplit_once('-').expect("names are kind-version");
        let name = format!("app-{pod}");
        self.start_bench(
            pod,
            &name,
            &[
                "app",
                kind,
                "--pod",
                pod,
                "--version",
                version,
                "--details",
                "10.96.0.11:9080",
                "--reviews",
                "10.96.0.12:9080",
                "--ratings",
                "10.96.0.13:9080",
            ],
        )
    }

    /// Makes service addresses lead somewhere on a host without a mesh, as kube-proxy would.
    fn add_service_addresses(&self, host: &str) -> Result<()> {
        let mut nft =
            "table ip demo {\n chain services {\n  type nat hook prerouting priority dstnat;\n"
                .to_owned();
        let mut iptables = "*nat\n".to_owned();
        for (from, to) in SERVICES {
            nft.push_str(&format!("  ip daddr {from} dnat to {to}\n"));
            iptables.push_str(&format!("-A PREROUTING -d {from} -j DNAT --to-destination {to}\n"));
        }
        nft.push_str(" }\n}\n");
        iptables.push_str("COMMIT\n");
        self.feed(host, "nft", &["-f", "-"], &nft)
            .or_else(|_| self.feed(host, "iptables-restore", &["--noflush"], &iptables))
            .context("neither nft nor iptables-restore works here")
    }

    fn feed(&self, place: &str, program: &str, arguments: &[&str], text: &str) -> Result<()> {
        use std::io::Write;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = self.lab.namespace(place).enter(|| command.spawn())??;
        child.stdin.take().expect("stdin is piped").write_all(text.as_bytes())?;
        ensure!(child.wait()?.success(), "{program} refused the rules");
        Ok(())
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let entries =
        fs::read_dir(from).with_context(|| format!("no example at {}", from.display()))?;
    for entry in entries.flatten().filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// A file appears whole or not at all.
pub(super) fn replace(path: &Path, text: &str) -> Result<()> {
    let next = path.with_extension("next");
    fs::write(&next, text)?;
    Ok(fs::rename(next, path)?)
}
