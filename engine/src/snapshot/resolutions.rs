//! What hostnames resolve to at present, and which of them connections go by: control asks again for those that are used.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Footprint;
use super::address::key_of;
use super::index::Index;

/// The hostnames that are resolved. Cloning is cheap, and whose clone is asked shows in all of them.
#[derive(Clone, Debug, Default)]
pub struct Resolutions(Index<Resolution>);

#[derive(Debug)]
struct Resolution {
    hostname: Box<str>,
    addresses: Box<[IpAddr]>,
    /// Whether it was looked up since control last asked. Shards write it once for each time that control does.
    is_used: AtomicBool,
}

impl Resolutions {
    /// From now on `hostname` resolves to these; nothing, to forget it.
    pub fn set(&mut self, hostname: &str, addresses: &[IpAddr]) {
        let key = key_of(hostname);
        let before = self.0.remove(key, |other| *other.hostname == *hostname);
        if !addresses.is_empty() {
            let addresses = addresses.iter().map(IpAddr::to_canonical).collect();
            let hostname = hostname.into();
            // That it was used is not forgotten with the addresses that it had.
            let is_used = before.is_some_and(|it| it.is_used.load(Ordering::Relaxed)).into();
            self.0.insert(key, &Arc::new(Resolution { hostname, addresses, is_used }));
        }
    }

    /// Whether a connection has gone by `hostname` since this was last asked.
    pub fn take_use(&self, hostname: &str) -> bool {
        // Nothing else is read by its leave.
        self.find(hostname).is_some_and(|found| found.is_used.swap(false, Ordering::Relaxed))
    }

    /// What a connection that goes by `hostname` finds.
    pub(super) fn look_up(&self, hostname: &str) -> &[IpAddr] {
        let Some(found) = self.find(hostname) else { return &[] };
        // Read first: a line that all shards write would cost each of them.
        if !found.is_used.load(Ordering::Relaxed) {
            found.is_used.store(true, Ordering::Relaxed);
        }
        &found.addresses
    }

    fn find(&self, hostname: &str) -> Option<&Arc<Resolution>> {
        self.0.find(key_of(hostname), |other| *other.hostname == *hostname)
    }

    pub(super) fn footprint_beside(&self, older: &Resolutions) -> Footprint {
        self.0.footprint_beside(&older.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Snapshot;
    use super::super::fixture::ips;
    use super::*;

    #[test]
    fn a_hostname_resolves_to_what_was_told_last() {
        let mut resolutions = Resolutions::default();
        assert!(resolutions.look_up("db.example").is_empty());
        resolutions.set("db.example", &ips("10.9.0.1"));
        resolutions.set("db.example", &ips("10.9.0.2 ::ffff:10.9.0.3"));
        assert_eq!(resolutions.look_up("db.example"), ips("10.9.0.2 10.9.0.3"));
        resolutions.set("db.example", &[]);
        assert!(resolutions.look_up("db.example").is_empty());
    }

    #[test]
    fn a_snapshot_knows_what_it_was_told_last_and_nothing_from_before() {
        let mut resolutions = Resolutions::default();
        resolutions.set("old.example", &ips("10.9.0.1"));
        let mut snapshot = Snapshot::new("");
        snapshot.set_resolutions(resolutions.clone());
        resolutions.set("old.example", &[]);
        resolutions.set("new.example", &ips("10.9.0.2"));
        let mut next = snapshot.clone();
        next.set_resolutions(resolutions);
        assert!(next.resolution("old.example").is_empty());
        assert_eq!(next.resolution("new.example"), ips("10.9.0.2"));
        assert_eq!(snapshot.resolution("old.example"), ips("10.9.0.1"), "it is as it was");
    }

    #[test]
    fn what_a_snapshot_is_asked_for_counts_as_used_once() {
        let mut resolutions = Resolutions::default();
        resolutions.set("db.example", &ips("10.9.0.1"));
        resolutions.set("idle.example", &ips("10.9.0.2"));
        let mut snapshot = Snapshot::new("");
        snapshot.set_resolutions(resolutions.clone());
        assert!(!resolutions.take_use("db.example"), "nobody has asked yet");
        snapshot.resolution("db.example");
        snapshot.resolution("db.example");
        // What it resolves to by now is another matter.
        resolutions.set("db.example", &ips("10.9.0.3"));
        assert!(!resolutions.take_use("idle.example") && !resolutions.take_use("none.example"));
        assert!(resolutions.take_use("db.example"));
        assert!(!resolutions.take_use("db.example"), "it was taken");
    }
}
