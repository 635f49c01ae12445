//! Judges tunnels that are open: a certificate is good for as long as it is, and not only for the moment
//! of its handshake.
//!
//! ```text
//!              the trust of its identity changed ──▶ judged again ──▶ cut, or it goes on
//! watched ──▶  a certificate nears its end ──▶ takes no new streams ──▶ cut at the end
//!              its own identity is gone, or is another now ──▶ cut
//! ```
//!
//! Tunnels are kept by whose they are. A snapshot that leaves an identity's credentials as they were costs
//! two look-ups for each identity, however many tunnels there are. One task of the shard does it all; it
//! is there while there are tunnels.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    rc::{Rc, Weak},
    sync::{Arc, Weak as SharedWeak},
    task::{Poll, Waker},
    time::{Duration, Instant, SystemTime},
};

use ringway_protocols::{
    identity::Identity,
    tls::{self, Credentials},
};
use slab::Slab;

use super::{Tunnel, TunnelError};
use crate::{
    capture::Pod,
    close::Distrust,
    limits::{
        IDENTITY_GONE_PATIENCE, RECHECKED_PER_TURN, TUNNEL_FAREWELL_MAX, TUNNEL_RECHECK_INTERVAL,
    },
    runtime,
    shard::Shard,
    single::{Running, Single},
    snapshot::{Snapshot, WorkloadKey},
};

/// The tunnels of a shard, by whose they are.
#[derive(Default)]
pub(crate) struct Recheck {
    /// In order, so that a simulated run replays.
    owners: RefCell<Owners>,
    /// A snapshot was published that nobody has looked at.
    published: Cell<bool>,
    task: Single,
    woken: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// By pod and identity.
type Owners = BTreeMap<(Arc<str>, Identity), Rc<Owner>>;

/// A pod with one of its identities; it has one at a time, and tunnels that may be older.
struct Owner {
    workload: WorkloadKey,
    identity: Identity,
    tunnels: RefCell<Slab<Entry>>,
    /// The credentials that its tunnels were last judged by.
    judged_by: RefCell<SharedWeak<Credentials>>,
    /// Since when it has none.
    gone_since: Cell<Option<Instant>>,
}

struct Entry {
    tunnel: Weak<Tunnel>,
    /// From when on it takes no new streams.
    farewell: SystemTime,
    farewell_said: bool,
    /// When the first of the two certificates ends, and what is said then.
    ends: SystemTime,
    /// It was cut, and is here until the last of its streams lets go of it.
    end_said: bool,
    whose: Distrust,
}

/// Keeps a tunnel in sight for as long as it lives.
pub(super) struct Watched {
    owner: Rc<Owner>,
    slot: usize,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.owner.tunnels.borrow_mut().remove(self.slot);
    }
}

impl Recheck {
    /// Keeps a tunnel in sight that `pod` has with `credentials`; if others are in force by now, it is
    /// judged by those at once.
    pub(crate) fn watch(
        shard: &Rc<Shard>,
        pod: &Pod,
        credentials: &Arc<Credentials>,
        tunnel: &Rc<Tunnel>,
    ) {
        let recheck = &shard.recheck;
        let identity = credentials.identity();
        let owner = recheck.owner(pod, identity, credentials);
        let entry = Entry::new(tunnel, credentials, shard.random());
        let slot = owner.tunnels.borrow_mut().insert(entry);
        let watched = Watched { owner, slot };
        assert!(tunnel.watched.set(watched).is_ok(), "a tunnel is watched once");
        let in_force = shard.snapshot().credentials(identity).cloned();
        if !in_force.as_ref().is_some_and(|new| Arc::ptr_eq(new, credentials)) {
            recheck.published.set(true);
            in_force.iter().for_each(|new| judge(tunnel, new));
        }
        match recheck.task.begin() {
            Some(running) => drop(runtime::spawn_for_shard(keep_checking(shard.clone(), running))),
            None => recheck.wake(),
        }
    }

    /// A snapshot was published.
    pub(crate) fn snapshot_published(&self) {
        self.published.set(true);
        self.wake();
    }

