//! The shard's spare buffers: taken for a moment by whoever has bytes to keep, given back when they
//! are gone. A connection at rest holds none.

use std::cell::RefCell;

use crate::limits::{SPARE_BUFFER_BYTES_MAX, SPARE_BUFFERS_MAX};

/// What a new spare buffer can hold before it grows: one full record.
const SPARE_BUFFER_BYTES: usize = 16 * 1024 + 64;
const _: () = assert!(SPARE_BUFFER_BYTES <= SPARE_BUFFER_BYTES_MAX);

thread_local! {
    /// One stack of spare buffers a shard; a shard is a thread.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer, the one used last if there is one.
pub(crate) fn take() -> Vec<u8> {
    SPARE
        .with(|spare| spare.borrow_mut().pop())
        .unwrap_or_else(|| Vec::with_capacity(SPARE_BUFFER_BYTES))
}

/// Gives a buffer back. One that grew beyond the bound, or that finds enough others, is freed.
pub(crate) fn give_back(mut buffer: Vec<u8>) {
    let capacity = buffer.capacity();
    if !(SPARE_BUFFER_BYTES..=SPARE_BUFFER_BYTES_MAX).contains(&capacity) {
        return;
    }
    buffer.clear();
    SPARE.with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < SPARE_BUFFERS_MAX {
            spare.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_with_its_capacity() {
        let mut buffer = take();
        buffer.extend_from_slice(b"left over");
        let capacity = buffer.capacity();
        give_back(buffer);
        let again = take();
        assert!(again.is_empty());
        assert_eq!(again.capacity(), capacity);
    }

    #[test]
    fn no_more_than_the_bound_is_kept() {
        let many: Vec<_> = (0..SPARE_BUFFERS_MAX + 10).map(|_| take()).collect();
        many.into_iter().for_each(give_back);
        assert_eq!(SPARE.with(|spare| spare.borrow().len()), SPARE_BUFFERS_MAX);
    }

    #[test]
    fn a_buffer_that_grew_too_large_is_freed() {
        SPARE.with(|spare| spare.borrow_mut().clear());
        give_back(Vec::with_capacity(SPARE_BUFFER_BYTES_MAX + 1));
        assert_eq!(SPARE.with(|spare| spare.borrow().len()), 0);
    }
}
