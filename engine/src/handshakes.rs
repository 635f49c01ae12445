//! Handshakes in progress on one shard: how many there may be, and whose step is next.
//!
//! A step of a handshake is the longest thing a shard does, so a turn of its loop has room for few
//! ([`HANDSHAKE_STEPS_PER_TURN`]), and the workloads that want one take turns: however many peers storm one workload,
//! the handshake of another waits for as many steps as there are workloads, not as there are peers.
//!
//! When there are as many as there may be, the one that has waited longest for its peer makes room. An honest peer
//! answers within [`HANDSHAKE_PATIENCE`]; so silent ones, however many, cost honest ones a delay and not their
//! connection.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    pin::pin,
    rc::{Rc, Weak},
    task::{Poll, Waker},
    time::Instant,
};

use crate::{
    accounts::Limit,
    limits::{Bounds, HANDSHAKE_PATIENCE, HANDSHAKE_STEPS_PER_TURN},
    runtime::{self, TurnEnd},
};

/// See the module's text.
pub(crate) struct Handshakes {
    pace: Rc<Pace>,
    in_progress: Rc<Cell<usize>>,
    most: usize,
    most_per_workload: usize,
}

/// One workload's handshakes on one shard.
#[derive(Default)]
pub(crate) struct WorkloadHandshakes {
    in_progress: Cell<usize>,
    /// Those of peers, the oldest first; some have ended.
    of_peers: RefCell<VecDeque<Weak<Progress>>>,
    /// Those that want a step, first come first.
    wanting: RefCell<VecDeque<Rc<Ticket>>>,
}

#[derive(Default)]
struct Progress {
    /// Since when it waits for its peer.
    waiting_since: Cell<Option<Instant>>,
    cut: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The place of a handshake that waits for a step.
#[derive(Default)]
struct Ticket {
    granted: Cell<bool>,
    given_up: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Hands out the steps of each turn.
struct Pace {
    left: Cell<usize>,
    hooked: Cell<bool>,
    /// Workloads with handshakes that want a step, in the order of their turns.
    rotation: RefCell<VecDeque<Rc<WorkloadHandshakes>>>,
}

impl Handshakes {
    /// Those of one shard of so many.
    pub(crate) fn new(bounds: &Bounds, shards: usize) -> Self {
        let share = |most: u64| usize::try_from(most).unwrap_or(usize::MAX).div_ceil(shards);
        Self {
            pace: Rc::new(Pace {
                left: Cell::new(HANDSHAKE_STEPS_PER_TURN),
                hooked: Cell::new(false),
                rotation: RefCell::default(),
            }),
            in_progress: Rc::default(),
            most: share(bounds.handshakes_per_process),
            most_per_workload: share(bounds.handshakes_per_workload),
        }
    }

    /// Whether one more handshake of the workload may begin; if not, which limit is in its way.
    pub(crate) fn room(&self, workload: &WorkloadHandshakes) -> Result<(), Limit> {
        if workload.in_progress.get() >= self.most_per_workload {
            return Err(Limit::HandshakesPerWorkload);
        }
        if self.in_progress.get() >= self.most {
            return Err(Limit::HandshakesPerProcess);
        }
        Ok(())
    }

    /// Begins a handshake with a peer that dialled.
    pub(crate) fn begin(&self, workload: &Rc<WorkloadHandshakes>) -> Handshaking {
        let handshaking = self.begin_own(workload);
        workload.of_peers.borrow_mut().push_back(Rc::downgrade(&handshaking.progress));
        handshaking
    }

    /// Begins a handshake with a peer that we dialled. It is not the peers' to multiply, and is not cut for room.
    pub(crate) fn begin_own(&self, workload: &Rc<WorkloadHandshakes>) -> Handshaking {
        self.in_progress.set(self.in_progress.get() + 1);
        workload.in_progress.set(workload.in_progress.get() + 1);
        Handshaking {
            pace: self.pace.clone(),
            shard_in_progress: self.in_progress.clone(),
            workload: workload.clone(),
            progress: Rc::default(),
        }
    }
}

impl WorkloadHandshakes {
    /// How many are in progress.
    pub(crate) fn len(&self) -> usize {
        self.in_progress.get()
    }

