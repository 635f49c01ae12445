//! Gives back what a change of the world has left behind.
//!
//! A snapshot that is replaced is freed by the next publication, once every shard has left it. After the last of many changes
//! there is none for long, and that one would keep all that was replaced.

use std::sync::Arc;
use std::time::Duration;

use ringway_engine::Engine;
use tokio::time::{MissedTickBehavior, interval};

/// How often there is a look. Shards leave a snapshot within a turn.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Does so until the task is dropped.
pub(super) async fn give_back(engine: Arc<Engine>) {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if engine.free_left_snapshots() > 0
            && let Some(collect) = engine.config().collect
        {
            collect();
        }
    }
}
