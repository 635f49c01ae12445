//! Flow-control windows (RFC 9113 §5.2 and §6.9).
//!
//! A window we grant is three numbers: the credit the peer may still use, the bytes that arrived and are still with the
//! application, and the bytes that were taken and wait to be announced. Their sum is the window's size.
//!
//! **No stream stalls another.** The windows of all streams together are never larger than the connection's. So each begins
//! small, and grows up to an equal share of what there is to grow by, as long as its application takes half of it in a moment; it
//! shrinks where that takes long, and where others grow. A part is for who comes next: one that rests, or whose application
//! takes nothing, keeps no more from the others than its own window.

use super::frame::{U31_MAX, WINDOW_BYTES_DEFAULT};
use super::settings::Settings;

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

    pub(crate) fn size(&self) -> u32 {
        self.credit + self.unreleased + self.pending
    }

    /// Whether nothing of it is used.
    pub(crate) fn is_whole(&self) -> bool {
        self.unreleased == 0 && self.pending == 0
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

    /// Whether half of it was taken: time to announce that, for a stream. One WINDOW_UPDATE then serves many frames, and the peer
    /// still has the other half to send from while it travels.
    pub(crate) fn is_half_taken(&self) -> bool {
        self.pending > 0 && self.pending >= self.size() / 2
    }

    /// The same for the connection, of which a part may be with applications that take nothing for a long time: half
    /// of what is left.
    pub(crate) fn is_half_taken_of_the_rest(&self) -> bool {
        self.pending > 0 && self.pending >= self.credit
    }

    /// The increment to announce now.
    pub(crate) fn announce(&mut self) -> u32 {
        self.credit += self.pending;
        std::mem::take(&mut self.pending)
    }

    fn widen(&mut self, by: u32) {
        self.pending += by;
    }

    /// By less than what the peer was not told of: credit cannot be taken back.
    fn narrow(&mut self, by: u32) {
        assert!(by < self.pending, "something is left to be announced");
        self.pending -= by;
    }
}

/// Who has half of a window taken in less than this gets a larger one: where a round trip takes as long, the window may be
/// what holds its peer up.
const QUICK_MILLISECONDS: u32 = 250;
/// By how much, at most.
const GROWTH: u32 = 4;
/// And up to such a part of all that was taken so far: who takes nothing after what fits into buffers on the way has shown no
/// pace. Windows grow by half in a round trip by that, as fast as TCP's own start.
const OF_ALL_TAKEN: u32 = 2;
/// So many parts of what windows may grow by are shared by those that grow. The rest is for who comes while one of them rests.
const SHARED_PARTS: u32 = 3;
const SHARED_OF: u32 = 4;
/// For so many streams first windows are kept free: as many as node proxies open in one tunnel. Of a peer that opens more, those that are not taken
/// could stall its others, if most of them are.
const RESERVED_STREAMS: u32 = 100;
/// Who needs longer than this gets a smaller one. One that has just grown needs up to four times as long as before.
const SLOW_MILLISECONDS: u32 = 2_000;

/// What the windows of a connection's streams may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamWindows {
    /// With which each stream begins.
    first: u32,
    /// To which one may grow.
    most: u32,
    /// By which they all may grow: what the connection's window has beyond the first ones of as many streams as there mostly are. Where that
    /// is next to nothing, an eighth of it: bulk needs more than a first window, and streams that are not taken can stall others anyway.
    growth: u32,
    /// Of `growth`.
    left: u32,
    /// How many have grown.
    grown: u32,
}

impl StreamWindows {
    pub(crate) fn new(settings: &Settings) -> Self {
        let first = settings.first_window_bytes();
        let firsts = first.saturating_mul(settings.streams_max.min(RESERVED_STREAMS));
        let connection = settings.connection_window_bytes;
        let growth = connection.saturating_sub(firsts).max(connection / 8);
        Self { first, most: settings.stream_window_bytes, growth, left: growth, grown: 0 }
    }

    /// A new stream's.
    pub(crate) fn first(&self) -> ReceiveWindow {
        ReceiveWindow::new(self.first)
    }

    /// Makes a window, half of which was taken in so many milliseconds, fit that pace. `all_taken` is what its stream has taken so far.
    pub(crate) fn fit(&mut self, window: &mut ReceiveWindow, milliseconds: u32, all_taken: u32) {
        let size = window.size();
        let has_grown = size > self.first;
        let shared = self.growth / SHARED_OF * SHARED_PARTS;
        let sharers = self.grown + u32::from(!has_grown);
        let share = self.most.min(self.first + shared / sharers);
        if milliseconds >= SLOW_MILLISECONDS {
            self.narrow(window, (size - self.first) / 2);
        } else if size > share {
            // Not at once: what is announced now keeps the peer going.
            self.narrow(window, (size - share).min(window.pending / 2));
        } else if milliseconds <= QUICK_MILLISECONDS {
            let most = share.min(all_taken / OF_ALL_TAKEN).min(size.saturating_mul(GROWTH));
            // Of what is left only half: others may come.
            let by = most.saturating_sub(size).min(self.left / 2);
            window.widen(by);
            self.left -= by;
        }
        self.grown += u32::from(window.size() > self.first);
        self.grown -= u32::from(has_grown);
    }

    fn narrow(&mut self, window: &mut ReceiveWindow, by: u32) {
        window.narrow(by);
        self.left += by;
    }

    /// A stream is gone; what it had is there for others.
    pub(crate) fn give_back(&mut self, window: &ReceiveWindow) {
        self.grown -= u32::from(window.size() > self.first);
        self.left += window.size() - self.first;
    }

