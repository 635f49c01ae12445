//! How many threads carry connections, and how long they may take to end.

use std::time::Duration;

/// More threads than any machine has processors.
pub(super) const THREADS_MAX: usize = 8192;

/// Without limits, this part of the CPUs is used.
const SHARE_PERCENT: usize = 25;

/// Without limits, no fewer threads are used.
const THREADS_MIN: usize = 2;

/// Without any word about it, open connections may go on for so long.
const DRAIN: Duration = Duration::from_secs(5);

/// How many threads somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerThreads {
    /// One on each CPU.
    EveryCpu,
    /// So many.
    Count(usize),
    /// A share of the CPUs, rounded up.
    Percent(usize),
}

/// What is known about the CPUs of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuBudget {
    /// CPUs of the machine, or what the downward API says.
    pub(super) cpus: usize,
    /// The container's limit.
    pub(super) limit: Option<usize>,
    /// The container's request.
    pub(super) request: Option<usize>,
}

/// The number of threads: what is wanted, else what follows from the budget.
pub(super) fn threads(wanted: Option<WorkerThreads>, budget: CpuBudget) -> usize {
    let CpuBudget { cpus, limit, request } = budget;
    let request = request.unwrap_or(0);
    let share = |percent: usize| cpus.saturating_mul(percent).div_ceil(100);
    let threads = match (wanted, limit) {
        (Some(WorkerThreads::EveryCpu), _) => cpus,
        (Some(WorkerThreads::Count(count)), _) => count,
        (Some(WorkerThreads::Percent(percent)), _) => share(percent),
        (None, Some(limit)) => limit.max(request),
        (None, None) => share(SHARE_PERCENT).max(request).max(THREADS_MIN),
    };
    threads.clamp(1, THREADS_MAX)
}

/// How long open connections may go on: what is said, else what the grace period of the pod leaves.
pub(super) fn drain_deadline(said: Option<Duration>, grace_seconds: Option<u64>) -> Duration {
    match (said, grace_seconds) {
        (Some(said), _) => said,
        (None, Some(seconds @ 11..)) => Duration::from_secs(seconds - 5),
        (None, Some(seconds)) => Duration::from_secs(seconds.saturating_sub(1).max(1)),
        (None, None) => DRAIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_follow_from_what_is_wanted_and_what_there_is() {
        use WorkerThreads::{Count, EveryCpu, Percent};
        //  name                              wanted             cpus limit    request  want
        let rows = [
            ("nothing said, a big machine", None, 64, None, None, 16),
            ("a quarter is rounded up", None, 13, None, None, 4),
            ("never fewer than two", None, 4, None, None, 2),
            ("a request above it", None, 4, None, Some(3), 3),
            ("a request below it", None, 64, None, Some(3), 16),
            ("a limit", None, 64, Some(4), None, 4),
            ("a limit below two", None, 64, Some(1), None, 1),
            ("a request above the limit", None, 64, Some(2), Some(5), 5),
            ("a limit of nothing", None, 64, Some(0), None, 1),
            ("a number wins", Some(Count(7)), 64, Some(2), Some(5), 7),
            ("all", Some(EveryCpu), 12, Some(2), None, 12),
            ("a share", Some(Percent(50)), 13, None, None, 7),
            ("a small share", Some(Percent(1)), 4, None, None, 1),
            ("no CPU known", Some(EveryCpu), 0, None, None, 1),
        ];
        for (name, wanted, cpus, limit, request, want) in rows {
            let budget = CpuBudget { cpus, limit, request };
            assert_eq!(threads(wanted, budget), want, "{name}");
        }
    }

    #[test]
    fn a_drain_leaves_time_before_the_pod_is_killed() {
        //  name                    said     grace      want
        let rows = [
            ("nothing said", None, None, 5),
            ("the chart's 30 s", None, Some(30), 25),
            ("just above ten", None, Some(11), 6),
            ("ten", None, Some(10), 9),
            ("two", None, Some(2), 1),
            ("one", None, Some(1), 1),
            ("none at all", None, Some(0), 1),
            ("the most there can be", None, Some(u64::MAX), u64::MAX - 5),
            ("said outright", Some(3), Some(30), 3),
        ];
        for (name, said, grace, want) in rows {
            let deadline = drain_deadline(said.map(Duration::from_secs), grace);
            assert_eq!(deadline, Duration::from_secs(want), "{name}");
        }
    }
}
