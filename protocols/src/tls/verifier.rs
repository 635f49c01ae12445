//! Who may be at the other end: the chain, the purpose, and the SPIFFE identity in it.
//!
//! A session that is resumed shows no certificate. What its first handshake was shown comes back with
//! the ticket, and [`ServerVerifier::check_resumed`] and [`ClientVerifier::check_resumed`] look at it again.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::identity::Identity;

/// What chains are verified against.
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) anchors: Vec<TrustAnchor<'static>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), rustls::Error> {
        let leaf = EndEntityCert::try_from(leaf).map_err(refused)?;
        leaf.verify_for_usage(
            self.algorithms.all,
            &self.anchors,
            intermediates,
            now,
            usage,
            None,
            None,
        )
        .map(|_| ())
        .map_err(refused)
    }

    /// Whether a chain that was verified once still holds: the anchors are the same, so only time has
    /// passed. A certificate of the chain that is out of date need not have been used: then it is
    /// verified as if it were new.
    fn verify_again(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), rustls::Error> {
        let (leaf, intermediates) =
            chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
        let in_date = |certificate| {
            validity(certificate).is_some_and(|validity| validity.includes(system_time(now)))
        };
        if chain.iter().all(in_date) {
            return Ok(());
        }
        self.verify(leaf, intermediates, now, usage)
    }
}

/// The SPIFFE identities a certificate names, in its order.
pub(super) fn identities(leaf: &CertificateDer<'_>) -> Vec<Identity> {
    let Ok(leaf) = EndEntityCert::try_from(leaf) else { return Vec::new() };
    leaf.valid_uri_names().filter_map(|uri| Identity::parse(uri).ok()).collect()
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

/// The peer proved to be somebody, but nobody we wanted.
#[derive(Debug)]
struct WrongIdentity {
    found: Vec<Identity>,
    wanted: String,
}

impl fmt::Display for WrongIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found: Vec<_> = self.found.iter().map(ToString::to_string).collect();
        write!(
            f,
            "identity verification error: peer did not present the expected identity ({}), got [{}]",
            self.wanted,
            found.join(", ")
        )
    }
}

impl std::error::Error for WrongIdentity {}

fn wrong_identity(found: Vec<Identity>, wanted: String) -> rustls::Error {
    let error = OtherError(Arc::new(WrongIdentity { found, wanted }));
    rustls::Error::InvalidCertificate(CertificateError::Other(error))
}

/// Verifies a server: one of its identities must be one of those expected.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) trust: Arc<Trust>,
    pub(super) expected: Arc<[Identity]>,
}

impl ServerVerifier {
    /// The identity for which the server is accepted: the first that is expected.
    pub(super) fn accepted(&self, leaf: &CertificateDer<'_>) -> Result<Identity, rustls::Error> {
        let mut found = identities(leaf);
        if let Some(at) = found.iter().position(|identity| self.expected.contains(identity)) {
            return Ok(found.swap_remove(at));
        }
        let wanted: Vec<_> = self.expected.iter().map(ToString::to_string).collect();
        Err(wrong_identity(found, wanted.join(", ")))
    }

    pub(super) fn check_resumed(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        self.trust.verify_again(chain, now, KeyUsage::server_auth())
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.trust.verify(leaf, intermediates, now, KeyUsage::server_auth())?;
        self.accepted(leaf).map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.trust.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

/// Verifies a client: one of its identities must be of our own trust domain.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub(super) trust: Arc<Trust>,
    pub(super) trust_domain: Arc<str>,
}

impl ClientVerifier {
    /// The identity for which the client is accepted: the first of our trust domain.
    pub(super) fn accepted(&self, leaf: &CertificateDer<'_>) -> Result<Identity, rustls::Error> {
        let mut found = identities(leaf);
        let ours = |identity: &Identity| *identity.trust_domain() == *self.trust_domain;
        match found.iter().position(ours) {
            Some(at) => Ok(found.swap_remove(at)),
            None => {
                Err(wrong_identity(found, format!("any of trust domain {}", self.trust_domain)))
            }
        }
    }

    pub(super) fn check_resumed(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        self.trust.verify_again(chain, now, KeyUsage::client_auth())
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.trust.verify(leaf, intermediates, now, KeyUsage::client_auth())?;
        self.accepted(leaf).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.trust.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}
