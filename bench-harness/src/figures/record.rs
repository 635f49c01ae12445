//! What is kept of a run: a manifest, every sample as measured, and a summary made from them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::{Figures, median};

/// A folder of results.
pub(super) struct Record {
    folder: PathBuf,
    samples: File,
    values: BTreeMap<(String, String), Vec<(u32, f64)>>,
    units: BTreeMap<String, &'static str>,
    metrics: Vec<String>,
}

impl Record {
    pub(super) fn create(folder: &Path) -> Result<Record> {
        fs::create_dir_all(folder)?;
        let mut samples = File::create(folder.join("samples.csv"))?;
        writeln!(samples, "subject,repetition,metric,unit,value")?;
        Ok(Record {
            folder: folder.to_owned(),
            samples,
            values: BTreeMap::new(),
            units: BTreeMap::new(),
            metrics: Vec::new(),
        })
    }

    pub(super) fn add(
        &mut self,
        subject: &str,
        round: u32,
        metric: &str,
        unit: &'static str,
        value: f64,
    ) -> Result<()> {
        writeln!(self.samples, "{subject},{round},{metric},{unit},{value}")?;
        println!("{subject:<14} round {round}  {metric:<34} {value:>14.3} {unit}");
        let key = (subject.to_owned(), metric.to_owned());
        self.values.entry(key).or_default().push((round, value));
        if self.units.insert(metric.to_owned(), unit).is_none() {
            self.metrics.push(metric.to_owned());
        }
        Ok(())
    }

    pub(super) fn write_manifest(&self, figures: &Figures, ringway: &Path) -> Result<()> {
        let first_line = |path: &str, key: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split_once(':').map_or(line, |(_, value)| value).trim().to_owned()
        };
        let processors = std::thread::available_parallelism()?.get();
        let manifest = json!({
            "commit": output("git", &["rev-parse", "HEAD"]),
            "changed_files": output("git", &["status", "--porcelain"]).lines().count(),
            "date": output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            "machine": {
                "processor": first_line("/proc/cpuinfo", "model name"),
                "processors": processors,
                "memory": first_line("/proc/meminfo", "MemTotal"),
                "kernel": output("uname", &["-srvm"]),
                "load_at_start": fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
            },
            "programs": {
                "ringway": output(&ringway.display().to_string(), &["version"]),
                "reference": "tokio multi-thread + tokio-rustls + h2, in bench-harness/src/relay",
                "rustc": output("rustc", &["--version"]),
            },
            "conditions": {
                "cipher_suite": "TLS_AES_128_GCM_SHA256",
                "congestion_control": figures.congestion_control,
                "time_wait": "net.ipv4.tcp_max_tw_buckets=100 in both namespaces",
                "topology": "two network namespaces, one veth pair; redirect rules the same for all",
                "cost": "scheduler time of all threads of the two proxy processes",
                "order": "subjects interleaved, reversed every second round",
                "note": figures.note,
            },
            "arguments": std::env::args().collect::<Vec<_>>(),
        });
        fs::write(self.folder.join("manifest.json"), serde_json::to_string_pretty(&manifest)?)
            .context("cannot write the manifest")
    }

    /// Writes and prints medians, spreads, and the ratio of the first subject to each other one.
    pub(super) fn summarise(&self, subjects: &[String]) -> Result<()> {
        let mut text =
            "# First figures\n\nMedian (smallest to largest) of all rounds; ratio: median of \
                        the ratios round by round.\n\n| what | unit |"
                .to_owned();
        for subject in subjects {
            text.push_str(&format!(" {subject} |"));
        }
        for other in &subjects[1..] {
            text.push_str(&format!(" {} / {other} |", subjects[0]));
        }
        text.push_str(&format!("\n|{}\n", "---|".repeat(1 + 2 * subjects.len())));
        for metric in &self.metrics {
            text.push_str(&format!("| {metric} | {} |", self.units[metric]));
            for subject in subjects {
                text.push_str(&match self.of(subject, metric) {
                    Some(values) => {
                        let numbers: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
                        let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
                        let most = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                        format!(
                            " {} ({} to {}) |",
                            short(median(&numbers)?),
                            short(least),
                            short(most)
                        )
                    }
                    None => " |".to_owned(),
                });
            }
            for other in &subjects[1..] {
                text.push_str(&match self.ratio(&subjects[0], other, metric) {
                    Some(ratio) => format!(" {ratio:.2} |"),
                    None => " |".to_owned(),
                });
            }
            text.push('\n');
        }
        println!("\n{text}");
        Ok(fs::write(self.folder.join("summary.md"), text)?)
    }

    fn of(&self, subject: &str, metric: &str) -> Option<&Vec<(u32, f64)>> {
        self.values.get(&(subject.to_owned(), metric.to_owned()))
    }

    fn ratio(&self, one: &str, other: &str, metric: &str) -> Option<f64> {
        let (one, other) = (self.of(one, metric)?, self.of(other, metric)?);
        let ratios: Vec<f64> = one
            .iter()
            .filter_map(|(round, value)| {
                let (_, beside) = other.iter().find(|(known, _)| known == round)?;
                Some(value / beside)
            })
            .collect();
        median(&ratios).ok()
    }
}

fn short(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}
