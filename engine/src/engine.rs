//! The engine as control sees it: start it, publish snapshots to it, enroll workloads, read what it
//! tells, drain it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    accounts::LimitReached,
    capture::EnrollError,
    config::{EngineConfig, OutOfRange},
    connection::{MovedConnection, OpenConnection},
    drain::{DrainReport, Queues},
    handover::{ListeningWorkload, Way},
    hook::ShardHook,
    limits::{MAILBOX_MAX, SHARD_LOOK_TIMEOUT},
    placement::{Placement, PlacementTable, ShardId},
    publish::{Published, SnapshotReader},
    role::Role,
    runtime::{
        self, Counters, MailReceiver, MailSender, NetNamespace, Pulse, ReactorReport, Runtime,
        TrySendError, mailbox,
    },
    shard::{Command, Common, Shard},
    snapshot::{Snapshot, WorkloadKey},
    telemetry::Telemetry,
};

/// Why the engine did not start.
#[derive(Debug)]
pub enum StartError {
    /// No core was given.
    NoCores,
    /// What is asked of tunnels cannot be.
    Tunnels(OutOfRange),
    /// A shard's thread could not be made.
    Thread(std::io::Error),
    /// A shard's runtime could not be made; the text says why and what to do.
    Runtime(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCores => f.write_str("no cores are configured: name at least one"),
            Self::Tunnels(error) => write!(f, "{error}"),
            Self::Thread(error) => write!(f, "cannot start a shard's thread: {error}"),
            Self::Runtime(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StartError {}

/// A running data plane.
pub struct Engine {
    common: Common,
    published: Arc<Published>,
    mailboxes: Vec<MailSender<Command>>,
    reports: Vec<ReactorReport>,
    pulses: Vec<Arc<Pulse>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    enrolled: Mutex<Vec<Arc<str>>>,
    /// What each shard's runtime had counted when it was asked last.
    counted: Mutex<Vec<Counters>>,
    /// Where the next connection of another process goes.
    next_shard: AtomicUsize,
}

impl Engine {
    /// Starts one shard for each configured core.
    ///
    /// # Errors
    /// When a thread or its reactor cannot be made; what was started ends again.
    pub fn start(config: EngineConfig, snapshot: Snapshot) -> Result<Self, StartError> {
        if config.cores.is_empty() {
            return Err(StartError::NoCores);
        }
        config.tunnels.check().map_err(StartError::Tunnels)?;
        let shards = config.cores.len();
        let mut engine = Self {
            common: Common::new(config),
            published: Published::new(snapshot),
            mailboxes: Vec::new(),
            reports: Vec::new(),
            pulses: Vec::new(),
            threads: Mutex::default(),
            enrolled: Mutex::default(),
            counted: Mutex::new(vec![Counters::default(); shards]),
            next_shard: AtomicUsize::new(0),
        };
        let placement = PlacementTable::new(shards);
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..shards).map(|_| mailbox::<Command>(MAILBOX_MAX)).unzip();
        engine.mailboxes = senders;
        for (index, mailbox) in receivers.into_iter().enumerate() {
            let (report, pulse) = engine.start_shard(index, mailbox, placement.clone())?;
            engine.reports.push(report);
            engine.pulses.push(pulse);
        }
        Ok(engine)
    }

    fn start_shard(
        &self,
        index: usize,
        mailbox: MailReceiver<Command>,
        placement: Arc<PlacementTable>,
    ) -> Result<(ReactorReport, Arc<Pulse>), StartError> {
        let id = ShardId(u16::try_from(index).unwrap_or(u16::MAX));
        let (common, published) = (self.common.clone(), self.published.clone());
        let (core, siblings) = (common.config.cores[index], self.mailboxes.clone());
        let (started, start) = mpsc::channel();
        let body = move || {
            if common.config.pin {
                // A refused pin costs speed, not function; the report below names the reactor anyway.
                core_affinity::set_for_current(core_affinity::CoreId { id: core });
            }
            let (runtime, report) = match Runtime::new(common.config.reactor) {
                Ok(made) => made,
                Err(error) => {
                    let _ = started.send(Err(error.to_string()));
                    return;
                }
            };
            ringway_protocols::tls::warm_up();
            // Found now: afterwards the thread may not be able to open a file.
            if let Err(error) = NetNamespace::current() {
                let _ =
                    started.send(Err(format!("cannot find the own network namespace: {error}")));
                return;
            }
            if let Some(Err(why)) = common.config.on_start.as_ref().map(ShardHook::run) {
                let _ = started.send(Err(why));
                return;
            }
            let _ = started.send(Ok((report, runtime.pulse())));
            runtime.block_on(async move {
                let reader = SnapshotReader::new(published);
                let placement = Placement::new(id, placement, crate::runtime::now());
                let seed = crate::runtime::random();
                let shard = Shard::new(id, common, reader, placement, siblings, seed);
                shard.run(mailbox).await;
            });
        };
        let thread = std::thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(body)
            .map_err(StartError::Thread)?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        match start.recv() {
            Ok(Ok(started)) => Ok(started),
            Ok(Err(why)) => Err(StartError::Runtime(why)),
            Err(_) => Err(StartError::Runtime("a shard's thread ended at its start".to_owned())),
        }
    }

    /// Which reactor each shard waits on, and why.
    pub fn reactor_reports(&self) -> &[ReactorReport] {
        &self.reports
    }

    /// The shards whose turn has lasted for longer than this, and how long: they serve nobody meanwhile.
    pub fn stuck(&self, longer_than: Duration) -> Vec<(usize, Duration)> {
        let now = std::time::Instant::now();
        let lasts = |(shard, pulse): (usize, &Arc<Pulse>)| Some((shard, pulse.turn_lasts(now)?));
        let turns = self.pulses.iter().enumerate().filter_map(lasts);
        turns.filter(|(_, lasts)| *lasts > longer_than).collect()
    }

    /// How the engine runs.
    pub fn config(&self) -> &EngineConfig {
        &self.common.config
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.mailboxes.len()
    }

    /// Makes `snapshot` the one that every decision from now on is made on. Never waits for a shard.
    pub fn publish(&self, snapshot: Snapshot) {
        self.published.publish(snapshot);
        for mailbox in &self.mailboxes {
            // A full mailbox is woken by what fills it, and looks at the snapshot then.
            let _ = mailbox.try_send(Command::Published);
        }
    }

    /// The snapshot that was published last.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.published.current()
    }

    /// Begins to capture the workload of this uid. When this returns, every listener is bound on every shard.
    ///
    /// # Errors
    /// When a port cannot be bound on some shard; then nothing is captured.
    pub fn enroll(&self, uid: Arc<str>, namespace: NetNamespace) -> Result<(), EnrollError> {
        self.enroll_pod(uid.clone(), WorkloadKey::Uid(uid), namespace)
    }

    /// The same for a pod that has a uid of its own. Which workload it is, is asked for each connection: until
    /// a snapshot tells, nothing of it is served.
    ///
    /// # Errors
    /// As [`enroll`](Engine::enroll).
    pub fn enroll_pod(
        &self,
        uid: Arc<str>,
        workload: WorkloadKey,
        namespace: NetNamespace,
    ) -> Result<(), EnrollError> {
        self.enroll_as(uid, workload, namespace, Role::Workload)
    }

    /// The same for a pod of another role: only the listeners of that role are bound.
    ///
    /// # Errors
    /// As [`enroll`](Engine::enroll).
    pub fn enroll_as(
        &self,
        uid: Arc<str>,
        workload: WorkloadKey,
        namespace: NetNamespace,
        role: Role,
    ) -> Result<(), EnrollError> {
        let answers = self.ask(|answer| Command::Enroll {
            uid: uid.clone(),
            workload: workload.clone(),
            namespace: namespace.clone(),
            role: role.clone(),
            answer,
        });
        if let Some(error) = answers.into_iter().find_map(Result::err) {
            self.withdraw(&uid);
            return Err(error);
        }
        self.note_enrolled(uid);
        Ok(())
    }

    /// Stops capturing a workload and cuts its connections.
    pub fn withdraw(&self, uid: &str) {
        self.enrolled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|enrolled| **enrolled != *uid);
        self.ask(|answer| Command::Withdraw { uid: uid.into(), answer });
    }

