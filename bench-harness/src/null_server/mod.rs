//! The null server: answers as fast as a server can, so that it is not what is measured.
//!
//! It speaks what the first bytes of a connection say:
//!
//! | first bytes | what it does |
//! |---|---|
//! | `GET ` | HTTP/1.1: answers `/bytes/N` with N bytes, and keeps the connection |
//! | the preface of HTTP/2 | the same over HTTP/2 |
//! | `DISCARD\n` | takes everything, and ends when the client has ended |
//! | `SOURCE N\n` | sends N bytes and ends |
//! | anything else | sends back what it gets |
//!
//! Threads share nothing: each listens for itself on the same port (`SO_REUSEPORT`) and keeps the
//! connections that the kernel gives it. A connection that moves a lot is left after a while, so that
//! the others of its thread get their turn.

mod connection;
mod http;
mod turn;

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::thread;

use anyhow::{Context, Result, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::Timespec;
use socket2::{Domain, Socket, Type};

use self::connection::Connection;
use self::turn::Turn;
use crate::load::Cores;
use crate::processors::pin;

/// Connections that may wait to be accepted; the kernel lowers it to its own limit.
const BACKLOG_MAX: i32 = 65_535;
/// Sockets told of at once.
const EVENTS_MAX: usize = 256;
/// Bytes moved at once.
const SCRATCH_BYTES: usize = 256 * 1024;
/// The listener's token among the connections'.
const LISTENER: u64 = u64::MAX;

/// A server to be started.
#[derive(Clone, Debug)]
pub struct NullServer {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Threads; as many as cores by default, else one.
    pub threads: Option<usize>,
    /// Cores to pin the threads to.
    pub cores: Option<Cores>,
}

impl NullServer {
    /// Serves for ever.
    pub fn run(&self) -> Result<()> {
        let address = self.start()?;
        println!("{{\"listening\":\"{address}\"}}");
        loop {
            thread::park();
        }
    }

    /// Starts the threads, which serve until the program ends, and tells where they listen.
    pub fn start(&self) -> Result<SocketAddr> {
        let threads = self.threads.unwrap_or(self.cores.as_ref().map_or(1, |cores| cores.0.len()));
        ensure!(threads > 0, "--threads 0: at least one thread serves");
        // As many connections as the system allows.
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
        let mut address = self.listen;
        for index in 0..threads {
            let listener = listen(address)
                .with_context(|| format!("cannot listen on {address}: is the port taken?"))?;
            address = listener.local_addr()?;
            let core = self.cores.as_ref().map(|cores| cores.0[index % cores.0.len()]);
            let serve = move || {
                core.map_or(Ok(()), pin)?;
                Shard::new(listener)?.run()
            };
            thread::Builder::new().name(format!("null-{index}")).spawn(move || {
                if let Err(error) = serve() {
                    eprintln!("ringway-bench: the null server stopped: {error:#}");
                    std::process::exit(1);
                }
            })?;
        }
        Ok(address)
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Connections inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG_MAX)?;
    Ok(socket.into())
}

/// What one thread serves.
struct Shard {
    epoll: OwnedFd,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    vacant: Vec<u32>,
}

impl Shard {
    fn new(listener: TcpListener) -> Result<Shard> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("no epoll")?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Shard { epoll, listener, connections: Vec::new(), vacant: Vec::new() })
    }

    fn run(mut self) -> Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut scratch = vec![0; SCRATCH_BYTES];
        // Connections that were left although they could have gone on.
        let mut again: Vec<u32> = Vec::new();
        let poll = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            let timeout = (!again.is_empty()).then_some(&poll);
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other.map(drop).context("cannot wait")?,
            }
            let mut left = std::mem::take(&mut again);
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    token => left.push(token as u32),
                }
            }
            // Whoever was left and is told of as well, has one turn.
            left.sort_unstable();
            left.dedup();
            for token in left {
                self.visit(token, &mut scratch, &mut again);
            }
        }
    }

    fn visit(&mut self, token: u32, scratch: &mut [u8], again: &mut Vec<u32>) {
        let place = &mut self.connections[token as usize];
        let Some(connection) = place else { return };
        match connection.visit(scratch) {
            Ok(Turn::Waiting) => {}
            Ok(Turn::Unfinished) => again.push(token),
            // What went wrong with one connection is its client's to notice.
            Ok(Turn::Over) | Err(_) => {
                *place = None;
                self.vacant.push(token);
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
                    return Err(error).context("no more descriptors: raise `ulimit -n`");
                }
                // The client has gone meanwhile.
                Err(_) => continue,
            };
            socket.set_nonblocking(true)?;
            let token = self.vacant.pop().unwrap_or_else(|| {
                self.connections.push(None);
                (self.connections.len() - 1) as u32
            });
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.epoll, &socket, EventData::new_u64(u64::from(token)), flags)?;
            self.connections[token as usize] = Some(Connection::new(socket));
        }
    }
}
