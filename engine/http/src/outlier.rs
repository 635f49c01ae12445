//! Endpoints that fail again and again get nothing for a while.
//!
//! ```text
//!  used ── so many failures one after the other ──▶ ejected ── n times the base time ──▶ used
//!   ▲ └── too many are ejected already ──▶ used                                            │
//!   └───────────────────────── each interval without an ejection forgets one ◀─────────────┘
//! ```
//!
//! Each shard judges by its own requests, so that what is seen depends on no lock.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::model::traffic::OutlierDetection;

/// The endpoints of one service, as one shard sees them.
#[derive(Debug)]
pub struct Outliers<E> {
    endpoints: HashMap<E, Endpoint>,
    /// When counters are next looked at.
    next_sweep: Duration,
}

#[derive(Debug, Default)]
struct Endpoint {
    /// Answers of 500 and above, one after the other.
    server_errors: u32,
    /// 502, 503, 504, and what is told here.
    gateway_errors: u32,
    /// No connection, no answer in time.
    local_errors: u32,
    ejected_until: Option<Duration>,
    /// How often it was ejected, less the intervals without.
    times: u32,
}

/// How a request ended at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// With this status.
    Status(u16),
    /// There was no connection, or no answer in time.
    Local,
}

impl<E> Default for Outliers<E> {
    fn default() -> Outliers<E> {
        Outliers { endpoints: HashMap::new(), next_sweep: Duration::ZERO }
    }
}

impl<E: Clone + Eq + Hash> Outliers<E> {
    /// Takes note of how a request ended. `count` is how many endpoints the service has. True: it was ejected now.
    pub fn note(
        &mut self,
        policy: &OutlierDetection,
        endpoint: &E,
        seen: Seen,
        count: usize,
        now: Duration,
    ) -> bool {
        self.sweep(policy, now);
        let is_ejected = |one: &Endpoint| one.ejected_until.is_some_and(|until| until > now);
        let ejected = self.endpoints.values().filter(|one| is_ejected(one)).count();
        let known = self.endpoints.entry(endpoint.clone()).or_default();
        if !known.note(policy, seen) || is_ejected(known) || !may_eject(policy, ejected, count) {
            return false;
        }
        known.times = known.times.saturating_add(1);
        let lasts = policy.base_ejection.saturating_mul(known.times).min(policy.max_ejection);
        known.ejected_until = Some(now + lasts.max(policy.base_ejection));
        (known.server_errors, known.gateway_errors, known.local_errors) = (0, 0, 0);
        true
    }

    /// Whether an endpoint gets requests.
    pub fn is_used(&self, endpoint: &E, now: Duration) -> bool {
        let until = self.endpoints.get(endpoint).and_then(|one| one.ejected_until);
        until.is_none_or(|until| until <= now)
    }

    /// Whether so few are left that all get requests, ejected or not.
    pub fn is_panic(&self, policy: &OutlierDetection, used: usize, count: usize) -> bool {
        count > 0 && (used == 0 || used * 100 < usize::from(policy.min_health_percent) * count)
    }

    /// Forgets endpoints that are no longer there.
    pub fn retain(&mut self, is_there: impl Fn(&E) -> bool) {
        self.endpoints.retain(|endpoint, _| is_there(endpoint));
    }

    /// Once in an interval: who was not ejected in it is trusted a little more, and forgotten when there is nothing to
    /// remember.
    fn sweep(&mut self, policy: &OutlierDetection, now: Duration) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + policy.interval;
        self.endpoints.retain(|_, one| {
            match one.ejected_until {
                Some(until) if until > now => {}
                Some(_) => one.ejected_until = None,
                None => one.times = one.times.saturating_sub(1),
            }
            one.ejected_until.is_some() || one.times > 0 || one.has_errors()
        });
    }
}

impl Endpoint {
    /// True: it has failed as often as it may.
    fn note(&mut self, policy: &OutlierDetection, seen: Seen) -> bool {
        let is_gateway = matches!(seen, Seen::Status(502..=504) | Seen::Local);
        let is_server = matches!(seen, Seen::Status(500..) | Seen::Local);
        let is_local = seen == Seen::Local;
        // What is counted by itself is not counted as an answer, and does not end a row of answers.
        let split = policy.consecutive_local > 0 && is_local;
        if split {
            self.local_errors += 1;
            return self.local_errors >= policy.consecutive_local;
        }
        self.local_errors = if is_local { self.local_errors } else { 0 };
        self.server_errors = if is_server { self.server_errors + 1 } else { 0 };
        self.gateway_errors = if is_gateway { self.gateway_errors + 1 } else { 0 };
        let reached = |count: u32, limit: u32| limit > 0 && count >= limit;
        reached(self.server_errors, policy.consecutive_5xx)
            || reached(self.gateway_errors, policy.consecutive_gateway)
    }

    fn has_errors(&self) -> bool {
        self.server_errors > 0 || self.gateway_errors > 0 || self.local_errors > 0
    }
}

