//! One captured connection from accept to its record: who talks to whom, how much, why it ended, and
//! the handle by which it can be cut.
//!
//! ```text
//!  Deciding ──decided()──▶ Counted ──end()──▶ Ended (one record, exactly one)
//!     └────────────────end()─────────────────▶ Ended (a record marked early, no counts)
//! ```

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::BTreeSet,
    net::SocketAddr,
    ops::Range,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Instant, SystemTime},
};

use ringway_protocols::{hbone::Authority, identity::Identity};
use slab::Slab;

use crate::{
    close::CloseReason,
    decide::{self, Facts, NextHop, Refusal, Route},
    handover::MovedConnection,
    relay::RelayState,
    runtime::{self, TcpStream},
    shard::Shard,
    snapshot::{NamespacedHostname, Snapshot, Workload},
    spike,
    telemetry::{
        AccessRecord, ByteCounters, Direction, Parties, RecordParty, Reporter, SecurityPolicy,
    },
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

/// What the shard's table knows of a connection.
pub(crate) struct Entry {
    pod: Arc<str>,
    direction: Direction,
    source: SocketAddr,
    original_destination: SocketAddr,
    destination: Cell<(SocketAddr, Carrier)>,
    movement: Cell<Movement>,
    policed: OnceCell<Policed>,
    /// Boxed, like whatever most connections never have.
    cut: RefCell<Option<Box<CloseReason>>>,
    waker: RefCell<Option<Waker>>,
    #[cfg(feature = "sim")]
    _alive: crate::alive::Alive,
}

/// Whether a connection can go to another process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Movement {
    /// Not, or not yet: its bytes pass through more than two sockets.
    Stays,
    /// Two sockets, and what its relay holds.
    Movable,
    /// On its next visit.
    CalledAway,
}

/// What carries a connection between the two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Plain TCP.
    Tcp,
    /// A stream in a tunnel.
    Hbone,
    /// A stream in a tunnel that runs in a stream of another, through a network's gateway.
    DoubleHbone,
}

impl Carrier {
    /// As `config_dump` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Hbone => "HBONE",
            Self::DoubleHbone => "DOUBLEHBONE",
        }
    }
}

/// What is known once a connection is decided.
pub(crate) struct Decided {
    /// Who talks to whom, for labels and log.
    pub(crate) parties: Parties,
    /// The address that is dialled.
    pub(crate) destination: SocketAddr,
    pub(crate) carrier: Carrier,
    /// The CONNECT authority, for HBONE.
    pub(crate) authority: Option<Authority>,
}

/// What policies are asked about a connection, besides its addresses. Only of inbound ones.
pub(crate) struct Policed {
    /// What the client proved; shared by all connections of its tunnel.
    pub(crate) identity: Option<Rc<Identity>>,
    /// The port of the application, as policies see it.
    pub(crate) port: u16,
}

const _: () = assert!(size_of::<OnceCell<Policed>>() <= 24, "every connection carries it");

struct Counted {
    decided: Decided,
    counters: Rc<ByteCounters>,
}

/// One open connection, as it is told to people.
#[derive(Clone, Debug)]
pub struct OpenConnection {
    /// The workload on this host.
    pub workload: Arc<str>,
    /// Which way it goes.
    pub direction: Direction,
    /// Who dialled.
    pub source: SocketAddr,
    /// What the client dialled.
    pub original_destination: SocketAddr,
    /// What Ringway dialled.
    pub destination: SocketAddr,
    /// What carries it.
    pub carrier: Carrier,
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
        let entry = Rc::new(Entry {
            pod: pod.clone(),
            direction,
            source,
            original_destination,
            destination: Cell::new((original_destination, Carrier::Tcp)),
            movement: Cell::new(Movement::Stays),
            policed: OnceCell::new(),
            cut: RefCell::default(),
            waker: RefCell::default(),
            #[cfg(feature = "sim")]
            _alive: crate::alive::Alive::new("connection"),
        });
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

