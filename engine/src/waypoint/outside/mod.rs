//! Services outside that are asked about a request before it is passed on: external authorizers and rate limit services.
//!
//! ```text
//!  policy ─▶ authorization, limits: what is asked ─▶ call ─▶ tries ─▶ upstream ─▶ the service
//!                                    what it means ◀──┘ the whole answer, within a bound and a time
//! ```
//!
//! Such a service is a service of the mesh like any other: its endpoints, the tunnels to them, the connections that are kept
//! and what policies say of passing on are those of requests, under the identity of the pod itself. What is asked has no
//! record of its own; it counts in `ringway_outside_calls_total`. Where a policy lets requests pass without an answer, it is
//! told why there was none.

pub(crate) mod authorization;
pub(crate) mod limits;

use std::{future::poll_fn, pin::Pin, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use http_body::Body;
use ringway_http::{
    grpc,
    model::{Backend, BackendTarget},
};

use super::{
    incoming::Incoming,
    places::Place,
    plan::{Plan, destination_of},
    record::Recorder,
    serve::Downstream,
    traffic,
    tries::{Answered, Tries},
    upload::Upload,
};
use crate::{
    limits::{OUTSIDE_ANSWER_BYTES_MAX, OUTSIDE_CALLS_MAX},
    runtime,
    snapshot::Snapshot,
    telemetry::http::{FailedOpenRecord, OutsideService},
};

/// What is asked is gRPC, whatever the service's port declares.
#[derive(Clone, Copy)]
pub(crate) struct SpeaksGrpc;

/// Who asks, on which snapshot.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) downstream: &'a Rc<Downstream>,
    pub(crate) snapshot: &'a Snapshot,
}

/// All of an answer.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    /// None: there was more of it than may be.
    body: Option<Vec<u8>>,
    trailers: HeaderMap,
}

impl Asker<'_> {
    /// Counts a request that passes without an answer, and tells why there is none.
    fn passes_unanswered(&self, service: OutsideService, name: &str, why: String) {
        let called = self.downstream.target.to_string().into();
        let record = FailedOpenRecord { service, name: name.into(), called, why: why.into() };
        self.downstream.shard.telemetry.http().failed_open(record);
    }

    /// Asks by gRPC: one message for one message.
    ///
    /// # Errors
    /// Why there is no answer, in a sentence.
    async fn call_grpc(
        &self,
        service: &Backend,
        method: &'static str,
        message: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, String> {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.method = Method::POST;
        parts.uri = http::Uri::from_static(method);
        let headers = &mut parts.headers;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        let milliseconds = format!("{}m", timeout.as_millis().clamp(1, 99_999_999));
        if let Ok(value) = HeaderValue::try_from(milliseconds) {
            headers.insert("grpc-timeout", value);
        }
        if let BackendTarget::Service { service, port } = &service.target
            && let Ok(host) = HeaderValue::try_from(format!("{}:{port}", service.hostname))
        {
            headers.insert(header::HOST, host);
        }
        parts.extensions.insert(SpeaksGrpc);
        let body = grpc::framed(message).into();
        let answer = self.call(service, &parts, body, timeout).await?;
        if answer.status != StatusCode::OK {
            return Err(format!("it has answered {}", answer.status.as_u16()));
        }
        let body = answer.body.ok_or("its answer is too long")?;
        // Where there is nothing else, the head has it.
        match grpc::status(&answer.trailers).or_else(|| grpc::status(&answer.headers)) {
            Some(0) => {}
            Some(status) => return Err(format!("it has answered with gRPC's status {status}")),
            None => return Err("its answer has ended without a status".to_owned()),
        }
        grpc::unframed(&body).map(<[u8]>::to_vec).map_err(|error| error.to_string())
    }

    /// Asks, and waits for all of the answer.
    ///
    /// # Errors
    /// Why there is none, in a sentence.
    async fn call(
        &self,
        service: &Backend,
        parts: &Parts,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Answer, String> {
        let calls = &self.downstream.pod.l7.kept().asked;
        let _place = Place::take(calls, OUTSIDE_CALLS_MAX).ok_or("too many are being asked")?;
        let asking = Box::pin(self.call_in_its_time(service, parts, body));
        let answered = runtime::timeout(timeout, asking).await;
        answered.unwrap_or_else(|_elapsed| Err("it has not answered in time".to_owned()))
    }

    async fn call_in_its_time(
        &self,
        service: &Backend,
        parts: &Parts,
        body: Bytes,
    ) -> Result<Answer, String> {
        let downstream = self.downstream;
        let destination = destination_of(self.snapshot, &service.target)
            .map_err(|_reply| "there is no such service".to_owned())?;
        let terms = traffic::terms(downstream, self.snapshot, None, parts, &destination);
        let own = downstream.shard.workload(&downstream.pod.workload).await;
        let tries = Tries {
            downstream,
            source: &own.map_err(|reason| reason.to_string())?,
            plan: &Plan::plain(destination, terms),
            parts,
            upload: &Upload::of_ours(body),
            interims: None,
            was_http2: false,
            deadline: None,
        };
        let mut recorder = Recorder::of_copy(downstream);
        let answered = tries.run(&mut recorder).await;
        let Answered { response, lease } = answered.map_err(|reply| {
            let why = reply.failure.map_or_else(|| reply.details.into(), String::from);
            format!("it cannot be reached: {why}")
        })?;
        let (head, mut answer) = response.into_parts();
        let (body, trailers) = read(&mut answer).await?;
        if body.is_some() {
            lease.give_back(answer.take_rest());
        }
        Ok(Answer { status: head.status, headers: head.headers, body, trailers })
    }
}

/// A body, as far as it is not too long, and its trailers.
async fn read(body: &mut Incoming) -> Result<(Option<Vec<u8>>, HeaderMap), String> {
    let (mut bytes, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| format!("its answer has ended early: {error}"))?;
        match frame.into_data() {
            Ok(data) if bytes.len() + data.len() > OUTSIDE_ANSWER_BYTES_MAX => {
                return Ok((None, trailers));
            }
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    Ok((Some(bytes), trailers))
}
