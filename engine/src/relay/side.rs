//! What the ways of relaying plain TCP share: which socket of a direction failed, and how that is told.

use std::{io, task::Context};

use crate::runtime::TcpStream;

/// Which socket of a direction failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    From,
    To,
}

/// Whether the connection is known to have been aborted; if not, the task is woken when it ends.
pub(super) fn is_aborted(socket: &TcpStream, cx: &mut Context<'_>) -> bool {
    socket.poll_closed(cx).is_ready() && socket.is_aborted()
}

/// Tells "nothing now" from a failure.
pub(super) fn would_block<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
