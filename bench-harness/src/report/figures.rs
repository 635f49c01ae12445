//! Which drawings each experiment is shown as, each with its table.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::measurements::{Experiment, Metric, Point};
use super::number::{Unit, interval, number, unit};
use super::plot::{Bar, Bars, Line, Lines, Scale};
use super::subjects::{self, Layer};
use crate::record::Latencies;
use crate::statistics::{self, Estimate, Verdict};

/// An experiment, as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    /// Its name.
    pub(super) name: String,
    /// A heading.
    pub(super) title: String,
    /// What it asks.
    pub(super) question: String,
    /// How often it was repeated.
    pub(super) repetitions: usize,
    /// Subjects that carry bytes, and the baseline.
    pub(super) figures: Vec<Figure>,
    /// Subjects that read HTTP, and the baseline.
    pub(super) http: Vec<Figure>,
}

/// One drawing.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    title: String,
    note: String,
    legend: Vec<Key>,
    svg: String,
    table: Table,
}

#[derive(Debug, Serialize)]
struct Key {
    name: String,
    colour: usize,
}

/// The numbers of a drawing.
#[derive(Debug, Serialize)]
struct Table {
    heading: Vec<String>,
    rows: Vec<(String, Vec<Cell>)>,
}

#[derive(Debug, Default, Serialize)]
struct Cell {
    value: String,
    interval: String,
    /// What Ringway is beside it.
    beside: String,
    /// `win`, `lose` or `even`.
    standing: &'static str,
}

/// How an experiment is told.
struct Story {
    experiment: &'static str,
    title: &'static str,
    question: &'static str,
    figures: &'static [Draw],
}

