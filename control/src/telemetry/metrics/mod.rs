//! Every metric of the process: one table, and the answer that is made from it.
//!
//! Names of Istio's are Istio's, so that its boards and tools work unchanged; what is ours begins with `ringway_`.
//! `docs/metrics.md` is the table in prose, and a test keeps it so.

mod requests;
mod sources;
mod table;

use std::sync::Arc;
use std::time::SystemTime;

use ringway_engine::LimitReached;
use ringway_engine::runtime::Counters;
use ringway_engine::telemetry::{
    PeerLabels, Reporter, ResolutionLabels, TrafficLabels, TrafficTotals,
};

#[cfg(feature = "waypoint")]
pub use self::requests::RequestFacts;
pub use self::table::{METRICS, documentation};

use super::exposition::{Exposition, Family, Histogram, Metric, TextFormat};

/// The value of a label that is not known.
const UNKNOWN: &str = "unknown";

/// The flag of connections that ended because a certificate was revoked.
const REVOKED: &str = "CERT_REVOKED";

/// Everything an answer is made of, gathered at one moment.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Traffic by labels.
    pub traffic: Vec<(Arc<TrafficLabels>, TrafficTotals)>,
    /// Accepted sockets open as source and as destination.
    pub sockets_open: [i64; 2],
    /// How often connections went to a workload by its hostname.
    pub resolutions: Vec<(ResolutionLabels, u64)>,
    /// What came from a control plane, if there is one.
    pub discovery: DiscoveryFacts,
    /// What the DNS proxy was asked, if there is one.
    pub dns: Vec<DnsFacts>,
    /// Istio's version.
    pub istio_version: String,
    /// Workloads that are captured.
    pub workloads_active: usize,
    /// Workloads that could not be captured yet.
    pub workloads_pending: usize,
    /// Captures that began.
    pub captures_started: u64,
    /// Captures that ended.
    pub captures_stopped: u64,
    /// What the system says of the process.
    pub process: ProcessFacts,
    /// Our version.
    pub version: String,
    /// The commit we were built from.
    pub revision: String,
    /// What each shard waits on, and why.
    pub reactors: Vec<(String, String)>,
    /// The generation that is published.
    pub snapshot_generation: u64,
    /// Workloads known.
    pub workloads: usize,
    /// Services known.
    pub services: usize,
    /// Reloads that were taken and refused.
    pub reloads: Outcomes,
    /// Policies that nobody enforces; 0 in a program without the L7 roles, which does not read them.
    pub unenforced: usize,
    /// When each identity's certificate expires.
    pub certificates: Vec<(String, SystemTime)>,
    /// When each authority expires, by its role.
    pub authorities: Vec<(String, SystemTime)>,
    /// Certificates issued and refused.
    pub issued: Outcomes,
    /// Connections that moved to another shard.
    pub handed_over: u64,
    /// Connections tried again at another endpoint, and streams in another tunnel.
    pub retries: [u64; 2],
    /// How often policies on dry run would have denied a connection, and would have allowed one.
    pub dry_runs: (u64, u64),
    /// Processor time of each shard's thread, in seconds, as far as the system tells it.
    pub shard_seconds: Vec<f64>,
    /// What each shard counted.
    pub shards: Vec<ShardFacts>,
    /// How often each workload reached each limit.
    pub limits_reached: Vec<LimitReached>,
    /// Access records lost.
    pub records_lost: u64,
    /// Log lines lost.
    pub log_lines_lost: u64,
    /// What a waypoint or gateway tells beside all this.
    #[cfg(feature = "waypoint")]
    pub requests: Option<RequestFacts>,
}

impl Facts {
    /// What Istio's tools call this kind of process.
    fn component(&self) -> &'static str {
        #[cfg(feature = "waypoint")]
        if self.requests.is_some() {
            return "proxy";
        }
        "ztunnel"
    }
}

/// What came from the control plane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiscoveryFacts {
    /// Streams that ended, by why.
    pub terminations: Vec<(&'static str, u64)>,
    /// Messages and their bytes, by the URL of their type.
    pub messages: Vec<(String, u64, u64)>,
}

