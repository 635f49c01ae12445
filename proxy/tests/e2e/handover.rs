//! A proxy is replaced while it works: nothing is lost, and what goes wrong changes nothing.
//!
//! In ztunnel's place there is no such hand-over: it is refused, and one story here shows that. The next process is started
//! beside the old one, and both share the ports; `neighbours::a_rolling_update_loses_no_connection` and
//! `in_pod::the_next_process_beside_this_one_costs_no_request` tell of that.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ringway_bench::lab::{Namespace, Process, wait_until};
use ringway_bench::pattern::{self, Digest};
use rustix::process::Signal;

use crate::support::{
    Application, Mesh, PATIENCE, Proxy, assert_cut, connect, echo_once, exchange, http_get,
    is_timeout, notify_socket,
};
use crate::{on_both_reactors, under_a_control_plane};

on_both_reactors! {
    no_new_connection_fails_during_three_hand_overs,
    live_plain_connections_survive_two_hand_overs,
    what_a_receiver_has_not_taken_yet_is_moved_with_its_connection,
    streams_in_tunnels_finish_in_the_old_process,
    a_new_process_that_ends_hangs_or_refuses_changes_nothing,
    a_second_request_during_a_hand_over_is_refused,
    the_verb_hands_over_to_another_program_and_tells,
    every_listener_is_served_by_more_and_by_fewer_shards,
    rules_and_servers_stay_where_they_are,
    a_process_that_took_over_drains_and_cleans_up_like_any_other,
    the_service_manager_hears_who_the_main_process_is,
    a_stop_during_a_hand_over_ends_both,
    a_new_process_that_is_killed_while_it_serves_loses_no_connection_it_was_not_given,
}

under_a_control_plane! {
    in_the_place_of_ztunnel_it_is_refused_and_changes_nothing,
}

const READINESS: ([u8; 4], u16) = ([127, 0, 0, 1], 15021);

