//! The table of targets in a terminal.

use std::fmt::Write;
use std::io::{self, IsTerminal};

use super::measurements::Measurements;
use super::targets::{Judgement, Standing};

/// Prints it to standard output, with colours if that is a terminal.
pub(super) fn print(judgements: &[Judgement], measurements: &Measurements) {
    print!("{}", text(judgements, measurements, io::stdout().is_terminal()));
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
    fn of_nothing_measured_nothing_is_claimed() {
        let measurements = Measurements::default();
        let text = text(&super::super::targets::judge(&measurements), &measurements, false);
        assert!(text.starts_with("No target"), "{text}");
        assert!(text.contains("0 met, 0 missed, 0 not shown"), "{text}");
    }
}
