//! Gives every subject its turn, again and again: A B C, then C B A, so that what drifts hits all
//! alike. Nothing is left out: what fails is written down as void with its reason, and the others
//! go on.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Experiment, Point, Turn};
use crate::record::Recorder;
use crate::subject::{Bench, Options, Pair, Subject};

/// Roughly how long a pair takes to start and to end.
const START: Duration = Duration::from_millis(600);

/// What to measure, and how often.
pub struct Plan {
    /// Each repetition goes through these.
    pub experiments: Vec<Box<dyn Experiment>>,
    /// Who is measured.
    pub subjects: Vec<Box<dyn Subject>>,
    /// How often.
    pub repetitions: u32,
}

impl Plan {
    /// How long all of it takes, roughly.
    pub fn expected(&self) -> Duration {
        let of_each = |experiment: &dyn Experiment| {
            let subjects = self.subjects.iter().map(|subject| &**subject);
            let taking_part = subjects.filter(|subject| experiment.refuses(*subject).is_none());
            let turns = self.repetitions.min(experiment.repetitions_max());
            expected(experiment) * turns * taking_part.count() as u32
        };
        self.experiments.iter().map(|experiment| of_each(&**experiment)).sum()
    }
}

/// Carries the plan out. What is finished is in the recorder's folder, however this ends.
///
/// # Errors
/// When everything was to stop, or the results cannot be written.
pub fn run(plan: &Plan, bench: &Bench, recorder: &mut Recorder) -> Result<()> {
    let mut progress = Progress::new(plan);
    for repetition in 1..=plan.repetitions {
        for experiment in &plan.experiments {
            if repetition > experiment.repetitions_max() {
                continue;
            }
            let mut order: Vec<&dyn Subject> =
                plan.subjects.iter().map(|subject| &**subject).collect();
            if repetition % 2 == 0 {
                order.reverse();
            }
            for subject in order {
                let mut turn = Turn::new(bench, subject, recorder, experiment.name(), repetition);
                take(&mut turn, &**experiment, &mut progress)?;
            }
        }
    }
    Ok(())
}

/// One turn: starts the pair, measures all points, ends the pair.
fn take(turn: &mut Turn<'_>, experiment: &dyn Experiment, progress: &mut Progress) -> Result<()> {
    turn.bench.go_on()?;
    let points = experiment.points();
    let mut obstacle = experiment.refuses(turn.subject);
    if obstacle.is_none() && experiment.needs_pair() {
        match turn.bench.start(turn.subject, &Options::default()) {
            Ok(pair) => {
                publish(&pair, turn.subject.name(), turn.recorder.folder())?;
                turn.pair = pair;
            }
            Err(error) => obstacle = Some(format!("did not start: {error:#}")),
        }
    }
    for point in &points {
        turn.bench.go_on()?;
        turn.begin(point);
        let began = Instant::now();
        match &obstacle {
            Some(reason) => turn.void(reason),
            None => {
                let measured = experiment.measure(turn, point);
                // What was cut short by Ctrl-C says nothing about the subject.
                turn.bench.go_on()?;
                if let Err(error) = measured {
                    let logs = turn.pair.logs();
                    turn.void(&format!("{error:#}{logs}"));
                }
                obstacle = turn.pair.ended().map(|ended| ended + &turn.pair.logs());
                if let Some(ended) = &obstacle {
                    turn.void(ended);
                }
            }
        }
        if let Some(broken) = turn.broken.take() {
            return Err(broken.context("the results cannot be written; what was written is kept"));
        }
        progress.line(turn, experiment, point, began.elapsed());
    }
    turn.bench.end(std::mem::take(&mut turn.pair))
}

/// Keeps the configurations that a subject ran with beside the results.
fn publish(pair: &Pair, subject: &str, folder: &Path) -> Result<()> {
    for (name, text) in &pair.configurations {
        let folder = folder.join("subjects").join(subject);
        let path = folder.join(name);
        if !path.exists() {
            std::fs::create_dir_all(&folder)
                .and_then(|()| std::fs::write(&path, text))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

fn expected(experiment: &dyn Experiment) -> Duration {
    START + experiment.expected() * experiment.points().len() as u32
}

/// One line per finished point, and on a terminal a bar under them.
struct Progress {
    terminal: bool,
    began: Instant,
    /// The expected time of all of it, and of what is finished.
    total: Duration,
    done: Duration,
    repetitions: u32,
    width: usize,
}

impl Progress {
    fn new(plan: &Plan) -> Progress {
        let subjects = plan.subjects.iter().map(|subject| subject.name().len());
        Progress {
            terminal: std::io::stdout().is_terminal(),
            began: Instant::now(),
            total: plan.expected(),
            done: Duration::ZERO,
            repetitions: plan.repetitions,
            width: subjects.max().unwrap_or(0),
        }
    }

    fn line(
        &mut self,
        turn: &Turn<'_>,
        experiment: &dyn Experiment,
        point: &Point,
        took: Duration,
    ) {
        if experiment.refuses(turn.subject).is_none() {
            self.done += expected(experiment) / experiment.points().len().max(1) as u32;
        }
        let what = match &turn.void {
            Some(reason) => format!("void: {reason}"),
            None => turn.headline.join(", "),
        };
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        let what: String = what.replace('\n', " ").chars().take(200).collect();
        println!(
            "{clear}{}/{} {:width$}  {} {point}  {what}  ({:.1} s)",
            turn.repetition(),
            self.repetitions,
            turn.subject.name(),
            experiment.name(),
            took.as_secs_f64(),
            width = self.width,
        );
        if self.terminal {
            let share = (self.done.as_secs_f64() / self.total.as_secs_f64()).min(1.0);
            let left = self.began.elapsed().mul_f64((1.0 - share) / share.max(1e-6)).as_secs();
            let full = (share * 30.0) as usize;
            print!(
                "[{}{}] {:.0} %, {}:{:02} left",
                "#".repeat(full),
                "-".repeat(30 - full),
                share * 100.0,
                left / 60,
                left % 60
            );
            let _ = std::io::stdout().flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            print!("\r\x1b[K");
            let _ = std::io::stdout().flush();
        }
    }
}
