//! Pages that name, line by line, what shows that something holds: what they name is there.

use std::collections::BTreeSet;
use std::fs;

use super::threats::{check, files, root};

/// The pages, from which heading on, and how many lines each has at least.
const PAGES: [(&str, &str, usize); 3] = [
    ("docs/http.md", "# ", 35),
    ("docs/ztunnel-acceptance.md", "# ", 43),
    ("docs/ztunnel.md", "## Defects of ztunnel's", 34),
];

/// The last row of what ztunnel's tests assert, and of its defects.
const ROWS_LAST: usize = 32;

fn page(name: &str, from: &str) -> String {
    let text = fs::read_to_string(root().join(name)).unwrap();
    let at = text.find(from).unwrap_or_else(|| panic!("{name}: no {from}"));
    text[at..].to_owned()
}

/// The lines of all tables of a page: what is said, and what shows it.
fn lines(page: &str) -> Vec<(&str, &str)> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.filter_map(|row| Some((row.rsplit_once(" | ")?.0, row.rsplit(" | ").next()?)))
        .filter(|(_, shown)| *shown != "shown by")
        .collect()
}

#[test]
fn every_line_names_what_shows_it_and_that_is_there() {
    let files = files();
    for (name, from, least) in PAGES {
        let page = page(name, from);
        let lines = lines(&page);
        assert!(lines.len() >= least, "{name}: only {} lines were found", lines.len());
        for (said, shown) in lines {
            let (missing, found) = check(shown, &files);
            assert!(missing.is_empty(), "{name}: {said}: shown by what is not there: {missing:?}");
            assert!(found > 0, "{name}: {said}: nothing is named that shows it");
        }
    }
}

#[test]
fn no_row_of_what_ztunnel_is_held_to_is_left_out() {
    for (name, from, _) in &PAGES[1..] {
        let page = page(name, from);
        let number = |(said, _): &(&str, &str)| said.split(" | ").next()?.parse::<usize>().ok();
        let rows: BTreeSet<usize> = lines(&page).iter().filter_map(number).collect();
        assert_eq!(rows, (1..=ROWS_LAST).collect(), "{name}");
    }
}

#[test]
fn lines_are_read_as_they_stand() {
    let page = "# x\n| rule | done | shown by |\n|---|---|---|\n| a `b` | c | `d` |\ntext\n";
    assert_eq!(lines(page), [("a `b` | c", "`d`")]);
}
