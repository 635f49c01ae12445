//! The revocation lists that peers are held against: which files they stand in, and what is in them.
//!
//! A file holds one list in DER, or any number in PEM, or nothing. What is configured must be there and be
//! readable; the embedded authority's own list only counts once there is one. One file that cannot be
//! used makes all of them unusable: whoever asked for revocation must not get half of it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use ringway_protocols::tls::{self, REVOCATION_BYTES_MAX, RevocationLists, lists_in_pem};
use rustls_pki_types::CertificateRevocationListDer;

/// Base64 makes four bytes of three, and adds line ends.
const FILE_BYTES_MAX: u64 = 2 * REVOCATION_BYTES_MAX as u64;

/// What tells PEM from DER.
const PEM_MARK: &[u8] = b"-----BEGIN ";

/// Why the lists cannot be used.
#[derive(Debug)]
pub enum RevocationError {
    /// A file cannot be read.
    Io(PathBuf, io::Error),
    /// A file is larger than all lists together may be.
    TooLarge(PathBuf),
    /// A file holds something, and no list.
    NoList(PathBuf),
    /// The lists themselves.
    Lists(Vec<PathBuf>, tls::Error),
}

impl std::fmt::Display for RevocationError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(path, error) => {
                write!(f, "cannot read the revocation list {}: {error}", path.display())
            }
            Self::TooLarge(path) => write!(
                f,
                "{} is larger than {FILE_BYTES_MAX} bytes: not a revocation list that can be held",
                path.display()
            ),
            Self::NoList(path) => write!(
                f,
                "there is no revocation list in {}: PEM with `X509 CRL` sections, or one list in DER, is expected",
                path.display()
            ),
            Self::Lists(paths, error) => {
                let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
                write!(f, "{}: {error}", paths.join(", "))
            }
        }
    }
}

impl std::error::Error for RevocationError {}

/// The files, and what was last read from them.
pub struct RevocationFiles {
    /// The embedded authority's own, if there is one; the file need not be there.
    published: Option<PathBuf>,
    configured: Vec<PathBuf>,
    lists: Arc<RevocationLists>,
    /// SHA-256 of everything that was read.
    fingerprint: Vec<u8>,
}

impl RevocationFiles {
    /// Reads the lists.
    ///
    /// # Errors
    /// [`RevocationError`], when any file cannot be used.
    pub fn open(
        published: Option<PathBuf>,
        configured: &[PathBuf],
    ) -> Result<Self, RevocationError> {
        let configured = configured.to_vec();
        let (lists, fingerprint) = (Arc::default(), Vec::new());
        let mut files = Self { published, configured, lists, fingerprint };
        files.refresh()?;
        Ok(files)
    }

    /// Reads the lists as ztunnel does: what cannot be used counts for nothing until it can, and why is said.
    pub fn open_forgiving(
        published: Option<PathBuf>,
        configured: &[PathBuf],
    ) -> (Self, Option<RevocationError>) {
        let configured = configured.to_vec();
        let (lists, fingerprint) = (Arc::default(), Vec::new());
        let mut files = Self { published, configured, lists, fingerprint };
        let error = files.refresh().err();
        (files, error)
    }

    /// Reads the lists again. `true`: there is something new in them.
    ///
    /// # Errors
    /// [`RevocationError`]; what was read before then stays.
    pub fn refresh(&mut self) -> Result<bool, RevocationError> {
        let mut read = Vec::new();
        for path in self.paths() {
            let optional = self.published.as_ref() == Some(&path);
            read.extend(read_lists(&path, optional)?);
        }
        let mut context = digest::Context::new(&digest::SHA256);
        for list in &read {
            context.update(list);
        }
        let fingerprint = context.finish().as_ref().to_vec();
        if fingerprint == self.fingerprint {
            return Ok(false);
        }
        let lists = RevocationLists::from_der(read.iter().map(AsRef::as_ref))
            .map_err(|error| RevocationError::Lists(self.paths(), error))?;
        self.lists = Arc::new(lists);
        self.fingerprint = fingerprint;
        Ok(true)
    }

    /// Other files from now on; they are read by the next [`RevocationFiles::refresh`].
    pub fn configure(&mut self, configured: &[PathBuf]) {
        self.configured = configured.to_vec();
    }

    /// Every file, the authority's own last.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for path in self.configured.iter().chain(&self.published) {
            if !paths.contains(path) {
                paths.push(path.clone());
            }
        }
        paths
    }

    /// What was read last.
    pub fn lists(&self) -> &Arc<RevocationLists> {
        &self.lists
    }
}

