//! Routes: one resource for each match of a rule, or for each rule of a route of connections.

use http::Method;
use prost::Message;
use ringway_http::model::{
    Match, NamedMatch, PathMatch, Route, RouteKind, RouteName, Rule, ServiceName, ValueMatch, whole,
};
use ringway_http::path::PathMode;
use ringway_http::tables::check_route;

use super::rule::Effects;
use super::values::{Wrong, header_name, hosts, route_name};
use super::{L7Resource, Read, Refused, RulePlace, ToldRule, backend};
use crate::proto::agent as told;
use crate::proto::agent::{header_match, path_match, query_match};
use crate::proto::workload::NamespacedHostname;
use crate::xds::decode::Rejection;

pub(super) fn route(told: told::Route) -> Result<Read, Box<Refused>> {
    let name = route_name(told.name.as_ref(), RouteKind::Http)?;
    if !matches!(name.kind, RouteKind::Http | RouteKind::Grpc) {
        return Err(unsupported("a route of requests of a kind for connections").into());
    }
    if told.route_group_key.is_some() {
        return unmet(&told, unsupported("a RouteGroup: routes lead to backends"));
    }
    let matches = told.matches.iter().map(|one| one_match(one, name.kind));
    let matches = match matches.collect::<Result<Vec<_>, _>>() {
        Ok(matches) => matches,
        Err(why) => return unmet(&told, unsupported(&why)),
    };
    let mut warnings = Vec::new();
    let mut read = whose(&told, name)?;
    read.rule.matches = matches;
    let outcome = Effects::of(&told.traffic_policies, &told.key, &mut warnings);
    let effects = outcome.and_then(|effects| {
        let backends = told.backends.iter();
        read.rule.backends = backends
            .map(|told| backend::weighted(told, &mut warnings))
            .collect::<Result<_, _>>()?;
        Ok(effects)
    });
    match effects {
        Ok(effects) => {
            read.rule.filters = effects.filters;
            read.rule.timeouts = effects.timeouts;
            read.rule.retry = effects.retry;
            (read.external, read.limits) = (effects.external, effects.limits);
        }
        Err(why) => {
            warnings.push(format!("{why}: its requests get 500"));
            read.rule.backends = vec![nobody(&why)];
        }
    }
    if let Some(mistake) = mistake(&read) {
        return unmet(&told, unsupported(&mistake));
    }
    read.content = content(&told);
    Ok(Read { resource: Some(L7Resource::Rule(Box::new(read))), warnings })
}

/// What a route for whole connections says.
pub(super) fn stream_route(told: told::TcpRoute) -> Result<Read, Box<Refused>> {
    let usual = if told.hostnames.is_empty() { RouteKind::Tcp } else { RouteKind::Tls };
    let route = route_name(told.name.as_ref(), usual)?;
    if !matches!(route.kind, RouteKind::Tls | RouteKind::Tcp) {
        return Err(unsupported("a route of connections of a kind for requests").into());
    }
    let mut warnings = Vec::new();
    let backends = told.backends.iter().map(|told| backend::weighted(told, &mut warnings));
    let backends = backends.collect::<Result<Vec<_>, _>>();
    let backends = backends.unwrap_or_else(|why| {
        warnings.push(format!("{why}: its connections are closed"));
        vec![nobody(&why)]
    });
    let name = told.name.as_ref().and_then(|name| name.rule_name.as_deref());
    let rule = Rule { name: name.map(Into::into), backends, ..Rule::default() };
    let read = ToldRule {
        place: place(&told.key, &route),
        listener: told.listener_key.as_str().into(),
        hostnames: hosts(&told.hostnames)?,
        service: service(told.service_key.as_ref(), told.service_port),
        rule,
        external: None,
        limits: Vec::new(),
        content: told.key.clone().into_bytes(),
        route,
    };
    if let Some(mistake) = mistake(&read) {
        return Err(unsupported(&mistake).into());
    }
    Ok(Read { resource: Some(L7Resource::Rule(Box::new(read))), warnings })
}

/// Refused, and in its place, if it has no predecessor, a rule that nobody meets: with it there is a route, so that nothing
/// passes by for want of one.
pub(super) fn unmet(told: &told::Route, why: Rejection) -> Result<Read, Box<Refused>> {
    let name = route_name(told.name.as_ref(), RouteKind::Http);
    let instead = name.and_then(|name| whose(told, name)).ok().map(|mut rule| {
        // No character is of this class.
        let nothing = whole(r"[^\s\S]").expect("it is an expression");
        let path = Some(PathMatch::Regex(nothing));
        rule.rule.matches = vec![Match { path, ..Match::default() }];
        rule.rule.backends = vec![nobody(&why.to_string())];
        rule.content = told.key.clone().into_bytes();
        L7Resource::Rule(Box::new(rule))
    });
    Err(Box::new(Refused { why, instead }))
}

/// A rule that says nothing yet.
fn whose(told: &told::Route, route: RouteName) -> Result<ToldRule, Rejection> {
    let name = told.name.as_ref().and_then(|name| name.rule_name.as_deref());
    Ok(ToldRule {
        place: place(&told.key, &route),
        listener: told.listener_key.as_str().into(),
        hostnames: hosts(&told.hostnames)?,
        service: service(told.service_key.as_ref(), told.service_port),
        rule: Rule { name: name.map(Into::into), ..Rule::default() },
        external: None,
        limits: Vec::new(),
        content: Vec::new(),
        route,
    })
}

fn nobody(why: &str) -> ringway_http::model::WeightedBackend {
    ringway_http::model::WeightedBackend {
        backend: backend::nobody(why),
        weight: 1,
        filters: Vec::new(),
    }
}

