//! Why a connection ended: one reason per connection, one table that says what it means.

use std::fmt;

use ringway_protocols::tls;

use crate::{accounts::Limit, decide::Refusal};

/// The one reason a connection ended with. `Display` is the text an operator finds in the access
/// log's `error` field; a reason that is not a failure has none.
#[derive(Clone, Debug)]
pub enum CloseReason {
    /// Both directions ended with an orderly end of stream.
    Finished,
    /// The client aborted the connection (TCP reset, or its stream was reset).
    ClientReset,
    /// The destination aborted the connection (TCP reset, or its stream was reset).
    DestinationReset,
    /// The decision refused the connection: nothing was dialled.
    Refused(Refusal),
    /// Policies changed while the connection was open, and refuse it now.
    PolicyChanged(Refusal),
    /// The destination could not be reached; the kind is the operating system's.
    DialFailed(std::io::ErrorKind),
    /// The destination did not answer the dial within its deadline.
    DialTimedOut,
    /// The peer's HBONE port did not answer the dial within its deadline.
    TunnelDialTimedOut,
    /// This host has no certificate for the workload's identity yet.
    IdentityUnavailable(String),
    /// The TLS handshake with the peer failed.
    Handshake(tls::Error),
    /// The TLS handshake, the HTTP/2 preface or the CONNECT answer did not come in time.
    HandshakeTimedOut,
    /// The peer ended the TCP connection before the TLS handshake was complete.
    HandshakeCut,
    /// TLS to a backend, which policies ask for, did not come about; nothing is sent in the clear instead.
    BackendTls(BackendTls),
    /// The peer answered the CONNECT request with this status instead of 200.
    ConnectRefused(u16),
    /// The CONNECT request was malformed and was answered with 400.
    MalformedConnect(String),
    /// A client of the SOCKS5 port did not ask for a connection, or for none that is served; the text says how.
    Socks5(String),
    /// The tunnel that carried the connection broke; the text says how.
    TunnelLost(String),
    /// The tunnel that carried the connection was cut by us: who is at its ends is not what it was.
    Distrusted(Distrust),
    /// The peer broke HTTP/2 on the tunnel.
    Http2(String),
    /// A named bound was reached; the text names it.
    LimitReached(Limit),
    /// The local workload is not known (yet) to this host.
    UnknownWorkload(String),
    /// The control plane was asked what the destination, or somebody on the way, is, and has not said so in time.
    NotTold(String),
    /// The drain deadline passed while the connection was open.
    Drained,
    /// The workload was withdrawn from this host while the connection was open.
    Withdrawn,
    /// The connection's task ended without a reason: a defect of Ringway.
    Broken,
}

impl CloseReason {
    /// The `response_flags` label and the log's flag for this reason.
    pub fn response_flag(&self) -> &'static str {
        match self {
            Self::Finished | Self::ClientReset | Self::DestinationReset => "-",
            Self::Handshake(_) | Self::HandshakeCut | Self::BackendTls(_) => "TLS_FAILURE",
            Self::Http2(_) => "H2_HANDSHAKE_FAILURE",
            Self::TunnelDialTimedOut => "NETWORK_POLICY",
            Self::IdentityUnavailable(_) => "IDENTITY_ERROR",
            Self::Refused(refusal) | Self::PolicyChanged(refusal) if refusal.is_by_policy() => {
                "DENY"
            }
            Self::Distrusted(why) => why.response_flag(),
            Self::Refused(_)
            | Self::PolicyChanged(_)
            | Self::DialFailed(_)
            | Self::DialTimedOut
            | Self::HandshakeTimedOut
            | Self::ConnectRefused(_)
            | Self::MalformedConnect(_)
            | Self::Socks5(_)
            | Self::TunnelLost(_)
            | Self::LimitReached(_)
            | Self::UnknownWorkload(_)
            | Self::NotTold(_)
            | Self::Drained
            | Self::Withdrawn
            | Self::Broken => "CONNECT",
        }
    }

    /// Whether the connection counts as failed.
    pub fn is_failure(&self) -> bool {
        self.response_flag() != "-"
    }

    /// Whether the log line carries this reason's text in its `error` field.
    pub fn is_error(&self) -> bool {
        !matches!(self, Self::Finished)
    }

    /// The policy that ended the connection, as `namespace/name`, and which of its rules, where one policy did.
    pub fn policy(&self) -> Option<(&str, Option<usize>)> {
        match self {
            Self::Refused(refusal) | Self::PolicyChanged(refusal) => refusal.policy(),
            _ => None,
        }
    }

    /// The status a CONNECT request is answered with when it ends for this reason before the tunnel
    /// is open.
    pub fn status(&self) -> u16 {
        match self {
            Self::Refused(refusal) | Self::PolicyChanged(refusal) => refusal.status(),
            Self::MalformedConnect(_) => 400,
            _ => 503,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("connection finished"),
            Self::ClientReset => f.write_str("connection reset by the client"),
            Self::DestinationReset => f.write_str("connection reset by the destination"),
            Self::Refused(refusal) if refusal.is_by_policy() => {
                write!(f, "connection closed due to policy rejection: {refusal}")
            }
            Self::Refused(refusal) => write!(f, "{refusal}"),
            Self::PolicyChanged(refusal) => {
                write!(f, "connection closed due to policy change: {refusal}")
            }
            Self::DialFailed(error) => write!(f, "io error: {error}"),
            Self::DialTimedOut => f.write_str("connection timed out"),
            Self::TunnelDialTimedOut => f.write_str(
                "connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: \
                 deadline has elapsed",
            ),
            Self::IdentityUnavailable(why) => write!(f, "identity error: {why}"),
            Self::Handshake(error) => write!(f, "tls handshake error: {error}"),
            Self::HandshakeTimedOut => {
                f.write_str("the peer did not complete the handshake within its deadline")
            }
            Self::HandshakeCut => f.write_str("the peer closed during the tls handshake"),
            Self::BackendTls(why) => write!(f, "backend tls error: {why}"),
            Self::ConnectRefused(status) => write!(f, "http status: {}", StatusText(*status)),
            Self::MalformedConnect(why) => write!(f, "malformed CONNECT request: {why}"),
            Self::Socks5(why) => write!(f, "malformed SOCKS5 request: {why}"),
            Self::TunnelLost(why) => write!(f, "the tunnel was lost: {why}"),
            Self::Distrusted(why) => write!(f, "connection closed: {why}"),
            Self::Http2(why) => write!(f, "http2 error: {why}"),
            Self::LimitReached(limit) => write!(f, "limit reached: {}", limit.name()),
            Self::UnknownWorkload(who) => {
                write!(f, "failed to fetch information about local workload: {who}")
            }
            Self::NotTold(name) => {
                write!(f, "the control plane has not told in time what {name} is")
            }
            Self::Drained => f.write_str("connection closed due to connection drain"),
            Self::Withdrawn => f.write_str("connection closed because its workload was withdrawn"),
            Self::Broken => f.write_str("internal error: the connection's task broke"),
        }
    }
}

