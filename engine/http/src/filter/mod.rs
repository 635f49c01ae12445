//! What the filters of a rule do to a request, and to its answer.
//!
//! ```text
//!  apply(rule.filters) ─▶ choose(rule.backends) ─▶ apply(backend.filters) ─▶ mirrors(both) ─▶ (passed on)
//!      └▶ Reply              └▶ 500                   └▶ Reply                └▶ shadow ─▶ (copied)
//!  Backward::apply ◀─────── the answer, or the reply ────┘
//! ```
//!
//! Rule filters go before those of the backend, each in the order of the document; on the way back the backend's go
//! first. Chance is an argument.

mod backward;
mod cors;
mod headers;
mod shadow;
mod share;
mod target;
#[cfg(test)]
mod tests;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::model::Filter;

pub use self::backward::Backward;
pub use self::cors::is_preflight;
pub use self::headers::change;
pub use self::shadow::shadow;
pub use self::share::{Dead, choose, mirrors};
pub use self::target::{replace_prefix, set_host, set_path};

/// An answer of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// How it ends.
    pub status: StatusCode,
    /// Its headers; it has no body.
    pub headers: HeaderMap,
}

/// The request as it came in, which filters see however much of it other filters have changed.
#[derive(Clone, Copy, Debug)]
pub struct Entrance<'a> {
    /// `http`, or `https` where TLS ends here.
    pub scheme: &'a str,
    /// The listener's; in a waypoint, the service's.
    pub port: u16,
    /// Without a port; empty if there is none.
    pub host: &'a str,
    /// Canonical.
    pub path: &'a str,
    /// The prefix that was matched, if a prefix was.
    pub prefix: Option<&'a str>,
}

/// Does to a request what `filters` say. An answer: it is not passed on.
///
/// Mirrors and what is done on the way back are not done here.
pub fn apply(filters: &[Filter], request: &mut Parts, entrance: &Entrance<'_>) -> Option<Reply> {
    for filter in filters {
        match filter {
            Filter::RequestHeaders(changes) => change(changes, &mut request.headers),
            Filter::Rewrite(rewrite) => target::rewrite(rewrite, request, entrance),
            Filter::Redirect(redirect) => {
                return Some(redirected(redirect, request.uri.query(), entrance));
            }
            Filter::Cors(cors) if is_preflight(request) => {
                return Some(cors::preflight(cors, &request.headers));
            }
            Filter::Cors(_) | Filter::ResponseHeaders(_) | Filter::Mirror(_) => {}
        }
    }
    None
}

fn redirected(
    redirect: &crate::model::Redirect,
    query: Option<&str>,
    entrance: &Entrance<'_>,
) -> Reply {
    let location = target::location(redirect, query, entrance);
    match HeaderValue::try_from(location) {
        Ok(location) => Reply {
            status: redirect.status,
            headers: HeaderMap::from_iter([(header::LOCATION, location)]),
        },
        // The host came from a client and is none; nobody can be sent there.
        Err(_) => Reply { status: StatusCode::BAD_REQUEST, headers: HeaderMap::new() },
    }
}
