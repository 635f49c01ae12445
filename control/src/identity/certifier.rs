//! Keeps the leaves of this host fresh: asks the authority for what the store says is due, and takes its answers.
//!
//! ```text
//!   keep, demand ─▶ IdentityStore ─▶ Job ─▶ Authority: embedded (answers at once) │ Istio's │ Workload API
//!                        ▲                     │
//!                        └───── answer ◀───────┘        changed() says that poll() is worth calling;
//!                                                       what poll() returns is for the engine
//! ```
//!
//! Everything happens on the control thread. Nobody waits for an authority: a job under way is a task of its own.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ringway_protocols::identity::Identity;
use ringway_protocols::tls::{Material, RevocationLists};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::sleep;

use super::embedded_ca::{CaError, EmbeddedCa};
use super::istio_ca::IstioCa;
use super::store::{
    CredentialChange, Epoch, IdentityStatus, IdentityStore, IssueCounts, Issuer, Job, Refusal,
};
use super::workload_api::WorkloadApi;
use crate::source::{Source, Watcher};

/// How often connections that wait are looked for, while an identity has no certificate.
const DEMAND_INTERVAL: Duration = Duration::from_millis(50);

/// Without anything due it is looked at this often all the same: the clock may have been set.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Where certificates come from.
pub enum Authority {
    /// From a directory of this host.
    Embedded(Box<EmbeddedCa>),
    /// From a control plane.
    Istio(IstioAuthority),
    /// From an agent of this host.
    Workload(WorkloadApi),
}

/// Istio's certificate service, and the watch over the file of its roots.
pub struct IstioAuthority {
    client: Rc<IstioCa>,
    roots: Option<Watcher>,
}

impl IstioAuthority {
    /// The client, with its roots watched.
    ///
    /// # Errors
    /// When no thread can be started for the watch.
    pub fn new(client: IstioCa) -> std::io::Result<Self> {
        let file = client.config().endpoint.roots.file();
        let roots = file.map(|file| Watcher::new(&[Source::Path(file)])).transpose()?;
        Ok(Self { client: Rc::new(client), roots })
    }
}

impl From<EmbeddedCa> for Authority {
    fn from(ca: EmbeddedCa) -> Self {
        Self::Embedded(Box::new(ca))
    }
}

type Answer = Result<Material, Refusal>;

/// See the module's text.
pub struct Certifier {
    store: IdentityStore,
    authority: Authority,
    asking: JoinSet<Answer>,
    jobs: HashMap<Id, Job>,
    answers: Vec<(Job, Answer)>,
}

impl Certifier {
    /// Keeps what `store` keeps, with certificates of this authority.
    pub fn new(store: IdentityStore, authority: Authority) -> Self {
        Self { store, authority, asking: JoinSet::new(), jobs: HashMap::new(), answers: Vec::new() }
    }

