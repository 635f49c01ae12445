//! One connection of the null server.
//!
//! ```text
//!  Undecided ──first bytes──▶ Echo | Http1 | Http2 | Discard | Source
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;

use rustix::net::{RecvFlags, recv};

use super::http::{Http1, Http2};
use super::turn::{Outbox, Turn, ready};

/// Bytes moved before the others get their turn.
const VISIT_BYTES: usize = 1 << 20;
/// The commands by which a connection says what it wants, besides HTTP's own beginnings.
const COMMANDS: [(&[u8], Kind); 4] = [
    (b"GET ", Kind::Http1),
    (b"PRI * HTTP/2.0", Kind::Http2),
    (b"DISCARD\n", Kind::Discard),
    (b"SOURCE ", Kind::Source),
];

pub(super) struct Connection {
    socket: Rc<TcpStream>,
    state: State,
}

enum State {
    Undecided,
    /// Bytes to send back before more is read.
    Echo(Outbox),
    Http1(Box<Http1>),
    Http2(Box<Http2>),
    Discard,
    /// Bytes still to send; none until the command was read.
    Source(Option<u64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Echo,
    Http1,
    Http2,
    Discard,
    Source,
}

impl Connection {
    pub(super) fn new(socket: TcpStream) -> Connection {
        Connection { socket: Rc::new(socket), state: State::Undecided }
    }

    /// Goes on with what the socket gives and takes.
    pub(super) fn visit(&mut self, scratch: &mut [u8]) -> io::Result<Turn> {
        if let State::Undecided = self.state {
            let mut first = [0; 16];
            let Some(count) = ready(self.socket.peek(&mut first))? else {
                return Ok(Turn::Waiting);
            };
            if count == 0 {
                return Ok(Turn::Over);
            }
            let Some(kind) = detect(&first[..count]) else { return Ok(Turn::Waiting) };
            self.state = match kind {
                Kind::Echo => State::Echo(Outbox::default()),
                Kind::Http1 => State::Http1(Box::default()),
                Kind::Http2 => State::Http2(Box::new(Http2::new(self.socket.clone()))),
                Kind::Discard => State::Discard,
                Kind::Source => State::Source(None),
            };
        }
        match &mut self.state {
            State::Undecided => unreachable!("it was decided"),
            State::Echo(outbox) => echo(&self.socket, outbox, scratch),
            State::Http1(http1) => http1.visit(&self.socket, scratch),
            State::Http2(http2) => http2.visit(),
            State::Discard => discard(&self.socket, scratch),
            State::Source(left) => source(&self.socket, left, scratch),
        }
    }
}

/// What the first bytes ask for, if they are enough to tell.
fn detect(first: &[u8]) -> Option<Kind> {
    for (command, kind) in COMMANDS {
        if first.starts_with(command) {
            return Some(kind);
        }
        if command.starts_with(first) {
            return None;
        }
    }
    Some(Kind::Echo)
}

fn echo(mut socket: &TcpStream, outbox: &mut Outbox, scratch: &mut [u8]) -> io::Result<Turn> {
    let mut moved = 0;
    while moved < VISIT_BYTES {
        if !outbox.flush(socket)? {
            return Ok(Turn::Waiting);
        }
        match ready(socket.read(scratch))? {
            None => return Ok(Turn::Waiting),
            Some(0) => return Ok(Turn::Over),
            Some(count) => {
                let taken = ready(socket.write(&scratch[..count]))?.unwrap_or(0);
                if taken < count {
                    outbox.fill(&scratch[taken..count]);
                } else if count < scratch.len() {
                    // The socket is empty; what comes later is told anew.
                    return Ok(Turn::Waiting);
                }
                moved += count;
            }
        }
    }
    Ok(Turn::Unfinished)
}

/// Has the kernel throw the bytes away (`MSG_TRUNC`), so that it costs next to nothing.
fn discard(socket: &TcpStream, scratch: &mut [u8]) -> io::Result<Turn> {
    let mut moved = 0;
    while moved < VISIT_BYTES {
        let taken = recv(socket, &mut *scratch, RecvFlags::TRUNC).map(|(_, count)| count);
        match ready(taken.map_err(io::Error::from))? {
            None => return Ok(Turn::Waiting),
            Some(0) => return Ok(Turn::Over),
            Some(count) => moved += count,
        }
    }
    Ok(Turn::Unfinished)
}

fn source(mut socket: &TcpStream, left: &mut Option<u64>, scratch: &mut [u8]) -> io::Result<Turn> {
    if left.is_none() {
        let Some(count) = ready(socket.peek(&mut scratch[..64]))? else { return Ok(Turn::Waiting) };
        let Some(end) = scratch[..count].iter().position(|byte| *byte == b'\n') else {
            return if count < 64 { Ok(Turn::Waiting) } else { Err(ErrorKind::InvalidData.into()) };
        };
        let text = String::from_utf8_lossy(&scratch[COMMANDS[3].0.len()..end]).into_owned();
        *left = Some(text.parse().map_err(|_| io::Error::from(ErrorKind::InvalidData))?);
        socket.read_exact(&mut scratch[..=end])?;
    }
    let left = left.as_mut().expect("it was read");
    let mut moved = 0;
    while *left > 0 && moved < VISIT_BYTES {
        let count = (*left).min(scratch.len() as u64) as usize;
        match ready(socket.write(&scratch[..count]))? {
            None => return Ok(Turn::Waiting),
            Some(count) => {
                moved += count;
                *left -= count as u64;
            }
        }
    }
    if *left > 0 {
        return Ok(Turn::Unfinished);
    }
    // Ended, and then the client's end is waited for: closing at once could reset what is on its way.
    let _ = socket.shutdown(Shutdown::Write);
    discard(socket, scratch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_say_what_is_wanted() {
        for (first, want) in [
            (&b"GET /bytes/1 HTT"[..], Some(Kind::Http1)),
            (b"PRI * HTTP/2.0\r\n", Some(Kind::Http2)),
            (b"PRI * HTTP/1", Some(Kind::Echo)),
            (b"PRI", None),
            (b"G", None),
            (b"GETTING", Some(Kind::Echo)),
            (b"DISCARD\nxyz", Some(Kind::Discard)),
            (b"SOURCE 100\n", Some(Kind::Source)),
            (b"ZZZZ", Some(Kind::Echo)),
            (b"\0", Some(Kind::Echo)),
        ] {
            assert_eq!(detect(first), want, "{}", String::from_utf8_lossy(first));
        }
    }
}
