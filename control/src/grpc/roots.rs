//! Who may sign for a server: the roots in a file, those of the system, or a text.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_rustls::rustls::RootCertStore;

use super::error::GrpcError;

/// The word for the system's roots.
const SYSTEM: &str = "SYSTEM";

/// Where systems keep their roots in one file: Debian, Red Hat, SUSE, Alpine.
const SYSTEM_FILES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Where the roots come from; they are read again for every connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// Certificates in PEM, in a file.
    File(PathBuf),
    /// What the operating system trusts; `SSL_CERT_FILE` names another file.
    System,
    /// Certificates in PEM.
    Pem(String),
}

impl Roots {
    /// What a setting means: the word `SYSTEM`, the certificates themselves, or else the path of a file.
    pub fn of_setting(text: &str) -> Self {
        match text {
            SYSTEM => Self::System,
            pem if pem.contains("-----BEGIN ") => Self::Pem(pem.to_owned()),
            path => Self::File(path.into()),
        }
    }

    /// The file they stand in, where it is one that may change.
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::System => Some(system_file()),
            Self::Pem(_) => None,
        }
    }

    /// Reads them.
    pub(super) fn read(&self) -> Result<RootCertStore, GrpcError> {
        let refused = |why: String| GrpcError::Roots { of: self.to_string(), why };
        let pem = match self {
            Self::Pem(pem) => pem.clone().into_bytes(),
            Self::File(path) => {
                fs::read(path).map_err(|error| refused(format!("cannot be read: {error}")))?
            }
            Self::System => fs::read(system_file())
                .map_err(|error| refused(format!("cannot be read: {error}")))?,
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let added = match certificate {
                Ok(certificate) => roots.add(certificate).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match added {
                // The system's many roots may have one among them that nobody can read; ours may not.
                Err(why) if *self != Self::System => {
                    return Err(refused(format!("hold a certificate that cannot be read: {why}")));
                }
                _ => {}
            }
        }
        if roots.is_empty() {
            return Err(refused("hold no certificate (PEM is expected)".to_owned()));
        }
        Ok(roots)
    }
}

impl fmt::Display for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the roots in {}", path.display()),
            Self::System => write!(f, "the roots of the system in {}", system_file().display()),
            Self::Pem(_) => f.write_str("the roots that were given"),
        }
    }
}

/// The certificates, in PEM, of those that the operating system trusts.
///
/// # Errors
/// They cannot be read; in a sentence.
#[cfg(feature = "waypoint")]
pub(crate) fn system_roots() -> Result<Vec<u8>, String> {
    let file = system_file();
    fs::read(&file).map_err(|error| {
        format!("the roots of the system in {} cannot be read: {error}", file.display())
    })
}

fn system_file() -> PathBuf {
    if let Some(path) = std::env::var_os("SSL_CERT_FILE") {
        return path.into();
    }
    let there = SYSTEM_FILES.iter().map(PathBuf::from).find(|path| path.exists());
    there.unwrap_or_else(|| SYSTEM_FILES[0].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_mean_a_word_a_text_or_a_file() {
        assert_eq!(Roots::of_setting("SYSTEM"), Roots::System);
        let pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        assert_eq!(Roots::of_setting(pem), Roots::Pem(pem.to_owned()));
        let path = "./var/run/secrets/istio/root-cert.pem";
        assert_eq!(Roots::of_setting(path), Roots::File(path.into()));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("root-cert.pem");
        let roots = Roots::File(path.clone());
        let key = rcgen::KeyPair::generate().unwrap();
        let root = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        //  name                 content                               want
        let rows = [
            ("missing", None, Err("cannot be read")),
            ("nothing", Some(String::new()), Err("no certificate")),
            ("garbage", Some("garbage".to_owned()), Err("no certificate")),
            ("a key", Some(key.serialize_pem()), Err("no certificate")),
            ("cut off", Some(root[..root.len() / 2].to_owned()), Err("root-cert.pem")),
            ("no X.509", Some(root.replace("MI", "AA")), Err("root-cert.pem")),
            ("one", Some(root.clone()), Ok(1)),
            ("two", Some(format!("# a comment\n{root}\n{root}")), Ok(2)),
            (
                "one, one broken",
                Some(format!("{root}{}", root.replace("MI", "AA"))),
                Err("root-cert"),
            ),
        ];
        for (name, content, want) in rows {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            match (roots.read(), want) {
                (Ok(read), Ok(count)) => assert_eq!(read.len(), count, "{name}"),
                (Err(error), Err(want)) => {
                    let told = error.to_string();
                    assert!(
                        told.contains(want) && told.contains("root-cert.pem"),
                        "{name}: {told}"
                    );
                }
                (got, _) => panic!("{name}: {got:?}"),
            }
        }
    }
}
