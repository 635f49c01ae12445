//! Relays plain TCP to plain TCP.
//!
//! Each direction copies through the shard's scratch while it carries messages, and changes to
//! `splice(2)` when it carries bulk:
//!
//! ```text
//!            512 KiB in large reads
//!  Copying ──────────────────────────────▶ Splicing (a pipe from the shard's pool)
//!     ▲                                        │
//!     └──────────── pipe and source dry ───────┘
//!  either: end of stream ─▶ what is held goes out ─▶ half-close ─▶ Ended
//! ```
//!
//! A source that is dry after a long run goes on splicing when it goes on; meanwhile its pipe is
//! another's.

use std::{
    io,
    task::{Context, Poll},
};

use super::{
    side::{Side, is_aborted, would_block},
    splice::{Pause, Spliced},
};
use crate::{
    buffers,
    close::CloseReason,
    limits::{BULK_READ_BYTES_MIN, SPLICE_AFTER_BYTES},
    runtime::{self, PipePool, TcpStream},
};

/// Who is told how much a relay moves, and may cut it.
pub trait Observer {
    /// Ready when the connection is to be cut, with the reason.
    fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<CloseReason>;

    /// So many bytes more went from the client to the server.
    fn client_to_server(&self, bytes: usize);

    /// So many bytes more went from the server to the client.
    fn server_to_client(&self, bytes: usize);

    /// Whether the connection is to be relayed by somebody else from here on. Whoever decides so wakes
    /// the relay.
    fn is_called_away(&self) -> bool {
        false
    }

    /// So many bytes are held, in both directions, because whom they are for does not take them.
    fn holds(&self, _bytes: usize) {}

    /// How much may be read at once: what is not taken has to be held.
    fn visit_bytes_max(&self) -> usize {
        runtime::visit_bytes_max()
    }
}

impl<O: Observer> Observer for &O {
    fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        (**self).poll_cut(cx)
    }

    fn client_to_server(&self, bytes: usize) {
        (**self).client_to_server(bytes);
    }

    fn server_to_client(&self, bytes: usize) {
        (**self).server_to_client(bytes);
    }

    fn is_called_away(&self) -> bool {
        (**self).is_called_away()
    }

    fn holds(&self, bytes: usize) {
        (**self).holds(bytes);
    }

    fn visit_bytes_max(&self) -> usize {
        (**self).visit_bytes_max()
    }
}

/// What a relay holds that is not in its two sockets: whoever has this and the sockets can go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayState {
    /// From the client to the server.
    pub upload: DirectionState,
    /// From the server to the client.
    pub download: DirectionState,
}

/// One direction of a [`RelayState`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectionState {
    /// Read from one socket and not taken by the other yet.
    pub held: Vec<u8>,
    /// The end of the stream has come and was passed on.
    pub ended: bool,
}

/// Why a relay stopped.
pub(crate) enum Relayed {
    /// The connection is over.
    Ended(CloseReason),
    /// Somebody else goes on with it.
    CalledAway(RelayState),
}

/// Relays between a client and a server until both directions have ended, or one side aborts. It is
/// not for observers that call away.
pub async fn relay_plain(
    client: &TcpStream,
    server: &TcpStream,
    pipes: &PipePool,
    observer: &impl Observer,
) -> CloseReason {
    relay_from(client, server, pipes, RelayState::default(), observer).await
}

/// The same from a state on.
pub(crate) async fn relay_from(
    client: &TcpStream,
    server: &TcpStream,
    pipes: &PipePool,
    state: RelayState,
    observer: &impl Observer,
) -> CloseReason {
    match resume_plain(client, server, pipes, state, observer).await {
        Relayed::Ended(reason) => reason,
        Relayed::CalledAway(_) => CloseReason::Broken,
    }
}

/// Relays from a state on, until the connection ends or is called away.
pub(crate) fn resume_plain<'a, O: Observer>(
    client: &'a TcpStream,
    server: &'a TcpStream,
    pipes: &'a PipePool,
    state: RelayState,
    observer: O,
) -> impl Future<Output = Relayed> + use<'a, O> {
    let mut relay = Relay {
        upload: Direction::new(client, server, pipes, state.upload),
        download: Direction::new(server, client, pipes, state.download),
        observer,
    };
    // Not an async block: what a connection at rest holds is there once.
    std::future::poll_fn(move |cx| relay.poll(cx))
}