    /// A connection that another process accepted, decided and relayed until now. What it knew of the
    /// parties is looked up in this process's snapshot.
    pub(crate) fn resume(shard: &Rc<Shard>, moved: &MovedConnection) -> Self {
        let (source, original) = (moved.source, moved.original_destination);
        let mut connection = Self::begin(shard, &moved.workload, moved.direction, source, original);
        connection.opened = connection.opened.checked_sub(moved.age).unwrap_or(connection.opened);
        let snapshot = shard.snapshot();
        let workload = |uid: &Option<String>| snapshot.workload_by_uid(uid.as_deref()?).cloned();
        let service = moved.service.as_ref().and_then(|(namespace, hostname)| {
            snapshot.service(&NamespacedHostname::new(&**namespace, &**hostname)).cloned()
        });
        let parties = Parties {
            reporter: moved.reporter(),
            security_policy: SecurityPolicy::Unknown,
            source: workload(&moved.source_workload),
            source_identity: None,
            destination: workload(&moved.destination_workload),
            destination_identity: None,
            service,
            baggage: None,
            far_end: None,
        };
        let (destination, carrier) = (moved.destination, Carrier::Tcp);
        let decided = Decided { parties, destination, carrier, authority: None };
        connection.decided_after(decided, moved.received_bytes, moved.sent_bytes);
        connection
    }

    /// Takes note of the decision: from here on the connection counts.
    pub(crate) fn decided(&self, decided: Decided) {
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
        self.shard.telemetry.dry_runs(&verdict.dry_runs, &self.entry.pod, self.entry.source);
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

    /// Gives the connection up, with everything somebody else needs to go on: no record is written
    /// here.
    pub(crate) fn move_out(
        mut self,
        client: TcpStream,
        server: TcpStream,
        state: RelayState,
    ) -> MovedConnection {
        self.ended = true;
        self.shard.connections.remove(self.slot);
        let counted = self.counted.take().expect("bytes move only after the decision");
        let Counted { decided: Decided { parties, destination, .. }, counters } = *counted;
        let uid = |workload: &Arc<Workload>| workload.uid().to_owned();
        MovedConnection {
            workload: self.entry.pod.clone(),
            direction: self.entry.direction,
            source: self.entry.source,
            original_destination: self.entry.original_destination,
            destination,
            application_port: self.entry.policed.get().map(|policed| policed.port),
            source_workload: parties.source.as_ref().map(uid),
            destination_workload: parties.destination.as_ref().map(uid),
            service: parties
                .service
                .map(|service| (service.namespace().to_owned(), service.hostname().to_owned())),
            age: runtime::now().saturating_duration_since(self.opened),
            received_bytes: counters.received(),
            sent_bytes: counters.sent(),
            state,
            client: client.detach(),
            server: server.detach(),
        }
    }

    /// Ready when the connection is to be cut, with the reason.
    pub(crate) fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        if let Some(reason) = self.entry.cut.borrow().as_deref() {
            return Poll::Ready(reason.clone());
        }
        let mut waker = self.entry.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
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
        self.shard.telemetry.record(record);
    }

    fn full_record(
        &self,
        decided: Decided,
        counters: &ByteCounters,
        duration: std::time::Duration,
        reason: CloseReason,
    ) -> AccessRecord {
        let Decided { parties, destination, authority, .. } = decided;
        let mutual_tls = parties.security_policy == SecurityPolicy::MutualTls;
        AccessRecord {
            opened_at: SystemTime::now() - duration,
            duration,
            direction: self.entry.direction,
            early: false,
            source: RecordParty {
                address: self.entry.source,
                claims: parties.baggage.filter(|_| parties.source.is_none()),
                workload: parties.source,
                identity: parties.source_identity,
            },
            destination: RecordParty {
                address: destination,
                workload: parties.destination,
                identity: parties.destination_identity,
                claims: parties.far_end.and_then(|far_end| far_end.baggage),
            },
            service: parties.service,
            hbone_authority: authority,
            mutual_tls,
            received_bytes: counters.received(),
            sent_bytes: counters.sent(),
            reason,
        }
    }

