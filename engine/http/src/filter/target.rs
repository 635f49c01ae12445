//! Hosts and paths that are changed: redirects tell the client, rewrites the backend.

use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Uri, header};

use super::Entrance;
use crate::model::{PathChange, Redirect, Rewrite};

/// Where a redirect sends the client. What it does not name is the request's; the query always is.
pub(super) fn location(
    redirect: &Redirect,
    query: Option<&str>,
    entrance: &Entrance<'_>,
) -> String {
    let path = changed(redirect.path.as_ref(), entrance);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let scheme = redirect.scheme.as_deref().unwrap_or(entrance.scheme);
    let host = redirect.host.as_deref().unwrap_or(entrance.host);
    if host.is_empty() {
        // HTTP/1.0 without a Host: the client knows where it is.
        return format!("{path}{query}");
    }
    let port = port_shown(redirect, scheme, entrance.port);
    format!("{scheme}://{host}{port}{path}{query}")
}

/// The port named; else the named scheme's own; else the listener's. A scheme's own port is not shown.
fn port_shown(redirect: &Redirect, scheme: &str, listener: u16) -> String {
    let own = if scheme == "https" { 443 } else { 80 };
    let port = match (redirect.port, &redirect.scheme) {
        (Some(port), _) => port,
        (None, Some(_)) => own,
        (None, None) => listener,
    };
    if port == own { String::new() } else { format!(":{port}") }
}

fn changed(change: Option<&PathChange>, entrance: &Entrance<'_>) -> String {
    match change {
        None => entrance.path.to_owned(),
        Some(PathChange::Full(path)) => rooted(path),
        Some(PathChange::Prefix(replacement)) => match entrance.prefix {
            Some(prefix) => replace_prefix(entrance.path, prefix, replacement),
            // Configurations that could come here do not compile.
            None => entrance.path.to_owned(),
        },
    }
}

/// `path` with `replacement` for `prefix`, and exactly one slash before what follows. Slashes at the ends of both
/// prefixes do not count.
///
/// ```
/// use ringway_http::filter::replace_prefix;
/// assert_eq!(replace_prefix("/foo/bar", "/foo", "/xyz/"), "/xyz/bar");
/// assert_eq!(replace_prefix("/foo", "/foo", ""), "/");
/// ```
pub fn replace_prefix(path: &str, prefix: &str, replacement: &str) -> String {
    let Some(rest) = path.strip_prefix(prefix.trim_end_matches('/')) else {
        return path.to_owned();
    };
    if rest.is_empty() || path == prefix {
        return rooted(replacement);
    }
    format!("{}/{}", replacement.trim_end_matches('/'), rest.trim_start_matches('/'))
}

fn rooted(path: &str) -> String {
    if path.is_empty() { "/".to_owned() } else { path.to_owned() }
}

/// Host and path of what the backend is asked.
pub(super) fn rewrite(rewrite: &Rewrite, request: &mut Parts, entrance: &Entrance<'_>) {
    if let Some(host) = &rewrite.host {
        set_host(request, host);
    }
    if rewrite.path.is_some() {
        set_path(request, &changed(rewrite.path.as_ref(), entrance));
    }
}

/// Puts a path in place of the request's; its query stays. What cannot be a path changes nothing.
pub fn set_path(request: &mut Parts, path: &str) {
    let whole = match request.uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    if let Ok(whole) = whole {
        let mut pieces = std::mem::take(&mut request.uri).into_parts();
        pieces.path_and_query = Some(whole);
        request.uri = Uri::from_parts(pieces).expect("another path fits where one was");
    }
}

/// Puts a host in place of the request's, in its target and its `Host`.
pub fn set_host(request: &mut Parts, host: &str) {
    let (Ok(authority), Ok(value)) = (Authority::try_from(host), HeaderValue::from_str(host))
    else {
        return;
    };
    let had = request.uri.authority().is_some();
    if had {
        let mut pieces = std::mem::take(&mut request.uri).into_parts();
        pieces.authority = Some(authority);
        request.uri = Uri::from_parts(pieces).expect("another host fits where one was");
    }
    if !had || request.headers.contains_key(header::HOST) {
        request.headers.insert(header::HOST, value);
    }
}
