//! The mesh most tests use: two hosts, a proxy on each, and pods with and without it.
//!
//! | pod       | host   | address   | in the mesh                                        |
//! |-----------|--------|-----------|----------------------------------------------------|
//! | client    | host-a | 10.1.0.10 | yes                                                |
//! | neighbour | host-a | 10.1.0.11 | yes                                                |
//! | server    | host-b | 10.2.0.10 | yes, behind the service                            |
//! | server-2  | host-b | 10.2.0.11 | yes, behind the service                            |
//! | late      | host-b | 10.2.0.12 | only when a test says so                           |
//! | peer      | host-b | 10.2.0.20 | yes, but served by something else than Ringway     |
//! | stranger  | host-a | 10.1.0.99 | no                                                 |
//! | legacy    | host-b | 10.2.0.99 | no                                                 |

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use ringway_bench::handover::hand_over;
use ringway_bench::lab::{Lab, Namespace, Process, Program, wait_until};
use ringway_bench::pki::Leaf;
use ringway_bench::relay::Files;

use super::{
    CONTROL_PLANE, CONTROL_PLANE_ON_EPOLL, Metrics, PATIENCE, Record, SpiffeAgents, TestPlane,
    echo_once, http_get,
};

/// The address of the service in front of server and server-2: port 80 leads to their port 8080.
pub(crate) const SERVICE: &str = "10.96.0.1:80";

const PODS: [(&str, &str, [u8; 4]); 8] = [
    ("client", "host-a", [10, 1, 0, 10]),
    ("neighbour", "host-a", [10, 1, 0, 11]),
    ("server", "host-b", [10, 2, 0, 10]),
    ("server-2", "host-b", [10, 2, 0, 11]),
    ("late", "host-b", [10, 2, 0, 12]),
    ("peer", "host-b", [10, 2, 0, 20]),
    ("stranger", "host-a", [10, 1, 0, 99]),
    ("legacy", "host-b", [10, 2, 0, 99]),
];

/// Said for the whole mesh.
const PERMISSIVE: &str = "---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: PERMISSIVE}}
";

