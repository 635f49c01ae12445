//! Certificates in a dump. Keys are not in it.

use ringway_protocols::tls::Credentials;
use rustls_pki_types::CertificateDer;
use serde::Serialize;

use crate::identity::certificate;
use crate::identity::{CertificateSummary, IdentityStatus};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CertificateView {
    pub(super) identity: String,
    state: String,
    cert_chain: Vec<PemView>,
    root_certs: Vec<PemView>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PemView {
    /// Base64 of the PEM text.
    pem: String,
    serial_number: String,
    valid_from: String,
    expiration_time: String,
}

impl CertificateView {
    pub(super) fn of(status: &IdentityStatus) -> Self {
        let state = match (&status.credentials, &status.error) {
            (Some(_), _) => "Available".to_owned(),
            (None, Some(error)) => format!("Unavailable: {error}"),
            (None, None) => "Initializing".to_owned(),
        };
        let views = |of: fn(&Credentials) -> &[CertificateDer<'static>]| {
            let certificates = status.credentials.as_deref().map(of).unwrap_or_default();
            certificates.iter().filter_map(PemView::of).collect()
        };
        Self {
            identity: status.identity.to_string(),
            state,
            cert_chain: views(Credentials::chain),
            root_certs: views(Credentials::trust_anchors),
        }
    }
}

impl PemView {
    fn of(der: &CertificateDer<'static>) -> Option<Self> {
        let summary = CertificateSummary::of(der)?;
        Some(Self {
            pem: certificate::base64(certificate::to_pem(der).as_bytes()),
            serial_number: summary.serial_number,
            valid_from: summary.valid_from,
            expiration_time: summary.expiration_time,
        })
    }
}
