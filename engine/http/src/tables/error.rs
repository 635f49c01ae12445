//! What is wrong with a configuration.

use std::fmt;

use crate::model::{ListenerKey, RouteName};
use crate::path::PathError;
use crate::policies::PolicyError;

/// All that is wrong; nothing of such a configuration is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileErrors(pub Vec<CompileError>);

impl fmt::Display for CompileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for CompileErrors {}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// In a rule.
    Rule {
        /// Of this route.
        route: RouteName,
        /// Its place there.
        rule: usize,
        /// What.
        mistake: Mistake,
    },
    /// In the hosts of a route.
    RouteHost {
        /// This route.
        route: RouteName,
        /// What it says.
        host: String,
    },
    /// In the host of a listener.
    ListenerHost {
        /// This listener.
        listener: ListenerKey,
        /// What it says.
        host: String,
    },
    /// Two listeners of a Gateway have the same port and host.
    ListenersConflict {
        /// This one came first.
        first: ListenerKey,
        /// This one is too many.
        second: ListenerKey,
    },
    /// A policy.
    Policy(PolicyError),
    /// The listeners of a port speak what one port cannot tell apart.
    ProtocolsConflict {
        /// This one came first.
        first: ListenerKey,
        /// This one speaks otherwise.
        second: ListenerKey,
    },
}

/// What can be wrong in a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A path of a match has no canonical form, so no request can have it.
    Path {
        /// As it is configured.
        path: String,
        /// Why.
        error: PathError,
    },
    /// It redirects and rewrites.
    RedirectAndRewrite,
    /// There are two of a kind of filter that there can be only one of.
    Twice(&'static str),
    /// A redirect's status is none.
    RedirectStatus(u16),
    /// A redirect's scheme is neither http nor https.
    RedirectScheme(String),
    /// A host that a redirect or rewrite names is none.
    Host(String),
    /// A path that a redirect or rewrite names is none.
    Replacement(String),
    /// A prefix is replaced where no prefix is matched.
    PrefixWithoutPrefix,
    /// A mirror gets more than all, or a share of nothing.
    MirrorShare(u32, u32),
    /// A filter would change what holds the message together.
    ProtectedHeader(String),
    /// An origin, method or header of CORS is none.
    Cors(String),
    /// Weights are more than a number holds.
    Weights,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileError::Rule { route, rule, mistake } => {
                write!(f, "{} {route}: rule {rule}: {mistake}", route.kind)
            }
            CompileError::RouteHost { route, host } => {
                write!(f, "{} {route}: {host:?} is no host; {HOST_RULE}", route.kind)
            }
            CompileError::ListenerHost { listener, host } => {
                write!(f, "listener {listener}: {host:?} is no host; {HOST_RULE}")
            }
            CompileError::Policy(error) => error.fmt(f),
            CompileError::ListenersConflict { first, second } => write!(
                f,
                "listener {second} has the port and host of {first}; remove one or change its hostname"
            ),
            CompileError::ProtocolsConflict { first, second } => write!(
                f,
                "listener {second} has the port of {first} and another protocol; give it another port"
            ),
        }
    }
}

const HOST_RULE: &str =
    "write labels in lower case with dots between, at most 253 bytes, without a port";

impl std::error::Error for CompileError {}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mistake::Path { path, error } => {
                write!(f, "no request can have the path {path:?}: {error}; write it as requests come")
            }
            Mistake::RedirectAndRewrite => {
                f.write_str("redirects and rewrites; what is redirected is not passed on: remove one")
            }
            Mistake::Twice(kind) => write!(f, "has two {kind} filters; one is the most: merge them"),
            Mistake::RedirectStatus(status) => {
                write!(f, "redirects with {status}; it must be 301, 302, 303, 307 or 308")
            }
            Mistake::RedirectScheme(scheme) => {
                write!(f, "redirects to the scheme {scheme:?}; it must be http or https")
            }
            Mistake::Host(host) => write!(f, "{host:?} is no host; {HOST_RULE}"),
            Mistake::Replacement(path) => {
                write!(f, "{path:?} is no path; write one that begins with a slash, without query")
            }
            Mistake::PrefixWithoutPrefix => f.write_str(
                "replaces a prefix, and matches paths otherwise; match by PathPrefix or replace the full path",
            ),
            Mistake::MirrorShare(numerator, denominator) => {
                write!(f, "mirrors {numerator} of {denominator}; it must be at most all, of at least one")
            }
            Mistake::ProtectedHeader(name) => write!(
                f,
                "changes {name}, which holds the message together; rewrite the host with URLRewrite, leave the others out"
            ),
            Mistake::Cors(what) => write!(f, "allows {what:?} across origins, which is none"),
            Mistake::Weights => f.write_str("has weights that are more than 4294967295 together"),
        }
    }
}
