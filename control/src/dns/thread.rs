//! The thread: who asks, and for whom it waits.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::Duration;

use ringway_engine::runtime::NetNamespace;
use ringway_engine::snapshot::Snapshot;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::{LocalSet, spawn_local};

use super::forward::Forwarder;
use super::metrics::DnsMetrics;
use super::pod::{Pod, World};
use super::resolver::Resolutions;
use super::serve::{serve_tcp, serve_udp};
use super::socket::Listening;
use super::{Command, DnsConfig, FindWorkload};

/// How often a drain looks whether everything is answered.
const DRAIN_LOOK_INTERVAL: Duration = Duration::from_millis(5);

impl AsRef<Forwarder> for World {
    fn as_ref(&self) -> &Forwarder {
        &self.forwarder
    }
}

/// Starts it; returns when it runs, or cannot.
pub(super) fn start(
    config: DnsConfig,
    snapshot: watch::Receiver<Snapshot>,
    metrics: Arc<DnsMetrics>,
    commands: mpsc::UnboundedReceiver<Command>,
) -> io::Result<()> {
    let (told, started) = std_mpsc::channel();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let prepared = runtime.and_then(|runtime| {
            let forwarder = Forwarder::new(&config.resolv_conf, config.mark, Arc::clone(&metrics))?;
            Ok((runtime, forwarder))
        });
        let (runtime, forwarder) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let _gone = told.send(Err(error));
                return;
            }
        };
        let _gone = told.send(Ok(()));
        let world = World {
            snapshot,
            settings: config.lookup,
            forwarder,
            metrics,
            waiting: Rc::default(),
            connections: Rc::default(),
            random: Cell::new(RandomState::new().hash_one(0)),
        };
        LocalSet::new().block_on(&runtime, obey(Rc::new(world), commands));
    };
    thread::Builder::new().name("dns".into()).spawn(run)?;
    started.recv().unwrap_or_else(|_| Err(io::Error::other("the DNS thread broke at its start")))
}

/// Does what it is told, until nobody is left to tell it anything.
async fn obey(world: Rc<World>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let resolutions = Rc::new(Resolutions::default());
    let mut pods: HashMap<Arc<str>, watch::Sender<bool>> = HashMap::new();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Enroll { key, find, namespace, listening } => {
                // A sender that is dropped without a word would leave the old sockets open.
                if let Some(old) = pods.remove(&key) {
                    old.send_replace(true);
                }
                match enroll(&world, Arc::clone(&key), find, namespace, listening) {
                    Ok(stop) => drop(pods.insert(key, stop)),
                    Err(error) => {
                        tracing::error!(target: "dns", workload = &*key, %error, "queries are not answered");
                    }
                }
            }
            Command::Withdraw { key } => {
                if let Some(stop) = pods.remove(&key) {
                    stop.send_replace(true);
                }
            }
            Command::Resolve { name, family, answer } => {
                resolutions.resolve(&world, name, family, answer);
            }
            Command::Drain { done } => {
                for (_, stop) in pods.drain() {
                    stop.send_replace(true);
                }
                spawn_local(tell_when_idle(Rc::clone(&world), done));
            }
        }
    }
}

fn enroll(
    world: &Rc<World>,
    key: Arc<str>,
    find: FindWorkload,
    namespace: NetNamespace,
    listening: Listening,
) -> io::Result<watch::Sender<bool>> {
    let (stop, stopped) = watch::channel(false);
    let (waiting, connections) = (Rc::default(), Rc::default());
    let pod = Rc::new(Pod { world: Rc::clone(world), key, find, namespace, waiting, connections });
    for socket in listening.udp {
        let socket = UdpSocket::from_std(socket)?;
        spawn_local(serve_udp(Rc::clone(&pod), socket, stopped.clone()));
    }
    for listener in listening.tcp {
        let listener = TcpListener::from_std(listener)?;
        spawn_local(serve_tcp(Rc::clone(&pod), listener, stopped.clone()));
    }
    Ok(stop)
}

/// What waits is counted; tasks that were just told to stop have their turn before the first look.
async fn tell_when_idle(world: Rc<World>, done: std_mpsc::Sender<()>) {
    loop {
        tokio::time::sleep(DRAIN_LOOK_INTERVAL).await;
        if world.waiting.get() == 0 && world.connections.get() == 0 {
            let _gone = done.send(());
            return;
        }
    }
}
