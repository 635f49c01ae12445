//! One simulated TCP connection: two ends, what is under way between them, and every way to end.
//!
//! It keeps to what the kernel does where the data plane depends on it: a short read means that
//! nothing more has arrived, and what arrives later is a new edge; an error is told once; bytes
//! that arrived before a reset can still be read; closing with bytes unread resets.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::super::readiness::Readiness;
use super::super::watch::Watch;
use super::dialling::Target;
use super::ending::RETRANSMISSION;
use super::network::{Event, Network};

pub(super) const CLIENT: usize = 0;
pub(super) const SERVER: usize = 1;

/// One end of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndId {
    pub(super) connection: u64,
    pub(super) side: usize,
}

impl EndId {
    pub(super) fn other(self) -> EndId {
        EndId { side: 1 - self.side, ..self }
    }
}

/// Who holds an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Custody {
    /// Closed, or not there yet: the kernel alone goes on with it.
    Nobody,
    /// A listener's queue.
    Queue,
    /// A socket of the program.
    Program,
}

pub(super) struct Connection {
    pub(super) ends: [End; 2],
    pub(super) target: Option<Target>,
    pub(super) latency: Duration,
    /// Nothing arrives any more, on either side.
    pub(super) lost: bool,
    namespace: usize,
    buffer_bytes: usize,
}

pub(super) struct End {
    pub(super) watch: Rc<Watch>,
    pub(super) custody: Custody,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    /// Where the dialler wanted to go.
    pub(super) original: SocketAddr,
    pub(super) connected: bool,
    /// To be told once.
    pub(super) error: Option<ErrorKind>,
    /// Failed, or reset by ourselves: nothing goes in or out.
    pub(super) dead: bool,
    /// Taken from the program, not yet sent.
    pub(super) outgoing: VecDeque<u8>,
    pub(super) in_flight: usize,
    /// Arrived; the first `visible` of it can be read.
    pub(super) received: VecDeque<u8>,
    visible: usize,
    revealing: bool,
    pub(super) ending: bool,
    pub(super) end_sent: bool,
    pub(super) end_acknowledged: bool,
    pub(super) ended: bool,
    last_departure: Duration,
}

impl End {
    fn new(local: SocketAddr, peer: SocketAddr, original: SocketAddr) -> End {
        End {
            watch: Rc::new(Watch::new(Readiness::READABLE)),
            custody: Custody::Nobody,
            local,
            peer,
            original,
            connected: false,
            error: None,
            dead: false,
            outgoing: VecDeque::new(),
            in_flight: 0,
            received: VecDeque::new(),
            visible: 0,
            revealing: false,
            ending: false,
            end_sent: false,
            end_acknowledged: false,
            ended: false,
            last_departure: Duration::ZERO,
        }
    }

    /// Everything that has arrived can be read.
    pub(super) fn reveal(&mut self) {
        self.revealing = false;
        self.visible = self.received.len();
    }
}

impl Connection {
    pub(super) fn new(
        namespace: usize,
        local: SocketAddr,
        destination: SocketAddr,
        target: Option<Target>,
        latency: Duration,
        buffer_bytes: usize,
    ) -> Connection {
        let mut client = End::new(local, destination, local);
        client.custody = Custody::Program;
        let arrived_at = target.map_or(destination, |target| target.address);
        let server = End::new(arrived_at, local, destination);
        let ends = [client, server];
        Connection { ends, target, latency, lost: false, namespace, buffer_bytes }
    }

    /// Whether it leaves, or enters, that namespace.
    pub(super) fn crosses_from(&self, namespace: usize) -> bool {
        let to = self.target.map(|target| target.namespace);
        to != Some(self.namespace) && (self.namespace == namespace || to == Some(namespace))
    }

    pub(super) fn namespace_of(&self, side: usize) -> usize {
        let target = self.target.map_or(self.namespace, |target| target.namespace);
        if side == CLIENT { self.namespace } else { target }
    }

