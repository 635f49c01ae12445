//! The end: nobody new, then nobody at all, then nothing of ours left behind.
//!
//! ```text
//!   not ready ─▶ rules let go (new connections go direct) ─▶ engine drains ─▶ rules gone ─▶ servers end ─▶ last lines
//! ```

use std::sync::Arc;
use std::time::Duration;

use ringway_engine::{DrainReport, Engine};
use tokio::task::{JoinError, JoinSet};

use super::Ending;
use super::enroller::Done;
use super::host::Held;
use super::node::Node;
use super::records;
use crate::telemetry::log::Log;

/// Captures that are under way when the end comes may finish, but not for longer.
const JOBS_PATIENCE: Duration = Duration::from_secs(10);

/// What the shards may take to cut what is open when the end is to come at once.
const CUT_PATIENCE: Duration = Duration::from_secs(1);

impl Node {
    /// Ends in order, or at once when it is asked for again.
    pub(super) async fn drain(mut self, who: &str, mut jobs: JoinSet<Done<Held>>) -> Ending {
        tracing::info!(
            asked_by = who,
            deadline = ?self.config.drain_deadline,
            "draining: nothing new is taken, what is open may end"
        );
        self.service_manager.stopping();
        self.readiness.start_draining();

        tokio::select! {
            finished = finish(&mut jobs) => finished.into_iter().for_each(|done| self.job_ended(done)),
            who = self.requests.stop() => return self.end_at_once(who).await,
        }

        let held = self.enroller.take_held();
        let (engine, host) = (Arc::clone(&self.engine), Arc::clone(&self.host));
        let deadline = self.config.drain_deadline;
        let dns = self.dns.clone();
        let drained = tokio::task::spawn_blocking(move || {
            for (uid, held) in &held {
                host.release(uid, held);
            }
            let report = std::thread::scope(|scope| {
                scope.spawn(|| dns.map(|dns| dns.drain(deadline)));
                engine.drain(deadline)
            });
            for (uid, held) in held {
                host.remove(&uid, held);
            }
            report
        });
        tokio::select! {
            report = drained => tell(&report.unwrap_or_default()),
            who = self.requests.stop() => return self.end_at_once(who).await,
        }
        self.servers.remove_control();
        self.servers.stop().await;
        self.write_records();
        #[cfg(feature = "waypoint")]
        if let Some(requests) = &self.requests_told {
            requests.finish().await;
        }
        tracing::info!("ended");
        Ending::Drained
    }

    pub(super) async fn end_at_once(&self, who: &str) -> Ending {
        end_at_once(&self.engine, &self.log, who).await
    }

    pub(super) fn write_records(&self) {
        write_records(&self.engine, &self.log);
    }
}

/// Waits for captures that are under way. One that takes too long takes its rules away itself when it ends.
async fn finish(jobs: &mut JoinSet<Done<Held>>) -> Vec<Result<Done<Held>, JoinError>> {
    let mut finished = Vec::new();
    let all = async {
        while let Some(done) = jobs.join_next().await {
            finished.push(done);
        }
    };
    let _ = tokio::time::timeout(JOBS_PATIENCE, all).await;
    finished
}

/// Cuts what is open, and writes what there is to say of it.
pub(super) async fn end_at_once(engine: &Arc<Engine>, log: &Log, who: &str) -> Ending {
    tracing::warn!(asked_by = who, "asked again: ending at once");
    let cutting = Arc::clone(engine);
    let cutting = tokio::task::spawn_blocking(move || cutting.drain(Duration::ZERO));
    // What was open did not end in order, and must not look as if it had.
    if let Ok(Ok(report)) = tokio::time::timeout(CUT_PATIENCE, cutting).await {
        tell(&report);
    }
    write_records(engine, log);
    Ending::Forced
}

/// Writes every record there is, unless nobody takes the lines.
pub(super) fn write_records(engine: &Engine, log: &Log) {
    loop {
        while records::write_batch(engine, log) > 0 {}
        if log.has_room() || !log.flush() {
            return;
        }
    }
}

pub(super) fn tell(report: &DrainReport) {
    let DrainReport { open, cut } = *report;
    if cut > 0 {
        tracing::warn!(open, cut, "the drain deadline passed: connections were cut");
    } else {
        tracing::info!(open, cut, "drained");
    }
}
