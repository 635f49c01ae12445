//! The key, chain and trust anchors of one identity, made ready for handshakes once.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, ServerConfig, SupportedCipherSuite,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    server::ServerSessionMemoryCache,
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::{DefaultTimeProvider, TimeProvider},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{
    error::Error,
    verifier::{ClientVerifier, ServerVerifier, Trust, identities},
};
use crate::identity::Identity;

/// The one protocol inside our TLS.
const ALPN: &[u8] = b"h2";
/// Sets of expected identities whose configuration is kept, so that their sessions can be resumed.
const CLIENT_CONFIGS_MAX: usize = 1024;
/// Sessions kept for one set of expected identities.
const SESSIONS_MAX: usize = 8;

/// What an identity proves itself with, as it comes from a certificate authority.
pub struct Material {
    /// The leaf and its intermediates, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: PrivateKeyDer<'static>,
    /// Whom to trust.
    pub trust_anchors: Vec<CertificateDer<'static>>,
}

/// How sessions are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The clock that certificates are judged by.
    pub time: Arc<dyn TimeProvider>,
    /// Whether sessions are resumed.
    pub resumption: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { time: Arc::new(DefaultTimeProvider), resumption: true }
    }
}

/// See the module's text. Shared by every handshake of the identity.
pub struct Credentials {
    identity: Identity,
    not_before: SystemTime,
    not_after: SystemTime,
    chain: Vec<CertificateDer<'static>>,
    trust_anchors: Vec<CertificateDer<'static>>,
    resolver: Arc<SingleCertAndKey>,
    trust: Arc<Trust>,
    provider: Arc<CryptoProvider>,
    options: Options,
    server: Arc<ServerConfig>,
    clients: Mutex<HashMap<Arc<[Identity]>, Arc<ClientConfig>>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("identity", &self.identity)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Makes the material ready.
    ///
    /// # Errors
    /// [`Error::Credentials`] when the key does not belong to the leaf, the leaf names no identity, or a
    /// certificate cannot be read.
    pub fn new(material: Material, options: &Options) -> Result<Self, Error> {
        let provider = provider();
        let leaf = material
            .chain
            .first()
            .ok_or_else(|| Error::Credentials("the certificate chain is empty".to_owned()))?;
        let identity = identities(leaf)
            .into_iter()
            .next()
            .ok_or_else(|| Error::Credentials("the leaf names no SPIFFE identity".to_owned()))?;
        let (not_before, not_after) = validity(leaf)?;
        let key = CertifiedKey::from_der(material.chain.clone(), material.key, &provider)
            .map_err(|error| Error::Credentials(error.to_string()))?;
        let resolver = Arc::new(SingleCertAndKey::from(key));
        let trust = Arc::new(trust(&material.trust_anchors, &provider)?);
        let server = server_config(&identity, &resolver, &trust, &provider, options)?;
        Ok(Self {
            identity,
            not_before,
            not_after,
            chain: material.chain,
            trust_anchors: material.trust_anchors,
            resolver,
            trust,
            provider,
            options: options.clone(),
            server: Arc::new(server),
            clients: Mutex::default(),
        })
    }

