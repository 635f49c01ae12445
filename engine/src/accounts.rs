//! What each workload's traffic holds, and the bounds on it.
//!
//! A workload has one [`Account`], shared by its listeners on all shards; the accounts of a process add up in its
//! [`Accounts`]. Whoever is to hold something is admitted first and gives back when its guard is dropped. A refusal
//! names the [`Limit`] that was reached and is counted there; control tells people.
//!
//! **Invariant:** what is admitted never exceeds its bound, except buffers, which are charged after the kernel has
//! handed the bytes over: by at most one read for each shard.

use std::{
    array,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use crate::limits::{ACCESS_RECORDS_MAX, Bounds, Limits};

/// A bound whose being reached is counted and told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// `connectionsPerProcess`
    ConnectionsPerProcess,
    /// `connectionsPerWorkload`
    ConnectionsPerWorkload,
    /// `connectionRatePerWorkload`
    ConnectionRate,
    /// Descriptors, but for the reserve.
    Descriptors,
    /// `tunnelsPerWorkload`
    TunnelsPerWorkload,
    /// `TUNNELS_PER_DESTINATION_MAX`
    TunnelsPerDestination,
    /// `handshakesPerProcess`
    HandshakesPerProcess,
    /// `handshakesPerWorkload`
    HandshakesPerWorkload,
    /// `handshakeRatePerWorkload`
    HandshakeRate,
    /// `bufferBytesPerProcess`
    BufferBytesPerProcess,
    /// `bufferBytesPerWorkload`
    BufferBytesPerWorkload,
    /// `ACCESS_RECORDS_MAX`, or a workload's share of it.
    AccessRecords,
}

impl Limit {
    const ALL: [Self; 12] = [
        Self::ConnectionsPerProcess,
        Self::ConnectionsPerWorkload,
        Self::ConnectionRate,
        Self::Descriptors,
        Self::TunnelsPerWorkload,
        Self::TunnelsPerDestination,
        Self::HandshakesPerProcess,
        Self::HandshakesPerWorkload,
        Self::HandshakeRate,
        Self::BufferBytesPerProcess,
        Self::BufferBytesPerWorkload,
        Self::AccessRecords,
    ];

    /// The `limit` label, and the word in the access log.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectionsPerProcess => "connectionsPerProcess",
            Self::ConnectionsPerWorkload => "connectionsPerWorkload",
            Self::ConnectionRate => "connectionRatePerWorkload",
            Self::Descriptors => "descriptors",
            Self::TunnelsPerWorkload => "tunnelsPerWorkload",
            Self::TunnelsPerDestination => "tunnelsPerDestination",
            Self::HandshakesPerProcess => "handshakesPerProcess",
            Self::HandshakesPerWorkload => "handshakesPerWorkload",
            Self::HandshakeRate => "handshakeRatePerWorkload",
            Self::BufferBytesPerProcess => "bufferBytesPerProcess",
            Self::BufferBytesPerWorkload => "bufferBytesPerWorkload",
            Self::AccessRecords => "accessRecords",
        }
    }
}

/// How often a workload reached a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitReached {
    /// Which.
    pub limit: Limit,
    /// Whose traffic was refused.
    pub workload: Arc<str>,
    /// Since the workload was enrolled.
    pub times: u64,
}

/// The accounts of a process.
pub(crate) struct Accounts {
    bounds: Bounds,
    connections: AtomicU64,
    buffered_bytes: AtomicUsize,
    records_waiting: AtomicU64,
    workloads: Mutex<BTreeMap<Arc<str>, Weak<Account>>>,
    /// How many of them there are: the lock is not for the path of a byte.
    enrolled: AtomicUsize,
}

/// The account of one workload.
pub(crate) struct Account {
    process: Arc<Accounts>,
    connections: AtomicU64,
    tunnels: AtomicU64,
    buffered_bytes: AtomicUsize,
    records_waiting: AtomicU64,
    reached: [AtomicU64; Limit::ALL.len()],
    /// Counted by the listeners themselves.
    pub(crate) descriptors_refused: Arc<AtomicU64>,
}

