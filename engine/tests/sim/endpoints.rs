//! Endpoints of a service go, in every way there is; connections to the service do not notice, but for
//! the time it takes.

use std::{cell::Cell, rc::Rc, time::Duration};

use ringway_engine::{
    close::CloseReason,
    runtime::{ConnectOptions, NetNamespace, TcpStream, World, WorldOptions, random, sleep, spawn},
    sim::SimHost,
    telemetry::{AccessRecord, Direction},
};

use crate::{
    applications::{Tally, pattern, read_to_end, request, serve, write_all},
    authority::Authority,
    mesh::{Mesh, PODS, VIP, ip},
};

/// Seeds, each of which draws how b1 goes.
const SEEDS: u64 = 60;
/// Connections that a client opens one after the other.
const CONNECTIONS: u64 = 12;
const CLIENTS: u64 = 3;

/// How the endpoint b1 goes, or was never there.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gone {
    /// Its host is unplugged, while tunnels to it are open.
    Unplugged,
    /// Its host was unplugged all the time.
    NeverThere,
    /// Its host is there, and nobody listens on its HBONE port.
    NotEnrolled,
    /// Its proxy is there, and its application is not.
    NoApplication,
    /// It is withdrawn from its host, whose proxy closes its tunnels in order.
    Withdrawn,
}

const WAYS: [Gone; 5] =
    [Gone::Unplugged, Gone::NeverThere, Gone::NotEnrolled, Gone::NoApplication, Gone::Withdrawn];

#[test]
fn a_service_outlives_its_endpoints() {
    let authority = Authority::new();
    let mut retries = [0; WAYS.len()];
    for seed in 0..SEEDS {
        let way = (seed % WAYS.len() as u64) as usize;
        let world = World::with_options(seed, WorldOptions::calm());
        let runtime = world.runtime();
        retries[way] += runtime.block_on(play(world.clone(), seed, WAYS[way], &authority));
        drop(runtime);
        assert_eq!(world.open_sockets(), Vec::<String>::new(), "seed {seed}: sockets are left");
    }
    println!("retries at another endpoint: {WAYS:?} {retries:?}");
    assert!(retries.iter().all(|&retries| retries > 0), "{WAYS:?} {retries:?}");
}

async fn play(world: World, seed: u64, gone: Gone, authority: &Authority) -> u64 {
    let mesh = Mesh::new(&world, seed, authority);
    let tally = Rc::<Tally>::default();
    for (name, ..) in PODS {
        if name != "b1" || gone != Gone::NotEnrolled {
            mesh.enroll_one(name).await;
        }
    }
    let b1 = mesh.namespace("b1").clone();
    if gone != Gone::NoApplication {
        spawn(serve(mesh.clone(), b1.clone(), tally.clone()));
    }
    spawn(serve(mesh.clone(), mesh.namespace("b2").clone(), tally.clone()));
    if gone == Gone::NeverThere {
        world.unplug(&b1);
    }
    let answered = Rc::new(Cell::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| spawn(client(mesh.namespace("a1").clone(), answered.clone())))
        .collect();
    // A moment when no connection is open: what is cut with the endpoint is lost with it.
    for client in clients {
        client.await;
    }
    match gone {
        Gone::Unplugged => world.unplug(&b1),
        // The mesh is told nothing: the endpoint is still in everybody's snapshot.
        Gone::Withdrawn => mesh.withdraw_one("b1").await,
        _ => {}
    }
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| spawn(client(mesh.namespace("a1").clone(), answered.clone())))
        .collect();
    for client in clients {
        client.await;
    }
    assert_eq!(answered.get(), 2 * CLIENTS * CONNECTIONS, "seed {seed}, {gone:?}");
    check_records(&mesh.hosts[0], seed, gone);
    let retries = mesh.hosts[0].telemetry().retries_at_another_endpoint();
    for host in &mesh.hosts {
        host.drain(Duration::from_secs(30)).await;
        host.stop().await;
    }
    retries
}

/// One record for each connection, which names the endpoint that served it.
fn check_records(host: &SimHost, seed: u64, gone: Gone) {
    let mut records: Vec<AccessRecord> = Vec::new();
    while let Some(record) = host.telemetry().next_record() {
        records.push(record);
    }
    assert_eq!(records.len() as u64, 2 * CLIENTS * CONNECTIONS, "seed {seed}, {gone:?}");
    for record in &records {
        assert_eq!(record.direction, Direction::Outbound);
        assert!(matches!(record.reason, CloseReason::Finished), "{record:?}");
        let served_by = record.destination.workload.as_ref().expect("an endpoint").name();
        assert_eq!(record.destination.address.ip(), ip(address_of(served_by)), "{record:?}");
        let was_always_gone = !matches!(gone, Gone::Unplugged | Gone::Withdrawn);
        assert!(served_by == "b2" || !was_always_gone, "seed {seed}, {gone:?}: {record:?}");
    }
    for (labels, totals) in host.telemetry().series() {
        assert_eq!((totals.opened, totals.failed), (totals.closed, 0), "{labels:?}");
    }
}

fn address_of(pod: &str) -> &'static str {
    PODS.iter().find(|(name, ..)| *name == pod).expect("a pod").1
}

async fn client(from: NetNamespace, answered: Rc<Cell<u64>>) {
    for _ in 0..CONNECTIONS {
        sleep(Duration::from_millis(random() % 500)).await;
        ask(&from).await;
        answered.set(answered.get() + 1);
    }
}

/// One connection to the service, which must end in order.
async fn ask(from: &NetNamespace) {
    let to = (ip(VIP), 80).into();
    let stream = TcpStream::connect(from, &ConnectOptions::default(), to).await.expect("captured");
    let (seed, up, down) = (random(), random() % 2000, random() % 2000);
    let request = request(seed, up, down, Duration::ZERO, true);
    write_all(&stream, &request).await.expect("a service that is there");
    stream.shutdown_write().expect("a service that is there");
    let (bytes, ended) = read_to_end(&stream).await;
    assert_eq!((ended, bytes.len() as u64), (Ok(()), down + 8));
    assert!(
        bytes
            .iter()
            .take(down as usize)
            .enumerate()
            .all(|(at, byte)| { *byte == pattern(!seed, at as u64) })
    );
}
