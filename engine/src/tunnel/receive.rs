//! The receiving side of a tunnel: one large read, records opened in place, frames read from where they
//! lie, payload written to each stream's application without a copy.

use std::{io::IoSlice, ops::Range, rc::Rc, time::Instant};

use ringway_protocols::hbone::{Event, StreamId};

use super::{Tunnel, TunnelError, TunnelEvent, core::Core, stream::StreamCell};
use crate::{limits::BULK_WINDOW, runtime};

/// Payload slices of one stream that are written to its application in one call.
const GATHERED_SLICES_MAX: usize = 32;

impl Tunnel {
    /// One read from the socket and everything that follows from it.
    pub(super) fn receive(self: &Rc<Self>) -> Result<(), TunnelError> {
        runtime::scratch(|scratch| {
            let mut core = self.core.borrow_mut();
            let core = &mut *core;
            let buffer = scratch;
            let kept = core.received.len();
            let unseen = std::mem::take(&mut core.unseen) && kept > 0;
            let room = buffer.len().min(kept + runtime::visit_bytes_max());
            let read = match self.socket.try_read(&mut buffer[kept..room]) {
                // What came behind the handshake is dealt with first; the socket will say it again.
                Ok(0) | Err(_) if unseen => 0,
                Ok(read) if read > 0 => read,
                nothing => return core.read_nothing(nothing),
            };
            runtime::moved_bytes(read);
            buffer[..kept].copy_from_slice(&core.received);
            core.received.clear();

            let arrived = &mut buffer[..kept + read];
            let opened = core.open_all(arrived);
            let dispatched = self.dispatch(core, arrived, &opened.plaintexts);
            core.keep(&arrived[opened.consumed..]);
            dispatched?;
            if core.machine.has_output() || core.outgoing.has_open_record() {
                self.flush_at_turn_end();
            }
            opened.end
        })
    }

    fn dispatch(
        self: &Rc<Self>,
        core: &mut Core,
        buffer: &[u8],
        plaintexts: &[Range<usize>],
    ) -> Result<(), TunnelError> {
        let now = runtime::now();
        let mut gathered = Gathered::default();
        for plaintext in plaintexts {
            let input = &buffer[plaintext.clone()];
            let mut cursor = 0;
            loop {
                match core.machine.next_event(input, &mut cursor, now) {
                    Ok(Some(Event::Data { stream, payload, .. })) => {
                        if !gathered.takes(stream) {
                            self.deliver(core, &mut gathered, now);
                        }
                        gathered.add(stream, &input[payload]);
                    }
                    Ok(Some(event)) => {
                        self.deliver(core, &mut gathered, now);
                        self.handle(event);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        self.deliver(core, &mut gathered, now);
                        return Err(error.into());
                    }
                }
            }
        }
        self.deliver(core, &mut gathered, now);
        Ok(())
    }

    /// Writes what was gathered to its stream's application, and gives the credit for it back.
    fn deliver(&self, core: &mut Core, gathered: &mut Gathered<'_>, now: Instant) {
        let Some(stream) = gathered.stream.take() else { return };
        let slices = &gathered.slices[..gathered.used];
        let cell = self.streams.borrow().get(&stream).cloned();
        let taken = match cell {
            Some(cell) => {
                if cell.meter.moved(gathered.payload_bytes, now) {
                    self.bulk_until.set(Some(now + BULK_WINDOW));
                }
                let total = gathered.payload_bytes;
                let taken = cell.deliver(slices, total, self.admitted.account());
                if cell.stands_still_since().is_some() {
                    self.stalled.note(&cell);
                }
                taken
            }
            None => gathered.payload_bytes,
        };
        // One visit moves at most a scratch full, which is far below 4 GiB.
        core.machine.release(stream, taken.try_into().unwrap_or(u32::MAX), now);
        gathered.used = 0;
        gathered.payload_bytes = 0;
    }

    fn handle(self: &Rc<Self>, event: Event) {
        match event {
            Event::Data { .. } => unreachable!("data is gathered by the caller"),
            Event::Request { stream, request, end_of_stream } => {
                let stream = self.add_stream(stream);
                if end_of_stream {
                    stream.cell.peer_ended();
                }
                self.events.borrow_mut().push_back(TunnelEvent::Request(stream, request));
            }
            Event::Malformed { reason, .. } => {
                let reason = TunnelEvent::Malformed(reason.to_string());
                self.events.borrow_mut().push_back(reason);
            }
            Event::Response { stream, response, end_of_stream } => {
                self.with_stream(stream, |cell| {
                    *cell.response.borrow_mut() = Some(Box::new(response));
                    if end_of_stream {
                        cell.peer_ended();
                    }
                    cell.wake();
                });
            }
            Event::EndOfStream { stream } => self.with_stream(stream, |cell| cell.peer_ended()),
            Event::Reset { stream, code } => {
                self.with_stream(stream, |cell| cell.peer_reset(code));
            }
            Event::SendCapacity { stream: Some(stream) } => {
                self.with_stream(stream, StreamCell::wake);
            }
            Event::SendCapacity { stream: None } | Event::Settings => self.wake_waiting(),
            Event::GoAway { .. } => {}
        }
    }

    fn with_stream(&self, stream: StreamId, tell: impl FnOnce(&StreamCell)) {
        if let Some(cell) = self.streams.borrow().get(&stream) {
            tell(cell);
        }
    }
}

/// Consecutive payload slices of one stream.
struct Gathered<'buffer> {
    stream: Option<StreamId>,
    slices: [IoSlice<'buffer>; GATHERED_SLICES_MAX],
    used: usize,
    payload_bytes: usize,
}

impl Default for Gathered<'_> {
    fn default() -> Self {
        Self {
            stream: None,
            slices: [IoSlice::new(&[]); GATHERED_SLICES_MAX],
            used: 0,
            payload_bytes: 0,
        }
    }
}

impl<'buffer> Gathered<'buffer> {
    fn takes(&self, stream: StreamId) -> bool {
        self.stream.is_none_or(|current| current == stream) && self.used < GATHERED_SLICES_MAX
    }

    fn add(&mut self, stream: StreamId, payload: &'buffer [u8]) {
        debug_assert!(self.takes(stream));
        self.stream = Some(stream);
        self.slices[self.used] = IoSlice::new(payload);
        self.used += 1;
        self.payload_bytes += payload.len();
    }
}
