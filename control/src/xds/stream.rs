//! One stream with a control plane: calls, reads and answers until it ends.
//!
//! What arrives is applied a slice at a time, and whoever else lives on the thread has a turn in between.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Status};

use super::Update;
use super::counts::Counts;
use super::demand::Refused;
use super::end::End;
use super::reader::{Piece, Reader};
use super::request::{self, FirstRequest};
use super::session::{Finished, Session};
use super::state::Kind;
use super::unnamed::SETTLING;
use crate::grpc::{self, Channel};

const METHOD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// Bytes of responses that are applied before others have a turn: some fifty workloads, a fraction of a millisecond.
const SLICE_BYTES: usize = 16 << 10;

/// Names that are written into a first request before others have a turn.
const SLICE_NAMES: usize = 1000;

/// Requests that the control plane has not read yet. It reads one for each response it sends, so more than a few mean that
/// it reads none.
const REQUESTS_MAX: usize = 256;

/// From this many changes on, what they replaced is dropped on another thread: it takes milliseconds.
const DROPPED_HERE_MAX: usize = 1024;

/// Somebody who waits for a resource.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) name: String,
    pub(super) answer: oneshot::Sender<Result<u64, Refused>>,
}

/// What outlives a stream.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) session: Session,
    pub(super) updates: watch::Sender<Update>,
    pub(super) counts: Arc<Counts>,
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) waiting: HashMap<String, Vec<oneshot::Sender<Result<u64, Refused>>>>,
}

/// The stream's own part.
struct Stream {
    requests: mpsc::Sender<Bytes>,
    reader: Reader,
    responses: Incoming,
    /// When what was not told again is taken for gone.
    settled: Option<Instant>,
}

impl Client {
    /// Holds one stream until it ends.
    pub(super) async fn converse(&mut self, channel: Channel) -> End {
        let end = match self.open(channel).await {
            Ok(mut stream) => self.read(&mut stream).await,
            Err(end) => end,
        };
        if let Some(state) = self.session.lost() {
            drop_elsewhere(state);
        }
        end
    }

    async fn open(&mut self, mut channel: Channel) -> Result<Stream, End> {
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        for (kind, first) in self.session.kinds().into_iter().zip(self.session.open()) {
            self.introduce(kind, first, &requests).await?;
        }
        let frames =
            ReceiverStream::new(queue).map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
        let call = call(Body::new(StreamBody::new(frames)));
        // No deadline: a control plane may take its time to learn about the world before it answers, and HTTP/2 asks it
        // whether it is there.
        let response = channel.call(call).await.map_err(End::NotEstablished)?;
        let responses = accept(response)?;
        Ok(Stream { requests, reader: Reader::default(), responses, settled: None })
    }

    /// Says what we want and have of a type, in as many requests as that takes.
    async fn introduce(
        &mut self,
        kind: Kind,
        first: FirstRequest,
        requests: &mpsc::Sender<Bytes>,
    ) -> Result<(), End> {
        let mut next = Some(first);
        while let Some(mut request) = next {
            while !request.write(SLICE_NAMES) {
                tokio::task::yield_now().await;
            }
            let written = request.finish();
            next = self.session.go_on(kind, &written);
            let sent = requests.try_send(Bytes::from(written.bytes));
            sent.map_err(|_| End::Misbehaved("what we know is more than can be said".to_owned()))?;
        }
        Ok(())
    }

    async fn read(&mut self, stream: &mut Stream) -> End {
        loop {
            // No deadline either: a control plane with nothing to say says nothing.
            let frame = tokio::select! {
                frame = stream.responses.frame() => frame,
                () = at(stream.settled), if !self.session.is_hearing() => {
                    stream.settled = None;
                    self.sweep().await;
                    continue;
                }
                Some(ask) = self.asks.recv() => {
                    match self.ask(ask, stream) {
                        Ok(()) => continue,
                        Err(end) => return end,
                    }
                }
            };
            let frame = match frame {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return End::Lost(grpc::lost(&error)),
                None => return End::Lost("the stream ended without a status".to_owned()),
            };
            match frame.into_data() {
                Ok(bytes) => {
                    if let Err(end) = self.take(&bytes, stream).await {
                        return end;
                    }
                }
                Err(trailers) => return closed(trailers.trailers_ref()),
            }
        }
    }

