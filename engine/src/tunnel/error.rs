//! Why a tunnel ended.

use std::{fmt, io, rc::Rc};

use ringway_protocols::{hbone, tls};

use crate::close::{CloseReason, Distrust};

/// Why a tunnel ended.
#[derive(Clone, Debug)]
pub(crate) enum TunnelError {
    /// The peer closed in order while streams were open, or without being asked.
    Closed,
    /// The peer cut the TCP connection without closing TLS first.
    Cut,
    /// The socket failed.
    Io(io::ErrorKind),
    /// The TLS layer failed: the text says whose fault it was.
    Tls(Rc<str>),
    /// The peer broke HTTP/2, or did not answer a PING.
    Http2(Rc<str>),
    /// We have cut it: who is at its ends is not what it was.
    Distrusted(Distrust),
}

impl TunnelError {
    /// What a connection that ran in the tunnel ended with.
    pub(crate) fn reason(&self) -> CloseReason {
        match self {
            Self::Distrusted(why) => CloseReason::Distrusted(*why),
            other => CloseReason::TunnelLost(other.to_string()),
        }
    }
}

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the peer closed the tunnel"),
            Self::Cut => f.write_str("the peer cut the tunnel"),
            Self::Io(kind) => write!(f, "{kind}"),
            Self::Tls(text) | Self::Http2(text) => f.write_str(text),
            Self::Distrusted(why) => write!(f, "{why}"),
        }
    }
}

impl From<tls::Error> for TunnelError {
    fn from(error: tls::Error) -> Self {
        Self::Tls(error.to_string().into())
    }
}

impl From<hbone::Error> for TunnelError {
    fn from(error: hbone::Error) -> Self {
        Self::Http2(error.to_string().into())
    }
}
