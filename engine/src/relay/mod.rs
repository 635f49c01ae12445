//! Moves the bytes of one connection until it ends, and says how it ended.
//!
//! Half-close stays half-close: the end of one direction is passed on and the other goes on. An abort
//! stays an abort: a reset on one side is a reset on the other, never a clean end.
//!
//! There is no idle timeout: a quiet connection is a legitimate one. Dead peers are found by TCP
//! keep-alive on every socket and by PING on every tunnel; drain and withdrawal cut what is left.

mod plain;
mod side;
mod splice;

use std::{
    io,
    rc::Rc,
    task::{Context, Poll},
};

use ringway_protocols::hbone::LocalEnd;

#[cfg(feature = "waypoint")]
pub(crate) use self::plain::relay_from;
pub use self::plain::{DirectionState, Observer, RelayState, relay_plain};
pub(crate) use self::plain::{Relayed, resume_plain};
use crate::{
    close::CloseReason,
    runtime::TcpStream,
    tunnel::{Received, Sent, TunnelStream},
};

/// Which end of a connection the application on this host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApplicationIs {
    /// Outbound: the application dialled.
    Client,
    /// Inbound: the application was dialled.
    Server,
}

impl ApplicationIs {
    fn reset_by_application(self) -> CloseReason {
        match self {
            Self::Client => CloseReason::ClientReset,
            Self::Server => CloseReason::DestinationReset,
        }
    }

    fn reset_by_peer(self) -> CloseReason {
        match self {
            Self::Client => CloseReason::DestinationReset,
            Self::Server => CloseReason::ClientReset,
        }
    }
}

/// Who counts what is sent into a tunnel, and may have it cut.
pub(crate) trait Watching {
    /// Ready when the connection is to be cut, with the reason.
    fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<CloseReason>;

    /// So many bytes more went from the application into the tunnel.
    fn sent(&self, bytes: usize);

    /// Has the application's socket end as an abort, because the connection was cut.
    fn abort(&self, application: &Rc<TcpStream>, _reason: &CloseReason) {
        application.reset_on_close();
    }
}

/// Relays between an application and its stream in a tunnel. The stream must be attached to the
/// application.
pub(crate) async fn relay_tunnelled(
    application: &Rc<TcpStream>,
    stream: &TunnelStream,
    application_is: ApplicationIs,
    connection: &impl Watching,
) -> CloseReason {
    let mut relay = Tunnelled {
        application,
        stream,
        application_is,
        connection,
        sending: true,
        receiving: true,
    };
    std::future::poll_fn(|cx| relay.poll(cx)).await
}

struct Tunnelled<'a, W> {
    application: &'a Rc<TcpStream>,
    stream: &'a TunnelStream,
    application_is: ApplicationIs,
    connection: &'a W,
    /// The application has not ended its direction.
    sending: bool,
    /// The peer has not ended its direction.
    receiving: bool,
}

impl<W: Watching> Tunnelled<'_, W> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        if let Poll::Ready(reason) = self.connection.poll_cut(cx) {
            return self.abort_both(reason);
        }
        if let Poll::Ready(reason) = self.poll_receiving(cx) {
            return Poll::Ready(reason);
        }
        if let Poll::Ready(reason) = self.poll_sending(cx) {
            return Poll::Ready(reason);
        }
        if self.sending || self.receiving {
            Poll::Pending
        } else {
            Poll::Ready(CloseReason::Finished)
        }
    }

    fn poll_receiving(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        match self.stream.poll_receive(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Received::End) => {
                self.receiving = false;
                match self.application.shutdown_write() {
                    Ok(()) => self.poll_receiving(cx),
                    Err(_) => self.application_gone(),
                }
            }
            Poll::Ready(Received::LetGo) => match self.application.shutdown_write() {
                Ok(()) => Poll::Ready(CloseReason::Finished),
                Err(_) => self.application_gone(),
            },
            Poll::Ready(Received::Reset(_)) => {
                self.application.reset_on_close();
                Poll::Ready(self.application_is.reset_by_peer())
            }
            Poll::Ready(Received::ApplicationGone) => self.application_gone(),
            Poll::Ready(Received::LimitReached(limit)) => {
                self.abort_both(CloseReason::LimitReached(limit))
            }
            Poll::Ready(Received::TunnelLost(error)) => {
                self.application.reset_on_close();
                Poll::Ready(error.reason())
            }
        }
    }

    fn poll_sending(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        if !self.sending {
            // Nothing more to read, but an abort must still be noticed while the peer sends.
            let closed = self.receiving && self.application.poll_closed(cx).is_ready();
            return if closed && self.application.is_aborted() {
                self.application_gone()
            } else {
                Poll::Pending
            };
        }
        match self.stream.poll_send(cx, self.application) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Sent::Bytes(bytes))) => {
                self.connection.sent(bytes);
                // The next connection's turn; this one asks again behind it.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Ok(Sent::End)) => {
                self.sending = false;
                self.poll_sending(cx)
            }
            Poll::Ready(Err(_)) => self.application_gone(),
        }
    }

    fn application_gone(&self) -> Poll<CloseReason> {
        self.stream.reset(LocalEnd::Aborted);
        self.application.reset_on_close();
        Poll::Ready(self.application_is.reset_by_application())
    }

    fn abort_both(&self, reason: CloseReason) -> Poll<CloseReason> {
        self.stream.reset(LocalEnd::Aborted);
        self.connection.abort(self.application, &reason);
        Poll::Ready(reason)
    }
}

/// Writes `bytes`, waiting for the socket as often as it takes.
///
/// # Errors
/// Whatever the socket says, except that it is full.
pub(crate) async fn write_all(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match socket.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
