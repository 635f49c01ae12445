//! A node in ztunnel's place: what it holds, and what it does about what happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ringway_engine::Engine;
use ringway_engine::limits::SHARD_TURN_MAX;
use ringway_engine::snapshot::{Snapshot, TunnelProtocol};
use ringway_protocols::identity::Identity;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::super::foundation::Foundation;
use super::super::hostnames::Hostnames;
use super::super::revocation::Revocation;
use super::super::signals::Request;
use super::super::systemd::ServiceManager;
use super::super::{Ending, certificates, drain, precedence};
use super::demanded::Demanded;
use super::names::NameServer;
use super::pods::key_of;
use super::told::Told;
use super::untold::{self, Untold};
use crate::admin::config_dump::{Connections, WorkloadInfo, WorkloadState};
use crate::cni::{PodSeen, Seen};
use crate::environment::ZtunnelConfig;
use crate::handover::control_socket::{Answer, Ask};
use crate::identity::{Certifier, CredentialChange};
use crate::telemetry::metrics::Outcomes;

/// What readiness calls the control plane's part.
const STATE: &str = "state manager";

/// What it calls the agent's.
pub(super) const PODS: &str = "workload proxy manager";

/// What it calls the names' part.
pub(super) const NAMES: &str = "dns proxy";

/// How often the authority's directory is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// See the module's text.
pub(super) struct Node {
    pub(super) config: ZtunnelConfig,
    pub(super) foundation: Foundation,
    pub(super) told: Told,
    pub(super) names: NameServer,
    pub(super) hostnames: Hostnames,
    pub(super) demanded: Demanded,
    pub(super) pods: watch::Receiver<Seen>,
    /// Who each served pod is, as long as it is served, whatever the control plane says of it by now.
    pub(super) enrolled: BTreeMap<Arc<str>, Identity>,
    pub(super) untold: Untold,
    pub(super) certifier: Certifier,
    pub(super) revocation: Revocation,
    pub(super) service_manager: ServiceManager,
    pub(super) generation: u64,
}

impl Node {
    /// Serves until it is told to end.
    pub(super) async fn serve(mut self) -> Ending {
        precedence::go_behind();
        let mut told_ready = false;
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watchdog =
            interval(self.service_manager.watchdog_interval().unwrap_or(LOOK_INTERVAL));
        self.foundation.readiness.set_step(STATE, !self.told.is_synced());
        self.foundation.servers.begin(&self.foundation.requests);
        self.foundation.readiness.set_step("proxy", false);
        self.foundation.readiness.set_step(NAMES, false);
        self.follow();
        loop {
            self.renew();
            self.warn_of_untold();
            self.show();
            if !told_ready && self.foundation.readiness.is_ready() {
                told_ready = true;
                self.service_manager.ready();
                tracing::info!(pods = self.pods.borrow().pods.len(), "serving");
            }
            tokio::select! {
                () = self.told.changed() => self.follow(),
                () = self.hostnames.changed() => self.follow(),
                () = self.demanded.changed() => {
                    // What was answered is there already.
                    self.told.take();
                    self.follow();
                }
                // It is dropped only with its task, which ends with us.
                Ok(()) = self.pods.changed() => self.keep_certificates(),
                () = self.certifier.changed(|| self.foundation.engine.telemetry().next_wanted_identity()) => {}
                () = self.revocation.changed() => self.revoke(),
                request = self.foundation.requests.next() => match request {
                    Request::Reload => tracing::info!("there is nothing to reload: the environment is read at the start"),
                    Request::HandOver(ask) => refuse(ask),
                    Request::Stop(who) => return self.drain(who).await,
                },
                _ = look.tick() => self.look(),
                _ = watchdog.tick() => self.tell_alive(),
            }
        }
    }

    /// Makes what was told the world in force.
    fn follow(&mut self) {
        self.foundation.readiness.set_step(STATE, !self.told.is_synced());
        self.keep_certificates();
        let mut world = self.told.snapshot().clone();
        for status in self.certifier.statuses() {
            if let Some(credentials) = status.credentials {
                world.set_credentials(credentials);
            }
        }
        self.hostnames.tell(&mut world);
        self.demanded.tell(&mut world);
        self.publish(world);
    }

    /// Certificates are for whom this host's workloads are, before anybody asks; and for the pods that are served, as
    /// long as they are.
    fn keep_certificates(&mut self) {
        let world = self.told.snapshot();
        let seen = self.pods.borrow_and_update().clone();
        self.enrolled.retain(|uid, _| seen.pods.contains_key(uid));
        for (uid, pod) in &seen.pods {
            match world.workload_of(&key_of(&pod.info)) {
                Some(workload) => {
                    self.enrolled.insert(Arc::clone(uid), workload.identity().clone());
                }
                None => self.demanded.ask_for_pod(&self.config.node.cluster, &pod.info),
            }
        }
        let mut wanted: BTreeSet<Identity> = self.enrolled.values().cloned().collect();
        // A workload's own proxy has no business with others.
        if self.config.mode == crate::source::Mode::Shared && self.config.node.node_name.is_some() {
            // One without HBONE has no proxy, and needs no certificate.
            let locals =
                world.local_workloads().filter(|one| one.protocol() == TunnelProtocol::Hbone);
            wanted.extend(locals.map(|one| one.identity().clone()));
        }
        if !self.config.proxy {
            wanted.clear();
        }
        let changes = self.certifier.keep(&wanted, SystemTime::now());
        self.tell(changes);
    }

