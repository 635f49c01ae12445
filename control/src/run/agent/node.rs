//! A process that serves: what it holds, and what it does about what happens.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ringway_engine::Engine;
use ringway_engine::limits::SHARD_TURN_MAX;
use ringway_engine::snapshot::Snapshot;
use ringway_protocols::identity::Identity;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::enrolled::Enrolled;
use super::status::status;
use super::world::World;
use super::{AgentOptions, world};
use crate::handover::control_socket::{Answer, Ask};
use crate::identity::{Certifier, CredentialChange};
use crate::run::foundation::Foundation;
use crate::run::hostnames::Hostnames;
use crate::run::revocation::Revocation;
use crate::run::signals::Request;
use crate::run::systemd::ServiceManager;
use crate::run::waypoint::{GatewayName, Kind, L7Options, Lingering, Requests};
use crate::run::ztunnel::names::NameServer;
use crate::run::{Ending, certificates, drain};
use crate::source::NodeConfig;
use crate::telemetry::metrics::Outcomes;
use crate::xds::l7::ToldRole;
use crate::xds::{Update, XdsClient};

/// What readiness calls the control plane's part.
const STATE: &str = "state manager";

/// What it calls the certificate's.
const CERTIFICATE: &str = "certificate";

/// How often what failed is tried again, and services that linger are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// See the module's text.
pub(super) struct Node {
    pub(super) options: AgentOptions,
    pub(super) settings: NodeConfig,
    pub(super) version: String,
    pub(super) foundation: Foundation,
    pub(super) updates: watch::Receiver<Update>,
    /// It ends when this is dropped.
    pub(super) _client: XdsClient,
    pub(super) world: World,
    pub(super) names: NameServer,
    pub(super) hostnames: Hostnames,
    /// Who we are, by our environment.
    pub(super) own: Identity,
    pub(super) certifier: Certifier,
    pub(super) revocation: Revocation,
    pub(super) service_manager: ServiceManager,
    pub(super) enrolled: Enrolled,
    /// None: it is not known yet what we are.
    pub(super) requests: Option<Requests>,
    pub(super) lingering: Lingering,
    pub(super) generation: u64,
}

impl Node {
    /// Serves until it is told to end.
    pub(super) async fn serve(mut self) -> Ending {
        let mut told_ready = false;
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watchdog =
            interval(self.service_manager.watchdog_interval().unwrap_or(LOOK_INTERVAL));
        self.foundation.readiness.set_step(STATE, true);
        self.foundation.readiness.set_step(CERTIFICATE, true);
        self.foundation.servers.begin(&self.foundation.requests);
        self.follow().await;
        loop {
            self.renew();
            self.show();
            if !told_ready && self.foundation.readiness.is_ready() {
                told_ready = true;
                self.service_manager.ready();
                tracing::info!("serving");
            }
            tokio::select! {
                () = changed(&mut self.updates) => self.follow().await,
                () = self.hostnames.changed() => self.follow().await,
                () = self.certifier.changed(|| self.foundation.engine.telemetry().next_wanted_identity()) => {}
                () = self.revocation.changed() => self.revoke(),
                request = self.foundation.requests.next() => match request {
                    Request::Reload => tracing::info!("there is nothing to reload: the environment is read at the start"),
                    Request::HandOver(ask) => refuse(ask),
                    Request::Stop(who) => return self.drain(who).await,
                },
                _ = look.tick() => self.look().await,
                _ = watchdog.tick() => self.tell_alive(),
            }
        }
    }

    /// Makes what was told the world in force, then listens as it says.
    async fn follow(&mut self) {
        let update = self.updates.borrow_and_update().clone();
        self.keep_certificate(&update.snapshot);
        let mut mesh = update.snapshot;
        for status in self.certifier.statuses() {
            if let Some(credentials) = status.credentials {
                mesh.set_credentials(credentials);
            }
        }
        self.hostnames.tell(&mut mesh);
        self.lingering.carry(&self.foundation.engine.snapshot(), &mut mesh, Instant::now());
        let world = self.world.make(mesh, &update.l7);
        self.publish(world);
        self.tell_requests();
        let listens = self.enrolled.follow(self.world.role()).await;
        // Once it has told everything, it does not become unready when it leaves.
        if update.is_synced {
            self.foundation.readiness.set_step(STATE, false);
        }
        self.foundation.readiness.set_step("proxy", !(listens && self.enrolled.is_any()));
        let gateway = format!("{}/{}", self.options.config.namespace, self.options.config.gateway);
        let status = status(&gateway, &self.world, &update.l7, self.generation);
        self.foundation.view.update(|seen| seen.status = status);
    }

