//! What a connection is to the relay that moves its bytes: it counts them, says whether it is cut, and has what is
//! held counted for its workload.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use super::Connection;
use crate::{
    accounts::{Account, HeldBytes},
    capture::Pod,
    close::CloseReason,
    limits::SCARCE_VISIT_BYTES_MAX,
    parting::Parting,
    relay::{Observer, RelayState, Relayed, Watching, resume_plain},
    runtime::{self, TcpStream},
    shard::Shard,
};

/// Relays a decided connection between two plain sockets until it ends or is called away.
pub(crate) fn relay_connection<'a>(
    shard: &'a Shard,
    pod: &Pod,
    connection: &'a Connection,
    client: &'a TcpStream,
    server: &'a TcpStream,
) -> impl Future<Output = Relayed> + use<'a> {
    connection.set_movable();
    let observer = Accounted::new(connection, &pod.account);
    resume_plain(client, server, &shard.pipes, RelayState::default(), observer)
}

impl Watching for Connection {
    fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.poll_cut(cx)
    }

    fn sent(&self, bytes: usize) {
        self.counters().sent_into_tunnel(bytes);
    }

    /// In its turn, when many connections are cut at once.
    fn abort(&self, application: &Rc<TcpStream>, reason: &CloseReason) {
        match reason {
            CloseReason::PolicyChanged(_) => Parting::abort(&self.shard, application.clone()),
            _ => application.reset_on_close(),
        }
    }
}

/// A plain connection whose held bytes count for its workload.
pub(crate) struct Accounted<'a> {
    connection: &'a Connection,
    held: RefCell<HeldBytes>,
}

impl<'a> Accounted<'a> {
    pub(crate) fn new(connection: &'a Connection, account: &Arc<Account>) -> Self {
        Self { connection, held: RefCell::new(HeldBytes::none(account)) }
    }
}

impl Observer for Accounted<'_> {
    fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.connection.poll_cut(cx)
    }

    fn client_to_server(&self, bytes: usize) {
        self.connection.counters().client_to_server(bytes);
    }

    fn server_to_client(&self, bytes: usize) {
        self.connection.counters().server_to_client(bytes);
    }

    fn is_called_away(&self) -> bool {
        self.connection.is_called_away()
    }

    fn holds(&self, bytes: usize) {
        self.held.borrow_mut().set(bytes);
    }

    /// A destination that takes nothing makes us hold what was read last.
    fn visit_bytes_max(&self) -> usize {
        match self.held.borrow().account().scarce() {
            Some(_) => SCARCE_VISIT_BYTES_MAX,
            None => runtime::visit_bytes_max(),
        }
    }
}