/// What the DNS proxy was asked under one set of labels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DnsFacts {
    /// `a`, `aaaa`, …
    pub query_type: String,
    /// `udp` or `tcp`.
    pub protocol: &'static str,
    /// Who asked, as its canonical service.
    pub canonical_service: Arc<str>,
    /// The revision of that.
    pub canonical_revision: Arc<str>,
    /// Questions.
    pub requests: u64,
    /// Of those, asked further.
    pub upstream_requests: u64,
    /// Of those, without an answer.
    pub upstream_failures: u64,
    /// How long asking further took, in seconds.
    pub upstream_seconds: Histogram,
}

impl DnsFacts {
    fn labels(&self) -> [&str; 4] {
        let Self { query_type, protocol, canonical_service, canonical_revision, .. } = self;
        [known(query_type), known(protocol), known(canonical_service), known(canonical_revision)]
    }
}

/// How often something went well and did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Well.
    pub ok: u64,
    /// Not well.
    pub failed: u64,
}

/// What one shard counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardFacts {
    /// Tasks it has now.
    pub tasks: u64,
    /// Turns of its loop.
    pub turns: u64,
    /// Turns that ended in a wait.
    pub waits: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Pauses of accepting.
    pub accept_pauses: u64,
    /// Tasks that panicked.
    pub panics: u64,
    /// Completions the kernel kept aside because the ring was full.
    pub completion_overflows: u64,
    /// Sockets refused because they were in another namespace than asked for.
    pub wrong_namespace: u64,
}

impl ShardFacts {
    /// From the counters of the shard's runtime.
    pub fn of(counters: &Counters) -> Self {
        Self {
            tasks: counters.tasks,
            turns: counters.turns,
            waits: counters.waits,
            accepted: counters.accepted,
            accept_pauses: counters.accept_exhausted + counters.accept_reserve_pauses,
            panics: counters.panics,
            completion_overflows: counters.completion_overflows,
            wrong_namespace: counters.wrong_namespace,
        }
    }
}

/// What the system says of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessFacts {
    /// Descriptors open.
    pub open_descriptors: u64,
    /// Descriptors that may be open.
    pub descriptors_max: u64,
    /// Bytes in memory.
    pub resident_bytes: u64,
    /// Seconds of processor time.
    pub cpu_seconds: f64,
    /// When it started, in seconds of Unix time.
    pub start_time_seconds: f64,
}

/// The answer to a scrape.
pub fn render(facts: &Facts, format: TextFormat) -> String {
    let mut traffic = facts.traffic.clone();
    traffic.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut exposition = Exposition::new(format);
    for metric in METRICS {
        render_metric(&mut exposition, metric, facts, &traffic);
    }
    #[cfg(feature = "waypoint")]
    if let Some(requests) = &facts.requests {
        requests::render(&mut exposition, requests);
    }
    exposition.finish()
}