impl Accounts {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            bounds: limits.resolve(),
            connections: AtomicU64::new(0),
            buffered_bytes: AtomicUsize::new(0),
            records_waiting: AtomicU64::new(0),
            workloads: Mutex::default(),
            enrolled: AtomicUsize::new(0),
        })
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// The workload's account: the same one for all that ask while somebody holds it.
    pub(crate) fn of(self: &Arc<Self>, uid: &Arc<str>) -> Arc<Account> {
        let mut workloads = self.workloads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = workloads.get(uid).and_then(Weak::upgrade) {
            return account;
        }
        workloads.retain(|_, account| account.strong_count() > 0);
        let account = Arc::new(Account {
            process: self.clone(),
            connections: AtomicU64::new(0),
            tunnels: AtomicU64::new(0),
            buffered_bytes: AtomicUsize::new(0),
            records_waiting: AtomicU64::new(0),
            reached: array::from_fn(|_| AtomicU64::new(0)),
            descriptors_refused: Arc::default(),
        });
        workloads.insert(uid.clone(), Arc::downgrade(&account));
        self.enrolled.fetch_add(1, Relaxed);
        account
    }

    /// Among how many workloads the bounds of the process are divided.
    fn sharers(&self) -> u64 {
        self.enrolled.load(Relaxed).max(1) as u64
    }

    /// Access records that may wait of one workload. While it is alone it deprives nobody.
    fn most_records(&self) -> u64 {
        const MOST: u64 = ACCESS_RECORDS_MAX as u64;
        const HALF: u64 = MOST / 2;
        let enrolled = self.sharers();
        if enrolled <= 1 || self.records_waiting.load(Relaxed) < HALF {
            MOST
        } else {
            (HALF / enrolled).max(1)
        }
    }

    /// Every limit that a workload of this host has reached since it was enrolled.
    pub(crate) fn reached(&self) -> Vec<LimitReached> {
        let workloads = self.workloads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Vec::new();
        for (uid, account) in workloads.iter() {
            let Some(account) = account.upgrade() else { continue };
            for limit in Limit::ALL {
                let times = account.times(limit);
                if times > 0 {
                    rows.push(LimitReached { limit, workload: uid.clone(), times });
                }
            }
        }
        rows
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.process.enrolled.fetch_sub(1, Relaxed);
    }
}

impl Account {
    /// Admits one more connection.
    ///
    /// # Errors
    /// The limit that was reached; it is counted.
    pub(crate) fn admit_connection(self: &Arc<Self>) -> Result<AdmittedConnection, Limit> {
        let bounds = &self.process.bounds;
        if !take(&self.connections, bounds.connections_per_workload) {
            return Err(self.refused(Limit::ConnectionsPerWorkload));
        }
        if !take(&self.process.connections, bounds.connections_per_process) {
            self.connections.fetch_sub(1, Relaxed);
            return Err(self.refused(Limit::ConnectionsPerProcess));
        }
        Ok(AdmittedConnection(self.clone()))
    }

    /// Counts a connection that was admitted where it began: a bound that is lower here must not cut it.
    pub(crate) fn admit_moved_connection(self: &Arc<Self>) -> AdmittedConnection {
        self.connections.fetch_add(1, Relaxed);
        self.process.connections.fetch_add(1, Relaxed);
        AdmittedConnection(self.clone())
    }

    /// Connections that are open, on all shards. What was admitted is counted until its sockets are closed.
    pub(crate) fn open_connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// Admits one more tunnel, of either role.
    ///
    /// # Errors
    /// The limit that was reached; it is counted.
    pub(crate) fn admit_tunnel(self: &Arc<Self>) -> Result<AdmittedTunnel, Limit> {
        if !take(&self.tunnels, self.process.bounds.tunnels_per_workload) {
            return Err(self.refused(Limit::TunnelsPerWorkload));
        }
        Ok(AdmittedTunnel(self.clone()))
    }

    /// Admits one more access record that waits to be written. When half of their places are taken, each workload may
    /// have its even share of the other half: what one of them does costs the others no line.
    ///
    /// # Errors
    /// The limit that was reached; it is counted.
    pub(crate) fn admit_record(self: &Arc<Self>) -> Result<AdmittedRecord, Limit> {
        let most = self.process.most_records();
        if !take(&self.records_waiting, most) {
            return Err(self.refused(Limit::AccessRecords));
        }
        self.process.records_waiting.fetch_add(1, Relaxed);
        Ok(AdmittedRecord(self.clone()))
    }

