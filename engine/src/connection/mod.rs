//! One captured connection from accept to its record: who talks to whom, how much, why it ended, and
//! the handle by which it can be cut.
//!
//! ```text
//!  Deciding ──decided()──▶ Counted ──end()──▶ Ended (one record, exactly one)
//!     └────────────────end()─────────────────▶ Ended (a record marked early, no counts)
//! ```

mod entry;
mod moved;
mod record;
mod relayed;
mod socket;
mod table;

use std::{
    cell::OnceCell,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use ringway_protocols::hbone::Authority;

use self::entry::{Entry, Movement};
pub(crate) use self::{
    entry::Policed,
    relayed::{Accounted, relay_connection},
    socket::OpenSocket,
    table::{ConnectionTable, JudgedAgain},
};
pub use self::{
    entry::{Carrier, OpenConnection},
    moved::MovedConnection,
};
use crate::{
    close::CloseReason,
    decide::{self, NextHop, Refusal, Route},
    runtime,
    shard::Shard,
    snapshot::{Service, Snapshot, Workload},
    spike,
    telemetry::{ByteCounters, Direction, Parties},
};

/// See the module's drawing. One that is dropped without an end records that its task broke.
pub(crate) struct Connection {
    shard: Rc<Shard>,
    slot: usize,
    entry: Rc<Entry>,
    opened: Instant,
    counted: OnceCell<Box<Counted>>,
    ended: bool,
}

/// What is known once a connection is decided.
#[derive(Clone)]
pub(crate) struct Decided {
    /// Who talks to whom, for labels and log.
    pub(crate) parties: Parties,
    /// The address that is dialled.
    pub(crate) destination: SocketAddr,
    pub(crate) carrier: Carrier,
    /// The CONNECT authority, for HBONE.
    pub(crate) authority: Option<Authority>,
    /// What the connection is called in the logs of everybody that carries it, for HBONE.
    pub(crate) trace_id: Option<[u8; 16]>,
}

struct Counted {
    decided: Decided,
    counters: Rc<ByteCounters>,
}

impl Connection {
    /// A connection of the workload `pod` that was just accepted.
    pub(crate) fn begin(
        shard: &Rc<Shard>,
        pod: &Arc<str>,
        direction: Direction,
        source: SocketAddr,
        original_destination: SocketAddr,
    ) -> Self {
        let entry = Rc::new(Entry::new(pod.clone(), direction, source, original_destination));
        let slot = shard.connections.add(entry.clone());
        spike::grew(shard);
        Self {
            shard: shard.clone(),
            slot,
            entry,
            opened: runtime::now(),
            counted: OnceCell::new(),
            ended: false,
        }
    }

    /// Tells people which service the client called.
    pub(crate) fn called(&self, service: &Arc<Service>) {
        // It says so once, in its request.
        let _ = self.entry.called.set(service.clone());
    }

    /// Tells people where the connection is going, before it is there.
    pub(crate) fn trying(&self, route: &Route) {
        self.entry.destination.set(match &route.next_hop {
            NextHop::Direct { address } | NextHop::PassThrough { address } => {
                (*address, Carrier::Tcp)
            }
            NextHop::Tunnel { peer, .. } => (*peer, Carrier::Hbone),
            NextHop::DoubleTunnel { gateway, .. } => (*gateway, Carrier::DoubleHbone),
        });
    }

    /// Takes note of the decision: from here on the connection counts.
    pub(crate) fn decided(&self, decided: Decided) {
        let telemetry = &self.shard.telemetry;
        if self.entry.direction == Direction::Outbound {
            self.shard.resolutions.count(&decided.parties, telemetry);
        }
        telemetry.opened(|| self.opened_record(&decided));
        self.decided_after(decided, 0, 0);
    }

    /// As [`decided`](Connection::decided), after so many bytes from and to the client.
    fn decided_after(&self, decided: Decided, received_bytes: u64, sent_bytes: u64) {
        let series = self.shard.series.find(&decided.parties, "-");
        series.connection_opened();
        self.entry.destination.set((decided.destination, decided.carrier));
        let inbound = self.entry.direction == Direction::Inbound;
        let counters = ByteCounters::after(series, inbound, received_bytes, sent_bytes);
        let first = self.counted.set(Box::new(Counted { decided, counters })).is_ok();
        assert!(first, "a connection is decided once");
    }

    /// Asks the policies of `snapshot` whether the connection is let in to `local`. From here on it is judged again
    /// when they change.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn authorize(
        &self,
        snapshot: &Snapshot,
        local: &Workload,
        policed: Policed,
    ) -> Result<(), Refusal> {
        let policed = self.entry.policed.get_or_init(|| policed);
        let facts = self.entry.facts(policed);
        let verdict = decide::authorize(snapshot, local, &facts);
        let (telemetry, pod, source) = (&self.shard.telemetry, &self.entry.pod, self.entry.source);
        telemetry.dry_runs(&verdict.dry_runs, pod, source);
        telemetry.judged(&verdict.outcome, pod, source);
        verdict.outcome.map(|_allowed| ())
    }

    /// What counts this connection's bytes. The connection must be decided.
    pub(crate) fn counters(&self) -> &Rc<ByteCounters> {
        &self.counted.get().expect("bytes move only after the decision").counters
    }

    /// Who dialled.
    pub(crate) fn source(&self) -> SocketAddr {
        self.entry.source
    }

    /// From here on two sockets and the relay's state are all there is to the connection.
    pub(crate) fn set_movable(&self) {
        self.entry.movement.set(Movement::Movable);
    }

    /// Ready when the connection is to be cut, with the reason.
    pub(crate) fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.entry.poll_cut(cx)
    }

    /// Does `work`, unless the connection is cut meanwhile.
    ///
    /// # Errors
    /// The reason of the cut.
    pub(crate) async fn unless_cut<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, CloseReason> {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| match self.poll_cut(cx) {
            Poll::Ready(reason) => Poll::Ready(Err(reason)),
            Poll::Pending => work.as_mut().poll(cx).map(Ok),
        })
        .await
    }

    /// Ends the connection: its record is written.
    pub(crate) fn end(mut self, reason: CloseReason) {
        self.record(reason);
    }

    /// Ends a connection whose requests each had a record of their own.
    #[cfg(feature = "waypoint")]
    pub(crate) fn end_of_requests(mut self) {
        self.ended = true;
        self.shard.connections.remove(self.slot);
    }

    fn record(&mut self, reason: CloseReason) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.shard.connections.remove(self.slot);
        let duration = runtime::now().saturating_duration_since(self.opened);
        let record = match self.counted.take() {
            Some(counted) => {
                let Counted { decided, counters } = *counted;
                let series = self.shard.series.find(&decided.parties, reason.response_flag());
                series.connection_closed(reason.is_failure());
                self.full_record(decided, &counters, duration, reason)
            }
            None => self.early_record(duration, reason),
        };
        let pod = self.shard.pod(&self.entry.pod);
        self.shard.telemetry.record(record, pod.as_ref().map(|pod| &pod.account));
    }

    /// Whether it is to go on in another process.
    pub(crate) fn is_called_away(&self) -> bool {
        self.entry.movement.get() == Movement::CalledAway
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.record(CloseReason::Broken);
    }
}
