//! What a try holds until its answer has ended, and how long its connection is kept.

use std::{cell::Cell, rc::Rc, time::Duration};

use ringway_http::breaker::Permit;

use super::Terms;

/// The places that a try holds until its answer has ended.
#[derive(Default)]
pub(crate) struct Places {
    _request: Option<Permit>,
    pub(crate) retry: Option<Permit>,
    _busy: Option<Busy>,
}

impl Places {
    pub(crate) fn new(request: Permit, busy: Option<Busy>) -> Self {
        Self { _request: Some(request), retry: None, _busy: busy }
    }
}

/// A try that is under way at an endpoint.
pub(crate) struct Busy(pub(super) Rc<Cell<u32>>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// How long a connection is kept, by what was said when it was dialled.
#[derive(Clone, Copy, Default)]
pub(crate) struct Keeping {
    pub(crate) requests: Option<u32>,
    pub(crate) idle: Option<Duration>,
    pub(crate) age: Option<Duration>,
}

impl Keeping {
    pub(crate) fn of(terms: Option<&Terms>) -> Self {
        terms.map_or_else(Self::default, |terms| {
            let limits = &terms.policy.limits;
            Self { requests: limits.requests_per_connection, idle: limits.idle, age: limits.age }
        })
    }
}
