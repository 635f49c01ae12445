//! Reads what a mesh elsewhere says of itself into files of ours, so that it can be replayed here.
//!
//! What goes in is a ztunnel `config_dump` (or one of our own, which has the same shape); what comes out is a stream of two
//! kinds of documents: ztunnel's local file, which says all that a dump says of workloads, services and policies, and a
//! `Node` for each host whose workloads are to be captured here.
//!
//! **Invariant:** what comes out was read back, as a start would read it, before it is handed out. What is left out is told.

mod dump;
mod node;
#[cfg(test)]
mod tests;

use std::fmt;

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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// What was left out or made up, a sentence each.
    pub notes: Vec<String>,
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
    /// What came out would be refused.
    Refused(Diagnostics),
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
            ImportError::Refused(mistakes) => {
                write!(f, "what the dump says would be refused:\n{mistakes}")
            }
        }
    }
}

impl std::error::Error for ImportError {}

/// Reads a `config_dump`.
///
/// # Errors
/// [`ImportError`].
pub fn config_dump(text: &[u8], options: &ImportOptions) -> Result<Imported, ImportError> {
    let dump: Value = serde_json::from_slice(text).map_err(ImportError::NotJson)?;
    let mut notes = Vec::new();
    let local = dump::local_file(&dump, &mut notes)?;
    let mut text = String::new();
    let mut captured = 0;
    for name in &options.nodes {
        let node = node::node(name, &local.workloads, options)?;
        captured += node.captured;
        text += &node.document;
        text += "---\n";
    }
    let (workloads, services, policies) =
        (local.workloads.len(), local.services.len(), local.policies.len());
    text += &local.into_text();
    let name = "the imported mesh".to_owned();
    let source = Source::Text { name, text: text.clone() };
    source::load(&[source], options.nodes.first().map(String::as_str))
        .map_err(ImportError::Refused)?;
    Ok(Imported { text, workloads, services, policies, captured, notes })
}
