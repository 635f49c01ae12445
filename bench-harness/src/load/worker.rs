//! One thread of the generator: an event loop over its share of the connections.
//!
//! ```text
//!  schedule ──due──▶ backlog ──▶ a lane that has room ──▶ answered: latency = now − due
//!                                  ▲                          │
//!                                  └────────── room ◀─────────┘
//! ```
//!
//! Arrivals never wait for the target: what is due joins the backlog at its moment, and its latency
//! counts from there, however long it waits for a lane. In closed loop there is no schedule; what has
//! room is used at once, and counts from then.
//!
//! A lane is the place of one connection:
//!
//! ```text
//!  Vacant ──send──▶ Dialling ──▶ Open ──answered, of a single request──▶ Ending ──▶ Vacant
//!                      │          └── it broke, or the peer ended it ──────────────▶ Vacant
//!                      └── refused ─────────────────────────────────────────────────▶ Vacant
//! ```

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::mem;
use std::net::{Shutdown, TcpStream};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::time::{ClockId, clock_gettime};
use socket2::Socket;

use super::alarm::Alarm;
use super::dialler::Dialler;
use super::protocol::{Client, Dialect, Standing};
use super::schedule::Schedule;
use super::span::Span;
use super::tally::Tally;
use crate::histogram;

/// Bytes read at once.
const SCRATCH_BYTES: usize = 256 * 1024;
/// First exchanges under way at a time, so that ten thousand connections do not come as one storm.
const FIRST_MAX: usize = 64;
/// How long all first exchanges may take without one of them getting on.
const FIRST_PATIENCE: Duration = Duration::from_secs(10);
/// A worker looks around this often, whatever it waits for.
const LOOK: Duration = Duration::from_secs(3);
/// How long after a failure the room it left is used again in closed loop.
const RETRY: Duration = Duration::from_millis(1);
/// After so many failures in a row, and so long of nothing else, the run is given up.
const FAILING_COUNT: usize = 10;
const FAILING_MAX: Duration = Duration::from_secs(3);

pub(super) struct Worker {
    alarm: Alarm,
    dialler: Dialler,
    dialect: Dialect,
    lanes: Vec<Lane>,
    /// A lane for each request it could take now, in the order in which they came free.
    room: VecDeque<u32>,
    backlog: VecDeque<Duration>,
    /// Requests sent, or waiting for their connection.
    under_way: usize,
    origin: Instant,
    /// None while first exchanges are made, which are not counted.
    counting: Option<Counting>,
    tally: Tally,
    scratch: Vec<u8>,
    answered: Vec<Duration>,
    ready: Vec<u32>,
}

/// What a worker is told when all are ready.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    pub(super) origin: Instant,
    pub(super) span: Span,
    /// None in closed loop.
    pub(super) schedule: Option<Schedule>,
    pub(super) spin: Duration,
}

enum Lane {
    Vacant,
    Dialling { socket: Socket, waiting: Vec<Duration> },
    Open(Box<dyn Client>),
    Ending(Box<dyn Client>),
}

/// What counts, and how.
#[derive(Clone, Copy, Debug)]
struct Counting {
    span: Span,
    is_open_loop: bool,
    /// Failures since the last answer.
    failing: Option<Failing>,
}

/// Failures in a row.
#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Duration,
    count: usize,
}

impl Failing {
    /// A few failures far apart are a slow rate's bad luck; many in no time may be a restart.
    fn is_hopeless(self, now: Duration) -> bool {
        self.count >= FAILING_COUNT && now > self.since + FAILING_MAX
    }
}

