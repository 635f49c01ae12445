//! What is to be done with one request: decided on one snapshot, from its head alone.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use http::{StatusCode, request::Parts};
use ringway_http::{
    Attached, Found, RequestHead,
    fault::Fault,
    filter::{self, Backward, Entrance},
    model::{BackendTarget, Filter, Retry, ServiceName, Timeouts},
    tables::RouteRule,
};

use super::{
    policy,
    record::Recorder,
    reply::Reply,
    serve::{Downstream, Target},
    traffic::{self, Terms},
};
use crate::snapshot::{NamespacedHostname, Service, Snapshot};

/// See the module's text.
pub(crate) struct Plan {
    /// The rule that was met; none: there are no routes, and it goes to the service itself.
    pub(crate) rule: Option<Arc<RouteRule>>,
    pub(crate) destination: Destination,
    /// What policies say of how it is passed on there.
    pub(crate) terms: Option<Box<Terms>>,
    /// Who gets a copy.
    pub(crate) mirrors: Vec<Rc<Plan>>,
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
    /// To somebody, as they come.
    pub(crate) fn plain(destination: Destination, terms: Option<Box<Terms>>) -> Self {
        Self { rule: None, destination, terms, mirrors: Vec::new() }
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        self.rule.as_ref().map(|rule| rule.rule.timeouts).unwrap_or_default()
    }

    pub(crate) fn retry(&self) -> Option<&Retry> {
        self.rule.as_ref()?.rule.retry.as_ref()
    }
}

/// Decides what is to be done with a request, and does to its head what filters say.
///
/// # Errors
/// The answer, where it is given here.
pub(crate) async fn plan(
    downstream: &Rc<Downstream>,
    snapshot: &Snapshot,
    parts: &mut Parts,
    recorder: &mut Recorder,
) -> Result<(Plan, Fault), Reply> {
    let tables = snapshot.http();
    let mode = tables.map(|tables| tables.paths()).unwrap_or_default();
    let head = policy::read(parts, mode)?;
    let met = meet(downstream, snapshot, &head, recorder)?;
    let (host, path) = (head.host().to_owned(), head.path().to_owned());
    if path != parts.uri.path() {
        filter::set_path(parts, &path);
    }
    let (rule, matched) = match met {
        Met::Rule(rule, matched) => (rule, matched),
        Met::Nothing(destination) => {
            let fault = policy::pass(downstream, snapshot, None, parts, recorder).await?;
            let terms = traffic::own_terms(downstream, snapshot, None, parts, &destination);
            return Ok((Plan::plain(destination, terms), fault));
        }
    };
    let found = Found { rule: &rule, matched };
    recorder.rule = Some(rule.clone());
    // Before filters change what policies are about.
    let fault = policy::pass(downstream, snapshot, Some(&rule), parts, recorder).await?;
    let entrance = Entrance {
        scheme: downstream.scheme(),
        port: downstream.called.port(),
        host: &host,
        path: &path,
        prefix: found.prefix(),
    };
    let mut backward = Backward::new(&rule, parts);
    let is_preflight = filter::is_preflight(parts);
    if let Some(reply) = filter::apply(&rule.rule.filters, parts, &entrance) {
        if !is_preflight {
            recorder.backward = Some(Box::new(backward));
        }
        return Err(reply.into());
    }
    let kept = traffic::kept(downstream, snapshot, found, parts);
    let chosen = match kept {
        Some(at) => Ok((at, &rule.rule.backends[at])),
        None => filter::choose(&rule.rule, downstream.shard.random()),
    };
    let (at, backend) = match chosen {
        Ok(chosen) => chosen,
        Err(dead) => {
            recorder.backward = Some(Box::new(backward));
            return Err(Reply::no_backend().because(dead.to_string()));
        }
    };
    backward.chosen(at);
    recorder.backward = Some(Box::new(backward));
    let destination = destination_of(snapshot, &backend.backend.target)?;
    if let Some(reply) = filter::apply(&backend.filters, parts, &entrance) {
        return Err(reply.into());
    }
    let terms = traffic::own_terms(downstream, snapshot, Some(found), parts, &destination);
    let filters = [&rule.rule.filters, &backend.filters];
    let mirrors = mirrors(downstream, snapshot, parts, filters);
    Ok((Plan { rule: Some(rule), destination, terms, mirrors }, fault))
}

/// Who gets a copy of this request. A copy for nobody is not made.
fn mirrors(
    downstream: &Downstream,
    snapshot: &Snapshot,
    parts: &Parts,
    filters: [&Vec<Filter>; 2],
) -> Vec<Rc<Plan>> {
    let drawn = filters
        .into_iter()
        .flat_map(|filters| filter::mirrors(filters, || downstream.shard.random()));
    let found = drawn.filter_map(|mirror| destination_of(snapshot, &mirror.backend.target).ok());
    let plans = found.map(|destination| {
        let terms = traffic::terms(downstream, snapshot, None, parts, &destination);
        Rc::new(Plan::plain(destination, terms))
    });
    plans.collect()
}

/// What a request has met.
enum Met {
    /// This rule, by this match of it.
    Rule(Arc<RouteRule>, usize),
    /// There are no routes: it goes where it was going.
    Nothing(Destination),
}

fn meet(
    downstream: &Downstream,
    snapshot: &Snapshot,
    head: &RequestHead<'_>,
    recorder: &mut Recorder,
) -> Result<Met, Reply> {
    let tables = snapshot.http();
    let found = match &downstream.target {
        Target::Workload(uid, address) => {
            return Ok(Met::Nothing(Destination::Workload(uid.clone(), *address)));
        }
        Target::Listener { gateway, port, ended_for } => {
            let port = tables.and_then(|tables| tables.for_port(gateway, *port));
            let listener = port.and_then(|port| port.by_host(head.host()));
            let listener = listener.ok_or_else(Reply::no_route)?;
            if ended_for.as_ref().is_some_and(|key| *key != listener.listener.key) {
                // RFC 9110 §7.4: its certificate was another one's.
                return Err(Reply::new(StatusCode::MISDIRECTED_REQUEST, "misdirected_request"));
            }
            listener.routes().find(head)
        }
        Target::Service { id, name, port } => {
            let service = snapshot.service(id).cloned().ok_or_else(Reply::no_backend)?;
            recorder.service = Some(service.clone());
            let attached = tables.map_or(Attached::None, |tables| {
                tables.for_service(name, *port, downstream.client_namespace())
            });
            match attached {
                Attached::None => return Ok(Met::Nothing(Destination::Service(service, *port))),
                Attached::Routes(routes) => routes.find(head),
            }
        }
    };
    let found = found.ok_or_else(Reply::no_route)?;
    Ok(Met::Rule(found.rule.clone(), found.matched))
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
pub(crate) fn route_name(rule: &RouteRule) -> Box<str> {
    match &rule.rule.name {
        Some(name) => format!("{}.{name}", rule.route).into(),
        None => format!("{}.{}", rule.route, rule.index).into(),
    }
}
