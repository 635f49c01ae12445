//! The key, chain and trust anchors of one identity, made ready for handshakes once.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustls::{
    ClientConfig, InconsistentKeys, ServerConfig, SupportedCipherSuite,
    client::{ClientSessionMemoryCache, Resumption},
    crypto::{CryptoProvider, aws_lc_rs},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroize;

use super::{
    bounds::{CLIENT_CONFIGS_MAX, SESSION_SERVERS_MAX, TICKETS_PER_SERVER},
    error::Error,
    options::Options,
    revocation::RevocationLists,
    tickets::Tickets,
    trust::{Trust, Validity, system_time, validity},
    verifier::{ClientVerifier, ServerVerifier, identities},
};
use crate::identity::Identity;

/// The one protocol inside our TLS.
pub(super) const ALPN: &[u8] = b"h2";

/// What an identity proves itself with, as it comes from a certificate authority.
pub struct Material {
    /// The leaf and its intermediates, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: PrivateKeyDer<'static>,
    /// Whom to trust.
    pub trust_anchors: Vec<CertificateDer<'static>>,
}

/// See the module's text. Shared by every handshake of the identity.
pub struct Credentials {
    identity: Identity,
    validity: Validity,
    chain: Vec<CertificateDer<'static>>,
    trust_anchors: Vec<CertificateDer<'static>>,
    resolver: Arc<SingleCertAndKey>,
    trust: Arc<Trust>,
    provider: Arc<CryptoProvider>,
    options: Options,
    server: ServerRole,
    clients: Mutex<HashMap<Arc<[Identity]>, ClientRole>>,
    sessions: Arc<ClientSessionMemoryCache>,
}

/// What a server's handshakes share.
#[derive(Clone)]
pub(super) struct ServerRole {
    pub(super) config: Arc<ServerConfig>,
    pub(super) verifier: Arc<ClientVerifier>,
}

/// What the handshakes with servers of the same expected identities share.
#[derive(Clone)]
pub(super) struct ClientRole {
    pub(super) config: Arc<ClientConfig>,
    pub(super) verifier: Arc<ServerVerifier>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("identity", &self.identity)
            .field("not_after", &self.validity.not_after)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Makes the material ready. The key goes to the cryptography library; what it was read from is wiped.
    ///
    /// # Errors
    /// [`Error::Credentials`] when the key does not belong to the leaf, the leaf names no identity, or a
    /// certificate cannot be read.
    pub fn new(material: Material, options: &Options) -> Result<Self, Error> {
        let Material { chain, mut key, trust_anchors } = material;
        let provider = provider(options.post_quantum_only);
        let certified = certified_key(&chain, &key);
        key.zeroize();
        let resolver = Arc::new(SingleCertAndKey::from(certified?));
        Self::assemble(chain, trust_anchors, resolver, provider, options.clone())
    }

    /// Whether a revocation list has an entry for a certificate of the own chain: peers that know it refuse it.
    pub fn are_revoked(&self) -> bool {
        self.options.revocation.concern(&self.chain)
    }

    /// The same identity, key and anchors, held against other revocation lists. Sessions that these
    /// credentials would resume begin anew with those.
    ///
    /// # Errors
    /// As for [`Credentials::new`].
    pub fn with_revocation(&self, revocation: Arc<RevocationLists>) -> Result<Self, Error> {
        Self::assemble(
            self.chain.clone(),
            self.trust_anchors.clone(),
            self.resolver.clone(),
            self.provider.clone(),
            Options { revocation, ..self.options.clone() },
        )
    }

    /// The same identity and key, trusting others: a root that is to come is trusted before it signs.
    ///
    /// # Errors
    /// As for [`Credentials::new`].
    pub fn with_trust_anchors(
        &self,
        trust_anchors: Vec<CertificateDer<'static>>,
    ) -> Result<Self, Error> {
        Self::assemble(
            self.chain.clone(),
            trust_anchors,
            self.resolver.clone(),
            self.provider.clone(),
            self.options.clone(),
        )
    }

