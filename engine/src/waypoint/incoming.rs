//! A body that a peer sends, whatever it speaks.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};

use super::{BoxError, interim::Http2Interims};
use crate::runtime::Task;

/// See the module's text.
pub(crate) enum Incoming {
    Http1(hyper::body::Incoming),
    Http2(Http2Body),
    /// The stream is another protocol's.
    Nothing,
}

/// The body of one of HTTP/2's streams.
pub(crate) struct Http2Body {
    stream: RecvStream,
    /// What is still to come, if its head has told.
    left_bytes: Option<u64>,
    /// Only trailers may come.
    data_ended: bool,
    /// Nothing more comes, as of the last look: each costs a lock.
    ended: bool,
    /// What is still sent the other way. It ends with this, unless it is taken.
    rest: Option<Task>,
    /// Who sends it waits until it is asked there.
    to_ask: Option<Rc<Http2Interims>>,
}

impl Incoming {
    /// What a client sends on `stream` behind a head with these. `to_ask`: it waits until it is asked there.
    pub(crate) fn of_client(
        headers: &HeaderMap,
        stream: RecvStream,
        to_ask: Option<Rc<Http2Interims>>,
    ) -> Self {
        Self::Http2(Http2Body::new(headers, stream, None, to_ask))
    }

    /// What a backend sends on `stream` behind a head with these. `rest`: what is still sent the other way.
    pub(crate) fn of_backend(headers: &HeaderMap, stream: RecvStream, rest: Option<Task>) -> Self {
        Self::Http2(Http2Body::new(headers, stream, rest, None))
    }

    /// What is still sent the other way once this has ended in order: it need not end with it.
    pub(crate) fn take_rest(&mut self) -> Option<Task> {
        match self {
            Self::Http2(body) => body.rest.take(),
            Self::Http1(_) | Self::Nothing => None,
        }
    }
}

impl Http2Body {
    fn new(
        headers: &HeaderMap,
        stream: RecvStream,
        rest: Option<Task>,
        to_ask: Option<Rc<Http2Interims>>,
    ) -> Self {
        let told = headers.get(header::CONTENT_LENGTH).and_then(|told| told.to_str().ok());
        let left_bytes = told.and_then(|told| told.parse().ok());
        let ended = stream.is_end_stream();
        Self { stream, left_bytes, data_ended: false, ended, rest, to_ask }
    }

    /// A reset before the end is a failure, whatever reason it gives: the body is not whole.
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(client) = self.to_ask.take() {
            client.ask();
        }
        while !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Whoever is given a piece asks for the next one when it has passed that on. It
                    // fails only for more than has come.
                    let _more = self.stream.flow_control().release_capacity(data.len());
                    let left = self.left_bytes.map(|left| left.saturating_sub(data.len() as u64));
                    self.left_bytes = left;
                    self.ended = self.stream.is_end_stream();
                    // Nothing but an end, which is told without it.
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        self.ended = true;
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }
}

impl Drop for Http2Body {
    fn drop(&mut self) {
        self.rest.iter().for_each(Task::abort);
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(BoxError::from),
            Self::Http2(body) => body.poll_frame(cx).map_err(BoxError::from),
            Self::Nothing => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.ended,
            Self::Nothing => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let exactly = match self {
            Self::Http1(body) => return body.size_hint(),
            Self::Http2(body) if body.ended => Some(0),
            Self::Http2(body) => body.left_bytes,
            Self::Nothing => Some(0),
        };
        exactly.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
