//! What a snapshot costs on top of the one it was made from.

use std::ops::AddAssign;

use super::Snapshot;

/// Memory that one snapshot holds and another does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Nodes of trees.
    pub nodes: usize,
    /// The bytes of those nodes. What they point to (workloads, services) is not counted.
    pub bytes: usize,
}

impl AddAssign for Footprint {
    fn add_assign(&mut self, other: Footprint) {
        self.nodes += other.nodes;
        self.bytes += other.bytes;
    }
}

impl Snapshot {
    /// What this snapshot's indexes hold that `older`'s do not: the cost of the changes between them.
    ///
    /// This walks both, so it is for tests and for the curious, not for every publication.
    pub fn footprint_beside(&self, older: &Snapshot) -> Footprint {
        let mut footprint = Footprint::default();
        footprint += self.credentials.footprint_beside(&older.credentials);
        footprint += self.workloads.footprint_beside(&older.workloads);
        footprint += self.workloads_by_address.footprint_beside(&older.workloads_by_address);
        footprint += self.workloads_by_hostname.footprint_beside(&older.workloads_by_hostname);
        footprint += self.locals.footprint_beside(&older.locals);
        footprint += self.resolutions.footprint_beside(&older.resolutions);
        footprint += self.services.footprint_beside(&older.services);
        footprint += self.services_by_vip.footprint_beside(&older.services_by_vip);
        footprint += self.services_by_cidr_vip.footprint_beside(&older.services_by_cidr_vip);
        footprint += self.services_by_hostname.footprint_beside(&older.services_by_hostname);
        footprint += self.endpoints.footprint_beside(&older.endpoints);
        for endpoints in self.endpoints.iter() {
            let before = older.endpoints_named(endpoints.service());
            footprint += endpoints.footprint_beside(before.map(|before| &**before));
        }
        footprint
    }
}
