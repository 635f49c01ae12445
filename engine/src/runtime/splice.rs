//! Splicing: bytes from socket to socket without passing through us.
//!
//! A [`Pipe`] comes from the shard's [`PipePool`] and goes back to it when dropped empty. All calls
//! are plain splice(2) on ready sockets: the ring's own splice operation would run each on a worker
//! thread of the kernel.

use std::cell::{Cell, RefCell};
#[cfg(feature = "sim")]
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with};

use super::descriptors::unless_reserved;
use super::net::{Stream, TcpStream};

/// What a pipe is asked to hold. Pages count against `pipe-user-pages-soft` for processes without
/// `CAP_SYS_RESOURCE`; beyond it pipes stay at the kernel's default of 64 KiB, or less.
const PIPE_BYTES: usize = 1024 * 1024;
/// What a simulated pipe holds.
#[cfg(feature = "sim")]
const SIMULATED_BYTES: usize = 64 * 1024;
/// Empty pipes kept for the next; an empty pipe costs two descriptors and about 10 KiB of kernel
/// memory.
const IDLE_PIPES_MAX: usize = 8;

/// Lends pipes to the connections of one shard, at most so many at a time.
#[derive(Clone)]
pub struct PipePool {
    inner: Rc<Pool>,
}

struct Pool {
    pipes_max: usize,
    lent: Cell<usize>,
    idle: RefCell<Vec<Ends>>,
}

impl PipePool {
    /// A pool that lends at most `pipes_max` at a time.
    pub fn new(pipes_max: usize) -> PipePool {
        let pool = Pool { pipes_max, lent: Cell::new(0), idle: RefCell::default() };
        PipePool { inner: Rc::new(pool) }
    }

    /// A pipe, or `None` when all are lent or the kernel gives none: copy, then.
    pub fn take(&self) -> Option<Pipe> {
        if self.inner.lent.get() >= self.inner.pipes_max {
            return None;
        }
        let idle = self.inner.idle.borrow_mut().pop();
        let ends = idle.or_else(|| Ends::new().ok())?;
        self.inner.lent.set(self.inner.lent.get() + 1);
        Some(Pipe { ends: Some(ends), held_bytes: 0, pool: self.inner.clone() })
    }

    /// Pipes lent at the moment.
    pub fn lent(&self) -> usize {
        self.inner.lent.get()
    }

    /// Empty pipes kept at the moment.
    pub fn idle(&self) -> usize {
        self.inner.idle.borrow().len()
    }
}

impl fmt::Debug for PipePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipePool").field("lent", &self.lent()).field("idle", &self.idle()).finish()
    }
}

#[derive(Debug)]
enum Ends {
    Kernel {
        read: OwnedFd,
        write: OwnedFd,
        capacity_bytes: usize,
    },
    #[cfg(feature = "sim")]
    Simulated(VecDeque<u8>),
}

impl Ends {
    fn new() -> rustix::io::Result<Ends> {
        #[cfg(feature = "sim")]
        if super::sim::World::current().is_some() {
            return Ok(Ends::Simulated(VecDeque::new()));
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (read, write) = (unless_reserved(read)?, unless_reserved(write)?);
        let capacity_bytes = fcntl_setpipe_size(&write, PIPE_BYTES)
            .or_else(|_| rustix::pipe::fcntl_getpipe_size(&write))?;
        Ok(Ends::Kernel { read, write, capacity_bytes })
    }
}

/// A pipe between two sockets. Dropped empty it goes back to its pool; dropped with bytes in it,
/// the bytes are lost with it.
pub struct Pipe {
    ends: Option<Ends>,
    held_bytes: usize,
    pool: Rc<Pool>,
}

impl Pipe {
    /// Bytes inside.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether nothing is inside.
    pub fn is_empty(&self) -> bool {
        self.held_bytes == 0
    }

    /// Bytes it can hold at best; small segments fill it with fewer.
    pub fn capacity_bytes(&self) -> usize {
        match self.ends() {
            Ends::Kernel { capacity_bytes, .. } => *capacity_bytes,
            #[cfg(feature = "sim")]
            Ends::Simulated(_) => SIMULATED_BYTES,
        }
    }

