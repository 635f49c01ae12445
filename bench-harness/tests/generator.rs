//! The load generator does not flatter: a server that stops is seen by every request it kept waiting,
//! and a run that does not count says so.
//!
//! Expectations are lower bounds that follow from arithmetic, so that a busy machine cannot fail them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ringway_bench::histogram;
use ringway_bench::null_server::NullServer;
use serde_json::Value;

/// How long the stalling server stops.
const STALL: Duration = Duration::from_millis(400);

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringway-bench"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The outcome of a run that is to go well.
fn load(target: SocketAddr, kind: &str, rest: &str) -> Value {
    let target = target.to_string();
    let mut arguments = vec!["load", kind, &target];
    arguments.extend(rest.split_whitespace());
    let output = run(&arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn null_server() -> SocketAddr {
    NullServer { listen: "127.0.0.1:0".parse().unwrap(), threads: None, cores: None }
        .start()
        .unwrap()
}

/// An echo, which calls `before` with the number of each message before it is sent back. The
/// connection ends when that says so.
fn echo(before: impl Fn(u64) -> bool + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (before, count) = (Arc::new(before), Arc::new(AtomicU64::new(0)));
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let (before, count) = (before.clone(), count.clone());
            thread::spawn(move || {
                echo_one(socket, || before(count.fetch_add(1, Ordering::SeqCst)))
            });
        }
    });
    address
}

fn echo_one(mut socket: TcpStream, before: impl Fn() -> bool) {
    socket.set_nodelay(true).unwrap();
    let mut message = [0; 1024];
    while socket.read_exact(&mut message).is_ok() && before() && socket.write_all(&message).is_ok()
    {
    }
}

/// An echo of which all connections stop at once, one time, with the message of this number.
fn stalling_echo(stall_at: u64) -> SocketAddr {
    let until = Mutex::new(None);
    echo(move |number| {
        let until = {
            let mut until = until.lock().unwrap();
            if number == stall_at {
                *until = Some(Instant::now() + STALL);
            }
            *until
        };
        if let Some(left) = until.and_then(|until| until.checked_duration_since(Instant::now())) {
            thread::sleep(left);
        }
        true
    })
}

#[test]
fn a_stall_is_seen_by_every_request_it_kept_waiting() {
    let outcome = load(
        stalling_echo(500),
        "requests",
        "--connections 4 --rate 500 --warm-up 0.2 --duration 4",
    );
    // 2000 requests in 4 s, of which 200 are due in the 0.4 s of the stall: every tenth. Their waits
    // are spread evenly from 0 to 0.4 s. So of all requests 5 % wait for 0.2 s or more, 1 % for 0.36 s
    // or more, and 0.1 % for 0.396 s or more. (Milliseconds are granted for the clock ticks between.)
    assert_eq!(outcome["scheduled"], 2000, "{outcome}");
    let histogram = histogram::decode(outcome["histogram"].as_str().unwrap()).unwrap();
    assert_eq!(histogram.len(), 2000, "no request is left out");
    for (quantile, at_least) in [(0.94, 150_000), (0.99, 350_000), (0.999, 390_000)] {
        let value = histogram.value_at_quantile(quantile);
        assert!(value >= at_least, "p{}: {value} us, {outcome}", 100.0 * quantile);
    }
    assert!(outcome["p99_us"].as_u64().unwrap() >= 350_000);
    assert!(outcome["max_us"].as_u64().unwrap() >= 390_000);
    // What was due waited for one of four connections, and that is told.
    assert!(outcome["backlog_max"].as_u64().unwrap() >= 150, "{outcome}");
}

#[test]
fn a_closed_loop_hides_the_same_stall() {
    // Far behind the warm-up, however fast the machine, and far before the end, however slow.
    let outcome =
        load(stalling_echo(10_000), "capacity", "--connections 4 --warm-up 0.02 --duration 4");
    let histogram = histogram::decode(outcome["histogram"].as_str().unwrap()).unwrap();
    // One request of each connection saw the stall; the others were not sent while it lasted.
    assert!(outcome["requests"].as_u64().unwrap() > 5000, "{outcome}");
    assert!(histogram.max() >= 390_000, "{outcome}");
    assert!(histogram.value_at_quantile(0.99) < 100_000, "{outcome}");
}

