//! What is said of how a request is passed on: by policies of all that it belongs to, and of its sessions before them by its
//! rule.

use http::request::Parts;
use ringway_http::{
    Found,
    model::{ServiceName, traffic::TrafficPolicy},
    session::Session,
};

use super::{Terms, unix_seconds};
use crate::{
    snapshot::{Service, Snapshot},
    waypoint::{
        plan::{Destination, destination_of},
        policy::{place_of, read},
        serve::Downstream,
    },
};

/// As [`terms`], with what the request itself says of who is to get it; that is for us, and goes no further.
pub(crate) fn own_terms(
    downstream: &Downstream,
    snapshot: &Snapshot,
    found: Option<Found<'_>>,
    parts: &mut Parts,
    destination: &Destination,
) -> Option<Box<Terms>> {
    let mut terms = terms(downstream, snapshot, found, parts, destination)?;
    let paths = snapshot.http()?.paths();
    if let Ok(head) = read(parts, paths) {
        terms.read(&head, downstream.source.ip(), downstream.shard.random());
    }
    terms.is_secure = downstream.scheme() == "https";
    terms.strip(&mut parts.headers);
    Some(terms)
}

/// What is said of how a request is passed on to a service.
pub(crate) fn terms(
    downstream: &Downstream,
    snapshot: &Snapshot,
    found: Option<Found<'_>>,
    parts: &Parts,
    destination: &Destination,
) -> Option<Box<Terms>> {
    let Destination::Service(service, port) = destination else { return None };
    let traffic = traffic(downstream, snapshot, found, parts, (service, *port))?;
    let services = &downstream.pod.l7.kept().services;
    let place = (&downstream.pod.uid, &service.id, *port);
    services.terms(&downstream.shard, snapshot, place, traffic)
}

/// The place, among the backends of a rule, of the one that a request has a session at: that goes before their weights.
pub(crate) fn kept(
    downstream: &Downstream,
    snapshot: &Snapshot,
    found: Found<'_>,
    parts: &Parts,
) -> Option<usize> {
    let (rule, policies) = (&found.rule.rule, snapshot.http()?.policies());
    let may_have_one = rule.session.is_some() || policies.has_sessions();
    if rule.backends.len() < 2 || !may_have_one {
        return None;
    }
    rule.backends.iter().position(|backend| {
        let found_there = destination_of(snapshot, &backend.backend.target);
        let Ok(Destination::Service(service, port)) = found_there else { return false };
        traffic(downstream, snapshot, Some(found), parts, (&service, port))
            .and_then(|traffic| Session::of(&traffic.session?, &parts.headers, unix_seconds()))
            .is_some_and(|session| is_at(session, snapshot, &service))
    })
}

/// What policies say of a request to a service, and of its sessions before them the rule.
fn traffic(
    downstream: &Downstream,
    snapshot: &Snapshot,
    found: Option<Found<'_>>,
    parts: &Parts,
    (service, port): (&Service, u16),
) -> Option<TrafficPolicy> {
    let tables = snapshot.http()?;
    let session = found.and_then(|found| found.session());
    if tables.policies().is_empty() && session.is_none() {
        return None;
    }
    let name =
        ServiceName { namespace: service.namespace().into(), hostname: service.hostname().into() };
    let (rule, place) = (found.map(|found| found.rule), Some((&name, port)));
    let in_force =
        tables.policies().in_force(&place_of(tables, downstream, rule, Some(parts), place));
    if in_force.is_empty() && session.is_none() {
        return None;
    }
    let said = in_force.traffic();
    Some(said.narrowed(&TrafficPolicy { session, ..TrafficPolicy::default() }))
}

/// Whether the endpoint of a session is one of the service. One that is not ready is none.
fn is_at(session: Session, snapshot: &Snapshot, service: &Service) -> bool {
    let wished = session.endpoint.ip();
    let endpoints = snapshot.endpoints_named(&service.id);
    endpoints.is_some_and(|endpoints| {
        endpoints.ready().iter().any(|one| one.workload().addresses().contains(&wished))
    })
}
