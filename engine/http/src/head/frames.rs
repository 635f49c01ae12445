//! HTTP/2 frames that carry nothing, looked for in the bytes of a client's connection: they are cheap to send and cost whoever reads them.
//!
//! The parser behind bounds what it holds: streams, header lists, resets, small DATA. It answers every PING and SETTINGS
//! and takes every PRIORITY, WINDOW_UPDATE and unknown frame, as many as come. Here each such kind has a bucket: a burst at
//! any time, a rate at which it empties, and a price at which useful work pays for more. What is in proportion to traffic never ends a
//! connection.

use std::fmt;
use std::time::{Duration, Instant};

/// What a client sends too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// Streams that are opened and reset.
    Resets,
    /// SETTINGS, each of which is acknowledged.
    Settings,
    /// PING, each of which is answered.
    Pings,
    /// PRIORITY, which nobody heeds.
    Priorities,
    /// Windows that are opened bit by bit.
    WindowUpdates,
    /// DATA with neither payload nor an end.
    EmptyData,
    /// DATA with padding.
    Padding,
    /// Frames of kinds that nobody knows.
    Unknown,
    /// GOAWAY, more than an end takes.
    GoAways,
    /// CONTINUATION, in one header block.
    Continuations,
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Flood::Resets => "streams that are reset at once",
            Flood::Settings => "SETTINGS",
            Flood::Pings => "PING",
            Flood::Priorities => "PRIORITY",
            Flood::WindowUpdates => "WINDOW_UPDATE",
            Flood::EmptyData => "DATA without any",
            Flood::Padding => "padding",
            Flood::Unknown => "frames of unknown kinds",
            Flood::GoAways => "GOAWAY",
            Flood::Continuations => "CONTINUATION",
        };
        write!(f, "the client sends too much of {what}")
    }
}

impl std::error::Error for Flood {}

/// One bucket.
struct Limit {
    flood: Flood,
    burst: u16,
    per_second: u16,
    /// Units of work that pay for one more; none if nothing does.
    price: Option<u32>,
}

/// Of CONTINUATION frames of one header block: a list of 64 KiB is four frames of the smallest size.
const CONTINUATIONS_MAX: u32 = 8;
/// A DATA frame with payload, a stream, and such a stretch of what is sent, are worth so many units.
const UNITS: u32 = 16;
const SENT_BYTES_PER_WORK: u32 = 1024;
/// Work that is saved up for later.
const UNITS_MAX: u32 = 16 * 1024;

#[rustfmt::skip]
const LIMITS: [Limit; 9] = [
    // Users who give up; Envoy cuts where half of 500 are. More than a stream and its DATA are worth: two in five may.
    Limit { flood: Flood::Resets,        burst: 500, per_second: 100, price: Some(40) },
    Limit { flood: Flood::Settings,      burst: 100, per_second: 10,  price: None },
    // Bandwidth estimators send one with every few frames of DATA.
    Limit { flood: Flood::Pings,         burst: 100, per_second: 10,  price: Some(16) },
    // Deprecated; some clients send one with each stream.
    Limit { flood: Flood::Priorities,    burst: 100, per_second: 10,  price: Some(16) },
    // Two for each frame of DATA that is sent is usual, ten are Envoy's limit.
    Limit { flood: Flood::WindowUpdates, burst: 500, per_second: 100, price: Some(2) },
    Limit { flood: Flood::EmptyData,     burst: 100, per_second: 10,  price: Some(16) },
    Limit { flood: Flood::Padding,       burst: 400, per_second: 100, price: Some(8) },
    Limit { flood: Flood::Unknown,       burst: 100, per_second: 10,  price: Some(16) },
    Limit { flood: Flood::GoAways,       burst: 8,   per_second: 0,   price: None },
];

const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;

const ACK_OR_END: u8 = 1;
const PADDED: u8 = 8;

/// Follows the frames of one client's connection.
#[derive(Debug)]
pub struct Frames {
    /// Of the preface, or of a payload, that are still to come.
    skip: usize,
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    continuations: u32,
    spent: [u16; LIMITS.len()],
    emptied_at: Instant,
    units: u32,
    sent_bytes: u32,
}

