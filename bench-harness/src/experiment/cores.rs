//! The same proxies with more and more processors: does each one more bring what it costs?
//!
//! Both proxies are confined to the same processors, with as many worker threads each, and get as many
//! requests as 64 connections carry. The generator and the servers may run anywhere: on a machine with
//! as many processors as the last point has, they take theirs from the proxies.

use std::time::Duration;

use anyhow::Result;
use rustix::thread::sched_getaffinity;

use super::capacity::Capacity;
use super::{Experiment, Point, Settings, Turn};
use crate::subject::{Group, Options, Subject};

/// How many processors the proxies get, where the machine has so many.
const CORES: [usize; 4] = [1, 2, 4, 8];

/// Capacity over processors.
pub(super) struct Cores {
    capacity: Capacity,
    here: usize,
}

impl Cores {
    pub(super) fn new(settings: &Settings) -> Cores {
        let here = sched_getaffinity(None).map_or(1, |set| set.count() as usize);
        Cores { capacity: Capacity::new(settings), here }
    }
}

impl Experiment for Cores {
    fn name(&self) -> &'static str {
        "cores"
    }

    fn points(&self) -> Vec<Point> {
        let there_are = CORES.into_iter().filter(|cores| *cores <= self.here.max(1));
        there_are.map(|cores| Point::new().with("cores", cores).with("connections", 64)).collect()
    }

    fn expected(&self) -> Duration {
        self.capacity.expected() + Duration::from_millis(1500)
    }

    fn needs_pair(&self) -> bool {
        false
    }

    fn refuses(&self, subject: &dyn Subject) -> Option<String> {
        let reason = match (subject.group(), subject.name()) {
            (Group::Baseline, _) => "without a proxy there is nothing to confine",
            (_, "reference-1") => "it has one worker, however many processors there are",
            _ => return None,
        };
        Some(reason.to_owned())
    }

    fn measure(&self, turn: &mut Turn<'_>, point: &Point) -> Result<()> {
        turn.restart(&Options { cores: Some(point.get("cores")?), ..Options::default() })?;
        self.capacity.measure(turn, point)
    }
}
