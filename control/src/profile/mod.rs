//! Where this process spends its CPU time: a sampling profiler for when `perf` cannot be used.
//!
//! ```text
//!  Recording::start ──▶ SIGPROF every 5 ms of CPU time: the stack of whoever runs ──▶ finish ──▶ Profile
//! ```
//!
//! It is off until somebody asks on the admin port, runs once at a time and for a bounded time, and
//! keeps what it sees in memory that is set aside: a stack that finds no room is counted as lost.
//! Only user space is seen; time inside a system call counts for the function that made it.

mod flamegraph;
mod pprof;
mod sampler;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

pub use self::pprof::Circumstances;
pub use self::sampler::{INTERVAL, Recording, StartError};
use self::sampler::{Samples, Stack};

/// A profile is recorded for at most this long; more samples would find no room.
pub const SECONDS_MAX: u64 = 60;

/// What a recording saw: stacks by name, outermost function first, and how often each was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    stacks: BTreeMap<String, u64>,
    lost: u64,
}

impl Profile {
    /// Gives the addresses of `samples` their names. Reads debug information: takes a while.
    pub fn resolve(samples: &Samples) -> Profile {
        let mut names = HashMap::new();
        let mut threads = HashMap::new();
        let mut profile = Profile { stacks: BTreeMap::new(), lost: samples.lost() };
        for stack in samples.stacks() {
            let thread = threads.entry(stack.thread).or_insert_with(|| thread_name(stack.thread));
            let folded = fold(thread, &stack, &mut names);
            *profile.stacks.entry(folded).or_default() += 1;
        }
        // The debug information stays mapped and indexed otherwise, several megabytes of it.
        backtrace::clear_symbol_cache();
        profile
    }

    /// How many stacks were seen.
    pub fn samples(&self) -> u64 {
        self.stacks.values().sum()
    }

    /// One line per stack: `thread;outer;inner count`, what flamegraph tools read.
    pub fn folded(&self) -> String {
        let mut text = String::new();
        for (stack, count) in &self.stacks {
            writeln!(text, "{stack} {count}").expect("a String takes everything");
        }
        text
    }

    /// The same for `go tool pprof` and what understands its format: an uncompressed protobuf message.
    pub fn pprof(&self, circumstances: &Circumstances) -> Vec<u8> {
        let stacks = self.stacks.iter().map(|(stack, count)| (stack.as_str(), *count));
        pprof::encode(stacks, self.lost, circumstances)
    }

    /// A flamegraph that can be zoomed and searched in a browser.
    pub fn svg(&self, title: &str) -> String {
        let lost = match self.lost {
            0 => String::new(),
            lost => format!("; {lost} more found no room"),
        };
        let title = format!("{title}, {} samples{lost}", self.samples());
        flamegraph::draw(&title, self.stacks.iter().map(|(stack, count)| (stack.as_str(), *count)))
    }
}

/// A thread's name; the threads of a shard are called after it.
fn thread_name(thread: u32) -> String {
    match std::fs::read_to_string(format!("/proc/self/task/{thread}/comm")) {
        Ok(name) => clean(name.trim_end()),
        Err(_) => format!("thread {thread}"),
    }
}

fn fold(thread: &str, stack: &Stack, names: &mut HashMap<usize, Vec<String>>) -> String {
    let mut folded = thread.to_owned();
    for (depth, &address) in stack.addresses.iter().enumerate().rev() {
        // A return address may be the next function's first: the call is before it. The innermost
        // address is where the program was; `resolve` takes one off every address.
        let address = if depth == 0 { address + 1 } else { address };
        for name in names.entry(address).or_insert_with(|| function_names(address)).iter().rev() {
            folded.push(';');
            folded.push_str(name);
        }
    }
    folded
}

/// The functions at `address`, what was inlined first.
fn function_names(address: usize) -> Vec<String> {
    let mut names = Vec::new();
    backtrace::resolve(address as *mut _, |symbol| {
        if let Some(name) = symbol.name() {
            names.push(clean(&format!("{name:#}")));
        }
    });
    if names.is_empty() {
        names.push(format!("{address:#x}"));
    }
    names
}

/// Semicolons and line ends separate in folded stacks.
fn clean(name: &str) -> String {
    name.replace(';', ":").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::time::{Duration, Instant};

    use super::*;

    #[inline(never)]
    fn burn_the_midnight_oil(time: Duration) -> u64 {
        let start = Instant::now();
        let mut sum = 0u64;
        while start.elapsed() < time {
            for number in 0..10_000u64 {
                sum = black_box(sum.wrapping_mul(31).wrapping_add(number));
            }
        }
        sum
    }

    /// One test, since a process has one profiler.
    #[test]
    fn a_busy_thread_is_seen_by_name_and_function_once_at_a_time() {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let bee = move || {
            while !is_over.load(Relaxed) {
                black_box(burn_the_midnight_oil(Duration::from_millis(10)));
            }
        };
        let bee = std::thread::Builder::new().name("busy-bee".to_owned()).spawn(bee).unwrap();
        // Other tests may have the processors for a while.
        let began = Instant::now();
        let (profile, folded) = loop {
            let recording = Recording::start(INTERVAL).unwrap();
            assert_eq!(Recording::start(INTERVAL).unwrap_err(), StartError::Busy);
            std::thread::sleep(Duration::from_millis(700));
            // The thread lives on while the names are looked up.
            let profile = Profile::resolve(&recording.finish());
            let folded = profile.folded();
            let mine: u64 = folded
                .lines()
                .filter(|line| line.starts_with("busy-bee;"))
                .filter(|line| line.contains("burn_the_midnight_oil"))
                .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
                .sum();
            if mine >= 10 {
                break (profile, folded);
            }
            let seen = profile.samples();
            assert!(began.elapsed() < Duration::from_secs(60), "{mine} of {seen}:\n{folded}");
        };
        over.store(true, Relaxed);
        bee.join().unwrap();
        assert!(!folded.contains("sampler::handle"), "the profiler sees itself:\n{folded}");
        let svg = profile.svg("a test");
        assert!(svg.contains("busy-bee") && svg.contains("burn_the_midnight_oil"));
        let circumstances = Circumstances {
            began: std::time::SystemTime::now(),
            took: Duration::from_millis(700),
            cpu_time: Duration::from_millis(700),
            interval: INTERVAL,
        };
        let pprof = profile.pprof(&circumstances);
        let text = String::from_utf8_lossy(&pprof);
        assert!(text.contains("busy-bee") && text.contains("burn_the_midnight_oil"));

        // A recording that is dropped makes room for the next, which knows nothing of the former.
        drop(Recording::start(INTERVAL).unwrap());
        let nothing = Recording::start(INTERVAL).unwrap().finish();
        assert!(nothing.stacks().count() <= 5);
    }

    #[test]
    fn folded_stacks_are_one_line_each() {
        let mut profile = Profile::default();
        profile.stacks.insert("shard-0;run;poll".to_owned(), 3);
        profile.stacks.insert("shard-1;run".to_owned(), 1);
        assert_eq!(profile.folded(), "shard-0;run;poll 3\nshard-1;run 1\n");
        assert_eq!(profile.samples(), 4);
        assert_eq!(clean("a;b\nc"), "a:b c");
    }
}