    /// The workloads that are captured.
    pub fn enrolled(&self) -> Vec<Arc<str>> {
        self.enrolled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the engine tells.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.common.telemetry
    }

    /// Every limit that a workload of this host has reached since it was enrolled.
    pub fn limits_reached(&self) -> Vec<LimitReached> {
        self.common.accounts.reached()
    }

    /// The next hostname that a connection needs and the snapshot does not resolve. Control looks often, resolves it,
    /// and publishes a snapshot that does ([`Snapshot::set_resolution`]); the same name may come more than once.
    pub fn next_wanted_hostname(&self) -> Option<Box<str>> {
        self.common.wanted.next()
    }

    /// The next name of a workload or service that a connection must know of and the snapshot does not: `network/address`
    /// or `namespace/hostname`. Control looks often, asks the control plane, and publishes a snapshot that has it, or says
    /// that it was answered ([`Snapshot::set_answered`]); the same name may come more than once.
    pub fn next_wanted_name(&self) -> Option<Box<str>> {
        self.common.wanted_names.next()
    }

    /// Every connection that is open now; a shard that is stuck tells of none.
    pub fn connections(&self) -> Vec<OpenConnection> {
        let told = self.look(|answer| Command::Describe { answer });
        told.into_iter().flatten().flatten().collect()
    }

