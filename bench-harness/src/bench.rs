//! `ringway-bench run`: measures subjects in experiments, and leaves a folder of results.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::awake::Awake;
use crate::experiment::{self, Plan, Settings};
use crate::manifest::{self, Conditions};
use crate::record::Recorder;
use crate::report;
use crate::stop::stop_flag;
use crate::subject::{self, Bench, Programs};

/// What to measure.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// Experiments by name, or `short` or `full` for all.
    #[arg(required = true, value_delimiter = ',', value_name = "EXPERIMENT")]
    what: Vec<String>,
    /// Only these of `short` or `full`.
    #[arg(long, value_delimiter = ',', value_name = "EXPERIMENT")]
    experiments: Vec<String>,
    /// Who is measured.
    #[arg(long, value_delimiter = ',', value_name = "SUBJECT")]
    subjects: Vec<String>,
    /// How often everybody has a turn; 10 for full runs, 5 for short ones: the fewest that a verdict needs.
    #[arg(long)]
    repetitions: Option<u32>,
    /// Seconds of each measurement under load; 5 for full runs, 0.8 for short ones, else 1.
    #[arg(long)]
    seconds: Option<f64>,
    /// The folder to write; without it, `results/<date>-<name>-<machine>`.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// The program `ringway`, a release build; without it, the one beside this program.
    #[arg(long, value_name = "FILE")]
    ringway: Option<PathBuf>,
    /// The program `envoy`; without it, the one that scripts/get-envoy fetched.
    #[arg(long, value_name = "FILE", env = "ENVOY")]
    envoy: Option<PathBuf>,
    /// Congestion control of all namespaces.
    #[arg(long, default_value = "reno")]
    congestion_control: String,
    /// Where the generator's randomness begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many connections are held idle, by `idle`.
    #[arg(long, value_delimiter = ',', value_name = "NUMBER")]
    held: Vec<u32>,
    /// How many workloads a mesh has, by `scale`.
    #[arg(long, value_delimiter = ',', value_name = "NUMBER")]
    workloads: Vec<u32>,
    /// How many services a small company has, in `cost`; 150 in full runs, 12 in short ones.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32)
        .range(i64::from(subject::SERVICES_MIN)..=i64::from(subject::SERVICES_MAX)))]
    services: Option<u32>,
    /// Keep the processors from going idle. In a virtual machine they are given to others then, and come back late.
    #[arg(long)]
    awake: bool,
    /// A sentence about the conditions, for the manifest.
    #[arg(long, default_value = "")]
    note: String,
}

/// What a short run measures.
const SHORT: [&str; 6] = ["latency", "capacity", "throughput", "connections", "idle", "scale"];
/// Who is measured in a short run when nobody is named.
const SUBJECTS: [&str; 5] = ["none", "ringway", "envoy-tcp", "envoy-http", "reference"];

/// And who is where a waypoint is measured.
const BEFORE_SERVICE: [&str; 4] = ["none", "ringway", "ringway-waypoint", "envoy-waypoint"];

