//! What happens while connections live: drain, reload, renewal, restart.

use std::io::Read;
use std::net::{Shutdown, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringway_bench::lab::{Namespace, wait_until};
use ringway_bench::pattern;
use ringway_bench::probe;
use ringway_control::handover::control_socket;
use ringway_control::run::STATE_DIRECTORY;

use crate::support::{
    Application, Mesh, PATIENCE, assert_cut, connect, echo_once, exchange, http_get, is_timeout,
};
use crate::{on_both_reactors, under_a_control_plane};

on_both_reactors! {
    an_open_connection_outlives_the_signal_to_stop,
    the_drain_deadline_ends_what_is_left,
    asked_twice_it_ends_at_once_and_what_is_open_is_cut,
    asked_twice_it_leaves_nothing_behind,
    a_reload_adds_a_running_workload_without_a_failed_request,
    a_reload_takes_a_workload_away,
    what_a_workload_opens_while_it_leaves_does_not_hang,
    open_connections_survive_enrolment_and_withdrawal,
    a_bad_reload_is_refused_and_changes_nothing,
    certificates_are_renewed_under_traffic,
    a_profile_under_traffic_loses_nothing_and_names_the_shards,
    the_rules_are_gone_after_the_end,
    a_killed_proxy_is_taken_over_by_the_next,
}

under_a_control_plane! {
    an_open_connection_outlives_the_signal_to_stop,
    the_drain_deadline_ends_what_is_left,
    asked_twice_it_ends_at_once_and_what_is_open_is_cut,
    a_reload_takes_a_workload_away,
    certificates_are_renewed_under_traffic,
}

fn an_open_connection_outlives_the_signal_to_stop(reactor: &str) {
    let mut mesh = Mesh::start(reactor);
    let _echo = Application::echo(mesh.at("server"), 8080);
    let mut stream = connect(mesh.at("client"), mesh.address("server", 8080));
    exchange(&mut stream, b"before").unwrap();
    for proxy in [&mesh.a, &mesh.b] {
        proxy.process.signal(rustix::process::Signal::TERM).unwrap();
    }
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        exchange(&mut stream, b"while it drains").unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    assert!(mesh.a.process.is_running() && mesh.b.process.is_running());
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    // With the last connection, and long before the deadline.
    for proxy in [&mut mesh.a, &mut mesh.b] {
        let status = proxy.process.wait(Duration::from_secs(10)).unwrap();
        assert!(status.success(), "{status}: {}", proxy.process.log());
    }
}

fn the_drain_deadline_ends_what_is_left(reactor: &str) {
    let mut mesh = Mesh::with(reactor).drain_deadline("2s").start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let mut stream = connect(mesh.at("client"), mesh.address("server", 8080));
    exchange(&mut stream, b"before").unwrap();
    let start = Instant::now();
    mesh.a.stop();
    assert!(start.elapsed() >= Duration::from_secs(2), "it did not wait for the connection");
    // Cut off, not ended: the application must not take what it got for all there was.
    assert_cut(&mut stream);
    let cut = mesh.a.record("the connection that was cut", |r| !r.get("error").is_empty());
    assert!(cut.get("error").contains("drain"), "{cut:?}");
}

fn asked_twice_it_ends_at_once_and_what_is_open_is_cut(reactor: &str) {
    let mut mesh = Mesh::with(reactor).drain_deadline("1m").start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let mut stream = connect(mesh.at("client"), mesh.address("server", 8080));
    exchange(&mut stream, b"before").unwrap();
    mesh.a.process.signal(rustix::process::Signal::TERM).unwrap();
    mesh.a.wait_for_log("draining");
    mesh.a.process.signal(rustix::process::Signal::TERM).unwrap();
    assert_cut(&mut stream);
    assert_eq!(mesh.a.process.wait(PATIENCE).unwrap().code(), Some(130));
    assert_eq!(mesh.a.records(|record| record.get("error").contains("drain")), 1);
    let log = mesh.a.process.log();
    assert!(log.contains("the end was asked for again: connections were cut"), "{log}");
    assert!(!log.contains("the drain deadline passed"), "{log}");
    assert!(log.lines().last().is_some_and(|line| line.ends_with("ended")), "{log}");
}

fn asked_twice_it_leaves_nothing_behind(reactor: &str) {
    let mut mesh = Mesh::with(reactor).drain_deadline("1m").start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let pods = ["client", "neighbour"];
    // Before its rules let go, while they do, and while it drains.
    for pause in [0, 5, 20, 80, 300].map(Duration::from_millis) {
        let mut stream = connect(mesh.at("client"), mesh.address("server", 8080));
        exchange(&mut stream, b"before").unwrap();
        assert!(pods.iter().all(|pod| has_rules(mesh.at(pod))));
        assert!(control_socket(mesh.at("host-a")).exists());
        mesh.a.process.signal(rustix::process::Signal::TERM).unwrap();
        thread::sleep(pause);
        mesh.a.process.signal(rustix::process::Signal::INT).unwrap();
        let status = mesh.a.process.wait(Duration::from_secs(10)).unwrap();
        let log = mesh.a.process.log();
        assert_eq!(status.code(), Some(130), "{pause:?}: {log}");
        assert!(log.contains("ended"), "{pause:?}: {log}");
        for pod in pods {
            assert!(!has_rules(mesh.at(pod)), "{pause:?}, {pod}: {}", rules(mesh.at(pod)));
        }
        assert!(!control_socket(mesh.at("host-a")).exists(), "{pause:?}: {log}");
        mesh.restart("host-a");
    }
}

fn a_reload_adds_a_running_workload_without_a_failed_request(reactor: &str) {
    let mut mesh = Mesh::with(reactor).permissive().start();
    let _server = Application::echo(mesh.at("server"), 8080);
    let _late = Application::echo(mesh.at("late"), 8080);
    let to_late = mesh.address("late", 8080);
    let ids = (mesh.a.process.id(), mesh.b.process.id());
    let (stop, failures, requests) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for (from, to) in [("client", mesh.address("server", 8080)), ("client", to_late)] {
            let (from, stop) = (mesh.at(from), &stop);
            let (failures, requests) = (&failures, &requests);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    requests.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = echo_once(from, to) {
                        eprintln!("{to}: {error}");
                        failures.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        // The thread that changes the file; `late` is passed through first and tunnelled then.
        scope.spawn(|| {
            let _stop = StopOnDrop(&stop);
            let tunnelled = |r: &crate::support::Record| {
                r.get("direction") == "outbound" && r.get("dst.hbone_addr") == "10.2.0.12:8080"
            };
            wait_until("traffic flows", PATIENCE, || requests.load(Ordering::Relaxed) > 20)
                .unwrap();
            assert_eq!(mesh.a.records(tunnelled), 0);
            mesh.rewrite(&mesh.settings.clone().late().configuration(&mesh.lab));
            mesh.a.record("late is reached through a tunnel", tunnelled);
            let since = requests.load(Ordering::Relaxed);
            wait_until("traffic goes on", PATIENCE, || {
                requests.load(Ordering::Relaxed) > since + 20
            })
            .unwrap();
        });
    });
    assert_eq!(failures.load(Ordering::Relaxed), 0, "of {}", requests.load(Ordering::Relaxed));
    assert_eq!(ids, (mesh.a.process.id(), mesh.b.process.id()));
    assert!(mesh.a.process.is_running() && mesh.b.process.is_running());
    // And it is a client now, with its own identity.
    echo_once(mesh.at("late"), mesh.address("server", 8080)).unwrap();
    mesh.b.record("late is known at the server", |r| {
        r.get("src.identity") == "spiffe://cluster.local/ns/default/sa/late"
            && r.get("direction") == "inbound"
    });
}

fn a_reload_takes_a_workload_away(reactor: &str) {
    let mesh = Mesh::with(reactor).late().start();
    let _echo = Application::echo(mesh.at("late"), 8080);
    echo_once(mesh.at("client"), mesh.address("late", 8080)).unwrap();
    assert!(has_rules(mesh.at("late")));
    mesh.rewrite(&Mesh::with(reactor).configuration(&mesh.lab));
    wait_until("late has no rules any more", PATIENCE, || !has_rules(mesh.at("late"))).unwrap();
    // Reached still, as anything outside the mesh is.
    wait_until("late is passed through", PATIENCE, || {
        echo_once(mesh.at("client"), mesh.address("late", 8080)).is_ok()
    })
    .unwrap();
    assert!(has_rules(mesh.at("server")));
}

/// A connection that was redirected can only be told of its end for as long as the kernel translates its addresses. Where
/// the rules are the CNI's, so is the order.
fn what_a_workload_opens_while_it_leaves_does_not_hang(reactor: &str) {
    let mesh = Mesh::with(reactor).late().start();
    let _server = Application::echo(mesh.at("server"), 8080);
    let (late, server) = (mesh.at("late"), mesh.address("server", 8080));
    let (stop, hung) = (AtomicBool::new(false), AtomicUsize::new(0));
    let configurations = [mesh.settings.clone(), Mesh::with(reactor)]
        .map(|settings| settings.configuration(&mesh.lab));
    let [with, without] = &configurations;
    thread::scope(|scope| {
        for _ in 0..4 {
            let (stop, hung) = (&stop, &hung);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // Nobody gets in who is not in the mesh.
                    if let Err(error) = echo_once(late, server)
                        && is_timeout(&error)
                    {
                        hung.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let _stop = StopOnDrop(&stop);
        for _ in 0..3 {
            mesh.rewrite(without);
            wait_until("late is not captured", PATIENCE, || !has_rules(late)).unwrap();
            mesh.rewrite(with);
            wait_until("late is served", PATIENCE, || echo_once(late, server).is_ok()).unwrap();
        }
    });
    assert_eq!(hung.load(Ordering::Relaxed), 0);
}

fn open_connections_survive_enrolment_and_withdrawal(reactor: &str) {
    let mesh = Mesh::with(reactor).permissive().start();
    let _late = Application::echo(mesh.at("late"), 8080);
    let _legacy = Application::echo(mesh.at("legacy"), 8080);
    // Towards it and from it, through a proxy on the other side and without any.
    let open = || {
        [("client", "late"), ("stranger", "late"), ("late", "legacy"), ("late", "server-2")]
            .map(|(from, to)| (from, to, connect(mesh.at(from), mesh.address(to, 8080))))
    };
    let _server = Application::echo(mesh.at("server-2"), 8080);
    let mut before = open();
    for (.., stream) in &mut before {
        exchange(stream, b"before the enrolment").unwrap();
    }
    mesh.rewrite(&mesh.settings.clone().late().configuration(&mesh.lab));
    wait_until("late is captured", PATIENCE, || has_rules(mesh.at("late"))).unwrap();
    let mut during = open();
    for (from, to, stream) in before.iter_mut().chain(&mut during) {
        exchange(stream, b"after the enrolment").unwrap_or_else(|e| panic!("{from} to {to}: {e}"));
    }
    mesh.rewrite(&mesh.settings.configuration(&mesh.lab));
    wait_until("late is not captured", PATIENCE, || !has_rules(mesh.at("late"))).unwrap();
    for (from, to, stream) in &mut before {
        exchange(stream, b"after the withdrawal").unwrap_or_else(|e| panic!("{from} to {to}: {e}"));
    }
}

fn a_bad_reload_is_refused_and_changes_nothing(reactor: &str) {
    let mut mesh = Mesh::start(reactor);
    let _echo = Application::echo(mesh.at("server"), 8080);
    let mut stream = connect(mesh.at("client"), mesh.address("server", 8080));
    exchange(&mut stream, b"before").unwrap();
    let good = mesh.settings.configuration(&mesh.lab);
    mesh.rewrite(&good.replace("clusterIP: 10.96.0.1", "clusterIp: 10.96.0.1"));
    mesh.a.wait_for_log("clusterIp");
    let log = mesh.a.process.log();
    let place = log.lines().find(|line| line.contains("mesh.yaml:")).unwrap_or_default();
    assert!(!place.is_empty(), "no file and line:\n{log}");
    exchange(&mut stream, b"after").unwrap();
    mesh.assert_works(8080);
    // A good one is taken again.
    mesh.rewrite(&mesh.settings.clone().late().configuration(&mesh.lab));
    wait_until("late is captured", PATIENCE, || has_rules(mesh.at("late"))).unwrap();
}

fn certificates_are_renewed_under_traffic(reactor: &str) {
    let mesh = Mesh::with(reactor).leaf_lifetime("6s").start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let files = mesh.certificate("spiffe://cluster.local/ns/default/sa/probe");
    let presented = || {
        let stream = connect(mesh.at("stranger"), mesh.address("server", 15008));
        probe::certificate(&probe::connect(stream, &files).unwrap()).unwrap()
    };
    let first = presented();
    // Three lives: whoever keeps the first certificate is refused well before the end.
    let until = Instant::now() + Duration::from_secs(18);
    while Instant::now() < until {
        mesh.assert_works(8080);
        echo_once(mesh.at("neighbour"), mesh.address("server", 8080)).unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    assert_ne!(presented(), first);
    let failed = |proxy: &crate::support::Proxy| proxy.records(|r| !r.get("error").is_empty());
    assert_eq!((failed(&mesh.a), failed(&mesh.b)), (0, 0));
}

fn the_rules_are_gone_after_the_end(reactor: &str) {
    let mut mesh = Mesh::start(reactor);
    let pods = ["client", "neighbour", "server", "server-2"];
    assert!(pods.iter().all(|pod| has_rules(mesh.at(pod))));
    let before = routing(mesh.at("stranger"));
    mesh.a.stop();
    mesh.b.stop();
    for pod in pods {
        assert!(!has_rules(mesh.at(pod)), "{pod}: {}", rules(mesh.at(pod)));
        assert_eq!(routing(mesh.at(pod)), before, "policy routing of {pod}");
    }
    // Applications reach each other as if there had never been a mesh.
    let _echo = Application::echo(mesh.at("server"), 8080);
    mesh.assert_works(8080);
}

fn a_killed_proxy_is_taken_over_by_the_next(reactor: &str) {
    let mut mesh = Mesh::start(reactor);
    let _echo = Application::echo(mesh.at("server"), 8080);
    mesh.assert_works(8080);
    mesh.a.process.signal(rustix::process::Signal::KILL).unwrap();
    mesh.a.process.wait(PATIENCE).unwrap();
    // Nothing goes out in the clear in the meantime.
    assert!(echo_once(mesh.at("client"), mesh.address("server", 8080)).is_err());
    mesh.restart("host-a");
    mesh.assert_works(8080);
    let tables = rules(mesh.at("client")).matches("table ").count();
    assert_eq!(tables, rules(mesh.at("server")).matches("table ").count(), "rules were doubled");
    mesh.a.stop();
    assert!(!has_rules(mesh.at("client")), "{}", rules(mesh.at("client")));
}

struct StopOnDrop<'f>(&'f AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn has_rules(pod: &Namespace) -> bool {
    rules(pod).contains("15001")
}

/// Where the node of a namespace is asked for a hand-over.
fn control_socket(host: &Namespace) -> PathBuf {
    host.enter(|| control_socket::path(Path::new(STATE_DIRECTORY), "host-a")).unwrap().unwrap()
}

/// All packet filter rules of a namespace, whichever tool is here to tell.
fn rules(pod: &Namespace) -> String {
    let nft = output(pod, "nft", &["list", "ruleset"]);
    let iptables = output(pod, "iptables-save", &[]);
    nft.or(iptables).expect("nft or iptables-save is installed")
}

fn routing(pod: &Namespace) -> String {
    let rules = output(pod, "ip", &["rule"]).unwrap();
    rules + &output(pod, "ip", &["route", "show", "table", "100"]).unwrap_or_default()
}

fn output(pod: &Namespace, program: &str, arguments: &[&str]) -> Option<String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", path);
    let output = pod.enter(|| command.output()).unwrap().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The profiler's signals end waits early and interrupt what moves bytes.
fn a_profile_under_traffic_loses_nothing_and_names_the_shards(reactor: &str) {
    let mesh = Mesh::start(reactor);
    let _echo = Application::echo(mesh.at("server"), 8080);
    let to = mesh.address("server", 8080);
    let admin = SocketAddr::from(([127, 0, 0, 1], 15000));
    let ask = |target: &str| http_get(mesh.at("host-a"), admin, target).unwrap();
    let (stop, exchanges) = (AtomicBool::new(false), AtomicUsize::new(0));
    let profile = thread::scope(|scope| {
        for number in 0..4u64 {
            let (mesh, stop, exchanges) = (&mesh, &stop, &exchanges);
            scope.spawn(move || {
                let mut live = connect(mesh.at("client"), to);
                let mut bulk = vec![0; 300_000];
                let until = Instant::now() + PATIENCE;
                while !stop.load(Ordering::Relaxed) && Instant::now() < until {
                    echo_once(mesh.at("client"), to).expect("a new connection while profiled");
                    pattern::fill(number, 0, &mut bulk);
                    exchange(&mut live, &bulk).expect("an old connection while profiled");
                    exchanges.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let folded = ask("/debug/flame?seconds=3&format=folded");
        stop.store(true, Ordering::Relaxed);
        folded
    });
    assert_eq!(profile.0, 200, "{}", profile.1);
    assert!(exchanges.load(Ordering::Relaxed) > 10);
    let shards = profile.1.lines().filter(|line| line.starts_with("shard-")).count();
    assert!(shards > 5, "{}", profile.1);
    assert!(profile.1.contains("ringway_engine::"), "{}", profile.1);
    let (status, svg) = ask("/debug/flame?seconds=1");
    assert!(status == 200 && svg.starts_with("<svg "), "{svg}");
}
