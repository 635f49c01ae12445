//! Answers that are given here, in the status, words and letters that people know from Envoy; for gRPC in gRPC's way.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use ringway_http::{
    authorize::Denied, fault::Abort, filter, grpc, outside::authorization::Denial,
    token::TokenError,
};

use super::{download::Download, record::Recorder, serve::UnderWay};
use crate::{close::CloseReason, decide::Refusal, telemetry::http::ResponseFlag};

/// Of what somebody else says, in gRPC's header for it.
const GRPC_MESSAGE_BYTES_MAX: usize = 1024;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) flag: Option<ResponseFlag>,
    pub(crate) details: Cow<'static, str>,
    pub(crate) text: &'static str,
    /// Instead of the text: what somebody else says.
    body: Option<Bytes>,
    pub(crate) headers: Option<Box<HeaderMap>>,
    /// Nothing else can be read from the client.
    closes: bool,
    /// Why no connection to the backend could be had.
    pub(crate) failure: Option<Box<str>>,
    /// For gRPC, where it is not what the status comes to.
    pub(crate) grpc_status: Option<u8>,
}

impl Reply {
    /// A status, and why.
    pub(crate) fn new(status: StatusCode, details: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            flag: None,
            details: details.into(),
            text: "",
            body: None,
            headers: None,
            closes: false,
            failure: None,
            grpc_status: None,
        }
    }

    pub(crate) fn flagged(mut self, flag: ResponseFlag) -> Self {
        self.flag = Some(flag);
        self
    }

    pub(crate) fn saying(mut self, text: &'static str) -> Self {
        self.text = text;
        self
    }

    pub(crate) fn because(mut self, why: impl Into<Box<str>>) -> Self {
        self.failure = Some(why.into());
        self
    }

    pub(crate) fn closing(mut self, closes: bool) -> Self {
        self.closes = closes;
        self
    }

    /// No route is for the request.
    pub(crate) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "route_not_found").flagged(ResponseFlag::NoRoute)
    }

    /// The rule names nobody who could answer, or somebody who does not exist.
    pub(crate) fn no_backend() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "cluster_not_found")
            .flagged(ResponseFlag::NoCluster)
    }

    /// No endpoint can be used.
    pub(crate) fn unhealthy(refusal: &Refusal) -> Self {
        let reply = Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_healthy_upstream")
            .flagged(ResponseFlag::NoHealthyUpstream)
            .saying("no healthy upstream");
        Self { failure: Some(refusal.to_string().into()), ..reply }
    }

    /// No connection to any endpoint could be had.
    pub(crate) fn unreached(reason: &CloseReason) -> Self {
        if matches!(reason, CloseReason::LimitReached(_)) {
            return Self::overflow(reason.to_string());
        }
        let what = match reason {
            CloseReason::BackendTls(_) => BeforeResponse::TlsFailure,
            _ => BeforeResponse::RemoteConnectionFailure,
        };
        Self::before_response(what, reason.to_string())
    }

    /// As much as may be is under way.
    pub(crate) fn overflow(why: impl Into<Box<str>>) -> Self {
        Self::before_response(BeforeResponse::Overflow, why)
    }

    /// The backend ended the connection, or the stream, before it answered.
    pub(crate) fn reset(why: String) -> Self {
        Self::before_response(BeforeResponse::ConnectionTermination, why)
    }

    /// The backend answered with what is no HTTP.
    pub(crate) fn garbled(why: String) -> Self {
        Self::before_response(BeforeResponse::ProtocolError, why)
    }

    fn before_response(what: BeforeResponse, why: impl Into<Box<str>>) -> Self {
        let (status, flag, details, text) = what.told();
        Self::new(status, details).flagged(flag).saying(text).because(why)
    }

    /// The backend did not answer in time.
    pub(crate) fn timed_out(details: &'static str) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, details)
            .flagged(ResponseFlag::UpstreamRequestTimeout)
            .saying("upstream request timeout")
    }

    /// Its tokens are not believed.
    pub(crate) fn unauthenticated(error: TokenError) -> Self {
        let mut headers = HeaderMap::new();
        let challenge = HeaderValue::from_static(TokenError::CHALLENGE);
        headers.insert(header::WWW_AUTHENTICATE, challenge);
        let reply = Self::new(error.status(), error.details()).saying(error.text());
        Self { headers: Some(Box::new(headers)), ..reply }
    }

    /// Policies do not let it pass.
    pub(crate) fn denied(denied: &Denied<'_>) -> Self {
        Self::new(StatusCode::FORBIDDEN, denied.details()).saying(Denied::BODY)
    }

    /// An external authorizer has refused it; `by`: the policy that had it asked.
    pub(crate) fn denied_outside(denial: Denial, by: &str) -> Self {
        let mut headers = HeaderMap::new();
        denial.headers.apply(&mut headers);
        if !denial.body.is_empty() {
            let plain = HeaderValue::from_static("text/plain");
            headers.entry(header::CONTENT_TYPE).or_insert(plain);
        }
        let reply = Self::new(denial.status, format!("ext_authz_denied{{{by}}}"))
            .flagged(ResponseFlag::UnauthorizedExternalService);
        Self { headers: Some(Box::new(headers)), body: Some(denial.body.into()), ..reply }
    }

    /// An external authorizer had to be asked, and has not answered.
    pub(crate) fn unanswered_outside(status: StatusCode, by: &str, why: String) -> Self {
        Self::new(status, format!("ext_authz_error{{{by}}}"))
            .flagged(ResponseFlag::UnauthorizedExternalService)
            .because(why)
    }

    /// A body that an external authorizer is to have does not come.
    pub(crate) fn no_body(status: StatusCode, details: &'static str) -> Self {
        let reply = Self::new(status, details);
        Self { closes: true, ..reply }
    }

    /// A rate limit service says that there were too many like it.
    pub(crate) fn limited_outside(body: Vec<u8>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("x-envoy-ratelimited", HeaderValue::from_static("true"));
        if !body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        let reply = Self::new(StatusCode::TOO_MANY_REQUESTS, "request_rate_limited")
            .flagged(ResponseFlag::RateLimited);
        Self { headers: Some(Box::new(headers)), body: Some(body.into()), ..reply }
    }

    /// A rate limit service had to be asked, and has not answered.
    pub(crate) fn uncounted(why: String) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "rate_limiter_error")
            .flagged(ResponseFlag::RateLimitServiceError)
            .because(why)
    }

    /// There were too many like it.
    pub(crate) fn limited(retry_after: Duration) -> Self {
        let mut headers = HeaderMap::new();
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        headers.insert("x-envoy-ratelimited", HeaderValue::from_static("true"));
        let reply = Self::new(StatusCode::TOO_MANY_REQUESTS, "local_rate_limited")
            .flagged(ResponseFlag::RateLimited)
            .saying("local_rate_limited");
        Self { headers: Some(Box::new(headers)), ..reply }
    }

    /// A fault policy answers.
    pub(crate) fn injected(abort: Abort) -> Self {
        let reply = Self::new(abort.status, "fault_filter_abort")
            .flagged(ResponseFlag::FaultInjected)
            .saying(Abort::BODY);
        Self { grpc_status: abort.grpc_status, ..reply }
    }

    /// The request as an answer, whose end is its record's.
    pub(crate) fn into_response(
        self,
        mut recorder: Recorder,
        under_way: UnderWay,
    ) -> Response<Download> {
        if let Some(flag) = self.flag {
            recorder.flags.add(flag);
        }
        recorder.details = self.details;
        recorder.upstream_failure = self.failure;
        let mut headers = self.headers.map_or_else(HeaderMap::new, |headers| *headers);
        if self.closes && !recorder.was_http2() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let said = self.body.unwrap_or_else(|| Bytes::from_static(self.text.as_bytes()));
        let (status, text) = if recorder.is_grpc() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            let code = self.grpc_status.map_or_else(|| grpc_status(self.status), u16::from);
            headers.insert("grpc-status", HeaderValue::from(code));
            if !said.is_empty() {
                let begin = &said[..said.len().min(GRPC_MESSAGE_BYTES_MAX)];
                let message = grpc::message(&String::from_utf8_lossy(begin));
                headers.insert("grpc-message", message);
            }
            (StatusCode::OK, Bytes::new())
        } else {
            if !self.text.is_empty() {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            }
            (self.status, said)
        };
        let text = if recorder.is_head() {
            // How long it would be (RFC 9110 §9.3.2).
            headers.entry(header::CONTENT_LENGTH).or_insert_with(|| text.len().into());
            Bytes::new()
        } else {
            text
        };
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        recorder.answer(&mut response);
        response.map(|()| Download::of_ours(text, recorder, under_way))
    }
}

