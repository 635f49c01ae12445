//! Who may be at the other end: the chain, the purpose, and the SPIFFE identity in it.
//!
//! A session that is resumed shows no certificate. What its first handshake was shown comes back with
//! the ticket, and [`ServerVerifier::check_resumed`] and [`ClientVerifier::check_resumed`] look at it again.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::verify_tls13_signature,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::EndEntityCert;

use super::trust::{PeerRole, Trust};
use crate::identity::Identity;

/// The SPIFFE identities a certificate names, in its order.
pub(super) fn identities(leaf: &CertificateDer<'_>) -> Vec<Identity> {
    let Ok(leaf) = EndEntityCert::try_from(leaf) else { return Vec::new() };
    leaf.valid_uri_names().filter_map(|uri| Identity::parse(uri).ok()).collect()
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
        self.trust.verify_again(chain, now, PeerRole::Server)
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
        self.trust.verify(leaf, intermediates, now, PeerRole::Server)?;
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
        verify_tls13_signature(message, cert, dss, self.trust.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms().supported_schemes()
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
        self.trust.verify_again(chain, now, PeerRole::Client)
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
        self.trust.verify(leaf, intermediates, now, PeerRole::Client)?;
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
        verify_tls13_signature(message, cert, dss, self.trust.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms().supported_schemes()
    }
}
