//! What a rule changes.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use super::backend::Backend;

/// One thing a rule, or one backend of it, does beside passing the request on. In the order of the document.
#[derive(Clone, Debug)]
pub enum Filter {
    /// On the way to the backend.
    RequestHeaders(HeaderChanges),
    /// On the way back; local replies too.
    ResponseHeaders(HeaderChanges),
    /// Answers; nothing goes on.
    Redirect(Redirect),
    /// Of host and path.
    Rewrite(Rewrite),
    /// Copies to somebody else.
    Mirror(Mirror),
    /// Cross-origin requests of browsers.
    Cors(Cors),
}

/// Set, then add, then remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Replace, or are new.
    pub set: Vec<HeaderChange>,
    /// Are appended to what is there.
    pub add: Vec<HeaderChange>,
    /// Go.
    pub remove: Vec<HeaderName>,
}

/// A header and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderChange {
    /// The name.
    pub name: HeaderName,
    /// The value.
    pub value: HeaderValue,
}

/// What takes a path's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathChange {
    /// All of it.
    Full(Arc<str>),
    /// The prefix that the rule matched; what follows stays, with one slash between.
    Prefix(Arc<str>),
}

/// An answer that sends the client elsewhere. What is not given stays as the request has it.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// The host.
    pub host: Option<Arc<str>>,
    /// The port; none: the scheme's well-known one if a scheme is given, else the listener's.
    pub port: Option<u16>,
    /// The path.
    pub path: Option<PathChange>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// What the backend is asked for instead.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// The host.
    pub host: Option<Arc<str>>,
    /// The path.
    pub path: Option<PathChange>,
}

/// Copies of requests, whose answers nobody waits for.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Who gets them.
    pub backend: Backend,
    /// Of `denominator` requests, so many are copied.
    pub numerator: u32,
    /// Not zero.
    pub denominator: u32,
}

/// Who may use answers from another origin.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    /// Which origins.
    pub origins: Vec<OriginMatch>,
    /// `*` or methods.
    pub methods: Vec<Arc<str>>,
    /// `*` or header names.
    pub headers: Vec<Arc<str>>,
    /// What scripts may read.
    pub expose: Vec<Arc<str>>,
    /// With cookies and the like.
    pub credentials: bool,
    /// How long a browser may remember.
    pub max_age: Option<Duration>,
}

/// An origin: scheme, host, port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginMatch {
    /// Every one.
    Any,
    /// `https://example.com:8443`.
    Exact(Arc<str>),
    /// `https://*.example.com`: what stands before and after the star.
    Wildcard {
        /// Before.
        prefix: Arc<str>,
        /// After.
        suffix: Arc<str>,
    },
}
