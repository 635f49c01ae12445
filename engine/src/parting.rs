//! Aborts the sockets of connections that were cut by the thousand, some at a time and after the cuts themselves.
//!
//! To close a socket is the dearest part of cutting a connection. What matters at once is that nothing is relayed any
//! more and that the peers are told; the sockets follow when no connection is left to be cut, and then so that
//! whoever else is on the shard has its turn.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use crate::{
    limits::{CLOSED_AMID_CUTS, CLOSED_PER_SLICE},
    runtime::{self, TcpStream},
    shard::Shard,
    single::{Running, Single},
};

/// The sockets of one shard that are to be closed. There are never more than connections that were cut.
#[derive(Default)]
pub(crate) struct Parting {
    sockets: RefCell<VecDeque<Leaving>>,
    task: Single,
}

/// A socket that nobody uses any more. It ends as an abort, whenever and however it is dropped.
struct Leaving(Rc<TcpStream>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.reset_on_close();
    }
}

impl Parting {
    /// Aborts the socket in one of the next turns. Whoever else holds it is about to let go of it.
    pub(crate) fn abort(shard: &Rc<Shard>, socket: Rc<TcpStream>) {
        shard.parting.sockets.borrow_mut().push_back(Leaving(socket));
        if let Some(running) = shard.parting.task.begin() {
            runtime::spawn_for_shard(close_all(shard.clone(), running));
        }
    }

    /// Aborts both sockets of a relay.
    pub(crate) fn abort_both(shard: &Rc<Shard>, sockets: [TcpStream; 2]) {
        sockets.map(Rc::new).into_iter().for_each(|socket| Parting::abort(shard, socket));
    }

    fn take_some(&self, most: usize) -> Vec<Leaving> {
        let mut sockets = self.sockets.borrow_mut();
        let count = sockets.len().min(most);
        sockets.drain(..count).collect()
    }
}

async fn close_all(shard: Rc<Shard>, _running: Running) {
    loop {
        let amid_cuts = shard.rejudging.is_running() || shard.connections.being_cut() > 0;
        let most = if amid_cuts { CLOSED_AMID_CUTS } else { CLOSED_PER_SLICE };
        let some = shard.parting.take_some(most);
        if some.is_empty() {
            return;
        }
        drop(some);
        runtime::yield_now().await;
    }
}
