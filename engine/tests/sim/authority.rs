//! The authority of simulated hosts: its certificates are judged by the world's own wall clock.

#[path = "../support/authority.rs"]
mod shared;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::CertificateParams;
use ringway_engine::runtime::{WALL_CLOCK_START, World};
use ringway_protocols::{
    identity::Identity,
    tls::{Credentials, Options},
};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// How long roots live, and leaves of which nobody says otherwise: longer than any run, and any clock in
/// it is wrong.
const LONG: Duration = Duration::from_secs(1_000 * 86_400);

/// The wall clock of the world this thread is in.
#[derive(Debug)]
struct WorldClock;

impl TimeProvider for WorldClock {
    fn current_time(&self) -> Option<UnixTime> {
        let now = World::current()?.wall_clock();
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(UnixTime::since_unix_epoch(since_epoch))
    }
}

/// See the module's text. One serves the worlds of all threads.
pub(crate) struct Authority(shared::Authority);

impl Authority {
    pub(crate) fn new() -> Self {
        Self(shared::Authority::new(valid_for(LONG)))
    }

    /// Credentials that do not end.
    pub(crate) fn issue(&self, identity: &Identity) -> Arc<Credentials> {
        self.issue_until(identity, LONG)
    }

    /// Credentials that end so long after the world began.
    pub(crate) fn issue_until(&self, identity: &Identity, end: Duration) -> Arc<Credentials> {
        let options = Options { time: Arc::new(WorldClock), ..Options::default() };
        self.0.issue(identity, valid_for(end), &options)
    }
}

fn valid_for(end: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let start = SystemTime::UNIX_EPOCH + WALL_CLOCK_START;
    params.not_before = (start - Duration::from_secs(3600)).into();
    params.not_after = (start + end).into();
    params
}
