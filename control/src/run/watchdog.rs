//! Watches the shards: one whose turn does not end serves nobody, and that is told with what it does.
//!
//! ```text
//!   every second: which shards have been in one turn for longer than SHARD_TURN_MAX?
//!      newly ─▶ a profile of a moment ─▶ an error with the stacks that were seen most often
//!      still ─▶ the service manager hears no sign of life, and starts the process anew
//! ```
//!
//! A shard cannot be ended from outside: what it holds is its own. So the process as a whole is the service manager's to
//! end, by its watchdog, and where there is none, an operator's, who has read the error.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ringway_engine::Engine;
use ringway_engine::limits::SHARD_TURN_MAX;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::profile::{INTERVAL, Profile, Recording};

/// How often the shards are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a shard that is stuck is looked at closely.
const RECORDED: Duration = Duration::from_millis(500);

/// So many of a shard's stacks are told.
const STACKS_TOLD: usize = 3;

/// Watches until the task is dropped.
pub(super) async fn watch(engine: Arc<Engine>) {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = BTreeSet::new();
    loop {
        ticks.tick().await;
        let stuck = engine.stuck(SHARD_TURN_MAX);
        known.retain(|shard| stuck.iter().any(|(other, _)| other == shard));
        let fresh: Vec<_> = stuck.into_iter().filter(|(shard, _)| known.insert(*shard)).collect();
        if fresh.is_empty() {
            continue;
        }
        let folded = record().await;
        for (shard, lasts) in fresh {
            let stacks = stacks_of(&folded, shard).join(" | ");
            tracing::error!(
                shard,
                seconds = lasts.as_secs(),
                stacks,
                "a shard is stuck: it serves nobody, and the service manager gets no sign of life. Please report this"
            );
        }
    }
}

/// What all threads do in a moment; nothing while somebody else records.
async fn record() -> String {
    let Ok(recording) = Recording::start(INTERVAL) else { return String::new() };
    sleep(RECORDED).await;
    let resolved =
        tokio::task::spawn_blocking(move || Profile::resolve(&recording.finish()).folded());
    resolved.await.unwrap_or_default()
}

/// The stacks that were seen most often of a shard, the innermost function first. A thread that uses no processor is
/// inside the kernel.
fn stacks_of(folded: &str, shard: usize) -> Vec<String> {
    let thread = format!("shard-{shard};");
    let mut stacks: Vec<(u64, &str)> = folded
        .lines()
        .filter_map(|line| line.strip_prefix(&thread)?.rsplit_once(' '))
        .filter_map(|(stack, count)| Some((count.parse().ok()?, stack)))
        .collect();
    stacks.sort_by(|one, other| other.cmp(one));
    if stacks.is_empty() {
        return vec!["no sample: it is inside a system call".to_owned()];
    }
    let innermost_first = |stack: &str| stack.split(';').rev().collect::<Vec<_>>().join(" < ");
    let told = stacks.iter().take(STACKS_TOLD);
    told.map(|(count, stack)| format!("{count} times {}", innermost_first(stack))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stacks_of_the_shard_are_told_most_frequent_first() {
        let folded = "shard-1;main;poll;spin 40\nshard-1;main;poll 2\nshard-11;main;other 90\nshard-1;main;wait 50\n\
                      shard-1;x 1\ncontrol;main 7\n";
        assert_eq!(
            stacks_of(folded, 1),
            ["50 times wait < main", "40 times spin < poll < main", "2 times poll < main"]
        );
        assert_eq!(stacks_of(folded, 0), ["no sample: it is inside a system call"]);
        assert_eq!(stacks_of("", 0).len(), 1);
    }
}
