//! SPIFFE identities: what is one prints as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_protocols::identity::Identity;

fuzz_target!(|uri: &str| {
    if let Ok(identity) = Identity::parse(uri) {
        assert_eq!(identity.to_string(), uri);
        let again = Identity::new(
            identity.trust_domain(),
            identity.namespace(),
            identity.service_account(),
        );
        assert_eq!(again, Ok(identity));
    }
});
