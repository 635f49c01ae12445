//! What a control plane tells as a workload or a service.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_control::xds::decode::{AddressResource, read_address};
use ringway_engine::snapshot::{Interner, Snapshot};

fuzz_target!(|bytes: &[u8]| {
    match read_address(bytes) {
        Ok(AddressResource::Workload { description, .. }) => {
            let uid = description.uid.clone();
            assert!(!uid.is_empty(), "a workload can be referred to");
            let addresses = description.addresses.clone();
            let Ok(workload) = Interner::new().workload(description) else { return };
            let mut world = Snapshot::new("");
            world.upsert_workload(workload);
            let known = world.workload_by_uid(&uid).expect("it was put there");
            assert_eq!(known.addresses().len(), addresses.len());
            let named: Vec<_> = known.services().iter().map(|one| one.service.clone()).collect();
            for service in named {
                assert_eq!(service.to_string().parse(), Ok(service), "a service's name reads back");
            }
            world.remove_workload(&uid).expect("it was there");
            assert_eq!(world.workload_count(), 0);
        }
        Ok(AddressResource::Service(service)) => {
            let id = service.id.clone();
            assert_eq!(id.to_string().parse().as_ref(), Ok(&id), "its name reads back");
            for vip in service.vips.iter() {
                assert_eq!(vip.ip, vip.ip.to_canonical());
            }
            for vip in service.cidr_vips.iter() {
                assert!(vip.cidr.contains(vip.cidr.first()));
                assert_eq!(vip.cidr, vip.cidr.canonical());
            }
            let mut world = Snapshot::new("");
            world.upsert_service(Interner::new().service(service));
            world.remove_service(&id).expect("it was there");
            assert_eq!(world.service_count(), 0);
        }
        Err(rejection) => assert!(!rejection.to_string().is_empty(), "a refusal says why"),
    }
});
