//! Bulk: gigabytes one way, over one stream and over many.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Experiment, Point, Settings, Turn};
use crate::subject::{ECHO, Group, Subject};

/// Gigabytes a second that a slow subject moves; what is sent is sized for it.
const SLOW: f64 = 0.5;

/// Transfers in both directions.
pub(super) struct Throughput {
    full: bool,
    gigabytes: f64,
}

impl Throughput {
    pub(super) fn new(settings: &Settings) -> Throughput {
        Throughput { full: settings.full, gigabytes: (settings.seconds * SLOW).max(0.1) }
    }
}

impl Experiment for Throughput {
    fn name(&self) -> &'static str {
        "throughput"
    }

    fn points(&self) -> Vec<Point> {
        let at = |streams: u32, direction| {
            Point::new().with("streams", streams).with("direction", direction)
        };
        if !self.full {
            return [1, 8].map(|streams| at(streams, "upload")).into();
        }
        let both = |streams| [at(streams, "upload"), at(streams, "download")];
        [1, 8, 16, 64].into_iter().flat_map(both).collect()
    }

    fn expected(&self) -> Duration {
        Duration::from_secs_f64(self.gigabytes / SLOW / 2.0 + 0.3)
    }

    fn refuses(&self, subject: &dyn Subject) -> Option<String> {
        (subject.group() == Group::L7).then(|| {
            "the streams of this experiment are no HTTP, which is all it carries".to_owned()
        })
    }

    fn measure(&self, turn: &mut Turn<'_>, point: &Point) -> Result<()> {
        let direction = point.text("direction").context("no direction")?;
        let measured = turn.bench.measure(
            &turn.pair,
            &[
                "bulk",
                ECHO,
                "--gigabytes",
                &self.gigabytes.to_string(),
                "--connections",
                point.text("streams").context("no streams")?,
                "--direction",
                direction,
            ],
        )?;
        let gigabytes = measured.number("bytes")? / 1e9;
        let cost = |time: Duration| time.as_secs_f64() / gigabytes;
        turn.sample("cpu", "CPU-s/GB", cost(measured.cost.pair()));
        turn.sample("rate", "Gbit/s", gigabytes * 8.0 / measured.number("seconds")?);
        turn.sample("cpu-near", "CPU-s/GB", cost(measured.cost.near));
        turn.sample("cpu-far", "CPU-s/GB", cost(measured.cost.far));
        turn.sample("machine-cpu", "CPU-s/GB", cost(measured.cost.machine));
        turn.energy(&measured.cost, "J/GB", gigabytes);
        Ok(())
    }
}
