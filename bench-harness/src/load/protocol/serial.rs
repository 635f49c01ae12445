//! One request at a time: write all of it, read until its answer is complete.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{Client, Standing};

/// What requests and answers look like.
pub(super) trait Message {
    /// The request. It is the same every time.
    fn request(&self) -> &[u8];

    /// Takes in bytes of an answer; tells whether it is complete with them.
    fn take(&mut self, bytes: &[u8]) -> Result<Progress>;
}

/// How far an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More must come.
    Partial,
    /// All of it is here.
    Complete,
    /// All of it is here, and the other side takes no more requests.
    Last,
}

#[derive(Debug)]
pub(super) struct Serial<M> {
    socket: TcpStream,
    message: M,
    /// Bytes of the request that the socket has taken.
    sent_bytes: usize,
    under_way: Option<Duration>,
}

impl<M: Message> Serial<M> {
    pub(super) fn new(socket: TcpStream, message: M) -> Serial<M> {
        Serial { socket, message, sent_bytes: 0, under_way: None }
    }

    fn write(&mut self) -> Result<()> {
        let request = self.message.request();
        while self.sent_bytes < request.len() {
            match (&self.socket).write(&request[self.sent_bytes..]) {
                Ok(count) => self.sent_bytes += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot send"),
            }
        }
        Ok(())
    }
}

impl<M: Message> Client for Serial<M> {
    fn send(&mut self, due: Duration, _answered: &mut Vec<Duration>) -> Result<Standing> {
        assert!(self.under_way.is_none(), "one request at a time");
        self.under_way = Some(due);
        self.sent_bytes = 0;
        self.write()?;
        Ok(Standing::Open)
    }

    fn advance(&mut self, scratch: &mut [u8], answered: &mut Vec<Duration>) -> Result<Standing> {
        if self.under_way.is_some() {
            self.write()?;
        }
        loop {
            let count = match (&self.socket).read(scratch) {
                Ok(0) if self.under_way.is_none() => return Ok(Standing::Ended),
                Ok(0) => bail!("the other side closed the connection and owed an answer"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Standing::Open),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("the connection broke"),
            };
            ensure!(self.under_way.is_some(), "the other side sent what nobody asked for");
            match self.message.take(&scratch[..count])? {
                Progress::Partial => {}
                Progress::Complete => answered.extend(self.under_way.take()),
                Progress::Last => {
                    answered.extend(self.under_way.take());
                    return Ok(Standing::Ended);
                }
            }
            // The socket gave less than there was room for, so it is empty; what comes later is told
            // anew.
            if count < scratch.len() {
                return Ok(Standing::Open);
            }
        }
    }

    fn outstanding(&self) -> Vec<Duration> {
        self.under_way.into_iter().collect()
    }

    fn socket(&self) -> &TcpStream {
        &self.socket
    }
}
