//! A certificate authority for tests and examples: leaves of the same length every time, so that a simulated run replays.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ED25519, SanType, SerialNumber,
};
use ringway_protocols::{
    identity::Identity,
    tls::{Credentials, Material, Options},
};
use rustls_pki_types::PrivateKeyDer;

/// See the module's text.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// One whose root is valid as `params` say.
    pub(crate) fn new(mut params: CertificateParams) -> Self {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.serial_number = Some(SerialNumber::from(1));
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a root"))
    }

    /// Credentials of this identity, valid as `params` say.
    pub(crate) fn issue(
        &self,
        identity: &Identity,
        mut params: CertificateParams,
        options: &Options,
    ) -> Arc<Credentials> {
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        params.serial_number = Some(SerialNumber::from(2));
        let uri = identity.to_string().try_into().expect("an ASCII identity");
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &self.0).expect("a leaf");
        let material = Material {
            chain: vec![leaf.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8"),
            trust_anchors: vec![self.0.der().clone()],
        };
        Arc::new(Credentials::new(material, options).expect("good material"))
    }
}
