//! One authority: a signing key, its certificate, and what leads from it to a root.
//!
//! It signs leaves and knows nothing of files, succession or the clock; the moment is an argument.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use ringway_protocols::identity::Identity;
use ringway_protocols::tls::Material;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::{Zeroize, Zeroizing};

use crate::identity::certificate;
use crate::identity::private_key::{self, SecretKey};

/// How far back a certificate's first moment lies, so that a peer whose clock is behind accepts it.
const BACKDATE_MAX: Duration = Duration::from_secs(300);

/// A root is valid from this long before it was made.
const ROOT_BACKDATE: Duration = Duration::from_secs(3600);

/// Why a certificate and key cannot be used to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthorityError {
    /// There is no certificate in the PEM text.
    NoCertificate,
    /// There is no private key in the PEM text.
    NoKey,
    /// The certificate is not X.509.
    NotX509,
    /// The certificate may not sign others (it is not a CA certificate).
    NotAnAuthority,
    /// The key is not the one of the certificate.
    KeyMismatch,
    /// The key is of a kind we cannot sign with; named by the library.
    UnusableKey(String),
    /// The certificate does not lead to any of the roots given.
    NoPathToRoot,
    /// The certificate is an intermediate, and no root was given to trust.
    RootMissing,
    /// The certificate has expired.
    Expired(String),
    /// The certificate is not valid yet.
    NotYetValid(String),
    /// The library could not sign.
    Signing(String),
}

impl std::fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("there is no certificate in it (PEM is expected)"),
            Self::NoKey => f.write_str("there is no private key in it (PEM is expected)"),
            Self::NotX509 => f.write_str("the certificate cannot be parsed as X.509"),
            Self::NotAnAuthority => f.write_str(
                "the certificate may not sign others; a CA certificate (basicConstraints CA:TRUE) is needed",
            ),
            Self::KeyMismatch => f.write_str("the key does not belong to the certificate"),
            Self::UnusableKey(why) => write!(
                f,
                "the key cannot be used ({why}); ECDSA P-256 or P-384, Ed25519 or RSA in PKCS#8 is needed"
            ),
            Self::NoPathToRoot => {
                f.write_str("the certificate does not lead to the root: its signature does not verify")
            }
            Self::RootMissing => {
                f.write_str("the certificate is an intermediate; its root certificate is needed too")
            }
            Self::Expired(when) => write!(f, "the certificate expired at {when}"),
            Self::NotYetValid(when) => write!(f, "the certificate is not valid before {when}"),
            Self::Signing(why) => write!(f, "signing failed: {why}"),
        }
    }
}

impl std::error::Error for AuthorityError {}

/// A key that may sign, with its certificate.
pub struct Authority {
    issuer: Issuer<'static, SecretKey>,
    /// The certificate of the key.
    certificate: CertificateDer<'static>,
    /// What a leaf is sent with: from the certificate of the key up to, but without, the root.
    chain: Vec<CertificateDer<'static>>,
    /// What peers must trust.
    roots: Vec<CertificateDer<'static>>,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// An authority in the form it is kept in on disk.
pub struct AuthorityPem {
    /// The certificate (and, for an intermediate, what leads to the root).
    pub certificates: String,
    /// The private key, PKCS#8.
    pub key: Zeroizing<String>,
    /// The roots, if they are not in `certificates`.
    pub roots: Option<String>,
}

impl Authority {
    /// Makes a new root with a fresh ECDSA P-256 key.
    ///
    /// # Errors
    /// [`AuthorityError::Signing`] when the library cannot make keys or sign.
    pub fn generate_root(
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<AuthorityPem, AuthorityError> {
        let key = KeyPair::generate().map_err(signing)?;
        let key_pem = private_key::to_pem(key.serialized_der());
        let certificate = Self::root_for(key, now, lifetime)?;
        Ok(AuthorityPem {
            certificates: certificate::to_pem(&certificate),
            key: key_pem,
            roots: None,
        })
    }

    /// Makes the root certificate for a key that lost its own: same name, same key, new dates.
    ///
    /// # Errors
    /// When the key cannot be read or used.
    pub fn regenerate_root(
        key_pem: &[u8],
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        Self::root_for(parse_key(key_pem)?, now, lifetime)
    }

    /// Reads an authority and checks that it can sign.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence that follows the file's name.
    pub fn from_pem(
        certificates_pem: &[u8],
        key_pem: &[u8],
        roots_pem: Option<&[u8]>,
    ) -> Result<Self, AuthorityError> {
        let mut chain = parse_certificates(certificates_pem)?;
        let mut key = parse_key(key_pem)?;
        let given_roots = roots_pem.map(parse_certificates).transpose()?;
        let (not_before, not_after) = check_signer(&chain[0], &key)?;

        let roots = match given_roots {
            Some(roots) => roots,
            None => {
                let last = chain.last().expect("parse_certificates returns at least one");
                if !signed_by(last, last) {
                    return Err(AuthorityError::RootMissing);
                }
                vec![last.clone()]
            }
        };
        // It signs with what the cryptography library holds; the form in which it could be copied is not needed.
        key.zeroize();
        let certificate = chain[0].clone();
        // Peers hold the root themselves: it is not sent.
        chain.retain(|certificate| !roots.contains(certificate));
        check_path(&chain, &roots)?;

        let issuer = Issuer::from_ca_cert_der(&certificate, SecretKey(key))
            .map_err(|_| AuthorityError::NotX509)?;
        Ok(Self { issuer, certificate, chain, roots, not_before, not_after })
    }

    /// Signs a leaf for `identity` with a fresh key.
    ///
    /// The leaf never outlives this authority. `trust_anchors` becomes the bundle the holder trusts.
    ///
    /// # Errors
    /// When this authority is not valid at `now`, or the library cannot sign.
    pub fn issue(
        &self,
        identity: &Identity,
        lifetime: Duration,
        trust_anchors: Vec<CertificateDer<'static>>,
        now: SystemTime,
    ) -> Result<Material, AuthorityError> {
        self.check_validity(now)?;
        let mut key = SecretKey(KeyPair::generate().map_err(signing)?);
        let parameters = self.leaf_parameters(identity, lifetime, now)?;
        let leaf = parameters.signed_by(&key.0, &self.issuer).map_err(signing)?;

        let mut chain = vec![leaf.der().clone()];
        chain.extend(self.chain.iter().cloned());
        let private_key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.0.serialize_der()));
        key.0.zeroize();
        Ok(Material { chain, key: private_key, trust_anchors })
    }