fn render_metric(
    exposition: &mut Exposition,
    metric: &Metric,
    facts: &Facts,
    traffic: &[(Arc<TrafficLabels>, TrafficTotals)],
) {
    let mut family = exposition.family(metric);
    let mut tell = |total: fn(&TrafficTotals) -> u64, always: bool| {
        for (labels, totals) in traffic {
            // Connections open under the flag `-` and end under their own: what a flag never has is left out.
            let value = total(totals);
            if value > 0 || (always && labels.response_flags == "-") {
                family.sample(label_values(labels), value);
            }
        }
    };
    match metric.name {
        "istio_tcp_connections_opened" => tell(|totals| totals.opened, true),
        "istio_tcp_connections_closed" => tell(|totals| totals.closed, true),
        "istio_tcp_received_bytes" => tell(|totals| totals.received_bytes, true),
        "istio_tcp_sent_bytes" => tell(|totals| totals.sent_bytes, true),
        "istio_tcp_connections_failed" => tell(|totals| totals.failed, false),
        "istio_tcp_sockets_open" => {
            for reporter in [Reporter::Source, Reporter::Destination] {
                family.sample([reporter.as_str()], facts.sockets_open[reporter as usize]);
            }
        }
        "istio_crl_policy_rejections" => {
            for reporter in [Reporter::Source, Reporter::Destination] {
                let of = |labels: &TrafficLabels| {
                    labels.reporter == reporter && labels.response_flags == REVOKED
                };
                let closed = traffic.iter().filter(|(labels, _)| of(labels));
                family.sample([reporter.as_str()], closed.map(|(_, one)| one.closed).sum::<u64>());
            }
        }
        "istio_on_demand_dns" => {
            let mut resolutions: Vec<_> = facts.resolutions.iter().collect();
            resolutions.sort_by_key(|(labels, _)| labels);
            for (ResolutionLabels { source, hostname }, times) in resolutions {
                family.sample(peer_values(source).into_iter().chain([known(hostname)]), times);
            }
        }
        "istio_dns_requests" => by_question(&mut family, facts, |one| one.requests),
        "istio_dns_upstream_requests" => {
            by_question(&mut family, facts, |one| one.upstream_requests);
        }
        "istio_dns_upstream_failures" => {
            by_question(&mut family, facts, |one| one.upstream_failures);
        }
        "istio_dns_upstream_request_duration_seconds" => {
            for one in facts.dns.iter().filter(|one| one.upstream_requests > 0) {
                family.histogram(&one.labels(), &one.upstream_seconds);
            }
        }
        "istio_xds_connection_terminations" => {
            for (reason, times) in &facts.discovery.terminations {
                family.sample([*reason], times);
            }
        }
        "istio_xds_message" => {
            for (url, messages, _) in &facts.discovery.messages {
                family.sample([url.as_str()], messages);
            }
        }
        "istio_xds_message_bytes" => {
            for (url, _, bytes) in &facts.discovery.messages {
                family.sample([url.as_str()], bytes);
            }
        }
        // Every open tunnel is held against the lists again, so none is untracked.
        "istio_crl_untracked_connections" => {
            for reporter in [Reporter::Source, Reporter::Destination] {
                family.sample([reporter.as_str()], 0);
            }
        }
        // Shards share no queue.
        "tokio_global_queue_depth" => family.sample([], 0),
        "tokio_num_alive_tasks" => {
            family.sample([], facts.shards.iter().map(|shard| shard.tasks).sum::<u64>());
        }
        "tokio_worker_total_busy_duration_seconds" => {
            for (shard, seconds) in facts.shard_seconds.iter().enumerate() {
                family.sample([shard.to_string().as_str()], seconds);
            }
        }
        // A shard that waits goes on again.
        "tokio_worker_park_unpark_count" => by_shard(&mut family, facts, |shard| 2 * shard.waits),
        "tokio_num_workers" => family.sample([], facts.shards.len()),
        "tokio_worker_park_count" => by_shard(&mut family, facts, |shard| shard.waits),
        "istio_build" => family.sample([facts.component(), known(&facts.istio_version)], 1),
        "workload_manager_active_proxy_count" => family.sample([], facts.workloads_active),
        "workload_manager_pending_proxy_count" => family.sample([], facts.workloads_pending),
        "workload_manager_proxies_started" => family.sample([], facts.captures_started),
        "workload_manager_proxies_stopped" => family.sample([], facts.captures_stopped),
        "process_open_fds" => family.sample([], facts.process.open_descriptors),
        "process_max_fds" => family.sample([], facts.process.descriptors_max),
        "process_resident_memory_bytes" => family.sample([], facts.process.resident_bytes),
        "process_cpu_seconds" => family.sample([], facts.process.cpu_seconds),
        "process_start_time_seconds" => family.sample([], facts.process.start_time_seconds),
        "ringway_build" => family.sample([known(&facts.version), known(&facts.revision)], 1),
        "ringway_reactor" => {
            for (shard, (reactor, reason)) in facts.reactors.iter().enumerate() {
                family.sample([shard.to_string().as_str(), reactor, reason], 1);
            }
        }
        "ringway_snapshot_generation" => family.sample([], facts.snapshot_generation),
        "ringway_workloads" => family.sample([], facts.workloads),
        "ringway_services" => family.sample([], facts.services),
        "ringway_config_reloads" => {
            family.sample(["ok"], facts.reloads.ok);
            family.sample(["refused"], facts.reloads.failed);
        }
        "ringway_certificate_expiry_timestamp_seconds" => {
            for (identity, expires) in &facts.certificates {
                family.sample([identity.as_str()], unix_seconds(*expires));
            }
        }
        "ringway_authority_expiry_timestamp_seconds" => {
            for (role, expires) in &facts.authorities {
                family.sample([role.as_str()], unix_seconds(*expires));
            }
        }
        "ringway_certificates_issued" => {
            family.sample(["ok"], facts.issued.ok);
            family.sample(["failed"], facts.issued.failed);
        }
        "ringway_connections_handed_over" => family.sample([], facts.handed_over),
        "ringway_connection_retries" => {
            family.sample(["endpoint"], facts.retries[0]);
            family.sample(["tunnel"], facts.retries[1]);
        }
        "ringway_policy_dry_runs" => {
            family.sample(["denied"], facts.dry_runs.0);
            family.sample(["allowed"], facts.dry_runs.1);
        }
        "ringway_policies_unenforced" => family.sample([], facts.unenforced),
        "ringway_shard_turns" => by_shard(&mut family, facts, |shard| shard.turns),
        "ringway_shard_waits" => by_shard(&mut family, facts, |shard| shard.waits),
        "ringway_shard_connections_accepted" => {
            by_shard(&mut family, facts, |shard| shard.accepted);
        }
        "ringway_shard_accept_pauses" => by_shard(&mut family, facts, |shard| shard.accept_pauses),
        "ringway_shard_panics" => by_shard(&mut family, facts, |shard| shard.panics),
        "ringway_shard_completion_overflows" => {
            by_shard(&mut family, facts, |shard| shard.completion_overflows);
        }
        "ringway_shard_wrong_namespace" => {
            by_shard(&mut family, facts, |shard| shard.wrong_namespace);
        }
        "ringway_limit_reached" => {
            for reached in &facts.limits_reached {
                family.sample([reached.limit.name(), &*reached.workload], reached.times);
            }
        }
        "ringway_access_records_lost" => family.sample([], facts.records_lost),
        "ringway_log_lines_lost" => family.sample([], facts.log_lines_lost),
        other => unreachable!("the row {other} has no value; a test renders every row"),
    }
}

