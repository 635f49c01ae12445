//! The timer wheel: six levels of 64 slots, one millisecond per tick, constant time to set and
//! cancel.
//!
//! A timer sits in the coarsest slot that still separates it from now; when that slot comes up, its
//! timers move one level down, and those of the lowest level fire. Deadlines beyond the wheel's
//! reach (about two years) wait in its last level and are placed anew when it comes round.
//!
//! It promises never to fire early: deadlines are rounded up to a tick, the clock is rounded down.

use std::task::Waker;
use std::time::{Duration, Instant};

use slab::Slab;

const LEVELS: usize = 6;
const SLOT_BITS: usize = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// What the wheel can tell apart; later deadlines are placed at this distance and moved on from
/// there.
const REACH_TICKS: u64 = 1 << (LEVELS * SLOT_BITS);
const NONE: u32 = u32::MAX;

/// Names one set timer; stale once the timer fired or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    index: u32,
    generation: u32,
}

/// All timers of one shard.
#[derive(Debug)]
pub(crate) struct Wheel {
    base: Instant,
    /// Ticks up to here have been dealt with.
    elapsed: u64,
    generation: u32,
    timers: Slab<Timer>,
    occupied: [u64; LEVELS],
    heads: Box<[[u32; SLOTS]; LEVELS]>,
}

#[derive(Debug)]
struct Timer {
    due: u64,
    waker: Waker,
    generation: u32,
    previous: u32,
    next: u32,
    level: u8,
    slot: u8,
}

impl Wheel {
    pub(crate) fn new(base: Instant) -> Wheel {
        Wheel {
            base,
            elapsed: 0,
            generation: 0,
            timers: Slab::new(),
            occupied: [0; LEVELS],
            heads: Box::new([[NONE; SLOTS]; LEVELS]),
        }
    }

    /// Sets a timer. A deadline that has passed fires at the next [`advance`](Wheel::advance).
    pub(crate) fn insert(&mut self, deadline: Instant, waker: Waker) -> TimerKey {
        let due = self.tick_after(deadline).max(self.elapsed + 1);
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let index = self.timers.insert(Timer {
            due,
            waker,
            generation,
            previous: NONE,
            next: NONE,
            level: 0,
            slot: 0,
        }) as u32;
        self.link(index);
        TimerKey { index, generation }
    }

    /// Replaces whom a waiting timer wakes; the former one, if another, is the caller's to drop
    /// outside of any borrow. `None` when the timer has fired already.
    pub(crate) fn rewake(&mut self, key: TimerKey, waker: &Waker) -> Option<Option<Waker>> {
        let timer = self.timers.get_mut(key.index as usize)?;
        if timer.generation != key.generation {
            return None;
        }
        let other = !timer.waker.will_wake(waker);
        Some(other.then(|| std::mem::replace(&mut timer.waker, waker.clone())))
    }

    /// Removes a timer and returns its waker, which the caller drops outside of any borrow.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<Waker> {
        let timer = self.timers.get(key.index as usize)?;
        if timer.generation != key.generation {
            return None;
        }
        self.unlink(key.index);
        Some(self.timers.remove(key.index as usize).waker)
    }

    /// Moves the wheel to `now` and hands the wakers of all due timers to `fired`, earliest first.
    pub(crate) fn advance(&mut self, now: Instant, fired: &mut Vec<Waker>) {
        let now = self.tick_before(now);
        while let Some((level, slot, at)) = self.next_slot() {
            if at > now {
                break;
            }
            self.elapsed = at;
            self.take_slot(level, slot, fired);
        }
        self.elapsed = self.elapsed.max(now);
    }

    /// Timers that are set.
    #[cfg(feature = "sim")]
    pub(crate) fn set(&self) -> usize {
        self.timers.len()
    }

    /// Whether a timer that is due was left behind: it would never fire, or for ever.
    #[cfg(feature = "sim")]
    pub(crate) fn is_late(&self) -> bool {
        self.timers.iter().any(|(_, timer)| timer.due <= self.elapsed)
    }

    /// The latest moment by which [`advance`](Wheel::advance) must be called again.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.next_slot().map(|(_, _, at)| self.base + Duration::from_millis(at))
    }

    fn take_slot(&mut self, level: usize, slot: usize, fired: &mut Vec<Waker>) {
        let mut index = std::mem::replace(&mut self.heads[level][slot], NONE);
        self.occupied[level] &= !(1 << slot);
        while index != NONE {
            let next = self.timers[index as usize].next;
            if self.timers[index as usize].due <= self.elapsed {
                fired.push(self.timers.remove(index as usize).waker);
            } else {
                self.link(index);
            }
            index = next;
        }
    }

    /// The next slot to look at: level, slot, and the tick at which it begins.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        (0..LEVELS).find_map(|level| {
            if self.occupied[level] == 0 {
                return None;
            }
            let shift = level * SLOT_BITS;
            let current = (self.elapsed >> shift) as usize % SLOTS;
            // The slot under the hand comes last: only a whole turn away can anything wait in it.
            let ahead = self.occupied[level].rotate_right(current as u32 + 1).trailing_zeros();
            let slot = (current + 1 + ahead as usize) % SLOTS;
            let turn = 1_u64 << (shift + SLOT_BITS);
            let mut at = (self.elapsed & !(turn - 1)) + ((slot as u64) << shift);
            // A slot at or before the hand belongs to the next turn; only the last level has any.
            if at <= self.elapsed {
                at += turn;
            }
            Some((level, slot, at))
        })
    }

    fn link(&mut self, index: u32) {
        let timer = &self.timers[index as usize];
        let due = timer.due.min(self.elapsed + REACH_TICKS - 1);
        let level = level_for(self.elapsed, due);
        let slot = (due >> (level * SLOT_BITS)) as usize % SLOTS;
        let head = std::mem::replace(&mut self.heads[level][slot], index);
        if head != NONE {
            self.timers[head as usize].previous = index;
        }
        let timer = &mut self.timers[index as usize];
        (timer.level, timer.slot) = (level as u8, slot as u8);
        (timer.previous, timer.next) = (NONE, head);
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, index: u32) {
        let timer = &self.timers[index as usize];
        let (level, slot) = (timer.level as usize, timer.slot as usize);
        let (previous, next) = (timer.previous, timer.next);
        match previous {
            NONE => self.heads[level][slot] = next,
            before => self.timers[before as usize].next = next,
        }
        if next != NONE {
            self.timers[next as usize].previous = previous;
        }
        if self.heads[level][slot] == NONE {
            self.occupied[level] &= !(1 << slot);
        }
    }

    fn tick_before(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.base).as_millis() as u64
    }

    fn tick_after(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.base);
        since.as_nanos().div_ceil(1_000_000).min(u128::from(u64::MAX / 2)) as u64
    }
}

