//! Answers that are given here, in the status, words and letters that people know from Envoy; for gRPC in gRPC's way.

use std::{borrow::Cow, time::Duration};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use ringway_http::{authorize::Denied, fault::Abort, filter, token::TokenError};

use super::{download::Download, record::Recorder, serve::UnderWay};
use crate::{close::CloseReason, decide::Refusal, telemetry::http::ResponseFlag};

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) flag: Option<ResponseFlag>,
    pub(crate) details: Cow<'static, str>,
    pub(crate) text: &'static str,
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
        let overflow = matches!(reason, CloseReason::LimitReached(_));
        let reply = if overflow {
            Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "upstream_reset_before_response_started{overflow}",
            )
            .flagged(ResponseFlag::UpstreamOverflow)
            .saying(
                "upstream connect error or disconnect/reset before headers. reset reason: overflow",
            )
        } else {
            Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "upstream_reset_before_response_started{remote_connection_failure}",
            )
            .flagged(ResponseFlag::UpstreamConnectionFailure)
            .saying(
                "upstream connect error or disconnect/reset before headers. reset reason: \
                 remote connection failure",
            )
        };
        Self { failure: Some(reason.to_string().into()), ..reply }
    }

    /// The backend ended the connection, or the stream, before it answered.
    pub(crate) fn reset(why: String) -> Self {
        let reply = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "upstream_reset_before_response_started{connection_termination}",
        )
        .flagged(ResponseFlag::UpstreamConnectionTermination)
        .saying(
            "upstream connect error or disconnect/reset before headers. reset reason: connection \
             termination",
        );
        Self { failure: Some(why.into()), ..reply }
    }

    /// The backend answered with what is no HTTP.
    pub(crate) fn garbled(why: String) -> Self {
        let reply = Self::new(
            StatusCode::BAD_GATEWAY,
            "upstream_reset_before_response_started{protocol_error}",
        )
        .flagged(ResponseFlag::UpstreamProtocolError)
        .saying(
            "upstream connect error or disconnect/reset before headers. reset reason: protocol \
             error",
        );
        Self { failure: Some(why.into()), ..reply }
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

    /// An external authorizer is to be asked, and is not reached.
    pub(crate) fn unasked(provider: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "ext_authz_error")
            .flagged(ResponseFlag::UnauthorizedExternalService)
            .because(format!("the external authorizer {provider} cannot be asked"))
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
        let (status, text) = if recorder.is_grpc() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            let code = self.grpc_status.map_or_else(|| grpc_status(self.status), u16::from);
            headers.insert("grpc-status", HeaderValue::from(code));
            if !self.text.is_empty() {
                headers.insert("grpc-message", HeaderValue::from_static(self.text));
            }
            (StatusCode::OK, "")
        } else {
            if !self.text.is_empty() {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            }
            (self.status, self.text)
        };
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        recorder.answer(&mut response);
        response.map(|()| Download::of_ours(text.as_bytes(), recorder, under_way))
    }
}

impl From<filter::Reply> for Reply {
    /// A redirect, or an answer to a browser that asks before it asks.
    fn from(reply: filter::Reply) -> Self {
        let headers = Some(Box::new(reply.headers));
        Self { headers, ..Self::new(reply.status, "direct_response") }
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
