//! The slots of a ring: what is with the kernel, for whom, and how its completions find back.

use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;

use slab::Slab;

use super::super::super::watch::{Token, Watch};
use super::queue::Request;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Poll = 1,
    Accept = 2,
    Cancel = 3,
    Wakeup = 4,
}

/// A slot and the use of it that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl Name {
    /// The poll of the eventfd, which has no slot.
    pub(super) const WAKEUP: u64 = Operation::Wakeup as u64;
    /// Completions carry so much of the generation.
    const GENERATION_BITS: u32 = 24;

    /// How the kernel knows a request: 32 bits of slot, 24 of its generation, 8 of operation.
    pub(super) fn with(self, operation: Operation) -> u64 {
        let Name { slot, generation } = self;
        u64::from(slot) << 32 | u64::from(generation) << 8 | operation as u64
    }

    pub(super) fn parse(name: u64) -> (Name, Option<Operation>) {
        let operation = match name as u8 {
            1 => Some(Operation::Poll),
            2 => Some(Operation::Accept),
            3 => Some(Operation::Cancel),
            4 => Some(Operation::Wakeup),
            _ => None,
        };
        (Name { slot: (name >> 32) as u32, generation: name as u32 >> 8 }, operation)
    }
}

impl From<Token> for Name {
    fn from(token: Token) -> Name {
        Name { slot: token.slot, generation: token.generation }
    }
}

/// What is with the kernel for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing.
    Idle,
    /// Nothing: the request ended by itself, and nobody has asked for more.
    Ended,
    /// Nothing yet: the request ended by itself and is to be armed again.
    Queued,
    /// The request.
    Armed,
    /// The request and its cancel.
    Cancelling,
}

/// Whom the completions of a slot are for.
#[derive(Debug)]
pub(super) enum Owner {
    Watching(Rc<Watch>),
    /// Nobody. A descriptor that is to be closed is held until the kernel has let go of it.
    Closing(#[expect(dead_code, reason = "held, to be closed when dropped")] Option<OwnedFd>),
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) operation: Operation,
    pub(super) phase: Phase,
    pub(super) failures: u8,
    pub(super) fd: RawFd,
    pub(super) owner: Owner,
}

impl Slot {
    pub(super) fn request(&self, own: Name) -> Request {
        let name = own.with(self.operation);
        match self.operation {
            Operation::Accept => Request::Accept { fd: self.fd, name },
            _ => Request::Poll { fd: self.fd, name },
        }
    }

    pub(super) fn cancel(&self, own: Name) -> Request {
        Request::Cancel { target: own.with(self.operation), name: own.with(Operation::Cancel) }
    }
}

/// All slots, each found only under its present name.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slab: Slab<(u32, Slot)>,
    generation: u32,
}

impl Slots {
    pub(super) fn insert(&mut self, slot: Slot) -> Name {
        self.generation = (self.generation + 1) % (1 << Name::GENERATION_BITS);
        let generation = self.generation;
        Name { slot: self.slab.insert((generation, slot)) as u32, generation }
    }

    pub(super) fn get_mut(&mut self, name: Name) -> Option<&mut Slot> {
        let (generation, slot) = self.slab.get_mut(name.slot as usize)?;
        (*generation == name.generation).then_some(slot)
    }

    pub(super) fn remove(&mut self, name: Name) -> Option<Slot> {
        self.get_mut(name)?;
        Some(self.slab.remove(name.slot as usize).1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Leaves only what is with the kernel, for nobody, and asks for its end through `push`.
    pub(super) fn abandon(&mut self, push: impl Fn(Request)) -> Vec<Owner> {
        let mut owners = Vec::new();
        self.slab.retain(|index, (generation, slot)| {
            let name = Name { slot: index as u32, generation: *generation };
            if matches!(slot.owner, Owner::Watching(_)) {
                owners.push(std::mem::replace(&mut slot.owner, Owner::Closing(None)));
            }
            if slot.phase == Phase::Armed {
                slot.phase = Phase::Cancelling;
                push(slot.cancel(name));
            }
            slot.phase == Phase::Cancelling
        });
        owners
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_comes_back_as_it_went(
            slot in any::<u32>(), generation in 0..1_u32 << 24, operation in 1..=4_u8,
        ) {
            let name = Name { slot, generation };
            let operation = Name::parse(u64::from(operation)).1.expect("an operation");
            prop_assert_eq!(Name::parse(name.with(operation)), (name, Some(operation)));
        }
    }

    #[test]
    fn an_old_name_finds_nobody() {
        let slot = || Slot {
            operation: Operation::Poll,
            phase: Phase::Idle,
            failures: 0,
            fd: -1,
            owner: Owner::Closing(None),
        };
        let mut slots = Slots::default();
        let old = slots.insert(slot());
        assert!(slots.remove(old).is_some());
        let new = slots.insert(slot());
        assert_eq!(old.slot, new.slot, "the slot is used again");
        assert!(slots.get_mut(old).is_none() && slots.remove(old).is_none());
        assert!(slots.get_mut(new).is_some());
    }
}
