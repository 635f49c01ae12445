//! Neighbours of a node proxy that die, come back or say nothing while traffic flows: who is enrolled does not notice.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringway_bench::lab::wait_until;
use serde_json::{Value, json};

use crate::support::{Application, Mesh, PATIENCE, SERVICE, connect, echo_once, exchange};
use crate::{under_a_control_plane, under_a_control_plane_on_epoll};

under_a_control_plane! {
    a_control_plane_that_dies_and_returns_is_not_missed,
    a_control_plane_that_says_nothing_is_not_missed,
    a_reconnect_storm_disturbs_nobody,
    an_authority_that_refuses_is_not_missed_while_certificates_last,
    an_authority_that_dies_alone_is_not_missed,
    an_authority_that_says_nothing_is_not_missed,
    an_agent_that_dies_and_returns_is_not_missed,
    an_agent_that_forgot_its_pods_has_them_kept,
    what_changes_during_an_outage_is_in_force_soon_after,
    a_pod_is_enrolled_while_the_control_plane_is_away,
    a_killed_proxy_comes_back_to_its_pods,
    a_rolling_update_loses_no_connection,
    a_new_root_beside_the_old_one_disturbs_nobody,
    a_mesh_that_grows_large_disturbs_nobody,
}

under_a_control_plane_on_epoll! {
    an_authority_that_dies_alone_is_not_missed,
    a_control_plane_that_dies_and_returns_is_not_missed,
    an_agent_that_dies_and_returns_is_not_missed,
    a_killed_proxy_comes_back_to_its_pods,
    a_rolling_update_loses_no_connection,
}

/// A working state must be back this soon after the control plane is.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// How long a neighbour is away.
const AWAY: Duration = Duration::from_secs(3);

/// Renewals are due at half of a certificate's life, and an answer is waited for ten seconds.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);

fn a_control_plane_that_dies_and_returns_is_not_missed(way: &str) {
    let mesh = Mesh::start(way);
    under_load(&mesh, || {
        mesh.plane().kill();
        thread::sleep(AWAY);
        mesh.plane().restart(&mesh.lab);
    });
}

fn a_control_plane_that_says_nothing_is_not_missed(way: &str) {
    let mesh = Mesh::start(way);
    under_load(&mesh, || {
        // Its sockets go on taking connections, which are never answered; the agents are mute, too.
        mesh.plane().freeze();
        thread::sleep(2 * AWAY);
        mesh.plane().thaw();
    });
}

fn a_reconnect_storm_disturbs_nobody(way: &str) {
    let mesh = Mesh::start(way);
    under_load(&mesh, || {
        let plane = mesh.plane();
        plane.tell(json!({"order": "drop-connections", "times": 30, "pause_milliseconds": 50}));
        plane.tell(json!({"order": "goaway"}));
        plane.tell(json!({"order": "end-streams", "code": 13, "message": "internal"}));
        plane.tell(json!({"order": "delay", "service": "xds", "milliseconds": 1000}));
        plane.tell(json!({"order": "drop-connections"}));
    });
}

fn an_authority_that_refuses_is_not_missed_while_certificates_last(way: &str) {
    let mesh = Mesh::with(way).leaf_lifetime("20s").start();
    under_load(&mesh, || {
        let refuse = json!({"order": "refuse-certificates", "milliseconds": 13_000});
        mesh.plane().tell(refuse);
        // Renewals are due at half of the lifetime, and refused at first.
        mesh.plane().wait_for("certificate", |line| !line["error"].is_null());
        let issued = mesh.plane().journal("certificate").len();
        wait_until("certificates are renewed", PATIENCE, || {
            let lines = mesh.plane().journal("certificate");
            lines.iter().skip(issued).any(|line| line["error"].is_null())
        })
        .unwrap();
    });
}

fn an_authority_that_dies_alone_is_not_missed(way: &str) {
    let mesh = Mesh::with(way).own_authority().leaf_lifetime("30s").start();
    let authority = mesh.authority();
    without_an_authority(&mesh, || authority.kill(), || authority.restart(&mesh.lab));
}

fn an_authority_that_says_nothing_is_not_missed(way: &str) {
    // What it is asked is given up after ten seconds, and the certificates outlast that.
    let mesh = Mesh::with(way).own_authority().leaf_lifetime("60s").start();
    let authority = mesh.authority();
    without_an_authority(&mesh, || authority.freeze(), || authority.thaw());
}

