//! The ready queue: whose task is polled next.
//!
//! Tasks belong to tenants, and a turn of the loop takes a few tasks of each tenant in rotation: one with thousands of
//! busy connections fills what the others leave, and delays them by its share of a turn and not by its length. While
//! two tenants or more are busy, turns and visits are short; one alone has long ones, which cost it less. A task
//! that is spawned by another has the same tenant.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::local;
use super::task::TaskKey;
use crate::limits::{
    BYTES_PER_SHARED_TURN_MAX, SHARED_TURNS, SHARED_VISIT_BYTES_MAX, TASKS_PER_SHARED_TURN_MAX,
    TASKS_PER_TURN_MAX, TENANT_TASKS_MAX, VISIT_BYTES_MAX,
};

/// How many bytes one visit to a connection may move now.
///
/// # Panics
/// Outside of a runtime.
pub fn visit_bytes_max() -> usize {
    match local::expect_current("visit_bytes_max").ready.is_shared() {
        true => SHARED_VISIT_BYTES_MAX,
        false => VISIT_BYTES_MAX,
    }
}

/// Takes note that the task that runs has moved so many bytes, which is what its turn is measured by.
///
/// # Panics
/// Outside of a runtime.
pub fn moved_bytes(bytes: usize) {
    let ready = &local::expect_current("moved_bytes").ready;
    ready.moved_bytes.set(ready.moved_bytes.get() + bytes);
}

/// Who tasks belong to. The tasks that never got one belong to a tenant of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TenantId(u32);

/// A tenant for as long as it lives; see [`spawn_for`](super::spawn_for).
#[derive(Debug)]
pub struct Tenant {
    id: TenantId,
    vacant: Rc<RefCell<Vec<TenantId>>>,
}

impl Tenant {
    /// A tenant of this shard's.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn new() -> Tenant {
        local::expect_current("Tenant::new").ready.new_tenant()
    }

    pub(crate) fn id(&self) -> TenantId {
        self.id
    }
}

impl Default for Tenant {
    fn default() -> Tenant {
        Tenant::new()
    }
}

impl Drop for Tenant {
    /// Tasks that outlive their tenant share their turns with the next one.
    fn drop(&mut self) {
        self.vacant.borrow_mut().push(self.id);
    }
}

/// See the module's text.
pub(crate) struct Ready {
    queues: RefCell<Vec<VecDeque<TaskKey>>>,
    /// Tenants with ready tasks, in the order of their turns.
    rotation: RefCell<VecDeque<TenantId>>,
    vacant: Rc<RefCell<Vec<TenantId>>>,
    /// Whose task is being polled.
    pub(crate) current: Cell<TenantId>,
    turns: Cell<u64>,
    /// The turn from which on the shard is one tenant's alone.
    shared_until: Cell<u64>,
    /// In this turn.
    moved_bytes: Cell<usize>,
}

impl Default for Ready {
    fn default() -> Ready {
        Ready {
            queues: RefCell::new(vec![VecDeque::new()]),
            rotation: RefCell::default(),
            vacant: Rc::default(),
            current: Cell::default(),
            turns: Cell::default(),
            shared_until: Cell::default(),
            moved_bytes: Cell::default(),
        }
    }
}

impl Ready {
    fn new_tenant(&self) -> Tenant {
        let vacant = self.vacant.borrow_mut().pop();
        let id = vacant.unwrap_or_else(|| {
            let mut queues = self.queues.borrow_mut();
            queues.push(VecDeque::new());
            TenantId(queues.len() as u32 - 1)
        });
        Tenant { id, vacant: self.vacant.clone() }
    }

    pub(crate) fn push(&self, tenant: TenantId, key: TaskKey) {
        let mut queues = self.queues.borrow_mut();
        let queue = &mut queues[tenant.0 as usize];
        if queue.is_empty() {
            self.rotation.borrow_mut().push_back(tenant);
        }
        queue.push_back(key);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rotation.borrow().is_empty()
    }

    /// Moves the tasks of the next turn into `turn`.
    pub(crate) fn take_turn(&self, turn: &mut Vec<TaskKey>) {
        let mut queues = self.queues.borrow_mut();
        let mut rotation = self.rotation.borrow_mut();
        self.begin_turn(&rotation);
        let most = match self.is_shared() {
            true => TASKS_PER_SHARED_TURN_MAX,
            false => TASKS_PER_TURN_MAX,
        };
        while turn.len() < most {
            let Some(tenant) = rotation.pop_front() else { return };
            let queue = &mut queues[tenant.0 as usize];
            let taken = queue.len().min(TENANT_TASKS_MAX).min(most - turn.len());
            turn.extend(queue.drain(..taken));
            if !queue.is_empty() {
                rotation.push_back(tenant);
            }
        }
    }

    fn begin_turn(&self, rotation: &VecDeque<TenantId>) {
        let turn = self.turns.get() + 1;
        self.turns.set(turn);
        self.moved_bytes.set(0);
        let mut workloads = rotation.iter().filter(|tenant| **tenant != TenantId::default());
        if workloads.nth(1).is_some() {
            self.shared_until.set(turn + SHARED_TURNS);
        }
    }