impl From<filter::Reply> for Reply {
    /// A redirect, or an answer to a browser that asks before it asks.
    fn from(reply: filter::Reply) -> Self {
        let headers = Some(Box::new(reply.headers));
        Self { headers, ..Self::new(reply.status, "direct_response") }
    }
}

/// Why a backend gave no answer.
#[derive(Clone, Copy)]
enum BeforeResponse {
    RemoteConnectionFailure,
    TlsFailure,
    Overflow,
    ConnectionTermination,
    ProtocolError,
}

impl BeforeResponse {
    /// In Envoy's words.
    fn told(self) -> (StatusCode, ResponseFlag, &'static str, &'static str) {
        macro_rules! told {
            ($status:ident, $flag:ident, $detail:literal, $reason:literal) => {
                (
                    StatusCode::$status,
                    ResponseFlag::$flag,
                    concat!("upstream_reset_before_response_started{", $detail, "}"),
                    concat!(
                        "upstream connect error or disconnect/reset before headers. reset reason: ",
                        $reason
                    ),
                )
            };
        }
        match self {
            Self::RemoteConnectionFailure => told!(
                SERVICE_UNAVAILABLE,
                UpstreamConnectionFailure,
                "remote_connection_failure",
                "remote connection failure"
            ),
            Self::TlsFailure => told!(
                SERVICE_UNAVAILABLE,
                UpstreamConnectionFailure,
                "remote_connection_failure|TLS_error",
                "remote connection failure, transport failure reason: TLS_error"
            ),
            Self::Overflow => {
                told!(SERVICE_UNAVAILABLE, UpstreamOverflow, "overflow", "overflow")
            }
            Self::ConnectionTermination => told!(
                SERVICE_UNAVAILABLE,
                UpstreamConnectionTermination,
                "connection_termination",
                "connection termination"
            ),
            Self::ProtocolError => {
                told!(BAD_GATEWAY, UpstreamProtocolError, "protocol_error", "protocol error")
            }
        }
    }
}

/// As gRPC's page on HTTP maps them, and Envoy does.
fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 => 14,
        504 => 4,
        500 => 13,
        _ => 2,
    }
}
