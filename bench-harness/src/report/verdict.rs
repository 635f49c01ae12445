//! The table of targets in a terminal, and what is void.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io::{self, IsTerminal};

use super::measurements::Measurements;
use super::subjects::{self, Layer};
use super::targets::{Judgement, Standing};
use crate::record::Results;

/// Reasons that are printed; the file has all.
const REASONS_SHOWN: usize = 8;
/// What is printed of a reason, which may end with a log.
const REASON_CHARACTERS: usize = 120;

/// Prints it to standard output, with colours if that is a terminal.
pub(super) fn print(judgements: &[Judgement], measurements: &Measurements, results: &Results) {
    print!("{}", text(judgements, measurements, io::stdout().is_terminal()));
    print!("{}", voids(results));
}

/// How much does not count and why, those reasons first that there are most of, and who was not measured
/// at all.
fn voids(results: &Results) -> String {
    let mut reasons: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for void in &results.voids {
        let reason = void.reason.chars().take(REASON_CHARACTERS).collect();
        *reasons.entry((&void.origin.subject, reason)).or_default() += 1;
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| Reverse(*count));
    let mut out = String::new();
    if !reasons.is_empty() {
        let _ = writeln!(out, "{} measurements are void, all in voids.csv:", results.voids.len());
    }
    for ((subject, reason), count) in reasons.iter().take(REASONS_SHOWN) {
        let _ = writeln!(out, "{count:>5} × {subject}: {reason}");
    }
    if let Some(more) = reasons.get(REASONS_SHOWN..).filter(|more| !more.is_empty()) {
        let count: usize = more.iter().map(|(_, count)| count).sum();
        let _ = writeln!(out, "{count:>5} × for {} other reasons", more.len());
    }
    let measured: BTreeSet<&str> =
        results.samples.iter().map(|sample| &*sample.origin.subject).collect();
    let concerned: BTreeSet<&str> = reasons.iter().map(|((subject, _), _)| *subject).collect();
    let absent = concerned.difference(&measured);
    for subject in absent.filter(|subject| subjects::layer(subject) != Layer::Baseline) {
        let _ = writeln!(out, "Nothing was measured of {subject}.");
    }
    out
}

/// The table, then the sum of it.
pub(super) fn text(judgements: &[Judgement], measurements: &Measurements, colours: bool) -> String {
    let measured = judgements.iter().filter(|j| j.standing != Standing::NotMeasured);
    let rows: Vec<[String; 6]> = measured
        .map(|judgement| {
            [
                judgement.target.what.to_owned(),
                judgement.target.wanted(measurements),
                judgement.measured.clone(),
                judgement.interval.clone(),
                judgement.note.clone(),
                judgement.standing.word().to_owned(),
            ]
        })
        .collect();
    let heading = ["target", "wanted", "measured", "95 % interval", "at worst"];
    let mut out = table(&heading, "verdict", &rows, |word| {
        let code = match word {
            "met" => "32",
            "missed" => "31",
            _ => "33",
        };
        if colours { format!("\x1b[1;{code}m{word}\x1b[0m") } else { word.to_owned() }
    });
    if rows.is_empty() {
        out = "No target is about what was measured here.\n".to_owned();
    }
    let count =
        |standing| judgements.iter().filter(|judgement| judgement.standing == standing).count();
    let _ = writeln!(
        out,
        "{} met, {} missed, {} not shown; {} not measured here",
        count(Standing::Met),
        count(Standing::Missed),
        count(Standing::NotShown),
        count(Standing::NotMeasured),
    );
    out
}

/// Columns of equal width; the last one, the verdict, is painted.
pub(crate) fn table<const N: usize, const M: usize>(
    heading: &[&str; M],
    last: &str,
    rows: &[[String; N]],
    paint: impl Fn(&str) -> String,
) -> String {
    let length = |text: &str| text.chars().count();
    let widths: Vec<usize> = (0..M)
        .map(|column| {
            let cells = rows.iter().map(|row| length(&row[column]));
            cells.chain([length(heading[column])]).max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    let mut line = |cells: &[&str], end: &str| {
        for (cell, width) in cells.iter().zip(&widths) {
            let _ = write!(out, "{cell}{:1$}", "", width - length(cell) + 2);
        }
        let _ = writeln!(out, "{}", end);
    };
    line(heading, last);
    let rules: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    line(&rules.iter().map(String::as_str).collect::<Vec<_>>(), "");
    for row in rows {
        let cells: Vec<&str> = row[..M].iter().map(String::as_str).collect();
        line(&cells, &paint(&row[N - 1]));
    }
    out.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Origin, Sample, Void};

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [["a", "1 ×", "met"], ["longer", "2", "missed"]].map(|r| r.map(str::to_owned));
        let text = table(&["what", "measured"], "verdict", &rows, |word| format!("<{word}>"));
        assert_eq!(
            text,
            "what    measured  verdict\n──────  ────────\na       1 ×       <met>\nlonger  2         <missed>\n"
        );
    }

    #[test]
    fn what_is_void_is_told_with_the_commonest_reason_first() {
        let void = |subject: &str, reason: String| Void {
            origin: Origin {
                experiment: "latency".to_owned(),
                subject: subject.to_owned(),
                repetition: 1,
                point: String::new(),
            },
            reason,
        };
        let once =
            (0..9).map(|number| void("reference", format!("achieved {number} % of the rate")));
        let always =
            (0..3).map(|_| void("envoy-tcp", "did not start: ".to_owned() + &"x".repeat(999)));
        let results = Results {
            folder: "a".into(),
            manifest: serde_json::Value::Null,
            samples: vec![Sample {
                origin: void("reference", String::new()).origin,
                metric: "p50".to_owned(),
                unit: "us".to_owned(),
                value: 1.0,
            }],
            voids: once.chain(always).collect(),
            latencies: Vec::new(),
        };
        let text = voids(&results);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "12 measurements are void, all in voids.csv:");
        assert!(lines[1].starts_with("    3 × envoy-tcp: did not start: xxx"), "{text}");
        assert!(lines[1].len() < 150, "a log does not bury the rest: {text}");
        assert_eq!(
            lines[9..],
            ["    2 × for 2 other reasons", "Nothing was measured of envoy-tcp."]
        );
    }

    #[test]
    fn of_nothing_measured_nothing_is_claimed() {
        let measurements = Measurements::default();
        let text = text(&super::super::targets::judge(&measurements), &measurements, false);
        assert!(text.starts_with("No target"), "{text}");
        assert!(text.contains("0 met, 0 missed, 0 not shown"), "{text}");
    }
}
