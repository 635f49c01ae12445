//! Tunnels whose peers refuse streams, leave, break and lie: what was not answered is tried once more in
//! another tunnel, and what was answered is not; a peer that is gone holds nothing up.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use ringway_engine::{
    Limit,
    close::CloseReason,
    limits::Limits,
    runtime::{
        ConnectOptions, ListenOptions, TcpListener, TcpStream, World, WorldOptions, sleep, spawn,
        timeout,
    },
    telemetry::AccessRecord,
};
use ringway_protocols::{
    hbone::{ConnectResponse, ErrorCode, Event, StreamId},
    tls::Credentials,
};

use crate::{
    applications::{Tally, read_to_end, serve, write_all},
    authority::Authority,
    mesh::{Mesh, PORT, at, identity},
    peer::{Peer, frame},
};

/// What b1's proxy, which is not Ringway here, does with the first tunnel it gets. The second is served.
#[derive(Clone, Copy, Debug, PartialEq)]
enum First {
    /// Refuses the stream (RFC 9113 §8.7).
    Refuses,
    /// Leaves with a GOAWAY that passes the stream over.
    Leaves,
    /// Ends the TCP connection when it is asked.
    Breaks,
    /// Breaks HTTP/2 when it is asked.
    Lies,
    /// Answers 503.
    Answers(u16),
    /// Resets the stream after the 200.
    ResetsLater,
}

/// What comes of a connection: its record's reason, tunnels that b1 was asked in, retries counted.
fn run(first: First) -> (CloseReason, u64, u64) {
    let authority = Authority::new();
    let world = World::with_options(7, WorldOptions::calm());
    let runtime = world.runtime();
    let outcome = runtime.block_on(play(world.clone(), first, &authority));
    drop(runtime);
    assert_eq!(world.open_sockets(), Vec::<String>::new(), "{first:?}: sockets are left");
    outcome
}

async fn play(world: World, first: First, authority: &Authority) -> (CloseReason, u64, u64) {
    let mesh = Mesh::new(&world, 7, authority);
    mesh.enroll_one("a1").await;
    let tunnels = Rc::new(Cell::new(0));
    spawn(serve_tunnels(mesh.clone(), authority.issue(&identity("b1")), first, tunnels.clone()));
    let to = at("10.2.0.1", PORT);
    let stream = TcpStream::connect(mesh.namespace("a1"), &ConnectOptions::default(), to).await;
    let stream = stream.expect("captured");
    write_all(&stream, b"hello").await.expect("room for five bytes");
    let _ = stream.shutdown_write();
    let (bytes, ended) = read_to_end(&stream).await;
    drop(stream);
    sleep(Duration::from_secs(1)).await;
    let host = &mesh.hosts[0];
    let record: AccessRecord = host.telemetry().next_record().expect("one record");
    assert!(host.telemetry().next_record().is_none(), "{first:?}: more than one record");
    let finished = matches!(record.reason, CloseReason::Finished);
    assert_eq!((ended.is_ok(), bytes == b"hello"), (finished, finished), "{first:?}");
    let retries = host.telemetry().retries_in_another_tunnel();
    for host in &mesh.hosts {
        host.drain(Duration::from_secs(5)).await;
        host.stop().await;
    }
    (record.reason, tunnels.get(), retries)
}

/// b1's proxy.
async fn serve_tunnels(
    mesh: Rc<Mesh>,
    credentials: Arc<Credentials>,
    first: First,
    tunnels: Rc<Cell<u64>>,
) {
    let any = TcpListener::wildcard(false, 15008);
    let options = ListenOptions::default();
    let listener = TcpListener::bind(mesh.namespace("b1"), any, &options).expect("a port");
    while let Ok((stream, _)) = listener.accept().await {
        tunnels.set(tunnels.get() + 1);
        let is_first = tunnels.get() == 1;
        let peer = Peer::server(stream, &credentials).await;
        let mut peer = peer.expect("a client of the mesh");
        let _ = peer.flush().await;
        spawn(async move {
            while let Ok(events) = peer.receive().await {
                for event in events {
                    if let Event::Request { stream, .. } = event {
                        match is_first {
                            true => misbehave(&mut peer, first, stream).await,
                            false => echo(&mut peer, stream).await,
                        }
                    }
                }
                if is_first && first == First::Breaks || peer.flush().await.is_err() {
                    break;
                }
            }
        });
    }
}