fn no_new_connection_fails_during_three_hand_overs(reactor: &str) {
    let mut mesh = Mesh::with(reactor).permissive().start();
    let _apps = ["server", "server-2", "legacy"].map(|pod| Application::echo(mesh.at(pod), 8080));
    // What closing one of two listeners of a port would lose, nothing picks up.
    for pod in ["client", "server"] {
        let path = "/proc/sys/net/ipv4/tcp_migrate_req";
        let setting = mesh.at(pod).enter(|| std::fs::read_to_string(path)).unwrap().unwrap();
        assert_eq!(setting.trim(), "0");
    }
    let filters = call_filters(&mesh.a);
    let stop = AtomicBool::new(false);
    let (made, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // In a tunnel, past the mesh, and from outside of it.
    let paths = [
        ("client", mesh.address("server", 8080)),
        ("neighbour", mesh.address("server-2", 8080)),
        ("client", mesh.address("legacy", 8080)),
        ("stranger", mesh.address("server", 8080)),
    ];
    let (lab, a, b) = (&mesh.lab, &mut mesh.a, &mut mesh.b);
    thread::scope(|scope| {
        for (from, to) in paths.into_iter().cycle().take(8) {
            let (stop, made, failed) = (&stop, &made, &failed);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    made.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = echo_once(lab.namespace(from), to) {
                        eprintln!("{from} to {to}: {error}");
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let _stop = StopOnDrop(&stop);
        for _ in 0..3 {
            for proxy in [&mut *a, &mut *b] {
                let seen = made.load(Ordering::Relaxed);
                ends_in_order(&mut proxy.hand_over());
                wait_until("traffic goes on", PATIENCE, || {
                    made.load(Ordering::Relaxed) > seen + 100
                })
                .unwrap();
            }
        }
    });
    assert_eq!(failed.load(Ordering::Relaxed), 0, "of {}", made.load(Ordering::Relaxed));
    // The kernel takes a few dozen filters on top of each other: no hand-over may add to them.
    assert_eq!(call_filters(&mesh.a), filters);
}

/// How many filters of system calls the process's first thread has.
fn call_filters(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.process.id())).unwrap();
    let count = status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"));
    count.unwrap().trim().parse().unwrap()
}

fn live_plain_connections_survive_two_hand_overs(reactor: &str) {
    let mut mesh = Mesh::with(reactor).permissive().start();
    let _echoes = ["legacy", "server"].map(|pod| Application::echo(mesh.at(pod), 8080));
    let _sinks = ["legacy", "server"].map(|pod| Application::sink(mesh.at(pod), 8081));
    let _late = ["legacy", "server"].map(|pod| answers_late(mesh.at(pod), 8082));
    // Out of the mesh through host-a's proxy, into it through host-b's.
    let ways = [("client", "legacy"), ("stranger", "server")];
    let open = |port: u16| ways.map(|(from, to)| connect(mesh.at(from), mesh.address(to, port)));
    let (mut idle, mut talking, bulk, mut half) = (open(8080), open(8080), open(8081), open(8082));
    for stream in idle.iter_mut().chain(&mut talking) {
        exchange(stream, b"before").unwrap();
    }
    for stream in &mut half {
        stream.write_all(b"all there is").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let senders = bulk.map(|stream| {
        let stop = stop.clone();
        thread::spawn(move || send_until(stream, &stop))
    });
    let talkers = talking.map(|mut stream| {
        let stop = stop.clone();
        thread::spawn(move || {
            let mut rounds = 0u64;
            let mut message = vec![0; 3000];
            while !stop.load(Ordering::Relaxed) {
                pattern::fill(rounds, 0, &mut message);
                exchange(&mut stream, &message).unwrap();
                rounds += 1;
            }
            finish(stream);
            rounds
        })
    });
    for _ in 0..2 {
        thread::sleep(Duration::from_millis(300));
        for proxy in [&mut mesh.a, &mut mesh.b] {
            // Nothing but plain connections is there: it ends when they have moved, long before its deadline.
            let started = Instant::now();
            let mut old = proxy.hand_over();
            ends_in_order(&mut old);
            assert!(started.elapsed() < Duration::from_secs(15), "it waited for what had moved");
        }
    }
    thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    let sent = senders.map(|sender| sender.join().unwrap());
    assert!(sent.iter().all(|bytes| *bytes > 8 << 20), "{sent:?} bytes are no bulk");
    let rounds = talkers.map(|talker| talker.join().unwrap());
    for mut stream in idle {
        exchange(&mut stream, b"after two new processes").unwrap();
        finish(stream);
    }
    for mut stream in half {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "you said: all there is");
    }
    // One record for each, with everything that went through three processes.
    // An outbound record counts what was sent into the mesh, an inbound one what came in.
    for (index, (proxy, upload)) in
        [(&mesh.a, "bytes_sent"), (&mesh.b, "bytes_recv")].into_iter().enumerate()
    {
        let of_bulk = sent[index].to_string();
        let record = proxy.record("the bulk", |r| r.get(upload) == of_bulk);
        assert_eq!(record.get("error"), "", "{record:?}");
        let of_talk = (6 + rounds[index] * 3000).to_string();
        proxy.record("the talk", |r| {
            r.get("bytes_recv") == of_talk && r.get("bytes_sent") == of_talk
        });
        let age: u64 = record.get("duration").trim_end_matches("ms").parse().unwrap();
        assert!(age >= 900, "{age} ms are not the whole life");
        let all = || proxy.records(|r| !r.get("bytes_recv").is_empty());
        wait_until("every record", PATIENCE, || all() >= 4).unwrap();
        assert_eq!(all(), 4, "{}", proxy.process.log());
    }
}

fn what_a_receiver_has_not_taken_yet_is_moved_with_its_connection(reactor: &str) {
    let mut mesh = Mesh::start(reactor);
    let (go, may_read) = mpsc::channel::<()>();
    let may_read = std::sync::Mutex::new(may_read);
    let _slow = Application::start(mesh.at("legacy"), 8080, move |mut stream, _| {
        may_read.lock().unwrap().recv().unwrap();
        let (mut bytes, mut digest) = (0u64, Digest::new());
        let mut piece = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            bytes += count as u64;
            digest.update(&piece[..count]);
        }
        write!(stream, "{bytes} {:016x}", digest.value()).unwrap();
    });
    let mut stream = connect(mesh.at("client"), mesh.address("legacy", 8080));
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    let mut piece = vec![0; 100_000];
    // Until every buffer on the way is full, those of the proxy too.
    loop {
        pattern::fill(3, sent, &mut piece);
        match stream.write(&piece) {
            Ok(count) => sent += count as u64,
            Err(error) if is_timeout(&error) => break,
            Err(error) => panic!("{error}"),
        }
    }
    ends_in_order(&mut mesh.a.hand_over());
    ends_in_order(&mut mesh.a.hand_over());
    go.send(()).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    pattern::fill(3, sent, &mut piece);
    stream.write_all(&piece).unwrap();
    sent += piece.len() as u64;
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, format!("{sent} {:016x}", Digest::of_stream(3, sent).value()));
}