fn read_lists(
    path: &Path,
    optional: bool,
) -> Result<Vec<CertificateRevocationListDer<'static>>, RevocationError> {
    let failed = |error| RevocationError::Io(path.to_owned(), error);
    let file = match File::open(path) {
        Err(error) if optional && error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(RevocationError::TooLarge(path.to_owned()));
    }
    let is_pem = bytes.windows(PEM_MARK.len()).any(|window| window == PEM_MARK);
    if !is_pem && !bytes.trim_ascii().is_empty() {
        return Ok(vec![CertificateRevocationListDer::from(bytes)]);
    }
    lists_in_pem(&bytes).ok_or_else(|| RevocationError::NoList(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustls_pki_types::pem::PemObject;

    use super::*;
    use crate::identity::{CaOptions, EmbeddedCa};

    #[test]
    fn files_are_read_in_every_form_and_refused_whole() {
        let directory = tempfile::tempdir().unwrap();
        let now = std::time::SystemTime::now();
        let mut ca =
            EmbeddedCa::open(&directory.path().join("ca"), CaOptions::default(), now).unwrap();
        ca.revoke(&[crate::identity::embedded_ca::Revoke::parse("7").unwrap()], now).unwrap();
        let pem = fs::read(ca.revocation_list()).unwrap();
        let der = CertificateRevocationListDer::from_pem_slice(&pem).unwrap().to_vec();
        //  name                 content                            lists
        let rows: [(&str, Vec<u8>, Option<usize>); 7] = [
            ("PEM", pem.clone(), Some(1)),
            ("PEM, twice", [pem.clone(), pem.clone()].concat(), Some(2)),
            ("DER", der.clone(), Some(1)),
            ("nothing", Vec::new(), Some(0)),
            ("a line end", b"\n".to_vec(), Some(0)),
            ("a certificate", fs::read(ca.path().join("root-cert.pem")).unwrap(), None),
            ("garbage", b"garbage".to_vec(), None),
        ];
        let file = directory.path().join("list");
        let nowhere = directory.path().join("nowhere");
        for (name, content, want) in rows {
            fs::write(&file, content).unwrap();
            let opened = RevocationFiles::open(Some(nowhere.clone()), std::slice::from_ref(&file));
            let lists = opened.as_ref().ok().map(|files| files.lists().len());
            assert_eq!(lists, want, "{name}: {:?}", opened.err());
        }
        let missing = RevocationFiles::open(Some(nowhere.clone()), &[nowhere.with_extension("x")]);
        assert!(missing.is_err_and(|error| error.to_string().contains("nowhere.x")));
    }

    #[test]
    fn in_ztunnels_place_a_list_may_come_later() {
        let directory = tempfile::tempdir().unwrap();
        let now = std::time::SystemTime::now();
        let mut ca =
            EmbeddedCa::open(&directory.path().join("ca"), CaOptions::default(), now).unwrap();
        ca.revoke(&[crate::identity::embedded_ca::Revoke::parse("7").unwrap()], now).unwrap();
        let (list, nowhere) = (directory.path().join("ca.crl"), directory.path().join("nowhere"));
        let (mut files, missing) =
            RevocationFiles::open_forgiving(Some(nowhere), std::slice::from_ref(&list));
        assert!(missing.is_some_and(|error| error.to_string().contains("ca.crl")));
        fs::write(&list, b"garbage").unwrap();
        files.refresh().unwrap_err();
        assert!(files.lists().is_empty());
        fs::write(&list, b"").unwrap();
        assert!(files.refresh().unwrap() && files.lists().is_empty());
        fs::copy(ca.revocation_list(), &list).unwrap();
        assert!(files.refresh().unwrap() && files.lists().len() == 1);
        fs::write(&list, b"garbage").unwrap();
        files.refresh().unwrap_err();
        assert_eq!(files.lists().len(), 1, "the lists before stay");
    }

    #[test]
    fn what_cannot_be_used_leaves_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let now = std::time::SystemTime::now();
        let path = directory.path().join("ca");
        let mut ca = EmbeddedCa::open(&path, CaOptions::default(), now).unwrap();
        let mut files = RevocationFiles::open(Some(ca.revocation_list()), &[]).unwrap();
        assert!(files.lists().is_empty() && !files.refresh().unwrap());
        ca.revoke(&[crate::identity::embedded_ca::Revoke::parse("0x2a").unwrap()], now).unwrap();
        assert!(files.refresh().unwrap() && !files.refresh().unwrap());
        let before = Arc::clone(files.lists());
        fs::write(ca.revocation_list(), b"-----BEGIN X509 CRL-----\nAAAA\n").unwrap();
        files.refresh().unwrap_err();
        assert!(Arc::ptr_eq(&before, files.lists()));
    }
}