async fn misbehave(peer: &mut Peer, first: First, stream: StreamId) {
    match first {
        First::Refuses => peer.machine.reset(stream, ErrorCode::REFUSED_STREAM),
        First::Answers(status) => peer.machine.refuse(stream, status),
        First::ResetsLater => {
            peer.machine.accept(stream, &ConnectResponse { status: 200, baggage: None });
            peer.machine.reset(stream, ErrorCode::CONNECT_ERROR);
        }
        First::Leaves => {
            let nothing_processed = [0; 8];
            let _ = peer.send(&frame(0x7, 0, 0, &nothing_processed)).await;
        }
        First::Lies => drop(peer.send(&frame(0x8, 0, 0, &[0; 4])).await),
        First::Breaks => {}
    }
}

/// Answers 200 and what the client will say, which is known.
async fn echo(peer: &mut Peer, stream: StreamId) {
    peer.machine.accept(stream, &ConnectResponse { status: 200, baggage: None });
    let _ = peer.flush().await;
    let mut data = peer.machine.data_header(stream, 5, true).to_vec();
    data.extend_from_slice(b"hello");
    let _ = peer.send(&data).await;
}

#[test]
fn what_was_not_answered_is_tried_once_more_in_another_tunnel() {
    for first in [First::Refuses, First::Leaves, First::Breaks, First::Lies] {
        let (reason, tunnels, retries) = run(first);
        assert!(matches!(reason, CloseReason::Finished), "{first:?}: {reason}");
        assert_eq!((tunnels, retries), (2, 1), "{first:?}");
    }
}

#[test]
fn what_was_answered_is_not_tried_again() {
    for first in [First::Answers(503), First::Answers(403), First::ResetsLater] {
        let (reason, tunnels, retries) = run(first);
        assert!(!matches!(reason, CloseReason::Finished), "{first:?}: {reason}");
        assert_eq!((tunnels, retries), (1, 0), "{first:?}");
    }
}

#[test]
fn what_a_peer_said_before_it_closed_arrives_though_it_takes_no_more() {
    // Together more than is read at once.
    const STREAMS: usize = 40;
    const BYTES: usize = 60_000;
    let authority = Authority::new();
    let options = WorldOptions { buffer_bytes: 4 << 20..=4 << 20, ..WorldOptions::calm() };
    let world = World::with_options(19, options);
    let runtime = world.runtime();
    runtime.block_on(async {
        let mesh = Mesh::new(&world, 19, &authority);
        mesh.enroll_one("a1").await;
        let any = TcpListener::wildcard(false, 15008);
        let options = ListenOptions::default();
        let listener = TcpListener::bind(mesh.namespace("b1"), any, &options).expect("a port");
        let credentials = authority.issue(&identity("b1"));
        spawn(async move {
            let (stream, _) = listener.accept().await.expect("a tunnel");
            let mut peer = Peer::server(stream, &credentials).await.expect("a client of the mesh");
            let accepted = ConnectResponse { status: 200, baggage: None };
            let (mut asked, mut ended) = (Vec::new(), 0);
            while ended < STREAMS {
                peer.flush().await.expect("room");
                for event in peer.receive().await.expect("requests") {
                    match event {
                        Event::Request { stream, .. } => {
                            peer.machine.accept(stream, &accepted);
                            asked.push(stream);
                        }
                        Event::EndOfStream { .. } => ended += 1,
                        _ => {}
                    }
                }
            }
            let mut all = Vec::new();
            for stream in asked {
                all.extend_from_slice(&peer.machine.data_header(stream, BYTES, true));
                all.resize(all.len() + BYTES, 7);
            }
            peer.send(&all).await.expect("room");
            // As a kernel does for who closes with bytes unread.
            peer.abort();
        });
        let (to, options) = (at("10.2.0.1", PORT), ConnectOptions::default());
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let stream = TcpStream::connect(mesh.namespace("a1"), &options, to).await;
            streams.push(stream.expect("captured"));
            sleep(Duration::from_millis(50)).await;
        }
        streams.iter().for_each(|stream| stream.shutdown_write().expect("open"));
        for stream in &streams {
            let (bytes, ended) = read_to_end(stream).await;
            assert_eq!((bytes.len(), ended), (BYTES, Ok(())));
        }
        drop(streams);
        for host in &mesh.hosts {
            host.drain(Duration::from_secs(5)).await;
            host.stop().await;
        }
    });
    drop(runtime);
    assert_eq!(world.open_sockets(), Vec::<String>::new());
}

