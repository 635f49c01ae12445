//! What can go wrong on a tunnel, by whose fault, and the words it has on the wire.
//!
//! Two tables, each of them one `match`: [`Error::code`] is what we tell the peer when the
//! connection ends, [`StreamViolation::code`] what we tell it when one stream ends.

use std::fmt;

use super::code::ErrorCode;
use super::hpack;

/// Why a tunnel connection had to end, by whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The peer broke RFC 9113. Likeliest cause: not an HTTP/2 peer, or a defect in it.
    PeerMisbehaved(Misbehaviour),
    /// The peer kept to the letter of the protocol but made work out of proportion to what it
    /// achieved.
    PeerAbusive(Abuse),
    /// The peer stopped answering. Likeliest cause: its host or the path to it is gone.
    PeerSilent(Silence),
}

impl Error {
    /// The code for the GOAWAY that tells the peer.
    pub fn code(self) -> ErrorCode {
        use Misbehaviour::*;
        match self {
            Self::PeerSilent(Silence::NoPong) => ErrorCode::NO_ERROR,
            Self::PeerSilent(Silence::NoPreface | Silence::HeaderBlockUnfinished) => {
                ErrorCode::NO_ERROR
            }
            Self::PeerAbusive(_) => ErrorCode::ENHANCE_YOUR_CALM,
            Self::PeerMisbehaved(misbehaviour) => match misbehaviour {
                FrameTooLarge | FrameLengthWrong => ErrorCode::FRAME_SIZE_ERROR,
                WindowExceeded | WindowOverflow | InitialWindowTooLarge => {
                    ErrorCode::FLOW_CONTROL_ERROR
                }
                FrameOnClosedStream => ErrorCode::STREAM_CLOSED,
                HeaderCompression(_) => ErrorCode::COMPRESSION_ERROR,
                PrefaceWrong
                | SettingsExpected
                | ContinuationExpected
                | ContinuationWithoutHeaders
                | StreamZeroForbidden
                | StreamZeroRequired
                | StreamIdOfOtherRole
                | StreamIdNotIncreasing
                | FrameOnIdleStream
                | PushPromise
                | PaddingTooLong
                | WindowIncrementZero
                | SettingOutOfRange
                | GoAwayRaised
                | DependsOnItself => ErrorCode::PROTOCOL_ERROR,
            },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerMisbehaved(misbehaviour) => write!(f, "peer violated HTTP/2: {misbehaviour}"),
            Self::PeerAbusive(abuse) => write!(f, "peer was cut off for excess: {abuse}"),
            Self::PeerSilent(silence) => write!(f, "peer fell silent: {silence}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Misbehaviour> for Error {
    fn from(misbehaviour: Misbehaviour) -> Self {
        Self::PeerMisbehaved(misbehaviour)
    }
}

impl From<Abuse> for Error {
    fn from(abuse: Abuse) -> Self {
        Self::PeerAbusive(abuse)
    }
}

impl From<hpack::Error> for Error {
    fn from(error: hpack::Error) -> Self {
        Self::PeerMisbehaved(Misbehaviour::HeaderCompression(error))
    }
}

/// The rules of RFC 9113 whose violation ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// The connection does not begin with the client preface (§3.4).
    PrefaceWrong,
    /// The first frame is not SETTINGS (§3.4).
    SettingsExpected,
    /// A frame is longer than the SETTINGS_MAX_FRAME_SIZE we announced (§4.2).
    FrameTooLarge,
    /// A frame has a length its kind cannot have (§6).
    FrameLengthWrong,
    /// A header block was interrupted by another frame (§6.10).
    ContinuationExpected,
    /// CONTINUATION came without an open header block (§6.10).
    ContinuationWithoutHeaders,
    /// A frame of a stream came on stream 0 (§6).
    StreamZeroForbidden,
    /// A frame of the connection came on a stream (§6).
    StreamZeroRequired,
    /// A stream id that only the other side may open (§5.1.1).
    StreamIdOfOtherRole,
    /// A new stream id below one that was opened before (§5.1.1).
    StreamIdNotIncreasing,
    /// A frame other than HEADERS or PRIORITY on a stream nobody opened (§5.1).
    FrameOnIdleStream,
    /// A frame on a stream that the peer itself had closed (§5.1).
    FrameOnClosedStream,
    /// PUSH_PROMISE, which we have disabled and tunnels never need (§8.4).
    PushPromise,
    /// Padding as long as the frame or longer (§6.1).
    PaddingTooLong,
    /// WINDOW_UPDATE of the connection by zero (§6.9).
    WindowIncrementZero,
    /// The connection's window was raised beyond 2^31-1 (§6.9.1).
    WindowOverflow,
    /// DATA beyond the connection's window (§6.9).
    WindowExceeded,
    /// SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1, or it raised a window beyond that (§6.5.2,
    /// §6.9.2).
    InitialWindowTooLarge,
    /// A setting with a value it cannot have (§6.5.2).
    SettingOutOfRange,
    /// A later GOAWAY named a higher last stream than an earlier one (§6.8).
    GoAwayRaised,
    /// PRIORITY that makes an idle stream depend on itself (RFC 7540 §5.3.1).
    DependsOnItself,
    /// The header block cannot be decompressed (§4.3).
    HeaderCompression(hpack::Error),
}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PrefaceWrong => "the connection does not begin with the HTTP/2 client preface",
            Self::SettingsExpected => "the first frame is not SETTINGS",
            Self::FrameTooLarge => "a frame exceeds the maximum size announced to the peer",
            Self::FrameLengthWrong => "a frame has a length its kind cannot have",
            Self::ContinuationExpected => "a header block was interrupted by another frame",
            Self::ContinuationWithoutHeaders => "CONTINUATION without an open header block",
            Self::StreamZeroForbidden => "a stream's frame came on stream 0",
            Self::StreamZeroRequired => "a connection's frame came on a stream",
            Self::StreamIdOfOtherRole => "the peer used a stream id that is ours to open",
            Self::StreamIdNotIncreasing => "a new stream id is lower than an earlier one",
            Self::FrameOnIdleStream => "a frame for a stream that nobody opened",
            Self::FrameOnClosedStream => "a frame for a stream the peer had closed",
            Self::PushPromise => "PUSH_PROMISE although push is disabled",
            Self::PaddingTooLong => "padding longer than its frame",
            Self::WindowIncrementZero => "WINDOW_UPDATE by zero",
            Self::WindowOverflow => "the connection's window exceeds 2^31-1",
            Self::WindowExceeded => "DATA beyond the connection's window",
            Self::InitialWindowTooLarge => "the initial window size exceeds 2^31-1",
            Self::SettingOutOfRange => "a setting has a value out of its range",
            Self::GoAwayRaised => "a later GOAWAY raised the last stream id",
            Self::DependsOnItself => "a stream depends on itself",
            Self::HeaderCompression(error) => {
                return write!(f, "a header block cannot be decoded: {error}");
            }
        })
    }
}

