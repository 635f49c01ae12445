//! What the processes of a Gateway are told, written as istiod writes it: one route for each match of a rule, changes of
//! headers together and last, the listener of a waypoint for a service that is not named, paths without the slash at
//! their end.

use std::collections::BTreeSet;

use ringway_control::proto::agent as wire;
use ringway_control::proto::agent::backend_tls::Verification;
use ringway_control::proto::agent::resource::Kind;
use ringway_control::proto::agent::tls_config::MtlsMode;
use ringway_control::proto::agent::traffic_policy_spec::Kind as Policy;
use ringway_control::proto::agent::{
    backend_reference, header_match, path_match, policy_target, query_match, request_redirect,
    url_rewrite,
};
use ringway_engine::decide::fronts;
use ringway_engine::snapshot::{NamespacedHostname, Snapshot, Workload};
use ringway_http::model::policy::Target;
use ringway_http::model::traffic::{AlternativeName, Belief, TlsOrigination};
use ringway_http::model::{
    Backend, BackendTarget, ClientDemand, Filter, HeaderChanges, HostPattern, HttpConfig, Listener,
    ListenerKey, ListenerProtocol, ListenerTls, Match, OriginMatch, Parent, PathChange, PathMatch,
    Route, RouteKind, Rule, ServiceName, ValueMatch, WeightedBackend,
};

use super::{AGENT, Resource};
use crate::tokens::GatewayCaller;

/// Everything that `http` says for the processes of a Gateway in `mesh`.
pub(crate) fn of(http: &HttpConfig, mesh: &Snapshot, gateway: &GatewayCaller) -> Vec<Resource> {
    let told = tell(http, mesh, gateway);
    told.into_iter().map(|(name, told)| Resource::of(name, Vec::new(), AGENT, &told)).collect()
}

/// The same as messages by name.
pub fn tell(
    http: &HttpConfig,
    mesh: &Snapshot,
    gateway: &GatewayCaller,
) -> Vec<(String, wire::Resource)> {
    let is_ours = |key: &ListenerKey| {
        (&*key.namespace, &*key.gateway) == (gateway.namespace.as_str(), gateway.name.as_str())
    };
    let listeners: Vec<&Listener> = http.listeners.iter().filter(|one| is_ours(&one.key)).collect();
    let mut told = Vec::new();
    let mut ports = BTreeSet::new();
    for listener in &listeners {
        if ports.insert(listener.port) {
            told.push(Kind::Bind(bind(listener)));
        }
        told.push(Kind::Listener(self::listener(listener)));
    }
    let own = mesh.workloads().find(|workload| is_process(workload, gateway));
    for route in &http.routes {
        for listener in &listeners {
            let meant = |parent: &Parent| match parent {
                Parent::Listener(key) => *key == listener.key,
                Parent::Service { service, .. } => {
                    listener.protocol == ListenerProtocol::Hbone
                        && own.is_some_and(|own| is_before(mesh, own, service))
                }
            };
            if route.parents.iter().any(meant) {
                told.extend(routes(route, listener));
            }
        }
    }
    told.extend(backend_tls(http).into_iter().map(Kind::Policy));
    told.into_iter().map(named).collect()
}

/// TLS to backends, of each service by itself. In the place of a certificate that cannot be had stands the text `invalid`.
fn backend_tls(http: &HttpConfig) -> Vec<wire::Policy> {
    let mut policies = Vec::new();
    for attached in &http.policies.traffic {
        let Some(tls) = &attached.policy.tls else { continue };
        for target in &attached.targets {
            let Target::Service { service, port } = target else { continue };
            let kind = wire::backend_policy_spec::Kind::BackendTls(tls_of(tls));
            let service_target = policy_target::Service {
                namespace: service.namespace.to_string(),
                hostname: service.hostname.to_string(),
                port: port.map(u32::from),
            };
            policies.push(wire::Policy {
                key: format!("{}:{service}:{}", attached.name, port.unwrap_or_default()),
                target: Some(wire::PolicyTarget {
                    kind: Some(policy_target::Kind::Service(service_target)),
                }),
                kind: Some(wire::policy::Kind::Backend(wire::BackendPolicySpec {
                    kind: Some(kind),
                })),
                ..wire::Policy::default()
            });
        }
    }
    policies
}

