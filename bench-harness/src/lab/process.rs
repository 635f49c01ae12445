//! A program under test: started in a namespace, written down, and ended by its id only.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::Namespace;

/// What to start: the program, its arguments and its environment.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Program {
    /// The program at `path`, so far without arguments.
    pub fn new(path: impl Into<PathBuf>) -> Program {
        Program { path: path.into(), arguments: Vec::new(), environment: Vec::new() }
    }

    /// Adds one argument.
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Program {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn arguments<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Program {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Has it run only when nobody else wants the processor (`nice -n 19`).
    pub fn yielding(self) -> Program {
        self.started_by("nice", &["-n", "19"])
    }

    /// Has it run before whoever else wants the processor (`chrt --rr PRIORITY`), the higher priority first: what stands for
    /// a machine of its own, and does not compute for long. Where this process may not ask for that, it runs like any other.
    pub fn preferred(self, priority: u8) -> Program {
        let options = ["--rr", &priority.to_string()];
        let may = Command::new("chrt").args(options).arg("true").stderr(Stdio::null()).status();
        match may {
            Ok(status) if status.success() => self.started_by("chrt", &options),
            _ => self,
        }
    }

    /// Has it run on these processors, and no other.
    pub fn on_processors(self, ids: &[usize]) -> Program {
        let list = ids.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        self.started_by("taskset", &["-c", &list])
    }

    /// The program that starts it, with what that one is told.
    fn started_by(self, starter: &str, options: &[&str]) -> Program {
        let Program { path, arguments, environment } = self;
        let starter = Program { environment, ..Program::new(starter) };
        starter.arguments(options).argument(path).arguments(arguments)
    }

    /// Sets one environment variable.
    pub fn environment(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Program {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    running: Running,
    log: PathBuf,
}

#[derive(Debug)]
enum Running {
    /// Started here.
    Child(Child),
    /// Started by a process that was started here, which it outlives; it becomes our child then.
    Successor(Identity),
}

impl Process {
    pub(super) fn start(
        namespace: &Namespace,
        directory: &Path,
        name: &str,
        program: &Program,
    ) -> Result<Process> {
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let mut command = Command::new(&program.path);
        command
            .args(&program.arguments)
            .envs(program.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C in a terminal is for whoever runs the laboratory.
            .process_group(0);
        // A child starts in the namespace of the thread that starts it.
        let child = namespace
            .enter(|| command.spawn())?
            .with_context(|| format!("cannot start {}", program.path.display()))?;
        note(directory, Identity::of(child.id())?)?;
        Ok(Process { name: name.to_owned(), running: Running::Child(child), log })
    }

    /// From now on this is the process `id`, which the one so far has started in its place and which writes
    /// where it wrote. Returns the one so far.
    pub fn succeeded_by(&mut self, id: u32) -> Result<Process> {
        // So that the end of a successor, whose parent is gone, can be waited for.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let identity = Identity::of(id)?;
        note(self.log.parent().context("the log is in the laboratory's directory")?, identity)?;
        let before = std::mem::replace(&mut self.running, Running::Successor(identity));
        Ok(Process { name: self.name.clone(), running: before, log: self.log.clone() })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        match &self.running {
            Running::Child(child) => child.id(),
            Running::Successor(identity) => identity.id,
        }
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        let identity = match &mut self.running {
            Running::Child(child) => return Ok(child.try_wait()?),
            Running::Successor(identity) => *identity,
        };
        match waitpid(Some(pid(identity.id)), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => Ok(Some(ExitStatus::from_raw(status.as_raw()))),
            Ok(None) => Ok(None),
            // Its parent still lives, and hears of its end.
            Err(_) if identity.is_alive() => Ok(None),
            Err(error) => bail!("nobody knows how {} ended: {error}", self.name),
        }
    }

    /// What it wrote so far, both streams together.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    /// Where it writes.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.try_wait(), Ok(None))
    }

    /// Whether it runs, or how it ended.
    pub fn state(&mut self) -> String {
        match self.try_wait() {
            Ok(None) => "runs".to_owned(),
            Ok(Some(status)) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(pid(self.id()), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > patience {
                bail!("{} still runs after {patience:?}; its log:\n{}", self.name, self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end (SIGTERM) and waits.
    pub fn terminate(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(patience)
    }

    /// Waits until its log holds `text`, and fails early when it ends before.
    pub fn wait_for_log(&mut self, text: &str, patience: Duration) -> Result<()> {
        let start = Instant::now();
        while !self.log().contains(text) {
            let ended = self.try_wait()?;
            if ended.is_some() || start.elapsed() > patience {
                let state = self.state();
                bail!("{} ({state}) did not say {text:?}; its log:\n{}", self.name, self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What it has to say about the failure may come a moment after the failure.
            std::thread::sleep(Duration::from_millis(300));
        }
        match &mut self.running {
            Running::Child(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Running::Successor(identity) => {
                identity.kill();
                let _ = self.wait(Duration::from_secs(1));
            }
        }
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(6000);
            let tail = log.get(from..).unwrap_or(&log);
            eprintln!("---- {} (end of its log) ----\n{tail}", self.name);
        }
    }
}

/// Writes down a process, so that it is ended with the laboratory.
fn note(directory: &Path, identity: Identity) -> Result<()> {
    let mut record =
        OpenOptions::new().create(true).append(true).open(directory.join("processes"))?;
    Ok(writeln!(record, "{identity}")?)
}

/// A process that cannot be taken for another which got its id later: the id and the start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    id: u32,
    started: u64,
}

impl Identity {
    pub(super) fn of(id: u32) -> Result<Identity> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
        // The second field, the name, may hold anything; what follows it is fixed. proc(5).
        let fields = stat.rsplit_once(')').context("unexpected /proc/<pid>/stat")?.1;
        let started = fields.split_whitespace().nth(19).context("no start time")?.parse()?;
        Ok(Identity { id, started })
    }

    pub(super) fn is_alive(&self) -> bool {
        Identity::of(self.id).is_ok_and(|now| now == *self)
    }

    pub(super) fn kill(&self) {
        if self.is_alive() {
            let _ = kill_process(pid(self.id), Signal::KILL);
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.started)
    }
}

impl FromStr for Identity {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Identity> {
        let (id, started) = text.trim().split_once(' ').context("expected `id start`")?;
        Ok(Identity { id: id.parse()?, started: started.parse()? })
    }
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(id as i32).expect("a process id is not zero")
}
