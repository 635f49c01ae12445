//! Our sockets and clock as hyper and h2 ask for them.

use std::{
    cell::Cell,
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use hyper::rt;
use ringway_http::head::{
    frames::{Flood, Frames},
    wire::{Ambiguous, Wire},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{interim::Http1Interims, serve::Activity};
use crate::runtime::{self, TcpStream};

/// A socket, or an end of a pair in memory, with what was read from it before.
pub(crate) struct Io {
    socket: Rc<TcpStream>,
    early: Bytes,
    heard: Option<Rc<Activity>>,
    guard: Option<Guard>,
    interims: Option<Rc<Http1Interims>>,
}

/// Keeps from a lenient parser what it should not take.
enum Guard {
    /// And whether nothing comes any more.
    Http1 {
        wire: Wire,
        ended: bool,
    },
    Http2(Box<Flooded>),
}

/// And what there was too much of: h2 has no word for it.
struct Flooded {
    frames: Frames,
    told: Rc<Cell<Option<Flood>>>,
}

impl Io {
    pub(crate) fn new(socket: Rc<TcpStream>, early: Bytes) -> Self {
        Self { socket, early, heard: None, guard: None, interims: None }
    }

    /// Tells `heard` of everything that comes from here on.
    pub(crate) fn telling(mut self, heard: Rc<Activity>) -> Self {
        self.heard = Some(heard);
        self
    }

    /// Refuses what servers read differently, in HTTP/1.
    pub(crate) fn guarded(mut self) -> Self {
        self.guard = Some(Guard::Http1 { wire: Wire::default(), ended: false });
        self
    }

    /// Refuses floods of frames that carry nothing, in HTTP/2.
    pub(crate) fn guarded_from_floods(mut self, told: Rc<Cell<Option<Flood>>>) -> Self {
        let frames = Frames::new(runtime::now());
        self.guard = Some(Guard::Http2(Box::new(Flooded { frames, told })));
        self
    }

    /// Writes these between what HTTP writes.
    pub(crate) fn interrupted_by(mut self, interims: Rc<Http1Interims>) -> Self {
        interims.begin();
        self.interims = Some(interims);
        self
    }

    pub(crate) fn socket(&self) -> &Rc<TcpStream> {
        &self.socket
    }
}

/// Where what is read is put.
trait Room {
    fn remaining(&self) -> usize;
    fn put(&mut self, bytes: &[u8]);
}

impl Room for rt::ReadBufCursor<'_> {
    fn remaining(&self) -> usize {
        rt::ReadBufCursor::remaining(self)
    }

    fn put(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }
}

impl Room for ReadBuf<'_> {
    fn remaining(&self) -> usize {
        ReadBuf::remaining(self)
    }

    fn put(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }
}

impl rt::Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().read(cx, &mut buffer)
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().read(cx, buffer)
    }
}

/// What cannot stand in a head: HTTP's to refuse, in the words that it has for it.
const UNREADABLE: &[u8] = b"\0";

/// Gives to HTTP what it may read.
fn hand_on(guard: &mut Option<Guard>, bytes: &[u8], room: &mut impl Room) -> io::Result<()> {
    let (wire, ended) = match guard {
        None => {
            room.put(bytes);
            return Ok(());
        }
        Some(Guard::Http2(guard)) => {
            guard.frames.pass(bytes, runtime::now()).map_err(|flood| {
                guard.told.set(Some(flood));
                io::Error::new(ErrorKind::InvalidData, flood)
            })?;
            room.put(bytes);
            return Ok(());
        }
        Some(Guard::Http1 { wire, ended }) => (wire, ended),
    };
    if *ended {
        return Ok(());
    }
    match wire.pass(bytes) {
        Ok(()) => room.put(bytes),
        Err((at, why)) => {
            *ended = true;
            if why == Ambiguous::Body {
                return Err(ErrorKind::InvalidData.into());
            }
            // In the place of the byte that must not come.
            room.put(&bytes[..at]);
            room.put(UNREADABLE);
        }
    }
    Ok(())
}

impl rt::Write for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, |socket| socket.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, |socket| socket.try_writev(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown_write())
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, |socket| socket.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, |socket| socket.try_writev(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown_write())
    }
}

impl Io {
    fn read(&mut self, cx: &mut Context<'_>, room: &mut impl Room) -> Poll<io::Result<()>> {
        if self.early.has_remaining() {
            let bytes = self.early.len().min(room.remaining());
            let early = self.early.split_to(bytes);
            hand_on(&mut self.guard, &early, room)?;
            if let Some(heard) = &self.heard {
                heard.heard();
            }
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.socket.poll_readable(cx));
            let read = runtime::scratch(|scratch| {
                let most = room.remaining().min(runtime::visit_bytes_max()).min(scratch.len());
                let read = self.socket.try_read(&mut scratch[..most])?;
                hand_on(&mut self.guard, &scratch[..read], room)?;
                Ok::<_, io::Error>(read)
            });
            match read {
                Ok(read) => {
                    runtime::moved_bytes(read);
                    if let Some(heard) = self.heard.as_ref().filter(|_| read > 0) {
                        heard.heard();
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn write(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if let Some(interims) = &self.interims {
            ready!(interims.poll_write(cx, &self.socket))?;
            interims.writes();
        }
        loop {
            ready!(self.socket.poll_writable(cx));
            match write(&self.socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => {
                    if let (Some(Guard::Http2(guard)), Ok(written)) = (&mut self.guard, &outcome) {
                        guard.frames.sent(*written);
                    }
                    return Poll::Ready(outcome);
                }
            }
        }
    }

    /// HTTP has written all that it had.
    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(interims) = &self.interims else { return Poll::Ready(Ok(())) };
        interims.has_flushed();
        interims.poll_write(cx, &self.socket)
    }
}

/// The shard's wheel.
#[derive(Clone, Copy)]
pub(crate) struct Wheel;

impl rt::Timer for Wheel {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(runtime::sleep(duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(runtime::sleep_until(deadline))
    }

    fn now(&self) -> Instant {
        runtime::now()
    }
}

impl rt::Sleep for runtime::Sleep {}