/// Both directions of one connection.
struct Relay<'a, O> {
    upload: Direction<'a>,
    download: Direction<'a>,
    observer: O,
}

impl<O: Observer> Relay<'_, O> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Relayed> {
        if let Poll::Ready(reason) = self.observer.poll_cut(cx) {
            return Poll::Ready(self.end(reason));
        }
        if self.observer.is_called_away() {
            return Poll::Ready(match (self.upload.take(), self.download.take()) {
                (Ok(upload), Ok(download)) => Relayed::CalledAway(RelayState { upload, download }),
                _ => self.end(CloseReason::Broken),
            });
        }
        let observer = &self.observer;
        let visit = observer.visit_bytes_max();
        let up = self.upload.poll(cx, visit, |bytes| observer.client_to_server(bytes));
        let down = self.download.poll(cx, visit, |bytes| observer.server_to_client(bytes));
        observer.holds(self.upload.held_bytes() + self.download.held_bytes());
        let reason = match (up, down) {
            (Poll::Ready(Err(side)), _) => reset_by(side, Side::From),
            (_, Poll::Ready(Err(side))) => reset_by(side, Side::To),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => CloseReason::Finished,
            _ => return Poll::Pending,
        };
        Poll::Ready(self.end(reason))
    }

    /// What does not end in order ends as an abort on both sides.
    fn end(&self, reason: CloseReason) -> Relayed {
        if !matches!(reason, CloseReason::Finished) {
            self.upload.from.reset_on_close();
            self.upload.to.reset_on_close();
        }
        Relayed::Ended(reason)
    }
}

/// Names the side that aborted; `client_side` is the client's place in the direction that failed.
fn reset_by(side: Side, client_side: Side) -> CloseReason {
    if side == client_side { CloseReason::ClientReset } else { CloseReason::DestinationReset }
}

/// One direction of the relay.
struct Direction<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    pipes: &'a PipePool,
    state: State,
}

enum State {
    /// `held` is what `to` has not taken yet, `bulk` the bytes of large reads in a row.
    Copying {
        held: Vec<u8>,
        taken: usize,
        bulk: usize,
    },
    Splicing(Spliced),
    Ended,
}

impl State {
    const fn copying(bulk: usize) -> Self {
        Self::Copying { held: Vec::new(), taken: 0, bulk }
    }
}

impl<'a> Direction<'a> {
    fn new(
        from: &'a TcpStream,
        to: &'a TcpStream,
        pipes: &'a PipePool,
        before: DirectionState,
    ) -> Self {
        let state = match before {
            DirectionState { ended: true, .. } => State::Ended,
            DirectionState { held, .. } => State::Copying { held, taken: 0, bulk: 0 },
        };
        Self { from, to, pipes, state }
    }

    /// Gives up what is held, for whoever goes on.
    fn take(&mut self) -> io::Result<DirectionState> {
        Ok(match std::mem::replace(&mut self.state, State::Ended) {
            State::Copying { mut held, taken, .. } => {
                held.drain(..taken);
                DirectionState { held, ended: false }
            }
            State::Splicing(spliced) => DirectionState { held: spliced.into_held()?, ended: false },
            State::Ended => DirectionState { held: Vec::new(), ended: true },
        })
    }

