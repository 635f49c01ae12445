//! The listeners of one enrolled workload on one shard, and what becomes of what they accept.
//!
//! They are opened inside the workload's own network namespace, so which workload a connection belongs
//! to is known from where it was accepted, never from an address it claims.

use std::{
    cell::RefCell,
    fmt, io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use rustix::io::Errno;

use crate::{
    accounts::{Account, AdmittedConnection, Limit},
    close::CloseReason,
    config::OriginalSource,
    handover::Way,
    handshakes::WorkloadHandshakes,
    inbound,
    limits::{ADMISSION_PAUSE, DIAL_TIMEOUT},
    outbound,
    rate::Rate,
    role::Role,
    runtime::{
        self, ConnectOptions, DetachedStream, ListenOptions, NetNamespace, Task, TcpListener,
        TcpStream, Tenant,
    },
    shard::{Command, Shard},
    snapshot::WorkloadKey,
    socks5,
    tries::Unreachable,
    tunnel::{Pool, Tunnel},
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
    let bound = shard.config.ways_of(&role).map(|way| listen(shard, &namespace, way, &role));
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

/// Serves a connection that another shard accepted for this workload.
pub(crate) fn take_over(
    shard: &Rc<Shard>,
    uid: &str,
    client: DetachedStream,
    from: SocketAddr,
    admitted: AdmittedConnection,
) {
    // Withdrawn meanwhile: dropping the socket closes the connection.
    let Some(pod) = shard.pod(uid) else { return };
    let serving =
        outbound::serve(shard.clone(), pod.clone(), client.attach(), from, None, admitted);
    pod.spawn(serving);
}

async fn accept(shard: Rc<Shard>, pod: Rc<Pod>, way: Way, listener: Rc<TcpListener>) {
    loop {
        // Before anything is accepted: who waits, waits in the kernel, and is nobody's to lose.
        match way {
            Way::Hbone => {
                keep_rate(&pod, &pod.rates.handshakes, Limit::HandshakeRate).await;
                make_room_for_handshake(&shard, &pod).await;
            }
            Way::Outbound | Way::InboundPlaintext | Way::Socks5 => {
                keep_rate(&pod, &pod.rates.connections, Limit::ConnectionRate).await;
            }
        }
        // Shortages and vanished peers are dealt with by the listener; an error is its end.
        let Ok((socket, from)) = listener.accept().await else { return };
        serve(&shard, &pod, way, socket, from);
    }
}

/// Waits until the workload may begin one more of these. Whoever comes behind waits in the kernel's queue.
async fn keep_rate(pod: &Pod, rate: &Rate, limit: Limit) {
    while let Err(free_at) = rate.take(runtime::now()) {
        pod.account.refused(limit);
        runtime::sleep_until(free_at).await;
    }
}

/// Waits until one more handshake may begin, and has one that has waited for too long for its peer make room.
async fn make_room_for_handshake(shard: &Shard, pod: &Pod) {
    while let Err(limit) = shard.handshakes.room(&pod.handshakes) {
        pod.account.refused(limit);
        let now = runtime::now();
        let cut = match limit {
            Limit::HandshakesPerProcess => {
                let most = shard.pods().into_iter().max_by_key(|pod| pod.handshakes.len());
                most.is_some_and(|pod| pod.handshakes.cut_one(now))
            }
            _ => pod.handshakes.cut_one(now),
        };
        if cut {
            return;
        }
        runtime::sleep(ADMISSION_PAUSE).await;
    }
}

fn serve(shard: &Rc<Shard>, pod: &Rc<Pod>, way: Way, socket: TcpStream, from: SocketAddr) {
    let (shard, pod) = (shard.clone(), pod.clone());
    // What is refused here has no record: it is counted, and a flood of it must not fill the log.
    if let Way::Hbone = way {
        match pod.account.admit_tunnel() {
            Ok(admitted) => {
                runtime::spawn(inbound::serve_tunnel(shard, pod, socket, from, admitted));
            }
            Err(_counted) => socket.abort(),
        }
        return;
    }
    match (pod.account.admit_connection(), way) {
        (Ok(admitted), Way::Outbound) => serve_outbound(&shard, &pod, socket, from, admitted),
        (Ok(admitted), Way::Socks5) => {
            runtime::spawn(socks5::serve(shard, pod, socket, from, admitted));
        }
        (Ok(admitted), _) => {
            runtime::spawn(inbound::serve_plaintext(shard, pod, socket, from, admitted));
        }
        (Err(_counted), _) => socket.abort(),
    }
}

/// Serves the connection here, or hands it to the shard that is better placed, before its first byte.
fn serve_outbound(
    shard: &Rc<Shard>,
    pod: &Rc<Pod>,
    client: TcpStream,
    from: SocketAddr,
    admitted: AdmittedConnection,
) {
    let to = match client.original_destination() {
        Ok(destination) => shard.placement.place(&pod.uid, destination, runtime::now()),
        // Over already: its end is recorded where it was accepted.
        Err(_) => shard.id,
    };
    if to == shard.id {
        runtime::spawn(outbound::serve(shard.clone(), pod.clone(), client, from, None, admitted));
        return;
    }
    let client = client.detach();
    let command = Command::TakeOver { uid: pod.uid.clone(), client, from, admitted };
    match shard.hand_over(to, command) {
        Ok(()) => {
            shard.telemetry.handed_over.fetch_add(1, Relaxed);
        }
        Err(Command::TakeOver { uid, client, from, admitted }) => {
            take_over(shard, &uid, client, from, admitted);
        }
        Err(_) => unreachable!("a mailbox gives back what it was given"),
    }
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
        let rate = |per_second| Rate::new(per_second, shard.shards(), now);
        Rc::new(Self {
            account: shard.accounts.of(&uid),
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
        for way in shard.config.ways_of(&self.role) {
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

    /// Stops accepting without touching what waits in the kernel: that is for the process that has the
    /// same sockets. Then lets every tunnel end when its streams have.
    pub(crate) async fn leave(self: &Rc<Self>, shard: &Rc<Shard>) {
        #[cfg(feature = "waypoint")]
        crate::waypoint::stop_listening(shard, self);
        for Listening { way, listener, accepting } in self.listeners.take() {
            if let Some(accepting) = accepting {
                accepting.abort();
            }
            for (socket, from) in listener.stop().await {
                serve(shard, self, way, socket, from);
            }
            // The socket lives on: the reactor must be told that it is none of ours any more.
            if let Some(listener) = Rc::into_inner(listener) {
                drop(listener.into_fd());
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

    /// Stops listening: what the kernel has accepted by now is still served, because closing a listener
    /// resets what waits in it. Then lets every tunnel end when its streams have.
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

    /// Dials from inside the workload's namespace, as the workload.
    pub(crate) async fn dial(
        &self,
        shard: &Shard,
        to: SocketAddr,
    ) -> Result<TcpStream, CloseReason> {
        self.dial_from(shard, shard.config.packet_mark, None, to).await
    }

    /// Dials the workload's application, from the client's own address where that is possible.
    pub(crate) async fn dial_application(
        &self,
        shard: &Shard,
        client: Option<IpAddr>,
        to: SocketAddr,
    ) -> Result<TcpStream, CloseReason> {
        let source = client.filter(|client| {
            self.transparent && *client != to.ip() && client.is_ipv4() == to.is_ipv4()
        });
        let mark = match self.role {
            Role::OwnPod => None,
            _ => shard.config.application_mark.or(shard.config.packet_mark),
        };
        self.dial_from(shard, mark, source, to).await
    }

    async fn dial_from(
        &self,
        shard: &Shard,
        mark: Option<u32>,
        source: Option<IpAddr>,
        to: SocketAddr,
    ) -> Result<TcpStream, CloseReason> {
        let options = ConnectOptions {
            mark,
            source,
            source_required: shard.config.original_source == OriginalSource::Always,
            timeout: Some(DIAL_TIMEOUT),
            keepalive: shard.config.keepalive,
            user_timeout: shard.config.user_timeout,
        };
        TcpStream::connect(&self.namespace, &options, to).await.map_err(|error| {
            let no_descriptors =
                [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
            match error.kind() {
                _ if no_descriptors.contains(&error.raw_os_error()) => {
                    CloseReason::LimitReached(self.account.refused(Limit::Descriptors))
                }
                std::io::ErrorKind::TimedOut => CloseReason::DialTimedOut,
                kind => CloseReason::DialFailed(kind),
            }
        })
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

fn listen(
    shard: &Shard,
    namespace: &NetNamespace,
    way: Way,
    role: &Role,
) -> Result<Listening, EnrollError> {
    let is_own = *role == Role::OwnPod;
    let options = ListenOptions {
        mark: shard.config.packet_mark.filter(|_| !is_own),
        transparent: !is_own && shard.config.original_source != OriginalSource::Never,
        keepalive: shard.config.keepalive,
        user_timeout: shard.config.user_timeout,
        ..ListenOptions::default()
    };
    let address = shard.config.listen_address(way);
    match TcpListener::bind(namespace, address, &options) {
        Ok(listener) => Ok(Listening { way, listener: Rc::new(listener), accepting: None }),
        Err(error) => Err(EnrollError { port: address.port(), error }),
    }
}
