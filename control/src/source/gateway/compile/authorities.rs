//! Certificates of authorities, in ConfigMaps and Secrets.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_rustls::rustls::RootCertStore;

use super::registry::Registry;

/// Where they stand in the object.
const KEY: &str = "ca.crt";

/// What a ConfigMap or Secret says of authorities, in PEM.
///
/// # Errors
/// Why that is nothing.
pub(super) fn authorities<'r>(
    registry: &'r Registry<'_>,
    kind: &str,
    namespace: &str,
    name: &str,
) -> Result<&'r Arc<[u8]>, String> {
    let object = registry
        .secret(kind, namespace, name)
        .ok_or_else(|| format!("there is no {kind} `{name}` in the namespace `{namespace}`"))?;
    let pem = object.data.get(KEY).ok_or_else(|| format!("the {kind} `{name}` has no `{KEY}`"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let added = certificate.map(|certificate| roots.add(certificate));
        if !matches!(added, Ok(Ok(()))) {
            roots = RootCertStore::empty();
            break;
        }
    }
    match roots.is_empty() {
        true => Err(format!("`{KEY}` of the {kind} `{name}` holds no certificate in PEM")),
        false => Ok(pem),
    }
}
