use http::{Method, StatusCode, header};

use super::super::{Entrance, apply, replace_prefix};
use super::{entrance, request};
use crate::model::{Filter, PathChange, Redirect, Rewrite};

const REDIRECT: Redirect =
    Redirect { scheme: None, host: None, port: None, path: None, status: StatusCode::FOUND };

fn sent_to(redirect: Redirect, target: &str, entrance: &Entrance<'_>) -> (u16, String) {
    let mut parts = request(Method::GET, target, &[]);
    let reply = apply(&[Filter::Redirect(redirect)], &mut parts, entrance).expect("an answer");
    let location = reply.headers[header::LOCATION].to_str().expect("text").to_owned();
    (reply.status.as_u16(), location)
}

#[test]
fn http_route_redirect_port_and_scheme() {
    type Row = (&'static str, u16, Option<&'static str>, Option<u16>, &'static str);
    #[rustfmt::skip]
    let rows: &[Row] = &[
        //listener       redirect
        ("http",  80,   None,          None,       "http://example.org/a"),
        ("http",  80,   None,          Some(80),   "http://example.org/a"),
        ("http",  80,   None,          Some(8080), "http://example.org:8080/a"),
        ("http",  80,   None,          Some(443),  "http://example.org:443/a"),
        ("http",  80,   Some("https"), None,       "https://example.org/a"),
        ("http",  80,   Some("https"), Some(443),  "https://example.org/a"),
        ("http",  80,   Some("https"), Some(8443), "https://example.org:8443/a"),
        ("http",  80,   Some("http"),  None,       "http://example.org/a"),
        ("http",  80,   Some("http"),  Some(80),   "http://example.org/a"),
        ("http",  80,   Some("http"),  Some(8080), "http://example.org:8080/a"),
        ("http",  8080, None,          None,       "http://example.org:8080/a"),
        ("http",  8080, None,          Some(80),   "http://example.org/a"),
        ("http",  8080, Some("http"),  None,       "http://example.org/a"),
        ("http",  8080, Some("https"), None,       "https://example.org/a"),
        ("http",  8080, Some("https"), Some(8443), "https://example.org:8443/a"),
        ("https", 443,  None,          None,       "https://example.org/a"),
        ("https", 443,  None,          Some(443),  "https://example.org/a"),
        ("https", 443,  None,          Some(8443), "https://example.org:8443/a"),
        ("https", 443,  Some("http"),  None,       "http://example.org/a"),
        ("https", 443,  Some("http"),  Some(8080), "http://example.org:8080/a"),
        ("https", 443,  Some("https"), Some(8443), "https://example.org:8443/a"),
        ("https", 8443, None,          None,       "https://example.org:8443/a"),
        ("https", 8443, Some("http"),  None,       "http://example.org/a"),
    ];
    for (scheme, port, to_scheme, to_port, want) in rows {
        let entrance = Entrance { scheme, port: *port, ..entrance("/a", None) };
        let redirect = Redirect { scheme: to_scheme.map(Into::into), port: *to_port, ..REDIRECT };
        let (_, location) = sent_to(redirect, "/a", &entrance);
        assert_eq!(
            location, *want,
            "HTTPRouteRedirectPort: {scheme} {port}, {to_scheme:?} {to_port:?}"
        );
    }
}

#[test]
fn http_route_redirect_host_status_and_path() {
    let host = |status| Redirect {
        host: Some("example.com".into()),
        status: StatusCode::from_u16(status).expect("a status"),
        ..REDIRECT
    };
    for status in [301, 302, 303, 307, 308] {
        let want = (status, "http://example.com/a?b=c".to_owned());
        let got = sent_to(host(status), "/a?b=c", &entrance("/a", None));
        assert_eq!(got, want, "HTTPRouteRedirectHostAndStatus, {status}Redirect");
    }
    let path = |path| Redirect { path: Some(path), ..REDIRECT };
    let full = |to: &str| path(PathChange::Full(to.into()));
    let prefix = |to: &str| path(PathChange::Prefix(to.into()));
    #[rustfmt::skip]
    let rows = [
        (prefix("/replacement-prefix"), "/original-prefix/lemon?q", "/original-prefix", "/replacement-prefix/lemon?q"),
        (full("/full-path-replacement"), "/full/path/original",     "/full",            "/full-path-replacement"),
        (prefix("/"),                   "/strip/lemon",             "/strip",           "/lemon"),
        (prefix(""),                    "/strip",                   "/strip",           "/"),
        (full(""),                      "/x",                       "/",                "/"),
    ];
    for (redirect, target, prefix, want) in rows {
        let path = target.split('?').next().unwrap_or("");
        let (_, location) = sent_to(redirect, target, &entrance(path, Some(prefix)));
        assert_eq!(
            location,
            format!("http://example.org{want}"),
            "HTTPRouteRedirectPath: {target}"
        );
    }
    let nowhere = Entrance { host: "", ..entrance("/a", None) };
    assert_eq!(sent_to(REDIRECT, "/a", &nowhere).1, "/a", "HTTP/1.0 has no host");
    let forged = Entrance { host: "a\r\nb", ..entrance("/a", None) };
    let mut parts = request(Method::GET, "/a", &[]);
    let reply = apply(&[Filter::Redirect(REDIRECT)], &mut parts, &forged).expect("an answer");
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
}

#[test]
fn prefixes_are_replaced_by_elements() {
    #[rustfmt::skip]
    let rows = [
        // The standard's table.
        ("/foo/bar", "/foo",  "/xyz",  "/xyz/bar"),
        ("/foo/bar", "/foo",  "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz",  "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo",     "/foo",  "/xyz",  "/xyz"),
        ("/foo/",    "/foo",  "/xyz",  "/xyz/"),
        ("/foo/bar", "/foo",  "",      "/bar"),
        ("/foo/",    "/foo",  "",      "/"),
        ("/foo",     "/foo",  "",      "/"),
        ("/foo/",    "/foo",  "/",     "/"),
        ("/foo",     "/foo",  "/",     "/"),
        // And what it leaves open.
        ("/bar",     "/",     "/xyz",  "/xyz/bar"),
        ("/",        "/",     "/xyz",  "/xyz"),
        ("/foo//bar", "/foo", "",      "/bar"),
    ];
    for (path, prefix, replacement, want) in rows {
        let got = replace_prefix(path, prefix, replacement);
        assert_eq!(got, want, "{path}: {prefix} by {replacement:?}");
    }
}

#[test]
fn http_route_rewrite_host_and_path() {
    let rewrite =
        |host: Option<&str>, path| Filter::Rewrite(Rewrite { host: host.map(Into::into), path });
    let prefix = |to: &str| Some(PathChange::Prefix(to.into()));
    let full = |to: &str| Some(PathChange::Full(to.into()));
    #[rustfmt::skip]
    let rows = [
        (rewrite(Some("one.org"), None),      "/one?x=y",            "/one",   "/one?x=y",  "one.org"),
        (rewrite(None, prefix("/one")),       "/prefix/one/two?x=y", "/prefix/one", "/one/two?x=y", "e.com"),
        (rewrite(None, prefix("/")),          "/strip-prefix/three", "/strip-prefix", "/three", "e.com"),
        (rewrite(None, prefix("/")),          "/strip-prefix",       "/strip-prefix", "/",  "e.com"),
        (rewrite(None, full("/one")),         "/full/one/two?q",     "/full/one", "/one?q",  "e.com"),
        (rewrite(Some("one.org"), full("/x")), "http://e.com/a",     "/a",     "/x",        "one.org"),
    ];
    for (filter, target, prefix, want, host) in rows {
        let mut parts = request(Method::GET, target, &["host: e.com"]);
        let path = parts.uri.path().to_owned();
        let entrance = entrance(&path, Some(prefix));
        assert_eq!(apply(&[filter], &mut parts, &entrance), None);
        let got = parts.uri.path_and_query().expect("a path").as_str();
        assert_eq!(got, want, "HTTPRouteRewritePath: {target}");
        assert_eq!(parts.headers[header::HOST], host, "HTTPRouteRewriteHost: {target}");
        if let Some(authority) = parts.uri.authority() {
            assert_eq!(authority, host);
        }
    }
}
