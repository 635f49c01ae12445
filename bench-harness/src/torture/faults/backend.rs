//! F9 and F7: applications that cannot be reached, and peers that are gone without a word.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::arena::{Arena, PATIENCE, SERVED};
use super::super::traffic::{Load, Turns};
use super::super::trial::{Trial, need};

/// A port that swallows what is sent to it, and one on which nobody listens.
const BLACK_HOLE: u16 = 8095;
const REFUSING: u16 = 8096;
/// How long an application is dialled.
const DIAL_SECONDS: f64 = 10.0;
/// What a timer of so many seconds may be late before that is a finding.
const LATE_SECONDS: f64 = 0.5;
/// As long as both paths' dials take, and some more.
const LOAD_SECONDS: f64 = 2.0 * DIAL_SECONDS + 3.0;
/// The ways to an application, and a pod at the end of each.
const PATHS: [(&str, &str); 2] = [("tunnel", "server"), ("plaintext", "legacy")];
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
    let load = |trial: &Trial<'_>, arena: &Arena| {
        Load::requests(arena, trial, ("client", "server"), 200, LOAD_SECONDS)
    };
    let mut turns = Turns::begin()?;
    let mut slowest = Slowest::default();
    for _ in 0..trial.amount(1, 5) {
        let quiet = load(trial, &arena)?.finish(trial)?;
        let beside = load(trial, &arena)?;
        slowest.try_once(&arena)?;
        turns.add(&quiet, &beside.finish(trial)?);
    }
    slowest.judge(trial);
    trial.exactly("requests of others lost", turns.lost(), "requests", 0);
    turns.judge(trial, "p99 of others", 2.0)?;
    arena.must_work()
}

/// The times that were furthest from what they ought to be, in seconds, by path: through a tunnel, and in plaintext.
#[derive(Default)]
struct Slowest([Times; 2]);

#[derive(Clone, Copy)]
struct Times {
    refused: f64,
    first_given_up: f64,
    last_given_up: f64,
}

impl Default for Times {
    fn default() -> Times {
        Times { refused: 0.0, first_given_up: f64::INFINITY, last_given_up: 0.0 }
    }
}

impl Slowest {
    fn try_once(&mut self, arena: &Arena) -> Result<()> {
        for (times, (_, to)) in self.0.iter_mut().zip(PATHS) {
            let began = Instant::now();
            ends(arena, to, REFUSING)?;
            times.refused = times.refused.max(began.elapsed().as_secs_f64());
        }
        for (times, (_, to)) in self.0.iter_mut().zip(PATHS) {
            for took in all_end(arena, to)? {
                times.first_given_up = times.first_given_up.min(took.as_secs_f64());
                times.last_given_up = times.last_given_up.max(took.as_secs_f64());
            }
        }
        Ok(())
    }

    fn judge(&self, trial: &mut Trial<'_>) {
        for (times, (path, _)) in self.0.iter().zip(PATHS) {
            let Times { refused, first_given_up, last_given_up } = *times;
            trial.quickly(&format!("refused, {path}"), refused, "s", 0.5);
            let least = DIAL_SECONDS * 0.9;
            trial.at_least(&format!("first given up, {path}"), first_given_up, "s", least);
            trial.quickly(
                &format!("last given up, {path}"),
                last_given_up,
                "s",
                DIAL_SECONDS * 1.1,
            );
        }
    }
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
    //  path                              to        limit  asks after the cut
    let rows = [
        ("tunnel", "server", 30.0, false),
        ("plaintext", "legacy", 60.0, false),
        ("plaintext, with data on its way", "legacy", 60.0, true),
    ];
    for (path, to, limit, asks) in rows {
        let mut stream = arena.connect("client", arena.address(to, SERVED))?;
        ask(&mut stream)?;
        nft(&arena, "wire", rules)?;
        let began = Instant::now();
        if asks {
            stream.write_all(b"x")?;
        }
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
