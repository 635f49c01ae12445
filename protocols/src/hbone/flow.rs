//! Flow-control windows (RFC 9113 §5.2 and §6.9).
//!
//! A window we grant is three numbers whose sum never changes: the credit the peer may still use,
//! the bytes that arrived and are still with the application, and the bytes that were taken and
//! wait to be announced.

use super::frame::U31_MAX;

/// A window the peer grants us. It can be negative after the peer lowered its initial window (RFC
/// 9113 §6.9.2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendWindow(i64);

/// A window was raised beyond 2^31-1 (RFC 9113 §6.9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

impl SendWindow {
    pub(crate) fn new(bytes: u32) -> Self {
        Self(i64::from(bytes))
    }

    /// Bytes that may be sent now.
    pub(crate) fn capacity(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// Takes account of bytes sent.
    pub(crate) fn consume(&mut self, bytes: usize) {
        assert!(bytes <= self.capacity(), "more bytes are sent than the peer's window allows");
        self.0 -= bytes as i64;
    }

    /// Grows by WINDOW_UPDATE, or moves by a changed initial window. Returns whether sending became
    /// possible.
    pub(crate) fn adjust(&mut self, by: i64) -> Result<bool, Overflow> {
        let (before, after) = (self.0, self.0 + by);
        if after > i64::from(U31_MAX) {
            return Err(Overflow);
        }
        self.0 = after;
        Ok(before <= 0 && after > 0)
    }
}

/// A window we grant the peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiveWindow {
    /// What the peer may still send.
    credit: u32,
    /// What arrived and was not released.
    unreleased: u32,
    /// What was released and is not announced yet.
    pending: u32,
}

impl ReceiveWindow {
    pub(crate) fn new(bytes: u32) -> Self {
        Self { credit: bytes, unreleased: 0, pending: 0 }
    }

    pub(crate) fn credit(&self) -> u32 {
        self.credit
    }

    pub(crate) fn unreleased(&self) -> u32 {
        self.unreleased
    }

    /// The sum that never changes.
    pub(crate) fn size(&self) -> u32 {
        self.credit + self.unreleased + self.pending
    }

    /// Takes account of bytes that arrived. The caller has checked the credit when the frame began.
    pub(crate) fn receive(&mut self, bytes: u32) {
        self.credit =
            self.credit.checked_sub(bytes).expect("the frame was checked against the credit");
        self.unreleased += bytes;
    }

    /// Takes account of bytes the application took (or will never take).
    pub(crate) fn release(&mut self, bytes: u32) {
        self.unreleased =
            self.unreleased.checked_sub(bytes).expect("no more is released than arrived");
        self.pending += bytes;
    }

    /// The increment to announce, once it is half the window: one WINDOW_UPDATE then serves many
    /// frames, and the peer still has the other half to send from while it travels.
    pub(crate) fn announce(&mut self) -> Option<u32> {
        if self.pending == 0 || self.pending < self.size() / 2 {
            return None;
        }
        self.credit += self.pending;
        Some(std::mem::take(&mut self.pending))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_send_window_goes_negative_and_comes_back() {
        let mut window = SendWindow::new(100);
        window.consume(60);
        assert_eq!(window.adjust(-100), Ok(false));
        assert_eq!(window.capacity(), 0);
        assert_eq!(
            window.adjust(60),
            Ok(false),
            "RFC 9113 §6.9.2: no sending before the window is positive"
        );
        assert_eq!(window.adjust(1), Ok(true));
        assert_eq!(window.capacity(), 1);
        assert_eq!(window.adjust(1), Ok(false), "sending was possible before");
        assert_eq!(window.adjust(i64::from(U31_MAX)), Err(Overflow));
        assert_eq!(window.capacity(), 2);
    }

    #[test]
    fn credit_is_announced_at_half_a_window() {
        let mut window = ReceiveWindow::new(100);
        window.receive(100);
        window.release(49);
        assert_eq!(window.announce(), None);
        window.release(1);
        assert_eq!(window.announce(), Some(50));
        assert_eq!(window.announce(), None);
        assert_eq!((window.credit(), window.unreleased()), (50, 50));
    }

    proptest! {
        #[test]
        fn no_credit_is_lost(size in 1_u32..1000, steps in proptest::collection::vec((any::<bool>(), 0_u32..1000), 0..60)) {
            let mut window = ReceiveWindow::new(size);
            for (receive, bytes) in steps {
                if receive {
                    window.receive(bytes.min(window.credit()));
                } else {
                    window.release(bytes.min(window.unreleased()));
                }
                let before = window.credit();
                let announced = window.announce().unwrap_or(0);
                prop_assert_eq!(window.credit(), before + announced);
                prop_assert_eq!(window.size(), size);
            }
            window.release(window.unreleased());
            window.announce();
            prop_assert!(window.credit() > size / 2, "a drained window never leaves the peer without credit");
        }
    }
}
