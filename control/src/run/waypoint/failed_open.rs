//! Tells that requests passed without the answer of a service outside: at most one line a second for each service.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ringway_engine::telemetry::http::FailedOpenRecord;

/// From one line of a service to its next.
const INTERVAL: Duration = Duration::from_secs(1);

/// What happened since it was told last.
#[derive(Debug, Default)]
pub(super) struct FailedOpen {
    noted: BTreeMap<(&'static str, Box<str>), Noted>,
    told: Option<Instant>,
}

/// What happened with one service.
#[derive(Debug, Default)]
struct Noted {
    /// How often, by what the requests were for. As many as are configured.
    called: BTreeMap<Box<str>, u64>,
    /// Why there was no answer, the last time.
    why: Box<str>,
}

/// What there is to tell of one service.
#[derive(Debug, PartialEq, Eq)]
struct News {
    service: &'static str,
    name: Box<str>,
    /// How often it did not answer since the last time.
    times: u64,
    /// What most of those requests were for.
    most: Box<str>,
    /// How many services, gateways and workloads they were for.
    called: usize,
    why: Box<str>,
}

impl FailedOpen {
    pub(super) fn note(&mut self, record: FailedOpenRecord) {
        let FailedOpenRecord { service, name, called, why } = record;
        let noted = self.noted.entry((service.as_str(), name)).or_default();
        *noted.called.entry(called).or_default() += 1;
        noted.why = why;
    }

    /// Tells what there is, unless that was done a moment ago.
    pub(super) fn tell(&mut self, now: Instant) {
        for News { service, name, times, most, called, why } in self.news(now) {
            tracing::warn!(
                service,
                %name,
                times,
                called,
                %most,
                %why,
                "a service outside does not answer, and requests pass without it, as their policy says"
            );
        }
    }

    /// Tells what there is, at the end.
    pub(super) fn tell_rest(&mut self, now: Instant) {
        self.told = None;
        self.tell(now);
    }

    fn news(&mut self, now: Instant) -> Vec<News> {
        let is_early = self.told.is_some_and(|told| now < told + INTERVAL);
        if self.noted.is_empty() || is_early {
            return Vec::new();
        }
        self.told = Some(now);
        let news = std::mem::take(&mut self.noted).into_iter().filter_map(|(key, noted)| {
            let ((service, name), Noted { called: by_called, why }) = (key, noted);
            let (times, called) = (by_called.values().sum(), by_called.len());
            let (most, _) = by_called.into_iter().max_by_key(|(_, times)| *times)?;
            Some(News { service, name, times, most, called, why })
        });
        news.collect()
    }
}

#[cfg(test)]
mod tests {
    use ringway_engine::telemetry::http::OutsideService::{self, Authorization, RateLimit};

    use super::*;

    fn record(service: OutsideService, name: &str, called: &str, why: &str) -> FailedOpenRecord {
        FailedOpenRecord { service, name: name.into(), called: called.into(), why: why.into() }
    }

    #[test]
    fn each_service_is_told_once_a_second_with_what_came_since() {
        let mut told = FailedOpen::default();
        let start = Instant::now();
        assert_eq!(told.news(start), []);
        told.note(record(Authorization, "login", "shop/web:80", "it has answered 500"));
        told.note(record(Authorization, "login", "shop/cart:80", "it has answered 500"));
        told.note(record(Authorization, "login", "shop/cart:80", "it has not answered in time"));
        told.note(record(RateLimit, "shop/slowly", "shop/front:443", "there is no such service"));
        let news =
            |service: OutsideService, name: &str, times, most: &str, called, why: &str| News {
                service: service.as_str(),
                name: name.into(),
                times,
                most: most.into(),
                called,
                why: why.into(),
            };
        let want = [
            news(Authorization, "login", 3, "shop/cart:80", 2, "it has not answered in time"),
            news(RateLimit, "shop/slowly", 1, "shop/front:443", 1, "there is no such service"),
        ];
        assert_eq!(told.news(start), want);

        told.note(record(Authorization, "login", "shop/web:80", "it has answered 503"));
        assert_eq!(told.news(start + INTERVAL / 2), [], "a line a second");
        told.note(record(Authorization, "login", "shop/web:80", "it has answered 503"));
        let want = [news(Authorization, "login", 2, "shop/web:80", 1, "it has answered 503")];
        assert_eq!(told.news(start + INTERVAL), want);
        assert_eq!(told.news(start + 2 * INTERVAL), []);
    }
}
