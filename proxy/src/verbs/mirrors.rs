//! `ringway mirrors`: how what mirrors answer differs from what clients get.

use ringway_control::canary::ask::{self, AskError};
use serde_json::Value;

use crate::cli::MirrorsArguments;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

const HEADING: [&str; 9] = [
    "route",
    "mirror",
    "compared",
    "equal",
    "different",
    "unanswered",
    "skipped",
    "differ in",
    "mean time",
];

/// Asks a waypoint's admin server.
pub(crate) fn run(arguments: &MirrorsArguments) -> Result<Exit, Failure> {
    let text = ask::get(arguments.admin, "/mirrors").map_err(unanswered)?;
    let told: Value = serde_json::from_str(&text).map_err(|error| {
        Failure::new(Exit::Data, format!("{} answers no JSON: {error}", arguments.admin))
    })?;
    match arguments.output {
        Format::Json => output::json(&told)?,
        Format::Table => {
            let mirrors = told["mirrors"].as_array().map(Vec::as_slice).unwrap_or_default();
            output::table(&HEADING, &mirrors.iter().map(row).collect::<Vec<_>>())?;
            let samples: String = mirrors.iter().map(samples).collect();
            output::print(&samples)?;
        }
    }
    Ok(Exit::Ok)
}

fn unanswered(error: AskError) -> Failure {
    Failure::new(Exit::Unavailable, error.to_string())
        .next("--admin is the admin server of a running `ringway waypoint` or `ringway gateway`, port 15000")
}

fn row(mirror: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let count = |value: &Value| value.as_u64().unwrap_or(0).to_string();
    let outcome = |name: &str| count(&mirror["outcomes"][name]);
    let differences = mirror["differences"].as_object();
    let differences: Vec<String> = differences
        .into_iter()
        .flatten()
        .filter(|(_, times)| times.as_u64() != Some(0))
        .map(|(name, times)| format!("{name} {times}"))
        .collect();
    let mean = |of: &str| mirror["milliseconds"][of]["mean"].as_f64();
    let times = match (mean("original"), mean("copy")) {
        (Some(original), Some(copy)) => format!("{original:.1} ms, {copy:.1} ms"),
        _ => "-".to_owned(),
    };
    vec![
        text(&mirror["route"]),
        text(&mirror["mirror"]),
        count(&mirror["compared"]),
        outcome("equal"),
        outcome("different"),
        outcome("unanswered"),
        outcome("skipped"),
        if differences.is_empty() { "-".to_owned() } else { differences.join(", ") },
        times,
    ]
}

/// The last answers that differed, a line each.
fn samples(mirror: &Value) -> String {
    let samples = mirror["samples"].as_array().into_iter().flatten();
    let line = |sample: &Value| {
        let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let reasons = sample["differsIn"].as_array().into_iter().flatten().map(word);
        format!(
            "{} {}: {}, and the mirror {}; they differ in {}\n",
            word(&sample["method"]),
            word(&sample["path"]),
            sample["original"]["status"],
            sample["copy"]["status"],
            reasons.collect::<Vec<_>>().join(", ")
        )
    };
    samples.map(line).collect()
}
