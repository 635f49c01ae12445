//! The control thread: everything between the command line and the engine.
//!
//! ```text
//!   load ─▶ hardening ─▶ log ─▶ privileges ─▶ authority ─▶ leaves ─▶ engine ─▶ servers ─▶ workloads ─▶ serve … ─▶ drain
//!                                                                                                            └▶ hand-over ─▶ drain
//! ```
//!
//! One thread, one story: [`run`] starts it all in this order, `Node::serve` waits for what
//! happens, and draining undoes it in the reverse order. What blocks (tools, large files, asking shards) runs on
//! threads of its own.
//!
//! **Invariant:** no byte of a connection waits for this thread.

#[cfg(feature = "waypoint")]
pub mod agent;
mod certificates;
mod cores;
mod drain;
mod enroller;
mod error;
mod foundation;
mod handover;
mod hardening;
mod host;
mod hostnames;
mod inherit;
mod leftovers;
mod limits;
pub mod memory;
mod node;
pub mod options;
mod precedence;
pub mod privileges;
mod records;
mod revocation;
mod servers;
pub mod settings;
mod signals;
mod start;
mod systemd;
mod watchdog;
#[cfg(feature = "waypoint")]
pub mod waypoint;
pub mod ztunnel;

#[cfg(test)]
pub(crate) use self::hardening::names_of_capabilities;

pub use self::error::RunError;
pub use self::options::{OverrideError, Overrides, RunOptions, STATE_DIRECTORY, WorkloadName};

use ringway_engine::snapshot::Snapshot;

use crate::handover::predecessor::Launch;
use crate::handover::successor::Inheritance;
use crate::identity::EmbeddedCa;
use crate::source::{self, Diagnostics, MeshConfig, Source};

/// What a configuration from standard input is called.
const STANDARD_INPUT: &str = "<stdin>";

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// In order: what was open has ended, was cut at the deadline, or lives on in a successor.
    Drained,
    /// At once, because somebody asked twice: what was open was cut.
    Forced,
}

/// Runs until it is told to end.
///
/// # Errors
/// When it cannot start; [`RunError`] says what to do.
pub fn run(options: RunOptions) -> Result<Ending, RunError> {
    let launch = Launch::of_this_process().map_err(RunError::System)?;
    let version = &options.version.version;
    let mut inherited = Inheritance::receive(version).map_err(RunError::HandOver)?;
    let standard_input = inherited.as_mut().and_then(|inherited| inherited.standard_input.take());
    let options = RunOptions { sources: hold_stdin(options.sources, standard_input)?, ..options };
    // Before the first load, so that what changes in between is not missed.
    let before = source::Glimpse::of(&options.sources);
    let mesh = load(&options)?;
    memory::enough(&mesh.node).map_err(RunError::Memory)?;
    // Before there is another thread: all of them inherit it.
    let inherited_filter = inherited.as_ref().and_then(|inherited| inherited.call_filter);
    let hardened = hardening::harden(&mesh.node, &places(&options, &mesh), inherited_filter)?;
    let watcher = source::Watcher::since(&options.sources, before).map_err(RunError::System)?;
    let prepared = start::prepare(options, mesh, hardened)?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::System)?;
    let log = prepared.log.clone();
    let ended = tokio::task::LocalSet::new().block_on(&runtime, async {
        let node = start::start(prepared, launch, inherited).await?;
        Ok(node.serve(watcher).await)
    });
    // After a forced end a thread may still be at work; nobody waits for it.
    runtime.shutdown_background();
    log.flush();
    ended
}

/// Where a run reads and writes.
fn places(options: &RunOptions, mesh: &MeshConfig) -> hardening::Places {
    let authority = &mesh.node.certificate_authority;
    let sources = options.sources.iter().filter_map(|source| match source {
        Source::Path(path) => Some(path),
        Source::Stdin | Source::Text { .. } => None,
    });
    // A directory that can be read says nothing about the files in it.
    let sources = sources.flat_map(|path| {
        let files = source::files_of(path).unwrap_or_default();
        std::iter::once(path.clone()).chain(files)
    });
    let namespaces = mesh.enrollments.iter().filter_map(|one| match &one.network_namespace {
        source::NetworkNamespace::Path(path) => Some(path.clone()),
        source::NetworkNamespace::Own => None,
    });
    let lists = authority.revocation_lists.iter().cloned();
    let servers = mesh.node.dns.capture.then(|| mesh.node.dns.resolv_conf.clone());
    let authority_files = match authority.workload_api {
        Some(_) => Vec::new(),
        None => EmbeddedCa::files(&authority.directory),
    };
    // Whoever connects to a socket must be allowed to write to it.
    let identities = authority.workload_api.as_ref().unwrap_or(&authority.directory).clone();
    #[cfg(feature = "waypoint")]
    let low_ports = options.l7.as_ref().is_some_and(|l7| l7.kind == waypoint::Kind::Gateway);
    #[cfg(not(feature = "waypoint"))]
    let low_ports = false;
    hardening::Places {
        low_ports,
        read: sources.chain(namespaces).chain(lists).chain(servers).collect(),
        written: authority_files
            .into_iter()
            .chain([identities, options.state_directory.clone()])
            .collect(),
    }
}

/// Reads the configuration as `run` would: the files, and over them what is given elsewhere.
///
/// # Errors
/// [`RunError::Configuration`] with every mistake, or [`RunError::Override`].
pub fn load(options: &RunOptions) -> Result<MeshConfig, RunError> {
    finish(source::load(&options.sources, options.node.as_deref()), options)
}

/// The same while another configuration is in force: both share in memory what they have in common.
fn reload(options: &RunOptions, previous: &Snapshot) -> Result<MeshConfig, RunError> {
    let loaded = source::reload(&options.sources, options.node.as_deref(), previous);
    finish(loaded, options)
}

fn finish(
    loaded: Result<MeshConfig, Diagnostics>,
    options: &RunOptions,
) -> Result<MeshConfig, RunError> {
    let mut mesh = loaded.map_err(RunError::Configuration)?;
    options.overrides.apply(&mut mesh).map_err(RunError::Override)?;
    #[cfg(feature = "waypoint")]
    match &options.l7 {
        Some(l7) => l7.prepare(&mut mesh)?,
        // A node serves no requests, and has no business with the keys of listeners.
        None => mesh.http = Default::default(),
    }
    Ok(mesh)
}

/// Standard input can be read once only, and is needed again for every reload.
fn hold_stdin(
    sources: Vec<Source>,
    mut inherited: Option<String>,
) -> Result<Vec<Source>, RunError> {
    let hold = |source| match source {
        Source::Stdin => {
            let text = match inherited.take() {
                Some(text) => text,
                None => std::io::read_to_string(std::io::stdin()).map_err(RunError::System)?,
            };
            Ok(Source::Text { name: STANDARD_INPUT.to_owned(), text })
        }
        other => Ok(other),
    };
    sources.into_iter().map(hold).collect()
}
