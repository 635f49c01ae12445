//! TCP connections: bytes, ends, aborts, hand-over, splicing.

use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ringway_engine::close::CloseReason;
use ringway_engine::limits::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES_MAX};
use ringway_engine::runtime::{
    ConnectOptions, Keepalive, ListenOptions, PeerPatience, PipePool, ReactorChoice, Runtime,
    TaskEnd, TcpListener, TcpStream, mailbox, scratch, sleep, spawn, splice_in, splice_out,
    timeout, yield_now,
};
use ringway_engine::{Observer, relay_plain};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::harness::Case;
use super::support::{
    descriptors, dial, echo, here, listen, local, pair, read, read_exact, run_on, write_all,
};

pub(crate) fn cases(choice: ReactorChoice, name: impl Fn(&str) -> String) -> Vec<Case> {
    let case = |title: &str, test: fn(ReactorChoice)| Case::new(name(title), move || test(choice));
    vec![
        case("a_megabyte_comes_back", a_megabyte_comes_back),
        case("half_close_stays_half_close", half_close_stays_half_close),
        case("a_reset_is_seen_while_not_reading", a_reset_is_seen_while_not_reading),
        case("a_reset_is_seen_by_a_stuck_writer", a_reset_is_seen_by_a_stuck_writer),
        case("an_abort_never_reads_as_an_end", an_abort_never_reads_as_an_end),
        case("a_short_read_then_the_end", a_short_read_then_the_end),
        case("two_thousand_connections", two_thousand_connections),
        case("a_refused_dial_says_so", a_refused_dial_says_so),
        case("a_dial_without_an_answer_times_out", a_dial_without_an_answer_times_out),
        case("every_connection_has_its_options", every_connection_has_its_options),
        case(
            "connections_have_the_options_that_were_asked_for",
            connections_have_the_options_that_were_asked_for,
        ),
        case("addresses_are_canonical", addresses_are_canonical),
        case("a_connection_moves_to_another_shard", a_connection_moves_to_another_shard),
        case("splicing_moves_every_byte", splicing_moves_every_byte),
        case(
            "a_relay_that_keeps_up_splices_bulk_and_copies_messages",
            a_relay_that_keeps_up_splices_bulk_and_copies_messages,
        ),
        case("a_full_pipe_says_nothing_of_the_stream", a_full_pipe_says_nothing_of_the_stream),
        case("pipes_are_bounded_and_come_back", pipes_are_bounded_and_come_back),
        case(
            "several_slices_are_read_into_and_written_from",
            several_slices_are_read_into_and_written_from,
        ),
    ]
}

/// Bytes that tell where they belong.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

async fn read_to_end(stream: &TcpStream) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 37 * 1024]);
    loop {
        match read(stream, &mut buffer).await.expect("a clean end") {
            0 => return all,
            got => all.extend_from_slice(&buffer[..got]),
        }
    }
}

fn a_megabyte_comes_back(choice: ReactorChoice) {
    run_on(choice, async {
        let (near, far) = pair().await;
        let near = Rc::new(near);
        spawn(echo(far));
        let sent = pattern(1024 * 1024);
        let (writer, bytes) = (near.clone(), sent.clone());
        spawn(async move {
            write_all(&writer, &bytes).await.expect("room");
            writer.shutdown_write().expect("still open");
        });
        assert!(read_to_end(&near).await == sent);
    });
}

fn half_close_stays_half_close(choice: ReactorChoice) {
    run_on(choice, async {
        let (near, far) = pair().await;
        write_all(&near, b"question").await.expect("room");
        near.shutdown_write().expect("open");
        assert_eq!(read_to_end(&far).await, b"question");
        assert!(far.is_read_closed() && !far.is_hung_up());
        sleep(Duration::from_millis(20)).await;
        assert!(!near.is_hung_up(), "only our own direction is closed");
        write_all(&far, b"answer").await.expect("the other direction is open");
        far.shutdown_write().expect("open");
        assert_eq!(read_to_end(&near).await, b"answer");
        near.closed().await;
        assert!(!near.is_aborted(), "closed on both sides, but cleanly");
    });
}