fn streams_in_tunnels_finish_in_the_old_process(reactor: &str) {
    let mut mesh = Mesh::start(reactor);
    let _echo = Application::echo(mesh.at("server"), 8080);
    for host in ["a", "b"] {
        let mut stream = connect(mesh.at("client"), mesh.address("server", 8080));
        exchange(&mut stream, b"before").unwrap();
        let proxy = if host == "a" { &mut mesh.a } else { &mut mesh.b };
        let mut old = proxy.hand_over();
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            exchange(&mut stream, b"in the old process").unwrap();
            // What is new goes through the new one meanwhile.
            mesh.assert_works(8080);
        }
        assert!(old.is_running(), "it carries a stream");
        finish(stream);
        ends_in_order(&mut old);
        mesh.assert_works(8080);
    }
    assert_eq!(mesh.a.records(|r| !r.get("error").is_empty()), 0, "{}", mesh.a.process.log());
    assert_eq!(mesh.b.records(|r| !r.get("error").is_empty()), 0, "{}", mesh.b.process.log());
}

fn a_new_process_that_ends_hangs_or_refuses_changes_nothing(reactor: &str) {
    let mut mesh = Mesh::start(reactor);
    let _echoes = ["server", "legacy"].map(|pod| Application::echo(mesh.at(pod), 8080));
    let mut plain = connect(mesh.at("client"), mesh.address("legacy", 8080));
    let mut stream = connect(mesh.at("client"), mesh.address("server", 8080));
    let id = mesh.a.process.id();
    let good = mesh.settings.configuration(&mesh.lab);
    //  name                 program                                         reason
    for (name, script, reason) in [
        ("ends at once", "exit 3", "exit status: 3"),
        ("hangs", "exec sleep 1000", "did not answer in time"),
        ("is killed", "kill -9 $$", "signal: 9"),
        ("talks nonsense", "echo hello, this is no frame >&0; sleep 100", "no hand-over frame"),
        (
            "has another configuration, with a mistake",
            "sed s/clusterIP/clusterIp/ \"$5\" > \"$5.bad\"; exec $RINGWAY run --node host-a --file \"$5.bad\"",
            "exit status: 65",
        ),
        (
            "cannot have its port",
            "RINGWAY_METRICS_ADDRESS=192.0.2.1:1 exec $RINGWAY \"$@\"",
            "exit status: 1",
        ),
    ] {
        mesh.replace_program_by_script(script);
        let before = mesh.a.process.log().matches("no hand-over").count();
        mesh.a.process.signal(Signal::USR2).unwrap();
        wait_until(name, PATIENCE, || {
            mesh.a.process.log().matches("no hand-over").count() > before
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", mesh.a.process.log()));
        let log = mesh.a.process.log();
        let told = log.lines().rfind(|line| line.contains("no hand-over")).unwrap_or_default();
        assert!(told.contains(reason), "{name}: {told}");
        assert!(mesh.a.process.is_running(), "{name}");
        exchange(&mut plain, b"as ever").unwrap();
        exchange(&mut stream, b"as ever").unwrap();
        mesh.assert_works(8080);
        echo_once(mesh.at("client"), mesh.address("legacy", 8080)).unwrap();
    }
    assert_eq!(mesh.a.process.id(), id);
    // It reloads and hands over as ever.
    mesh.rewrite(&good.replace("targetPort: 8080", "targetPort: 8081"));
    mesh.a.wait_for_log("configuration reloaded");
    mesh.replace_program(Path::new(env!("CARGO_BIN_EXE_ringway")));
    let mut old = mesh.a.hand_over();
    exchange(&mut plain, b"moved").unwrap();
    finish(stream);
    ends_in_order(&mut old);
}

fn a_second_request_during_a_hand_over_is_refused(reactor: &str) {
    let mut mesh = Mesh::start(reactor);
    let _echo = Application::echo(mesh.at("server"), 8080);
    mesh.replace_program_by_script("sleep 2; exec $RINGWAY \"$@\"");
    mesh.a.process.signal(Signal::USR2).unwrap();
    mesh.a.wait_for_log("a new process is started");
    let second = handover(&mesh, &[]);
    let complaint = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("under way"), "{complaint}");
    mesh.a.process.signal(Signal::USR2).unwrap();
    mesh.a.wait_for_log("the second one is refused");
    // The first one goes its way.
    mesh.a.wait_for_log("a new process serves");
    let log = mesh.a.process.log();
    assert_eq!(log.matches("a new process is started").count(), 1, "{log}");
    let serves = log.lines().find(|line| line.contains("a new process serves")).unwrap();
    let (_, id) = serves.rsplit_once("pid=").unwrap();
    ends_in_order(&mut mesh.a.process.succeeded_by(id.trim().parse().unwrap()).unwrap());
    mesh.assert_works(8080);
}

fn the_verb_hands_over_to_another_program_and_tells(reactor: &str) {
    let mut mesh = Mesh::start(reactor);
    let _echo = Application::echo(mesh.at("server"), 8080);
    let other = mesh.lab.directory().join("ringway-2");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ringway"), &other).unwrap();
    let done = handover(&mesh, &["--binary".as_ref(), &other]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{done:?}");
    let ids: Vec<u32> =
        said.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    let [from, to] = ids[..] else { panic!("{said}") };
    assert_eq!(from, mesh.a.process.id());
    ends_in_order(&mut mesh.a.process.succeeded_by(to).unwrap());
    let program = std::fs::read(format!("/proc/{to}/cmdline")).unwrap();
    assert!(
        program.starts_with(other.to_str().unwrap().as_bytes()),
        "the other program's own path"
    );
    mesh.assert_works(8080);
    // The next one, too, finds the control socket.
    let again = handover(&mesh, &["--node".as_ref(), "host-a".as_ref()]);
    assert!(again.status.success(), "{again:?}");
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    let to = said.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).nth(1);
    ends_in_order(&mut mesh.a.process.succeeded_by(to.unwrap()).unwrap());
    let refused = handover(&mesh, &["--binary".as_ref(), "/nowhere/ringway".as_ref()]);
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
}

fn every_listener_is_served_by_more_and_by_fewer_shards(reactor: &str) {
    let mut mesh = Mesh::with(reactor).cores(2).permissive().start();
    let _echoes = ["server", "legacy"].map(|pod| Application::echo(mesh.at(pod), 8080));
    for cores in [4, 1, 3] {
        mesh.replace_program_by_script(&format!("RINGWAY_CORES={cores} exec $RINGWAY \"$@\""));
        for proxy in [&mut mesh.a, &mut mesh.b] {
            ends_in_order(&mut proxy.hand_over());
        }
        // Whichever of the port's sockets the kernel picks, somebody accepts.
        for _ in 0..60 {
            mesh.assert_works(8080);
            echo_once(mesh.at("client"), mesh.address("legacy", 8080)).unwrap();
            echo_once(mesh.at("stranger"), mesh.address("server", 8080)).unwrap();
        }
    }
}

fn rules_and_servers_stay_where_they_are(reactor: &str) {
    let mut mesh = Mesh::start(reactor);
    // Handles are given in order: a rule that was put in again would have another one.
    let rules = |pod: &str| {
        let mut command = Command::new("nft");
        command.args(["-a", "list", "ruleset"]);
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        command.env("PATH", path);
        let output = mesh.lab.namespace(pod).enter(|| command.output()).unwrap();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).ok()
    };
    let before = rules("client");
    let stop = AtomicBool::new(false);
    let (lab, a) = (&mesh.lab, &mut mesh.a);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let place = lab.namespace("host-a");
                let (status, body) = http_get(place, READINESS.into(), "/healthz/ready")
                    .expect("somebody always answers");
                assert_eq!(status, 200, "{body}");
            }
        });
        let _stop = StopOnDrop(&stop);
        for _ in 0..2 {
            ends_in_order(&mut a.hand_over());
        }
    });
    assert_eq!(rules("client"), before);
    let metrics = mesh.a.metrics(&mesh.lab);
    assert!(!format!("{metrics:?}").is_empty());
}

