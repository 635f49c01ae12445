//! What passes between the two ends of a connection: what the program reads and writes, and what arrives.
//!
//! It keeps to what the kernel does where the data plane depends on it: a short read means that
//! nothing more has arrived, and what arrives later is a new edge; an error is told once; bytes
//! that arrived before a reset can still be read; closing with bytes unread resets.

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::super::readiness::Readiness;
use super::connection::{CLIENT, Custody, EndId};
use super::ending::RETRANSMISSION;
use super::network::{Event, Network};

impl Network {
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