fn a_reset_is_seen_while_not_reading(choice: ReactorChoice) {
    run_on(choice, async {
        let (near, far) = pair().await;
        write_all(&far, b"last words").await.expect("room");
        let watch = spawn(async move {
            // It neither reads nor writes: only the error itself can wake it.
            near.closed().await;
            assert!(near.is_aborted());
            let mut buffer = [0; 32];
            assert_eq!(near.try_read(&mut buffer).expect("what came before the reset"), 10);
            let error = near.try_read(&mut buffer).expect_err("then the reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        });
        sleep(Duration::from_millis(10)).await;
        far.abort();
        assert_eq!(watch.await, TaskEnd::Completed);
    });
}

fn a_reset_is_seen_by_a_stuck_writer(choice: ReactorChoice) {
    run_on(choice, async {
        let (near, far) = pair().await;
        let writer = spawn(async move {
            let error = write_all(&near, &vec![0; 64 * 1024 * 1024]).await.expect_err("reset");
            assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
            let error = near.try_read(&mut [0; 8]).expect_err("no clean end");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        });
        sleep(Duration::from_millis(20)).await;
        assert!(!writer.is_finished());
        far.abort();
        assert_eq!(writer.await, TaskEnd::Completed);
    });
}

/// The kernel tells an error once; whoever asks second must not hear "end of stream".
fn an_abort_never_reads_as_an_end(choice: ReactorChoice) {
    run_on(choice, async {
        for first in ["asked for the error", "wrote", "read"] {
            let (near, far) = pair().await;
            far.abort();
            near.closed().await;
            match first {
                "asked for the error" => {
                    let error = near.take_error().expect("a socket").expect("an error");
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                }
                "wrote" => {
                    near.try_write(b"x").expect_err("reset");
                }
                _ => {
                    near.try_read(&mut [0; 8]).expect_err("reset");
                }
            }
            for _ in 0..3 {
                let error = near.try_read(&mut [0; 8]).expect_err(first);
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "after it {first}");
            }
        }
    });
}

/// Bytes and FIN arrive together, and the reader's buffer is larger than the bytes: the short read
/// must not put out the hope of the end, for no further edge will come.
fn a_short_read_then_the_end(choice: ReactorChoice) {
    run_on(choice, async {
        for _ in 0..200 {
            let (near, far) = pair().await;
            // Watched from here on, and known to have nothing.
            assert!(near.try_read(&mut [0]).is_err());
            let waiting = timeout(Duration::ZERO, near.readable()).await;
            assert!(waiting.is_err());
            yield_now().await;
            write_all(&far, b"bytes").await.expect("room");
            drop(far);
            assert_eq!(read_to_end(&near).await, b"bytes");
        }
    });
}

fn two_thousand_connections(choice: ReactorChoice) {
    const CONNECTIONS: usize = 2_000;
    let before = descriptors();
    run_on(choice, async {
        let (listener, address) = listen();
        let server = spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await.expect("a working listener");
                assert_eq!(stream.peer_addr().expect("connected"), peer);
                spawn(echo(stream));
            }
        });
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                spawn(async move {
                    let stream = dial(address).await.expect("a connection");
                    for round in 0..3 {
                        let sent = format!("{number}-{round}");
                        write_all(&stream, sent.as_bytes()).await.expect("room");
                        let mut back = vec![0; sent.len()];
                        read_exact(&stream, &mut back).await.expect("an echo");
                        assert_eq!(back, sent.as_bytes());
                    }
                })
            })
            .collect();
        for client in clients {
            assert_eq!(client.await, TaskEnd::Completed);
        }
        server.abort();
    });
    assert_eq!(descriptors(), before);
}

