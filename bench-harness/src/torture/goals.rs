//! The goal sheet: what we hold ourselves to, and what the rows of this run say to it.

use std::fmt::Write;

use super::record::Line;
use super::row::ROWS;
use super::trial::Verdict;

/// Every goal: its number, what is promised, and where else it stands when no row can show it.
const GOALS: [(&str, &str, &str); 17] = [
    ("G1", "restart under load: 0 of 300,000 new connections fail over 50 restarts", ""),
    ("G2", "restart: 10,000 live pass-through connections moved, 0 broken", ""),
    ("G3", "1,000 changes of configuration: 0 of 300,000 requests fail, p99 <= 1.5 x quiet", ""),
    ("G4", "10,000 live connections closed <= 100 ms after their permission is revoked", ""),
    ("G5", "an idle connection holds <= 2.5 KiB on each side", ""),
    (
        "G6",
        "a full push of 100,000 workloads stalls the data path <= 12 ms",
        "measured by scripts/xds-scale, beside a control plane",
    ),
    ("G7", "no descriptors left: <= 0.10 core, <= 1 log line/s, live connections unharmed", ""),
    ("G8", "slow handshakes are cut <= 10 s and hold <= 8 KiB each", ""),
    ("G9", "a noisy neighbour: p99 <= 2 x quiet, 0 fail", ""),
    ("G10", "HTTP/2 abuse: <= 1 MiB kept and <= 0.05 s of processor time, then closed", ""),
    ("G11", "HTTP/2 conformance: all of at least 146 cases", ""),
    ("G12", "request smuggling: 0 disagreements in 5,000 cases", ""),
    ("G13", "1,000 of 1,000 resets arrive as resets", ""),
    ("G14", "working certificates <= 5 s after the authority is back", ""),
    ("G15", "starts and serves without io_uring and with tiny memlock limits", ""),
    ("G16", "fuzzing: >= 16 targets, 0 open crashes", ""),
    ("G17", "simulation: >= 10,000 seeds, every failure replays", ""),
];

/// The sheet; with goals of these rows only, when only some were chosen.
pub(super) fn sheet(lines: &[Line], all: bool) -> String {
    let mut text = String::from("Goals\n");
    for (goal, promise, elsewhere) in GOALS {
        let own: Vec<&Line> = lines.iter().filter(|line| line.goals.contains(&goal)).collect();
        if own.is_empty() && !all {
            continue;
        }
        let verdict = match own.iter().map(|line| line.verdict).max_by_key(|verdict| rank(*verdict))
        {
            Some(verdict) => verdict.to_string(),
            None => "not-run".to_owned(),
        };
        let _ = writeln!(text, "{goal:<4} {verdict:<10} {promise}");
        for line in &own {
            let first = line.checks.iter().filter(|check| check.limit.is_some());
            let numbers: Vec<String> = first.take(4).map(ToString::to_string).collect();
            let _ = writeln!(text, "       {} {}: {}", line.id, line.reactor, numbers.join("; "));
            if line.verdict != Verdict::Pass {
                let _ = writeln!(text, "         {}: {}", line.verdict, line.reason);
            }
        }
        if own.is_empty() {
            let rows: Vec<&str> =
                ROWS.iter().filter(|row| row.goals.contains(&goal)).map(|row| row.id).collect();
            let why = match (elsewhere, &rows[..]) {
                ("", []) => "no row shows it yet".to_owned(),
                ("", rows) => format!("not in this run; scripts/torture {}", rows.join(" ")),
                (elsewhere, _) => elsewhere.to_owned(),
            };
            let _ = writeln!(text, "         {why}");
        }
    }
    for line in lines.iter().filter(|line| line.goals.is_empty() && line.verdict != Verdict::Pass) {
        let _ = writeln!(text, "{:<4} {}: {}", line.id, line.verdict, line.reason);
    }
    text
}

/// What is worse comes last.
fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => 0,
        Verdict::NotRun => 1,
        Verdict::FallShort => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_goal_of_a_row_is_on_the_sheet() {
        for row in ROWS {
            for goal in row.goals {
                assert!(GOALS.iter().any(|(known, ..)| known == goal), "{}: {goal}", row.id);
            }
        }
        let text = sheet(&[], true);
        assert!(text.contains("G13  not-run") && text.contains("scripts/torture F8"), "{text}");
    }
}