fn tls_of(tls: &TlsOrigination) -> wire::BackendTls {
    let TlsOrigination::By(settings) = tls else {
        return wire::BackendTls { root: Some(b"invalid".to_vec()), ..wire::BackendTls::default() };
    };
    let names: Vec<String> = match &settings.belief {
        Belief::OneOf(names) => names.iter().map(name_of).collect(),
        Belief::ServerName | Belief::AnyName | Belief::Anybody => Vec::new(),
    };
    let verification = match &settings.belief {
        Belief::OneOf(_) | Belief::ServerName => Verification::Strict,
        Belief::AnyName => Verification::InsecureHost,
        Belief::Anybody => Verification::InsecureAll,
    };
    let client = settings.client.as_ref();
    wire::BackendTls {
        root: Some(settings.authorities.to_vec()),
        hostname: Some(settings.server_name.to_string()),
        verification: verification.into(),
        verify_subject_alt_names: names,
        cert: client.map(|client| client.chain.to_vec()),
        key: client.map(|client| client.key.to_vec()),
        ..wire::BackendTls::default()
    }
}

fn name_of(name: &AlternativeName) -> String {
    let (AlternativeName::Host(name) | AlternativeName::Uri(name)) = name;
    name.to_string()
}

fn is_process(workload: &Workload, gateway: &GatewayCaller) -> bool {
    (workload.namespace(), workload.service_account())
        == (gateway.namespace.as_str(), gateway.service_account.as_str())
}

fn is_before(mesh: &Snapshot, own: &Workload, service: &ServiceName) -> bool {
    let id = NamespacedHostname::new(service.namespace.clone(), service.hostname.clone());
    mesh.service(&id).is_some_and(|service| fronts(mesh, service, own))
}

fn named(kind: Kind) -> (String, wire::Resource) {
    let name = match &kind {
        Kind::Bind(bind) => format!("bind/{}", bind.key),
        Kind::Listener(listener) => format!("listener/{}", listener.key),
        Kind::Route(route) => format!("route/{}", route.key),
        Kind::TcpRoute(route) => format!("tcp_route/{}", route.key),
        Kind::Policy(policy) => format!("policy/{}", policy.key),
        other => unreachable!("it is not written here: {other:?}"),
    };
    (name, wire::Resource { kind: Some(kind) })
}

fn bind_key(listener: &Listener) -> String {
    format!("{}/{}/{}", listener.port, listener.key.namespace, listener.key.gateway)
}

fn bind(listener: &Listener) -> wire::Bind {
    use wire::bind::{Protocol, TunnelProtocol};
    let (protocol, tunnel) = match listener.protocol {
        ListenerProtocol::Http => (Protocol::Http, TunnelProtocol::Direct),
        ListenerProtocol::Https | ListenerProtocol::Tls => (Protocol::Tls, TunnelProtocol::Direct),
        ListenerProtocol::Tcp => (Protocol::Tcp, TunnelProtocol::Direct),
        ListenerProtocol::Hbone => (Protocol::Http, TunnelProtocol::HboneWaypoint),
    };
    wire::Bind {
        key: bind_key(listener),
        port: listener.port.into(),
        protocol: protocol.into(),
        tunnel_protocol: tunnel.into(),
        ..wire::Bind::default()
    }
}

