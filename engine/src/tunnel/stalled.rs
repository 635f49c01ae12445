//! Streams of one workload on one shard whose applications do not take what has come, and which of them makes room.
//!
//! What such a stream holds is at its workload's expense. A few hundred that stand still come to all that the workload may hold, and
//! then it is the others that are cut, for being slow for a moment. So from three quarters of that on, those are cut that have
//! stood still longest; an application that takes a little now and then does not stand still.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::Arc,
    time::Instant,
};

use super::stream::StreamCell;
use crate::{
    accounts::Account,
    limits::{STALLED_LOOK_INTERVAL, STALLED_PATIENCE},
    runtime,
};

/// See the module's text.
pub(crate) struct Stalled {
    account: Arc<Account>,
    /// Those that hold something, and some that did a moment ago.
    streams: RefCell<Vec<Weak<StreamCell>>>,
    is_watched: Cell<bool>,
}

impl Stalled {
    /// None yet.
    pub(crate) fn new(account: &Arc<Account>) -> Rc<Self> {
        Rc::new(Self {
            account: account.clone(),
            streams: RefCell::default(),
            is_watched: Cell::new(false),
        })
    }

    /// Takes note of a stream that holds what its application did not take.
    pub(super) fn note(self: &Rc<Self>, stream: &Rc<StreamCell>) {
        if stream.is_noted.replace(true) {
            return;
        }
        self.streams.borrow_mut().push(Rc::downgrade(stream));
        if !self.is_watched.replace(true) {
            runtime::spawn_for_shard(self.clone().watch());
        }
    }

    /// Looks once in a while, for as long as anything is held.
    async fn watch(self: Rc<Self>) {
        loop {
            runtime::sleep(STALLED_LOOK_INTERVAL).await;
            self.forget_empty();
            if self.streams.borrow().is_empty() {
                return self.is_watched.set(false);
            }
            self.make_room(runtime::now());
        }
    }

    /// Forgets those that hold nothing any more.
    fn forget_empty(&self) {
        self.streams.borrow_mut().retain(|stream| {
            let Some(stream) = stream.upgrade() else { return false };
            let holds = stream.stands_still_since().is_some();
            stream.is_noted.set(holds);
            holds
        });
    }

    fn make_room(&self, now: Instant) {
        if self.account.nearly_scarce().is_none() {
            return;
        }
        let streams = self.streams.borrow();
        let mut still: Vec<(Instant, Rc<StreamCell>)> = streams
            .iter()
            .filter_map(Weak::upgrade)
            .filter_map(|stream| Some((stream.stands_still_since()?, stream)))
            .filter(|(since, _)| now.saturating_duration_since(*since) >= STALLED_PATIENCE)
            .collect();
        drop(streams);
        still.sort_by_key(|(since, _)| *since);
        for (_, stream) in still {
            let Some(limit) = self.account.nearly_scarce() else { return };
            stream.cut_for_room(self.account.refused(limit));
        }
    }
}
