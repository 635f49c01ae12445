//! Tells that bounds were reached: at most one line a second for each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ringway_engine::{Engine, Limit, LimitReached};
use tokio::time::{MissedTickBehavior, interval};

/// How often the counters are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Tells until the task is dropped.
pub(super) async fn tell(engine: Arc<Engine>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = Told::default();
    loop {
        ticks.tick().await;
        for News { limit, times, workload, workloads } in told.news(engine.limits_reached()) {
            let world = engine.snapshot();
            let name = |uid: &str| match world.workload_by_uid(uid) {
                Some(workload) => format!("{}/{}", workload.namespace(), workload.name()),
                None => uid.to_owned(),
            };
            let most = name(&workload);
            tracing::warn!(
                limit = limit.name(),
                times,
                workloads,
                most,
                "a limit was reached; see docs/limits.md for what happens and how to change it"
            );
        }
    }
}

/// What was told so far.
#[derive(Default)]
struct Told {
    times: BTreeMap<(Limit, Arc<str>), u64>,
}

/// What there is to tell of one limit.
#[derive(Debug, PartialEq, Eq)]
struct News {
    limit: Limit,
    /// How often it was reached since the last time.
    times: u64,
    /// Who reached it most often.
    workload: Arc<str>,
    /// How many workloads reached it.
    workloads: usize,
}

impl Told {
    fn news(&mut self, reached: Vec<LimitReached>) -> Vec<News> {
        let before = std::mem::take(&mut self.times);
        let mut more: BTreeMap<Limit, Vec<(u64, Arc<str>)>> = BTreeMap::new();
        for LimitReached { limit, workload, times } in reached {
            let key = (limit, workload);
            // Less than before: the workload was enrolled anew.
            let since = before.get(&key).filter(|before| **before <= times).copied().unwrap_or(0);
            if times > since {
                more.entry(limit).or_default().push((times - since, key.1.clone()));
            }
            self.times.insert(key, times);
        }
        let news = more.into_iter().filter_map(|(limit, by_workload)| {
            let times = by_workload.iter().map(|(times, _)| times).sum();
            let workloads = by_workload.len();
            let (_, workload) = by_workload.into_iter().max()?;
            Some(News { limit, times, workload, workloads })
        });
        news.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(limit: Limit, workload: &str, times: u64) -> LimitReached {
        LimitReached { limit, workload: workload.into(), times }
    }

    fn news(limit: Limit, times: u64, workload: &str, workloads: usize) -> News {
        News { limit, times, workload: workload.into(), workloads }
    }

    #[test]
    fn each_limit_is_told_once_with_what_came_since() {
        use Limit::{Descriptors, TunnelsPerWorkload};
        let mut told = Told::default();
        let first = vec![
            reached(Descriptors, "a", 10),
            reached(Descriptors, "b", 700),
            reached(TunnelsPerWorkload, "a", 1),
        ];
        let want = [news(Descriptors, 710, "b", 2), news(TunnelsPerWorkload, 1, "a", 1)];
        assert_eq!(told.news(first.clone()), want);
        assert_eq!(told.news(first.clone()), []);
        let more = vec![reached(Descriptors, "a", 15), reached(Descriptors, "b", 700)];
        assert_eq!(told.news(more), [news(Descriptors, 5, "a", 1)]);
        // Enrolled anew, its count begins anew.
        assert_eq!(told.news(vec![reached(Descriptors, "a", 3)]), [news(Descriptors, 3, "a", 1)]);
    }
}