impl Run {
    /// Measures. True when everything was measured, false when it was stopped.
    pub fn run(&self) -> Result<bool> {
        let stop = stop_flag()?;
        // What can be held depends on it.
        subject::allow_descriptors()?;
        let plan = self.plan()?;
        let out =
            self.out.clone().unwrap_or_else(|| manifest::results_folder(&self.what.join("-")));
        let bench = Bench::build(&std::env::current_exe()?, &self.congestion_control, stop.clone())
            .context(if rustix::process::geteuid().is_root() {
                "cannot build the bench"
            } else {
                "network namespaces need root; scripts/bench takes a user namespace where those are \
                 allowed, as does: unshare -Urnmp --fork --mount-proc <program>"
            })?;
        let awake = self.awake.then(Awake::begin).transpose()?;
        let mut recorder = Recorder::create(&out)?;
        let conditions = Conditions {
            congestion_control: self.congestion_control.clone(),
            seed: self.seed,
            seconds: self.seconds(),
            awake: self.awake,
            note: self.note.clone(),
        };
        let mut manifest = manifest::at_start(&plan, &conditions)?;
        manifest["network"] = bench.network()?;
        recorder.manifest(&manifest)?;
        let minutes = plan.expected().as_secs_f64() / 60.0;
        println!("About {minutes:.0} minutes, written to {} as it goes.", out.display());

        let ran = experiment::run(&plan, &bench, &mut recorder);
        drop(awake);
        drop(bench);
        manifest::at_end(&mut manifest, ran.is_ok());
        let noted = recorder.manifest(&manifest);
        let stopped = stop.load(Ordering::Relaxed);
        if stopped {
            println!("Stopped; what is finished is kept.");
        } else if ran.is_err() {
            // What there is may be of use; a report could hardly be written now.
            let _ = report::tell(&out);
            return ran.map(|()| false);
        }
        noted?;
        report::finish(&out)?;
        Ok(!stopped)
    }

    fn plan(&self) -> Result<Plan> {
        let settings = Settings {
            full: self.is_full(),
            seconds: self.seconds(),
            seed: self.seed,
            held: self.held.clone(),
            workloads: self.workloads.clone(),
            services: self.services,
        };
        let mut names: Vec<&str> = match &self.what[..] {
            [one] if one == "short" => SHORT.to_vec(),
            [one] if one == "full" => {
                let all = experiment::NAMES.into_iter();
                all.filter(|name| *name != experiment::WAYPOINT).collect()
            }
            names => names.iter().map(|name| &**name).collect(),
        };
        if !self.experiments.is_empty() {
            for name in &self.experiments {
                experiment::by_name(name, &settings)?;
            }
            names.retain(|name| self.experiments.iter().any(|wanted| wanted == name));
        }
        ensure!(!names.is_empty(), "there is nothing to measure");
        ensure!(self.seconds() > 0.0, "--seconds is to be more than 0");
        let programs = Programs::find(self.ringway.clone(), self.envoy.clone())?;
        let subjects = match &self.subjects[..] {
            [] if self.is_full() => subject::names(),
            [] if names == [experiment::WAYPOINT] => BEFORE_SERVICE.map(str::to_owned).to_vec(),
            [] => SUBJECTS.map(str::to_owned).to_vec(),
            named => named.to_vec(),
        };
        Ok(Plan {
            experiments: names
                .into_iter()
                .map(|name| experiment::by_name(name, &settings))
                .collect::<Result<_>>()?,
            subjects: subjects
                .into_iter()
                .map(|name| subject::by_name(&name, &programs))
                .collect::<Result<_>>()?,
            repetitions: self.repetitions.unwrap_or(if self.is_full() { 10 } else { 5 }).max(1),
        })
    }

    fn is_full(&self) -> bool {
        self.what.iter().any(|name| name == "full")
    }

    fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(match &self.what[..] {
            _ if self.is_full() => 5.0,
            // With these, all of it takes nine minutes.
            [one] if one == "short" => 0.8,
            _ => 1.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }

    #[test]
    fn a_short_run_fits_into_ten_minutes_and_can_give_verdicts() {
        let plan = Line::parse_from(["run", "short"]).run.plan().unwrap();
        let expected = plan.expected();
        assert!(expected <= Duration::from_secs(600), "{expected:?}");
        assert!(plan.repetitions as usize >= crate::statistics::REPETITIONS_MIN);
    }

    #[test]
    fn what_refuses_takes_no_time() {
        let expected = |subjects| {
            let line = ["run", "scale", "--workloads", "10", "--subjects", subjects];
            Line::parse_from(line).run.plan().unwrap().expected()
        };
        assert!(expected("ringway") > Duration::ZERO);
        assert_eq!(expected("none,reference,ringway"), expected("ringway"));
    }
}
