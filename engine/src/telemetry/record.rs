//! The record of one connection, written when it ends.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ringway_protocols::{
    hbone::{Authority, Baggage},
    identity::Identity,
};

use crate::{
    close::CloseReason,
    snapshot::{Service, Workload},
};

/// Which way a connection went, seen from the workload on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The workload on this host was the client.
    Outbound,
    /// The workload on this host was the server.
    Inbound,
}

/// One end of a connection, as far as it is known.
#[derive(Clone, Debug)]
pub struct RecordParty {
    /// Its address. For an outbound destination: the address that was dialled.
    pub address: SocketAddr,
    /// The workload behind it.
    pub workload: Option<Arc<Workload>>,
    /// The identity it proved; only for mutual TLS.
    pub identity: Option<Identity>,
    /// What its own host says of it, where we know nobody, or only what stands before it: a network's gateway.
    pub claims: Option<Arc<Baggage>>,
}

/// Everything that is told about one connection.
#[derive(Debug)]
pub struct AccessRecord {
    /// When it was accepted.
    pub opened_at: SystemTime,
    /// How long it lived.
    pub duration: Duration,
    /// Which way it went.
    pub direction: Direction,
    /// It ended before it was known who talks to whom: there are no counts for it.
    pub early: bool,
    /// Who dialled.
    pub source: RecordParty,
    /// Who was dialled.
    pub destination: RecordParty,
    /// The service the client meant.
    pub service: Option<Arc<Service>>,
    /// The CONNECT authority; only for HBONE.
    pub hbone_authority: Option<Authority>,
    /// The trace of its CONNECT request, which everybody that carries the connection logs; only for HBONE.
    pub trace_id: Option<[u8; 16]>,
    /// Whether it was carried over mutual TLS.
    pub mutual_tls: bool,
    /// Bytes from client to server.
    pub received_bytes: u64,
    /// Bytes from server to client.
    pub sent_bytes: u64,
    /// Why it ended.
    pub reason: CloseReason,
}
