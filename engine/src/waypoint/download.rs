//! The body of an answer on its way to the client. With its end the request has ended: it carries the record.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use ringway_http::head::hops::strip_trailers;

use super::{
    BoxError, incoming::Incoming, messages::Messages, record::Recorder, serve::UnderWay,
    upstream::Lease,
};
use crate::{runtime::Sleep, telemetry::http::ResponseFlag};

/// See the module's text.
pub(crate) struct Download {
    source: Source,
    /// Given back at the end; dropped before, the connection is not used again.
    lease: Option<Lease>,
    recorder: Option<Recorder>,
    deadline: Option<Sleep>,
    messages: Option<Messages>,
    _under_way: UnderWay,
}

enum Source {
    Backend(Incoming),
    Here(Option<Bytes>),
    /// The connection goes on with another protocol.
    Nothing,
}

/// The whole of an answer did not come in time.
#[derive(Debug)]
struct TookTooLong;

impl std::fmt::Display for TookTooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer was not complete within the request's timeout")
    }
}

impl std::error::Error for TookTooLong {}

impl Download {
    /// What a backend sends. `deadline`: when it must have ended.
    pub(crate) fn of_backend(
        body: Incoming,
        lease: Lease,
        recorder: Recorder,
        deadline: Option<Sleep>,
        under_way: UnderWay,
    ) -> Self {
        let messages = recorder.is_grpc().then(Messages::default);
        Self {
            source: Source::Backend(body),
            lease: Some(lease),
            recorder: Some(recorder),
            deadline,
            messages,
            _under_way: under_way,
        }
    }

    /// What is answered here.
    pub(crate) fn of_ours(text: Bytes, recorder: Recorder, under_way: UnderWay) -> Self {
        Self {
            source: Source::Here((!text.is_empty()).then_some(text)),
            lease: None,
            recorder: Some(recorder),
            deadline: None,
            messages: None,
            _under_way: under_way,
        }
    }

    /// The head of an upgrade; what follows it tells how it ended.
    pub(crate) fn of_upgrade(under_way: UnderWay) -> Self {
        Self {
            source: Source::Nothing,
            lease: None,
            recorder: None,
            deadline: None,
            messages: None,
            _under_way: under_way,
        }
    }

    /// Whether the connection, or the stream, goes on with another protocol.
    pub(crate) fn goes_on(&self) -> bool {
        matches!(self.source, Source::Nothing)
    }

    fn finish(&mut self) {
        if let (Some(lease), Source::Backend(body)) = (self.lease.take(), &mut self.source) {
            lease.give_back(body.take_rest());
        }
        if let Some(mut recorder) = self.recorder.take() {
            recorder.response_messages = self.messages.as_ref().map_or(0, Messages::count);
            recorder.finish_whole();
        }
    }

    fn fail(&mut self, flag: ResponseFlag, details: &'static str) {
        self.lease = None;
        if let Some(mut recorder) = self.recorder.take() {
            recorder.flags.add(flag);
            recorder.details = details.into();
            recorder.finish();
        }
    }

    fn passes(&mut self, data: &[u8]) {
        if let Some(recorder) = &mut self.recorder {
            recorder.passes(data);
        }
        if let Some(messages) = &mut self.messages {
            messages.pass(data);
        }
    }

    fn passes_trailers(&mut self, trailers: &HeaderMap) {
        if let Some(recorder) = &mut self.recorder {
            recorder.trailers(trailers);
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Some(deadline) = &mut this.deadline
            && Pin::new(deadline).poll(cx).is_ready()
        {
            this.fail(ResponseFlag::UpstreamRequestTimeout, "response_timeout");
            return Poll::Ready(Some(Err(TookTooLong.into())));
        }
        let body = match &mut this.source {
            Source::Here(text) => {
                let text = text.take();
                match &text {
                    Some(text) => this.passes(text),
                    None => this.finish(),
                }
                return Poll::Ready(text.map(|text| Ok(Frame::data(text))));
            }
            Source::Backend(body) => body,
            Source::Nothing => return Poll::Ready(None),
        };
        match ready!(Pin::new(body).poll_frame(cx)) {
            Some(Ok(mut frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.passes(data);
                } else if let Some(trailers) = frame.trailers_mut() {
                    strip_trailers(trailers);
                    this.passes_trailers(trailers);
                    // Nothing comes behind them, and not everybody asks for it.
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                this.fail(
                    ResponseFlag::UpstreamConnectionTermination,
                    "upstream_reset_after_response_started{connection_termination}",
                );
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Backend(body) => body.is_end_stream(),
            Source::Here(text) => text.is_none(),
            Source::Nothing => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Backend(body) => body.size_hint(),
            Source::Here(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Source::Nothing => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Download {
    /// Whoever sees that the body has ended, or has as much of it as was told, need not ask for its end.
    fn drop(&mut self) {
        if self.is_end_stream() || self.size_hint().exact() == Some(0) {
            self.finish();
        }
    }
}