    pub(super) fn held(&self) -> impl Iterator<Item = (usize, &End)> {
        self.ends.iter().enumerate().filter(|(_, end)| end.custody == Custody::Program)
    }

    pub(super) fn is_over(&self) -> bool {
        let over = |end: &End| {
            let finished = end.dead || self.lost || (end.end_sent && end.outgoing.is_empty());
            end.custody == Custody::Nobody && finished
        };
        self.ends.iter().all(over)
    }
}

impl Network {
    pub(super) fn end(&mut self, id: EndId) -> Option<&mut End> {
        self.connections.get_mut(&id.connection).map(|connection| &mut connection.ends[id.side])
    }

    pub(super) fn notify(&mut self, id: EndId, readiness: Readiness) {
        if let Some(end) = self.end(id) {
            let watch = end.watch.clone();
            self.wakes.push((watch, readiness));
        }
    }

    pub(super) fn answered(&mut self, id: u64, refusal: Option<ErrorKind>) {
        let client = EndId { connection: id, side: CLIENT };
        match refusal {
            Some(kind) => self.fail(client, kind),
            None => {
                for side in [CLIENT, SERVER] {
                    let end = EndId { side, ..client };
                    if let Some(end) = self.end(end).filter(|end| !end.dead) {
                        end.connected = true;
                    }
                    self.notify(end, Readiness::WRITABLE);
                    self.pump(end);
                }
            }
        }
    }

    pub(super) fn is_connected(&mut self, id: EndId) -> bool {
        self.end(id).is_some_and(|end| end.connected)
    }

    pub(super) fn take_error(&mut self, id: EndId) -> Option<ErrorKind> {
        self.end(id)?.error.take()
    }

    /// Reads what has arrived; zero bytes are the end, or a connection that failed long ago.
    pub(super) fn read(&mut self, id: EndId, buffer: &mut [u8]) -> io::Result<usize> {
        let short = self.random.chance(self.options.short_read);
        let chance = self.random.next();
        let Some(end) = self.end(id) else { return Ok(0) };
        let mut got = buffer.len().min(end.visible);
        if got == 0 && !buffer.is_empty() {
            let clean_end = end.ended && end.received.is_empty();
            return match end.error.take_if(|_| !clean_end) {
                Some(error) => Err(error.into()),
                None if clean_end || end.dead => Ok(0),
                None => Err(ErrorKind::WouldBlock.into()),
            };
        }
        // After the end of the stream the kernel never says that there is nothing yet.
        let cut_short = short && got > 1 && !end.ended && !end.dead;
        if cut_short {
            got = 1 + (chance as usize) % (got - 1);
        }
        for (into, byte) in buffer.iter_mut().zip(end.received.drain(..got)) {
            *into = byte;
        }
        end.visible -= got;
        if cut_short {
            end.visible = 0;
            end.revealing = true;
            self.met.short_reads += 1;
            let pause = Duration::from_micros(1 + chance % 500);
            self.schedule(pause, Event::Reveal { end: id });
        }
        self.pump(id.other());
        Ok(got)
    }

    pub(super) fn reveal(&mut self, id: EndId) {
        if let Some(end) = self.end(id) {
            end.reveal();
            self.notify(id, Readiness::READABLE);
        }
    }