/// Under load: it goes before renewals are due, is away while they fail, and they are made up for when it is back.
fn without_an_authority(mesh: &Mesh, goes: impl FnOnce(), returns: impl FnOnce()) {
    let answered = || {
        let lines = mesh.authority().journal("certificate");
        lines.into_iter().filter(|line| line["error"].is_null()).collect::<Vec<_>>()
    };
    let who = |lines: &[Value]| {
        let who = lines.iter().filter_map(|line| line["identity"].as_str().map(str::to_owned));
        who.collect::<BTreeSet<_>>()
    };
    under_load(mesh, || {
        let issued = answered();
        assert!(who(&issued).len() >= 3, "{issued:?}");
        goes();
        for proxy in [&mesh.a, &mesh.b] {
            let noticed = || proxy.process.log().contains("no new certificate; tried again");
            wait_until("renewals fail", NOTICED_WITHIN, noticed).unwrap();
        }
        // Of the control plane nothing is missing.
        mesh.plane().tell(json!({"order": "synthetic", "count": 10}));
        wait_until("both proxies are told of the mesh", PATIENCE, || acknowledged(mesh, 10) >= 2)
            .unwrap();
        returns();
        wait_until("everybody has a new certificate", PATIENCE, || {
            who(&answered()[issued.len()..]).is_superset(&who(&issued))
        })
        .unwrap();
    });
}

fn an_agent_that_dies_and_returns_is_not_missed(way: &str) {
    let mesh = Mesh::start(way);
    under_load(&mesh, || {
        let ended = mesh.plane().journal("hello").len();
        mesh.plane().tell(json!({"order": "stop", "service": "agent"}));
        thread::sleep(AWAY);
        mesh.plane().tell(json!({"order": "start", "service": "agent"}));
        wait_until("both proxies are back", PATIENCE, || {
            mesh.plane().journal("hello").len() >= ended + 2
        })
        .unwrap();
    });
}

fn an_agent_that_forgot_its_pods_has_them_kept(way: &str) {
    let mesh = Mesh::start(way);
    under_load(&mesh, || {
        mesh.plane().tell(json!({"order": "stop", "service": "agent"}));
        mesh.plane().tell(json!({"order": "start", "service": "agent", "forgetful": true}));
        for pod in ["client", "server"] {
            mesh.plane().wait_for("ack", |line| {
                line["told"] == "keep" && line["pod"] == pod && line["error"] == ""
            });
        }
        mesh.plane().wait_for("ack", |line| line["told"] == "snapshot" && line["error"] == "");
    });
}

fn what_changes_during_an_outage_is_in_force_soon_after(way: &str) {
    let mesh = Mesh::with(way).permissive().start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let stranger = || echo_once(mesh.at("stranger"), mesh.address("server", 8080));
    stranger().unwrap();
    mesh.plane().kill();
    // Meanwhile, the mesh is closed to who has no identity; nobody knows yet.
    mesh.rewrite(&Mesh::with(way).configuration(&mesh.lab));
    stranger().unwrap();
    mesh.plane().restart(&mesh.lab);
    let back = Instant::now();
    wait_until("a stranger is refused", BACK_WITHIN, || stranger().is_err()).unwrap();
    eprintln!("in force {:?} after the control plane was back", back.elapsed());
    mesh.assert_works(8080);
}

fn a_pod_is_enrolled_while_the_control_plane_is_away(way: &str) {
    let mesh = Mesh::start(way);
    mesh.plane().tell(json!({"order": "stop", "service": "port"}));
    let pod = json!({
        "name": "late", "namespace": "default", "service_account": "late", "node": "host-b",
        "network_namespace": mesh.at("late").path(),
    });
    mesh.plane().tell(json!({"order": "add-pod", "pod": pod}));
    mesh.plane().wait_for("ack", |line| {
        line["told"] == "add" && line["pod"] == "late" && line["error"] == ""
    });
    mesh.plane().tell(json!({"order": "start", "service": "port"}));
    let _echo = Application::echo(mesh.at("server"), 8080);
    let _late = Application::echo(mesh.at("late"), 8080);
    mesh.rewrite(&mesh.settings.clone().late().configuration(&mesh.lab));
    wait_until("late is a client with an identity", PATIENCE, || {
        echo_once(mesh.at("late"), mesh.address("server", 8080)).is_ok()
            && echo_once(mesh.at("client"), mesh.address("late", 8080)).is_ok()
    })
    .unwrap();
}

fn a_killed_proxy_comes_back_to_its_pods(way: &str) {
    let mut mesh = Mesh::start(way);
    let _echo = Application::echo(mesh.at("server"), 8080);
    mesh.assert_works(8080);
    mesh.a.process.signal(rustix::process::Signal::KILL).unwrap();
    mesh.a.process.wait(PATIENCE).unwrap();
    // Nothing goes out in the clear in the meantime.
    assert!(echo_once(mesh.at("client"), mesh.address("server", 8080)).is_err());
    mesh.restart("host-a");
    mesh.assert_works(8080);
}

