//! Live work that changes its process: listening sockets, and plain connections with what their relays
//! hold.
//!
//! ```text
//!   this process                                        the next one
//!   listening sockets ── duplicates ──────────────────▶ taken, not accepted from
//!   accepts … leaves the queues alone                   accepts from the same queues
//!   plain connections ── called away, both sockets ───▶ resumed: same bytes, one record
//!   tunnels: GOAWAY, end with their streams
//! ```
//!
//! A listening socket is never bound anew and never closed: while one process holds it, no connection
//! that waits in its queue is lost.

use std::{collections::BTreeSet, fmt, os::fd::OwnedFd, rc::Rc, sync::Arc};

use crate::{
    close::CloseReason,
    connection::{Accounted, Connection, MovedConnection, OpenSocket, Policed},
    parting::Parting,
    relay::{RelayState, Relayed, resume_plain},
    runtime::{self, NetNamespace, TcpStream},
    shard::Shard,
    telemetry::Direction,
};

/// What a captured connection came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// What the workload opens.
    Outbound,
    /// Plaintext that comes in for it.
    InboundPlaintext,
    /// Tunnels of peers.
    Hbone,
    /// What the workload asks for by SOCKS5.
    Socks5,
}

impl Way {
    /// All there are.
    pub const ALL: [Way; 4] = [Way::Outbound, Way::InboundPlaintext, Way::Hbone, Way::Socks5];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Outbound => "outbound",
            Way::InboundPlaintext => "inbound-plaintext",
            Way::Hbone => "hbone",
            Way::Socks5 => "socks5",
        })
    }
}

/// The listening sockets of one workload, of all shards.
#[derive(Debug)]
pub struct ListeningWorkload {
    /// Whose they are.
    pub uid: Arc<str>,
    /// The namespace they are in.
    pub namespace: NetNamespace,
    /// Each with what comes by it.
    pub sockets: Vec<(Way, OwnedFd)>,
}

/// Gives up a connection that was called away: its record is for whoever goes on with it.
pub(crate) fn give_up(
    shard: &Shard,
    connection: Connection,
    client: TcpStream,
    server: TcpStream,
    state: RelayState,
) {
    shard.moved.borrow_mut().push(connection.move_out(client, server, state));
}

/// Goes on with a connection of another process, in its workload's turns. It is open from this moment on: a drain that
/// begins now waits for it.
pub(crate) fn go_on(shard: &Rc<Shard>, moved: Box<MovedConnection>) {
    let pod = shard.pod(&moved.workload);
    let connection = Connection::resume(shard, &moved);
    let resuming = resume(shard.clone(), connection, moved);
    match pod {
        Some(pod) => pod.spawn(resuming),
        None => runtime::spawn_for_shard(resuming),
    };
}

async fn resume(shard: Rc<Shard>, connection: Connection, moved: Box<MovedConnection>) {
    let _open = OpenSocket::new(&shard, moved.reporter());
    let account = shard.accounts.of(&moved.workload);
    if let Some(pod) = shard.pod(&moved.workload) {
        // A policy that is on its way lets it go on, as it did where it came from.
        shard.policies(&pod.workload).await;
    }
    let allowed = may_go_on(&shard, &moved, &connection);
    let MovedConnection { client, server, state, .. } = *moved;
    let (client, server) = (client.attach(), server.attach());
    if let Err(reason) = allowed {
        client.reset_on_close();
        server.reset_on_close();
        return connection.end(reason);
    }
    connection.set_movable();
    let observer = Accounted::new(&connection, &account);
    let _admitted = account.admit_moved_connection();
    match resume_plain(&client, &server, &shard.pipes, state, observer).await {
        Relayed::Ended(reason) => {
            if matches!(reason, CloseReason::PolicyChanged(_)) {
                Parting::abort_both(&shard, [client, server]);
            }
            connection.end(reason);
        }
        Relayed::CalledAway(state) => give_up(&shard, connection, client, server, state),
    }
}

/// This process may know a newer configuration than the one before.
fn may_go_on(
    shard: &Rc<Shard>,
    moved: &MovedConnection,
    connection: &Connection,
) -> Result<(), CloseReason> {
    // Withdrawn while the connection was on its way.
    let pod = shard.pod(&moved.workload).ok_or(CloseReason::Withdrawn)?;
    let port = match (moved.direction, moved.application_port) {
        (Direction::Outbound, _) => return Ok(()),
        (Direction::Inbound, Some(port)) => port,
        // Nobody can be asked about it, so it does not go on.
        (Direction::Inbound, None) => return Err(CloseReason::Broken),
    };
    let snapshot = shard.snapshot_to_decide();
    let local = snapshot
        .workload_of(&pod.workload)
        .ok_or_else(|| CloseReason::UnknownWorkload(pod.workload.to_string()))?;
    let policed = Policed { identity: None, port };
    connection.authorize(&snapshot, local, policed).map_err(CloseReason::Refused)
}

/// Calls away at most `most` of the live plain connections of these workloads. The answer comes when
/// none of the called is relayed here any more.
pub(crate) async fn call_away(
    shard: &Rc<Shard>,
    workloads: &BTreeSet<Arc<str>>,
    most: usize,
) -> Vec<MovedConnection> {
    let called = shard.connections.call_away(workloads, most);
    // Each has been woken, and leaves in its next visit: moved, or ended by itself.
    while called.iter().any(|entry| Rc::strong_count(entry) > 1) {
        runtime::yield_now().await;
    }
    shard.moved.take()
}