    /// Cuts the oldest that has waited for its peer for long enough; whether there was one.
    pub(crate) fn cut_one(&self, now: Instant) -> bool {
        let mut of_peers = self.of_peers.borrow_mut();
        of_peers.retain(|progress| progress.strong_count() > 0);
        let patience_ended = |progress: &Rc<Progress>| {
            let since = progress.waiting_since.get();
            !progress.cut.get() && since.is_some_and(|since| since + HANDSHAKE_PATIENCE <= now)
        };
        let oldest = of_peers.iter().filter_map(Weak::upgrade).find(patience_ended);
        oldest.is_some_and(|progress| {
            progress.cut.set(true);
            wake(&progress.waker);
            true
        })
    }

    fn next_ticket(&self) -> Option<Rc<Ticket>> {
        let mut wanting = self.wanting.borrow_mut();
        std::iter::from_fn(|| wanting.pop_front()).find(|ticket| !ticket.given_up.get())
    }
}

impl Pace {
    /// Takes one of this turn's steps, unless others wait for one.
    fn try_take(self: &Rc<Self>) -> bool {
        if self.left.get() == 0 || !self.rotation.borrow().is_empty() {
            return false;
        }
        self.left.set(self.left.get() - 1);
        self.hook();
        true
    }

    fn queue(self: &Rc<Self>, workload: &Rc<WorkloadHandshakes>) -> Rc<Ticket> {
        let ticket = Rc::new(Ticket::default());
        let mut wanting = workload.wanting.borrow_mut();
        if wanting.is_empty() {
            self.rotation.borrow_mut().push_back(workload.clone());
        }
        wanting.push_back(ticket.clone());
        self.hook();
        ticket
    }

