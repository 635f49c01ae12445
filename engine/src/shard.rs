//! A shard: one pinned thread with everything its connections need, shared with no other.
//!
//! What the shards and control have in common is small and named: the published snapshot, the
//! telemetry cells, the placement table, and one mailbox for each shard.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    rc::Rc,
    sync::{Arc, mpsc},
    task::Waker,
    time::Duration,
};

use ringway_protocols::{identity::Identity, tls::Credentials};

use crate::{
    accounts::{Accounts, AdmittedConnection},
    capture::{self, EnrollError, Pod},
    close::CloseReason,
    config::EngineConfig,
    connection::{ConnectionTable, MovedConnection, OpenConnection},
    drain::{self, DrainReport, Queues},
    handover::{self, ListeningWorkload, Way},
    handshakes::Handshakes,
    limits::{LOOKUPS_MAX, PIPES_MAX, POLICY_TIMEOUT, WORKLOAD_TIMEOUT},
    parting::Parting,
    placement::{Placement, ShardId},
    publish::{HeldSnapshot, SnapshotReader},
    rejudge::{self, Rejudging},
    role::Role,
    runtime::{
        self, Counters, DetachedStream, MailReceiver, MailSender, NetNamespace, PipePool,
        TrySendError,
    },
    snapshot::{Snapshot, Workload, WorkloadKey},
    spike::Spike,
    telemetry::{ResolutionTable, SeriesTable, Telemetry},
    tunnel::Recheck,
    wanted::{Recent, Wanted},
};

#[cfg(feature = "waypoint")]
use crate::telemetry::http::RequestSeriesTable;

/// What a shard is told.
pub(crate) enum Command {
    /// Begin capturing a workload; the answer comes when every listener is bound.
    Enroll {
        uid: Arc<str>,
        workload: WorkloadKey,
        namespace: NetNamespace,
        role: Role,
        answer: mpsc::Sender<Result<(), EnrollError>>,
    },
    /// Listen on these ports of a gateway, and on no others.
    #[cfg(feature = "waypoint")]
    ListenOn { uid: Arc<str>, ports: Arc<[u16]>, answer: mpsc::Sender<Result<(), EnrollError>> },
    /// Stop capturing a workload and cut its connections; the answer comes when they are closed.
    Withdraw { uid: Arc<str>, answer: mpsc::Sender<()> },
    /// A new snapshot was published; whoever waits for something in it looks again.
    Published,
    /// A connection another shard accepted and that is better served here.
    TakeOver {
        uid: Arc<str>,
        client: DetachedStream,
        from: SocketAddr,
        admitted: AdmittedConnection,
    },
    /// Tell which connections are open.
    Describe { answer: mpsc::Sender<Vec<OpenConnection>> },
    /// Tell what the runtime has counted.
    Counters { answer: mpsc::Sender<Counters> },
    /// Give out further descriptors of every listening socket, for another process.
    Listening { answer: mpsc::Sender<io::Result<Vec<ListeningWorkload>>> },
    /// Take over listening sockets of another process, and leave them alone for now.
    TakeListeners {
        uid: Arc<str>,
        namespace: NetNamespace,
        all_transparent: bool,
        sockets: Vec<(Way, OwnedFd)>,
        answer: mpsc::Sender<()>,
    },
    /// Accept from the listeners that were taken over.
    BeginAccepting { answer: mpsc::Sender<Result<(), EnrollError>> },
    /// Give up some of the live plain connections of these workloads, for another process.
    CallAway {
        workloads: Arc<BTreeSet<Arc<str>>>,
        most: usize,
        answer: mpsc::Sender<Vec<MovedConnection>>,
    },
    /// Go on with a connection of another process.
    Resume { moved: Box<MovedConnection> },
    /// Stop accepting.
    StopAccepting { deadline: Duration, queues: Queues, answer: mpsc::Sender<()> },
    /// Let connections end, cut what is left at the deadline. No shard accepts any more.
    Drain { deadline: Duration, answer: mpsc::Sender<DrainReport> },
    /// End the shard's thread.
    Stop,
}

