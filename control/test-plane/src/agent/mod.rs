//! A node's agent, as istio-cni is one: it knows the node's pods, puts redirect rules into them, and tells the node
//! proxies that are connected.
//!
//! Added pods are told to the newest proxy only, removed ones to all; a proxy that connects is told everything. What
//! the newest proxy refused is told again, as a kubelet would try again.

mod packet;
mod session;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use self::packet::PacketListener;
pub use self::packet::PacketSocket;
use self::session::{ACK_PATIENCE, Order, Session, Telling};
use crate::controls::{Controls, Service};
use crate::journal::Journal;
use crate::mesh::Pod;
use crate::redirect::{self, Rules};

/// After this long a pod that was refused is told again.
const RETRY: Duration = Duration::from_secs(1);

/// The pause after a connection was accepted: at most five in a second.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The agent of one node.
pub(crate) struct Agent {
    node: String,
    path: PathBuf,
    /// `None`: rules are somebody else's.
    rules: Option<Rules>,
    journal: Arc<Journal>,
    controls: Arc<Controls>,
    /// The pods there should be.
    wanted: watch::Sender<BTreeMap<String, Pod>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The pods there are, by uid.
    pods: BTreeMap<String, Enrolled>,
    /// The proxies, the newest last.
    sessions: Vec<(u64, mpsc::UnboundedSender<Order>)>,
    sessions_ever: u64,
}

struct Enrolled {
    pod: Pod,
    /// `None` after a restart of the agent that kept it.
    namespace: Option<Arc<OwnedFd>>,
    has_rules: bool,
    /// Whether the newest proxy has acknowledged it.
    acknowledged: bool,
}

impl Agent {
    /// An agent without pods.
    pub(crate) fn new(
        node: &str,
        path: PathBuf,
        rules: Option<Rules>,
        journal: Arc<Journal>,
        controls: Arc<Controls>,
    ) -> Arc<Agent> {
        let (wanted, state) = (watch::Sender::default(), Mutex::default());
        Arc::new(Agent { node: node.to_owned(), path, rules, journal, controls, wanted, state })
    }

    /// The node it is on.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// Says which pods there should be from now on.
    pub(crate) fn want(&self, pods: impl IntoIterator<Item = Pod>) {
        let pods = pods.into_iter().map(|pod| (pod.uid.clone(), pod)).collect();
        self.wanted.send_if_modified(|wanted| {
            let changed = *wanted != pods;
            *wanted = pods;
            changed
        });
    }

