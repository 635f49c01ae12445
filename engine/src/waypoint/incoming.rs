//! A body that a peer sends, whatever it speaks.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};

use super::BoxError;
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
    /// What is still sent the other way; nobody wants it when this is dropped before its end.
    rest: Option<Task>,
}

impl Incoming {
    /// What comes on `stream` behind a head with these. `rest`: what is still sent the other way.
    pub(crate) fn of_http2(headers: &HeaderMap, stream: RecvStream, rest: Option<Task>) -> Self {
        let told = headers.get(header::CONTENT_LENGTH).and_then(|told| told.to_str().ok());
        let left_bytes = told.and_then(|told| told.parse().ok());
        let ended = stream.is_end_stream();
        Self::Http2(Http2Body { stream, left_bytes, data_ended: false, ended, rest })
    }
}

impl Http2Body {
    /// A reset before the end is a failure, whatever reason it gives: the body is not whole.
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
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
        if let Some(rest) = self.rest.take().filter(|_| !self.stream.is_end_stream()) {
            rest.abort();
        }
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