impl Worker {
    pub(super) fn new(dialler: Dialler, dialect: Dialect, connections: usize) -> Result<Worker> {
        // Sleeping is to be exact; the kernel's default adds up to 50 µs to save power.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        // In rounds, so that streams of one connection are not used up before the next one's.
        let rounds = 0..dialect.streams;
        Ok(Worker {
            alarm: Alarm::new()?,
            dialler,
            lanes: (0..connections).map(|_| Lane::Vacant).collect(),
            room: rounds.flat_map(|_| 0..connections as u32).collect(),
            dialect,
            backlog: VecDeque::new(),
            under_way: 0,
            origin: Instant::now(),
            counting: None,
            tally: Tally::new(),
            scratch: vec![0; SCRATCH_BYTES],
            answered: Vec::new(),
            ready: Vec::new(),
        })
    }

    /// Opens every connection and makes one exchange over it, so that what is measured later is not
    /// how tunnels are built. Where connections are not kept, one exchange shows that the target is up.
    ///
    /// # Errors
    /// When any of them fails.
    pub(super) fn prepare(&mut self) -> Result<()> {
        let lanes = if self.dialect.is_last { 1 } else { self.lanes.len() };
        let mut begun = 0;
        let mut last_moved = self.now();
        while begun < lanes || self.under_way > 0 {
            while begun < lanes && self.under_way < FIRST_MAX {
                // The room is in the lanes' order still, and comes back to its end.
                let lane = self.room.pop_front().expect("every lane has room at first");
                self.send(lane, self.now())?;
                begun += 1;
            }
            let before = (begun, self.under_way);
            if self.tally.first_failure.is_none() {
                self.wait(last_moved + FIRST_PATIENCE)?;
            }
            if let Some(failure) = self.tally.first_failure.take() {
                bail!("{failure}");
            }
            let now = self.now();
            if (begun, self.under_way) != before {
                last_moved = now;
            } else if now > last_moved + FIRST_PATIENCE {
                bail!(
                    "{} of the first requests are not answered within {} s: is {} what you meant, and \
                     does it speak {:?} to messages of {} bytes?",
                    self.under_way,
                    FIRST_PATIENCE.as_secs(),
                    self.dialler.target,
                    self.dialect.protocol,
                    self.dialect.size
                );
            }
        }
        Ok(())
    }

    /// Makes load through the span: as scheduled, or without a schedule in closed loop.
    pub(super) fn run(mut self, orders: Orders) -> Result<Tally> {
        let Orders { origin, span, mut schedule, spin } = orders;
        self.origin = origin;
        self.alarm.spin(spin);
        self.tally = Tally::new();
        let is_open_loop = schedule.is_some();
        self.counting = Some(Counting { span, is_open_loop, failing: None });
        let (mut clock_at_start, mut clock_at_end) = (None, None);
        loop {
            let now = self.now();
            if now >= span.start {
                clock_at_start.get_or_insert_with(thread_clock);
            }
            if now >= span.end {
                clock_at_end.get_or_insert_with(thread_clock);
                let is_done = self.under_way == 0 && self.backlog.is_empty();
                if is_done || now >= span.end + span.grace {
                    break;
                }
            } else if let Some(schedule) = &mut schedule {
                while schedule.next() <= now {
                    self.arrive(schedule.next(), span);
                    schedule.advance();
                }
            }
            self.dispatch(now, span)?;
            let next = match &schedule {
                _ if now >= span.end => span.end + span.grace,
                Some(schedule) => schedule.next(),
                // Room that is left in closed loop is that of requests which failed at once.
                None if !self.room.is_empty() => now + RETRY,
                None => Duration::MAX,
            };
            let boundary = [span.start, span.end].into_iter().find(|moment| *moment > now);
            self.wait(next.min(boundary.unwrap_or(Duration::MAX)).min(now + LOOK))?;
        }
        self.count_unanswered();
        let start = clock_at_start.unwrap_or_default();
        self.tally.cpu = vec![clock_at_end.unwrap_or_default().saturating_sub(start)];
        Ok(self.tally)
    }

    fn arrive(&mut self, due: Duration, span: Span) {
        self.backlog.push_back(due);
        self.tally.scheduled += u64::from(span.contains(due));
    }

