//! Ends a shard in order: nothing new is accepted, what is open may end by itself, and what is left at
//! the deadline is cut.

use std::{rc::Rc, time::Duration};

use crate::{close::CloseReason, runtime, shard::Shard};

/// How a drain went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections that were open when it began.
    pub open: usize,
    /// Connections that had to be cut at the deadline.
    pub cut: usize,
}

/// How often an ending shard looks whether it is empty.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What becomes of connections that wait in the kernel to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queues {
    /// They are accepted and served here: the listeners close.
    Empty,
    /// They are for the process that has taken over the same listening sockets.
    Leave,
}

/// Drains the shard within `deadline`.
pub(crate) async fn drain(shard: &Rc<Shard>, deadline: Duration, queues: Queues) -> DrainReport {
    let open = shard.connections.len();
    let ending = async {
        for pod in shard.pods() {
            match queues {
                Queues::Empty => pod.stop(shard),
                // It waits for the kernel; should that be stuck, the deadline holds all the same.
                Queues::Leave => pod.leave(shard).await,
            }
        }
        empty(shard).await;
    };
    if runtime::timeout(deadline, ending).await.is_ok() {
        return DrainReport { open, cut: 0 };
    }
    let cut = shard.connections.len();
    shard.connections.cut(None, &CloseReason::Drained);
    // Cut connections reset their streams and sockets in the turns that follow, then tunnels close.
    let _ = runtime::timeout(LOOK_INTERVAL * 20, empty(shard)).await;
    DrainReport { open, cut }
}

async fn empty(shard: &Shard) {
    while shard.connections.len() > 0 || shard.pods().iter().any(|pod| pod.has_tunnels()) {
        runtime::sleep(LOOK_INTERVAL).await;
    }
}