    /// What each shard's runtime has counted; of a shard that is stuck, what it had when it was asked last.
    pub fn runtime_counters(&self) -> Vec<Counters> {
        let told = self.look(|answer| Command::Counters { answer });
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for (counted, told) in counted.iter_mut().zip(told) {
            *counted = told.unwrap_or(*counted);
        }
        counted.clone()
    }

    /// Further descriptors of every listening socket, with the workload it belongs to, for another
    /// process. This one goes on accepting.
    ///
    /// # Errors
    /// When descriptors are short.
    pub fn listening(&self) -> io::Result<Vec<ListeningWorkload>> {
        let mut workloads: BTreeMap<Arc<str>, ListeningWorkload> = BTreeMap::new();
        for of_shard in self.ask(|answer| Command::Listening { answer }) {
            for workload in of_shard? {
                match workloads.get_mut(&workload.uid) {
                    Some(known) => known.sockets.extend(workload.sockets),
                    None => drop(workloads.insert(workload.uid.clone(), workload)),
                }
            }
        }
        Ok(workloads.into_values().collect())
    }

    /// Takes over a workload's listening sockets from another process, spread over the shards. Nothing is
    /// accepted from them before [`begin_accepting`](Engine::begin_accepting).
    ///
    /// # Errors
    /// When one of them is not what this engine would listen on; then nothing is taken.
    pub fn take_listeners(&self, workload: ListeningWorkload) -> Result<(), EnrollError> {
        let ListeningWorkload { uid, namespace, sockets } = workload;
        let mut all_transparent = true;
        for (way, socket) in &sockets {
            let address = self.common.config.listen_address(*way);
            let refuse = |error| EnrollError { port: address.port(), error };
            all_transparent &=
                runtime::check_listener(socket, &namespace, address).map_err(refuse)?;
        }
        let shards = self.shards();
        let mut shares: Vec<Vec<(Way, OwnedFd)>> = (0..shards).map(|_| Vec::new()).collect();
        let mut dealt = [0; Way::ALL.len()];
        for (way, socket) in sockets {
            shares[dealt[way as usize] % shards].push((way, socket));
            dealt[way as usize] += 1;
        }
        let mut shares = shares.into_iter();
        self.ask(|answer| Command::TakeListeners {
            uid: uid.clone(),
            namespace: namespace.clone(),
            all_transparent,
            sockets: shares.next().unwrap_or_default(),
            answer,
        });
        self.note_enrolled(uid);
        Ok(())
    }

