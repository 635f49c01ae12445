//! What a folder of results says: `report.html` to look at, a table of targets in the terminal, and
//! a file that Istio's plotter reads.
//!
//! **Promise:** a report is made of the folder alone, asks nothing of the network, and shows what
//! is missed and what is void as plainly as what is met.

mod figures;
mod istio_csv;
mod measurements;
pub(crate) mod number;
mod page;
mod plot;
mod subjects;
mod targets;
pub(crate) mod verdict;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use self::measurements::{Experiment, Measurements, Metric, Point};
use crate::record::Results;

/// Writes `report.html` and `istio.csv` into a folder of results, from what it holds.
#[derive(clap::Args, Debug)]
pub struct Report {
    /// The folder, such as results/2026-11-21-full-vm-2cpu.
    folder: PathBuf,
}

/// Prints how the targets stand by a folder of results.
#[derive(clap::Args, Debug)]
pub struct Verdict {
    /// The folder.
    folder: PathBuf,
}

impl Report {
    /// Does it.
    pub fn run(self) -> Result<()> {
        finish(&self.folder)
    }
}

impl Verdict {
    /// Does it.
    pub fn run(self) -> Result<()> {
        tell(&self.folder)
    }
}

/// Prints how the targets stand by a folder.
///
/// # Errors
/// When the folder cannot be read.
pub fn tell(folder: &Path) -> Result<()> {
    let results = Results::load(folder)?;
    let measurements = Measurements::of(&results);
    verdict::print(&targets::judge(&measurements), &measurements, &results);
    Ok(())
}

/// Writes the report of a folder and prints how the targets stand.
///
/// # Errors
/// When the folder cannot be read or written.
pub fn finish(folder: &Path) -> Result<()> {
    let results = Results::load(folder)?;
    let measurements = Measurements::of(&results);
    let judgements = targets::judge(&measurements);
    let report = folder.join("report.html");
    fs::write(&report, page::render(&results, &measurements, &judgements)?)
        .with_context(|| format!("cannot write {}", report.display()))?;
    istio_csv::write(folder, &results, &measurements)?;
    verdict::print(&judgements, &measurements, &results);
    println!("{}", report.display());
    Ok(())
}