fn listener(listener: &Listener) -> wire::Listener {
    let protocol = match listener.protocol {
        ListenerProtocol::Http => wire::Protocol::Http,
        ListenerProtocol::Https => wire::Protocol::Https,
        ListenerProtocol::Tls => wire::Protocol::Tls,
        ListenerProtocol::Tcp => wire::Protocol::Tcp,
        ListenerProtocol::Hbone => wire::Protocol::Hbone,
    };
    let tls = match &listener.tls {
        None | Some(ListenerTls::Passthrough) => None,
        Some(ListenerTls::Broken(_)) => Some(wire::TlsConfig {
            cert: b"invalid".to_vec(),
            private_key: b"invalid".to_vec(),
            ..wire::TlsConfig::default()
        }),
        Some(ListenerTls::Terminate { certificate_chain, private_key, clients }) => {
            let mode = match clients.as_ref().map(|clients| clients.demand) {
                Some(ClientDemand::Anything | ClientDemand::ValidOrNone) => {
                    MtlsMode::AllowInsecureFallback
                }
                Some(ClientDemand::Valid) | None => MtlsMode::Strict,
            };
            Some(wire::TlsConfig {
                cert: certificate_chain.to_vec(),
                private_key: private_key.to_vec(),
                root: clients.as_ref().map(|clients| clients.authorities.to_vec()),
                mtls_mode: mode.into(),
                ..wire::TlsConfig::default()
            })
        }
    };
    let ListenerKey { namespace, gateway, listener: name } = &listener.key;
    wire::Listener {
        key: listener.key.to_string(),
        bind_key: bind_key(listener),
        name: Some(wire::ListenerName {
            gateway_name: gateway.to_string(),
            gateway_namespace: namespace.to_string(),
            listener_name: name.to_string(),
            listener_set: None,
        }),
        hostname: listener.hostname.as_ref().map(host).unwrap_or_default(),
        protocol: protocol.into(),
        tls,
    }
}

fn host(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(host) => host.to_string(),
        HostPattern::Suffix(suffix) => format!("*.{suffix}"),
    }
}

fn routes(route: &Route, listener: &Listener) -> Vec<Kind> {
    let is_stream = matches!(route.name.kind, RouteKind::Tls | RouteKind::Tcp);
    let rules = route.rules.iter().enumerate();
    rules
        .flat_map(|(index, rule)| match is_stream {
            true => vec![Kind::TcpRoute(stream_route(route, index, rule, listener))],
            false => http_routes(route, index, rule, listener),
        })
        .collect()
}

fn name(route: &Route, rule: &Rule) -> wire::RouteName {
    wire::RouteName {
        kind: route.name.kind.to_string(),
        name: route.name.name.to_string(),
        namespace: route.name.namespace.to_string(),
        rule_name: rule.name.as_deref().map(str::to_owned),
    }
}

fn stream_route(route: &Route, index: usize, rule: &Rule, listener: &Listener) -> wire::TcpRoute {
    wire::TcpRoute {
        // The same age for all: the files do not tell it here.
        key: format!("{:010}/{}.{index}.{}", 0, route.name, listener.key.listener),
        listener_key: listener.key.to_string(),
        name: Some(name(route, rule)),
        hostnames: route.hostnames.iter().map(host).collect(),
        backends: rule.backends.iter().map(weighted).collect(),
        ..wire::TcpRoute::default()
    }
}

fn http_routes(route: &Route, index: usize, rule: &Rule, listener: &Listener) -> Vec<Kind> {
    let is_grpc = route.name.kind == RouteKind::Grpc;
    let section = &listener.key.listener;
    // A reference that leads nowhere costs the rule all of its backends, and its hosts.
    let is_lost = rule.backends.iter().any(|each| is_nowhere(&each.backend));
    let whole = wire::Route {
        listener_key: listener.key.to_string(),
        name: Some(name(route, rule)),
        hostnames: if is_lost { Vec::new() } else { route.hostnames.iter().map(host).collect() },
        backends: if is_lost { Vec::new() } else { rule.backends.iter().map(weighted).collect() },
        traffic_policies: policies(rule),
        ..wire::Route::default()
    };
    let matches: Vec<wire::RouteMatch> =
        rule.matches.iter().map(|one| one_match(one, is_grpc)).collect();
    if is_grpc || matches.is_empty() {
        let key = match is_grpc {
            true => format!("{}.{index}.{section}", route.name),
            false => format!("{}.{index}.0.{section}", route.name),
        };
        return vec![Kind::Route(wire::Route { key, matches, ..whole })];
    }
    let one = |(at, one): (usize, wire::RouteMatch)| {
        let key = format!("{}.{index}.{at}.{section}", route.name);
        Kind::Route(wire::Route { key, matches: vec![one], ..whole.clone() })
    };
    matches.into_iter().enumerate().map(one).collect()
}

fn is_nowhere(backend: &Backend) -> bool {
    matches!(backend.target, BackendTarget::Invalid(_))
}

