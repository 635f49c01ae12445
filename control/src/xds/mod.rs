//! The client of a control plane: learns from it who is in the mesh and who may talk to whom, over one stream (delta
//! discovery, `istio.workload.Address` and `istio.security.Authorization`).
//!
//! ```text
//!   bytes ─▶ Reader ─▶ Piece ─▶ Session ─▶ State ─▶ Update ─▶ whoever runs the engine
//!            (framing)          (protocol)  (world)  (watch)
//! ```
//!
//! `Session`, `Reader`, `State` and `Backoff` are machines without connection or clock; [`XdsClient`] moves what they say
//! over a [`Channel`](crate::grpc::Channel), on the control thread.
//!
//! **Invariant:** a control plane that is slow, wrong or gone changes nothing that is in force: a refused resource leaves its
//! predecessor, and a lost stream leaves everything. A response applies whole or not at all; only of workloads and services
//! that are more than `session::PART_BYTES_MAX`, and come when everything was told once, each part of
//! that size does, so that what was and what comes are never in memory as a whole together.
//!
//! **Invariant:** no more than a slice of a response is applied before the thread's other tasks have a turn.

mod backoff;
mod counts;
pub mod decode;
mod demand;
mod end;
#[cfg(feature = "waypoint")]
pub mod l7;
mod local;
mod node;
mod reader;
mod refused;
mod request;
mod session;
mod state;
mod stream;
mod told;
mod unnamed;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use ringway_engine::snapshot::Snapshot;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

pub use self::counts::Counts;
pub use self::demand::Refused;
pub use self::end::Termination;
pub use self::local::LocalWorkloads;
pub use self::node::{NodeIdentity, NodeType};

use self::backoff::Backoff;
use self::end::{End, Reason};
use self::session::Session;
use self::stream::{Ask, Client};
use crate::grpc::{self, Endpoint};

/// How long somebody waits for a resource. The data plane waits as long for a workload.
const DEMAND_WAIT: Duration = Duration::from_secs(5);

/// The longest delay before the next attempt when somebody is in a hurry; many may be, for as long as nobody answers.
const HURRIED_DELAY_MAX: Duration = Duration::from_millis(250);

/// Questions for resources that were not looked at yet.
const ASKS_MAX: usize = 1024;

/// What a client needs.
#[derive(Clone, Debug)]
pub struct XdsConfig {
    /// The control plane.
    pub endpoint: Endpoint,
    /// Who we are.
    pub node: NodeIdentity,
    /// Tells only what is asked for.
    pub is_on_demand: bool,
    /// What is known without a control plane; what it tells wins.
    pub known: Snapshot,
}

/// What is known after a response.
#[derive(Clone, Debug)]
pub struct Update {
    /// Grows with every change.
    pub revision: u64,
    /// The mesh, without anybody's credentials.
    pub snapshot: Snapshot,
    /// The workloads of this host.
    pub local: LocalWorkloads,
    /// What a waypoint or gateway was told of its Gateway.
    #[cfg(feature = "waypoint")]
    pub l7: l7::ToldL7,
    /// Whether a response of each type was applied without anything refused: then this is what the control plane knows.
    pub is_synced: bool,
}

impl Update {
    fn of(session: &Session) -> Update {
        Update {
            revision: session.revision(),
            snapshot: session.snapshot().clone(),
            local: session.local().clone(),
            #[cfg(feature = "waypoint")]
            l7: session.l7().clone(),
            is_synced: session.is_synced(),
        }
    }
}

/// A client that runs until it is dropped.
#[derive(Debug)]
pub struct XdsClient {
    updates: watch::Receiver<Update>,
    counts: Arc<Counts>,
    asks: mpsc::Sender<Ask>,
    hurry: Arc<Notify>,
    task: JoinHandle<()>,
}

