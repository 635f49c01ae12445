//! Who gets requests: what a reference to a backend has come to.

use std::sync::Arc;

use super::ServiceName;

/// Who requests are passed to.
#[derive(Clone, Debug)]
pub struct Backend {
    /// What it is.
    pub target: BackendTarget,
}

/// What a reference to a backend has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendTarget {
    /// A port of a service, without routes and waypoints of its own.
    Service {
        /// Which.
        service: ServiceName,
        /// Of its ports.
        port: u16,
    },
    /// The reference leads nowhere: its share of requests gets 500. Says why.
    Invalid(Arc<str>),
}
