//! Whom to trust: the anchors that chains must lead to, and the revocation lists they must not stand in.
//!
//! A chain is judged in full when it is first seen. Later, when time has passed, an anchor is gone or
//! lists were replaced, [`Trust::verify_again`] and [`Trust::verify_after`] look first whether any of that
//! concerns this chain at all: of ten thousand sessions nearly all are let through by comparing names and
//! serial numbers, without a signature.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    CertificateError, OtherError,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};

use super::{error::Error, revocation::RevocationLists};

/// What the other side is to us: its certificate must allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerRole {
    Server,
    Client,
}

impl PeerRole {
    fn usage(self) -> KeyUsage {
        match self {
            Self::Server => KeyUsage::server_auth(),
            Self::Client => KeyUsage::client_auth(),
        }
    }
}

/// See the module's text. It holds nothing secret.
#[derive(Debug)]
pub(super) struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
    revocation: Arc<RevocationLists>,
}

impl Trust {
    pub(super) fn new(
        anchors: &[CertificateDer<'static>],
        revocation: Arc<RevocationLists>,
        provider: &CryptoProvider,
    ) -> Result<Self, Error> {
        let anchors = anchors
            .iter()
            .map(|anchor| webpki::anchor_from_trusted_cert(anchor).map(|anchor| anchor.to_owned()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| {
                Error::Credentials(format!("a trust anchor cannot be read: {error}"))
            })?;
        if anchors.is_empty() {
            return Err(Error::Credentials("there are no trust anchors".to_owned()));
        }
        Ok(Self::of_anchors(anchors, revocation, provider))
    }

    /// The same of anchors that were read before.
    pub(super) fn of_anchors(
        anchors: Vec<TrustAnchor<'static>>,
        revocation: Arc<RevocationLists>,
        provider: &CryptoProvider,
    ) -> Self {
        Self { anchors, algorithms: provider.signature_verification_algorithms, revocation }
    }

    /// Judges a chain that was never seen before.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        role: PeerRole,
    ) -> Result<(), rustls::Error> {
        let path = Path { trust: self, leaf, intermediates, now, role };
        match path.verify(&self.revocation.all()) {
            Err(error) if is_of_another_key(&error) => path.verify_list_by_list(error),
            Ok(()) if self.revocation.has_namesakes() => {
                path.verify_list_by_list(webpki::Error::InvalidCrlSignatureForPublicKey)
            }
            verdict => verdict,
        }
        .map_err(refused)
    }

    /// Judges a chain that these anchors and lists have accepted before: only time has passed. A
    /// certificate of the chain that is out of date need not have been used: then it is verified as if
    /// it were new.
    pub(super) fn verify_again(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        role: PeerRole,
    ) -> Result<(), rustls::Error> {
        let in_date = |certificate| {
            validity(certificate).is_some_and(|validity| validity.includes(system_time(now)))
        };
        if chain.iter().all(in_date) && !self.revocation.concern(chain) {
            return Ok(());
        }
        self.verify_chain(chain, now, role)
    }

    /// Judges a chain that `before` has accepted.
    pub(super) fn verify_after(
        &self,
        before: &Trust,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        role: PeerRole,
    ) -> Result<(), rustls::Error> {
        if self.keeps_anchors_of(before, chain) {
            return self.verify_again(chain, now, role);
        }
        self.verify_chain(chain, now, role)
    }

    /// Whether every anchor that the chain may have led to is still one.
    fn keeps_anchors_of(&self, before: &Trust, chain: &[CertificateDer<'_>]) -> bool {
        if self.anchors == before.anchors {
            return true;
        }
        let issuers = issuers(chain);
        let named =
            |anchor: &&TrustAnchor<'_>| issuers.iter().any(|name| **name == *anchor.subject);
        before.anchors.iter().filter(named).all(|anchor| self.anchors.contains(anchor))
    }

    fn verify_chain(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        role: PeerRole,
    ) -> Result<(), rustls::Error> {
        let (leaf, intermediates) =
            chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
        self.verify(leaf, intermediates, now, role)
    }

    pub(super) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }
}

/// One chain, and how it is to be judged.
struct Path<'p> {
    trust: &'p Trust,
    leaf: &'p CertificateDer<'p>,
    intermediates: &'p [CertificateDer<'p>],
    now: UnixTime,
    role: PeerRole,
}

