//! What only a process in ztunnel's place is told, and what is asked of it there.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;

use ringway_bench::lab::{Namespace, Program, wait_until};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
use serde_json::Value;

use crate::support::{
    Application, CLIENT, Mesh, NameServer, PATIENCE, Question, SERVER, SERVICE, connect,
    dies_without_data, echo_once, exchange, http_get, try_connect,
};
use crate::{under_a_control_plane, under_a_control_plane_on_epoll};

under_a_control_plane! {
    the_proxys_own_metrics_are_scraped_through_a_tunnel,
    the_dump_tells_open_connections_of_pods,
    without_the_proxy_names_are_answered_and_nothing_else_is_done,
    a_mesh_that_agrees_on_keys_in_one_way_only_works,
    what_is_told_on_demand_is_asked_for_when_it_is_needed,
    tunnels_are_shared_up_to_their_streams_and_end_when_nobody_uses_them,
    clients_of_socks_reach_the_mesh_by_name_and_by_address,
    ports_that_are_not_shared_are_nobody_elses,
    what_happens_to_connections_is_told_as_it_happens,
    sockets_in_a_pod_are_marked_and_kept_alive,
    pods_that_nobody_tells_of_are_warned_about_once,
}

under_a_control_plane_on_epoll! {
    the_proxys_own_metrics_are_scraped_through_a_tunnel,
    what_is_told_on_demand_is_asked_for_when_it_is_needed,
    tunnels_are_shared_up_to_their_streams_and_end_when_nobody_uses_them,
    clients_of_socks_reach_the_mesh_by_name_and_by_address,
    ports_that_are_not_shared_are_nobody_elses,
    sockets_in_a_pod_are_marked_and_kept_alive,
}

fn pods_that_nobody_tells_of_are_warned_about_once(way: &str) {
    let mesh = Mesh::with(way).environment("NODE_NAME", "host-z").start();
    let warnings = || {
        let log = mesh.a.process.log();
        let cause = "default/client on node host-a, and this is node host-z: is NODE_NAME right?";
        log.lines().filter(|line| line.contains(cause)).count()
    };
    wait_until("the warning", PATIENCE, || warnings() > 0)
        .unwrap_or_else(|error| panic!("{error}\n{}", mesh.a.process.log()));
    assert!(dies_without_data(try_connect(mesh.at("client"), SERVICE.parse().unwrap())));
    assert_eq!(warnings(), 1, "{}", mesh.a.process.log());
}

/// The pod that the process on host-b runs in, as istiod knows it.
const OWN_POD: &str = "---
apiVersion: v1
kind: Pod
metadata:
  name: ztunnel-host-b
  namespace: istio-system
  annotations: {ambient.istio.io/redirection: enabled}
spec: {nodeName: host-b, serviceAccountName: ztunnel}
status: {podIP: 10.255.2.2}
";

