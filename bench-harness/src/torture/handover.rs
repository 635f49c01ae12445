//! F5 and F5b: proxies are replaced while they work. No new connection fails, and no live one breaks.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::arena::{Arena, PATIENCE, Plan, SERVED};
use super::traffic::{Load, Told};
use super::trial::{Settings, Trial, not_run};
use crate::handover::hand_over;
use crate::pattern;

/// However slow: the row ends.
const SPAN_MAX: Duration = Duration::from_secs(900);
/// Seconds of one load.
const LOAD_SECONDS: &str = "15";
/// Connections a load has at a time, one request each.
const CONNECTIONS: &str = "24";
/// Bytes that one live connection sends and gets back at a time.
const MESSAGE_BYTES: usize = 256;
/// Live connections of one thread that are under way at a time.
const GROUP: usize = 25;
/// Threads that exchange messages over live connections, for each way.
const THREADS: usize = 2;
/// No live connection may be held up for longer by its move.
const GAP_MS: f64 = 50.0;
/// An old process ends so long after its deadline, at most.
const BEYOND_DEADLINE: Duration = Duration::from_secs(1);
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// Plaintext from outside the mesh is let in.
const PERMISSIVE: &str = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
    metadata: {name: default, namespace: istio-system}\nspec: {mtls: {mode: PERMISSIVE}}\n";

/// Runs F5: new connections while both proxies are replaced again and again.
pub(super) fn new_connections(trial: &mut Trial<'_>) -> Result<()> {
    let (handovers_wanted, connections_wanted) =
        (trial.amount(6, 50), trial.amount(2_000.0, 300_000.0));
    let mut arena = Arena::start(plan(trial.settings))?;
    for pod in ["client", "server"] {
        // What closing one of two listeners of a port would lose, nothing picks up.
        let setting = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_migrate_req");
        let setting = arena.at(pod).enter(|| setting)??;
        ensure!(setting.trim() == "0", "net.ipv4.tcp_migrate_req is set in {pod}");
    }
    let (mut handovers, mut slowest, mut all) = (0, Duration::ZERO, Vec::new());
    let began = Instant::now();
    while handovers < handovers_wanted || connections(&all) < connections_wanted {
        ensure!(began.elapsed() < SPAN_MAX, "it takes too long: {handovers} hand-overs");
        let mut loads = start_loads(trial, &arena)?;
        trial.sleep(Duration::from_millis(500))?;
        while loads.iter_mut().all(Load::is_running) {
            for host in ["host-a", "host-b"] {
                slowest = slowest.max(replace(&mut arena, host)?);
                handovers += 1;
            }
            trial.go_on()?;
        }
        for load in loads {
            all.push(load.finish(trial)?);
        }
    }
    let lost: u64 = all.iter().map(Told::lost).sum();
    trial.exactly("new connections failed", lost, "connections", 0);
    trial.at_least("new connections", connections(&all), "connections", connections_wanted);
    trial.at_least("hand-overs", f64::from(handovers), "hand-overs", f64::from(handovers_wanted));
    let limit = (DRAIN_DEADLINE + BEYOND_DEADLINE).as_secs_f64();
    trial.quickly("slowest end of an old process", slowest.as_secs_f64(), "s", limit);
    trial.tell("new connections a second", connections(&all) / began.elapsed().as_secs_f64(), "/s");
    arena.must_work()
}

