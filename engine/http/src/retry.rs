//! What is tried again, and after which pause.
//!
//! | what happened                       | without a policy | with one                              |
//! |-------------------------------------|------------------|---------------------------------------|
//! | nothing was sent: no connection, refused stream | once | any request                       |
//! | ended before the answer began       | once, if nothing is lost by it | if nothing is lost by it |
//! | one try took too long               | no               | if nothing is lost by it              |
//! | a status that the policy lists      | –                | any request                           |
//! | the answer has begun to go on       | no               | no                                    |
//!
//! Nothing is lost by a second try when the method is idempotent (RFC 9110 §9.2.2). Of every row, the body must
//! still be there.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};

use crate::model::Retry;

/// The shortest pause where the policy says none.
pub const BACKOFF: Duration = Duration::from_millis(25);

/// A pause is at most so many times the shortest.
const BACKOFF_TIMES_MAX: u32 = 10;

/// What a `Retry-After` may ask for; more is for the client to wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There was no connection, so nothing was sent.
    NotConnected,
    /// The endpoint said that it did not look at the request: `REFUSED_STREAM`, or above the last stream of a GOAWAY.
    Refused,
    /// The connection or stream ended before the answer began.
    Reset,
    /// The try took longer than one may.
    TimedOut,
    /// The answer's status.
    Status(StatusCode),
    /// Its head has gone to the client.
    Answered,
}

/// What is asked about a request that failed.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Of the rule; none: only what is safe without asking.
    pub policy: Option<&'a Retry>,
    /// How it ended.
    pub failure: Failure,
    /// How often it was tried again already.
    pub retries: u32,
    /// The request's.
    pub method: &'a Method,
    /// There was no body, or all of it is still there.
    pub has_body: bool,
    /// What the answer asked for, by [`retry_after`].
    pub retry_after: Option<Duration>,
    /// Until the request's time is over; none: there is no end.
    pub remaining: Option<Duration>,
    /// The pause before this try, if there was one.
    pub last_pause: Option<Duration>,
}

/// Why something is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Final {
    /// This is not tried again.
    NotRetriable,
    /// It was tried as often as it may be. Flag `URX`.
    TooOften,
    /// There is no time left for a pause and another try.
    NoTime,
}

impl Attempt<'_> {
    /// The pause before the next try, spread by chance. The budget and the breaker are to be asked afterwards.
    ///
    /// # Errors
    /// There is none.
    pub fn next(&self, chance: u64) -> Result<Duration, Final> {
        if !self.is_retriable() {
            return Err(Final::NotRetriable);
        }
        let attempts = self.policy.map_or(1, |policy| policy.attempts);
        if self.retries >= attempts {
            return Err(Final::TooOften);
        }
        let pause = match self.policy {
            // Nothing was wrong with the endpoint but its connection.
            None => Duration::ZERO,
            Some(policy) => {
                let base = policy.backoff.unwrap_or(BACKOFF);
                pause(base, self.last_pause, chance).max(self.retry_after.unwrap_or_default())
            }
        };
        match self.remaining {
            Some(remaining) if pause >= remaining => Err(Final::NoTime),
            None if pause > RETRY_AFTER_MAX.max(self.longest()) => Err(Final::NoTime),
            _ => Ok(pause),
        }
    }

    fn is_retriable(&self) -> bool {
        let is_safe = is_idempotent(self.method);
        self.has_body
            && match self.failure {
                Failure::NotConnected | Failure::Refused => true,
                Failure::Reset => is_safe,
                Failure::TimedOut => is_safe && self.policy.is_some(),
                Failure::Status(status) => {
                    self.policy.is_some_and(|policy| policy.codes.contains(&status.as_u16()))
                }
                Failure::Answered => false,
            }
    }

    fn longest(&self) -> Duration {
        let base = self.policy.and_then(|policy| policy.backoff).unwrap_or(BACKOFF);
        base.saturating_mul(BACKOFF_TIMES_MAX)
    }
}

/// Decorrelated jitter: between the shortest pause and three times the last one, at most ten times the shortest.
fn pause(base: Duration, last: Option<Duration>, chance: u64) -> Duration {
    let longest = base.saturating_mul(BACKOFF_TIMES_MAX);
    let upper = last.unwrap_or(base).saturating_mul(3).clamp(base, longest);
    let spread = u64::try_from((upper - base).as_nanos()).unwrap_or(u64::MAX);
    let part = (u128::from(spread) * u128::from(chance)) >> 64;
    base + Duration::from_nanos(part as u64)
}

/// RFC 9110 §9.2.2.
pub fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE]
        .contains(method)
}