#[test]
fn a_peer_that_is_gone_does_not_hold_up_the_end() {
    let authority = Authority::new();
    let world = World::with_options(11, WorldOptions::calm());
    let runtime = world.runtime();
    runtime.block_on(async {
        let mesh = Mesh::new(&world, 11, &authority);
        mesh.enroll().await;
        spawn(serve(mesh.clone(), mesh.namespace("b1").clone(), Rc::<Tally>::default()));
        let to = at("10.2.0.1", PORT);
        let options = ConnectOptions::default();
        let stream = TcpStream::connect(mesh.namespace("a1"), &options, to).await;
        drop(stream.expect("captured"));
        sleep(Duration::from_secs(1)).await;
        // The tunnel is there, without a stream, and its client vanishes.
        world.unplug(mesh.namespace("a1"));
        let began = world.elapsed();
        mesh.hosts[1].drain(Duration::from_secs(3600)).await;
        let took = world.elapsed() - began;
        assert!(took < Duration::from_secs(10), "draining took {took:?} for a peer that is gone");
        mesh.hosts[0].drain(Duration::from_secs(60)).await;
        for host in &mesh.hosts {
            host.stop().await;
        }
    });
    drop(runtime);
    assert_eq!(world.open_sockets(), Vec::<String>::new());
}

#[test]
fn who_stands_still_longest_makes_room() {
    // Each has a window of 64 KiB here, and in the socket of an application that does not read.
    const CONNECTIONS: usize = 15;
    const SOCKET_BYTES: u64 = 4096;
    const TAKES: usize = 0;
    let authority = Authority::new();
    let socket = SOCKET_BYTES..=SOCKET_BYTES;
    let world =
        World::with_options(23, WorldOptions { buffer_bytes: socket, ..WorldOptions::calm() });
    let runtime = world.runtime();
    runtime.block_on(async {
        let limits = Limits { buffer_bytes_per_workload: 1 << 20, ..Limits::default() };
        let mesh = Mesh::with_limits(&world, 23, &authority, limits);
        mesh.enroll().await;
        let any = TcpListener::wildcard(false, PORT);
        let options = ListenOptions::default();
        let listener = TcpListener::bind(mesh.namespace("b1"), any, &options).expect("a port");
        let (to, options) = (at("10.2.0.1", PORT), ConnectOptions::default());
        let (mut clients, mut applications) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS {
            let client = TcpStream::connect(mesh.namespace("a1"), &options, to).await;
            clients.push(Rc::new(client.expect("captured")));
            applications.push(listener.accept().await.expect("a connection").0);
            let client = clients[clients.len() - 1].clone();
            // It is cut, or stands still to the end.
            spawn(async move {
                let _ = write_all(&client, &[7; 1 << 20]).await;
            });
            sleep(Duration::from_millis(100)).await;
        }
        let ended = || -> Vec<usize> {
            let is_aborted = |at: &usize| applications[*at].is_aborted();
            (0..CONNECTIONS).filter(is_aborted).collect()
        };
        for second in 0..16 {
            assert!(second > 7 || ended().is_empty(), "within {second} s: {:?}", ended());
            // As much as makes its socket take more.
            let mut some = [0; 2000];
            applications[TAKES].try_read(&mut some).expect("there is enough");
            sleep(Duration::from_secs(1)).await;
        }
        // What is left is less than three quarters of what there may be.
        let cut = ended();
        assert!(cut == [1, 2] || cut == [1, 2, 3], "{cut:?}");
        let telemetry = mesh.hosts[1].telemetry();
        let reasons: Vec<_> =
            std::iter::from_fn(|| telemetry.next_record()).map(|record| record.reason).collect();
        let is_told = |reason: &CloseReason| {
            matches!(reason, CloseReason::LimitReached(Limit::BufferBytesPerWorkload))
        };
        assert!(reasons.len() == cut.len() && reasons.iter().all(is_told), "{reasons:?}");
        drop((clients, applications));
        for host in &mesh.hosts {
            host.drain(Duration::from_secs(5)).await;
            host.stop().await;
        }
    });
    drop(runtime);
    assert_eq!(world.open_sockets(), Vec::<String>::new());
}

