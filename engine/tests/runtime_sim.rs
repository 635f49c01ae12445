//! The simulated network, judged by what the kernel does, and the runtime on it under every fault.
//!
//! Replay one seed: `SIM_SEED=0x2a cargo test -p ringway-engine --features sim --test runtime_sim`.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use ringway_engine::runtime::{
    ConnectOptions, FaultsMet, ListenOptions, NetNamespace, PipePool, Task, TaskEnd, TcpListener,
    TcpStream, UdpOptions, UdpSocket, World, WorldOptions, mailbox, now, random, sleep, spawn,
    splice_in, splice_out, timeout, yield_now,
};

const OURS: u32 = 0x539;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

fn calm(seed: u64) -> World {
    World::with_options(seed, WorldOptions::calm())
}

/// A client and a server, each with a namespace, in a world of the given seed.
struct Pair {
    world: World,
    client: NetNamespace,
    server: NetNamespace,
}

impl Pair {
    fn new(world: World) -> Pair {
        let client = world.namespace("client", &[ip("10.0.0.1"), ip("fd00::1")]);
        let server = world.namespace("server", &[ip("10.0.0.2"), ip("fd00::2")]);
        Pair { world, client, server }
    }

    fn listen(&self, address: &str) -> TcpListener {
        let options = ListenOptions::default();
        TcpListener::bind(&self.server, at(address), &options).expect("a listener")
    }

    async fn dial(&self, to: &str) -> std::io::Result<TcpStream> {
        TcpStream::connect(&self.client, &ConnectOptions::default(), at(to)).await
    }

    async fn connected(&self) -> (TcpStream, TcpStream) {
        let listener = self.listen("10.0.0.2:80");
        let near = self.dial("10.0.0.2:80").await.expect("connected");
        let (far, _) = listener.accept().await.expect("accepted");
        (near, far)
    }
}

async fn read(stream: &TcpStream, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.try_read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.readable().await,
            other => return other,
        }
    }
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await,
            Err(error) => return Err(error),
            Ok(taken) => bytes = &bytes[taken..],
        }
    }
    Ok(())
}

/// What came, and how it ended.
async fn read_to_end(stream: &TcpStream) -> (Vec<u8>, std::io::Result<()>) {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 5000]);
    loop {
        match read(stream, &mut buffer).await {
            Ok(0) => return (all, Ok(())),
            Ok(got) => all.extend_from_slice(&buffer[..got]),
            Err(error) => return (all, Err(error)),
        }
    }
}

fn pattern(number: u64, length: usize) -> Vec<u8> {
    let start = (number as usize).wrapping_mul(7919);
    (start..start + length).map(|at| (at as u32).wrapping_mul(2_654_435_761) as u8).collect()
}

#[test]
fn an_hour_passes_in_a_moment_and_the_clock_stands_otherwise() {
    let world = calm(1);
    world.runtime().block_on(async {
        let begun = now();
        sleep(Duration::from_secs(3600)).await;
        assert_eq!((now() - begun).as_secs(), 3600);
        let begun = now();
        (0..100).for_each(|_| {});
        assert_eq!(now(), begun);
        // A turn costs a microsecond, so that whoever yields for ever does not stop the world.
        let deadline = spawn(sleep(Duration::from_millis(2)));
        while !deadline.is_finished() {
            yield_now().await;
        }
    });
    assert!(world.elapsed() >= Duration::from_secs(3600));
}

#[test]
fn a_world_in_which_nothing_can_happen_says_so() {
    let world = calm(0x2a);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        world.runtime().block_on(std::future::pending::<()>());
    }));
    let panic = outcome.expect_err("it stands still");
    let message = panic.downcast_ref::<String>().expect("a message");
    assert!(message.contains("stands still") && message.contains("0x2a"), "{message}");
}

