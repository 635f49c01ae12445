//! What the task that holds a tunnel does: receive, keep deadlines, notice the end.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use ringway_protocols::hbone::ErrorCode;

use super::{Role, Tunnel, TunnelError, TunnelEvent};
use crate::{
    limits::TUNNEL_IDLE_TIMEOUT,
    runtime::{self, Sleep},
};

impl Tunnel {
    /// Drives the tunnel until it has something to tell. Not to be called again after an end.
    pub(crate) async fn next(self: &Rc<Self>) -> TunnelEvent {
        let mut timer = runtime::sleep_until(self.next_deadline());
        std::future::poll_fn(|cx| self.poll_next(cx, &mut timer)).await
    }

    fn poll_next(self: &Rc<Self>, cx: &mut Context<'_>, timer: &mut Sleep) -> Poll<TunnelEvent> {
        if let Some(event) = self.events.borrow_mut().pop_front() {
            return Poll::Ready(event);
        }
        if let Err(error) = self.visit(cx, timer) {
            self.lose(&error);
        }
        if let Some(event) = self.events.borrow_mut().pop_front() {
            return Poll::Ready(event);
        }
        if let Some(error) = self.lost.borrow().clone() {
            return Poll::Ready(TunnelEvent::Lost(error));
        }
        if self.is_over() {
            self.close();
            return Poll::Ready(TunnelEvent::Ended);
        }
        *self.driver.borrow_mut() = Some(cx.waker().clone());
        let deadline = self.next_deadline();
        if timer.deadline() != deadline {
            timer.reset(deadline);
        }
        if Pin::new(timer).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// One visit: what waits for the socket goes out, what has come is dealt with, deadlines are kept.
    fn visit(self: &Rc<Self>, cx: &mut Context<'_>, timer: &mut Sleep) -> Result<(), TunnelError> {
        if timer.is_elapsed() {
            self.core.borrow_mut().machine.handle_timeout(runtime::now())?;
            self.flush_at_turn_end();
        }
        if self.core.borrow().outgoing.backlog_bytes() > 0
            && self.socket.poll_writable(cx).is_ready()
        {
            self.flush()?;
            // Full again: the next edge is waited for.
            if self.core.borrow().outgoing.backlog_bytes() > 0
                && self.socket.poll_writable(cx).is_ready()
            {
                cx.waker().wake_by_ref();
            }
        }
        let readable = self.socket.poll_readable(cx).is_ready();
        let core = self.core.borrow();
        let (unseen, has_failed) = (core.unseen, core.outgoing.failed().is_some());
        drop(core);
        if readable || unseen || has_failed {
            self.receive()?;
            if self.socket.poll_readable(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Ok(())
    }

    /// When the driver must look even if nothing comes: PING, its answer, or the end of idleness.
    fn next_deadline(&self) -> Instant {
        // Once draining, nothing more happens by idleness.
        let idle_since = self.idle_since.get().filter(|_| !self.draining.get());
        let idle = idle_since.map(|since| since + self.idle_timeout.get());
        let leave = self.leave_by.get().filter(|_| self.idle_since.get().is_some());
        let machine = self.core.borrow().machine.next_deadline();
        [idle, leave, machine]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or_else(|| runtime::now() + TUNNEL_IDLE_TIMEOUT)
    }

    /// Without streams, and none can come any more. A server whose tunnel is idle for too long asks the
    /// client to leave first: it may be opening a stream right now. One that does not answer is not waited
    /// for.
    fn is_over(self: &Rc<Self>) -> bool {
        let Some(since) = self.idle_since.get() else { return false };
        if self.core.borrow().machine.has_left() {
            return true;
        }
        if self.leave_by.get().is_some_and(|leave_by| leave_by <= runtime::now()) {
            return true;
        }
        let idle = runtime::now() >= since + self.idle_timeout.get();
        if idle && self.role == Role::Server {
            self.drain();
            return false;
        }
        idle
    }

    /// Ends in order: GOAWAY, close_notify, FIN. What the socket does not take now is not waited for.
    fn close(&self) {
        let mut core = self.core.borrow_mut();
        let core = &mut *core;
        core.machine.go_away(ErrorCode::NO_ERROR);
        self.draining.set(true);
        if core.seal_output().is_ok() {
            let mut alert = Vec::new();
            core.records.close_notify(&mut alert);
            core.outgoing.push_sealed(&alert);
            core.outgoing.flush(&self.socket);
            // The socket is closed right after; a failure here has no one left to tell.
            let _ = self.socket.shutdown_write();
        }
    }

    /// Breaks: every stream is told, nothing more is sent but what the machines queued last.
    pub(super) fn lose(self: &Rc<Self>, error: &TunnelError) {
        if self.lost.borrow().is_some() {
            return;
        }
        *self.lost.borrow_mut() = Some(error.clone());
        {
            let mut core = self.core.borrow_mut();
            if !matches!(error, TunnelError::Io(_)) {
                // The GOAWAY or alert that says why. Best effort: the tunnel is lost either way.
                let _ = core.seal_output();
                core.outgoing.flush(&self.socket);
            }
        }
        let streams: Vec<_> = self.streams.borrow().values().cloned().collect();
        for stream in streams {
            stream.tunnel_lost(error);
        }
        self.wake_driver();
    }
}
