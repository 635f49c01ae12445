//! A small test harness, because these tests depend on the host: a test that cannot run here is
//! listed as ignored with the reason, never as passed.
//!
//! Tests run one after another, each on a thread of its own (so that namespaces and system call
//! filters of one do not reach another), under a watchdog.

use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What a test needs from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Effective user 0 with network administration.
    Root,
    /// io_uring allowed here.
    Ring,
    /// A program on the path.
    Program(&'static str),
}

/// One test.
pub(crate) struct Case {
    name: String,
    needs: Vec<Need>,
    run: Box<dyn FnOnce() + Send>,
}

impl Case {
    pub(crate) fn new(name: impl Into<String>, run: impl FnOnce() + Send + 'static) -> Case {
        Case { name: name.into(), needs: Vec::new(), run: Box::new(run) }
    }

    pub(crate) fn needs(mut self, need: Need) -> Case {
        self.needs.push(need);
        self
    }

    /// Why it cannot run here, if it cannot.
    fn missing(&self) -> Option<String> {
        self.needs.iter().find_map(|need| match need {
            Need::Root if !rustix::process::geteuid().is_root() => Some("needs root".to_owned()),
            Need::Ring => super::support::ring_refusal(),
            Need::Program(name) if !is_on_path(name) => Some(format!("{name} is not installed")),
            _ => None,
        })
    }
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A test that takes longer is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(180);

struct Arguments {
    filters: Vec<String>,
    exact: bool,
    list: bool,
    ignored_only: bool,
}

impl Arguments {
    /// The part of libtest's command line that `cargo test` and nextest use.
    fn parse() -> Arguments {
        let (mut filters, mut skip_value) = (Vec::new(), false);
        let (mut exact, mut list, mut ignored_only) = (false, false, false);
        for argument in std::env::args().skip(1) {
            match argument.as_str() {
                _ if std::mem::take(&mut skip_value) => {}
                "--exact" => exact = true,
                "--list" => list = true,
                "--ignored" => ignored_only = true,
                "--test-threads" | "--format" | "--color" | "--skip" | "-Z" => skip_value = true,
                option if option.starts_with('-') => {}
                filter => filters.push(filter.to_owned()),
            }
        }
        Arguments { filters, exact, list, ignored_only }
    }

    fn selects(&self, name: &str) -> bool {
        let matches =
            |filter: &String| if self.exact { name == filter } else { name.contains(filter) };
        self.filters.is_empty() || self.filters.iter().any(matches)
    }
}

/// Runs the cases that the command line selects; the exit code is the verdict.
pub(crate) fn run(cases: Vec<Case>) -> ! {
    let arguments = Arguments::parse();
    let (mut passed, mut failed, mut not_run) = (0, Vec::new(), Vec::new());
    for case in cases.into_iter().filter(|case| arguments.selects(&case.name)) {
        let missing = case.missing();
        if arguments.list {
            if missing.is_some() || !arguments.ignored_only {
                println!("{}: test", case.name);
            }
            continue;
        }
        let name = case.name.clone();
        if let Some(reason) = missing {
            println!("test {name} ... ignored, NOT RUN: {reason}");
            not_run.push(name);
        } else if !arguments.ignored_only {
            let started = Instant::now();
            match run_one(case) {
                true => passed += 1,
                false => failed.push(name.clone()),
            }
            let verdict = if failed.last() == Some(&name) { "FAILED" } else { "ok" };
            println!("test {name} ... {verdict} ({:.2} s)", started.elapsed().as_secs_f64());
        }
    }
    if !arguments.list {
        let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
        println!(
            "\ntest result: {verdict}. {passed} passed; {} failed; {} ignored (NOT RUN)\n",
            failed.len(),
            not_run.len()
        );
        failed.iter().for_each(|name| println!("failed: {name}"));
    }
    std::process::exit(if failed.is_empty() { 0 } else { 101 })
}

fn run_one(case: Case) -> bool {
    let (done, wait) = mpsc::channel();
    let name = case.name.clone();
    let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(case.run));
        let _ = done.send(());
        result.is_ok()
    });
    let thread = thread.expect("a thread for the test");
    if wait.recv_timeout(STUCK_AFTER) == Err(mpsc::RecvTimeoutError::Timeout) {
        eprintln!("test {name} is stuck: giving up");
        std::process::exit(101);
    }
    thread.join().unwrap_or(false)
}
