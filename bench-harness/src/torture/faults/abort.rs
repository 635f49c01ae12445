//! F8: who resets a connection in the middle of a transfer is seen to have reset it. A transfer that
//! was cut must not look like one that is complete.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::arena::{Arena, PATIENCE, prepare};
use super::super::trial::Trial;
use crate::lab::wait_until;

/// Resets of each kind.
const RESETS: usize = 1000;
/// Connections at a time.
const AT_A_TIME: usize = 8;
/// What is sent of a transfer before it is cut.
const SENT_BYTES: usize = 5000;
/// A reset is to be seen within this time.
const SEEN_WITHIN_MS: f64 = 100.0;
const PORT: u16 = 8090;

/// Who resets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cutter {
    Client,
    Server,
}

/// Runs the row.
pub(in super::super) fn aborts(trial: &mut Trial<'_>) -> Result<()> {
    let arena = Arena::usual(trial)?;
    let mut slowest = Duration::ZERO;
    for (path, to) in [("tunnel", "server"), ("plaintext", "legacy")] {
        for (name, cutter) in [("client", Cutter::Client), ("server", Cutter::Server)] {
            trial.go_on()?;
            let seen = cut_many(&arena, to, cutter)
                .with_context(|| format!("resets by the {name}, {path}"))?;
            let resets = seen.iter().filter(|end| end.is_reset).count();
            trial.exactly(
                &format!("{name} resets, {path}"),
                resets as u64,
                "of 1000",
                RESETS as u64,
            );
            slowest = seen.iter().map(|end| end.delay).fold(slowest, Duration::max);
        }
    }
    trial.quickly("slowest seen after", slowest.as_secs_f64() * 1e3, "ms", SEEN_WITHIN_MS);
    Ok(())
}

/// How one end arrived, and when.
#[derive(Clone, Copy)]
struct Seen {
    is_reset: bool,
    delay: Duration,
}

/// What both applications write down.
#[derive(Default)]
struct Book {
    cut_at: Mutex<HashMap<u32, Instant>>,
    ended: Mutex<HashMap<u32, (bool, Instant)>>,
}

impl Book {
    fn cut(&self, id: u32, stream: TcpStream) -> io::Result<()> {
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        self.cut_at.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Instant::now());
        drop(stream);
        Ok(())
    }

    /// Reads to the end, whatever it is.
    fn watch(&self, id: u32, mut stream: TcpStream) {
        let mut piece = [0; 4096];
        let is_reset = loop {
            match stream.read(&mut piece) {
                Ok(0) => break false,
                Ok(_) => {}
                Err(error) => break error.kind() == io::ErrorKind::ConnectionReset,
            }
        };
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.insert(id, (is_reset, Instant::now()));
    }

    fn seen(&self) -> Vec<Seen> {
        let cut_at = self.cut_at.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(id, (is_reset, at)): (&u32, &(bool, Instant))| {
            let delay = at.saturating_duration_since(*cut_at.get(id)?);
            Some(Seen { is_reset: *is_reset, delay })
        };
        ended.iter().filter_map(of).collect()
    }
}

/// Cuts [`RESETS`] transfers and tells how each end arrived.
fn cut_many(arena: &Arena, to: &str, cutter: Cutter) -> Result<Vec<Seen>> {
    let book = Arc::new(Book::default());
    let listener = arena.at(to).listen(PORT)?;
    let server = listener.try_clone()?;
    let accepting = {
        let book = book.clone();
        thread::spawn(move || accept(&server, cutter, &book))
    };
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    if id >= RESETS {
                        return;
                    }
                    if let Err(error) = transfer(arena, to, id as u32, cutter, &book) {
                        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                }
            });
        }
    });
    let all_seen = wait_until("every end is seen", PATIENCE, || book.seen().len() == RESETS);
    // Wakes the thread that waits in accept.
    let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
    let _ = accepting.join();
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    all_seen.with_context(|| format!("{} of {RESETS} were", book.seen().len()))?;
    Ok(book.seen())
}

/// The client's half: introduces itself, and then cuts or is cut.
fn transfer(arena: &Arena, to: &str, id: u32, cutter: Cutter, book: &Book) -> Result<()> {
    let mut stream = arena.connect("client", arena.address(to, PORT))?;
    stream.write_all(&id.to_be_bytes())?;
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).context("no answer before the cut")?;
    ensure!(echo == id.to_be_bytes(), "a number came back changed");
    match cutter {
        Cutter::Client => {
            stream.write_all(&[1; SENT_BYTES])?;
            book.cut(id, stream)?;
        }
        Cutter::Server => book.watch(id, stream),
    }
    Ok(())
}

fn accept(listener: &TcpListener, cutter: Cutter, book: &Arc<Book>) {
    let mut serving = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        let book = book.clone();
        serving.push(thread::spawn(move || serve(stream, cutter, &book)));
    }
    for thread in serving {
        let _ = thread.join();
    }
}

/// The server's half.
fn serve(mut stream: TcpStream, cutter: Cutter, book: &Book) -> Result<()> {
    prepare(&stream)?;
    let mut id = [0; 4];
    stream.read_exact(&mut id)?;
    stream.write_all(&id)?;
    let id = u32::from_be_bytes(id);
    match cutter {
        Cutter::Client => book.watch(id, stream),
        Cutter::Server => {
            stream.write_all(&[1; SENT_BYTES])?;
            book.cut(id, stream)?;
        }
    }
    Ok(())
}
