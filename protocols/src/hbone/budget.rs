//! Every bound of a tunnel connection, and the ledger that tells work from abuse.
//!
//! A peer can make us work with frames that carry nothing. Each such kind of frame has a bucket: a
//! burst it may have at any time, a rate at which the bucket empties, and a price at which useful
//! work pays for more. Useful work is payload, in either direction. So what is in proportion to
//! traffic never ends a connection, however fast, and what is not in proportion does so after a few
//! hundred frames.
//!
//! DATA with even one byte of payload is useful work and has no bucket: the machine copies nothing
//! and keeps nothing per frame, and an application that writes single bytes makes just such frames.
//! On a stream that is gone it is no work. Only where the peer's window made the frame small, it counts by its bytes alone.

use std::time::{Duration, Instant};

use super::error::{Abuse, Error};

crate::bounds! {
    /// Our largest list is 64 KiB, five frames of the smallest maximum size.
    pub(super) const CONTINUATIONS_MAX: u32 = 8;
    Count per Tunnel: "GOAWAY with ENHANCE_YOUR_CALM"

    /// Settings in one SETTINGS frame. Nine are registered; the rest is room for greasing and experiments.
    pub(super) const SETTINGS_PER_FRAME_MAX: u32 = 64;
    Count per Tunnel: "GOAWAY with ENHANCE_YOUR_CALM"

    /// Answers that wait in the output queue because the peer does not read. A thousand RST_STREAMs are 13 KB.
    pub(super) const PROVOKED_OUTPUT_BYTES_MAX: usize = 64 * 1024;
    Bytes per Tunnel: "GOAWAY with ENHANCE_YOUR_CALM"

    /// How long a connection may take to show its preface and SETTINGS.
    pub(super) const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
    Time per Tunnel: "the tunnel is closed"

    /// How long a header block may stay open. Nothing else can be received meanwhile.
    pub(super) const HEADER_BLOCK_TIMEOUT: Duration = Duration::from_secs(10);
    Time per Tunnel: "the tunnel is closed"

    /// Streams whose end is remembered, so that a late frame is told from a wrong one. Must cover what can be in
    /// flight when a whole tunnel of streams ends at once; beyond it late frames get the benefit of the doubt.
    pub(super) const ENDED_STREAMS_REMEMBERED: usize = 64;
    Count per Tunnel: "the oldest is forgotten"

    /// Streams that ended while bytes of theirs are still with the application, as a multiple of the open ones
    /// allowed. Each costs a map entry, so without a bound a peer could pile them up behind an application that does
    /// not read.
    pub(super) const ENDED_STREAMS_UNRELEASED_FACTOR: usize = 2;
    Count per Tunnel: "REFUSED_STREAM"

    /// Buffers for split frames and header blocks above this are given back as soon as they are empty.
    pub(super) const BUFFER_BYTES_KEPT: usize = 1024;
    Bytes per Tunnel: "the buffer is freed"

    /// Heap the state machine of a tunnel may hold at the end of any call, for the largest settings that are used (a
    /// server's) and without counting what its own side queued (requests, responses, credit): a split header block,
    /// the two header tables, 600 stream entries, the queues.
    pub const RETAINED_BYTES_MAX: usize = 384 * 1024;
    Bytes per Tunnel: "GOAWAY with ENHANCE_YOUR_CALM"
}

/// One bucket.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// What goes into it.
    pub abuse: Abuse,
    /// Frames it takes at once.
    pub burst: u16,
    /// Frames a second it empties by.
    pub per_second: u16,
    /// Units of useful work that pay for one frame more; `None` if nothing does.
    pub price: Option<u32>,
}

/// The budget of each kind of frame that carries nothing, for the documentation.
pub fn budgets() -> impl Iterator<Item = Limit> {
    LIMITS.into_iter()
}

/// A DATA frame with payload, in either direction, is worth this many units…
const UNITS_PER_DATA_FRAME: u32 = 16;
/// …and so is each such stretch of its payload.
const BYTES_PER_WORK: u32 = 1024;
/// Work saved up for later, in units: a thousand frames' worth.
const UNITS_MAX: u32 = 16 * 1024;

const BUCKETS: usize = 15;

/// The table. Rates are per connection.
#[rustfmt::skip]
const LIMITS: [Limit; BUCKETS] = [
    // A client whose users give up before the tunnel opens does this; each costs us a dial begun in
    // vain.
    Limit { abuse: Abuse::RapidReset,             burst: 400, per_second: 100, price: None },
    // Only a violation provokes it. A correct peer never does, a defective one now and then.
    Limit { abuse: Abuse::ProvokedReset,          burst: 20,  per_second: 1,   price: None },
    // A client may open a whole concurrency of streams before it has read our SETTINGS.
    Limit { abuse: Abuse::RefusedStreams,         burst: 400, per_second: 50,  price: None },
    // Cheap for both sides, and other clients may share the tunnel with the one that is wrong.
    Limit { abuse: Abuse::MalformedMessages,      burst: 200, per_second: 20,  price: None },
    // Each may hold 64 KiB of references that unfold to megabytes.
    Limit { abuse: Abuse::HeaderListTooLarge,     burst: 4,   per_second: 0,   price: None },
    // No server of tunnels sends any; a generic one may send a "100 Continue" for each request.
    Limit { abuse: Abuse::InformationalResponses, burst: 200, per_second: 10,  price: None },
    // One at the start; some peers send another with their tuned window.
    Limit { abuse: Abuse::Settings,               burst: 16,  per_second: 1,   price: None },
    // Keep-alive is one in ten seconds; bandwidth estimators send one with every few frames of
    // DATA.
    Limit { abuse: Abuse::Pings,                  burst: 100, per_second: 10,  price: Some(16) },
    // Deprecated. A browser sends six at the start.
    Limit { abuse: Abuse::Priorities,             burst: 100, per_second: 4,   price: Some(64) },
    // Two make a graceful end.
    Limit { abuse: Abuse::GoAways,                burst: 8,   per_second: 0,   price: None },
    // Greasing sends a handful.
    Limit { abuse: Abuse::UnknownFrames,          burst: 100, per_second: 10,  price: Some(16) },
    // Some senders flush with one. It moves nothing.
    Limit { abuse: Abuse::EmptyData,              burst: 100, per_second: 10,  price: Some(16) },
    // Padding hides lengths, at a cost to both sides that is to stay in proportion.
    Limit { abuse: Abuse::Padding,                burst: 400, per_second: 100, price: Some(8) },
    // Two with each DATA frame is usual (stream and connection), eight is the limit; new streams
    // get one each.
    Limit { abuse: Abuse::WindowUpdates,          burst: 400, per_second: 100, price: Some(2) },
    // Late frames after we reset a stream. WINDOW_UPDATE comes late most often.
    Limit { abuse: Abuse::FramesOnClosedStreams,  burst: 400, per_second: 100, price: Some(2) },
];