    fn wake(&self) {
        self.woken.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn owner(&self, pod: &Pod, identity: &Identity, credentials: &Arc<Credentials>) -> Rc<Owner> {
        let mut owners = self.owners.borrow_mut();
        let owner = owners.entry((pod.uid.clone(), identity.clone())).or_insert_with(|| {
            Rc::new(Owner {
                workload: pod.workload.clone(),
                identity: identity.clone(),
                tunnels: RefCell::default(),
                judged_by: RefCell::new(Arc::downgrade(credentials)),
                gone_since: Cell::new(None),
            })
        });
        owner.clone()
    }

    fn owners(&self) -> Vec<Rc<Owner>> {
        self.owners.borrow().values().cloned().collect()
    }

    /// Until a snapshot is published, a tunnel comes, or `sleep` is over.
    async fn wait(&self, sleep: Duration) {
        let woken = poll_fn(|cx| match self.woken.take() {
            true => Poll::Ready(()),
            false => {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        });
        // Over because of time or because of news: either way everything is looked at.
        let _ = runtime::timeout(sleep, woken).await;
    }
}

/// The shard's task: ends when there is no tunnel.
async fn keep_checking(shard: Rc<Shard>, _running: Running) {
    loop {
        if shard.recheck.published.take() {
            judge_all(&shard).await;
        }
        let next = check_dates(&shard);
        shard.recheck.owners.borrow_mut().retain(|_, owner| !owner.tunnels.borrow().is_empty());
        if shard.recheck.owners.borrow().is_empty() {
            return;
        }
        shard.recheck.wait(next).await;
    }
}

/// Judges the tunnels of every identity whose credentials have changed, a few a turn of the shard's loop.
async fn judge_all(shard: &Rc<Shard>) {
    for owner in shard.recheck.owners() {
        let Some(credentials) = owner.news(&shard.snapshot()) else { continue };
        for (judged, tunnel) in owner.tunnels().into_iter().enumerate() {
            if judged % RECHECKED_PER_TURN == RECHECKED_PER_TURN - 1 {
                runtime::yield_now().await;
            }
            if let Some(tunnel) = tunnel.upgrade() {
                judge(&tunnel, &credentials);
            }
        }
    }
}

/// Cuts the tunnel unless its peer would be accepted with these credentials.
fn judge(tunnel: &Rc<Tunnel>, credentials: &Credentials) {
    if let Err(error) = tunnel.judge_again(credentials) {
        tunnel.cut(distrust(&error));
    }
}

fn distrust(error: &tls::Error) -> Distrust {
    match error {
        error if error.is_revocation() => Distrust::PeerRevoked,
        error if error.is_expiry() => Distrust::PeerExpired,
        _ => Distrust::PeerUntrusted,
    }
}

/// Says farewell to tunnels whose certificates are about to end, and cuts those whose have. Returns for how
/// long nothing else is due.
fn check_dates(shard: &Rc<Shard>) -> Duration {
    let mut next = TUNNEL_RECHECK_INTERVAL;
    for owner in shard.recheck.owners() {
        if let Some(since) = owner.gone_since.get() {
            let left = (since + IDENTITY_GONE_PATIENCE).checked_duration_since(runtime::now());
            match left.filter(|left| !left.is_zero()) {
                Some(left) => next = next.min(left),
                None => owner.cut_all(Distrust::OwnIdentityGone),
            }
        }
        // Without the identity's credentials there is no clock to go by, and the rule above holds.
        let credentials = owner.judged_by.borrow().upgrade();
        let Some(now) = credentials.and_then(|credentials| credentials.now()) else { continue };
        for (tunnel, due) in owner.due(now) {
            match due {
                Due::Farewell => tunnel.drain(),
                Due::End(whose) => tunnel.cut(whose),
            }
        }
        next = next.min(owner.next_date(now));
    }
    next
}

enum Due {
    Farewell,
    End(Distrust),
}

impl Owner {
    /// The credentials by which the tunnels are to be judged, if they have not been yet.
    fn news(&self, snapshot: &Snapshot) -> Option<Arc<Credentials>> {
        let workload = snapshot.workload_of(&self.workload);
        if workload.is_some_and(|workload| *workload.identity() != self.identity) {
            self.cut_all(Distrust::OwnIdentityChanged);
            return None;
        }
        let Some(credentials) = snapshot.credentials(&self.identity) else {
            // A workload that is being withdrawn ends by that. What is still there is cut soon.
            self.gone_since.set(self.gone_since.get().or_else(|| Some(runtime::now())));
            return None;
        };
        self.gone_since.set(None);
        let new = Arc::downgrade(credentials);
        let is_news = !SharedWeak::ptr_eq(&self.judged_by.borrow(), &new);
        *self.judged_by.borrow_mut() = new;
        is_news.then(|| credentials.clone())
    }

    fn tunnels(&self) -> Vec<Weak<Tunnel>> {
        self.tunnels.borrow().iter().map(|(_, entry)| entry.tunnel.clone()).collect()
    }

    fn cut_all(&self, why: Distrust) {
        for tunnel in self.tunnels().iter().filter_map(Weak::upgrade) {
            tunnel.cut(why);
        }
    }

    fn due(&self, now: SystemTime) -> Vec<(Rc<Tunnel>, Due)> {
        let mut due = Vec::new();
        for (_, entry) in self.tunnels.borrow_mut().iter_mut() {
            let end = now > entry.ends;
            let farewell = now >= entry.farewell && !entry.farewell_said;
            if entry.end_said || (!end && !farewell) {
                continue;
            }
            entry.farewell_said = true;
            entry.end_said = end;
            if let Some(tunnel) = entry.tunnel.upgrade() {
                due.push((tunnel, if end { Due::End(entry.whose) } else { Due::Farewell }));
            }
        }
        due
    }

    fn next_date(&self, now: SystemTime) -> Duration {
        let tunnels = self.tunnels.borrow();
        let waiting = tunnels.iter().filter(|(_, entry)| !entry.end_said);
        let dates = waiting.map(|(_, entry)| match entry.farewell_said {
            // A certificate is good to the end of its last second.
            true => entry.ends + Duration::from_millis(1),
            false => entry.farewell,
        });
        let left = dates.map(|date| date.duration_since(now).unwrap_or_default()).min();
        left.unwrap_or(TUNNEL_RECHECK_INTERVAL).max(Duration::from_millis(1))
    }
}

impl Entry {
    fn new(tunnel: &Rc<Tunnel>, credentials: &Credentials, random: u64) -> Self {
        let own = credentials.not_after();
        let peer = tunnel.with_records(|records| records.peer_not_after()).unwrap_or(own);
        let (ends, whose) = match peer < own {
            true => (peer, Distrust::PeerExpired),
            false => (own, Distrust::OwnExpired),
        };
        let left = credentials.now().and_then(|now| ends.duration_since(now).ok());
        let farewell = ends - farewell(left.unwrap_or_default(), random);
        Self {
            tunnel: Rc::downgrade(tunnel),
            farewell,
            farewell_said: false,
            ends,
            end_said: false,
            whose,
        }
    }
}

/// How long before its end a tunnel takes no new streams: a twentieth to three twentieths of what its
/// certificates have left, so that the tunnels of one leaf are not all made anew in one moment.
fn farewell(left: Duration, random: u64) -> Duration {
    let spread = 0.5 + (random >> 11) as f64 / (1u64 << 53) as f64;
    (left / 10).mul_f64(spread).min(TUNNEL_FAREWELL_MAX.mul_f64(spread))
}

impl Tunnel {
    fn judge_again(&self, credentials: &Credentials) -> Result<(), tls::Error> {
        self.core.borrow_mut().records.judge_again(credentials)
    }

    /// Ends the tunnel and aborts its streams.
    fn cut(self: &Rc<Self>, why: Distrust) {
        if matches!(why, Distrust::PeerExpired) {
            self.core.borrow_mut().records.expire();
        }
        self.lose(&TunnelError::Distrusted(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_farewell_comes_in_time_and_not_for_all_at_once() {
        let day = Duration::from_secs(24 * 3600);
        for random in [0, u64::MAX / 2, u64::MAX] {
            for left in [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(60), day] {
                let before = farewell(left, random);
                assert!(before <= left * 3 / 20 + Duration::from_nanos(1), "{left:?}");
                assert!(before <= TUNNEL_FAREWELL_MAX * 3 / 2, "{left:?}");
            }
        }
        assert!(farewell(day, 0) < farewell(day, u64::MAX));
        assert_eq!(farewell(Duration::from_secs(60), 0), Duration::from_secs(3));
    }
}
