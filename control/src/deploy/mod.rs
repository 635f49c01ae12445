//! The files of `deploy/` agree with the program: its variables, metrics, ports, paths and capabilities.
//!
//! They are read, not run: no image is built and no cluster is asked here. What Helm makes of the chart, the end-to-end tests see.

mod container;
mod kubernetes;
mod monitoring;
mod systemd;
#[cfg(feature = "waypoint")]
mod waypoint;

use std::path::{Path, PathBuf};

use crate::environment::table::GROUPS;
use crate::source::Source;
use crate::source::diagnostics::Reporter;
use crate::source::yaml::reader::Reader;
use crate::source::yaml::text::Files;
use crate::source::yaml::value::{Content, Value};

/// A file of `deploy/`.
fn path(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy")).join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("deploy/{name}: {error}"))
}

/// The documents of a YAML file.
fn documents(name: &str) -> Vec<Value> {
    let source = Source::Text { name: name.to_owned(), text: text(name) };
    let files = Files::find(&[source]);
    let mut reporter = Reporter::default();
    let file = files.ids().next().unwrap();
    let mut reader = Reader::new(file, files.characters(file).unwrap());
    let mut documents = Vec::new();
    while reader.next_document(&mut reporter) {
        documents.extend(reader.value(&mut reporter).ok());
    }
    assert!(!reporter.has_errors(), "{}", reporter.finish(&files));
    assert!(!documents.is_empty(), "deploy/{name} is empty");
    documents
}

/// What is at a path of keys; a number is the place in a list.
fn at<'v>(value: &'v Value, keys: &str) -> &'v Value {
    keys.split('.').fold(value, |value, key| {
        let next = match (&value.content, key.parse::<usize>()) {
            (Content::Sequence(items), Ok(index)) => items.get(index),
            _ => value.get(key),
        };
        next.unwrap_or_else(|| panic!("there is no {key} of {keys}"))
    })
}

fn string<'v>(value: &'v Value, keys: &str) -> &'v str {
    at(value, keys).text().unwrap_or_else(|| panic!("{keys} is no text"))
}

fn list<'v>(value: &'v Value, keys: &str) -> &'v [Value] {
    match &at(value, keys).content {
        Content::Sequence(items) => items,
        _ => panic!("{keys} is no list"),
    }
}

/// Whether the program reads this variable.
fn is_variable(name: &str) -> bool {
    let mut variables = GROUPS.iter().flat_map(|(_, variables)| variables.iter());
    variables.any(|variable| match variable.name.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix) && name.len() > prefix.len(),
        None => variable.name == name,
    })
}

#[test]
fn every_file_is_named_in_the_readme() {
    let readme = text("README.md");
    for entry in std::fs::read_dir(path("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(readme.contains(&format!("`{name}/")) || name == "README.md", "{name}");
    }
}