/// Why there is no TLS to a backend.
#[derive(Clone, Debug)]
pub enum BackendTls {
    /// What the policy names cannot be used: no authority, no certificate, or no name.
    Unusable(String),
    /// The handshake failed: mostly the backend's certificate is not one that the policy accepts.
    Handshake(tls::Error),
    /// The backend did not complete the handshake within its deadline.
    TimedOut,
    /// The backend ended the TCP connection before the handshake was complete: mostly it speaks no TLS there.
    Cut,
}

impl BackendTls {
    /// Every value of the `reason` label.
    pub const NAMES: [&str; 5] = ["unusable", "untrusted", "handshake", "timed_out", "cut"];

    /// The `reason` label.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unusable(_) => "unusable",
            Self::Handshake(tls::Error::PeerUntrusted(_)) => "untrusted",
            Self::Handshake(_) => "handshake",
            Self::TimedOut => "timed_out",
            Self::Cut => "cut",
        }
    }
}

impl fmt::Display for BackendTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(why) => write!(f, "{why}"),
            Self::Handshake(error) => write!(f, "{error}"),
            Self::TimedOut => f.write_str("no complete handshake within its deadline"),
            Self::Cut => f.write_str("the backend closed during the handshake"),
        }
    }
}

/// Why an open tunnel was cut, after its handshake had been in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// The peer's certificate, or one above it, was revoked.
    PeerRevoked,
    /// The peer's certificate leads to no anchor that is still trusted.
    PeerUntrusted,
    /// The peer's certificate ended while the tunnel was open.
    PeerExpired,
    /// The certificate ended that this side had shown in the tunnel.
    OwnExpired,
    /// This host has no certificate any more for the identity it had shown.
    OwnIdentityGone,
    /// The workload has another identity than the one it had shown.
    OwnIdentityChanged,
}

impl Distrust {
    fn response_flag(self) -> &'static str {
        match self {
            Self::PeerRevoked => "CERT_REVOKED",
            Self::PeerUntrusted | Self::PeerExpired => "TLS_FAILURE",
            Self::OwnExpired | Self::OwnIdentityGone | Self::OwnIdentityChanged => "IDENTITY_ERROR",
        }
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PeerRevoked => "peer certificate revoked by CRL",
            Self::PeerUntrusted => "peer certificate leads to no trusted root any more",
            Self::PeerExpired => "peer certificate expired",
            Self::OwnExpired => "own certificate expired",
            Self::OwnIdentityGone => "there is no certificate for the workload's identity any more",
            Self::OwnIdentityChanged => "the workload has another identity now",
        })
    }
}

/// A status code with the reason phrase people search their logs for.
struct StatusText(u16);

impl fmt::Display for StatusText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phrase = match self.0 {
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            429 => "Too Many Requests",
            500 => "Internal Server Error",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            _ => return write!(f, "{}", self.0),
        };
        write!(f, "{} {phrase}", self.0)
    }
}
