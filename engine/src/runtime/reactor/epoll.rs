//! The epoll reactor: edge-triggered, for hosts and containers where io_uring is forbidden.
//!
//! A descriptor is added once and never modified. Closing it removes it from the set, so a
//! connection costs one `epoll_ctl` in its life; an event that was already on its way names a slot
//! and a generation that no longer match, and is dropped.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use slab::Slab;

use super::super::readiness::Readiness;
use super::super::wakeup::Wakeup;
use super::super::watch::{Token, Watch};

/// Events taken per wait; more are delivered by the next one, which then does not wait.
const EVENTS_PER_WAIT_MAX: usize = 512;
/// Names the eventfd that other threads write to.
const WAKEUP: u64 = u64::MAX;

pub(crate) struct Epoll {
    /// The runtime's number.
    id: u32,
    fd: OwnedFd,
    slots: RefCell<Slab<Slot>>,
    generation: Cell<u32>,
    events: RefCell<Vec<Event>>,
}

struct Slot {
    generation: u32,
    watch: Rc<Watch>,
}

impl Epoll {
    pub(super) fn new(id: u32, wakeup: &Wakeup) -> io::Result<Epoll> {
        let fd = epoll::create(CreateFlags::CLOEXEC)?;
        let edge = EventFlags::IN | EventFlags::ET;
        epoll::add(&fd, wakeup, EventData::new_u64(WAKEUP), edge)?;
        let events = RefCell::new(Vec::with_capacity(EVENTS_PER_WAIT_MAX));
        Ok(Epoll { id, fd, slots: RefCell::default(), generation: Cell::new(0), events })
    }

    pub(super) fn register(
        &self,
        fd: BorrowedFd<'_>,
        watch: &Rc<Watch>,
    ) -> rustix::io::Result<Token> {
        let generation = self.generation.get().wrapping_add(1);
        self.generation.set(generation);
        let slot = self.slots.borrow_mut().insert(Slot { generation, watch: watch.clone() });
        let data = EventData::new_u64(u64::from(generation) << 32 | slot as u64);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if let Err(errno) = epoll::add(&self.fd, fd, data, flags) {
            self.slots.borrow_mut().remove(slot);
            return Err(errno);
        }
        Ok(Token { local: self.id, slot: slot as u32, generation })
    }

    pub(super) fn close(&self, token: Token, fd: OwnedFd) {
        self.forget(token);
        drop(fd);
    }

    pub(super) fn release(&self, token: Token, fd: OwnedFd) -> OwnedFd {
        // It can only fail for a descriptor that is not in the set.
        let _ = epoll::delete(&self.fd, fd.as_fd());
        self.forget(token);
        fd
    }

    fn forget(&self, token: Token) {
        let slot = self.slots.borrow_mut().try_remove(token.slot as usize);
        assert!(
            slot.is_some_and(|slot| slot.generation == token.generation),
            "a token names its own slot"
        );
    }

    pub(super) fn wait(&self, timeout: Option<Duration>) {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let mut events = self.events.take();
        match epoll::wait(&self.fd, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => panic!("epoll_wait on our own descriptor: {errno}"),
        }
        for event in events.drain(..) {
            // The struct is packed: copy the fields out.
            let (name, bits) = (event.data, event.flags);
            self.deliver(name.u64(), bits.bits());
        }
        self.events.replace(events);
    }

    fn deliver(&self, name: u64, bits: u32) {
        let (generation, slot) = ((name >> 32) as u32, name as u32 as usize);
        let watch = match self.slots.borrow().get(slot) {
            Some(entry) if entry.generation == generation => entry.watch.clone(),
            _ => return,
        };
        // No borrow is held here: a waker may run anything.
        watch.notify(Readiness::from_poll(bits));
    }
}
