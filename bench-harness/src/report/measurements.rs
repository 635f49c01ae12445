//! The numbers of a folder of results, arranged to be looked up.

use std::collections::BTreeMap;

use crate::record::{Origin, Results};
use crate::statistics::Estimate;

/// What was varied in a measurement: `connections=16 rate=1000`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point(String);

/// Numbers by experiment, metric, point, subject and repetition. What is void is not among them.
#[derive(Clone, Debug, Default)]
pub struct Measurements {
    experiments: Vec<Experiment>,
}

/// The numbers of one experiment, in the order in which they were first measured.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// Its name.
    pub name: String,
    /// The subjects that took part.
    pub subjects: Vec<String>,
    /// What was measured.
    pub metrics: Vec<Metric>,
    voids: Vec<Origin>,
}

/// One metric of an experiment.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// What it counts.
    pub unit: String,
    /// Where it was measured.
    pub points: Vec<Point>,
    values: BTreeMap<(Point, String), BTreeMap<u32, f64>>,
}

impl Point {
    /// A point as it stands in the record.
    pub fn new(text: &str) -> Point {
        Point(text.to_owned())
    }

    /// As it stands in the record.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// What was varied, in order.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.split_whitespace().filter_map(|variable| variable.split_once('='))
    }

    /// The value of one variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The value of one variable, if it is a number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.parse().ok()
    }

    /// The same point without one variable.
    pub fn without(&self, name: &str) -> Point {
        let rest: Vec<String> = (self.variables().filter(|(found, _)| *found != name))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Point(rest.join(" "))
    }
}

impl Measurements {
    /// Arranges what was measured.
    pub fn of(results: &Results) -> Measurements {
        let mut measurements = Measurements::default();
        for void in &results.voids {
            measurements.experiment_mut(&void.origin).voids.push(void.origin.clone());
        }
        for sample in &results.samples {
            let experiment = measurements.experiment_mut(&sample.origin);
            if !experiment.is_void(&sample.origin) {
                let metric = experiment.metric_mut(&sample.metric, &sample.unit);
                metric.add(&sample.origin, sample.value);
            }
        }
        measurements
    }

    /// All experiments, in the order in which they were run.
    pub fn experiments(&self) -> &[Experiment] {
        &self.experiments
    }

    /// One experiment.
    pub fn experiment(&self, name: &str) -> Option<&Experiment> {
        self.experiments.iter().find(|experiment| experiment.name == name)
    }

    fn experiment_mut(&mut self, origin: &Origin) -> &mut Experiment {
        let found = self.experiments.iter().position(|known| known.name == origin.experiment);
        let index = found.unwrap_or_else(|| {
            self.experiments.push(Experiment {
                name: origin.experiment.clone(),
                subjects: Vec::new(),
                metrics: Vec::new(),
                voids: Vec::new(),
            });
            self.experiments.len() - 1
        });
        let experiment = &mut self.experiments[index];
        if !experiment.subjects.contains(&origin.subject) {
            experiment.subjects.push(origin.subject.clone());
        }
        experiment
    }
}

impl Experiment {
    /// One metric; the first of those that have one name and count different things.
    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.name == name)
    }

    /// The metric of this name that was measured at a point as wanted.
    pub fn metric_at(&self, name: &str, wanted: impl Fn(&Point) -> bool) -> Option<&Metric> {
        let named = |metric: &&Metric| metric.name == name && metric.points.iter().any(&wanted);
        self.metrics.iter().find(named)
    }

    /// How often the most measured point was measured.
    pub fn repetitions(&self) -> usize {
        let counts = self.metrics.iter().flat_map(|metric| metric.values.values().map(|v| v.len()));
        counts.max().unwrap_or(0)
    }

    /// Whether a measurement does not count.
    pub fn is_void(&self, origin: &Origin) -> bool {
        self.voids.contains(origin)
    }

    fn metric_mut(&mut self, name: &str, unit: &str) -> &mut Metric {
        let same = |known: &Metric| known.name == name && known.unit == unit;
        let found = self.metrics.iter().position(same);
        let index = found.unwrap_or_else(|| {
            let (name, unit) = (name.to_owned(), unit.to_owned());
            self.metrics.push(Metric { name, unit, points: Vec::new(), values: BTreeMap::new() });
            self.metrics.len() - 1
        });
        &mut self.metrics[index]
    }
}

impl Metric {
    /// The repetitions of one subject at one point.
    pub fn values(&self, point: &Point, subject: &str) -> Vec<f64> {
        self.repeated(point, subject).map(|(_, value)| value).collect()
    }

    /// What they come to.
    pub fn estimate(&self, point: &Point, subject: &str) -> Option<Estimate> {
        Estimate::of(&self.values(point, subject))
    }

    /// The values of two subjects, where both have the repetition.
    pub fn pairs(&self, point: &Point, one: &str, other: &str) -> Vec<(f64, f64)> {
        let others: BTreeMap<u32, f64> = self.repeated(point, other).collect();
        self.repeated(point, one)
            .filter_map(|(repetition, value)| Some((value, *others.get(&repetition)?)))
            .collect()
    }

    /// Whether a smaller number is a better one; none if it is neither.
    pub fn lower_is_better(&self) -> Option<bool> {
        match (&*self.name, &*self.unit) {
            ("rate" | "rate-achieved", _) => Some(false),
            (
                "swaps" | "hand-overs" | "requests" | "connections" | "rate-target" | "processes"
                | "backlog-max" | "generator-cpu",
                _,
            ) => None,
            _ => Some(true),
        }
    }

    fn repeated(&self, point: &Point, subject: &str) -> impl Iterator<Item = (u32, f64)> {
        let values = self.values.get(&(point.clone(), subject.to_owned()));
        values.into_iter().flatten().map(|(repetition, value)| (*repetition, *value))
    }

    fn add(&mut self, origin: &Origin, value: f64) {
        let point = Point::new(&origin.point);
        if !self.points.contains(&point) {
            self.points.push(point.clone());
        }
        let repetitions = self.values.entry((point, origin.subject.clone())).or_default();
        repetitions.insert(origin.repetition, value);
    }
}