    /// Says of which pods, though they are served, no connection can be carried: nobody tells who they are.
    fn warn_of_untold(&mut self) {
        // Until everything was told once, readiness says so.
        if !self.config.proxy || !self.told.is_synced() {
            return;
        }
        let seen = self.pods.borrow();
        let is_untold = |(uid, pod): &(&Arc<str>, &PodSeen)| {
            pod.error.is_none() && !self.enrolled.contains_key(*uid)
        };
        let untold = seen.pods.iter().filter(is_untold).map(|(uid, _)| Arc::clone(uid)).collect();
        let node = &self.config.node;
        for uid in self.untold.overdue(&untold, Instant::now()) {
            let info = &seen.pods[&uid].info;
            let world = self.told.snapshot();
            let why = untold::why(world, node.node_name.as_deref(), &node.cluster, info);
            tracing::warn!(pod = &*uid, why, "pod served, but its connections are refused");
        }
    }

    /// Asks for what is due and tells the engine what came.
    fn renew(&mut self) {
        let changes = certificates::renew(&mut self.certifier);
        self.tell(changes);
    }

    /// Reads the revocation lists again, and holds every peer against what is new in them.
    fn revoke(&mut self) {
        let changes = certificates::revoke(&mut self.certifier, &mut self.revocation);
        self.tell(changes);
    }

    /// Every few seconds: did somebody change the embedded authority?
    fn look(&mut self) {
        certificates::follow_authority(&mut self.certifier);
    }

    /// A node one of whose shards is stuck is not alive.
    fn tell_alive(&self) {
        if self.foundation.engine.stuck(SHARD_TURN_MAX).is_empty() {
            self.service_manager.alive();
        }
    }

    fn tell(&mut self, changes: Vec<CredentialChange>) {
        if changes.is_empty() {
            return;
        }
        let mut world = Snapshot::clone(&self.foundation.engine.snapshot());
        certificates::apply(changes, &mut world);
        self.publish(world);
    }

    fn publish(&mut self, world: Snapshot) {
        self.generation += 1;
        let world = world.with_generation(self.generation);
        self.names.publish(world.clone());
        self.foundation.engine.publish(world);
    }

    /// Brings what the servers tell up to date.
    fn show(&self) {
        let pods = self.pods.borrow();
        self.foundation.readiness.set_step(PODS, !pods.is_ready());
        let state = |uid: &Arc<str>, pod: &PodSeen| WorkloadState {
            state: if pod.error.is_none() { "Up" } else { "Pending" },
            error: pod.error.clone(),
            connections: Connections::default(),
            info: WorkloadInfo {
                name: pod.info.name.clone(),
                namespace: pod.info.namespace.clone(),
                trust_domain: self
                    .enrolled
                    .get(uid)
                    .map_or_else(String::new, |identity| identity.trust_domain().to_owned()),
                service_account: pod.info.service_account.clone(),
            },
        };
        let workloads =
            pods.pods.iter().map(|(uid, pod)| (uid.to_string(), state(uid, pod))).collect();
        let (counts, captures) = (self.certifier.counts(), (pods.started, pods.stopped));
        self.foundation.view.update(|seen| {
            seen.identities = self.certifier.statuses();
            seen.issued = Outcomes { ok: counts.issued, failed: counts.failed };
            seen.authorities = self.certifier.expiries(SystemTime::now());
            seen.workloads = workloads;
            seen.captures = captures;
        });
    }

    /// Ends in order, or at once when it is asked for again. The agent is not listened to any more; what it tells is for
    /// the process that follows.
    async fn drain(mut self, who: &str) -> Ending {
        let deadline = self.config.drain_deadline;
        drain::begin(who, deadline, &self.service_manager, &self.foundation.readiness);
        let (engine, names) = (Arc::clone(&self.foundation.engine), self.names.clone());
        let drained = tokio::task::spawn_blocking(move || {
            std::thread::scope(|scope| {
                scope.spawn(|| names.drain(deadline));
                engine.drain(deadline)
            })
        });
        let ending = tokio::select! {
            report = drained => drain::in_time(&report.unwrap_or_default()),
            who = self.foundation.requests.stop() => {
                drain::cut_at_once(&self.foundation.engine, Engine::drain, who).await
            }
        };
        self.foundation.servers.stop().await;
        drain::write_records(&self.foundation.engine, &self.foundation.log);
        tracing::info!("ended");
        ending
    }
}

/// The process that follows is started beside this one and shares its ports; the agent tells it the pods.
fn refuse(ask: Ask) {
    let why = "in ztunnel's place nothing is handed over: start the next process beside this one, and end this one \
        when that is ready";
    tracing::error!("{why}");
    if let Some(sender) = ask.answer {
        // Whoever asked may have left.
        let _ = sender.send(Answer::RolledBack { why: why.to_owned() });
    }
}
