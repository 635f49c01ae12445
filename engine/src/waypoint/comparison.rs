//! What the copies of one request were answered, beside the answer that its client got.
//!
//! ```text
//!  begin ─▶ original() ─┬─▶ one record for each copy
//!       └─▶ copied()  ──┘    whichever comes later
//! ```

use std::{cell::RefCell, rc::Rc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, header, request::Parts};
use ringway_http::tables::RouteRule;

use super::plan::{Destination, Plan, route_name};
use crate::{
    limits::MIRROR_PATH_BYTES_MAX,
    shard::Shard,
    telemetry::http::{Answer, Digest, MirrorOutcome, MirrorRecord},
};

/// See the module's text.
pub(crate) struct Comparison {
    shard: Rc<Shard>,
    route: Box<str>,
    method: Method,
    path: Box<str>,
    state: RefCell<State>,
}

/// What has come so far.
enum State {
    /// Copies that were answered sooner: as many as the rule has mirrors.
    Waiting(Vec<(Box<str>, Answer)>),
    /// None: it has no end.
    Known(Option<Answer>),
}

impl Comparison {
    pub(crate) fn begin(shard: &Rc<Shard>, rule: Option<&RouteRule>, parts: &Parts) -> Rc<Self> {
        Rc::new(Self {
            shard: shard.clone(),
            route: rule.map(route_name).unwrap_or_default(),
            method: parts.method.clone(),
            path: beginning(parts.uri.path()).into(),
            state: RefCell::new(State::Waiting(Vec::new())),
        })
    }

    /// The client's answer has ended; none: it never will.
    pub(crate) fn original(&self, answer: Option<Answer>) {
        let known = State::Known(answer.clone());
        if let State::Waiting(copies) = self.state.replace(known) {
            for (mirror, copy) in copies {
                self.record(mirror, Self::compared(answer.as_ref(), copy));
            }
        }
    }

    /// What became of the copy for `mirror`; no answer: there was none.
    pub(crate) fn copied(&self, mirror: &Plan, answer: Option<Answer>) {
        let mirror = name_of(mirror);
        let Some(copy) = answer else { return self.record(mirror, MirrorOutcome::Unanswered) };
        let outcome = match &mut *self.state.borrow_mut() {
            State::Waiting(copies) => return copies.push((mirror, copy)),
            State::Known(original) => Self::compared(original.as_ref(), copy),
        };
        self.record(mirror, outcome);
    }

    /// The copy for `mirror` was not sent.
    pub(crate) fn skipped(&self, mirror: &Plan) {
        self.record(name_of(mirror), MirrorOutcome::Skipped);
    }

    fn compared(original: Option<&Answer>, copy: Answer) -> MirrorOutcome {
        match original.cloned() {
            Some(original) => MirrorOutcome::Compared { original, copy },
            None => MirrorOutcome::Incomplete,
        }
    }

    fn record(&self, mirror: Box<str>, outcome: MirrorOutcome) {
        self.shard.telemetry.http().mirrored(MirrorRecord {
            route: self.route.clone(),
            mirror,
            method: self.method.clone(),
            path: self.path.clone(),
            outcome,
        });
    }
}

/// An answer that is looked at while it passes.
pub(crate) struct Looking {
    status: u16,
    grpc_status: Option<u8>,
    content_type: Option<HeaderValue>,
    bytes: u64,
    digest: Digest,
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

impl Looking {
    /// Its head is here.
    pub(crate) fn at<B>(response: &Response<B>) -> Self {
        let mut looking = Self {
            status: response.status().as_u16(),
            grpc_status: None,
            content_type: response.headers().get(header::CONTENT_TYPE).cloned(),
            bytes: 0,
            digest: Digest::default(),
        };
        looking.trailers(response.headers());
        looking
    }

    pub(crate) fn passes(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        self.digest.add(data);
    }

    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        let status = trailers.get(GRPC_STATUS).and_then(|status| status.to_str().ok());
        self.grpc_status = status.and_then(|status| status.parse().ok()).or(self.grpc_status);
    }

    /// Its end was there. `time`: how long its head took.
    pub(crate) fn ended(self, time: Duration) -> Answer {
        Answer {
            status: self.status,
            grpc_status: self.grpc_status,
            content_type: self
                .content_type
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into()),
            bytes: self.bytes,
            time,
            digest: self.digest.value(),
        }
    }
}

fn name_of(mirror: &Plan) -> Box<str> {
    match &mirror.destination {
        Destination::Service(service, port) => format!("{}:{port}", service.hostname()).into(),
        Destination::Workload(_, address) => address.to_string().into(),
    }
}

/// Of a path that may be long.
fn beginning(path: &str) -> &str {
    let most = path.len().min(MIRROR_PATH_BYTES_MAX);
    let end = (0..=most).rev().find(|at| path.is_char_boundary(*at));
    &path[..end.unwrap_or(0)]
}