fn a_process_that_took_over_drains_and_cleans_up_like_any_other(reactor: &str) {
    let mut mesh = Mesh::with(reactor).drain_deadline("2s").start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    let mut stuck = connect(mesh.at("client"), mesh.address("server", 8080));
    exchange(&mut stuck, b"before").unwrap();
    // The old one cuts what does not end by itself, at its deadline and not much later.
    let started = Instant::now();
    ends_in_order(&mut mesh.a.hand_over());
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(8), "{took:?}");
    assert_cut(&mut stuck);
    let socket = control_sockets(&mesh);
    assert_eq!(socket.len(), 1, "{socket:?}");
    mesh.assert_works(8080);
    mesh.a.stop();
    mesh.b.stop();
    assert!(control_sockets(&mesh).is_empty());
    // No rules are left: what is opened now goes direct.
    mesh.assert_works(8080);
}

fn the_service_manager_hears_who_the_main_process_is(reactor: &str) {
    let mut mesh = Mesh::with(reactor).service_manager().start();
    let manager = UnixDatagram::bind(notify_socket(&mesh.lab)).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 256];
    let mut hear = || {
        loop {
            let length = manager.recv(&mut buffer).unwrap();
            // Signs of life come from both hosts, at any moment.
            if &buffer[..length] != b"WATCHDOG=1" {
                return String::from_utf8_lossy(&buffer[..length]).into_owned();
            }
        }
    };
    let mut old = mesh.a.hand_over();
    ends_in_order(&mut old);
    // Nothing about an end: the service goes on, with another main process.
    let main = hear();
    assert!(main.starts_with(&format!("MAINPID={}\n", mesh.a.process.id())), "{main}");
    assert!(hear().starts_with("READY=1"));
    mesh.a.stop();
    assert!(hear().starts_with("STOPPING=1"));
}

