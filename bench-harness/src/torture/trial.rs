//! One row under way: what it may use, and what it has found out.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use super::Reactor;
use crate::awake::Awake;

/// Limits of speed are so much wider in the short form, which runs a debug build beside other work.
const SHORT_FORM_SLACK: f64 = 8.0;

/// What all rows of a run have in common.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) short: bool,
    pub(super) reactor: Reactor,
    /// This program.
    pub(super) own: PathBuf,
    pub(super) ringway: PathBuf,
    pub(super) python: Option<PathBuf>,
    /// The folder of the hostile clients.
    pub(super) clients: PathBuf,
    /// Outcomes of programs that ran before, by the row they belong to.
    pub(super) given: BTreeMap<String, Value>,
    pub(super) seed: u64,
    /// Whether the processors are kept from going idle.
    pub(super) awake: bool,
    pub(super) stop: Arc<AtomicBool>,
}

impl Reactor {
    /// The name in Ringway's configuration.
    pub(super) fn name(self) -> &'static str {
        match self {
            Reactor::Ring => "ring",
            Reactor::Epoll => "epoll",
        }
    }
}

/// How a row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// Every limit holds.
    Pass,
    /// A limit does not hold, or the row broke off.
    FallShort,
    /// Something it needs is not here.
    NotRun,
}

/// The reason why a row is not run; an error that is nobody's fault.
#[derive(Debug)]
pub(super) struct NotRun(pub(super) String);

impl fmt::Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotRun {}

/// Ends a row that cannot be run here.
pub(super) fn not_run(reason: impl Into<String>) -> anyhow::Error {
    NotRun(reason.into()).into()
}

/// Ends a row whose tool is not installed here.
pub(super) fn need(program: &str, package: &str) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(program).exists()) {
        return Ok(());
    }
    Err(not_run(format!("{program} is not installed; Debian: apt-get install {package}")))
}

/// One number of a row and what it is held against.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) unit: &'static str,
    /// `<= 0.1`; none for what is only told.
    pub(super) limit: Option<String>,
    pub(super) holds: bool,
}

/// A row's account.
pub(super) struct Trial<'s> {
    pub(super) settings: &'s Settings,
    checks: Vec<Check>,
    remarks: Vec<String>,
    awake: Option<Awake>,
}

impl<'s> Trial<'s> {
    pub(super) fn new(settings: &'s Settings) -> Result<Trial<'s>> {
        let awake = settings.awake.then(Awake::begin).transpose()?;
        Ok(Trial { settings, checks: Vec::new(), remarks: Vec::new(), awake })
    }

    /// Does what keeps the processors busy by itself. Nothing else keeps them awake then: that would take whole ticks
    /// from whoever has used up a slice.
    pub(super) fn while_busy<T>(
        &mut self,
        busy: impl FnOnce(&Trial<'s>) -> Result<T>,
    ) -> Result<T> {
        drop(self.awake.take());
        let outcome = busy(self);
        self.awake = self.settings.awake.then(Awake::begin).transpose()?;
        outcome
    }

    /// The number for the short form or the one for the full form.
    pub(super) fn amount<T>(&self, short: T, full: T) -> T {
        if self.settings.short { short } else { full }
    }

    /// A number that must not be larger, whatever else runs on the machine.
    pub(super) fn at_most(&mut self, name: &str, value: f64, unit: &'static str, limit: f64) {
        self.check(name, value, unit, format!("<= {}", number(limit)), value <= limit);
    }

    /// A number that must not be smaller.
    pub(super) fn at_least(&mut self, name: &str, value: f64, unit: &'static str, limit: f64) {
        self.check(name, value, unit, format!(">= {}", number(limit)), value >= limit);
    }

    /// A number that must be this one: counts.
    pub(super) fn exactly(&mut self, name: &str, value: u64, unit: &'static str, limit: u64) {
        self.check(name, value as f64, unit, format!("== {limit}"), value == limit);
    }

    /// A time or share of a processor that must not be larger; wider in the short form.
    pub(super) fn quickly(&mut self, name: &str, value: f64, unit: &'static str, limit: f64) {
        let limit = if self.settings.short { limit * SHORT_FORM_SLACK } else { limit };
        self.at_most(name, value, unit, limit);
    }

    /// How many times as slow as on a quiet machine something is. The short form only tells it: there
    /// the machine is not quiet either time.
    pub(super) fn at_most_times(&mut self, name: &str, value: f64, limit: f64) {
        if self.settings.short {
            self.tell(name, value, "times");
        } else {
            self.at_most(name, value, "times", limit);
        }
    }

    /// A number that is told without a limit.
    pub(super) fn tell(&mut self, name: &str, value: f64, unit: &'static str) {
        let name = name.to_owned();
        self.checks.push(Check { name, value, unit, limit: None, holds: true });
    }

    /// A sentence for the reason.
    pub(super) fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }

    /// Fails when everything is to stop.
    pub(super) fn go_on(&self) -> Result<()> {
        ensure!(!self.settings.stop.load(Ordering::Relaxed), "stopped");
        Ok(())
    }

    /// Sleeps, or fails when everything is to stop.
    pub(super) fn sleep(&self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.go_on()?;
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        Ok(())
    }

    /// Everything that was found out, and the sentences to it.
    pub(super) fn into_parts(self) -> (Reactor, Vec<Check>, Vec<String>) {
        (self.settings.reactor, self.checks, self.remarks)
    }

    fn check(&mut self, name: &str, value: f64, unit: &'static str, limit: String, holds: bool) {
        let name = name.to_owned();
        self.checks.push(Check { name, value, unit, limit: Some(limit), holds });
    }
}

/// Reads outcomes: lines of `{"id": "B1", ...}`.
pub(super) fn read_given(path: &Path) -> Result<BTreeMap<String, Value>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the outcomes in {}", path.display()))?;
    let mut all = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let outcome: Value = serde_json::from_str(line)
            .with_context(|| format!("{}: {line:?} is no JSON", path.display()))?;
        let id = outcome["id"].as_str().with_context(|| format!("no id in {line:?}"))?;
        all.insert(id.to_owned(), outcome);
    }
    Ok(all)
}

/// A number without zeros that say nothing.
pub(super) fn number(value: f64) -> String {
    if value == value.round() && value.abs() < 1e15 {
        format!("{value:.0}")
    } else {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}
