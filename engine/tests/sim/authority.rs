//! A certificate authority whose certificates have always the same length, so that a run replays, and
//! are judged by the world's own wall clock.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ED25519, SanType, SerialNumber,
};
use ringway_engine::runtime::{WALL_CLOCK_START, World};
use ringway_protocols::{
    identity::Identity,
    tls::{Credentials, Material, Options},
};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::{PrivateKeyDer, UnixTime};

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
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = valid_for(LONG);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.serial_number = Some(SerialNumber::from(1));
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a root"))
    }

    /// Credentials that do not end.
    pub(crate) fn issue(&self, identity: &Identity) -> Arc<Credentials> {
        self.issue_until(identity, LONG)
    }

    /// Credentials that end so long after the world began.
    pub(crate) fn issue_until(&self, identity: &Identity, end: Duration) -> Arc<Credentials> {
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let mut params = valid_for(end);
        params.serial_number = Some(SerialNumber::from(2));
        let uri = identity.to_string().try_into().expect("an ASCII identity");
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &self.0).expect("a leaf");
        let material = Material {
            chain: vec![leaf.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8"),
            trust_anchors: vec![self.0.der().clone()],
        };
        let options = Options { time: Arc::new(WorldClock), ..Options::default() };
        Arc::new(Credentials::new(material, &options).expect("good material"))
    }
}

fn valid_for(end: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let start = SystemTime::UNIX_EPOCH + WALL_CLOCK_START;
    params.not_before = (start - Duration::from_secs(3600)).into();
    params.not_after = (start + end).into();
    params
}
