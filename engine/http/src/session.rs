//! A client comes back to its endpoint: a cookie or header that names it.
//!
//! What it names is only a wish: an endpoint that the service does not have, or that gets nothing, is not used, so who
//! forges one gets no further than who has none. Nor is one of another scope a session: rules never share theirs, whatever
//! they call them.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::model::PathMatch;
use crate::model::traffic::{SessionCarrier, SessionPersistence};
use crate::token::{cookies, remove_cookie};

/// A session that a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// To which endpoint.
    pub endpoint: SocketAddr,
    /// When it began, in seconds since 1970.
    began: u64,
    /// When it was last told to the client.
    told: u64,
    /// Whose it is.
    scope: u64,
}

impl Session {
    /// The session that a request names, unless it is over.
    pub fn of(policy: &SessionPersistence, headers: &HeaderMap, now: u64) -> Option<Session> {
        let parse = |text: &str| Session::parse(text).filter(|own| own.scope == policy.scope);
        let session = match &policy.by {
            SessionCarrier::Cookie { name, .. } => {
                let values = headers.get_all(header::COOKIE).iter();
                let texts = values.filter_map(|value| value.to_str().ok());
                let mut own = texts.flat_map(cookies).filter(|(own, _)| **own == **name);
                own.find_map(|(_, text)| parse(text))?
            }
            SessionCarrier::Header(name) => parse(headers.get(name)?.to_str().ok()?)?,
        };
        let lasts = |limit: Option<Duration>, since: u64| {
            limit.is_none_or(|limit| now.saturating_sub(since) < limit.as_secs().max(1))
        };
        let is_over = !lasts(policy.absolute, session.began) || !lasts(policy.idle, session.told);
        (!is_over).then_some(session)
    }

    /// Takes the session's cookie or header out of a request: it means nothing to the service.
    pub fn remove(policy: &SessionPersistence, headers: &mut HeaderMap) {
        match &policy.by {
            SessionCarrier::Cookie { name, .. } => remove_cookie(headers, name),
            SessionCarrier::Header(name) => {
                headers.remove(name);
            }
        }
    }

    /// What the answer of an endpoint tells the client, who came over TLS if `is_secure`. None: the client knows it already.
    ///
    /// A cookie is `SameSite=Lax`: with `Strict`, who follows a link from elsewhere would lose the session by it.
    pub fn told(
        policy: &SessionPersistence,
        known: Option<Session>,
        endpoint: SocketAddr,
        now: u64,
        is_secure: bool,
    ) -> Option<(HeaderName, HeaderValue)> {
        let same = known.filter(|known| known.endpoint == endpoint);
        if same.is_some() && policy.idle.is_none() {
            return None;
        }
        let began = same.map_or(now, |known| known.began);
        let value = Session { endpoint, began, told: now, scope: policy.scope }.text();
        let (name, value) = match &policy.by {
            SessionCarrier::Header(name) => (name.clone(), value),
            SessionCarrier::Cookie { name, path, permanent } => {
                let path = path.as_ref().map_or(String::new(), |path| format!("; Path={path}"));
                let secure = if is_secure { "; Secure" } else { "" };
                let mut cookie = format!("{name}={value}{path}; HttpOnly; SameSite=Lax{secure}");
                if let (true, Some(absolute)) = (permanent, policy.absolute) {
                    let left = absolute.as_secs().saturating_sub(now.saturating_sub(began));
                    write!(cookie, "; Max-Age={left}").expect("a string takes all");
                }
                (header::SET_COOKIE, cookie)
            }
        };
        Some((name, HeaderValue::from_str(&value).ok()?))
    }

    fn text(self) -> String {
        let Session { endpoint, began, told, scope } = self;
        URL_SAFE_NO_PAD.encode(format!("{endpoint};{began};{told};{scope:x}"))
    }