impl XdsClient {
    /// Begins to connect, again and again. Must be called on a tokio runtime.
    pub fn start(config: XdsConfig) -> XdsClient {
        let XdsConfig { endpoint, node, is_on_demand, known } = config;
        let kinds = node.node_type.kinds();
        let session = Session::new(node.node(), kinds, node.node_name, is_on_demand, known);
        let (updates, receiver) = watch::channel(Update::of(&session));
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let counts = Arc::new(Counts::default());
        let hurry = Arc::new(Notify::new());
        let client = Client {
            session,
            updates,
            counts: Arc::clone(&counts),
            asks: asked,
            waiting: HashMap::new(),
        };
        let task = tokio::spawn(run(client, endpoint, Arc::clone(&hurry)));
        XdsClient { updates: receiver, counts, asks, hurry, task }
    }

    /// What is known, now and whenever it changes.
    pub fn updates(&self) -> watch::Receiver<Update> {
        self.updates.clone()
    }

    /// What was counted.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Somebody waits for what the control plane would say: if there is no connection, try now rather than later.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Asks for a resource by its name or an alias (`network/IP`, `namespace/hostname`, a uid), and waits until the control
    /// plane has told it, or that there is none. Gives the revision that has it.
    ///
    /// # Errors
    /// [`Refused`], also when there is no answer within five seconds.
    pub fn demand(&self, name: &str) -> impl Future<Output = Result<u64, Refused>> + use<> {
        let (answer, answered) = oneshot::channel();
        let sent = self.asks.try_send(Ask { name: name.to_owned(), answer });
        async move {
            sent.map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Refused::TooMany,
                mpsc::error::TrySendError::Closed(_) => Refused::Ended,
            })?;
            match timeout(DEMAND_WAIT, answered).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(Refused::Ended),
                Err(_) => Err(Refused::TooLate),
            }
        }
    }
}

impl Drop for XdsClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(mut client: Client, endpoint: Endpoint, hurry: Arc<Notify>) {
    let mut backoff = Backoff::new(RandomState::new().hash_one(&endpoint.cluster_id));
    let mut outage = Outage::default();
    loop {
        let end = match grpc::connect(&endpoint).await {
            Ok(channel) => match client.converse(channel).await {
                end if endpoint.token.is_none() => end.of_nobody(),
                end => end,
            },
            Err(error) => End::Unreachable(error.to_string()),
        };
        client.counts.ended(&end);
        let delay = backoff.after(&end);
        outage.tell(&end, delay);
        wait(&mut client, delay, &hurry).await;
    }
}

/// Streams in a row that came to nothing. They are told when the first does, when another reason comes up, and ever more
/// rarely after that.
#[derive(Default)]
struct Outage {
    failures: u64,
    reason: Option<Reason>,
}

impl Outage {
    fn tell(&mut self, end: &End, delay: Duration) {
        let again_ms = delay.as_millis() as u64;
        if end.was_established() {
            *self = Outage::default();
            tracing::info!(again_ms, why = %end, "stream from the control plane ended; a new one follows");
            return;
        }
        let failures = self.failures + 1;
        if self.is_news(end.reason()) {
            tracing::warn!(
                again_ms,
                failures,
                why = %end,
                "no stream from the control plane; what is known stays in force"
            );
        } else {
            tracing::debug!(again_ms, failures, why = %end, "no stream from the control plane");
        }
    }

    fn is_news(&mut self, reason: Reason) -> bool {
        self.failures += 1;
        let is_another = self.reason.replace(reason) != Some(reason);
        is_another || self.failures.is_power_of_two()
    }
}

/// Waits, and remembers who asks for what meanwhile: the next stream begins with it.
async fn wait(client: &mut Client, delay: Duration, hurry: &Notify) {
    let began = Instant::now();
    let over = sleep_until(began + delay);
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = &mut over => return,
            () = hurry.notified() => over.as_mut().reset(began + delay.min(HURRIED_DELAY_MAX)),
            Some(ask) = client.asks.recv() => {
                client.enlist(ask);
            }
        }
    }
}

#[cfg(test)]
mod tests;