    /// By how much all streams' windows together may grow, with those that have.
    #[cfg(debug_assertions)]
    pub(crate) fn room<'a>(&self, windows: impl Iterator<Item = &'a ReceiveWindow>) -> u32 {
        self.left + windows.map(|window| window.size() - self.first).sum::<u32>()
    }
}

impl Settings {
    /// What the peer may send on a new stream before the application takes it: half of the connection's window for as many streams as
    /// there may be, at least what HTTP/2 begins with, and at most [`stream_window_bytes`](Settings::stream_window_bytes), to which it grows
    /// where the application takes it quickly.
    #[must_use]
    pub fn first_window_bytes(&self) -> u32 {
        let share = self.connection_window_bytes / 2 / self.streams_max.max(1);
        share.max(WINDOW_BYTES_DEFAULT).min(self.stream_window_bytes)
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
        assert!(!window.is_half_taken());
        window.release(1);
        assert!(window.is_half_taken());
        assert_eq!(window.announce(), 50);
        assert!(!window.is_half_taken());
        assert_eq!((window.credit(), window.unreleased()), (50, 50));
    }

    #[test]
    fn a_connection_announces_half_of_what_is_not_stuck() {
        let mut window = ReceiveWindow::new(100);
        // Ninety that nobody takes, and four of the ten that are left.
        window.receive(94);
        window.release(4);
        assert!(!window.is_half_taken_of_the_rest());
        window.receive(1);
        window.release(1);
        assert!(window.is_half_taken_of_the_rest());
        assert!(!window.is_half_taken(), "which it would have waited for in vain");
        assert_eq!(window.announce(), 5);
    }

    /// With room for two windows' growth.
    fn windows() -> StreamWindows {
        StreamWindows { first: 100, most: 1000, growth: 1800, left: 1800, grown: 0 }
    }

    /// All of `window` was taken, in so many milliseconds.
    fn took(windows: &mut StreamWindows, window: &mut ReceiveWindow, milliseconds: u32) -> u32 {
        window.receive(window.credit());
        window.release(window.unreleased());
        windows.fit(window, milliseconds, u32::MAX);
        window.announce();
        window.size()
    }

    #[test]
    fn who_takes_quickly_gets_more_and_who_is_slow_gives_it_back() {
        let mut windows = windows();
        let mut window = windows.first();
        let sizes = [0, QUICK_MILLISECONDS, 1, 1]
            .map(|milliseconds| took(&mut windows, &mut window, milliseconds));
        assert_eq!(sizes, [400, 1000, 1000, 1000]);
        assert_eq!(windows.left, 900);
        // Not while the pace may have been another one a moment ago.
        window.receive(1000);
        window.release(500);
        windows.fit(&mut window, SLOW_MILLISECONDS - 1, u32::MAX);
        assert_eq!(window.size(), 1000);
        windows.fit(&mut window, SLOW_MILLISECONDS, u32::MAX);
        assert_eq!((window.size(), windows.left), (550, 1350));
        windows.give_back(&window);
        assert_eq!((windows.left, windows.grown), (1800, 0));
    }

    #[test]
    fn streams_that_are_taken_quickly_come_to_equal_shares_whoever_was_first() {
        let mut windows = windows();
        // Who only rests has no part in it.
        let resting: Vec<ReceiveWindow> = (0..50).map(|_| windows.first()).collect();
        let mut all: Vec<ReceiveWindow> = Vec::new();
        for share in [1000, 775, 550, 437, 370, 325] {
            all.push(windows.first());
            for _ in 0..8 {
                for window in &mut all {
                    took(&mut windows, window, 0);
                }
            }
            let sizes: Vec<u32> = all.iter().map(ReceiveWindow::size).collect();
            assert_eq!(sizes, vec![share; all.len()]);
        }
        assert!(resting.iter().all(|window| window.size() == 100));
    }

    #[test]
    fn who_has_grown_and_rests_leaves_something_for_who_comes() {
        let mut windows = windows();
        let sizes = [(); 4].map(|()| {
            let mut window = windows.first();
            for _ in 0..8 {
                took(&mut windows, &mut window, 0);
            }
            window.size()
        });
        assert_eq!(sizes, [1000, 775, 324, 100]);
    }

    #[test]
    fn where_very_many_streams_are_allowed_windows_still_grow() {
        let settings = Settings { streams_max: 65_535, ..Settings::server() };
        let mut windows = StreamWindows::new(&settings);
        let mut window = windows.first();
        assert_eq!(window.size(), WINDOW_BYTES_DEFAULT);
        windows.fit(&mut window, 0, u32::MAX);
        assert_eq!(window.size(), 4 * WINDOW_BYTES_DEFAULT);
    }

    #[test]
    fn who_has_filled_buffers_only_gets_no_more() {
        let mut windows = windows();
        let mut window = windows.first();
        windows.fit(&mut window, 0, 200);
        assert_eq!(window.size(), 100);
        windows.fit(&mut window, 0, 300);
        assert_eq!(window.size(), 150);
    }

    #[test]
    fn all_first_windows_fit_into_the_connections() {
        for settings in [Settings::server(), Settings::client()] {
            let firsts = settings.first_window_bytes() * settings.streams_max;
            assert!(firsts <= settings.connection_window_bytes, "{firsts}");
        }
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
                let announced = if window.is_half_taken() { window.announce() } else { 0 };
                prop_assert_eq!(window.credit(), before + announced);
                prop_assert_eq!(window.size(), size);
            }
            window.release(window.unreleased());
            if window.is_half_taken() {
                window.announce();
            }
            prop_assert!(window.credit() > size / 2, "a drained window never leaves the peer without credit");
        }
    }
}
