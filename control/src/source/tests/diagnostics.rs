//! Every kind of mistake, and what is said about it: `diagnostics/NAME.yaml` must give exactly `NAME.txt`.
//!
//! After a change of words, `UPDATE_GOLDEN=1 cargo test -p ringway-control source::tests` writes the texts anew; they are
//! reviewed like code.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::source::{
    Diagnostics, FILE_BYTES_MAX, PROBLEMS_MAX, Severity, Source, VALUE_BYTES_MAX, load,
};

/// What only a program with the L7 roles reads has a directory of its own.
fn directories() -> Vec<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/source/tests");
    let l7 = cfg!(feature = "waypoint").then(|| tests.join("diagnostics-l7"));
    [tests.join("diagnostics")].into_iter().chain(l7).collect()
}

/// What is said about a text; a first line `# node: NAME` says which node it is.
fn said(name: &str, text: &str) -> String {
    let node = text.lines().next().and_then(|line| line.strip_prefix("# node: "));
    let source = Source::Text { name: name.to_owned(), text: text.to_owned() };
    match load(&[source], Some(node.unwrap_or("host-a"))) {
        Ok(mesh) => mesh.warnings.to_string(),
        Err(diagnostics) => diagnostics.to_string(),
    }
}

#[test]
fn every_mistake_is_explained() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut rows = 0;
    let mut wrong = String::new();
    let entries = directories().into_iter().flat_map(|directory| fs::read_dir(directory).unwrap());
    for entry in entries {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        rows += 1;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let said = said(&name, &fs::read_to_string(&path).unwrap());
        let golden = path.with_extension("txt");
        if update {
            fs::write(&golden, &said).unwrap();
        }
        if said.is_empty() || fs::read_to_string(&golden).unwrap_or_default() != said {
            wrong += &format!("=== {name} now says:\n{said}\n");
        }
    }
    assert!(rows >= 35, "only {rows} rows were found");
    assert!(wrong.is_empty(), "{wrong}");
}

fn fail(path: &Path) -> Diagnostics {
    load(&[Source::Path(path.into())], Some("host-a")).unwrap_err()
}

fn fail_text(text: String) -> Diagnostics {
    let source = Source::Text { name: "mesh.yaml".to_owned(), text };
    load(&[source], Some("host-a")).unwrap_err()
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let directory = TempDir::new().unwrap();
    let missing = fail(&directory.path().join("missing.yaml")).to_string();
    assert!(missing.contains("missing.yaml: error: cannot be read: No such file"), "{missing}");

    let empty = fail(directory.path()).to_string();
    assert!(empty.contains("error: there is no *.yaml, *.yml or *.json file in this"), "{empty}");

    let not_text = directory.path().join("mesh.yaml");
    fs::write(&not_text, b"kind: \xff\xfe").unwrap();
    let said = fail(&not_text).to_string();
    assert!(said.contains("mesh.yaml:1:5: error: what follows is not UTF-8 text"), "{said}");
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("mesh.yaml");
    fs::File::create(&path).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    let said = fail(&path).to_string();
    assert!(said.contains("mesh.yaml: error: a file may have 1024 MiB, this is larger"), "{said}");
}

#[test]
fn a_value_that_is_too_large_ends_its_file() {
    let text = format!("kind: Pod\nmetadata: {{name: {}}}\n", "a".repeat(2 * VALUE_BYTES_MAX));
    let said = fail_text(text).to_string();
    assert!(said.contains("one value may take 4 MiB of text, this is longer"), "{said}");

    let many = format!("metadata: [{}]\n", "a, ".repeat(100_000));
    let said = fail_text(many).to_string();
    assert!(said.contains("this value would have more than 65536 parts"), "{said}");
}

/// Nine levels of ten aliases each would be a thousand million values.
#[test]
fn aliases_multiply_only_so_much() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    let said = fail_text(text).to_string();
    assert!(said.contains("would have more than 65536 parts"), "{said}");
    let said = fail_text("kind: &a [*a]\n".to_owned()).to_string();
    assert!(said.contains("this alias stands inside the value it refers to"), "{said}");
}

/// Values that refer to each other are as deep as their chain is long; the bound of their parts bounds that, too.
#[test]
fn a_chain_of_aliases_is_no_deeper_than_the_stack() {
    let mut text = String::from("a0: &a0 [x]\n");
    for link in 1..1000 {
        text += &format!("a{link}: &a{link} [*a{}]\n", link - 1);
    }
    let said = fail_text(text).to_string();
    assert!(said.contains("the anchored values would have more than 65536 parts"), "{said}");
}

#[test]
fn nesting_has_an_end() {
    for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(1000)] {
        let said = fail_text(text).to_string();
        assert!(said.contains("recursion limit exceeded"), "{said}");
    }
}

#[test]
fn one_mistake_made_a_thousand_times_is_still_counted() {
    let mut text = String::new();
    for number in 0..PROBLEMS_MAX + 500 {
        text += &format!("---\n{{apiVersion: v1, kind: Pot, metadata: {{name: a{number}}}}}\n");
    }
    let diagnostics = fail_text(text);
    assert_eq!(diagnostics.errors(), PROBLEMS_MAX + 500);
    assert_eq!(diagnostics.iter().count(), PROBLEMS_MAX);
    assert!(diagnostics.to_string().contains("… and 500 more"));
}

#[test]
fn mistakes_of_all_files_are_told_together_in_order() {
    let directory = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write(
        "b.yaml",
        "{apiVersion: v1, kind: Pod, metadata: {name: same}, status: {podIP: 10.0.0.1}, colour: red}",
    );
    write("a.yaml", "apiVersion: v1\nkind: [\n");
    write(
        "c.yaml",
        "{apiVersion: v1, kind: Pod, metadata: {name: same}, status: {podIP: 10.0.0.2}}",
    );
    let diagnostics = fail(directory.path());
    let told: Vec<String> = diagnostics
        .iter()
        .map(|each| {
            let file = Path::new(each.file()).file_name().unwrap().to_string_lossy().into_owned();
            assert_eq!(each.severity(), Severity::Error);
            format!("{file}:{}:{} {}", each.line(), each.column(), each.message())
        })
        .collect();
    assert_eq!(
        told,
        [
            "a.yaml:2:7 this is not YAML: unclosed bracket '['",
            "b.yaml:1:80 unknown key `colour` in `Pod`",
            "c.yaml:1:46 two workloads are named `default/same`",
        ]
    );
}

#[test]
fn colour_changes_nothing_but_the_colour() {
    let diagnostics = fail_text("kind: [".to_owned());
    let coloured = diagnostics.coloured().to_string();
    assert!(coloured.contains("\x1b[1;31merror:"));
    let mut plain = String::new();
    for part in coloured.split('\x1b') {
        plain += part
            .strip_prefix('[')
            .and_then(|part| part.split_once('m'))
            .map_or(part, |(_, text)| text);
    }
    assert_eq!(plain, diagnostics.to_string());
}

/// What could move the cursor of a terminal is not repeated.
#[test]
fn excerpts_are_safe_to_print() {
    for text in ["kind: \"\x1b[2J\u{7}\" \"\n", "{apiVersion: v1, kind: Pod, \"\\e[2J\\a\": x}\n"] {
        let said = fail_text(text.to_owned()).to_string();
        assert!(!said.contains('\x1b') && !said.contains('\u{7}'), "{said:?}");
    }
}
