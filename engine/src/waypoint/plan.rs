//! What is to be done with one request: decided on one snapshot, from its head alone.

use std::{net::SocketAddr, sync::Arc};

use http::{Uri, request::Parts, uri::PathAndQuery};
use ringway_http::{
    Attached, RequestHead,
    model::{BackendTarget, Retry, ServiceName, Timeouts, WeightedBackend},
    tables::RouteRule,
};

use super::{
    record::Recorder,
    reply::Reply,
    serve::{Downstream, Target},
};
use crate::snapshot::{NamespacedHostname, Service, Snapshot};

/// See the module's text.
pub(crate) struct Plan {
    /// The rule that was met; none: there are no routes, and it goes to the service itself.
    pub(crate) rule: Option<Arc<RouteRule>>,
    pub(crate) destination: Destination,
    /// What is asked for there.
    pub(crate) target: PathAndQuery,
}

/// Who gets a request.
#[derive(Clone)]
pub(crate) enum Destination {
    /// An endpoint of a service. Looked up for each try.
    Service(Arc<Service>, u16),
    /// A workload itself.
    Workload(Arc<str>, SocketAddr),
}

impl Plan {
    pub(crate) fn timeouts(&self) -> Timeouts {
        self.rule.as_ref().map(|rule| rule.rule.timeouts).unwrap_or_default()
    }

    pub(crate) fn retry(&self) -> Option<&Retry> {
        self.rule.as_ref()?.rule.retry.as_ref()
    }
}

/// Decides what is to be done with a request.
///
/// # Errors
/// The answer, where it is given here.
pub(crate) fn plan(
    downstream: &Downstream,
    snapshot: &Snapshot,
    parts: &Parts,
    random: u64,
    recorder: &mut Recorder,
) -> Result<Plan, Reply> {
    let tables = snapshot.http();
    let mode = tables.map(|tables| tables.paths()).unwrap_or_default();
    let head = RequestHead::read(parts, mode).map_err(|error| {
        Reply::new(http::StatusCode::BAD_REQUEST, "path_normalization_failed")
            .because(error.to_string())
    })?;
    let (id, name, port) = match &downstream.target {
        Target::Service { id, name, port } => (id, name, *port),
        Target::Workload(uid, address) => {
            let destination = Destination::Workload(uid.clone(), *address);
            return Ok(Plan { rule: None, destination, target: target(&head, &parts.uri)? });
        }
    };
    let service = snapshot.service(id).cloned().ok_or_else(Reply::no_backend)?;
    recorder.service = Some(service.clone());
    let attached = tables.map_or(Attached::None, |tables| {
        tables.for_service(name, port, downstream.client_namespace())
    });
    let target = target(&head, &parts.uri)?;
    if let Attached::Routes(routes) = attached {
        let found = routes.find(&head).ok_or_else(Reply::no_route)?;
        let rule = found.rule.clone();
        recorder.route = Some(route_name(&rule));
        let backend = choose(&rule.rule.backends, random).ok_or_else(Reply::no_backend)?;
        let destination = destination_of(snapshot, &backend.backend.target)?;
        return Ok(Plan { rule: Some(rule), destination, target });
    }
    Ok(Plan { rule: None, destination: Destination::Service(service, port), target })
}

/// The path in its canonical form, with the query as it came.
fn target(head: &RequestHead<'_>, uri: &Uri) -> Result<PathAndQuery, Reply> {
    let invalid = |_| Reply::new(http::StatusCode::BAD_REQUEST, "path_normalization_failed");
    match uri.path_and_query() {
        Some(target) if target.path() == head.path() => Ok(target.clone()),
        _ => match head.query() {
            Some(query) => format!("{}?{query}", head.path()).try_into().map_err(invalid),
            None => head.path().try_into().map_err(invalid),
        },
    }
}

/// Draws one of them by weight; none when all weigh nothing.
pub(crate) fn choose(backends: &[WeightedBackend], random: u64) -> Option<&WeightedBackend> {
    let total: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    let mut at = random.checked_rem(total)?;
    backends.iter().find(|backend| {
        let weight = u64::from(backend.weight);
        let is_it = at < weight;
        at = at.saturating_sub(weight);
        is_it
    })
}

pub(crate) fn destination_of(
    snapshot: &Snapshot,
    target: &BackendTarget,
) -> Result<Destination, Reply> {
    match target {
        BackendTarget::Service { service, port } => {
            let service = snapshot.service(&named(service)).ok_or_else(Reply::no_backend)?;
            Ok(Destination::Service(service.clone(), *port))
        }
        BackendTarget::Invalid(why) => Err(Reply::no_backend().because(&**why)),
    }
}

fn named(service: &ServiceName) -> NamespacedHostname {
    NamespacedHostname::new(service.namespace.clone(), service.hostname.clone())
}

/// As logs name it: the route, and the rule in it.
fn route_name(rule: &RouteRule) -> Box<str> {
    match &rule.rule.name {
        Some(name) => format!("{}.{name}", rule.route).into(),
        None => format!("{}.{}", rule.route, rule.index).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_http::model::Backend;

    #[test]
    fn backends_are_drawn_by_weight() {
        let backend = |name: &str, weight| WeightedBackend {
            backend: Backend { target: BackendTarget::Invalid(name.into()) },
            weight,
            filters: Vec::new(),
        };
        let backends = [backend("a", 9), backend("none", 0), backend("b", 1)];
        let drawn = |random| match &choose(&backends, random).expect("some weigh").backend.target {
            BackendTarget::Invalid(name) => name.to_string(),
            BackendTarget::Service { .. } => unreachable!("there is none"),
        };
        let counts = (0..100).fold([0, 0], |[a, b], random| match &*drawn(random) {
            "a" => [a + 1, b],
            name => [a, b + usize::from(name == "b")],
        });
        assert_eq!(counts, [90, 10]);
        assert!(choose(&[backend("none", 0)], 7).is_none());
        assert!(choose(&[], 7).is_none());
    }
}
