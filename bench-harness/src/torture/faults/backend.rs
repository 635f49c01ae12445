//! F9 and F7: applications that cannot be reached, and peers that are gone without a word.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::arena::{Arena, PATIENCE, SERVED};
use super::super::traffic::Load;
use super::super::trial::{Trial, need};

/// A port that swallows what is sent to it, and one on which nobody listens.
const BLACK_HOLE: u16 = 8095;
const REFUSING: u16 = 8096;
/// How long an application is dialled.
const DIAL_SECONDS: f64 = 10.0;
/// What a timer of so many seconds may be late before that is a finding.
const LATE_SECONDS: f64 = 0.5;
/// Connections into the black hole at a time.
const LOST: usize = 20;

/// Runs F9.
pub(in super::super) fn backends(trial: &mut Trial<'_>) -> Result<()> {
    let mut arena = Arena::usual(trial)?;
    for pod in ["server", "legacy"] {
        let rule = format!("tcp dport {BLACK_HOLE} drop");
        nft(
            &arena,
            pod,
            &format!(
                "table ip hole {{ chain in {{ type filter hook input priority -300; {rule}; }}; }}"
            ),
        )?;
    }
    let quiet = Load::requests(&arena, trial, ("client", "server"), 200, 5.0)?.finish(trial)?;
    let load = Load::requests(&arena, trial, ("client", "server"), 200, 13.0)?;
    for (path, to) in [("tunnel", "server"), ("plaintext", "legacy")] {
        let began = Instant::now();
        ends(&arena, to, REFUSING)?;
        trial.quickly(&format!("refused, {path}"), began.elapsed().as_secs_f64(), "s", 0.5);
    }
    for (path, to) in [("tunnel", "server"), ("plaintext", "legacy")] {
        let took = all_end(&arena, to)?;
        let seconds = |time: Option<&Duration>| time.map_or(f64::NAN, Duration::as_secs_f64);
        trial.at_least(
            &format!("first given up, {path}"),
            seconds(took.iter().min()),
            "s",
            DIAL_SECONDS * 0.9,
        );
        trial.quickly(
            &format!("last given up, {path}"),
            seconds(took.iter().max()),
            "s",
            DIAL_SECONDS * 1.1,
        );
    }
    let told = load.finish(trial)?;
    trial.exactly("requests of others lost", told.lost(), "requests", 0);
    let times = told.number("p99_us") / quiet.number("p99_us").max(1.0);
    trial.at_most_times("p99 of others over quiet", times, 2.0);
    arena.must_work()
}

/// How long each of many connections into the black hole took to end.
fn all_end(arena: &Arena, to: &str) -> Result<Vec<Duration>> {
    std::thread::scope(|scope| {
        let one = || {
            let began = Instant::now();
            ends(arena, to, BLACK_HOLE).map(|()| began.elapsed())
        };
        let waiting: Vec<_> = (0..LOST).map(|_| scope.spawn(one)).collect();
        waiting.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
    })
}

/// Connects and waits for the end; an answer would be a mistake.
fn ends(arena: &Arena, to: &str, port: u16) -> Result<()> {
    let Ok(mut stream) = arena.connect("client", arena.address(to, port)) else { return Ok(()) };
    let read = stream.read(&mut [0; 1]);
    ensure!(!matches!(read, Ok(1..)), "something answers on {to}:{port}");
    if let Err(error) = read {
        let kind = error.kind();
        ensure!(kind != std::io::ErrorKind::WouldBlock, "after {PATIENCE:?} it still waits");
    }
    Ok(())
}

/// Runs F7.
pub(in super::super) fn half_open(trial: &mut Trial<'_>) -> Result<()> {
    let mut arena = Arena::usual(trial)?;
    let rules = "table ip cut { chain forward { type filter hook forward priority 0; drop; }; }";
    for (path, to, limit) in [("tunnel", "server", 30.0), ("plaintext", "legacy", 60.0)] {
        let mut stream = arena.connect("client", arena.address(to, SERVED))?;
        ask(&mut stream)?;
        nft(&arena, "wire", rules)?;
        let began = Instant::now();
        // A margin beyond the limit, so that what is just late is told as such.
        stream.set_read_timeout(Some(Duration::from_secs_f64(limit * 1.5)))?;
        let end = stream.read(&mut [0; 1]);
        let noticed = !matches!(&end, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        nft(&arena, "wire", "delete table ip cut")?;
        if !noticed {
            trial.remark(format!(
                "{path}: the peer's silence was not noticed within {} s",
                limit * 1.5
            ));
        }
        trial.at_most(
            &format!("{path}, noticed after"),
            began.elapsed().as_secs_f64(),
            "s",
            limit + LATE_SECONDS,
        );
    }
    arena.must_work()
}

fn ask(stream: &mut std::net::TcpStream) -> Result<()> {
    use std::io::Write;
    stream.write_all(b"x")?;
    let mut answer = [0; 1];
    stream.read_exact(&mut answer).context("no answer before the cut")
}

/// Changes the packet filter of a namespace.
pub(super) fn nft(arena: &Arena, place: &str, script: &str) -> Result<()> {
    need("nft", "nftables")?;
    let mut command = Command::new("nft");
    command.arg(script).stdin(Stdio::null()).stderr(Stdio::piped());
    let output = arena.at(place).enter(|| command.output())??;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft {script}: {}", error.trim());
    Ok(())
}
