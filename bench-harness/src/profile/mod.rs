//! `ringway-bench profile`: where a subject spends its time while an experiment loads it.
//!
//! With `perf` any program's stacks are recorded, kernel and all; they are left as `near.perf` and
//! `far.perf`. Where `perf` is missing or not allowed, Ringway is asked for its own profile, left as
//! `near.folded` and `far.folded`: user space only. Others cannot be profiled then.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::experiment::{self, Experiment, Plan, Point, Settings, Turn};
use crate::http::get_slowly_from;
use crate::lab::{Process, Program};
use crate::record::{Recorder, Results};
use crate::stop::stop_flag;
use crate::subject::{self, Bench, Programs, Subject};

/// What to profile.
#[derive(Clone, Debug, Args)]
pub struct Profile {
    /// Who is profiled.
    subject: String,
    /// The experiment that loads it.
    experiment: String,
    /// The point of the experiment, such as `connections=64 rate=1000`; without it, the last.
    point: Option<String>,
    /// Seconds under load; 1 to 60.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Do not use `perf`, even if it works.
    #[arg(long)]
    no_perf: bool,
    /// The program `ringway`; a release build with frame pointers tells most. Without it, the one
    /// beside this program.
    #[arg(long, value_name = "FILE")]
    ringway: Option<PathBuf>,
    /// Envoy; without it, the one in target/tools.
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
    /// The folder for what is recorded, and for what the experiment measures.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

/// Where Ringway tells about itself.
const ADMIN: &str = "127.0.0.1:15000";
/// Samples per second of processor time; not a divisor of anything's period.
const FREQUENCY: &str = "997";

impl Profile {
    /// Loads a pair and records where both sides are.
    ///
    /// # Errors
    /// When the subject, experiment or point does not exist, nothing can be recorded, or the
    /// experiment fails.
    pub fn run(&self) -> Result<()> {
        let programs = Programs::find(self.ringway.clone(), self.envoy.clone())?;
        let subject = subject::by_name(&self.subject, &programs)?;
        let way = self.way(&*subject)?;
        let settings = Settings {
            full: true,
            seconds: f64::from(self.seconds),
            seed: 1,
            held: Vec::new(),
            workloads: Vec::new(),
            services: None,
        };
        let experiment = experiment::by_name(&self.experiment, &settings)?;
        let point = self.point(&*experiment)?;
        println!("{}, {} {point}, recorded by {}", self.subject, self.experiment, way.name());
        let profiled =
            Profiled { experiment, point, way, seconds: self.seconds, out: self.out.clone() };
        let plan =
            Plan { experiments: vec![Box::new(profiled)], subjects: vec![subject], repetitions: 1 };
        let bench = Bench::build(&programs.own, "reno", stop_flag()?)?;
        let measured = self.out.join("measured");
        if measured.exists() {
            fs::remove_dir_all(&measured).context("cannot remove what was measured before")?;
        }
        let mut recorder = Recorder::create(&measured)?;
        recorder.manifest(&serde_json::json!({ "note": "measured while profiled" }))?;
        experiment::run(&plan, &bench, &mut recorder)?;
        let voids = Results::load(&measured)?.voids;
        ensure!(voids.is_empty(), "{}", voids[0].reason);
        Ok(())
    }

    fn point(&self, experiment: &dyn Experiment) -> Result<Point> {
        let points = experiment.points();
        let Some(wanted) = &self.point else {
            return points.last().cloned().context("the experiment has no points");
        };
        let found = points.iter().find(|point| point.to_string() == *wanted);
        let names = || points.iter().map(Point::to_string).collect::<Vec<_>>().join("\n  ");
        found.cloned().with_context(|| {
            format!("{} has no point {wanted:?}; it has\n  {}", experiment.name(), names())
        })
    }

    fn way(&self, subject: &dyn Subject) -> Result<Way> {
        let obstacle =
            if self.no_perf { Some("it is not wanted".to_owned()) } else { perf_obstacle() };
        match obstacle {
            None => Ok(Way::Perf),
            Some(_) if subject.name().starts_with("ringway") => Ok(Way::Ask),
            Some(obstacle) => bail!(
                "{} cannot be profiled without perf ({obstacle}); only Ringway can, by asking it. \
                 Debian: apt-get install linux-perf; in a container: --cap-add PERFMON, or sysctl \
                 -w kernel.perf_event_paranoid=1 on the host",
                subject.name()
            ),
        }
    }
}

/// Why `perf` cannot record here, if it cannot.
fn perf_obstacle() -> Option<String> {
    let tried = Command::new("perf")
        .args(["record", "-e", "cpu-clock", "-g", "-o", "/dev/null", "--", "true"])
        .stdin(Stdio::null())
        .output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let line =
                text.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason told");
            Some(format!("it is refused: {}", line.trim()))
        }
        Err(error) => Some(format!("it cannot be run: {error}")),
    }
}

