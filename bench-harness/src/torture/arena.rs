//! Where a row takes place: two hosts with a proxy each, and pods in and beside the mesh.
//!
//! | pod       | host   | address   | in the mesh | serves 8080 |
//! |-----------|--------|-----------|-------------|-------------|
//! | client    | host-a | 10.1.0.10 | yes         |             |
//! | neighbour | host-a | 10.1.0.11 | yes         |             |
//! | stranger  | host-a | 10.1.0.99 | no          |             |
//! | server    | host-b | 10.2.0.10 | yes         | null server |
//! | server-2  | host-b | 10.2.0.11 | yes         | null server |
//! | legacy    | host-b | 10.2.0.99 | no          | null server |

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::trial::{Settings, Trial};
use crate::http::get_from;
use crate::lab::{Lab, Namespace, Process, Program, wait_until};
use crate::measure;
use crate::observe::Metrics;
use crate::pki::Leaf;
use crate::relay::Files;

/// Nothing that must happen takes longer, even on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Where the null servers listen.
pub(super) const SERVED: u16 = 8080;
/// The port of tunnels.
pub(super) const TUNNEL: u16 = 15008;
/// The two hosts, and the names of their Nodes.
pub(super) const HOSTS: [&str; 2] = ["host-a", "host-b"];

const PODS: [(&str, &str, [u8; 4]); 6] = [
    ("client", "host-a", [10, 1, 0, 10]),
    ("neighbour", "host-a", [10, 1, 0, 11]),
    ("stranger", "host-a", [10, 1, 0, 99]),
    ("server", "host-b", [10, 2, 0, 10]),
    ("server-2", "host-b", [10, 2, 0, 11]),
    ("legacy", "host-b", [10, 2, 0, 99]),
];

/// How the proxies of an arena are set up.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    reactor: &'static str,
    ringway: PathBuf,
    own: PathBuf,
    leaf_lifetime: String,
    drain_deadline: String,
    log_level: String,
    /// What stands before the program on a host's command line.
    wrappers: Vec<(&'static str, Vec<String>)>,
    environment: Vec<(String, String)>,
    without: Option<&'static str>,
    documents: String,
    version: u32,
}

impl Plan {
    /// As a mesh comes, without a line for every connection.
    pub(super) fn new(settings: &Settings) -> Plan {
        Plan {
            reactor: settings.reactor.name(),
            ringway: settings.ringway.clone(),
            own: settings.own.clone(),
            leaf_lifetime: "24h".to_owned(),
            drain_deadline: "5s".to_owned(),
            log_level: "info,access=off".to_owned(),
            wrappers: Vec::new(),
            environment: Vec::new(),
            without: None,
            documents: String::new(),
            version: 0,
        }
    }

    /// Certificates of workloads live for so long.
    pub(super) fn leaf_lifetime(mut self, lifetime: &str) -> Plan {
        self.leaf_lifetime = lifetime.to_owned();
        self
    }

    /// What is logged.
    pub(super) fn log_level(mut self, level: &str) -> Plan {
        self.log_level = level.to_owned();
        self
    }

    /// How long open connections may go on at the end.
    pub(super) fn drain_deadline(mut self, deadline: &str) -> Plan {
        self.drain_deadline = deadline.to_owned();
        self
    }

    /// Which reactor the configuration asks for.
    pub(super) fn reactor(mut self, reactor: &'static str) -> Plan {
        self.reactor = reactor;
        self
    }

    /// The proxy of `host` is started by this program.
    pub(super) fn wrapped(mut self, host: &'static str, wrapper: &[&str]) -> Plan {
        let wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self.wrappers.push((host, wrapper));
        self
    }

