//! The listeners of one enrolled workload on one shard, and what becomes of what they accept.
//!
//! They are opened inside the workload's own network namespace, so which workload a connection belongs
//! to is known from where it was accepted, never from an address it claims.

mod accept;
mod dial;

use std::{cell::RefCell, fmt, io, os::fd::OwnedFd, rc::Rc, sync::Arc};

pub(crate) use self::accept::take_over;
use self::accept::{accept, serve};
use crate::{
    accounts::Account,
    config::OriginalSource,
    drain::Queues,
    handover::Way,
    handshakes::WorkloadHandshakes,
    rate::Rate,
    role::Role,
    runtime::{self, ListenOptions, NetNamespace, Task, TcpListener, Tenant},
    shard::Shard,
    snapshot::WorkloadKey,
    tries::Unreachable,
    tunnel::{Pool, Stalled, Tunnel},
};

/// An enrolled workload on one shard.
pub(crate) struct Pod {
    pub(crate) uid: Arc<str>,
    /// Which workload it is.
    pub(crate) workload: WorkloadKey,
    /// What it is to its connections.
    pub(crate) role: Role,
    pub(crate) namespace: NetNamespace,
    /// What the workload's traffic holds, on all shards.
    pub(crate) account: Arc<Account>,
    /// The handshakes of its tunnels that are in progress here.
    pub(crate) handshakes: Rc<WorkloadHandshakes>,
    rates: Rates,
    /// Its tasks on this shard.
    tenant: Tenant,
    /// The workload's tunnels to its destinations.
    pub(crate) pool: Rc<Pool>,
    /// What its tunnels hold for applications that take nothing.
    pub(crate) stalled: Rc<Stalled>,
    /// Whom it could not reach a moment ago.
    pub(crate) unreachable: Unreachable,
    /// Tunnels that peers have open to the workload.
    server_tunnels: RefCell<Vec<Rc<Tunnel>>>,
    /// Whether the application is dialled from the client's own address.
    transparent: bool,
    listeners: RefCell<Vec<Listening>>,
    /// What a waypoint or gateway keeps.
    #[cfg(feature = "waypoint")]
    pub(crate) l7: crate::waypoint::State,
    #[cfg(feature = "sim")]
    _alive: crate::alive::Alive,
}

/// This shard's share of what a workload may begin each second.
struct Rates {
    connections: Rate,
    handshakes: Rate,
}

/// One listener and the task that accepts from it, if one does already.
struct Listening {
    way: Way,
    listener: Rc<TcpListener>,
    accepting: Option<Task>,
}

/// Why a workload could not be captured.
#[derive(Debug)]
pub struct EnrollError {
    /// The port whose listener failed.
    pub port: u16,
    /// What the operating system said.
    pub error: io::Error,
}

impl fmt::Display for EnrollError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on port {} in the workload's namespace: {}", self.port, self.error)
    }
}

impl std::error::Error for EnrollError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Opens a workload's listeners on this shard and begins to accept.
///
/// # Errors
/// When a port cannot be bound; then nothing is captured.
pub(crate) fn enroll(
    shard: &Rc<Shard>,
    uid: Arc<str>,
    workload: WorkloadKey,
    namespace: NetNamespace,
    role: Role,
) -> Result<Rc<Pod>, EnrollError> {
    let ways = shard.config.ways_of(&role).filter(|_| listens(shard, &uid));
    let bound = ways.map(|way| listen(shard, &namespace, way, &role));
    let listeners = bound.collect::<Result<Vec<_>, _>>()?;
    let all_transparent = listeners.iter().all(|listening| listening.listener.is_transparent());
    let pod = Pod::new(shard, uid, (workload, role), namespace, all_transparent, listeners);
    #[cfg(feature = "waypoint")]
    crate::waypoint::listen(shard, &pod)?;
    pod.begin_accepting(shard);
    Ok(pod)
}

