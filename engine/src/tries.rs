//! Which endpoints a connection tries, one after the other, and which a workload leaves alone for a while.
//!
//! Nothing is sent twice: an endpoint is given up only while no byte of the application's has gone out.
//! Each try is a decision of its own, on the snapshot of that moment, with the same rules of locality and
//! health; what it leaves out is who was tried, and, as long as there is anybody else, who was found
//! unreachable a moment ago.

use std::{cell::RefCell, io::ErrorKind, sync::Arc, time::Instant};

use crate::{
    close::CloseReason,
    decide::{self, NextHop, Refusal, Route},
    limits::{
        ENDPOINT_TRIES_MAX, ENDPOINT_TRIES_TIME, HBONE_REFUSED_PATIENCE, UNREACHABLE_MAX,
        UNREACHABLE_MEMORY_TIME, UNREACHABLE_TIME,
    },
    reach::{Call, Unreached},
    runtime,
    snapshot::Workload,
};

/// The tries of one connection.
pub(crate) struct Tries<'a> {
    call: &'a Call<'a>,
    began: Instant,
    /// Whom we tried in vain.
    in_vain: Vec<Arc<Workload>>,
}

impl<'a> Tries<'a> {
    pub(crate) fn new(call: &'a Call<'a>) -> Self {
        Self { call, began: runtime::now(), in_vain: Vec::new() }
    }

    /// Where to go first.
    ///
    /// # Errors
    /// The decision's refusal.
    pub(crate) fn first(&self) -> Result<Route, Refusal> {
        self.decide()
    }

    /// Where to go after `route` failed: none when that would not help, or nobody else is left.
    pub(crate) fn after(&mut self, route: &Route, failed: &Unreached) -> Option<Route> {
        match blame(failed) {
            Blame::Endpoint => self.note_unreachable(route),
            Blame::Answer => {}
            Blame::NotTheEndpoint => return None,
        }
        self.another(route)
    }

    /// Where to go while `route` is still silent.
    pub(crate) fn after_silence_of(&mut self, route: &Route) -> Option<Route> {
        self.note_unreachable(route);
        self.another(route)
    }

    /// Whether the only proxy there is may be about to listen: a mesh learns of an enrolment everywhere at
    /// about the same time, not at the same moment.
    pub(crate) fn may_be_enrolling(&self, route: &Route, failed: &CloseReason) -> bool {
        matches!(route.next_hop, NextHop::Tunnel { .. })
            && matches!(failed, CloseReason::DialFailed(ErrorKind::ConnectionRefused))
            && runtime::now() < self.began + HBONE_REFUSED_PATIENCE
    }

    /// `route` was reached.
    pub(crate) fn reached(&self, route: &Route) {
        if let Some(workload) = &route.destination_workload {
            self.call.pod.unreachable.forget(workload);
        }
    }

    fn another(&mut self, route: &Route) -> Option<Route> {
        let tried = route.destination_workload.as_ref()?;
        let is_late = runtime::now() >= self.began + ENDPOINT_TRIES_TIME;
        if is_late || self.in_vain.len() + 1 >= ENDPOINT_TRIES_MAX {
            return None;
        }
        self.in_vain.push(tried.clone());
        let next = self.decide().ok();
        match next {
            Some(_) => self.call.shard.telemetry.retried_at_another_endpoint(),
            // It remains the one to wait for.
            None => drop(self.in_vain.pop()),
        }
        next
    }

    /// Decides with whoever is left; those who were unreachable a moment ago come last.
    fn decide(&self) -> Result<Route, Refusal> {
        let &Call { shard, pod, source, destination, .. } = self.call;
        let snapshot = shard.snapshot();
        let decide = |except: &[Arc<Workload>]| {
            decide::outbound_except(&snapshot, source, destination, shard.random(), except)
        };
        let mut avoided = pod.unreachable.avoided(runtime::now());
        let preferred = (!avoided.is_empty()).then(|| {
            avoided.extend(self.in_vain.iter().cloned());
            decide(&avoided)
        });
        let route = match preferred {
            Some(Ok(route)) => route,
            _ => decide(&self.in_vain)?,
        };
        if let Some(workload) = &route.destination_workload {
            pod.unreachable.chosen(workload, runtime::now());
        }
        Ok(route)
    }