/// See the module's text.
pub(crate) struct Shard {
    pub(crate) id: ShardId,
    pub(crate) config: Arc<EngineConfig>,
    pub(crate) connections: ConnectionTable,
    pub(crate) series: SeriesTable,
    pub(crate) resolutions: ResolutionTable,
    #[cfg(feature = "waypoint")]
    pub(crate) requests: RequestSeriesTable,
    #[cfg(feature = "waypoint")]
    pub(crate) traffic: Arc<crate::waypoint::CommonTraffic>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) accounts: Arc<Accounts>,
    wanted: Arc<Wanted>,
    wanted_names: Arc<Wanted>,
    wanted_identities: Recent<Identity>,
    pub(crate) handshakes: Handshakes,
    pub(crate) placement: Placement,
    pub(crate) spike: Spike,
    /// Judges tunnels that are open.
    pub(crate) recheck: Recheck,
    /// Pipes for plain connections that carry bulk.
    pub(crate) pipes: PipePool,
    /// In the order of their uids, so that a simulated run replays.
    pods: RefCell<BTreeMap<Arc<str>, Rc<Pod>>>,
    snapshot: SnapshotReader,
    pub(crate) rejudging: Rejudging,
    pub(crate) parting: Parting,
    waiting_for_snapshot: RefCell<Vec<Waker>>,
    siblings: Vec<MailSender<Command>>,
    random: Cell<u64>,
    /// Connections that were called away and nobody has fetched yet.
    pub(crate) moved: RefCell<Vec<MovedConnection>>,
    #[cfg(feature = "sim")]
    _alive: crate::alive::Alive,
}

/// What all shards have in common, beside the snapshot, the placement table and the mailboxes.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) config: Arc<EngineConfig>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) wanted: Arc<Wanted>,
    pub(crate) wanted_names: Arc<Wanted>,
    #[cfg(feature = "waypoint")]
    pub(crate) traffic: Arc<crate::waypoint::CommonTraffic>,
}

impl Common {
    pub(crate) fn new(config: EngineConfig) -> Self {
        let accounts = Accounts::new(&config.limits);
        Self {
            config: Arc::new(config),
            telemetry: Arc::new(Telemetry::new()),
            accounts,
            wanted: Arc::new(Wanted::new()),
            wanted_names: Arc::new(Wanted::new()),
            #[cfg(feature = "waypoint")]
            traffic: Arc::default(),
        }
    }
}

impl Shard {
    pub(crate) fn new(
        id: ShardId,
        common: Common,
        snapshot: SnapshotReader,
        placement: Placement,
        siblings: Vec<MailSender<Command>>,
        seed: u64,
    ) -> Rc<Self> {
        let Common {
            config,
            telemetry,
            accounts,
            wanted,
            wanted_names,
            #[cfg(feature = "waypoint")]
            traffic,
        } = common;
        Rc::new(Self {
            id,
            config,
            connections: ConnectionTable::default(),
            spike: Spike::default(),
            series: SeriesTable::new(telemetry.clone(), placement.load().clone()),
            resolutions: ResolutionTable::default(),
            #[cfg(feature = "waypoint")]
            requests: RequestSeriesTable::new(telemetry.clone()),
            #[cfg(feature = "waypoint")]
            traffic,
            telemetry,
            handshakes: Handshakes::new(accounts.bounds(), siblings.len()),
            accounts,
            wanted,
            wanted_names,
            wanted_identities: Recent::default(),
            placement,
            recheck: Recheck::default(),
            pipes: PipePool::new(PIPES_MAX),
            pods: RefCell::default(),
            parting: Parting::default(),
            rejudging: Rejudging::new(snapshot.current()),
            snapshot,
            waiting_for_snapshot: RefCell::default(),
            siblings,
            random: Cell::new(seed | 1),
            moved: RefCell::default(),
            #[cfg(feature = "sim")]
            _alive: crate::alive::Alive::new("shard"),
        })
    }

