//! The files of an authority: their names, how the first are made, how each is read as far as its role needs.

use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::CaOptions;
use super::authority::{Authority, AuthorityError};
use super::directory::{CaDirectory, DirectoryLock};
use super::error::CaError;
use super::succession::{Entry, Role};
use crate::identity::certificate;

pub(super) const STATE_FILE: &str = "ca-state.json";
pub(super) const ROOT_CERTIFICATE: &str = "root-cert.pem";
pub(super) const ROOT_KEY: &str = "root-key.pem";
pub(super) const INTERMEDIATE_CERTIFICATE: &str = "ca-cert.pem";
pub(super) const INTERMEDIATE_KEY: &str = "ca-key.pem";
/// Istio's name for the intermediate together with what leads to the root.
pub(super) const INTERMEDIATE_CHAIN: &str = "cert-chain.pem";

pub(super) const PUBLIC: u32 = 0o644;
pub(super) const SECRET: u32 = 0o600;

/// One authority of the succession, loaded as far as its role needs.
pub(super) struct Member {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// Absent where it signs no more.
    pub(super) authority: Option<Authority>,
}

pub(super) fn holds_authority(directory: &CaDirectory) -> bool {
    [STATE_FILE, ROOT_CERTIFICATE, INTERMEDIATE_CERTIFICATE, INTERMEDIATE_KEY]
        .iter()
        .any(|name| directory.contains(name))
}

/// The key goes first: a certificate on disk always has its key, whenever we are killed.
pub(super) fn create_root(
    directory: &CaDirectory,
    lock: &DirectoryLock,
    options: &CaOptions,
    now: SystemTime,
) -> Result<(), CaError> {
    // A key without a certificate is what a process killed between the two leaves: its certificate is made again.
    let certificate = match directory.read_key(ROOT_KEY)? {
        Some(key) => {
            let made = Authority::regenerate_root(&key, now, options.root_lifetime);
            let path = directory.path().join(ROOT_KEY);
            certificate::to_pem(&made.map_err(|error| CaError::Authority(path, error))?)
        }
        None => {
            let pem =
                Authority::generate_root(now, options.root_lifetime).map_err(CaError::Given)?;
            directory.write(lock, ROOT_KEY, pem.key.as_bytes(), SECRET)?;
            pem.certificates
        }
    };
    directory.write(lock, ROOT_CERTIFICATE, certificate.as_bytes(), PUBLIC)?;
    Ok(())
}

/// The one authority of a directory without a state file.
pub(super) fn sole_entry(directory: &CaDirectory) -> Result<Entry, CaError> {
    let intermediate = directory.contains(INTERMEDIATE_KEY);
    let (certificate, key, root) = if intermediate {
        let chained = directory.contains(INTERMEDIATE_CHAIN);
        let file = if chained { INTERMEDIATE_CHAIN } else { INTERMEDIATE_CERTIFICATE };
        (file, INTERMEDIATE_KEY, Some(ROOT_CERTIFICATE.to_owned()))
    } else {
        (ROOT_CERTIFICATE, ROOT_KEY, None)
    };
    let own = read_first_certificate(directory, certificate)?;
    let signs_from = certificate::validity(&own).map_or(SystemTime::UNIX_EPOCH, |(from, _)| from);
    Ok(Entry {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        root,
        fingerprint: certificate::fingerprint(&own),
        signs_from,
        trusted_until: None,
    })
}

pub(super) fn load_member(
    directory: &CaDirectory,
    role: Role,
    entry: &Entry,
) -> Result<Member, CaError> {
    let path = directory.path().join(&entry.certificate);
    if role == Role::Retired {
        // Its files may be gone.
        let nothing = CertificateDer::from(Vec::new());
        return Ok(Member { certificate: nothing, roots: Vec::new(), authority: None });
    }
    let own = read_first_certificate(directory, &entry.certificate)?;
    if certificate::fingerprint(&own) != entry.fingerprint {
        return Err(CaError::Replaced(path));
    }
    if role == Role::Previous {
        let name = entry.root.as_ref().unwrap_or(&entry.certificate);
        let mut roots = read_certificates(directory, name)?;
        if entry.root.is_none() {
            // Of a chain, the root stands last.
            roots.drain(..roots.len() - 1);
        }
        return Ok(Member { certificate: own, roots, authority: None });
    }
    let authority = load_authority(directory, entry)?;
    Ok(Member { certificate: own, roots: authority.roots().to_vec(), authority: Some(authority) })
}

/// The authority of an entry with its key, whatever its role.
pub(super) fn load_authority(directory: &CaDirectory, entry: &Entry) -> Result<Authority, CaError> {
    let missing = |name: &str| CaError::FileMissing(directory.path().join(name));
    let certificates =
        directory.read(&entry.certificate)?.ok_or_else(|| missing(&entry.certificate))?;
    let key = directory.read_key(&entry.key)?.ok_or_else(|| missing(&entry.key))?;
    let roots = match &entry.root {
        Some(name) => Some(directory.read(name)?.ok_or_else(|| missing(name))?),
        None => None,
    };
    Authority::from_pem(&certificates, &key, roots.as_deref())
        .map_err(|error| CaError::Authority(directory.path().join(&entry.certificate), error))
}

fn read_first_certificate(
    directory: &CaDirectory,
    name: &str,
) -> Result<CertificateDer<'static>, CaError> {
    Ok(read_certificates(directory, name)?.swap_remove(0))
}

fn read_certificates(
    directory: &CaDirectory,
    name: &str,
) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let path = directory.path().join(name);
    let pem = directory.read(name)?.ok_or_else(|| CaError::FileMissing(path.clone()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(CaError::Authority(path, AuthorityError::NoCertificate)),
    }
}
