//! F18: who is no longer allowed is cut, however many connections it has.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::epoll;

use super::super::arena::{Arena, PATIENCE, SERVED};
use super::super::trial::Trial;

/// Connections are opened in lots of so many by one visit to the namespace.
const LOT: usize = 500;
/// The proxy before the destination is to have cut all within this time after the change is applied. That the client's
/// proxy closes as many sockets afterwards is told beside it: here both share the processors.
const CUT_WITHIN_MS: f64 = 100.0;

const DENY: &str = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
    metadata: {name: not-client}\nspec:\n  action: DENY\n  \
    selector: {matchLabels: {app: server}}\n  rules:\n  - from:\n    - source: \
    {principals: [\"cluster.local/ns/default/sa/client\"]}\n";

/// Runs the row.
pub(in super::super) fn revoke(trial: &mut Trial<'_>) -> Result<()> {
    let wanted: usize = trial.amount(1_000, 10_000);
    let mut arena = Arena::usual(trial)?;
    let to = arena.address("server", SERVED);
    let mut held = Vec::new();
    while held.len() < wanted {
        trial.go_on()?;
        held.extend(open(&arena, to, LOT.min(wanted - held.len()))?);
    }
    let mut unharmed = arena.connect("neighbour", to)?;
    let watch = Watch::new(&held)?;
    let (old, closed_before) = (generation(&arena)?, closed(&arena)?);
    arena.rewrite(&arena.plan().clone().documents(DENY))?;
    let (mut applied, began) = (Instant::now(), Instant::now());
    let (mut cut, mut all_cut_by_proxy) = (Vec::new(), None);
    while cut.len() < wanted && began.elapsed() < PATIENCE {
        trial.go_on()?;
        // The last moment at which the old rules were certainly in force.
        if cut.is_empty() {
            let asked = Instant::now();
            if generation(&arena)? == old {
                applied = asked;
            }
        }
        cut.extend(watch.ended(Duration::from_millis(1))?);
        if all_cut_by_proxy.is_none() && closed(&arena)? - closed_before >= wanted as u64 {
            all_cut_by_proxy = Some(Instant::now());
        }
    }
    let all_cut_by_proxy = all_cut_by_proxy.unwrap_or_else(Instant::now);
    trial.exactly("connections cut", cut.len() as u64, "connections", wanted as u64);
    let last = cut.iter().max().copied().unwrap_or(applied);
    let first = cut.iter().min().copied().unwrap_or(applied);
    let after_change = |moment: Instant| (moment - applied).as_secs_f64() * 1e3;
    trial.quickly(
        "all cut by the proxy, after the change",
        after_change(all_cut_by_proxy),
        "ms",
        CUT_WITHIN_MS,
    );
    trial.tell("the last seen by its client, after the change", after_change(last), "ms");
    trial.tell("from the first to the last", (last - first).as_secs_f64() * 1e3, "ms");
    ensure!(arena.ask("client", to).is_err(), "a denied client is answered");
    ask_once(&mut unharmed).context("a connection that is still allowed")?;

    arena.rewrite(&arena.plan().clone().version(2))?;
    let began = Instant::now();
    while arena.ask("client", to).is_err() {
        trial.sleep(Duration::from_millis(20))?;
        ensure!(began.elapsed() < PATIENCE, "the policy is gone, and the client still refused");
    }
    drop(held);
    arena.must_work()
}

fn open(arena: &Arena, to: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let opened = arena.at("client").enter(|| {
        let one = |_| {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            // It has passed both proxies when its byte comes back.
            ask_once(&mut stream)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        (0..count).map(one).collect::<std::io::Result<Vec<_>>>()
    })?;
    opened.context("cannot open the connections that are to be cut")
}

fn ask_once(stream: &mut TcpStream) -> std::io::Result<()> {
    use std::io::{Read, Write};
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0; 1])
}

fn generation(arena: &Arena) -> Result<u64> {
    Ok(arena.b.metrics(&arena.lab)?.sum("ringway_snapshot_generation", &[]) as u64)
}

/// Connections that the destination's proxy has ended.
fn closed(arena: &Arena) -> Result<u64> {
    let metrics = arena.b.metrics(&arena.lab)?;
    Ok(metrics.sum("istio_tcp_connections_closed_total", &[]) as u64)
}

/// Waits for the ends of many connections.
struct Watch<'h> {
    held: &'h [TcpStream],
    set: std::os::fd::OwnedFd,
}

impl<'h> Watch<'h> {
    fn new(held: &'h [TcpStream]) -> Result<Watch<'h>> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (index, stream) in held.iter().enumerate() {
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&set, stream.as_fd(), data, epoll::EventFlags::IN)?;
        }
        Ok(Watch { held, set })
    }

    /// The moments at which connections ended since it was asked last.
    fn ended(&self, patience: Duration) -> Result<Vec<Instant>> {
        let mut events = Vec::with_capacity(1024);
        let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: patience.as_nanos() as _ };
        epoll::wait(&self.set, rustix::buffer::spare_capacity(&mut events), Some(&timeout))?;
        let now = Instant::now();
        let mut ended = Vec::new();
        for event in &events {
            let stream = &self.held[event.data.u64() as usize];
            let end = std::io::Read::read(&mut &*stream, &mut [0; 16]);
            if !matches!(&end, Err(error) if error.kind() == ErrorKind::WouldBlock) {
                epoll::delete(&self.set, stream.as_fd())?;
                ended.push(now);
            }
        }
        Ok(ended)
    }
}
