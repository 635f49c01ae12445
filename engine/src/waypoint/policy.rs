//! What policies have to say of a request, or of a connection that carries none.
//!
//! ```text
//!  admit: who must be asked ─▶ tokens ─▶ may it ─▶ (the route is found) ─▶ pass: how often ─▶ what is spoilt
//!              └ outside                                                        └ outside
//! ```
//!
//! Whether it may is decided before anything is looked for, so that nobody learns of routes whose requests he may not make.

use std::{
    rc::Rc,
    sync::{Arc, OnceLock},
    time::{Instant, SystemTime},
};

use http::{StatusCode, Uri, request::Parts};
use ringway_http::{
    RequestHead, Tables,
    authorize::{DryRun, Facts, Matched, RequestFacts},
    fault::Fault,
    head::hops,
    model::{
        ListenerTls, ServiceName,
        policy::{AuthorizationProvider, PolicyName},
        traffic::TlsOrigination,
    },
    outside::limits::Ask,
    path::PathMode,
    policies::{InForce, Place},
    rate::Ruling,
    tables::RouteRule,
    token::{Token, without_params},
};

use super::{
    outside::{self, Asker},
    plan::Destination,
    record::Recorder,
    reply::Reply,
    serve::{Downstream, Target},
};
use crate::{
    decide::Refusal,
    runtime,
    snapshot::{AppProtocol, Snapshot},
    telemetry::{DryRunRecord, Telemetry},
};

/// A verified token, which goes with its request.
#[derive(Clone)]
struct Verified(std::sync::Arc<Token>);

/// Decides whether a request may pass; takes out tokens that are not for the service, and tells it what it is to know.
///
/// # Errors
/// The answer, if it may not.
pub(crate) async fn admit(
    downstream: &Rc<Downstream>,
    snapshot: &Snapshot,
    parts: &mut Parts,
    recorder: &mut Recorder,
) -> Result<(), Reply> {
    let Some(tables) = snapshot.http() else { return Ok(()) };
    let in_force = in_force(tables, downstream, None, Some(&*parts));
    if in_force.is_empty() {
        return Ok(());
    }
    hops::drop_named(&mut parts.headers);
    for (provider, by) in asked(&in_force, downstream, parts, tables)? {
        let asker = Asker { downstream, snapshot };
        Box::pin(outside::authorization::ask(&asker, &provider, &by, parts, recorder)).await?;
    }
    let token = authenticate(&in_force, parts)?;
    authorize(&in_force, downstream, parts, token.as_ref(), tables.paths())?;
    if let Some(token) = token {
        parts.extensions.insert(Verified(token.into()));
    }
    Ok(())
}

/// Decides what happens to a request whose route is known, before it is passed on.
///
/// # Errors
/// The answer, if there were too many like it.
pub(crate) async fn pass(
    downstream: &Rc<Downstream>,
    snapshot: &Snapshot,
    rule: Option<&Arc<RouteRule>>,
    parts: &mut Parts,
    recorder: &mut Recorder,
) -> Result<Fault, Reply> {
    let Some(tables) = snapshot.http() else { return Ok(Fault::default()) };
    let in_force = in_force(tables, downstream, rule, Some(&*parts));
    if in_force.is_empty() {
        return Ok(Fault::default());
    }
    for (provider, by) in external(&in_force, tables)? {
        let asker = Asker { downstream, snapshot };
        Box::pin(outside::authorization::ask(&asker, &provider, &by, parts, recorder)).await?;
    }
    for (policy, ask) in count(&in_force, downstream, parts, tables.paths())? {
        let asker = Asker { downstream, snapshot };
        Box::pin(outside::limits::ask(&asker, &policy, &ask, parts, recorder)).await?;
    }
    let shard = &downstream.shard;
    let spoil = |policy| Fault::of(policy, [shard.random(), shard.random()]);
    Ok(in_force.fault().map(spoil).unwrap_or_default())
}

/// Counts a request by the limits that are kept here; returns what is asked of those that are kept elsewhere.
fn count(
    in_force: &InForce,
    downstream: &Downstream,
    parts: &Parts,
    paths: PathMode,
) -> Result<Vec<(PolicyName, Ask)>, Reply> {
    if in_force.limits().next().is_none() {
        return Ok(Vec::new());
    }
    let head = read(parts, paths)?;
    let token = parts.extensions.get::<Verified>().map(|Verified(token)| &**token);
    let request = RequestFacts { token, ..request_facts(&head, authority(parts)) };
    let facts = facts(downstream).with_request(request);
    for limits in in_force.limits() {
        if let Ruling::Limited { retry_after } = limits.take(&facts, since_epoch()) {
            return Err(Reply::limited(retry_after));
        }
    }
    let asks =
        in_force.limits().filter_map(|limits| Some((limits.name.clone(), limits.ask(&facts)?)));
    Ok(asks.collect())
}