#[test]
fn of_the_tunnels_of_a_spike_one_is_kept() {
    // Four tunnels' worth.
    const CONNECTIONS: usize = 350;
    let authority = Authority::new();
    let world = World::with_options(17, WorldOptions::calm());
    let runtime = world.runtime();
    runtime.block_on(async {
        let mesh = Mesh::new(&world, 17, &authority);
        mesh.enroll().await;
        spawn(serve(mesh.clone(), mesh.namespace("b1").clone(), Rc::<Tally>::default()));
        sleep(Duration::from_millis(100)).await;
        let quiet = world.open_sockets().len();
        let (to, options) = (at("10.2.0.1", PORT), ConnectOptions::default());
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(mesh.namespace("a1"), &options, to).await;
            streams.push(stream.expect("captured"));
        }
        sleep(Duration::from_secs(1)).await;
        drop(streams);
        sleep(Duration::from_secs(2)).await;
        // Each has two ends.
        let tunnels = || (world.open_sockets().len() - quiet) / 2;
        assert_eq!(tunnels(), 4, "they wait for the next wave");
        sleep(Duration::from_secs(10)).await;
        assert_eq!(tunnels(), 1, "and not for ever: {:?}", world.open_sockets());
        for host in &mesh.hosts {
            host.drain(Duration::from_secs(60)).await;
            host.stop().await;
        }
    });
    drop(runtime);
    assert_eq!(world.open_sockets(), Vec::<String>::new());
}

#[test]
fn a_handshake_that_outlasts_its_workload_leads_nowhere() {
    let authority = Authority::new();
    let slow = Duration::from_millis(10);
    let options = WorldOptions { latency: slow..=slow, ..WorldOptions::calm() };
    let world = World::with_options(13, options);
    let runtime = world.runtime();
    runtime.block_on(async {
        let mesh = Mesh::new(&world, 13, &authority);
        mesh.enroll_one("b1").await;
        let to = at("10.2.0.1", 15008);
        let stream = TcpStream::connect(&mesh.outside, &ConnectOptions::default(), to).await;
        let (stream, credentials) = (stream.expect("a listener"), authority.issue(&identity("a1")));
        let shaking = spawn({
            let mesh = mesh.clone();
            async move {
                // Our half is on its way, and the workload's proxy waits for it.
                sleep(Duration::from_millis(15)).await;
                mesh.withdraw_one("b1").await;
            }
        });
        let peer = Peer::client(stream, &credentials, identity("b1"), to.ip()).await;
        let mut peer = peer.expect("a handshake that goes on");
        shaking.await;
        peer.flush().await.expect("a tunnel");
        let mut told = false;
        while let Ok(Ok(events)) = timeout(Duration::from_secs(5), peer.receive()).await {
            told |= events.iter().any(|event| matches!(event, Event::GoAway { .. }));
        }
        assert!(told, "the tunnel is open as if the workload were there");
        drop(peer);
        for host in &mesh.hosts {
            host.drain(Duration::from_secs(60)).await;
            host.stop().await;
        }
    });
    drop(runtime);
    assert_eq!(world.open_sockets(), Vec::<String>::new());
}