/// What `Retry-After` asks for in seconds. A date is not looked at: hosts' clocks differ by more than pauses last.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| value.parse().map(Duration::from_secs).unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(attempts: u32, codes: &[u16]) -> Retry {
        let backoff = Some(Duration::from_millis(100));
        Retry { attempts, backoff, codes: codes.to_vec() }
    }

    fn attempt<'a>(policy: Option<&'a Retry>, failure: Failure, method: &'a Method) -> Attempt<'a> {
        Attempt {
            policy,
            failure,
            retries: 0,
            method,
            has_body: true,
            retry_after: None,
            remaining: None,
            last_pause: None,
        }
    }

    #[test]
    fn what_is_tried_again() {
        let asked = policy(2, &[503]);
        let (some, none) = (Some(&asked), None);
        let (get, post) = (&Method::GET, &Method::POST);
        let status = |code| Failure::Status(StatusCode::from_u16(code).unwrap());
        #[rustfmt::skip]
        let rows = [
            ("no connection, unasked",       attempt(none, Failure::NotConnected, post), true),
            ("refused stream, unasked",      attempt(none, Failure::Refused, post),      true),
            ("reset, unasked",               attempt(none, Failure::Reset, get),         true),
            ("reset of a POST, unasked",     attempt(none, Failure::Reset, post),        false),
            ("reset of a POST, asked",       attempt(some, Failure::Reset, post),        false),
            ("timeout, unasked",             attempt(none, Failure::TimedOut, get),      false),
            ("timeout, asked",               attempt(some, Failure::TimedOut, get),      true),
            ("timeout of a POST, asked",     attempt(some, Failure::TimedOut, post),     false),
            ("status, unasked",              attempt(none, status(503), get),            false),
            ("status that is listed",        attempt(some, status(503), get),            true),
            ("status that is listed, POST",  attempt(some, status(503), post),           true),
            ("status that is not listed",    attempt(some, status(500), get),            false),
            ("answer under way",             attempt(some, Failure::Answered, get),      false),
            ("body gone",                    Attempt { has_body: false, ..attempt(some, Failure::NotConnected, get) }, false),
            ("once is enough, unasked",      Attempt { retries: 1, ..attempt(none, Failure::NotConnected, get) }, false),
            ("twice as asked",               Attempt { retries: 1, ..attempt(some, status(503), get) }, true),
            ("not three times",              Attempt { retries: 2, ..attempt(some, status(503), get) }, false),
        ];
        for (name, attempt, want) in rows {
            assert_eq!(attempt.next(0).is_ok(), want, "{name}");
        }
    }

    #[test]
    fn retry_after_is_obeyed_while_there_is_time() {
        let policy = policy(3, &[429]);
        let method = Method::GET;
        let failure = Failure::Status(StatusCode::TOO_MANY_REQUESTS);
        let seconds = Duration::from_secs;
        #[rustfmt::skip]
        let rows = [
            (None,             Some(seconds(1)),            Ok(Duration::from_millis(100))),
            (Some(seconds(2)), Some(seconds(3)),            Ok(seconds(2))),
            (Some(seconds(2)), Some(seconds(2)),            Err(Final::NoTime)),
            (Some(seconds(0)), Some(seconds(1)),            Ok(Duration::from_millis(100))),
            (None,             Some(Duration::from_millis(100)), Err(Final::NoTime)),
            (Some(seconds(30)), None,                       Ok(seconds(30))),
            (Some(Duration::MAX), None,                     Err(Final::NoTime)),
        ];
        for (retry_after, remaining, want) in rows {
            let attempt =
                Attempt { retry_after, remaining, ..attempt(Some(&policy), failure, &method) };
            assert_eq!(attempt.next(0), want, "{retry_after:?} of {remaining:?}");
        }
        for (text, want) in [
            ("5", Some(seconds(5))),
            ("99999999999999999999", Some(Duration::MAX)),
            ("-1", None),
            ("", None),
            ("Fri, 31 Dec 1999 23:59:59 GMT", None),
        ] {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(super::retry_after(&headers), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn pauses_are_never_shorter_than_asked_nor_ten_times_longer(
            base in 1u64..10_000,
            chances in prop::collection::vec(any::<u64>(), 1..20),
        ) {
            let base = Duration::from_millis(base);
            let mut last = None;
            for chance in chances {
                let pause = pause(base, last, chance);
                prop_assert!(pause >= base && pause <= base * BACKOFF_TIMES_MAX);
                prop_assert!(pause <= last.unwrap_or(base) * 3);
                last = Some(pause);
            }
        }
    }
}
