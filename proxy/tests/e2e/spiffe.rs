//! Identities from a SPIFFE agent on each host, by the Workload API: given, renewed, away, and not given.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ringway_bench::lab::{Lab, Namespace, wait_until};
use ringway_bench::probe;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::on_both_reactors;
use crate::support::{
    Application, CLIENT, Mesh, PATIENCE, Proxy, SERVER, SERVICE, connect, dies_without_data,
    echo_once, exchange, http_get, try_connect,
};

on_both_reactors! {
    hosts_prove_what_their_agents_give,
    what_the_agents_renew_is_used_and_nothing_fails,
    traffic_goes_on_without_the_agents_and_they_are_heard_again,
    what_ends_while_the_agents_are_away_is_told_and_comes_back_with_them,
    an_identity_that_is_not_given_costs_its_workload_and_nobody_else,
    what_is_taken_back_is_in_force_until_it_ends,
    nobody_takes_over_without_the_agent,
}

/// Long enough for a story.
const LIFETIME: Duration = Duration::from_secs(3600);

const LATE: &str = "spiffe://cluster.local/ns/default/sa/late";

/// Requests that are to go well after a change.
const REQUESTS: usize = 30;

fn hosts_prove_what_their_agents_give(reactor: &str) {
    let mesh = Mesh::with(reactor).workload_api(LIFETIME).start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let _other = Application::echo(mesh.at("server-2"), 8080);
    mesh.assert_works(8080);
    echo_once(mesh.at("client"), SERVICE.parse().unwrap()).unwrap();
    mesh.a.record("the server's identity", |record| {
        record.get("direction") == "outbound" && record.get("dst.identity") == SERVER
    });
    mesh.b.record("the client's identity", |record| {
        record.get("direction") == "inbound" && record.get("src.identity") == CLIENT
    });
    // Under the agents' root, and nobody gets in without it.
    presented(&mesh);
    assert!(dies_without_data(try_connect(mesh.at("stranger"), mesh.address("server", 8080))));
    // One call each: the stream is held open.
    assert_eq!((mesh.spiffe().calls("host-a"), mesh.spiffe().calls("host-b")), (1, 1));
}

fn what_the_agents_renew_is_used_and_nothing_fails(reactor: &str) {
    let mesh = Mesh::with(reactor).workload_api(LIFETIME).start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let mut stream = connect(mesh.at("client"), mesh.address("server", 8080));
    exchange(&mut stream, b"before").unwrap();
    let hosts = [("host-a", CLIENT), ("host-b", SERVER)];
    let serials = || hosts.map(|(host, identity)| serial(mesh.at(host), identity));
    let roots = || hosts.map(|(host, identity)| roots(mesh.at(host), identity));
    under_load(&mesh.lab, |load| {
        let (before, shown) = (serials(), presented(&mesh));
        mesh.spiffe().tell(json!({"order": "renew"}));
        eventually("new certificates", || differ(&serials(), &before));
        assert_ne!(presented(&mesh), shown, "new connections get the new one");
        load.goes_on();

        // The way of a root: trusted everywhere first, then it signs.
        let (before, shown) = (serials(), presented(&mesh));
        mesh.spiffe().tell(json!({"order": "announce-root"}));
        eventually("both roots are trusted", || roots() == [2, 2]);
        assert_eq!(serials()[0], before[0], "nothing else has changed");
        load.goes_on();
        mesh.spiffe().tell(json!({"order": "rotate-root", "keep": true}));
        eventually("certificates under the new root", || differ(&serials(), &before));
        assert_ne!(presented(&mesh), shown);
        load.goes_on();
    });
    exchange(&mut stream, b"after all of it").unwrap();
    assert_nothing_failed(&mesh);
}

fn traffic_goes_on_without_the_agents_and_they_are_heard_again(reactor: &str) {
    let mut mesh = Mesh::with(reactor).workload_api(LIFETIME).start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let before =
        [("host-a", CLIENT), ("host-b", SERVER)].map(|(host, id)| serial(mesh.at(host), id));
    let calls = mesh.spiffe().calls("host-b");
    mesh.spiffe().kill();
    for proxy in [&mut mesh.a, &mut mesh.b] {
        proxy.wait_for_log("the SPIFFE agent is not heard");
    }
    under_load(&mesh.lab, |load| {
        load.goes_on();
        // Somebody new needs a tunnel, and gets one by what is held.
        echo_once(mesh.at("neighbour"), mesh.address("server", 8080)).unwrap();
        assert!(is_ready(&mesh, "host-a").is_ok() && is_ready(&mesh, "host-b").is_ok());
        mesh.spiffe().restart(&mesh.lab);
        eventually("what it gives now is in force", || {
            serial(mesh.at("host-a"), CLIENT) != before[0]
                && serial(mesh.at("host-b"), SERVER) != before[1]
        });
        load.goes_on();
    });
    assert!(mesh.spiffe().calls("host-b") > calls);
    assert_nothing_failed(&mesh);
}