#[derive(Clone, Copy)]
enum Draw {
    /// Percentile curves.
    Curve,
    /// A metric along a variable, one drawing for each value of the others.
    Along(&'static str, &'static str, &'static str),
    /// The same, less the baseline.
    Added(&'static str, &'static str, &'static str),
    /// A metric as bars, at those points that have a variable.
    At(&'static str, &'static str, &'static str),
    /// Metrics of one unit as bars, under these names.
    Bars(&'static str, &'static [(&'static str, &'static str)]),
}

use Draw::{Added, Along, At, Bars as Barred, Curve};

const STORIES: &[Story] = &[
    Story {
        experiment: "latency",
        title: "Latency",
        question: "What does a request wait for the proxies, at a fixed rate, counted from the moment \
                   it should have been sent?",
        figures: &[
            Added("p50", "connections", "Added p50"),
            Added("p90", "connections", "Added p90"),
            Added("p99", "connections", "Added p99"),
            Added("p999", "connections", "Added p99.9"),
            Added("max", "connections", "Added maximum"),
            Along("p50", "connections", "p50 against connections"),
            Along("p99", "connections", "p99 against connections"),
            Along("p99", "rate", "p99 against rate"),
            Along("cpu", "rate", "CPU per request against rate, both proxies"),
            At("p50", "size", "p50 of other sizes"),
            At("p99", "size", "p99 of other sizes"),
            At("cpu", "size", "CPU per request of other sizes, both proxies"),
            Curve,
            Along("cpu", "connections", "CPU per request, both proxies"),
            Along("machine-cpu", "connections", "CPU per request, whole machine"),
            Along("energy", "connections", "Energy per request, all processors"),
            Barred(
                "Memory under load (PSS)",
                &[("near-pss", "client's side"), ("far-pss", "server's side")],
            ),
        ],
    },
    Story {
        experiment: "capacity",
        title: "Capacity",
        question: "How many requests of 1 KiB get through when every connection sends the next one at once?",
        figures: &[
            Along("rate", "connections", "Requests per second"),
            At("rate", "p99-at-most", "Highest rate at which p99 keeps a promise"),
            Along("cpu", "connections", "CPU per request, both proxies"),
            Along("energy", "connections", "Energy per request, all processors"),
        ],
    },
    Story {
        experiment: "cores",
        title: "More processors",
        question: "How many requests get through over 64 connections when both proxies are confined to \
                   so many processors, with as many worker threads each?",
        figures: &[
            Along("rate", "cores", "Requests per second"),
            Along("cpu", "cores", "CPU per request, both proxies"),
        ],
    },
    Story {
        experiment: "throughput",
        title: "Throughput",
        question: "What does a gigabyte cost?",
        figures: &[
            Barred("CPU per gigabyte, both proxies", &[("cpu", "")]),
            Barred("CPU per gigabyte, whole machine", &[("machine-cpu", "")]),
            Barred("Energy per gigabyte, all processors", &[("energy", "")]),
            Barred("Throughput", &[("rate", "")]),
        ],
    },
    Story {
        experiment: "connections",
        title: "New connections",
        question: "What does it cost to open one, and does a storm of them get through?",
        figures: &[
            Barred("CPU per connection", &[("cpu", "")]),
            Barred("Energy per connection, all processors", &[("energy", "")]),
            Barred("Connections per second", &[("rate", "")]),
            Barred("Connections that failed", &[("failures", "")]),
        ],
    },
    Story {
        experiment: "idle",
        title: "Idle connections",
        question: "What do connections cost that do nothing, and does the memory come back?",
        figures: &[
            Barred(
                "Memory per idle connection",
                &[
                    ("near-per-connection", "client's side"),
                    ("far-per-connection", "server's side"),
                    ("kernel-per-connection", "in the kernel"),
                ],
            ),
            Barred(
                "Memory of the process (RSS)",
                &[("near-rss", "client's side"), ("far-rss", "server's side")],
            ),
            Barred(
                "Memory of the process that is no file's, such as its program's text",
                &[("near-anonymous", "client's side"), ("far-anonymous", "server's side")],
            ),
            Barred("Time until memory is given back", &[("return-time", "")]),
            Barred(
                "Memory still held when it had come back, or when that was waited for in vain",
                &[("near-kept", "client's side"), ("far-kept", "server's side")],
            ),
            Barred("CPU while idle", &[("idle-cpu", "")]),
            Barred("Wake-ups while idle", &[("wake-ups", "")]),
        ],
    },
    Story {
        experiment: "scale",
        title: "Scale of the mesh",
        question: "What does it cost to know many workloads, and how soon is a change seen?",
        figures: &[
            Along("rss", "workloads", "Memory"),
            Along("peak", "workloads", "Peak memory while loading"),
            Along("load-time", "workloads", "Time to load"),
            Along("change-visible", "workloads", "Time until one change is visible"),
        ],
    },
    Story {
        experiment: "cost",
        title: "Cost of a mesh",
        question: "What do many workloads at a low rate cost, and how many nodes does that come to?",
        figures: &[
            Barred("CPU", &[("cpu", "")]),
            Barred("Memory", &[("memory", "")]),
            Barred(
                "Nodes of 4 vCPU and 16 GiB, with 100 mCPU and 256 MiB for each application",
                &[
                    ("nodes", "proxies as measured"),
                    ("nodes-reserved", "as Istio's charts reserve"),
                ],
            ),
            Barred("Processes", &[("processes", "")]),
        ],
    },
    Story {
        experiment: "config-swap",
        title: "Changes under load",
        question: "Does a change of configuration fail or delay a request?",
        figures: &[
            Barred("Requests that failed", &[("failed", "")]),
            Barred("p99 during changes", &[("p99", "")]),
            Barred("Requests", &[("requests", "")]),
            Barred("Changes", &[("swaps", "")]),
        ],
    },
    Story {
        experiment: "hand-over",
        title: "Replacing the proxies under load",
        question: "Does a new connection fail or wait because a proxy hands over to its successor?",
        figures: &[
            Barred("New connections that failed", &[("failed", "")]),
            Barred("p99 of new connections", &[("p99", "")]),
            Barred("New connections", &[("connections", "")]),
            Barred("Hand-overs", &[("hand-overs", "")]),
            Barred("Requests cut on connections that stayed", &[("cut", "")]),
            Barred(
                "Slowest successor, from being asked for until it served",
                &[("serves-after", "")],
            ),
        ],
    },
    Story {
        experiment: "noisy-neighbour",
        title: "Noisy neighbour",
        question: "What does one workload wait because of another one's traffic?",
        figures: &[Barred("p50", &[("p50", "")]), Barred("p99", &[("p99", "")])],
    },
    Story {
        experiment: "waypoint",
        title: "Waypoint",
        question: "What do requests to a service with a waypoint cost, in the waypoint alone and in all proxies together?",
        figures: &[
            Barred("Processor time of the waypoint", &[("waypoint-cpu", "")]),
            Barred("Processor time of all proxies", &[("cpu", "")]),
            Barred("p50 and p99", &[("p50", "p50"), ("p99", "p99")]),
            Barred(
                "Memory of the waypoint for an idle connection",
                &[("waypoint-per-connection", "")],
            ),
            Barred("Memory of the waypoint with rules", &[("waypoint-rss", "")]),
        ],
    },
    Story {
        experiment: "runtimes",
        title: "Runtimes",
        question: "The same plain relay on different runtimes, without and with a container's filter of system calls.",
        figures: &[],
    },
];

/// Where an experiment stands on the page; what is new stands last.
pub(super) fn place(experiment: &str) -> usize {
    let known = STORIES.iter().position(|story| story.experiment == experiment);
    known.unwrap_or(STORIES.len())
}

/// Shows one experiment.
pub(super) fn section(experiment: &Experiment, latencies: &[Latencies]) -> Result<Section> {
    let story = STORIES.iter().find(|story| story.experiment == experiment.name);
    let of_layer = |layer: Layer| -> Result<Vec<Figure>> {
        let of_it = |subject: &&String| subjects::layer(subject) == layer;
        if !experiment.subjects.iter().any(|subject| of_it(&subject)) {
            return Ok(Vec::new());
        }
        let baseline = |subject: &&String| subjects::layer(subject) == Layer::Baseline;
        let shown = experiment.subjects.iter().filter(|s| of_it(s) || baseline(s)).cloned();
        let mut shown: Vec<String> = shown.collect();
        shown.sort_by_key(|subject| subjects::colour(subject, &experiment.subjects));
        let stage = Stage { experiment, subjects: shown, latencies };
        match story {
            Some(story) if !story.figures.is_empty() => stage.told(story.figures),
            _ => stage.all(),
        }
    };
    Ok(Section {
        name: experiment.name.clone(),
        title: story.map_or(&*experiment.name, |story| story.title).to_owned(),
        question: story.map_or("", |story| story.question).to_owned(),
        repetitions: experiment.repetitions(),
        figures: of_layer(Layer::L4)?,
        http: of_layer(Layer::L7)?,
    })
}

/// What all drawings of an experiment are made from.
struct Stage<'a> {
    experiment: &'a Experiment,
    subjects: Vec<String>,
    latencies: &'a [Latencies],
}

/// A number at a point, of a subject.
type Values<'a> = dyn Fn(&Point, &str) -> Option<Estimate> + 'a;

impl Stage<'_> {
    fn told(&self, figures: &[Draw]) -> Result<Vec<Figure>> {
        let mut drawn = Vec::new();
        for draw in figures {
            match *draw {
                Curve => drawn.extend(self.curves()?),
                Along(metric, variable, title) => {
                    drawn.extend(self.along(metric, variable, title, false)?);
                }
                At(metric, variable, title) => drawn.extend(self.at(metric, variable, title)?),
                Added(metric, variable, title) => {
                    drawn.extend(self.along(metric, variable, title, true)?);
                }
                Barred(title, metrics) => drawn.extend(self.bars(title, metrics)?),
            }
        }
        Ok(drawn)
    }

    /// Every metric as bars, one drawing for each set of variables.
    fn all(&self) -> Result<Vec<Figure>> {
        let mut drawn = Vec::new();
        for metric in &self.experiment.metrics {
            let mut kinds: Vec<(Vec<&str>, Vec<&Point>)> = Vec::new();
            for point in &metric.points {
                let names: Vec<&str> = point.variables().map(|(name, _)| name).collect();
                match kinds.iter_mut().find(|(known, _)| *known == names) {
                    Some((_, points)) => points.push(point),
                    None => kinds.push((names, vec![point])),
                }
            }
            for (names, points) in kinds {
                let title = match names[..] {
                    [] => metric.name.clone(),
                    _ => format!("{} by {}", metric.name, names.join(" and ")),
                };
                drawn.extend(self.barred(&title, &[(metric, "")], &points)?);
            }
        }
        Ok(drawn)
    }

    fn along(&self, name: &str, variable: &str, title: &str, added: bool) -> Result<Vec<Figure>> {
        let Some(metric) = self.experiment.metric(name) else { return Ok(Vec::new()) };
        let baseline = self.subjects.iter().find(|s| subjects::layer(s) == Layer::Baseline);
        if added && baseline.is_none() {
            return Ok(Vec::new());
        }
        let mut slices: BTreeMap<Point, Vec<(f64, &Point)>> = BTreeMap::new();
        for point in &metric.points {
            if let Some(value) = point.number(variable) {
                slices.entry(point.without(variable)).or_default().push((value, point));
            }
        }
        slices.retain(|_, points| points.len() > 1);
        let unit = unit(&metric.unit);
        let values = |point: &Point, subject: &str| {
            let recorded = match baseline.filter(|_| added) {
                Some(baseline) => Estimate::difference(&metric.pairs(point, subject, baseline)),
                None => metric.estimate(point, subject),
            };
            recorded.map(|recorded| unit.estimate(recorded))
        };
        let shown: Vec<&String> =
            self.subjects.iter().filter(|s| !added || Some(*s) != baseline).collect();
        let mut drawn = Vec::new();
        for (rest, mut points) in slices {
            points.sort_by(|one, other| one.0.total_cmp(&other.0));
            let all = points.iter().flat_map(|(x, point)| {
                shown.iter().filter_map(|s| Some((s.as_str(), *x, values(point, s)?)))
            });
            let all: Vec<(&str, f64, Estimate)> = all.collect();
            let lines = shown.iter().map(|subject| Line {
                colour: subjects::colour(subject, &self.subjects),
                points: all.iter().filter(|a| a.0 == **subject).map(|a| (a.1, a.2)).collect(),
            });
            let least = all.iter().map(|(_, _, y)| y.low).fold(f64::INFINITY, f64::min);
            let most = all.iter().map(|(_, _, y)| y.high).fold(0.0, f64::max);
            if all.is_empty() {
                continue;
            }
            let drawing = Lines {
                label: variable.to_owned(),
                across: Scale::Log,
                up: if least > 0.0 && most / least > 12.0 { Scale::Log } else { Scale::Linear },
                marked: true,
                lines: lines.filter(|line| !line.points.is_empty()).collect(),
            };
            let points: Vec<&Point> = points.iter().map(|(_, point)| *point).collect();
            drawn.push(Figure {
                title: format!("{title}, {}", unit.label),
                note: self.note(&rest, metric, drawing.up),
                legend: self.legend(&shown),
                svg: drawing.draw()?,
                table: self.table(&[(metric, "")], &points, &shown, &values, variable, added),
            });
        }
        if drawn.is_empty() && !added {
            return self.bars(title, &[(name, "")]);
        }
        Ok(drawn)
    }

    fn bars(&self, title: &str, metrics: &[(&str, &str)]) -> Result<Vec<Figure>> {
        let metrics: Vec<(&Metric, &str)> = (metrics.iter())
            .filter_map(|(name, title)| Some((self.experiment.metric(name)?, *title)))
            .collect();
        let Some((first, _)) = metrics.first() else { return Ok(Vec::new()) };
        let points: Vec<&Point> = first.points.iter().collect();
        Ok(self.barred(title, &metrics, &points)?.into_iter().collect())
    }

    fn at(&self, metric: &str, variable: &str, title: &str) -> Result<Option<Figure>> {
        let Some(metric) = self.experiment.metric(metric) else { return Ok(None) };
        let points = metric.points.iter().filter(|point| point.get(variable).is_some());
        self.barred(title, &[(metric, "")], &points.collect::<Vec<_>>())
    }

    fn barred(
        &self,
        title: &str,
        metrics: &[(&Metric, &str)],
        points: &[&Point],
    ) -> Result<Option<Figure>> {
        let Some((first, _)) = metrics.first() else { return Ok(None) };
        let unit = unit(&first.unit);
        // Many points of several metrics would be a wall; the last one is the largest.
        let points = if metrics.len() > 1 && points.len() > 2 {
            &points[points.len() - 1..]
        } else {
            points
        };
        let shown: Vec<&String> = (self.subjects.iter())
            .filter(|s| points.iter().any(|p| !first.values(p, s).is_empty()))
            .collect();
        let mut groups = Vec::new();
        for point in points {
            for (metric, name) in metrics {
                let bars = shown.iter().filter_map(|subject| {
                    let value = unit.estimate(metric.estimate(point, subject)?);
                    let colour = subjects::colour(subject, &self.subjects);
                    Some((colour, subjects::title(subject), value))
                });
                let heading = [&*spoken(point), name].join(" · ");
                groups.push((heading.trim_matches([' ', '·']).to_owned(), bars.collect()));
            }
        }
        groups.retain(|(_, bars): &(String, Vec<Bar>)| !bars.is_empty());
        if groups.is_empty() {
            return Ok(None);
        }
        let values = |_: &Point, _: &str| None;
        Ok(Some(Figure {
            title: format!("{title}, {}", unit.label).trim_end_matches(", ").to_owned(),
            note: self.note(&Point::new(""), first, Scale::Linear),
            legend: Vec::new(),
            svg: Bars { groups }.draw()?,
            table: self.table(metrics, points, &shown, &values, "", false),
        }))
    }

    fn curves(&self) -> Result<Vec<Figure>> {
        let mut points: Vec<Point> = Vec::new();
        for latencies in
            self.latencies.iter().filter(|l| l.origin.experiment == self.experiment.name)
        {
            let point = Point::new(&latencies.origin.point);
            if self.subjects.contains(&latencies.origin.subject) && !points.contains(&point) {
                points.push(point);
            }
        }
        // Istio's matrix, where it was measured; not every rate and size has a curve.
        let usual =
            |point: &&Point| point.get("rate") == Some("1000") && point.get("size").is_none();
        if points.iter().any(|point| usual(&point)) {
            points.retain(|point| usual(&point));
        }
        let mut drawn = Vec::new();
        for point in chosen(&points) {
            drawn.extend(self.curve(point)?);
        }
        Ok(drawn)
    }

    fn curve(&self, point: &Point) -> Result<Option<Figure>> {
        const NAMED: [(f64, &str); 7] = [
            (0.5, "p50"),
            (0.9, "p90"),
            (0.99, "p99"),
            (0.999, "p99.9"),
            (0.9999, "p99.99"),
            (1.0, "maximum"),
            (0.0, "minimum"),
        ];
        let (mut lines, mut columns, mut shown) = (Vec::new(), Vec::new(), Vec::new());
        for subject in &self.subjects {
            let of_it = self.latencies.iter().filter(|latencies| {
                let origin = &latencies.origin;
                origin.experiment == self.experiment.name
                    && origin.subject == *subject
                    && origin.point == point.text()
                    && !self.experiment.is_void(origin)
            });
            let sum = statistics::merged(of_it.map(|latencies| &*latencies.histogram))?;
            if sum.is_empty() {
                continue;
            }
            let at = |share: f64| sum.value_at_quantile(share).max(1) as f64 / 1000.0;
            // As far to the right as ten requests can tell.
            let end = (sum.len() as f64 / 10.0).log10().max(1.0);
            let steps = (0..=120).map(|step| f64::from(step) / 120.0 * end);
            let points = steps.map(|nines| {
                let share = 1.0 - 10f64.powf(-nines);
                let value = at(share);
                (share, Estimate { value, low: value, high: value, repetitions: 1 })
            });
            let colour = subjects::colour(subject, &self.subjects);
            lines.push(Line { colour, points: points.collect() });
            columns.push(NAMED.map(|(share, _)| number(at(share))));
            shown.push(subject);
        }
        if lines.is_empty() {
            return Ok(None);
        }
        let heading = [String::new()].into_iter();
        let rows = NAMED.iter().enumerate().map(|(row, (_, name))| {
            let cells =
                columns.iter().map(|column| Cell { value: column[row].clone(), ..Cell::default() });
            ((*name).to_owned(), cells.collect())
        });
        let drawing = Lines {
            label: "percentile".to_owned(),
            across: Scale::Nines,
            up: Scale::Log,
            marked: false,
            lines,
        };
        Ok(Some(Figure {
            title: "Percentiles of all repetitions together, ms".to_owned(),
            note: format!("{} · lower is better · logarithmic", spoken(point)),
            legend: self.legend(&shown),
            svg: drawing.draw()?,
            table: Table {
                heading: heading.chain(shown.iter().map(|s| subjects::title(s))).collect(),
                rows: rows.collect(),
            },
        }))
    }

    fn legend(&self, shown: &[&String]) -> Vec<Key> {
        let key = |subject: &&String| Key {
            name: subjects::title(subject),
            colour: subjects::colour(subject, &self.subjects),
        };
        shown.iter().map(key).collect()
    }

    fn note(&self, rest: &Point, metric: &Metric, up: Scale) -> String {
        let better = metric
            .lower_is_better()
            .map(|lower| if lower { "lower is better" } else { "higher is better" }.to_owned());
        let log = (up == Scale::Log).then(|| "logarithmic".to_owned());
        let parts = [Some(spoken(rest)), better, log].into_iter().flatten();
        parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
    }

    fn table(
        &self,
        metrics: &[(&Metric, &str)],
        points: &[&Point],
        shown: &[&String],
        values: &Values<'_>,
        variable: &str,
        added: bool,
    ) -> Table {
        let mut rows = Vec::new();
        for point in points {
            for (metric, name) in metrics {
                let unit = unit(&metric.unit);
                let cells = shown.iter().map(|subject| {
                    let own = || metric.estimate(point, subject).map(|e| unit.estimate(e));
                    let Some(value) = values(point, subject).or_else(own) else {
                        return Cell::default();
                    };
                    let (beside, standing) =
                        beside(metric, point, subject, &unit, added).unwrap_or_default();
                    let interval =
                        if value.low == value.high { String::new() } else { interval(&value) };
                    Cell { value: number(value.value), interval, beside, standing }
                });
                let at = point.get(variable).map_or_else(|| point.text().to_owned(), str::to_owned);
                let at = [&*at, name].join(" · ");
                rows.push((at.trim_matches([' ', '·']).to_owned(), cells.collect()));
            }
        }
        let heading = [variable.to_owned()].into_iter();
        Table { heading: heading.chain(shown.iter().map(|s| subjects::title(s))).collect(), rows }
    }
}

/// What Ringway is beside a subject, and whether that is shown to be better or worse.
fn beside(
    metric: &Metric,
    point: &Point,
    subject: &str,
    unit: &Unit,
    added: bool,
) -> Option<(String, &'static str)> {
    let lower = metric.lower_is_better()?;
    if subject == "ringway" || subjects::layer(subject) != Layer::L4 {
        return None;
    }
    let pairs = metric.pairs(point, "ringway", subject);
    let (text, shown) = match Estimate::ratio(&pairs).filter(|_| !added) {
        Some(ratio) => (format!("{}×", number(ratio.value)), ratio.verdict(1.0)),
        None => {
            let difference = unit.estimate(Estimate::difference(&pairs)?);
            let sign = if difference.value > 0.0 { "+" } else { "" };
            (format!("{sign}{}", number(difference.value)), difference.verdict(0.0))
        }
    };
    let standing = match (shown, lower) {
        (Verdict::NotShown, _) => "even",
        (Verdict::Lower, true) | (Verdict::Higher, false) => "win",
        _ => "lose",
    };
    Some((text, standing))
}

/// Up to three points: the first, the middle and the last.
fn chosen(points: &[Point]) -> Vec<&Point> {
    match points {
        [] | [_] | [_, _] | [_, _, _] => points.iter().collect(),
        [first, .., last] => vec![first, &points[points.len() / 2], last],
    }
}

/// `connections=16 rate=1000` as one says it.
fn spoken(point: &Point) -> String {
    let variables = point.variables().map(|(name, value)| match name {
        "rate" => format!("{value} per second"),
        "connections" | "cores" | "streams" | "workloads" | "services" if value == "1" => {
            format!("1 {}", name.trim_end_matches('s'))
        }
        "connections" | "cores" | "streams" | "workloads" | "services" => format!("{value} {name}"),
        "size" => match value.parse::<u64>() {
            Ok(bytes) if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
            Ok(bytes) if bytes >= 1 << 10 => format!("{} KiB", bytes >> 10),
            _ => format!("{value} B"),
        },
        "p99-at-most" => format!("p99 of at most {value}"),
        "replaced" if value == "never" => "never replaced".to_owned(),
        "replaced" => "replaced again and again".to_owned(),
        "kind" | "direction" | "bulk" => value.replace('-', " "),
        _ => format!("{name} {value}"),
    });
    variables.collect::<Vec<_>>().join(", ")
}
