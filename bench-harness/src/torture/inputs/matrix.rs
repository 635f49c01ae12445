//! B7: who may reach what: sources, destinations, ports and ways to write an address, each cell with
//! the verdict it must have.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use super::super::arena::{Arena, PATIENCE};
use super::super::hostile::Hostile;
use super::super::trial::Trial;

/// Cells at a time, and how long each may wait for an answer.
const AT_A_TIME: usize = 32;
const ANSWER_WITHIN: Duration = Duration::from_millis(700);
/// The ports of the process itself.
const OWN_PORTS: [u16; 8] = [15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053];
const SOURCES: [&str; 4] = ["client", "stranger", "server", "legacy"];
/// By itself, by other names of itself, each other kind of machine, and nowhere.
const DESTINATIONS: [&str; 14] = [
    "127.0.0.1",
    "127.8.8.8",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.2.0.10",
    "10.1.0.10",
    "10.1.0.99",
    "10.2.0.10",
    "10.2.0.11",
    "10.2.0.99",
    "10.255.1.2",
    "10.255.2.2",
    "169.254.1.1",
    "169.254.169.254",
];
/// The admin server; metrics and readiness are for everybody on the node's address.
const ADMIN: u16 = 15000;

/// Runs the row.
pub(in super::super) fn matrix(trial: &mut Trial<'_>) -> Result<()> {
    let mut arena = Arena::usual(trial)?;
    let client = Hostile::start(&arena, trial, ("stranger", "matrix"), "matrix.py", &[])?;
    let plain = plain_cells(trial, &arena)?;
    let outcome = client.finish(trial, PATIENCE * 10)?;
    let told = |name: &str| outcome[name].as_u64().unwrap_or(0);
    let wrong = outcome["wrong"].as_array().context("nothing was told")?;
    trial.exactly(
        "cells with another verdict",
        wrong.len() as u64 + plain.wrong.len() as u64,
        "cells",
        0,
    );
    trial.at_least("cells", (told("cells") + plain.cells) as f64, "cells", 600.0);
    trial.exactly("reach an admin endpoint", plain.admin + told("admin"), "cells", 0);
    for cell in wrong.iter().filter_map(|cell| cell.as_str()).take(5) {
        trial.remark(cell);
    }
    for cell in plain.wrong.iter().take(5) {
        trial.remark(cell);
    }
    let before = arena.a.processor_time()? + arena.b.processor_time()?;
    trial.sleep(Duration::from_secs(2))?;
    let idle = arena.a.processor_time()? + arena.b.processor_time()? - before;
    trial.quickly("loops: processor time afterwards", idle.as_secs_f64() / 2.0, "cores", 0.05);
    arena.must_work()
}

#[derive(Default)]
struct Cells {
    cells: u64,
    admin: u64,
    wrong: Vec<String>,
}

/// Plain connections from every source to the process's own ports, wherever it may be.
fn plain_cells(trial: &Trial<'_>, arena: &Arena) -> Result<Cells> {
    let mut all = Vec::new();
    for source in SOURCES {
        for destination in DESTINATIONS {
            let address = destination.parse().context("an address of the table")?;
            all.extend(OWN_PORTS.map(|port| (source, SocketAddr::new(address, port))));
        }
    }
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Cells::default()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some((source, to)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if trial.go_on().is_err() {
                        return;
                    }
                    let answer = answer_of(arena, source, *to);
                    let mut found = found.lock().expect("no thread panics with it");
                    found.cells += 1;
                    if answer.contains("HTTP/1.1 200") && to.port() == ADMIN {
                        found.admin += 1;
                    }
                    // Metrics and readiness listen on every address of the host, for scrapers.
                    let is_for_all = matches!(to.port(), 15020 | 15021);
                    if answer.starts_with("HTTP/") && !is_for_all {
                        found.wrong.push(format!("{source} to {to} is answered: {answer:.60}"));
                    }
                }
            });
        }
    });
    Ok(found.into_inner().expect("no thread panics with it"))
}

/// What a request over a plain connection is answered with; empty when there is none.
fn answer_of(arena: &Arena, source: &str, to: SocketAddr) -> String {
    let Ok(mut stream) = arena.at(source).connect_timeout(to, ANSWER_WITHIN) else {
        return String::new();
    };
    let _ = stream.set_read_timeout(Some(ANSWER_WITHIN));
    let _ = stream.write_all(b"GET /config_dump HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let mut answer = [0; 256];
    let count = stream.read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..count]).into_owned()
}