/// All but the match and the key: what the resources of one rule have in common.
fn content(told: &told::Route) -> Vec<u8> {
    let common =
        told::Route { key: String::new(), matches: Vec::new(), ..told::Route::clone(told) };
    common.encode_to_vec()
}

fn service(key: Option<&NamespacedHostname>, port: u32) -> Option<(ServiceName, Option<u16>)> {
    let key = key.filter(|key| !key.hostname.is_empty())?;
    let name = ServiceName {
        namespace: key.namespace.as_str().into(),
        hostname: key.hostname.as_str().into(),
    };
    Some((name, u16::try_from(port).ok().filter(|port| *port > 0)))
}

/// `[<created>/]<namespace>/<name>.<rule>.[<match>.]<section>`; numbers that are not there are the last.
fn place(key: &str, route: &RouteName) -> RulePlace {
    let last = RulePlace { created: u64::MAX, rule: u32::MAX, matched: u32::MAX };
    let is_stream = matches!(route.kind, RouteKind::Tls | RouteKind::Tcp);
    let (created, rest) = match key.split_once('/') {
        Some((created, rest)) if is_stream => (created.parse().unwrap_or(u64::MAX), rest),
        _ => (0, key),
    };
    let numbers = rest.strip_prefix(&*route.namespace).and_then(|rest| rest.strip_prefix('/'));
    let numbers = numbers.and_then(|rest| rest.strip_prefix(&*route.name));
    let Some(numbers) = numbers.and_then(|rest| rest.strip_prefix('.')) else { return last };
    let mut numbers = numbers.split('.').map(|part| part.parse::<u32>().ok());
    let rule = numbers.next().flatten().unwrap_or(u32::MAX);
    let matched = match route.kind {
        RouteKind::Http => numbers.next().flatten().unwrap_or(0),
        RouteKind::Grpc | RouteKind::Tls | RouteKind::Tcp => 0,
    };
    RulePlace { created, rule, matched }
}

fn one_match(told: &told::RouteMatch, kind: RouteKind) -> Result<Match, Wrong> {
    let headers = told.headers.iter().map(|header| {
        let value = match &header.value {
            Some(header_match::Value::Exact(text)) => ValueMatch::Exact(text.as_str().into()),
            Some(header_match::Value::Regex(text)) => ValueMatch::Regex(expression(text)?),
            None => return Err(format!("a match of the header {:?} with nothing", header.name)),
        };
        Ok(NamedMatch { name: header_name(&header.name)?, value })
    });
    let query = told.query_params.iter().map(|query| {
        let value = match &query.value {
            Some(query_match::Value::Exact(text)) => ValueMatch::Exact(text.as_str().into()),
            Some(query_match::Value::Regex(text)) => ValueMatch::Regex(expression(text)?),
            None => return Err(format!("a match of the parameter {:?} with nothing", query.name)),
        };
        Ok(NamedMatch { name: query.name.as_str().into(), value })
    });
    let method = match &told.method {
        // gRPC's requests are all POST.
        None if kind == RouteKind::Grpc => Some(Method::POST),
        None => None,
        Some(method) => Some(
            Method::from_bytes(method.exact.as_bytes())
                .map_err(|_| format!("{:?} is no method", method.exact))?,
        ),
    };
    Ok(Match {
        path: told.path.as_ref().map(|path| path_match(path, kind)).transpose()?,
        headers: headers.collect::<Result<_, _>>()?,
        query: query.collect::<Result<_, _>>()?,
        method,
    })
}

fn path_match(told: &told::PathMatch, kind: RouteKind) -> Result<PathMatch, Wrong> {
    let is_grpc = kind == RouteKind::Grpc;
    Ok(match told.kind.as_ref() {
        Some(path_match::Kind::Exact(path)) if is_grpc => grpc_path(path)?,
        Some(path_match::Kind::Exact(path)) => PathMatch::Exact(path.as_str().into()),
        Some(path_match::Kind::PathPrefix(path)) => {
            let short = path.strip_suffix('/').unwrap_or(path);
            PathMatch::Prefix(if short.is_empty() { "/".into() } else { short.into() })
        }
        Some(path_match::Kind::Regex(text)) => PathMatch::Regex(expression(text)?),
        None => return Err("a match of the path with nothing".to_owned()),
    })
}

/// A service without a method comes as `/<service>/`, which no call's path is; an expression comes as it is, as though it
/// were a name. No name of gRPC has other letters than these.
fn grpc_path(path: &str) -> Result<PathMatch, Wrong> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/');
    if !path.bytes().all(is_letter) {
        let text = path.strip_suffix('/').map(|service| format!("{service}/[^/]+"));
        return expression(text.as_deref().unwrap_or(path)).map(PathMatch::Regex);
    }
    Ok(match path.strip_suffix('/').filter(|service| service.len() > 1) {
        Some(service) => PathMatch::Prefix(service.into()),
        None => PathMatch::Exact(path.into()),
    })
}

fn expression(text: &str) -> Result<regex::Regex, Wrong> {
    whole(text).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("{text:?} is no regular expression: {reason}")
    })
}

/// What no table can be made of.
fn mistake(read: &ToldRule) -> Option<String> {
    let route = Route {
        name: read.route.clone(),
        parents: Vec::new(),
        hostnames: read.hostnames.clone(),
        rules: vec![read.rule.clone()],
    };
    check_route(route, PathMode::default()).first().map(ToString::to_string)
}

fn unsupported(what: &str) -> Rejection {
    Rejection::Unsupported(what.to_owned())
}
