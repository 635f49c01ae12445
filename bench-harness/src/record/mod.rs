//! A folder of results: what was measured, under which conditions, as measured.
//!
//! ```text
//! results/<date>-<name>-<machine>/
//!   manifest.json    commit, machine, programs with their hashes, conditions, arguments
//!   samples.csv      experiment,subject,repetition,point,metric,unit,value
//!   voids.csv        experiment,subject,repetition,point,reason
//!   latencies.csv    experiment,subject,repetition,point,histogram (HdrHistogram V2, deflated, base64)
//!   report.html      made from the others
//! ```
//!
//! Every line is written when it is known, so what is stopped half way keeps what it has. Nothing is
//! ever left out: a repetition that does not count stands in `voids.csv` with the reason, and its
//! samples stay in `samples.csv`.

mod csv;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use self::csv::Table;

/// Which measurement a line belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The experiment's name, such as `latency`.
    pub experiment: String,
    /// The subject's name, such as `envoy-tcp`.
    pub subject: String,
    /// Counts from 1; the repetitions of one number were taken close to each other.
    pub repetition: u32,
    /// What was varied, as `name=value` joined by spaces (`connections=16 rate=1000`); empty if nothing was.
    pub point: String,
}

/// One number that was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Where it comes from.
    pub origin: Origin,
    /// What it is, such as `p99` or `cpu`.
    pub metric: String,
    /// What it counts, such as `us` or `CPU-us/request`.
    pub unit: String,
    /// The value.
    pub value: f64,
}

/// A measurement that does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Void {
    /// Which one.
    pub origin: Origin,
    /// Why, as a sentence.
    pub reason: String,
}

/// The latencies of one measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies {
    /// Which one.
    pub origin: Origin,
    /// HdrHistogram of microseconds from the intended start, V2 deflated, in base64.
    pub histogram: String,
}

/// A folder that is being written.
#[derive(Debug)]
pub struct Recorder {
    folder: PathBuf,
    samples: Table,
    voids: Table,
    latencies: Table,
}

impl Recorder {
    /// Makes the folder.
    ///
    /// # Errors
    /// When it holds results already, or cannot be made.
    pub fn create(folder: &Path) -> Result<Recorder> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
        Ok(Recorder {
            folder: folder.to_owned(),
            samples: Table::create(folder.join("samples.csv"), &SAMPLES)?,
            voids: Table::create(folder.join("voids.csv"), &VOIDS)?,
            latencies: Table::create(folder.join("latencies.csv"), &LATENCIES)?,
        })
    }

    /// Goes on writing to a folder that [`Recorder::create`] made.
    ///
    /// # Errors
    /// When one of its files is missing or cannot be written.
    pub fn resume(folder: &Path) -> Result<Recorder> {
        Ok(Recorder {
            folder: folder.to_owned(),
            samples: Table::resume(folder.join("samples.csv"))?,
            voids: Table::resume(folder.join("voids.csv"))?,
            latencies: Table::resume(folder.join("latencies.csv"))?,
        })
    }

    /// Where it writes.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes down one number.
    pub fn sample(&mut self, origin: &Origin, metric: &str, unit: &str, value: f64) -> Result<()> {
        self.samples.append(origin, &[metric, unit, &value.to_string()])
    }

    /// Writes down that a measurement does not count.
    pub fn void(&mut self, origin: &Origin, reason: &str) -> Result<()> {
        self.voids.append(origin, &[reason])
    }

    /// Writes down latencies.
    pub fn latencies(&mut self, origin: &Origin, histogram: &str) -> Result<()> {
        self.latencies.append(origin, &[histogram])
    }

    /// Writes the manifest, in the place of the one before, which stays when that fails.
    pub fn manifest(&self, manifest: &Value) -> Result<()> {
        let text = serde_json::to_string_pretty(manifest)? + "\n";
        let next = self.folder.join("manifest.json.next");
        let written = fs::write(&next, text)
            .and_then(|()| fs::rename(&next, self.folder.join("manifest.json")));
        if written.is_err() {
            let _ = fs::remove_file(&next);
        }
        written.context("cannot write manifest.json")
    }
}

/// A folder that was written.
#[derive(Clone, Debug)]
pub struct Results {
    /// Where it is.
    pub folder: PathBuf,
    /// The conditions.
    pub manifest: Value,
    /// All numbers, in the order in which they were measured.
    pub samples: Vec<Sample>,
    /// What does not count.
    pub voids: Vec<Void>,
    /// Latencies.
    pub latencies: Vec<Latencies>,
}

