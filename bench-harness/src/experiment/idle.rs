//! What connections cost that do nothing, and whether what they took comes back.
//!
//! Every count of connections meets a fresh pair, so that none lives in what another one left behind.
//! All are opened, carry one byte there and back, and fall silent; then memory, processor time and
//! wake-ups are read. After they have gone, the memory of both sides is watched until it is where it
//! was before ([`RETURN_SHARE`] and [`RETURN_BYTES`] above it at most), for [`RETURN_PATIENCE`]. What is
//! then still held beyond that is told as `near-kept` and `far-kept`, whether it came back or not.
//!
//! `kernel-per-connection` is what sockets hold in buffers, by the kernel's own account of TCP for the
//! whole machine, the client's and the server's sockets included (`none` has nothing but those). The
//! sockets themselves are not in it: `sockets-per-connection` counts them in all namespaces.
//! The account moves in steps of a mebibyte and other programs' sockets are in it, so that a hundred
//! bytes more or less at 10,000 connections, even below zero, are noise.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rustix::process::{Resource, Signal, getrlimit};

use super::latency::protocol;
use super::{Experiment, Point, Settings, Turn};
use crate::measure::{Memory, socket_memory_bytes, sockets};
use crate::subject::{ECHO, Options, Rules, Subject};

const MIB: f64 = 1048576.0;

/// Seconds between the last connection and the first reading; fewer when less is measured.
const SETTLE_SECONDS: f64 = 1.0;
/// What opening all connections may take.
const HOLD_PATIENCE: Duration = Duration::from_secs(60);
/// Memory has come back when no more than this share of what was there before is left on top.
const RETURN_SHARE: f64 = 0.10;
/// And no more than this beside the share.
const RETURN_BYTES: f64 = 2.0 * MIB;
/// How long memory may take to come back, in full runs and in short ones.
const RETURN_PATIENCE_FULL: Duration = Duration::from_secs(30);
const RETURN_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked at.
const RETURN_INTERVAL: Duration = Duration::from_millis(50);
/// Descriptors of a proxy besides its connections.
const DESCRIPTORS_BESIDES: u64 = 256;

/// Connections that do nothing.
pub(super) struct Idle {
    held: Vec<u32>,
    seconds: f64,
    full: bool,
}

impl Idle {
    pub(super) fn new(settings: &Settings) -> Idle {
        let held = match &settings.held[..] {
            [] => usual(settings.full),
            named => named.to_vec(),
        };
        Idle { held, seconds: settings.seconds, full: settings.full }
    }

    /// A pair without connections.
    fn none(&self, turn: &mut Turn<'_>) -> Result<()> {
        self.settle(turn)?;
        let [near, far] = turn.pair.memory()?;
        self.rest(turn)?;
        turn.sample("near-rss", "MiB", near.resident_bytes as f64 / MIB);
        turn.sample("far-rss", "MiB", far.resident_bytes as f64 / MIB);
        turn.sample("near-anonymous", "MiB", near.anonymous_bytes as f64 / MIB);
        turn.sample("far-anonymous", "MiB", far.anonymous_bytes as f64 / MIB);
        turn.sample("near-pss", "MiB", near.proportional_bytes as f64 / MIB);
        turn.sample("far-pss", "MiB", far.proportional_bytes as f64 / MIB);
        Ok(())
    }