    /// Accepts from all listeners that were taken over, and binds those a shard has none of.
    ///
    /// # Errors
    /// The first that could not be bound; all others are served.
    pub fn begin_accepting(&self) -> Result<(), EnrollError> {
        let outcomes = self.ask(|answer| Command::BeginAccepting { answer });
        outcomes.into_iter().fold(Ok(()), Result::and)
    }

    /// Gives up live plain connections of these workloads, at most `most` of each shard, for another
    /// process. None is left when the answer is empty; others may come up later.
    pub fn call_away(
        &self,
        workloads: &Arc<BTreeSet<Arc<str>>>,
        most: usize,
    ) -> Vec<MovedConnection> {
        let moved =
            self.ask(|answer| Command::CallAway { workloads: workloads.clone(), most, answer });
        moved.into_iter().flatten().collect()
    }

    /// Goes on with a connection of another process, on the next shard in turn.
    pub fn resume(&self, moved: MovedConnection) {
        let shard = self.next_shard.fetch_add(1, Relaxed) % self.shards();
        self.tell(shard, Command::Resume { moved: Box::new(moved) });
    }

    /// Stops accepting and waits until every connection has ended, at most until `deadline`; what is
    /// left then is cut.
    pub fn drain(&self, deadline: Duration) -> DrainReport {
        self.drain_with(deadline, Queues::Empty)
    }

    /// The same when another process has taken over the listening sockets: what waits to be accepted
    /// is left to it.
    pub fn drain_after_handover(&self, deadline: Duration) -> DrainReport {
        self.drain_with(deadline, Queues::Leave)
    }

    fn drain_with(&self, deadline: Duration, queues: Queues) -> DrainReport {
        let reports = self.ask(|answer| Command::Drain { deadline, queues, answer });
        reports.into_iter().fold(DrainReport::default(), |sum, report| DrainReport {
            open: sum.open + report.open,
            cut: sum.cut + report.cut,
        })
    }

    /// Asks every shard and collects what they answer. A shard that has ended does not answer.
    fn ask<A>(&self, mut command: impl FnMut(mpsc::Sender<A>) -> Command) -> Vec<A> {
        let (answer, answers) = mpsc::channel();
        for shard in 0..self.shards() {
            self.tell(shard, command(answer.clone()));
        }
        drop(answer);
        answers.iter().collect()
    }

    /// Asks every shard, and waits for the answers only so long.
    fn look<A>(&self, mut command: impl FnMut(mpsc::Sender<A>) -> Command) -> Vec<Option<A>> {
        let asked: Vec<_> = self
            .mailboxes
            .iter()
            .map(|mailbox| {
                let (answer, answers) = mpsc::channel();
                // One that has no room has not looked at its mailbox for long.
                let _ = mailbox.try_send(command(answer));
                answers
            })
            .collect();
        let deadline = Instant::now() + SHARD_LOOK_TIMEOUT;
        let left = || deadline.saturating_duration_since(Instant::now());
        asked.into_iter().map(|answers| answers.recv_timeout(left()).ok()).collect()
    }

    fn tell(&self, shard: usize, mut command: Command) {
        // Commands are rare and must arrive: a mailbox full of connections empties in a moment.
        while let Err(TrySendError::Full(refused)) = self.mailboxes[shard].try_send(command) {
            command = refused;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn note_enrolled(&self, uid: Arc<str>) {
        let mut enrolled = self.enrolled.lock().unwrap_or_else(PoisonError::into_inner);
        if !enrolled.contains(&uid) {
            enrolled.push(uid);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.ask::<()>(|_answer| Command::Stop);
        let threads =
            std::mem::take(self.threads.get_mut().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A shard that panicked has said so; there is no one to tell here.
            let _ = thread.join();
        }
    }
}
