//! U3: whatever is cancelled, and whenever, the descriptor count comes back exactly.

use std::rc::Rc;
use std::time::Duration;

use ringway_engine::runtime::{
    ReactorChoice, RingSizes, Runtime, RuntimeOptions, Task, counters, random, sleep, spawn,
    timeout, yield_now,
};

use super::super::harness::Case;
use super::super::support::{descriptors, dial, echo, listen, read, write_all};

pub(crate) fn cases(choice: ReactorChoice, name: impl Fn(&str) -> String) -> Vec<Case> {
    let case = |title: &str, ring: RingSizes| {
        let options = RuntimeOptions { reactor: choice, ring };
        Case::new(name(title), move || cancel_everything(&options))
    };
    vec![
        case("u3_nothing_is_lost_by_cancelling", RingSizes::default()),
        case(
            "u3_nor_with_four_submissions_at_a_time",
            RingSizes { submissions: 4, completions: 64 },
        ),
    ]
}

/// Tasks in the middle of accept, connect, read and write, dropped at random points.
fn cancel_everything(options: &RuntimeOptions) {
    const ROUNDS: usize = 3_000;
    let before = descriptors();
    let (runtime, _) = Runtime::with_options(options).expect("a runtime");
    runtime.block_on(async {
        let inside = descriptors();
        let mut tasks: Vec<Task> = Vec::new();
        let (listener, address) = listen();
        let listener = Rc::new(listener);
        for _ in 0..ROUNDS {
            let listener = listener.clone();
            tasks.push(match random() % 4 {
                0 => spawn(async move {
                    if let Ok((stream, _)) = listener.accept().await {
                        echo(stream).await;
                    }
                }),
                1 => spawn(async move {
                    let Ok(stream) = dial(address).await else { return };
                    let _ = write_all(&stream, &vec![1; 1 << (random() % 20)]).await;
                    let _ = read(&stream, &mut [0; 1024]).await;
                }),
                2 => spawn(async move {
                    // A listener of its own, dropped with a connection perhaps on its way.
                    let (own, address) = listen();
                    let client = spawn(async move { drop(dial(address).await) });
                    let _ = timeout(Duration::from_millis(random() % 3), own.accept()).await;
                    client.abort();
                }),
                _ => spawn(async move {
                    if let Ok(stream) = dial(address).await {
                        match random() % 3 {
                            0 => stream.abort(),
                            1 => drop(stream.detach().attach()),
                            _ => stream.closed().await,
                        }
                    }
                }),
            });
            match random() % 8 {
                0 => sleep(Duration::from_millis(1)).await,
                1..4 => yield_now().await,
                _ => {}
            }
            while tasks.len() > 64 {
                let victim = random() as usize % tasks.len();
                tasks.swap_remove(victim).abort();
            }
        }
        for task in &tasks {
            task.abort();
        }
        drop(tasks);
        drop(listener);
        // Tasks that a cancelled task had spawned, and the kernel's last words, take a few turns.
        for _ in 0..200 {
            sleep(Duration::from_millis(1)).await;
        }
        // Not only when the runtime goes: while it lives, too.
        assert_eq!(descriptors(), inside, "the reactor holds on to something");
        let counters = counters();
        assert!(counters.accepted > 0 && counters.panics == 0, "{counters:?}");
        println!("    {} accepted, {} late", counters.accepted, counters.late_accepts_closed);
    });
    drop(runtime);
    assert_eq!(descriptors(), before, "a descriptor leaked, or one too many was closed");
}
