//! Listeners: bursts, exhaustion, hand-over.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringway_engine::runtime::{
    DESCRIPTOR_RESERVE, ListenOptions, ReactorChoice, TaskEnd, TcpListener, counters, sleep, spawn,
    timeout, yield_now,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::harness::Case;
use super::support::{
    descriptors, dial, echo, here, listen, local, pair, read_exact, run_on, write_all,
};

pub(crate) fn cases(choice: ReactorChoice, name: impl Fn(&str) -> String) -> Vec<Case> {
    let case = |title: &str, test: fn(ReactorChoice)| Case::new(name(title), move || test(choice));
    vec![
        case("two_listeners_share_a_port", two_listeners_share_a_port),
        case("no_descriptors_is_a_pause_and_no_spin", no_descriptors_is_a_pause_and_no_spin),
        case("a_reserve_of_descriptors_is_kept", a_reserve_of_descriptors_is_kept),
        case("a_stopped_listener_loses_nobody", a_stopped_listener_loses_nobody),
        case(
            "a_stopped_listener_keeps_nobody_from_its_heir",
            a_stopped_listener_keeps_nobody_from_its_heir,
        ),
        case("a_closed_listener_gets_nobody_any_more", a_closed_listener_gets_nobody_any_more),
        case("a_dropped_listener_leaks_nothing", a_dropped_listener_leaks_nothing),
        case("a_connection_that_comes_too_late_is_closed", a_connection_that_comes_too_late),
        case("an_idle_listener_bounds_what_it_takes", an_idle_listener_bounds_what_it_takes),
        case("peers_that_leave_at_once_are_no_trouble", peers_that_leave_at_once_are_no_trouble),
    ]
}

fn two_listeners_share_a_port(choice: ReactorChoice) {
    run_on(choice, async {
        let (first, address) = listen();
        let second = TcpListener::bind(&here(), address, &ListenOptions::default());
        let second = second.expect("the port is shared");
        let served = Rc::new(Cell::new([0; 2]));
        for (index, listener) in [first, second].into_iter().enumerate() {
            let served = served.clone();
            spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.expect("a working listener");
                    let mut counts = served.get();
                    counts[index] += 1;
                    served.set(counts);
                    spawn(echo(stream));
                }
            });
        }
        for _ in 0..200 {
            let stream = dial(address).await.expect("a connection");
            write_all(&stream, b"x").await.expect("room");
            read_exact(&stream, &mut [0]).await.expect("an echo");
        }
        assert!(served.get().iter().all(|count| *count > 0), "{:?}", served.get());
        assert_eq!(served.get().iter().sum::<i32>(), 200);
        let lone = ListenOptions { reuse_port: false, ..ListenOptions::default() };
        assert!(TcpListener::bind(&here(), address, &lone).is_err(), "taken");
    });
}

/// Lowers the descriptor limit for as long as it lives.
struct Limited {
    former: Rlimit,
}

impl Limited {
    fn to(descriptors: usize) -> Limited {
        let former = getrlimit(Resource::Nofile);
        let lowered = Rlimit { current: Some(descriptors as u64), ..former };
        setrlimit(Resource::Nofile, lowered).expect("a limit may be lowered");
        Limited { former }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.former).expect("and raised again");
    }
}

/// A burst larger than the descriptor table: those who fit are served, the loop rests, and the
/// others are served as soon as there is room. The clients live in another process: they need
/// descriptors.
fn no_descriptors_is_a_pause_and_no_spin(choice: ReactorChoice) {
    const CLIENTS: usize = 300;
    run_on(choice, async {
        let (listener, address) = listen();
        let mut clients = super::children::clients(address, CLIENTS);
        let accepted = Rc::new(std::cell::RefCell::new(Vec::new()));
        let sink = accepted.clone();
        // The reserve is not what is tested here: the number of free descriptors is too small for
        // it.
        let limited = Limited::to(descriptors() + 10);
        let server = spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("shortages are no errors");
                sink.borrow_mut().push(stream);
            }
        });
        while counters().accept_exhausted == 0 {
            sleep(Duration::from_millis(5)).await;
        }
        let before = counters();
        sleep(Duration::from_millis(400)).await;
        let after = counters();
        // 5 + 10 + 20 + 40 + 50 + 50 … ms make eleven attempts; a spin makes a million.
        let attempts = after.accept_exhausted - before.accept_exhausted;
        assert!((1..=20).contains(&attempts), "{attempts} attempts in 400 ms");
        // Every newcomer is an edge.
        let turns = after.turns - before.turns;
        assert!(turns < 3 * CLIENTS as u64, "{turns} turns");
        assert!(accepted.borrow().len() < 20, "{} accepted", accepted.borrow().len());
        drop(limited);
        while accepted.borrow().len() < CLIENTS {
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(counters().accepted, CLIENTS as u64);
        server.abort();
        clients.kill().expect("still there");
        clients.wait().expect("gone");
    });
}

