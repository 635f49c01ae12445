//! The story of one request, told once: when its answer has ended, or when it is dropped.

use std::{
    borrow::Cow,
    net::SocketAddr,
    ops::{Deref, DerefMut},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version, header,
    request::Parts,
};

use ringway_http::{
    filter::Backward, head::frames::Flood, outside::HeaderChanges, tables::RouteRule,
};

use super::{
    comparison::{Comparison, Looking},
    plan::route_name,
    serve::Downstream,
    upload::Upload,
};
use crate::{
    runtime,
    snapshot::{Service, Workload},
    telemetry::{
        Parties, RecordParty, Reporter, SecurityPolicy,
        http::{
            Measured, Outcome, RequestProtocol, RequestRecord, ResponseFlag, ResponseFlags,
            TraceContext, UpstreamRecord,
        },
    },
};

/// Holds the story until it is told.
pub(crate) struct Recorder(Option<Box<Story>>);

/// What is known of a request.
pub(crate) struct Story {
    downstream: Rc<Downstream>,
    began: Instant,
    method: Method,
    version: Version,
    /// None: no record is wanted.
    head: Option<RecordedHead>,
    request_protocol: RequestProtocol,
    request_head_bytes: u64,
    pub(crate) request_id: Option<HeaderValue>,
    /// As it went, if that is different.
    pub(crate) sent_path: Option<Box<str>>,
    pub(crate) upload: Option<Rc<Upload>>,
    pub(crate) code: u16,
    response_head_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) response_messages: u64,
    grpc_status: Option<u8>,
    pub(crate) flags: ResponseFlags,
    pub(crate) details: Cow<'static, str>,
    pub(crate) upstream_failure: Option<Box<str>>,
    pub(crate) answered: Option<Instant>,
    pub(crate) service: Option<Arc<Service>>,
    pub(crate) upstream: Option<Upstream>,
    pub(crate) retries: u32,
    /// The rule that was met.
    pub(crate) rule: Option<Arc<RouteRule>>,
    pub(crate) trace: Option<TraceContext>,
    /// What the answer tells the client beside what the backend says.
    pub(crate) told: Vec<(HeaderName, HeaderValue)>,
    /// What services outside want to be different in the answer.
    pub(crate) outside: HeaderChanges,
    /// It is a copy of another one, and not told.
    pub(crate) is_copy: bool,
    /// What filters do to the answer.
    pub(crate) backward: Option<Box<Backward>>,
    /// What its copies are answered is compared with its own answer.
    pub(crate) compared: Option<Rc<Comparison>>,
    /// As it is before filters change it.
    looking: Option<Box<Looking>>,
    /// The answer's end was there.
    is_whole: bool,
}

/// Of a request's head as it came, what only its record tells.
struct RecordedHead {
    uri: Uri,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    forwarded_for: Option<HeaderValue>,
}

/// Where a request was sent.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) host: SocketAddr,
    pub(crate) local: Option<SocketAddr>,
    /// What the connection to it is called in its node's log: as that of the request it was opened for.
    pub(crate) trace_id: Option<[u8; 16]>,
    pub(crate) workload: Option<Arc<Workload>>,
    pub(crate) service: Option<Arc<Service>>,
    pub(crate) port: u16,
    pub(crate) mutual_tls: bool,
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

impl Recorder {
    /// A request whose head is here.
    pub(crate) fn begin(downstream: &Rc<Downstream>, request: &Parts) -> Self {
        let headers = &request.headers;
        let is_recording = downstream.shard.telemetry.http().is_recording();
        let target = request.uri.path_and_query().map_or(0, |target| target.as_str().len());
        let line = request.method.as_str().len() + target + "  HTTP/1.1\r\n\r\n".len();
        Self(Some(Box::new(Story {
            downstream: downstream.clone(),
            began: runtime::now(),
            method: request.method.clone(),
            version: request.version,
            head: is_recording.then(|| RecordedHead::of(request)),
            request_protocol: protocol_of(headers),
            request_head_bytes: (line + bytes_of(headers)) as u64,
            request_id: headers.get(&REQUEST_ID).cloned(),
            sent_path: None,
            upload: None,
            code: 0,
            response_head_bytes: 0,
            sent_bytes: 0,
            response_messages: 0,
            grpc_status: None,
            flags: ResponseFlags::default(),
            details: Cow::Borrowed(""),
            upstream_failure: None,
            answered: None,
            service: None,
            upstream: None,
            retries: 0,
            rule: None,
            trace: None,
            told: Vec::new(),
            outside: HeaderChanges::default(),
            is_copy: false,
            backward: None,
            compared: None,
            looking: None,
            is_whole: false,
        })))
    }

    /// As `begin`, without a head that could be told of.
    fn begin_without(downstream: &Rc<Downstream>) -> Self {
        let (parts, ()) = Request::new(()).into_parts();
        Self::begin(downstream, &parts)
    }