    /// A fresh pair, and so many connections.
    fn held(&self, turn: &mut Turn<'_>, connections: u32) -> Result<()> {
        if let Some(reason) = lacks_descriptors(turn.subject, connections) {
            turn.void(&reason);
            return Ok(());
        }
        turn.restart(&Options::default())?;
        self.settle(turn)?;
        let (before, kernel_before) = (turn.pair.memory()?, kernel(turn)?);
        let count = connections.to_string();
        let arguments =
            ["hold", ECHO, "--connections", &count, "--protocol", protocol(turn.subject)];
        let mut load = turn.bench.load(&arguments)?;
        let began = Instant::now();
        while !load.log().contains("\"held\"") {
            turn.bench.go_on()?;
            if !load.is_running() || began.elapsed() > HOLD_PATIENCE {
                bail!("the connections cannot be held: {}", load.log().trim());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.settle(turn)?;
        let (held, kernel_held) = (turn.pair.memory()?, kernel(turn)?);
        let each = |after: f64, before: f64| (after - before) / f64::from(connections);
        for (metric, index) in [("near-per-connection", 0), ("far-per-connection", 1)] {
            let rss = |memory: [Memory; 2]| memory[index].resident_bytes as f64;
            turn.sample(metric, "B", each(rss(held), rss(before)));
        }
        turn.sample("kernel-per-connection", "B", each(kernel_held.0, kernel_before.0));
        let sockets = each(kernel_held.1, kernel_before.1);
        turn.sample("sockets-per-connection", "sockets", sockets);
        self.rest(turn)?;
        // They must have been idle, not gone.
        let still = each(kernel(turn)?.1, kernel_before.1);
        if still < sockets - 0.01 {
            turn.void(&format!(
                "connections ended while idle: {sockets} sockets each, then {still}"
            ));
        }
        load.signal(Signal::TERM)?;
        let status = load.wait(HOLD_PATIENCE)?;
        ensure!(status.success(), "the load program failed: {}", load.log().trim());
        self.given_back(turn, &before)
    }

    fn settle(&self, turn: &Turn<'_>) -> Result<()> {
        turn.bench.sleep(Duration::from_secs_f64(self.seconds.min(SETTLE_SECONDS)))
    }

    /// Processor time and wake-ups while nothing happens.
    fn rest(&self, turn: &mut Turn<'_>) -> Result<()> {
        let (clock, wake_ups) = (turn.pair.clock(&[])?, turn.pair.wake_ups()?);
        turn.bench.sleep(Duration::from_secs_f64(self.seconds))?;
        let wake_ups = turn.pair.wake_ups()?.saturating_sub(wake_ups);
        let cost = turn.pair.clock(&[])?.since(&clock);
        let seconds = cost.elapsed.as_secs_f64();
        turn.sample("idle-cpu", "CPU-ms/s", cost.pair().as_secs_f64() * 1e3 / seconds);
        turn.sample("wake-ups", "1/s", wake_ups as f64 / seconds);
        Ok(())
    }

    /// Watches memory after the last connection has gone.
    fn given_back(&self, turn: &mut Turn<'_>, before: &[Memory; 2]) -> Result<()> {
        let patience = if self.full { RETURN_PATIENCE_FULL } else { RETURN_PATIENCE };
        let began = Instant::now();
        loop {
            let now = turn.pair.memory()?;
            let came_back = now.iter().zip(before).all(|(now, before)| {
                let before = before.resident_bytes as f64;
                now.resident_bytes as f64 <= before * (1.0 + RETURN_SHARE) + RETURN_BYTES
            });
            let took = began.elapsed();
            if came_back {
                turn.sample("return-time", "s", took.as_secs_f64());
            }
            if came_back || took > patience {
                let [near, far] = now.map(|memory| memory.resident_bytes as f64 / MIB);
                let [was_near, was_far] = before.map(|memory| memory.resident_bytes as f64 / MIB);
                turn.sample("near-rss-after", "MiB", near);
                turn.sample("far-rss-after", "MiB", far);
                turn.sample("near-kept", "MiB", near - was_near);
                turn.sample("far-kept", "MiB", far - was_far);
                if !came_back {
                    turn.remark(&format!(
                        "memory has not come back within {} s: near {was_near:.1} MiB before, \
                         {near:.1} after, far {was_far:.1} before, {far:.1} after",
                        patience.as_secs()
                    ));
                }
                return Ok(());
            }
            turn.bench.sleep(RETURN_INTERVAL)?;
        }
    }
}

/// How many connections are held when nobody says it: 5,000 in a short run. In a full one, where the system allows too few descriptors for
/// a sidecar's part of 10,000, there are 5,000 as well, so that all can be compared.
fn usual(full: bool) -> Vec<u32> {
    let room = |connections: u64| {
        getrlimit(Resource::Nofile).maximum.is_none_or(|most| most > connections)
    };
    let mut held = vec![0];
    if !full {
        // It takes minutes until everybody has let go of more.
        held.push(5_000);
        return held;
    }
    if !room(20_000 + DESCRIPTORS_BESIDES) {
        held.push(5_000);
    }
    held.push(10_000);
    if room(30_000 + DESCRIPTORS_BESIDES) {
        held.push(30_000);
    }
    held
}

/// Why the system does not let a subject hold so many connections, if it does not.
fn lacks_descriptors(subject: &dyn Subject, connections: u32) -> Option<String> {
    // Node proxies carry many connections over one to the other side.
    let each = if subject.rules() == Rules::Sidecar { 2 } else { 1 };
    let needed = u64::from(connections) * each + DESCRIPTORS_BESIDES;
    let most = getrlimit(Resource::Nofile).maximum.filter(|most| *most < needed)?;
    Some(format!(
        "{connections} connections need {needed} descriptors in one process, and {most} are allowed \
         here: raise `ulimit -Hn`"
    ))
}

/// What the kernel holds: bytes in the buffers of all TCP sockets, and sockets in all namespaces.
fn kernel(turn: &Turn<'_>) -> Result<(f64, f64)> {
    let lab = &turn.bench.lab;
    let bytes = socket_memory_bytes(lab.namespace("near"))?;
    let counts = ["near", "far", "near-host", "far-host"].map(|name| sockets(lab.namespace(name)));
    let count = counts.into_iter().sum::<Result<u64>>()?;
    Ok((bytes as f64, count as f64))
}

impl Experiment for Idle {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn points(&self) -> Vec<Point> {
        self.held.iter().map(|held| Point::new().with("connections", held)).collect()
    }

    fn expected(&self) -> Duration {
        // Not everybody gives memory back in time.
        let waiting = if self.full { 20.0 } else { 6.0 };
        Duration::from_secs_f64(self.seconds + waiting)
    }

    fn repetitions_max(&self) -> u32 {
        if self.full { 3 } else { 1 }
    }

    fn measure(&self, turn: &mut Turn<'_>, point: &Point) -> Result<()> {
        match point.get("connections")? {
            0 => self.none(turn),
            connections => self.held(turn, connections),
        }
    }
}
