//! A waypoint or gateway under an Istio control plane: in the place of the proxy of the classes `istio-agentgateway-waypoint`
//! and `istio-agentgateway`, told by the environment and by istiod.
//!
//! ```text
//!   environment ─▶ hardening ─▶ log ─▶ engine ─▶ servers ─▶ control plane: the mesh, our Gateway, a certificate
//!                                                    └ told ─▶ world: tables in the snapshot ─▶ listeners
//! ```
//!
//! Which of the two it is nobody says at the start: it follows from the listeners that are told. Nothing is enrolled
//! before that.
//!
//! **Invariant:** such a process holds the certificate of its own workload and no other, and captures nothing.
//!
//! **Invariant:** what cannot be made into tables changes nothing that is in force.

mod enrolled;
mod node;
mod start;
mod status;
mod world;

use tokio::task::LocalSet;

use super::error::RunError;
use super::{Ending, hardening, memory, ztunnel};
use crate::admin::config_dump::VersionInfo;
use crate::environment::L7Config;
use crate::telemetry::requests::RequestLog;
use crate::telemetry::traces::TraceOptions;

/// What such a run is told beside its environment's own settings.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// The environment.
    pub config: L7Config,
    /// How lines of requests look.
    pub request_log: RequestLog,
    /// Where traces go, if they go anywhere.
    pub traces: Option<TraceOptions>,
}

/// Runs until it is told to end.
///
/// # Errors
/// When it cannot start; [`RunError`] says what to do.
pub fn run(
    options: AgentOptions,
    version: VersionInfo,
    collect: Option<fn()>,
) -> Result<Ending, RunError> {
    let settings = start::settings(&options.config.process);
    let places = ztunnel::places(&options.config.process);
    memory::enough(&settings).map_err(RunError::Memory)?;
    // Before there is another thread: all of them inherit it.
    let hardened = hardening::harden(&settings, &places, None)?;
    let prepared = start::prepare(options, settings, hardened, version)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::System)?;
    let log = prepared.log.clone();
    let ended = LocalSet::new().block_on(&runtime, async {
        let node = start::start(prepared, collect).await?;
        Ok(node.serve().await)
    });
    // After a forced end a thread may still be at work; nobody waits for it.
    runtime.shutdown_background();
    log.flush();
    ended
}
