//! What the servers may see of the process: the control thread keeps it up to date, they read it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use ringway_engine::telemetry::{Direction, Reporter};
use ringway_engine::{Engine, OpenConnection};
use serde_json::{Value, json};

use super::config_dump::{DumpInput, VersionInfo, WorkloadState, static_config};
use super::readiness::Readiness;
use crate::identity::IdentityStatus;
use crate::telemetry::log::Log;
#[cfg(feature = "waypoint")]
use crate::telemetry::metrics::RequestFacts;
use crate::telemetry::metrics::{DiscoveryFacts, DnsFacts, Facts, Outcomes, ShardFacts};
#[cfg(feature = "waypoint")]
use crate::telemetry::mirrors::Mirrors;
use crate::telemetry::process;

/// Asked at each scrape, on another thread.
pub type Teller<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// What the control thread keeps up to date.
#[derive(Clone, Default)]
pub struct Seen {
    /// The identities of this host.
    pub identities: Vec<IdentityStatus>,
    /// Certificates issued and refused.
    pub issued: Outcomes,
    /// When each authority expires, by its role.
    pub authorities: Vec<(String, SystemTime)>,
    /// The captured workloads, by uid.
    pub workloads: BTreeMap<String, WorkloadState>,
    /// Captures that began and that ended.
    pub captures: (u64, u64),
    /// Reloads that were taken and refused.
    pub reloads: Outcomes,
    /// Policies that nobody enforces.
    pub unenforced: usize,
    /// Tells what came from a control plane.
    pub discovery: Option<Teller<DiscoveryFacts>>,
    /// Tells what the DNS proxy was asked.
    pub dns: Option<Teller<Vec<DnsFacts>>>,
    /// Tells what became of the spans of requests, in a process that serves them.
    #[cfg(feature = "waypoint")]
    pub spans: Option<Teller<crate::telemetry::traces::SpanCounts>>,
    /// What became of copies of requests, in a process that serves requests.
    #[cfg(feature = "waypoint")]
    pub mirrors: Option<Arc<Mirrors>>,
    /// What became of the objects of the Gateway API, in a process that serves requests.
    #[cfg(feature = "waypoint")]
    pub status: Value,
    /// The effective settings.
    pub config: Value,
    /// What was read from a local file at the start, see [`static_config`].
    pub static_config: Value,
}

/// See the module. Lives on the control thread.
pub struct View {
    engine: Arc<Engine>,
    log: Log,
    readiness: Readiness,
    version: VersionInfo,
    seen: RefCell<Seen>,
}

impl View {
    /// A view of `engine` that has seen nothing yet.
    pub fn new(engine: Arc<Engine>, log: Log, readiness: Readiness, version: VersionInfo) -> Self {
        Self { engine, log, readiness, version, seen: RefCell::default() }
    }

    /// Changes what is seen.
    pub fn update(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.borrow_mut());
    }

    /// What is pending.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// What became of the objects of the Gateway API; none in a node.
    #[cfg(feature = "waypoint")]
    pub(super) fn status(&self) -> Option<Value> {
        let status = self.seen.borrow().status.clone();
        (!status.is_null()).then_some(status)
    }

    /// What became of copies of requests; none in a node.
    #[cfg(feature = "waypoint")]
    pub(super) fn mirrors(&self) -> Option<Value> {
        self.seen.borrow().mirrors.as_ref().map(|mirrors| mirrors.as_json())
    }

    /// What is seen at this moment, for another thread to make an answer of.
    pub(super) fn capture(&self) -> Captured {
        Captured {
            engine: Arc::clone(&self.engine),
            log: self.log.clone(),
            version: self.version.clone(),
            seen: self.seen.borrow().clone(),
        }
    }
}

/// What was seen at one moment. Gathering the rest takes a while, so this goes to another thread.
pub(super) struct Captured {
    engine: Arc<Engine>,
    log: Log,
    version: VersionInfo,
    seen: Seen,
}

