//! The words two ends of a tunnel have for an end, and what they mean to the sockets behind them.
//!
//! The mapping between TCP and RST_STREAM is here in both directions: [`ErrorCode::stream_end`] for
//! what the peer says, [`LocalEnd::code`] for what we say.

use std::fmt;

/// An HTTP/2 error code, as RST_STREAM and GOAWAY carry it (RFC 9113 §7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// The end of something that went well.
    pub const NO_ERROR: Self = Self(0x0);
    /// An unspecific violation of the protocol.
    pub const PROTOCOL_ERROR: Self = Self(0x1);
    /// The sender's own trouble.
    pub const INTERNAL_ERROR: Self = Self(0x2);
    /// More bytes than the window allowed, or a window beyond 2^31-1.
    pub const FLOW_CONTROL_ERROR: Self = Self(0x3);
    /// SETTINGS were not acknowledged in time.
    pub const SETTINGS_TIMEOUT: Self = Self(0x4);
    /// A frame for a stream (half) that was already closed.
    pub const STREAM_CLOSED: Self = Self(0x5);
    /// A frame of a size its kind cannot have.
    pub const FRAME_SIZE_ERROR: Self = Self(0x6);
    /// The stream was not processed at all: it is safe to try again.
    pub const REFUSED_STREAM: Self = Self(0x7);
    /// The stream is no longer needed.
    pub const CANCEL: Self = Self(0x8);
    /// The header compression state is lost.
    pub const COMPRESSION_ERROR: Self = Self(0x9);
    /// The TCP connection behind a CONNECT was reset or ended abnormally.
    pub const CONNECT_ERROR: Self = Self(0xa);
    /// The peer makes work out of proportion to what it achieves.
    pub const ENHANCE_YOUR_CALM: Self = Self(0xb);
    /// The transport is not secure enough.
    pub const INADEQUATE_SECURITY: Self = Self(0xc);
    /// The peer wants HTTP/1.1.
    pub const HTTP_1_1_REQUIRED: Self = Self(0xd);

    /// How a stream that the peer reset with this code has ended, as the application behind it is
    /// to see it.
    ///
    /// | code | end | why |
    /// |---|---|---|
    /// | NO_ERROR, CANCEL | [`StreamEnd::Clean`] | ztunnel sends these when it lets go of a stream |
    /// | REFUSED_STREAM | [`StreamEnd::Refused`] | nothing was processed (RFC 9113 §8.7) |
    /// | CONNECT_ERROR | [`StreamEnd::Aborted`] | the far TCP connection was reset (RFC 9113 §8.5) |
    /// | every other | [`StreamEnd::Aborted`] | bytes may be missing |
    ///
    /// The first row is a concession. ztunnel reads and writes it as end of stream, whatever the
    /// reason, so a peer that is ztunnel cannot be told apart when it aborts with it; our own nodes
    /// never abort with it ([`LocalEnd`]).
    pub fn stream_end(self) -> StreamEnd {
        match self {
            Self::NO_ERROR | Self::CANCEL => StreamEnd::Clean,
            Self::REFUSED_STREAM => StreamEnd::Refused,
            _ => StreamEnd::Aborted,
        }
    }

    fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::NO_ERROR => "NO_ERROR",
            Self::PROTOCOL_ERROR => "PROTOCOL_ERROR",
            Self::INTERNAL_ERROR => "INTERNAL_ERROR",
            Self::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
            Self::SETTINGS_TIMEOUT => "SETTINGS_TIMEOUT",
            Self::STREAM_CLOSED => "STREAM_CLOSED",
            Self::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
            Self::REFUSED_STREAM => "REFUSED_STREAM",
            Self::CANCEL => "CANCEL",
            Self::COMPRESSION_ERROR => "COMPRESSION_ERROR",
            Self::CONNECT_ERROR => "CONNECT_ERROR",
            Self::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
            Self::INADEQUATE_SECURITY => "INADEQUATE_SECURITY",
            Self::HTTP_1_1_REQUIRED => "HTTP_1_1_REQUIRED",
            _ => return None,
        })
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "error code {:#x}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a peer's reset means for the application at our end; the table is at
/// [`ErrorCode::stream_end`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// Deliver what came, then end the socket with FIN.
    Clean,
    /// Reset the socket: an abort must arrive as an abort.
    Aborted,
    /// The peer did nothing with the stream. Before a response: try again elsewhere. After one: as
    /// `Aborted`.
    Refused,
}

/// Why we end a stream early; gives the code for
/// [`super::Connection::reset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalEnd {
    /// Our TCP connection was reset, or the stream is cut by policy, drain or a deadline: bytes may
    /// be missing.
    Aborted,
    /// Our application left before the tunnel was open; no byte was lost.
    GaveUp,
    /// We cannot take the stream, and have done nothing with it.
    Refused,
}

impl LocalEnd {
    /// The code that says so on the wire.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Aborted => ErrorCode::CONNECT_ERROR,
            Self::GaveUp => ErrorCode::CANCEL,
            Self::Refused => ErrorCode::REFUSED_STREAM,
        }
    }
}