    /// The identity that the leaf names.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When the leaf begins to be valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// When the leaf ceases to be valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The leaf and its intermediates.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Whom this identity trusts.
    pub fn trust_anchors(&self) -> &[CertificateDer<'static>] {
        &self.trust_anchors
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    pub(super) fn client(&self, expected: Arc<[Identity]>) -> Result<Arc<ClientConfig>, Error> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = clients.get(&expected) {
            return Ok(config.clone());
        }
        let verifier = ServerVerifier { trust: self.trust.clone(), expected: expected.clone() };
        let mut config =
            ClientConfig::builder_with_details(self.provider.clone(), self.options.time.clone())
                .with_protocol_versions(&[&TLS13])
                .map_err(Error::Handshake)?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_client_cert_resolver(self.resolver.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_sni = false;
        config.enable_secret_extraction = true;
        config.resumption = if self.options.resumption {
            Resumption::in_memory_sessions(SESSIONS_MAX)
        } else {
            Resumption::disabled()
        };
        let config = Arc::new(config);
        if clients.len() >= CLIENT_CONFIGS_MAX {
            clients.clear();
        }
        clients.insert(expected, config.clone());
        Ok(config)
    }
}

fn server_config(
    identity: &Identity,
    resolver: &Arc<SingleCertAndKey>,
    trust: &Arc<Trust>,
    provider: &Arc<CryptoProvider>,
    options: &Options,
) -> Result<ServerConfig, Error> {
    let verifier =
        ClientVerifier { trust: trust.clone(), trust_domain: identity.trust_domain().into() };
    let mut config = ServerConfig::builder_with_details(provider.clone(), options.time.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(Error::Handshake)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(resolver.clone());
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_secret_extraction = true;
    config.ignore_client_order = true;
    config.send_tls13_tickets = 0;
    if options.resumption {
        config.send_tls13_tickets = 1;
        config.session_storage = ServerSessionMemoryCache::new(4096);
    }
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    let suites: Vec<SupportedCipherSuite> = vec![
        aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
    ];
    let groups = vec![
        aws_lc_rs::kx_group::X25519MLKEM768,
        aws_lc_rs::kx_group::X25519,
        aws_lc_rs::kx_group::SECP256R1,
        aws_lc_rs::kx_group::SECP384R1,
    ];
    Arc::new(CryptoProvider {
        cipher_suites: suites,
        kx_groups: groups,
        ..aws_lc_rs::default_provider()
    })
}

fn trust(anchors: &[CertificateDer<'static>], provider: &CryptoProvider) -> Result<Trust, Error> {
    let anchors = anchors
        .iter()
        .map(|anchor| webpki::anchor_from_trusted_cert(anchor).map(|anchor| anchor.to_owned()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::Credentials(format!("a trust anchor cannot be read: {error}")))?;
    if anchors.is_empty() {
        return Err(Error::Credentials("there are no trust anchors".to_owned()));
    }
    Ok(Trust { anchors, algorithms: provider.signature_verification_algorithms })
}

/// When a certificate is valid. Walks the DER to the `Validity` of RFC 5280 §4.1.
fn validity(leaf: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), Error> {
    let unreadable = || Error::Credentials("the leaf's validity cannot be read".to_owned());
    let mut certificate = Der(leaf);
    let mut tbs = Der(Der(certificate.next(0x30).ok_or_else(unreadable)?)
        .next(0x30)
        .ok_or_else(unreadable)?);
    // version, if it is there; serial number, algorithm, issuer.
    let _version = tbs.next(0xa0);
    for tag in [0x02, 0x30, 0x30] {
        tbs.next(tag).ok_or_else(unreadable)?;
    }
    let mut validity = Der(tbs.next(0x30).ok_or_else(unreadable)?);
    let mut time = || validity.time().ok_or_else(unreadable);
    Ok((time()?, time()?))
}

struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn next(&mut self, wanted: u8) -> Option<&'a [u8]> {
        let (&tag, rest) = self.0.split_first()?;
        if tag != wanted {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let bytes = usize::from(first & 0x7f);
            if bytes > 4 || rest.len() < bytes {
                return None;
            }
            let length = rest[..bytes].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, &rest[bytes..])
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(value)
    }

    /// UTCTime (two-digit years, 1950–2049) or GeneralizedTime.
    fn time(&mut self) -> Option<SystemTime> {
        let (year, rest) = if let Some(text) = self.next(0x17) {
            let short = number(text.get(..2)?)?;
            (if short < 50 { 2000 + short } else { 1900 + short }, text.get(2..)?)
        } else {
            let text = self.next(0x18)?;
            (number(text.get(..4)?)?, text.get(4..)?)
        };
        let part = |at: usize| number(rest.get(at..at + 2)?);
        let (month, day) = (part(0)?, part(2)?);
        let seconds = part(4)? * 3600 + part(6)? * 60 + part(8)?;
        let days = days_from_civil(year, month, day);
        let since = days.checked_mul(86_400)?.checked_add(seconds)?;
        let since = Duration::from_secs(u64::try_from(since).ok()?);
        Some(SystemTime::UNIX_EPOCH + since)
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}
