//! Tasks, turns and time.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use ringway_engine::runtime::{
    ReactorChoice, Runtime, TaskEnd, Tenant, TrySendError, TurnEnd, at_turn_end, counters, mailbox,
    now, scratch, sleep, spawn, spawn_for, timeout, yield_now,
};

use super::harness::Case;
use super::support::run_on;

pub(crate) fn cases(choice: ReactorChoice, name: impl Fn(&str) -> String) -> Vec<Case> {
    let case = |title: &str, test: fn(ReactorChoice)| Case::new(name(title), move || test(choice));
    vec![
        case("a_task_tells_how_it_ended", a_task_tells_how_it_ended),
        case("a_panic_ends_one_task_only", a_panic_ends_one_task_only),
        case("a_task_may_abort_itself", a_task_may_abort_itself),
        case("a_turn_polls_what_was_ready_at_its_start", a_turn_polls_what_was_ready_at_its_start),
        case("the_reactor_is_seen_while_tasks_are_busy", the_reactor_is_seen_while_tasks_are_busy),
        case("a_tenant_with_many_busy_tasks_does_not_delay_another", a_busy_tenant),
        case("turn_end_comes_after_the_tasks_and_once", turn_end_comes_after_the_tasks_and_once),
        case("timers_fire_in_order_and_never_early", timers_fire_in_order_and_never_early),
        case("a_timeout_cuts_and_a_dropped_sleep_is_gone", a_timeout_cuts),
        case("another_thread_wakes_a_sleeping_shard", another_thread_wakes_a_sleeping_shard),
        case("a_mailbox_is_bounded_and_ends", a_mailbox_is_bounded_and_ends),
        case("scratch_may_be_used_inside_scratch", scratch_may_be_used_inside_scratch),
        case("a_dropped_runtime_drops_its_tasks", a_dropped_runtime_drops_its_tasks),
    ]
}

fn a_task_tells_how_it_ended(choice: ReactorChoice) {
    run_on(choice, async {
        let done = spawn(async {});
        assert_eq!(done.await, TaskEnd::Completed);
        let stuck = spawn(pending());
        stuck.abort();
        assert!(stuck.is_finished());
        assert_eq!(stuck.await, TaskEnd::Aborted);
        let late = spawn(async { sleep(Duration::from_millis(5)).await });
        assert!(!late.is_finished());
        assert_eq!(late.await, TaskEnd::Completed);
    });
}

/// One tenant has two thousand tasks that are always ready, another has one: it has its turn in every turn.
fn a_busy_tenant(choice: ReactorChoice) {
    const BUSY: usize = 2000;
    const STEPS: u64 = 20;
    run_on(choice, async {
        let (busy, quiet) = (Tenant::new(), Tenant::new());
        let tasks: Vec<_> = (0..BUSY)
            .map(|_| {
                spawn_for(&busy, async {
                    loop {
                        yield_now().await;
                    }
                })
            })
            .collect();
        yield_now().await;
        let before = counters();
        let steps = spawn_for(&quiet, async {
            // What a task spawns is its tenant's.
            let inner = spawn(async {
                for _ in 0..STEPS {
                    yield_now().await;
                }
            });
            inner.await;
        });
        steps.await;
        let turns = counters().turns - before.turns;
        let polls = counters().polls - before.polls;
        assert!(turns <= STEPS + 10, "{turns} turns for {STEPS} steps");
        assert!(polls < 20 * BUSY as u64 / 4, "{polls} polls of others for {STEPS} steps");
        tasks.iter().for_each(ringway_engine::runtime::Task::abort);
    });
}

fn a_panic_ends_one_task_only(choice: ReactorChoice) {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a destructor, on purpose");
        }
    }
    run_on(choice, async {
        let survivor = spawn(async { sleep(Duration::from_millis(20)).await });
        let victim = spawn(async {
            yield_now().await;
            panic!("in a task, on purpose");
        });
        let bomb = spawn(async {
            let _bomb = Bomb;
            pending::<()>().await;
        });
        yield_now().await;
        bomb.abort();
        assert_eq!(victim.await, TaskEnd::Panicked);
        assert_eq!(bomb.await, TaskEnd::Aborted);
        assert_eq!(survivor.await, TaskEnd::Completed);
        assert_eq!(counters().panics, 2);
    });
}

