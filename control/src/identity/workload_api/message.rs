//! The messages of the SPIFFE Workload API, and what is made of them.

use std::rc::Rc;
use std::time::SystemTime;

use prost::Message;
use ringway_protocols::tls::Material;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::{Zeroize, Zeroizing};

use crate::identity::certificate;

/// Certificates in one chain, or in one bundle.
const CERTIFICATES_MAX: usize = 64;

/// `X509SVIDRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {}

/// `X509SVIDResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Response {
    #[prost(message, repeated, tag = "1")]
    pub(super) svids: Vec<ToldSvid>,
    /// Revocation lists, DER.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) crl: Vec<Vec<u8>>,
}

impl Response {
    /// Wipes the keys that nobody has taken.
    pub(super) fn wipe(&mut self) {
        self.svids.iter_mut().for_each(|svid| svid.x509_svid_key.zeroize());
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// `X509SVID`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ToldSvid {
    #[prost(string, tag = "1")]
    pub(super) spiffe_id: String,
    /// The leaf and its intermediates, DER, one after the other.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) x509_svid: Vec<u8>,
    /// PKCS #8, DER.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) x509_svid_key: Vec<u8>,
    /// The roots of its trust domain, DER, one after the other.
    #[prost(bytes = "vec", tag = "4")]
    pub(super) bundle: Vec<u8>,
}

/// One identity, as the agent gave it. The key is wiped with the last copy.
#[derive(Clone)]
pub(super) struct Svid {
    /// Never empty.
    chain: Vec<CertificateDer<'static>>,
    bundle: Vec<CertificateDer<'static>>,
    key: Rc<Zeroizing<Vec<u8>>>,
}

impl Svid {
    /// Takes the key out.
    pub(super) fn read(told: &mut ToldSvid) -> Result<Self, String> {
        let key = Rc::new(Zeroizing::new(std::mem::take(&mut told.x509_svid_key)));
        if key.is_empty() {
            return Err("it has no key".to_owned());
        }
        Ok(Self {
            chain: certificates(&told.x509_svid).map_err(|why| format!("its chain {why}"))?,
            bundle: certificates(&told.bundle).map_err(|why| format!("its bundle {why}"))?,
            key,
        })
    }

    /// All that is not secret.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.chain.iter().chain(&self.bundle)
    }

    pub(super) fn has_ended(&self, now: SystemTime) -> bool {
        certificate::validity(&self.chain[0]).is_some_and(|(_, until)| until <= now)
    }

    pub(super) fn material(&self) -> Material {
        // Whoever takes it wipes it.
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.to_vec()));
        Material { chain: self.chain.clone(), key, trust_anchors: self.bundle.clone() }
    }
}

/// Certificates that stand one after the other.
fn certificates(mut der: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut certificates = Vec::new();
    while !der.is_empty() {
        let (rest, _) = X509Certificate::from_der(der)
            .map_err(|_| format!("has garbage after {} certificates", certificates.len()))?;
        let (certificate, rest) = der.split_at(der.len() - rest.len());
        certificates.push(CertificateDer::from(certificate.to_vec()));
        der = rest;
        if certificates.len() > CERTIFICATES_MAX {
            return Err(format!("has more than {CERTIFICATES_MAX} certificates"));
        }
    }
    match certificates.is_empty() {
        true => Err("is empty".to_owned()),
        false => Ok(certificates),
    }
}