    /// Takes what there is room for.
    pub(super) fn write(&mut self, id: EndId, bytes: &[u8]) -> io::Result<usize> {
        let short = self.random.chance(self.options.short_write);
        let chance = self.random.next();
        let Some(connection) = self.connections.get_mut(&id.connection) else {
            return Err(ErrorKind::BrokenPipe.into());
        };
        let (capacity, lost) = (connection.buffer_bytes, connection.lost);
        let end = &mut connection.ends[id.side];
        if let Some(error) = end.error.take() {
            return Err(error.into());
        }
        if end.dead || end.ending {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = capacity.saturating_sub(end.outgoing.len() + end.in_flight);
        let mut taken = bytes.len().min(room);
        if taken == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        if short && taken > 1 {
            taken = 1 + (chance as usize) % (taken - 1);
        }
        end.outgoing.extend(&bytes[..taken]);
        if taken < bytes.len().min(room) {
            self.met.short_writes += 1;
            let pause = Duration::from_micros(1 + chance % 500);
            self.schedule(pause, Event::Room { end: id });
        }
        if lost {
            self.schedule(RETRANSMISSION, Event::Expire { end: id });
        }
        self.pump(id);
        Ok(taken)
    }

    /// Sends what the other end has room for; then the end of the stream, if it has come to that.
    pub(super) fn pump(&mut self, id: EndId) {
        loop {
            let largest = self.random.within(self.options.segment_bytes.clone()) as usize;
            let Some(connection) = self.connections.get_mut(&id.connection) else { return };
            let capacity = connection.buffer_bytes;
            let waiting = connection.ends[id.other().side].received.len();
            let (latency, end) = (connection.latency, &mut connection.ends[id.side]);
            if connection.lost || end.dead || !end.connected {
                return;
            }
            let window = capacity.saturating_sub(waiting + end.in_flight);
            let size = end.outgoing.len().min(window).min(largest);
            if size == 0 {
                break;
            }
            let bytes: Vec<u8> = end.outgoing.drain(..size).collect();
            end.in_flight += size;
            self.send(id, latency, |end| Event::Arrive { end, bytes });
        }
        let Some(connection) = self.connections.get_mut(&id.connection) else { return };
        let (latency, end) = (connection.latency, &mut connection.ends[id.side]);
        if end.ending && !end.end_sent && end.outgoing.is_empty() {
            end.end_sent = true;
            self.send(id, latency, |end| Event::End { end });
        }
    }

    /// Puts something on its way to the other end, behind what is on its way already.
    pub(super) fn send(
        &mut self,
        from: EndId,
        latency: Duration,
        event: impl FnOnce(EndId) -> Event,
    ) {
        let jitter = Duration::from_nanos(self.random.within(0..=latency.as_nanos() as u64 / 10));
        let earliest = self.clock + latency + jitter;
        let Some(end) = self.end(from) else { return };
        let at = earliest.max(end.last_departure);
        end.last_departure = at;
        self.schedule_at(at, event(from.other()));
    }

    pub(super) fn arrive(&mut self, id: EndId, bytes: Vec<u8>) {
        if self.is_lost(id) {
            return;
        }
        if self.random.chance(self.options.lose) {
            return self.lose(id.connection);
        }
        if self.random.chance(self.options.reset) {
            self.met.resets += 1;
            self.fail(id, ErrorKind::ConnectionReset);
            return self.fail(id.other(), ErrorKind::ConnectionReset);
        }
        let size = bytes.len();
        let Some(connection) = self.connections.get_mut(&id.connection) else { return };
        let (latency, capacity) = (connection.latency, connection.buffer_bytes);
        let [receiver, sender] = match id.side {
            CLIENT => connection.ends.each_mut(),
            _ => {
                let [client, server] = connection.ends.each_mut();
                [server, client]
            }
        };
        let free_before = capacity - (sender.in_flight + sender.outgoing.len()).min(capacity);
        sender.in_flight -= size.min(sender.in_flight);
        let free = capacity - (sender.in_flight + sender.outgoing.len()).min(capacity);
        // The kernel tells of room when a third is free.
        let roomy = free_before < capacity / 3 && free >= capacity / 3;
        if receiver.custody == Custody::Nobody || receiver.dead {
            // Nobody will ever read this: the sender is told so, once.
            if !std::mem::replace(&mut receiver.dead, true) {
                receiver.outgoing.clear();
                self.send(id, latency, |end| Event::Reset { end });
            }
            return;
        }
        receiver.received.extend(bytes);
        if !receiver.revealing {
            receiver.visible = receiver.received.len();
            self.notify(id, Readiness::READABLE);
        }
        if roomy || free == capacity {
            self.notify(id.other(), Readiness::WRITABLE);
        }
        self.pump(id.other());
    }
}
