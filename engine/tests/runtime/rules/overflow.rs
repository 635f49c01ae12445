//! U4: a completion queue that is far too small loses nobody.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ringway_engine::runtime::{
    ReactorChoice, RingSizes, Runtime, RuntimeOptions, counters, sleep, spawn,
};

use super::super::children::clients;
use super::super::harness::{Case, Need};
use super::super::support::{listen, read, read_exact};

pub(crate) fn cases() -> Vec<Case> {
    [8, 32]
        .into_iter()
        .map(|completions| {
            let name = format!("rules::u4_a_queue_of_{completions}_loses_nobody[ring]");
            Case::new(name, move || burst(completions)).needs(Need::Ring)
        })
        .collect()
}

fn burst(completions: u32) {
    const CLIENTS: usize = 1_000;
    const ROUNDS: usize = 5;
    let ring = RingSizes { submissions: 4, completions };
    let options = RuntimeOptions { reactor: ReactorChoice::Ring, ring };
    let (runtime, _) = Runtime::with_options(&options).expect("a runtime");
    runtime.block_on(async {
        let (served, left) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (listener, address) = listen();
        let (count, gone) = (served.clone(), left.clone());
        spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a working listener");
                let (count, gone) = (count.clone(), gone.clone());
                spawn(async move {
                    let mut byte = [0];
                    read_exact(&stream, &mut byte).await.expect("its byte");
                    count.set(count.get() + 1);
                    while read(&stream, &mut byte).await.is_ok_and(|got| got > 0) {}
                    gone.set(gone.get() + 1);
                });
            }
        });
        for round in 1..=ROUNDS {
            let mut child = clients(address, CLIENTS);
            // Stuck here when a connection was lost: the harness ends it.
            while served.get() < round * CLIENTS {
                // A stall, so that the kernel has more to tell than fits.
                std::thread::sleep(Duration::from_millis(2));
                sleep(Duration::from_millis(1)).await;
            }
            if round == ROUNDS {
                settles().await;
            }
            child.kill().expect("still there");
            child.wait().expect("gone");
        }
        while left.get() < ROUNDS * CLIENTS {
            sleep(Duration::from_millis(5)).await;
        }
        settles().await;
        let counters = counters();
        println!(
            "    {} overflows seen, {} armed again, {} submissions delayed",
            counters.completion_overflows, counters.rearmed, counters.submissions_delayed
        );
        assert!(counters.completion_overflows > 0, "the queue was too large for this test");
        assert!(counters.rearmed > 0, "an overflow ends multishots");
    });
}

/// When the burst is over it is over, however many connections are open: nothing keeps arming itself.
async fn settles() {
    sleep(Duration::from_millis(300)).await;
    let before = counters();
    sleep(Duration::from_millis(200)).await;
    let after = counters();
    let turns = after.turns - before.turns;
    assert!(turns < 20 && after.rearmed == before.rearmed, "{turns} turns while idle");
}
