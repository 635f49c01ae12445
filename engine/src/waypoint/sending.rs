//! A body on its way into a stream of HTTP/2, towards a client or a backend.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::{HeaderMap, header};
use http_body::Body;

use super::{BoxError, interim::Unwanted};
use crate::limits::HTTP2_FIRST_PIECE_BYTES_MAX;

/// Ready when all of it is sent, or the stream has ended before.
pub(crate) struct Sending<B> {
    stream: SendStream<Bytes>,
    body: B,
    /// What waits until the peer has room, and whether it is the last.
    waiting: Option<(Bytes, bool)>,
    /// A piece has gone.
    begun: bool,
}

impl<B: Body<Data = Bytes, Error = BoxError> + Unpin> Sending<B> {
    /// Behind the head that has opened `stream`.
    pub(crate) fn new(body: B, stream: SendStream<Bytes>) -> Self {
        Self { stream, body, waiting: None, begun: false }
    }

    fn poll_pieces(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            if let Some((data, last)) = self.waiting.take() {
                let goes_at_once = !self.begun && data.len() <= HTTP2_FIRST_PIECE_BYTES_MAX;
                if !goes_at_once && !poll_room(&mut self.stream, cx)?.is_ready() {
                    self.waiting = Some((data, last));
                    return Poll::Pending;
                }
                self.begun = true;
                self.stream.send_data(data, last)?;
                if last {
                    return Poll::Ready(Ok(()));
                }
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    self.stream.send_reset(reason(&*error));
                    return Poll::Ready(Ok(()));
                }
                None => return Poll::Ready(self.stream.send_data(Bytes::new(), true)),
            };
            match frame.into_data() {
                Ok(data) => self.waiting = Some((data, self.body.is_end_stream())),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    return Poll::Ready(self.stream.send_trailers(trailers));
                }
            }
        }
    }
}

impl<B: Body<Data = Bytes, Error = BoxError> + Unpin> Future for Sending<B> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        match this.poll_pieces(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Ready(Err(_unsent)) => {
                // Where the peer has not done it itself.
                this.stream.send_reset(Reason::INTERNAL_ERROR);
                Poll::Ready(())
            }
            // A peer that wants no more of it says so.
            Poll::Pending => this.stream.poll_reset(cx).map(|_reason| ()),
        }
    }
}

/// Waits for room for a byte, and takes it of the connection's only then. A piece is given away whole
/// once there is some: it is no longer than what is read at once.
pub(crate) fn poll_room(
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), h2::Error>> {
    if stream.capacity() == 0 {
        stream.reserve_capacity(1);
    }
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(more) => drop(more?),
            // The peer has ended it.
            None => return Poll::Ready(Err(Reason::CANCEL.into())),
        }
    }
    Poll::Ready(Ok(()))
}

/// Why a body is cut: what whoever sent it to us gave as the reason, or that it went wrong here.
fn reason(error: &(dyn Error + 'static)) -> Reason {
    if error.is::<Unwanted>() {
        return Reason::CANCEL;
    }
    let reason = error.downcast_ref::<h2::Error>().and_then(h2::Error::reason);
    // Without an error, it would pass for whole.
    reason.filter(|reason| *reason != Reason::NO_ERROR).unwrap_or(Reason::INTERNAL_ERROR)
}

/// Says how long a body is, where that is known and nobody has said.
pub(crate) fn say_length(headers: &mut HeaderMap, body: &impl Body) {
    if let Some(bytes) = body.size_hint().exact() {
        headers.entry(header::CONTENT_LENGTH).or_insert_with(|| bytes.into());
    }
}
