//! The body of a request on its way to a backend: streamed, and kept as far as it may be sent once more.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use ringway_http::head::hops::strip_trailers;

use super::{BoxError, messages::Messages};
use crate::{
    limits::{REPLAY_BYTES_MAX, REPLAY_BYTES_PER_SHARD_MAX},
    runtime,
};

/// A request's body, for all its tries.
pub(crate) struct Upload {
    state: RefCell<State>,
    hint: SizeHint,
    /// What all requests of the pod have kept.
    budget: Rc<Cell<usize>>,
    bytes: Cell<u64>,
    ended: Cell<Option<Instant>>,
    messages: RefCell<Option<Messages>>,
}

struct State {
    source: Incoming,
    kept: Vec<Piece>,
    kept_bytes: usize,
    /// Everything that has come is kept.
    replayable: bool,
    ended: bool,
    failed: bool,
}

#[derive(Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Upload {
    pub(crate) fn new(source: Incoming, budget: &Rc<Cell<usize>>, is_grpc: bool) -> Rc<Self> {
        let (hint, ended) = (source.size_hint(), source.is_end_stream());
        Rc::new(Self {
            state: RefCell::new(State {
                source,
                kept: Vec::new(),
                kept_bytes: 0,
                replayable: true,
                ended,
                failed: false,
            }),
            hint,
            budget: budget.clone(),
            bytes: Cell::new(0),
            ended: Cell::new(ended.then(runtime::now)),
            messages: RefCell::new(is_grpc.then(Messages::default)),
        })
    }

    /// The body for one more try. The one before must be gone.
    pub(crate) fn attempt(self: &Rc<Self>) -> Attempt {
        Attempt { upload: self.clone(), next: 0, sent: 0 }
    }

    /// Whether another try would send the same.
    pub(crate) fn can_replay(&self) -> bool {
        let state = self.state.borrow();
        state.replayable && !state.failed
    }

    /// There will be no further try: what is kept goes once it is sent.
    pub(crate) fn stop_keeping(&self) {
        self.state.borrow_mut().replayable = false;
    }

    /// Whether the client has failed to send all of it.
    pub(crate) fn has_failed(&self) -> bool {
        self.state.borrow().failed
    }

    /// When its last byte came.
    pub(crate) fn ended_at(&self) -> Option<Instant> {
        self.ended.get()
    }

    /// Bytes that have come.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// gRPC messages that have come.
    pub(crate) fn messages(&self) -> u64 {
        self.messages.borrow().as_ref().map_or(0, Messages::count)
    }

    fn poll_next(
        &self,
        cx: &mut Context<'_>,
        next: &mut usize,
    ) -> Poll<Option<Result<Piece, BoxError>>> {
        let mut state = self.state.borrow_mut();
        if let Some(piece) = state.kept.get(*next) {
            *next += 1;
            return Poll::Ready(Some(Ok(piece.clone())));
        }
        if !state.replayable && !state.kept.is_empty() {
            self.let_go(&mut state);
            *next = 0;
        }
        if state.ended {
            return Poll::Ready(None);
        }
        let frame = match ready!(Pin::new(&mut state.source).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                (state.failed, state.ended) = (true, true);
                return Poll::Ready(Some(Err(error.into())));
            }
            None => {
                state.ended = true;
                self.ended.set(Some(runtime::now()));
                return Poll::Ready(None);
            }
        };
        let piece = match frame.into_data() {
            Ok(data) => Piece::Data(data),
            Err(frame) => {
                let mut trailers = frame.into_trailers().unwrap_or_default();
                strip_trailers(&mut trailers);
                Piece::Trailers(trailers)
            }
        };
        self.count(&piece);
        if state.source.is_end_stream() {
            state.ended = true;
            self.ended.set(Some(runtime::now()));
        }
        self.keep(&mut state, &piece, next);
        Poll::Ready(Some(Ok(piece)))
    }

    fn count(&self, piece: &Piece) {
        if let Piece::Data(data) = piece {
            self.bytes.set(self.bytes.get() + data.len() as u64);
            if let Some(messages) = &mut *self.messages.borrow_mut() {
                messages.pass(data);
            }
        }
    }

    fn keep(&self, state: &mut State, piece: &Piece, next: &mut usize) {
        if !state.replayable {
            return;
        }
        let bytes = match piece {
            Piece::Data(data) => data.len(),
            Piece::Trailers(_) => 0,
        };
        let fits = state.kept_bytes + bytes <= REPLAY_BYTES_MAX
            && self.budget.get() + bytes <= REPLAY_BYTES_PER_SHARD_MAX;
        if fits {
            state.kept.push(piece.clone());
            state.kept_bytes += bytes;
            self.budget.set(self.budget.get() + bytes);
            *next += 1;
        } else {
            state.replayable = false;
            self.let_go(state);
            *next = 0;
        }
    }

    fn let_go(&self, state: &mut State) {
        state.kept = Vec::new();
        self.budget.set(self.budget.get() - std::mem::take(&mut state.kept_bytes));
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let kept = self.state.get_mut().kept_bytes;
        self.budget.set(self.budget.get() - kept);
    }
}

/// A request's body, for one try.
pub(crate) struct Attempt {
    upload: Rc<Upload>,
    next: usize,
    sent: u64,
}

impl Body for Attempt {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let piece = ready!(this.upload.poll_next(cx, &mut this.next));
        Poll::Ready(piece.map(|piece| {
            piece.map(|piece| match piece {
                Piece::Data(data) => {
                    this.sent += data.len() as u64;
                    Frame::data(data)
                }
                Piece::Trailers(trailers) => Frame::trailers(trailers),
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        let state = self.upload.state.borrow();
        state.ended && !state.failed && self.next >= state.kept.len()
    }

    fn size_hint(&self) -> SizeHint {
        match self.upload.hint.exact() {
            Some(whole) => SizeHint::with_exact(whole.saturating_sub(self.sent)),
            None => SizeHint::default(),
        }
    }
}
