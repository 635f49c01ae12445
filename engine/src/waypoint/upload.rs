//! The body of a request on its way to a backend: streamed, and kept as far as it may be sent once more, or to somebody
//! else.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use ringway_http::head::hops::strip_trailers;

use super::{
    BoxError,
    handoff::{Getter, Giver, handoff},
    incoming::Incoming,
    interim::Gate,
    messages::Messages,
};
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
    copy: RefCell<Option<Copy>>,
}

struct State {
    /// None: all of it is kept.
    source: Option<Incoming>,
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

impl Piece {
    fn bytes(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(_) => 0,
        }
    }
}

/// What a try is told whose client failed before it began.
const FAILED: &str = "the client has not sent all of it";

/// Whether one body may keep so many bytes more; then they are counted.
fn reserve(budget: &Cell<usize>, kept_bytes: &mut usize, bytes: usize) -> bool {
    *kept_bytes + bytes <= REPLAY_BYTES_MAX && reserve_of_all(budget, kept_bytes, bytes)
}

/// The same for a body that is bounded by who asks for it.
fn reserve_of_all(budget: &Cell<usize>, kept_bytes: &mut usize, bytes: usize) -> bool {
    let fits = budget.get() + bytes <= REPLAY_BYTES_PER_SHARD_MAX;
    if fits {
        *kept_bytes += bytes;
        budget.set(budget.get() + bytes);
    }
    fits
}

/// The beginning of a body, for who decides about its request.
pub(crate) struct Peeked {
    pub(crate) bytes: Vec<u8>,
    /// There is no more.
    pub(crate) whole: bool,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unpeeked {
    /// The client has failed to send it.
    Failed,
    /// As much as may be is kept already.
    NoRoom,
}

/// A body on its way to somebody else, who gets it when it is whole.
struct Copy {
    pieces: Vec<Piece>,
    bytes: usize,
    budget: Rc<Cell<usize>>,
    giver: Option<Giver<Rc<Upload>>>,
}

impl Copy {
    /// Whether there was room for it.
    fn add(&mut self, piece: &Piece) -> bool {
        let fits = reserve(&self.budget, &mut self.bytes, piece.bytes());
        if fits {
            self.pieces.push(piece.clone());
        }
        fits
    }