    /// Ours, by what our environment says, and by what the control plane says of our workload.
    fn keep_certificate(&mut self, mesh: &Snapshot) {
        let told = mesh.workload_of(&world::key(&self.options.config));
        let told = told.map(|own| own.identity().clone());
        let wanted: BTreeSet<Identity> = told.into_iter().chain([self.own.clone()]).collect();
        let changes = self.certifier.keep(&wanted, SystemTime::now());
        self.tell(changes);
    }

    /// Begins to tell of requests once it is known whose they are.
    fn tell_requests(&mut self) {
        let Some(role) = self.world.role().filter(|_| self.requests.is_none()) else { return };
        let AgentOptions { config, request_log, traces } = &self.options;
        let options = L7Options {
            kind: match role {
                ToldRole::Waypoint => Kind::Waypoint,
                ToldRole::Gateway(_) => Kind::Gateway,
            },
            gateway: GatewayName {
                namespace: config.namespace.as_str().into(),
                name: config.gateway.as_str().into(),
            },
            request_log: request_log.clone(),
            traces: traces.clone(),
        };
        let (engine, log) = (Arc::clone(&self.foundation.engine), self.foundation.log.clone());
        let requests = Requests::start(&options, &self.settings, &self.version, engine, log);
        self.foundation.view.update(|seen| seen.spans = Some(requests.teller()));
        self.requests = Some(requests);
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

    async fn look(&mut self) {
        certificates::follow_authority(&mut self.certifier);
        let listens = self.enrolled.follow(self.world.role()).await;
        self.foundation.readiness.set_step("proxy", !(listens && self.enrolled.is_any()));
        if self.lingering.is_over(Instant::now()) {
            let mut world = Snapshot::clone(&self.foundation.engine.snapshot());
            if self.lingering.end(&mut world, Instant::now()) {
                self.publish(world);
            }
        }
    }

    /// A process one of whose shards is stuck is not alive.
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
        let has_certificate =
            self.certifier.statuses().iter().any(|status| status.credentials.is_some());
        self.foundation.readiness.set_step(CERTIFICATE, !has_certificate);
        let counts = self.certifier.counts();
        self.foundation.view.update(|seen| {
            seen.identities = self.certifier.statuses();
            seen.issued = Outcomes { ok: counts.issued, failed: counts.failed };
            seen.authorities = self.certifier.expiries(SystemTime::now());
        });
    }

    /// Ends in order, or at once when it is asked for again.
    async fn drain(mut self, who: &str) -> Ending {
        let deadline = self.options.config.process.drain_deadline;
        drain::begin(who, deadline, &self.service_manager, &self.foundation.readiness);
        let engine = Arc::clone(&self.foundation.engine);
        let drained = tokio::task::spawn_blocking(move || engine.drain(deadline));
        let ending = tokio::select! {
            report = drained => drain::in_time(&report.unwrap_or_default()),
            who = self.foundation.requests.stop() => {
                drain::cut_at_once(&self.foundation.engine, Engine::drain, who).await
            }
        };
        self.foundation.servers.stop().await;
        drain::write_records(&self.foundation.engine, &self.foundation.log);
        if let Some(requests) = &self.requests {
            requests.finish().await;
        }
        tracing::info!("ended");
        ending
    }
}

/// Waits for news. Dropping the future loses nothing.
async fn changed(updates: &mut watch::Receiver<Update>) {
    if updates.changed().await.is_err() {
        tracing::error!("the control plane's client broke: what is known stays in force");
        std::future::pending().await
    }
}

/// The process that follows is another pod, started beside this one.
fn refuse(ask: Ask) {
    let why = "a waypoint or gateway hands nothing over: start another pod of its Gateway beside this one, and end this \
        one when that is ready";
    tracing::error!("{why}");
    if let Some(sender) = ask.answer {
        // Whoever asked may have left.
        let _ = sender.send(Answer::RolledBack { why: why.to_owned() });
    }
}
