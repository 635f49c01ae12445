//! The ring reactor: io_uring as the wait point.
//!
//! Every watch has at most one request with the kernel: a multishot poll, or on a listener a
//! multishot accept. A slot lives until that request's last completion, so that nothing the kernel
//! still has to say can reach anybody else:
//!
//! ```text
//!        register             ended by itself
//!  (none) ──────▶ Armed ◀───────────────────────▶ Queued
//!                   │        the kernel has room    │
//!      close,       ▼                               │ close, release
//!      release   Cancelling ──▶ slot freed ◀────────┘
//!                      last completion
//! ```
//!
//! * A request that ends by itself (the completion queue was full, memory was short) is armed
//!   again, and arming tells at once what is ready: no edge is lost. It waits until the kernel has
//!   told all it kept aside, and has room to tell more: armed earlier it would end at once, again
//!   and again.
//! * A connection accepted after its listener was closed is closed, not leaked.
//! * The kernel's reference to a closed socket goes with the cancel, in the same turn; until then
//!   the descriptor number is not reused.
#![allow(unsafe_code)]
// JUSTIFICATION: a multishot accept tells its descriptors as plain numbers, which must be adopted.

mod queue;
mod setup;
mod slot;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use self::queue::{Completion, Entered, Queue, Request};
pub use self::setup::RING_OPERATIONS;
use self::slot::{Name, Operation, Owner, Phase, Slot, Slots};
use super::super::counters::Counts;
use super::super::readiness::Readiness;
use super::super::wakeup::Wakeup;
use super::super::watch::{Accepts, Token, Watch};
use super::choice::RingSizes;

/// Connections taken from the kernel and not yet by us: above it, the multishot accept is told to
/// end. What the kernel had queued at that moment may still come.
const ACCEPTED_MAX: usize = 256;
/// Polls of one watch that may fail in a row before it is given up.
const FAILURES_MAX: u8 = 8;
/// How long a runtime that is dropped waits for the kernel's last words.
const SHUTDOWN_MAX: Duration = Duration::from_secs(1);

pub(crate) struct Ring {
    /// The runtime's number.
    id: u32,
    counts: Rc<Counts>,
    queue: RefCell<Queue>,
    slots: RefCell<Slots>,
    completions: RefCell<Vec<Completion>>,
    /// Slots in `Phase::Queued`, and perhaps some that have left it since.
    queued: RefCell<VecDeque<Name>>,
    /// Requests armed again per turn: each may have something to tell at once.
    rearms_max: usize,
    multishot_accept: bool,
    wakeup: RawFd,
    wakeup_armed: Cell<bool>,
}

/// Takes over a descriptor that an accept completion names.
fn adopt(result: i32) -> OwnedFd {
    // SAFETY: the kernel has just opened this descriptor for us and told nobody else; each
    // completion is reaped once, so it is adopted once.
    unsafe { OwnedFd::from_raw_fd(result) }
}

impl Ring {
    /// A ring, and how it was got; or why there is none.
    pub(super) fn new(
        sizes: RingSizes,
        id: u32,
        wakeup: &Wakeup,
        counts: Rc<Counts>,
    ) -> Result<(Ring, String), String> {
        let granted = setup::obtain(sizes)?;
        let (queue, multishot_accept) = granted.ring;
        let ring = Ring {
            id,
            counts,
            rearms_max: (queue.completions_max() / 2).max(1),
            queue: RefCell::new(queue),
            slots: RefCell::default(),
            completions: RefCell::default(),
            queued: RefCell::default(),
            multishot_accept,
            wakeup: wakeup.as_fd().as_raw_fd(),
            wakeup_armed: Cell::new(false),
        };
        Ok((ring, granted.story))
    }

    pub(super) fn register(&self, fd: BorrowedFd<'_>, watch: &Rc<Watch>) -> Token {
        let accepts = watch.accepts.is_some() && self.multishot_accept;
        // A listener is armed by whoever waits for it, see `accepts`.
        let (operation, phase) = match accepts {
            true => (Operation::Accept, Phase::Idle),
            false => (Operation::Poll, Phase::Armed),
        };
        let owner = Owner::Watching(watch.clone());
        let slot = Slot { operation, phase, failures: 0, fd: fd.as_raw_fd(), owner };
        let name = self.slots.borrow_mut().insert(slot);
        if phase == Phase::Armed {
            self.push(Request::Poll { fd: fd.as_raw_fd(), name: name.with(operation) });
        }
        Token { local: self.id, slot: name.slot, generation: name.generation }
    }