    /// Adds or removes one pod to or from those there should be.
    pub(crate) fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Pod>)) {
        self.wanted.send_modify(change);
    }

    /// Forgets the namespaces of all pods, as an agent does that was restarted and cannot find them.
    pub(crate) fn forget_namespaces(&self) {
        self.state().pods.values_mut().for_each(|enrolled| enrolled.namespace = None);
    }

    /// What there is, for people and tests.
    pub(crate) fn status(&self) -> Value {
        let state = self.state();
        let pods: Vec<Value> = state
            .pods
            .values()
            .map(|each| json!({"name": each.pod.name, "acknowledged": each.acknowledged}))
            .collect();
        json!({"node": self.node, "proxies": state.sessions.len(), "pods": pods})
    }

    /// Works until it is dropped: listens while it may, and brings about what is wanted.
    pub(crate) async fn run(self: Arc<Self>) {
        let listening = Arc::clone(&self).listen_while_running();
        tokio::join!(listening, self.reconcile_for_ever());
    }

    async fn listen_while_running(self: Arc<Self>) {
        loop {
            self.controls.wait(Service::Agent, true).await;
            tokio::select! {
                outcome = Arc::clone(&self).listen() => {
                    let error = format!("{outcome:#?}");
                    self.journal.record("agent-failed", json!({"node": self.node, "error": error}));
                    eprintln!("the agent of {} cannot listen: {error}", self.node);
                    tokio::time::sleep(RETRY).await;
                }
                () = self.controls.wait(Service::Agent, false) => {}
            }
        }
    }

    /// Accepts proxies. When this is dropped, all of their connections end.
    async fn listen(self: Arc<Self>) -> Result<()> {
        let listener = PacketListener::bind(&self.path)
            .with_context(|| format!("cannot listen at {}", self.path.display()))?;
        let mut sessions = tokio::task::JoinSet::new();
        loop {
            let socket = listener.accept().await?;
            sessions.spawn(Arc::clone(&self).serve(socket));
            while sessions.try_join_next().is_some() {}
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }

    async fn serve(self: Arc<Self>, socket: PacketSocket) {
        let number = {
            let mut state = self.state();
            state.sessions_ever += 1;
            state.sessions_ever
        };
        let name = format!("{}-{number}", self.node);
        let (journal, controls) = (Arc::clone(&self.journal), Arc::clone(&self.controls));
        let session = Session { socket, name: name.clone(), journal, controls };
        let ended = async {
            session.hello().await?;
            let entry = Entry::of(&self, number);
            let (snapshot, orders) = entry.begin();
            session.serve(snapshot, orders, |telling, answer| self.told(telling, answer)).await
        };
        let reason = match ended.await {
            Ok(()) => "closed".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        self.journal.record("session-ended", json!({"session": name, "reason": reason}));
    }

    fn told(&self, telling: &Telling, answer: &str) {
        if let Telling::Add(pod, _) | Telling::Keep(pod) = telling
            && let Some(enrolled) = self.state().pods.get_mut(&pod.uid)
        {
            enrolled.acknowledged = answer.is_empty();
        }
    }

    async fn reconcile_for_ever(&self) {
        let mut wanted = self.wanted.subscribe();
        loop {
            let pods = wanted.borrow_and_update().clone();
            self.reconcile(&pods).await;
            let unfinished =
                self.state().pods.len() < pods.len()
                    || self.state().pods.values().any(|each| {
                        !each.acknowledged || (self.rules.is_some() && !each.has_rules)
                    });
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if unfinished => {}
            }
        }
    }

    async fn reconcile(&self, wanted: &BTreeMap<String, Pod>) {
        let gone: Vec<Pod> = {
            let state = self.state();
            let gone = state.pods.values().filter(|each| !wanted.contains_key(&each.pod.uid));
            gone.map(|each| each.pod.clone()).collect()
        };
        for pod in gone {
            self.remove(&pod).await;
        }
        for pod in wanted.values() {
            let known = self.state().pods.get(&pod.uid).is_some_and(|each| each.pod == *pod);
            if !known && let Err(error) = self.enroll(pod) {
                let line = json!({"pod": pod.name, "error": format!("{error:#}")});
                self.journal.record("pod-failed", line);
                continue;
            }
            self.tell_newest(pod).await;
            if let Err(error) = self.install_late_rules(pod) {
                let line = json!({"pod": pod.name, "error": format!("{error:#}")});
                self.journal.record("pod-failed", line);
            }
        }
    }

    /// Opens the pod's namespace and puts the rules there.
    fn enroll(&self, pod: &Pod) -> Result<()> {
        let path = &pod.network_namespace;
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let has_rules = match self.rules {
            Some(rules) if !rules.after_the_proxy => {
                redirect::install(file.as_fd(), rules)?;
                true
            }
            _ => false,
        };
        let namespace = Some(Arc::new(OwnedFd::from(file)));
        let enrolled = Enrolled { pod: pod.clone(), namespace, has_rules, acknowledged: false };
        self.state().pods.insert(pod.uid.clone(), enrolled);
        Ok(())
    }

    /// The rules of a pod whose proxy was to be told first, and has agreed.
    fn install_late_rules(&self, pod: &Pod) -> Result<()> {
        let mut state = self.state();
        let (Some(rules), Some(enrolled)) = (self.rules, state.pods.get_mut(&pod.uid)) else {
            return Ok(());
        };
        let Some(namespace) = &enrolled.namespace else { return Ok(()) };
        if enrolled.acknowledged && !enrolled.has_rules {
            redirect::install(namespace.as_fd(), rules)?;
            enrolled.has_rules = true;
        }
        Ok(())
    }

    async fn tell_newest(&self, pod: &Pod) {
        let order = {
            let state = self.state();
            let Some(enrolled) = state.pods.get(&pod.uid).filter(|each| !each.acknowledged) else {
                return;
            };
            let (Some(namespace), Some((_, newest))) = (&enrolled.namespace, state.sessions.last())
            else {
                return;
            };
            let telling = Telling::Add(pod.clone(), Arc::clone(namespace));
            send(newest, telling)
        };
        answer(order).await;
    }

    async fn remove(&self, pod: &Pod) {
        let (enrolled, sessions) = {
            let mut state = self.state();
            (state.pods.remove(&pod.uid), state.sessions.clone())
        };
        let namespace = enrolled.and_then(|enrolled| enrolled.namespace);
        // A pod that is gone took its namespace, and the rules in it, along.
        if let (Some(_), Some(namespace)) = (self.rules, namespace)
            && let Err(error) = redirect::remove(namespace.as_fd())
        {
            let line = json!({"pod": pod.name, "error": format!("{error:#}")});
            self.journal.record("rules-stay", line);
        }
        let told: Vec<_> =
            sessions.iter().map(|(_, orders)| send(orders, Telling::Del(pod.clone()))).collect();
        for order in told {
            answer(order).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the agent's state panics")
    }
}

/// A session among those of its agent; dropping it takes it out.
struct Entry<'a> {
    agent: &'a Agent,
    number: u64,
}

impl<'a> Entry<'a> {
    fn of(agent: &'a Agent, number: u64) -> Entry<'a> {
        Entry { agent, number }
    }

    /// What it is told first, and where it hears of changes after that.
    fn begin(&self) -> (Vec<Telling>, mpsc::UnboundedReceiver<Order>) {
        let (orders, received) = mpsc::unbounded_channel();
        let mut state = self.agent.state();
        state.sessions.push((self.number, orders));
        let snapshot = state.pods.values_mut().map(|enrolled| {
            enrolled.acknowledged = false;
            match &enrolled.namespace {
                Some(namespace) => Telling::Add(enrolled.pod.clone(), Arc::clone(namespace)),
                None => Telling::Keep(enrolled.pod.clone()),
            }
        });
        (snapshot.collect(), received)
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.agent.state().sessions.retain(|(number, _)| *number != self.number);
    }
}

fn send(orders: &mpsc::UnboundedSender<Order>, telling: Telling) -> oneshot::Receiver<String> {
    let (answered, answer) = oneshot::channel();
    // A session that just ended drops the order, which is an answer as well.
    let _ = orders.send(Order { telling, answered });
    answer
}

/// Waits for an answer, which comes in time or not at all; what it says was noted by its session.
async fn answer(order: oneshot::Receiver<String>) {
    let _ = timeout(2 * ACK_PATIENCE, order).await;
}
