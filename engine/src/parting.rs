//! Closes the applications' sockets of connections that were cut by the thousand, some at a time.
//!
//! To abort a socket is the dearest part of cutting a connection. What matters at once is that nothing is relayed any
//! more and that the peers are told; the sockets follow, so that whoever else is on the shard has its turn.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use crate::{
    limits::CLOSED_PER_SLICE,
    runtime::{self, TcpStream},
    shard::Shard,
};

/// The sockets of one shard that are to be closed. There are never more than connections that were cut.
#[derive(Default)]
pub(crate) struct Parting {
    sockets: RefCell<VecDeque<Rc<TcpStream>>>,
    is_running: Cell<bool>,
}

impl Parting {
    /// Closes the socket, in this turn or one of the next.
    pub(crate) fn close(shard: &Rc<Shard>, socket: Rc<TcpStream>) {
        shard.parting.sockets.borrow_mut().push_back(socket);
        if !shard.parting.is_running.replace(true) {
            runtime::spawn_for_shard(close_all(shard.clone()));
        }
    }

    fn take_some(&self) -> Vec<Rc<TcpStream>> {
        let mut sockets = self.sockets.borrow_mut();
        let count = sockets.len().min(CLOSED_PER_SLICE);
        sockets.drain(..count).collect()
    }
}

async fn close_all(shard: Rc<Shard>) {
    loop {
        let some = shard.parting.take_some();
        if some.is_empty() {
            break;
        }
        drop(some);
        runtime::yield_now().await;
    }
    shard.parting.is_running.set(false);
}
