//! In ztunnel's place: pods come from an agent as descriptors, the redirect rules are the plugin's.
//!
//! The agent is a thread of the test, written from the protocol's description. The mesh is described by a local file, the
//! certificates are the embedded authority's.

use std::fs;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ringway_bench::lab::{Lab, Namespace, Process, Program, wait_until};
use ringway_bench::observe::Record;
use rustix::net::sockopt::Timeout;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};

use crate::on_both_reactors;
use crate::support::{
    Application, CLIENT, PATIENCE, SERVER, assert_cut, connect, dies_without_data, echo_once,
    exchange, http_get, try_connect,
};

on_both_reactors! {
    pods_of_an_agent_talk_in_tunnels_as_who_they_are,
    an_agent_that_is_killed_and_comes_back_costs_no_request,
    what_is_no_pod_is_refused_and_what_is_deleted_is_cut,
    a_pod_nobody_has_told_of_is_served_nothing,
    the_next_process_beside_this_one_costs_no_request,
    a_dedicated_process_serves_its_own_namespace,
}

/// The rules that the CNI plugin puts into a pod, for IPv4 and without DNS.
const RULES: &str = "
table ip istio {
    chain mangle-prerouting {
        type filter hook prerouting priority mangle;
        meta mark and 0xfff == 0x539 ct mark set 0x111
    }
    chain mangle-output {
        type route hook output priority mangle;
        ct mark and 0xfff == 0x111 meta mark set ct mark
    }
    chain nat-prerouting {
        type nat hook prerouting priority dstnat;
        ip saddr 169.254.7.127 meta l4proto tcp accept
        ip daddr != 127.0.0.1 meta mark and 0xfff != 0x539 tcp dport != 15008 redirect to :15006
    }
    chain nat-output {
        type nat hook output priority -100;
        ip daddr 169.254.7.127 meta l4proto tcp accept
        meta l4proto tcp meta mark and 0xfff == 0x111 accept
        ip daddr != 127.0.0.1 oifname \"lo\" accept
        ip daddr != 127.0.0.1 meta l4proto tcp meta mark and 0xfff != 0x539 redirect to :15001
    }
}
";

/// Two hosts with a pod each, and one nobody describes.
struct World {
    lab: Lab,
    reactor: String,
    agents: Vec<Agent>,
    proxies: Vec<Process>,
}

impl World {
    /// Both proxies run, both pods are enrolled.
    fn start(reactor: &str) -> World {
        let mut world = World::without_proxies(reactor);
        for host in ["host-a", "host-b"] {
            let proxy = world.launch(host, host);
            world.proxies.push(proxy);
        }
        for (agent, pod) in [(0, "client"), (1, "server")] {
            let session = world.agents[agent].accept();
            assert_eq!(session.add(pod, world.at(pod)), "");
            assert_eq!(session.snapshot_sent(), "");
            world.agents[agent].session = Some(session);
        }
        for host in ["host-a", "host-b"] {
            world.wait_until_ready(host);
        }
        world
    }

    fn without_proxies(reactor: &str) -> World {
        let mut lab = Lab::unique().unwrap();
        for host in ["host-a", "host-b"] {
            lab.add_host(host).unwrap();
        }
        let pods = [
            ("host-a", "client", [10, 1, 0, 10]),
            ("host-a", "unknown", [10, 1, 0, 11]),
            ("host-b", "server", [10, 2, 0, 10]),
            // Where a second process lives.
            ("host-b", "beside", [10, 2, 0, 99]),
        ];
        for (host, pod, address) in pods {
            lab.add_pod(host, pod, address.into()).unwrap();
        }
        for pod in ["client", "unknown", "server"] {
            capture(lab.namespace(pod));
        }
        fs::write(lab.directory().join("local.yaml"), LOCAL).unwrap();
        let listen = |host| Agent::listen(&socket(&lab, host));
        let agents = ["host-a", "host-b"].map(listen).into();
        World { lab, reactor: reactor.to_owned(), agents, proxies: Vec::new() }
    }

    fn at(&self, name: &str) -> &Namespace {
        self.lab.namespace(name)
    }

    fn address(&self, name: &str, port: u16) -> SocketAddr {
        SocketAddr::new(self.at(name).address(), port)
    }

    /// Starts a proxy of `host` that lives in `place`.
    fn launch(&self, host: &str, place: &str) -> Process {
        let program = self.program(place).environment("NODE_NAME", host);
        let program = program.environment("INPOD_UDS", socket(&self.lab, host));
        self.lab.start(place, &format!("ringway-{place}"), &program).unwrap()
    }

