//! What a connection tells its caller.

use std::fmt;
use std::ops::Range;

use crate::hbone::code::ErrorCode;
use crate::hbone::headers::{ConnectRequest, ConnectResponse, MalformedRequest};
use crate::hbone::stream::StreamId;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Server: a client wants a tunnel. To be answered with [`super::Connection::accept`] or
    /// [`super::Connection::refuse`].
    Request {
        /// The new stream.
        stream: StreamId,
        /// What the client asks for.
        request: Box<ConnectRequest>,
        /// The client will not send anything on it.
        end_of_stream: bool,
    },
    /// Server: a request was refused by the machine, which has already answered it. For the record
    /// only.
    Malformed {
        /// The stream, which is gone.
        stream: StreamId,
        /// What was wrong.
        reason: MalformedRequest,
    },
    /// Client: the server's answer.
    Response {
        /// The stream, open unless the status says otherwise or `end_of_stream` does.
        stream: StreamId,
        /// The answer.
        response: ConnectResponse,
        /// The server will not send anything on it.
        end_of_stream: bool,
    },
    /// Payload arrived. One frame that spans slices gives one event for each slice.
    Data {
        /// The stream.
        stream: StreamId,
        /// Where the payload lies in the slice given to [`super::Connection::next_event`].
        payload: Range<usize>,
        /// What is to be released for it: the length of `payload`. Padding was given back already.
        flow_controlled_bytes: u32,
    },
    /// The peer sends no more on this stream.
    EndOfStream {
        /// The stream. It is still open in our direction, unless we ended that before.
        stream: StreamId,
    },
    /// The stream is over in both directions: reset by the peer, by a violation of the peer's, or
    /// passed over by its GOAWAY (then with [`ErrorCode::REFUSED_STREAM`]).
    /// [`ErrorCode::stream_end`] says what it means.
    Reset {
        /// The stream. What it left unreleased is still to be released, or dropped with
        /// [`super::Connection::reset`].
        stream: StreamId,
        /// Why.
        code: ErrorCode,
    },
    /// Sending became possible where it was not.
    SendCapacity {
        /// The stream, or `None` for all of them.
        stream: Option<StreamId>,
    },
    /// The peer's settings changed: see [`super::Connection::can_open`] and
    /// [`super::Connection::peer_frame_bytes_max`].
    Settings,
    /// The peer takes no more streams. Those it passed over follow as [`Event::Reset`].
    GoAway {
        /// The last stream the peer will process.
        last_stream: StreamId,
        /// Why.
        code: ErrorCode,
    },
}

/// Why a stream could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// This connection is ending, or has failed. Use another.
    GoingAway,
    /// As many streams are open as both sides allow.
    TooManyStreams,
    /// All stream ids have been used. Use another connection.
    IdsExhausted,
    /// The request's headers are longer than the peer accepts.
    RequestTooLarge,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GoingAway => "the tunnel connection is ending",
            Self::TooManyStreams => "the tunnel connection has no stream left",
            Self::IdsExhausted => "the tunnel connection has used all its stream ids",
            Self::RequestTooLarge => "the request's headers are longer than the peer accepts",
        })
    }
}

impl std::error::Error for OpenError {}