/// A second proxy beside the first, as Kubernetes has it when the image changes; then the first is told to end.
fn a_rolling_update_loses_no_connection(way: &str) {
    let mut mesh = Mesh::start(way);
    // A place of its own on the same host: node proxies are in no pod's namespace and not in each other's.
    let next = mesh.settings.run_beside(&mesh.lab, "host-a", "stranger");
    let mut old = std::mem::replace(&mut mesh.a, next);
    let second = |line: &serde_json::Value| line["session"] == "host-a-2";
    mesh.plane().wait_for("ack", |line| second(line) && line["told"] == "snapshot");
    let acks = mesh.plane().journal("ack");
    // A pod may be told twice: an agent that has just given a snapshot tries again what was not acknowledged yet.
    let told = acks.iter().filter(|line| second(line)).filter_map(|line| line["pod"].as_str());
    let told: BTreeSet<_> = told.collect();
    assert_eq!(told, ["", "client", "neighbour"].into(), "both, and that these are all");
    under_load(&mesh, || old.process.signal(rustix::process::Signal::TERM).unwrap());
    let status = old.process.wait(PATIENCE).unwrap();
    assert!(status.success(), "{status}:\n{}", old.process.log());
    let _echo = Application::echo(mesh.at("server"), 8080);
    mesh.assert_works(8080);
}

fn a_new_root_beside_the_old_one_disturbs_nobody(way: &str) {
    let mesh = Mesh::with(way).leaf_lifetime("20s").start();
    under_load(&mesh, || {
        let issued = mesh.plane().journal("certificate").len();
        mesh.plane().tell(json!({"order": "rotate-root", "keep": true}));
        wait_until("everybody has a certificate of the new root", PATIENCE, || {
            let lines = mesh.plane().journal("certificate");
            let since = lines.iter().skip(issued).filter(|line| line["error"].is_null());
            let who: BTreeSet<_> = since.filter_map(|line| line["identity"].as_str()).collect();
            who.len() >= 3
        })
        .unwrap();
    });
}

/// So many that what changes is in force part by part.
fn a_mesh_that_grows_large_disturbs_nobody(way: &str) {
    const MANY: u64 = 20_000;
    // Long, because three programs without optimisation have much to read and write.
    const TAKEN_WITHIN: Duration = Duration::from_secs(180);
    let mesh = Mesh::start(way);
    under_load(&mesh, || {
        for generation in 0..2 {
            let many = json!({"order": "synthetic", "count": MANY, "generation": generation});
            mesh.plane().tell(many);
            wait_until("both proxies have taken all of it", TAKEN_WITHIN, || {
                acknowledged(&mesh, MANY) >= 2 * (generation + 1)
            })
            .unwrap();
        }
        mesh.plane().tell(json!({"order": "synthetic", "count": 0}));
    });
}

/// How many responses of so many resources were acknowledged.
fn acknowledged(mesh: &Mesh, resources: u64) -> usize {
    let requests = mesh.plane().journal("xds-request");
    let good = requests.iter().filter(|request| request["error"].is_null());
    let nonces: BTreeSet<_> = good.filter_map(|request| request["nonce"].as_str()).collect();
    let responses = mesh.plane().journal("xds-response");
    let large = responses.iter().filter(|each| each["resources"].as_u64() >= Some(resources));
    large.filter(|each| each["nonce"].as_str().is_some_and(|nonce| nonces.contains(nonce))).count()
}

/// Has connections come, be used and go, and some stay, before, during and after `trouble`; none may fail.
fn under_load(mesh: &Mesh, trouble: impl FnOnce()) {
    let _servers = ["server", "server-2"].map(|name| Application::echo(mesh.at(name), 8080));
    let (stop, requests) = (AtomicBool::new(false), AtomicUsize::new(0));
    let failures = std::sync::Mutex::new(Vec::new());
    let failed = |what: String| failures.lock().unwrap().push(what);
    let flows = |more: usize| {
        let since = requests.load(Ordering::Relaxed);
        wait_until("traffic flows", PATIENCE, || requests.load(Ordering::Relaxed) >= since + more)
    };
    let service = SERVICE.parse().unwrap();
    thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        for from in ["client", "neighbour"] {
            for to in [mesh.address("server", 8080), service] {
                let (from, stop, requests, failed) = (mesh.at(from), &stop, &requests, &failed);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        if let Err(error) = echo_once(from, to) {
                            failed(format!("{} to {to}: {error}", from.name()));
                        }
                        requests.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(Duration::from_millis(2));
                    }
                });
            }
            let (from, stop, failed) = (mesh.at(from), &stop, &failed);
            scope.spawn(move || {
                let mut stream = connect(from, mesh.address("server", 8080));
                while !stop.load(Ordering::Relaxed) {
                    if let Err(error) = exchange(&mut stream, b"are you there still?") {
                        return failed(format!("what was open in {}: {error}", from.name()));
                    }
                    thread::sleep(Duration::from_millis(20));
                }
            });
        }
        flows(50).unwrap();
        trouble();
        flows(200).unwrap();
    });
    let failures = failures.into_inner().unwrap();
    let of = requests.load(Ordering::Relaxed);
    assert!(failures.is_empty(), "{} of {of}: {failures:#?}", failures.len());
}

struct StopOnDrop<'f>(&'f AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