    /// Takes out what is inside, for whoever goes on without a pipe.
    ///
    /// # Errors
    /// When the pipe cannot be read: what is inside is lost then.
    pub fn take_held(&mut self) -> io::Result<Vec<u8>> {
        let held = std::mem::take(&mut self.held_bytes);
        let mut bytes = vec![0; held];
        let mut taken = 0;
        while taken < held {
            match self.ends.as_mut().expect("present until dropped") {
                Ends::Kernel { read, .. } => {
                    let piece = &mut bytes[taken..];
                    match rustix::io::retry_on_intr(|| rustix::io::read(&*read, &mut *piece))? {
                        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                        more => taken += more,
                    }
                }
                #[cfg(feature = "sim")]
                Ends::Simulated(inside) => {
                    for (byte, moved) in bytes.iter_mut().zip(inside.drain(..held)) {
                        *byte = moved;
                    }
                    taken = held;
                }
            }
        }
        Ok(bytes)
    }

    fn ends(&self) -> &Ends {
        self.ends.as_ref().expect("present until dropped")
    }
}

#[cfg(feature = "sim")]
impl Pipe {
    fn simulated(&mut self) -> &mut VecDeque<u8> {
        match self.ends.as_mut().expect("present until dropped") {
            Ends::Simulated(bytes) => bytes,
            Ends::Kernel { .. } => panic!("a pipe of the kernel beside a simulated connection"),
        }
    }

    fn fill_simulated(&mut self, stream: &TcpStream, max: usize) -> io::Result<usize> {
        let room = SIMULATED_BYTES - self.simulated().len();
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut bytes = vec![0; room.min(max)];
        let moved = stream.try_read(&mut bytes)?;
        self.simulated().extend(&bytes[..moved]);
        Ok(moved)
    }

    fn drain_simulated(&mut self, stream: &TcpStream) -> io::Result<usize> {
        let bytes = self.simulated().make_contiguous();
        let moved = stream.try_write(bytes)?;
        self.simulated().drain(..moved);
        Ok(moved)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.pool.lent.set(self.pool.lent.get() - 1);
        let mut idle = self.pool.idle.borrow_mut();
        if self.held_bytes == 0 && idle.len() < IDLE_PIPES_MAX {
            idle.extend(self.ends.take());
        }
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").field("held_bytes", &self.held_bytes).finish_non_exhaustive()
    }
}

/// Moves up to `max` bytes from `stream` into `pipe`. Zero bytes mean the end of the stream.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] when nothing moved. With an empty pipe that means that the stream
/// has nothing; with bytes in the pipe it may mean that the pipe is full: empty it first, then ask
/// again.
pub fn splice_in(stream: &TcpStream, pipe: &mut Pipe, max: usize) -> io::Result<usize> {
    let moved = match (stream.io(), pipe.ends()) {
        (Stream::Kernel(io), Ends::Kernel { write, .. }) => {
            io.try_splice(pipe.is_empty(), |from| splice(from, write, max))?
        }
        (Stream::Joined(_), _) => return Err(io::ErrorKind::Unsupported.into()),
        #[cfg(feature = "sim")]
        _ => pipe.fill_simulated(stream, max)?,
    };
    pipe.held_bytes += moved;
    Ok(moved)
}

/// Moves what is in `pipe` to `stream`, as far as it takes it.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] when `stream` takes nothing, or the pipe is empty.
pub fn splice_out(pipe: &mut Pipe, stream: &TcpStream) -> io::Result<usize> {
    if pipe.is_empty() {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let held = pipe.held_bytes;
    let moved = match (stream.io(), pipe.ends()) {
        (Stream::Kernel(io), Ends::Kernel { read, .. }) => {
            io.try_send(|to| splice(read, to, held))?
        }
        (Stream::Joined(_), _) => return Err(io::ErrorKind::Unsupported.into()),
        #[cfg(feature = "sim")]
        _ => pipe.drain_simulated(stream)?,
    };
    pipe.held_bytes -= moved;
    Ok(moved)
}

fn splice(from: impl AsFd, to: impl AsFd, max: usize) -> Result<usize, Errno> {
    rustix::pipe::splice(from, None, to, None, max, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)
}
