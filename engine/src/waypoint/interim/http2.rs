//! Interim answers on a stream of HTTP/2.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Waker},
};

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use ringway_http::grpc::is_grpc;

use crate::limits::{HTTP2_INTERIM_ANSWERS_MAX, INTERIM_BYTES_MAX};

/// Interim answers on their way to a client over HTTP/2; shared by whoever has one and the stream's
/// task, which sends them.
#[derive(Default)]
pub(crate) struct Http2Interims {
    waiting: RefCell<Vec<Response<()>>>,
    /// The client sends its body when it is asked for it; that may happen in another task.
    to_ask: bool,
    asked: Cell<bool>,
    /// Hints are for others than gRPC's.
    takes_hints: bool,
    waker: RefCell<Option<Waker>>,
    /// Of all that were put in: nobody knows whether the client takes them.
    count: Cell<usize>,
    bytes: Cell<usize>,
}

impl Http2Interims {
    /// For the client of a request with these headers. gRPC's has nothing to hear, unless it wants
    /// to be asked for its body.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Rc<Self>> {
        let (to_ask, takes_hints) = (headers.contains_key(header::EXPECT), !is_grpc(headers));
        let interims = || Rc::new(Self { to_ask, takes_hints, ..Self::default() });
        (to_ask || takes_hints).then(interims)
    }

    /// Whether the client waits to be asked for its body.
    pub(crate) fn is_to_be_asked(&self) -> bool {
        self.to_ask
    }

    /// Asks the client for its body, once.
    pub(crate) fn ask(&self) {
        if !self.asked.replace(true) {
            self.push(StatusCode::CONTINUE, HeaderMap::new());
        }
    }

    pub(super) fn put(&self, status: StatusCode, headers: HeaderMap) {
        let length = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        let bytes = self.bytes.get() + headers.iter().map(length).sum::<usize>();
        if self.takes_hints
            && self.count.get() < HTTP2_INTERIM_ANSWERS_MAX
            && bytes <= INTERIM_BYTES_MAX
        {
            self.count.set(self.count.get() + 1);
            self.bytes.set(bytes);
            self.push(status, headers);
        }
    }

    fn push(&self, status: StatusCode, headers: HeaderMap) {
        let mut head = Response::new(());
        *head.status_mut() = status;
        *head.headers_mut() = headers;
        self.waiting.borrow_mut().push(head);
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    /// What has been put in, for the stream's task.
    pub(crate) fn take(&self, cx: &mut Context<'_>) -> Vec<Response<()>> {
        if self.to_ask {
            *self.waker.borrow_mut() = Some(cx.waker().clone());
        }
        self.waiting.take()
    }
}