fn one_match(one: &Match, is_grpc: bool) -> wire::RouteMatch {
    let headers = one.headers.iter().map(|header| wire::HeaderMatch {
        name: header.name.to_string(),
        value: Some(match &header.value {
            ValueMatch::Exact(text) => header_match::Value::Exact(text.to_string()),
            ValueMatch::Regex(regex) => header_match::Value::Regex(pattern(regex.as_str())),
        }),
    });
    let query_params = one.query.iter().map(|query| wire::QueryMatch {
        name: query.name.to_string(),
        value: Some(match &query.value {
            ValueMatch::Exact(text) => query_match::Value::Exact(text.to_string()),
            ValueMatch::Regex(regex) => query_match::Value::Regex(pattern(regex.as_str())),
        }),
    });
    let path = one.path.as_ref().map(|path| match path {
        PathMatch::Exact(path) => path_match::Kind::Exact(path.to_string()),
        // Of a service alone, a path that no call has.
        PathMatch::Prefix(path) if is_grpc => path_match::Kind::Exact(format!("{path}/")),
        PathMatch::Prefix(path) => path_match::Kind::PathPrefix(path.to_string()),
        PathMatch::Regex(regex) => path_match::Kind::Regex(pattern(regex.as_str())),
    });
    wire::RouteMatch {
        path: path.map(|kind| wire::PathMatch { kind: Some(kind) }),
        headers: headers.collect(),
        method: one
            .method
            .as_ref()
            .filter(|_| !is_grpc)
            .map(|method| wire::MethodMatch { exact: method.to_string() }),
        query_params: query_params.collect(),
    }
}

/// As it was written: without what makes it fit whole texts only.
fn pattern(regex: &str) -> String {
    let inner = regex.strip_prefix(r"\A(?:").and_then(|rest| rest.strip_suffix(r")\z"));
    inner.unwrap_or(regex).to_owned()
}

fn policies(rule: &Rule) -> Vec<wire::TrafficPolicySpec> {
    let mut kinds = Vec::new();
    let mut changes: [Option<wire::HeaderModifier>; 2] = [None, None];
    for filter in &rule.filters {
        match filter {
            Filter::RequestHeaders(told) => merge(&mut changes[0], told),
            Filter::ResponseHeaders(told) => merge(&mut changes[1], told),
            Filter::Redirect(redirect) => {
                kinds.push(Policy::RequestRedirect(redirect_of(redirect)))
            }
            Filter::Rewrite(rewrite) => kinds.push(Policy::UrlRewrite(wire::UrlRewrite {
                host: rewrite.host.as_deref().unwrap_or_default().to_owned(),
                path: rewrite.path.as_ref().map(|path| match path {
                    PathChange::Full(path) => url_rewrite::Path::Full(path.to_string()),
                    PathChange::Prefix(path) => url_rewrite::Path::Prefix(cut(path)),
                }),
            })),
            Filter::Mirror(mirror) => kinds.push(Policy::RequestMirror(mirrors(mirror))),
            Filter::Cors(told) => kinds.push(Policy::Cors(cors(told))),
        }
    }
    let timeouts = rule.timeouts;
    if timeouts.request.is_some() || timeouts.backend_request.is_some() {
        let duration = |time: std::time::Duration| prost_types::Duration::try_from(time).ok();
        kinds.push(Policy::Timeout(wire::Timeout {
            request: timeouts.request.and_then(duration),
            backend_request: timeouts.backend_request.and_then(duration),
        }));
    }
    if let Some(retry) = &rule.retry {
        kinds.push(Policy::Retry(wire::Retry {
            retry_status_codes: retry.codes.iter().map(|code| (*code).into()).collect(),
            attempts: i32::try_from(retry.attempts).unwrap_or(i32::MAX),
            backoff: retry.backoff.and_then(|time| prost_types::Duration::try_from(time).ok()),
            ..wire::Retry::default()
        }));
    }
    let [request, response] = changes;
    kinds.extend(request.map(Policy::RequestHeaderModifier));
    kinds.extend(response.map(Policy::ResponseHeaderModifier));
    let spec = |kind| wire::TrafficPolicySpec { kind: Some(kind), ..Default::default() };
    kinds.into_iter().map(spec).collect()
}

