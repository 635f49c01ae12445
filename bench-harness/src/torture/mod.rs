//! `ringway-bench torture`: load, faults and bad input, as rows of a table; each row ends in one line
//! that says what was measured, what the limit is and whether it holds.
//!
//! ```text
//!  row (table) ──▶ trial (what one row measures and must not exceed) ──▶ one line in rows.jsonl
//!     │                 uses: arena (two hosts, two proxies), load programs, hostile clients in Python
//!     └─▶ goals (the sheet that is printed at the end)
//! ```
//!
//! **Invariants**
//! * A row that fell short or was not run has its line and its reason like any other.
//! * Each row starts with an arena of its own, so none depends on the one before.
//! * A line is written when its row has ended: Ctrl-C loses the row under way and no other.

mod arena;
#[cfg(test)]
mod checklist;
mod faults;
mod goals;
mod handover;
mod hostile;
mod inputs;
mod load;
mod outside;
mod record;
mod ring;
mod row;
#[cfg(test)]
mod threats;
mod traffic;
mod trial;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use self::record::{Line, Records};
use self::row::Row;
use self::trial::{Settings, Trial, Verdict};
use crate::awake::Awake;
use crate::stop::stop_flag;
use crate::subject::allow_descriptors;

/// What to run.
#[derive(Clone, Debug, Args)]
pub struct Torture {
    /// Rows by id (F8) or goals (G13); all of them unless told.
    #[arg(value_name = "ROW")]
    rows: Vec<String>,
    /// The form for every change: fewer repetitions, only rows that need no quiet machine, and
    /// limits of speed eight times as wide.
    #[arg(long)]
    short: bool,
    /// What the proxies wait with.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ring")]
    reactor: Vec<Reactor>,
    /// The program `ringway`; without it, the one beside this program.
    #[arg(long, value_name = "FILE")]
    ringway: Option<PathBuf>,
    /// Python with the packages of the hostile clients; scripts/torture makes one.
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// The folder of the hostile clients.
    #[arg(long, value_name = "FOLDER", default_value = "bench-harness/torture")]
    clients: PathBuf,
    /// What was found out before, by programs that cannot run in here: lines of JSON.
    #[arg(long, value_name = "FILE")]
    given: Option<PathBuf>,
    /// The folder to write; without it, `results/<date>-torture-<machine>`.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Where randomness begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the processors from going idle. In a virtual machine they are given to others then, and come back late.
    #[arg(long)]
    awake: bool,
    /// Print the rows there are, and end.
    #[arg(long)]
    list: bool,
}

/// What the proxies wait with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Reactor {
    /// io_uring.
    Ring,
    /// epoll.
    Epoll,
}

/// Some row was measured and its limit does not hold.
const FELL_SHORT: u8 = 1;
/// No row fell short, but some were not run, or the run was stopped.
const NOT_ALL_RUN: u8 = 2;

impl Torture {
    /// Runs the rows and prints the goal sheet.
    ///
    /// # Errors
    /// When nothing can be run at all; what goes wrong in a row is that row's line.
    pub fn run(&self) -> Result<ExitCode> {
        let rows = row::select(&self.rows, self.short)?;
        if self.list {
            rows.iter().for_each(|row| println!("{row}"));
            return Ok(ExitCode::SUCCESS);
        }
        let stop = stop_flag()?;
        allow_descriptors()?;
        let out = self.out.clone().unwrap_or_else(|| crate::manifest::results_folder("torture"));
        if self.awake {
            // Each row does that by itself; where it cannot be, that is said before anything is written.
            drop(Awake::begin()?);
        }
        let mut records = Records::create(&out)?;
        let settings = self.settings(stop.clone())?;
        records.start(&settings, &rows)?;
        println!("{} rows, written to {} as they end.", rows.len(), out.display());
        let began = Instant::now();
        for reactor in &self.reactor {
            for row in &rows {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let settings = Settings { reactor: *reactor, ..settings.clone() };
                if let Some(line) = run_row(row, &settings)? {
                    println!("{line}");
                    records.write(line)?;
                }
            }
        }
        let stopped = stop.load(Ordering::Relaxed);
        if stopped {
            println!("Stopped; what is finished is kept.");
        }
        records.finish(!stopped)?;
        println!("\n{}", goals::sheet(records.lines(), self.rows.is_empty()));
        println!("{} in {:.0} s", records.summary(), began.elapsed().as_secs_f64());
        Ok(verdict(records.lines(), stopped))
    }

    fn settings(&self, stop: Arc<AtomicBool>) -> Result<Settings> {
        let own = std::env::current_exe()?;
        let ringway = self.ringway.clone().unwrap_or_else(|| own.with_file_name("ringway"));
        ensure!(
            ringway.exists(),
            "there is no program {}; build it (cargo build -p ringway) or name it with --ringway",
            ringway.display()
        );
        let absolute = |path: &Path| {
            std::path::absolute(path)
                .with_context(|| format!("{} cannot be understood as a path", path.display()))
        };
        Ok(Settings {
            short: self.short,
            reactor: Reactor::Ring,
            own,
            ringway: absolute(&ringway)?,
            // Not resolved: an environment of Python's is known by the link.
            python: self.python.as_deref().map(absolute).transpose()?,
            clients: absolute(&self.clients)?,
            given: self.given.as_deref().map(trial::read_given).transpose()?.unwrap_or_default(),
            seed: self.seed,
            awake: self.awake,
            stop,
        })
    }
}

/// Runs one row; none when it was stopped.
fn run_row(row: &Row, settings: &Settings) -> Result<Option<Line>> {
    println!("{:<4} {} ...", row.id, row.title);
    let began = Instant::now();
    let mut trial = Trial::new(settings)?;
    let ended = (row.run)(&mut trial);
    if settings.stop.load(Ordering::Relaxed) {
        return Ok(None);
    }
    Ok(Some(Line::new(row, trial, ended, began.elapsed())))
}

fn verdict(lines: &[Line], stopped: bool) -> ExitCode {
    let any = |verdict| lines.iter().any(|line| line.verdict == verdict);
    if any(Verdict::FallShort) {
        ExitCode::from(FELL_SHORT)
    } else if stopped || any(Verdict::NotRun) {
        ExitCode::from(NOT_ALL_RUN)
    } else {
        ExitCode::SUCCESS
    }
}