/// Takes over listening sockets of a workload that another process accepts from, and leaves them alone
/// until told to begin. This shard may get several for one port, or none.
pub(crate) fn take_listeners(
    shard: &Rc<Shard>,
    uid: Arc<str>,
    namespace: NetNamespace,
    all_transparent: bool,
    sockets: Vec<(Way, OwnedFd)>,
) -> Rc<Pod> {
    let listeners = sockets.into_iter().map(|(way, socket)| Listening {
        way,
        listener: Rc::new(TcpListener::from_fd(socket)),
        accepting: None,
    });
    // Only a process that knows its workloads by uid hands over.
    let workload = WorkloadKey::Uid(uid.clone());
    let who = (workload, Role::Workload);
    Pod::new(shard, uid, who, namespace, all_transparent, listeners.collect())
}

impl Pod {
    fn new(
        shard: &Shard,
        uid: Arc<str>,
        (workload, role): (WorkloadKey, Role),
        namespace: NetNamespace,
        all_transparent: bool,
        listeners: Vec<Listening>,
    ) -> Rc<Self> {
        let transparent = match shard.config.original_source {
            OriginalSource::Never => false,
            OriginalSource::Always => true,
            OriginalSource::Auto => all_transparent,
        };
        let transparent = transparent && role != Role::OwnPod;
        let (bounds, now) = (shard.accounts.bounds(), runtime::now());
        let sharing = if shard.config.shared_ports { shard.shards() } else { 1 };
        let rate = |per_second| Rate::new(per_second, sharing, now);
        let account = shard.accounts.of(&uid);
        Rc::new(Self {
            stalled: Stalled::new(&account),
            account,
            handshakes: Rc::default(),
            rates: Rates {
                connections: rate(bounds.connection_rate_per_workload),
                handshakes: rate(bounds.handshake_rate_per_workload),
            },
            tenant: Tenant::new(),
            uid,
            workload,
            role,
            namespace,
            pool: Rc::new(Pool::new(shard.config.tunnels.streams_max)),
            unreachable: Unreachable::default(),
            server_tunnels: RefCell::default(),
            transparent,
            listeners: RefCell::new(listeners),
            #[cfg(feature = "waypoint")]
            l7: crate::waypoint::State::default(),
            #[cfg(feature = "sim")]
            _alive: crate::alive::Alive::new("enrolled workload"),
        })
    }

    /// Accepts from every listener that nobody accepts from yet.
    fn begin_accepting(self: &Rc<Self>, shard: &Rc<Shard>) {
        for Listening { way, listener, accepting } in &mut *self.listeners.borrow_mut() {
            accepting.get_or_insert_with(|| {
                listener.count_refusals_in(self.account.descriptors_refused.clone());
                let accepting = accept(shard.clone(), self.clone(), *way, listener.clone());
                // What the listener's task spawns is the workload's, too.
                runtime::spawn_for(&self.tenant, accepting)
            });
        }
    }

