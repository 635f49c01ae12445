//! L7: connections that come and end in every way, until something would be left of them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::arena::{Arena, PATIENCE, SERVED};
use super::super::trial::{Trial, need};
use crate::measure;

const AT_A_TIME: usize = 8;
/// Connections before what is measured: pools and caches are filled.
const WARM_UP: u64 = 1000;
/// Descriptors that may differ: tunnels that were opened meanwhile and are kept.
const DESCRIPTORS_MORE: f64 = 5.0;
/// Memory more for each 100,000 connections.
const GROWTH_MIB: f64 = 1.0;
/// What an allocator keeps, whatever the number of connections.
const NOISE_MIB: f64 = 1.0;

/// Runs the row.
pub(in super::super) fn churn(trial: &mut Trial<'_>) -> Result<()> {
    need("ss", "iproute2")?;
    let count: u64 = trial.amount(4_000, 200_000);
    let mut arena = Arena::usual(trial)?;
    churn_through(trial, &arena, WARM_UP)?;
    trial.sleep(Duration::from_secs(3))?;
    let start = Footprint::of(&arena)?;
    churn_through(trial, &arena, count)?;
    let began = Instant::now();
    let mut end = Footprint::of(&arena)?;
    while end.descriptors > start.descriptors && began.elapsed() < PATIENCE * 2 {
        trial.sleep(Duration::from_millis(200))?;
        end = Footprint::of(&arena)?;
    }
    let more = end.descriptors as f64 - start.descriptors as f64;
    trial.at_most("descriptors more", more, "descriptors", DESCRIPTORS_MORE);
    let grown = (end.bytes as f64 - start.bytes as f64) / f64::from(1 << 20);
    let limit = GROWTH_MIB * count as f64 / 1e5 + NOISE_MIB;
    trial.at_most("memory more", grown, "MiB", limit);
    trial.exactly("sockets that wait to be closed", close_waits(&arena)?, "sockets", 0);
    trial.tell("connections", count as f64, "connections");
    arena.must_work()
}

/// What both proxies hold together.
struct Footprint {
    descriptors: usize,
    bytes: u64,
}

impl Footprint {
    fn of(arena: &Arena) -> Result<Footprint> {
        let [a, b] = [arena.a.process.id(), arena.b.process.id()];
        Ok(Footprint {
            descriptors: measure::descriptors(a)? + measure::descriptors(b)?,
            bytes: arena.a.resident_bytes()? + arena.b.resident_bytes()?,
        })
    }
}

fn churn_through(trial: &Trial<'_>, arena: &Arena, count: u64) -> Result<()> {
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                // For good: entering anew for each connection would cost more than the connection.
                if arena.at("client").stay().is_err() {
                    failed.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || trial.go_on().is_err() {
                        return;
                    }
                    let to = if number % 4 == 3 { "legacy" } else { "server" };
                    let to = arena.address(to, SERVED);
                    if one(number, || TcpStream::connect_timeout(&to, PATIENCE)).is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    trial.go_on()?;
    let failed = failed.load(Ordering::Relaxed);
    ensure!(failed == 0, "{failed} of {count} connections failed before they were to end");
    Ok(())
}

/// A connection, ended in the way that its number says.
fn one(number: u64, connect: impl Fn() -> std::io::Result<TcpStream>) -> Result<()> {
    let mut stream = connect()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"hello")?;
    if number % 5 != 4 {
        stream.read_exact(&mut [0; 5]).context("no echo")?;
    }
    match number % 5 {
        0 => drop(stream),
        1 => {
            stream.shutdown(Shutdown::Write)?;
            stream.read_to_end(&mut Vec::new())?;
        }
        2 => {
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        }
        3 => {
            // Half an end, and then none at all.
            stream.shutdown(Shutdown::Write)?;
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        }
        // Gone with the answer under way.
        _ => {}
    }
    Ok(())
}

/// Sockets of all pods whose peer has ended and that nobody closes.
fn close_waits(arena: &Arena) -> Result<u64> {
    let mut all = 0;
    for pod in ["client", "server"] {
        let mut ss = std::process::Command::new("ss");
        ss.args(["-Htn", "state", "close-wait"]);
        let output = arena.at(pod).enter(|| ss.output())??;
        all += String::from_utf8_lossy(&output.stdout).lines().count() as u64;
    }
    Ok(all)
}
