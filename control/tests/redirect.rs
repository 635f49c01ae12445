//! Redirect rules in real network namespaces, for each tool that can install them.
//!
//! A program of its own instead of `#[test]` functions, so that a case whose tool is missing is listed as ignored
//! with the reason instead of passing unseen. Arguments: any part of a case's name.
//!
//! ```text
//!   namespace client (10.77.0.2, fd77::2) ── veth ── (10.77.0.1, fd77::1) namespace workload: rules, listeners, app
//! ```

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ringway_control::redirect::{self, RedirectMode, RedirectOptions, Tool};
use rustix::thread::LinkNameSpaceType;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Long enough for a loaded machine; a packet that was dropped never comes.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection that must not arrive is given this long to arrive all the same.
const SILENCE: Duration = Duration::from_millis(300);

const MARK: u32 = 0x539;
const APPLICATION_MARK: u32 = 0x111;

type Case = (&'static str, fn(Tool));

const CASES: &[Case] = &[
    ("outbound_is_captured_with_its_original_destination", outbound_is_captured),
    ("outbound_of_the_proxy_itself_goes_out", marked_outbound_goes_out),
    ("inbound_plaintext_is_captured", inbound_is_captured),
    ("the_tunnel_port_is_not_redirected", tunnel_port_is_not_redirected),
    ("who_comes_from_the_tunnel_port_is_captured", from_the_tunnel_port_is_captured),
    ("a_tunnel_that_we_dial_is_answered", dialled_tunnel_is_answered),
    ("loopback_and_own_address_are_left_alone", loopback_is_left_alone),
    ("the_workload_sees_the_client_and_its_answers_come_back", original_source_works),
    ("a_refusal_of_the_workload_comes_back", refusal_comes_back),
    ("ipv6_is_captured_both_ways", ipv6_is_captured),
    ("after_release_the_new_goes_direct_and_the_open_goes_on", release_lets_go),
    ("installing_twice_is_installing_once", installation_is_idempotent),
    ("dropping_the_guard_removes_the_rules", drop_removes),
    ("a_panic_leaves_the_rules", panic_leaves),
];

const IPTABLES: &[&str] = &["iptables-restore", "ip6tables-restore", "iptables-save"];

/// With what the other tool wrote beside what is looked at.
const BESIDE_THE_OTHER: &[Case] = &[
    ("removal_leaves_everything_as_it_was", removal_leaves_no_trace),
    ("leftovers_of_a_killed_process_are_taken_over", leftovers_are_taken_over),
];

const COMMON: &[(&str, fn())] = &[
    ("mode_none_touches_nothing", mode_none),
    ("auto_prefers_nftables", auto_prefers_nftables),
    ("a_loopback_that_is_down_is_explained", loopback_down),
];

fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|part| name.contains(part));
    let mut failed = 0;
    let mut run = |name: String, missing: Option<String>, case: &dyn Fn()| {
        if !wanted(&name) {
            return;
        }
        if let Some(missing) = missing {
            println!("test {name} ... ignored, {missing}");
            return;
        }
        match catch_unwind(AssertUnwindSafe(case)) {
            Ok(()) => println!("test {name} ... ok"),
            Err(_) => {
                println!("test {name} ... FAILED");
                failed += 1;
            }
        }
    };
    let all = [&["nft"], IPTABLES].concat();
    for (tool, programs) in [(Tool::Nftables, &["nft"][..]), (Tool::Iptables, IPTABLES)] {
        for (name, case) in CASES {
            run(format!("{tool}::{name}"), missing(programs), &|| case(tool));
        }
        for (name, case) in BESIDE_THE_OTHER {
            run(format!("{tool}::{name}"), missing(&all), &|| case(tool));
        }
    }
    for (name, case) in COMMON {
        run((*name).to_owned(), missing(&["nft"]), case);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Why the cases that need `programs` cannot run here.
fn missing(programs: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    let absent = ["ip"].iter().chain(programs).find(|program| {
        let mut run = Command::new(program);
        run.arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
    })?;
    Some(format!("{absent} is not installed"))
}

fn outbound_is_captured(tool: Tool) {
    let lab = Lab::new();
    let _redirect = lab.install(tool);
    let proxy = lab.workload.listen("0.0.0.0:15001");
    let _app = lab.workload.dial("10.99.0.9:8080", 0);
    let (captured, _) = proxy.accept();
    let original = rustix::net::sockopt::ip_original_dst(&captured).unwrap();
    assert_eq!(SocketAddr::from(original), address("10.99.0.9:8080"));
}

fn marked_outbound_goes_out(tool: Tool) {
    let lab = Lab::new();
    let _redirect = lab.install(tool);
    let proxy = lab.workload.listen("0.0.0.0:15001");
    let peer = lab.client.listen("10.77.0.2:9000");
    let _dialled = lab.workload.dial("10.77.0.2:9000", MARK);
    let (_, from) = peer.accept();
    assert_eq!(from.ip(), address("10.77.0.1:0").ip());
    proxy.hears_nothing();
}

fn inbound_is_captured(tool: Tool) {
    let lab = Lab::new();
    let _redirect = lab.install(tool);
    let proxy = lab.workload.listen("0.0.0.0:15006");
    let app = lab.workload.listen("0.0.0.0:8080");
    let _client = lab.client.dial("10.77.0.1:8080", 0);
    let (captured, from) = proxy.accept();
    assert_eq!(from.ip(), address("10.77.0.2:0").ip());
    let original = rustix::net::sockopt::ip_original_dst(&captured).unwrap();
    assert_eq!(SocketAddr::from(original), address("10.77.0.1:8080"));
    app.hears_nothing();
}

fn tunnel_port_is_not_redirected(tool: Tool) {
    let lab = Lab::new();
    let _redirect = lab.install(tool);
    let proxy = lab.workload.listen("0.0.0.0:15006");
    let tunnel = lab.workload.listen("0.0.0.0:15008");
    let _client = lab.client.dial("10.77.0.1:15008", 0);
    let (accepted, _) = tunnel.accept();
    assert_eq!(accepted.local_addr().unwrap(), address("10.77.0.1:15008"));
    proxy.hears_nothing();
}

/// A port proves nothing, whether or not the kernel can say which socket a packet is for.
fn from_the_tunnel_port_is_captured(tool: Tool) {
    for sockets_known in [true, false] {
        let lab = Lab::new();
        let _redirect =
            lab.install_with(tool, RedirectOptions { sockets_known, ..RedirectOptions::default() });
        let proxy = lab.workload.listen("0.0.0.0:15006");
        let app = lab.workload.listen("0.0.0.0:8080");
        let mut client = lab.client.dial_by("10.77.0.2:15008", "10.77.0.1:8080");
        let (mut captured, from) = proxy.accept();
        assert_eq!(from, address("10.77.0.2:15008"));
        app.hears_nothing();
        exchange(&mut client, &mut captured);
    }
}

fn dialled_tunnel_is_answered(tool: Tool) {
    for sockets_known in [true, false] {
        let lab = Lab::new();
        let _redirect =
            lab.install_with(tool, RedirectOptions { sockets_known, ..RedirectOptions::default() });
        let peer = lab.client.listen("10.77.0.2:15008");
        let mut dialled = lab.workload.dial("10.77.0.2:15008", MARK);
        let (mut accepted, _) = peer.accept();
        exchange(&mut dialled, &mut accepted);
    }
}

/// A question one way, its answer back.
fn exchange(near: &mut TcpStream, far: &mut TcpStream) {
    near.write_all(b"question").unwrap();
    let mut question = [0; 8];
    far.read_exact(&mut question).unwrap();
    far.write_all(b"answer").unwrap();
    let mut answer = [0; 6];
    near.read_exact(&mut answer).unwrap();
    assert_eq!((&question, &answer), (b"question", b"answer"));
}

fn loopback_is_left_alone(tool: Tool) {
    let lab = Lab::new();
    let _redirect = lab.install(tool);
    let outbound = lab.workload.listen("0.0.0.0:15001");
    let plaintext = lab.workload.listen("0.0.0.0:15006");
    let app = lab.workload.listen("0.0.0.0:8080");
    for target in ["127.0.0.1:8080", "10.77.0.1:8080"] {
        let _client = lab.workload.dial(target, 0);
        app.accept();
    }
    outbound.hears_nothing();
    plaintext.hears_nothing();
}

/// Where nobody listens, the kernel answers by itself.
fn refusal_comes_back(tool: Tool) {
    let lab = Lab::new();
    let _redirect = lab.install(tool);
    let refused = lab.workload.try_dial_from("10.77.0.2", "10.77.0.1:8080").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

fn original_source_works(tool: Tool) {
    let lab = Lab::new();
    let _redirect = lab.install(tool);
    let app = lab.workload.listen("0.0.0.0:8080");
    // As the proxy dials the workload for a client: under the client's address, with its mark.
    let mut dialled = lab.workload.dial_from("10.77.0.2", "10.77.0.1:8080");
    let (mut accepted, from) = app.accept();
    assert_eq!(from.ip(), address("10.77.0.2:0").ip(), "the workload sees the client");
    exchange(&mut dialled, &mut accepted);
}

fn ipv6_is_captured(tool: Tool) {
    let lab = Lab::new();
    let _redirect = lab.install(tool);
    let outbound = lab.workload.listen("[::]:15001");
    let _app = lab.workload.dial("[fd99::9]:8080", 0);
    let (captured, _) = outbound.accept();
    let original = rustix::net::sockopt::ipv6_original_dst(&captured).unwrap();
    assert_eq!(SocketAddr::from(original), address("[fd99::9]:8080"));

    let plaintext = lab.workload.listen("[::]:15006");
    let _client = lab.client.dial("[fd77::1]:8080", 0);
    let (captured, from) = plaintext.accept();
    assert_eq!(from.ip(), address("[fd77::2]:0").ip());
    let original = rustix::net::sockopt::ipv6_original_dst(&captured).unwrap();
    assert_eq!(SocketAddr::from(original), address("[fd77::1]:8080"));
}

fn release_lets_go(tool: Tool) {
    let lab = Lab::new();
    let redirect = lab.install(tool);
    let app = lab.workload.listen("0.0.0.0:8080");
    let proxy = lab.workload.listen("0.0.0.0:15006");
    let mut client = lab.client.dial("10.77.0.1:8080", 0);
    let (mut captured, _) = proxy.accept();
    let mut dialled = lab.workload.dial_from("10.77.0.2", "10.77.0.1:8080");
    let (mut accepted, _) = app.accept();

    redirect.release().unwrap();
    for (from, to) in [(&mut client, &mut captured), (&mut accepted, &mut dialled)] {
        from.write_all(b"open").unwrap();
        let mut word = [0; 4];
        to.read_exact(&mut word).unwrap();
        to.write_all(b"still").unwrap();
        let mut word = [0; 5];
        from.read_exact(&mut word).unwrap();
    }
    let _direct = lab.client.dial("10.77.0.1:8080", 0);
    app.accept();
    proxy.hears_nothing();
    let peer = lab.client.listen("10.77.0.2:9000");
    let _direct = lab.workload.dial("10.77.0.2:9000", 0);
    peer.accept();
    redirect.remove().unwrap();
}

fn removal_leaves_no_trace(tool: Tool) {
    let lab = Lab::new();
    lab.workload.shell(
        "nft add table inet foreign; iptables -t nat -N FOREIGN; iptables -t nat -A PREROUTING -j FOREIGN;
         ip rule add pref 500 fwmark 0x9 lookup 200; ip route add 10.5.0.0/16 dev lo table 200",
    );
    let before = lab.workload.state();
    let redirect = lab.install(tool);
    assert_ne!(lab.workload.state(), before);
    redirect.remove().unwrap();
    assert_eq!(lab.workload.state(), before);
}

fn installation_is_idempotent(tool: Tool) {
    let lab = Lab::new();
    let first = lab.install(tool);
    let once = lab.workload.state();
    let second = lab.install(tool);
    assert_eq!(lab.workload.state(), once);
    first.leave();
    second.remove().unwrap();
}

fn leftovers_are_taken_over(tool: Tool) {
    let lab = Lab::new();
    let untouched = lab.workload.state();
    let killed = if tool == Tool::Nftables { Tool::Iptables } else { Tool::Nftables };
    lab.install(killed).leave();
    let redirect = lab.install(tool);
    let taken_over = lab.workload.state();
    redirect.remove().unwrap();
    let clean = lab.workload.state();
    assert_eq!(clean.routing(), untouched.routing());

    lab.install(tool).leave();
    assert_eq!(lab.workload.state(), taken_over, "nothing of the other tool is left");
    redirect::remove_leftovers(&lab.workload.descriptor).unwrap();
    assert_eq!(lab.workload.state(), clean);
    redirect::remove_leftovers(&lab.workload.descriptor).expect("nothing there is fine");
}

fn drop_removes(tool: Tool) {
    let lab = Lab::new();
    let redirect = lab.install(tool);
    assert_eq!(redirect.tool(), Some(tool));
    drop(redirect);
    let state = lab.workload.state();
    assert!(!state.0.to_lowercase().contains("ringway"), "{state:?}");
}

/// Whoever panics while it has the rules does not open the workload to plaintext.
fn panic_leaves(tool: Tool) {
    let lab = Lab::new();
    let redirect = lab.install(tool);
    let before = lab.workload.state();
    let broken = catch_unwind(AssertUnwindSafe(|| {
        let _held = redirect;
        panic!("as a defect does");
    }));
    assert!(broken.is_err());
    assert_eq!(lab.workload.state(), before);
    redirect::remove_leftovers(&lab.workload.descriptor).unwrap();
}

fn mode_none() {
    let lab = Lab::new();
    let before = lab.workload.state();
    let options = RedirectOptions { mode: RedirectMode::None, ..RedirectOptions::default() };
    let redirect = redirect::install(&lab.workload.descriptor, &options).unwrap();
    assert_eq!(redirect.tool(), None);
    assert_eq!(lab.workload.state(), before);
}

fn auto_prefers_nftables() {
    let lab = Lab::new();
    let redirect = redirect::install(&lab.workload.descriptor, &RedirectOptions::default());
    assert_eq!(redirect.unwrap().tool(), Some(Tool::Nftables));
}

fn loopback_down() {
    let lab = Lab::new();
    lab.workload.shell("ip link set lo down");
    let before = lab.workload.state();
    let error = redirect::install(&lab.workload.descriptor, &RedirectOptions::default());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("is `lo` up"), "{error}");
    assert_eq!(lab.workload.state(), before, "what had been done is undone");
}

struct Lab {
    workload: Namespace,
    client: Namespace,
}

impl Lab {
    fn new() -> Self {
        let (workload, client) = (Namespace::new("w"), Namespace::new("c"));
        let shell = format!(
            "ip link add eth0 netns {w} type veth peer name eth0 netns {c}
             ip -n {w} addr add 10.77.0.1/24 dev eth0; ip -n {c} addr add 10.77.0.2/24 dev eth0
             ip -n {w} addr add fd77::1/64 dev eth0 nodad; ip -n {c} addr add fd77::2/64 dev eth0 nodad
             ip -n {w} link set eth0 up; ip -n {c} link set eth0 up
             ip -n {w} link set lo up; ip -n {c} link set lo up
             ip -n {w} route add default via 10.77.0.2; ip -n {w} -6 route add default via fd77::2",
            w = workload.name,
            c = client.name
        );
        run_shell(&shell);
        Self { workload, client }
    }

    fn install(&self, tool: Tool) -> redirect::Redirect {
        self.install_with(tool, RedirectOptions::default())
    }

    fn install_with(&self, tool: Tool, options: RedirectOptions) -> redirect::Redirect {
        let mode = match tool {
            Tool::Nftables => RedirectMode::Nftables,
            Tool::Iptables => RedirectMode::Iptables,
        };
        let options = RedirectOptions { mode, ..options };
        redirect::install(&self.workload.descriptor, &options).unwrap()
    }
}

struct Namespace {
    name: String,
    descriptor: OwnedFd,
}

#[derive(Debug, PartialEq, Eq)]
struct State(String);

impl State {
    fn routing(&self) -> &str {
        self.0.split("== routing").nth(1).unwrap()
    }
}

impl Namespace {
    fn new(kind: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rw-redirect-{}-{kind}{number}", std::process::id());
        run_shell(&format!("ip netns add {name}"));
        let descriptor = File::open(format!("/run/netns/{name}")).unwrap().into();
        Self { name, descriptor }
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let entered = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(self.descriptor.as_fd(), kind).unwrap();
                work()
            });
            entered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn shell(&self, script: &str) {
        self.inside(|| run_shell(script));
    }

    /// Everything rules can be seen in.
    fn state(&self) -> State {
        self.inside(|| {
            // A link's own address comes when the kernel is done probing for it, which is not our doing.
            // Tables and chains of the system that iptables made on its first use and that hold nothing are not a trace.
            let show = "for t in mangle nat; do iptables-save -t $t; ip6tables-save -t $t; done \
                        | grep -v '^#\\|^[*]\\|^COMMIT' | sed 's/\\[[0-9:]*\\]//' | grep -v '^:[A-Z]* ACCEPT';
                        nft list tables inet; nft list table inet ringway 2>/dev/null;
                        echo '== routing'; ip rule; ip -6 rule; { ip route show table all; \
                        ip -6 route show table all; } | grep -v ' fe80::[0-9a-f]'";
            let output = Command::new("sh").args(["-c", show]).output().unwrap();
            State(String::from_utf8(output.stdout).unwrap())
        })
    }

    fn listen(&self, at: &str) -> Listener {
        let at = address(at);
        let listener = self.inside(|| {
            let socket = new_socket(at);
            socket.set_reuse_address(true).unwrap();
            // As the proxy's listeners: its answers must not be captured.
            socket.set_mark(if at.port() > 15000 { MARK } else { 0 }).unwrap();
            socket.bind(&SockAddr::from(at)).unwrap();
            socket.listen(16).unwrap();
            TcpListener::from(socket)
        });
        listener.set_nonblocking(true).unwrap();
        Listener(listener)
    }

    /// Starts a connection; whoever accepts it is the matter of the test.
    fn dial(&self, to: &str, mark: u32) -> TcpStream {
        let to = address(to);
        let stream = self.inside(|| {
            let socket = new_socket(to);
            socket.set_mark(mark).unwrap();
            socket.connect_timeout(&SockAddr::from(to), PATIENCE).unwrap();
            TcpStream::from(socket)
        });
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The same from an address and a port of its own.
    fn dial_by(&self, own: &str, to: &str) -> TcpStream {
        let (own, to) = (address(own), address(to));
        let stream = self.inside(|| {
            let socket = new_socket(to);
            socket.bind(&SockAddr::from(own)).unwrap();
            socket.connect_timeout(&SockAddr::from(to), PATIENCE).unwrap();
            TcpStream::from(socket)
        });
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn dial_from(&self, from: &str, to: &str) -> TcpStream {
        let stream = self.try_dial_from(from, to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn try_dial_from(&self, from: &str, to: &str) -> std::io::Result<TcpStream> {
        let (from, to) = (from.parse::<IpAddr>().unwrap(), address(to));
        self.inside(|| {
            let socket = new_socket(to);
            socket.set_mark(APPLICATION_MARK).unwrap();
            socket.set_ip_transparent_v4(true).unwrap();
            socket.set_freebind_v4(true).unwrap();
            socket.bind(&SockAddr::from(SocketAddr::new(from, 0))).unwrap();
            socket.connect_timeout(&SockAddr::from(to), PATIENCE)?;
            Ok(TcpStream::from(socket))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

struct Listener(TcpListener);

impl Listener {
    fn accept(&self) -> (TcpStream, SocketAddr) {
        let (stream, from) = self.poll(PATIENCE).expect("a connection arrives");
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        (stream, SocketAddr::new(from.ip().to_canonical(), from.port()))
    }

    fn hears_nothing(&self) {
        assert!(self.poll(SILENCE).is_none(), "a connection arrived that should not");
    }

    fn poll(&self, patience: Duration) -> Option<(TcpStream, SocketAddr)> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut descriptors = [PollFd::new(&self.0, PollFlags::IN)];
        let timeout = Timespec::try_from(patience).unwrap();
        poll(&mut descriptors, Some(&timeout)).unwrap();
        self.0.accept().ok()
    }
}

fn new_socket(peer: SocketAddr) -> Socket {
    Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP)).unwrap()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn run_shell(script: &str) {
    let status = Command::new("sh").args(["-ec", script]).status().unwrap();
    assert!(status.success(), "{script}");
}
