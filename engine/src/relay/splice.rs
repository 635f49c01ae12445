//! One plain direction in bulk: socket to pipe to socket inside the kernel, by non-blocking
//! `splice(2)` on readiness. Never by the ring's splice operation, which runs on worker threads.

use std::{
    io,
    task::{Context, Poll},
};

use super::side::{Side, is_aborted, would_block};
use crate::runtime::{self, Pipe, PipePool, TcpStream};

/// A direction that is being spliced.
pub(super) struct Spliced {
    pipe: Pipe,
    source_ended: bool,
    /// Bytes since the beginning.
    run: usize,
}

/// Why splicing stops.
pub(super) enum Pause {
    /// The source has ended and the pipe is empty.
    End,
    /// The source is silent and the pipe is empty, after a run of so many bytes: copying serves
    /// messages better.
    Dry { run: usize },
}

impl Spliced {
    /// Takes a pipe from the shard's pool; none when the pool is at its bound.
    pub(super) fn begin(pipes: &PipePool) -> Option<Self> {
        Some(Self { pipe: pipes.take()?, source_ended: false, run: 0 })
    }

    /// What is in the pipe. An end of the source that was seen already is seen again by the next read.
    pub(super) fn into_held(mut self) -> io::Result<Vec<u8>> {
        self.pipe.take_held()
    }

    /// One visit.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
        moved: &mut impl FnMut(usize),
    ) -> Poll<Result<Pause, Side>> {
        let mut budget = runtime::visit_bytes_max();
        loop {
            let emptied = match self.empty_pipe(cx, to, moved) {
                Ok(emptied) => emptied,
                Err(side) => return Poll::Ready(Err(side)),
            };
            if !emptied {
                if is_aborted(from, cx) {
                    return Poll::Ready(Err(Side::From));
                }
                return Poll::Pending;
            }
            if self.source_ended {
                return Poll::Ready(Ok(Pause::End));
            }
            if budget == 0 {
                // The next connection's turn; this one asks again behind it.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match would_block(runtime::splice_in(from, &mut self.pipe, budget)) {
                Ok(Some(0)) => self.source_ended = true,
                Ok(Some(bytes)) => {
                    runtime::moved_bytes(bytes);
                    budget -= bytes.min(budget);
                    self.run = self.run.saturating_add(bytes);
                }
                Ok(None) => return Poll::Ready(Ok(Pause::Dry { run: self.run })),
                Err(_) => return Poll::Ready(Err(Side::From)),
            }
        }
    }

    /// Moves what is in the pipe on. Returns whether it is empty.
    fn empty_pipe(
        &mut self,
        cx: &mut Context<'_>,
        to: &TcpStream,
        moved: &mut impl FnMut(usize),
    ) -> Result<bool, Side> {
        while !self.pipe.is_empty() {
            if to.poll_writable(cx).is_pending() {
                return Ok(false);
            }
            if let Some(bytes) =
                would_block(runtime::splice_out(&mut self.pipe, to)).map_err(|_| Side::To)?
            {
                moved(bytes);
            }
        }
        Ok(true)
    }
}