impl Frames {
    /// Of a connection from its preface on.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            skip: PREFACE_BYTES,
            head: [0; HEAD_BYTES],
            head_bytes: 0,
            continuations: 0,
            spent: [0; LIMITS.len()],
            emptied_at: now,
            units: 0,
            sent_bytes: 0,
        }
    }

    /// Looks at the next bytes.
    ///
    /// # Errors
    /// What there is too much of; the connection is to be cut.
    pub fn pass(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD_BYTES - self.head_bytes).min(bytes.len());
            self.head[self.head_bytes..self.head_bytes + taken].copy_from_slice(&bytes[..taken]);
            self.head_bytes += taken;
            bytes = &bytes[taken..];
            if self.head_bytes == HEAD_BYTES {
                self.head_bytes = 0;
                let [high, middle, low, kind, flags, ..] = self.head;
                self.skip = u32::from_be_bytes([0, high, middle, low]) as usize;
                self.frame(kind, flags, now)?;
            }
        }
        Ok(())
    }

    /// Bytes went to the client.
    pub fn sent(&mut self, bytes: usize) {
        self.sent_bytes = self.sent_bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        let stretches = self.sent_bytes / SENT_BYTES_PER_WORK;
        self.sent_bytes %= SENT_BYTES_PER_WORK;
        self.earn(stretches.saturating_mul(UNITS));
    }

    fn frame(&mut self, kind: u8, flags: u8, now: Instant) -> Result<(), Flood> {
        let is = |flag: u8| flags & flag != 0;
        // RFC 9113 §6.
        match kind {
            0 if is(PADDED) => self.charge(Flood::Padding, now),
            // Without payload it may be the end of a stream.
            0 if self.skip == 0 && !is(ACK_OR_END) => self.charge(Flood::EmptyData, now),
            0 => {
                self.earn(if self.skip > 0 { UNITS } else { 0 });
                Ok(())
            }
            1 => {
                self.continuations = 0;
                self.earn(UNITS);
                Ok(())
            }
            2 => self.charge(Flood::Priorities, now),
            3 => self.charge(Flood::Resets, now),
            4 if is(ACK_OR_END) => Ok(()),
            4 => self.charge(Flood::Settings, now),
            6 if is(ACK_OR_END) => Ok(()),
            6 => self.charge(Flood::Pings, now),
            7 => self.charge(Flood::GoAways, now),
            8 => self.charge(Flood::WindowUpdates, now),
            9 => {
                self.continuations += 1;
                match self.continuations {
                    ..=CONTINUATIONS_MAX => Ok(()),
                    _ => Err(Flood::Continuations),
                }
            }
            // What clients must not send is the parser's to refuse.
            5 => Ok(()),
            _ => self.charge(Flood::Unknown, now),
        }
    }

    fn earn(&mut self, units: u32) {
        self.units = UNITS_MAX.min(self.units.saturating_add(units));
    }

    fn charge(&mut self, flood: Flood, now: Instant) -> Result<(), Flood> {
        self.empty(now);
        let bucket = LIMITS.iter().position(|limit| limit.flood == flood);
        let bucket = bucket.expect("every kind that is charged has a bucket");
        let limit = &LIMITS[bucket];
        if self.spent[bucket] < limit.burst {
            self.spent[bucket] += 1;
            return Ok(());
        }
        let left = limit.price.and_then(|price| self.units.checked_sub(price));
        self.units = left.ok_or(flood)?;
        Ok(())
    }

    fn empty(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.emptied_at).as_secs();
        if seconds == 0 {
            return;
        }
        self.emptied_at += Duration::from_secs(seconds);
        for (spent, limit) in self.spent.iter_mut().zip(&LIMITS) {
            let emptied = u64::from(limit.per_second).saturating_mul(seconds);
            *spent = spent.saturating_sub(u16::try_from(emptied).unwrap_or(u16::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE: &[u8; PREFACE_BYTES] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [_, high, middle, low] = (payload as u32).to_be_bytes();
        let mut frame = vec![high, middle, low, kind, flags, 0, 0, 0, 1];
        frame.resize(HEAD_BYTES + payload, 7);
        frame
    }

    /// How many of these in a row pass, in pieces of `piece` bytes.
    fn passed(frames: &mut Frames, one: &[u8], piece: usize, now: Instant) -> usize {
        let pass = |frames: &mut Frames| {
            one.chunks(piece).try_for_each(|bytes| frames.pass(bytes, now)).is_ok()
        };
        (0..10_000).take_while(|_| pass(frames)).count()
    }

    fn begun(now: Instant) -> Frames {
        let mut frames = Frames::new(now);
        frames.pass(PREFACE, now).expect("nothing is wrong");
        frames
    }

    #[test]
    fn floods_end_however_they_are_cut() {
        let now = Instant::now();
        //  kind, flags, payload                  after
        let rows = [
            (frame(2, 0, 5), 100),
            (frame(3, 0, 4), 500),
            (frame(4, 0, 12), 100),
            (frame(6, 0, 8), 100),
            (frame(7, 0, 8), 8),
            (frame(8, 0, 4), 500),
            (frame(0, 0, 0), 100),
            (frame(0, 8, 255), 400),
            (frame(0xbe, 0xff, 12), 100),
            (frame(9, 0, 60), 8),
        ];
        for (one, after) in rows {
            for piece in [1, 4, 9, 1000] {
                assert_eq!(passed(&mut begun(now), &one, piece, now), after, "{one:?} by {piece}");
            }
        }
    }

    #[test]
    fn what_belongs_to_traffic_never_ends() {
        let now = Instant::now();
        let mut frames = begun(now);
        let with = |more: &[u8]| {
            [frame(1, 4, 50), frame(0, 0, 900), frame(0, 1, 0), more.to_vec()].concat()
        };
        for more in [
            [frame(8, 0, 4), frame(8, 0, 4)].concat(),
            frame(6, 0, 8),
            frame(2, 0, 5),
            // Answers to ours.
            [frame(6, 1, 8), frame(4, 1, 0)].concat(),
        ] {
            assert_eq!(passed(&mut frames, &with(&more), 1 << 20, now), 10_000, "{more:?}");
        }
        // Who downloads sends little else.
        for _ in 0..10_000 {
            frames.sent(16 << 10);
            frames.pass(&[frame(8, 0, 4), frame(8, 0, 4)].concat(), now).expect("in proportion");
        }
        // Every third user gives up.
        let given_up = [frame(1, 5, 50), frame(1, 5, 50), frame(1, 5, 50), frame(3, 0, 4)].concat();
        assert_eq!(passed(&mut frames, &given_up, 1 << 20, now), 10_000);
        // Blocks that are long, each for itself.
        let long = [frame(1, 0, 16_384), frame(9, 0, 16_384), frame(9, 4, 16_384)].concat();
        assert_eq!(passed(&mut frames, &long, 1 << 20, now), 10_000);
    }

    #[test]
    fn streams_do_not_pay_for_their_own_reset() {
        let now = Instant::now();
        for request in [frame(1, 5, 50), [frame(1, 4, 50), frame(0, 0, 1)].concat()] {
            let reset = [request, frame(3, 0, 4)].concat();
            let most = passed(&mut begun(now), &reset, 1 << 20, now);
            assert!((500..3_000).contains(&most), "{most}");
        }
    }

    #[test]
    fn buckets_empty_with_time() {
        let start = Instant::now();
        let mut frames = begun(start);
        for _ in 0..500 {
            frames.pass(&frame(3, 0, 4), start).expect("a burst");
        }
        let later = start + Duration::from_millis(2_500);
        assert_eq!(passed(&mut frames, &frame(3, 0, 4), 100, later), 200);
        // A window that opens byte by byte does not pay for itself.
        let mut frames = begun(start);
        let trickle = (0..10_000).take_while(|_| {
            frames.sent(10);
            frames.pass(&frame(8, 0, 4), start).is_ok()
        });
        assert!(trickle.count() < 1_000);
    }
}
