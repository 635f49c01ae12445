//! What the system says of this process, for the `process_*` metrics.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::metrics::ProcessFacts;

/// Reads it; what cannot be read is zero.
pub fn read() -> ProcessFacts {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let boot = fs::read_to_string("/proc/stat").ok().and_then(|stat| boot_time(&stat));
    let ticks = clock_ticks_per_second() as f64;
    let times = Times::parse(&stat).unwrap_or_default();
    ProcessFacts {
        open_descriptors: open_descriptors(),
        descriptors_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        resident_bytes: times.resident_pages * page_size() as u64,
        cpu_seconds: times.cpu_ticks as f64 / ticks,
        start_time_seconds: boot.unwrap_or(0) as f64 + times.start_ticks as f64 / ticks,
    }
}

/// Processor time of threads whose names are a prefix and a number, in the order of the numbers, in seconds.
pub fn thread_seconds(prefix: &str) -> Vec<f64> {
    let ticks = clock_ticks_per_second() as f64;
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    let mut seconds: Vec<(usize, f64)> = stats
        .filter_map(|stat| {
            let name = stat.split_once('(')?.1.rsplit_once(") ")?.0;
            let number = name.strip_prefix(prefix)?.parse().ok()?;
            Some((number, Times::parse(&stat)?.cpu_ticks as f64 / ticks))
        })
        .collect();
    seconds.sort_by_key(|(number, _)| *number);
    seconds.into_iter().map(|(_, seconds)| seconds).collect()
}

/// Since Linux 6.2 the folder's size is their number. To list as many as a busy node has takes many milliseconds.
fn open_descriptors() -> u64 {
    const FOLDER: &str = "/proc/self/fd";
    match fs::metadata(FOLDER) {
        Ok(folder) if folder.len() > 0 => folder.len(),
        _ => fs::read_dir(FOLDER).map_or(0, |entries| entries.count() as u64),
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Times {
    cpu_ticks: u64,
    start_ticks: u64,
    resident_pages: u64,
}

impl Times {
    /// `/proc/self/stat`: fields 14, 15, 22 and 24, counted after the name, which may hold anything.
    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            start_ticks: field(22)?,
            resident_pages: field(24)?,
        })
    }
}

fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_descriptors_memory_and_a_past() {
        let facts = read();
        assert!(facts.open_descriptors >= 3 && facts.open_descriptors <= facts.descriptors_max);
        assert!(facts.resident_bytes > 1 << 20);
        assert!(facts.start_time_seconds > 1_500_000_000.0);
    }

    #[test]
    fn the_time_of_threads_is_told_by_their_names() {
        // Once before they are looked at, so that they have their names, and once after.
        let both = std::sync::Arc::new(std::sync::Barrier::new(3));
        let threads = [1, 0].map(|number| {
            let both = std::sync::Arc::clone(&both);
            let named = std::thread::Builder::new().name(format!("time-{number}"));
            let live = move || {
                for _ in 0..2 {
                    both.wait();
                }
            };
            named.spawn(live).unwrap()
        });
        both.wait();
        assert_eq!(thread_seconds("time-").len(), 2);
        assert!(thread_seconds("no-such-thread-").is_empty());
        both.wait();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn descriptors_are_counted_as_they_are_listed() {
        let _open: Vec<_> = (0..100).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let listed = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        // Tests beside this one open files, too.
        assert!(listed.abs_diff(open_descriptors()) < 50 && listed > 100);
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 20 0 0 20 0 1 0 555 9999 42 0 0";
        let want = Times { cpu_ticks: 120, start_ticks: 555, resident_pages: 42 };
        assert_eq!(Times::parse(stat), Some(want));
        assert_eq!(Times::parse("7 (a"), None);
        assert_eq!(Times::parse("7 (a) S 1 2"), None);
        assert_eq!(boot_time("cpu 1\nbtime 1700000000\n"), Some(1_700_000_000));
    }
}
