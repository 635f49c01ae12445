//! Certificates that were revoked before their time, as their authorities list them (RFC 5280 §5).
//!
//! A list counts for the certificates of its issuer, leaves and intermediates alike, once its signature
//! verifies with that issuer's key. What no list speaks of is not revoked, and a list that is past its
//! next update still counts: a list that comes late must not cut a whole mesh.

use std::fmt;

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject};
use webpki::{CertRevocationList, EndEntityCert, OwnedCertRevocationList};

use super::bounds::{REVOCATION_BYTES_MAX, REVOCATION_LISTS_MAX};
use super::error::Error;

/// See the module's text. Empty: nothing is revoked.
#[derive(Default)]
pub struct RevocationLists {
    lists: Vec<CertRevocationList<'static>>,
    bytes: usize,
    /// Two lists are issued in one name.
    has_namesakes: bool,
}

impl RevocationLists {
    /// Reads lists, each in DER.
    ///
    /// Nothing is said about their signatures here: whose they are shows in the chains they are held against.
    ///
    /// # Errors
    /// [`Error::Revocation`] when one is no list, is of a kind that is not understood (delta and indirect
    /// lists, version 1), or when they are more than the bounds allow.
    pub fn from_der<'d>(lists: impl IntoIterator<Item = &'d [u8]>) -> Result<Self, Error> {
        let mut read = Self::default();
        for der in lists {
            read.bytes += der.len();
            if read.lists.len() >= REVOCATION_LISTS_MAX {
                let why = format!("more than {REVOCATION_LISTS_MAX} revocation lists");
                return Err(Error::Revocation(why));
            }
            if read.bytes > REVOCATION_BYTES_MAX {
                let why = format!("more than {REVOCATION_BYTES_MAX} bytes of revocation lists");
                return Err(Error::Revocation(why));
            }
            let list = OwnedCertRevocationList::from_der(der)
                .map_err(|error| Error::Revocation(format!("not a usable CRL: {error}")))?;
            let list: CertRevocationList<'static> = list.into();
            read.has_namesakes |= read.lists.iter().any(|other| other.issuer() == list.issuer());
            read.lists.push(list);
        }
        Ok(read)
    }

    /// Reads every list in PEM; none where there is nothing.
    ///
    /// # Errors
    /// As [`RevocationLists::from_der`], and when there is something and no list.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let nothing = || Error::Revocation("there is no `X509 CRL` section in PEM".to_owned());
        Self::from_der(lists_in_pem(pem).ok_or_else(nothing)?.iter().map(AsRef::as_ref))
    }

    /// How many lists there are.
    pub fn len(&self) -> usize {
        self.lists.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    pub(super) fn all(&self) -> Vec<&CertRevocationList<'static>> {
        self.lists.iter().collect()
    }

    /// Whether two lists are issued in one name.
    pub(super) fn has_namesakes(&self) -> bool {
        self.has_namesakes
    }

    /// Those that are issued in the name of an issuer of this chain.
    pub(super) fn named<'l>(
        &'l self,
        issuers: &[Vec<u8>],
    ) -> impl Iterator<Item = &'l CertRevocationList<'static>> {
        self.lists.iter().filter(|list| issuers.iter().any(|issuer| issuer == list.issuer()))
    }

    /// Whether a list has an entry for a certificate of this chain. Whether the list is its issuer's is
    /// for [`Trust`](super::trust::Trust) to say; without an entry it need not be asked.
    pub(super) fn concern(&self, chain: &[CertificateDer<'_>]) -> bool {
        if self.lists.is_empty() {
            return false;
        }
        chain.iter().any(|certificate| {
            let Ok(certificate) = EndEntityCert::try_from(certificate) else { return true };
            let listed = |list: &CertRevocationList<'_>| {
                list.issuer() == certificate.issuer()
                    && !matches!(list.find_serial(certificate.serial()), Ok(None))
            };
            self.lists.iter().any(listed)
        })
    }
}

/// The lists in PEM, in DER, not looked into. `None`: there is something else, or one of them is broken off.
pub fn lists_in_pem(pem: &[u8]) -> Option<Vec<CertificateRevocationListDer<'static>>> {
    if pem.trim_ascii().is_empty() {
        return Some(Vec::new());
    }
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    lists.ok().filter(|lists| !lists.is_empty())
}

impl fmt::Debug for RevocationLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationLists")
            .field("lists", &self.lists.len())
            .field("bytes", &self.bytes)
            .finish()
    }
}
