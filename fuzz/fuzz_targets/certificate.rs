//! A leaf of any bytes, and one whose name holds any bytes: whoever it says it is, it says by the rules.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, IsCa, KeyPair};
use ringway_protocols::identity::Identity;
use ringway_protocols::tls::*;

struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    key: KeyPair,
}

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    Authority { root, key: KeyPair::generate().unwrap() }
});

/// The subject alternative name (RFC 5280 §4.2.1.6).
const ALTERNATIVE_NAME: &[u64] = &[2, 5, 29, 17];

fuzz_target!(|input: (bool, &[u8])| {
    let (whole, bytes) = input;
    let Authority { root, key } = &*AUTHORITY;
    let leaf = if whole {
        bytes.to_vec().into()
    } else {
        let mut params = CertificateParams::default();
        let content = bytes.to_vec();
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(ALTERNATIVE_NAME, content)];
        params.signed_by(key, root).unwrap().der().clone()
    };
    let material = Material {
        chain: vec![leaf],
        key: key.serialize_der().try_into().unwrap(),
        trust_anchors: vec![root.der().clone()],
    };
    if let Ok(credentials) = Credentials::new(material, &Options::default()) {
        let identity = credentials.identity();
        assert_eq!(Identity::parse(&identity.to_string()).as_ref(), Ok(identity));
    }
});
