//! Keep-alive: a PING now and then, and what its absence of an answer means.

use std::time::{Duration, Instant};

use crate::hbone::error::Silence;
use crate::hbone::frame::{self, kind};

/// Watches whether the peer is alive. PINGs are sent whether or not there is traffic, as peers
/// expect; but any byte of the peer's counts as life, so an answer that queues behind a long
/// transfer is not missed.
#[derive(Debug)]
pub(super) struct KeepAlive {
    interval: Duration,
    timeout: Duration,
    state: State,
    heard_at: Instant,
    /// The payload of the last PING, which its answer must repeat.
    sent: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Off,
    Waiting { until: Instant },
    Pinged { at: Instant },
}

impl KeepAlive {
    pub(super) fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        let mut keep_alive = Self { interval, timeout, state: State::Off, heard_at: now, sent: 0 };
        keep_alive.wait(now);
        keep_alive
    }

    /// Bytes came from the peer.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// PONG came. Returns whether it answers our PING.
    pub(super) fn pong(&mut self, payload: [u8; 8], now: Instant) -> bool {
        let ours = matches!(self.state, State::Pinged { .. }) && payload == self.sent.to_be_bytes();
        if ours {
            self.wait(now);
        }
        ours
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Off => None,
            State::Waiting { until } => Some(until),
            State::Pinged { at } => at.max(self.heard_at).checked_add(self.timeout),
        }
    }

    /// Sends a PING that is due, or notices that there was no answer.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), Silence> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        if matches!(self.state, State::Pinged { .. }) {
            return Err(Silence::NoPong);
        }
        self.sent += 1;
        self.state = State::Pinged { at: now };
        frame::write(out, kind::PING, 0, 0, &self.sent.to_be_bytes());
        Ok(())
    }

    fn wait(&mut self, now: Instant) {
        let until = now.checked_add(self.interval).filter(|_| !self.interval.is_zero());
        self.state = until.map_or(State::Off, |until| State::Waiting { until });
    }
}