    fn program(&self, place: &str) -> Program {
        let directory = self.lab.directory();
        Program::new(env!("CARGO_BIN_EXE_ringway"))
            .arguments(["proxy", "ztunnel"])
            .environment("XDS_ADDRESS", "")
            .environment("LOCAL_XDS_PATH", directory.join("local.yaml"))
            .environment("FAKE_CA", "true")
            .environment("RINGWAY_CA_DIRECTORY", directory.join("ca"))
            .environment("RINGWAY_STATE_DIRECTORY", directory.join(place))
            .environment("RINGWAY_REACTOR", &self.reactor)
            .environment("RUST_LOG", "info")
            .environment("TERMINATION_GRACE_PERIOD_SECONDS", "30")
            .environment("ZTUNNEL_WORKER_THREADS", "2")
    }

    /// What readiness says in `place`.
    fn readiness(&self, place: &str) -> io::Result<(u16, String)> {
        let address = SocketAddr::from(([127, 0, 0, 1], 15021));
        http_get(self.at(place), address, "/healthz/ready")
    }

    fn wait_until_ready(&self, place: &str) {
        let mut last = String::new();
        let ready = wait_until("the proxy is ready", PATIENCE, || {
            let answer = self.readiness(place);
            last = format!("{answer:?}");
            matches!(answer, Ok((200, _)))
        });
        let logs = || self.proxies.iter().map(Process::log).collect::<Vec<_>>().join("\n---\n");
        ready.unwrap_or_else(|error| panic!("{error}: {place}: {last}\n{}", logs()));
    }

    fn record(&self, proxy: usize, what: &str, fits: impl Fn(&Record) -> bool) -> Record {
        let mut found = None;
        let seen = wait_until(what, PATIENCE, || {
            found = Record::all(&self.proxies[proxy].log()).into_iter().find(&fits);
            found.is_some()
        });
        seen.unwrap_or_else(|error| panic!("{error}\n{}", self.proxies[proxy].log()));
        found.expect("it was just seen")
    }

    /// Echoes from client to server, one connection after another, while `meanwhile` happens. Returns how many there
    /// were; none may fail.
    fn while_requests_flow(&self, meanwhile: impl FnOnce(&dyn Fn())) -> usize {
        let (stop, requests, failures) =
            (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        if let Err(error) =
                            echo_once(self.at("client"), self.address("server", 8080))
                        {
                            eprintln!("a request failed: {error}");
                            failures.fetch_add(1, Ordering::Relaxed);
                        }
                        requests.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let some_more = || {
                let since = requests.load(Ordering::Relaxed);
                wait_until("requests flow", PATIENCE, || {
                    requests.load(Ordering::Relaxed) > since + 40
                })
                .unwrap();
            };
            let _stop = StopOnDrop(&stop);
            some_more();
            meanwhile(&some_more);
            some_more();
        });
        assert_eq!(failures.load(Ordering::Relaxed), 0, "of {}", requests.load(Ordering::Relaxed));
        requests.load(Ordering::Relaxed)
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn socket(lab: &Lab, host: &str) -> PathBuf {
    lab.directory().join(format!("{host}.sock"))
}

/// Does to a pod what the CNI plugin does.
fn capture(pod: &Namespace) {
    let rules = format!("ip netns exec {name} nft -f -", name = pod.name());
    let mut nft = Command::new("sh").args(["-c", &rules]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(RULES.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success());
    for command in [
        "rule add fwmark 0x111/0xfff lookup 100 priority 32764",
        "route add local 0.0.0.0/0 dev lo table 100",
    ] {
        let status =
            Command::new("ip").args(["-n", pod.name()]).args(command.split(' ')).status().unwrap();
        assert!(status.success(), "{command}");
    }
}

/// What istio-cni is: it listens, and tells whoever connects about pods.
struct Agent {
    listener: OwnedFd,
    path: PathBuf,
    session: Option<Session>,
}

impl Agent {
    fn listen(path: &Path) -> Agent {
        let _ = fs::remove_file(path);
        // No program that a test starts may have it, or it would outlive its agent.
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let listener = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(path).unwrap()).unwrap();
        rustix::net::listen(&listener, 5).unwrap();
        rustix::net::sockopt::set_socket_timeout(&listener, Timeout::Recv, Some(PATIENCE)).unwrap();
        Agent { listener, path: path.to_owned(), session: None }
    }

    /// The next proxy that connects, after its greeting.
    fn accept(&self) -> Session {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::accept_with(&self.listener, flags).expect("a proxy connects");
        rustix::net::sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).unwrap();
        let session = Session(socket);
        assert_eq!(session.receive(), [8, 1], "version 1");
        session
    }

    /// Dies, and begins again without knowing anything.
    fn restart(&mut self) {
        self.session = None;
        *self = Agent::listen(&self.path.clone());
    }

    fn session(&self) -> &Session {
        self.session.as_ref().expect("a proxy is connected")
    }
}

