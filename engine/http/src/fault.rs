//! What is spoilt on purpose: a pause, an answer of our own, each for a share of the requests.

use std::time::Duration;

use http::StatusCode;

use crate::model::traffic::{FaultAbort, FaultPolicy};

/// What becomes of one request before it is passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// It waits; the time counts as the request's. Flag `DI`.
    pub delay: Option<Duration>,
    /// It is answered here, after the pause. Flag `FI`.
    pub abort: Option<Abort>,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// To HTTP requests.
    pub status: StatusCode,
    /// To gRPC requests; none: what the status comes to.
    pub grpc_status: Option<u8>,
}

impl Abort {
    /// The answer's body.
    pub const BODY: &'static str = "fault filter abort";
}

impl Fault {
    /// What a policy does to a request. Pause and answer are drawn each by itself.
    pub fn of(policy: &FaultPolicy, chances: [u64; 2]) -> Fault {
        let delay = policy.delay.filter(|delay| delay.share.takes(chances[0]));
        let abort = policy.abort.filter(|abort| abort.share.takes(chances[1]));
        let answer = |FaultAbort { status, grpc_status, .. }| Abort { status, grpc_status };
        Fault { delay: delay.map(|delay| delay.pause), abort: abort.map(answer) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::traffic::{FaultDelay, Share};

    #[test]
    fn shares_are_kept() {
        let share = |percent| Share::of_percent(percent).unwrap();
        let mut state = 1_u64;
        let mut chance = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state ^ (state >> 33)
        };
        for (delayed, aborted) in [(0.0, 100.0), (100.0, 0.0), (10.0, 0.1), (50.0, 50.0)] {
            let policy = FaultPolicy {
                delay: Some(FaultDelay { pause: Duration::from_secs(1), share: share(delayed) }),
                abort: Some(FaultAbort {
                    status: StatusCode::IM_A_TEAPOT,
                    grpc_status: None,
                    share: share(aborted),
                }),
            };
            let faults: Vec<Fault> =
                (0..100_000).map(|_| Fault::of(&policy, [chance(), chance()])).collect();
            let percent = |count: usize| count as f64 / 1000.0;
            let delays = percent(faults.iter().filter(|fault| fault.delay.is_some()).count());
            let aborts = percent(faults.iter().filter(|fault| fault.abort.is_some()).count());
            assert!((delays - delayed).abs() < 1.0, "{delays} of {delayed}");
            assert!((aborts - aborted).abs() < 1.0, "{aborts} of {aborted}");
            assert_eq!(delays == 0.0, delayed == 0.0);
            assert_eq!(aborts == 100.0, aborted == 100.0);
        }
        assert_eq!([-0.1, 100.1, f64::NAN].map(Share::of_percent), [None; 3]);
    }
}