fn a_reserve_of_descriptors_is_kept(choice: ReactorChoice) {
    const CLIENTS: usize = 500;
    run_on(choice, async {
        let limit = descriptors() + 4 * DESCRIPTOR_RESERVE as usize;
        let limited = Limited::to(limit);
        let (listener, address) = listen();
        let refused = Arc::new(AtomicU64::new(0));
        listener.count_refusals_in(refused.clone());
        let mut clients = super::children::clients(address, CLIENTS);
        let accepted = Rc::new(std::cell::RefCell::new(Vec::new()));
        let sink = accepted.clone();
        let server = spawn(async move {
            loop {
                let accepted = listener.accept().await.expect("shortages are no errors");
                sink.borrow_mut().push(accepted);
            }
        });
        while counters().accept_reserve_pauses < 3 {
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(counters().accept_exhausted, 0, "the limit itself is never met");
        // Others still get theirs: dials, files, the control plane.
        let free = limit - descriptors();
        assert!(free >= DESCRIPTOR_RESERVE as usize / 2, "{free} left");
        assert!(accepted.borrow().len() > DESCRIPTOR_RESERVE as usize);
        // Whoever finds no room is told so.
        while counters().accepted + counters().accept_refused < CLIENTS as u64 {
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(refused.load(Ordering::Relaxed), counters().accept_refused);
        // Dials have a reserve of their own, and get none of the other.
        let mut dialled = Vec::new();
        let refused = loop {
            match dial(address).await {
                Ok(stream) => dialled.push(stream),
                Err(error) => break error.raw_os_error(),
            }
            assert!(dialled.len() <= 2 * DESCRIPTOR_RESERVE as usize, "they have no end");
        };
        assert_eq!(refused, Some(rustix::io::Errno::MFILE.raw_os_error()));
        assert!(dialled.len() >= DESCRIPTOR_RESERVE as usize / 2, "{} dials", dialled.len());
        drop(dialled);
        // Whoever leaves makes room for the next.
        let before = counters().accepted;
        accepted.borrow_mut().clear();
        let next = dial(address).await.expect("there is room again");
        while counters().accepted == before {
            sleep(Duration::from_millis(5)).await;
        }
        drop(next);
        server.abort();
        drop(limited);
        clients.kill().expect("still there");
        clients.wait().expect("gone");
    });
}

fn a_stopped_listener_loses_nobody(choice: ReactorChoice) {
    const CLIENTS: usize = 100;
    run_on(choice, async {
        for rounds in 0..20 {
            let (listener, address) = listen();
            // Armed by a first accept; then connections come in that nobody asks for.
            let first = spawn(async move { drop(dial(address).await) });
            listener.accept().await.expect("the first");
            assert_eq!(first.await, TaskEnd::Completed);
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    spawn(async move {
                        let stream = dial(address).await.expect("a connection");
                        read_exact(&stream, &mut [0]).await.expect("served by somebody");
                    })
                })
                .collect();
            for _ in 0..rounds {
                yield_now().await;
            }
            let mut served = listener.stop().await;
            // The next owner takes the listener as it is, with what still waits in the kernel.
            let next = TcpListener::from_fd(listener.into_fd().expect("a real socket"));
            while served.len() < CLIENTS {
                served.push(next.accept().await.expect("a working listener"));
            }
            for (stream, _) in &served {
                write_all(stream, b"x").await.expect("room");
            }
            for client in clients {
                assert_eq!(client.await, TaskEnd::Completed);
            }
        }
    });
}

/// The kernel wakes one of those who wait for a connection: it must not be the one who has just left.
fn a_stopped_listener_keeps_nobody_from_its_heir(choice: ReactorChoice) {
    run_on(choice, async {
        for _ in 0..50 {
            let (listener, address) = listen();
            let shared = listener.try_clone_fd().expect("a real socket");
            let heir = TcpListener::from_fd(shared);
            for waiting in [&listener, &heir] {
                assert!(timeout(Duration::ZERO, waiting.accept()).await.is_err());
                sleep(Duration::from_millis(1)).await;
            }
            let _client = std::net::TcpStream::connect(address).expect("the queue has room");
            let taken = listener.stop().await;
            if taken.is_empty() {
                let served = timeout(Duration::from_secs(10), heir.accept()).await;
                served.expect("nobody is left waiting").expect("a working listener");
            }
        }
    });
}

