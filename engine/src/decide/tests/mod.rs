//! Tables of decisions.

mod balance;
mod inbound;
mod outbound;

use super::*;
use crate::snapshot::Snapshot;

/// A route or a refusal on one line: how, to whom, asking for what; the workload dialled; the service meant.
fn tell(result: &Result<Route, Refusal>) -> String {
    let route = match result {
        Ok(route) => route,
        Err(refusal) => return format!("refused: {refusal}"),
    };
    let how = match &route.next_hop {
        NextHop::Tunnel { peer, expected, authority } => {
            let who: Vec<String> = expected
                .iter()
                .map(|one| format!("{}/{}", one.namespace(), one.service_account()))
                .collect();
            format!("tunnel {peer} as {} for {authority}", who.join(" or "))
        }
        NextHop::Direct { address } => format!("direct {address}"),
        NextHop::PassThrough { address } => format!("pass {address}"),
    };
    let workload = route.destination_workload.as_ref().map_or("-", |workload| workload.name());
    let service = route.destination_service.as_ref().map_or("-", |service| &*service.name);
    format!("{how} | {workload} | {service}")
}

/// Where `shop/client`, at 10.1.0.99, gets when it connects to `destination`.
fn from_client(snapshot: &Snapshot, destination: &str) -> String {
    from(snapshot, "client", destination)
}

fn from(snapshot: &Snapshot, name: &str, destination: &str) -> String {
    let source = snapshot.workload_by_uid(&format!("c1//Pod/shop/{name}")).unwrap();
    tell(&outbound(snapshot, source, destination.parse().unwrap(), 7))
}
