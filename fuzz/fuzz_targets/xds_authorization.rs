//! What a control plane tells as a policy.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_control::proto::security::Authorization;
use ringway_control::xds::decode::read_authorization;
use ringway_engine::snapshot::Snapshot;

fuzz_target!(|bytes: &[u8]| {
    match read_authorization(bytes) {
        Ok(policy) => {
            // Nothing is left out: as many conditions were told as are read.
            let told = <Authorization as prost::Message>::decode(bytes).expect("it was read");
            assert_eq!(policy.rules.len(), told.rules.len());
            for (read, told) in policy.rules.iter().zip(&told.rules) {
                assert_eq!(read.clauses.len(), told.clauses.len());
                for (read, told) in read.clauses.iter().zip(&told.clauses) {
                    assert_eq!(read.matches.len(), told.matches.len());
                    for (read, told) in read.matches.iter().zip(&told.matches) {
                        let read = [
                            read.namespaces.len(),
                            read.not_namespaces.len(),
                            read.principals.len(),
                            read.not_principals.len(),
                            read.source_ips.len(),
                            read.not_source_ips.len(),
                            read.destination_ips.len(),
                            read.not_destination_ips.len(),
                            read.destination_ports.len(),
                            read.not_destination_ports.len(),
                            read.service_accounts.len(),
                            read.not_service_accounts.len(),
                        ];
                        let told = [
                            told.namespaces.len(),
                            told.not_namespaces.len(),
                            told.principals.len(),
                            told.not_principals.len(),
                            told.source_ips.len(),
                            told.not_source_ips.len(),
                            told.destination_ips.len(),
                            told.not_destination_ips.len(),
                            told.destination_ports.len(),
                            told.not_destination_ports.len(),
                            told.service_accounts.len(),
                            told.not_service_accounts.len(),
                        ];
                        assert_eq!(read, told);
                    }
                }
            }
            let mut world = Snapshot::new("");
            let (namespace, name) = (policy.namespace.clone(), policy.name.clone());
            world.upsert_policy(policy);
            world.remove_policy(&namespace, &name).expect("it was there");
        }
        Err(rejection) => assert!(!rejection.to_string().is_empty(), "a refusal says why"),
    }
});