#[test]
fn a_rate_that_is_not_achieved_makes_the_run_void() {
    let slow = echo(|_| {
        thread::sleep(Duration::from_millis(20));
        true
    });
    let outcome = load(slow, "requests", "--connections 1 --rate 200 --warm-up 0 --duration 2");
    // At most 50 answers a second of 200.
    let reason = outcome["void"].as_str().expect("it is void");
    assert!(reason.contains("400 requests were due"), "{reason}");
    assert!(outcome["rate_achieved"].as_f64().unwrap() <= 51.0, "{outcome}");
    assert!(outcome["backlog_max"].as_u64().unwrap() >= 290, "{outcome}");
    // What was given up waiting for is in the histogram all the same.
    let histogram = histogram::decode(outcome["histogram"].as_str().unwrap()).unwrap();
    assert_eq!(histogram.len(), 400, "{outcome}");
    assert!(outcome["p50_us"].as_u64().unwrap() >= 1_000_000, "{outcome}");
}

#[test]
fn everything_it_speaks_is_answered_by_the_null_server() {
    let server = null_server();
    for rest in [
        "--protocol raw",
        "--protocol raw --size 300000 --threads 2",
        "--protocol raw --arrivals poisson --seed 7",
        "--protocol raw --connection-per-request",
        "--protocol http1",
        "--protocol http1 --size 300000",
        "--protocol http1 --connection-per-request",
        "--protocol http2 --streams 8",
        "--protocol http2 --size 3000000",
        "--protocol http2 --connection-per-request",
        "--protocol grpc --streams 8",
        "--protocol grpc --size 3000000",
    ] {
        let common = "--connections 4 --rate 50 --warm-up 0.1 --duration 1 ";
        let outcome = load(server, "requests", &(common.to_owned() + rest));
        assert_eq!(outcome["failures"], 0, "{rest}: {outcome}");
        assert_eq!(outcome["requests"], outcome["scheduled"], "{rest}: {outcome}");
        assert!(outcome["requests"].as_u64().unwrap() >= 20, "{rest}: {outcome}");
    }
}

#[test]
fn storms_bulk_and_mixtures_arrive() {
    let server = null_server();
    let storm = load(server, "connect", "--rate 300 --warm-up 0.1 --duration 1");
    assert_eq!((&storm["connections"], &storm["failures"]), (&300.into(), &0.into()), "{storm}");
    let row = load(server, "connect", "--connections 2 --warm-up 0 --duration 0.3");
    assert!(row["connections"].as_u64().unwrap() > 2 && row["failures"] == 0, "{row}");
    for direction in ["upload", "download"] {
        let rest = format!("--connections 3 --gigabytes 0.03 --direction {direction}");
        assert_eq!(load(server, "bulk", &rest)["bytes"], 30_000_000, "{direction}");
        let rest =
            format!("--elephants 2 --direction {direction} --mice 4 --rate 100 --duration 1");
        let mix = load(server, "mix", &rest);
        assert_eq!(mix["scheduled"], 100, "{mix}");
        assert!(mix["elephant_bytes"].as_u64().unwrap() > 10_000_000, "{mix}");
    }
}

#[test]
fn marks_frame_the_measured_span() {
    let folder = tempfile::tempdir().unwrap();
    let marks = folder.path().join("marks");
    let rest = format!("--rate 100 --warm-up 0.1 --duration 0.2 --marks {}", marks.display());
    load(null_server(), "requests", &rest);
    assert_eq!(std::fs::read_to_string(marks).unwrap(), "start\nend\n");
}

