//! The tries of one request: at one endpoint after the other, as often as is safe, or as its rule says.
//!
//! | what happened | tried again |
//! |---|---|
//! | nothing of it was sent: no endpoint reached, or the connection had just ended | at another endpoint, without being asked |
//! | reset before an answer | once, if its method is idempotent and its body is kept; then as the rule says |
//! | no answer in time, an answer whose status the rule names | as the rule says, if its body is kept |
//!
//! What the rule says is worked out by `ringway_http::retry`.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Response, StatusCode, request::Parts};
use hyper::body::Incoming;
use ringway_http::{
    fault::Fault,
    head::{self, check_response},
    retry::{self, Final},
};
use ringway_protocols::hbone::Authority;

use super::{
    plan::{Destination, Plan},
    record::{Recorder, Upstream},
    reply::Reply,
    serve::Downstream,
    upload::Upload,
    upstream::{Dialect, Lease, Unanswered},
};
use crate::{
    close::CloseReason,
    decide::{self, NextHop, Refusal, Route},
    limits::{ENDPOINT_TRIES_MAX, RETRIES_MAX},
    reach::Call,
    runtime,
    snapshot::{AppProtocol, Workload},
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
    pub(crate) was_http2: bool,
    /// When the request's time is over.
    pub(crate) deadline: Option<Instant>,
}

/// An answer's head, and the connection that its body comes by.
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) lease: Lease,
}

enum Failure {
    NoEndpoint(Refusal),
    Unreached(CloseReason),
    Unanswered(Unanswered),
    TooSlow,
    /// An answer that cannot be passed on.
    Garbled(head::Refusal),
    /// An answer that the rule names.
    Status(Box<Answered>),
}

