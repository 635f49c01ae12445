//! The certificate authority for meshes that have no other: a root in a directory, leaves for identities.
//!
//! The root is made on the first start. Hosts of one mesh share it through the directory (a shared file system, or
//! copies of it) and re-read it when it changes. A rotation runs by dates, see [`succession`].
//!
//! ```text
//!   root-cert.pem  0644    the root others may trust
//!   root-key.pem   0600    its key
//!   ca-cert.pem, ca-key.pem   instead, where an intermediate was brought that signs under root-cert.pem
//!   ca-state.json  0644    after a rotation: who signs from when, who is trusted until when
//!   crl.pem        0644    after a revocation: which certificates are not accepted any more, see [`revoke`]
//! ```

pub mod authority;
pub mod directory;
mod error;
mod files;
pub mod revoke;
pub mod succession;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ringway_protocols::identity::Identity;
use ringway_protocols::tls::Material;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;

pub use self::error::CaError;
pub use self::revoke::{REVOCATION_LIST, Revoke, Revoked};

use self::authority::{Authority, AuthorityError, AuthorityPem};
use self::directory::{CaDirectory, FileStamp};
use self::files::{
    INTERMEDIATE_CERTIFICATE, INTERMEDIATE_KEY, Member, PUBLIC, ROOT_CERTIFICATE, ROOT_KEY, SECRET,
    STATE_FILE, create_root, holds_authority, load_member, sole_entry,
};
use self::succession::{Entry, Role, Succession};
use super::certificate::{self, CertificateSummary};
use super::store::{Epoch, Issuer, Refusal};

/// Leaves live this long where nothing else is asked for.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A root made here lives this long: ten years with their leap days.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(3652 * 24 * 3600);

/// How the authority signs.
#[derive(Debug, Clone)]
pub struct CaOptions {
    /// How long a leaf is valid.
    pub leaf_lifetime: Duration,
    /// How long a root made here is valid.
    pub root_lifetime: Duration,
}

impl Default for CaOptions {
    fn default() -> Self {
        Self { leaf_lifetime: LEAF_LIFETIME, root_lifetime: ROOT_LIFETIME }
    }
}

/// An authority the operator brings.
pub struct Import<'a> {
    /// Its certificate, and what leads to the root, PEM.
    pub certificates: &'a [u8],
    /// Its key, PEM.
    pub key: &'a [u8],
    /// The roots, PEM, where the certificate is an intermediate.
    pub roots: Option<&'a [u8]>,
}

/// How a rotation goes.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// How long the new root is trusted before it signs: longer than any host needs to read the directory again.
    pub new_signs_after: Duration,
    /// How long the old root stays trusted from then on: longer than any leaf it signed lives.
    pub old_trusted_for: Duration,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            new_signs_after: Duration::from_secs(24 * 3600),
            old_trusted_for: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// One authority, as `ringway ca show` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityDescription {
    /// What it is to the mesh now.
    pub role: Role,
    /// Its certificate.
    #[serde(flatten)]
    pub certificate: CertificateSummary,
    /// From when on it signs.
    pub signs_from: String,
    /// Until when it is trusted at most.
    pub trusted_until: String,
}

/// The embedded authority.
pub struct EmbeddedCa {
    directory: CaDirectory,
    options: CaOptions,
    succession: Succession,
    members: Vec<Member>,
    stamps: Vec<(String, FileStamp)>,
}

impl EmbeddedCa {
    /// The files an authority in `directory` has, as far as their names are known beforehand.
    pub fn files(directory: &Path) -> Vec<PathBuf> {
        let names = [
            files::STATE_FILE,
            files::ROOT_CERTIFICATE,
            files::ROOT_KEY,
            files::INTERMEDIATE_CERTIFICATE,
            files::INTERMEDIATE_KEY,
            files::INTERMEDIATE_CHAIN,
            REVOCATION_LIST,
        ];
        names.map(|name| directory.join(name)).to_vec()
    }

    /// Opens the authority in `directory`, making directory and root on the first start.
    ///
    /// Several processes may do so at once: all end with the same root.
    ///
    /// # Errors
    /// [`CaError`], each a sentence that says what to do.
    pub fn open(path: &Path, options: CaOptions, now: SystemTime) -> Result<Self, CaError> {
        let directory = CaDirectory::open_or_create(path)?;
        if !holds_authority(&directory) {
            let lock = directory.lock()?;
            if !holds_authority(&directory) {
                create_root(&directory, &lock, &options, now)?;
            }
        }
        Self::load(directory, options, now)
    }

    /// Opens an authority that must be there; changes nothing.
    ///
    /// # Errors
    /// [`CaError::Absent`], or as [`EmbeddedCa::open`].
    pub fn open_existing(
        path: &Path,
        options: CaOptions,
        now: SystemTime,
    ) -> Result<Self, CaError> {
        if !path.exists() {
            return Err(CaError::Absent(path.to_owned()));
        }
        let directory = CaDirectory::open(path)?;
        if !holds_authority(&directory) {
            return Err(CaError::Absent(path.to_owned()));
        }
        Self::load(directory, options, now)
    }