fn a_stop_during_a_hand_over_ends_both(reactor: &str) {
    let mut mesh = Mesh::start(reactor);
    mesh.replace_program_by_script("echo $$ > \"$5.pid\"; exec sleep 1000");
    mesh.a.process.signal(Signal::USR2).unwrap();
    let file = mesh.file().with_extension("yaml.pid");
    let pid = || std::fs::read_to_string(&file).unwrap_or_default().trim().to_owned();
    wait_until("the new process runs", PATIENCE, || !pid().is_empty()).unwrap();
    mesh.a.stop();
    assert!(!Path::new("/proc").join(pid()).exists(), "it was left behind");
}

fn a_new_process_that_is_killed_while_it_serves_loses_no_connection_it_was_not_given(
    reactor: &str,
) {
    let mut mesh = Mesh::start(reactor);
    let _echo = Application::echo(mesh.at("server"), 8080);
    let mut stream = connect(mesh.at("client"), mesh.address("server", 8080));
    exchange(&mut stream, b"before").unwrap();
    let mut old = mesh.a.hand_over();
    mesh.a.process.signal(Signal::KILL).unwrap();
    exchange(&mut stream, b"the old process has it").unwrap();
    finish(stream);
    ends_in_order(&mut old);
    // What the killed one left is taken over by the next start.
    mesh.restart("host-a");
    mesh.assert_works(8080);
}

/// Sends as much as it can; returns how much, after the receiver has confirmed every byte.
fn in_the_place_of_ztunnel_it_is_refused_and_changes_nothing(way: &str) {
    let mut mesh = Mesh::start(way);
    let _echo = Application::echo(mesh.at("server"), 8080);
    let mut open = connect(mesh.at("client"), mesh.address("server", 8080));
    exchange(&mut open, b"before").unwrap();
    mesh.a.process.signal(Signal::USR2).unwrap();
    mesh.a.wait_for_log("start the next process beside this one");
    exchange(&mut open, b"after").unwrap();
    mesh.assert_works(8080);
    drop(open);
    mesh.a.stop();
}

fn send_until(mut stream: TcpStream, stop: &AtomicBool) -> u64 {
    let mut sent = 0;
    let mut piece = vec![0; 256 * 1024];
    while !stop.load(Ordering::Relaxed) {
        pattern::fill(5, sent, &mut piece);
        stream.write_all(&piece).unwrap();
        sent += piece.len() as u64;
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, format!("{sent} {:016x}", Digest::of_stream(5, sent).value()));
    sent
}

/// Waits for its client's end, and then long enough for two hand-overs before it answers.
fn answers_late(pod: &Namespace, port: u16) -> Application {
    Application::start(pod, port, |mut stream, _| {
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        thread::sleep(Duration::from_secs(3));
        let _ = write!(stream, "you said: {said}");
    })
}

/// Ends a stream to an echo in order.
fn finish(mut stream: TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}

fn ends_in_order(old: &mut Process) {
    let status = old.wait(Duration::from_secs(30)).unwrap();
    assert!(status.success(), "{status}:\n{}", old.log());
}

/// Runs `ringway handover` where host-a's proxy runs.
fn handover(mesh: &Mesh, arguments: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.arg("handover").args(arguments);
    mesh.at("host-a").enter(|| command.output()).unwrap().unwrap()
}

fn control_sockets(mesh: &Mesh) -> Vec<std::path::PathBuf> {
    let find = || ringway_control::handover::control_socket::paths("/run/ringway".as_ref());
    mesh.at("host-a").enter(find).unwrap().unwrap()
}

struct StopOnDrop<'f>(&'f AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