/// How stacks are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// From outside.
    Perf,
    /// By asking the program.
    Ask,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Perf => "perf",
            Way::Ask => "the program itself (user space only: perf is not used)",
        }
    }
}

/// An experiment at one of its points, recorded.
struct Profiled {
    experiment: Box<dyn Experiment>,
    point: Point,
    way: Way,
    seconds: u32,
    out: PathBuf,
}

impl Experiment for Profiled {
    fn name(&self) -> &'static str {
        self.experiment.name()
    }

    fn points(&self) -> Vec<Point> {
        vec![self.point.clone()]
    }

    fn expected(&self) -> Duration {
        self.experiment.expected()
    }

    fn refuses(&self, subject: &dyn Subject) -> Option<String> {
        if !self.experiment.needs_pair() {
            return Some(format!("{} starts its own pairs; profile another", self.name()));
        }
        self.experiment.refuses(subject)
    }

    fn measure(&self, turn: &mut Turn<'_>, point: &Point) -> Result<()> {
        let sides = [("near", turn.pair.near_ids()), ("far", turn.pair.far_ids())];
        match self.way {
            Way::Perf => {
                let recorders: Vec<(&str, Process)> = sides
                    .iter()
                    .filter(|(_, ids)| !ids.is_empty())
                    .map(|(side, ids)| Ok((*side, self.perf(turn.bench, side, ids)?)))
                    .collect::<Result<_>>()?;
                ensure!(!recorders.is_empty(), "{} has no processes", turn.subject.name());
                self.experiment.measure(turn, point)?;
                recorders.into_iter().try_for_each(|(side, recorder)| finish(side, recorder))
            }
            Way::Ask => {
                let (bench, seconds) = (turn.bench, self.seconds);
                std::thread::scope(|scope| {
                    let asked = ["near", "far"].map(|side| {
                        let out = self.out.join(format!("{side}.folded"));
                        scope.spawn(move || ask(bench, side, seconds, &out))
                    });
                    let measured = self.experiment.measure(turn, point);
                    let mut answers =
                        asked.into_iter().map(|asked| asked.join().expect("asking does not panic"));
                    measured.and(answers.try_for_each(|answer| answer))
                })
            }
        }
    }
}

impl Profiled {
    fn perf(&self, bench: &Bench, side: &str, ids: &[u32]) -> Result<Process> {
        let ids = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let program = Program::new("perf")
            .arguments(["record", "-e", "cpu-clock", "-F", FREQUENCY, "-g", "-o"])
            .argument(self.out.join(format!("{side}.perf")))
            .arguments(["-p", &ids]);
        bench.lab.start(side, &format!("perf-{side}"), &program)
    }
}

/// Asks one side of a pair of Ringways for its profile, once the load has begun.
fn ask(bench: &Bench, side: &str, seconds: u32, out: &Path) -> Result<()> {
    bench.sleep(Duration::from_secs(1))?;
    let seconds = seconds.saturating_sub(1).max(1);
    let target = format!("/debug/flame?seconds={seconds}&format=folded");
    let address: SocketAddr = ADMIN.parse().expect("an address");
    let place = bench.lab.namespace(&format!("{side}-host"));
    let (status, folded) = get_slowly_from(place, address, &target, Duration::from_secs(90))
        .with_context(|| format!("cannot ask Ringway on the {side} side for its profile"))?;
    ensure!(status == 200, "Ringway on the {side} side answers {status}: {}", folded.trim());
    fs::write(out, folded).with_context(|| format!("cannot write {}", out.display()))
}

/// Tells `perf` to write what it has.
fn finish(side: &str, mut recorder: Process) -> Result<()> {
    recorder.signal(rustix::process::Signal::INT)?;
    let _ = recorder.wait(Duration::from_secs(60))?;
    let log = recorder.log();
    ensure!(log.contains("Captured"), "perf on the {side} side: {}", log.trim());
    Ok(())
}