impl Results {
    /// Reads a folder.
    ///
    /// # Errors
    /// When something is missing or is not as this module writes it; names the file and the line.
    pub fn load(folder: &Path) -> Result<Results> {
        let manifest = folder.join("manifest.json");
        let manifest = fs::read_to_string(&manifest)
            .with_context(|| format!("no results: cannot read {}", manifest.display()))?;
        let samples = csv::read(&folder.join("samples.csv"), SAMPLES, |origin, rest| {
            let [metric, unit, value] = rest;
            let value = value.parse().with_context(|| format!("{value:?} is no number"))?;
            Ok(Sample { origin, metric: metric.to_owned(), unit: unit.to_owned(), value })
        })?;
        let voids = csv::read(&folder.join("voids.csv"), VOIDS, |origin, [reason]| {
            Ok(Void { origin, reason: reason.to_owned() })
        })?;
        let latencies = csv::read(&folder.join("latencies.csv"), LATENCIES, |origin, [text]| {
            Ok(Latencies { origin, histogram: text.to_owned() })
        })?;
        Ok(Results {
            folder: folder.to_owned(),
            manifest: serde_json::from_str(&manifest).context("manifest.json is no JSON")?,
            samples,
            voids,
            latencies,
        })
    }

    /// Whether a measurement does not count.
    pub fn is_void(&self, origin: &Origin) -> bool {
        self.voids.iter().any(|void| void.origin == *origin)
    }
}

const SAMPLES: [&str; 3] = ["metric", "unit", "value"];
const VOIDS: [&str; 1] = ["reason"];
const LATENCIES: [&str; 1] = ["histogram"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn origin(point: &str) -> Origin {
        Origin {
            experiment: "latency".to_owned(),
            subject: "ringway".to_owned(),
            repetition: 3,
            point: point.to_owned(),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("a");
        let mut recorder = Recorder::create(&folder).unwrap();
        let (one, other) = (origin("connections=2"), origin(""));
        recorder.sample(&one, "p99", "us", 12.5).unwrap();
        recorder.sample(&other, "cpu", "CPU-us/request", 1e-9).unwrap();
        recorder.void(&other, "the generator said \"no\", twice,\nand ended").unwrap();
        recorder.latencies(&one, "HISTFAAA").unwrap();
        recorder.manifest(&json!({"commit": "abc"})).unwrap();

        let results = Results::load(&folder).unwrap();
        assert_eq!(results.manifest["commit"], "abc");
        let values: Vec<_> = results.samples.iter().map(|s| (&s.origin, s.value)).collect();
        assert_eq!(values, [(&one, 12.5), (&other, 1e-9)]);
        assert_eq!(results.voids[0].reason, "the generator said \"no\", twice, and ended");
        assert!(results.is_void(&other) && !results.is_void(&one));
        assert_eq!(results.latencies, [Latencies { origin: one, histogram: "HISTFAAA".into() }]);

        // The disk was full in the middle of a line.
        let samples = folder.join("samples.csv");
        let whole = fs::read_to_string(&samples).unwrap();
        fs::write(&samples, whole + "latency,ringway,4,,p9").unwrap();
        assert_eq!(Results::load(&folder).unwrap().samples, results.samples);

        let again = Recorder::create(&folder).unwrap_err().to_string();
        assert!(again.contains("not overwritten"), "{again}");
    }

    #[test]
    fn a_broken_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        Recorder::create(folder.path()).unwrap().manifest(&json!({})).unwrap();
        let samples = folder.path().join("samples.csv");
        for (line, says) in [
            ("latency,ringway,1,,p99,us,fast", "no number"),
            ("latency,ringway,1,,p99", "7 fields"),
            ("latency,ringway,first,,p99,us,1", "repetition"),
            ("latency,\"ringway,1,,p99,us,1", "fields"),
            ("latency,ringway,1,,p99,us,1,2", "7 fields"),
        ] {
            let heading = "experiment,subject,repetition,point,metric,unit,value";
            fs::write(&samples, format!("{heading}\n{line}\n")).unwrap();
            let error = format!("{:#}", Results::load(folder.path()).unwrap_err());
            assert!(error.contains("samples.csv, line 2") && error.contains(says), "{error}");
        }
    }
}
