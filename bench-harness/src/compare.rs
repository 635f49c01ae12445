//! `ringway-bench compare A B`: whether B costs more than A.
//!
//! A and B are two folders of results, or two commits. Commits are built, each in a worktree under
//! `target/compare`, and take turns in one run, so what disturbs the machine disturbs both. Folders
//! were measured at different times: their repetitions are no pairs, and their conditions must agree.
//!
//! **Promise:** a difference that the interval includes is not called one.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::record::{Origin, Recorder, Results};
use crate::report::number::{interval, number, unit};
use crate::report::{Measurements, Metric, Point, verdict};
use crate::statistics::{Estimate, Verdict};

/// What must be the same for two folders to be compared.
const CONDITIONS: [&str; 9] = [
    "/machine/processor",
    "/machine/cores",
    "/machine/memory",
    "/machine/kernel",
    "/conditions/cipher_suite",
    "/conditions/congestion_control",
    "/conditions/workers",
    "/conditions/processors",
    "/conditions/seconds",
];

/// What to compare.
#[derive(Clone, Debug, clap::Args)]
pub struct Compare {
    /// A folder of results, or a commit: what was.
    a: String,
    /// The same: what is.
    b: String,
    /// Of commits: what to measure.
    #[arg(long, value_delimiter = ',', default_value = "capacity,throughput")]
    experiments: Vec<String>,
    /// Of commits: how often each has its turn.
    #[arg(long, default_value_t = 10)]
    repetitions: u32,
    /// Of commits: seconds of each measurement.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Of commits: the folder to write; without it, a new one under target/compare.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Of folders: the subject to compare.
    #[arg(long, default_value = "ringway")]
    subject: String,
    /// Only these metrics.
    #[arg(long, value_delimiter = ',', value_name = "METRIC")]
    metrics: Vec<String>,
    /// Compare folders though their conditions differ.
    #[arg(long)]
    anyway: bool,
    /// Fail when B is shown to be worse in anything.
    #[arg(long)]
    fail_if_slower: bool,
}

/// One side of a comparison.
struct Side<'a> {
    name: String,
    subject: String,
    measurements: &'a Measurements,
}

/// Whether B is better, worse, or not shown to differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Better,
    Worse,
    NotShown,
}

impl Compare {
    /// Compares. False when B is worse and that is to fail.
    pub fn run(&self) -> Result<bool> {
        let is_folder = |name: &str| Path::new(name).join("manifest.json").exists();
        match (is_folder(&self.a), is_folder(&self.b)) {
            (true, true) => self.folders(),
            (false, false) => self.commits(),
            _ => bail!("{} and {} are to be two folders of results or two commits", self.a, self.b),
        }
    }

    fn folders(&self) -> Result<bool> {
        let (a, b) = (Results::load(Path::new(&self.a))?, Results::load(Path::new(&self.b))?);
        let differing = differing(&a.manifest, &b.manifest);
        if !differing.is_empty() {
            let text = differing.join("\n  ");
            ensure!(
                self.anyway,
                "the conditions differ, so a difference would say nothing about Ringway \
                 (--anyway compares nevertheless):\n  {text}"
            );
            eprintln!("The conditions differ:\n  {text}\n");
        }
        println!(
            "The folders were not measured in turns: what changed between them counts as well.\n"
        );
        let side = |name: &str, measurements| Side {
            name: name.to_owned(),
            subject: self.subject.clone(),
            measurements,
        };
        let (one, other) = (Measurements::of(&a), Measurements::of(&b));
        self.print(&side(&self.a, &one), &side(&self.b, &other), false)
    }

