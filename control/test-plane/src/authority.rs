//! The certificate authority of the test plane: a root, an intermediate under it, and leaves for node proxies.
//!
//! The root is kept in files (`root-cert.pem`, `root-key.pem`), so that a plane that was killed comes back as the same
//! one. Proxies are given the leaf, the intermediate, and the roots they are to trust: after a rotation two of them,
//! in one element, as istiod does with several roots.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;

/// What proxies trust, and what they are told to trust.
pub const ROOT_FILE: &str = "root-cert.pem";

const ROOT_KEY_FILE: &str = "root-key.pem";

/// How far back certificates begin, for peers whose clocks are behind; for short-lived ones, a tenth of their life.
const BACKDATE_MAX: Duration = Duration::from_secs(120);

/// How long roots and intermediates are valid.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Signs what proxies ask for.
pub(crate) struct Authority {
    directory: PathBuf,
    intermediate: Issuer<'static, KeyPair>,
    intermediate_certificate: CertificateDer<'static>,
    /// The one that signs, then the ones that are still trusted.
    roots: Vec<String>,
    /// The one that signs next, with its key; it is trusted already.
    announced: Option<(String, String)>,
}

impl Authority {
    /// Reads the root from `directory`, or makes one there.
    ///
    /// # Errors
    /// When the files cannot be read, written or understood.
    pub(crate) fn open(directory: &Path) -> Result<Authority> {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let (certificate, key) = (directory.join(ROOT_FILE), directory.join(ROOT_KEY_FILE));
        if !key.exists() {
            let (certificate_pem, key_pem) = new_root()?;
            replace(&certificate, &certificate_pem)?;
            replace(&key, &key_pem)?;
        }
        let pem = fs::read_to_string(&certificate)
            .with_context(|| format!("cannot read {}", certificate.display()))?;
        let roots = CertificateDer::pem_slice_iter(pem.as_bytes())
            .map(|root| Ok(pem_of(&root?)))
            .collect::<Result<Vec<_>>>()?;
        let key = fs::read_to_string(&key)?;
        let first = roots.first().context("root-cert.pem has no certificate")?;
        let (intermediate_certificate, intermediate) = new_intermediate(first, &key)?;
        let directory = directory.to_owned();
        let announced = None;
        Ok(Authority { directory, intermediate, intermediate_certificate, roots, announced })
    }

    /// The chain for `identity` over the caller's key: leaf, intermediate, and every root in the last element.
    ///
    /// # Errors
    /// When the library refuses.
    pub(crate) fn issue(
        &self,
        identity: &str,
        key: &impl PublicKeyData,
        lifetime: Duration,
    ) -> Result<Vec<String>> {
        let name = SanType::URI(identity.try_into()?);
        let leaf = leaf(vec![name], lifetime, true).signed_by(key, &self.intermediate)?;
        Ok(vec![leaf.pem(), pem_of(&self.intermediate_certificate), self.bundle()])
    }

    /// A fresh certificate for the server's own names.
    ///
    /// # Errors
    /// When the library refuses.
    pub(crate) fn server_config(&self, names: &[String]) -> Result<Arc<rustls::ServerConfig>> {
        let key = KeyPair::generate()?;
        let parameters = CertificateParams::new(names.to_vec())?;
        let names = parameters.subject_alt_names;
        let leaf = leaf(names, AUTHORITY_LIFETIME, false).signed_by(&key, &self.intermediate)?;
        let chain = vec![leaf.der().clone(), self.intermediate_certificate.clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    /// Has a root that signs later be trusted from now on.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub(crate) fn announce(&mut self) -> Result<()> {
        let (certificate, key) = new_root()?;
        self.roots.push(certificate.clone());
        self.announced = Some((certificate, key));
        replace(&self.directory.join(ROOT_FILE), &self.bundle())
    }

    /// Signs under a new root from now on, or under the one that was announced. With `keep`, the ones before are trusted
    /// as well.
    ///
    /// # Errors
    /// When the new root cannot be made or written.
    pub(crate) fn rotate(&mut self, keep: bool) -> Result<()> {
        let (certificate, key) = self.announced.take().map_or_else(new_root, Ok)?;
        let mut before = if keep { std::mem::take(&mut self.roots) } else { Vec::new() };
        before.retain(|root| *root != certificate);
        self.roots = std::iter::once(certificate.clone()).chain(before).collect();
        (self.intermediate_certificate, self.intermediate) = new_intermediate(&certificate, &key)?;
        replace(&self.directory.join(ROOT_KEY_FILE), &key)?;
        replace(&self.directory.join(ROOT_FILE), &self.bundle())
    }

    /// Every root that is trusted.
    pub(crate) fn bundle(&self) -> String {
        self.roots.concat()
    }

    /// How many roots are trusted.
    pub(crate) fn roots(&self) -> usize {
        self.roots.len()
    }
}

fn new_root() -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let certificate = authority("Ringway test root", 1).self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn new_intermediate(
    root: &str,
    root_key: &str,
) -> Result<(CertificateDer<'static>, Issuer<'static, KeyPair>)> {
    let root = CertificateDer::from_pem_slice(root.as_bytes())?;
    let root = Issuer::from_ca_cert_der(&root, KeyPair::from_pem(root_key)?)?;
    let (key, parameters) = (KeyPair::generate()?, authority("Ringway test intermediate", 0));
    let certificate = parameters.signed_by(&key, &root)?.der().clone();
    Ok((certificate, Issuer::new(parameters, key)))
}

fn authority(name: &str, intermediates_below: u8) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    // Two roots of one name would be told apart by their keys only, which few programs do.
    let name = format!("{name} {}", OffsetDateTime::now_utc().unix_timestamp_nanos());
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(intermediates_below));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut parameters, AUTHORITY_LIFETIME);
    parameters
}

fn leaf(names: Vec<SanType>, lifetime: Duration, of_workload: bool) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.subject_alt_names = names;
    parameters.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if of_workload {
        parameters.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    valid_for(&mut parameters, lifetime);
    parameters
}

fn valid_for(parameters: &mut CertificateParams, lifetime: Duration) {
    let now = OffsetDateTime::now_utc();
    parameters.not_before = now - BACKDATE_MAX.min(lifetime / 10);
    parameters.not_after = now + lifetime;
}

fn pem_of(certificate: &CertificateDer<'_>) -> String {
    ringway_control::identity::certificate::to_pem(certificate)
}

/// A file appears whole or not at all, also to who watches it.
fn replace(path: &Path, text: &str) -> Result<()> {
    let next = path.with_extension("next");
    fs::write(&next, text).with_context(|| format!("cannot write {}", next.display()))?;
    fs::rename(&next, path).with_context(|| format!("cannot write {}", path.display()))
}
