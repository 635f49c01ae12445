//! F6: a network that loses packets, and a narrow one. Bytes arrive as they were sent, and about as
//! fast as without a mesh.

use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::super::arena::{Arena, PATIENCE};
use super::super::traffic::last_json;
use super::super::trial::{Trial, need, not_run};
use super::backend::nft;
use crate::lab::Program;

const ECHO: u16 = 8097;

/// What is wrong with the network, how many bytes are sent through it, and the least share of the
/// throughput without a mesh.
struct Impairment {
    name: &'static str,
    set: fn(&Arena) -> Result<()>,
    bytes: [u64; 2],
    share_min: f64,
}

const IMPAIRMENTS: [Impairment; 2] = [
    Impairment { name: "1 % loss", set: lose, bytes: [8 << 20, 128 << 20], share_min: 0.9 },
    Impairment { name: "10 Mbit/s", set: narrow, bytes: [2 << 20, 20 << 20], share_min: 0.9 },
];

/// Runs the row.
pub(in super::super) fn bad_network(trial: &mut Trial<'_>) -> Result<()> {
    for impairment in &IMPAIRMENTS {
        let mut arena = Arena::usual(trial)?;
        let mut echoes = Vec::new();
        for pod in ["server", "legacy"] {
            let listen = format!("0.0.0.0:{ECHO}");
            let serve =
                Program::new(&trial.settings.own).arguments(["serve", "echo", "--listen", &listen]);
            echoes.push(arena.lab.start(pod, &format!("echo-{pod}"), &serve)?);
        }
        (impairment.set)(&arena)?;
        let bytes = impairment.bytes[usize::from(!trial.settings.short)];
        let direct = exchange(trial, &arena, ("stranger", "legacy"), bytes)?;
        let meshed = exchange(trial, &arena, ("client", "server"), bytes)?;
        let name = impairment.name;
        let intact = meshed.0["received_digest"] == meshed.0["sent_digest"]
            && meshed.0["received_bytes"].as_u64() == Some(bytes);
        trial.exactly(&format!("{name}: intact"), u64::from(intact), "of 1", 1);
        trial.tell(&format!("{name}: bytes"), bytes as f64, "bytes");
        let share = direct.1 / meshed.1;
        if trial.settings.short {
            trial.tell(&format!("{name}: throughput over bare TCP"), share, "times");
        } else {
            trial.at_least(
                &format!("{name}: throughput over bare TCP"),
                share,
                "times",
                impairment.share_min,
            );
        }
        arena.must_work()?;
    }
    Ok(())
}

/// What the client saw, and the seconds it took.
fn exchange(
    trial: &Trial<'_>,
    arena: &Arena,
    (from, to): (&str, &str),
    bytes: u64,
) -> Result<(Value, f64)> {
    let began = std::time::Instant::now();
    let target = arena.address(to, ECHO).to_string();
    let count = bytes.to_string();
    let client = Program::new(&trial.settings.own).arguments([
        "tcp",
        &target,
        "--send",
        &count,
        "--seed",
        "7",
        "--timeout",
        "280",
    ]);
    let mut process = arena.lab.start(from, &format!("tcp-{from}"), &client)?;
    while process.is_running() {
        trial.sleep(std::time::Duration::from_millis(5))?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let status = process.wait(PATIENCE)?;
    ensure!(status.success(), "{from} to {to}: {}", process.log().trim());
    let told = last_json(&process.log());
    Ok((told.ok_or_else(|| anyhow::anyhow!("the client told nothing"))?, seconds))
}

fn lose(arena: &Arena) -> Result<()> {
    let rule = "numgen random mod 100 < 1 drop";
    nft(
        arena,
        "wire",
        &format!(
            "table ip lossy {{ chain forward {{ type filter hook forward priority 0; {rule}; }}; }}"
        ),
    )
}

fn narrow(arena: &Arena) -> Result<()> {
    need("tc", "iproute2")?;
    for device in ["to-host-a", "to-host-b"] {
        let mut tc = Command::new("tc");
        tc.args(["qdisc", "add", "dev", device, "root", "tbf", "rate", "10mbit"]);
        tc.args(["burst", "32kbit", "latency", "400ms"]);
        let output = arena.lab.wire().enter(|| tc.output())?;
        let output = output?;
        let error = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(not_run(format!("tc cannot make a narrow link here: {}", error.trim())));
        }
    }
    Ok(())
}