fn what_ends_while_the_agents_are_away_is_told_and_comes_back_with_them(reactor: &str) {
    let mut mesh = Mesh::with(reactor).workload_api(Duration::from_secs(10)).start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    // Over some renewals of the agents' own accord.
    let first = serial(mesh.at("host-b"), SERVER);
    under_load(&mesh.lab, |load| {
        eventually("it is renewed", || serial(mesh.at("host-b"), SERVER) != first);
        load.goes_on();
    });
    assert_nothing_failed(&mesh);
    mesh.spiffe().kill();
    mesh.b.wait_for_log("no valid certificate any more");
    mesh.a.wait_for_log("no valid certificate any more");
    eventually("the reason is shown", || {
        state(mesh.at("host-b"), SERVER).starts_with("Unavailable: no SPIFFE agent at ")
    });
    let log = mesh.b.process.log();
    assert!(!log.contains("is a clock wrong"), "{log}");
    let pending = is_ready(&mesh, "host-b").expect_err("it has nothing to prove itself by");
    assert!(pending.contains(&format!("certificate {SERVER}")), "{pending}");
    eventually("nothing goes without a certificate", || {
        echo_once(mesh.at("client"), mesh.address("server", 8080)).is_err()
    });
    mesh.spiffe().restart(&mesh.lab);
    eventually("it works again", || {
        echo_once(mesh.at("client"), mesh.address("server", 8080)).is_ok()
    });
    eventually("both are ready", || {
        ["host-a", "host-b"].iter().all(|host| is_ready(&mesh, host).is_ok())
    });
}

fn an_identity_that_is_not_given_costs_its_workload_and_nobody_else(reactor: &str) {
    let mut mesh = Mesh::with(reactor).workload_api(LIFETIME).start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let _late = Application::echo(mesh.at("late"), 8080);
    mesh.rewrite(&mesh.settings.clone().late().configuration(&mesh.lab));
    mesh.b.wait_for_log(&format!("the SPIFFE agent does not give us {LATE}, but "));
    let log = mesh.b.process.log();
    assert!(log.contains(&format!("{SERVER}; register an entry for it")), "{log}");
    // Captured, and known to the other host.
    eventually("it lacks its certificate and nothing else", || {
        is_ready(&mesh, "host-b").is_err_and(|pending| {
            pending.contains(&format!("certificate {LATE}")) && !pending.contains("workload ")
        })
    });
    mesh.a.wait_for_log("configuration reloaded");
    under_load(&mesh.lab, |load| {
        for (from, to) in [("late", "server"), ("client", "late")] {
            let refused = try_connect(mesh.at(from), mesh.address(to, 8080));
            assert!(dies_without_data(refused), "{from} to {to} without a certificate");
        }
        load.goes_on();
        mesh.spiffe().hold("host-b", &["server", "late"]);
        for (from, to) in [("late", "server"), ("client", "late")] {
            eventually("it is served now", || {
                echo_once(mesh.at(from), mesh.address(to, 8080)).is_ok()
            });
        }
        load.goes_on();
    });
    eventually("nothing is lacking", || is_ready(&mesh, "host-b").is_ok());
}

/// The specification says "SHOULD cease using the redacted SVIDS": an agent that has lost sight of its server for a moment
/// would cost the host its connections.
fn what_is_taken_back_is_in_force_until_it_ends(reactor: &str) {
    let mut mesh = Mesh::with(reactor).workload_api(Duration::from_secs(20)).start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let to = mesh.address("server", 8080);
    echo_once(mesh.at("neighbour"), to).unwrap();
    mesh.spiffe().hold("host-a", &["client"]);
    mesh.a.wait_for_log("does not give us spiffe://cluster.local/ns/default/sa/neighbour, but ");
    echo_once(mesh.at("neighbour"), to).unwrap();
    // Nobody at all: the agent ends the stream, and is asked again.
    mesh.spiffe().hold("host-b", &[]);
    mesh.b.wait_for_log("has no identity for us (no identity issued)");
    mesh.assert_works(8080);
    mesh.spiffe().hold("host-b", &["server"]);
    mesh.a.wait_for_log("no valid certificate any more");
    let refused = try_connect(mesh.at("neighbour"), to);
    assert!(dies_without_data(refused), "it has ended");
    eventually("the other goes on", || echo_once(mesh.at("client"), to).is_ok());
}