    fn note_unreachable(&self, route: &Route) {
        if let Some(workload) = &route.destination_workload {
            self.call.pod.unreachable.note(workload, runtime::now());
        }
    }
}

/// Whose fault it is that an endpoint was not reached.
#[derive(Debug, PartialEq, Eq)]
enum Blame {
    /// The endpoint's host or its proxy: whoever comes next had better go elsewhere.
    Endpoint,
    /// It answers, but not with this application.
    Answer,
    /// Another endpoint would change nothing, or may not: a refusal by policy is an answer.
    NotTheEndpoint,
}

fn blame(failed: &Unreached) -> Blame {
    match blame_of(&failed.reason) {
        // The gateway did its part; whom it chooses next may do better.
        Blame::Endpoint if failed.behind_gateway => Blame::Answer,
        blame => blame,
    }
}

fn blame_of(reason: &CloseReason) -> Blame {
    use ErrorKind as Io;
    match reason {
        CloseReason::DialFailed(
            Io::ConnectionRefused
            | Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::HostUnreachable
            | Io::NetworkUnreachable
            | Io::AddrNotAvailable
            | Io::TimedOut,
        )
        | CloseReason::DialTimedOut
        | CloseReason::TunnelDialTimedOut
        | CloseReason::Handshake(_)
        | CloseReason::HandshakeTimedOut
        | CloseReason::HandshakeCut
        | CloseReason::TunnelLost(_) => Blame::Endpoint,
        CloseReason::ConnectRefused(502..=504) | CloseReason::DestinationReset => Blame::Answer,
        _ => Blame::NotTheEndpoint,
    }
}

/// Whom a workload could not reach a moment ago, on one shard. Each workload has its own memory: what one
/// does to its network says nothing about another's.
#[derive(Default)]
pub(crate) struct Unreachable {
    noted: RefCell<Vec<Noted>>,
}

struct Noted {
    workload: Arc<Workload>,
    avoided_until: Instant,
}

impl Unreachable {
    /// `workload` is avoided for [`UNREACHABLE_TIME`] from now.
    fn note(&self, workload: &Arc<Workload>, now: Instant) {
        self.forget(workload);
        let mut noted = self.noted.borrow_mut();
        if noted.len() >= UNREACHABLE_MAX {
            // The oldest: it is the next to be tried anyway.
            noted.remove(0);
        }
        let avoided_until = now + UNREACHABLE_TIME;
        noted.push(Noted { workload: workload.clone(), avoided_until });
    }

    /// `workload` is tried again. Until it answers it stays avoided, so that one connection finds out and
    /// not all that come meanwhile.
    fn chosen(&self, workload: &Workload, now: Instant) {
        let mut noted = self.noted.borrow_mut();
        if let Some(noted) = noted.iter_mut().find(|noted| noted.workload.uid() == workload.uid()) {
            noted.avoided_until = now + UNREACHABLE_TIME;
        }
    }

    fn forget(&self, workload: &Workload) {
        self.noted.borrow_mut().retain(|noted| noted.workload.uid() != workload.uid());
    }

    /// Whom to avoid now.
    fn avoided(&self, now: Instant) -> Vec<Arc<Workload>> {
        let mut noted = self.noted.borrow_mut();
        if noted.is_empty() {
            return Vec::new();
        }
        noted.retain(|noted| now < noted.avoided_until + UNREACHABLE_MEMORY_TIME);
        let avoided = noted.iter().filter(|noted| now < noted.avoided_until);
        avoided.map(|noted| noted.workload.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