/// Of two that share a port one ends: who came to it is given back, and from then on all come to the other.
fn a_closed_listener_gets_nobody_any_more(choice: ReactorChoice) {
    const CLIENTS: usize = 50;
    run_on(choice, async {
        let (staying, address) = listen();
        let ending = TcpListener::bind(&here(), address, &ListenOptions::default());
        let ending = Rc::new(ending.expect("the port is shared"));
        // A request of each is with the kernel.
        for listener in [&staying, &*ending] {
            assert!(timeout(Duration::ZERO, listener.accept()).await.is_err());
            sleep(Duration::from_millis(1)).await;
        }
        let come = || std::net::TcpStream::connect(address).expect("the queue has room");
        let before: Vec<_> = (0..CLIENTS).map(|_| come()).collect();
        let mut served = ending.close().await;
        let came_to_it = served.len();
        // Not a turn has passed.
        let after: Vec<_> = (0..CLIENTS).map(|_| come()).collect();
        while served.len() < 2 * CLIENTS {
            let next = timeout(Duration::from_secs(10), staying.accept()).await;
            served.push(next.expect("nobody went to the other").expect("a working listener"));
        }
        assert!(came_to_it > 0, "half of those before, about");
        for (stream, _) in &served {
            write_all(stream, b"x").await.expect("room");
        }
        for mut client in before.into_iter().chain(after) {
            client.read_exact(&mut [0]).expect("served by somebody");
        }
    });
}

fn a_dropped_listener_leaks_nothing(choice: ReactorChoice) {
    let before = descriptors();
    run_on(choice, async {
        for round in 0..300 {
            let (listener, address) = listen();
            let client = spawn(async move {
                let _ = timeout(Duration::from_secs(5), dial(address)).await;
            });
            let server = spawn(async move { drop(listener.accept().await) });
            for _ in 0..round % 7 {
                yield_now().await;
            }
            server.abort();
            client.abort();
        }
    });
    assert_eq!(descriptors(), before);
}

/// The listener goes when the ring has accepted a connection already, and nobody has heard of it.
fn a_connection_that_comes_too_late(choice: ReactorChoice) {
    const ROUNDS: u64 = 100;
    let before = descriptors();
    run_on(choice, async {
        for _ in 0..ROUNDS {
            let (listener, address) = listen();
            let (near, _far) = pair().await;
            // Armed, and idle; and another connection that the reactor watches.
            assert!(timeout(Duration::ZERO, listener.accept()).await.is_err());
            assert!(timeout(Duration::from_millis(1), near.closed()).await.is_err());
            let mut client = std::net::TcpStream::connect(address).expect("the queue has room");
            // To let go of a watched connection takes a look at the ring, which accepts.
            drop(near.detach());
            drop(listener);
            sleep(Duration::from_millis(1)).await;
            client.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
            let end = client.read(&mut [0]);
            let open = end.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
            assert!(!open, "the client hears of it, whoever closed: {end:?}");
        }
        let late = counters().late_accepts_closed;
        println!("    {late} of {ROUNDS} came too late");
        assert_eq!(late > 0, choice == ReactorChoice::Ring, "only a ring accepts by itself");
    });
    assert_eq!(descriptors(), before);
}

/// What a listener that nobody asks takes from the kernel is bounded; the rest waits in its
/// backlog.
fn an_idle_listener_bounds_what_it_takes(choice: ReactorChoice) {
    const CLIENTS: usize = 1000;
    run_on(choice, async {
        let (listener, address) = listen();
        let first = spawn(async move { drop(dial(address).await) });
        listener.accept().await.expect("the first");
        assert_eq!(first.await, TaskEnd::Completed);
        let before = descriptors();
        let mut clients = super::children::clients(address, CLIENTS);
        // Let them come. The kernel queues 1024; a multishot accept takes 256 of them at most, and
        // what was on its way when it was told to stop.
        for _ in 0..100 {
            sleep(Duration::from_millis(5)).await;
        }
        let taken = descriptors() - before;
        assert!(taken <= 600, "{taken} descriptors for nobody");
        let mut served = Vec::new();
        while served.len() < CLIENTS {
            served.push(listener.accept().await.expect("a working listener"));
        }
        clients.kill().expect("still there");
        clients.wait().expect("gone");
        assert_eq!(local(address.port()), address);
    });
}

fn peers_that_leave_at_once_are_no_trouble(choice: ReactorChoice) {
    let before = descriptors();
    run_on(choice, async {
        let (listener, address) = listen();
        for _ in 0..200 {
            dial(address).await.expect("a connection").abort();
        }
        let stayed = spawn(async move {
            let stream = dial(address).await.expect("a connection");
            read_exact(&stream, &mut [0]).await.expect("served");
        });
        while !stayed.is_finished() {
            let accepted = timeout(Duration::from_millis(100), listener.accept()).await;
            if let Ok(accepted) = accepted {
                let (stream, _) = accepted.expect("those who left are skipped");
                let _ = stream.try_write(b"x");
                yield_now().await;
            }
        }
    });
    assert_eq!(descriptors(), before);
}