    /// What peers must trust to accept our leaves.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// What signs.
    pub(super) fn issuer(&self) -> &Issuer<'static, SecretKey> {
        &self.issuer
    }

    /// The certificate whose key signs.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Last moment this authority's signatures are worth anything.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Whether it may sign at `now`.
    ///
    /// # Errors
    /// [`AuthorityError::Expired`] or [`AuthorityError::NotYetValid`].
    pub fn check_validity(&self, now: SystemTime) -> Result<(), AuthorityError> {
        if now > self.not_after {
            return Err(AuthorityError::Expired(certificate::rfc3339_seconds(self.not_after)));
        }
        if now < self.not_before {
            return Err(AuthorityError::NotYetValid(certificate::rfc3339_seconds(self.not_before)));
        }
        Ok(())
    }

    fn leaf_parameters(
        &self,
        identity: &Identity,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<CertificateParams, AuthorityError> {
        // A lifetime of seconds must not be eaten up by the backdating.
        let backdate = BACKDATE_MAX.min(lifetime / 10);
        let uri = identity.to_string().try_into().map_err(signing)?;
        let mut parameters = CertificateParams::default();
        // With an empty subject the alternative name is the only name, and critical: RFC 5280 §4.2.1.6.
        parameters.distinguished_name = DistinguishedName::new();
        parameters.subject_alt_names = vec![SanType::URI(uri)];
        parameters.not_before = OffsetDateTime::from((now - backdate).max(self.not_before));
        parameters.not_after = OffsetDateTime::from((now + lifetime).min(self.not_after));
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.use_authority_key_identifier_extension = true;
        Ok(parameters)
    }

    fn root_for(
        key: KeyPair,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let key = SecretKey(key);
        let digest = digest::digest(&digest::SHA256, key.der_bytes());
        let short_id = certificate::hex(&digest.as_ref()[..4]);
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, format!("Ringway root {short_id}"));
        // It signs leaves only: an intermediate made with a stolen leaf key is worth nothing.
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.not_before = OffsetDateTime::from(now - ROOT_BACKDATE);
        parameters.not_after = OffsetDateTime::from(now + lifetime);
        let certificate = parameters.self_signed(&key).map_err(signing)?;
        Ok(certificate.der().clone())
    }
}

fn parse_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| AuthorityError::NoCertificate)?;
    if certificates.is_empty() {
        return Err(AuthorityError::NoCertificate);
    }
    Ok(certificates)
}

fn parse_key(pem: &[u8]) -> Result<KeyPair, AuthorityError> {
    let der = private_key::from_pem(pem).ok_or(AuthorityError::NoKey)?;
    let key = PrivateKeyDer::try_from(&**der).map_err(|_| AuthorityError::NoKey)?;
    KeyPair::try_from(&key).map_err(|error| AuthorityError::UnusableKey(error.to_string()))
}

/// That `certificate` may sign and `key` is its key. Returns its validity.
fn check_signer(
    certificate: &CertificateDer<'_>,
    key: &KeyPair,
) -> Result<(SystemTime, SystemTime), AuthorityError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| AuthorityError::NotX509)?;
    if !parsed.is_ca() {
        return Err(AuthorityError::NotAnAuthority);
    }
    let may_sign = match parsed.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => return Err(AuthorityError::NotX509),
    };
    if !may_sign {
        return Err(AuthorityError::NotAnAuthority);
    }
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(AuthorityError::KeyMismatch);
    }
    certificate::validity(certificate).ok_or(AuthorityError::NotX509)
}

/// That each certificate of `chain` is signed by the next, and the last by one of `roots`.
fn check_path(
    chain: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
) -> Result<(), AuthorityError> {
    let linked = chain.windows(2).all(|pair| signed_by(&pair[0], &pair[1]));
    let anchored = match chain.last() {
        Some(last) => roots.iter().any(|root| signed_by(last, root)),
        // The signer is itself a root.
        None => true,
    };
    if linked && anchored { Ok(()) } else { Err(AuthorityError::NoPathToRoot) }
}

fn signed_by(certificate: &CertificateDer<'_>, signer: &CertificateDer<'_>) -> bool {
    let (Ok((_, certificate)), Ok((_, signer))) =
        (X509Certificate::from_der(certificate), X509Certificate::from_der(signer))
    else {
        return false;
    };
    certificate.issuer() == signer.subject()
        && certificate.verify_signature(Some(signer.public_key())).is_ok()
}

fn signing(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Signing(error.to_string())
}
