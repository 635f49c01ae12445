//! The engine as control sees it: start it, publish snapshots to it, enroll workloads, read what it
//! tells, drain it.

mod handover;
mod start;

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicUsize, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub use self::start::StartError;
use crate::{
    accounts::LimitReached,
    capture::EnrollError,
    config::EngineConfig,
    connection::OpenConnection,
    drain::{DrainReport, Queues},
    limits::SHARD_LOOK_TIMEOUT,
    publish::Published,
    role::Role,
    runtime::{Counters, MailSender, NetNamespace, Pulse, ReactorReport, TrySendError},
    shard::{Command, Common},
    snapshot::{Snapshot, WorkloadKey},
    telemetry::Telemetry,
};

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

    /// Frees snapshots that were published before and that every shard has left, on the calling thread. How many were.
    /// A publication does so, too; but the one before it may not have been left by then, and would stay until the next.
    pub fn free_left_snapshots(&self) -> usize {
        self.published.free_left()
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

    /// Has a gateway listen on these ports from here on, and on no others; publish the snapshot that has them first.
    /// Connections that are open stay.
    ///
    /// # Errors
    /// When a new port cannot be bound on some shard; there, the ports stay as they were.
    #[cfg(feature = "waypoint")]
    pub fn listen_on(&self, uid: &str, ports: &[u16]) -> Result<(), EnrollError> {
        let ports: Arc<[u16]> = ports.into();
        let answers = self.ask(|answer| {
            let (uid, ports) = (uid.into(), ports.clone());
            Command::ListenOn { uid, ports, answer }
        });
        answers.into_iter().collect()
    }

    /// Stops capturing a workload and cuts its connections. Returns when they are closed, or have had
    /// [`WITHDRAWAL_TIMEOUT`](crate::limits::WITHDRAWAL_TIMEOUT) for it.
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
    /// and publishes a snapshot that does ([`Snapshot::set_resolutions`]); the same name may come more than once.
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
        let began = Instant::now();
        self.ask(|answer| Command::StopAccepting { deadline, queues, answer });
        let deadline = deadline.saturating_sub(began.elapsed());
        let reports = self.ask(|answer| Command::Drain { deadline, answer });
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