/// Runs F5b: live connections that no tunnel carries, out of the mesh and into it.
pub(super) fn live_connections(trial: &mut Trial<'_>) -> Result<()> {
    let each = trial.amount(500_u64, 5_000);
    let mut arena = Arena::start(plan(trial.settings))?;
    let ways = [("client", "legacy"), ("stranger", "server")];
    let mut lanes = Vec::new();
    for (from, to) in ways {
        for number in 0..each {
            let stream = arena.connect(from, arena.address(to, SERVED))?;
            lanes.push(Lane { stream, seed: lanes.len() as u64, offset: 0 });
            if number % 500 == 0 {
                trial.go_on()?;
            }
        }
    }
    let total = lanes.len() as u64;
    let watch = Watch::default();
    let share = lanes.len().div_ceil(THREADS * ways.len());
    let outcome = thread::scope(|scope| {
        for lanes in lanes.chunks_mut(share) {
            let watch = &watch;
            scope.spawn(move || watch.exchange_until_stopped(lanes));
        }
        let outcome = replace_under(trial, &mut arena, &watch);
        watch.stop.store(true, Ordering::Relaxed);
        outcome
    });
    let slowest = outcome?;
    let broken = watch.broken.into_inner().unwrap_or_else(PoisonError::into_inner);
    trial.exactly("live connections broken", broken.len() as u64, "connections", 0);
    trial.exactly("live connections", total, "connections", 2 * each);
    let moved = moved(&arena.a.process.log()) + moved(&arena.b.process.log());
    trial.at_least("moved, over two hand-overs each", moved as f64, "moves", (2 * total) as f64);
    let quiet = watch.quiet_us.load(Ordering::Relaxed) as f64 / 1e3;
    let gap = watch.longest_us.load(Ordering::Relaxed) as f64 / 1e3;
    trial.quickly("longest gap", gap, "ms", GAP_MS);
    trial.tell("longest gap without a hand-over", quiet, "ms");
    trial.tell("slowest move of all", slowest.as_secs_f64(), "s");
    trial.tell("messages", watch.messages.load(Ordering::Relaxed) as f64, "messages");
    for (seed, why) in broken.iter().take(3) {
        trial.remark(format!("connection {seed}: {why}"));
    }
    arena.must_work()
}

/// Runs U6 for hand-overs: both processes hold their rings at a time, and little memory may be locked.
pub(super) fn memlock(trial: &mut Trial<'_>) -> Result<()> {
    if std::process::Command::new("setpriv").arg("--version").output().is_err() {
        return Err(not_run("setpriv is not installed; it comes with util-linux"));
    }
    let wanted = trial.amount(3, 50);
    for (name, bytes) in [("0", 0), ("64 KiB", 65_536), ("1 MiB", 1 << 20), ("8 MiB", 8 << 20)] {
        let limit = format!("--memlock={bytes}:{bytes}");
        let without = ["--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"];
        let wrapper = ["prlimit", &limit, "setpriv", without[0], without[1]];
        let plan = plan(trial.settings).reactor("auto").wrapped("host-a", &wrapper);
        let mut arena = Arena::start(plan).with_context(|| format!("with {name}"))?;
        let mut done = 0;
        for _ in 0..wanted {
            trial.go_on()?;
            replace(&mut arena, "host-a").with_context(|| format!("with {name}"))?;
            arena.must_work()?;
            done += 1;
        }
        trial.exactly(&format!("{name}: hand-overs"), done, "hand-overs", wanted);
        let log = arena.a.process.log();
        let rings = log.lines().filter(|line| line.contains("reactor io_uring")).count();
        trial.tell(&format!("{name}: processes with a ring"), rings as f64, "processes");
    }
    Ok(())
}

fn plan(settings: &Settings) -> Plan {
    let deadline = format!("{}s", DRAIN_DEADLINE.as_secs());
    Plan::new(settings).documents(PERMISSIVE).drain_deadline(&deadline)
}

/// In a tunnel, past the mesh and from outside of it.
fn start_loads(trial: &Trial<'_>, arena: &Arena) -> Result<Vec<Load>> {
    let ways = [("client", "server"), ("neighbour", "legacy"), ("stranger", "server-2")];
    let start = |(from, to): (&str, &str)| {
        let target = arena.address(to, SERVED).to_string();
        #[rustfmt::skip]
        let arguments = [
            "connect", &target, "--connections", CONNECTIONS, "--protocol", "http1",
            "--warm-up", "0.2", "--duration", LOAD_SECONDS,
        ];
        Load::start(arena, trial, from, &format!("load-{from}-{to}"), &arguments)
    };
    ways.into_iter().map(start).collect()
}

fn connections(all: &[Told]) -> f64 {
    all.iter().map(|told| told.number("connections")).sum()
}

