//! How a stream ended, as it is told and as it is counted.

use std::fmt;

use tonic::{Code, Status};

use crate::grpc;

/// How a stream ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// There was no connection.
    Unreachable(String),
    /// The call was refused, or never answered.
    NotEstablished(Status),
    /// The control plane ended it with this status.
    Status(Status),
    /// The connection broke.
    Lost(String),
    /// What came cannot be, or did not go out.
    Misbehaved(String),
    /// The control plane ended it without complaint.
    Complete,
}

/// What kind of end it was, as people tell them apart.
pub(super) type Reason = (std::mem::Discriminant<End>, Option<Code>);

impl End {
    pub(super) fn reason(&self) -> Reason {
        let code = match self {
            End::NotEstablished(status) | End::Status(status) => Some(status.code()),
            End::Unreachable(_) | End::Lost(_) | End::Misbehaved(_) | End::Complete => None,
        };
        (std::mem::discriminant(self), code)
    }

    /// The same for somebody who has sent no token.
    pub(super) fn of_nobody(self) -> Self {
        let explained = |status: Status| match status.code() {
            Code::Unauthenticated => {
                Status::unauthenticated(format!("{}; {}", status.message(), grpc::no_token()))
            }
            _ => status,
        };
        match self {
            End::NotEstablished(status) => End::NotEstablished(explained(status)),
            End::Status(status) => End::Status(explained(status)),
            other => other,
        }
    }

    /// As it is counted.
    pub(super) fn termination(&self) -> Termination {
        match self {
            End::Unreachable(_) | End::NotEstablished(_) => Termination::ConnectionError,
            End::Status(status) if is_transient(status) => Termination::Reconnect,
            End::Status(_) | End::Misbehaved(_) => Termination::Error,
            End::Lost(_) => Termination::Reconnect,
            End::Complete => Termination::Complete,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Unreachable(why) => f.write_str(why),
            End::NotEstablished(status) => {
                write!(f, "the call was not answered: {} ({:?})", status.message(), status.code())
            }
            End::Status(status) => {
                write!(
                    f,
                    "the control plane ended the stream: {} ({:?})",
                    status.message(),
                    status.code()
                )
            }
            End::Lost(why) => write!(f, "the connection was lost: {why}"),
            End::Misbehaved(why) => f.write_str(why),
            End::Complete => f.write_str("the control plane ended the stream in order"),
        }
    }
}

/// Why a stream ended; the label `reason` of `istio_xds_connection_terminations_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Termination {
    /// It never began.
    ConnectionError,
    /// The control plane, or what it said, was wrong.
    Error,
    /// The control plane, or the way there, went away.
    Reconnect,
    /// The control plane had said all it wanted.
    Complete,
}

impl Termination {
    /// Every reason.
    pub const ALL: [Termination; 4] = [
        Termination::ConnectionError,
        Termination::Error,
        Termination::Reconnect,
        Termination::Complete,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Termination::ConnectionError => "ConnectionError",
            Termination::Error => "Error",
            Termination::Reconnect => "Reconnect",
            Termination::Complete => "Complete",
        }
    }
}

/// A control plane that restarts, or sends its clients to another, says so.
pub(super) fn is_transient(status: &Status) -> bool {
    match status.code() {
        Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => true,
        Code::Unavailable => {
            let message = status.message();
            message.contains("transport is closing") || message.contains("received prior goaway")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_without_a_token_hears_that_none_was_sent() {
        let refused = "authentication failure";
        let rows = [
            ("at once", End::NotEstablished(Status::unauthenticated(refused)), true),
            ("later", End::Status(Status::unauthenticated(refused)), true),
            ("for something else", End::Status(Status::permission_denied(refused)), false),
        ];
        for (name, end, want) in rows {
            let told = end.of_nobody().to_string();
            assert!(told.contains(refused), "{name}: {told}");
            assert_eq!(told.contains("no token was sent"), want, "{name}: {told}");
            assert_eq!(told.contains("tokens/istio-token"), want, "{name}: {told}");
        }
    }
}