impl Failure {
    /// Whether nothing of the request went out, and another endpoint may take it.
    fn is_unsent(&self) -> bool {
        match self {
            Self::Unreached(reason) => !matches!(
                reason,
                CloseReason::LimitReached(_) | CloseReason::ConnectRefused(400..=499)
            ),
            Self::Unanswered(unanswered) => unanswered.unsent,
            _ => false,
        }
    }
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
            None => self.run(recorder).await,
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
        loop {
            let failure = match self.once(&mut in_vain, recorder).await {
                Ok(answered) if self.is_to_be_retried(answered.response.status()) => {
                    Failure::Status(Box::new(answered))
                }
                Ok(answered) => return Ok(answered),
                // Whom was tried before says more.
                Err(Failure::NoEndpoint(refusal)) => {
                    return Err(last.unwrap_or_else(|| Reply::unhealthy(&refusal)));
                }
                Err(failure) => failure,
            };
            let is_free = failure.is_unsent()
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

    /// The pause before one more try, as the rule says; or what is safe without one.
    fn pause(
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
            Failure::Unanswered(_) if failure.is_unsent() => (retry::Failure::Refused, None),
            Failure::Unanswered(_) => (retry::Failure::Reset, None),
            Failure::TooSlow => (retry::Failure::TimedOut, None),
            Failure::Status(answered) => {
                let response = &answered.response;
                let retry_after = retry::retry_after(response.headers());
                (retry::Failure::Status(response.status()), retry_after)
            }
            Failure::NoEndpoint(_) | Failure::Unreached(_) | Failure::Garbled(_) => {
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

    fn is_to_be_retried(&self, status: StatusCode) -> bool {
        self.plan.retry().is_some_and(|retry| retry.codes.contains(&status.as_u16()))
    }

    fn give_up(&self, failure: Failure) -> Result<Answered, Reply> {
        Err(match failure {
            Failure::Status(answered) => return Ok(*answered),
            Failure::NoEndpoint(refusal) => Reply::unhealthy(&refusal),
            Failure::Unreached(reason) => Reply::unreached(&reason),
            Failure::Unanswered(_) if self.upload.has_failed() => {
                Reply::new(StatusCode::BAD_REQUEST, "downstream_remote_disconnect")
                    .flagged(ResponseFlag::DownstreamConnectionTermination)
            }
            Failure::Unanswered(Unanswered { error, .. }) if error.is_parse() => {
                Reply::garbled(error.to_string())
            }
            Failure::Unanswered(Unanswered { error, .. }) => Reply::reset(error.to_string()),
            Failure::TooSlow => Reply::timed_out("upstream_per_try_timeout"),
            Failure::Garbled(refusal) => Reply::garbled(refusal.to_string()),
        })
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
        let is_stale =
            |failure| matches!(failure, &Failure::Unanswered(Unanswered { unsent: true, .. }));
        if outcome.as_ref().is_err_and(|failure| !is_stale(failure))
            && let Some(workload) = route.destination_workload
        {
            in_vain.push(workload);
        }
        outcome
    }

    /// Where to go, now. When only those are left that were tried in vain, they are tried again.
    async fn route(&self, in_vain: &[Arc<Workload>]) -> Result<Route, Refusal> {
        match self.decide(in_vain) {
            Err(Refusal::Unresolved { hostname, .. }) => {
                // Resolved in time or not, the decision says what comes of it.
                let _known = self.downstream.shard.resolved(&hostname).await;
                self.decide(in_vain)
            }
            Err(_) if !in_vain.is_empty() => self.decide(&[]),
            outcome => outcome,
        }
    }

    fn decide(&self, in_vain: &[Arc<Workload>]) -> Result<Route, Refusal> {
        let shard = &self.downstream.shard;
        let snapshot = shard.snapshot();
        match &self.plan.destination {
            Destination::Service(service, port) => {
                let service = snapshot.service(&service.id).unwrap_or(service);
                let random = shard.random();
                decide::behind_waypoint(&snapshot, self.source, service, *port, random, in_vain)
            }
            Destination::Workload(uid, address) => {
                decide::workload_behind_waypoint(&snapshot, self.source, uid, *address)
            }
        }
    }

    async fn at(&self, route: &Route, recorder: &mut Recorder) -> Result<Answered, Failure> {
        let Downstream { shard, pod, .. } = &**self.downstream;
        let dialect = self.dialect();
        recorder.upstream = Some(self.upstream(route));
        // What is kept for the next request is no single client's.
        let own = self.source.addresses().first().copied();
        let client = own.map_or(self.downstream.called, |ip| (ip, 0).into());
        let destination = self.downstream.called;
        let call = Call { shard, pod, source: self.source, client, destination };
        let upstreams = &pod.l7.kept().upstreams;
        let mut lease =
            upstreams.check_out(&call, route, dialect).await.map_err(Failure::Unreached)?;
        if let Some(upstream) = &mut recorder.upstream {
            upstream.local = lease.local();
        }
        let request =
            super::exchange::outgoing(self.parts, dialect).map(|()| self.upload.attempt());
        if self.parts.extensions.get::<super::exchange::AsksForUpgrade>().is_some() {
            lease.expect_upgrade();
        }
        let response = lease.send(request).await.map_err(Failure::Unanswered)?;
        recorder.answered = Some(runtime::now());
        let (parts, body) = response.into_parts();
        check_response(&parts).map_err(Failure::Garbled)?;
        Ok(Answered { response: Response::from_parts(parts, body), lease })
    }

    /// What the port declares, or what the client speaks.
    fn dialect(&self) -> Dialect {
        let declared = match &self.plan.destination {
            Destination::Service(service, port) => {
                service.port(*port).map(|port| port.app_protocol)
            }
            Destination::Workload(..) => None,
        };
        match declared.unwrap_or_default() {
            AppProtocol::Http2 | AppProtocol::Grpc => Dialect::Http2,
            AppProtocol::Http11 => Dialect::Http1,
            _ if self.was_http2 => Dialect::Http2,
            _ => Dialect::Http1,
        }
    }

    fn upstream(&self, route: &Route) -> Upstream {
        let (host, mutual_tls) = match &route.next_hop {
            NextHop::Direct { address } | NextHop::PassThrough { address } => (*address, false),
            NextHop::Tunnel { authority: Authority::Address(address), .. } => (*address, true),
            NextHop::Tunnel { peer, .. } => (*peer, true),
            NextHop::DoubleTunnel { gateway, .. } => (*gateway, true),
        };
        let port = match &self.plan.destination {
            Destination::Service(_, port) => *port,
            Destination::Workload(_, address) => address.port(),
        };
        Upstream {
            host,
            local: None,
            workload: route.destination_workload.clone(),
            service: route.destination_service.clone(),
            port,
            mutual_tls,
        }
    }
}