/// The coarsest level on which `elapsed` and `due` still differ.
fn level_for(elapsed: u64, due: u64) -> usize {
    let differing = ((elapsed ^ due) | (SLOTS as u64 - 1)).min(REACH_TICKS - 1);
    (63 - differing.leading_zeros() as usize) / SLOT_BITS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    /// A waker that remembers that it was called.
    #[derive(Default)]
    struct Bell(AtomicU64);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn ring(wheel: &mut Wheel, now: Instant) {
        let mut fired = Vec::new();
        wheel.advance(now, &mut fired);
        fired.into_iter().for_each(Waker::wake);
    }

    #[test]
    fn a_timer_is_never_early_and_at_most_one_tick_late() {
        let base = Instant::now();
        let mut wheel = Wheel::new(base);
        let bell = Arc::new(Bell::default());
        wheel.insert(base + Duration::from_micros(1500), bell.clone().into());
        ring(&mut wheel, base + Duration::from_micros(1999));
        assert_eq!(bell.0.load(Ordering::Relaxed), 0);
        ring(&mut wheel, base + Duration::from_millis(2));
        assert_eq!(bell.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_deadline_beyond_the_wheels_reach_fires_on_its_day() {
        let base = Instant::now();
        let mut wheel = Wheel::new(base);
        let bell = Arc::new(Bell::default());
        let years = Duration::from_secs(5 * 365 * 86_400);
        wheel.insert(base + years, bell.clone().into());
        let mut wakeups = 0;
        while let Some(next) = wheel.next_deadline() {
            assert_eq!(bell.0.load(Ordering::Relaxed), 0);
            ring(&mut wheel, next);
            wakeups += 1;
        }
        assert_eq!(bell.0.load(Ordering::Relaxed), 1);
        assert!(wakeups < 16, "{wakeups} wake-ups for one long timer");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Cancel(usize),
        Advance(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let delay = prop_oneof![0..200_u64, 0..100_000_u64, 0..(1_u64 << 40)];
        let step = prop_oneof![
            4 => delay.clone().prop_map(Step::Insert),
            1 => any::<usize>().prop_map(Step::Cancel),
            3 => delay.prop_map(Step::Advance),
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        /// Against a sorted map: the same timers fire at the same advance, whatever the order.
        #[test]
        fn fires_exactly_what_a_sorted_map_would(steps in steps()) {
            let base = Instant::now();
            let mut wheel = Wheel::new(base);
            let mut model: BTreeMap<u64, (u64, TimerKey, Arc<Bell>)> = BTreeMap::new();
            let (mut now, mut serial) = (0_u64, 0_u64);
            for step in steps {
                match step {
                    Step::Insert(delay) => {
                        let bell = Arc::new(Bell::default());
                        let due = now + delay;
                        let key = wheel.insert(base + Duration::from_millis(due), bell.clone().into());
                        serial += 1;
                        model.insert(serial, (due.max(now + 1), key, bell));
                    }
                    Step::Cancel(pick) if !model.is_empty() => {
                        let serial = *model.keys().nth(pick % model.len()).expect("in range");
                        let (_, key, bell) = model.remove(&serial).expect("just found");
                        prop_assert!(wheel.cancel(key).is_some());
                        prop_assert!(wheel.cancel(key).is_none());
                        prop_assert_eq!(bell.0.load(Ordering::Relaxed), 0);
                    }
                    Step::Cancel(_) => {}
                    Step::Advance(by) => {
                        now += by;
                        ring(&mut wheel, base + Duration::from_millis(now));
                        for (due, _, bell) in model.values() {
                            prop_assert_eq!(bell.0.load(Ordering::Relaxed), u64::from(*due <= now));
                        }
                        model.retain(|_, (due, _, _)| *due > now);
                    }
                }
                prop_assert_eq!(wheel.timers.len(), model.len());
                let earliest = model.values().map(|(due, _, _)| *due).min();
                let next = wheel.next_deadline().map(|at| (at - base).as_millis() as u64);
                prop_assert_eq!(earliest.is_some(), next.is_some());
                prop_assert!(next.zip(earliest).is_none_or(|(next, due)| now < next && next <= due));
            }
        }
    }
}