#[test]
fn held_connections_are_held_until_it_is_told_to_end() {
    let mut holder = Command::new(env!("CARGO_BIN_EXE_ringway-bench"))
        .args([
            "load",
            "hold",
            &null_server().to_string(),
            "--connections",
            "300",
            "--threads",
            "2",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 13];
    holder.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"{\"held\":300}\n");
    let descriptors = ringway_bench::measure::descriptors(holder.id()).unwrap();
    assert!(descriptors >= 300, "{descriptors}");
    assert!(holder.try_wait().unwrap().is_none(), "it is to stay");
    let id = rustix::process::Pid::from_child(&holder);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert!(holder.wait().unwrap().success());
}

#[test]
fn what_cannot_be_done_is_said_with_what_to_do() {
    let server = null_server().to_string();
    // Taken, but nobody listens.
    let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    closed.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let closed = closed.local_addr().unwrap().as_socket().unwrap().to_string();
    for (arguments, says) in [
        (vec!["requests", &closed, "--rate", "10"], "refuses connections"),
        (vec!["bulk", &closed], "refuses connections"),
        (vec!["hold", &closed, "--connections", "3"], "refuses connections"),
        (vec!["requests", &server], "load capacity"),
        (vec!["requests", &server, "--rate", "0"], "more than zero"),
        (vec!["requests", &server, "--rate", "inf"], "--rate"),
        (vec!["requests", &server, "--rate", "5", "--connections", "0"], "--connections 0"),
        (vec!["requests", &server, "--rate", "5", "--threads", "0"], "--threads 0"),
        (vec!["requests", &server, "--rate", "5", "--size", "0"], "--size 0"),
        (vec!["requests", &server, "--rate", "5", "--duration", "0"], "--duration"),
        (vec!["requests", &server, "--rate", "5", "--streams", "4"], "http2"),
        (vec!["requests", &server, "--rate", "5", "--protocol", "quic"], "possible values"),
        (vec!["requests", &server, "--rate", "5", "--cores", "x"], "0,2-3"),
        (vec!["requests", &server, "--rate", "5", "--cores", "1000"], "core 1000"),
        (vec!["capacity", &server, "--protocol", "http1", "--path", "/no"], "404"),
        (vec!["capacity", &server, "--protocol", "http2", "--path", "/no"], "404"),
        (vec!["hold", &server, "--connections", "9999999"], "ulimit"),
    ] {
        let output = run(&[&["load"], &arguments[..]].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(errors.contains(says), "{arguments:?}: {errors}");
    }
}

#[test]
fn a_server_of_another_protocol_is_noticed_at_once() {
    let echo = echo(|_| true);
    // A raw echo sends the request back, which is no answer.
    let target = echo.to_string();
    let long = "a".repeat(1100);
    let path = format!("/{long}");
    let arguments =
        ["load", "requests", &target, "--rate", "5", "--protocol", "http1", "--path", &path];
    let output = run(&arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("no HTTP/1.1"), "{errors}");
}

#[test]
fn a_connection_that_breaks_makes_the_run_void_and_a_server_that_dies_ends_it() {
    // One connection of many breaks, once: the run goes on over a new one, and does not count.
    let once = echo(|number| number != 100);
    let outcome = load(once, "requests", "--connections 4 --rate 200 --warm-up 0 --duration 2");
    let reason = outcome["void"].as_str().expect("it is void");
    assert!(reason.starts_with("1 of 400 requests failed"), "{reason}");
    assert_eq!(outcome["requests"], 399, "{outcome}");

    // From some request on, every one fails.
    let is_dead = AtomicBool::new(false);
    let dying = echo(move |number| {
        is_dead.fetch_or(number >= 100, Ordering::SeqCst);
        !is_dead.load(Ordering::SeqCst)
    });
    let target = dying.to_string();
    let begun = Instant::now();
    let output = run(&["load", "requests", &target, "--rate", "200", "--duration", "60"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{errors}");
    assert!(errors.contains("nothing but failures") && errors.contains("closed"), "{errors}");
    assert!(begun.elapsed() < Duration::from_secs(40), "it does not go on for a minute");
}