    fn early_record(&self, duration: std::time::Duration, reason: CloseReason) -> AccessRecord {
        let party = |address| RecordParty { address, workload: None, identity: None, claims: None };
        AccessRecord {
            opened_at: SystemTime::now() - duration,
            duration,
            direction: self.entry.direction,
            early: true,
            source: party(self.entry.source),
            destination: party(self.entry.original_destination),
            service: None,
            hbone_authority: None,
            mutual_tls: false,
            received_bytes: 0,
            sent_bytes: 0,
            reason,
        }
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

impl Entry {
    fn cut(&self, reason: CloseReason) {
        self.cut.borrow_mut().get_or_insert_with(|| Box::new(reason));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn facts<'a>(&self, policed: &'a Policed) -> Facts<'a> {
        // What is dialled for the application is at the address that the client reached.
        let destination = SocketAddr::new(self.original_destination.ip(), policed.port);
        Facts::new(self.source.ip(), destination, policed.identity.as_deref())
    }

    fn call_away(&self) {
        self.movement.set(Movement::CalledAway);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn describe(&self) -> OpenConnection {
        let (destination, carrier) = self.destination.get();
        OpenConnection {
            workload: self.pod.clone(),
            direction: self.direction,
            source: self.source,
            original_destination: self.original_destination,
            destination,
            carrier,
        }
    }
}

/// The open connections of one shard.
#[derive(Default)]
pub(crate) struct ConnectionTable {
    entries: RefCell<Slab<Rc<Entry>>>,
}

impl ConnectionTable {
    fn add(&self, entry: Rc<Entry>) -> usize {
        self.entries.borrow_mut().insert(entry)
    }

    fn remove(&self, slot: usize) {
        self.entries.borrow_mut().remove(slot);
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// Cuts every connection, or those of one workload.
    pub(crate) fn cut(&self, pod: Option<&str>, reason: &CloseReason) {
        for (_, entry) in self.entries.borrow().iter() {
            if pod.is_none_or(|pod| *pod == *entry.pod) {
                entry.cut(reason.clone());
            }
        }
    }

    /// Asks `judge` about the inbound connections in `slots` and cuts those for which it has a reason. False when there
    /// are no slots behind these.
    pub(crate) fn judge_again(
        &self,
        slots: Range<usize>,
        judge: impl Fn(&JudgedAgain<'_>) -> Option<CloseReason>,
    ) -> bool {
        let entries = self.entries.borrow();
        for entry in slots.clone().filter_map(|slot| entries.get(slot)) {
            let Some(policed) = entry.policed.get() else { continue };
            if let Some(reason) = judge(&JudgedAgain { entry, policed }) {
                entry.cut(reason);
            }
        }
        slots.end < entries.capacity()
    }

    /// Calls away at most `most` connections of these workloads that can go.
    pub(crate) fn call_away(&self, workloads: &BTreeSet<Arc<str>>, most: usize) -> Vec<Rc<Entry>> {
        let entries = self.entries.borrow();
        let movable = entries.iter().map(|(_, entry)| entry).filter(|entry| {
            entry.movement.get() == Movement::Movable && workloads.contains(&entry.pod)
        });
        let called: Vec<_> = movable.take(most).cloned().collect();
        called.iter().for_each(|entry| entry.call_away());
        called
    }

    /// Describes every open connection.
    pub(crate) fn describe(&self) -> Vec<OpenConnection> {
        self.entries.borrow().iter().map(|(_, entry)| entry.describe()).collect()
    }
}

/// An open inbound connection, to be judged again.
pub(crate) struct JudgedAgain<'a> {
    entry: &'a Entry,
    policed: &'a Policed,
}

impl JudgedAgain<'_> {
    /// The workload that was connected to.
    pub(crate) fn pod(&self) -> &Arc<str> {
        &self.entry.pod
    }

    /// Whether it would be let in.
    pub(crate) fn authorize(&self, snapshot: &Snapshot, local: &Workload) -> Result<(), Refusal> {
        let facts = self.entry.facts(self.policed);
        // What policies on dry run would have done was told when the connection was opened.
        decide::authorize(snapshot, local, &facts).outcome.map(|_allowed| ())
    }
}

/// Counts an accepted socket as open for as long as it lives.
pub(crate) struct OpenSocket {
    telemetry: Arc<crate::telemetry::Telemetry>,
    reporter: Reporter,
}

impl OpenSocket {
    /// Counts one more.
    pub(crate) fn new(shard: &Shard, reporter: Reporter) -> Self {
        shard.telemetry.socket_opened(reporter);
        Self { telemetry: shard.telemetry.clone(), reporter }
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.telemetry.socket_closed(self.reporter);
    }
}