    /// Counts that a limit was reached.
    pub(crate) fn refused(&self, limit: Limit) -> Limit {
        self.reached[limit as usize].fetch_add(1, Relaxed);
        limit
    }

    /// The limit that one who would hold bytes beyond it has reached, if any. At the bound of the process those
    /// workloads pay that hold more than their even share of it.
    pub(crate) fn scarce(&self) -> Option<Limit> {
        self.reaches(|bound| bound)
    }

    /// The limit of which three quarters are reached, in the same sense: time for who only holds to make room.
    pub(crate) fn nearly_scarce(&self) -> Option<Limit> {
        self.reaches(|bound| bound / 4 * 3)
    }

    fn reaches(&self, of: impl Fn(u64) -> u64) -> Option<Limit> {
        let bounds = &self.process.bounds;
        let held = self.buffered_bytes.load(Relaxed) as u64;
        if held >= of(bounds.buffer_bytes_per_workload) {
            return Some(Limit::BufferBytesPerWorkload);
        }
        let of_process = of(bounds.buffer_bytes_per_process);
        if self.process.buffered_bytes.load(Relaxed) as u64 >= of_process
            && held >= of_process / self.process.sharers()
        {
            return Some(Limit::BufferBytesPerProcess);
        }
        None
    }

    fn times(&self, limit: Limit) -> u64 {
        let counted = self.reached[limit as usize].load(Relaxed);
        match limit {
            Limit::Descriptors => counted + self.descriptors_refused.load(Relaxed),
            _ => counted,
        }
    }

    fn hold(&self, was: usize, is: usize) {
        // Wrapping: a difference of either sign.
        let difference = is.wrapping_sub(was);
        self.buffered_bytes.fetch_add(difference, Relaxed);
        self.process.buffered_bytes.fetch_add(difference, Relaxed);
    }
}

/// Takes one of `most`, if there is one.
fn take(taken: &AtomicU64, most: u64) -> bool {
    let admitted = taken.fetch_add(1, Relaxed) < most;
    if !admitted {
        taken.fetch_sub(1, Relaxed);
    }
    admitted
}

/// A connection that counts for its workload.
pub(crate) struct AdmittedConnection(Arc<Account>);

impl Drop for AdmittedConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
        self.0.process.connections.fetch_sub(1, Relaxed);
    }
}

/// A tunnel that counts for its workload.
pub(crate) struct AdmittedTunnel(Arc<Account>);

impl AdmittedTunnel {
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.0
    }
}

impl Drop for AdmittedTunnel {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Relaxed);
    }
}

/// An access record that counts for its workload until it is taken.
pub(crate) struct AdmittedRecord(Arc<Account>);

impl Drop for AdmittedRecord {
    fn drop(&mut self) {
        self.0.records_waiting.fetch_sub(1, Relaxed);
        self.0.process.records_waiting.fetch_sub(1, Relaxed);
    }
}

/// Bytes somebody holds at a workload's expense.
pub(crate) struct HeldBytes {
    account: Arc<Account>,
    bytes: usize,
}

impl HeldBytes {
    pub(crate) fn none(account: &Arc<Account>) -> Self {
        Self { account: account.clone(), bytes: 0 }
    }