    /// Both proxies have this in their environment.
    pub(super) fn environment(mut self, name: &str, value: &str) -> Plan {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// This pod is not in the mesh.
    pub(super) fn without(mut self, pod: &'static str) -> Plan {
        self.without = Some(pod);
        self
    }

    /// Further documents of the configuration.
    pub(super) fn documents(mut self, documents: &str) -> Plan {
        self.documents = documents.to_owned();
        self
    }

    /// A configuration that differs from that of the version before in the label of every workload
    /// and in whether there is one more.
    pub(super) fn version(mut self, version: u32) -> Plan {
        self.version = version;
        self
    }

    fn configuration(&self, lab: &Lab) -> String {
        let mut text = String::new();
        for host in HOSTS {
            text.push_str(&format!(
                "---\napiVersion: ringway.dev/v1alpha1\nkind: Node\nmetadata: {{name: {host}}}\n\
                 spec:\n  reactor: {}\n  pinCores: false\n  drainDeadline: {}\n  \
                 certificateAuthority: {{directory: ../ca, leafLifetime: {}}}\n  \
                 log: {{level: \"{}\"}}\n  workloads:\n",
                self.reactor, self.drain_deadline, self.leaf_lifetime, self.log_level
            ));
            for (pod, place, _) in PODS {
                if place == host && self.has(pod) {
                    let path = lab.namespace(pod).path().display();
                    text.push_str(&format!("  - {{name: {pod}, networkNamespace: {path}}}\n"));
                }
            }
        }
        for (pod, host, [a, b, c, d]) in PODS.into_iter().filter(|(pod, ..)| self.has(pod)) {
            text.push_str(&format!(
                "---\napiVersion: v1\nkind: Pod\n\
                 metadata: {{name: {pod}, labels: {{app: {pod}, version: \"{}\"}}}}\n\
                 spec: {{serviceAccountName: {pod}, nodeName: {host}}}\n\
                 status: {{podIP: {a}.{b}.{c}.{d}}}\n",
                self.version
            ));
        }
        if self.version % 2 == 1 {
            text.push_str(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {name: guest, annotations: \
                 {ambient.istio.io/redirection: enabled}}\n\
                 spec: {serviceAccountName: guest, nodeName: elsewhere}\n\
                 status: {podIP: 10.9.0.9}\n",
            );
        }
        text + &self.documents
    }

    fn program(&self, host: &str, file: &Path) -> Program {
        let wrapper = self.wrappers.iter().find(|(wrapped, _)| *wrapped == host);
        let program = match wrapper.map(|(_, words)| &words[..]) {
            Some([program, arguments @ ..]) => {
                Program::new(program).arguments(arguments).argument(&self.ringway)
            }
            _ => Program::new(&self.ringway),
        };
        let program = program.arguments(["run", "--node", host, "--file"]).argument(file);
        self.environment
            .iter()
            .fold(program, |program, (name, value)| program.environment(name, value))
    }

    fn has(&self, pod: &str) -> bool {
        !matches!(pod, "stranger" | "legacy") && self.without != Some(pod)
    }
}

/// A proxy of one host.
pub(super) struct Proxy {
    pub(super) process: Process,
    host: &'static str,
    started: Instant,
    ready_after: Duration,
}

/// Two hosts, their pods, servers and proxies.
pub(super) struct Arena {
    pub(super) a: Proxy,
    pub(super) b: Proxy,
    _servers: Vec<Process>,
    plan: Plan,
    // Last: what runs in it ends before it.
    pub(super) lab: Lab,
}

impl Arena {
    /// With nothing different.
    pub(super) fn usual(trial: &Trial<'_>) -> Result<Arena> {
        Arena::start(Plan::new(trial.settings))
    }

