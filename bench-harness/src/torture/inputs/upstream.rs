//! B3r: the abuse of B3 by a server. Who opens a tunnel to it has the same budgets for what it says as a server has for
//! its clients.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Error, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use serde_json::Value;

use super::super::arena::{Arena, PATIENCE, Plan, SERVED, TUNNEL};
use super::super::hostile::Hostile;
use super::super::traffic::{Load, MEASURED, requests};
use super::super::trial::Trial;
use super::kinds;

/// The kinds, as the server calls them.
const ATTACKS: [&str; 23] = [
    "resets",
    "made-you-reset-window-0",
    "made-you-reset-overflow",
    "made-you-reset-data-after-end",
    "made-you-reset-headers-after-end",
    "made-you-reset-priority-length",
    "continuation",
    "empty-continuation",
    "settings",
    "ping",
    "priority",
    "unknown-frames",
    "empty-data-drained",
    "empty-data-stalled",
    "padded-data",
    "interim-answers",
    "hpack-bomb",
    "http2-bomb",
    "http2-bomb-cookie",
    "push-promises",
    "window-stall",
    "trailers",
    "goaway",
];
/// Frames of each kind, unless the connection is closed before.
const FRAMES: u64 = 100_000;
/// Frames of each kind beside others' requests, over as many connections as that takes.
const FRAMES_BESIDE: u64 = 100;
/// The same when nothing else goes on; each of a thousand connections is a handshake of a server in Python.
const FRAMES_IN_ALL: u64 = 100_000;
/// How often it is tried what others feel of it.
const ROUNDS: u32 = 5;
const AGAIN_PATIENCE: Duration = Duration::from_secs(500);
/// An application that gets nothing asks anew after this long.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// What applications have to send: more than a window takes byte by byte.
const REQUEST_BYTES: usize = 256 * 1024;

/// The pod that is in no mesh, on the other host: the abuser takes its place.
const PLACE: &str = "legacy";
/// The workload whose tunnels are served by the abuser.
const TRAP: &str = "---
apiVersion: v1
kind: Pod
metadata: {name: trap, annotations: {ambient.istio.io/redirection: enabled}}
spec: {serviceAccountName: trap, nodeName: elsewhere}
status: {podIP: 10.2.0.99}
";
/// Whom others ask meanwhile.
const SERVERS: &[(&str, u8)] = &[("server", MEASURED)];

/// Runs the row.
pub(in super::super) fn abuse_by_servers(trial: &mut Trial<'_>) -> Result<()> {
    let plan = Plan::new(trial.settings).documents(TRAP);
    // As in L9: a server in Python takes what the processors have.
    let plan = plan.apart().preferred_servers(SERVERS).standing();
    let mut arena = Arena::start(plan)?;
    // For what is allocated once and kept for everybody.
    attack(trial, &arena, "settings", FRAMES, false)?;
    kinds::cost(trial, ("", &arena.a.process), &ATTACKS, |trial, name| {
        attack(trial, &arena, name, FRAMES, false)
    })?;
    if !trial.settings.short {
        what_others_feel(trial, &arena)?;
        what_comes_again(trial, &arena)?;
    }
    arena.must_work()
}

/// All kinds once more, beside honest requests of the same workload to another server.
fn what_others_feel(trial: &mut Trial<'_>, arena: &Arena) -> Result<()> {
    let load = |trial: &Trial<'_>| {
        let load = requests(trial, arena.address("server", SERVED), 200, 30.0).preferred(MEASURED);
        Load::launch(arena, "client", "load", load)
    };
    kinds::felt(trial, "", ROUNDS, load, |trial| {
        ATTACKS
            .iter()
            .try_for_each(|name| attack(trial, arena, name, FRAMES_BESIDE, true).map(drop))
    })
}

/// Each kind over tunnels that are opened again as soon as one is cut.
fn what_comes_again(trial: &mut Trial<'_>, arena: &Arena) -> Result<()> {
    let tunnels = ("tunnels", "were opened again");
    kinds::again(trial, &ATTACKS, FRAMES_IN_ALL, tunnels, |trial, name| {
        attack(trial, arena, name, FRAMES_IN_ALL, true)
    })
}

/// Has an application ask a server that answers with `name`; what the server tells, and the proxy's memory at its most.
fn attack(
    trial: &Trial<'_>,
    arena: &Arena,
    name: &str,
    frames: u64,
    again: bool,
) -> Result<(Value, u64)> {
    let frames = frames.to_string();
    let arguments: &[&str] = &["--attack", name, "--frames", &frames, "--again"];
    let arguments = &arguments[..arguments.len() - usize::from(!again)];
    let listen = arena.address(PLACE, TUNNEL);
    let script = "abusive_server.py";
    let mut server = Hostile::serve(arena, trial, (PLACE, "trap"), script, listen, arguments)?;
    server.wait_for("listening", PATIENCE)?;
    let reads = name != "empty-data-stalled";
    let ended = AtomicBool::new(false);
    let outcome = thread::scope(|scope| {
        let application = scope.spawn(|| {
            let to = arena.address(PLACE, SERVED);
            while !ended.load(Ordering::Relaxed) {
                match arena.connect("client", to) {
                    Ok(stream) => ask(stream, reads),
                    // The tunnel was refused sooner than this side saw that it is connected.
                    Err(error) if is_reset(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
        let outcome = kinds::weigh(trial, server, AGAIN_PATIENCE, &arena.a.process);
        ended.store(true, Ordering::Relaxed);
        application.join().expect("it does not panic").and(outcome)
    });
    outcome.with_context(|| name.to_owned())
}

fn is_reset(error: &Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

/// Sends, and reads what comes, until the connection ends or nothing comes.
fn ask(mut stream: TcpStream, reads: bool) {
    let _ = stream.set_read_timeout(Some(ASK_AGAIN));
    let _ = stream.set_write_timeout(Some(ASK_AGAIN));
    let _ = stream.write_all(&[b'a'; REQUEST_BYTES]);
    if !reads {
        // Whoever is reset is told so without reading.
        let mut told = [PollFd::new(&stream, PollFlags::empty())];
        let _ = poll(&mut told, Some(&Timespec::try_from(ASK_AGAIN).expect("seconds")));
        return;
    }
    let mut scratch = [0; 16 * 1024];
    while stream.read(&mut scratch).is_ok_and(|count| count > 0) {}
}