    fn assemble(
        chain: Vec<CertificateDer<'static>>,
        trust_anchors: Vec<CertificateDer<'static>>,
        resolver: Arc<SingleCertAndKey>,
        provider: Arc<CryptoProvider>,
        options: Options,
    ) -> Result<Self, Error> {
        let leaf = chain.first().expect("a certified key has a chain");
        let identity = identities(leaf)
            .into_iter()
            .next()
            .ok_or_else(|| Error::Credentials("the leaf names no SPIFFE identity".to_owned()))?;
        let validity = validity(leaf)
            .ok_or_else(|| Error::Credentials("the leaf's validity cannot be read".to_owned()))?;
        let trust = Arc::new(Trust::new(&trust_anchors, options.revocation.clone(), &provider)?);
        let verifier = Arc::new(ClientVerifier {
            trust: trust.clone(),
            trust_domain: identity.trust_domain().into(),
        });
        let mut config = server_config(&verifier, &resolver, &provider, &options)?;
        if options.resumption {
            config.send_tls13_tickets = 1;
            config.ticketer =
                Arc::new(Tickets::new(validity.not_after, options.time.clone(), &provider)?);
        }
        Ok(Self {
            identity,
            validity,
            chain,
            trust_anchors,
            resolver,
            trust,
            provider,
            options,
            server: ServerRole { config: Arc::new(config), verifier },
            clients: Mutex::default(),
            sessions: Arc::new(ClientSessionMemoryCache::new(
                SESSION_SERVERS_MAX * TICKETS_PER_SERVER,
            )),
        })
    }

    /// The identity that the leaf names.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When the leaf begins to be valid.
    pub fn not_before(&self) -> SystemTime {
        self.validity.not_before
    }

    /// When the leaf ceases to be valid.
    pub fn not_after(&self) -> SystemTime {
        self.validity.not_after
    }

    /// The leaf and its intermediates.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Whom this identity trusts.
    pub fn trust_anchors(&self) -> &[CertificateDer<'static>] {
        &self.trust_anchors
    }

    /// The present, by the clock that certificates are judged by.
    pub fn now(&self) -> Option<SystemTime> {
        self.options.time.current_time().map(system_time)
    }

    pub(super) fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    pub(super) fn server(&self) -> &ServerRole {
        &self.server
    }

    pub(super) fn client(&self, expected: &Arc<[Identity]>) -> Result<ClientRole, Error> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(role) = clients.get(expected) {
            return Ok(role.clone());
        }
        let role = self.client_role(expected.clone())?;
        if clients.len() >= CLIENT_CONFIGS_MAX {
            clients.clear();
        }
        clients.insert(expected.clone(), role.clone());
        Ok(role)
    }

    fn client_role(&self, expected: Arc<[Identity]>) -> Result<ClientRole, Error> {
        let verifier = Arc::new(ServerVerifier { trust: self.trust.clone(), expected });
        let mut config =
            ClientConfig::builder_with_details(self.provider.clone(), self.options.time.clone())
                .with_protocol_versions(&[&TLS13])?
                .dangerous()
                .with_custom_certificate_verifier(verifier.clone())
                .with_client_cert_resolver(self.resolver.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_sni = false;
        config.enable_secret_extraction = true;
        // One store for all: a session is only offered to the verifier that has accepted its server.
        config.resumption = match self.options.resumption {
            true => Resumption::store(self.sessions.clone()),
            false => Resumption::disabled(),
        };
        Ok(ClientRole { config: Arc::new(config), verifier })
    }
}

/// Hands the key over to the cryptography library and checks that it is the leaf's.
fn certified_key(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Error> {
    let unusable = |error: rustls::Error| Error::Credentials(error.to_string());
    if chain.is_empty() {
        return Err(Error::Credentials("the certificate chain is empty".to_owned()));
    }
    let key = aws_lc_rs::sign::any_supported_type(key).map_err(unusable)?;
    let certified = CertifiedKey::new(chain.to_vec(), key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(error) => Err(unusable(error)),
    }
}

fn server_config(
    verifier: &Arc<ClientVerifier>,
    resolver: &Arc<SingleCertAndKey>,
    provider: &Arc<CryptoProvider>,
    options: &Options,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_details(provider.clone(), options.time.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier.clone())
        .with_cert_resolver(resolver.clone());
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_secret_extraction = true;
    config.ignore_client_order = true;
    config.send_tls13_tickets = 0;
    // The ticket itself is the store: nothing is kept for a client that may never come back.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn provider(post_quantum_only: bool) -> Arc<CryptoProvider> {
    let suites: Vec<SupportedCipherSuite> = vec![
        aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
    ];
    let mut groups = vec![
        aws_lc_rs::kx_group::X25519MLKEM768,
        aws_lc_rs::kx_group::X25519,
        aws_lc_rs::kx_group::SECP256R1,
        aws_lc_rs::kx_group::SECP384R1,
    ];
    if post_quantum_only {
        groups.truncate(1);
    }
    Arc::new(CryptoProvider {
        cipher_suites: suites,
        kx_groups: groups,
        ..aws_lc_rs::default_provider()
    })
}
