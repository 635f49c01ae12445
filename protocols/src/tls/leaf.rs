//! What a certificate says of its owner, for whoever has to be told.

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The names of a certificate that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafNames {
    /// Of all of it.
    pub sha256: [u8; SHA256_OUTPUT_LEN],
    /// Its names that are URIs, in its order.
    pub uris: Vec<String>,
    /// Its names that are hosts, in its order.
    pub hosts: Vec<String>,
}

impl LeafNames {
    /// Reads them. One that cannot be read has none.
    pub fn of(leaf: &CertificateDer<'_>) -> Self {
        let mut sha256 = [0; SHA256_OUTPUT_LEN];
        sha256.copy_from_slice(digest(&SHA256, leaf).as_ref());
        let Ok(certificate) = EndEntityCert::try_from(leaf) else {
            return Self { sha256, uris: Vec::new(), hosts: Vec::new() };
        };
        let owned = |names: &mut dyn Iterator<Item = &str>| names.map(str::to_owned).collect();
        Self {
            sha256,
            uris: owned(&mut certificate.valid_uri_names()),
            hosts: owned(&mut certificate.valid_dns_names()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    #[test]
    fn all_names_are_told_and_nonsense_has_none() {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).expect("a name");
        for uri in ["spiffe://td/ns/a/sa/b", "urn:c"] {
            params.subject_alt_names.push(SanType::URI(uri.try_into().expect("letters")));
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let told = LeafNames::of(certificate.der());
        assert_eq!(told.uris, ["spiffe://td/ns/a/sa/b", "urn:c"]);
        assert_eq!(told.hosts, ["a.example"]);
        let nonsense = LeafNames::of(&CertificateDer::from(b"nonsense".to_vec()));
        assert!(nonsense.uris.is_empty() && nonsense.hosts.is_empty());
        assert_ne!(nonsense.sha256, told.sha256);
    }
}