    pub(super) fn close(&self, token: Token, fd: OwnedFd) {
        self.forget(token, Some(fd));
    }

    pub(super) fn release(&self, token: Token, fd: OwnedFd) -> OwnedFd {
        self.forget(token, None);
        // The requests name the descriptor by its number, which the caller may close from here on.
        self.enter(Some(Duration::ZERO));
        fd
    }

    fn forget(&self, token: Token, fd: Option<OwnedFd>) {
        let mut slots = self.slots.borrow_mut();
        let name = Name::from(token);
        let slot = slots.get_mut(name).expect("a token names its own slot");
        if slot.phase == Phase::Armed {
            slot.phase = Phase::Cancelling;
            self.push(slot.cancel(name));
        }
        // Both are dropped after the borrow: a watch may hold accepted connections and wakers.
        let (_owner, _slot);
        if slot.phase == Phase::Cancelling {
            _owner = std::mem::replace(&mut slot.owner, Owner::Closing(fd));
        } else {
            _slot = slots.remove(name);
            drop(fd);
        }
        drop(slots);
    }

    /// Whether this listener's connections come by multishot accept; if so, one is with the kernel
    /// from now on. Without `room` for all that may wait in the kernel it is ended, and from then
    /// on the listener is polled, to be accepted from one by one.
    pub(super) fn accepts(&self, token: Token, room: bool) -> bool {
        let mut slots = self.slots.borrow_mut();
        let name = Name::from(token);
        let slot = slots.get_mut(name).expect("a token names its own slot");
        if slot.operation != Operation::Accept {
            return false;
        }
        match slot.phase {
            Phase::Idle | Phase::Ended if !room => {
                slot.operation = Operation::Poll;
                slot.phase = Phase::Armed;
                self.push(slot.request(name));
            }
            Phase::Idle => {
                slot.phase = Phase::Armed;
                self.push(slot.request(name));
            }
            Phase::Ended => {
                slot.phase = Phase::Queued;
                self.queued.borrow_mut().push_back(name);
            }
            Phase::Armed if !room => {
                slot.phase = Phase::Cancelling;
                self.push(slot.cancel(name));
            }
            Phase::Queued | Phase::Armed | Phase::Cancelling => {}
        }
        slot.operation == Operation::Accept
    }

    /// Whether a multishot accept is still with the kernel; it is asked to end.
    pub(super) fn stop_accepting(&self, token: Token) -> bool {
        let mut slots = self.slots.borrow_mut();
        let name = Name::from(token);
        let slot = slots.get_mut(name).expect("a token names its own slot");
        match (slot.operation, slot.phase) {
            (Operation::Accept, Phase::Armed) => {
                slot.phase = Phase::Cancelling;
                self.push(slot.cancel(name));
                true
            }
            (Operation::Accept, Phase::Cancelling) => true,
            (Operation::Accept, _) => {
                slot.phase = Phase::Idle;
                false
            }
            _ => false,
        }
    }

    pub(super) fn wait(&self, timeout: Option<Duration>) {
        self.arm_wakeup();
        // What is to be armed again must not wait for something else to happen.
        let timeout = if self.queued.borrow().is_empty() { timeout } else { Some(Duration::ZERO) };
        let refused = self.enter(timeout);
        let reaped = self.deliver();
        // Refused, nothing to do and not allowed to spin: what we waited for will still be there.
        if refused && reaped == 0 && timeout != Some(Duration::ZERO) {
            self.queue.borrow().rest();
        }
    }

    fn arm_wakeup(&self) {
        if !self.wakeup_armed.replace(true) {
            self.push(Request::Poll { fd: self.wakeup, name: Name::WAKEUP });
        }
    }

    /// Takes every completion and acts on it.
    fn deliver(&self) -> usize {
        let mut completions = self.completions.take();
        let overflown = self.queue.borrow_mut().reap(&mut completions);
        let reaped = completions.len();
        for completion in completions.drain(..) {
            self.complete(completion);
        }
        self.completions.replace(completions);
        if overflown {
            self.counts.count(|counters| counters.completion_overflows += 1);
        } else {
            self.rearm();
        }
        reaped
    }

