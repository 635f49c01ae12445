//! Certificates for tests and figures: a root of one's own, and SPIFFE leaves under it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::{Duration, OffsetDateTime};

/// What to make.
#[derive(Clone, Debug, Subcommand)]
pub enum Pki {
    /// A root: writes NAME.pem and NAME.key.
    Root(Root),
    /// A leaf for one identity: writes NAME.pem (with the chain) and NAME.key.
    Leaf(Leaf),
}

/// A root certificate.
#[derive(Clone, Debug, Args)]
pub struct Root {
    /// Where to write, without an ending.
    pub name: PathBuf,
}

/// A leaf certificate.
#[derive(Clone, Debug, Args)]
pub struct Leaf {
    /// Where to write, without an ending.
    pub name: PathBuf,
    /// The root that signs: its certificate.
    #[arg(long)]
    pub root: PathBuf,
    /// The root that signs: its key.
    #[arg(long)]
    pub root_key: PathBuf,
    /// The identity: spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT.
    #[arg(long)]
    pub identity: String,
}

impl Pki {
    /// Makes it.
    pub fn run(&self) -> Result<()> {
        match self {
            Pki::Root(root) => root.write(),
            Pki::Leaf(leaf) => leaf.write(),
        }
    }
}

impl Root {
    /// Makes the key and the certificate and writes both.
    pub fn write(&self) -> Result<()> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.distinguished_name.push(DnType::CommonName, "ringway-bench root");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut parameters, Duration::days(3650));
        let certificate = parameters.self_signed(&key)?;
        write(&self.name, &certificate.pem(), &key)
    }
}

impl Leaf {
    /// Makes the key and the certificate and writes both.
    pub fn write(&self) -> Result<()> {
        let read = |path: &Path| {
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let issuer = Issuer::from_ca_cert_pem(
            &read(&self.root)?,
            KeyPair::from_pem(&read(&self.root_key)?)?,
        )?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.subject_alt_names = vec![SanType::URI(self.identity.as_str().try_into()?)];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.use_authority_key_identifier_extension = true;
        validity(&mut parameters, Duration::days(1));
        let certificate = parameters.signed_by(&key, &issuer)?;
        write(&self.name, &certificate.pem(), &key)
    }
}

fn validity(parameters: &mut CertificateParams, length: Duration) {
    let now = OffsetDateTime::now_utc();
    parameters.not_before = now - Duration::minutes(2);
    parameters.not_after = now + length;
}

fn write(name: &Path, certificate: &str, key: &KeyPair) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let ending = |ending: &str| PathBuf::from(format!("{}.{ending}", name.display()));
    fs::write(ending("pem"), certificate)
        .with_context(|| format!("cannot write {}", ending("pem").display()))?;
    let mut file = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(ending("key"))?;
    file.write_all(key.serialize_pem().as_bytes())?;
    Ok(())
}
