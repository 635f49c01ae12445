//! What is left of a run: one line for each row, and the conditions.

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Error, Result};
use serde::Serialize;
use serde_json::Value;

use super::row::Row;
use super::trial::{Check, NotRun, Settings, Trial, Verdict, number};
use crate::manifest;
use crate::measure::load_average;

/// One row's line.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) goals: &'static [&'static str],
    /// The number that says most: of the first limit that does not hold, else of the first.
    pub(super) value: Option<f64>,
    pub(super) unit: Option<&'static str>,
    pub(super) limit: Option<String>,
    pub(super) verdict: Verdict,
    pub(super) reason: String,
    pub(super) commit: String,
    pub(super) reactor: &'static str,
    pub(super) seconds: f64,
    /// Every number of the row.
    pub(super) checks: Vec<Check>,
}

impl Line {
    pub(super) fn new(row: &Row, trial: Trial<'_>, ended: Result<()>, took: Duration) -> Line {
        let (reactor, checks, mut reasons) = trial.into_parts();
        let verdict = match ended {
            Err(error) if error.is::<NotRun>() => {
                reasons.insert(0, error.to_string());
                Verdict::NotRun
            }
            Err(error) => {
                reasons.insert(0, broken(&error));
                Verdict::FallShort
            }
            Ok(()) if checks.iter().any(|check| !check.holds) => Verdict::FallShort,
            Ok(()) if checks.iter().all(|check| check.limit.is_none()) => {
                reasons.insert(0, "nothing was held against a limit".to_owned());
                Verdict::NotRun
            }
            Ok(()) => Verdict::Pass,
        };
        let short: Vec<String> =
            checks.iter().filter(|check| !check.holds).map(ToString::to_string).collect();
        if !short.is_empty() {
            reasons.insert(0, short.join(", "));
        }
        let limited = || checks.iter().filter(|check| check.limit.is_some());
        let first = limited().find(|check| !check.holds).or_else(|| limited().next());
        Line {
            id: row.id,
            title: row.title,
            goals: row.goals,
            value: first.map(|check| check.value),
            unit: first.map(|check| check.unit),
            limit: first.and_then(|check| check.limit.clone()),
            verdict,
            reason: reasons.join("; "),
            commit: commit(),
            reactor: reactor.name(),
            seconds: (took.as_secs_f64() * 10.0).round() / 10.0,
            checks,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { id, verdict, reactor, seconds, .. } = self;
        write!(f, "{id:<4} {:<10} {reactor:<5} {seconds:>6.1} s", verdict.to_string())?;
        for check in self.checks.iter().take(6) {
            write!(f, "  {check};")?;
        }
        if !self.reason.is_empty() {
            write!(f, "\n       {}", self.reason)?;
        }
        Ok(())
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Check { name, unit, .. } = self;
        write!(f, "{name} {} {unit}", number(self.value))?;
        match &self.limit {
            Some(limit) => write!(f, " ({limit})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Pass => "pass",
            Verdict::FallShort => "fall-short",
            Verdict::NotRun => "not-run",
        })
    }
}

/// A folder that is being written.
pub(super) struct Records {
    folder: PathBuf,
    file: File,
    manifest: Value,
    lines: Vec<Line>,
}

impl Records {
    pub(super) fn create(folder: &Path) -> Result<Records> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
        let path = folder.join("rows.jsonl");
        let file =
            fs::OpenOptions::new().write(true).create_new(true).open(&path).with_context(|| {
                format!("cannot create {}; results are not overwritten", path.display())
            })?;
        Ok(Records { folder: folder.to_owned(), file, manifest: Value::Null, lines: Vec::new() })
    }

    /// Writes down the conditions.
    pub(super) fn start(&mut self, settings: &Settings, rows: &[&Row]) -> Result<()> {
        let mut manifest = manifest::surroundings(std::slice::from_ref(&settings.ringway))?;
        manifest["form"] = if settings.short { "short" } else { "full" }.into();
        manifest["seed"] = settings.seed.into();
        manifest["processors"] = manifest::processors(settings.awake).into();
        manifest["rows"] = rows.iter().map(|row| row.id).collect();
        manifest["python"] = settings.python.is_some().into();
        self.manifest = manifest;
        self.write_manifest()
    }

    pub(super) fn write(&mut self, line: Line) -> Result<()> {
        let mut text = serde_json::to_string(&line)?;
        text.push('\n');
        self.file.write_all(text.as_bytes()).context("cannot write rows.jsonl")?;
        self.lines.push(line);
        Ok(())
    }