    /// Measures two commits in turns.
    fn commits(&self) -> Result<bool> {
        let sides = [(&self.a, commit(&self.a)?), (&self.b, commit(&self.b)?)];
        ensure!(sides[0].1 != sides[1].1, "{} and {} are the same commit", self.a, self.b);
        let mut programs = Vec::new();
        for (name, commit) in &sides {
            programs.push((format!("ringway@{name}"), build(commit)?));
        }
        let out = self.out.clone().unwrap_or_else(|| {
            let now = time::OffsetDateTime::now_utc();
            let short = |commit: &str| commit[..12].to_owned();
            let (one, other) = (short(&sides[0].1), short(&sides[1].1));
            let second = now.unix_timestamp();
            PathBuf::from(format!("target/compare/{}-{one}-{other}-{second}", now.date()))
        });
        let mut recorder = Recorder::create(&out)?;
        let manifest = json!({
            "commits": sides.iter().map(|(name, commit)| json!({"name": name, "commit": commit}))
                .collect::<Vec<_>>(),
            "arguments": crate::manifest::arguments(),
        });
        recorder.manifest(&manifest)?;
        // Ctrl-C reaches the run as well, which ends in order; we then judge what is finished.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _inside = runtime.enter();
        let _caught = signal(SignalKind::interrupt())?;
        for repetition in 1..=self.repetitions {
            let mut order: Vec<&(String, PathBuf)> = programs.iter().collect();
            if repetition % 2 == 0 {
                order.reverse();
            }
            for (subject, program) in order {
                println!("Repetition {repetition} of {}: {subject}", self.repetitions);
                if !self.turn(&mut recorder, subject, program, repetition)? {
                    println!("Stopped; what is finished is kept in {}.", out.display());
                    self.judge(&out, &programs)?;
                    return Ok(false);
                }
            }
        }
        println!("Written to {}.\n", out.display());
        self.judge(&out, &programs)
    }

    /// Measures one program once. False when it was stopped.
    fn turn(
        &self,
        recorder: &mut Recorder,
        subject: &str,
        program: &Path,
        repetition: u32,
    ) -> Result<bool> {
        let scratch = tempfile::tempdir_in("target/compare").context("cannot make a folder")?;
        let folder = scratch.path().join("turn");
        let status = Command::new(std::env::current_exe()?)
            .arg("run")
            .args(&self.experiments)
            .args(["--subjects", "ringway", "--repetitions", "1"])
            .args(["--seconds", &self.seconds.to_string(), "--seed", &repetition.to_string()])
            .arg("--ringway")
            .arg(program)
            .arg("--out")
            .arg(&folder)
            .stdout(std::process::Stdio::null())
            .status()
            .context("cannot start a run")?;
        if folder.join("manifest.json").exists() {
            let results = Results::load(&folder)?;
            let origin = |origin: &Origin| Origin {
                subject: subject.to_owned(),
                repetition,
                ..origin.clone()
            };
            for void in &results.voids {
                recorder.void(&origin(&void.origin), &void.reason)?;
            }
            for sample in &results.samples {
                let origin = origin(&sample.origin);
                recorder.sample(&origin, &sample.metric, &sample.unit, sample.value)?;
            }
            for latencies in &results.latencies {
                recorder.latencies(&origin(&latencies.origin), &latencies.histogram)?;
            }
            let complete = results.manifest.get("complete").and_then(Value::as_bool);
            return Ok(complete == Some(true));
        }
        bail!("{} could not be measured ({status})", program.display())
    }

    fn judge(&self, folder: &Path, programs: &[(String, PathBuf)]) -> Result<bool> {
        let measurements = Measurements::of(&Results::load(folder)?);
        let side = |index: usize| {
            let name = &programs[index].0;
            Side { name: name.clone(), subject: name.clone(), measurements: &measurements }
        };
        self.print(&side(0), &side(1), true)
    }

    fn print(&self, a: &Side<'_>, b: &Side<'_>, paired: bool) -> Result<bool> {
        let (mut rows, mut worse) = (Vec::new(), 0);
        for experiment in a.measurements.experiments() {
            let Some(other) = b.measurements.experiment(&experiment.name) else { continue };
            for metric in &experiment.metrics {
                let wanted = self.metrics.is_empty() || self.metrics.contains(&metric.name);
                let same = |m: &&Metric| m.name == metric.name && m.unit == metric.unit;
                let Some(same) = other.metrics.iter().find(same).filter(|_| wanted) else {
                    continue;
                };
                for point in &metric.points {
                    let row = row(&experiment.name, (metric, a), (same, b), point, paired);
                    let Some((row, change)) = row else { continue };
                    worse += usize::from(change == Change::Worse);
                    rows.push(row);
                }
            }
        }
        ensure!(!rows.is_empty(), "{} and {} have nothing in common to compare", a.name, b.name);
        println!("A = {}\nB = {}\n", a.name, b.name);
        let colours = io::stdout().is_terminal();
        let heading = ["experiment", "metric", "A", "B", "B / A", "95 % interval"];
        let table = verdict::table(&heading, "B is", &rows, |word| {
            let code = match word {
                _ if word.ends_with("better") => "1;32",
                _ if word.ends_with("worse") => "1;31",
                _ => "2",
            };
            if colours { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() }
        });
        println!("{table}");
        println!("{} compared, {worse} shown to be worse.", rows.len());
        Ok(!(self.fail_if_slower && worse > 0))
    }
}

