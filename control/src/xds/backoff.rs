//! When the next stream is tried, by how the last one ended.
//!
//! | it ended because | next attempt |
//! |---|---|
//! | there was no connection, or no answer to the call | after 10 ms, doubled each time up to 2 s |
//! | the control plane refused it, or said what cannot be | the same, up to 15 s |
//! | the connection or the control plane went away, or it was done | within 2 s, and the doubling begins anew |
//!
//! Each is drawn by chance: a doubled delay from its upper half, the last from all of it, so that the nodes of a cluster
//! whose control plane restarts do not come back in one moment. A control plane that nobody hears is asked often, because
//! that costs it nothing and because the first node it serves again should not wait; one that refuses is left in peace.

use std::time::Duration;

use tonic::Code;

use super::end::{End, is_transient};

/// The first delay, doubled from there.
const DELAY_MIN: Duration = Duration::from_millis(10);

/// The longest delay while nobody answers. A control plane that is back is seen within it.
const UNREACHABLE_DELAY_MAX: Duration = Duration::from_secs(2);

/// The longest delay while the control plane answers that something is wrong.
const REFUSED_DELAY_MAX: Duration = Duration::from_secs(15);

/// All nodes of a cluster come back within this time when their control plane goes away.
const SPREAD: Duration = Duration::from_secs(2);

/// The delays of one client.
#[derive(Debug)]
pub(super) struct Backoff {
    /// The last delay, if it was doubled.
    delay: Option<Duration>,
    seed: u64,
}

impl Backoff {
    /// Clients with different seeds come at different moments.
    pub(super) fn new(seed: u64) -> Backoff {
        Backoff { delay: None, seed }
    }

    /// How long to wait after a stream that ended so.
    pub(super) fn after(&mut self, end: &End) -> Duration {
        let Some(longest) = end.delay_max() else {
            self.delay = None;
            return SPREAD.mul_f64(self.chance());
        };
        let doubled = self.delay.map_or(DELAY_MIN, |delay| delay * 2).min(longest);
        self.delay = Some(doubled);
        doubled.mul_f64(0.5 + self.chance() / 2.0)
    }

    /// A number from 0 up to 1 (splitmix64).
    fn chance(&mut self) -> f64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) as f64 / u64::MAX as f64
    }
}

impl End {
    /// Whether there was a stream, and nothing wrong with it while it lasted.
    pub(super) fn was_established(&self) -> bool {
        self.delay_max().is_none()
    }

    /// The longest delay that it may lead to; none when the delay begins anew.
    fn delay_max(&self) -> Option<Duration> {
        match self {
            End::Unreachable(_) => Some(UNREACHABLE_DELAY_MAX),
            End::NotEstablished(status) if status.code() == Code::Unavailable => {
                Some(UNREACHABLE_DELAY_MAX)
            }
            End::Status(status) if is_transient(status) => None,
            End::NotEstablished(_) | End::Status(_) | End::Misbehaved(_) => Some(REFUSED_DELAY_MAX),
            End::Lost(_) | End::Complete => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;
    use crate::xds::end::Termination;

    fn status(code: Code, message: &str) -> End {
        End::Status(Status::new(code, message))
    }

    #[test]
    fn every_end_has_its_reason_and_its_delay() {
        use Termination as T;
        const ANEW: Option<Duration> = None;
        let (unreachable, refused) = (Some(UNREACHABLE_DELAY_MAX), Some(REFUSED_DELAY_MAX));
        let closing = "error reading from server: transport is closing";
        let goaway = "the stream received prior goaway: code: NO_ERROR";
        //  name                       end                                              reason              delay
        let rows = [
            ("nobody there", End::Unreachable(String::new()), T::ConnectionError, unreachable),
            (
                "refused at once",
                End::NotEstablished(Status::unauthenticated("")),
                T::ConnectionError,
                refused,
            ),
            (
                "not ready",
                End::NotEstablished(Status::unavailable("")),
                T::ConnectionError,
                unreachable,
            ),
            ("unknown", status(Code::Unknown, ""), T::Reconnect, ANEW),
            ("cancelled", status(Code::Cancelled, ""), T::Reconnect, ANEW),
            ("took too long", status(Code::DeadlineExceeded, ""), T::Reconnect, ANEW),
            ("restarts", status(Code::Unavailable, closing), T::Reconnect, ANEW),
            ("sends us elsewhere", status(Code::Unavailable, goaway), T::Reconnect, ANEW),
            ("overloaded", status(Code::Unavailable, "try later"), T::Error, refused),
            ("not allowed", status(Code::PermissionDenied, ""), T::Error, refused),
            ("connection reset", End::Lost(String::new()), T::Reconnect, ANEW),
            ("no such message", End::Misbehaved(String::new()), T::Error, refused),
            ("in order", End::Complete, T::Complete, ANEW),
        ];
        for (name, end, reason, longest) in rows {
            assert_eq!(end.termination(), reason, "{name}");
            let mut backoff = Backoff::new(1);
            let first = backoff.after(&end);
            let last = (0..20).map(|_| backoff.after(&end)).last().unwrap();
            match longest {
                Some(longest) => {
                    assert!(first >= DELAY_MIN / 2 && first <= DELAY_MIN, "{name}: {first:?}");
                    assert!(last >= longest / 2 && last <= longest, "{name}: {last:?}");
                }
                None => assert!(first <= SPREAD && last <= SPREAD, "{name}: {first:?}, {last:?}"),
            }
        }
    }

    #[test]
    fn a_stream_that_worked_begins_the_doubling_anew() {
        let mut backoff = Backoff::new(7);
        let unreachable = End::Unreachable(String::new());
        for _ in 0..10 {
            backoff.after(&unreachable);
        }
        backoff.after(&End::Complete);
        assert!(backoff.after(&unreachable) <= DELAY_MIN);
    }

    #[test]
    fn nodes_do_not_come_back_in_one_moment() {
        let delays = (0..1000).map(|seed| Backoff::new(seed).after(&End::Lost(String::new())));
        let mut tenths = [0; 10];
        for delay in delays {
            tenths[((delay.as_secs_f64() / SPREAD.as_secs_f64() * 10.0) as usize).min(9)] += 1;
        }
        assert!(tenths.iter().all(|count| (50..200).contains(count)), "{tenths:?}");
    }
}
