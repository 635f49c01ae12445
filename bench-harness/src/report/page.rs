//! `report.html`: one file, its style and its drawings in it.

use std::fmt::Write;

use anyhow::{Context, Result};
use minijinja::{AutoEscape, Environment, context};
use serde::Serialize;
use serde_json::Value;

use super::figures;
use super::measurements::Measurements;
use super::plot;
use super::subjects::{self, COLOURS};
use super::targets::{Judgement, Standing};
use crate::record::Results;
use crate::statistics::{Estimate, REPETITIONS_MIN, RESAMPLES};

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");

/// A row of the table of targets.
#[derive(Serialize)]
struct Row {
    what: &'static str,
    source: &'static str,
    experiment: &'static str,
    wanted: String,
    measured: String,
    interval: String,
    note: String,
    standing: &'static str,
    class: String,
    mark: Option<Mark>,
}

/// Where a measurement stands beside its bound, in percent of a scale's width.
#[derive(Serialize)]
struct Mark {
    low: f64,
    middle: f64,
    width: f64,
}

/// Where the bound itself stands.
const BOUND: f64 = 60.0;

/// The whole page.
pub(super) fn render(
    results: &Results,
    measurements: &Measurements,
    judgements: &[Judgement],
) -> Result<String> {
    let mut experiments: Vec<_> = measurements.experiments().iter().collect();
    experiments.sort_by_key(|experiment| figures::place(&experiment.name));
    let sections =
        experiments.into_iter().map(|experiment| figures::section(experiment, &results.latencies));
    let sections = sections.collect::<Result<Vec<_>>>()?;
    let (measured, missing): (Vec<_>, Vec<_>) =
        judgements.iter().partition(|judgement| judgement.standing != Standing::NotMeasured);
    let count =
        |standing| measured.iter().filter(|judgement| judgement.standing == standing).count();
    let row = |judgement: &&Judgement| row(judgement, measurements);
    let voids = results.voids.iter().map(|void| {
        let origin = &void.origin;
        context! {
            experiment => origin.experiment, subject => subjects::title(&origin.subject),
            repetition => origin.repetition, point => origin.point, reason => void.reason,
        }
    });
    let voids: Vec<_> = voids.collect();
    let manifest = &results.manifest;
    let mut facts = Vec::new();
    flatten("", manifest, &mut facts);
    let name = results.folder.file_name().map(|name| name.to_string_lossy().into_owned());

    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_template("page", TEMPLATE).context("page.html is no template")?;
    let page = environment.get_template("page").context("page.html is no template")?;
    page.render(context! {
        style => style(),
        name => name.unwrap_or_default(),
        facts => headline(manifest),
        met => count(Standing::Met),
        missed => count(Standing::Missed),
        unshown => count(Standing::NotShown),
        rows => measured.iter().map(row).collect::<Vec<_>>(),
        missing => missing.iter().map(row).collect::<Vec<_>>(),
        bound => BOUND,
        sections,
        voids,
        manifest => facts,
        commit => manifest.get("commit").and_then(Value::as_str).unwrap_or("main"),
        arguments => arguments(manifest),
        resamples => RESAMPLES,
        repetitions_min => REPETITIONS_MIN,
    })
    .context("the report cannot be rendered")
}

fn row(judgement: &Judgement, measurements: &Measurements) -> Row {
    let target = judgement.target;
    Row {
        what: target.what,
        source: target.source,
        experiment: target.experiment,
        wanted: target.wanted(measurements),
        measured: judgement.measured.clone(),
        interval: judgement.interval.clone(),
        note: judgement.note.clone(),
        standing: judgement.standing.word(),
        class: judgement.standing.word().replace(' ', "-"),
        mark: judgement.share.as_ref().map(mark),
    }
}

/// Ratios at equal distances: an eighth of what is allowed at the left end, about 2.5 times at the right.
fn mark(share: &Estimate) -> Mark {
    let place = |share: f64| (BOUND + share.max(1e-3).log2() * BOUND / 3.0).clamp(1.0, 99.0);
    let (low, high) = (place(share.low), place(share.high));
    Mark { low, middle: place(share.value), width: high - low }
}

/// What the reader needs to know of the conditions first.
fn headline(manifest: &Value) -> Vec<String> {
    let paths =
        ["/date", "/machine/processor", "/machine/processors", "/machine/kernel", "/commit"];
    let text = |path: &str| {
        let value = manifest.pointer(path)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(match path {
            "/machine/processors" => format!("{text} processors"),
            "/machine/kernel" => text.split(" #").next().unwrap_or(&text).to_owned(),
            "/commit" => format!("commit {}", text.get(..12).unwrap_or(&text)),
            _ => text,
        })
    };
    paths.into_iter().filter_map(text).collect()
}

/// The command line that made the results, as one types it.
fn arguments(manifest: &Value) -> String {
    let words =
        manifest.get("arguments").or_else(|| manifest.get("argv")).and_then(Value::as_array);
    let words = words.into_iter().flatten().filter_map(Value::as_str).map(|word| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@+".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.to_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Every leaf of the manifest, with its path.
fn flatten(path: &str, value: &Value, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, into);
            }
        }
        Value::Array(values) if values.iter().any(Value::is_object) => {
            for (index, value) in values.iter().enumerate() {
                flatten(&format!("{path}.{index}"), value, into);
            }
        }
        Value::Array(values) => {
            let text =
                |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            into.push((path.to_owned(), values.iter().map(text).collect::<Vec<_>>().join(" ")));
        }
        Value::String(text) => into.push((path.to_owned(), text.clone())),
        other => into.push((path.to_owned(), other.to_string())),
    }
}

/// The style sheet, with the colours of the drawings for light and dark surroundings.
fn style() -> String {
    let mut style = STYLE.to_owned();
    let plain = [("ink", plot::INK), ("faint", plot::FAINT), ("grid", plot::GRID)];
    let plain = plain.map(|(name, colours)| (name.to_owned(), colours));
    let subjects = COLOURS.iter().enumerate().map(|(index, c)| (format!("c{index}"), *c));
    let all: Vec<_> = plain.into_iter().chain(subjects).collect();
    let variables = |dark: bool| {
        let each = all.iter().map(|(name, (light, night))| {
            format!("--{name}:{};", if dark { night } else { light })
        });
        each.collect::<String>()
    };
    let _ = writeln!(style, ":root{{{}}}", variables(false));
    let _ = writeln!(style, "@media (prefers-color-scheme:dark){{:root{{{}}}}}", variables(true));
    for (name, (light, _)) in &all {
        let _ = writeln!(style, "svg [fill=\"{light}\"]{{fill:var(--{name})}}");
        let _ = writeln!(style, "svg [stroke=\"{light}\"]{{stroke:var(--{name})}}");
        let _ = writeln!(style, ".{name}{{background:var(--{name})}}");
    }
    style
}