    fn hook(self: &Rc<Self>) {
        if !self.hooked.replace(true) {
            runtime::at_turn_end(self.clone());
        }
    }
}

impl TurnEnd for Pace {
    /// The steps of the next turn, one workload after the other.
    fn turn_end(self: Rc<Self>) {
        self.hooked.set(false);
        self.left.set(HANDSHAKE_STEPS_PER_TURN);
        let mut granted = false;
        while self.left.get() > 0 {
            let Some(workload) = self.rotation.borrow_mut().pop_front() else { break };
            if let Some(ticket) = workload.next_ticket() {
                self.left.set(self.left.get() - 1);
                ticket.granted.set(true);
                wake(&ticket.waker);
                granted = true;
            }
            if !workload.wanting.borrow().is_empty() {
                self.rotation.borrow_mut().push_back(workload);
            }
        }
        // Only then are there steps to be given back at the end of the next turn.
        if granted {
            self.hook();
        }
    }
}

/// A handshake in progress. Dropping it makes room for another.
pub(crate) struct Handshaking {
    pace: Rc<Pace>,
    shard_in_progress: Rc<Cell<usize>>,
    workload: Rc<WorkloadHandshakes>,
    progress: Rc<Progress>,
}

/// The handshake was cut to make room for another.
#[derive(Debug)]
pub(crate) struct CutForRoom;

impl Handshaking {
    /// Waits for this turn's, or a later turn's, next step.
    pub(crate) async fn step(&self) {
        if self.pace.try_take() {
            return;
        }
        let waiting = GivenUp(self.pace.queue(&self.workload));
        std::future::poll_fn(|cx| {
            if waiting.0.granted.get() {
                return Poll::Ready(());
            }
            *waiting.0.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits for something that is the peer's to do.
    pub(crate) async fn peer<T>(&self, work: impl Future<Output = T>) -> T {
        self.progress.waiting_since.set(Some(runtime::now()));
        let done = work.await;
        self.progress.waiting_since.set(None);
        done
    }

    /// Shakes hands, unless it is cut meanwhile.
    ///
    /// # Errors
    /// [`CutForRoom`].
    pub(crate) async fn unless_cut<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, CutForRoom> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| {
            if self.progress.cut.get() {
                return Poll::Ready(Err(CutForRoom));
            }
            let polled = work.as_mut().poll(cx);
            if polled.is_pending() {
                *self.progress.waker.borrow_mut() = Some(cx.waker().clone());
            }
            polled.map(Ok)
        })
        .await
    }
}

impl Drop for Handshaking {
    fn drop(&mut self) {
        self.shard_in_progress.set(self.shard_in_progress.get() - 1);
        self.workload.in_progress.set(self.workload.in_progress.get() - 1);
    }
}

/// Leaves the queue when whoever waits does.
struct GivenUp(Rc<Ticket>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.given_up.set(true);
    }
}

fn wake(waker: &RefCell<Option<Waker>>) {
    let waker = waker.borrow_mut().take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{limits::Limits, runtime::Runtime};

    fn handshakes() -> Handshakes {
        let limits =
            Limits { handshakes_per_process: 8, handshakes_per_workload: 6, ..Limits::default() };
        Handshakes::new(&limits.resolve(), 2)
    }

    fn run(test: impl Future<Output = ()>) {
        let (runtime, _) = Runtime::new(Default::default()).unwrap();
        runtime.block_on(test);
    }

    #[test]
    fn a_shard_has_its_share_of_both_bounds() {
        let shard = handshakes();
        let (one, other) = (Rc::default(), Rc::default());
        let mut held: Vec<_> = (0..3).map(|_| shard.begin(&one)).collect();
        assert_eq!(shard.room(&one), Err(Limit::HandshakesPerWorkload));
        assert_eq!(shard.room(&other), Ok(()));
        held.push(shard.begin(&other));
        assert_eq!(shard.room(&other), Err(Limit::HandshakesPerProcess));
        held.remove(0);
        assert_eq!(shard.room(&other), Ok(()));
        drop(held);
        assert_eq!((one.len(), other.len(), shard.in_progress.get()), (0, 0, 0));
    }

    #[test]
    fn who_has_waited_longest_for_its_peer_makes_room() {
        run(async {
            let shard = handshakes();
            let workload = Rc::default();
            let held: Vec<_> = (0..3).map(|_| shard.begin(&workload)).collect();
            let now = runtime::now();
            // The first works; the second waits for long, the third not yet.
            held[1].progress.waiting_since.set(Some(now - 2 * HANDSHAKE_PATIENCE));
            held[2].progress.waiting_since.set(Some(now));
            assert!(workload.cut_one(now));
            let cut: Vec<_> = held.iter().map(|one| one.progress.cut.get()).collect();
            assert_eq!(cut, [false, true, false]);
            assert!(!workload.cut_one(now), "nobody else has waited for long");
            assert!(held[1].unless_cut(std::future::pending::<()>()).await.is_err());
            assert!(workload.cut_one(now + HANDSHAKE_PATIENCE));
        });
    }

    /// One workload has a hundred handshakes that want steps, another comes late with one.
    #[test]
    fn workloads_take_turns_whatever_each_wants() {
        run(async {
            let shard = Rc::new(handshakes());
            let order = Rc::new(RefCell::new(Vec::new()));
            let (storm, victim) = (Rc::default(), Rc::default());
            let spawn = |workload: &Rc<WorkloadHandshakes>, name: &'static str| {
                let (shard, workload, order) = (shard.clone(), workload.clone(), order.clone());
                runtime::spawn(async move {
                    let handshaking = shard.begin(&workload);
                    handshaking.step().await;
                    order.borrow_mut().push(name);
                });
            };
            (0..100).for_each(|_| spawn(&storm, "storm"));
            runtime::yield_now().await;
            spawn(&victim, "victim");
            while order.borrow().len() < 101 {
                runtime::sleep(Duration::from_millis(1)).await;
            }
            let place = order.borrow().iter().position(|name| *name == "victim").unwrap();
            assert!(place <= 4 * HANDSHAKE_STEPS_PER_TURN, "the victim came {place}th");
            assert_eq!((storm.len(), victim.len()), (0, 0));
        });
    }

    #[test]
    fn whoever_gives_up_takes_nobodys_place() {
        run(async {
            let shard = handshakes();
            let workload = Rc::default();
            let (first, second) = (shard.begin(&workload), shard.begin(&workload));
            while shard.pace.try_take() {}
            let given_up = runtime::timeout(Duration::ZERO, first.step());
            let (_, ()) = (given_up.await, second.step().await);
        });
    }
}