impl Path<'_> {
    fn verify(&self, lists: &[&CertRevocationList<'_>]) -> Result<(), webpki::Error> {
        let revocation = RevocationOptionsBuilder::new(lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Ignore)
                .build()
        });
        let leaf = EndEntityCert::try_from(self.leaf)?;
        leaf.verify_for_usage(
            self.trust.algorithms.all,
            &self.trust.anchors,
            self.intermediates,
            self.now,
            self.role.usage(),
            revocation,
            None,
        )
        .map(|_| ())
    }

    /// Of several lists in one issuer's name, as there are when its key was renewed and its name was not, or when an
    /// old copy of a list lies beside it, webpki asks the first. So each is asked alone: revoked is what any genuine list says, and of
    /// every issuer that has lists one must be genuine.
    fn verify_list_by_list(&self, of_another_key: webpki::Error) -> Result<(), webpki::Error> {
        let mut chain = vec![self.leaf.clone()];
        chain.extend(self.intermediates.iter().cloned());
        let issuers = issuers(&chain);
        let mut genuine: Vec<&[u8]> = Vec::new();
        let mut doubtful: Vec<&[u8]> = Vec::new();
        for list in self.trust.revocation.named(&issuers) {
            match self.verify(&[list]) {
                Ok(()) => genuine.push(list.issuer()),
                Err(error) if is_of_another_key(&error) => doubtful.push(list.issuer()),
                Err(error) => return Err(error),
            }
        }
        match doubtful.iter().all(|issuer| genuine.contains(issuer)) {
            true => Ok(()),
            false => Err(of_another_key),
        }
    }
}

/// Whether a list in the issuer's name was not signed with the issuer's key.
fn is_of_another_key(error: &webpki::Error) -> bool {
    use webpki::Error as E;
    matches!(
        error,
        E::InvalidCrlSignatureForPublicKey
            | E::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_)
            | E::UnsupportedCrlSignatureAlgorithmContext(_)
    )
}

/// The names of who signed the certificates of a chain.
fn issuers(chain: &[CertificateDer<'_>]) -> Vec<Vec<u8>> {
    let issuer = |certificate| Some(EndEntityCert::try_from(certificate).ok()?.issuer().to_vec());
    chain.iter().filter_map(issuer).collect()
}

/// When a certificate is valid, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

impl Validity {
    fn includes(&self, time: SystemTime) -> bool {
        (self.not_before..=self.not_after).contains(&time)
    }
}

/// Reads the validity, which webpki parses but shows only in what it says about a certificate that is
/// verified too early or too late. It looks at the dates before it looks at anything else.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let verdict = |seconds| {
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        certificate.verify_for_usage(&[], &[], &[], at, KeyUsage::server_auth(), None, None).err()
    };
    let webpki::Error::CertExpired { not_after, .. } = verdict(u64::MAX)? else { return None };
    let not_before = match verdict(0)? {
        webpki::Error::CertNotValidYet { not_before, .. } => not_before,
        _valid_in_1970 => UnixTime::since_unix_epoch(Duration::ZERO),
    };
    Some(Validity { not_before: system_time(not_before), not_after: system_time(not_after) })
}

/// The same instant as the rest of the program knows it.
pub(super) fn system_time(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())
}

fn refused(error: webpki::Error) -> rustls::Error {
    let error = match error {
        webpki::Error::CertExpired { time, not_after } => {
            CertificateError::ExpiredContext { time, not_after }
        }
        webpki::Error::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::CertRevoked => CertificateError::Revoked,
        webpki::Error::BadDer => CertificateError::BadEncoding,
        webpki::Error::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    rustls::Error::InvalidCertificate(error)
}
