//! A host of the mesh inside a simulated world (feature `sim`): the production shard on a seeded
//! network.
//!
//! Several hosts share one [`World`](crate::runtime::World) and one thread; each has a shard of its own, as on a machine of one
//! core.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    sync::{
        Arc,
        mpsc::{self, TryRecvError},
    },
    time::Duration,
};

use crate::{
    DrainReport, EngineConfig, EnrollError, MovedConnection, OpenConnection, Role,
    accounts::{Accounts, LimitReached},
    drain::Queues,
    limits::MAILBOX_MAX,
    placement::{Placement, PlacementTable, ShardId},
    publish::{Published, SnapshotReader},
    runtime::{self, MailSender, NetNamespace, Task, mailbox},
    shard::{Command, Common, Shard},
    snapshot::{Snapshot, WorkloadKey},
    telemetry::Telemetry,
    wanted::Wanted,
};

/// What is alive on this thread of what a host is made of, and how many. Nothing may be once the runtime of
/// a simulated run has been dropped.
pub fn alive() -> Vec<(&'static str, usize)> {
    crate::alive::alive()
}

/// One simulated host, running in the current runtime.
pub struct SimHost {
    published: Arc<Published>,
    accounts: Arc<Accounts>,
    telemetry: Arc<Telemetry>,
    wanted: Arc<Wanted>,
    wanted_names: Arc<Wanted>,
    commands: MailSender<Command>,
    shard: RefCell<Option<Task>>,
}

impl SimHost {
    /// Starts the host's shard as a task of the current runtime.
    pub fn start(snapshot: Snapshot, seed: u64) -> Self {
        Self::start_with(EngineConfig::default(), snapshot, seed)
    }

    /// The same, configured. Cores and reactor are the simulation's.
    pub fn start_with(config: EngineConfig, snapshot: Snapshot, seed: u64) -> Self {
        let published = Published::new(snapshot);
        let common = Common::new(config);
        let (telemetry, wanted) = (common.telemetry.clone(), common.wanted.clone());
        let (wanted_names, accounts) = (common.wanted_names.clone(), common.accounts.clone());
        let (commands, mailbox) = mailbox(MAILBOX_MAX);
        let placement = Placement::new(ShardId(0), PlacementTable::new(1), runtime::now());
        let shard = Shard::new(
            ShardId(0),
            common,
            SnapshotReader::new(published.clone()),
            placement,
            vec![commands.clone()],
            seed,
        );
        let shard = runtime::spawn(shard.run(mailbox));
        Self {
            published,
            accounts,
            telemetry,
            wanted,
            wanted_names,
            commands,
            shard: RefCell::new(Some(shard)),
        }
    }

    /// Makes `snapshot` the one that every decision from now on is made on.
    pub fn publish(&self, snapshot: Snapshot) {
        self.published.publish(snapshot);
        self.tell(Command::Published);
    }

    /// Begins to capture a workload.
    ///
    /// # Errors
    /// When a port cannot be bound.
    pub async fn enroll(&self, uid: &str, namespace: &NetNamespace) -> Result<(), EnrollError> {
        self.enroll_pod(uid, WorkloadKey::Uid(uid.into()), namespace).await
    }

    /// As [`Engine::enroll_pod`](crate::Engine::enroll_pod).
    ///
    /// # Errors
    /// When a port cannot be bound.
    pub async fn enroll_pod(
        &self,
        uid: &str,
        workload: WorkloadKey,
        namespace: &NetNamespace,
    ) -> Result<(), EnrollError> {
        self.enroll_as(uid, workload, namespace, Role::Workload).await
    }

    /// As [`Engine::enroll_as`](crate::Engine::enroll_as).
    ///
    /// # Errors
    /// When a port cannot be bound.
    pub async fn enroll_as(
        &self,
        uid: &str,
        workload: WorkloadKey,
        namespace: &NetNamespace,
        role: Role,
    ) -> Result<(), EnrollError> {
        let (uid, namespace) = (uid.into(), namespace.clone());
        self.ask(|answer| Command::Enroll { uid, workload, namespace, role, answer }).await
    }

    /// Stops capturing a workload and cuts its connections.
    pub async fn withdraw(&self, uid: &str) {
        self.ask(|answer| Command::Withdraw { uid: uid.into(), answer }).await;
    }

    /// Lets connections end, and cuts what is left at the deadline.
    pub async fn drain(&self, deadline: Duration) -> DrainReport {
        let queues = Queues::Empty;
        self.ask(|answer| Command::StopAccepting { deadline, queues, answer }).await;
        self.ask(|answer| Command::Drain { deadline, answer }).await
    }

    /// As [`Engine::call_away`](crate::Engine::call_away).
    pub async fn call_away(
        &self,
        workloads: &Arc<BTreeSet<Arc<str>>>,
        most: usize,
    ) -> Vec<MovedConnection> {
        let workloads = workloads.clone();
        self.ask(|answer| Command::CallAway { workloads, most, answer }).await
    }

    /// As [`Engine::resume`](crate::Engine::resume).
    pub fn resume(&self, moved: MovedConnection) {
        self.tell(Command::Resume { moved: Box::new(moved) });
    }

    /// Ends the host's shard.
    pub async fn stop(&self) {
        let shard = self.shard.take();
        if let Some(shard) = shard {
            self.tell(Command::Stop);
            shard.await;
        }
    }

    /// The connections that are open.
    pub async fn connections(&self) -> Vec<OpenConnection> {
        self.ask(|answer| Command::Describe { answer }).await
    }

    /// As [`Engine::next_wanted_hostname`](crate::Engine::next_wanted_hostname).
    pub fn next_wanted_hostname(&self) -> Option<Box<str>> {
        self.wanted.next()
    }

    /// As [`Engine::next_wanted_name`](crate::Engine::next_wanted_name).
    pub fn next_wanted_name(&self) -> Option<Box<str>> {
        self.wanted_names.next()
    }

    /// As [`Engine::limits_reached`](crate::Engine::limits_reached).
    pub fn limits_reached(&self) -> Vec<LimitReached> {
        self.accounts.reached()
    }

    /// What the host tells.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    fn tell(&self, command: Command) {
        let told = self.commands.try_send(command).is_ok();
        assert!(told, "a simulated host's mailbox never fills");
    }

    /// Asks the shard; it answers in one of the next turns of the same thread.
    async fn ask<A>(&self, command: impl FnOnce(mpsc::Sender<A>) -> Command) -> A {
        let (answer, answers) = mpsc::channel();
        self.tell(command(answer));
        loop {
            match answers.try_recv() {
                Ok(answer) => return answer,
                Err(TryRecvError::Empty) => runtime::sleep(Duration::from_micros(100)).await,
                Err(TryRecvError::Disconnected) => panic!("the shard has ended"),
            }
        }
    }
}