#[test]
fn bytes_and_ends_are_those_of_the_kernel() {
    let pair = Pair::new(calm(2));
    pair.world.runtime().block_on(async {
        let (near, far) = pair.connected().await;
        assert_eq!(near.peer_addr().expect("connected"), at("10.0.0.2:80"));
        assert_eq!(far.peer_addr().expect("connected"), near.local_addr().expect("connected"));
        assert_eq!(far.original_destination().expect("known"), at("10.0.0.2:80"));
        let sent = pattern(0, 300_000);
        let bytes = sent.clone();
        let writer = spawn(async move {
            write_all(&near, &bytes).await.expect("room");
            near.shutdown_write().expect("open");
            let (answer, end) = read_to_end(&near).await;
            assert!(answer == b"thanks" && end.is_ok(), "half-close stays half-close");
            near.closed().await;
            assert!(!near.is_aborted());
        });
        let (received, end) = read_to_end(&far).await;
        assert!(received == sent && end.is_ok());
        assert!(far.is_read_closed() && !far.is_hung_up());
        write_all(&far, b"thanks").await.expect("the other direction is open");
        drop(far);
        assert_eq!(writer.await, TaskEnd::Completed);
    });
    assert_eq!(pair.world.open_sockets(), Vec::<String>::new());
}

