//! The ready queue: whose task is polled next.
//!
//! Tasks belong to tenants, and a turn of the loop takes a few tasks of each tenant in rotation: one with thousands of
//! busy connections fills what the others leave, and delays them by its share of a turn and not by its length. While
//! two tenants or more are busy, turns and visits are short; one alone has long ones, which cost it less. A task
//! that is spawned by another has the same tenant.
//!
//! While the shard is shared, who becomes ready after a rest has a turn before those who have bulk to move, once for
//! each turn of theirs: the new flows of FQ-CoDel (RFC 8290 §4.2). That turn is its own, so that what it has to say
//! leaves at the end of it and not behind theirs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;

use super::current::{self, Entered, Place};
use super::key::TaskKey;
use crate::limits::{
    BULK_BYTES_MIN, BULK_TURNS, BYTES_PER_SHARED_TURN_MAX, SHARED_TURNS, SHARED_VISIT_BYTES_MAX,
    TASKS_PER_SHARED_TURN_MAX, TASKS_PER_TURN_MAX, TENANT_TASKS_MAX, VISIT_BYTES_MAX,
};

thread_local! {
    static CURRENT: Place<Ready> = const { RefCell::new(None) };
}

const _: () = assert!(BULK_BYTES_MIN <= SHARED_VISIT_BYTES_MAX);
const _: () = assert!(SHARED_VISIT_BYTES_MAX <= BYTES_PER_SHARED_TURN_MAX);

/// How many bytes one visit to a connection may move now.
///
/// # Panics
/// Outside of a runtime.
pub fn visit_bytes_max() -> usize {
    match expect_current("visit_bytes_max").is_shared() {
        true => SHARED_VISIT_BYTES_MAX,
        false => VISIT_BYTES_MAX,
    }
}

