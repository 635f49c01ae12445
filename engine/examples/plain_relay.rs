//! A plain TCP relay on the engine's runtime, with the engine's own relay: what the runtime
//! shoot-out (`ringway-bench runtimes`) compares with other runtimes.
//!
//! `plain_relay ring|epoll LISTEN UPSTREAM CORE[,CORE...]`
//!
//! One thread, runtime and listener for each core. Nothing of a mesh is in it: no capture, no
//! decision, no tunnel, no telemetry but the count of the bytes.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use ringway_engine::close::CloseReason;
use ringway_engine::limits::PIPES_MAX;
use ringway_engine::runtime::{
    ConnectOptions, ListenOptions, NetNamespace, PipePool, ReactorChoice, Runtime, TcpListener,
    TcpStream, spawn,
};
use ringway_engine::{Observer, relay_plain};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: plain_relay ring|epoll LISTEN UPSTREAM CORE[,CORE...]";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [reactor, listen, upstream, cores] = &arguments[..] else { panic!("{USAGE}") };
    let choice = match reactor.as_str() {
        "ring" => ReactorChoice::Ring,
        "epoll" => ReactorChoice::Epoll,
        other => panic!("{other:?} is no reactor; {USAGE}"),
    };
    let listen: SocketAddr = listen.parse().expect("LISTEN is an address with a port");
    let upstream: SocketAddr = upstream.parse().expect("UPSTREAM is an address with a port");
    let threads: Vec<_> = cores
        .split(',')
        .map(|core| {
            let id = core.parse().expect("CORE is a number");
            std::thread::spawn(move || {
                core_affinity::set_for_current(core_affinity::CoreId { id });
                let (runtime, report) = Runtime::new(choice).expect("a runtime");
                println!("core {id}: {report}");
                runtime.block_on(serve(listen, upstream));
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a shard that does not end");
    }
}

async fn serve(listen: SocketAddr, upstream: SocketAddr) {
    let here = Rc::new(NetNamespace::current().expect("our own"));
    let options = ListenOptions::default();
    let listener = TcpListener::bind(&here, listen, &options).expect("a free port");
    let pipes = PipePool::new(PIPES_MAX);
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (here, pipes) = (here.clone(), pipes.clone());
        spawn(async move {
            // The future of dialling is larger than that of relaying, which stays.
            let options = ConnectOptions::default();
            let dialled = Box::pin(TcpStream::connect(&here, &options, upstream)).await;
            let Ok(server) = dialled else { return client.reset_on_close() };
            relay_plain(&client, &server, &pipes, &Bytes::default()).await;
        });
    }
}

/// Counts, and never cuts.
#[derive(Default)]
struct Bytes {
    to_server: Cell<u64>,
    to_client: Cell<u64>,
}

impl Observer for Bytes {
    fn poll_cut(&self, _cx: &mut Context<'_>) -> Poll<CloseReason> {
        Poll::Pending
    }

    fn client_to_server(&self, bytes: usize) {
        self.to_server.set(self.to_server.get() + bytes as u64);
    }

    fn server_to_client(&self, bytes: usize) {
        self.to_client.set(self.to_client.get() + bytes as u64);
    }
}
