//! What is kept about a stream, and about streams that are gone.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Instant;

use super::budget::ENDED_STREAMS_REMEMBERED;
use super::flow::{ReceiveWindow, SendWindow, StreamWindows};

/// A stream's number. The client's are odd.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u32);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}", self.0)
    }
}

/// One direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    /// HEADERS have not passed yet: the client waits for the response, the server has not given it.
    AwaitingHeaders,
    /// DATA flows.
    Open,
    /// END_STREAM has passed.
    Closed,
}

/// A stream that is open, or that ended with bytes still unreleased.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) send_window: SendWindow,
    pub(crate) receive_window: ReceiveWindow,
    /// When half of that window began to be taken, in milliseconds of the connection.
    pub(crate) half_began: u32,
    /// Bytes that were taken so far, as far as they can be counted.
    pub(crate) all_taken: u32,
    pub(crate) send: Half,
    pub(crate) receive: Half,
    /// No longer open on the wire; kept until its bytes are released.
    pub(crate) ended: bool,
}

/// Small, because idle tunnels are counted in tens of thousands.
const _: () = assert!(size_of::<Stream>() <= 32);

/// The streams of a connection.
#[derive(Debug)]
pub(crate) struct Streams {
    map: HashMap<u32, Stream, BuildHasherDefault<IdHasher>>,
    open: usize,
    windows: StreamWindows,
    /// From when on milliseconds are counted.
    began: Instant,
}

impl Streams {
    pub(crate) fn new(windows: StreamWindows, now: Instant) -> Self {
        Self { map: HashMap::default(), open: 0, windows, began: now }
    }

    /// Streams open on the wire, as both sides count them (RFC 9113 §5.1.2).
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// All entries, with those that only wait for a release.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Adds a stream whose HEADERS have passed in one direction.
    pub(crate) fn insert(&mut self, id: u32, send_window: SendWindow, send: Half, receive: Half) {
        self.open += 1;
        let receive_window = self.windows.first();
        let stream = Stream {
            send_window,
            receive_window,
            half_began: 0,
            all_taken: 0,
            send,
            receive,
            ended: false,
        };
        let before = self.map.insert(id, stream);
        debug_assert!(before.is_none(), "stream ids are never used twice");
    }

    /// Takes account of bytes that arrived on an open stream; false where there is none.
    pub(crate) fn receive(&mut self, id: u32, bytes: u32, now: Instant) -> bool {
        let Some(stream) = self.map.get_mut(&id).filter(|stream| !stream.ended) else {
            return false;
        };
        if stream.receive_window.is_whole() {
            stream.half_began = milliseconds(self.began, now);
        }
        stream.receive_window.receive(bytes);
        true
    }

    /// What the peer is to be told of an open stream's window, if that is due: half of it was taken by now.
    pub(crate) fn announce(&mut self, id: u32, now: Instant) -> Option<u32> {
        let stream = self.map.get_mut(&id).filter(|stream| !stream.ended)?;
        // A stream that the peer has ended needs none.
        if stream.receive == Half::Closed || !stream.receive_window.is_half_taken() {
            return None;
        }
        let now = milliseconds(self.began, now);
        let took = now.wrapping_sub(stream.half_began);
        stream.half_began = now;
        self.windows.fit(&mut stream.receive_window, took, stream.all_taken);
        Some(stream.receive_window.announce())
    }

    /// An entry, open or not.
    pub(crate) fn entry(&mut self, id: u32) -> Option<&mut Stream> {
        self.map.get_mut(&id)
    }

    /// A stream that is open on the wire.
    pub(crate) fn get(&self, id: u32) -> Option<&Stream> {
        self.map.get(&id).filter(|stream| !stream.ended)
    }

    /// A stream that is open on the wire.
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Stream> {
        self.map.get_mut(&id).filter(|stream| !stream.ended)
    }

    /// Takes an open stream off the wire. It stays as an entry while bytes of it are unreleased.
    pub(crate) fn end(&mut self, id: u32) {
        let Some(stream) = self.get_mut(id) else { return };
        stream.ended = true;
        let unreleased = stream.receive_window.unreleased();
        self.open -= 1;
        if unreleased == 0 {
            self.remove(id);
        }
    }