    /// Builds the hosts, starts servers and both proxies, waits until all are ready.
    pub(super) fn start(plan: Plan) -> Result<Arena> {
        let mut lab = Lab::unique()?;
        for host in HOSTS {
            lab.add_host(host)?;
        }
        for (pod, host, address) in PODS {
            lab.add_pod(host, pod, address.into())?;
            // Ports of closed connections are free again at once: there are many.
            let place = lab.namespace(pod);
            place.set_sysctl("net/ipv4/tcp_max_tw_buckets", "100")?;
            place.set_sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
        }
        // A folder of its own: proxies wait until nothing changes beside their file.
        fs::create_dir(lab.directory().join("mesh"))?;
        fs::write(lab.directory().join("mesh/mesh.yaml"), plan.configuration(&lab))?;
        let mut servers = Vec::new();
        for pod in ["server", "server-2", "legacy"] {
            let serve = Program::new(&plan.own).arguments(["serve", "null", "--listen"]);
            let server = serve.argument(format!("0.0.0.0:{SERVED}"));
            servers.push(lab.start(pod, &format!("null-{pod}"), &server)?);
        }
        for server in &mut servers {
            server.wait_for_log("listening", PATIENCE)?;
        }
        let (mut a, mut b) = (launch(&plan, &lab, HOSTS[0])?, launch(&plan, &lab, HOSTS[1])?);
        a.wait_until_ready(&lab)?;
        b.wait_until_ready(&lab)?;
        let arena = Arena { a, b, _servers: servers, plan, lab };
        let to = arena.address("server", SERVED);
        wait_until("a request passes", PATIENCE, || arena.ask("client", to).is_ok())
            .with_context(|| format!("{}{}", arena.a.tail(), arena.b.tail()))?;
        Ok(arena)
    }

    /// A pod's or host's namespace.
    pub(super) fn at(&self, name: &str) -> &Namespace {
        self.lab.namespace(name)
    }

    /// A port of a pod.
    pub(super) fn address(&self, name: &str, port: u16) -> SocketAddr {
        SocketAddr::new(self.at(name).address(), port)
    }

    /// Connects from a pod, with deadlines on reads and writes.
    pub(super) fn connect(&self, from: &str, to: SocketAddr) -> Result<TcpStream> {
        let stream = self
            .at(from)
            .connect_timeout(to, PATIENCE)
            .with_context(|| format!("cannot connect from {from} to {to}"))?;
        prepare(&stream)?;
        Ok(stream)
    }

    /// Asks a null server for one byte over a connection of its own.
    pub(super) fn ask(&self, from: &str, to: SocketAddr) -> Result<()> {
        let (status, body) = get_from(self.at(from), to, "/bytes/1")?;
        ensure!(status == 200 && body.len() == 1, "{to} answers {status} and {body:?}");
        Ok(())
    }

    /// Puts a configuration in place of the one before, the way editors do.
    pub(super) fn rewrite(&self, plan: &Plan) -> Result<()> {
        let file = self.file();
        let next = file.with_extension("next");
        fs::write(&next, plan.configuration(&self.lab))?;
        fs::rename(next, file).context("cannot rename the configuration")
    }

    /// The configuration of both proxies.
    pub(super) fn file(&self) -> PathBuf {
        self.lab.directory().join("mesh/mesh.yaml")
    }

    /// The folder of the mesh's certificate authority.
    pub(super) fn authority(&self) -> PathBuf {
        self.lab.directory().join("ca")
    }

    /// Takes the pod `neighbour` away as a host does, and starts another, `newcomer`, with its address.
    /// Nobody tells the proxy.
    pub(super) fn replace_neighbour(&mut self) -> Result<()> {
        let index = PODS.iter().position(|(pod, ..)| *pod == "neighbour").context("it is there")?;
        let (_, host, address) = PODS[index];
        let mut ip = Command::new("ip");
        // The hosts number the links of their pods in the order in which they were added.
        ip.args(["-n", self.at(host).name(), "link", "del", &format!("pod{}", index + 1)]);
        ensure!(ip.status()?.success(), "the neighbour's link cannot be taken away");
        self.lab.remove("neighbour")?;
        self.lab.add_pod(host, "newcomer", address.into())
    }

