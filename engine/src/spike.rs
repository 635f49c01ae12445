//! Gives the memory of a spike back.
//!
//! An allocator gives freed pages back when it is called, and a shard whose connections have gone hardly calls it. So
//! a shard that had many connections looks once in a while, and when most of them have gone it has the allocator
//! collect ([`EngineConfig::collect`](crate::EngineConfig::collect)).
//!
//! A page in which a single thing lives is not given back, and the tunnels of a spike lie scattered among what its connections
//! had. So when it is over and stays over, those that are not needed end, and it is collected once more.

use std::{cell::Cell, rc::Rc};

use crate::{
    limits::{SPIKE_CONNECTIONS_MIN, SPIKE_LOOK_INTERVAL, SPIKE_REST},
    runtime,
    shard::Shard,
};

/// What one shard knows of its last spike.
#[derive(Default)]
pub(crate) struct Spike {
    /// The most connections since memory was given back.
    most: Cell<usize>,
    is_watched: Cell<bool>,
}

impl Spike {
    /// Takes note of so many open connections. True for the one who is to [`watch`].
    fn grew(&self, connections: usize) -> bool {
        self.most.set(self.most.get().max(connections));
        connections >= SPIKE_CONNECTIONS_MIN && !self.is_watched.replace(true)
    }

    /// Whether most of the spike has gone; what is left then is what the next one is measured by.
    fn is_over(&self, connections: usize) -> bool {
        let is_over = connections <= self.most.get() / 2;
        if is_over {
            self.most.set(connections);
        }
        is_over
    }
}

/// A connection was opened.
pub(crate) fn grew(shard: &Rc<Shard>) {
    if shard.spike.grew(shard.connections.len()) {
        runtime::spawn_for_shard(watch(shard.clone()));
    }
}

/// Looks once in a while, for as long as there is anything to give back.
async fn watch(shard: Rc<Shard>) {
    let is_spike = || shard.spike.most.get() >= SPIKE_CONNECTIONS_MIN;
    loop {
        while is_spike() {
            runtime::sleep(SPIKE_LOOK_INTERVAL).await;
            if shard.spike.is_over(shard.connections.len()) {
                collect(&shard);
            }
        }
        runtime::sleep(SPIKE_REST).await;
        if is_spike() {
            continue;
        }
        shard.pods().iter().for_each(|pod| pod.pool.end_surplus());
        // So that the other host has ended those that lead here.
        runtime::sleep(SPIKE_REST).await;
        if !is_spike() {
            break;
        }
    }
    collect(&shard);
    shard.spike.is_watched.set(false);
}

fn collect(shard: &Shard) {
    if let Some(collect) = shard.config.collect {
        collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_watched_once_and_over_when_half_of_it_has_gone() {
        let spike = Spike::default();
        assert!(!spike.grew(SPIKE_CONNECTIONS_MIN - 1), "few are no spike");
        assert!(spike.grew(SPIKE_CONNECTIONS_MIN));
        assert!(!spike.grew(10 * SPIKE_CONNECTIONS_MIN), "somebody watches");
        assert!(!spike.is_over(6 * SPIKE_CONNECTIONS_MIN));
        assert!(spike.is_over(5 * SPIKE_CONNECTIONS_MIN));
        assert!(!spike.is_over(4 * SPIKE_CONNECTIONS_MIN), "measured by what was left");
        assert!(spike.is_over(0));
        assert_eq!(spike.most.get(), 0, "and then nobody needs to look");
    }
}