    /// Obeys commands until told to stop.
    pub(crate) async fn run(self: Rc<Self>, mut mailbox: MailReceiver<Command>) {
        loop {
            let Some(command) = mailbox.recv().await else { return };
            match command {
                Command::Enroll { uid, workload, namespace, role, answer } => {
                    // Whoever asked may have given up waiting.
                    let _ = answer.send(self.enroll(uid, workload, namespace, role));
                }
                #[cfg(feature = "waypoint")]
                Command::ListenOn { uid, ports, answer } => {
                    let outcome = self
                        .pod(&uid)
                        .map_or(Ok(()), |pod| crate::waypoint::listen_on(&self, &pod, &ports));
                    let _ = answer.send(outcome);
                }
                Command::Withdraw { uid, answer } => {
                    let (shard, withdrawn) = (self.clone(), self.withdraw(&uid));
                    runtime::spawn(async move {
                        if let Some(pod) = withdrawn {
                            drain::cut(&shard, &pod).await;
                        }
                        let _ = answer.send(());
                    });
                }
                // That it came is enough.
                Command::Published => {}
                Command::TakeOver { uid, client, from, admitted } => {
                    capture::take_over(&self, &uid, client, from, admitted);
                }
                Command::Describe { answer } => {
                    let _ = answer.send(self.connections.describe());
                }
                Command::Counters { answer } => {
                    let _ = answer.send(runtime::counters());
                }
                Command::Listening { answer } => {
                    let _ = answer.send(self.listening());
                }
                Command::TakeListeners { uid, namespace, all_transparent, sockets, answer } => {
                    let pod = capture::take_listeners(
                        &self,
                        uid.clone(),
                        namespace,
                        all_transparent,
                        sockets,
                    );
                    self.pods.borrow_mut().insert(uid, pod);
                    let _ = answer.send(());
                }
                Command::BeginAccepting { answer } => {
                    let pods = self.pods();
                    let outcomes = pods.iter().map(|pod| pod.complete(&self));
                    let _ = answer.send(outcomes.fold(Ok(()), Result::and));
                }
                Command::CallAway { workloads, most, answer } => {
                    let shard = self.clone();
                    runtime::spawn(async move {
                        let _ = answer.send(handover::call_away(&shard, &workloads, most).await);
                    });
                }
                Command::Resume { moved } => {
                    handover::go_on(&self, moved);
                }
                Command::StopAccepting { deadline, queues, answer } => {
                    let shard = self.clone();
                    runtime::spawn(async move {
                        drain::stop_accepting(&shard, deadline, queues).await;
                        let _ = answer.send(());
                    });
                }
                Command::Drain { deadline, answer } => {
                    let shard = self.clone();
                    runtime::spawn(async move {
                        let _ = answer.send(drain::drain(&shard, deadline).await);
                    });
                }
                Command::Stop => return,
            }
            // Also when a full mailbox had no room to say so.
            self.follow_snapshot();
        }
    }

    /// The published snapshot. A decision is made on one; do not keep it across an await.
    pub(crate) fn snapshot(&self) -> Rc<HeldSnapshot> {
        self.snapshot.current()
    }

    /// The workload that a pod is, waiting a while for control to learn of it.
    pub(crate) async fn workload(&self, key: &WorkloadKey) -> Result<Arc<Workload>, CloseReason> {
        self.wait_for(|snapshot| snapshot.workload_of(key).cloned())
            .await
            .ok_or_else(|| CloseReason::UnknownWorkload(key.to_string()))
    }

    /// The credentials of this identity, waiting a while for control to get them.
    pub(crate) async fn credentials(
        &self,
        identity: &Identity,
    ) -> Result<Arc<Credentials>, CloseReason> {
        if self.snapshot().credentials(identity).is_none()
            && self.wanted_identities.is_due(identity, runtime::now())
        {
            // Control asks for it before all that can wait.
            self.telemetry.want_identity(identity);
        }
        self.wait_for(|snapshot| snapshot.credentials(identity).cloned()).await.ok_or_else(|| {
            CloseReason::IdentityUnavailable(format!("no certificate for {identity}"))
        })
    }

    /// Asks control what `hostname` resolves to, and waits a while for the answer: whether there is one.
    pub(crate) async fn resolved(&self, hostname: &str) -> bool {
        if !self.config.resolver {
            return false;
        }
        if self.snapshot().resolution(hostname).is_empty() {
            self.wanted.ask(hostname);
        }
        let is_known =
            |snapshot: &Snapshot| (!snapshot.resolution(hostname).is_empty()).then_some(());
        self.wait_for(is_known).await.is_some()
    }

    /// Where only what was asked for is told: asks control for what a snapshot lacks to decide about a connection, one
    /// thing after the other, and waits a while for each. What is not known might be in the mesh, so nothing goes on without
    /// an answer.
    pub(crate) async fn asked_about(
        &self,
        missing: impl Fn(&Snapshot) -> Option<String>,
    ) -> Result<(), CloseReason> {
        for _ in 0..LOOKUPS_MAX {
            let Some(name) = missing(&self.snapshot()) else { break };
            self.wanted_names.ask(&name);
            let is_told =
                |snapshot: &Snapshot| (missing(snapshot).as_ref() != Some(&name)).then_some(());
            if self.wait_for(is_told).await.is_none() {
                return Err(CloseReason::NotTold(name));
            }
        }
        Ok(())
    }