/// What a test wants to be different.
#[derive(Clone)]
pub(crate) struct MeshBuilder {
    reactor: String,
    control_plane: bool,
    own_authority: bool,
    /// How long certificates of the hosts' SPIFFE agents live, when there are such.
    workload_api: Option<Duration>,
    leaf_lifetime: String,
    drain_deadline: String,
    late: bool,
    other_root: bool,
    impostor: bool,
    limits: String,
    /// What the proxies are started by.
    wrapper: Vec<String>,
    hardening: String,
    redirect: String,
    dedicated: bool,
    permissive: bool,
    policies: String,
    cores: Option<u32>,
    service_manager: bool,
    /// Name servers of both hosts, when names are captured.
    name_servers: Option<String>,
    /// Workloads and services instead of those of the table.
    world: Option<String>,
    /// The networks the hosts are in, each in its own.
    networks: Option<[&'static str; 2]>,
    /// Further variables of proxies in ztunnel's place.
    environment: Vec<(&'static str, String)>,
}

/// Two hosts and their proxies, running.
pub(crate) struct Mesh {
    pub(crate) a: Proxy,
    pub(crate) b: Proxy,
    /// When the mesh has one.
    plane: Option<TestPlane>,
    /// When it signs apart from the plane.
    authority: Option<TestPlane>,
    /// When the hosts have them.
    pub(crate) spiffe: Option<SpiffeAgents>,
    pub(crate) lab: Lab,
    pub(crate) settings: MeshBuilder,
}

/// A proxy of one host.
pub(crate) struct Proxy {
    pub(crate) process: Process,
    host: String,
}

impl Mesh {
    /// With nothing different.
    pub(crate) fn start(reactor: &str) -> Mesh {
        Mesh::with(reactor).start()
    }

    /// With something different. Under a control plane, the reactor is the default.
    pub(crate) fn with(reactor: &str) -> MeshBuilder {
        let (control_plane, reactor) = match reactor {
            CONTROL_PLANE => (true, "auto"),
            CONTROL_PLANE_ON_EPOLL => (true, "epoll"),
            reactor => (false, reactor),
        };
        MeshBuilder {
            reactor: reactor.to_owned(),
            control_plane,
            own_authority: false,
            workload_api: None,
            leaf_lifetime: "24h".to_owned(),
            drain_deadline: "20s".to_owned(),
            late: false,
            other_root: false,
            impostor: false,
            limits: "{}".to_owned(),
            wrapper: Vec::new(),
            hardening: "auto".to_owned(),
            redirect: "auto".to_owned(),
            dedicated: false,
            permissive: false,
            policies: String::new(),
            cores: None,
            service_manager: false,
            name_servers: None,
            world: None,
            networks: None,
            environment: Vec::new(),
        }
    }

    /// A pod's or host's namespace.
    pub(crate) fn at(&self, name: &str) -> &Namespace {
        self.lab.namespace(name)
    }

    /// A port of a pod.
    pub(crate) fn address(&self, name: &str, port: u16) -> SocketAddr {
        SocketAddr::new(self.at(name).address(), port)
    }

    /// The control plane.
    ///
    /// # Panics
    /// When the mesh has none.
    pub(crate) fn plane(&self) -> &TestPlane {
        self.plane.as_ref().expect("a mesh under a control plane")
    }

    /// Who signs, when that is not the control plane.
    ///
    /// # Panics
    /// When it is.
    pub(crate) fn authority(&self) -> &TestPlane {
        self.authority.as_ref().expect("a mesh with an authority of its own")
    }

    /// The SPIFFE agents of both hosts.
    ///
    /// # Panics
    /// When they have none.
    pub(crate) fn spiffe(&self) -> &SpiffeAgents {
        self.spiffe.as_ref().expect("a mesh with SPIFFE agents")
    }

    /// The file that both proxies read.
    pub(crate) fn file(&self) -> PathBuf {
        self.lab.directory().join("mesh.yaml")
    }

    /// Writes a new configuration in place of the old one, the way editors do.
    pub(crate) fn rewrite(&self, text: &str) {
        let next = self.file().with_extension("next");
        fs::write(&next, text).unwrap();
        fs::rename(next, self.file()).unwrap();
    }

    /// Starts a proxy again, after it was stopped or killed.
    pub(crate) fn restart(&mut self, host: &str) {
        let proxy = self.settings.run(&self.lab, host);
        match host {
            "host-a" => self.a = proxy,
            _ => self.b = proxy,
        }
    }

    /// Starts the second host's proxy again, by this command, after it was stopped. When it ends before it is ready: how, and
    /// what it said.
    pub(crate) fn try_restart(&mut self, command: &[&str]) -> Option<(ExitStatus, String)> {
        let mut proxy = self.settings.clone().wrapper(command).launch(&self.lab, "host-b");
        let address = SocketAddr::from(([127, 0, 0, 1], 15021));
        let place = self.lab.namespace("host-b");
        let ready = || matches!(http_get(place, address, "/healthz/ready"), Ok((200, _)));
        wait_until("the proxy is ready, or has ended", PATIENCE, || {
            !proxy.process.is_running() || ready()
        })
        .unwrap_or_else(|error| panic!("{error}: {}", proxy.process.log()));
        if !proxy.process.is_running() {
            return Some((proxy.process.wait(PATIENCE).unwrap(), proxy.process.log()));
        }
        self.b = proxy;
        None
    }

    /// Has what starts when a proxy hands over be `program` from now on.
    pub(crate) fn replace_program(&self, with: &Path) {
        let next = program(&self.lab).with_extension("next");
        std::os::unix::fs::symlink(with, &next).unwrap();
        fs::rename(next, program(&self.lab)).unwrap();
    }

    /// Has what starts be a script, which finds Ringway itself in `$RINGWAY`.
    pub(crate) fn replace_program_by_script(&self, script: &str) {
        let file = self.lab.directory().join("script");
        let ringway = env!("CARGO_BIN_EXE_ringway");
        fs::write(&file, format!("#!/bin/sh\nRINGWAY={ringway}\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        self.replace_program(&file);
    }

    /// Certificate files of an identity under the mesh's root, for something that is not Ringway.
    pub(crate) fn certificate(&self, identity: &str) -> Files {
        let authority = self.lab.directory().join("ca");
        let name = self.lab.directory().join(identity.replace(['/', ':', '.'], "-"));
        let leaf = Leaf {
            name: name.clone(),
            root: authority.join("root-cert.pem"),
            root_key: authority.join("root-key.pem"),
            identity: identity.to_owned(),
        };
        leaf.write().unwrap();
        Files {
            certificate: name.with_extension("pem"),
            key: name.with_extension("key"),
            roots: authority.join("root-cert.pem"),
        }
    }

    /// Fails unless a connection from client to the echo on `port` of server works.
    pub(crate) fn assert_works(&self, port: u16) {
        echo_once(self.at("client"), self.address("server", port))
            .unwrap_or_else(|error| panic!("client cannot reach server any more: {error}"));
    }
}

impl MeshBuilder {
    pub(crate) fn leaf_lifetime(mut self, lifetime: &str) -> MeshBuilder {
        self.leaf_lifetime = lifetime.to_owned();
        self
    }

    pub(crate) fn drain_deadline(mut self, deadline: &str) -> MeshBuilder {
        self.drain_deadline = deadline.to_owned();
        self
    }

    /// The pod `late` is a workload, too.
    pub(crate) fn late(mut self) -> MeshBuilder {
        self.late = true;
        self
    }

    /// The proxy of host-b has a root of its own.
    pub(crate) fn other_root(mut self) -> MeshBuilder {
        self.other_root = true;
        self
    }

    /// Host-b gives the pod `server` another identity than host-a expects.
    pub(crate) fn impostor(mut self) -> MeshBuilder {
        self.impostor = true;
        self
    }

    /// The proxies may open this many descriptors.
    pub(crate) fn descriptors(self, most: u32) -> MeshBuilder {
        self.wrapper(&["prlimit", &format!("--nofile={most}:{most}")])
    }

    /// The proxies are started by this command, which becomes them.
    pub(crate) fn wrapper(mut self, command: &[&str]) -> MeshBuilder {
        self.wrapper = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    pub(crate) fn hardening(mut self, how: &str) -> MeshBuilder {
        self.hardening = how.to_owned();
        self
    }

    /// `limits` of both Node documents.
    pub(crate) fn limits(mut self, limits: &str) -> MeshBuilder {
        self.limits = limits.to_owned();
        self
    }

    pub(crate) fn redirect(mut self, how: &str) -> MeshBuilder {
        self.redirect = how.to_owned();
        self
    }

    /// The proxies tell a service manager, at [`notify_socket`].
    pub(crate) fn service_manager(mut self) -> MeshBuilder {
        self.service_manager = true;
        self
    }

    /// Workloads' names are asked of the proxies, which ask whom this `resolv.conf` says.
    pub(crate) fn names(mut self, resolv_conf: &str) -> MeshBuilder {
        self.name_servers = Some(resolv_conf.to_owned());
        self
    }

    /// The name servers of the hosts themselves are those of this `resolv.conf`: the proxies alone see it in place of the real one.
    pub(crate) fn names_of_hosts(self, resolv_conf: &str) -> MeshBuilder {
        let script = format!(
            "mount -t tmpfs tmpfs /mnt && printf '{}' > /mnt/names && mount --bind /mnt/names /etc/resolv.conf && exec \"$@\"",
            resolv_conf.replace('\n', "\\n")
        );
        self.wrapper(&["unshare", "--mount", "sh", "-c", &script, "sh"])
    }

    /// The proxies have this many shards.
    pub(crate) fn cores(mut self, cores: u32) -> MeshBuilder {
        self.cores = Some(cores);
        self
    }

    /// With these workloads and services, as ztunnel's local file has them. Of the table remains which pods there are,
    /// where, and which of them are captured.
    pub(crate) fn world(mut self, world: &str) -> MeshBuilder {
        self.world = Some(world.to_owned());
        self
    }

    /// The hosts are in different networks.
    pub(crate) fn networks(mut self, of_a: &'static str, of_b: &'static str) -> MeshBuilder {
        self.networks = Some([of_a, of_b]);
        self
    }

    /// Proxies in ztunnel's place have this variable, too.
    pub(crate) fn environment(mut self, name: &'static str, value: &str) -> MeshBuilder {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// The control plane does not sign; a process of its own does.
    pub(crate) fn own_authority(mut self) -> MeshBuilder {
        self.own_authority = true;
        self
    }

    /// Identities come from a SPIFFE agent on each host; certificates live for so long.
    pub(crate) fn workload_api(mut self, leaf_lifetime: Duration) -> MeshBuilder {
        self.workload_api = Some(leaf_lifetime);
        self
    }

    /// Instead of one proxy per host: one in the namespace of client and one in that of server.
    pub(crate) fn dedicated(mut self) -> MeshBuilder {
        self.dedicated = true;
        self
    }

    /// Workloads are reached by clients without an identity, too.
    pub(crate) fn permissive(mut self) -> MeshBuilder {
        self.permissive = true;
        self
    }

    /// With these documents.
    pub(crate) fn policies(mut self, documents: &str) -> MeshBuilder {
        self.policies = documents.to_owned();
        self
    }

    /// Builds the laboratory, starts both proxies, waits until both are ready.
    pub(crate) fn start(self) -> Mesh {
        let mut lab = Lab::unique().unwrap();
        for host in ["host-a", "host-b"] {
            lab.add_host(host).unwrap();
        }
        for (pod, host, address) in PODS {
            lab.add_pod(host, pod, address.into()).unwrap();
        }
        if let Some(servers) = &self.name_servers {
            fs::write(lab.directory().join("resolv.conf"), servers).unwrap();
        }
        fs::write(lab.directory().join("mesh.yaml"), self.configuration(&lab)).unwrap();
        let plane = self.control_plane.then(|| TestPlane::start(&mut lab));
        let authority = plane.as_ref().filter(|_| self.own_authority);
        let authority = authority.map(|plane| plane.start_authority(&mut lab));
        let spiffe = self.workload_api.map(|leaf_lifetime| {
            let accounts = ["host-a", "host-b"].map(|host| (host, self.accounts(host)));
            SpiffeAgents::start(&lab, &accounts, leaf_lifetime)
        });
        let (mut a, mut b) = (self.launch(&lab, "host-a"), self.launch(&lab, "host-b"));
        a.wait_until_ready(&lab);
        b.wait_until_ready(&lab);
        Mesh { a, b, plane, authority, spiffe, lab, settings: self }
    }

    /// The configuration of both hosts.
    pub(crate) fn configuration(&self, lab: &Lab) -> String {
        let mut text = self.policies.clone();
        if self.permissive {
            text.push_str(PERMISSIVE);
        }
        for host in ["host-a", "host-b"] {
            text.push_str(&format!(
                "---\napiVersion: ringway.dev/v1alpha1\nkind: Node\nmetadata:\n  name: {host}\n\
                 spec:\n  reactor: {}\n  pinCores: false\n  drainDeadline: {}\n  hardening: {}\n  redirect: {}\n  \
                 limits: {}\n  certificateAuthority: {{{}}}\n",
                self.reactor,
                self.drain_deadline,
                self.hardening,
                self.redirect,
                self.limits,
                self.authority_of(lab, host)
            ));
            if self.name_servers.is_some() {
                text.push_str("  dns: {capture: true, resolvConf: resolv.conf}\n");
            }
            if let Some(network) = self.network(host) {
                text.push_str(&format!("  network: {network}\n"));
            }
            text.push_str(&self.workloads(lab, host));
        }
        if let Some(world) = &self.world {
            text.push_str("---\n");
            text.push_str(world);
            return text;
        }
        text.push_str(
            "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: server\nspec:\n  \
             clusterIP: 10.96.0.1\n  selector:\n    app: server\n  ports:\n  - port: 80\n    \
             targetPort: 8080\n",
        );
        for (pod, host, address) in PODS.iter().filter(|(pod, ..)| self.in_mesh(pod)) {
            let [a, b, c, d] = address;
            let account = self.account(pod);
            let redirected = if *pod == "peer" {
                "  annotations:\n    ambient.istio.io/redirection: enabled\n"
            } else {
                ""
            };
            text.push_str(&format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {pod}\n  labels:\n    \
                 app: {account}\n    version: v1\n{redirected}spec:\n  nodeName: {host}\n  \
                 serviceAccountName: {account}\nstatus:\n  podIP: {a}.{b}.{c}.{d}\n"
            ));
        }
        text
    }

    fn authority_of(&self, lab: &Lab, host: &str) -> String {
        if self.workload_api.is_some() {
            return format!("workloadApi: 'unix://{}'", SpiffeAgents::socket(lab, host).display());
        }
        let directory = if host == "host-b" && self.other_root { "other-ca" } else { "ca" };
        format!("directory: {directory}, leafLifetime: {}", self.leaf_lifetime)
    }

    fn network(&self, host: &str) -> Option<&'static str> {
        self.networks.map(|[of_a, of_b]| if host == "host-a" { of_a } else { of_b })
    }

    fn workloads(&self, lab: &Lab, host: &str) -> String {
        let captured = PODS
            .iter()
            .filter(|(pod, place, _)| *place == host && *pod != "peer" && self.in_mesh(pod));
        if self.dedicated {
            let only = if host == "host-a" { "client" } else { "server" };
            return format!(
                "  mode: dedicated\n  packetMark: 1337\n  workloads:\n  - name: {only}\n"
            );
        }
        let mut text = "  workloads:\n".to_owned();
        for (pod, ..) in captured {
            let path = lab.namespace(pod).path().display();
            text.push_str(&format!("  - name: {pod}\n    networkNamespace: {path}\n"));
        }
        text
    }

    /// The service accounts of a host's workloads.
    fn accounts(&self, host: &str) -> Vec<&'static str> {
        let pods = PODS.iter().filter(|(pod, place, _)| *place == host && self.in_mesh(pod));
        pods.map(|(pod, ..)| self.account(pod)).collect()
    }

    fn in_mesh(&self, pod: &str) -> bool {
        !matches!(pod, "stranger" | "legacy") && (pod != "late" || self.late)
    }

    fn account<'p>(&self, pod: &'p str) -> &'p str {
        if pod == "server-2" { "server" } else { pod }
    }

    fn run(&self, lab: &Lab, host: &str) -> Proxy {
        let mut proxy = self.launch(lab, host);
        proxy.wait_until_ready(lab);
        proxy
    }

    /// A second proxy of `host`, which lives in the namespace of `place`.
    pub(crate) fn run_beside(&self, lab: &Lab, host: &str, place: &str) -> Proxy {
        let mut proxy = self.launch_in(lab, host, place);
        proxy.wait_until_ready(lab);
        proxy
    }

    fn launch(&self, lab: &Lab, host: &str) -> Proxy {
        let place = match (self.dedicated, host) {
            (false, host) => host,
            (true, "host-a") => "client",
            (true, _) => "server",
        };
        self.launch_in(lab, host, place)
    }

    fn launch_in(&self, lab: &Lab, host: &str, place: &str) -> Proxy {
        let mut file = lab.directory().join("mesh.yaml");
        if self.impostor && host == "host-b" {
            let text = fs::read_to_string(&file).unwrap();
            file = lab.directory().join("impostor.yaml");
            let wrong = text.replace("serviceAccountName: server\n", "serviceAccountName: thief\n");
            fs::write(&file, wrong).unwrap();
        }
        // By a link of the laboratory's own: what it leads to can be changed while the proxy runs.
        let ringway = program(lab);
        if !ringway.exists() {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ringway"), &ringway).unwrap();
        }
        let program = match self.wrapper.split_first() {
            Some((command, arguments)) => {
                Program::new(command).arguments(arguments).argument(ringway)
            }
            None => Program::new(ringway),
        };
        let program = if self.control_plane {
            self.in_the_place_of_ztunnel(program, lab, host, place)
        } else {
            program.arguments(["run", "--node", host, "--file"]).argument(&file)
        };
        let program = match self.cores {
            Some(cores) => program.environment("RINGWAY_CORES", cores.to_string()),
            None => program,
        };
        let program = match self.service_manager {
            true => program.environment("NOTIFY_SOCKET", notify_socket(lab)),
            false => program,
        };
        let process = lab.start(place, &format!("ringway-{place}"), &program).unwrap();
        Proxy { process, host: place.to_owned() }
    }
}

impl MeshBuilder {
    /// With ztunnel's arguments and environment.
    fn in_the_place_of_ztunnel(
        &self,
        program: Program,
        lab: &Lab,
        host: &str,
        place: &str,
    ) -> Program {
        let state = lab.directory().join(format!("state-{place}"));
        let mut environment = TestPlane::environment(lab, host);
        environment.extend(self.network(host).map(|network| ("NETWORK", network.to_owned())));
        if self.own_authority {
            environment.extend(TestPlane::environment_of_authority(lab));
        }
        // The last word wins.
        environment.extend(self.environment.iter().cloned());
        environment
            .into_iter()
            .fold(program, |program, (name, value)| program.environment(name, value))
            .environment("SECRET_TTL", &self.leaf_lifetime)
            .environment("CONNECTION_TERMINATION_DEADLINE", &self.drain_deadline)
            .environment("RINGWAY_REACTOR", &self.reactor)
            .environment("RINGWAY_HARDENING", &self.hardening)
            .environment("RINGWAY_STATE_DIRECTORY", state)
            .arguments(["proxy", "ztunnel"])
    }
}

/// Where proxies with a service manager expect it.
pub(crate) fn notify_socket(lab: &Lab) -> PathBuf {
    lab.directory().join("notify")
}

/// The program of a laboratory's proxies.
fn program(lab: &Lab) -> PathBuf {
    lab.directory().join("ringway")
}

impl Proxy {
    /// A process whose servers are in the namespace of `place`.
    pub(crate) fn new(process: Process, place: &str) -> Proxy {
        Proxy { process, host: place.to_owned() }
    }

