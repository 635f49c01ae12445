//! The bench: two pods with a cable between them, servers in the far one, load in the near one.
//!
//! ```text
//!   near-host                       far-host          node proxies run here
//!     near 10.9.0.1 ── veth ── 10.9.0.2 far           applications, sidecars
//!       load   └─ middle 10.9.2.1 ─┘  servers         a waypoint, where there is one
//!     neighbour 10.9.1.1 ─ veth ─ 10.9.1.2 neighbour-far
//! ```
//!
//! The neighbour's pods are on the same hosts, and share nothing else with the two: who is not asked
//! to serve them ([`Options::neighbour`]) does not know of them.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

use super::{
    Group, Handshakes, Options, Pair, Resumption, Rules, SERVICE, SERVICE_PORTS, Subject, rules,
    tail,
};
use crate::lab::{Lab, Process, Program};
use crate::measure::{Cost, Memory};
use crate::pki;

const PATIENCE: Duration = Duration::from_secs(30);

/// The null server: answers messages and HTTP, takes and sends gigabytes, as each connection begins.
pub const ECHO: &str = "10.9.0.2:8080";

/// Descriptors that a process may have here, where the system lets us choose.
const DESCRIPTORS: u64 = 200_000;

/// The same server in the neighbour's far pod, while an experiment needs it.
pub const NEIGHBOUR_ECHO: &str = "10.9.1.2:8080";

/// All pods.
const PODS: [&str; 5] = ["near", "far", "neighbour", "neighbour-far", "middle"];

/// The two pods and what runs in them whoever is measured.
pub struct Bench {
    /// The namespaces: `near`, `middle`, `far`, `near-host`, `far-host`, `neighbour` and `neighbour-far`.
    pub lab: Lab,
    program: PathBuf,
    servers: Vec<Process>,
    stop: Arc<AtomicBool>,
}

/// What one load was told and what it cost.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What the load program printed.
    pub outcome: Value,
    /// Processor time between the beginning and the end of what the load program counts.
    pub cost: Cost,
    /// Memory of the near and the far side at that end, with all connections open.
    pub memory: [Memory; 2],
}

impl Measured {
    /// A number that the load program printed.
    pub fn number(&self, name: &str) -> Result<f64> {
        self.outcome[name].as_f64().with_context(|| format!("no {name} in {}", self.outcome))
    }
}

impl Bench {
    /// Builds the two pods and starts the servers. `program` is this program; once `stop` is true,
    /// whatever waits ends with an error.
    pub fn build(program: &Path, congestion_control: &str, stop: Arc<AtomicBool>) -> Result<Bench> {
        allow_descriptors()?;
        let mut lab = Lab::unique()?;
        let addresses = [[10, 9, 0, 1], [10, 9, 0, 2], [10, 9, 1, 1], [10, 9, 1, 2], [10, 9, 2, 1]];
        for (name, address) in PODS.into_iter().zip(addresses) {
            lab.add_island(name, Some(Ipv4Addr::from(address)))?;
        }
        for name in ["near-host", "far-host"] {
            lab.add_island(name, None)?;
        }
        lab.join("near", "far", 24)?;
        lab.join("neighbour", "neighbour-far", 24)?;
        lab.cable(("near", "eth1"), ("middle", "eth0"))?;
        lab.cable(("far", "eth1"), ("middle", "eth1"))?;
        lab.set_congestion_control(congestion_control)?;
        for name in PODS {
            // Ports of closed connections are free again at once, or the search for a free one would
            // be what is measured.
            lab.namespace(name).set_sysctl("net/ipv4/tcp_max_tw_buckets", "100")?;
            lab.namespace(name).set_sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
        }
        let mut bench = Bench { lab, program: program.to_owned(), servers: Vec::new(), stop };
        let serve = Program::new(&bench.program).arguments(["serve", "null", "--listen", ECHO]);
        let mut server = bench.lab.start("far", "server", &serve)?;
        server.wait_for_log("listening", PATIENCE)?;
        bench.servers.push(server);
        bench.make_certificates()?;
        Ok(bench)
    }

    /// Puts the subject's rules in place, starts a pair and waits until bytes pass through it.
    pub fn start(&self, subject: &dyn Subject, options: &Options) -> Result<Pair> {
        ensure!(
            options.handshakes == Handshakes::Usual || subject.resumption() == Resumption::Optional,
            "it cannot be told not to resume sessions"
        );
        self.install(subject.rules())?;
        let pair = subject.start(self, options)?;
        self.settled(pair, ECHO)
    }

    /// Puts the subject's rules in place, starts all that stands before the service, and waits until bytes pass.
    pub fn start_before_service(&self, subject: &dyn Subject, rules: u32) -> Result<Pair> {
        self.install(subject.rules())?;
        let pair = subject.start_before_service(self, rules)?;
        self.settled(pair, &self.service(subject, "http1"))
    }

