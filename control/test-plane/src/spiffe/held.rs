//! What an agent holds, and how it is issued.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::authority::Authority;

/// What an agent holds, ready to be told.
#[derive(Clone, Default)]
pub(super) struct Held {
    pub(super) identities: Identities,
    /// The roots, DER, one after the other.
    pub(super) bundle: Vec<u8>,
}

/// What an agent holds by SPIFFE ID; `None` is to be issued.
pub(super) type Identities = BTreeMap<String, Option<Issued>>;

/// A certificate as it was issued.
#[derive(Clone)]
pub(super) struct Issued {
    /// The leaf and the intermediate, DER, one after the other.
    pub(super) chain: Vec<u8>,
    /// PKCS #8, DER.
    pub(super) key: Vec<u8>,
}

impl Held {
    /// These identities; what is lacking is issued.
    ///
    /// # Errors
    /// When something cannot be issued.
    pub(super) fn complete(
        authority: &Authority,
        mut identities: Identities,
        lifetime: Duration,
    ) -> Result<Held> {
        for (identity, issued) in &mut identities {
            if issued.is_none() {
                *issued = Some(issue(authority, identity, lifetime)?);
            }
        }
        let bundle = der(&authority.bundle())?;
        Ok(Held { identities, bundle })
    }
}

fn issue(authority: &Authority, identity: &str, lifetime: Duration) -> Result<Issued> {
    let key = KeyPair::generate()?;
    let mut chain = authority.issue(identity, &key, lifetime)?;
    // Roots are told apart from the chain here.
    chain.pop();
    Ok(Issued { chain: der(&chain.concat())?, key: key.serialize_der() })
}

/// Certificates one after the other.
fn der(pem: &str) -> Result<Vec<u8>> {
    let mut der = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        der.extend_from_slice(&certificate?);
    }
    Ok(der)
}
