//! The DNS proxy: workloads ask it for names, it knows those of the mesh and asks the host's name servers for all others.
//!
//! ```text
//!   application ─ port 53 ─▶ rule ─▶ 127.0.0.1:15053 in its namespace ─▶ look_up(snapshot, client, question)
//!                                                                           │ known        │ not known
//!                                          answer ◀─────────────────────────┘              ▼
//!                                          answer ◀── the server's, as it came ◀── forward, from the same namespace
//! ```
//!
//! It has a thread of its own, beside the control thread and apart from the shards ([decision 13]): a flood of queries, or
//! name servers that are slow, cost nobody but whoever asks for names.
//!
//! **Invariant:** what an answer depends on is one snapshot. What is not answered from it comes from a server that was asked
//! this very question on a socket of its own.
//! **Invariant:** every socket is made inside the workload's namespace and carries the mark of our packets, so that no query
//! of ours is captured again. Only servers at a loopback address are asked from the host's namespace, where they are.
//!
//! [decision 13]: https://github.com/ringway/ringway/blob/main/docs/decisions/0013-dns-on-a-thread-of-its-own.md

mod bounds;
mod forward;
mod lookup;
mod metrics;
mod pod;
mod random;
mod resolv_conf;
mod resolver;
mod serve;
mod socket;
#[cfg(test)]
mod tests;
mod thread;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Duration;

use ringway_engine::runtime::NetNamespace;
use ringway_engine::snapshot::{Snapshot, Workload};
use ringway_protocols::dns::Name;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::lookup::{LookupSettings, Meaning, Search, look_up};
pub use self::metrics::{
    DURATION_BUCKETS, DnsLabels, DnsMetrics, DnsOddities, DnsTotals, Transport,
};
pub use self::random::Random;
pub use self::resolver::{Family, ResolveError, Resolved, Resolver};

use self::socket::Listening;

/// The port in every workload's namespace, unless something else is said.
pub const PORT: u16 = 15053;

/// Finds the workload that asks, in whatever is published; it may not be there yet.
pub type FindWorkload = Arc<dyn Fn(&Snapshot) -> Option<Arc<Workload>> + Send + Sync>;

/// How it runs.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// What lookups depend on.
    pub lookup: LookupSettings,
    /// The port in every workload's namespace.
    pub port: u16,
    /// Whether another process may listen on it at the same time, as a successor must.
    pub shared_ports: bool,
    /// The mark of our packets.
    pub mark: Option<u32>,
    /// Where the host's name servers are named.
    pub resolv_conf: PathBuf,
}

/// The DNS proxy of this process. When it is dropped everybody is withdrawn; its thread ends with the last [`Resolver`].
#[derive(Debug)]
pub struct Dns {
    commands: mpsc::UnboundedSender<Command>,
    snapshot: watch::Sender<Snapshot>,
    metrics: Arc<DnsMetrics>,
    config: DnsConfig,
}

/// What the thread is told. There are never more than workloads that begin or end, and names that are waited for.
enum Command {
    Enroll { key: Arc<str>, find: FindWorkload, namespace: NetNamespace, listening: Listening },
    Withdraw { key: Arc<str> },
    Resolve { name: Name, family: Family, answer: oneshot::Sender<Resolved> },
    Drain { done: std_mpsc::Sender<()> },
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Command::Enroll { .. } => "Enroll",
            Command::Withdraw { .. } => "Withdraw",
            Command::Resolve { .. } => "Resolve",
            Command::Drain { .. } => "Drain",
        })
    }
}

impl Dns {
    /// Starts the thread. Nobody's queries come to it yet.
    ///
    /// # Errors
    /// When no thread can be started, or it cannot tell in which namespace it is.
    pub fn start(config: DnsConfig, snapshot: Snapshot) -> io::Result<Dns> {
        let (commands, received) = mpsc::unbounded_channel();
        let (snapshot, seen) = watch::channel(snapshot);
        let metrics = Arc::new(DnsMetrics::default());
        thread::start(config.clone(), seen, Arc::clone(&metrics), received)?;
        Ok(Dns { commands, snapshot, metrics, config })
    }

    /// Answers from this from now on.
    pub fn publish(&self, snapshot: Snapshot) {
        // What was there before is dropped here, not on the thread that answers.
        drop(self.snapshot.send_replace(snapshot));
    }

    /// Takes the queries of a workload. When this returns, its sockets are bound: redirect rules may follow.
    ///
    /// A key that is enrolled already is withdrawn first.
    ///
    /// # Errors
    /// When the port is taken, or the namespace cannot be entered.
    pub fn enroll(
        &self,
        key: Arc<str>,
        namespace: &NetNamespace,
        find: FindWorkload,
    ) -> io::Result<()> {
        let DnsConfig { port, shared_ports, mark, ref lookup, .. } = self.config;
        let listening = socket::listen(namespace, port, shared_ports, mark, lookup.ipv6)?;
        let namespace = namespace.clone();
        self.tell(Command::Enroll { key, find, namespace, listening });
        Ok(())
    }

    /// Takes no new queries of a workload; those that have come are answered.
    pub fn withdraw(&self, key: &str) {
        self.tell(Command::Withdraw { key: key.into() });
    }

    /// Withdraws everybody, and waits until all are answered or `patience` is over. Blocks.
    pub fn drain(&self, patience: Duration) {
        let (done, drained) = std_mpsc::channel();
        self.tell(Command::Drain { done });
        let _ = drained.recv_timeout(patience);
    }

    /// Resolves host names with the host's name servers.
    pub fn resolver(&self) -> Resolver {
        Resolver::new(self.commands.clone())
    }

    /// What was counted.
    pub fn metrics(&self) -> &Arc<DnsMetrics> {
        &self.metrics
    }

    fn tell(&self, command: Command) {
        // The thread ends with us, or by a panic, which has been logged.
        let _gone = self.commands.send(command);
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.tell(Command::Drain { done: std_mpsc::channel().0 });
    }
}