fn by_question(family: &mut Family<'_>, facts: &Facts, value: fn(&DnsFacts) -> u64) {
    for one in &facts.dns {
        family.sample(one.labels(), value(one));
    }
}

fn by_shard(family: &mut Family<'_>, facts: &Facts, value: fn(&ShardFacts) -> u64) {
    for (shard, counted) in facts.shards.iter().enumerate() {
        family.sample([shard.to_string().as_str()], value(counted));
    }
}

fn label_values(labels: &TrafficLabels) -> impl Iterator<Item = &str> {
    let TrafficLabels { source, destination, service, .. } = labels;
    let localities = [&source.region, &source.zone, &destination.region, &destination.zone];
    let localities = localities.into_iter().filter(|_| labels.has_locality);
    [labels.reporter.as_str()]
        .into_iter()
        .chain(peer_values(source))
        .chain([&service.hostname, &service.namespace, &service.name].map(|name| known(name)))
        .chain(peer_values(destination))
        .chain(["tcp", labels.response_flags, labels.security_policy.as_str()])
        .chain(localities.map(|name| known(name)))
}

fn peer_values(peer: &PeerLabels) -> [&str; 8] {
    [
        &peer.workload,
        &peer.canonical_service,
        &peer.canonical_revision,
        &peer.namespace,
        &peer.principal,
        &peer.app,
        &peer.canonical_revision,
        &peer.cluster,
    ]
    .map(|value| known(value))
}

fn known(value: &str) -> &str {
    if value.is_empty() { UNKNOWN } else { value }
}

fn unix_seconds(moment: SystemTime) -> u64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod validity;
