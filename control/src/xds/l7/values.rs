//! What messages are made of, as the model has it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use ringway_http::model::{HostPattern, RouteKind, RouteName};

use crate::proto::agent as told;
use crate::xds::decode::Rejection;

/// What is wrong with a part of a resource, in words.
pub(super) type Wrong = String;

/// A host, or `*.` before one.
pub(super) fn host(text: &str) -> Result<HostPattern, Wrong> {
    let lower = text.to_ascii_lowercase();
    let (rest, is_suffix) = match lower.strip_prefix("*.") {
        Some(rest) => (rest, true),
        None => (&*lower, false),
    };
    if rest.is_empty() || rest.contains(['*', '/', ':', ' ']) {
        return Err(format!("{text:?} is no hostname"));
    }
    Ok(if is_suffix { HostPattern::Suffix(rest.into()) } else { HostPattern::Exact(rest.into()) })
}

/// All hosts of a route; `*` alone is every host.
pub(super) fn hosts(texts: &[String]) -> Result<Vec<HostPattern>, Rejection> {
    if texts.iter().any(|text| text == "*") {
        return Ok(Vec::new());
    }
    texts.iter().map(|text| host(text).map_err(Rejection::Unsupported)).collect()
}

pub(super) fn header_name(text: &str) -> Result<HeaderName, Wrong> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("no header can be named {text:?}"))
}

pub(super) fn header_value(text: &str) -> Result<HeaderValue, Wrong> {
    HeaderValue::from_str(text).map_err(|_| format!("no header can have the value {text:?}"))
}

pub(super) fn port(number: u32) -> Result<u16, Wrong> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{number} is no port")),
    }
}

pub(super) fn status(number: u32) -> Result<StatusCode, Wrong> {
    let code = u16::try_from(number).ok().and_then(|code| StatusCode::from_u16(code).ok());
    code.ok_or_else(|| format!("{number} is no status"))
}

/// None where it is nothing; what is negative is wrong.
pub(super) fn duration(told: Option<prost_types::Duration>) -> Result<Option<Duration>, Wrong> {
    let Some(told) = told else { return Ok(None) };
    let duration = Duration::try_from(told).map_err(|_| format!("{told} is no time to wait"))?;
    Ok((!duration.is_zero()).then_some(duration))
}

/// Empty: none.
pub(super) fn given(text: &str) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| text.into())
}

/// The name of a route, and which kind it is; `usual` where nothing is said.
pub(super) fn route_name(
    name: Option<&told::RouteName>,
    usual: RouteKind,
) -> Result<RouteName, Rejection> {
    let name = name.ok_or(Rejection::Missing("the name of the route"))?;
    if name.name.is_empty() || name.namespace.is_empty() {
        return Err(Rejection::Missing("the name of the route"));
    }
    let kind = match name.kind.as_str() {
        "" => usual,
        text => route_kind(text)?,
    };
    Ok(RouteName {
        kind,
        namespace: name.namespace.as_str().into(),
        name: name.name.as_str().into(),
    })
}

pub(super) fn route_kind(text: &str) -> Result<RouteKind, Rejection> {
    match text {
        "HTTPRoute" => Ok(RouteKind::Http),
        "GRPCRoute" => Ok(RouteKind::Grpc),
        "TLSRoute" => Ok(RouteKind::Tls),
        "TCPRoute" => Ok(RouteKind::Tcp),
        other => Err(Rejection::Unsupported(format!("a route of the kind {other:?}"))),
    }
}