#[test]
fn an_abort_is_an_abort() {
    let pair = Pair::new(calm(3));
    pair.world.runtime().block_on(async {
        // Seen while not reading; bytes that came before can be read; then never a clean end.
        let (near, far) = pair.connected().await;
        write_all(&far, b"last words").await.expect("room");
        far.abort();
        near.closed().await;
        assert!(near.is_aborted());
        let mut buffer = [0; 64];
        assert_eq!(near.try_read(&mut buffer).expect("what came before"), 10);
        for _ in 0..3 {
            let error = near.try_read(&mut buffer).expect_err("the reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        // Closing with bytes unread is an abort, too.
        let (near, far) = pair.connected().await;
        write_all(&near, b"never read").await.expect("room");
        sleep(Duration::from_millis(100)).await;
        drop(far);
        let (_, end) = read_to_end(&near).await;
        assert_eq!(end.expect_err("not clean").kind(), ErrorKind::ConnectionReset);
        // The error is told once; whoever asks second hears no clean end either.
        let (near, far) = pair.connected().await;
        far.abort();
        near.closed().await;
        near.take_error().expect("asked").expect("an error");
        near.try_read(&mut buffer).expect_err("no clean end");
        // Sending to somebody who has closed is answered by a reset.
        let (near, far) = pair.connected().await;
        drop(far);
        assert_eq!(read(&near, &mut buffer).await.expect("its end of stream"), 0);
        write_all(&near, b"are you there?").await.expect("room");
        near.closed().await;
        assert!(write_all(&near, b"hello?").await.is_err());
    });
    assert_eq!(pair.world.open_sockets(), Vec::<String>::new());
}

#[test]
fn dials_end_as_they_should() {
    let pair = Pair::new(calm(4));
    pair.world.runtime().block_on(async {
        let refused = pair.dial("10.0.0.2:81").await.expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let silent = pair.dial("10.9.9.9:80").await.expect_err("nobody has that address");
        assert_eq!(silent.kind(), ErrorKind::TimedOut);
        let impatient = timeout(Duration::from_secs(1), pair.dial("10.9.9.9:80")).await;
        assert!(impatient.is_err(), "a dial may be dropped");
        let _listener = pair.listen("10.0.0.2:80");
        let bound = TcpListener::bind(&pair.server, at("10.0.0.1:80"), &ListenOptions::default());
        assert_eq!(bound.expect_err("not its address").kind(), ErrorKind::AddrNotAvailable);
        let lone = ListenOptions { reuse_port: false, ..ListenOptions::default() };
        let bound = TcpListener::bind(&pair.server, at("10.0.0.2:80"), &lone);
        assert_eq!(bound.expect_err("taken").kind(), ErrorKind::AddrInUse);
        let udp = UdpSocket::bind(&pair.client, at("10.0.0.1:53"), &UdpOptions::default());
        assert_eq!(udp.expect_err("not simulated").kind(), ErrorKind::Unsupported);
    });
    assert_eq!(pair.world.faults_met().blackholed, 2);
}

#[test]
fn a_full_queue_turns_dials_away_for_a_while() {
    let pair = Pair::new(calm(5));
    pair.world.runtime().block_on(async {
        let options = ListenOptions { backlog: 1, ..ListenOptions::default() };
        let listener = TcpListener::bind(&pair.server, at("10.0.0.2:80"), &options);
        let listener = listener.expect("a listener");
        let mut dialled = Vec::new();
        for _ in 0..5 {
            let dialling = TcpStream::connect;
            let (namespace, to) = (pair.client.clone(), at("10.0.0.2:80"));
            dialled.push(spawn(async move {
                let options = ConnectOptions::default();
                dialling(&namespace, &options, to).await.expect("in the end");
            }));
        }
        sleep(Duration::from_secs(1)).await;
        for _ in 0..5 {
            listener.accept().await.expect("accepted");
        }
        for dialled in dialled {
            assert_eq!(dialled.await, TaskEnd::Completed);
        }
    });
    assert!(pair.world.faults_met().queue_full > 0);
}

#[test]
fn redirection_is_that_of_a_captured_pod() {
    struct Row {
        name: &'static str,
        from: &'static str,
        mark: Option<u32>,
        to: &'static str,
        /// Namespace and port it arrives at.
        arrives: (&'static str, u16),
    }
    let row = |name, from, mark, to, arrives| Row { name, from, mark, to, arrives };
    let rows = [
        //   name                                     from    mark        to               arrives
        row("a pod's dial is captured", "blue", None, "10.0.0.2:80", ("blue", 15001)),
        row("so is one to nowhere", "blue", None, "10.9.9.9:80", ("blue", 15001)),
        row("its own address is not", "blue", None, "10.0.0.1:8080", ("blue", 8080)),
        row("nor loopback", "blue", None, "127.0.0.1:8080", ("blue", 8080)),
        row(
            "ours passes, and is captured there",
            "blue",
            Some(OURS),
            "10.0.0.2:80",
            ("red", 15006),
        ),
        row(
            "other bits of the mark do not count",
            "blue",
            Some(0xabc_1539),
            "10.0.0.3:80",
            ("plain", 80),
        ),
        row("another mark is not ours", "blue", Some(0x1), "10.0.0.3:80", ("blue", 15001)),
        row("tunnels arrive where they want", "blue", Some(OURS), "10.0.0.2:15008", ("red", 15008)),
        row("ours dials its own application", "blue", Some(OURS), "10.0.0.1:8080", ("blue", 8080)),
        row("from outside the mesh", "plain", None, "10.0.0.2:80", ("red", 15006)),
        row("marks do not cross the wire", "plain", Some(OURS), "10.0.0.2:80", ("red", 15006)),
        row("out of the mesh", "blue", Some(OURS), "10.0.0.3:80", ("plain", 80)),
        row("IPv6 alike", "blue", None, "[fd00::2]:80", ("blue", 15001)),
    ];
    let world = calm(6);
    let places: Vec<(&str, NetNamespace)> = ["blue", "red", "plain"]
        .into_iter()
        .zip(["1", "2", "3"])
        .map(|(name, last)| {
            let addresses = [ip(&format!("10.0.0.{last}")), ip(&format!("fd00::{last}"))];
            (name, world.namespace(name, &addresses))
        })
        .collect();
    world.redirect(&places[0].1, true);
    world.redirect(&places[1].1, true);
    let namespace = |wanted: &str| {
        let found = places.iter().find(|(name, _)| *name == wanted);
        found.expect("a namespace").1.clone()
    };
    world.runtime().block_on(async {
        let mut listeners = Vec::new();
        for (name, place) in &places {
            for port in [80, 8080, 15001, 15006, 15008] {
                let options = ListenOptions::default();
                let wildcard = TcpListener::wildcard(true, port);
                let listener = TcpListener::bind(place, wildcard, &options).expect("a listener");
                listeners.push(((*name, port), listener));
            }
        }
        for row in rows {
            let options = ConnectOptions { mark: row.mark, ..ConnectOptions::default() };
            let near = TcpStream::connect(&namespace(row.from), &options, at(row.to)).await;
            let near = near.unwrap_or_else(|error| panic!("{}: {error}", row.name));
            assert_eq!(near.peer_addr().expect("connected"), at(row.to), "{}", row.name);
            let arrived: Vec<_> = listeners
                .iter()
                .filter_map(|(place, listener)| Some((place, listener.try_accept().ok()?.0)))
                .collect();
            assert_eq!(arrived.len(), 1, "{}", row.name);
            let (place, far) = &arrived[0];
            assert_eq!(**place, row.arrives, "{}", row.name);
            assert_eq!(far.original_destination().expect("known"), at(row.to), "{}", row.name);
            assert_eq!(far.local_addr().expect("known").port(), row.arrives.1, "{}", row.name);
        }
    });
    let met = world.faults_met();
    assert!(met.redirected_outbound > 0 && met.redirected_inbound > 0);
}

#[test]
fn a_foreign_source_needs_the_mark() {
    let pair = Pair::new(calm(7));
    pair.world.runtime().block_on(async {
        let listener =
            TcpListener::bind(&pair.client, at("10.0.0.1:8080"), &ListenOptions::default());
        let listener = listener.expect("the application");
        let wearing = ConnectOptions {
            mark: Some(OURS),
            source: Some(ip("10.77.0.1")),
            source_required: true,
            timeout: Some(Duration::from_secs(10)),
            ..ConnectOptions::default()
        };
        let near = TcpStream::connect(&pair.client, &wearing, at("10.0.0.1:8080")).await;
        assert!(near.expect("the answers find back").has_foreign_source());
        let (_, peer) = listener.accept().await.expect("accepted");
        assert_eq!(peer.ip(), ip("10.77.0.1"));
        let unmarked = ConnectOptions { mark: None, ..wearing.clone() };
        let lost = TcpStream::connect(&pair.client, &unmarked, at("10.0.0.1:8080")).await;
        assert_eq!(lost.expect_err("the answers go astray").kind(), ErrorKind::TimedOut);
        let other_family = ConnectOptions { source: Some(ip("fd77::1")), ..wearing };
        let none = TcpStream::connect(&pair.client, &other_family, at("10.0.0.1:8080")).await;
        assert!(none.is_err());
        let lenient = ConnectOptions { source_required: false, ..other_family };
        let near = TcpStream::connect(&pair.client, &lenient, at("10.0.0.1:8080")).await;
        assert!(!near.expect("from its own address").has_foreign_source());
    });
    assert_eq!(pair.world.faults_met().foreign_sources, 2);
}

#[test]
fn an_unplugged_peer_is_noticed_by_keepalive_or_retransmission() {
    for (writes, expected) in [(false, 1800), (true, 924)] {
        let pair = Pair::new(calm(8));
        pair.world.runtime().block_on(async {
            let (near, far) = pair.connected().await;
            pair.world.unplug(&pair.server);
            let begun = now();
            if writes {
                write_all(&near, b"hello?").await.expect("the kernel takes it");
            }
            let (_, end) = read_to_end(&near).await;
            assert_eq!(end.expect_err("given up").kind(), ErrorKind::TimedOut);
            assert_eq!((now() - begun).as_secs(), expected);
            let silent = timeout(Duration::from_secs(10), pair.dial("10.0.0.2:80")).await;
            assert!(silent.is_err());
            drop(far);
        });
        assert_eq!(pair.world.open_sockets(), Vec::<String>::new());
    }
}

#[test]
fn pipes_and_hand_overs_work_here_too() {
    let pair = Pair::new(calm(9));
    pair.world.runtime().block_on(async {
        let (source, from) = pair.connected().await;
        let (to, sink) = pair.connected().await;
        let (sender, mut receiver) = mailbox(1);
        sender.try_send(from.detach()).expect("room");
        let sent = pattern(1, 200_000);
        let bytes = sent.clone();
        spawn(async move {
            write_all(&source, &bytes).await.expect("room");
        });
        spawn(async move {
            let from = receiver.recv().await.expect("handed over").attach();
            let pool = PipePool::new(1);
            let mut pipe = pool.take().expect("a pipe");
            loop {
                match splice_in(&from, &mut pipe, usize::MAX) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(_) => from.readable().await,
                }
                while !pipe.is_empty() {
                    if splice_out(&mut pipe, &to).is_err() {
                        to.writable().await;
                    }
                }
            }
        });
        let (received, end) = read_to_end(&sink).await;
        assert!(received == sent && end.is_ok());
        let (near, far) = pair.connected().await;
        drop(far.detach());
        assert_eq!(read(&near, &mut [0; 8]).await.expect("closed by nobody's hand"), 0);
    });
    assert_eq!(pair.world.open_sockets(), Vec::<String>::new());
}

/// What one run came to.
#[derive(Debug, PartialEq)]
struct Outcome {
    digest: u64,
    elapsed: Duration,
    clean: u64,
    aborted: u64,
    met: FaultsMet,
}

/// Echo servers and clients under the faults of a seed. Whatever happens: what comes back is what
/// was sent, to the byte, or its beginning and then an error; everything ends; nothing leaks.
fn storm(seed: u64) -> Outcome {
    let pair = Rc::new(Pair::new(World::new(seed)));
    let (clean, aborted) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let runtime = pair.world.runtime();
    runtime.block_on(async {
        let listener = pair.listen("[::]:80");
        let server = spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a working listener");
                spawn(async move {
                    let mut buffer = vec![0; 1 + random() as usize % 3000];
                    while let Ok(got) = read(&stream, &mut buffer).await {
                        if got == 0 || write_all(&stream, &buffer[..got]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        let clients: Vec<Task> = (0..8)
            .map(|number| {
                let (pair, clean, aborted) = (pair.clone(), clean.clone(), aborted.clone());
                spawn(async move {
                    let whole = client(&pair, number).await;
                    let count = if whole { clean } else { aborted };
                    count.set(count.get() + 1);
                })
            })
            .collect();
        for client in clients {
            assert_eq!(client.await, TaskEnd::Completed, "seed {seed:#x}");
        }
        server.abort();
        // The servers' ends of lost connections take their half hour to notice.
        sleep(Duration::from_secs(2000)).await;
        assert_eq!(pair.world.open_sockets(), Vec::<String>::new(), "seed {seed:#x}");
    });
    Outcome {
        digest: pair.world.digest(),
        elapsed: pair.world.elapsed(),
        clean: clean.get(),
        aborted: aborted.get(),
        met: pair.world.faults_met(),
    }
}

async fn client(pair: &Pair, number: u64) -> bool {
    let options =
        ConnectOptions { timeout: Some(Duration::from_secs(10)), ..ConnectOptions::default() };
    let to = if number.is_multiple_of(2) { at("10.0.0.2:80") } else { at("[fd00::2]:80") };
    let Ok(stream) = TcpStream::connect(&pair.client, &options, to).await else { return false };
    let sent = pattern(number, random() as usize % 40_000);
    let stream = Rc::new(stream);
    let (writer, bytes) = (stream.clone(), sent.clone());
    let writing = spawn(async move {
        if write_all(&writer, &bytes).await.is_ok() {
            let _ = writer.shutdown_write();
        }
    });
    let (received, end) = read_to_end(&stream).await;
    assert!(sent.starts_with(&received), "a byte was lost, invented or moved");
    if end.is_ok() {
        assert_eq!(received.len(), sent.len(), "a truncated stream was taken for a whole one");
    }
    writing.abort();
    end.is_ok()
}

fn seeds() -> Vec<u64> {
    match std::env::var("SIM_SEED") {
        Ok(seed) => {
            let digits = seed.trim_start_matches("0x");
            vec![u64::from_str_radix(digits, 16).expect("a hexadecimal seed")]
        }
        Err(_) => (0..300).collect(),
    }
}

#[test]
fn no_seed_loses_or_invents_a_byte() {
    let seeds = seeds();
    let mut total = FaultsMet::default();
    let (mut clean, mut aborted) = (0, 0);
    for seed in &seeds {
        let outcome = storm(*seed);
        total.short_reads += outcome.met.short_reads;
        total.short_writes += outcome.met.short_writes;
        total.resets += outcome.met.resets;
        total.refused += outcome.met.refused;
        total.blackholed += outcome.met.blackholed;
        total.lost += outcome.met.lost;
        (clean, aborted) = (clean + outcome.clean, aborted + outcome.aborted);
    }
    println!("{clean} whole, {aborted} cut short; {total:?}");
    if seeds.len() > 1 {
        let kinds = [total.short_reads, total.short_writes, total.resets, total.refused];
        assert!(kinds.iter().all(|met| *met > 0), "a fault never happened: {total:?}");
        assert!(total.blackholed > 0 && total.lost > 0, "a fault never happened: {total:?}");
        assert!(clean > 0 && aborted > 0);
    }
}

#[test]
fn a_seed_replays_to_the_last_byte() {
    let outcomes: Vec<Outcome> = (0..40).map(storm).collect();
    for (seed, outcome) in outcomes.iter().enumerate() {
        assert_eq!(storm(seed as u64), *outcome);
    }
    let mut digests: Vec<u64> = outcomes.iter().map(|outcome| outcome.digest).collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), outcomes.len(), "different seeds are different runs");
}

#[test]
fn a_leak_is_seen() {
    let pair = Pair::new(calm(10));
    let leaked = Rc::new(RefCell::new(Vec::new()));
    pair.world.runtime().block_on(async {
        let (near, far) = pair.connected().await;
        leaked.borrow_mut().push(near);
        drop(far);
    });
    let open = pair.world.open_sockets();
    assert_eq!(open.len(), 1, "{open:?}");
    assert!(open[0].starts_with("client: connection 0"), "{open:?}");
}