    async fn take(&mut self, bytes: &[u8], stream: &mut Stream) -> Result<(), End> {
        for slice in bytes.chunks(SLICE_BYTES) {
            stream.reader.feed(slice);
            let mut taken = 0;
            loop {
                let piece = stream.reader.next();
                let Some(piece) = piece.map_err(|error| End::Misbehaved(error.to_string()))? else {
                    break;
                };
                taken += cost(&piece);
                if let Some(finished) = self.session.handle(piece) {
                    if finished.is_settling {
                        stream.settled = Some(Instant::now() + SETTLING);
                    }
                    self.finished(finished, stream)?;
                } else if let Some(before) = self.session.put_part() {
                    drop((self.publish(), before));
                    // Whoever holds what was before goes on before there is more of it.
                    taken = SLICE_BYTES;
                }
                if taken >= SLICE_BYTES {
                    taken = 0;
                    tokio::task::yield_now().await;
                }
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Publishes what has come of a response, and answers it.
    fn finished(&mut self, mut finished: Finished, stream: &Stream) -> Result<(), End> {
        self.counts.finished(&finished);
        tell(&finished, &self.session);
        let changes = finished.resources + finished.removed;
        let published = self.publish();
        match changes {
            0..=DROPPED_HERE_MAX => drop((published, finished.before.take())),
            _ => drop_elsewhere((published, finished.before.take())),
        }
        // Only now: whoever waited finds what was waited for.
        for name in &finished.answered {
            for waiting in self.waiting.remove(name).unwrap_or_default() {
                let _gone = waiting.send(Ok(self.session.revision()));
            }
        }
        send(&request::frame(&finished.request), stream)
    }

    /// Removes what the control plane has not told again.
    async fn sweep(&mut self) {
        while let Some(mut sweep) = self.session.sweep() {
            while !sweep.step(SLICE_NAMES) {
                tokio::task::yield_now().await;
            }
            let (type_url, gone) = (sweep.kind.type_url(), sweep.gone);
            tracing::debug!(type_url, gone, "what was not told again is gone");
            if let Some(before) = self.session.swept(sweep) {
                drop_elsewhere((self.publish(), before));
            }
        }
    }

    fn publish(&self) -> Update {
        self.updates.send_replace(Update::of(&self.session))
    }

    /// Asks for a resource, unless that is under way.
    fn ask(&mut self, ask: Ask, stream: &Stream) -> Result<(), End> {
        match self.enlist(ask) {
            Some(request) => send(&request::frame(&request), stream),
            None => Ok(()),
        }
    }

    /// Remembers who waits; says what is to be sent, if anything.
    pub(super) fn enlist(
        &mut self,
        ask: Ask,
    ) -> Option<crate::proto::discovery::DeltaDiscoveryRequest> {
        let mut asked = self.session.demand(&ask.name);
        if asked == Err(Refused::TooMany) {
            self.forget_abandoned();
            asked = self.session.demand(&ask.name);
        }
        match asked {
            Ok(request) => {
                let waiting = self.waiting.entry(ask.name).or_default();
                waiting.retain(|waiting| !waiting.is_closed());
                waiting.push(ask.answer);
                request
            }
            Err(refused) => {
                let _gone = ask.answer.send(Err(refused));
                None
            }
        }
    }

    fn forget_abandoned(&mut self) {
        let session = &mut self.session;
        self.waiting.retain(|name, waiting| {
            waiting.retain(|waiting| !waiting.is_closed());
            if waiting.is_empty() {
                session.forget_demand(name);
            }
            !waiting.is_empty()
        });
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

fn send(request: &[u8], stream: &Stream) -> Result<(), End> {
    let sent = stream.requests.try_send(Bytes::copy_from_slice(request));
    sent.map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => {
            End::Misbehaved("the control plane does not read what it is answered".to_owned())
        }
        mpsc::error::TrySendError::Closed(_) => {
            End::Lost("the control plane takes no more answers".to_owned())
        }
    })
}

fn call(body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = hyper::Uri::from_static(METHOD);
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request
}

/// A call that fails at once has its status among the headers.
fn accept(response: Response<Incoming>) -> Result<Incoming, End> {
    if let Some(status) = Status::from_header_map(response.headers()) {
        return Err(match status.code() {
            Code::Ok => End::Complete,
            _ => End::NotEstablished(status),
        });
    }
    match response.status() {
        StatusCode::OK => Ok(response.into_body()),
        other => {
            let why = format!("the server answers {other}: is it a control plane?");
            Err(End::NotEstablished(Status::unknown(why)))
        }
    }
}

fn closed(trailers: Option<&HeaderMap>) -> End {
    match trailers.and_then(Status::from_header_map) {
        Some(status) if status.code() == Code::Ok => End::Complete,
        Some(status) => End::Status(status),
        None => End::Lost("the stream ended without a status".to_owned()),
    }
}

/// How much work a piece is, in bytes.
fn cost(piece: &Piece<'_>) -> usize {
    const SMALL: usize = 256;
    match piece {
        Piece::Resource(bytes) => bytes.len().max(SMALL),
        _ => SMALL,
    }
}

fn tell(finished: &Finished, session: &Session) {
    let type_url = finished.request.type_url.as_str();
    let (resources, removed) = (finished.resources, finished.removed);
    let Some(kind) = finished.kind else {
        tracing::error!(type_url, resources, "the control plane tells what was not asked for");
        return;
    };
    let known = session.told(kind);
    tracing::debug!(type_url, resources, removed, known, "response applied");
    for (name, reason) in finished.refused.iter().take(REFUSED_LOGGED_MAX) {
        tracing::warn!(type_url, name, reason, "resource refused; the last good one stays");
    }
    #[cfg(feature = "waypoint")]
    for (name, what) in finished.refused.warnings().take(REFUSED_LOGGED_MAX) {
        tracing::warn!(type_url, name, what, "not all of a resource applies");
    }
    let more = finished.refused.count().saturating_sub(REFUSED_LOGGED_MAX);
    if more > 0 {
        tracing::warn!(type_url, more, "and more resources refused");
    }
}

/// Refused resources of one response that are logged one by one.
const REFUSED_LOGGED_MAX: usize = 10;

/// Where that takes too long to do it here.
fn drop_elsewhere<T: Send + 'static>(garbage: T) {
    tokio::task::spawn_blocking(move || drop(garbage));
}