    fn give(mut self) {
        let (pieces, bytes) = (mem::take(&mut self.pieces), mem::take(&mut self.bytes));
        let whole = Upload::of_kept(pieces, bytes, &self.budget);
        if let Some(giver) = self.giver.take() {
            giver.give(whole);
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.budget.set(self.budget.get() - self.bytes);
    }
}

impl Upload {
    pub(crate) fn new(source: Incoming, budget: &Rc<Cell<usize>>, is_grpc: bool) -> Rc<Self> {
        let (hint, ended) = (source.size_hint(), source.is_end_stream());
        Rc::new(Self {
            state: RefCell::new(State {
                source: Some(source),
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
            copy: RefCell::default(),
        })
    }

    /// A body that is whole, of which `kept_bytes` are counted in `budget`.
    fn of_kept(kept: Vec<Piece>, kept_bytes: usize, budget: &Rc<Cell<usize>>) -> Rc<Self> {
        let has_trailers = kept.iter().any(|piece| matches!(piece, Piece::Trailers(_)));
        let hint = match has_trailers {
            // HTTP/1 has none behind a body whose length was told.
            true => SizeHint::default(),
            false => SizeHint::with_exact(kept_bytes as u64),
        };
        Rc::new(Self {
            state: RefCell::new(State {
                source: None,
                kept,
                kept_bytes,
                replayable: true,
                ended: true,
                failed: false,
            }),
            hint,
            budget: budget.clone(),
            bytes: Cell::new(0),
            ended: Cell::new(Some(runtime::now())),
            messages: RefCell::default(),
            copy: RefCell::default(),
        })
    }

    /// The same body for somebody else, once it has come whole; none if it does not, or is too much to be kept. To be asked
    /// before the first try.
    pub(crate) fn copied(&self) -> Getter<Rc<Self>> {
        let (giver, getter) = handoff();
        let budget = self.budget.clone();
        let mut copy = Copy { pieces: Vec::new(), bytes: 0, budget, giver: Some(giver) };
        let state = self.state.borrow();
        // What somebody has peeked at has come already.
        if !state.kept.iter().all(|piece| copy.add(piece)) {
            return getter;
        }
        if state.ended {
            copy.give();
        } else {
            *self.copy.borrow_mut() = Some(copy);
        }
        getter
    }

    /// A body of ours.
    pub(crate) fn of_ours(bytes: Bytes) -> Rc<Self> {
        let length = bytes.len();
        let kept = if bytes.is_empty() { Vec::new() } else { vec![Piece::Data(bytes)] };
        // Nobody else's is counted with it.
        Self::of_kept(kept, length, &Rc::new(Cell::new(length)))
    }

    /// How long it is, if that was told.
    pub(crate) fn told_bytes(&self) -> Option<u64> {
        self.hint.exact()
    }

    /// Waits for the first `bytes_max` bytes, or for fewer if there are no more; with `further`, for a sign of what
    /// follows. They are sent all the same. To be asked before the first try.
    ///
    /// # Errors
    /// They do not come.
    pub(crate) async fn peek(&self, bytes_max: usize, further: bool) -> Result<Peeked, Unpeeked> {
        let wanted = bytes_max + usize::from(further);
        poll_fn(|cx| self.poll_peek(cx, wanted)).await?;
        let state = self.state.borrow();
        let mut bytes = Vec::with_capacity(state.kept_bytes.min(bytes_max));
        for piece in &state.kept {
            if let Piece::Data(data) = piece {
                let room = bytes_max - bytes.len();
                bytes.extend_from_slice(&data[..data.len().min(room)]);
            }
        }
        Ok(Peeked { whole: state.ended && state.kept_bytes <= bytes_max, bytes })
    }

    fn poll_peek(&self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<(), Unpeeked>> {
        let mut state = self.state.borrow_mut();
        while !state.ended && state.kept_bytes < wanted {
            let Some(piece) = ready!(self.poll_source(&mut state, cx)) else { break };
            let piece = piece.map_err(|_error| Unpeeked::Failed)?;
            if !reserve_of_all(&self.budget, &mut state.kept_bytes, piece.bytes()) {
                return Poll::Ready(Err(Unpeeked::NoRoom));
            }
            state.kept.push(piece);
        }
        match state.failed {
            true => Poll::Ready(Err(Unpeeked::Failed)),
            false => Poll::Ready(Ok(())),
        }
    }

    /// The body for one more try, once nobody sends for the one before any more: what is still to come has one reader.
    pub(crate) fn attempt(self: &Rc<Self>) -> Attempt {
        Attempt { upload: self.clone(), next: 0, sent: 0, gate: None }
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
            return Poll::Ready(state.failed.then(|| Err(FAILED.into())));
        }
        let piece = match ready!(self.poll_source(&mut state, cx)) {
            Some(Ok(piece)) => piece,
            other => return Poll::Ready(other),
        };
        self.keep(&mut state, &piece, next);
        Poll::Ready(Some(Ok(piece)))
    }

    /// The next piece that the client sends.
    fn poll_source(
        &self,
        state: &mut State,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Piece, BoxError>>> {
        let Some(source) = &mut state.source else { return Poll::Ready(None) };
        let frame = match ready!(Pin::new(source).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                (state.failed, state.ended) = (true, true);
                self.copy.take();
                return Poll::Ready(Some(Err(error)));
            }
            None => {
                self.ends(state);
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
        if state.source.as_ref().is_some_and(Body::is_end_stream) {
            self.ends(state);
        }
        Poll::Ready(Some(Ok(piece)))
    }

    /// Everything has come.
    fn ends(&self, state: &mut State) {
        state.ended = true;
        self.ended.set(Some(runtime::now()));
        if let Some(copy) = self.copy.take() {
            copy.give();
        }
    }

    /// What is to be known of every piece, once.
    fn count(&self, piece: &Piece) {
        if let Piece::Data(data) = piece {
            self.bytes.set(self.bytes.get() + data.len() as u64);
            if let Some(messages) = &mut *self.messages.borrow_mut() {
                messages.pass(data);
            }
        }
        let mut copy = self.copy.borrow_mut();
        if copy.as_mut().is_some_and(|copy| !copy.add(piece)) {
            *copy = None;
        }
    }

    fn keep(&self, state: &mut State, piece: &Piece, next: &mut usize) {
        if !state.replayable {
            return;
        }
        if reserve(&self.budget, &mut state.kept_bytes, piece.bytes()) {
            state.kept.push(piece.clone());
            *next += 1;
        } else {
            state.replayable = false;
            self.let_go(state);
            *next = 0;
        }
    }

    fn let_go(&self, state: &mut State) {
        state.kept = Vec::new();
        self.budget.set(self.budget.get() - mem::take(&mut state.kept_bytes));
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
    /// It is not to be sent before this is open.
    gate: Option<Rc<Gate>>,
}

impl Attempt {
    /// Nothing of it is asked of the client, or sent, while `gate` is shut.
    pub(crate) fn wait_at(&mut self, gate: Rc<Gate>) {
        self.gate = Some(gate);
    }
}

impl Body for Attempt {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Some(gate) = &this.gate {
            ready!(gate.poll(cx))?;
            this.gate = None;
        }
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