    /// Binds what this shard has no listener for, and accepts from all. Not done before, because
    /// connections gather at a listener from the moment it is bound.
    ///
    /// # Errors
    /// The first listener that cannot be bound; the others are served.
    pub(crate) fn complete(self: &Rc<Self>, shard: &Rc<Shard>) -> Result<(), EnrollError> {
        let mut outcome = Ok(());
        for way in shard.config.ways_of(&self.role).filter(|_| listens(shard, &self.uid)) {
            if self.listeners.borrow().iter().any(|listening| listening.way == way) {
                continue;
            }
            match listen(shard, &self.namespace, way, &self.role) {
                Ok(listening) => self.listeners.borrow_mut().push(listening),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        self.begin_accepting(shard);
        outcome
    }

    /// Further descriptors of the listening sockets, for another process.
    ///
    /// # Errors
    /// When descriptors are short.
    pub(crate) fn clone_listeners(&self) -> io::Result<Vec<(Way, OwnedFd)>> {
        let listeners = self.listeners.borrow();
        listeners.iter().map(|one| Ok((one.way, one.listener.try_clone_fd()?))).collect()
    }

    /// Stops accepting. What waits in the kernel is served, if the `queues` are to be emptied; or else it is left for the
    /// process that has the same sockets. Then lets every tunnel end when its streams have.
    pub(crate) async fn retire(self: &Rc<Self>, shard: &Rc<Shard>, queues: Queues) {
        #[cfg(feature = "waypoint")]
        crate::waypoint::retire_listeners(shard, self).await;
        for Listening { way, listener, accepting } in self.listeners.take() {
            if let Some(accepting) = accepting {
                accepting.abort();
            }
            let came = match queues {
                Queues::Empty => listener.close().await,
                Queues::Leave => {
                    let came = listener.stop().await;
                    // The socket lives on: the reactor must be told that it is none of ours any more.
                    if let Some(listener) = Rc::into_inner(listener) {
                        drop(listener.into_fd());
                    }
                    came
                }
            };
            for (socket, from) in came {
                serve(shard, self, way, socket, from);
            }
        }
        self.end_tunnels();
    }

    fn end_tunnels(&self) {
        #[cfg(feature = "waypoint")]
        self.l7.drain();
        self.pool.end();
        for tunnel in self.server_tunnels.borrow().iter() {
            tunnel.drain();
        }
    }

    /// Stops listening, of a workload that is let go: what the kernel has accepted by now is begun, to be cut with the rest
    /// of what is open. Then lets every tunnel end when its streams have.
    pub(crate) fn stop(self: &Rc<Self>, shard: &Rc<Shard>) {
        #[cfg(feature = "waypoint")]
        crate::waypoint::stop_listening(shard, self);
        for Listening { way, listener, accepting } in self.listeners.take() {
            if let Some(accepting) = accepting {
                accepting.abort();
            }
            while let Ok((socket, from)) = listener.try_accept() {
                serve(shard, self, way, socket, from);
            }
        }
        self.end_tunnels();
    }

    /// Runs `future` in the workload's turns.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) -> Task {
        runtime::spawn_for(&self.tenant, future)
    }

    /// Whether a tunnel of either role is still there.
    pub(crate) fn has_tunnels(&self) -> bool {
        !self.server_tunnels.borrow().is_empty() || !self.pool.is_empty()
    }

    /// Keeps a peer's tunnel in sight for as long as the guard lives. One whose handshake outlasted the
    /// capture takes no streams.
    pub(crate) fn register(self: &Rc<Self>, tunnel: &Rc<Tunnel>) -> Registered {
        if self.pool.is_ending() {
            tunnel.drain();
        }
        self.server_tunnels.borrow_mut().push(tunnel.clone());
        Registered { pod: self.clone(), tunnel: tunnel.clone() }
    }
}

/// A peer's tunnel that the pod has in sight.
pub(crate) struct Registered {
    pod: Rc<Pod>,
    tunnel: Rc<Tunnel>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut tunnels = self.pod.server_tunnels.borrow_mut();
        tunnels.retain(|tunnel| !Rc::ptr_eq(tunnel, &self.tunnel));
    }
}

/// Whether this shard listens for a workload. Shards share ports by what lets another process share them, too; where
/// that is not wanted, each workload has one shard that listens, and hands on what it opens.
fn listens(shard: &Shard, uid: &str) -> bool {
    shard.config.shared_ports || shard.placement.listener_of(uid) == shard.id
}

fn listen(
    shard: &Shard,
    namespace: &NetNamespace,
    way: Way,
    role: &Role,
) -> Result<Listening, EnrollError> {
    let is_own = *role == Role::OwnPod;
    let options = ListenOptions {
        mark: shard.config.packet_mark.filter(|_| !is_own),
        reuse_port: shard.config.shared_ports,
        transparent: !is_own && shard.config.original_source != OriginalSource::Never,
        patience: shard.config.patience,
        ..ListenOptions::default()
    };
    let address = shard.config.listen_address(way);
    match TcpListener::bind(namespace, address, &options) {
        Ok(listener) => Ok(Listening { way, listener: Rc::new(listener), accepting: None }),
        Err(error) => Err(EnrollError { port: address.port(), error }),
    }
}