    /// Removes an entry altogether.
    pub(crate) fn remove(&mut self, id: u32) -> Option<Stream> {
        let stream = self.map.remove(&id)?;
        self.windows.give_back(&stream.receive_window);
        if !stream.ended {
            self.open -= 1;
        }
        if self.map.is_empty() {
            self.map.shrink_to_fit();
        }
        Some(stream)
    }

    /// The ids of open streams, in order.
    pub(crate) fn open_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> =
            self.map.iter().filter(|(_, stream)| !stream.ended).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    #[cfg(debug_assertions)]
    pub(crate) fn unreleased(&self) -> u64 {
        self.map.values().map(|stream| u64::from(stream.receive_window.unreleased())).sum()
    }

    #[cfg(debug_assertions)]
    pub(crate) fn room(&self) -> u32 {
        self.windows.room(self.map.values().map(|stream| &stream.receive_window))
    }

    pub(crate) fn retained_bytes(&self) -> usize {
        // The table of the standard library keeps one control byte beside each slot, and one slot
        // in eight free.
        self.map.capacity() * 8 / 7 * (size_of::<(u32, Stream)>() + 1)
    }
}

/// As streams keep them; after 49 days they begin anew.
fn milliseconds(began: Instant, now: Instant) -> u32 {
    now.saturating_duration_since(began).as_millis() as u32
}

/// Spreads stream ids over the table: one multiplication, the same in every run. Ids are chosen by
/// the peer, but an entry costs it an open stream, of which it has a few hundred: collisions cannot
/// add up.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("only u32 keys are hashed");
    }

    fn write_u32(&mut self, id: u32) {
        // The golden ratio; the table uses the highest and the lowest bits.
        let product = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// How a stream that is gone has ended, which says what a late frame on it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Both sides ended it, or the peer reset it. A frame after that is a violation (RFC 9113
    /// §5.1).
    ByPeer,
    /// We reset or ignored it. The peer may not know yet.
    ByUs,
    /// So long ago that we do not remember.
    Forgotten,
    /// It was passed over: opening a higher one closed it (RFC 9113 §5.1.1).
    NeverOpened,
}

/// The last streams that ended.
#[derive(Debug, Default)]
pub(crate) struct EndedStreams {
    /// In the order of their ends; `true` for those we ended.
    recent: VecDeque<(u32, bool)>,
    /// The highest id that dropped out of `recent`.
    forgotten_to: u32,
}

impl EndedStreams {
    pub(crate) fn add(&mut self, id: u32, by_us: bool) {
        if self.recent.len() == ENDED_STREAMS_REMEMBERED
            && let Some((oldest, _)) = self.recent.pop_front()
        {
            self.forgotten_to = self.forgotten_to.max(oldest);
        }
        self.recent.push_back((id, by_us));
    }

    /// How a stream ended that is not open and whose id is not above the highest used.
    pub(crate) fn how(&self, id: u32) -> Ended {
        match self.recent.iter().rev().find(|(recent, _)| *recent == id) {
            Some((_, true)) => Ended::ByUs,
            Some((_, false)) => Ended::ByPeer,
            None if id <= self.forgotten_to => Ended::Forgotten,
            None => Ended::NeverOpened,
        }
    }

    pub(crate) fn retained_bytes(&self) -> usize {
        self.recent.capacity() * size_of::<(u32, bool)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_remembered_for_a_while() {
        let mut ended = EndedStreams::default();
        // The highest ended first; it is also the first to be forgotten.
        ended.add(1001, true);
        ended.add(3, true);
        ended.add(5, false);
        assert_eq!((ended.how(3), ended.how(5)), (Ended::ByUs, Ended::ByPeer));
        assert_eq!(ended.how(7), Ended::NeverOpened);
        for n in 0..ENDED_STREAMS_REMEMBERED as u32 {
            ended.add(11 + 2 * n, false);
        }
        for id in [3, 5, 7, 1001] {
            assert_eq!(ended.how(id), Ended::Forgotten);
        }
        assert_eq!((ended.how(11), ended.how(1003)), (Ended::ByPeer, Ended::NeverOpened));
    }

    #[test]
    fn ids_spread_over_the_table() {
        // The table takes its seven highest bits for a first glance and the lowest for the place.
        let hash = |id: u32| {
            let mut hasher = IdHasher::default();
            hasher.write_u32(id);
            hasher.finish()
        };
        let places: std::collections::BTreeSet<_> =
            (0..256).map(|n| hash(2 * n + 1) % 256).collect();
        assert!(places.len() > 128, "{} of 256 places", places.len());
    }
}
