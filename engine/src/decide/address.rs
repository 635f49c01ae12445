//! Picks the address at which a workload is dialled.

use std::net::IpAddr;

use super::chance::Chance;
use crate::snapshot::{IpFamilies, Snapshot, Workload};

/// The address for a client that connected to `original`, if any is known: that very address when the
/// workload has it; or else one that the service uses, of the same family rather than the other; or
/// else any that its hostname resolves to.
pub(super) fn address_of(
    snapshot: &Snapshot,
    workload: &Workload,
    families: IpFamilies,
    original: IpAddr,
    chance: &mut Chance,
) -> Option<IpAddr> {
    if workload.addresses().contains(&original) {
        return Some(original);
    }
    let is_same_family = |ip: &IpAddr| ip.is_ipv4() == original.is_ipv4();
    let allowed = || workload.addresses().iter().copied().filter(|&ip| families.allows(ip));
    if let Some(ip) = allowed().find(is_same_family).or_else(|| allowed().next()) {
        return Some(ip);
    }
    if workload.hostname().is_empty() {
        return None;
    }
    let resolved = snapshot.resolution(workload.hostname());
    let same_family = || resolved.iter().copied().filter(is_same_family);
    match same_family().count() {
        0 => resolved.get(chance.below(resolved.len() as u64) as usize).copied(),
        count => same_family().nth(chance.below(count as u64) as usize),
    }
}