    /// Asks for a hand-over and waits until the new process serves; from then on this is the new one. Returns
    /// the old one, which drains.
    pub(crate) fn hand_over(&mut self) -> Process {
        hand_over(&mut self.process, PATIENCE).unwrap_or_else(|error| panic!("{error:#}"))
    }

    pub(crate) fn wait_until_ready(&mut self, lab: &Lab) {
        let address = SocketAddr::from(([127, 0, 0, 1], 15021));
        let place = lab.namespace(&self.host);
        let process = &mut self.process;
        let mut last = String::new();
        let ready = wait_until("the proxy is ready", PATIENCE, || {
            assert!(process.is_running(), "the proxy ended:\n{}", process.log());
            match http_get(place, address, "/healthz/ready") {
                Ok((200, _)) => true,
                other => {
                    last = format!("{other:?}");
                    false
                }
            }
        });
        ready.unwrap_or_else(|error| panic!("{error}: {last}\n{}", self.process.log()));
    }

    /// What it tells at this moment.
    pub(crate) fn metrics(&self, lab: &Lab) -> Metrics {
        let address = SocketAddr::from(([127, 0, 0, 1], 15020));
        let (status, text) = http_get(lab.namespace(&self.host), address, "/metrics").unwrap();
        assert_eq!(status, 200, "{text}");
        Metrics::parse(&text)
    }

    /// Waits for the first access record that `fits`.
    pub(crate) fn record(&self, what: &str, fits: impl Fn(&Record) -> bool) -> Record {
        let mut found = None;
        let seen = wait_until(what, PATIENCE, || {
            found = Record::all(&self.process.log()).into_iter().find(&fits);
            found.is_some()
        });
        seen.unwrap_or_else(|error| panic!("{error}\n{}", self.process.log()));
        found.expect("it was just seen")
    }

    /// Access records so far that `fit`.
    pub(crate) fn records(&self, fits: impl Fn(&Record) -> bool) -> usize {
        Record::all(&self.process.log()).iter().filter(|record| fits(record)).count()
    }

    /// Waits until the log says `text`.
    pub(crate) fn wait_for_log(&mut self, text: &str) {
        self.process.wait_for_log(text, PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Ends it gracefully; it must then exit with 0.
    pub(crate) fn stop(&mut self) {
        let status = self.process.terminate(Duration::from_secs(30)).unwrap();
        assert!(status.success(), "{status}:\n{}", self.process.log());
    }
}
