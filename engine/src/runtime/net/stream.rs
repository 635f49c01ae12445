//! What a [`TcpStream`](super::TcpStream) runs on: the kernel's socket, nearly always; one end of a
//! pair in memory, for a tunnel inside a tunnel; or in tests a simulated socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, sockopt};
use socket2::SockRef;

#[cfg(feature = "sim")]
use super::super::sim::sockets::{SimDetached, SimStream};
use super::super::socket;
use super::super::watch::Watch;
use super::super::watched::Watched;
use super::pair::PairEnd;

#[derive(Debug)]
pub(crate) enum Stream {
    Kernel(Watched),
    Joined(Box<PairEnd>),
    #[cfg(feature = "sim")]
    Simulated(SimStream),
}

// Every connection has one or two of these.
#[cfg(not(feature = "sim"))]
const _: () = assert!(size_of::<Stream>() == size_of::<Watched>());

/// A connection that no reactor watches.
#[derive(Debug)]
pub(crate) enum Detached {
    Kernel(OwnedFd),
    #[cfg(feature = "sim")]
    Simulated(SimDetached),
}

impl Stream {
    pub(super) fn watch(&self) -> &Watch {
        match self {
            Stream::Kernel(io) => io.watch(),
            Stream::Joined(end) => end.watch(),
            #[cfg(feature = "sim")]
            Stream::Simulated(io) => io.watch(),
        }
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Kernel(io) => io.try_read(buffer.len(), |fd| {
                rustix::net::recv(fd, &mut *buffer, RecvFlags::empty()).map(|(got, _)| got)
            }),
            Stream::Joined(end) => end.try_read(buffer),
            #[cfg(feature = "sim")]
            Stream::Simulated(io) => io.try_read(buffer),
        }
    }

    pub(super) fn try_readv(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Stream::Kernel(io) => {
                let wanted = buffers.iter().map(|buffer| buffer.len()).sum();
                io.try_read(wanted, |fd| rustix::io::readv(fd, buffers))
            }
            Stream::Joined(end) => end.try_readv(buffers),
            #[cfg(feature = "sim")]
            Stream::Simulated(io) => io.try_readv(buffers),
        }
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Kernel(io) => {
                io.try_write(bytes.len(), |fd| rustix::net::send(fd, bytes, SendFlags::NOSIGNAL))
            }
            Stream::Joined(end) => end.try_write(bytes),
            #[cfg(feature = "sim")]
            Stream::Simulated(io) => io.try_write(bytes),
        }
    }

    pub(super) fn try_writev(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Kernel(io) => {
                let wanted = buffers.iter().map(|buffer| buffer.len()).sum();
                io.try_write(wanted, |fd| {
                    let mut nothing = SendAncillaryBuffer::default();
                    rustix::net::sendmsg(fd, buffers, &mut nothing, SendFlags::NOSIGNAL)
                })
            }
            Stream::Joined(end) => end.try_writev(buffers),
            #[cfg(feature = "sim")]
            Stream::Simulated(io) => io.try_writev(buffers),
        }
    }

    pub(super) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        match self {
            Stream::Kernel(io) => io.poll_readable(cx),
            Stream::Joined(end) => end.watch().poll_readable(cx),
            #[cfg(feature = "sim")]
            Stream::Simulated(io) => io.watch().poll_readable(cx),
        }
    }

    pub(super) fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        match self {
            Stream::Kernel(io) => io.poll_writable(cx),
            Stream::Joined(end) => end.watch().poll_writable(cx),
            #[cfg(feature = "sim")]
            Stream::Simulated(io) => io.watch().poll_writable(cx),
        }
    }

    pub(super) fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        match self {
            Stream::Kernel(io) => io.poll_closed(cx),
            Stream::Joined(end) => end.watch().poll_closed(cx),
            #[cfg(feature = "sim")]
            Stream::Simulated(io) => io.watch().poll_closed(cx),
        }
    }

    pub(super) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Stream::Kernel(io) => Ok(rustix::net::shutdown(io, Shutdown::Write)?),
            Stream::Joined(end) => end.shutdown_write(),
            #[cfg(feature = "sim")]
            Stream::Simulated(io) => io.shutdown_write(),
        }
    }

    pub(super) fn reset_on_close(&self) {
        match self {
            Stream::Kernel(io) => {
                // It fails only for descriptors that are no sockets; closing is all that is left
                // then.
                let _ = socket::set_abort_on_close(io);
            }
            Stream::Joined(end) => end.reset_on_close(),
            #[cfg(feature = "sim")]
            Stream::Simulated(io) => io.reset_on_close(),
        }
    }

    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Stream::Kernel(io) => {
                let error = sockopt::socket_error(io)?.err();
                if let Some(errno) = error {
                    io.watch().after_error(errno);
                }
                Ok(error.map(io::Error::from))
            }
            Stream::Joined(_) => Ok(None),
            #[cfg(feature = "sim")]
            Stream::Simulated(io) => Ok(io.take_error()),
        }
    }

    pub(super) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Kernel(io) => socket::peer_address(io),
            Stream::Joined(_) => Err(io::ErrorKind::Unsupported.into()),
            #[cfg(feature = "sim")]
            Stream::Simulated(io) => io.peer_addr(),
        }
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Kernel(io) => socket::local_address(io),
            Stream::Joined(_) => Err(io::ErrorKind::Unsupported.into()),
            #[cfg(feature = "sim")]
            Stream::Simulated(io) => io.local_addr(),
        }
    }

    pub(super) fn original_destination(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Kernel(io) => socket::original_destination(io),
            Stream::Joined(_) => Err(io::ErrorKind::Unsupported.into()),
            #[cfg(feature = "sim")]
            Stream::Simulated(io) => io.original_destination(),
        }
    }

    pub(super) fn set_unsent_bytes_max(&self, bytes: u32) -> io::Result<()> {
        match self {
            Stream::Kernel(io) => SockRef::from(io).set_tcp_notsent_lowat(bytes),
            Stream::Joined(_) => Ok(()),
            #[cfg(feature = "sim")]
            Stream::Simulated(_) => Ok(()),
        }
    }

    pub(super) fn into_fd(self) -> io::Result<OwnedFd> {
        match self {
            Stream::Kernel(io) => Ok(io.into_fd()),
            Stream::Joined(_) => Err(io::ErrorKind::Unsupported.into()),
            #[cfg(feature = "sim")]
            Stream::Simulated(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(super) fn detach(self) -> Detached {
        match self {
            Stream::Kernel(io) => Detached::Kernel(io.into_fd()),
            Stream::Joined(_) => unreachable!("only an accepted connection changes its shard"),
            #[cfg(feature = "sim")]
            Stream::Simulated(io) => Detached::Simulated(io.detach()),
        }
    }
}

impl Detached {
    pub(super) fn attach(self) -> Stream {
        match self {
            Detached::Kernel(fd) => Stream::Kernel(Watched::new(fd)),
            #[cfg(feature = "sim")]
            Detached::Simulated(detached) => Stream::Simulated(detached.attach()),
        }
    }
}
