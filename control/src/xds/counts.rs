//! What a client counts, for the metrics `istio_xds_*` and for whoever wonders what the control plane says.

use std::sync::atomic::{AtomicU64, Ordering};

use super::end::{End, Termination};
use super::session::Finished;
use super::state::Kind;

/// Counters of a client, shared with whoever shows them.
#[derive(Debug, Default)]
pub struct Counts {
    terminations: [AtomicU64; Termination::ALL.len()],
    messages: [AtomicU64; Kind::ALL.len() + 1],
    message_bytes: [AtomicU64; Kind::ALL.len() + 1],
    refused: AtomicU64,
    degraded: AtomicU64,
}

impl Counts {
    /// Streams that ended so.
    pub fn terminations(&self, reason: Termination) -> u64 {
        self.terminations[reason as usize].load(Ordering::Relaxed)
    }

    /// Responses by type, for `istio_xds_message_total` and `istio_xds_message_bytes_total`: URL, messages, bytes of their
    /// resources. What is of no type we know stands under `unknown`.
    pub fn messages(&self) -> impl Iterator<Item = (&'static str, u64, u64)> + '_ {
        let urls = Kind::ALL.map(Kind::type_url).into_iter().chain(["unknown"]);
        let all = urls.zip(&self.messages).zip(&self.message_bytes);
        let all = all.map(|((url, messages), bytes)| {
            (url, messages.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed))
        });
        // What only other roles are told.
        all.enumerate()
            .filter(|(place, (_, messages, _))| {
                *messages > 0 || *place < Kind::OF_NODE.len() || *place == Kind::ALL.len()
            })
            .map(|(_, told)| told)
    }

    /// Resources that were refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Workloads that speak the tunnel protocol that came before HBONE and are treated as plain ones; each time one is
    /// told.
    pub fn degraded(&self) -> u64 {
        self.degraded.load(Ordering::Relaxed)
    }

    pub(super) fn ended(&self, end: &End) {
        self.terminations[end.termination() as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn finished(&self, finished: &Finished) {
        let place = finished.kind.map_or(Kind::ALL.len(), |kind| kind as usize);
        self.messages[place].fetch_add(1, Ordering::Relaxed);
        self.message_bytes[place].fetch_add(finished.bytes, Ordering::Relaxed);
        self.refused.fetch_add(finished.refused.count() as u64, Ordering::Relaxed);
        self.degraded.fetch_add(finished.degraded, Ordering::Relaxed);
    }
}
