//! What a rule, or a backend of it, does beside passing requests on.

use http::{HeaderName, StatusCode};
use ringway_http::model::{
    Cors, Filter, HeaderChange, HeaderChanges, Mirror, OriginMatch, PathChange, Redirect, Rewrite,
};

use super::reference::backend;
use super::values::{Wrong, duration, given, header_name, header_value, port, status};
use crate::proto::agent as told;
use crate::proto::agent::{request_redirect, url_rewrite};

pub(super) fn request_headers(told: &told::HeaderModifier) -> Result<Filter, Wrong> {
    changes(told).map(Filter::RequestHeaders)
}

pub(super) fn response_headers(told: &told::HeaderModifier) -> Result<Filter, Wrong> {
    changes(told).map(Filter::ResponseHeaders)
}

fn changes(told: &told::HeaderModifier) -> Result<HeaderChanges, Wrong> {
    let each = |headers: &[told::Header]| {
        let change = |header: &told::Header| {
            let (name, value) = (header_name(&header.name)?, header_value(&header.value)?);
            Ok::<_, Wrong>(HeaderChange { name, value })
        };
        headers.iter().map(change).collect::<Result<Vec<_>, _>>()
    };
    let remove = told.remove.iter().map(|name| header_name(name));
    Ok(HeaderChanges {
        set: each(&told.set)?,
        add: each(&told.add)?,
        remove: remove.collect::<Result<Vec<HeaderName>, _>>()?,
    })
}

pub(super) fn redirect(told: &told::RequestRedirect) -> Result<Filter, Wrong> {
    const CODES: [u32; 5] = [301, 302, 303, 307, 308];
    let scheme = match told.scheme.as_str() {
        "" => None,
        scheme @ ("http" | "https") => Some(scheme.into()),
        other => return Err(format!("a redirect to {other:?}")),
    };
    let status = match told.status {
        0 => StatusCode::FOUND,
        code if CODES.contains(&code) => status(code)?,
        other => return Err(format!("a redirect with the status {other}")),
    };
    let path = match &told.path {
        None => None,
        Some(request_redirect::Path::Full(path)) => Some(PathChange::Full(new_path(path)?)),
        Some(request_redirect::Path::Prefix(path)) => Some(PathChange::Prefix(new_path(path)?)),
    };
    let port = (told.port > 0).then(|| port(told.port)).transpose()?;
    Ok(Filter::Redirect(Redirect { scheme, host: given(&told.host), port, path, status }))
}

pub(super) fn rewrite(told: &told::UrlRewrite) -> Result<Filter, Wrong> {
    let path = match &told.path {
        None => None,
        Some(url_rewrite::Path::Full(path)) => Some(PathChange::Full(new_path(path)?)),
        Some(url_rewrite::Path::Prefix(path)) => Some(PathChange::Prefix(new_path(path)?)),
    };
    Ok(Filter::Rewrite(Rewrite { host: given(&told.host), path }))
}

/// Empty is the root: the control plane cuts the slash at a prefix's end.
fn new_path(text: &str) -> Result<std::sync::Arc<str>, Wrong> {
    match text {
        "" => Ok("/".into()),
        text if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(text.into())
        }
        text => Err(format!("{text:?} is no path")),
    }
}

/// Copies for nobody are not sent, and told; the request itself goes on.
pub(super) fn mirrors(
    told: &told::RequestMirrors,
    warnings: &mut Vec<String>,
) -> Result<Vec<Filter>, Wrong> {
    let mut mirrors = Vec::new();
    for mirror in &told.mirrors {
        let (numerator, denominator) = share(mirror.percentage)?;
        match backend(mirror.backend.as_ref()) {
            Ok(backend) => mirrors.push(Filter::Mirror(Mirror { backend, numerator, denominator })),
            Err(why) => warnings.push(format!("a mirror: {why}: no copies are sent")),
        }
    }
    Ok(mirrors)
}

/// Whole percents stay what they are; others are told in millionths.
fn share(percentage: f64) -> Result<(u32, u32), Wrong> {
    if !(0.0..=100.0).contains(&percentage) {
        return Err(format!("{percentage} percent of requests"));
    }
    let whole = percentage.round();
    Ok(if whole == percentage {
        (whole as u32, 100)
    } else {
        ((percentage * 10_000.0).round() as u32, 1_000_000)
    })
}

pub(super) fn cors(told: &told::Cors) -> Result<Filter, Wrong> {
    let tokens = |texts: &[String]| {
        let token = |text: &String| match text.as_str() {
            "*" => Ok(text.as_str().into()),
            name => header_name(name).map(|_| name.into()),
        };
        texts.iter().map(token).collect::<Result<Vec<_>, Wrong>>()
    };
    Ok(Filter::Cors(Cors {
        origins: told.allow_origins.iter().map(|text| origin(text)).collect::<Result<_, _>>()?,
        methods: tokens(&told.allow_methods)?,
        headers: tokens(&told.allow_headers)?,
        expose: tokens(&told.expose_headers)?,
        credentials: told.allow_credentials,
        max_age: duration(told.max_age)?,
    }))
}

fn origin(text: &str) -> Result<OriginMatch, Wrong> {
    if text == "*" {
        return Ok(OriginMatch::Any);
    }
    let lower = text.to_ascii_lowercase();
    let host = lower.split_once("://").map(|(_, host)| host).unwrap_or_default();
    let stars = host.matches('*').count();
    if host.is_empty() || stars > 1 || (stars == 1 && !host.starts_with('*')) {
        return Err(format!("{text:?} is no origin"));
    }
    Ok(match lower.split_once('*') {
        None => OriginMatch::Exact(lower.into()),
        Some((prefix, suffix)) => {
            OriginMatch::Wildcard { prefix: prefix.into(), suffix: suffix.into() }
        }
    })
}
