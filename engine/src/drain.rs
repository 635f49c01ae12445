//! Ends a shard in order: nothing new is accepted, what is open may end by itself, and what is left at the deadline is
//! cut. Ends one workload's connections at once.
//!
//! All shards stop accepting before one of them begins to wait: until then each may still be given a connection by
//! another.

use std::{rc::Rc, time::Duration};

use crate::{capture::Pod, close::CloseReason, limits::WITHDRAWAL_TIMEOUT, runtime, shard::Shard};

/// How a drain went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections that were open when it began.
    pub open: usize,
    /// Connections that had to be cut at the deadline.
    pub cut: usize,
}

/// How often it is looked whether what ends has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What becomes of connections that wait in the kernel to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queues {
    /// They are accepted and served here: the listeners close.
    Empty,
    /// They are for the process that has taken over the same listening sockets.
    Leave,
}

/// Stops accepting, within `deadline`.
pub(crate) async fn stop_accepting(shard: &Rc<Shard>, deadline: Duration, queues: Queues) {
    let stopping = async {
        // It waits for the kernel; should that be stuck, the deadline holds all the same.
        for pod in shard.pods() {
            pod.retire(shard, queues).await;
        }
    };
    let _in_time = runtime::timeout(deadline, stopping).await;
}

/// Waits until the shard, which accepts nothing any more, is empty, and cuts what is left at the `deadline`.
pub(crate) async fn drain(shard: &Rc<Shard>, deadline: Duration) -> DrainReport {
    let open = shard.connections.len();
    if runtime::timeout(deadline, empty(shard)).await.is_ok() {
        return DrainReport { open, cut: 0 };
    }
    let cut = shard.connections.len();
    shard.connections.cut(None, &CloseReason::Drained);
    // Cut connections reset their streams and sockets in the turns that follow, then tunnels close.
    let _ = runtime::timeout(LOOK_INTERVAL * 20, empty(shard)).await;
    DrainReport { open, cut }
}

/// Cuts the connections of a workload that was withdrawn, and waits until they are closed, on all shards.
pub(crate) async fn cut(shard: &Shard, pod: &Pod) {
    let cutting = async {
        while pod.account.open_connections() > 0 {
            // Again and again: what was accepted at the very end has only begun.
            shard.connections.cut(Some(&pod.uid), &CloseReason::Withdrawn);
            runtime::sleep(LOOK_INTERVAL).await;
        }
    };
    let _in_time = runtime::timeout(WITHDRAWAL_TIMEOUT, cutting).await;
}

async fn empty(shard: &Shard) {
    while shard.connections.len() > 0 || shard.pods().iter().any(|pod| pod.has_tunnels()) {
        runtime::sleep(LOOK_INTERVAL).await;
    }
}