    /// A copy of a request, which no client has made: nothing is told of it.
    pub(crate) fn of_copy(downstream: &Rc<Downstream>) -> Self {
        let mut recorder = Self::begin_without(downstream);
        recorder.is_copy = true;
        recorder
    }

    /// A connection that broke HTTP before a request of it could be read.
    pub(crate) fn of_broken(downstream: &Rc<Downstream>, code: u16) -> Self {
        let mut recorder = Self::begin_without(downstream);
        recorder.flags.add(ResponseFlag::DownstreamProtocolError);
        recorder.details = "http1.codec_error".into();
        recorder.code = code;
        recorder
    }

    /// A connection that is cut for what it sends.
    pub(crate) fn of_flood(downstream: &Rc<Downstream>, flood: Flood) -> Self {
        let mut recorder = Self::of_broken(downstream, 0);
        recorder.details = format!("http2.flood{{{flood}}}").into();
        recorder
    }

    /// Whether its answer has no body.
    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    pub(crate) fn is_grpc(&self) -> bool {
        self.request_protocol == RequestProtocol::Grpc
    }

    pub(crate) fn was_http2(&self) -> bool {
        self.version == Version::HTTP_2
    }

    /// The client gets this head, after filters have done to it what is theirs.
    pub(crate) fn answer<B>(&mut self, response: &mut Response<B>) {
        if self.compared.is_some() {
            self.looking = Some(Box::new(Looking::at(response)));
        }
        if let Some(backward) = self.backward.take() {
            backward.apply(response.headers_mut());
        }
        for (name, value) in std::mem::take(&mut self.told) {
            response.headers_mut().append(name, value);
        }
        self.outside.apply(response.headers_mut());
        self.code = response.status().as_u16();
        let line = "HTTP/1.1 200 \r\n\r\n".len();
        self.response_head_bytes = (line + bytes_of(response.headers())) as u64;
        self.trailers(response.headers());
    }

    /// Bytes of the answer's body go to the client.
    pub(crate) fn passes(&mut self, data: &[u8]) {
        self.sent_bytes += data.len() as u64;
        if let Some(looking) = &mut self.looking {
            looking.passes(data);
        }
    }

    /// All of the answer was there.
    pub(crate) fn finish_whole(mut self) {
        self.is_whole = true;
        self.tell();
    }

    /// gRPC tells in the trailers how it went, or in the head when there is nothing else.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(looking) = &mut self.looking {
            looking.trailers(trailers);
        }
        let status = trailers.get(GRPC_STATUS).and_then(|status| status.to_str().ok());
        if let Some(status) = status.and_then(|status| status.parse().ok()) {
            self.grpc_status = Some(status);
        }
    }

    /// The answer has ended.
    pub(crate) fn finish(mut self) {
        self.tell();
    }

    fn tell(&mut self) {
        if let Some(story) = self.0.take().filter(|story| !story.is_copy) {
            story.tell();
        }
    }
}

impl Drop for Recorder {
    /// Nobody has told how it ended: the client is gone.
    fn drop(&mut self) {
        if let Some(story) = &mut self.0 {
            if story.flags.is_empty() {
                story.flags.add(ResponseFlag::DownstreamConnectionTermination);
                story.details = "downstream_remote_disconnect".into();
            }
            self.tell();
        }
    }
}

impl Deref for Recorder {
    type Target = Story;

    fn deref(&self) -> &Story {
        self.0.as_ref().expect("told only at its end")
    }
}

impl DerefMut for Recorder {
    fn deref_mut(&mut self) -> &mut Story {
        self.0.as_mut().expect("told only at its end")
    }
}

impl RecordedHead {
    fn of(request: &Parts) -> Self {
        let header = |name: &HeaderName| request.headers.get(name).cloned();
        Self {
            uri: request.uri.clone(),
            host: header(&header::HOST),
            user_agent: header(&header::USER_AGENT),
            forwarded_for: header(&FORWARDED_FOR),
        }
    }
}

impl Story {
    fn tell(mut self: Box<Self>) {
        let shard = self.downstream.shard.clone();
        let now = runtime::now();
        if let Some(compared) = self.compared.take() {
            let looking = self.looking.take().filter(|_| self.is_whole);
            compared.original(looking.map(|looking| looking.ended(self.service_time(now))));
        }
        let upload = self.upload.as_deref();
        let outcome = Outcome {
            protocol: self.request_protocol,
            code: self.code,
            grpc_status: self.grpc_status.filter(|status| *status <= 16),
            flags: self.flags,
        };
        let measured = Measured {
            duration: now.saturating_duration_since(self.began),
            request_bytes: self.request_head_bytes + upload.map_or(0, Upload::bytes),
            response_bytes: self.response_head_bytes + self.sent_bytes,
            request_messages: upload.map_or(0, Upload::messages),
            response_messages: self.response_messages,
        };
        let downstream = &self.downstream;
        let workload = self.upstream.as_ref().and_then(|upstream| upstream.workload.as_ref());
        let called = (workload, self.service.as_ref());
        let parties = |workload, service| downstream.parties(workload, service);
        shard.requests.find(&downstream.source_memo, called, outcome, parties).ended(&measured);
        if let Some(head) = self.head.take() {
            shard.telemetry.http().record(self.into_record(head, &measured));
        }
    }