    fn parse(text: &str) -> Option<Session> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let text = std::str::from_utf8(&bytes).ok()?;
        let mut parts = text.split(';');
        let session = Session {
            endpoint: parts.next()?.parse().ok()?,
            began: parts.next()?.parse().ok()?,
            told: parts.next()?.parse().ok()?,
            scope: u64::from_str_radix(parts.next()?, 16).ok()?,
        };
        parts.next().is_none().then_some(session)
    }
}

/// The path of a cookie for the requests that a match fits: its own, of an expression the part that every path begins
/// with. None: every path fits.
pub(crate) fn cookie_path(path: Option<&PathMatch>) -> Arc<str> {
    /// What stands for something else in an expression.
    const SPECIAL: [char; 14] =
        ['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$'];
    let path = match path {
        None => "/",
        Some(PathMatch::Exact(path) | PathMatch::Prefix(path)) => path,
        Some(PathMatch::Regex(expression)) => {
            let pattern = expression.as_str().trim_start_matches("\\A(?:");
            // With alternatives there may be nothing that all begin with.
            let plain = if pattern.contains('|') { 0 } else { pattern.find(SPECIAL).unwrap_or(0) };
            pattern[..plain].rsplit_once('/').map_or("/", |(elements, _)| elements)
        }
    };
    // A semicolon ends the attribute (RFC 6265 §4.1.1).
    let path = match path.split_once(';') {
        Some((before, _)) => before.rsplit_once('/').map_or("/", |(elements, _)| elements),
        None => path,
    };
    if path.is_empty() { "/".into() } else { path.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn by_cookie(absolute: Option<u64>, idle: Option<u64>, permanent: bool) -> SessionPersistence {
        SessionPersistence {
            by: SessionCarrier::Cookie { name: "s".into(), path: Some("/".into()), permanent },
            absolute: absolute.map(Duration::from_secs),
            idle: idle.map(Duration::from_secs),
            scope: 7,
        }
    }

    fn endpoint() -> SocketAddr {
        "10.0.0.1:8080".parse().unwrap()
    }

    fn request(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn a_cookie_comes_back() {
        let policy = by_cookie(Some(3600), None, true);
        let (name, value) = Session::told(&policy, None, endpoint(), NOW, false).unwrap();
        assert_eq!(name, header::SET_COOKIE);
        let told = value.to_str().unwrap();
        assert!(
            told.starts_with("s=")
                && told.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600"),
            "{told}"
        );

        let cookie = format!("a=b; {}; c=d", told.split(';').next().unwrap());
        let mut headers = request("cookie", &cookie);
        let session = Session::of(&policy, &headers, NOW + 10).unwrap();
        assert_eq!(session.endpoint, endpoint());
        Session::remove(&policy, &mut headers);
        assert_eq!(headers["cookie"], "a=b; c=d");

        // The client knows it; another endpoint must be told.
        assert_eq!(Session::told(&policy, Some(session), endpoint(), NOW + 10, false), None);
        let other = "10.0.0.2:8080".parse().unwrap();
        assert!(Session::told(&policy, Some(session), other, NOW + 10, false).is_some());
    }

    #[test]
    fn sessions_end() {
        let cookie = |began, told| {
            let value = Session { endpoint: endpoint(), began, told, scope: 7 }.text();
            request("cookie", &format!("s={value}"))
        };
        #[rustfmt::skip]
        let rows = [
            ("for ever",           by_cookie(None, None, false),          0,          0,        true),
            ("until its time",     by_cookie(Some(60), None, false),      NOW - 59,   NOW - 59, true),
            ("over its time",      by_cookie(Some(60), None, false),      NOW - 60,   NOW - 1,  false),
            ("used in between",    by_cookie(Some(600), Some(60), false), NOW - 500,  NOW - 59, true),
            ("not used",           by_cookie(Some(600), Some(60), false), NOW - 500,  NOW - 60, false),
        ];
        for (name, policy, began, told, want) in rows {
            assert_eq!(Session::of(&policy, &cookie(began, told), NOW).is_some(), want, "{name}");
        }
        // A session that ends when it is not used is told again, and began when it began.
        let policy = by_cookie(Some(600), Some(60), true);
        let known = Session::of(&policy, &cookie(NOW - 100, NOW - 10), NOW);
        let (_, value) = Session::told(&policy, known, endpoint(), NOW, false).unwrap();
        assert!(value.to_str().unwrap().ends_with("Max-Age=500"), "{value:?}");
    }

    #[test]
    fn a_header_comes_back() {
        let name = HeaderName::from_static("x-session");
        let policy = SessionPersistence {
            by: SessionCarrier::Header(name.clone()),
            absolute: None,
            idle: None,
            scope: 0,
        };
        let (told, value) = Session::told(&policy, None, endpoint(), NOW, false).unwrap();
        assert_eq!(told, name);
        let mut headers = request("x-session", value.to_str().unwrap());
        assert_eq!(Session::of(&policy, &headers, NOW).unwrap().endpoint, endpoint());
        Session::remove(&policy, &mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn a_session_of_another_scope_is_none() {
        let (own, other) = (by_cookie(None, None, false), by_cookie(None, None, false));
        let other = SessionPersistence { scope: 8, ..other };
        let value = |policy| {
            let (_, cookie) = Session::told(policy, None, endpoint(), NOW, false).unwrap();
            cookie.to_str().unwrap().split(';').next().unwrap().to_owned()
        };
        assert_eq!(Session::of(&own, &request("cookie", &value(&other)), NOW), None);
        // A browser sends that of the longer path first, whoever's it is.
        let both = request("cookie", &format!("{}; {}", value(&other), value(&own)));
        assert!(Session::of(&own, &both, NOW).is_some());
        assert!(Session::of(&other, &both, NOW).is_some());
    }

    #[test]
    fn attributes_of_a_cookie() {
        let policy = by_cookie(Some(60), None, true);
        let told = |policy, is_secure| {
            let (_, cookie) = Session::told(policy, None, endpoint(), NOW, is_secure).unwrap();
            cookie.to_str().unwrap().split_once("; ").unwrap().1.to_owned()
        };
        assert_eq!(told(&policy, true), "Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=60");
        let by = SessionCarrier::Cookie { name: "s".into(), path: None, permanent: false };
        let unsaid = SessionPersistence { by, ..policy };
        assert_eq!(told(&unsaid, false), "HttpOnly; SameSite=Lax");
    }

    #[test]
    fn paths_of_cookies() {
        let expression = |text| PathMatch::Regex(crate::model::whole(text).unwrap());
        #[rustfmt::skip]
        let rows = [
            ("every path",          None,                                             "/"),
            ("the path",            Some(PathMatch::Exact("/a/b".into())),            "/a/b"),
            ("the prefix",          Some(PathMatch::Prefix("/a".into())),             "/a"),
            ("all of an element",   Some(expression("/p1/p2/[^/]*/p3")),              "/p1/p2"),
            ("half an element",     Some(expression("/p1/p[0-9]+")),                  "/p1"),
            ("nothing is plain",    Some(expression("(/a|/b)/c")),                    "/"),
            ("one of several",      Some(expression("/a/b|/a/c")),                    "/"),
            ("it may be repeated",  Some(expression("/a/b?")),                        "/a"),
            ("a semicolon",         Some(PathMatch::Exact("/a/b;c/d".into())),        "/a"),
        ];
        for (name, path, want) in rows {
            assert_eq!(&*cookie_path(path.as_ref()), want, "{name}");
        }
    }

    proptest! {
        #[test]
        fn whatever_clients_send_is_no_session_or_one(text in "[ -~]{0,60}") {
            let policy = by_cookie(None, None, false);
            let encoded = URL_SAFE_NO_PAD.encode(&text);
            for value in [text.clone(), encoded] {
                if let Ok(value) = HeaderValue::from_str(&format!("s={value}")) {
                    let headers = HeaderMap::from_iter([(header::COOKIE, value)]);
                    if let Some(session) = Session::of(&policy, &headers, NOW) {
                        prop_assert!(Session::parse(&session.text()) == Some(session));
                    }
                }
            }
        }
    }
}
