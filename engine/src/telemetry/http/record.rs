//! The record of one request, written when its answer has ended.

use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ringway_http::trace::Span;

use super::{RequestProtocol, ResponseFlags};
use crate::{snapshot::Service, telemetry::RecordParty};

/// Everything that is told about one request.
#[derive(Debug)]
pub struct RequestRecord {
    /// When its head was there.
    pub started_at: SystemTime,
    /// From then to the last byte of the answer.
    pub duration: Duration,
    /// From then to the last byte of the request.
    pub request_duration: Option<Duration>,
    /// From then to the first byte of the backend's answer.
    pub response_duration: Option<Duration>,
    /// From the last byte sent to the backend to the first of its answer: `x-envoy-upstream-service-time`.
    pub upstream_service_time: Option<Duration>,

    /// The method.
    pub method: http::Method,
    /// Path and query, as they were passed on.
    pub path: Box<str>,
    /// Path and query as they came, where a rule rewrote them.
    pub original_path: Option<Box<str>>,
    /// The host that was asked, with its port if it had one.
    pub authority: Option<Box<str>>,
    /// What the client spoke: `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// `user-agent`
    pub user_agent: Option<Box<str>>,
    /// `x-request-id`
    pub request_id: Option<Box<str>>,
    /// `x-forwarded-for`
    pub forwarded_for: Option<Box<str>>,

    /// The status; 0 when the client had none.
    pub code: u16,
    /// What went wrong.
    pub flags: ResponseFlags,
    /// Why the answer is what it is: `via_upstream`, or what was decided here.
    pub details: Cow<'static, str>,
    /// How the client's connection ended, when it did in the middle.
    pub connection_termination: Option<Box<str>>,
    /// Why no connection to the backend could be had.
    pub upstream_failure: Option<Box<str>>,

    /// Of the body that came from the client.
    pub received_bytes: u64,
    /// Of the body that went to the client.
    pub sent_bytes: u64,
    /// Of the head that came from the client, as HTTP/1.1 would write it.
    pub request_head_bytes: u64,
    /// Of the head that went to the client, as HTTP/1.1 would write it.
    pub response_head_bytes: u64,

    /// The backend it was sent to, or last tried to be.
    pub upstream: Option<UpstreamRecord>,
    /// How often it was sent, beside the first time.
    pub retries: u32,
    /// What the client's connection was for.
    pub downstream_local: SocketAddr,
    /// Who sent it.
    pub source: RecordParty,
    /// The endpoint that was chosen.
    pub destination: Option<RecordParty>,
    /// The service that the client meant.
    pub service: Option<Arc<Service>>,
    /// The server name of the client's TLS, at a gateway.
    pub server_name: Option<Box<str>>,
    /// The route, and the rule of it.
    pub route: Option<Box<str>>,
    /// Whether the client proved who it is.
    pub mutual_tls: bool,

    /// HTTP, or gRPC in it.
    pub request_protocol: RequestProtocol,
    /// `grpc-status`
    pub grpc_status: Option<u8>,
    /// Messages in the body that came from the client: gRPC only.
    pub request_messages: u64,
    /// Messages in the body that went to the client: gRPC only.
    pub response_messages: u64,

    /// The trace that it belongs to.
    pub trace: Option<TraceContext>,
    /// The trace of the tunnel's stream that it came in: the id that joins the lines of the nodes. A gateway begins one.
    pub tunnel_trace_id: Option<[u8; 16]>,
}

/// Where a request was sent.
#[derive(Clone, Debug)]
pub struct UpstreamRecord {
    /// The endpoint's own address, inside the tunnel if there is one.
    pub host: SocketAddr,
    /// As Envoy names it: `outbound|80||reviews.default.svc.cluster.local`.
    pub cluster: Box<str>,
    /// Where we sent it from.
    pub local: Option<SocketAddr>,
    /// The trace of the tunnel's stream that it was sent in: of the connection whose request had it opened.
    pub tunnel_trace_id: Option<[u8; 16]>,
}

/// A place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: [u8; 16],
    /// Our own span in it.
    pub span_id: [u8; 8],
    /// The span that ours is part of.
    pub parent_id: Option<[u8; 8]>,
    /// Whether it is to be exported.
    pub sampled: bool,
}

impl From<Span> for TraceContext {
    fn from(span: Span) -> Self {
        let Span { trace_id, span_id, parent_id, sampled } = span;
        Self { trace_id, span_id, parent_id, sampled }
    }
}