    /// Arms again what ended by itself, as much as the kernel has room to tell about.
    fn rearm(&self) {
        for _ in 0..self.rearms_max {
            let Some(name) = self.queued.borrow_mut().pop_front() else { break };
            let mut slots = self.slots.borrow_mut();
            if let Some(slot) = slots.get_mut(name).filter(|slot| slot.phase == Phase::Queued) {
                slot.phase = Phase::Armed;
                self.counts.count(|counters| counters.rearmed += 1);
                self.push(slot.request(name));
            }
        }
    }

    fn complete(&self, completion: Completion) {
        match Name::parse(completion.name) {
            (name, Some(Operation::Poll)) => self.polled(name, completion),
            (name, Some(Operation::Accept)) => self.accepted(name, completion),
            // A wake-up has done its work by ending the wait: the injector is looked at every turn.
            (_, Some(Operation::Wakeup)) => self.wakeup_armed.set(completion.more),
            // A cancel that came too late (ENOENT, EALREADY): its target's last completion counts.
            (_, Some(Operation::Cancel) | None) => {}
        }
    }

    fn polled(&self, name: Name, completion: Completion) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(name) else { return };
        let Owner::Watching(watch) = &slot.owner else {
            let finished = (!completion.more).then(|| slots.remove(name));
            drop(slots);
            drop(finished);
            return;
        };
        let watch = watch.clone();
        let ready = u32::try_from(completion.result).map(Readiness::from_poll);
        slot.failures = if ready.is_ok() { 0 } else { slot.failures + 1 };
        let mut ready = ready.unwrap_or_default();
        if slot.failures > FAILURES_MAX {
            slot.phase = Phase::Idle;
            ready = Readiness::UNWATCHED.or(Readiness::ERROR);
        } else if !completion.more {
            slot.phase = Phase::Queued;
            self.queued.borrow_mut().push_back(name);
        }
        drop(slots);
        // No borrow is held here: a waker may run anything.
        watch.notify(ready);
    }

    fn accepted(&self, name: Name, completion: Completion) {
        let connection = (completion.result >= 0).then(|| adopt(completion.result));
        let mut slots = self.slots.borrow_mut();
        let watching = slots.get_mut(name).and_then(|slot| match &slot.owner {
            Owner::Watching(watch) => Some((watch.clone(), slot)),
            Owner::Closing(_) => None,
        });
        let Some((watch, slot)) = watching else {
            self.counts
                .count(|counters| counters.late_accepts_closed += u64::from(connection.is_some()));
            let finished = (!completion.more).then(|| slots.remove(name));
            drop(slots);
            drop((connection, finished));
            return;
        };
        let Accepts { ready, error } = watch.accepts.as_deref().expect("a listener's watch");
        if connection.is_none() && completion.result != -libc::ECANCELED {
            error.set(Some(Errno::from_raw_os_error(-completion.result)));
        }
        ready.borrow_mut().extend(connection);
        if !completion.more {
            // Armed again by whoever accepts next: at once if somebody waits, after a pause if
            // there was a shortage, and not at all while nobody asks.
            let asked = slot.phase == Phase::Cancelling;
            slot.phase = if asked { Phase::Idle } else { Phase::Ended };
        } else if slot.phase == Phase::Armed && ready.borrow().len() >= ACCEPTED_MAX {
            slot.phase = Phase::Cancelling;
            self.push(slot.cancel(name));
        }
        drop(slots);
        watch.notify(Readiness::READABLE);
    }

    /// Ends everything that is with the kernel and takes back what it still hands over.
    pub(super) fn shut_down(&self) {
        // The owners close their descriptors themselves: the runtime they knew is gone by then.
        let abandoned = self.slots.borrow_mut().abandon(|cancel| self.push(cancel));
        drop(abandoned);
        let deadline = Instant::now() + SHUTDOWN_MAX;
        while !self.slots.borrow().is_empty() && Instant::now() < deadline {
            self.wait(Some(Duration::from_millis(10)));
        }
    }

    /// Hands in what is queued and waits; `true` when the kernel cannot right now.
    fn enter(&self, timeout: Option<Duration>) -> bool {
        let entered = self.queue.borrow_mut().enter(timeout);
        match entered {
            Entered::Done => false,
            Entered::Refused(_) => {
                self.counts.count(|counters| counters.waits_refused += 1);
                true
            }
            Entered::Broken(errno) => panic!("io_uring_enter on our own ring: {errno}"),
        }
    }

    fn push(&self, request: Request) {
        if !self.queue.borrow_mut().push(request) {
            self.counts.count(|counters| counters.submissions_delayed += 1);
        }
    }
}
