//! The tries of one request: at one endpoint after the other, as often as is safe, or as its rule says.
//!
//! | what happened | tried again |
//! |---|---|
//! | nothing of it was sent: no endpoint reached, or the connection had just ended | at another endpoint, without being asked |
//! | the backend has refused to look at it | the same, if its body is kept |
//! | reset before an answer | once, if its method is idempotent and its body is kept; then as the rule says |
//! | no answer in time, an answer whose status the rule names | as the rule says, if its body is kept |
//!
//! What the rule says is worked out by `ringway_http::retry`.

mod endpoint;
mod failure;

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Response, StatusCode, request::Parts};
use ringway_http::{breaker::Counted, fault::Fault, outlier::Seen, retry::Final};

use self::failure::Failure;
use super::{
    incoming::Incoming,
    interim::InterimSink,
    mirror,
    plan::Plan,
    record::Recorder,
    reply::Reply,
    serve::Downstream,
    upload::Upload,
    upstream::{Lease, Unanswered},
};
use crate::{
    close::{BackendTls, CloseReason},
    decide::Route,
    limits::ENDPOINT_TRIES_MAX,
    runtime,
    snapshot::Workload,
    telemetry::http::ResponseFlag,
};

/// A request on its way.
pub(crate) struct Tries<'a> {
    pub(crate) downstream: &'a Rc<Downstream>,
    /// The pod's own workload, under whose identity it is sent.
    pub(crate) source: &'a Arc<Workload>,
    pub(crate) plan: &'a Plan,
    /// As every try has it, but for what the connection's version changes.
    pub(crate) parts: &'a Parts,
    pub(crate) upload: &'a Rc<Upload>,
    /// Who hears what comes before the answer; nobody hears what the backend of a copy says.
    pub(crate) interims: Option<&'a InterimSink>,
    pub(crate) was_http2: bool,
    /// When the request's time is over.
    pub(crate) deadline: Option<Instant>,
}

/// An answer's head, and the connection that its body comes by.
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) lease: Lease,
}

impl Tries<'_> {
    /// Does to a request what is to be spoilt on purpose, and then [`Tries::run`]s.
    ///
    /// # Errors
    /// As there, and the answer that is injected.
    pub(crate) async fn run_spoilt(
        &self,
        fault: Fault,
        recorder: &mut Recorder,
    ) -> Result<Answered, Reply> {
        if let Some(delay) = fault.delay {
            recorder.flags.add(ResponseFlag::DelayInjected);
            runtime::sleep(delay).await;
        }
        match fault.abort {
            Some(abort) => Err(Reply::injected(abort)),
            None => {
                mirror::copy(self, recorder);
                self.run(recorder).await
            }
        }
    }

    /// Tries until there is an answer for the client.
    ///
    /// # Errors
    /// The answer that is given here, when there is none.
    pub(crate) async fn run(&self, recorder: &mut Recorder) -> Result<Answered, Reply> {
        let mut in_vain: Vec<Arc<Workload>> = Vec::new();
        let (mut retries, mut free, mut last_pause) = (0, 0, None);
        let mut last: Option<Reply> = None;
        let mut retrying = None;
        let terms = self.plan.terms.as_deref();
        terms.iter().for_each(|terms| terms.begun());
        loop {
            let failure = match self.once(&mut in_vain, recorder).await {
                Ok(answered) if self.is_to_be_retried(answered.response.status()) => {
                    Failure::Status(Box::new(answered))
                }
                Ok(mut answered) => {
                    answered.lease.places.retry = retrying.take();
                    return Ok(answered);
                }
                // Whom was tried before says more.
                Err(Failure::NoEndpoint(refusal)) => {
                    return Err(last.unwrap_or_else(|| Reply::unhealthy(&refusal)));
                }
                Err(failure) => failure,
            };
            let is_free = (failure.is_unsent() || failure.is_refused() && self.upload.can_replay())
                && in_vain.len() < ENDPOINT_TRIES_MAX
                && free < ENDPOINT_TRIES_MAX;
            let pause = if is_free {
                free += 1;
                Duration::ZERO
            } else {
                match self.pause(&failure, retries, last_pause) {
                    Ok(pause) => pause,
                    Err(ending) => {
                        if ending == Final::TooOften && self.plan.retry().is_some() {
                            recorder.flags.add(ResponseFlag::UpstreamRetryLimitExceeded);
                        }
                        return self.give_up(failure);
                    }
                }
            };
            if let Some(terms) = terms {
                drop(retrying.take());
                if !terms.may_retry() {
                    // XBackendTrafficPolicy, `retryConstraint`: "additional retries to the backend MUST return a 503".
                    return Err(Reply::overflow("the retry budget is spent"));
                }
                retrying = terms.enter(Counted::Retries);
                if retrying.is_none() {
                    recorder.flags.add(ResponseFlag::UpstreamOverflow);
                    return self.give_up(failure);
                }
            }
            if !is_free {
                retries += 1;
                last_pause = Some(pause);
            }
            recorder.retries += 1;
            last = self.give_up(failure).err();
            if !pause.is_zero() {
                runtime::sleep(pause).await;
            }
        }
    }

    async fn once(
        &self,
        in_vain: &mut Vec<Arc<Workload>>,
        recorder: &mut Recorder,
    ) -> Result<Answered, Failure> {
        let route = self.route(in_vain).await.map_err(Failure::NoEndpoint)?;
        let timeout = self.plan.timeouts().backend_request;
        let trying = self.at(&route, recorder);
        let outcome = match timeout {
            Some(timeout) => {
                runtime::timeout(timeout, trying).await.unwrap_or(Err(Failure::TooSlow))
            }
            None => trying.await,
        };
        self.note(&route, &outcome);
        let is_stale =
            |failure| matches!(failure, &Failure::Unanswered(Unanswered { unsent: true, .. }));
        if outcome.as_ref().is_err_and(|failure| !is_stale(failure))
            && let Some(workload) = route.destination_workload
        {
            in_vain.push(workload);
        }
        outcome
    }

    /// Tells policies how it ended at an endpoint; what is nobody's fault there is not told.
    fn note(&self, route: &Route, outcome: &Result<Answered, Failure>) {
        let (Some(terms), Some(endpoint)) = (&self.plan.terms, &route.destination_workload) else {
            return;
        };
        let seen = match outcome {
            Ok(answered) => Seen::Status(answered.response.status().as_u16()),
            Err(Failure::Garbled(_)) => Seen::Status(StatusCode::BAD_GATEWAY.as_u16()),
            Err(Failure::Unreached(
                CloseReason::LimitReached(_) | CloseReason::BackendTls(BackendTls::Unusable(_)),
            )) => return,
            Err(Failure::Unreached(_) | Failure::TooSlow) => Seen::Local,
            Err(Failure::Unanswered(unanswered))
                if !unanswered.unsent && !self.upload.has_failed() =>
            {
                Seen::Local
            }
            Err(_) => return,
        };
        terms.note(endpoint, seen);
    }

    /// The request's time is over, at whoever has it.
    pub(crate) fn note_slow(&self, recorder: &Recorder) {
        let upstream = recorder.upstream.as_ref().filter(|_| recorder.answered.is_none());
        let endpoint = upstream.and_then(|upstream| upstream.workload.as_deref());
        if let (Some(terms), Some(endpoint)) = (&self.plan.terms, endpoint) {
            terms.note(endpoint, Seen::Local);
        }
    }
}
