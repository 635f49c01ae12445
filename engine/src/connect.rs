//! What a CONNECT request and its answer say about the two workloads, besides where to.
//!
//! None of it is ever used to decide whether a connection is allowed.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ringway_protocols::hbone::{
    Authority, Baggage, ConnectRequest, ConnectResponse, Forwarded, Traceparent, WorkloadType,
};

use crate::{
    shard::Shard,
    snapshot::{self, Service, Snapshot, Workload},
};

/// The request for a connection of `source`, whose application called from `client`.
pub(crate) fn request(
    shard: &Shard,
    source: &Workload,
    client: SocketAddr,
    authority: &Authority,
    service: Option<&Service>,
    trace_id: [u8; 16],
) -> ConnectRequest {
    ConnectRequest {
        authority: authority.clone(),
        baggage: Some(baggage(source)),
        forwarded: Some(Forwarded {
            client: Some(client),
            host: service.map(|service| service.hostname().into()),
        }),
        traceparent: Some(Traceparent::new(trace_id, shard.random().to_be_bytes())),
        x_forwarded_network: None,
    }
}

/// The 200 of the workload `local`.
pub(crate) fn response(shard: &Shard, local: &Workload) -> ConnectResponse {
    let baggage = shard.config.response_baggage.then(|| baggage(local));
    ConnectResponse { status: 200, baggage }
}

/// The workload a request comes from: by the peer's address, unless the request says that the address
/// belongs to another network.
pub(crate) fn source_workload(
    snapshot: &Snapshot,
    request: &ConnectRequest,
    peer: IpAddr,
) -> Option<Arc<Workload>> {
    let network = &*snapshot.settings().network;
    let elsewhere = request
        .x_forwarded_network
        .as_ref()
        .is_some_and(|other| !other.eq_ignore_ascii_case(network));
    if elsewhere { None } else { snapshot.workload_by_address(network, peer).cloned() }
}

fn baggage(workload: &Workload) -> Baggage {
    let known = |text: &str| (!text.is_empty()).then(|| text.into());
    Baggage {
        cluster: known(workload.cluster()),
        namespace: known(workload.namespace()),
        workload_type: match workload.workload_type() {
            snapshot::WorkloadType::Deployment => WorkloadType::Deployment,
            snapshot::WorkloadType::CronJob => WorkloadType::CronJob,
            snapshot::WorkloadType::Pod => WorkloadType::Pod,
            snapshot::WorkloadType::Job => WorkloadType::Job,
        },
        workload_name: known(workload.workload_name()),
        service_name: known(workload.canonical_name()),
        service_version: known(workload.canonical_revision()),
        region: known(&workload.locality().region),
        zone: known(&workload.locality().zone),
    }
}

/// The id by which lines about one connection are found in the logs of everybody that carries it. All zeros mean "no id".
pub(crate) fn fresh_trace_id(shard: &Shard) -> [u8; 16] {
    let mut trace_id = [0; 16];
    trace_id[..8].copy_from_slice(&shard.random().to_be_bytes());
    trace_id[8..].copy_from_slice(&(shard.random() | 1).to_be_bytes());
    trace_id
}