/// The kinds of work a peer can cause for next to nothing. The limits stand in `budget.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abuse {
    /// Streams opened and reset before they were accepted ("rapid reset").
    RapidReset,
    /// Violations made for us to reset streams ("made you reset").
    ProvokedReset,
    /// Streams opened beyond the announced concurrency.
    RefusedStreams,
    /// Requests that were answered 400, or responses that made no sense.
    MalformedMessages,
    /// Header lists beyond the announced size.
    HeaderListTooLarge,
    /// A header block beyond its bound in bytes.
    HeaderBlockTooLarge,
    /// A header block in too many frames.
    Continuations,
    /// Informational responses before the final one.
    InformationalResponses,
    /// SETTINGS, or more settings in one frame than exist.
    Settings,
    /// PING, or PONGs nobody asked for.
    Pings,
    /// PRIORITY.
    Priorities,
    /// GOAWAY.
    GoAways,
    /// Frames of unknown kinds.
    UnknownFrames,
    /// DATA without a byte in it.
    EmptyData,
    /// DATA that is mostly padding.
    Padding,
    /// WINDOW_UPDATE in tiny steps.
    WindowUpdates,
    /// Frames for streams that are gone.
    FramesOnClosedStreams,
    /// Answers provoked while the peer does not read them.
    UnreadAnswers,
    /// More memory held for the peer than a tunnel may hold, whatever it is made of.
    Memory,
}

impl fmt::Display for Abuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RapidReset => "streams opened only to be reset",
            Self::ProvokedReset => "stream errors made on purpose",
            Self::RefusedStreams => "streams beyond the concurrency limit",
            Self::MalformedMessages => "malformed messages",
            Self::HeaderListTooLarge => "header lists beyond the announced size",
            Self::HeaderBlockTooLarge => "a header block beyond the announced size",
            Self::Continuations => "too many CONTINUATION frames",
            Self::InformationalResponses => "too many informational responses",
            Self::Settings => "too many SETTINGS",
            Self::Pings => "too many PINGs",
            Self::Priorities => "too many PRIORITY frames",
            Self::GoAways => "too many GOAWAYs",
            Self::UnknownFrames => "too many frames of unknown kinds",
            Self::EmptyData => "too many empty DATA frames",
            Self::Padding => "too much padding",
            Self::WindowUpdates => "WINDOW_UPDATEs in tiny steps",
            Self::FramesOnClosedStreams => "too many frames for closed streams",
            Self::UnreadAnswers => "answers provoked without reading them",
            Self::Memory => "more memory held than a tunnel may hold",
        })
    }
}

/// What did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// The connection preface.
    NoPreface,
    /// The rest of a header block.
    HeaderBlockUnfinished,
    /// The answer to a keep-alive PING.
    NoPong,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPreface => "the HTTP/2 preface did not come in time",
            Self::HeaderBlockUnfinished => "a header block was begun and not finished in time",
            Self::NoPong => "no answer to the keep-alive PING",
        })
    }
}

/// Violations that end one stream and leave the connection usable (RFC 9113 §5.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamViolation {
    /// DATA beyond the stream's window (§6.9).
    WindowExceeded,
    /// The stream's window was raised beyond 2^31-1 (§6.9.1).
    WindowOverflow,
    /// WINDOW_UPDATE by zero (§6.9).
    WindowIncrementZero,
    /// DATA or HEADERS after END_STREAM (§5.1).
    HalfClosed,
    /// DATA before the response (§8.1).
    DataBeforeHeaders,
    /// A header section that RFC 9113 §8.2 and §8.3 forbid.
    MalformedHeaders,
    /// PRIORITY of a length other than five (§6.3).
    PriorityLength,
    /// A stream that depends on itself (RFC 7540 §5.3.1).
    DependsOnItself,
}

impl StreamViolation {
    /// The code for RST_STREAM.
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::WindowExceeded | Self::WindowOverflow => ErrorCode::FLOW_CONTROL_ERROR,
            Self::HalfClosed => ErrorCode::STREAM_CLOSED,
            Self::PriorityLength => ErrorCode::FRAME_SIZE_ERROR,
            Self::WindowIncrementZero
            | Self::DataBeforeHeaders
            | Self::MalformedHeaders
            | Self::DependsOnItself => ErrorCode::PROTOCOL_ERROR,
        }
    }
}