fn a_task_may_abort_itself(choice: ReactorChoice) {
    run_on(choice, async {
        let handle = Rc::new(RefCell::new(None::<ringway_engine::runtime::Task>));
        let own = handle.clone();
        let reached = Rc::new(Cell::new(0));
        let marks = reached.clone();
        *handle.borrow_mut() = Some(spawn(async move {
            own.borrow().as_ref().expect("set before the first poll").abort();
            marks.set(1);
            yield_now().await;
            marks.set(2);
        }));
        yield_now().await;
        yield_now().await;
        assert!(handle.borrow().as_ref().expect("set").is_finished());
        assert_eq!(reached.get(), 1, "the running poll ends, the next never begins");
    });
}

/// Two tasks that wake each other for ever: neither gets a second poll in one turn.
fn a_turn_polls_what_was_ready_at_its_start(choice: ReactorChoice) {
    run_on(choice, async {
        let log = Rc::new(RefCell::new(Vec::new()));
        for id in 0..3 {
            let log = log.clone();
            spawn(async move {
                for _ in 0..3 {
                    log.borrow_mut().push((id, counters().turns));
                    yield_now().await;
                }
            });
        }
        sleep(Duration::from_millis(5)).await;
        let log = log.take();
        assert_eq!(log.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2, 0, 1, 2]);
        let turns: Vec<u64> = log.iter().map(|(_, turn)| *turn).collect();
        assert!(turns[0] == turns[2] && turns[3] == turns[5] && turns[2] < turns[3]);
    });
}

fn the_reactor_is_seen_while_tasks_are_busy(choice: ReactorChoice) {
    run_on(choice, async {
        let busy = spawn(async {
            loop {
                yield_now().await;
            }
        });
        let (dialled, accepted) = super::support::pair().await;
        super::support::write_all(&dialled, b"through").await.expect("room");
        let mut buffer = [0; 7];
        super::support::read_exact(&accepted, &mut buffer).await.expect("bytes");
        sleep(Duration::from_millis(10)).await;
        busy.abort();
    });
}

struct Hook {
    calls: RefCell<Vec<(u64, u32)>>,
    polled: Cell<u32>,
    again: Cell<bool>,
}

impl TurnEnd for Hook {
    fn turn_end(self: Rc<Self>) {
        self.calls.borrow_mut().push((counters().turns, self.polled.get()));
        if self.again.replace(false) {
            at_turn_end(self);
        }
    }
}

fn turn_end_comes_after_the_tasks_and_once(choice: ReactorChoice) {
    run_on(choice, async {
        let hook = Rc::new(Hook {
            calls: RefCell::default(),
            polled: Cell::new(0),
            again: Cell::new(true),
        });
        for _ in 0..5 {
            let hook = hook.clone();
            spawn(async move {
                hook.polled.set(hook.polled.get() + 1);
                if hook.polled.get() == 1 {
                    at_turn_end(hook);
                }
            });
        }
        sleep(Duration::from_millis(20)).await;
        let calls = hook.calls.take();
        assert_eq!(calls.len(), 2, "once for each time it was asked for: {calls:?}");
        assert!(calls.iter().all(|(_, polled)| *polled == 5), "after all tasks of the turn");
        assert_eq!(calls[1].0, calls[0].0 + 1, "asked for at a turn's end: at the next one's");
    });
}