    /// Sends what has come due, as long as there is room.
    fn dispatch(&mut self, now: Duration, span: Span) -> Result<()> {
        let is_open_loop = self.counting.is_some_and(|counting| counting.is_open_loop);
        if is_open_loop {
            let had_room = !self.room.is_empty();
            while !self.room.is_empty()
                && let Some(due) = self.backlog.pop_front()
            {
                let lane = self.room.pop_front().expect("there is room");
                if had_room && span.contains(due) {
                    histogram::record(&mut self.tally.lateness, now.saturating_sub(due));
                }
                self.send(lane, due)?;
            }
            if span.contains(now) {
                self.tally.backlog_max = self.tally.backlog_max.max(self.backlog.len());
            }
        } else if now < span.end {
            // What comes free in this moment is used in the next one: failures must not go round here.
            for _ in 0..self.room.len() {
                let Some(lane) = self.room.pop_front() else { break };
                let due = self.now();
                self.send(lane, due)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, lane: u32, due: Duration) -> Result<()> {
        self.under_way += 1;
        match mem::replace(&mut self.lanes[lane as usize], Lane::Vacant) {
            Lane::Vacant => match self.dialler.dial() {
                Ok(socket) => {
                    self.alarm.watch(&socket, lane)?;
                    self.lanes[lane as usize] = Lane::Dialling { socket, waiting: vec![due] };
                }
                Err(error) => self.fail(lane, &[due], self.dialler.explain(&error)),
            },
            Lane::Dialling { socket, mut waiting } => {
                waiting.push(due);
                self.lanes[lane as usize] = Lane::Dialling { socket, waiting };
            }
            Lane::Open(mut client) => {
                let mut answered = mem::take(&mut self.answered);
                let sent = client.send(due, &mut answered);
                self.answered = answered;
                self.settle(lane, client, sent);
            }
            Lane::Ending(_) => unreachable!("a connection that ends has no room"),
        }
        Ok(())
    }

    /// Waits until the moment or until sockets are ready, and goes on with those.
    fn wait(&mut self, moment: Duration) -> Result<()> {
        let mut ready = mem::take(&mut self.ready);
        self.alarm.wait(self.now(), moment, &mut ready)?;
        for lane in ready.drain(..) {
            self.advance(lane);
        }
        self.ready = ready;
        let now = self.now();
        let failing = self.counting.and_then(|counting| counting.failing);
        if failing.is_some_and(|failing| failing.is_hopeless(now)) {
            let first = self.tally.first_failure.take().unwrap_or_default();
            bail!(
                "nothing but failures for {} s, so the run was stopped; the first was: {first}",
                FAILING_MAX.as_secs()
            );
        }
        Ok(())
    }

    fn advance(&mut self, lane: u32) {
        match mem::replace(&mut self.lanes[lane as usize], Lane::Vacant) {
            Lane::Vacant => {}
            Lane::Dialling { socket, waiting } => match socket.take_error() {
                Ok(None) => self.open(lane, socket.into(), waiting),
                Ok(Some(error)) | Err(error) => {
                    self.fail(lane, &waiting, self.dialler.explain(&error));
                }
            },
            Lane::Open(mut client) => {
                let standing = client.advance(&mut self.scratch, &mut self.answered);
                self.settle(lane, client, standing);
            }
            Lane::Ending(client) => self.end(lane, client),
        }
    }

    fn open(&mut self, lane: u32, socket: TcpStream, waiting: Vec<Duration>) {
        let mut client = self.dialect.client(socket);
        for (count, due) in waiting.iter().enumerate() {
            let mut answered = mem::take(&mut self.answered);
            let sent = client.send(*due, &mut answered);
            self.answered = answered;
            if let Err(error) = sent {
                // This one may be among the client's already.
                let mut lost = client.outstanding();
                lost.extend(&waiting[count + 1..]);
                if !lost.contains(due) {
                    lost.push(*due);
                }
                return self.fail(lane, &lost, format!("{error:#}"));
            }
        }
        self.settle(lane, client, Ok(Standing::Open));
    }

    /// Counts what was answered and puts the client back into its lane, if it may stay there.
    fn settle(&mut self, lane: u32, client: Box<dyn Client>, standing: Result<Standing>) {
        let mut answered = mem::take(&mut self.answered);
        let is_answered = !answered.is_empty();
        let now = self.now();
        for due in answered.drain(..) {
            self.succeed(due, now);
            if !self.dialect.is_last {
                self.room.push_back(lane);
            }
        }
        self.answered = answered;
        match standing {
            Err(error) => {
                let lost = client.outstanding();
                if self.dialect.is_last && is_answered {
                    self.room.push_back(lane);
                } else {
                    self.fail(lane, &lost, format!("{error:#}"));
                }
            }
            Ok(_) if self.dialect.is_last && is_answered => {
                // Should it be gone already, reading says so.
                let _ = client.socket().shutdown(Shutdown::Write);
                self.end(lane, client);
            }
            Ok(Standing::Open) => self.lanes[lane as usize] = Lane::Open(client),
            // It is opened again by the next request.
            Ok(Standing::Ended) => {}
        }
    }

    /// The connection of a single request gives its lane free when nothing of it is left.
    fn end(&mut self, lane: u32, client: Box<dyn Client>) {
        loop {
            match client.socket().read(&mut self.scratch) {
                Ok(count) if count > 0 => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.lanes[lane as usize] = Lane::Ending(client);
                    return;
                }
                _ => return self.room.push_back(lane),
            }
        }
    }

    fn succeed(&mut self, due: Duration, now: Duration) {
        self.under_way -= 1;
        let Some(counting) = &mut self.counting else { return };
        counting.failing = None;
        let within = counting.span.contains(now);
        self.tally.answered_within += u64::from(within);
        if if counting.is_open_loop { counting.span.contains(due) } else { within } {
            self.tally.requests += 1;
            histogram::record(&mut self.tally.latency, now.saturating_sub(due));
        }
    }

    fn fail(&mut self, lane: u32, lost: &[Duration], why: String) {
        self.under_way -= lost.len();
        self.room.extend(lost.iter().map(|_| lane));
        let now = self.now();
        if let Some(counting) = &mut self.counting {
            let failing = counting.failing.get_or_insert(Failing { since: now, count: 0 });
            failing.count += lost.len();
            let is_open_loop = counting.is_open_loop;
            let counted =
                |due: &&Duration| counting.span.contains(if is_open_loop { **due } else { now });
            self.tally.failures += lost.iter().filter(counted).count() as u64;
        }
        self.tally.first_failure.get_or_insert(why);
    }

    /// What is still not answered has waited this long at least. Leaving it out would make the target
    /// look the better the worse it is.
    fn count_unanswered(&mut self) {
        let Some(Counting { span, is_open_loop: true, .. }) = self.counting else { return };
        let now = self.now();
        let under_way = self.lanes.iter().flat_map(|lane| match lane {
            Lane::Dialling { waiting, .. } => waiting.clone(),
            Lane::Open(client) => client.outstanding(),
            Lane::Vacant | Lane::Ending(_) => Vec::new(),
        });
        for due in under_way.chain(self.backlog.iter().copied()).filter(|due| span.contains(*due)) {
            self.tally.unanswered += 1;
            histogram::record(&mut self.tally.latency, now - due);
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// Processor time of this thread.
fn thread_clock() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_given_up_after_many_failures_and_a_while() {
        for (name, count, seconds, want) in [
            ("one, long ago, at a slow rate", 1, 60, false),
            ("many at once, as in a restart", 1000, 1, false),
            ("many, for a while", 10, 4, true),
        ] {
            let failing = Failing { since: Duration::from_secs(5), count };
            assert_eq!(failing.is_hopeless(Duration::from_secs(5 + seconds)), want, "{name}");
        }
    }
}
