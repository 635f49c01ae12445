//! F2 and F19: the certificate authority is away, and it changes.

use std::fs;
use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::arena::{Arena, PATIENCE, Plan, SERVED, TUNNEL};
use super::super::traffic::Load;
use super::super::trial::Trial;
use crate::probe;
use crate::relay::Files;

/// How long certificates live here.
const LIFETIME_SECONDS: f64 = 16.0;
const LIFETIME: &str = "16s";
/// New connections while the authority is away.
const NEW: u64 = 10;

/// Runs F2: the authority's directory is away for longer than a certificate lives. The authority of
/// a node is in its memory, so nothing may stop; the directory is for the next start.
pub(in super::super) fn authority_away(trial: &mut Trial<'_>) -> Result<()> {
    let mut arena = Arena::start(Plan::new(trial.settings).leaf_lifetime(LIFETIME))?;
    let (place, away) = (arena.authority(), arena.authority().with_extension("away"));
    fs::rename(&place, &away).context("cannot take the authority away")?;
    // A connection ends with its certificate; new ones are what must not fail.
    let told = opening(trial, &arena, "client", "server", LIFETIME_SECONDS * 1.5)?.finish(trial)?;
    trial.exactly("connections lost meanwhile", told.lost(), "connections", 0);
    trial.tell("connections meanwhile", told.number("requests"), "connections");
    // A pair that has no tunnel yet.
    let (to, mut reached) = (arena.address("server-2", SERVED), 0);
    for _ in 0..NEW {
        reached += u64::from(arena.ask("neighbour", to).is_ok());
    }
    trial.exactly("new connections meanwhile", reached, "connections", NEW);
    let is_another = u64::from(place.join("root-cert.pem").exists());
    trial.exactly("another authority made in its place", is_another, "authorities", 0);
    fs::remove_dir_all(&place).ok();
    fs::rename(&away, &place).context("cannot bring the authority back")?;
    let back = Instant::now();
    while arena.ask("neighbour", to).is_err() {
        trial.sleep(Duration::from_millis(50))?;
        ensure!(back.elapsed() < PATIENCE * 2, "the authority is back, and certificates are not");
    }
    trial.quickly("certificates work after", back.elapsed().as_secs_f64(), "s", 5.0);
    // The next process reads it again, and is trusted as the one before was.
    arena.b.process.terminate(PATIENCE)?;
    arena.restart("host-b")?;
    arena.must_work()
}

/// Runs F19: certificates and the root change under load; a peer whose certificate ends is cut.
pub(in super::super) fn rotation(trial: &mut Trial<'_>) -> Result<()> {
    let mut arena = Arena::start(Plan::new(trial.settings).leaf_lifetime("10s"))?;
    let seconds = trial.amount(25.0, 120.0);
    let loads = [
        opening(trial, &arena, "client", "server", seconds)?,
        opening(trial, &arena, "neighbour", "server-2", seconds)?,
    ];
    trial.sleep(Duration::from_secs(2))?;
    ca(trial, &arena, &["rotate", "--new-signs-after", "4s", "--old-trusted-for", "20s"])?;
    let expiring = expire(trial, &arena);
    let (mut lost, mut made) = (0, 0.0);
    for load in loads {
        let told = load.finish(trial)?;
        (lost, made) = (lost + told.lost(), made + told.number("requests"));
    }
    let (late, is_cut) = expiring?;
    trial.exactly("connections lost", lost, "connections", 0);
    trial.tell("connections", made, "connections");
    trial.exactly("expired peer cut", u64::from(is_cut), "of 1", 1);
    trial.quickly("expired peer cut after its end", late, "s", 5.0);
    arena.must_work()
}

/// New connections at a steady rate, each with a message.
fn opening(trial: &Trial<'_>, arena: &Arena, from: &str, to: &str, seconds: f64) -> Result<Load> {
    let target = arena.address(to, SERVED).to_string();
    let seconds = seconds.to_string();
    let arguments =
        ["connect", &target, "--rate", "50", "--duration", &seconds, "--connections", "64"];
    Load::start(arena, trial, from, &format!("opening-{from}"), &arguments)
}

/// A tunnel of a peer whose certificate ends: seconds from that end to the tunnel's, and whether
/// there was one.
fn expire(trial: &Trial<'_>, arena: &Arena) -> Result<(f64, bool)> {
    const LIFETIME: Duration = Duration::from_secs(8);
    let out = arena.lab.directory().join("short-lived");
    let folder = out.display().to_string();
    let identity = "spiffe://cluster.local/ns/default/sa/probe";
    let issued = Instant::now();
    ca(trial, arena, &["issue", identity, "--out", &folder, "--lifetime", "8s"])?;
    let files = Files {
        certificate: out.join("cert-chain.pem"),
        key: out.join("key.pem"),
        roots: out.join("root-cert.pem"),
    };
    let stream = arena.connect("stranger", arena.address("server", TUNNEL))?;
    let mut probe = probe::connect(stream, &files).context("a peer while it is valid")?;
    probe.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")?;
    // Until keep-alive would notice that nobody answers its PINGs.
    probe.sock.set_read_timeout(Some(LIFETIME + Duration::from_secs(10)))?;
    let mut heard = Vec::new();
    let end = probe.read_to_end(&mut heard);
    let is_cut = !matches!(&end, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
    ensure!(!heard.is_empty(), "the server said nothing while the peer was valid");
    Ok((issued.elapsed().as_secs_f64() - LIFETIME.as_secs_f64(), is_cut))
}

fn ca(trial: &Trial<'_>, arena: &Arena, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(&trial.settings.ringway);
    command.args(["ca", "--directory"]).arg(arena.authority()).args(arguments);
    let output = command.output().context("cannot run ringway ca")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ringway ca {}: {}", arguments.join(" "), error.trim());
    Ok(())
}