    /// What both proxies were started with.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Starts the proxy of a host again, after it has ended.
    pub(super) fn restart(&mut self, host: &str) -> Result<()> {
        let known = HOSTS.into_iter().find(|known| *known == host).context("no such host")?;
        let mut proxy = launch(&self.plan, &self.lab, known)?;
        proxy.wait_until_ready(&self.lab)?;
        *(if known == HOSTS[0] { &mut self.a } else { &mut self.b }) = proxy;
        Ok(())
    }

    /// Certificate files of a workload under the mesh's root, for something that is not Ringway.
    pub(super) fn certificate(&self, account: &str) -> Result<Files> {
        let authority = self.authority();
        let name = self.lab.directory().join(format!("{account}-leaf"));
        let leaf = Leaf {
            name: name.clone(),
            root: authority.join("root-cert.pem"),
            root_key: authority.join("root-key.pem"),
            identity: format!("spiffe://cluster.local/ns/default/sa/{account}"),
        };
        leaf.write()?;
        Ok(Files {
            certificate: name.with_extension("pem"),
            key: name.with_extension("key"),
            roots: authority.join("root-cert.pem"),
        })
    }

    /// Fails unless both proxies still run and carry requests.
    pub(super) fn must_work(&mut self) -> Result<()> {
        for proxy in [&mut self.a, &mut self.b] {
            let host = proxy.host;
            ensure!(proxy.process.is_running(), "the proxy of {host} has ended: {}", proxy.tail());
        }
        self.ask("client", self.address("server", SERVED)).context("no request passes any more")
    }
}

impl Proxy {
    /// Waits until it says that it is ready.
    fn wait_until_ready(&mut self, lab: &Lab) -> Result<()> {
        let ready = SocketAddr::from(([127, 0, 0, 1], 15021));
        let place = lab.namespace(self.host);
        let process = &mut self.process;
        let waited = wait_until("the proxy is ready", PATIENCE, || {
            !process.is_running()
                || get_from(place, ready, "/healthz/ready").is_ok_and(|(code, _)| code == 200)
        });
        waited.with_context(|| self.tail())?;
        ensure!(self.process.is_running(), "the proxy of {} ended: {}", self.host, self.tail());
        self.ready_after = self.started.elapsed();
        Ok(())
    }

    /// From its start until it said that it was ready.
    pub(super) fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// What it counts at this moment.
    pub(super) fn metrics(&self, lab: &Lab) -> Result<Metrics> {
        let address = SocketAddr::from(([127, 0, 0, 1], 15020));
        let (status, text) = get_from(lab.namespace(self.host), address, "/metrics")?;
        ensure!(status == 200, "the metrics of {} answer {status}", self.host);
        Ok(Metrics::parse(&text))
    }

    /// Its processor time so far.
    pub(super) fn processor_time(&self) -> Result<Duration> {
        measure::processor_time(self.process.id())
    }

    /// Its resident memory now.
    pub(super) fn resident_bytes(&self) -> Result<u64> {
        Ok(measure::memory(self.process.id())?.resident_bytes)
    }

    /// Lines it has logged.
    pub(super) fn log_lines(&self) -> usize {
        self.process.log().lines().count()
    }

    /// The last lines of its log.
    pub(super) fn tail(&self) -> String {
        let log = self.process.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(5);
        format!("\n{} said: {}", self.host, lines[from..].join("\n"))
    }
}

/// Puts deadlines on a stream, so that a defect ends a row instead of hanging it.
pub(super) fn prepare(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream.set_nodelay(true)?)
}

fn launch(plan: &Plan, lab: &Lab, host: &'static str) -> Result<Proxy> {
    let program = plan.program(host, &lab.directory().join("mesh/mesh.yaml"));
    let started = Instant::now();
    let process = lab.start(host, &format!("ringway-{host}"), &program)?;
    Ok(Proxy { process, host, started, ready_after: Duration::MAX })
}
