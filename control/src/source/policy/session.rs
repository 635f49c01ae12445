//! `sessionPersistence`, of a route's rule or an XBackendTrafficPolicy: a client comes back to its backend.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ringway_http::balance::hash;
use ringway_http::model::traffic::{SessionCarrier, SessionPersistence};

use super::tokens::header;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::yaml::fields::{Fields, mapping};
use crate::source::yaml::scalars::{duration, nonempty, word};
use crate::source::yaml::value::Value;

/// What is said of sessions, before it is known whose they are.
#[derive(Clone, Debug)]
pub(crate) struct SessionObject {
    name: Option<Arc<str>>,
    kind: SessionKind,
    absolute: Option<Duration>,
    idle: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionKind {
    Header,
    /// A cookie, which may outlive the browser.
    Cookie {
        permanent: bool,
    },
}

/// Bytes of a name, as the standard has it.
const NAME_BYTES_MAX: usize = 128;

/// Headers that say something else to somebody on the way: taken out of a request as a session's they would be missed.
const RESERVED: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "host",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl SessionObject {
    /// The sessions of `owner`, who shares them with nobody; without a name they are called after him.
    pub(crate) fn of(&self, owner: &str) -> SessionPersistence {
        let scope = hash(owner);
        let named = || format!("ringway-session-{scope:016x}").into();
        let name: Arc<str> = self.name.clone().unwrap_or_else(named);
        let by = match self.kind {
            SessionKind::Cookie { permanent } => {
                SessionCarrier::Cookie { name, path: None, permanent }
            }
            SessionKind::Header => {
                let name = HeaderName::try_from(&*name).expect("it was read as a header's name");
                SessionCarrier::Header(name)
            }
        };
        SessionPersistence { by, absolute: self.absolute, idle: self.idle, scope }
    }
}

pub(crate) fn session_persistence(value: &Value, reporter: &mut Reporter) -> Option<SessionObject> {
    const KINDS: &[(&str, bool)] = &[("Cookie", false), ("Header", true)];
    mapping("sessionPersistence", value, reporter, |fields| {
        let is_header = fields.optional("type", word(KINDS)).unwrap_or(false);
        let name = fields
            .optional("sessionName", |value, reporter| session_name(value, is_header, reporter));
        let absolute = fields.optional("absoluteTimeout", duration);
        let absolute = absolute.filter(|limit| !limit.is_zero());
        let idle = fields.optional("idleTimeout", duration).filter(|limit| !limit.is_zero());
        let permanent = fields.optional("cookieConfig", lifetime).unwrap_or(false);
        report_contradictions(fields, is_header, permanent && absolute.is_none());
        let kind = match is_header {
            true => SessionKind::Header,
            false => SessionKind::Cookie { permanent },
        };
        SessionObject { name, kind, absolute, idle }
    })
}

/// Whether a cookie outlives the browser.
fn lifetime(value: &Value, reporter: &mut Reporter) -> Option<bool> {
    const TYPES: &[(&str, bool)] = &[("Session", false), ("Permanent", true)];
    mapping("cookieConfig", value, reporter, |fields| fields.optional("lifetimeType", word(TYPES)))?
}

fn session_name(value: &Value, is_header: bool, reporter: &mut Reporter) -> Option<Arc<str>> {
    let text = nonempty(value, reporter)?;
    // A cookie's name is a token (RFC 6265 §4.1.1), as a header's is.
    let name = header(value, reporter)?;
    let fault = match text.len() {
        _ if is_header && RESERVED.contains(&name.as_str()) => {
            format!("`{name}` says something else than a session")
        }
        bytes if bytes > NAME_BYTES_MAX => {
            format!("the name of a session has {NAME_BYTES_MAX} characters at most")
        }
        _ => return Some(text.into()),
    };
    reporter.report(Problem::error(value.place, fault));
    None
}

fn report_contradictions(fields: &mut Fields<'_, '_>, is_header: bool, has_no_end: bool) {
    let place = fields.value_place("cookieConfig");
    if is_header && fields.value("cookieConfig").is_some() {
        let message = "`cookieConfig` is for sessions of the type Cookie";
        fields.reporter.report(Problem::error(place, message));
    } else if has_no_end {
        let message = "a cookie whose `lifetimeType` is Permanent needs an `absoluteTimeout`";
        let help = "that is how long it lasts".to_owned();
        fields.reporter.report(Problem::error(place, message).help(help));
    }
}
