//! Counts the messages in a gRPC body: each is preceded by a flag and its length in four bytes.

/// Bytes before a message.
const PREFIX_BYTES: usize = 5;

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Messages {
    count: u64,
    prefix: [u8; PREFIX_BYTES],
    prefix_bytes: usize,
    /// Of the message that is passing.
    left: u64,
}

impl Messages {
    /// How many have begun.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// More of the body.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let passed = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= passed as u64;
                bytes = &bytes[passed..];
                continue;
            }
            let more = bytes.len().min(PREFIX_BYTES - self.prefix_bytes);
            self.prefix[self.prefix_bytes..self.prefix_bytes + more]
                .copy_from_slice(&bytes[..more]);
            self.prefix_bytes += more;
            bytes = &bytes[more..];
            if self.prefix_bytes == PREFIX_BYTES {
                let [_flag, length @ ..] = self.prefix;
                self.left = u32::from_be_bytes(length).into();
                self.prefix_bytes = 0;
                self.count += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_the_body_is_cut() {
        let body = [&[0, 0, 0, 0, 2, 7, 7][..], &[0, 0, 0, 0, 0], &[1, 0, 0, 0, 1, 9]].concat();
        for size in 1..=body.len() {
            let mut messages = Messages::default();
            body.chunks(size).for_each(|chunk| messages.pass(chunk));
            assert_eq!(messages.count(), 3, "in pieces of {size}");
        }
    }
}