    /// From the last byte of the request to the first of its answer.
    fn service_time(&self, now: Instant) -> Duration {
        let upload_ended = self.upload.as_ref().and_then(|upload| upload.ended_at());
        let answered = self.answered.unwrap_or(now);
        answered.saturating_duration_since(upload_ended.unwrap_or(self.began))
    }

    fn into_record(self, head: RecordedHead, measured: &Measured) -> RequestRecord {
        let text = |value: Option<HeaderValue>| {
            value.map(|value| String::from_utf8_lossy(value.as_bytes()).into())
        };
        let came_as: &str = head.uri.path_and_query().map_or("", |target| target.as_str());
        let authority = match head.uri.authority() {
            Some(authority) => Some(authority.as_str().into()),
            None => text(head.host),
        };
        let since_began = |at: Instant| at.saturating_duration_since(self.began);
        let upload_ended = self.upload.as_ref().and_then(|upload| upload.ended_at());
        let downstream = &self.downstream;
        RequestRecord {
            started_at: SystemTime::now() - measured.duration,
            duration: measured.duration,
            request_duration: upload_ended.map(since_began),
            response_duration: self.answered.map(since_began),
            upstream_service_time: self.answered.map(|answered| {
                answered.saturating_duration_since(upload_ended.unwrap_or(self.began))
            }),
            original_path: self.sent_path.is_some().then(|| came_as.into()),
            path: self.sent_path.unwrap_or_else(|| came_as.into()),
            method: self.method,
            authority,
            protocol: match self.version {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2",
                _ => "HTTP/1.1",
            },
            user_agent: text(head.user_agent),
            request_id: text(self.request_id),
            forwarded_for: text(head.forwarded_for),
            code: self.code,
            flags: self.flags,
            details: self.details,
            connection_termination: None,
            upstream_failure: self.upstream_failure,
            received_bytes: self.upload.as_ref().map_or(0, |upload| upload.bytes()),
            sent_bytes: self.sent_bytes,
            request_head_bytes: self.request_head_bytes,
            response_head_bytes: self.response_head_bytes,
            upstream: self.upstream.as_ref().map(Upstream::record),
            retries: self.retries,
            downstream_local: downstream.called,
            source: RecordParty {
                address: downstream.source,
                claims: downstream.baggage.clone().filter(|_| downstream.workload.is_none()),
                workload: downstream.workload.clone(),
                identity: downstream.identity.as_deref().cloned(),
            },
            destination: self.upstream.as_ref().map(Upstream::party),
            service: self.service,
            server_name: downstream.server_name.clone(),
            route: self.rule.as_deref().map(route_name),
            mutual_tls: downstream.identity.is_some(),
            request_protocol: self.request_protocol,
            grpc_status: self.grpc_status,
            request_messages: measured.request_messages,
            response_messages: measured.response_messages,
            trace: self.trace,
            tunnel_trace_id: Some(downstream.trace_id),
        }
    }
}

impl Downstream {
    /// Who speaks to whom, once that is known.
    pub(crate) fn parties(
        &self,
        destination: Option<Arc<Workload>>,
        service: Option<Arc<Service>>,
    ) -> Parties {
        Parties {
            reporter: Reporter::Waypoint,
            security_policy: match self.identity {
                Some(_) => SecurityPolicy::MutualTls,
                None => SecurityPolicy::Unknown,
            },
            source: self.workload.clone(),
            source_identity: self.identity.as_deref().cloned(),
            destination_identity: destination.as_ref().map(|workload| workload.identity().clone()),
            destination,
            service,
            baggage: self.baggage.clone(),
            far_end: None,
        }
    }
}

impl Upstream {
    fn record(&self) -> UpstreamRecord {
        let service = self.service.as_deref().map_or("", Service::hostname);
        let cluster = format!("outbound|{}||{service}", self.port).into();
        UpstreamRecord {
            host: self.host,
            cluster,
            local: self.local,
            tunnel_trace_id: self.trace_id.filter(|_| self.mutual_tls),
        }
    }

    fn party(&self) -> RecordParty {
        let proved = self.workload.as_ref().filter(|_| self.mutual_tls);
        RecordParty {
            address: self.host,
            identity: proved.map(|workload| workload.identity().clone()),
            workload: self.workload.clone(),
            claims: None,
        }
    }
}

/// gRPC says so in its content type.
pub(crate) fn protocol_of(headers: &HeaderMap) -> RequestProtocol {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    match content_type.and_then(|value| value.strip_prefix(b"application/grpc")) {
        Some([] | [b'+' | b';' | b' ', ..]) => RequestProtocol::Grpc,
        _ => RequestProtocol::Http,
    }
}

/// As HTTP/1.1 would write them.
fn bytes_of(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}
