//! The task between a socket with TLS on it and a plain end of a pair in memory.
//!
//! ```text
//!  whoever serves ── near ══ far ─ take ─▶ session ─ send ────▶ socket ── the peer
//!                            far ◀ deliver ─ held ◀─ receive ── socket
//! ```
//!
//! Which side has begun TLS makes one difference: a client that goes on talking when its server has ended talks to nobody; a
//! server whose client has said all may still have to answer.
//!
//! **Invariant:** an end that TLS has not said is never passed on as one.

use std::{
    future::poll_fn,
    io::{self, ErrorKind, Read, Write},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::Connection;

use crate::{
    accounts::Account,
    carry::pair,
    limits::{CLIENT_HELLO_BYTES_MAX, INNER_TUNNEL_BYTES_MAX},
    runtime::{self, TcpStream},
};

/// See the module's text.
pub(super) struct Between {
    socket: Rc<TcpStream>,
    far: TcpStream,
    session: Connection,
    /// What the peer has said and nobody has taken.
    held: Vec<u8>,
    /// The peer has said all.
    peer_ended: bool,
    /// Whoever has the near end has.
    near_ended: bool,
}

impl Between {
    /// Begins the task. What the peer says comes out of the end that is returned, and what is written there goes to it.
    pub(super) fn join(
        socket: Rc<TcpStream>,
        mut session: Connection,
        account: &Arc<Account>,
    ) -> Rc<TcpStream> {
        session.set_buffer_limit(Some(INNER_TUNNEL_BYTES_MAX));
        let (near, far) = pair(account);
        let mut between =
            Self { socket, far, session, held: Vec::new(), peer_ended: false, near_ended: false };
        runtime::spawn(async move {
            if poll_fn(|cx| between.poll(cx)).await.is_err() {
                between.far.reset_on_close();
                between.socket.reset_on_close();
            }
        });
        Rc::new(near)
    }

    /// Ready when both directions have ended, or one was aborted.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut moved = self.decrypt()?;
            moved |= self.deliver(cx)?;
            moved |= self.take(cx)?;
            moved |= self.send(cx)?;
            moved |= self.receive(cx)?;
            if !moved {
                break;
            }
        }
        let is_over = match &self.session {
            // The client may go on talking; nobody listens.
            Connection::Server(_) => true,
            Connection::Client(_) => {
                self.peer_ended && self.held.is_empty() || self.far.is_hung_up()
            }
        };
        if self.near_ended && is_over && !self.session.wants_write() {
            let _ = self.socket.shutdown_write();
            return Poll::Ready(Ok(()));
        }
        if self.far.poll_closed(cx).is_ready() && self.far.is_aborted() {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        Poll::Pending
    }

    /// Reads from the peer, unless what it said before waits.
    fn receive(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.peer_ended || !self.held.is_empty() || !self.session.wants_read() {
            return Ok(false);
        }
        if self.socket.poll_readable(cx).is_pending() {
            return Ok(false);
        }
        let read = runtime::scratch(|scratch| {
            let most = scratch.len().min(runtime::visit_bytes_max()).min(CLIENT_HELLO_BYTES_MAX);
            let read = match self.socket.try_read(&mut scratch[..most]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                other => other?,
            };
            let mut unread = &scratch[..read];
            while !unread.is_empty() {
                self.session.read_tls(&mut unread)?;
                self.session.process_new_packets().map_err(io::Error::other)?;
                drain(&mut self.session, &mut self.held, &mut self.peer_ended)?;
            }
            Ok::<_, io::Error>(Some(read))
        })?;
        let Some(read) = read else { return Ok(false) };
        runtime::moved_bytes(read);
        if read == 0 {
            // Without close_notify, and so cut: never a clean end.
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(true)
    }

    /// What came with the handshake.
    fn decrypt(&mut self) -> io::Result<bool> {
        if let Err(error) = self.session.process_new_packets() {
            // The alert that says why. Best effort: it is over either way.
            let _ = self.session.write_tls(&mut Sending(&self.socket));
            return Err(io::Error::other(error));
        }
        let before = self.held.len();
        drain(&mut self.session, &mut self.held, &mut self.peer_ended)?;
        Ok(self.held.len() > before)
    }

    fn deliver(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.held.is_empty() {
            if self.peer_ended && !self.far.is_hung_up() {
                // Told more than once it is the same.
                let _ = self.far.shutdown_write();
            }
            return Ok(false);
        }
        if self.far.poll_writable(cx).is_pending() {
            return Ok(false);
        }
        match self.far.try_write(&self.held) {
            Ok(written) => {
                self.held.drain(..written);
                Ok(written > 0)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes what is for the peer.
    fn take(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.near_ended || self.session.wants_write() || self.session.is_handshaking() {
            return Ok(false);
        }
        if self.far.poll_readable(cx).is_pending() {
            return Ok(false);
        }
        runtime::scratch(|scratch| {
            match self.far.try_read(&mut scratch[..INNER_TUNNEL_BYTES_MAX / 2]) {
                Ok(0) => {
                    self.near_ended = true;
                    self.session.send_close_notify();
                    Ok(true)
                }
                Ok(read) => {
                    self.session.writer().write_all(&scratch[..read])?;
                    Ok(true)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    fn send(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut sent = false;
        while self.session.wants_write() && self.socket.poll_writable(cx).is_ready() {
            match self.session.write_tls(&mut Sending(&self.socket)) {
                Ok(_) => sent = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }
}

/// Moves what was decrypted.
fn drain(session: &mut Connection, held: &mut Vec<u8>, ended: &mut bool) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match session.reader().read(&mut buffer) {
            Ok(0) => {
                *ended = true;
                return Ok(());
            }
            Ok(read) => held.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// A socket to write to, as `std` has it.
pub(super) struct Sending<'a>(pub(super) &'a TcpStream);

impl Write for Sending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_writev(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
