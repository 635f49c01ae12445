//! The threat model names what shows that a threat is met; what it names is there.
//!
//! Under "Shown by" stand rows (`F18`), files by the end of their path (`e2e/trust.rs`, `scripts/check`), and tests of the file before
//! them (`a_test_by_its_name`, or `file.rs::a_test`).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::row::ROWS;

/// The threats there are.
const THREATS: usize = 19;

pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file of these folders.
pub(super) fn files() -> Vec<PathBuf> {
    let mut left: Vec<_> =
        ["bench-harness", "control", "engine", "fuzz", "protocols", "proxy", "scripts"]
            .map(|folder| root().join(folder))
            .into();
    let mut files = Vec::new();
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                // What was built and found.
                true if ["target", "corpus", "artifacts"]
                    .iter()
                    .any(|name| entry.file_name() == *name) => {}
                true => left.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    files
}

/// What each threat is shown by, from its heading to the next.
fn shown_by(page: &str) -> Vec<(String, String)> {
    let sections = page.split("\n## <a id=\"").skip(1);
    sections
        .map(|section| {
            let (name, text) = section.split_once('"').unwrap();
            let shown = text.split_once("*Shown by.*").map_or("", |(_, shown)| shown);
            let shown = shown.split("*Not met.*").next().unwrap();
            (name.to_uppercase(), shown.to_owned())
        })
        .collect()
}

/// Whether this is the id of a row: `F18`, `U5s`.
fn is_row(word: &str) -> bool {
    let Some(rest) = word.strip_prefix(['B', 'F', 'H', 'L', 'S', 'U']) else { return false };
    let number = rest.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
    !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
}

/// What is named in `shown` and is not there, and how much that is there is named.
pub(super) fn check(shown: &str, files: &[PathBuf]) -> (Vec<String>, usize) {
    let (mut missing, mut found) = (Vec::new(), 0);
    let mut tell = |name: &str, is_there: bool| match is_there {
        true => found += 1,
        false => missing.push(name.to_owned()),
    };
    let mut last: Option<&PathBuf> = None;
    for (index, piece) in shown.split('`').enumerate() {
        if index % 2 == 0 {
            let words = piece.split(|c: char| !c.is_ascii_alphanumeric());
            words
                .filter(|word| is_row(word))
                .for_each(|id| tell(id, ROWS.iter().any(|row| row.id == id)));
            continue;
        }
        let (file, test) = match piece.split_once("::") {
            Some((file, test)) => (Some(file), Some(test)),
            None if piece.contains(['/', '.']) => (Some(piece), None),
            None => (None, Some(piece)),
        };
        if let Some(file) = file {
            last = files.iter().find(|known| known.ends_with(file));
            tell(file, last.is_some());
        }
        if let Some(test) = test {
            let text = last.map(|file| fs::read_to_string(file).unwrap()).unwrap_or_default();
            tell(test, text.contains(&format!("fn {test}(")));
        }
    }
    (missing, found)
}

#[test]
fn every_threat_names_what_shows_it_and_that_is_there() {
    let page = fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let (threats, files) = (shown_by(&page), files());
    let names: BTreeSet<&str> = threats.iter().map(|(name, _)| &**name).collect();
    let wanted: Vec<String> = (1..=THREATS).map(|number| format!("T{number}")).collect();
    assert_eq!(names, wanted.iter().map(|name| &**name).collect());
    for (name, shown) in &threats {
        let (missing, found) = check(shown, &files);
        assert!(missing.is_empty(), "{name} is said to be shown by what is not there: {missing:?}");
        assert!(found > 0, "{name} names nothing that shows it");
    }
}

#[test]
fn what_is_not_there_is_told() {
    let files = files();
    let told = |shown: &str| check(shown, &files);
    assert_eq!(told("F18 and U5s; `e2e/trust.rs`, `scripts/check`"), (Vec::new(), 4));
    let gone = ["F99", "e2e/gone.rs", "a_test_that_never_was"].map(str::to_owned).to_vec();
    assert_eq!(told("F99; `e2e/gone.rs`, `e2e/trust.rs::a_test_that_never_was`"), (gone, 1));
    assert_eq!(told("a word: HTTP/2, L4-like"), (Vec::new(), 1));
}
