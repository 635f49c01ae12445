//! Load on a relay, and the server behind it, in one thread that never sleeps: nothing the relay is
//! charged for depends on how fast another processor wakes up.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::RecvFlags;

/// What a message holds.
pub(super) const MESSAGE_BYTES: usize = 64;
const CHUNK_BYTES: usize = 256 * 1024;
const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// What the sink throws away with one call.
const DISCARD_BYTES: usize = 1024 * 1024;

/// Connections through a relay, with both ends here.
pub(super) struct Generator {
    epoll: rustix::fd::OwnedFd,
    /// Clients, and after them the servers' ends in the order in which they were accepted.
    streams: Vec<TcpStream>,
    clients: usize,
    events: Vec<Event>,
    buffer: Vec<u8>,
}

impl Generator {
    /// Opens `connections` through `relay`, which dials `upstream`.
    pub(super) fn open(
        relay: SocketAddr,
        upstream: &TcpListener,
        connections: usize,
    ) -> Result<Generator> {
        let mut clients = Vec::with_capacity(connections);
        let mut servers = Vec::with_capacity(connections);
        for _ in 0..connections {
            clients.push(TcpStream::connect(relay).context("the relay takes no connection")?);
            servers.push(accept(upstream)?);
        }
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut streams = clients;
        streams.append(&mut servers);
        for (index, stream) in streams.iter().enumerate() {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, stream, EventData::new_u64(index as u64), EventFlags::IN)?;
        }
        let events = Vec::with_capacity(1024);
        Ok(Generator { epoll, streams, clients: connections, events, buffer: vec![7; CHUNK_BYTES] })
    }

    /// Sends a message on every connection, and the next one when it has come back, for `time`.
    /// Returns how many came back.
    pub(super) fn messages(&mut self, time: Duration) -> Result<u64> {
        let mut waiting = vec![0usize; self.clients];
        for client in 0..self.clients {
            self.send(client, MESSAGE_BYTES)?;
        }
        let (mut done, mut under_way) = (0, self.clients);
        let until = Instant::now() + time;
        let give_up = until + Duration::from_secs(5);
        while under_way > 0 {
            let now = Instant::now();
            ensure!(now < give_up, "{under_way} messages do not come back");
            for index in self.ready()? {
                let got = self.receive(index)?;
                if index >= self.clients {
                    self.send(index, got)?;
                    continue;
                }
                waiting[index] += got;
                if waiting[index] < MESSAGE_BYTES {
                    continue;
                }
                waiting[index] = 0;
                done += 1;
                match now < until {
                    true => self.send(index, MESSAGE_BYTES)?,
                    false => under_way -= 1,
                }
            }
        }
        Ok(done)
    }

    /// Uploads on every connection for `time`. Returns the bytes that arrived.
    pub(super) fn bulk(&mut self, time: Duration) -> Result<u64> {
        let mut arrived = 0;
        let until = Instant::now() + time;
        while Instant::now() < until {
            for client in 0..self.clients {
                match self.streams[client].write(&self.buffer) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    other => drop(other.context("the relay takes no more bytes")?),
                }
            }
            for index in self.ready()? {
                ensure!(index >= self.clients, "bytes came back, or the relay has ended");
                let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
                let mut nothing = [std::mem::MaybeUninit::uninit(); DISCARD_BYTES];
                let (_, got) = rustix::net::recv(&self.streams[index], &mut nothing[..], flags)?;
                ensure!(got > 0, "the relay has ended a connection");
                arrived += got as u64;
            }
        }
        Ok(arrived)
    }

    fn ready(&mut self) -> Result<Vec<usize>> {
        self.events.clear();
        epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&NO_WAIT))?;
        Ok(self.events.iter().map(|event| event.data.u64() as usize).collect())
    }

    fn receive(&mut self, index: usize) -> Result<usize> {
        match self.streams[index].read(&mut self.buffer) {
            Ok(0) => anyhow::bail!("the relay has ended a connection"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            other => other.context("the relay has broken a connection"),
        }
    }

    fn send(&mut self, index: usize, bytes: usize) -> Result<()> {
        // Far fewer bytes than a socket's buffer holds.
        self.streams[index].write_all(&self.buffer[..bytes]).context("a message cannot be sent")
    }
}

fn accept(upstream: &TcpListener) -> Result<TcpStream> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match upstream.accept() {
            Ok((stream, _)) => return Ok(stream),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("cannot accept what the relay dials"),
        }
        ensure!(Instant::now() < until, "the relay does not dial");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No relay between: the generator is client and server.
    fn direct(connections: usize) -> Generator {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        upstream.set_nonblocking(true).unwrap();
        Generator::open(upstream.local_addr().unwrap(), &upstream, connections).unwrap()
    }

    #[test]
    fn messages_come_back_and_bulk_arrives() {
        let time = Duration::from_millis(50);
        assert!(direct(1).messages(time).unwrap() > 100);
        let mut many = direct(20);
        assert!(many.messages(time).unwrap() > 100);
        assert!(many.bulk(time).unwrap() > 1_000_000);
    }

    #[test]
    fn a_relay_that_ends_is_an_error_and_no_number() {
        let mut generator = direct(2);
        generator.streams[3].shutdown(std::net::Shutdown::Both).unwrap();
        assert!(generator.messages(Duration::from_millis(50)).is_err());
    }
}
