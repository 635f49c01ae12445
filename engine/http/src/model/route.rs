//! Which request goes where.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use regex::Regex;

use super::ServiceName;
use super::backend::Backend;
use super::filter::Filter;
use super::listener::{HostPattern, ListenerKey};
use super::traffic::SessionPersistence;

/// A route: rules for the requests that come by its parents.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name.
    pub name: RouteName,
    /// By what it is reached. None: by nothing, and it is dead.
    pub parents: Vec<Parent>,
    /// For which hosts; empty: for all of the parent's. Mesh routes go by address and have none.
    pub hostnames: Vec<HostPattern>,
    /// In the document's order.
    pub rules: Vec<Rule>,
}

/// The name of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteName {
    /// What kind of document it is.
    pub kind: RouteKind,
    /// Of the document.
    pub namespace: Arc<str>,
    /// Of the document.
    pub name: Arc<str>,
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The kinds of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteKind {
    /// HTTPRoute.
    Http,
    /// GRPCRoute: what it matches is answered in gRPC's way.
    Grpc,
    /// TLSRoute: by server name.
    Tls,
    /// TCPRoute: whole connections; only backends and weights mean something.
    Tcp,
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RouteKind::Http => "HTTPRoute",
            RouteKind::Grpc => "GRPCRoute",
            RouteKind::Tls => "TLSRoute",
            RouteKind::Tcp => "TCPRoute",
        })
    }
}

/// By what a route is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Parent {
    /// A listener of a Gateway.
    Listener(ListenerKey),
    /// What is addressed to a service, whatever the Host header says.
    Service {
        /// Which.
        service: ServiceName,
        /// Of which port; none: of all.
        port: Option<u16>,
        /// From clients of this namespace only: the route stands in another namespace than the service.
        clients_of: Option<Arc<str>>,
    },
}

/// What is done with the requests that one of its matches fits.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// For logs and policies.
    pub name: Option<Arc<str>>,
    /// Any of them. Empty: every request.
    pub matches: Vec<Match>,
    /// In order, before those of the backend.
    pub filters: Vec<Filter>,
    /// Who gets the requests. Empty, and without a filter that answers: 500.
    pub backends: Vec<WeightedBackend>,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// What is tried again; none: only what is safe without asking.
    pub retry: Option<Retry>,
    /// A client comes back to its backend, and to its endpoint there. Goes before what policies say.
    pub session: Option<SessionPersistence>,
}

/// All of it must fit.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// Of the canonical path, without query; none: every path.
    pub path: Option<PathMatch>,
    /// All of them.
    pub headers: Vec<NamedMatch<HeaderName>>,
    /// All of them; names and values are compared as they are.
    pub query: Vec<NamedMatch<Arc<str>>>,
    /// None: every method.
    pub method: Option<Method>,
}

/// What a path may be.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// Exactly this.
    Exact(Arc<str>),
    /// By elements: `/v2` fits `/v2` and `/v2/x`, not `/v2x`. Without a slash at its end, but for `/`.
    Prefix(Arc<str>),
    /// The whole path; made by [`whole`].
    Regex(Regex),
}

/// A name, and what its value may be.
#[derive(Clone, Debug)]
pub struct NamedMatch<Name> {
    /// Of a header or parameter.
    pub name: Name,
    /// Its value.
    pub value: ValueMatch,
}

/// What a value may be.
#[derive(Clone, Debug)]
pub enum ValueMatch {
    /// Exactly this.
    Exact(Arc<str>),
    /// The whole value; made by [`whole`].
    Regex(Regex),
}

/// What `pattern` becomes at most: expressions are a configuration's, but `(a{1000}){1000}` is short to write.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// A regular expression that fits whole texts only. Its time is linear in the text, whatever it is.
///
/// # Errors
/// It is none, or becomes too large.
pub fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    // The expression must be one by itself: `a)|(b` is not.
    Regex::new(pattern)?;
    regex::RegexBuilder::new(&format!(r"\A(?:{pattern})\z")).size_limit(REGEX_BYTES_MAX).build()
}

/// A backend, its share, and what is done for it alone.
#[derive(Clone, Debug)]
pub struct WeightedBackend {
    /// Which.
    pub backend: Backend,
    /// Its share among the rule's; 0: none.
    pub weight: u32,
    /// After the rule's.
    pub filters: Vec<Filter>,
}

/// How long a request may take; none: as long as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the request's first byte to the answer's last, all tries and pauses included.
    pub request: Option<Duration>,
    /// One try.
    pub backend_request: Option<Duration>,
}

/// What is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often, beside the first time.
    pub attempts: u32,
    /// The shortest pause before the next try; none: the default's.
    pub backoff: Option<Duration>,
    /// Answers that are tried again. Failed connections are in any case.
    pub codes: Vec<u16>,
}
