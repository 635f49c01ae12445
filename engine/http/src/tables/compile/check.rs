//! What the standard leaves to whoever writes a rule, and what we refuse.

use http::StatusCode;
use http::uri::PathAndQuery;

use crate::model::{
    Filter, HeaderChanges, HostPattern, PathChange, PathMatch, Redirect, RouteKind, Rule,
};
use crate::tables::Mistake;
use crate::tables::hosts::HOST_BYTES_MAX;

/// Whether a pattern can be a host's.
///
/// # Errors
/// What it says, when it cannot.
pub(super) fn check_host(pattern: &HostPattern) -> Result<(), String> {
    let (HostPattern::Exact(host) | HostPattern::Suffix(host)) = pattern;
    if is_host(host) { Ok(()) } else { Err(host.to_string()) }
}

/// Labels of letters, digits, hyphens and underscores; an address will do, too.
fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
            })
    };
    host.len() <= HOST_BYTES_MAX && host.split('.').all(label)
}

/// All that is wrong with a rule, but for its matches' paths.
pub(super) fn check_rule(rule: &Rule, kind: RouteKind) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    if rule.backends.iter().try_fold(0u32, |sum, it| sum.checked_add(it.weight)).is_none() {
        mistakes.push(Mistake::Weights);
    }
    if matches!(kind, RouteKind::Tls | RouteKind::Tcp) {
        return mistakes;
    }
    check_filters(&rule.filters, rule, &mut mistakes);
    for backend in &rule.backends {
        check_filters(&backend.filters, rule, &mut mistakes);
    }
    mistakes
}

fn check_filters(filters: &[Filter], rule: &Rule, mistakes: &mut Vec<Mistake>) {
    let is_redirect = |filter: &&Filter| matches!(filter, Filter::Redirect(_));
    let is_rewrite = |filter: &&Filter| matches!(filter, Filter::Rewrite(_));
    let count = |is: fn(&&Filter) -> bool| filters.iter().filter(is).count();
    let (redirects, rewrites) = (count(is_redirect), count(is_rewrite));
    if redirects > 0 && rewrites > 0 {
        mistakes.push(Mistake::RedirectAndRewrite);
    }
    for (times, kind) in [
        (redirects, "RequestRedirect"),
        (rewrites, "URLRewrite"),
        (count(|filter| matches!(filter, Filter::Cors(_))), "CORS"),
    ] {
        if times > 1 {
            mistakes.push(Mistake::Twice(kind));
        }
    }
    for filter in filters {
        check_filter(filter, rule, mistakes);
    }
}

fn check_filter(filter: &Filter, rule: &Rule, mistakes: &mut Vec<Mistake>) {
    match filter {
        Filter::RequestHeaders(changes) | Filter::ResponseHeaders(changes) => {
            check_headers(changes, mistakes);
        }
        Filter::Redirect(redirect) => {
            check_redirect(redirect, mistakes);
            check_target(redirect.host.as_deref(), redirect.path.as_ref(), rule, mistakes);
        }
        Filter::Rewrite(rewrite) => {
            check_target(rewrite.host.as_deref(), rewrite.path.as_ref(), rule, mistakes);
        }
        Filter::Mirror(mirror) => {
            if mirror.denominator == 0 || mirror.numerator > mirror.denominator {
                mistakes.push(Mistake::MirrorShare(mirror.numerator, mirror.denominator));
            }
        }
        Filter::Cors(_) => {}
    }
}

fn check_redirect(redirect: &Redirect, mistakes: &mut Vec<Mistake>) {
    let known = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    if !known.contains(&redirect.status) {
        mistakes.push(Mistake::RedirectStatus(redirect.status.as_u16()));
    }
    if let Some(scheme) = redirect.scheme.as_deref().filter(|it| !matches!(*it, "http" | "https")) {
        mistakes.push(Mistake::RedirectScheme(scheme.to_owned()));
    }
}

/// What redirects and rewrites put in place of the request's.
fn check_target(
    host: Option<&str>,
    path: Option<&PathChange>,
    rule: &Rule,
    mistakes: &mut Vec<Mistake>,
) {
    if let Some(host) = host.filter(|host| !is_host(host)) {
        mistakes.push(Mistake::Host(host.to_owned()));
    }
    if let Some(PathChange::Full(path) | PathChange::Prefix(path)) = path
        && !is_replacement(path)
    {
        mistakes.push(Mistake::Replacement(path.to_string()));
    }
    let by_prefix =
        rule.matches.iter().all(|it| matches!(it.path, None | Some(PathMatch::Prefix(_))));
    if matches!(path, Some(PathChange::Prefix(_))) && !by_prefix {
        mistakes.push(Mistake::PrefixWithoutPrefix);
    }
}

/// Empty: a prefix that goes.
fn is_replacement(path: &str) -> bool {
    path.is_empty()
        || path.starts_with('/')
            && !path.contains(['?', '#'])
            && path.is_ascii()
            && PathAndQuery::try_from(path).is_ok()
}

fn check_headers(changes: &HeaderChanges, mistakes: &mut Vec<Mistake>) {
    let changed = changes.set.iter().chain(&changes.add).map(|change| &change.name);
    for name in changed.chain(&changes.remove) {
        if crate::head::is_framing(name) {
            mistakes.push(Mistake::ProtectedHeader(name.to_string()));
        }
    }
}
