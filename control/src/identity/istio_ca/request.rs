//! A fresh key, and the request to certify it (PKCS #10, RFC 2986).

use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use ringway_protocols::identity::Identity;
use ringway_protocols::tls::Material;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::response::Received;
use crate::identity::certificate;
use crate::identity::private_key::SecretKey;

/// The key stays here; the request goes out.
pub(super) struct SigningRequest {
    key: SecretKey,
    der: Vec<u8>,
}

impl SigningRequest {
    /// A new ECDSA P-256 key, and a request that says nothing but the one name.
    pub(super) fn new(identity: &Identity) -> Result<Self, String> {
        let failed =
            |error: rcgen::Error| format!("no request for a certificate can be made: {error}");
        let key = SecretKey(KeyPair::generate().map_err(failed)?);
        let mut parameters = CertificateParams::default();
        // With an empty subject the alternative name is the only name, and critical: RFC 5280 §4.2.1.6.
        parameters.distinguished_name = DistinguishedName::new();
        let uri = identity.to_string().try_into().map_err(failed)?;
        parameters.subject_alt_names = vec![SanType::URI(uri)];
        let request = parameters.serialize_request(&key).map_err(failed)?;
        Ok(Self { der: request.der().to_vec(), key })
    }

    pub(super) fn pem(&self) -> String {
        certificate::encode_pem("CERTIFICATE REQUEST", &self.der)
    }

    /// The key, with what was received for it.
    pub(super) fn complete(self, received: Received) -> Material {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.0.serialize_der()));
        Material { chain: received.chain, key, trust_anchors: received.trust_anchors }
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateSigningRequestDer;
    use rustls_pki_types::pem::PemObject;
    use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509CertificationRequest};

    use super::*;

    #[test]
    fn a_request_has_no_subject_and_one_critical_name_and_another_key_each_time() {
        let identity = Identity::new("cluster.local", "shop", "web").unwrap();
        let (one, two) =
            (SigningRequest::new(&identity).unwrap(), SigningRequest::new(&identity).unwrap());
        let der = CertificateSigningRequestDer::from_pem_slice(one.pem().as_bytes()).unwrap();
        let (rest, request) = X509CertificationRequest::from_der(&der).unwrap();
        assert!(rest.is_empty());
        request.verify_signature().unwrap();
        let information = &request.certification_request_info;
        assert_eq!(information.subject.iter_attributes().count(), 0);
        // ecdsa-with-SHA256, over a key on P-256.
        assert_eq!(request.signature_algorithm.algorithm.to_string(), "1.2.840.10045.4.3.2");
        let curve = information.subject_pki.algorithm.parameters.as_ref().unwrap();
        assert_eq!(curve.as_oid().unwrap().to_string(), "1.2.840.10045.3.1.7");
        let attributes: Vec<_> = information.iter_attributes().collect();
        assert_eq!(attributes.len(), 1, "the request for extensions, and nothing else");
        let x509_parser::cri_attributes::ParsedCriAttribute::ExtensionRequest(asked) =
            attributes[0].parsed_attribute()
        else {
            panic!("{:?}", attributes[0]);
        };
        let [name] = asked.extensions.as_slice() else { panic!("{:?}", asked.extensions) };
        assert!(name.critical);
        let ParsedExtension::SubjectAlternativeName(names) = name.parsed_extension() else {
            panic!("{name:?}");
        };
        assert_eq!(
            names.general_names,
            [GeneralName::URI("spiffe://cluster.local/ns/shop/sa/web")]
        );
        let keys = [&one, &two].map(|one| one.key.0.public_key_raw().to_vec());
        assert_ne!(keys[0], keys[1]);
    }
}