    pub(super) fn finish(&mut self, complete: bool) -> Result<()> {
        self.manifest["load_average"]["end"] = load_average().into();
        self.manifest["complete"] = complete.into();
        self.write_manifest()
    }

    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// How many ended how, and where that stands.
    pub(super) fn summary(&self) -> String {
        let count = |verdict| self.lines.iter().filter(|line| line.verdict == verdict).count();
        format!(
            "{} pass, {} fall short, {} not run; {}",
            count(Verdict::Pass),
            count(Verdict::FallShort),
            count(Verdict::NotRun),
            self.folder.join("rows.jsonl").display()
        )
    }

    fn write_manifest(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.manifest)? + "\n";
        fs::write(self.folder.join("manifest.json"), text).context("cannot write manifest.json")
    }
}

/// The commit that was tried, and whether files differ from it.
fn commit() -> String {
    let changed = !manifest::output("git", &["status", "--porcelain", "-uno"]).is_empty();
    let commit = manifest::output("git", &["rev-parse", "--short=12", "HEAD"]);
    if changed { format!("{commit}+changes") } else { commit }
}

/// What a row broke off with, in one line.
fn broken(error: &Error) -> String {
    const BYTES_MAX: usize = 600;
    let mut text = format!("broke off: {error:#}").replace('\n', " | ");
    if text.len() > BYTES_MAX {
        let end = (0..=BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::torture::Reactor;
    use crate::torture::trial::not_run;

    fn line(run: fn(&mut Trial<'_>) -> Result<()>) -> Line {
        let settings = Settings {
            short: false,
            reactor: Reactor::Epoll,
            own: PathBuf::new(),
            ringway: PathBuf::new(),
            python: None,
            clients: PathBuf::new(),
            given: std::collections::BTreeMap::new(),
            seed: 1,
            awake: false,
            stop: std::sync::Arc::default(),
        };
        let row = Row { id: "X1", title: "a row", goals: &["G0"], short: true, run };
        let mut trial = Trial::new(&settings).unwrap();
        let ended = run(&mut trial);
        Line::new(&row, trial, ended, Duration::from_millis(1234))
    }

    #[test]
    fn a_line_says_how_a_row_ended_and_why() {
        //  what the row does, verdict, value, what the reason says
        type Case = (fn(&mut Trial<'_>) -> Result<()>, Verdict, Option<f64>, &'static str);
        let cases: [Case; 6] = [
            (
                |trial| {
                    trial.tell("beside", 9.0, "s");
                    trial.at_most("a", 1.0, "s", 2.0);
                    trial.exactly("b", 3, "of 3", 3);
                    Ok(())
                },
                Verdict::Pass,
                Some(1.0),
                "",
            ),
            (
                |trial| {
                    trial.at_most("a", 1.0, "s", 2.0);
                    trial.at_least("b", 2.5, "x", 3.0);
                    trial.remark("because");
                    Ok(())
                },
                Verdict::FallShort,
                Some(2.5),
                "b 2.5 x (>= 3); because",
            ),
            (|_| Err(not_run("no python here")), Verdict::NotRun, None, "no python here"),
            (
                |trial| {
                    trial.at_most("a", 1.0, "s", 2.0);
                    Err(anyhow::anyhow!("the server\nis gone"))
                },
                Verdict::FallShort,
                Some(1.0),
                "broke off: the server | is gone",
            ),
            (|_| Ok(()), Verdict::NotRun, None, "nothing was held against a limit"),
            (
                |trial| {
                    trial.at_most("not a number", f64::NAN, "s", 2.0);
                    Ok(())
                },
                Verdict::FallShort,
                None,
                "not a number NaN s (<= 2)",
            ),
        ];
        for (run, verdict, value, reason) in cases {
            let line = line(run);
            assert_eq!((line.verdict, line.reason.as_str()), (verdict, reason));
            assert_eq!(line.value.filter(|value| !value.is_nan()), value);
            assert_eq!((line.reactor, line.seconds), ("epoll", 1.2));
        }
    }

    #[test]
    fn lines_are_kept_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let mut records = Records::create(folder.path()).unwrap();
        records.write(line(|_| Err(not_run("no")))).unwrap();
        let text = fs::read_to_string(folder.path().join("rows.jsonl")).unwrap();
        let value: Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(value["verdict"], json!("not-run"));
        assert_eq!(value["id"], json!("X1"));
        let again = Records::create(folder.path()).err().expect("refused").to_string();
        assert!(again.contains("not overwritten"), "{again}");
        assert!(records.summary().starts_with("0 pass, 0 fall short, 1 not run"));
    }
}
