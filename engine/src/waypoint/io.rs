//! Our sockets, executor and clock as hyper asks for them.

use std::{
    future::Future,
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use hyper::rt;

use super::serve::Activity;
use crate::runtime::{self, TcpStream};

/// A socket, or an end of a pair in memory, with what was read from it before.
pub(crate) struct Io {
    socket: Rc<TcpStream>,
    early: Bytes,
    heard: Option<Rc<Activity>>,
}

impl Io {
    pub(crate) fn new(socket: Rc<TcpStream>, early: Bytes) -> Self {
        Self { socket, early, heard: None }
    }

    /// Tells `heard` of everything that comes from here on.
    pub(crate) fn telling(mut self, heard: Rc<Activity>) -> Self {
        self.heard = Some(heard);
        self
    }

    pub(crate) fn socket(&self) -> &Rc<TcpStream> {
        &self.socket
    }
}

impl rt::Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.has_remaining() {
            let bytes = this.early.len().min(buffer.remaining());
            buffer.put_slice(&this.early.split_to(bytes));
            if let Some(heard) = &this.heard {
                heard.heard();
            }
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(this.socket.poll_readable(cx));
            let read = runtime::scratch(|scratch| {
                let most = buffer.remaining().min(runtime::visit_bytes_max()).min(scratch.len());
                let read = this.socket.try_read(&mut scratch[..most])?;
                buffer.put_slice(&scratch[..read]);
                Ok::<_, io::Error>(read)
            });
            match read {
                Ok(read) => {
                    runtime::moved_bytes(read);
                    if let Some(heard) = this.heard.as_ref().filter(|_| read > 0) {
                        heard.heard();
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl rt::Write for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |socket| socket.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |socket| socket.try_writev(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown_write())
    }
}

impl Io {
    fn write(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_writable(cx));
            match write(&self.socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }
}

/// Runs what hyper spawns on this shard, in the turns of whoever's task it is that asks.
#[derive(Clone, Copy)]
pub(crate) struct OnShard;

impl<F: Future<Output = ()> + 'static> rt::Executor<F> for OnShard {
    fn execute(&self, future: F) {
        runtime::spawn(future);
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