fn a_refused_dial_says_so(choice: ReactorChoice) {
    run_on(choice, async {
        let (listener, address) = listen();
        drop(listener);
        // The kernel lets go of a ring's listener at the end of the turn.
        yield_now().await;
        let error = dial(address).await.expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

/// A listener whose queue is full drops connection attempts without an answer.
fn full_listener() -> (socket2::Socket, SocketAddr, Vec<std::net::TcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    socket.bind(&local(0).into()).expect("a port");
    socket.listen(0).expect("listening");
    let address = socket.local_addr().expect("an address").as_socket().expect("IPv4");
    let fill = std::net::TcpStream::connect(address).expect("the one that fits");
    (socket, address, vec![fill])
}

fn a_dial_without_an_answer_times_out(choice: ReactorChoice) {
    let before = descriptors();
    run_on(choice, async {
        let (_listener, address, _filler) = full_listener();
        let limit = Some(Duration::from_millis(50));
        let options = ConnectOptions { timeout: limit, ..ConnectOptions::default() };
        let error = TcpStream::connect(&here(), &options, address).await.expect_err("no answer");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let dropped = timeout(Duration::from_millis(20), dial(address)).await;
        assert!(dropped.is_err(), "a dial may be dropped at any time");
    });
    assert_eq!(descriptors(), before);
}

fn every_connection_has_its_options(choice: ReactorChoice) {
    run_on(choice, async {
        let (near, far) = pair().await;
        for (end, stream) in [("dialled", near), ("accepted", far)] {
            let fd = stream.into_fd().expect("a real socket");
            assert!(sockopt::tcp_nodelay(&fd).expect("asked"), "{end}");
            assert!(sockopt::socket_keepalive(&fd).expect("asked"), "{end}");
            assert_eq!(sockopt::tcp_keepidle(&fd).expect("asked"), KEEPALIVE_IDLE, "{end}");
            assert_eq!(sockopt::tcp_keepintvl(&fd).expect("asked"), KEEPALIVE_INTERVAL, "{end}");
            assert_eq!(sockopt::tcp_keepcnt(&fd).expect("asked"), KEEPALIVE_PROBES_MAX, "{end}");
            assert_eq!(sockopt::tcp_user_timeout(&fd).expect("asked"), 0, "{end}: it may be slow");
        }
    });
}

fn connections_have_the_options_that_were_asked_for(choice: ReactorChoice) {
    run_on(choice, async {
        let keepalive =
            Keepalive { idle: Duration::from_secs(7), interval: Duration::from_secs(3), probes: 2 };
        let user_timeout = Some(keepalive.patience());
        let patience =
            PeerPatience { keepalive: Some(keepalive), user_timeout, resend_pause_max: None };
        let options = ListenOptions { patience, ..ListenOptions::default() };
        let listener = TcpListener::bind(&here(), local(0), &options).expect("a listener");
        let options = ConnectOptions { patience, ..ConnectOptions::default() };
        let address = listener.local_addr().expect("bound");
        let near = TcpStream::connect(&here(), &options, address).await.expect("dialled");
        let (far, _) = listener.accept().await.expect("accepted");
        for (end, stream) in [("dialled", near), ("accepted", far)] {
            let fd = stream.into_fd().expect("a real socket");
            assert_eq!(sockopt::tcp_user_timeout(&fd).expect("asked"), 13_000, "{end}");
            let idle = sockopt::tcp_keepidle(&fd).expect("asked");
            assert_eq!(idle, Duration::from_secs(7), "{end}");
            assert_eq!(sockopt::tcp_keepcnt(&fd).expect("asked"), 2, "{end}");
        }
    });
}

fn addresses_are_canonical(choice: ReactorChoice) {
    run_on(choice, async {
        let options = ListenOptions::default();
        let both = TcpListener::bind(&here(), TcpListener::wildcard(true, 0), &options);
        let both = both.expect("a dual-stack listener");
        let port = both.local_addr().expect("bound").port();
        let near = dial(local(port)).await.expect("over IPv4");
        let (far, peer) = both.accept().await.expect("accepted");
        assert!(peer.is_ipv4() && near.local_addr().expect("connected") == peer);
        assert_eq!(far.local_addr().expect("connected"), local(port));
        assert_eq!(far.original_destination().expect("not redirected"), local(port));
        let near = dial((Ipv6Addr::LOCALHOST, port).into()).await.expect("over IPv6");
        let (far, peer) = both.accept().await.expect("accepted");
        assert!(peer.is_ipv6() && near.local_addr().expect("connected") == peer);
        assert_eq!(far.local_addr().expect("connected"), (Ipv6Addr::LOCALHOST, port).into());
        // A mapped destination is dialled as what it means.
        let mapped = SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), port);
        let near = dial(mapped).await.expect("over IPv4");
        assert_eq!(near.peer_addr().expect("connected"), local(port));

        let four = TcpListener::bind(&here(), TcpListener::wildcard(false, 0), &options);
        let four = four.expect("an IPv4 listener");
        let port = four.local_addr().expect("bound").port();
        let error = dial((Ipv6Addr::LOCALHOST, port).into()).await.expect_err("IPv4 only");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

fn a_connection_moves_to_another_shard(choice: ReactorChoice) {
    let before = descriptors();
    let (sender, mut receiver) = mailbox(16);
    let other = std::thread::spawn(move || {
        let (runtime, _) = Runtime::new(choice).expect("a runtime");
        runtime.block_on(async {
            let mut tasks = Vec::new();
            while let Some(detached) = receiver.recv().await {
                let detached: ringway_engine::runtime::DetachedStream = detached;
                tasks.push(spawn(echo(detached.attach())));
            }
            for task in tasks {
                assert_eq!(task.await, TaskEnd::Completed);
            }
        });
    });
    run_on(choice, async {
        for watched_before in [false, true] {
            let (near, far) = pair().await;
            write_all(&near, b"sent before the move").await.expect("room");
            if watched_before {
                // The reactor knows it already, and has to let go of it.
                far.readable().await;
                assert!(timeout(Duration::from_millis(5), far.closed()).await.is_err());
            }
            sender.try_send(far.detach()).expect("room");
            let mut back = [0; 20];
            read_exact(&near, &mut back).await.expect("an echo");
            assert_eq!(&back, b"sent before the move");
            write_all(&near, b"sent after the move!").await.expect("room");
            read_exact(&near, &mut back).await.expect("an echo");
            assert_eq!(&back, b"sent after the move!");
        }
        drop(sender);
    });
    other.join().expect("the other shard ends");
    assert_eq!(descriptors(), before);
}

/// Relays one direction through a pipe, as the relay of bulk does.
async fn splice_through(from: &TcpStream, to: &TcpStream, pool: &PipePool) -> usize {
    let mut pipe = pool.take().expect("a pipe");
    let (mut total, mut ended) = (0, false);
    while !ended || !pipe.is_empty() {
        if !ended {
            match splice_in(from, &mut pipe, 1024 * 1024) {
                Ok(0) => ended = true,
                Ok(moved) => total += moved,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if pipe.is_empty() {
                        from.readable().await;
                    }
                }
                Err(error) => panic!("splice in: {error}"),
            }
        }
        match splice_out(&mut pipe, to) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !pipe.is_empty() {
                    to.writable().await;
                }
            }
            Err(error) => panic!("splice out: {error}"),
        }
    }
    to.shutdown_write().expect("open");
    total
}

fn splicing_moves_every_byte(choice: ReactorChoice) {
    run_on(choice, async {
        let (source, from) = pair().await;
        let (to, sink) = pair().await;
        let sent = pattern(8 * 1024 * 1024);
        let bytes = sent.clone();
        spawn(async move {
            // Odd pieces and pauses, so that the pipe runs full and dry.
            for (number, piece) in bytes.chunks(77_777).enumerate() {
                write_all(&source, piece).await.expect("room");
                if number % 10 == 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            }
        });
        let relay = spawn(async move {
            let pool = PipePool::new(1);
            assert_eq!(splice_through(&from, &to, &pool).await, 8 * 1024 * 1024);
            assert_eq!((pool.lent(), pool.idle()), (0, 1), "the pipe went back empty");
        });
        assert!(read_to_end(&sink).await == sent);
        assert_eq!(relay.await, TaskEnd::Completed);
    });
}

struct Nobody;

impl Observer for Nobody {
    fn poll_cut(&self, _: &mut Context<'_>) -> Poll<CloseReason> {
        Poll::Pending
    }

    fn client_to_server(&self, _: usize) {}

    fn server_to_client(&self, _: usize) {}
}

/// Each piece has been relayed before the next one comes, so no read ever fills the scratch.
fn a_relay_that_keeps_up_splices_bulk_and_copies_messages(choice: ReactorChoice) {
    run_on(choice, async {
        for (piece_bytes, pipes) in [(64 * 1024, 1), (1024, 0)] {
            let (source, from) = pair().await;
            let (to, sink) = pair().await;
            let (source, pool) = (Rc::new(source), Rc::new(PipePool::new(1)));
            let relay = {
                let pool = pool.clone();
                spawn(async move {
                    let reason = relay_plain(&from, &to, &pool, &Nobody).await;
                    assert!(matches!(reason, CloseReason::Finished), "{reason:?}");
                })
            };
            let sent = pattern(piece_bytes);
            let mut arrived = vec![0; piece_bytes];
            for _ in 0..32 {
                let (source, piece) = (source.clone(), sent.clone());
                let sending = spawn(async move { write_all(&source, &piece).await.expect("room") });
                read_exact(&sink, &mut arrived).await.expect("a piece");
                assert!(arrived == sent);
                assert_eq!(sending.await, TaskEnd::Completed);
            }
            assert_eq!(pool.lent() + pool.idle(), pipes, "pieces of {piece_bytes} bytes");
            source.shutdown_write().expect("open");
            sink.shutdown_write().expect("open");
            assert_eq!(relay.await, TaskEnd::Completed);
            assert_eq!(pool.lent(), 0);
        }
    });
}

/// `EAGAIN` from a splice into a full pipe must not put out the hope of the stream behind it: its
/// bytes are there already, and no further edge will come.
///
/// A pipe of 1 MiB has 256 places, and a Unix socket gives each write a place of its own: so 270
/// single bytes fill it, all of them waiting before the first splice.
fn a_full_pipe_says_nothing_of_the_stream(choice: ReactorChoice) {
    run_on(choice, async {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let ends = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let (source, from) = ends.expect("a pair");
        let from = TcpStream::from_fd(from);
        let total = (0..270).take_while(|_| rustix::io::write(&source, b"x").is_ok()).count();
        let (to, sink) = pair().await;
        let pool = PipePool::new(1);
        let mut pipe = pool.take().expect("a pipe");
        // Watched from here on, and the one edge there is has been told.
        assert!(timeout(Duration::from_millis(5), from.closed()).await.is_err());
        let mut moved = 0;
        let error = loop {
            match splice_in(&from, &mut pipe, total) {
                Ok(got) => moved += got,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(moved < total, "{total} bytes did not fill the pipe");
        while !pipe.is_empty() {
            if splice_out(&mut pipe, &to).is_err() {
                to.writable().await;
            }
        }
        while moved < total {
            moved +=
                splice_in(&from, &mut pipe, total).expect("the rest is there, without an edge");
        }
        while !pipe.is_empty() {
            if splice_out(&mut pipe, &to).is_err() {
                to.writable().await;
            }
        }
        drop(to);
        assert_eq!(read_to_end(&sink).await.len(), total);
    });
}

fn pipes_are_bounded_and_come_back(choice: ReactorChoice) {
    let before = descriptors();
    run_on(choice, async {
        let pool = PipePool::new(2);
        let (first, second) = (pool.take().expect("one"), pool.take().expect("two"));
        assert!(pool.take().is_none(), "all are lent");
        assert!(first.capacity_bytes() >= 4096);
        drop(first);
        assert_eq!((pool.lent(), pool.idle()), (1, 1));
        drop(second);
        let mut used = pool.take().expect("from the idle ones");
        let (near, far) = pair().await;
        write_all(&near, b"left inside").await.expect("room");
        far.readable().await;
        assert_eq!(splice_in(&far, &mut used, 4096).expect("bytes"), 11);
        drop(used);
        assert_eq!((pool.lent(), pool.idle()), (0, 1), "a pipe with bytes inside never comes back");
    });
    assert_eq!(descriptors(), before);
}

fn several_slices_are_read_into_and_written_from(choice: ReactorChoice) {
    run_on(choice, async {
        let (near, far) = pair().await;
        let sent = pattern(40_000);
        write_all(&near, &sent).await.expect("room");
        near.shutdown_write().expect("open");
        let mut received = Vec::new();
        loop {
            far.readable().await;
            let got = scratch(|scratch| {
                let (first, second) = scratch.split_at_mut(5000);
                let mut into = [IoSliceMut::new(first), IoSliceMut::new(second)];
                let got = far.try_readv(&mut into);
                got.inspect(|got| received.extend_from_slice(&scratch[..*got]))
            });
            match got {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert!(received == sent);
        let back = [IoSlice::new(b"from "), IoSlice::new(b"several "), IoSlice::new(b"slices")];
        assert_eq!(far.try_writev(&back).expect("room"), 19);
        let mut buffer = [0; 19];
        read_exact(&near, &mut buffer).await.expect("bytes");
        assert_eq!(&buffer, b"from several slices");
    });
}
