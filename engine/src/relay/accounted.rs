//! A plain connection whose held bytes count for its workload.

use std::{
    cell::RefCell,
    sync::Arc,
    task::{Context, Poll},
};

use super::Observer;
use crate::{
    accounts::{Account, HeldBytes},
    close::CloseReason,
    connection::Connection,
    limits::COALESCE_BYTES_MAX,
    runtime,
};

/// See the module's text.
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
            Some(_) => COALESCE_BYTES_MAX,
            None => runtime::visit_bytes_max(),
        }
    }
}