    /// Waits a while until every policy that the workload names is known. Whether they are is for the decision to
    /// say.
    pub(crate) async fn policies(&self, key: &WorkloadKey) {
        let are_known = |snapshot: &Snapshot| {
            let workload = snapshot.workload_of(key);
            workload.is_none_or(|workload| snapshot.knows_policies_of(workload)).then_some(())
        };
        // In time or not, the decision is made on what is known then.
        let _known = runtime::timeout(POLICY_TIMEOUT, self.wait_for(are_known)).await;
    }

    /// The next number of the shard's own generator (xorshift64*): for spreading load, not for secrets.
    pub(crate) fn random(&self) -> u64 {
        let mut state = self.random.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.random.set(state);
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn pod(&self, uid: &str) -> Option<Rc<Pod>> {
        self.pods.borrow().get(uid).cloned()
    }

    pub(crate) fn pods(&self) -> Vec<Rc<Pod>> {
        self.pods.borrow().values().cloned().collect()
    }

    /// How many shards there are.
    pub(crate) fn shards(&self) -> usize {
        self.siblings.len()
    }

    /// Gives a connection to another shard. Returns it when that shard's mailbox is full.
    pub(crate) fn hand_over(&self, to: ShardId, command: Command) -> Result<(), Command> {
        self.siblings[usize::from(to.0)].try_send(command).map_err(TrySendError::into_inner)
    }

    fn enroll(
        self: &Rc<Self>,
        uid: Arc<str>,
        workload: WorkloadKey,
        namespace: NetNamespace,
        role: Role,
    ) -> Result<(), EnrollError> {
        let pod = capture::enroll(self, uid.clone(), workload, namespace, role)?;
        let old = self.pods.borrow_mut().insert(uid, pod);
        if let Some(old) = old {
            old.stop(self);
        }
        Ok(())
    }

    fn listening(&self) -> io::Result<Vec<ListeningWorkload>> {
        let pods = self.pods.borrow();
        let listening = pods.values().map(|pod| {
            Ok(ListeningWorkload {
                uid: pod.uid.clone(),
                namespace: pod.namespace.clone(),
                sockets: pod.clone_listeners()?,
            })
        });
        listening.collect()
    }

    fn withdraw(self: &Rc<Self>, uid: &str) -> Option<Rc<Pod>> {
        let pod = self.pods.borrow_mut().remove(uid)?;
        pod.stop(self);
        self.rejudging.forget(uid);
        Some(pod)
    }

    /// An idle shard, too, must leave an old snapshot, so that it can be freed.
    fn follow_snapshot(self: &Rc<Self>) {
        self.follow(&self.snapshot());
    }

    /// The snapshot by which a connection is let in. What is published later is compared with this one, and not with one
    /// before it: a change and its opposite in one turn must not look like none.
    pub(crate) fn snapshot_to_decide(self: &Rc<Self>) -> Rc<HeldSnapshot> {
        let snapshot = self.snapshot();
        self.follow(&snapshot);
        snapshot
    }

    fn follow(self: &Rc<Self>, snapshot: &Rc<HeldSnapshot>) {
        let Some(before) = self.rejudging.follow(snapshot) else { return };
        rejudge::snapshot_changed(self, &before, snapshot);
        self.series.snapshot_changed();
        #[cfg(feature = "waypoint")]
        self.requests.snapshot_changed();
        self.recheck.snapshot_published();
        self.waiting_for_snapshot.take().into_iter().for_each(Waker::wake);
    }

    /// What `look` finds in the snapshot, now or in one that is published within a while.
    pub(crate) async fn wait_for<T>(&self, look: impl Fn(&Snapshot) -> Option<T>) -> Option<T> {
        if let Some(found) = look(&self.snapshot()) {
            return Some(found);
        }
        let waiting = std::future::poll_fn(|cx| match look(&self.snapshot()) {
            Some(found) => std::task::Poll::Ready(found),
            None => {
                self.waiting_for_snapshot.borrow_mut().push(cx.waker().clone());
                std::task::Poll::Pending
            }
        });
        runtime::timeout(WORKLOAD_TIMEOUT, waiting).await.ok()
    }
}
