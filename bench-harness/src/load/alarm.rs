//! Waiting for sockets and for a moment, to the microsecond.
//!
//! `epoll_wait` counts milliseconds. So the moment is a timer's descriptor among the others, told at
//! its edge; it is never read and only set anew when the moment changes.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// Sockets told of at once.
const EVENTS_MAX: usize = 256;
/// The timer's token among the sockets'.
const TIMER: u64 = u64::MAX;

pub(super) struct Alarm {
    epoll: OwnedFd,
    timer: OwnedFd,
    events: Vec<epoll::Event>,
    set_for: Option<Duration>,
    /// How long before the moment to wake and count down.
    spin: Duration,
}

impl Alarm {
    pub(super) fn new() -> Result<Alarm> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("no epoll")?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )
        .context("no timer")?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN | EventFlags::ET)?;
        Ok(Alarm {
            epoll,
            timer,
            events: Vec::with_capacity(EVENTS_MAX),
            set_for: None,
            spin: Duration::ZERO,
        })
    }

    /// From now on to be awake so long before each moment.
    pub(super) fn spin(&mut self, spin: Duration) {
        self.spin = spin;
        self.set_for = None;
    }

    /// Tells of this socket from now on: at once if it is ready, and at each edge.
    pub(super) fn watch(&self, socket: impl AsFd, token: u32) -> Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, socket, EventData::new_u64(u64::from(token)), flags)
            .context("cannot watch a socket")
    }

    /// Waits until a socket is ready or it is `moment`, whichever is first; `now` is now. `ready` gets
    /// the sockets' tokens.
    pub(super) fn wait(
        &mut self,
        now: Duration,
        moment: Duration,
        ready: &mut Vec<u32>,
    ) -> Result<()> {
        let wake = moment.saturating_sub(self.spin);
        let poll = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timeout = if wake <= now {
            Some(&poll)
        } else {
            if self.set_for != Some(wake) {
                self.set(wake - now)?;
                self.set_for = Some(wake);
            }
            None
        };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout) {
            Err(rustix::io::Errno::INTR) => {}
            other => other.map(drop).context("cannot wait")?,
        }
        for event in self.events.drain(..) {
            match event.data.u64() {
                TIMER => self.set_for = None,
                token => ready.push(token as u32),
            }
        }
        Ok(())
    }

    fn set(&self, after: Duration) -> Result<()> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value =
            Timespec { tv_sec: after.as_secs() as i64, tv_nsec: i64::from(after.subsec_nanos()) };
        let setting = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)
            .context("cannot set the timer")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn it_wakes_at_the_moment_and_not_before() {
        let mut alarm = Alarm::new().unwrap();
        let origin = Instant::now();
        for moment in [3, 3, 7, 12].map(Duration::from_millis) {
            let mut ready = Vec::new();
            while origin.elapsed() < moment {
                alarm.wait(origin.elapsed(), moment, &mut ready).unwrap();
            }
            assert!(ready.is_empty());
        }
        // Each moment was waited for asleep: a loop that spins would have burnt all of the time.
        assert!(origin.elapsed() >= Duration::from_millis(12));
        assert_eq!(alarm.set_for, None);
    }

    #[test]
    fn a_ready_socket_wakes_it_before_the_moment() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut alarm = Alarm::new().unwrap();
        alarm.watch(&socket, 7).unwrap();
        let mut ready = Vec::new();
        alarm.wait(Duration::ZERO, Duration::from_secs(3600), &mut ready).unwrap();
        assert_eq!(ready, [7]);
    }
}
