//! The body of an answer that comes in chunks (RFC 9112 §7.1), of which only the end matters.
//!
//! ```text
//!  Size ──;──▶ Extension
//!    └──CR─┬──────┘
//!       SizeEnd ──LF, not 0──▶ Data ──all of it──▶ DataEnd ──CR──▶ NextSize ──LF──▶ Size
//!          └──LF, 0──▶ Line ──CR──▶ End ──LF──▶ complete
//!                       └─any─▶ Trailer ──LF──▶ Line
//! ```

use anyhow::{Context, Result, bail, ensure};

/// Bytes of size lines and trailers between two pieces of data, at most.
const LINES_BYTES_MAX: usize = 64 * 1024;

/// How far a body in chunks is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    state: State,
    /// Bytes since the last piece of data.
    line_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Size { bytes: Option<usize> },
    Extension { bytes: usize },
    SizeEnd { bytes: usize },
    Data { left_bytes: usize },
    DataEnd,
    NextSize,
    Line,
    Trailer,
    End,
}

impl Chunks {
    /// Before the first chunk.
    pub(super) fn new() -> Chunks {
        Chunks { state: State::Size { bytes: None }, line_bytes: 0 }
    }

    /// Takes in bytes of the body: how many of them belong to it, if it ends with them.
    ///
    /// # Errors
    /// What is wrong with the chunks.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let State::Data { left_bytes } = &mut self.state {
                let here = (*left_bytes).min(bytes.len() - at);
                *left_bytes -= here;
                at += here;
                if *left_bytes == 0 {
                    self.state = State::DataEnd;
                }
                self.line_bytes = 0;
                continue;
            }
            at += 1;
            if matches!((self.state, byte), (State::End, b'\n')) {
                return Ok(Some(at));
            }
            self.state = next(self.state, byte)?;
            self.line_bytes += 1;
            ensure!(
                self.line_bytes <= LINES_BYTES_MAX,
                "a line between the chunks of the answer has no end"
            );
        }
        Ok(None)
    }
}

/// The state after a byte that is no data.
fn next(state: State, byte: u8) -> Result<State> {
    Ok(match (state, byte) {
        (State::Size { bytes: Some(bytes) }, b'\r') => State::SizeEnd { bytes },
        (State::Size { bytes: Some(bytes) }, b';' | b' ' | b'\t') => State::Extension { bytes },
        (State::Size { bytes }, digit) => {
            let value = char::from(digit).to_digit(16).with_context(|| {
                format!("a chunk of the answer has no size: {:?} is no digit", char::from(digit))
            })?;
            let bytes = bytes.unwrap_or(0).checked_mul(16).context("a chunk is too large")?;
            State::Size { bytes: Some(bytes + value as usize) }
        }
        (State::Extension { bytes }, b'\r') => State::SizeEnd { bytes },
        (State::Extension { bytes }, _) => State::Extension { bytes },
        (State::SizeEnd { bytes: 0 }, b'\n') => State::Line,
        (State::SizeEnd { bytes }, b'\n') => State::Data { left_bytes: bytes },
        (State::DataEnd, b'\r') => State::NextSize,
        (State::NextSize, b'\n') => State::Size { bytes: None },
        (State::Line, b'\r') => State::End,
        (State::Line | State::Trailer, b'\n') => State::Line,
        (State::Line | State::Trailer, _) => State::Trailer,
        (State::SizeEnd { .. } | State::DataEnd | State::NextSize | State::End, byte) => {
            bail!("a chunk of the answer ends with {:?}, not with a line's end", char::from(byte))
        }
        (State::Data { .. }, _) => unreachable!("data is skipped before"),
    })
}
