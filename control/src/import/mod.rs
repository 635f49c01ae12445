//! Reads what a mesh elsewhere says of itself into files of ours, so that it can be replayed here.
//!
//! What goes in is a ztunnel `config_dump` (or one of our own, which has the same shape), or the objects of a cluster: files of
//! YAML, and directories of them. What comes out is a stream of documents: of a dump ztunnel's local file, which says all
//! that a dump says of workloads, services and policies; of objects those that Ringway reads; and a `Node` for each host whose
//! workloads are to be captured here.
//!
//! **Invariant:** what comes out was read back, as a start would read it, before it is handed out. What is left out is told.

#[cfg(test)]
mod cluster_tests;
mod dump;
mod files;
mod node;
mod objects;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::{fmt, io};

use serde_json::Value;

use crate::source::{self, Diagnostics, Source};

/// What is wanted besides the mesh itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Hosts whose workloads are captured here, each by a Node of its own.
    pub nodes: Vec<String>,
    /// Where the network namespace of a captured workload is; `{name}` and `{namespace}` stand for the workload's.
    pub network_namespace: Option<String>,
}

/// A mesh that was read.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The documents, ready to be loaded.
    pub text: String,
    /// How many workloads there are.
    pub workloads: usize,
    /// How many services there are.
    pub services: usize,
    /// How many policies there are.
    pub policies: usize,
    /// How many of the workloads the Nodes capture.
    pub captured: usize,
    /// How many objects of each kind were taken.
    pub taken: Vec<(String, usize)>,
    /// What was left out or made up, a sentence each.
    pub notes: Vec<String>,
    /// What is allowed in the files but probably not meant.
    pub warnings: Diagnostics,
}

/// Why nothing was read.
#[derive(Debug)]
pub enum ImportError {
    /// The text is no JSON.
    NotJson(serde_json::Error),
    /// It is JSON, but not a dump; this is what is missing or wrong.
    NotADump(String),
    /// No workload is on this host; these are the hosts there are.
    NoSuchNode(String, Vec<String>),
    /// The pattern of network namespaces cannot be used; this is why, and what to give.
    Pattern(String),
    /// What came out would be refused.
    Refused(Diagnostics),
    /// A file or directory cannot be read.
    Unreadable(PathBuf, io::Error),
    /// There is no file with objects in these directories.
    NoFiles(Vec<PathBuf>),
    /// In the files is nothing that Ringway reads; this was there.
    NoObjects(Vec<String>),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::NotJson(error) => write!(f, "this is no JSON: {error}"),
            ImportError::NotADump(why) => write!(f, "this is no config_dump: {why}"),
            ImportError::NoSuchNode(node, nodes) if nodes.is_empty() => {
                write!(f, "no workload is on the host `{node}`, nor on any other that has a name")
            }
            ImportError::NoSuchNode(node, nodes) => {
                write!(
                    f,
                    "no workload in the mesh is on the host `{node}`; there are {}",
                    nodes.join(", ")
                )
            }
            ImportError::Pattern(why) => f.write_str(why),
            ImportError::Refused(mistakes) => {
                write!(f, "what the dump says would be refused:\n{mistakes}")
            }
            ImportError::Unreadable(path, error) => {
                write!(f, "{} cannot be read: {error}", path.display())
            }
            ImportError::NoFiles(paths) => {
                let paths: Vec<_> = paths.iter().map(|path| path.to_string_lossy()).collect();
                write!(f, "there is no *.yaml, *.yml or *.json file in {}", paths.join(", "))
            }
            ImportError::NoObjects(notes) => {
                write!(f, "there is nothing in it that Ringway reads")?;
                notes.iter().try_for_each(|note| write!(f, "\n{note}"))
            }
        }
    }
}

impl std::error::Error for ImportError {}

/// Reads what the inputs are: one `config_dump`, or files and directories of objects. `-` is standard input.
///
/// # Errors
/// [`ImportError`].
pub fn import(inputs: &[PathBuf], options: &ImportOptions) -> Result<Imported, ImportError> {
    let [input] = inputs else { return objects(&files::find(inputs)?, options) };
    if input.is_dir() {
        return objects(&files::find(inputs)?, options);
    }
    let text = text_of(input).map_err(|error| ImportError::Unreadable(input.clone(), error))?;
    if is_dump(&text) {
        return config_dump(&text, options);
    }
    let source = match input.as_os_str() == "-" {
        true => Source::Text {
            name: "<stdin>".to_owned(),
            text: String::from_utf8_lossy(&text).into_owned(),
        },
        false => Source::Path(input.clone()),
    };
    objects(&[source], options)
}

fn text_of(input: &Path) -> io::Result<Vec<u8>> {
    if input.as_os_str() != "-" {
        return std::fs::read(input);
    }
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::stdin().lock(), &mut text).map(|_| text)
}

/// Objects say their kind, a dump does not.
fn is_dump(text: &[u8]) -> bool {
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return false;
    }
    let value: Option<Value> = serde_json::from_slice(text).ok();
    value.as_ref().and_then(Value::as_object).is_some_and(|top| {
        !top.contains_key("kind") && top.keys().any(|key| key.eq_ignore_ascii_case("workloads"))
    })
}

/// Reads objects.
fn objects(sources: &[Source], options: &ImportOptions) -> Result<Imported, ImportError> {
    let (sifted, mut imported) = objects::objects(sources)?;
    let workloads: Vec<Value> = match options.nodes.is_empty() {
        true => Vec::new(),
        false => sifted.mesh.snapshot.workloads().map(|one| node::described(one)).collect(),
    };
    imported.captured = with_nodes(&mut imported.text, &workloads, options)?;
    Ok(imported)
}

/// Reads a `config_dump`.
///
/// # Errors
/// [`ImportError`].
pub fn config_dump(text: &[u8], options: &ImportOptions) -> Result<Imported, ImportError> {
    let dump: Value = serde_json::from_slice(text).map_err(ImportError::NotJson)?;
    let mut notes = Vec::new();
    let local = dump::local_file(&dump, &mut notes)?;
    let described = local.workloads.clone();
    let (workloads, services, policies) =
        (local.workloads.len(), local.services.len(), local.policies.len());
    let mut text = local.into_text();
    let captured = with_nodes(&mut text, &described, options)?;
    let (taken, warnings) = (Vec::new(), Diagnostics::default());
    Ok(Imported { text, workloads, services, policies, captured, taken, notes, warnings })
}

/// Writes the Nodes before the mesh, and reads all of it back; how many workloads they capture.
fn with_nodes(
    text: &mut String,
    workloads: &[Value],
    options: &ImportOptions,
) -> Result<usize, ImportError> {
    let mut captured = 0;
    let mut nodes = String::new();
    for name in &options.nodes {
        let node = node::node(name, workloads, options)?;
        captured += node.captured;
        nodes += &node.document;
        nodes += "---\n";
    }
    text.insert_str(0, &nodes);
    let name = "the imported mesh".to_owned();
    let source = Source::Text { name, text: text.clone() };
    source::load(&[source], options.nodes.first().map(String::as_str))
        .map_err(ImportError::Refused)?;
    Ok(captured)
}