impl Captured {
    /// What the answer to a scrape is made of.
    pub(super) fn into_facts(self) -> Facts {
        let Self { engine, log, version, seen } = self;
        let telemetry = engine.telemetry();
        let snapshot = engine.snapshot();
        let expiries = seen.identities.iter().filter_map(|status| {
            let credentials = status.credentials.as_ref()?;
            Some((status.identity.to_string(), credentials.not_after()))
        });
        let active = seen.workloads.values().filter(|state| state.state == "Up").count();
        Facts {
            traffic: telemetry.series(),
            sockets_open: [Reporter::Source, Reporter::Destination]
                .map(|reporter| telemetry.sockets_open(reporter)),
            resolutions: telemetry.resolutions(),
            discovery: seen.discovery.map(|teller| teller()).unwrap_or_default(),
            dns: seen.dns.map(|teller| teller()).unwrap_or_default(),
            istio_version: version.istio_version,
            workloads_active: active,
            workloads_pending: seen.workloads.len() - active,
            captures_started: seen.captures.0,
            captures_stopped: seen.captures.1,
            process: process::read(),
            version: version.version,
            revision: version.git_revision,
            reactors: engine
                .reactor_reports()
                .iter()
                .map(|report| (report.kind().to_string(), report.reason().to_owned()))
                .collect(),
            snapshot_generation: snapshot.generation(),
            workloads: snapshot.workload_count(),
            services: snapshot.service_count(),
            reloads: seen.reloads,
            unenforced: seen.unenforced,
            certificates: expiries.collect(),
            authorities: seen.authorities,
            issued: seen.issued,
            handed_over: telemetry.connections_handed_over(),
            retries: [
                telemetry.retries_at_another_endpoint(),
                telemetry.retries_in_another_tunnel(),
            ],
            dry_runs: telemetry.dry_run_totals(),
            shard_seconds: process::thread_seconds("shard-"),
            shards: engine.runtime_counters().iter().map(ShardFacts::of).collect(),
            limits_reached: engine.limits_reached(),
            records_lost: telemetry.records_lost(),
            log_lines_lost: log.lines_lost(),
            #[cfg(feature = "waypoint")]
            requests: seen.spans.map(|teller| RequestFacts {
                requests: telemetry.http().requests(),
                records_lost: telemetry.http().records_lost(),
                outside_calls: telemetry.http().outside_calls(),
                backend_tls_failures: telemetry.http().backend_tls_failures(),
                spans: teller(),
                mirrors: seen.mirrors.map(|mirrors| mirrors.all()).unwrap_or_default(),
                mirrors_lost: telemetry.http().mirrored_lost(),
            }),
        }
    }

    /// What the dump is made of. Asks the shards for their connections and blocks until they answer.
    pub(super) fn into_dump(self) -> DumpInput {
        let Self { engine, version, mut seen, .. } = self;
        for connection in engine.connections() {
            let Some(state) = seen.workloads.get_mut(&*connection.workload) else { continue };
            let entry = described(&connection);
            match connection.direction {
                Direction::Inbound => state.connections.inbound.push(entry),
                Direction::Outbound => state.connections.outbound.push(entry),
            }
        }
        DumpInput {
            snapshot: engine.snapshot(),
            identities: seen.identities,
            workload_state: seen.workloads,
            config: seen.config,
            static_config: match seen.static_config {
                Value::Null => static_config(None),
                known => known,
            },
            version,
        }
    }
}

/// One connection of a dump. What a client of ours had dialled is known; of what a peer's had, the service that its
/// `forwarded` header names.
fn described(connection: &OpenConnection) -> Value {
    let original = match connection.direction {
        Direction::Outbound => Some(connection.original_destination.to_string()),
        Direction::Inbound => {
            connection.called.as_ref().map(|service| service.hostname().to_owned())
        }
    };
    json!({
        "src": connection.source.to_string(),
        "originalDst": original,
        "actualDst": connection.destination.to_string(),
        "protocol": connection.carrier.as_str(),
    })
}

#[cfg(test)]
mod tests {
    use ringway_engine::Carrier;
    use ringway_engine::snapshot::{NamespacedHostname, Service};

    use super::*;

    #[test]
    fn connections_are_told_as_istioctl_reads_them() {
        let web = Service::new(NamespacedHostname::new("shop", "web.shop.svc.cluster.local"));
        let called = Arc::new(web);
        let connection = |direction, carrier| OpenConnection {
            workload: "c1//Pod/shop/web-0".into(),
            direction,
            source: "10.1.0.20:40000".parse().unwrap(),
            original_destination: "10.2.0.1:80".parse().unwrap(),
            called: (carrier == Carrier::Hbone && direction == Direction::Inbound)
                .then(|| Arc::clone(&called)),
            destination: "[fd00::10]:8080".parse().unwrap(),
            carrier,
        };
        //  direction            carrier               original              protocol
        let rows = [
            (Direction::Outbound, Carrier::DoubleHbone, json!("10.2.0.1:80"), "DOUBLEHBONE"),
            (Direction::Outbound, Carrier::Hbone, json!("10.2.0.1:80"), "HBONE"),
            (Direction::Outbound, Carrier::Tcp, json!("10.2.0.1:80"), "TCP"),
            (Direction::Inbound, Carrier::Hbone, json!("web.shop.svc.cluster.local"), "HBONE"),
            (Direction::Inbound, Carrier::Tcp, Value::Null, "TCP"),
        ];
        for (direction, carrier, original, protocol) in rows {
            let told = described(&connection(direction, carrier));
            let want = json!({
                "src": "10.1.0.20:40000",
                "originalDst": original,
                "actualDst": "[fd00::10]:8080",
                "protocol": protocol,
            });
            assert_eq!(told, want);
        }
    }
}