/// The ledger of one connection.
#[derive(Debug)]
pub(crate) struct Budget {
    spent: [u16; BUCKETS],
    emptied_at: Instant,
    units: u32,
}

impl Budget {
    pub(crate) fn new(now: Instant) -> Self {
        Self { spent: [0; BUCKETS], emptied_at: now, units: 0 }
    }

    /// Books one frame, or other event, of this kind.
    pub(crate) fn charge(&mut self, abuse: Abuse, now: Instant) -> Result<(), Error> {
        self.empty(now);
        let bucket = LIMITS
            .iter()
            .position(|limit| limit.abuse == abuse)
            .expect("every charge has a bucket");
        let limit = &LIMITS[bucket];
        if self.spent[bucket] < limit.burst {
            self.spent[bucket] += 1;
            return Ok(());
        }
        match limit.price.and_then(|price| self.units.checked_sub(price)) {
            Some(left) => {
                self.units = left;
                Ok(())
            }
            None => Err(abuse.into()),
        }
    }

    /// Books DATA of a stream that is gone. Nobody takes it, so it is no work: what was under way when the stream ended is
    /// swallowed by the byte, and small frames have to be in proportion to what arrived before.
    pub(crate) fn charge_late_data(&mut self, length: u32, now: Instant) -> Result<(), Error> {
        match length < BYTES_PER_WORK {
            true => self.charge(Abuse::FramesOnClosedStreams, now),
            false => Ok(()),
        }
    }

    /// Books payload that moved, in either direction.
    pub(crate) fn earn(&mut self, payload_bytes: usize) {
        let stretches = (payload_bytes as u32).div_ceil(BYTES_PER_WORK);
        self.units = UNITS_MAX.min(self.units + stretches * UNITS_PER_DATA_FRAME);
    }

    /// Books payload that filled the peer's window to its end. Such a frame is as small as the peer wants it, so it
    /// is worth its bytes and no more: a window that opens byte by byte does not pay for itself.
    pub(crate) fn earn_cut_short(&mut self, payload_bytes: usize) {
        let units = payload_bytes as u32 / (BYTES_PER_WORK / UNITS_PER_DATA_FRAME);
        self.units = UNITS_MAX.min(self.units + units);
    }

    /// A stream that was opened in earnest pays for the WINDOW_UPDATE that belongs to it.
    pub(crate) fn earn_stream(&mut self) {
        self.units = UNITS_MAX.min(self.units + UNITS_PER_DATA_FRAME);
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

    fn charges_until_refused(budget: &mut Budget, abuse: Abuse, now: Instant) -> usize {
        (0..100_000).take_while(|_| budget.charge(abuse, now).is_ok()).count()
    }

    #[test]
    fn every_bucket_ends_a_flood() {
        let now = Instant::now();
        for limit in &LIMITS {
            let mut budget = Budget::new(now);
            assert_eq!(
                charges_until_refused(&mut budget, limit.abuse, now),
                usize::from(limit.burst)
            );
            assert_eq!(budget.charge(limit.abuse, now), Err(Error::PeerAbusive(limit.abuse)));
        }
    }

    #[test]
    fn every_bucket_with_a_rate_empties_with_time() {
        let start = Instant::now();
        for limit in LIMITS.iter().filter(|limit| limit.per_second > 0) {
            let mut budget = Budget::new(start);
            charges_until_refused(&mut budget, limit.abuse, start);
            let later = start + Duration::from_millis(2_999);
            let want = usize::from(limit.burst.min(2 * limit.per_second));
            assert_eq!(
                charges_until_refused(&mut budget, limit.abuse, later),
                want,
                "{:?}",
                limit.abuse
            );
            let never = later + Duration::from_secs(1 << 40);
            assert_eq!(
                charges_until_refused(&mut budget, limit.abuse, never),
                usize::from(limit.burst)
            );
        }
    }

    #[test]
    fn payload_pays_for_what_goes_with_it() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        for _ in 0..1_000_000 {
            budget.earn(1);
            for _ in 0..8 {
                budget.charge(Abuse::WindowUpdates, now).unwrap();
            }
        }
        for _ in 0..1_000_000 {
            budget.earn(1);
            budget.charge(Abuse::Pings, now).unwrap();
        }
        charges_until_refused(&mut budget, Abuse::EmptyData, now);
        budget.earn(usize::MAX >> 33);
        assert_eq!(
            charges_until_refused(&mut budget, Abuse::EmptyData, now),
            1024,
            "work is saved up to a bound"
        );
    }
}
