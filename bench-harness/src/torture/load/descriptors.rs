//! L4: a proxy without descriptors left. It must not spin, must not fill a disk with its log, and
//! must keep alive what is open; when descriptors come back, so does it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use socket2::SockAddr;

use super::super::arena::{Arena, PATIENCE, Plan, SERVED};
use super::super::trial::{Trial, need};
use crate::http::get_from;
use crate::lab::wait_until;
use crate::measure;

/// What the proxy may open, and how many clients want a connection. Each connection takes two.
const DESCRIPTORS: usize = 150;
const CLIENTS: usize = 300;
/// Connections that were there before.
const LIVE: usize = 10;

/// Runs the row.
pub(in super::super) fn descriptors(trial: &mut Trial<'_>) -> Result<()> {
    need("prlimit", "util-linux")?;
    let limit = format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}");
    let plan = Plan::new(trial.settings).wrapped("host-a", &["prlimit", &limit]);
    let mut arena = Arena::start(plan)?;
    let mut live = (0..LIVE)
        .map(|_| arena.connect("neighbour", arena.address("server", SERVED)))
        .collect::<Result<Vec<_>>>()?;
    for stream in &mut live {
        ask_over(stream).context("a connection that is to live on")?;
    }
    let id = arena.a.process.id();
    let held = knock(&arena)?;
    wait_until("its descriptors are used up", PATIENCE, || {
        // A quarter each is kept back for dials and for the process's own servers.
        measure::descriptors(id).is_ok_and(|used| used >= DESCRIPTORS / 2)
    })?;
    let hold = Duration::from_secs(trial.amount(10, 60));
    let (began, processor, lines) =
        (Instant::now(), arena.a.processor_time()?, arena.a.log_lines());
    let (mut answered, mut asked) = (0, 0);
    let mut admin = 0;
    while began.elapsed() < hold {
        trial.sleep(Duration::from_secs(1))?;
        asked += 1;
        answered += live.iter_mut().filter_map(|stream| ask_over(stream).ok()).count() as u64;
        admin += u64::from(admin_answers(&arena));
    }
    let seconds = began.elapsed().as_secs_f64();
    let cores = (arena.a.processor_time()? - processor).as_secs_f64() / seconds;
    trial.quickly("processor", cores, "cores", 0.10);
    let said = (arena.a.log_lines() - lines) as f64 / seconds;
    trial.at_most("log", said, "lines/s", 1.0);
    trial.exactly("live connections answer", answered, "answers", asked * LIVE as u64);
    trial.exactly("admin and metrics answer", admin, "times", asked);

    drop(held);
    let released = Instant::now();
    let to = arena.address("server", SERVED);
    wait_until("new connections are accepted again", PATIENCE, || {
        new_connection(&arena, to, Duration::from_millis(200)).is_ok()
    })?;
    trial.quickly("accepts again after", released.elapsed().as_secs_f64() * 1e3, "ms", 100.0);
    arena.must_work()?;
    ensure!(live.iter_mut().all(|stream| ask_over(stream).is_ok()), "a live connection is gone");
    Ok(())
}

/// As many connections as there are clients; those beyond the limit wait to be accepted.
fn knock(arena: &Arena) -> Result<Vec<socket2::Socket>> {
    let to = SockAddr::from(arena.address("legacy", SERVED));
    arena.at("client").enter(|| {
        (0..CLIENTS)
            .map(|_| {
                let socket =
                    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
                socket.set_nonblocking(true)?;
                // It is under way; whether it ever arrives is not what is held.
                let _ = socket.connect(&to);
                Ok(socket)
            })
            .collect()
    })?
}

/// Asks the null server for one byte over a connection that stays.
fn ask_over(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"GET /bytes/1 HTTP/1.1\r\nhost: server\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut piece = [0; 512];
    while !answer.windows(4).any(|window| window == b"\r\n\r\n") || answer.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut piece)?;
        ensure!(count > 0, "the connection ended");
        answer.extend_from_slice(&piece[..count]);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "not the answer of the null server");
    Ok(())
}

fn admin_answers(arena: &Arena) -> bool {
    let admin = SocketAddr::from(([127, 0, 0, 1], 15000));
    let dump = get_from(arena.at("host-a"), admin, "/config_dump");
    dump.is_ok_and(|(status, _)| status == 200) && arena.a.metrics(&arena.lab).is_ok()
}

fn new_connection(arena: &Arena, to: SocketAddr, patience: Duration) -> Result<()> {
    let mut stream = arena.at("client").connect_timeout(to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    ask_over(&mut stream)
}