    /// Where the service is that is measured before: the server itself for whom there is no service.
    pub fn service(&self, subject: &dyn Subject, spoken: &str) -> String {
        let port = SERVICE_PORTS.iter().find(|(name, _)| *name == spoken);
        match port {
            Some((_, port)) if subject.group() != Group::Baseline => format!("{SERVICE}:{port}"),
            _ => ECHO.to_owned(),
        }
    }

    /// Waits until bytes pass.
    fn settled(&self, mut pair: Pair, to: &str) -> Result<Pair> {
        let to: SocketAddr = to.parse().expect("an address");
        let began = Instant::now();
        while let Err(error) = self.echo_once(to) {
            self.go_on()?;
            let ended = pair.ended();
            if ended.is_some() || began.elapsed() > PATIENCE {
                let what = ended.unwrap_or_else(|| format!("no bytes pass after {PATIENCE:?}"));
                bail!("{what} ({error}){}", pair.logs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // Let what was needed for starting settle.
        self.sleep(Duration::from_millis(300))?;
        Ok(pair)
    }

    /// Ends a pair and takes its rules away.
    pub fn end(&self, pair: Pair) -> Result<()> {
        pair.stop();
        self.install(Rules::None)
    }

    /// Starts a load program beside the client pod's applications.
    pub fn load(&self, arguments: &[&str]) -> Result<Process> {
        self.load_in("near", "load", arguments)
    }

    /// Starts a load program in a pod; it logs under `name`.
    pub fn load_in(&self, pod: &str, name: &str, arguments: &[&str]) -> Result<Process> {
        let load = Program::new(&self.program).argument("load").arguments(arguments);
        self.lab.start(pod, name, &load)
    }

    /// Starts the server in the neighbour's far pod.
    pub fn serve_neighbour(&self) -> Result<Process> {
        let serve =
            Program::new(&self.program).arguments(["serve", "null", "--listen", NEIGHBOUR_ECHO]);
        let mut server = self.lab.start("neighbour-far", "neighbour-server", &serve)?;
        server.wait_for_log("listening", PATIENCE)?;
        Ok(server)
    }

    /// The pods that a subject started so serves: near and far ones that talk to each other.
    pub fn pairs(options: &Options) -> &'static [[&'static str; 2]] {
        let both: &[[&str; 2]] = &[["near", "far"], ["neighbour", "neighbour-far"]];
        if options.neighbour { both } else { &both[..1] }
    }

    /// Runs a load program that takes `--marks`, reads the clocks at the beginning and the end of
    /// what it counts, and waits for its result.
    pub fn measure(&self, pair: &Pair, arguments: &[&str]) -> Result<Measured> {
        self.measure_while(pair, arguments, || Ok(()))
    }

    /// As [`Bench::measure`], and does something every few milliseconds of what it counts.
    pub fn measure_while(
        &self,
        pair: &Pair,
        arguments: &[&str],
        meanwhile: impl FnMut() -> Result<()>,
    ) -> Result<Measured> {
        let marks = self.lab.directory().join("marks");
        let _ = fs::remove_file(&marks);
        let marks_argument = marks.display().to_string();
        let mut load = self.load(&[arguments, &["--marks", &marks_argument]].concat())?;
        let beside: Vec<u32> = self.servers.iter().map(Process::id).collect();
        self.wait_for_mark(&marks, "start", &mut load, || Ok(()))?;
        let before = pair.clock(&beside)?;
        self.wait_for_mark(&marks, "end", &mut load, meanwhile)?;
        let mut cost = pair.clock(&beside)?.since(&before);
        let memory = pair.memory()?;
        let outcome = self.finish(load)?;
        // The load may have ended before its clock could be read; it tells itself what it took.
        let own = outcome["cpu_seconds"].as_f64().unwrap_or(0.0).max(0.0);
        cost.machine = cost.machine.saturating_sub(Duration::from_secs_f64(own));
        Ok(Measured { outcome, cost, memory })
    }

    /// Waits for a load program and returns what it printed.
    pub fn finish(&self, mut load: Process) -> Result<Value> {
        let began = Instant::now();
        while load.is_running() {
            self.go_on()?;
            ensure!(began.elapsed() < 20 * PATIENCE, "the load program does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
        let status = load.wait(PATIENCE)?;
        let log = load.log();
        ensure!(status.success(), "the load program failed: {}", tail(&log));
        let line = log.lines().rev().find(|line| line.starts_with('{'));
        let line =
            line.with_context(|| format!("the load program told nothing: {}", tail(&log)))?;
        serde_json::from_str(line).with_context(|| format!("the load program printed {line:?}"))
    }

    /// Sleeps, or fails when everything is to stop.
    pub fn sleep(&self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.go_on()?;
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        Ok(())
    }

    /// Fails when everything is to stop.
    pub fn go_on(&self) -> Result<()> {
        ensure!(!self.stop.load(Ordering::Relaxed), "stopped");
        Ok(())
    }

    /// What the kernel tells about the cable and TCP in the pods: sizes, offloads, buffers.
    pub fn network(&self) -> Result<Value> {
        let link = self.tool("near", "ip", &["-d", "-j", "link", "show", "dev", "eth0"], None)?;
        let link: Value = serde_json::from_str(&link).context("`ip -j` printed no JSON")?;
        let mut network = serde_json::Map::new();
        for name in ["mtu", "qdisc", "txqlen", "num_tx_queues", "gso_max_size", "gro_max_size"] {
            network.insert(name.to_owned(), link[0][name].clone());
        }
        let near = self.lab.namespace("near");
        for name in ["tcp_congestion_control", "tcp_rmem", "tcp_wmem", "tcp_max_tw_buckets"] {
            let path = format!("/proc/sys/net/ipv4/{name}");
            let value = near.enter(|| fs::read_to_string(path))?.unwrap_or_default();
            network.insert(
                name.to_owned(),
                value.split_whitespace().collect::<Vec<_>>().join(" ").into(),
            );
        }
        // Where `ethtool` is installed; the rest of what a veth offers.
        if let Ok(offloads) = self.tool("near", "ethtool", &["-k", "eth0"], None) {
            let on = offloads.lines().filter_map(|line| line.trim().strip_suffix(": on"));
            network.insert("offloads".to_owned(), on.collect::<Vec<_>>().into());
        }
        Ok(network.into())
    }

    /// What `near` or `far` is called in certificates.
    pub fn identity(&self, name: &str) -> String {
        format!("spiffe://cluster.local/ns/default/sa/{name}")
    }

    /// The processes of the servers.
    pub fn servers(&self) -> &[Process] {
        &self.servers
    }

    /// Waits until something in a pod listens on a port, without connecting to it.
    pub(super) fn wait_for_port(
        &self,
        place: &str,
        port: u16,
        process: &mut Process,
        patience: Duration,
    ) -> Result<()> {
        let began = Instant::now();
        let filter = format!("sport = :{port}");
        while !self.tool(place, "ss", &["-Htln", &filter], None)?.contains("LISTEN") {
            self.go_on()?;
            let running = process.is_running();
            if !running || began.elapsed() > patience {
                let state = if running { "runs" } else { "has ended" };
                let log = tail(&process.log());
                bail!("the proxy on the {place} side {state} and does not listen on {port}: {log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn wait_for_mark(
        &self,
        marks: &Path,
        mark: &str,
        load: &mut Process,
        mut meanwhile: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let seen = || fs::read_to_string(marks).unwrap_or_default().contains(mark);
        let began = Instant::now();
        while !seen() {
            self.go_on()?;
            if !load.is_running() && !seen() {
                bail!("the load program ended before its {mark}: {}", tail(&load.log()));
            }
            ensure!(began.elapsed() < 20 * PATIENCE, "the load program does not {mark}");
            meanwhile()?;
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Whether an HTTP request over a connection of its own is answered.
    pub(crate) fn echo_once(&self, to: SocketAddr) -> Result<()> {
        let near = self.lab.namespace("near");
        let mut stream = near.connect_timeout(to, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /bytes/1 HTTP/1.1\r\nHost: far\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        let text = String::from_utf8_lossy(&answer);
        ensure!(text == "HTTP/1.1 200", "the answer is {text:?}");
        Ok(())
    }

    fn make_certificates(&self) -> Result<()> {
        let folder = self.lab.directory();
        pki::Root { name: folder.join("root") }.write()?;
        for name in PODS {
            let leaf = pki::Leaf {
                name: folder.join(name),
                root: folder.join("root.pem"),
                root_key: folder.join("root.key"),
                identity: self.identity(name),
            };
            leaf.write()?;
        }
        Ok(())
    }

    fn install(&self, rules: Rules) -> Result<()> {
        self.install_in(&PODS, rules)
    }

    /// Puts rules in place in some of the pods.
    pub(super) fn install_in(&self, places: &[&str], rules: Rules) -> Result<()> {
        for name in places {
            self.tool(name, "nft", &["-f", "-"], Some(&rules.script()))?;
            let routes = |batch| self.tool(name, "ip", &["-force", "-batch", "-"], Some(batch));
            // Fails where nothing was to be taken away.
            let _ = routes(rules::UNROUTE);
            if rules == Rules::Node {
                routes(rules::ROUTE)?;
            }
        }
        Ok(())
    }

    /// Runs a tool in a pod.
    pub(crate) fn tool(
        &self,
        place: &str,
        program: &str,
        arguments: &[&str],
        input: Option<&str>,
    ) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            self.lab.namespace(place).enter(|| command.spawn())?.with_context(|| {
                format!("cannot run `{program}`; on Debian: apt-get install nftables iproute2")
            })?;
        child.stdin.take().expect("stdin is piped").write_all(input.unwrap_or("").as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "{program} {} failed in {place}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// Lets everything that is started here have as many descriptors as the system allows; some subjects
/// do not ask for more than they are given.
pub fn allow_descriptors() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) };
    // More than the hard limit is for a privileged user.
    if limit.maximum.is_none_or(|most| most >= DESCRIPTORS)
        || setrlimit(Resource::Nofile, most).is_err()
    {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
            .context("cannot raise the limit of descriptors")?;
    }
    Ok(())
}