fn the_proxys_own_metrics_are_scraped_through_a_tunnel(way: &str) {
    let mesh = Mesh::with(way).policies(OWN_POD).start();
    assert_eq!(mesh.at("host-b").address(), Ipv4Addr::new(10, 255, 2, 2), "as the document says");
    let metrics = mesh.address("host-b", 15020);
    let (status, text) = http_get(mesh.at("client"), metrics, "/metrics").unwrap_or_else(|error| {
        panic!("{error}\n{}\n{}", mesh.a.process.log(), mesh.b.process.log())
    });
    assert_eq!(status, 200);
    assert!(text.contains("istio_build{"), "{text}");
    let own = "spiffe://cluster.local/ns/istio-system/sa/ztunnel";
    for (proxy, direction) in [(&mesh.a, "outbound"), (&mesh.b, "inbound")] {
        let record = proxy.record("the scrape", |record| {
            record.get("direction") == direction && record.get("dst.identity") == own
        });
        assert_eq!(record.get("dst.addr"), "10.255.2.2:15008", "{record:?}");
        assert_eq!(record.get("dst.hbone_addr"), metrics.to_string(), "{record:?}");
        assert_eq!(record.get("src.identity"), CLIENT, "{record:?}");
        assert_eq!(record.get("dst.workload"), "ztunnel-host-b", "{record:?}");
    }
    // It is its own pod, and leads nowhere else.
    let ports = [15001, 15006, 15008].map(|port| mesh.address("host-b", port));
    for to in ports {
        let answer = http_get(mesh.at("client"), to, "/");
        assert!(answer.is_err(), "{to}: {answer:?}");
    }
    for port in [15001, 15006] {
        let error = try_connect(mesh.at("host-b"), SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{port}");
    }
}

fn the_dump_tells_open_connections_of_pods(way: &str) {
    let mesh = Mesh::start(way);
    let _echoes = ["server", "server-2"].map(|name| Application::echo(mesh.at(name), 8080));
    let mut open = connect(mesh.at("client"), SERVICE.parse().unwrap());
    exchange(&mut open, b"and stay").unwrap();
    let from = open.local_addr().unwrap().to_string();
    let of = |host: &str, pods: &[&str], direction: &str| {
        let dump = config_dump(&mesh, host);
        // As its readers have it: with another type here, Kiali shows nothing of the dump.
        assert_eq!(dump["config"]["dnsProxy"], true);
        let states = dump["workloadState"].as_object().unwrap();
        let one = |pod: &str| {
            let state = states.values().find(|state| state["info"]["name"] == pod).unwrap();
            assert_eq!(state["state"], "Up", "{state}");
            state["connections"][direction].as_array().cloned().unwrap_or_default()
        };
        pods.iter().flat_map(|pod| one(pod)).collect::<Vec<Value>>()
    };
    let outbound = of("host-a", &["client"], "outbound");
    let [connection] = &outbound[..] else { panic!("{outbound:?}") };
    assert_eq!(connection["src"], from);
    assert_eq!(connection["originalDst"], SERVICE);
    assert_eq!(connection["protocol"], "HBONE");
    let dialled = connection["actualDst"].as_str().unwrap();
    assert!(dialled.ends_with(":15008"), "{connection}");
    let inbound = of("host-b", &["server", "server-2"], "inbound");
    let [connection] = &inbound[..] else { panic!("{inbound:?}") };
    assert_eq!(connection["originalDst"], "server.default.svc.cluster.local", "{connection}");
    assert_eq!(connection["protocol"], "HBONE");
    exchange(&mut open, b"still there").unwrap();
    drop(open);
    wait_until("nothing is open", PATIENCE, || of("host-a", &["client"], "outbound").is_empty())
        .unwrap();
}

fn config_dump(mesh: &Mesh, host: &str) -> Value {
    let admin = SocketAddr::from(([127, 0, 0, 1], 15000));
    let (status, text) = http_get(mesh.at(host), admin, "/config_dump").unwrap();
    assert_eq!(status, 200);
    serde_json::from_str(&text).unwrap()
}

fn without_the_proxy_names_are_answered_and_nothing_else_is_done(way: &str) {
    let mesh = Mesh::with(way).environment("ENABLE_PROXY", "false").start();
    let anybody = SocketAddr::from(([10, 1, 0, 99], 53));
    let known = Question::new(4711, "server").ask(mesh.at("client"), anybody).unwrap();
    assert_eq!((known.code, known.addresses), (0, vec![Ipv4Addr::new(10, 96, 0, 1)]));
    for port in [15001, 15006, 15008] {
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        let error = try_connect(mesh.at("client"), to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{port}");
    }
    assert!(mesh.plane().journal("certificate").is_empty(), "nobody needs one");
}

fn a_mesh_that_agrees_on_keys_in_one_way_only_works(way: &str) {
    let mesh = Mesh::with(way).environment("COMPLIANCE_POLICY", "pqc").start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    mesh.assert_works(8080);
    let record = mesh.b.record("a tunnelled connection", |r| r.get("direction") == "inbound");
    assert_eq!(record.get("src.identity"), CLIENT);
}

fn what_is_told_on_demand_is_asked_for_when_it_is_needed(way: &str) {
    let mesh = Mesh::with(way)
        .environment("XDS_ON_DEMAND", "true")
        .environment("ISTIO_META_DNS_CAPTURE", "false")
        .start();
    let _echoes =
        ["server", "server-2", "legacy"].map(|name| Application::echo(mesh.at(name), 8080));
    let (server, service) = (mesh.address("server", 8080), SERVICE.parse().unwrap());
    let outside = mesh.address("legacy", 8080);
    for to in [server, service, outside, server] {
        echo_once(mesh.at("client"), to)
            .unwrap_or_else(|error| panic!("{to}: {error}\n{}", mesh.a.process.log()));
    }
    for (to, identity) in [(server, SERVER), (service, SERVER), (outside, "")] {
        let record = mesh.a.record("a connection", |record| {
            let address = if identity.is_empty() { "dst.addr" } else { "dst.hbone_addr" };
            let meant = if to == service { "10.2.0.1" } else { &to.to_string() };
            record.get("direction") == "outbound" && record.get(address).starts_with(meant)
        });
        assert_eq!(record.get("dst.identity"), identity, "{record:?}");
    }
    // Asked for one by one: who is nobody's destination is not known.
    let names = asked_for(&mesh);
    for name in ["/10.2.0.10", "/10.96.0.1", "/10.2.0.99", "Kubernetes//Pod/default/client"] {
        assert!(names.contains(name), "{name} of {names:?}");
    }
    let dump = config_dump(&mesh, "host-a");
    let known: Vec<_> =
        dump["workloads"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert!(known.iter().any(|name| *name == "server") && known.iter().all(|name| *name != "peer"));

    // What was not told might be in the mesh: without an answer nothing goes there.
    mesh.plane().kill();
    let stranger = Application::echo(mesh.at("stranger"), 8080);
    assert!(dies_without_data(try_connect(mesh.at("client"), mesh.address("stranger", 8080))));
    assert_eq!(stranger.accepted(), 0);
    mesh.a.record("the refusal", |r| r.get("error").contains("told in time what /10.1.0.99 is"));
    mesh.assert_works(8080);

    // Whoever comes back is asked again.
    mesh.plane().restart(&mesh.lab);
    wait_until("the name is answered after all", PATIENCE, || {
        echo_once(mesh.at("client"), mesh.address("stranger", 8080)).is_ok()
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", mesh.a.process.log()));
}

/// Names that were subscribed to.
fn asked_for(mesh: &Mesh) -> BTreeSet<String> {
    let requests = mesh.plane().journal("xds-request");
    let names = requests.iter().filter_map(|request| request["subscribe"].as_array());
    names.flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// By a client of others' making, once there is a server: the key opens it, and nothing else does.
fn clients_of_socks_reach_the_mesh_by_name_and_by_address(way: &str) {
    let without = Mesh::start(way);
    let port = SocketAddr::from(([127, 0, 0, 1], 15080));
    let error = try_connect(without.at("client"), port).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    drop(without);

    let mesh = Mesh::with(way)
        .environment("UNSTABLE_ENABLE_SOCKS5", "true")
        .names_of_hosts("nameserver 10.1.0.99\n")
        .start();
    let _names = NameServer::of(mesh.at("stranger"), Ipv4Addr::new(10, 2, 0, 99));
    let _servers = ["server", "server-2", "legacy"]
        .map(|name| Application::http(mesh.at(name), 8080, name.trim_end_matches("-2")));
    //  asked for                                  resolved by  who answers  its identity
    let rows = [
        ("http://10.2.0.10:8080/", "--socks5", "server", SERVER),
        ("http://10.96.0.1/", "--socks5", "server", SERVER),
        ("http://server.default.svc.cluster.local/", "--socks5-hostname", "server", SERVER),
        ("http://outside.example.net:8080/", "--socks5-hostname", "legacy", ""),
    ];
    for (url, how, who, identity) in rows {
        let (status, told) = curl(&mesh, &[how, "127.0.0.1:15080", url]);
        assert_eq!((status, told.trim()), (Some(0), &*format!("{who} was asked from 10.1.0.10")));
        mesh.a.record(url, |record| {
            record.get("direction") == "outbound" && record.get("dst.identity") == identity
        });
    }
    // Where nobody is, the client is told so, and not that it is connected.
    let (status, told) = curl(&mesh, &["--socks5", "127.0.0.1:15080", "http://10.2.0.10:9/"]);
    assert_eq!(status, Some(97), "curl's word for a refusal of the proxy's: {told}");
    // It is the pod's own, and nobody else's.
    let from_without = try_connect(mesh.at("stranger"), mesh.address("client", 15080));
    assert!(dies_without_data(from_without));
}

fn curl(mesh: &Mesh, arguments: &[&str]) -> (Option<i32>, String) {
    let program = Program::new("curl")
        .arguments(["--silent", "--show-error", "--max-time", "20", "--noproxy", ""])
        .arguments(arguments);
    let mut curl = mesh.lab.start("client", "curl", &program).unwrap();
    let status = curl.wait(PATIENCE).unwrap();
    (status.code(), curl.log())
}

fn tunnels_are_shared_up_to_their_streams_and_end_when_nobody_uses_them(way: &str) {
    let mut mesh = Mesh::with(way)
        .environment("ZTUNNEL_WORKER_THREADS", "1")
        .environment("POOL_MAX_STREAMS_PER_CONNECTION", "3")
        .environment("POOL_UNUSED_RELEASE_TIMEOUT", "3s")
        .start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let server = mesh.address("server", 8080);
    let open = |from: &str, count: usize| -> Vec<TcpStream> {
        let connections = (0..count).map(|_| connect(mesh.at(from), server));
        let mut connections: Vec<_> = connections.collect();
        connections.iter_mut().for_each(|one| exchange(one, b"through").unwrap());
        connections
    };
    // (opened in addition, tunnels then)
    let mut all = Vec::new();
    for (more, tunnels) in [(2, 1), (1, 1), (1, 2), (3, 3)] {
        all.extend(open("client", more));
        assert_eq!(tunnels_of(mesh.at("client")), tunnels, "{} connections", all.len());
    }
    // Another workload has its own, and theirs are no use to it.
    let others = open("neighbour", 1);
    assert_eq!([tunnels_of(mesh.at("client")), tunnels_of(mesh.at("neighbour"))], [3, 1]);
    // What is free is used again.
    drop(all.split_off(3));
    for _ in 0..5 {
        echo_once(mesh.at("client"), server).unwrap();
    }
    assert_eq!(tunnels_of(mesh.at("client")), 3, "those there are");
    wait_until("tunnels without streams are gone", PATIENCE, || tunnels_of(mesh.at("client")) == 1)
        .unwrap();
    all.iter_mut().for_each(|one| exchange(one, b"the used one stays").unwrap());
    drop((all, others));
    wait_until("all are gone", PATIENCE, || tunnels_of(mesh.at("client")) == 0).unwrap();

    // A peer that goes away takes its tunnels along; the next request makes another.
    echo_once(mesh.at("client"), server).unwrap();
    mesh.b.stop();
    mesh.restart("host-b");
    mesh.assert_works(8080);
    assert_eq!(tunnels_of(mesh.at("client")), 1);
}

/// Tunnels that were opened from inside a pod, as the kernel counts them.
fn tunnels_of(pod: &Namespace) -> usize {
    let read = || {
        ["tcp", "tcp6"]
            .map(|table| std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap())
    };
    let tables = pod.enter(read).unwrap();
    // (…) local address, remote address, state: established, to port 15008.
    let is_one = |line: &&str| {
        let mut fields = line.split_whitespace().skip(2);
        let (remote, state) = (fields.next(), fields.next());
        remote.is_some_and(|remote| remote.ends_with(":3AA0")) && state == Some("01")
    };
    tables.iter().flat_map(|table| table.lines()).filter(is_one).count()
}

fn ports_that_are_not_shared_are_nobody_elses(way: &str) {
    for (is_shared, want) in [("true", Ok(())), ("false", Err(Errno::ADDRINUSE))] {
        let mesh = Mesh::with(way)
            .environment("INPOD_PORT_REUSE", is_shared)
            .environment("ZTUNNEL_WORKER_THREADS", "3")
            .start();
        let (tcp, udp) = (SocketType::STREAM, SocketType::DGRAM);
        let ports = [(tcp, 15001), (tcp, 15006), (tcp, 15008), (tcp, 15053), (udp, 15053)];
        for (kind, port) in ports {
            let share = || {
                // As the proxy's own successor would.
                let socket = socket(AddressFamily::INET, kind, None)?;
                sockopt::set_socket_reuseaddr(&socket, true)?;
                sockopt::set_socket_reuseport(&socket, true)?;
                let ip = if port == 15053 { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
                bind(&socket, &SocketAddr::from((ip, port)))
            };
            let shared = mesh.at("server").enter(share).unwrap();
            assert_eq!(shared, want, "{kind:?} {port} with INPOD_PORT_REUSE={is_shared}");
        }
        // One thread listens for a pod, and all of them serve: every pod is reached, from every pod.
        let _echoes = ["server", "server-2"].map(|name| Application::echo(mesh.at(name), 8080));
        for from in ["client", "neighbour", "server"] {
            for to in [mesh.address("server-2", 8080), SERVICE.parse().unwrap()] {
                for _ in 0..4 {
                    echo_once(mesh.at(from), to).unwrap_or_else(|error| {
                        panic!("{from} to {to}: {error}\n{}", mesh.a.process.log())
                    });
                }
            }
        }
    }
}

fn what_happens_to_connections_is_told_as_it_happens(way: &str) {
    let mesh = Mesh::with(way).environment("AUTHZ_POLICY_INFO_LOGGING", "true").start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let server = mesh.address("server", 8080);
    echo_once(mesh.at("client"), server).unwrap();
    assert!(dies_without_data(try_connect(mesh.at("stranger"), server)));
    let told = |log: &str, parts: &[&str]| {
        log.lines().any(|line| parts.iter().all(|part| line.contains(part)))
    };
    let (allowed, refused) = ("is allowed\t", "the connection is refused\t");
    for (message, from) in [(allowed, "src.addr=10.1."), (refused, "src.addr=10.1.0.99:")] {
        let parts = ["\tinfo\tauthorization\t", message, from, "dst.uid="];
        wait_until("policies' word", PATIENCE, || told(&mesh.b.process.log(), &parts))
            .unwrap_or_else(|error| panic!("{error}\n{}", mesh.b.process.log()));
    }

    // A connection that goes on is told once somebody wants to hear of it, and not before.
    let opened =
        ["\tdebug\taccess\tconnection opened\t", "dst.hbone_addr=", "direction=\"outbound\""];
    assert!(!told(&mesh.a.process.log(), &opened));
    change_log(mesh.at("host-a"), "access=debug");
    let mut open = Vec::new();
    wait_until("an open connection is told", PATIENCE, || {
        let mut connection = connect(mesh.at("client"), server);
        exchange(&mut connection, b"and stay").unwrap();
        open.push(connection);
        told(&mesh.a.process.log(), &opened)
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", mesh.a.process.log()));
}

fn change_log(host: &Namespace, level: &str) {
    let mut admin = connect(host, SocketAddr::from(([127, 0, 0, 1], 15000)));
    let head = format!("POST /logging?level={level} HTTP/1.1\r\nHost: admin\r\n");
    write!(admin, "{head}Content-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    admin.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// As the kernel has them, and with an idle time that is nobody's default.
fn sockets_in_a_pod_are_marked_and_kept_alive(way: &str) {
    for is_shared in ["true", "false"] {
        let mesh = Mesh::with(way)
            .environment("KEEPALIVE_TIME", "90s")
            .environment("INPOD_PORT_REUSE", is_shared)
            .start();
        let _echoes = ["server", "legacy"].map(|pod| Application::echo(mesh.at(pod), 8080));
        let _open = ["server", "legacy"].map(|pod| {
            let mut stream = connect(mesh.at("client"), mesh.address(pod, 8080));
            exchange(&mut stream, b"before").unwrap();
            stream
        });
        //  socket                                pod       transport  what its line says
        let rows = [
            ("listens for outbound", "client", "-tl", ":15001 "),
            ("listens for inbound", "client", "-tl", ":15006 "),
            ("listens for tunnels", "client", "-tl", ":15008 "),
            ("listens for names", "client", "-ul", ":15053 "),
            ("accepted outbound", "client", "-t", ":15001 "),
            ("into the tunnel", "client", "-t", "10.2.0.10:15008 "),
            ("past the mesh", "client", "-t", "10.2.0.99:8080 "),
            ("accepted the tunnel", "server", "-t", ":15008 "),
            ("towards the application", "server", "-t", ":8080 "),
        ];
        for (socket, pod, transport, text) in rows {
            let fits = |line: &str| {
                let has_options = match transport {
                    "-t" => keepalive_seconds(line).is_some_and(|left| left <= 90),
                    // How many connections its queue may have.
                    "-tl" => {
                        line.split_whitespace().nth(2).and_then(|most| most.parse().ok())
                            >= Some(1024)
                    }
                    _ => true,
                };
                line.contains(text) && line.contains("fwmark:0x539") && has_options
            };
            let mut seen = String::new();
            // While something is on its way, the timer is another.
            let found = wait_until(socket, PATIENCE, || {
                seen = sockets(mesh.at(pod), transport);
                seen.lines().any(fits)
            });
            found.unwrap_or_else(|error| panic!("INPOD_PORT_REUSE={is_shared}: {error}\n{seen}"));
        }
    }
}

/// The sockets of a pod, as `ss` tells them: with their marks and timers.
fn sockets(pod: &Namespace, which: &str) -> String {
    let mut command = Command::new("ss");
    command.args(["-Hneo", which]);
    let told = pod.enter(|| command.output()).unwrap().expect("ss, of the package iproute2");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    String::from_utf8(told.stdout).unwrap()
}

/// `timer:(keepalive,1min29sec,0)`: when a peer that says nothing is asked whether it is there.
fn keepalive_seconds(line: &str) -> Option<u64> {
    let (left, _) = line.split_once("timer:(keepalive,")?.1.split_once(',')?;
    let (minutes, rest) = left.split_once("min").unwrap_or(("0", left));
    let seconds = match rest.strip_suffix("sec") {
        Some(seconds) => seconds.split('.').next()?.parse().ok()?,
        // Nothing behind the minutes, or less than a second.
        None => 0,
    };
    Some(minutes.parse::<u64>().ok()? * 60 + seconds)
}
