//! The configuration as the user writes it: files of YAML or JSON documents, read into one snapshot of the mesh.
//!
//! ```text
//! yaml ────▶ documents ─▶ node, kubernetes, security, local ─▶ compile ─▶ world ─▶ MeshConfig
//! values      objects      what each one says                   what they mean together
//! ```
//!
//! Nothing is guessed and nothing is overlooked: every unknown key, wrong value and dangling reference is an error with
//! its place, and all of them are reported at once.

mod chunks;
mod compile;
mod context;
pub(crate) mod diagnostics;
mod documents;
mod gateway;
mod kinds;
mod kubernetes;
mod local;
mod mesh;
mod names;
mod node;
mod objects;
#[cfg(feature = "waypoint")]
mod policy;
mod security;
mod sift;
mod watch;
mod world;
pub(crate) mod yaml;

use std::path::PathBuf;
use std::{panic, thread};

use ringway_engine::snapshot::Snapshot;

pub use diagnostics::{Diagnostic, Diagnostics, PROBLEMS_MAX, Severity};
#[cfg(feature = "waypoint")]
pub use gateway::{Condition, ListenerStatus, ObjectStatus, ParentStatus, status_as_json};
pub use mesh::{EnrollmentChanges, MeshConfig, NetworkNamespace, WorkloadEnrollment};
pub use node::config::{
    CertificateAuthorityConfig, Cores, Hardening, Listen, LogConfig, LogFormat, Mode, NodeConfig,
    OriginalSource, Ports, Reactor, Redirect,
};
pub use watch::{Glimpse, POLL_INTERVAL, QUIET, QUIET_DEADLINE, Watcher};

pub(crate) use diagnostics::suggest::{did_you_mean, nearest};
pub(crate) use local::VirtualAddress;
pub(crate) use sift::{Count, Kept, LeftOut, Sifted};
pub(crate) use world::is_same as is_same_workload;
pub(crate) use yaml::text::files_of;

use compile::compile;
use diagnostics::Reporter;
use documents::Documents;
use world::World;
use yaml::text::Files;

/// Bytes a file may have. 150,000 workloads take 60 MiB; what is much larger was not meant.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Bytes one object, or one element of a list of workloads, may have. Kubernetes stores objects up to 1.5 MiB.
pub const VALUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Mappings, lists and scalars one object may have, with its aliases resolved.
pub const VALUE_PARTS_MAX: usize = 65_536;

/// How deep mappings, and how deep lists in brackets, may be nested.
pub const NESTING_MAX: usize = 64;

/// How much nicer than others a thread is that reads a configuration anew, while traffic goes on: a mesh of thousands takes
/// seconds, and whoever carries traffic or serves it has his turn first. With ten it gets about a tenth of what another
/// thread gets (`sched(7)`), so that it comes to its end where all processors are busy, too.
const RELOAD_NICE: i32 = 10;

/// Where configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file; or a directory, which stands for its `*.yaml`, `*.yml` and `*.json` files in the order of their names.
    Path(PathBuf),
    /// Standard input.
    Stdin,
    /// Text, and what it is called in messages.
    Text {
        /// What it is called in messages.
        name: String,
        /// The documents.
        text: String,
    },
}

impl Source {
    /// A command line argument: a path, or `-` for standard input.
    pub fn from_argument(argument: impl Into<PathBuf>) -> Source {
        let path = argument.into();
        if path.as_os_str() == "-" { Source::Stdin } else { Source::Path(path) }
    }
}

/// Reads the configuration of `node` from all `sources`.
///
/// The files may be shared by several hosts. Without a `node` it is the one named as this host is, else the only one.
///
/// # Errors
/// Every mistake of every source, when there is one.
pub fn load(sources: &[Source], node: Option<&str>) -> Result<MeshConfig, Diagnostics> {
    let read = || load_here(sources, node, World::new(None), None, NamedFiles::Left);
    in_a_thread(0, read).map(|(mesh, _)| mesh)
}

/// The same for somebody who wants to know whether the node would start: the files that it names are read as well.
///
/// # Errors
/// As for [`load`], and what is wrong in those files.
pub fn check(sources: &[Source], node: Option<&str>) -> Result<MeshConfig, Diagnostics> {
    let read = || load_here(sources, node, World::new(None), None, NamedFiles::Read);
    in_a_thread(0, read).map(|(mesh, _)| mesh)
}

/// The same, when there is a configuration in force already: the new snapshot shares with `previous` what is the same
/// in both.
///
/// # Errors
/// As for [`load`]; `previous` stays as it is in any case.
pub fn reload(
    sources: &[Source],
    node: Option<&str>,
    previous: &Snapshot,
) -> Result<MeshConfig, Diagnostics> {
    let world = World::new(Some(previous));
    let read = || load_here(sources, node, world, None, NamedFiles::Left);
    in_a_thread(RELOAD_NICE, read).map(|(mesh, _)| mesh)
}

/// The same for the objects of a cluster, of which those are left out that Ringway has no use for. What is kept comes along.
///
/// # Errors
/// Every mistake in what is kept.
pub(crate) fn sift(sources: &[Source]) -> Result<Sifted, Diagnostics> {
    let sift = Some(sift::Sift::default());
    let read = || load_here(sources, None, World::new(None), sift, NamedFiles::Left);
    let (mesh, sift) = in_a_thread(0, read)?;
    Ok(sift.unwrap_or_default().finish(mesh))
}

/// What is done about files that a Node names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NamedFiles {
    /// They are read for their mistakes.
    Read,
    /// They are left to whoever uses them.
    Left,
}

fn load_here(
    sources: &[Source],
    node: Option<&str>,
    world: World,
    sift: Option<sift::Sift>,
    named_files: NamedFiles,
) -> Result<(MeshConfig, Option<sift::Sift>), Diagnostics> {
    let files = Files::find(sources);
    let mut reporter = Reporter::default();
    let mut documents = Documents::read(&files, world, sift, &mut reporter);
    let sift = documents.sift.take();
    let mesh = compile(documents, node, named_files, &mut reporter);
    let failed = reporter.has_errors();
    let diagnostics = reporter.finish(&files);
    match failed {
        true => Err(diagnostics),
        false => Ok((MeshConfig { warnings: diagnostics, ..mesh }, sift)),
    }
}

/// Does the work in a thread of its own, which is so much nicer to others than this one.
///
/// Loading takes memory for a moment, and an allocator keeps for a thread what the thread gave back, until it ends.
/// With 150,000 workloads that is 20 MB. Where there is no memory for a thread, it is done here.
fn in_a_thread<T: Send>(nicer: i32, work: impl FnOnce() -> T + Send) -> T {
    let mut work = Some(work);
    let mut once = || work.take().expect("called once")();
    let ended = thread::scope(|scope| {
        let nicely = || {
            // Linux keeps a nice value for each thread. Where a change is refused, this one is as urgent as the others.
            let _ = rustix::process::nice(nicer);
            once()
        };
        let started = thread::Builder::new().spawn_scoped(scope, nicely);
        started.ok().map(thread::ScopedJoinHandle::join)
    });
    match ended {
        Some(ended) => ended.unwrap_or_else(|panic| panic::resume_unwind(panic)),
        None => once(),
    }
}

#[cfg(test)]
mod tests;