/// Takes note that the task that runs has moved so many bytes, which is what its turn is measured by.
///
/// # Panics
/// Outside of a runtime.
pub fn moved_bytes(bytes: usize) {
    expect_current("moved_bytes").moved(bytes);
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
        expect_current("Tenant::new").new_tenant()
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

/// What a tenant has ready, and when it had its turns.
#[derive(Debug, Default)]
struct Queue {
    ready: VecDeque<TaskKey>,
    /// The round after which it may come before the rotation again.
    fresh_after: u64,
    /// The turn in which it last moved something, and how much it did.
    moved_in_turn: u64,
    moved_bytes: usize,
    /// The turn up to which it counts as one with bulk to move.
    bulk_until: u64,
}

/// See the module's text.
pub(crate) struct Ready {
    queues: RefCell<Vec<Queue>>,
    /// Tenants with ready tasks who come before the rotation, in the order of their turns.
    fresh: RefCell<VecDeque<TenantId>>,
    /// The other tenants with ready tasks, in the order of their turns.
    rotation: RefCell<VecDeque<TenantId>>,
    vacant: Rc<RefCell<Vec<TenantId>>>,
    /// Whose task is being polled.
    pub(crate) current: Cell<TenantId>,
    turns: Cell<u64>,
    /// Turns of the rotation.
    rounds: Cell<u64>,
    /// The turn from which on the shard is one tenant's alone.
    shared_until: Cell<u64>,
    /// In this turn.
    moved_bytes: Cell<usize>,
    /// The main future of `block_on` is ready.
    main: Cell<bool>,
}

impl Default for Ready {
    fn default() -> Ready {
        Ready {
            queues: RefCell::new(vec![Queue::default()]),
            fresh: RefCell::default(),
            rotation: RefCell::default(),
            vacant: Rc::default(),
            current: Cell::default(),
            turns: Cell::default(),
            rounds: Cell::new(1),
            shared_until: Cell::default(),
            moved_bytes: Cell::default(),
            main: Cell::default(),
        }
    }
}

impl Ready {
    fn new_tenant(&self) -> Tenant {
        let vacant = self.vacant.borrow_mut().pop();
        let mut queues = self.queues.borrow_mut();
        let id = vacant.unwrap_or_else(|| {
            queues.push(Queue::default());
            TenantId(queues.len() as u32 - 1)
        });
        // Tasks that outlived the tenant before stay; what that one moved is not this one's.
        let queue = &mut queues[id.0 as usize];
        *queue = Queue { ready: mem::take(&mut queue.ready), ..Queue::default() };
        Tenant { id, vacant: self.vacant.clone() }
    }

    /// Queues a task whose place here the caller has claimed.
    pub(crate) fn push(&self, tenant: TenantId, key: TaskKey) {
        if key == TaskKey::MAIN {
            return self.main.set(true);
        }
        let mut queues = self.queues.borrow_mut();
        let queue = &mut queues[tenant.0 as usize];
        if queue.ready.is_empty() {
            self.line_up(tenant, queue);
        }
        queue.ready.push_back(key);
    }

    /// Where a tenant waits whose first task has become ready.
    fn line_up(&self, tenant: TenantId, queue: &mut Queue) {
        if self.is_shared() && queue.fresh_after < self.rounds.get() && !self.has_bulk(queue) {
            queue.fresh_after = self.rounds.get();
            self.fresh.borrow_mut().push_back(tenant);
        } else {
            self.rotation.borrow_mut().push_back(tenant);
        }
    }

    fn has_bulk(&self, queue: &Queue) -> bool {
        self.turns.get() < queue.bulk_until
    }

    pub(crate) fn is_empty(&self) -> bool {
        let is_empty = self.rotation.borrow().is_empty() && self.fresh.borrow().is_empty();
        is_empty && !self.main.get()
    }

    /// Whether the main future was ready; it is not any more.
    pub(crate) fn take_main(&self) -> bool {
        self.main.replace(false)
    }

    /// Moves the tasks of the next turn into `turn`.
    pub(crate) fn take_turn(&self, turn: &mut Vec<TaskKey>) {
        self.begin_turn();
        let most = match self.is_shared() {
            true => TASKS_PER_SHARED_TURN_MAX,
            false => TASKS_PER_TURN_MAX,
        };
        self.take_from(&self.fresh, most, turn);
        if !turn.is_empty() && self.is_shared() {
            return;
        }
        self.rounds.set(self.rounds.get() + 1);
        self.take_from(&self.rotation, most, turn);
    }

    /// Takes some tasks of each tenant in `line`; who has more goes on in the rotation.
    fn take_from(&self, line: &RefCell<VecDeque<TenantId>>, most: usize, turn: &mut Vec<TaskKey>) {
        let mut queues = self.queues.borrow_mut();
        while turn.len() < most {
            let Some(tenant) = line.borrow_mut().pop_front() else { return };
            let queue = &mut queues[tenant.0 as usize].ready;
            let taken = queue.len().min(TENANT_TASKS_MAX).min(most - turn.len());
            turn.extend(queue.drain(..taken));
            if !queue.is_empty() {
                self.rotation.borrow_mut().push_back(tenant);
            }
        }
    }

    fn begin_turn(&self) {
        let turn = self.turns.get() + 1;
        self.turns.set(turn);
        self.moved_bytes.set(0);
        let (fresh, rotation) = (self.fresh.borrow(), self.rotation.borrow());
        let busy = fresh.iter().chain(&*rotation);
        if busy.filter(|tenant| **tenant != TenantId::default()).nth(1).is_some() {
            self.shared_until.set(turn + SHARED_TURNS);
        }
    }

    fn moved(&self, bytes: usize) {
        self.moved_bytes.set(self.moved_bytes.get() + bytes);
        let turn = self.turns.get();
        let queue = &mut self.queues.borrow_mut()[self.current.get().0 as usize];
        if queue.moved_in_turn != turn {
            (queue.moved_in_turn, queue.moved_bytes) = (turn, 0);
        }
        queue.moved_bytes += bytes;
        if queue.moved_bytes >= BULK_BYTES_MIN {
            queue.bulk_until = turn + BULK_TURNS;
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
        let (mut fresh, mut rotation) = (self.fresh.borrow_mut(), self.rotation.borrow_mut());
        let spender = self.current.get();
        for (tenant, key) in rest.rev() {
            let queue = &mut queues[tenant.0 as usize];
            queue.ready.push_front(key);
            if tenant == spender {
                // One of its tasks may have woken another meanwhile.
                fresh.retain(|other| *other != tenant);
                if !rotation.contains(&tenant) {
                    rotation.push_back(tenant);
                }
                continue;
            }
            // It has not had its turn.
            rotation.retain(|other| *other != tenant);
            fresh.retain(|other| *other != tenant);
            if self.has_bulk(queue) {
                rotation.push_front(tenant);
            } else {
                queue.fresh_after = self.rounds.get();
                fresh.push_front(tenant);
            }
        }
    }
}

/// What is ready on this thread, if it is in the runtime named.
pub(crate) fn current_if(id: u32) -> Option<Rc<Ready>> {
    current::get_if(&CURRENT, id)
}

fn expect_current(what: &str) -> Rc<Ready> {
    current::expect(&CURRENT, what)
}

/// Makes `ready` the thread's until the guard is dropped.
pub(super) fn enter(id: u32, ready: &Rc<Ready>) -> Entered<Ready> {
    current::enter(&CURRENT, id, ready)
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
        ready.moved(BYTES_PER_SHARED_TURN_MAX);
        assert!(ready.is_turn_spent());
        ready.push(late.id(), key(9001));
        ready.push(bulk.id(), key(0));
        let of = |index: &u32| if *index == 9000 { few.id() } else { bulk.id() };
        ready.give_back(taken.split_off(2).into_iter().map(|index| (of(&index), key(index))));
        assert_eq!(turn(&ready), [9000, 9001], "by themselves, who has had no turn first");
        let first: Vec<_> = (2..2 + TENANT_TASKS_MAX as u32).collect();
        let mut of_bulk = turn(&ready);
        assert_eq!(of_bulk[..TENANT_TASKS_MAX], first);
        of_bulk.extend(turn(&ready));
        of_bulk.extend(turn(&ready));
        assert_eq!(of_bulk, (2..20).chain([0]).collect::<Vec<_>>(), "nothing is lost or passed");
    }

    #[test]
    fn who_becomes_ready_comes_before_bulk_once_for_each_of_its_turns() {
        let ready = Ready::default();
        let (bulk, few) = (ready.new_tenant(), ready.new_tenant());
        ready.push(bulk.id(), key(1));
        ready.push(few.id(), key(9000));
        assert_eq!(turn(&ready), [1, 9000], "nobody knows yet who has bulk to move");
        ready.current.set(bulk.id());
        ready.moved(BULK_BYTES_MIN);
        let wakes = |tenant: &Tenant, index| ready.push(tenant.id(), key(index));
        wakes(&bulk, 2);
        wakes(&few, 9001);
        assert_eq!(turn(&ready), [9001]);
        // As if it were ready again and again.
        wakes(&few, 9002);
        assert_eq!(turn(&ready), [2, 9002], "bulk has its turn");
        wakes(&bulk, 3);
        wakes(&few, 9003);
        assert_eq!((turn(&ready), turn(&ready)), (vec![9003], vec![3]));
        assert!(ready.is_empty());
    }

    #[test]
    fn who_has_stopped_moving_bulk_comes_first_again() {
        let ready = Ready::default();
        let (bulk, few) = (ready.new_tenant(), ready.new_tenant());
        let both = || {
            ready.push(few.id(), key(9000));
            ready.push(bulk.id(), key(1));
        };
        both();
        assert_eq!(turn(&ready), [9000, 1]);
        ready.current.set(bulk.id());
        ready.moved(BYTES_PER_SHARED_TURN_MAX);
        for _ in 0..BULK_TURNS / 2 {
            both();
            assert_eq!((turn(&ready), turn(&ready)), (vec![9000], vec![1]));
        }
        both();
        assert_eq!(turn(&ready), [9000, 1]);
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

    #[test]
    fn who_takes_a_place_has_moved_nothing() {
        let ready = Ready::default();
        let (other, bulk) = (ready.new_tenant(), ready.new_tenant());
        ready.push(other.id(), key(1));
        ready.push(bulk.id(), key(2));
        assert_eq!(turn(&ready), [1, 2], "shared from here on");
        ready.current.set(bulk.id());
        ready.moved(BULK_BYTES_MIN);
        drop(bulk);
        let next = ready.new_tenant();
        ready.push(other.id(), key(1));
        ready.push(next.id(), key(9000));
        assert_eq!(turn(&ready), [1, 9000], "both before the rotation");
        ready.push(other.id(), key(1));
        ready.push(next.id(), key(9000));
        assert!(ready.fresh.borrow().is_empty(), "each once for each turn of the rotation");
    }

    /// Visits tasks, and gives back what is left when a turn is spent. `visit` is told whose task it is, and returns how
    /// many bytes that moves.
    fn run_turn(ready: &Ready, mut visit: impl FnMut(&Ready, (TenantId, TaskKey)) -> usize) {
        let mut keys = Vec::new();
        ready.take_turn(&mut keys);
        // Who a task belongs to stands in its generation.
        let owned = keys.iter().map(|key| (TenantId(key.generation), *key));
        for (at, owned_key) in owned.clone().enumerate() {
            ready.current.set(owned_key.0);
            let bytes = visit(ready, owned_key);
            ready.moved(bytes);
            if at + 1 < keys.len() && ready.is_turn_spent() {
                ready.give_back(owned.skip(at + 1));
                break;
            }
        }
        let (fresh, rotation) = (ready.fresh.borrow(), ready.rotation.borrow());
        let mut waiting: Vec<u32> = fresh.iter().chain(&*rotation).map(|tenant| tenant.0).collect();
        waiting.sort_unstable();
        let all = waiting.len();
        waiting.dedup();
        assert_eq!(waiting.len(), all, "somebody waits twice: {fresh:?} {rotation:?}");
    }

    fn own(tenant: &Tenant, index: u32) -> TaskKey {
        TaskKey { index, generation: tenant.id().0 }
    }

    #[test]
    fn who_wakes_its_own_while_it_spends_a_turn_waits_once() {
        let ready = Ready::default();
        let tenants: Vec<Tenant> = (0..3).map(|_| ready.new_tenant()).collect();
        for tenant in &tenants {
            (0..8).for_each(|index| ready.push(tenant.id(), own(tenant, index)));
        }
        let last = tenants[2].id();
        let mut has_woken = false;
        run_turn(&ready, |ready, (tenant, _)| {
            if tenant == last && !has_woken {
                has_woken = true;
                ready.push(last, own(&tenants[2], 8));
            }
            BYTES_PER_SHARED_TURN_MAX.div_ceil(20)
        });
        assert!(has_woken && ready.fresh.borrow().is_empty());
        let mut rest = 0;
        while !ready.is_empty() {
            run_turn(&ready, |_, _| {
                rest += 1;
                0
            });
        }
        assert_eq!(rest, 5, "four that were given back, and the one that was woken");
    }
}