/// A proxy that is connected.
struct Session(OwnedFd);

impl Session {
    /// Returns what went wrong; nothing when it is empty.
    fn add(&self, pod: &str, namespace: &Namespace) -> String {
        let file = fs::File::open(namespace.path()).unwrap();
        self.add_descriptor(pod, file.as_fd())
    }

    fn add_descriptor(&self, pod: &str, descriptor: BorrowedFd<'_>) -> String {
        let info = [field(1, pod.as_bytes()), field(2, b"default"), field(3, pod.as_bytes())];
        let add = [field(1, uid(pod).as_bytes()), field(2, &info.concat())].concat();
        self.ask(&field(1, &add), &[descriptor])
    }

    fn del(&self, pod: &str) -> String {
        self.ask(&field(2, &field(2, uid(pod).as_bytes())), &[])
    }

    fn keep(&self, pod: &str) -> String {
        self.ask(&field(5, &field(1, uid(pod).as_bytes())), &[])
    }

    fn snapshot_sent(&self) -> String {
        self.ask(&field(3, &[]), &[])
    }

    fn ask(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> String {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        let pieces = [IoSlice::new(message)];
        rustix::net::sendmsg(&self.0, &pieces, &mut ancillary, SendFlags::empty()).unwrap();
        // WorkloadResponse { ack { error } }, each with a length of one byte or two.
        let answer = self.receive();
        let text: String = String::from_utf8_lossy(&answer).into_owned();
        if answer == [0x0a, 0] { String::new() } else { text }
    }

    fn receive(&self) -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        let (length, _) = rustix::net::recv(&self.0, &mut bytes[..], RecvFlags::empty()).unwrap();
        bytes.truncate(length);
        bytes
    }
}

/// A field of a protobuf message that has a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).ok().filter(|length| *length < 128);
    let mut field = vec![number << 3 | 2, length.expect("it is short")];
    field.extend(bytes);
    field
}

fn uid(pod: &str) -> String {
    format!("0000-{pod}")
}

