//! The engine's part in a hand-over: listening sockets and live plain connections that go to another process, or come
//! from one.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::Engine;
use crate::{
    capture::EnrollError,
    connection::MovedConnection,
    handover::{ListeningWorkload, Way},
    runtime,
    shard::Command,
};

impl Engine {
    /// Further descriptors of every listening socket, with the workload it belongs to, for another
    /// process. This one goes on accepting.
    ///
    /// # Errors
    /// When descriptors are short.
    pub fn listening(&self) -> io::Result<Vec<ListeningWorkload>> {
        let mut workloads: BTreeMap<Arc<str>, ListeningWorkload> = BTreeMap::new();
        for of_shard in self.ask(|answer| Command::Listening { answer }) {
            for workload in of_shard? {
                match workloads.get_mut(&workload.uid) {
                    Some(known) => known.sockets.extend(workload.sockets),
                    None => drop(workloads.insert(workload.uid.clone(), workload)),
                }
            }
        }
        Ok(workloads.into_values().collect())
    }

    /// Takes over a workload's listening sockets from another process, spread over the shards. Nothing is
    /// accepted from them before [`begin_accepting`](Engine::begin_accepting).
    ///
    /// # Errors
    /// When one of them is not what this engine would listen on; then nothing is taken.
    pub fn take_listeners(&self, workload: ListeningWorkload) -> Result<(), EnrollError> {
        let ListeningWorkload { uid, namespace, sockets } = workload;
        let mut all_transparent = true;
        for (way, socket) in &sockets {
            let address = self.common.config.listen_address(*way);
            let refuse = |error| EnrollError { port: address.port(), error };
            all_transparent &=
                runtime::check_listener(socket, &namespace, address).map_err(refuse)?;
        }
        let shards = self.shards();
        let mut shares: Vec<Vec<(Way, OwnedFd)>> = (0..shards).map(|_| Vec::new()).collect();
        let mut dealt = [0; Way::ALL.len()];
        for (way, socket) in sockets {
            shares[dealt[way as usize] % shards].push((way, socket));
            dealt[way as usize] += 1;
        }
        let mut shares = shares.into_iter();
        self.ask(|answer| Command::TakeListeners {
            uid: uid.clone(),
            namespace: namespace.clone(),
            all_transparent,
            sockets: shares.next().unwrap_or_default(),
            answer,
        });
        self.note_enrolled(uid);
        Ok(())
    }

    /// Accepts from all listeners that were taken over, and binds those a shard has none of.
    ///
    /// # Errors
    /// The first that could not be bound; all others are served.
    pub fn begin_accepting(&self) -> Result<(), EnrollError> {
        let outcomes = self.ask(|answer| Command::BeginAccepting { answer });
        outcomes.into_iter().fold(Ok(()), Result::and)
    }

    /// Gives up live plain connections of these workloads, at most `most` of each shard, for another
    /// process. None is left when the answer is empty; others may come up later.
    pub fn call_away(
        &self,
        workloads: &Arc<BTreeSet<Arc<str>>>,
        most: usize,
    ) -> Vec<MovedConnection> {
        let moved =
            self.ask(|answer| Command::CallAway { workloads: workloads.clone(), most, answer });
        moved.into_iter().flatten().collect()
    }

    /// Goes on with a connection of another process, on the next shard in turn.
    pub fn resume(&self, moved: MovedConnection) {
        let shard = self.next_shard.fetch_add(1, Relaxed) % self.shards();
        self.tell(shard, Command::Resume { moved: Box::new(moved) });
    }
}