/// The TLS that is asked for towards the backend of a connection that carries no requests. What is TLS already, from its client
/// to its backend, goes as it is.
pub(crate) fn backend_tls(
    downstream: &Downstream,
    destination: &Destination,
) -> Option<TlsOrigination> {
    let Destination::Service(service, port) = destination else { return None };
    let snapshot = downstream.shard.snapshot();
    let tables = snapshot.http()?;
    if is_tls_throughout(downstream, &snapshot, tables) {
        return None;
    }
    let name =
        ServiceName { namespace: service.namespace().into(), hostname: service.hostname().into() };
    let place = Some((&name, *port));
    let in_force = tables.policies().in_force(&place_of(tables, downstream, None, None, place));
    in_force.traffic().tls
}

/// Whether client and backend speak TLS with each other, and the listener, or the port that is called, says so.
fn is_tls_throughout(downstream: &Downstream, snapshot: &Snapshot, tables: &Tables) -> bool {
    match &downstream.target {
        Target::Service { id, port, .. } => {
            let port = snapshot.service(id).and_then(|service| service.port(*port));
            port.is_some_and(|port| port.app_protocol == AppProtocol::Tls)
        }
        Target::Listener { gateway, port, ended_for: Some(key) } => {
            let port = tables.for_port(gateway, *port);
            let mut listeners = port.into_iter().flat_map(|port| port.listeners());
            let listener = listeners.find(|table| table.listener.key == *key);
            let tls = listener.and_then(|table| table.listener.tls.as_ref());
            matches!(tls, Some(ListenerTls::Passthrough))
        }
        Target::Listener { .. } | Target::Workload(..) => false,
    }
}

/// Decides whether a connection that carries no requests may pass.
///
/// # Errors
/// Why not.
pub(crate) fn admit_connection(downstream: &Downstream) -> Result<(), Refusal> {
    let snapshot = downstream.shard.snapshot();
    let Some(tables) = snapshot.http() else { return Ok(()) };
    let in_force = in_force(tables, downstream, None, None);
    if in_force.is_empty() {
        return Ok(());
    }
    let facts = facts(downstream);
    let refused = |matched: &Matched<'_>| Refusal::Denied {
        policy: matched.policy.to_string().into(),
        rule: matched.rule,
    };
    // Authorizers are asked about requests; there is none to ask about.
    if let Some((_, matched)) = in_force.asked(&facts).providers.first() {
        return Err(refused(matched));
    }
    if in_force.external().next().is_some() {
        return Err(Refusal::NotAllowed);
    }
    let verdict = in_force.authorize(&facts);
    tell_dry_runs(downstream, &verdict.dry_runs);
    match verdict.outcome {
        Ok(_) => Ok(()),
        Err(ringway_http::authorize::Denied::Matched(matched)) => Err(refused(&matched)),
        Err(ringway_http::authorize::Denied::NotAllowed) => Err(Refusal::NotAllowed),
    }
}

/// Whom CUSTOM policies want to be asked, and which policy it is, as logs name it.
fn asked(
    in_force: &InForce,
    downstream: &Downstream,
    parts: &Parts,
    tables: &Tables,
) -> Result<Vec<(Arc<AuthorizationProvider>, String)>, Reply> {
    let head = read(parts, tables.paths())?;
    let facts = facts(downstream).with_request(request_facts(&head, authority(parts)));
    let asked = in_force.asked(&facts);
    tell_dry_runs(downstream, &asked.dry_runs);
    let provider = |(name, matched): &(&Arc<str>, Matched<'_>)| {
        let Matched { policy: PolicyName { namespace, name: policy }, rule } = matched;
        // Tables are not made of policies that name nobody.
        let provider = tables.policies().provider(name)?.clone();
        Some((provider, format!("ns[{namespace}]-policy[{policy}]-rule[{rule}]")))
    };
    asked.providers.iter().map(provider).collect::<Option<_>>().ok_or_else(|| {
        let why = "a policy names an external authorizer that there is not".to_owned();
        Reply::unanswered_outside(StatusCode::FORBIDDEN, "none", why)
    })
}

/// Whom policies want to be asked about every request, and which policy it is, as logs name it.
fn external(
    in_force: &InForce,
    tables: &Tables,
) -> Result<Vec<(Arc<AuthorizationProvider>, String)>, Reply> {
    let provider = |(name, PolicyName { namespace, name: policy }): &(Arc<str>, PolicyName)| {
        let provider = tables.policies().provider(name)?.clone();
        Some((provider, format!("ns[{namespace}]-policy[{policy}]")))
    };
    in_force.external().map(provider).collect::<Option<_>>().ok_or_else(|| {
        let why = "a policy names an external authorizer that there is not".to_owned();
        Reply::unanswered_outside(StatusCode::FORBIDDEN, "none", why)
    })
}

fn authorize(
    in_force: &InForce,
    downstream: &Downstream,
    parts: &Parts,
    token: Option<&Token>,
    paths: PathMode,
) -> Result<(), Reply> {
    let head = read(parts, paths)?;
    let request = RequestFacts { token, ..request_facts(&head, authority(parts)) };
    let facts = facts(downstream).with_request(request);
    let verdict = in_force.authorize(&facts);
    tell_dry_runs(downstream, &verdict.dry_runs);
    verdict.outcome.map(|_allowed| ()).map_err(|denied| Reply::denied(&denied))
}