    /// Says how many there are now.
    pub(crate) fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            self.account.hold(self.bytes, bytes);
            self.bytes = bytes;
        }
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Arc<Accounts> {
        Accounts::new(&Limits {
            connections_per_process: 5,
            connections_per_workload: 3,
            tunnels_per_workload: 2,
            buffer_bytes_per_process: 1000,
            buffer_bytes_per_workload: 600,
            ..Limits::default()
        })
    }

    #[test]
    fn connections_are_admitted_up_to_both_bounds_and_again_when_some_have_ended() {
        let accounts = accounts();
        let (one, other) = (accounts.of(&"one".into()), accounts.of(&"other".into()));
        let mut held: Vec<_> = (0..3).map(|_| one.admit_connection().ok().unwrap()).collect();
        assert_eq!(one.admit_connection().err(), Some(Limit::ConnectionsPerWorkload));
        held.extend((0..2).map(|_| other.admit_connection().ok().unwrap()));
        assert_eq!(other.admit_connection().err(), Some(Limit::ConnectionsPerProcess));
        held.remove(0);
        assert!(other.admit_connection().is_ok());
        drop(held);
        assert_eq!(accounts.connections.load(Relaxed), 0);
        let reached: Vec<_> = accounts
            .reached()
            .into_iter()
            .map(|row| (row.limit.name(), row.workload.to_string(), row.times))
            .collect();
        let want = [
            ("connectionsPerWorkload", "one".to_owned(), 1),
            ("connectionsPerProcess", "other".to_owned(), 1),
        ];
        assert_eq!(reached, want);
    }

    #[test]
    fn a_workload_has_one_account_until_nobody_holds_it() {
        let accounts = accounts();
        let first = accounts.of(&"one".into());
        let _tunnels = [first.admit_tunnel(), accounts.of(&"one".into()).admit_tunnel()];
        assert_eq!(first.admit_tunnel().err(), Some(Limit::TunnelsPerWorkload));
        let before = Arc::as_ptr(&first);
        assert_eq!(before, Arc::as_ptr(&accounts.of(&"one".into())));
        drop((first, _tunnels));
        assert!(accounts.reached().is_empty(), "a workload that has gone takes its rows with it");
    }

    #[test]
    fn who_has_gone_has_no_share() {
        let accounts = accounts();
        let stays = accounts.of(&"stays".into());
        let gone: Vec<_> = (0..9).map(|name| accounts.of(&name.to_string().into())).collect();
        accounts.buffered_bytes.store(1000, Relaxed);
        stays.buffered_bytes.store(500, Relaxed);
        assert_eq!(stays.scarce(), Some(Limit::BufferBytesPerProcess), "one of ten");
        drop(gone);
        assert_eq!(stays.scarce(), None, "alone, with half of what there is");
    }

    #[test]
    fn records_of_a_busy_workload_leave_the_others_their_places() {
        let accounts = accounts();
        let of = |name: &str| accounts.of(&name.into());
        let busy = of("busy");
        let admitted = |account: &Arc<Account>| -> Vec<AdmittedRecord> {
            std::iter::from_fn(|| account.admit_record().ok()).collect()
        };
        let alone = admitted(&busy);
        assert_eq!(alone.len(), ACCESS_RECORDS_MAX, "alone it has them all");
        drop(alone);

        let (other, third) = (of("other"), of("third"));
        let mut waiting = admitted(&busy);
        assert_eq!(waiting.len(), ACCESS_RECORDS_MAX / 2);
        let share = ACCESS_RECORDS_MAX / 2 / 3;
        let others = [admitted(&other), admitted(&third)];
        assert_eq!(others.each_ref().map(Vec::len), [share, share]);
        waiting.truncate(2 * share);
        assert_eq!(busy.admit_record().err(), Some(Limit::AccessRecords));
        drop((waiting, others));
        assert_eq!(accounts.records_waiting.load(Relaxed), 0);
        let refused: Vec<_> = accounts.reached().into_iter().map(|row| row.limit).collect();
        assert_eq!(refused, [Limit::AccessRecords; 3], "each of them is told");
    }

    #[test]
    fn bytes_are_scarce_for_who_holds_much() {
        let accounts = accounts();
        let (one, other) = (accounts.of(&"one".into()), accounts.of(&"other".into()));
        let (mut much, mut little) = (HeldBytes::none(&one), HeldBytes::none(&other));
        much.set(449);
        assert_eq!(one.nearly_scarce(), None);
        much.set(599);
        assert_eq!(
            (one.scarce(), one.nearly_scarce()),
            (None, Some(Limit::BufferBytesPerWorkload))
        );
        much.set(600);
        assert_eq!(one.scarce(), Some(Limit::BufferBytesPerWorkload));
        assert_eq!(other.scarce(), None);
        much.set(590);
        little.set(410);
        // The process is full; the one with more than half of it pays.
        assert_eq!(one.scarce(), Some(Limit::BufferBytesPerProcess));
        assert_eq!(other.scarce(), None);
        drop(much);
        assert_eq!(accounts.buffered_bytes.load(Relaxed), 410);
        drop(little);
        assert_eq!(accounts.buffered_bytes.load(Relaxed), 0);
    }

    #[test]
    fn every_limit_has_its_own_place_and_name() {
        for (place, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, place);
        }
        let mut names = Limit::ALL.map(Limit::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Limit::ALL.len());
    }
}
