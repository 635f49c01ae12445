//! When an answer is sent (RFC 9110 §6.6.1).

use std::{
    cell::RefCell,
    time::{Duration, SystemTime},
};

use http::HeaderValue;

/// One second's date, for as long as it lasts.
struct Written {
    until: SystemTime,
    value: HeaderValue,
}

thread_local! {
    static WRITTEN: RefCell<Option<Written>> = const { RefCell::new(None) };
}

/// Now, as `Date` has it.
pub(super) fn now() -> HeaderValue {
    let now = SystemTime::now();
    WRITTEN.with_borrow_mut(|written| match written {
        // A clock that was set back is believed.
        Some(Written { until, value })
            if now < *until && now + Duration::from_secs(1) >= *until =>
        {
            value.clone()
        }
        _ => {
            let value = at(now);
            let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            let until = SystemTime::UNIX_EPOCH + Duration::from_secs(second + 1);
            *written = Some(Written { until, value: value.clone() });
            value
        }
    })
}

fn at(time: SystemTime) -> HeaderValue {
    // It cannot write what was before.
    let time = time.max(SystemTime::UNIX_EPOCH);
    HeaderValue::try_from(httpdate::fmt_http_date(time)).expect("letters, digits and signs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_rfc_9110_has_it() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(at(time), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), at(SystemTime::UNIX_EPOCH));
    }

    #[test]
    fn now_is_now() {
        for _ in 0..3 {
            let before = SystemTime::now();
            let said = now();
            let said = httpdate::parse_http_date(said.to_str().expect("text")).expect("a date");
            assert!(said <= SystemTime::now() && said + Duration::from_secs(1) > before);
        }
    }
}