    /// Whether more than one tenant was busy lately.
    fn is_shared(&self) -> bool {
        self.turns.get() < self.shared_until.get()
    }

    /// Whether this turn is over, whatever is left of it.
    pub(crate) fn is_turn_spent(&self) -> bool {
        self.moved_bytes.get() >= BYTES_PER_SHARED_TURN_MAX && self.is_shared()
    }

    /// Takes back what is left of a turn that is spent. Who spent it goes on behind the others.
    pub(crate) fn give_back(&self, rest: impl DoubleEndedIterator<Item = (TenantId, TaskKey)>) {
        let mut queues = self.queues.borrow_mut();
        let mut rotation = self.rotation.borrow_mut();
        let spender = self.current.get();
        for (tenant, key) in rest.rev() {
            let queue = &mut queues[tenant.0 as usize];
            queue.push_front(key);
            if tenant != spender {
                rotation.retain(|other| *other != tenant);
                rotation.push_front(tenant);
            } else if !rotation.contains(&tenant) {
                rotation.push_back(tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> TaskKey {
        TaskKey { index, generation: 0 }
    }

    fn turn(ready: &Ready) -> Vec<u32> {
        let mut turn = Vec::new();
        ready.take_turn(&mut turn);
        turn.into_iter().map(|key| key.index).collect()
    }

    #[test]
    fn a_tenant_alone_has_the_whole_turn_in_order() {
        let ready = Ready::default();
        let alone = ready.new_tenant();
        let all = 2 * TASKS_PER_TURN_MAX as u32 + 100;
        (0..all).for_each(|index| ready.push(alone.id(), key(index)));
        let first: Vec<_> = (0..TASKS_PER_TURN_MAX as u32).collect();
        assert_eq!(turn(&ready), first);
        assert_eq!(turn(&ready).len(), TASKS_PER_TURN_MAX);
        assert_eq!(turn(&ready).last(), Some(&(all - 1)));
        assert!(ready.is_empty() && turn(&ready).is_empty());
    }

    #[test]
    fn one_with_many_does_not_delay_one_with_few() {
        let ready = Ready::default();
        let (many, few) = (ready.new_tenant(), ready.new_tenant());
        (0..5000).for_each(|index| ready.push(many.id(), key(index)));
        ready.push(few.id(), key(9000));
        let first = turn(&ready);
        assert!(
            first.iter().position(|index| *index == 9000) <= Some(TENANT_TASKS_MAX),
            "{first:?}"
        );
        // What becomes ready meanwhile is not behind what waits for long.
        ready.push(few.id(), key(9001));
        assert!(turn(&ready).contains(&9001));
    }

    #[test]
    fn turns_are_short_for_as_long_as_there_are_two() {
        let ready = Ready::default();
        let (bulk, few) = (ready.new_tenant(), ready.new_tenant());
        let fill = || (0..400).for_each(|index| ready.push(bulk.id(), key(index)));
        fill();
        assert_eq!(turn(&ready).len(), 400, "alone");
        fill();
        ready.push(few.id(), key(9000));
        for _ in 0..SHARED_TURNS {
            let taken = turn(&ready);
            assert_eq!(taken.len(), TASKS_PER_SHARED_TURN_MAX);
            taken.iter().for_each(|index| ready.push(bulk.id(), key(*index)));
        }
        assert!(turn(&ready).len() > TASKS_PER_SHARED_TURN_MAX, "alone again");
    }

    #[test]
    fn who_has_spent_a_turn_goes_on_behind_the_others() {
        let ready = Ready::default();
        let (bulk, few, late) = (ready.new_tenant(), ready.new_tenant(), ready.new_tenant());
        (0..20).for_each(|index| ready.push(bulk.id(), key(index)));
        ready.push(few.id(), key(9000));
        let mut taken = turn(&ready);
        assert!(!ready.is_turn_spent());
        // The first two tasks, of `bulk`, move more than a turn's share.
        ready.current.set(bulk.id());
        ready.moved_bytes.set(BYTES_PER_SHARED_TURN_MAX);
        assert!(ready.is_turn_spent());
        ready.push(late.id(), key(9001));
        ready.push(bulk.id(), key(0));
        let of = |index: &u32| if *index == 9000 { few.id() } else { bulk.id() };
        ready.give_back(taken.drain(2..).map(|index| (of(&index), key(index))));
        let next = turn(&ready);
        let place = |wanted| next.iter().position(|index| *index == wanted);
        assert_eq!(place(9000), Some(0), "{next:?}");
        assert!(place(9001) < Some(1 + 2 * TENANT_TASKS_MAX), "{next:?}");
        let of_bulk: Vec<_> = next.iter().filter(|index| **index < 9000).copied().collect();
        assert_eq!(of_bulk, (2..20).chain([0]).collect::<Vec<_>>(), "nothing is lost or passed");
    }

    #[test]
    fn the_place_of_a_tenant_that_has_gone_is_used_again() {
        let ready = Ready::default();
        let gone = ready.new_tenant().id();
        ready.push(gone, key(1));
        assert_eq!(ready.new_tenant().id(), gone);
        assert_eq!(turn(&ready), [1]);
        assert_eq!(ready.queues.borrow().len(), 2);
    }
}
