//! What is asked of a runtime before it is there, and why there is none.

use std::error::Error;
use std::fmt;
use std::io;

use super::reactor::choice::{ReactorChoice, ReactorReport, RingSizes};

/// How to make a [`Runtime`](super::Runtime).
#[derive(Clone, Debug, Default)]
pub struct RuntimeOptions {
    /// Which reactor; by default the ring where it works, epoll elsewhere.
    pub reactor: ReactorChoice,
    /// Queue lengths of the ring.
    pub ring: RingSizes,
}

/// A runtime could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum RuntimeError {
    /// `ring` was asked for and refused; the report says by what.
    RingRefused(ReactorReport),
    /// The descriptors that every runtime needs (eventfd, epoll) could not be made; most likely the
    /// descriptor limit is reached.
    Setup(io::Error),
}

impl fmt::Display for RuntimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuntimeError::RingRefused(report) => {
                write!(f, "io_uring was asked for but cannot be used: {}", report.reason())
            }
            RuntimeError::Setup(error) => write!(f, "the runtime could not be set up: {error}"),
        }
    }
}

impl Error for RuntimeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            RuntimeError::RingRefused(_) => None,
            RuntimeError::Setup(error) => Some(error),
        }
    }
}