const LOCAL: &str = "workloads:
- uid: Kubernetes//Pod/default/client
  name: client
  namespace: default
  serviceAccount: client
  trustDomain: cluster.local
  clusterId: Kubernetes
  node: host-a
  workloadIps: [\"10.1.0.10\"]
  protocol: HBONE
  services: {}
- uid: Kubernetes//Pod/default/server
  name: server
  namespace: default
  serviceAccount: server
  trustDomain: cluster.local
  clusterId: Kubernetes
  node: host-b
  workloadIps: [\"10.2.0.10\"]
  protocol: HBONE
  services:
    default/server.default.svc.cluster.local: {80: 8080}
services:
- name: server
  namespace: default
  hostname: server.default.svc.cluster.local
  vips: [\"/10.96.0.1\"]
  ports: {80: 8080}
  subjectAltNames: []
policies: []
";

fn pods_of_an_agent_talk_in_tunnels_as_who_they_are(reactor: &str) {
    let world = World::start(reactor);
    let _echo = Application::echo(world.at("server"), 8080);
    let http = Application::http(world.at("server"), 8081, "server");
    echo_once(world.at("client"), world.address("server", 8080)).unwrap();
    echo_once(world.at("client"), "10.96.0.1:80".parse().unwrap()).unwrap();
    let (status, body) = http_get(world.at("client"), world.address("server", 8081), "/").unwrap();
    assert_eq!(status, 200);
    // The rules are such that the application's answers find their way to the spoofed address.
    assert!(body.contains("asked from 10.1.0.10"), "{body}");
    assert_eq!(http.accepted(), 1);
    for (proxy, direction) in [(0, "outbound"), (1, "inbound")] {
        let record = world.record(proxy, "a tunnelled connection", |record| {
            record.get("direction") == direction && record.get("dst.addr").contains(":15008")
        });
        assert_eq!(record.get("src.identity"), CLIENT, "{record:?}");
        assert_eq!(record.get("dst.identity"), SERVER, "{record:?}");
    }
    // Who dials the pod past the tunnel is captured, too.
    echo_once(world.at("beside"), world.address("server", 8080)).unwrap();
    let plain = world.record(1, "a plaintext connection", |record| {
        record.get("direction") == "inbound" && record.get("src.identity").is_empty()
    });
    assert!(plain.get("src.addr").starts_with("10.2.0.99"), "{plain:?}");
}

fn an_agent_that_is_killed_and_comes_back_costs_no_request(reactor: &str) {
    let mut world = World::start(reactor);
    let _echo = Application::echo(world.at("server"), 8080);
    let mut agents = std::mem::take(&mut world.agents);
    let mut open = connect(world.at("client"), world.address("server", 8080));
    world.while_requests_flow(|some_more| {
        for (agent, pod, host) in [(0, "client", "host-a"), (1, "server", "host-b")] {
            let agent = &mut agents[agent];
            agent.session = None;
            wait_until("it is not ready without its agent", PATIENCE, || {
                let part = "workload proxy manager";
                matches!(world.readiness(host), Ok((500, text)) if text.contains(part))
            })
            .unwrap();
            some_more();
            agent.restart();
            let session = agent.accept();
            match pod {
                "client" => assert_eq!(session.add(pod, world.at(pod)), ""),
                _ => assert_eq!(session.keep(pod), ""),
            }
            assert_eq!(session.snapshot_sent(), "");
            agent.session = Some(session);
            world.wait_until_ready(host);
        }
    });
    exchange(&mut open, b"still there").unwrap();
}

fn what_is_no_pod_is_refused_and_what_is_deleted_is_cut(reactor: &str) {
    let mut world = World::start(reactor);
    let _echo = Application::echo(world.at("server"), 8080);
    let mut open = connect(world.at("client"), world.address("server", 8080));
    exchange(&mut open, b"before").unwrap();
    let session = world.agents[1].session();
    let file = fs::File::open("/proc/self/ns/uts").unwrap();
    assert!(session.add_descriptor("other", file.as_fd()).contains("no network namespace"));
    let own = world.at("host-b");
    assert!(session.add("other", own).contains("Ringway itself runs in"));
    exchange(&mut open, b"nothing has changed").unwrap();
    assert_eq!(world.readiness("host-b").unwrap().0, 200);
    assert_eq!(session.add("server", world.at("server")), "", "it is served already");
    exchange(&mut open, b"nor by this").unwrap();
    assert_eq!(session.del("server"), "");
    assert_cut(&mut open);
    assert!(world.proxies[1].is_running());
}

fn a_pod_nobody_has_told_of_is_served_nothing(reactor: &str) {
    let world = World::start(reactor);
    let _echo = Application::echo(world.at("server"), 8080);
    let session = world.agents[0].session();
    assert_eq!(session.add("unknown", world.at("unknown")), "", "it may start");
    let to = world.address("server", 8080);
    assert!(dies_without_data(try_connect(world.at("unknown"), to)));
    let secret = Application::echo(world.at("unknown"), 9000);
    let to = world.address("unknown", 9000);
    assert!(dies_without_data(try_connect(world.at("beside"), to)));
    assert_eq!(secret.accepted(), 0, "nothing came to it");
    echo_once(world.at("client"), world.address("server", 8080)).unwrap();
}

fn the_next_process_beside_this_one_costs_no_request(reactor: &str) {
    let mut world = World::start(reactor);
    let _echo = Application::echo(world.at("server"), 8080);
    let next = world.launch("host-b", "beside");
    let session = world.agents[1].accept();
    world.proxies.push(next);
    let mut first = world.proxies.remove(1);
    let mut open = connect(world.at("client"), world.address("server", 8080));
    exchange(&mut open, b"before").unwrap();
    world.while_requests_flow(|some_more| {
        assert_eq!(session.add("server", world.at("server")), "", "the ports are shared");
        assert_eq!(session.snapshot_sent(), "");
        world.wait_until_ready("beside");
        some_more();
        first.signal(rustix::process::Signal::TERM).unwrap();
        first.wait_for_log("draining", PATIENCE).unwrap();
        some_more();
        exchange(&mut open, b"while it drains").unwrap();
    });
    open.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(open.read(&mut [0; 1]).unwrap(), 0);
    // With its last connection, and long before its deadline of 25 seconds.
    let status = first.wait(Duration::from_secs(15)).unwrap();
    assert!(status.success(), "{status}: {}", first.log());
    echo_once(world.at("client"), world.address("server", 8080)).unwrap();
}

fn a_dedicated_process_serves_its_own_namespace(reactor: &str) {
    let mut world = World::without_proxies(reactor);
    for (pod, host) in [("client", "host-a"), ("server", "host-b")] {
        let program = world
            .program(pod)
            .environment("NODE_NAME", host)
            .environment("PROXY_MODE", "dedicated")
            .environment("PROXY_WORKLOAD_INFO", format!("default/{pod}/{pod}"))
            .environment("PACKET_MARK", "1337");
        let process = world.lab.start(pod, &format!("ringway-{pod}"), &program).unwrap();
        world.proxies.push(process);
    }
    for pod in ["client", "server"] {
        world.wait_until_ready(pod);
    }
    let _echo = Application::echo(world.at("server"), 8080);
    echo_once(world.at("client"), world.address("server", 8080)).unwrap();
    let record = world.record(1, "an inbound connection", |r| r.get("direction") == "inbound");
    assert_eq!(record.get("src.identity"), CLIENT, "{record:?}");
}