    /// Keeps leaves for exactly these identities from now on; see [`IdentityStore::keep`].
    pub fn keep<'a>(
        &mut self,
        identities: impl IntoIterator<Item = &'a Identity>,
        now: SystemTime,
    ) -> Vec<CredentialChange> {
        self.store.keep(identities, now)
    }

    /// A connection waits for this identity; see [`IdentityStore::demand`].
    pub fn demand(&mut self, identity: &Identity, now: SystemTime) {
        self.store.demand(identity, now);
    }

    /// Holds peers against other revocation lists from now on.
    pub fn set_revocation(&mut self, lists: &Arc<RevocationLists>) -> Vec<CredentialChange> {
        self.store.set_revocation(lists)
    }

    /// Takes the answers that came, asks for what is due, and says what the engine must be told.
    pub fn poll(&mut self, now: SystemTime) -> Vec<CredentialChange> {
        match &self.authority {
            Authority::Embedded(ca) => return self.store.poll(&**ca, now),
            Authority::Workload(agent) => return self.store.poll(agent, now),
            Authority::Istio(_) => {}
        }
        self.collect();
        let mut changes = self.store.tick(&self.epoch(now), now);
        for (job, answer) in std::mem::take(&mut self.answers) {
            let roots = answer.as_ref().ok().map(|material| material.trust_anchors.clone());
            let change = self.store.finish(job, answer, now);
            let learned = match (&change, roots) {
                (Some(_), Some(roots)) => self.store.learn_roots(&roots, now),
                _ => Vec::new(),
            };
            changes.extend(change.into_iter().chain(learned));
        }
        while let Some(job) = self.store.next_job(now) {
            self.ask(job);
        }
        changes
    }

    /// Whether a poll now would do everything that waits for its first certificate.
    pub fn can_settle(&self, now: SystemTime) -> bool {
        matches!(self.authority, Authority::Embedded(_)) && self.store.waits_for_first(now)
    }

    /// Whether the authority has yet to say of an identity whether it gives it.
    pub fn lacks_answer(&self) -> bool {
        self.store.lacks_answer()
    }

    /// Waits until a poll is worth while. Dropping the future loses nothing.
    ///
    /// `wanted` gives identities that connections wait for, one at a time.
    pub async fn changed(&mut self, mut wanted: impl FnMut() -> Option<Identity>) {
        loop {
            let now = SystemTime::now();
            while let Some(identity) = wanted() {
                self.store.demand(&identity, now);
            }
            let deadline = self.store.next_deadline();
            let pause = deadline.map(|deadline| deadline.duration_since(now).unwrap_or_default());
            let looks = self.store.lacks_any();
            tokio::select! {
                Some(answer) = self.asking.join_next_with_id(), if !self.asking.is_empty() => {
                    self.take(answer);
                    return;
                }
                () = authority_changed(&mut self.authority) => return,
                () = sleep(pause.unwrap_or(LOOK_INTERVAL).min(LOOK_INTERVAL)) => return,
                () = sleep(DEMAND_INTERVAL), if looks => {}
            }
        }
    }

    /// Looks whether somebody changed the embedded authority.
    ///
    /// # Errors
    /// When it did change and cannot be used; the one before stays.
    pub fn refresh(&mut self, now: SystemTime) -> Result<(), CaError> {
        match &mut self.authority {
            Authority::Embedded(ca) => ca.refresh(now),
            Authority::Istio(_) | Authority::Workload(_) => Ok(()),
        }
    }

    /// When each authority whose key is on this host expires, by its role.
    pub fn expiries(&self, now: SystemTime) -> Vec<(String, SystemTime)> {
        match &self.authority {
            Authority::Embedded(ca) => ca.expiries(now),
            Authority::Istio(_) | Authority::Workload(_) => Vec::new(),
        }
    }

    /// When to poll next at the latest.
    pub fn next_deadline(&self) -> Option<SystemTime> {
        self.store.next_deadline()
    }

    /// Every identity with its state, in order.
    pub fn statuses(&self) -> Vec<IdentityStatus> {
        self.store.statuses()
    }

    /// How often what happened.
    pub fn counts(&self) -> IssueCounts {
        self.store.counts()
    }

    fn epoch(&self, now: SystemTime) -> Epoch {
        match &self.authority {
            Authority::Embedded(ca) => Issuer::epoch(&**ca, now),
            Authority::Workload(agent) => agent.epoch(now),
            Authority::Istio(istio) => istio.client.epoch(),
        }
    }

    fn ask(&mut self, job: Job) {
        let identity = job.identity.clone();
        let asked = match &self.authority {
            Authority::Embedded(_) | Authority::Workload(_) => {
                unreachable!("they answer within a poll")
            }
            Authority::Istio(istio) => {
                let client = Rc::clone(&istio.client);
                self.asking.spawn_local(async move { client.issue(&identity).await })
            }
        };
        self.jobs.insert(asked.id(), job);
    }

    /// Answers that are there already.
    fn collect(&mut self) {
        while let Some(answer) = self.asking.try_join_next_with_id() {
            self.take(answer);
        }
    }

    fn take(&mut self, answer: Result<(Id, Answer), JoinError>) {
        let (id, answer) = match answer {
            Ok(answered) => answered,
            Err(broken) => {
                let why = format!("asking for it broke: {broken}");
                (broken.id(), Err(Refusal::Refused(why)))
            }
        };
        if let Some(job) = self.jobs.remove(&id) {
            self.answers.push((job, answer));
        }
    }
}

async fn authority_changed(authority: &mut Authority) {
    match authority {
        Authority::Istio(IstioAuthority { client, roots: Some(roots) }) => loop {
            roots.changed().await;
            if client.look_at_roots() {
                tracing::info!(
                    "the authority's roots changed: it is connected to anew, and every certificate is asked for again"
                );
                return;
            }
        },
        Authority::Workload(agent) => agent.changed().await,
        _ => std::future::pending().await,
    }
}