    /// One visit. Ready when the direction has ended; an error names the side that failed.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        visit_bytes_max: usize,
        mut moved: impl FnMut(usize),
    ) -> Poll<Result<(), Side>> {
        let ended = match &mut self.state {
            State::Copying { .. } => match self.poll_copying(cx, visit_bytes_max, &mut moved) {
                Ok(polled) => polled,
                Err(side) => return Poll::Ready(Err(side)),
            },
            State::Splicing(spliced) => match spliced.poll(cx, self.from, self.to, &mut moved) {
                Poll::Ready(Ok(Pause::End)) => Poll::Ready(()),
                Poll::Ready(Ok(Pause::Dry { run })) => {
                    let goes_on = run >= BULK_READ_BYTES_MIN;
                    self.state = State::copying(if goes_on { SPLICE_AFTER_BYTES } else { 0 });
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Poll::Ready(Err(side)) => return Poll::Ready(Err(side)),
                Poll::Pending => Poll::Pending,
            },
            // The other direction may go on for long; an abort here must still end the connection.
            State::Ended if is_aborted(self.from, cx) => return Poll::Ready(Err(Side::From)),
            State::Ended => return Poll::Ready(Ok(())),
        };
        if ended.is_pending() {
            return Poll::Pending;
        }
        self.state = State::Ended;
        Poll::Ready(self.to.shutdown_write().map_err(|_| Side::To))
    }

    /// Bytes read that the other side has not taken.
    fn held_bytes(&self) -> usize {
        match &self.state {
            State::Copying { held, taken, .. } => held.len() - taken,
            State::Splicing(_) | State::Ended => 0,
        }
    }

    fn poll_copying(
        &mut self,
        cx: &mut Context<'_>,
        visit_bytes_max: usize,
        moved: &mut impl FnMut(usize),
    ) -> Result<Poll<()>, Side> {
        let State::Copying { held, taken, bulk } = &mut self.state else {
            unreachable!("the caller has looked");
        };
        // What is held goes out before anything new is read.
        while *taken < held.len() {
            if self.to.poll_writable(cx).is_pending() {
                return self.watch_source(cx);
            }
            match would_block(self.to.try_write(&held[*taken..])).map_err(|_| Side::To)? {
                Some(written) => {
                    *taken += written;
                    moved(written);
                }
                None => continue,
            }
        }
        if *taken > 0 {
            *taken = 0;
            buffers::give_back(std::mem::take(held));
        }
        loop {
            if self.from.poll_readable(cx).is_pending() {
                return Ok(Poll::Pending);
            }
            if *bulk >= SPLICE_AFTER_BYTES
                && self.from.has_descriptor()
                && self.to.has_descriptor()
                && let Some(spliced) = Spliced::begin(self.pipes)
            {
                self.state = State::Splicing(spliced);
                cx.waker().wake_by_ref();
                return Ok(Poll::Pending);
            }
            let copied = runtime::scratch(|scratch| {
                copy_once(self.from, self.to, &mut scratch[..visit_bytes_max], held)
            })?;
            let Some(Copied { read, written }) = copied else { continue };
            moved(written);
            runtime::moved_bytes(read);
            if read == 0 {
                return Ok(Poll::Ready(()));
            }
            *bulk = if read >= BULK_READ_BYTES_MIN { bulk.saturating_add(read) } else { 0 };
            // The next connection's turn; this one asks again behind it.
            cx.waker().wake_by_ref();
            return Ok(Poll::Pending);
        }
    }

    /// While the destination is full the source is not read, but its abort must be noticed.
    fn watch_source(&self, cx: &mut Context<'_>) -> Result<Poll<()>, Side> {
        if is_aborted(self.from, cx) { Err(Side::From) } else { Ok(Poll::Pending) }
    }
}

struct Copied {
    read: usize,
    written: usize,
}

/// Reads once and writes what came; what the destination does not take is held. `None` when there
/// was nothing to read.
fn copy_once(
    from: &TcpStream,
    to: &TcpStream,
    buffer: &mut [u8],
    held: &mut Vec<u8>,
) -> Result<Option<Copied>, Side> {
    let Some(read) = would_block(from.try_read(buffer)).map_err(|_| Side::From)? else {
        return Ok(None);
    };
    if read == 0 {
        return Ok(Some(Copied { read, written: 0 }));
    }
    let written = would_block(to.try_write(&buffer[..read])).map_err(|_| Side::To)?.unwrap_or(0);
    if written < read {
        *held = buffers::take();
        held.extend_from_slice(&buffer[written..read]);
    }
    Ok(Some(Copied { read, written }))
}
