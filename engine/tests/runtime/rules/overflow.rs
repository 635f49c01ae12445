//! U4: a completion queue that is far too small loses nobody, and comes to rest.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use ringway_engine::runtime::{
    ReactorChoice, RingSizes, Runtime, RuntimeOptions, TcpStream, counters, sleep, spawn,
};

use super::super::children::clients;
use super::super::harness::{Case, Need};
use super::super::support::{listen, read};

const CLIENTS: usize = 1_000;
const ROUNDS: usize = 3;

pub(crate) fn cases() -> Vec<Case> {
    [8, 32]
        .into_iter()
        .map(|completions| {
            let name = format!("rules::u4_a_queue_of_{completions}_loses_nobody[ring]");
            Case::new(name, move || bursts(completions)).needs(Need::Ring)
        })
        .collect()
}

/// What the server has seen.
#[derive(Default)]
struct Seen {
    open: RefCell<Vec<Rc<TcpStream>>>,
    bytes: Cell<usize>,
    ends: Cell<usize>,
}

fn bursts(completions: u32) {
    let ring = RingSizes { submissions: 4, completions };
    let options = RuntimeOptions { reactor: ReactorChoice::Ring, ring };
    let (runtime, _) = Runtime::with_options(&options).expect("a runtime");
    runtime.block_on(async {
        let (listener, address) = listen();
        let seen = Rc::new(Seen::default());
        let of_server = seen.clone();
        spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a working listener");
                spawn(serve(Rc::new(stream), of_server.clone()));
            }
        });
        for round in 1..=ROUNDS {
            let mut child = clients(address, CLIENTS);
            until(|| seen.bytes.get() >= (2 * round - 1) * CLIENTS).await;
            // All of them become ready at once, while nobody looks.
            for stream in seen.open.borrow().iter() {
                assert_eq!(stream.try_write(b"x").expect("room"), 1);
            }
            std::thread::sleep(Duration::from_millis(200));
            until(|| seen.bytes.get() >= 2 * round * CLIENTS).await;
            rests().await;
            child.kill().expect("still there");
            child.wait().expect("gone");
            until(|| seen.ends.get() >= round * CLIENTS).await;
        }
        rests().await;
        let counters = counters();
        println!(
            "    {} overflows seen, {} armed again, {} submissions delayed",
            counters.completion_overflows, counters.rearmed, counters.submissions_delayed
        );
        assert!(counters.completion_overflows > 0, "the queue was too large for this test");
        assert!(counters.rearmed > 0, "an overflow ends multishots");
    });
}

async fn serve(stream: Rc<TcpStream>, seen: Rc<Seen>) {
    seen.open.borrow_mut().push(stream.clone());
    while read(&stream, &mut [0]).await.is_ok_and(|got| got > 0) {
        seen.bytes.set(seen.bytes.get() + 1);
    }
    seen.open.borrow_mut().retain(|open| !Rc::ptr_eq(open, &stream));
    seen.ends.set(seen.ends.get() + 1);
}

/// Stuck when a connection was lost: the harness ends it.
async fn until(done: impl Fn() -> bool) {
    while !done() {
        sleep(Duration::from_millis(2)).await;
    }
}

/// When a burst is over it is over, however many connections are open: nothing keeps arming itself.
async fn rests() {
    sleep(Duration::from_millis(300)).await;
    let before = counters();
    sleep(Duration::from_millis(200)).await;
    let after = counters();
    let turns = after.turns - before.turns;
    assert!(turns < 20 && after.rearmed == before.rearmed, "{turns} turns while idle");
}
