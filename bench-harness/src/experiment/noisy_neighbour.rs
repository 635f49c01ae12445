//! What one workload waits because of another one's traffic.
//!
//! The neighbour has pods, servers, identities and connections of its own, on the same two hosts. A
//! node proxy carries both workloads in one process, sidecars share nothing but the processors; these
//! are few here and shared with all load, so what `none` shows is the machine's part of the wait. How
//! much the neighbour got done is told with each point: who slows it down has it easier.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Experiment, Point, Settings, Turn};
use crate::subject::{ECHO, NEIGHBOUR_ECHO, Options, Subject};

/// Connections on which the neighbour moves as much as it can.
const ELEPHANTS: &str = "4";
/// New connections a second in the neighbour's storm: 72,000 a minute, as ztunnel's users reported.
const STORM: &str = "1200";
/// Seconds that the neighbour begins before the measured load, and at least goes on after it.
const MARGIN: f64 = 0.5;

/// Requests at a fixed rate beside a neighbour.
pub(super) struct NoisyNeighbour {
    seconds: f64,
    seed: u64,
}

impl NoisyNeighbour {
    pub(super) fn new(settings: &Settings) -> NoisyNeighbour {
        NoisyNeighbour { seconds: settings.seconds, seed: settings.seed }
    }
}

impl Experiment for NoisyNeighbour {
    fn name(&self) -> &'static str {
        "noisy-neighbour"
    }

    fn points(&self) -> Vec<Point> {
        let neighbour = |does| Point::new().with("neighbour", does);
        ["quiet", "elephants", "storm"].map(neighbour).into()
    }

    fn expected(&self) -> Duration {
        Duration::from_secs_f64(self.seconds + 5.0 * MARGIN)
    }

    fn needs_pair(&self) -> bool {
        false
    }

    fn refuses(&self, subject: &dyn Subject) -> Option<String> {
        (!subject.serves_neighbours()).then(|| {
            "here its processes serve one workload each, so none has a neighbour".to_owned()
        })
    }

    fn measure(&self, turn: &mut Turn<'_>, point: &Point) -> Result<()> {
        turn.restart(&Options { neighbour: true, ..Options::default() })?;
        let server = turn.bench.serve_neighbour()?;
        let seed = (self.seed + u64::from(turn.repetition())).to_string();
        let (seconds, longer) =
            (self.seconds.to_string(), (self.seconds + 3.0 * MARGIN).to_string());
        let noise = match point.text("neighbour") {
            Some("elephants") => {
                let mut arguments = vec!["mix", NEIGHBOUR_ECHO, "--elephants", ELEPHANTS];
                arguments.extend(["--mice", "1", "--rate", "1", "--duration", &longer]);
                Some(arguments)
            }
            Some("storm") => {
                let mut arguments = vec!["connect", NEIGHBOUR_ECHO, "--rate", STORM];
                arguments.extend(["--connections", "512", "--protocol", "http1"]);
                arguments.extend(["--arrivals", "poisson", "--seed", &seed, "--duration", &longer]);
                Some(arguments)
            }
            _ => None,
        };
        let noise = match noise {
            Some(arguments) => {
                let load = turn.bench.load_in("neighbour", "neighbour-load", &arguments)?;
                turn.bench.sleep(Duration::from_secs_f64(MARGIN))?;
                Some(load)
            }
            None => None,
        };
        let measured = turn.bench.measure(
            &turn.pair,
            &[
                "requests",
                ECHO,
                "--connections",
                "16",
                "--rate",
                "1000",
                "--size",
                "1024",
                "--protocol",
                "http1",
                "--arrivals",
                "poisson",
                "--seed",
                &seed,
                "--warm-up",
                "0.5",
                "--duration",
                &seconds,
            ],
        )?;
        for metric in ["p50", "p99", "p90", "p999", "max", "mean"] {
            turn.sample(metric, "us", measured.number(&format!("{metric}_us"))?);
        }
        turn.sample("rate-achieved", "1/s", measured.number("rate_achieved")?);
        if let Some(histogram) = measured.outcome["histogram"].as_str() {
            turn.latencies(histogram);
        }
        if let Some(reason) = measured.outcome["void"].as_str() {
            turn.void(reason);
        }
        if let Some(mut noise) = noise {
            if !noise.is_running() {
                turn.void("the neighbour was done before the measurement was");
            }
            let told = turn.bench.finish(noise).context("the neighbour's load")?;
            let of = |name: &str| told[name].as_f64().unwrap_or(0.0);
            match point.text("neighbour") {
                Some("elephants") => {
                    let gigabits = of("elephant_bytes") * 8e-9 / of("elephant_seconds").max(1e-9);
                    turn.sample("neighbour-moves", "Gbit/s", gigabits);
                }
                _ => {
                    let each = of("connections") / of("seconds").max(1e-9);
                    turn.sample("neighbour-opens", "connections/s", each);
                    turn.sample("neighbour-failures", "connections", of("failures"));
                }
            }
        }
        drop(server);
        Ok(())
    }
}