    /// Makes a new root in a directory that holds none.
    ///
    /// # Errors
    /// [`CaError::Exists`], or as [`EmbeddedCa::open`].
    pub fn create(path: &Path, options: CaOptions, now: SystemTime) -> Result<Self, CaError> {
        let directory = CaDirectory::open_or_create(path)?;
        let lock = directory.lock()?;
        if holds_authority(&directory) {
            return Err(CaError::Exists(path.to_owned()));
        }
        create_root(&directory, &lock, &options, now)?;
        Self::load(directory, options, now)
    }

    /// Brings an existing authority into a directory that holds none.
    ///
    /// # Errors
    /// [`CaError::Given`] when it cannot sign, [`CaError::Exists`], or as [`EmbeddedCa::open`].
    pub fn import(
        path: &Path,
        options: CaOptions,
        import: &Import<'_>,
        now: SystemTime,
    ) -> Result<Self, CaError> {
        check_import(import, now)?;
        let directory = CaDirectory::open_or_create(path)?;
        let lock = directory.lock()?;
        if holds_authority(&directory) || directory.contains(ROOT_KEY) {
            return Err(CaError::Exists(path.to_owned()));
        }
        if let Some(roots) = import.roots {
            directory.write(&lock, INTERMEDIATE_KEY, import.key, SECRET)?;
            directory.write(&lock, INTERMEDIATE_CERTIFICATE, import.certificates, PUBLIC)?;
            directory.write(&lock, ROOT_CERTIFICATE, roots, PUBLIC)?;
        } else {
            directory.write(&lock, ROOT_KEY, import.key, SECRET)?;
            directory.write(&lock, ROOT_CERTIFICATE, import.certificates, PUBLIC)?;
        }
        Self::load(directory, options, now)
    }

    /// Prepares a successor: trusted at once, signing later, see [`Rotation`].
    ///
    /// # Errors
    /// While an earlier rotation has not begun to sign, or as [`EmbeddedCa::open`].
    pub fn rotate(
        &mut self,
        rotation: &Rotation,
        successor: Option<&Import<'_>>,
        now: SystemTime,
    ) -> Result<(), CaError> {
        if rotation.old_trusted_for.is_zero() && !rotation.new_signs_after.is_zero() {
            return Err(CaError::Gap);
        }
        let lock = self.directory.lock()?;
        // Another process may have rotated since we last looked.
        *self = Self::load(self.directory.clone(), self.options.clone(), now)?;

        let pem = match successor {
            Some(import) => {
                check_import(import, now)?;
                AuthorityPem {
                    certificates: String::from_utf8_lossy(import.certificates).into_owned(),
                    key: zeroize::Zeroizing::new(String::from_utf8_lossy(import.key).into_owned()),
                    roots: import.roots.map(|roots| String::from_utf8_lossy(roots).into_owned()),
                }
            }
            None => {
                Authority::generate_root(now, self.options.root_lifetime).map_err(CaError::Given)?
            }
        };
        let signs_from = now + rotation.new_signs_after;
        let entry = successor_entry(&pem, signs_from)?;
        let mut succession = self.succession.clone();
        let old_trusted_until = signs_from + rotation.old_trusted_for;
        let retired = succession
            .succeed(entry.clone(), old_trusted_until, now)
            .map_err(|error| self.state_error(error))?;

        // The state file is the commit: before it, the new files mean nothing.
        self.directory.write(&lock, &entry.key, pem.key.as_bytes(), SECRET)?;
        self.directory.write(&lock, &entry.certificate, pem.certificates.as_bytes(), PUBLIC)?;
        if let (Some(name), Some(roots)) = (&entry.root, &pem.roots) {
            self.directory.write(&lock, name, roots.as_bytes(), PUBLIC)?;
        }
        self.directory.write(&lock, STATE_FILE, succession.render().as_bytes(), PUBLIC)?;
        for gone in retired {
            self.directory.remove(&lock, &gone.key)?;
            self.directory.remove(&lock, &gone.certificate)?;
            if let Some(root) = &gone.root {
                self.directory.remove(&lock, root)?;
            }
        }
        *self = Self::load(self.directory.clone(), self.options.clone(), now)?;
        Ok(())
    }

    /// Re-reads the directory if anything in it changed.
    ///
    /// # Errors
    /// When what is there now cannot be used; the authority then goes on as it was.
    pub fn refresh(&mut self, now: SystemTime) -> Result<(), CaError> {
        if self.stamps.iter().all(|(name, stamp)| self.directory.stamp(name) == *stamp) {
            return Ok(());
        }
        *self = Self::load(self.directory.clone(), self.options.clone(), now)?;
        Ok(())
    }

    /// A fresh key and a leaf for `identity`, with everything its holder needs.
    ///
    /// # Errors
    /// When no authority may sign at `now`.
    pub fn issue(&self, identity: &Identity, now: SystemTime) -> Result<Material, CaError> {
        self.issue_for(identity, self.options.leaf_lifetime, now)
    }

