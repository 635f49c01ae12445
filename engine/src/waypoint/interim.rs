//! What a backend says before it answers (RFC 9110 §15.2): that it wants the body, and hints.
//!
//! ```text
//!  backend ─100─▶ Listening ─▶ Gate opens: the body is asked of the client, whom hyper tells to go on
//!          ─103─▶ Listening ─▶ Interims ─▶ between two writes of hyper's to the client
//!          ─answer─────────────▶ a gate that is still shut stays so: its body is never sent
//! ```
//!
//! In HTTP/1 on both sides. In HTTP/2 nobody is told, and a body is not waited with: it can be ended alone.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io::{self, ErrorKind},
    pin::Pin,
    rc::Rc,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker, ready},
};

use crossbeam_queue::SegQueue;
use http::{HeaderMap, Request, StatusCode, header};
use http_body::Body;
use ringway_http::head::{hops, is_framing};

use super::{upload::Attempt, upstream::Dialect};
use crate::{
    limits::{CONTINUE_TIME, INTERIM_ANSWERS_MAX, INTERIM_BYTES_MAX},
    runtime::{self, Sleep, TcpStream},
};

/// Interim answers on their way to an HTTP/1 client; shared by who serves its connection and who moves its bytes.
#[derive(Default)]
pub(crate) struct Interims {
    waiting: RefCell<Vec<u8>>,
    /// Everything that HTTP had to say is written: what is put in now stands between two messages.
    flushed: Cell<bool>,
}

impl Interims {
    /// It is HTTP/1 that is spoken, and nothing is written yet.
    pub(crate) fn begin(&self) {
        self.flushed.set(true);
    }

    /// HTTP writes.
    pub(crate) fn writes(&self) {
        self.flushed.set(false);
    }

    /// HTTP has nothing left to write.
    pub(crate) fn has_flushed(&self) {
        self.flushed.set(true);
    }

    /// Sends a head before the answer. Where the client has not taken what was before, or too much, nobody would miss a hint.
    fn put(&self, status: StatusCode, headers: &HeaderMap) {
        let mut waiting = self.waiting.borrow_mut();
        if !self.flushed.get() || waiting.len() > INTERIM_BYTES_MAX {
            return;
        }
        let mut headers = headers.clone();
        hops::strip(&mut headers);
        waiting.extend_from_slice(b"HTTP/1.1 ");
        waiting.extend_from_slice(status.as_str().as_bytes());
        waiting.push(b' ');
        waiting.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
        waiting.extend_from_slice(b"\r\n");
        for (name, value) in headers.iter().filter(|(name, _)| !is_framing(name)) {
            waiting.extend_from_slice(name.as_str().as_bytes());
            waiting.extend_from_slice(b": ");
            waiting.extend_from_slice(value.as_bytes());
            waiting.extend_from_slice(b"\r\n");
        }
        waiting.extend_from_slice(b"\r\n");
    }

    /// Writes what waits, before anything else is written.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        socket: &TcpStream,
    ) -> Poll<io::Result<()>> {
        let mut waiting = self.waiting.borrow_mut();
        while !waiting.is_empty() {
            ready!(socket.poll_writable(cx));
            match socket.try_write(&waiting) {
                Ok(written) => drop(waiting.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What one backend has said of one request. hyper wants it to be fit for other threads; it is on none.
#[derive(Default)]
struct Said {
    heads: SegQueue<(StatusCode, HeaderMap)>,
    /// Of the task that waits for the answer.
    waker: OnceLock<Waker>,
}

impl Said {
    fn tell(&self, status: StatusCode, headers: &HeaderMap) {
        if self.heads.len() < INTERIM_ANSWERS_MAX {
            self.heads.push((status, headers.clone()));
        }
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

/// Hears what is said of a request before its answer.
pub(crate) struct Listening {
    said: Option<Arc<Said>>,
    gate: Option<Rc<Gate>>,
}

impl Listening {
    /// From before the request is sent on; where its client asks first, its body waits to be asked for.
    pub(crate) fn begin(request: &mut Request<Attempt>, dialect: Dialect) -> Self {
        if dialect == Dialect::Http2 {
            return Self { said: None, gate: None };
        }
        let said = Arc::new(Said::default());
        let teller = said.clone();
        hyper::ext::on_informational(request, move |interim| {
            teller.tell(interim.status(), interim.headers());
        });
        let asks = request.headers().contains_key(header::EXPECT);
        let gate = (asks && !request.body().is_end_stream()).then(Gate::shut_for_now);
        if let Some(gate) = &gate {
            request.body_mut().wait_at(gate.clone());
        }
        Self { said: Some(said), gate }
    }

    /// What keeps the body from being sent once the request is over.
    pub(crate) fn expected(&self) -> Option<Expected> {
        self.gate.clone().map(Expected)
    }

    /// Waits for the answer, and tells the client what comes before it.
    pub(crate) async fn until<T>(
        &self,
        mut answer: Pin<&mut impl Future<Output = T>>,
        client: Option<&Interims>,
    ) -> T {
        poll_fn(|cx| {
            if let Some(said) = &self.said {
                said.waker.get_or_init(|| cx.waker().clone());
                while let Some((status, headers)) = said.heads.pop() {
                    self.pass_on(status, &headers, client);
                }
            }
            answer.as_mut().poll(cx)
        })
        .await
    }

    fn pass_on(&self, status: StatusCode, headers: &HeaderMap, client: Option<&Interims>) {
        match status {
            // hyper tells the client as soon as its body is asked for.
            StatusCode::CONTINUE => self.gate.iter().for_each(|gate| gate.set(Is::Open)),
            status => client.iter().for_each(|client| client.put(status, headers)),
        }
    }
}

/// A body that is expected to be asked for; dropped when the request is over.
pub(crate) struct Expected(Rc<Gate>);

impl Drop for Expected {
    fn drop(&mut self) {
        if self.0.is.get() == Is::Shut {
            self.0.set(Is::Locked);
        }
    }
}

/// Before a body whose client wants to be asked for it.
pub(crate) struct Gate {
    is: Cell<Is>,
    /// Whoever does not ask in time may not know how to.
    patience: RefCell<Sleep>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    Shut,
    Open,
    /// The request was answered without it.
    Locked,
}

/// The backend has answered and wants no body.
#[derive(Debug)]
struct Unwanted;

impl std::fmt::Display for Unwanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the backend has answered without the body")
    }
}

impl std::error::Error for Unwanted {}

impl Gate {
    fn shut_for_now() -> Rc<Self> {
        Rc::new(Self {
            is: Cell::new(Is::Shut),
            patience: RefCell::new(runtime::sleep(CONTINUE_TIME)),
            waker: RefCell::default(),
        })
    }

    fn set(&self, is: Is) {
        self.is.set(is);
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    /// Ready when the body may be sent.
    ///
    /// # Errors
    /// When it never will be.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), super::BoxError>> {
        if self.is.get() == Is::Shut
            && Pin::new(&mut *self.patience.borrow_mut()).poll(cx).is_ready()
        {
            self.is.set(Is::Open);
        }
        match self.is.get() {
            Is::Open => Poll::Ready(Ok(())),
            Is::Locked => Poll::Ready(Err(Unwanted.into())),
            Is::Shut => {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
