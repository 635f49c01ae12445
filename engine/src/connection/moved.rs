//! A live plain connection on its way from one process to another.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use super::{Carrier, Connection, Counted, Decided};
use crate::{
    relay::RelayState,
    runtime::{self, DetachedStream, TcpStream},
    shard::Shard,
    snapshot::{NamespacedHostname, Workload},
    telemetry::{Direction, Parties, Reporter, SecurityPolicy},
};

/// A live plain connection between two processes: no reactor watches it, nobody relays it.
#[derive(Debug)]
pub struct MovedConnection {
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
    /// For inbound ones: the application's port, as policies see it.
    pub application_port: Option<u16>,
    /// The uid of the workload that dialled, where it is known.
    pub source_workload: Option<String>,
    /// The uid of the workload that was dialled, where it is known.
    pub destination_workload: Option<String>,
    /// Namespace and hostname of the service the client meant.
    pub service: Option<(String, String)>,
    /// How long it has been open.
    pub age: Duration,
    /// Bytes from client to server so far.
    pub received_bytes: u64,
    /// Bytes from server to client so far.
    pub sent_bytes: u64,
    /// What the relay holds.
    pub state: RelayState,
    /// The client's socket.
    pub client: DetachedStream,
    /// The server's socket.
    pub server: DetachedStream,
}

impl MovedConnection {
    /// Which side of the connection this host tells.
    pub(crate) fn reporter(&self) -> Reporter {
        match self.direction {
            Direction::Outbound => Reporter::Source,
            Direction::Inbound => Reporter::Destination,
        }
    }
}

impl Connection {
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
        let decided = Decided { parties, destination, carrier, authority: None, trace_id: None };
        connection.decided_after(decided, moved.received_bytes, moved.sent_bytes);
        connection
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
}
