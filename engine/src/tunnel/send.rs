//! The sending side of a tunnel: what its streams ask for, and the one write at the end of a turn.

use std::{io, rc::Rc};

use ringway_protocols::hbone::{ErrorCode, StreamId};

use super::{
    Role, Tunnel, TunnelError, TunnelStream,
    core::Core,
    slots::{self, Slots},
    stream::StreamCell,
};
use crate::{
    limits::{
        BULK_WINDOW, COALESCE_BYTES_MAX, LEAVE_TIMEOUT, TUNNEL_BACKLOG_BYTES_MAX,
        TUNNEL_BACKLOG_BYTES_SCARCE, TUNNEL_IDLE_TIMEOUT,
    },
    runtime::{self, TcpStream, TurnEnd},
};

impl Tunnel {
    pub(super) fn may_send(&self, id: StreamId) -> bool {
        let core = self.core.borrow();
        let backlog = core.outgoing.backlog_bytes();
        let has_room = backlog < TUNNEL_BACKLOG_BYTES_SCARCE
            || (backlog < TUNNEL_BACKLOG_BYTES_MAX && self.admitted.account().scarce().is_none());
        has_room && core.machine.send_capacity(id) > 0
    }

    pub(super) fn wake_when_sendable(&self, id: StreamId) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.contains(&id) {
            waiting.push_back(id);
        }
    }

    /// One read from the application into the tunnel. 0 is the application's end of stream.
    pub(super) fn send_from(
        self: &Rc<Self>,
        id: StreamId,
        cell: &StreamCell,
        application: &TcpStream,
    ) -> io::Result<usize> {
        let sent = runtime::scratch(|scratch| {
            let mut core = self.core.borrow_mut();
            // Messages fit the first slot; offering all of them costs more than a message is worth.
            let expected = match cell.reads_bulk.get() {
                true => runtime::visit_bytes_max(),
                false => slots::FIRST_PAYLOAD_BYTES,
            };
            let capacity = core.machine.send_capacity(id).min(expected);
            let frame_bytes_max = core.machine.peer_frame_bytes_max();
            let mut slots = Slots::new(scratch, capacity, frame_bytes_max);
            let read = slots.read_from(application)?;
            if read == 0 {
                return Ok((0, Ok(())));
            }
            Ok::<_, io::Error>((read, self.send_read(&mut core, id, slots, read)))
        });
        self.account_backlog();
        let (read, outcome) = sent?;
        runtime::moved_bytes(read);
        cell.reads_bulk.set(read >= slots::FIRST_PAYLOAD_BYTES);
        match outcome {
            Err(error) => self.lose(&error),
            Ok(()) if read > COALESCE_BYTES_MAX && self.has_backlog() => self.wake_driver(),
            Ok(()) => self.flush_at_turn_end(),
        }
        if cell.meter.moved(read, runtime::now()) {
            self.bulk_until.set(Some(runtime::now() + BULK_WINDOW));
        }
        Ok(read)
    }

    /// Sends what was read: small in the record of this turn, bulk from where it lies.
    pub(super) fn send_read(
        &self,
        core: &mut Core,
        id: StreamId,
        slots: Slots<'_>,
        read: usize,
    ) -> Result<(), TunnelError> {
        core.push_output()?;
        let Core { records, machine, outgoing, .. } = core;
        if read <= COALESCE_BYTES_MAX {
            outgoing.push(&machine.data_header(id, read, false), records)?;
            outgoing.push(slots.first_payload(read), records)?;
            if outgoing.is_worth_a_write() {
                outgoing.seal(records)?;
                outgoing.flush(&self.socket);
            }
            return Ok(());
        }
        outgoing.seal(records)?;
        let sealed = slots.seal(read, records, |bytes| machine.data_header(id, bytes, false))?;
        outgoing.flush_with(sealed, &self.socket);
        Ok(())
    }

    pub(super) fn finish(self: &Rc<Self>, id: StreamId) {
        let mut core = self.core.borrow_mut();
        let pushed = core.push_output().and_then(|()| {
            let Core { records, machine, outgoing, .. } = &mut *core;
            Ok(outgoing.push(&machine.data_header(id, 0, true), records)?)
        });
        drop(core);
        match pushed {
            Ok(()) => self.flush_at_turn_end(),
            Err(error) => self.lose(&error),
        }
    }

    pub(super) fn reset(self: &Rc<Self>, id: StreamId, code: ErrorCode) {
        self.core.borrow_mut().machine.reset(id, code);
        self.flush_at_turn_end();
    }

    pub(super) fn release(self: &Rc<Self>, id: StreamId, bytes: usize) {
        let mut core = self.core.borrow_mut();
        // At most a stream's window is ever held, which is far below 4 GiB.
        core.machine.release(id, bytes.try_into().unwrap_or(u32::MAX), runtime::now());
        if core.machine.has_output() {
            drop(core);
            self.flush_at_turn_end();
        }
    }

    pub(super) fn forget(&self, id: StreamId) {
        let mut streams = self.streams.borrow_mut();
        streams.remove(&id);
        if streams.is_empty() {
            let now = runtime::now();
            self.idle_since.set(Some(now));
            if self.draining.get() {
                self.leave_by.set(Some(now + LEAVE_TIMEOUT));
            }
            drop(streams);
            self.wake_driver();
        }
    }

    pub(super) fn add_stream(self: &Rc<Self>, id: StreamId) -> TunnelStream {
        let cell = StreamCell::new();
        self.streams.borrow_mut().insert(id, cell.clone());
        self.idle_since.set(None);
        if self.role == Role::Server {
            self.idle_timeout.set(TUNNEL_IDLE_TIMEOUT);
        }
        TunnelStream::new(self.clone(), id, cell)
    }

    /// Has everything queued in this turn sealed and written when the turn ends.
    pub(super) fn flush_at_turn_end(self: &Rc<Self>) {
        if !self.flush_due.replace(true) {
            runtime::at_turn_end(self.clone());
        }
    }

    pub(super) fn flush(self: &Rc<Self>) -> Result<(), TunnelError> {
        let mut core = self.core.borrow_mut();
        core.seal_output()?;
        let all_out = core.outgoing.flush(&self.socket);
        let has_failed = core.outgoing.failed().is_some();
        drop(core);
        self.account_backlog();
        if all_out {
            self.wake_waiting();
        }
        if !all_out || has_failed {
            self.wake_driver();
        }
        Ok(())
    }

    fn account_backlog(&self) {
        self.backlog_held.borrow_mut().set(self.core.borrow().outgoing.backlog_bytes());
    }

    pub(super) fn has_backlog(&self) -> bool {
        self.core.borrow().outgoing.backlog_bytes() > 0
    }

    pub(super) fn wake_waiting(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        let streams = self.streams.borrow();
        for cell in waiting.iter().filter_map(|id| streams.get(id)) {
            cell.wake();
        }
    }

    pub(super) fn wake_driver(&self) {
        if let Some(waker) = self.driver.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl TurnEnd for Tunnel {
    fn turn_end(self: Rc<Self>) {
        self.flush_due.set(false);
        if self.lost.borrow().is_some() {
            return;
        }
        if let Err(error) = self.flush() {
            self.lose(&error);
        }
    }
}