    /// As [`EmbeddedCa::issue`], with a lifetime of its own.
    ///
    /// # Errors
    /// When no authority may sign at `now`.
    pub fn issue_for(
        &self,
        identity: &Identity,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Material, CaError> {
        let index = self.succession.signer(now).map_err(|error| self.state_error(error))?;
        let file = self.directory.path().join(&self.succession.entries()[index].key);
        let authority =
            self.members[index].authority.as_ref().ok_or(CaError::FileMissing(file.clone()))?;
        authority
            .issue(identity, lifetime, self.trust_bundle(now), now)
            .map_err(|error| CaError::Authority(file, error))
    }

    /// The roots trusted at `now`, oldest first, each once.
    pub fn trust_bundle(&self, now: SystemTime) -> Vec<CertificateDer<'static>> {
        let mut bundle = Vec::new();
        for (member, (role, _)) in self.members.iter().zip(self.succession.roles(now)) {
            if role == Role::Retired {
                continue;
            }
            for root in &member.roots {
                if !bundle.contains(root) {
                    bundle.push(root.clone());
                }
            }
        }
        bundle
    }

    /// What credentials made at `now` look like; compare with that of an earlier moment.
    pub fn epoch(&self, now: SystemTime) -> Epoch {
        let signer = self.succession.signer(now).ok();
        let signer = signer.map(|index| self.succession.entries()[index].fingerprint.clone());
        let trusted = self.trust_bundle(now);
        let trusted = trusted.iter().map(certificate::fingerprint);
        Epoch::new([signer.unwrap_or_default()].into_iter().chain(trusted))
    }

    /// Every authority that is not retired, oldest first.
    pub fn describe(&self, now: SystemTime) -> Vec<AuthorityDescription> {
        let roles = self.succession.roles(now);
        let described = self.members.iter().zip(roles).filter_map(|(member, (role, entry))| {
            let certificate = CertificateSummary::of(&member.certificate)?;
            let (_, expires) = certificate::validity(&member.certificate)?;
            let until = entry.trusted_until.map_or(expires, |until| until.min(expires));
            Some(AuthorityDescription {
                role,
                certificate,
                signs_from: certificate::rfc3339_seconds(entry.signs_from),
                trusted_until: certificate::rfc3339_seconds(until),
            })
        });
        described.filter(|description| description.role != Role::Retired).collect()
    }

    /// When each authority that is trusted at `now` expires, by its role.
    pub fn expiries(&self, now: SystemTime) -> Vec<(String, SystemTime)> {
        let roles = self.succession.roles(now);
        let expiries = self.members.iter().zip(roles).filter_map(|(member, (role, _))| {
            let (_, expires) = certificate::validity(&member.certificate)?;
            Some((role.to_string(), expires))
        });
        expiries.collect()
    }

    /// Where it lives.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    fn load(directory: CaDirectory, options: CaOptions, now: SystemTime) -> Result<Self, CaError> {
        // The stamps are taken before the files are read: what changes in between is read once more.
        let mut stamps = vec![(STATE_FILE.to_owned(), directory.stamp(STATE_FILE))];
        let succession = match directory.read(STATE_FILE)? {
            Some(json) => Succession::parse(&json)
                .map_err(|error| CaError::State(directory.path().join(STATE_FILE), error))?,
            None => Succession::sole(sole_entry(&directory)?),
        };
        let mut members = Vec::new();
        for (role, entry) in succession.roles(now) {
            let names = [Some(&entry.certificate), Some(&entry.key), entry.root.as_ref()];
            for name in names.into_iter().flatten() {
                stamps.push((name.clone(), directory.stamp(name)));
            }
            members.push(load_member(&directory, role, entry)?);
        }
        Ok(Self { directory, options, succession, members, stamps })
    }

    fn state_error(&self, error: succession::SuccessionError) -> CaError {
        CaError::State(self.directory.path().join(STATE_FILE), error)
    }
}

impl Issuer for EmbeddedCa {
    fn issue(&self, identity: &Identity, now: SystemTime) -> Result<Material, Refusal> {
        EmbeddedCa::issue(self, identity, now).map_err(|error| Refusal::Refused(error.to_string()))
    }

    fn epoch(&self, now: SystemTime) -> Epoch {
        EmbeddedCa::epoch(self, now)
    }
}

fn check_import(import: &Import<'_>, now: SystemTime) -> Result<(), CaError> {
    Authority::from_pem(import.certificates, import.key, import.roots)
        .and_then(|authority| authority.check_validity(now))
        .map_err(CaError::Given)
}

/// Names the successor's files after its certificate, so that they never collide with older ones.
fn successor_entry(pem: &AuthorityPem, signs_from: SystemTime) -> Result<Entry, CaError> {
    let own = CertificateDer::from_pem_slice(pem.certificates.as_bytes())
        .map_err(|_| CaError::Given(AuthorityError::NoCertificate))?;
    let fingerprint = certificate::fingerprint(&own);
    let short = &fingerprint[..8];
    Ok(Entry {
        certificate: format!("root-cert-{short}.pem"),
        key: format!("root-key-{short}.pem"),
        root: pem.roots.as_ref().map(|_| format!("root-of-{short}.pem")),
        fingerprint,
        signs_from,
        trusted_until: None,
    })
}
