//! One collector: its connection, and what it says to a batch.

use std::fmt;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use prost::Message as _;
use tonic::Code;

use super::options::{Protocol, TraceOptions};
use super::span::{Origin, resource};
use crate::grpc::{self, Channel, Endpoint, Roots};
use crate::proto::trace::trace_service_client::TraceServiceClient;
use crate::proto::trace::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, InstrumentationScope, Resource,
    ResourceSpans, ScopeSpans, Span,
};

/// An answer is a few bytes; of a page of text the beginning says enough.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// See the module's text.
pub(super) struct Collector {
    options: TraceOptions,
    endpoint: Endpoint,
    resource: Resource,
    scope: InstrumentationScope,
    connection: Connection,
}

enum Connection {
    None,
    Grpc(Channel),
    Http(SendRequest<Full<Bytes>>),
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was taken, but for so many.
    Taken { refused: u64, why: String },
    /// The collector understood, and will not.
    Refused(String),
    /// Nobody knows: it may be there again later.
    Failed(String),
}

impl Collector {
    pub(super) fn new(options: TraceOptions, origin: &Origin) -> Self {
        let mut given = options.resource.clone();
        if let Some(name) = &options.service_name {
            given.retain(|(key, _)| key != "service.name");
            given.push(("service.name".to_owned(), name.clone()));
        }
        let endpoint = Endpoint {
            uri: options.endpoint.clone(),
            roots: Roots::System,
            alternative_hostname: None,
            token: None,
            cluster_id: String::new(),
            headers: options.headers.clone(),
            post_quantum_only: false,
        };
        Self {
            endpoint,
            resource: Resource { attributes: resource(origin, &given) },
            scope: InstrumentationScope {
                name: "ringway".to_owned(),
                version: origin.version.clone(),
            },
            options,
            connection: Connection::None,
        }
    }

    /// Sends a batch, over a new connection where there is none.
    pub(super) async fn export(&mut self, spans: Vec<Span>) -> Outcome {
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans { scope: Some(self.scope.clone()), spans }],
            }],
        };
        let outcome = match self.options.protocol {
            Protocol::Grpc => self.export_by_grpc(request).await,
            Protocol::Http => self.export_by_http(&request).await,
        };
        if matches!(outcome, Outcome::Failed(_)) {
            self.connection = Connection::None;
        }
        outcome
    }

    async fn export_by_grpc(&mut self, request: ExportTraceServiceRequest) -> Outcome {
        let channel = match std::mem::replace(&mut self.connection, Connection::None) {
            Connection::Grpc(channel) if !channel.is_closed() => channel,
            _ => match grpc::connect(&self.endpoint).await {
                Ok(channel) => channel,
                Err(error) => return Outcome::Failed(error.to_string()),
            },
        };
        self.connection = Connection::Grpc(channel.clone());
        let mut client =
            TraceServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        match client.export(request).await {
            Ok(answer) => taken(answer.into_inner()),
            Err(status) => {
                let why = format!("{}: {}", status.code(), status.message());
                match status.code() {
                    // Those that the protocol lets a client try again; anything else says the same next time.
                    Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Aborted
                    | Code::OutOfRange
                    | Code::Unavailable
                    | Code::DataLoss
                    | Code::ResourceExhausted
                    | Code::Unknown => Outcome::Failed(why),
                    _ => Outcome::Refused(why),
                }
            }
        }
    }

    async fn export_by_http(&mut self, request: &ExportTraceServiceRequest) -> Outcome {
        let mut sender = match std::mem::replace(&mut self.connection, Connection::None) {
            Connection::Http(sender) if !sender.is_closed() => sender,
            _ => match grpc::connect_http1(&self.endpoint).await {
                Ok(sender) => sender,
                Err(error) => return Outcome::Failed(error.to_string()),
            },
        };
        if let Err(error) = sender.ready().await {
            return Outcome::Failed(error.to_string());
        }
        let mut sent = Request::builder()
            .method(Method::POST)
            .uri(self.options.path.as_str())
            .header(HOST, self.endpoint.uri.authority())
            .header(CONTENT_TYPE, "application/x-protobuf");
        for (name, value) in &self.options.headers {
            sent = sent.header(name, value);
        }
        let sent = match sent.body(Full::new(Bytes::from(request.encode_to_vec()))) {
            Ok(sent) => sent,
            Err(error) => return Outcome::Refused(error.to_string()),
        };
        let answer = match sender.send_request(sent).await {
            Ok(answer) => answer,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        let (head, body) = answer.into_parts();
        let body = match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        self.connection = Connection::Http(sender);
        match head.status {
            status if status.is_success() => {
                taken(ExportTraceServiceResponse::decode(body).unwrap_or_default())
            }
            status @ (StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT) => Outcome::Failed(status.to_string()),
            status => Outcome::Refused(status.to_string()),
        }
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.options.protocol {
            Protocol::Grpc => write!(f, "{}", self.options.endpoint),
            Protocol::Http => write!(f, "{}{}", self.options.endpoint, self.options.path),
        }
    }
}

fn taken(answer: ExportTraceServiceResponse) -> Outcome {
    let partial = answer.partial_success.unwrap_or_default();
    let refused = u64::try_from(partial.rejected_spans).unwrap_or_default();
    Outcome::Taken { refused, why: partial.error_message }
}
