//! What comes of a try that was in vain: another one after a pause, or the answer that says so.

use std::time::Duration;

use http::StatusCode;
use ringway_http::{
    head,
    retry::{self, Final},
};

use super::{Answered, Tries};
use crate::{
    close::{BackendTls, CloseReason},
    decide::Refusal,
    limits::RETRIES_MAX,
    runtime,
    telemetry::http::ResponseFlag,
    waypoint::{reply::Reply, upstream::Unanswered},
};

pub(super) enum Failure {
    NoEndpoint(Refusal),
    Unreached(CloseReason),
    /// As much is under way to the service as may be. Says what.
    Overflow(&'static str),
    Unanswered(Unanswered),
    TooSlow,
    /// An answer that cannot be passed on.
    Garbled(head::Refusal),
    /// An answer that the rule names.
    Status(Box<Answered>),
}

impl Failure {
    /// Whether nothing of the request went out, and another endpoint may take it.
    pub(super) fn is_unsent(&self) -> bool {
        match self {
            Self::Unreached(reason) => !matches!(
                reason,
                CloseReason::LimitReached(_)
                    | CloseReason::ConnectRefused(400..=499)
                    // It is the same at every endpoint.
                    | CloseReason::BackendTls(BackendTls::Unusable(_))
            ),
            Self::Unanswered(unanswered) => unanswered.unsent,
            _ => false,
        }
    }

    /// Whether some of it went out, and nobody has looked at it.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self, Self::Unanswered(Unanswered { refused: true, .. }))
    }
}

impl Tries<'_> {
    /// The pause before one more try, as the rule says; or what is safe without one.
    pub(super) fn pause(
        &self,
        failure: &Failure,
        retries: u32,
        last_pause: Option<Duration>,
    ) -> Result<Duration, Final> {
        if retries >= RETRIES_MAX {
            return Err(Final::TooOften);
        }
        let (failure, retry_after) = match failure {
            Failure::Unreached(_) if failure.is_unsent() => (retry::Failure::NotConnected, None),
            Failure::Unanswered(_) if failure.is_unsent() || failure.is_refused() => {
                (retry::Failure::Refused, None)
            }
            Failure::Unanswered(_) => (retry::Failure::Reset, None),
            Failure::TooSlow => (retry::Failure::TimedOut, None),
            Failure::Status(answered) => {
                let response = &answered.response;
                let retry_after = retry::retry_after(response.headers());
                (retry::Failure::Status(response.status()), retry_after)
            }
            Failure::NoEndpoint(_)
            | Failure::Unreached(_)
            | Failure::Overflow(_)
            | Failure::Garbled(_) => {
                return Err(Final::NotRetriable);
            }
        };
        let now = runtime::now();
        let attempt = retry::Attempt {
            policy: self.plan.retry(),
            failure,
            retries,
            method: &self.parts.method,
            has_body: self.upload.can_replay(),
            retry_after,
            remaining: self.deadline.map(|deadline| deadline.saturating_duration_since(now)),
            last_pause: last_pause.filter(|pause| !pause.is_zero()),
        };
        attempt.next(self.downstream.shard.random())
    }

    pub(super) fn is_to_be_retried(&self, status: StatusCode) -> bool {
        self.plan.retry().is_some_and(|retry| retry.codes.contains(&status.as_u16()))
    }

    pub(super) fn give_up(&self, failure: Failure) -> Result<Answered, Reply> {
        Err(match failure {
            Failure::Status(answered) => return Ok(*answered),
            Failure::NoEndpoint(refusal) => Reply::unhealthy(&refusal),
            Failure::Unreached(reason) => Reply::unreached(&reason),
            Failure::Overflow(why) => Reply::overflow(why),
            Failure::Unanswered(_) if self.upload.has_failed() => {
                Reply::new(StatusCode::BAD_REQUEST, "downstream_remote_disconnect")
                    .flagged(ResponseFlag::DownstreamConnectionTermination)
            }
            Failure::Unanswered(Unanswered { garbled: true, why, .. }) => Reply::garbled(why),
            Failure::Unanswered(Unanswered { why, .. }) => Reply::reset(why),
            Failure::TooSlow => Reply::timed_out("upstream_per_try_timeout"),
            Failure::Garbled(refusal) => Reply::garbled(refusal.to_string()),
        })
    }
}