fn authenticate(in_force: &InForce, parts: &mut Parts) -> Result<Option<Token>, Reply> {
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let authenticated = in_force
        .authenticate(&parts.headers, parts.uri.query(), now)
        .map_err(Reply::unauthenticated)?;
    authenticated.apply(&mut parts.headers);
    let params = authenticated.params();
    if !params.is_empty()
        && let Some(uri) = without(&parts.uri, &params)
    {
        parts.uri = uri;
    }
    Ok(authenticated.token)
}

/// A target without some parameters.
fn without(uri: &Uri, params: &[&str]) -> Option<Uri> {
    let target = match without_params(uri.query()?, params) {
        Some(query) => format!("{}?{query}", uri.path()),
        None => uri.path().to_owned(),
    };
    let mut changed = uri.clone().into_parts();
    changed.path_and_query = Some(target.try_into().ok()?);
    Uri::from_parts(changed).ok()
}

fn in_force(
    tables: &Tables,
    downstream: &Downstream,
    rule: Option<&Arc<RouteRule>>,
    parts: Option<&Parts>,
) -> InForce {
    if tables.policies().is_empty() {
        return InForce::default();
    }
    let service = match &downstream.target {
        Target::Service { name, port, .. } => Some((name, *port)),
        Target::Workload(..) | Target::Listener { .. } => None,
    };
    tables.policies().in_force(&place_of(tables, downstream, rule, parts, service))
}

pub(super) fn place_of<'p>(
    tables: &'p Tables,
    downstream: &'p Downstream,
    rule: Option<&'p Arc<RouteRule>>,
    parts: Option<&Parts>,
    service: Option<(&'p ServiceName, u16)>,
) -> Place<'p> {
    let listener = listener_of(tables, downstream, parts);
    let gateway = match &downstream.target {
        Target::Listener { gateway, .. } => Some(gateway),
        Target::Service { .. } | Target::Workload(..) => tables.gateway_of(&downstream.pod.uid),
    };
    let route = rule.map(|rule| (&rule.route, rule.rule.name.as_ref()));
    Place { gateway, listener, service, route }
}

/// The listener of a gateway that a connection came to: by its server name, or else by the host that is asked.
fn listener_of<'t>(
    tables: &'t Tables,
    downstream: &Downstream,
    parts: Option<&Parts>,
) -> Option<&'t Arc<str>> {
    let Target::Listener { gateway, port, .. } = &downstream.target else { return None };
    let port = tables.for_port(gateway, *port)?;
    let listener = match (&downstream.server_name, parts) {
        (Some(server_name), _) => port.by_server_name(Some(server_name)),
        (None, Some(parts)) => port.by_host(read(parts, tables.paths()).ok()?.host()),
        (None, None) => port.listeners().next(),
    };
    listener.map(|table| &table.listener.key.listener)
}

pub(crate) fn facts(downstream: &Downstream) -> Facts<'_> {
    let identity = downstream.identity.as_deref();
    Facts::new(identity, downstream.source.ip(), downstream.called)
        .with_server_name(downstream.server_name.as_deref())
}

/// A head as routes and policies see it.
///
/// # Errors
/// 400, where its path has no canonical form.
pub(crate) fn read(parts: &Parts, paths: PathMode) -> Result<RequestHead<'_>, Reply> {
    RequestHead::read(parts, paths).map_err(|error| {
        Reply::new(StatusCode::BAD_REQUEST, "path_normalization_failed").because(error.to_string())
    })
}

pub(crate) fn request_facts<'r>(
    head: &'r RequestHead<'_>,
    authority: Option<&'r str>,
) -> RequestFacts<'r> {
    RequestFacts {
        method: head.method(),
        path: head.path(),
        authority,
        headers: head.headers(),
        token: None,
    }
}

/// What the target says goes before the header (RFC 9112 §3.2.2).
pub(crate) fn authority(parts: &Parts) -> Option<&str> {
    match parts.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => parts.headers.get(http::header::HOST)?.to_str().ok(),
    }
}

fn tell_dry_runs(downstream: &Downstream, dry_runs: &[DryRun<'_>]) {
    let telemetry: &Telemetry = &downstream.shard.telemetry;
    for dry_run in dry_runs {
        let (matched, denied) = match dry_run {
            DryRun::Denied(matched) | DryRun::Asked(matched) => (Some(matched), true),
            DryRun::Allowed(matched) => (Some(matched), false),
            DryRun::NotAllowed => (None, true),
        };
        telemetry.dry_run(DryRunRecord {
            workload: downstream.pod.uid.clone(),
            source: downstream.source,
            policy: matched.map(|matched| (matched.policy.to_string().into(), matched.rule)),
            denied,
        });
    }
}

/// Since a moment that all shards share: that of the first request that asks.
pub(crate) fn since_epoch() -> std::time::Duration {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    let now = runtime::now();
    now.saturating_duration_since(*EPOCH.get_or_init(|| now))
}
