//! A node takes over from a predecessor: it comes up beside it, and changes nothing before that has let it serve.
//!
//! ```text
//!   take ─▶ inherit sockets ─▶ ready ─▶ (word) ─▶ accept ─▶ serving ─▶ (succeeded) ─▶ connections, rules, servers
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ringway_engine::limits::HANDOVER_READY_TIMEOUT;
use tokio::time::timeout;

use super::error::RunError;
use super::host::Inherited;
use super::node::Node;
use crate::handover::successor::{Inheritance, Predecessor};
use crate::source::MeshConfig;

/// How long an authority that is not in this process may take: one of this host answers in a moment. Then there is time left to
/// say what is wrong.
const AUTHORITY_PATIENCE: Duration = Duration::from_secs(10);
const _: () = assert!(AUTHORITY_PATIENCE.as_secs() < HANDOVER_READY_TIMEOUT.as_secs());

impl Node {
    /// Takes the first configuration beside a predecessor, and serves when that lets it.
    ///
    /// # Errors
    /// When it does not. Then this process has changed nothing, and must end.
    pub(super) async fn inherit(
        mut self,
        mesh: MeshConfig,
        inheritance: Inheritance,
    ) -> Result<Self, RunError> {
        let wanted = mesh.enrollments.clone();
        self.take(mesh).await;
        self.certify().await?;
        let Inheritance { mut workloads, redirect, predecessor, .. } = inheritance;
        let (host, enrollments) = (Arc::clone(&self.host), wanted.clone());
        let taking = tokio::task::spawn_blocking(move || {
            let mut taken = Vec::new();
            for enrollment in &enrollments {
                let Some(workload) = workloads.remove(&enrollment.uid) else { continue };
                match host.inherit(enrollment, workload) {
                    Ok(inherited) => taken.push(inherited),
                    Err(error) => tracing::warn!(
                        workload = &*enrollment.uid,
                        error,
                        "not taken over: captured anew when this process serves"
                    ),
                }
            }
            taken
        });
        let taken = taking.await.map_err(|panic| RunError::HandOver(io::Error::other(panic)))?;
        let uids = taken.iter().map(|one| one.enrollment.uid.to_string()).collect();
        let predecessor =
            tokio::task::spawn_blocking(move || predecessor.ready(uids).map(|()| predecessor));
        let predecessor = predecessor
            .await
            .unwrap_or_else(|panic| Err(io::Error::other(panic)))
            .map_err(RunError::HandOver)?;
        let taken = self.serve_beside(predecessor, taken).await;
        // Only now: until a moment ago the predecessor might have gone on.
        self.hold_rules(taken, redirect == self.host.redirects()).await;
        // Together, so that nobody hears in between that this node is not ready: until now whoever asked has waited.
        self.servers.begin(&self.requests);
        self.show();
        self.readiness.set_step("proxy", false);
        let host = Arc::clone(&self.host);
        let cleaned = tokio::task::spawn_blocking(move || host.remove_leftovers(&wanted));
        let _ = cleaned.await;
        Ok(self)
    }

    /// Waits until the authority has answered about every identity.
    ///
    /// # Errors
    /// When it does not, or gives nothing at all: the predecessor has certificates, and is not to be followed by one that has
    /// none.
    async fn certify(&mut self) -> Result<(), RunError> {
        let answered = async {
            self.renew();
            while self.certifier.lacks_answer() {
                self.certifier.changed(|| None).await;
                self.renew();
            }
        };
        let answered = timeout(AUTHORITY_PATIENCE, answered).await.is_ok();
        let statuses = self.certifier.statuses();
        let has_any = statuses.iter().any(|status| status.credentials.is_some());
        if answered && (has_any || statuses.is_empty()) {
            return Ok(());
        }
        let why = statuses.into_iter().find_map(|status| status.error).unwrap_or_default();
        Err(RunError::HandOver(io::Error::other(format!("there is no certificate: {why}"))))
    }

    /// Accepts, says so, and when the predecessor leaves the rest to this process, takes the connections that it gives.
    async fn serve_beside(
        &mut self,
        predecessor: Predecessor,
        taken: Vec<Inherited>,
    ) -> Vec<Inherited> {
        let (engine, host) = (Arc::clone(&self.engine), Arc::clone(&self.host));
        let serving = tokio::task::spawn_blocking(move || {
            // Beside the predecessor's sockets, which go when it hears that this process serves.
            for one in &taken {
                if let Err(error) = host.listen_for_names_of(one) {
                    tracing::warn!(workload = &*one.enrollment.uid, error, "no names are answered");
                }
            }
            if let Err(error) = engine.begin_accepting() {
                tracing::warn!(%error, "a shard serves without a listener of its own");
            }
            (predecessor.serving(), predecessor, taken)
        });
        let Ok((heard, predecessor, taken)) = serving.await else { return Vec::new() };
        if let Err(error) = heard {
            tracing::warn!(%error, "the old process is not heard of any more: it may have ended");
        }
        let engine = Arc::clone(&self.engine);
        // Detached: it ends with the predecessor.
        tokio::task::spawn_blocking(move || match predecessor.take_connections(&engine) {
            Ok(connections) => tracing::info!(connections, "live connections were taken over"),
            Err(error) => tracing::warn!(%error, "no more connections are taken over"),
        });
        taken
    }

    /// From here on the rules of what was taken over are this process's.
    async fn hold_rules(&mut self, taken: Vec<Inherited>, same: bool) {
        let host = Arc::clone(&self.host);
        let held = tokio::task::spawn_blocking(move || {
            let hold = |inherited: Inherited| (host.hold(&inherited, same), inherited);
            taken.into_iter().map(hold).collect::<Vec<_>>()
        });
        for (held, inherited) in held.await.unwrap_or_default() {
            let Inherited { enrollment, file, .. } = inherited;
            match held {
                Ok(held) => self.enroller.inherit(enrollment, file, held),
                // It is enrolled as any other that is not captured.
                Err(error) => {
                    tracing::warn!(workload = &*enrollment.uid, error, "no redirect rules")
                }
            }
        }
    }
}