/// Replaces a proxy and waits for the end of the old one; tells how long that took.
fn replace(arena: &mut Arena, host: &str) -> Result<Duration> {
    let proxy = if host == "host-a" { &mut arena.a } else { &mut arena.b };
    let mut old = hand_over(&mut proxy.process, PATIENCE)?;
    let began = Instant::now();
    let status = old.wait(PATIENCE)?;
    ensure!(status.success(), "the old process of {host}: {status}");
    Ok(began.elapsed())
}

/// Two hand-overs of each proxy, with a quiet time before the first.
fn replace_under(trial: &Trial<'_>, arena: &mut Arena, watch: &Watch) -> Result<Duration> {
    watch.wait_for_rounds(trial, 1)?;
    watch.longest_us.store(0, Ordering::Relaxed);
    watch.wait_for_rounds(trial, 2)?;
    watch.quiet_us.store(watch.longest_us.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    let mut slowest = Duration::ZERO;
    for _ in 0..2 {
        for host in ["host-a", "host-b"] {
            slowest = slowest.max(replace(arena, host)?);
            trial.sleep(Duration::from_millis(500))?;
        }
    }
    let rounds = watch.rounds.load(Ordering::Relaxed);
    watch.wait_for_rounds(trial, rounds / watch.threads.load(Ordering::Relaxed).max(1) + 2)?;
    Ok(slowest)
}

/// Live connections that old processes say they have moved.
fn moved(log: &str) -> u64 {
    let lines = log.lines().filter(|line| line.contains("live connections were moved"));
    lines.filter_map(|line| line.rsplit("moved=").next()?.trim().parse::<u64>().ok()).sum()
}

/// One live connection: what is sent next is known from its seed and how much was sent, and so is what
/// must come back.
struct Lane {
    stream: TcpStream,
    seed: u64,
    offset: u64,
}

/// What all threads find out.
#[derive(Default)]
struct Watch {
    stop: AtomicBool,
    threads: AtomicU64,
    /// Of all threads, together.
    rounds: AtomicU64,
    messages: AtomicU64,
    longest_us: AtomicU64,
    quiet_us: AtomicU64,
    broken: Mutex<BTreeMap<u64, String>>,
}

impl Watch {
    /// Exchanges messages over all lanes, in groups that are under way together, round after round.
    fn exchange_until_stopped(&self, lanes: &mut [Lane]) {
        self.threads.fetch_add(1, Ordering::Relaxed);
        while !self.stop.load(Ordering::Relaxed) {
            for group in lanes.chunks_mut(GROUP) {
                let began = Instant::now();
                let sent: Vec<_> = group.iter_mut().map(Lane::send).collect();
                for (lane, sent) in group.iter_mut().zip(sent) {
                    if let Err(error) = sent.and_then(|()| lane.receive()) {
                        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
                        broken.entry(lane.seed).or_insert_with(|| format!("{error:#}"));
                    }
                }
                let took = began.elapsed().as_micros() as u64;
                self.longest_us.fetch_max(took, Ordering::Relaxed);
                self.messages.fetch_add(group.len() as u64, Ordering::Relaxed);
            }
            self.rounds.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until every thread has been through all of its lanes so often.
    fn wait_for_rounds(&self, trial: &Trial<'_>, rounds: u64) -> Result<()> {
        let began = Instant::now();
        while self.rounds.load(Ordering::Relaxed)
            < rounds * self.threads.load(Ordering::Relaxed).max(1)
        {
            ensure!(began.elapsed() < SPAN_MAX, "the live connections make no progress");
            trial.sleep(Duration::from_millis(20))?;
        }
        Ok(())
    }
}

impl Lane {
    fn send(&mut self) -> Result<()> {
        let mut message = [0; MESSAGE_BYTES];
        pattern::fill(self.seed, self.offset, &mut message);
        Ok((&self.stream).write_all(&message)?)
    }

    /// Every byte must be the one that was sent at its place.
    fn receive(&mut self) -> Result<()> {
        let (mut message, mut answer) = ([0; MESSAGE_BYTES], [0; MESSAGE_BYTES]);
        (&self.stream).read_exact(&mut answer)?;
        pattern::fill(self.seed, self.offset, &mut message);
        ensure!(message == answer, "bytes came back changed after {}", self.offset);
        self.offset += MESSAGE_BYTES as u64;
        Ok(())
    }
}
