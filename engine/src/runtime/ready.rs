//! The ready queue: whose task is polled next.
//!
//! Tasks belong to tenants, and a turn of the loop takes a few tasks of each tenant in rotation: one with thousands of
//! busy connections fills what the others leave, and delays them by its share of a turn and not by its length. A task
//! that is spawned by another has the same tenant.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::local;
use super::task::TaskKey;
use crate::limits::{TASKS_PER_TURN_MAX, TENANT_TASKS_MAX};

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
}

impl Default for Ready {
    fn default() -> Ready {
        Ready {
            queues: RefCell::new(vec![VecDeque::new()]),
            rotation: RefCell::default(),
            vacant: Rc::default(),
            current: Cell::default(),
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
        while turn.len() < TASKS_PER_TURN_MAX {
            let Some(tenant) = rotation.pop_front() else { return };
            let queue = &mut queues[tenant.0 as usize];
            let taken = queue.len().min(TENANT_TASKS_MAX);
            turn.extend(queue.drain(..taken));
            if !queue.is_empty() {
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
        (0..300).for_each(|index| ready.push(TenantId::default(), key(index)));
        let first: Vec<_> = (0..TASKS_PER_TURN_MAX as u32).collect();
        assert_eq!(turn(&ready), first);
        assert_eq!(turn(&ready).len(), TASKS_PER_TURN_MAX);
        assert_eq!(turn(&ready).last(), Some(&299));
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
    fn the_place_of_a_tenant_that_has_gone_is_used_again() {
        let ready = Ready::default();
        let gone = ready.new_tenant().id();
        ready.push(gone, key(1));
        assert_eq!(ready.new_tenant().id(), gone);
        assert_eq!(turn(&ready), [1]);
        assert_eq!(ready.queues.borrow().len(), 2);
    }
}