/// One line of the table; none where either has nothing, or where no direction is better.
fn row(
    experiment: &str,
    (metric, a): (&Metric, &Side<'_>),
    (same, b): (&Metric, &Side<'_>),
    point: &Point,
    paired: bool,
) -> Option<([String; 7], Change)> {
    let lower = metric.lower_is_better()?;
    let (one, other) = (metric.estimate(point, &a.subject)?, same.estimate(point, &b.subject)?);
    let ratio = if paired {
        Estimate::ratio(&metric.pairs(point, &b.subject, &a.subject))
    } else {
        let (a, b) = (metric.values(point, &a.subject), same.values(point, &b.subject));
        Estimate::ratio_unpaired(&b, &a)
    }?;
    let shown = ratio.verdict(1.0);
    let change = match (shown, lower) {
        (Verdict::NotShown, _) => Change::NotShown,
        (Verdict::Lower, true) | (Verdict::Higher, false) => Change::Better,
        _ => Change::Worse,
    };
    let verdict = match change {
        Change::Better => format!("{}, better", shown.word()),
        Change::Worse => format!("{}, worse", shown.word()),
        Change::NotShown => shown.word().to_owned(),
    };
    let unit = unit(&metric.unit);
    let row = [
        format!("{experiment} {}", point.text()).trim_end().to_owned(),
        format!("{} [{}]", metric.name, unit.label),
        number(unit.of(one.value)),
        number(unit.of(other.value)),
        number(ratio.value),
        interval(&ratio),
        verdict,
    ];
    Some((row, change))
}

/// Which conditions differ, and how.
fn differing(a: &Value, b: &Value) -> Vec<String> {
    let text = |manifest: &Value, path: &str| {
        manifest.pointer(path).map_or_else(|| "not noted".to_owned(), ToString::to_string)
    };
    // What is as usual is not noted.
    let noted = |manifest: &Value, path: &str| {
        manifest.pointer(path).filter(|value| !value.is_null()).cloned()
    };
    let different = CONDITIONS.iter().filter(|path| noted(a, path) != noted(b, path));
    different
        .map(|path| {
            let name = path.trim_start_matches('/').replace('/', ".");
            format!("{name}: {} and {}", text(a, path), text(b, path))
        })
        .collect()
}

/// The full name of a commit.
fn commit(name: &str) -> Result<String> {
    let wanted = format!("{name}^{{commit}}");
    let output = Command::new("git").args(["rev-parse", "--verify", "--quiet", &wanted]).output();
    let output = output.context("cannot start git")?;
    ensure!(output.status.success(), "{name} is neither a folder of results nor a commit");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Builds `ringway` at a commit, unless that was done before.
fn build(commit: &str) -> Result<PathBuf> {
    let folder = std::path::absolute("target/compare")?;
    let program = folder.join(format!("ringway-{commit}"));
    if program.exists() {
        return Ok(program);
    }
    let tree = folder.join(commit);
    if !tree.exists() {
        let tree = tree.display().to_string();
        run("git", &["worktree", "add", "--force", "--detach", &tree, commit], Path::new("."))?;
    }
    // One target for all commits: what they have in common is built once.
    let target = folder.join("build");
    let all = ["build", "--release", "--locked", "--bin", "ringway", "--target-dir"];
    let target_text = target.display().to_string();
    run("cargo", &[&all[..], &[&target_text]].concat(), &tree)?;
    std::fs::copy(target.join("release/ringway"), &program)
        .with_context(|| format!("cannot write {}", program.display()))?;
    let tree = tree.display().to_string();
    run("git", &["worktree", "remove", "--force", &tree], Path::new("."))?;
    Ok(program)
}

fn run(program: &str, arguments: &[&str], folder: &Path) -> Result<()> {
    let status = Command::new(program).args(arguments).current_dir(folder).status();
    let status = status.with_context(|| format!("cannot start {program}"))?;
    ensure!(status.success(), "`{program} {}` failed ({status})", arguments.join(" "));
    Ok(())
}
