//! Which cores the shards run on.

use rustix::thread::{CpuSet, sched_getaffinity};

use crate::source::Cores;

/// The core of each shard.
pub(super) fn cores_of(wanted: &Cores) -> Vec<usize> {
    let allowed = allowed();
    // Looks at the CPU quota of the process, too.
    let quota = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    choose(wanted, &allowed, quota)
}

fn choose(wanted: &Cores, allowed: &[usize], quota: usize) -> Vec<usize> {
    let count = match wanted {
        Cores::List(cores) => return cores.clone(),
        Cores::Count(count) => *count,
        Cores::Automatic => quota,
    };
    let cycle = if allowed.is_empty() { &[0] } else { allowed };
    cycle.iter().copied().cycle().take(count.max(1)).collect()
}

/// The cores this process may run on.
fn allowed() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_has_a_core_it_may_use() {
        //  name                          wanted                       allowed    quota  want
        type Row = (&'static str, Cores, &'static [usize], usize, &'static [usize]);
        let rows: [Row; 6] = [
            ("all there are", Cores::Automatic, &[0, 1, 2], 3, &[0, 1, 2]),
            ("as many as the quota", Cores::Automatic, &[4, 5, 6, 7], 2, &[4, 5]),
            ("a number", Cores::Count(2), &[0, 1, 2], 3, &[0, 1]),
            ("more than there are", Cores::Count(3), &[0, 1], 2, &[0, 1, 0]),
            ("exactly these", Cores::List(vec![3, 1]), &[0, 1, 2, 3], 4, &[3, 1]),
            ("nothing known", Cores::Automatic, &[], 1, &[0]),
        ];
        for (name, wanted, allowed, quota, want) in rows {
            assert_eq!(choose(&wanted, allowed, quota), want, "{name}");
        }
    }

    #[test]
    fn this_process_may_run_somewhere() {
        assert!(!allowed().is_empty());
    }
}
