//! Messages of fixed size that come back as they were sent.

use anyhow::{Result, ensure};

use super::serial::{Message, Progress};

/// Every byte of a message. It begins neither an HTTP request nor a command of the null server.
const FILL: u8 = 0x5a;

#[derive(Debug)]
pub(super) struct Raw {
    request: Vec<u8>,
    came_bytes: usize,
}

impl Raw {
    pub(super) fn new(size_bytes: usize) -> Raw {
        Raw { request: vec![FILL; size_bytes], came_bytes: 0 }
    }
}

impl Message for Raw {
    fn request(&self) -> &[u8] {
        &self.request
    }

    fn take(&mut self, bytes: &[u8]) -> Result<Progress> {
        ensure!(
            bytes.first() == Some(&FILL) && bytes.last() == Some(&FILL),
            "other bytes came back than were sent: is the target an echo (`ringway-bench serve null`)?"
        );
        self.came_bytes += bytes.len();
        ensure!(self.came_bytes <= self.request.len(), "more bytes came back than were sent");
        if self.came_bytes < self.request.len() {
            return Ok(Progress::Partial);
        }
        self.came_bytes = 0;
        Ok(Progress::Complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_complete_with_its_last_byte() {
        let mut raw = Raw::new(10);
        let piece = [FILL; 10];
        for _ in 0..2 {
            assert_eq!(raw.take(&piece[..1]).unwrap(), Progress::Partial);
            assert_eq!(raw.take(&piece[..8]).unwrap(), Progress::Partial);
            assert_eq!(raw.take(&piece[..1]).unwrap(), Progress::Complete);
        }
        assert!(Raw::new(2).take(&piece).unwrap_err().to_string().contains("more bytes"));
        assert!(raw.take(b"HTTP/1.1 400").unwrap_err().to_string().contains("echo"));
    }
}