/// One may always be ejected, unless it is the only one.
fn may_eject(policy: &OutlierDetection, ejected: usize, count: usize) -> bool {
    if policy.max_percent == 0 || count < 2 {
        return false;
    }
    ejected == 0 || (ejected + 1) * 100 <= usize::from(policy.max_percent) * count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn policy() -> OutlierDetection {
        OutlierDetection { consecutive_5xx: 3, max_percent: 50, ..OutlierDetection::default() }
    }

    /// Notes these for endpoint 1 of ten; whether the last one ejected it.
    fn noted(policy: &OutlierDetection, seen: &[Seen]) -> bool {
        let mut outliers = Outliers::default();
        let mut last = false;
        for seen in seen {
            last = outliers.note(policy, &1, *seen, 10, seconds(1));
        }
        last
    }

    #[test]
    fn what_makes_an_outlier() {
        use Seen::{Local, Status};
        let five = policy();
        let gateway = OutlierDetection { consecutive_5xx: 0, consecutive_gateway: 2, ..policy() };
        let local = OutlierDetection { consecutive_local: 2, ..policy() };
        let never = OutlierDetection { consecutive_5xx: 0, ..policy() };
        let nobody = OutlierDetection { max_percent: 0, ..policy() };
        #[rustfmt::skip]
        let rows: Vec<(&str, &OutlierDetection, Vec<Seen>, bool)> = vec![
            ("three errors",                      &five,    vec![Status(500); 3], true),
            ("two errors",                        &five,    vec![Status(500); 2], false),
            ("a success between",                 &five,    vec![Status(500), Status(500), Status(200), Status(500)], false),
            ("client's errors are none",          &five,    vec![Status(404); 9], false),
            ("no connection is an error",         &five,    vec![Local; 3], true),
            ("mixed",                             &five,    vec![Local, Status(503), Status(500)], true),
            ("gateway errors",                    &gateway, vec![Status(503), Status(502)], true),
            ("500 is no gateway error",           &gateway, vec![Status(503), Status(500), Status(503)], false),
            ("local errors by themselves",        &local,   vec![Local; 2], true),
            ("an answer between local errors",    &local,   vec![Local, Status(200), Local], false),
            ("local errors do not end a row",     &local,   vec![Status(500), Local, Status(500), Status(500)], true),
            ("never",                             &never,   vec![Status(500); 99], false),
            ("nobody may be ejected",             &nobody,  vec![Status(500); 99], false),
        ];
        for (name, policy, seen, want) in rows {
            assert_eq!(noted(policy, &seen), want, "{name}");
        }
    }

    fn eject(outliers: &mut Outliers<u32>, endpoint: u32, count: usize, now: Duration) -> bool {
        let policy = policy();
        (0..3).any(|_| outliers.note(&policy, &endpoint, Seen::Status(500), count, now))
    }

    #[test]
    fn ejections_last_longer_each_time_and_are_forgotten() {
        let mut outliers = Outliers::default();
        let mut now = seconds(100);
        for times in 1..=3 {
            assert!(eject(&mut outliers, 1, 10, now));
            assert!(!outliers.is_used(&1, now + seconds(30 * times - 1)));
            now += seconds(30 * times);
            assert!(outliers.is_used(&1, now));
        }
        // After intervals without an ejection it is as if there had been none.
        for _ in 0..6 {
            now += seconds(10);
            outliers.note(&policy(), &2, Seen::Status(200), 10, now);
        }
        assert!(eject(&mut outliers, 1, 10, now));
        assert!(outliers.is_used(&1, now + seconds(30)));
    }

    #[test]
    fn no_ejection_lasts_longer_than_the_longest() {
        let mut outliers = Outliers::default();
        let mut now = seconds(0);
        for _ in 0..30 {
            assert!(eject(&mut outliers, 1, 10, now));
            assert!(outliers.is_used(&1, now + seconds(300)));
            now += seconds(300);
        }
    }

    #[test]
    fn not_too_many_at_once() {
        for (count, want) in [(1, 0), (2, 1), (3, 1), (4, 2), (10, 5)] {
            let mut outliers = Outliers::default();
            let ejected =
                (0..count).filter(|one| eject(&mut outliers, *one, count as usize, seconds(1)));
            assert_eq!(ejected.count(), want, "of {count}");
        }
        let mut outliers = Outliers::default();
        let ten = OutlierDetection { consecutive_5xx: 1, ..OutlierDetection::default() };
        let ejected =
            (0..5).filter(|one| outliers.note(&ten, one, Seen::Status(500), 5, seconds(1)));
        assert_eq!(ejected.count(), 1, "one always, of five with ten percent");
    }

    #[test]
    fn when_too_few_are_left_all_are_used() {
        let outliers = Outliers::<u32>::default();
        let policy = OutlierDetection { min_health_percent: 50, ..policy() };
        for (used, count, want) in
            [(10, 10, false), (5, 10, false), (4, 10, true), (0, 10, true), (0, 0, false)]
        {
            assert_eq!(outliers.is_panic(&policy, used, count), want, "{used} of {count}");
        }
        assert!(!outliers.is_panic(&OutlierDetection::default(), 1, 10));
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let mut outliers = Outliers::default();
        eject(&mut outliers, 1, 10, seconds(1));
        outliers.retain(|endpoint| *endpoint != 1);
        assert!(outliers.is_used(&1, seconds(1)));
    }
}