fn nobody_takes_over_without_the_agent(reactor: &str) {
    let mut mesh = Mesh::with(reactor).workload_api(LIFETIME).start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    under_load(&mesh.lab, |load| {
        load.goes_on();
        // The old one is attested, and so is the new one.
        let mut old = mesh.a.hand_over();
        load.goes_on();
        assert!(old.wait(PATIENCE).unwrap().success(), "{}", old.log());
        let agents = mesh.spiffe.as_ref().expect("there are agents");
        assert_eq!(agents.calls("host-a"), 2);
        agents.hold("host-a", &[]);
        assert_not_handed_over(&mut mesh.a, "has no identity for us");
        load.goes_on();
        agents.kill();
        assert_not_handed_over(&mut mesh.a, "no SPIFFE agent at ");
        load.goes_on();
        agents.restart(&mesh.lab);
        drop(mesh.a.hand_over());
        load.goes_on();
    });
}

/// Asks for a hand-over that must come to nothing, for this reason.
fn assert_not_handed_over(proxy: &mut Proxy, why: &str) {
    let before = proxy.process.log().matches("no hand-over").count();
    proxy.process.signal(Signal::USR2).unwrap();
    let ended = || proxy.process.log().matches("no hand-over").count() > before;
    wait_until("the hand-over ends", PATIENCE, ended)
        .unwrap_or_else(|error| panic!("{error}\n{}", proxy.process.log()));
    let log = proxy.process.log();
    let said =
        log.lines().rfind(|line| line.contains("there is no certificate")).unwrap_or_default();
    assert!(said.contains(why), "{said}\n{log}");
    assert!(proxy.process.is_running());
}

/// Connections that are opened all the time, one after the other.
struct Load {
    requests: AtomicUsize,
    failures: AtomicUsize,
    stop: AtomicBool,
}

impl Load {
    /// Waits for some more requests.
    fn goes_on(&self) {
        let since = self.requests.load(Ordering::Relaxed);
        eventually("traffic goes on", || self.requests.load(Ordering::Relaxed) >= since + REQUESTS);
    }
}

/// Does this while client asks server without a pause; nothing of that may fail.
fn under_load(lab: &Lab, story: impl FnOnce(&Load)) {
    let (client, server) = (lab.namespace("client"), lab.namespace("server").address());
    let server = SocketAddr::new(server, 8080);
    let load = Load {
        requests: AtomicUsize::new(0),
        failures: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            while !load.stop.load(Ordering::Relaxed) {
                if let Err(error) = echo_once(client, server) {
                    eprintln!("{error}");
                    load.failures.fetch_add(1, Ordering::Relaxed);
                }
                load.requests.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        });
        let _stop = StopOnDrop(&load.stop);
        story(&load);
    });
    let of = load.requests.load(Ordering::Relaxed);
    assert_eq!(load.failures.load(Ordering::Relaxed), 0, "of {of}");
}

struct StopOnDrop<'s>(&'s AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn eventually(what: &str, condition: impl FnMut() -> bool) {
    wait_until(what, PATIENCE, condition).unwrap_or_else(|error| panic!("{error}"));
}

fn differ(now: &[String; 2], before: &[String; 2]) -> bool {
    now.iter().zip(before).all(|(now, before)| now != before)
}

/// The certificate that server shows to whoever connects now.
fn presented(mesh: &Mesh) -> Vec<u8> {
    let files = mesh.certificate("spiffe://cluster.local/ns/default/sa/probe");
    let stream = connect(mesh.at("stranger"), mesh.address("server", 15008));
    probe::certificate(&probe::connect(stream, &files).unwrap()).unwrap()
}

fn assert_nothing_failed(mesh: &Mesh) {
    let failed = |proxy: &Proxy| proxy.records(|record| !record.get("error").is_empty());
    assert_eq!((failed(&mesh.a), failed(&mesh.b)), (0, 0), "{}", mesh.a.process.log());
}

/// What is pending on a host, if anything is.
fn is_ready(mesh: &Mesh, host: &str) -> Result<(), String> {
    let address = ([127, 0, 0, 1], 15021).into();
    match http_get(mesh.at(host), address, "/healthz/ready").unwrap() {
        (200, _) => Ok(()),
        (_, pending) => Err(pending),
    }
}

/// What a host's proxy tells of an identity.
fn certificate(host: &Namespace, identity: &str) -> Value {
    let (_, dump) = http_get(host, ([127, 0, 0, 1], 15000).into(), "/config_dump").unwrap();
    let dump: Value = serde_json::from_str(&dump).unwrap();
    let certificates = dump["certificates"].as_array().unwrap();
    let own = certificates.iter().find(|one| one["identity"] == identity);
    own.unwrap_or_else(|| panic!("{identity} is not known: {certificates:?}")).clone()
}

fn serial(host: &Namespace, identity: &str) -> String {
    certificate(host, identity)["certChain"][0]["serialNumber"].to_string()
}

fn roots(host: &Namespace, identity: &str) -> usize {
    certificate(host, identity)["rootCerts"].as_array().map_or(0, Vec::len)
}

fn state(host: &Namespace, identity: &str) -> String {
    certificate(host, identity)["state"].as_str().unwrap_or_default().to_owned()
}