/// Of a prefix the control plane cuts the slash at its end.
fn cut(path: &str) -> String {
    path.strip_suffix('/').unwrap_or(path).to_owned()
}

fn merge(into: &mut Option<wire::HeaderModifier>, told: &HeaderChanges) {
    let into = into.get_or_insert_default();
    let header = |change: &ringway_http::model::HeaderChange| wire::Header {
        name: change.name.to_string(),
        value: change.value.to_str().unwrap_or_default().to_owned(),
    };
    into.add.extend(told.add.iter().map(header));
    into.set.extend(told.set.iter().map(header));
    into.remove.extend(told.remove.iter().map(ToString::to_string));
}

fn redirect_of(redirect: &ringway_http::model::Redirect) -> wire::RequestRedirect {
    wire::RequestRedirect {
        scheme: redirect.scheme.as_deref().unwrap_or_default().to_owned(),
        host: redirect.host.as_deref().unwrap_or_default().to_owned(),
        path: redirect.path.as_ref().map(|path| match path {
            PathChange::Full(path) => request_redirect::Path::Full(path.to_string()),
            PathChange::Prefix(path) => request_redirect::Path::Prefix(cut(path)),
        }),
        port: redirect.port.unwrap_or_default().into(),
        status: redirect.status.as_u16().into(),
    }
}

fn mirrors(mirror: &ringway_http::model::Mirror) -> wire::RequestMirrors {
    let percentage = f64::from(mirror.numerator) * 100.0 / f64::from(mirror.denominator);
    let backend = Some(reference(&mirror.backend));
    wire::RequestMirrors { mirrors: vec![wire::request_mirrors::Mirror { backend, percentage }] }
}

fn cors(told: &ringway_http::model::Cors) -> wire::Cors {
    let texts = |texts: &[std::sync::Arc<str>]| texts.iter().map(ToString::to_string).collect();
    let origin = |origin: &OriginMatch| match origin {
        OriginMatch::Any => "*".to_owned(),
        OriginMatch::Exact(origin) => origin.to_string(),
        OriginMatch::Wildcard { prefix, suffix } => format!("{prefix}*{suffix}"),
    };
    wire::Cors {
        allow_credentials: told.credentials,
        allow_headers: texts(&told.headers),
        allow_methods: texts(&told.methods),
        allow_origins: told.origins.iter().map(origin).collect(),
        expose_headers: texts(&told.expose),
        max_age: told.max_age.and_then(|time| prost_types::Duration::try_from(time).ok()),
    }
}

fn reference(backend: &Backend) -> wire::BackendReference {
    match &backend.target {
        BackendTarget::Service { service, port } => wire::BackendReference {
            kind: Some(backend_reference::Kind::Service(backend_reference::Service {
                namespace: service.namespace.to_string(),
                hostname: service.hostname.to_string(),
            })),
            port: (*port).into(),
        },
        BackendTarget::Invalid(_) => wire::BackendReference::default(),
    }
}

fn weighted(backend: &WeightedBackend) -> wire::RouteBackend {
    use wire::backend_policy_spec::Kind;
    let mut changes: [Option<wire::HeaderModifier>; 2] = [None, None];
    let mut kinds = Vec::new();
    for filter in &backend.filters {
        match filter {
            Filter::RequestHeaders(told) => merge(&mut changes[0], told),
            Filter::ResponseHeaders(told) => merge(&mut changes[1], told),
            Filter::Redirect(redirect) => kinds.push(Kind::RequestRedirect(redirect_of(redirect))),
            Filter::Mirror(mirror) => kinds.push(Kind::RequestMirror(mirrors(mirror))),
            // The control plane leaves these out.
            Filter::Rewrite(_) | Filter::Cors(_) => {}
        }
    }
    let [request, response] = changes;
    kinds.extend(request.map(Kind::RequestHeaderModifier));
    kinds.extend(response.map(Kind::ResponseHeaderModifier));
    wire::RouteBackend {
        backend: Some(reference(&backend.backend)),
        weight: i32::try_from(backend.weight).unwrap_or(i32::MAX),
        backend_policies: kinds
            .into_iter()
            .map(|kind| wire::BackendPolicySpec { kind: Some(kind) })
            .collect(),
        ..wire::RouteBackend::default()
    }
}