fn timers_fire_in_order_and_never_early(choice: ReactorChoice) {
    run_on(choice, async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = [30_u64, 10, 70, 1, 130, 0]
            .into_iter()
            .map(|millis| {
                let order = order.clone();
                spawn(async move {
                    let begun = Instant::now();
                    sleep(Duration::from_millis(millis)).await;
                    // `now` is read once a turn, so the sleep may have begun a little before
                    // `begun`.
                    let taken = begun.elapsed() + Duration::from_millis(5);
                    assert!(taken >= Duration::from_millis(millis), "{millis} ms took {taken:?}");
                    order.borrow_mut().push(millis);
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await, TaskEnd::Completed);
        }
        assert_eq!(*order.borrow(), [0, 1, 10, 30, 70, 130]);
    });
}

fn a_timeout_cuts(choice: ReactorChoice) {
    run_on(choice, async {
        assert!(timeout(Duration::from_millis(10), pending::<()>()).await.is_err());
        assert_eq!(timeout(Duration::ZERO, async { 7 }).await, Ok(7), "what is ready wins");
        // Ten thousand timers come and go; none of them wakes anybody later.
        let before = counters().polls;
        for _ in 0..10_000 {
            let _ = timeout(Duration::from_millis(1), poll_fn(|_| Poll::Ready(()))).await;
            let mut sleep = Box::pin(sleep(Duration::from_millis(1)));
            poll_fn(|cx| {
                assert!(sleep.as_mut().poll(cx).is_pending() || sleep.is_elapsed());
                Poll::Ready(())
            })
            .await;
        }
        sleep(Duration::from_millis(20)).await;
        assert_eq!(counters().polls, before, "the test itself is no task");
        assert!(now() <= Instant::now());
    });
}

fn another_thread_wakes_a_sleeping_shard(choice: ReactorChoice) {
    run_on(choice, async {
        let (to_shard, mut from_thread) = mailbox::<u32>(4);
        let (to_thread, at_thread) = std::sync::mpsc::channel::<u32>();
        let thread = std::thread::spawn(move || {
            for number in at_thread {
                to_shard.try_send(number + 1).expect("room");
            }
        });
        // Each round trip finds the shard asleep or about to be: a lost wake-up stops the test.
        let mut number = 0;
        while number < 5_000 {
            to_thread.send(number).expect("the thread listens");
            number = from_thread.recv().await.expect("an answer");
        }
        drop(to_thread);
        thread.join().expect("the thread ends");
        assert!(counters().remote_wakes > 0);
    });
}

fn a_mailbox_is_bounded_and_ends(choice: ReactorChoice) {
    run_on(choice, async {
        let (sender, mut receiver) = mailbox(2);
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.clone().try_send(2), Ok(()));
        assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
        assert_eq!(receiver.recv().await, Some(1));
        let waiting = spawn(async move {
            assert_eq!(receiver.recv().await, Some(2));
            assert_eq!(receiver.recv().await, None, "no sender is left");
        });
        yield_now().await;
        drop(sender);
        assert_eq!(waiting.await, TaskEnd::Completed);
        let (sender, receiver) = mailbox(1);
        drop(receiver);
        assert_eq!(sender.try_send(1), Err(TrySendError::Closed(1)));
    });
}

fn scratch_may_be_used_inside_scratch(choice: ReactorChoice) {
    run_on(choice, async {
        let first = scratch(|outer| {
            outer[0] = 1;
            scratch(|inner| assert_eq!(inner[0], 0, "a fresh one"));
            outer.as_ptr() as usize
        });
        assert_eq!(counters().scratch_nested, 1);
        let task = spawn(async { scratch(|_| panic!("with the scratch in hand, on purpose")) });
        assert_eq!(task.await, TaskEnd::Panicked);
        assert_ne!(scratch(|anew| anew.len()), 0);
        assert_ne!(first, 0);
    });
}

fn a_dropped_runtime_drops_its_tasks(choice: ReactorChoice) {
    struct Respawn(Rc<Cell<u32>>);
    impl Drop for Respawn {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            if self.0.get() < 5 {
                let next = Respawn(self.0.clone());
                spawn(async move {
                    let _next = next;
                    pending::<()>().await;
                });
            }
        }
    }
    let dropped = Rc::new(Cell::new(0));
    let (runtime, _) = Runtime::new(choice).expect("a runtime");
    let first = Respawn(dropped.clone());
    let mut task = None;
    runtime.block_on(async {
        task = Some(spawn(async move {
            let _first = first;
            pending::<()>().await;
        }));
    });
    assert_eq!(runtime.tasks(), 1);
    drop(runtime);
    assert_eq!(dropped.get(), 5, "also those that destructors spawn");
    assert!(task.expect("spawned").is_finished());
}
