//! A run in ztunnel's place: told by the environment, an Istio control plane and a CNI plugin's agent.
//!
//! ```text
//!   environment ─▶ hardening ─▶ log ─▶ local file ─▶ engine ─▶ servers ─▶ ┬ agent: pods      (shared)
//!                                                                         ├ own namespace     (dedicated)
//!                                                                         └ control plane: workloads, policies, certificates
//! ```
//!
//! It differs from a run from files in who tells what, and in nothing a connection sees. Redirect rules are the
//! plugin's; none are installed.
//!
//! Pods are taken from the agent even while the control plane is away. That is safe: which workload a pod is, and its
//! certificate, is asked for by each of its connections. Until the control plane has told both, a connection waits
//! for five seconds at most and is then refused; none passes unprotected.
//!
//! **Invariant:** a pod is the workload of this node that has its name, namespace and service account, or none.

mod demanded;
pub(super) mod names;
mod node;
mod pods;
pub(super) mod start;
pub(super) mod told;
mod untold;

use tokio::task::LocalSet;

use self::node::Node;
use super::error::RunError;
use super::{Ending, hardening, memory};
use crate::admin::config_dump::VersionInfo;
use crate::environment::ZtunnelConfig;
use crate::grpc::{Roots, TokenSource};
use crate::source::Source;

/// Runs until it is told to end.
///
/// # Errors
/// When it cannot start; [`RunError`] says what to do.
pub fn run(
    config: ZtunnelConfig,
    version: VersionInfo,
    collect: Option<fn()>,
) -> Result<Ending, RunError> {
    let settings = config.node_config();
    memory::enough(&settings).map_err(RunError::Memory)?;
    // Before there is another thread: all of them inherit it.
    let hardened = hardening::harden(&settings, &places(&config), None)?;
    let prepared = start::prepare(config, settings, hardened, version)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::System)?;
    let log = prepared.log.clone();
    let ended = LocalSet::new().block_on(&runtime, async {
        let node: Node = start::start(prepared, collect).await?;
        Ok(node.serve().await)
    });
    // After a forced end a thread may still be at work; nobody waits for it.
    runtime.shutdown_background();
    log.flush();
    ended
}

/// Where a run reads and writes.
pub(super) fn places(config: &ZtunnelConfig) -> hardening::Places {
    let mut read: Vec<_> = config.revocation_list.iter().cloned().collect();
    read.push(names::RESOLV_CONF.into());
    for endpoint in config.discovery.iter().chain(&config.certificate_authority) {
        if let Roots::File(path) = &endpoint.roots {
            read.push(path.clone());
        }
        if let Some(TokenSource::File(path)) = &endpoint.token {
            read.push(path.clone());
        }
    }
    if let Some(Source::Path(path)) = &config.local {
        read.push(path.clone());
    }
    let written = match config.certificate_authority {
        Some(_) => Vec::new(),
        None => vec![config.ca_directory.clone()],
    };
    hardening::Places { read, written, low_ports: false }
}
