//! A set of addresses, told as ranges.

use std::net::IpAddr;

use crate::snapshot::address::Cidr;

/// The addresses of some ranges: first and last of each run, the runs apart and in order, so that the one
/// that could hold an address is found by halving.
#[derive(Debug)]
pub(super) struct AddressSet {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl AddressSet {
    /// The addresses of `ranges`. One of mapped IPv4 addresses is the range of the addresses they map.
    pub(super) fn of(ranges: &[Cidr]) -> AddressSet {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for range in ranges.iter().map(|range| range.canonical()) {
            let length = u32::from(range.length());
            match range.first() {
                IpAddr::V4(first) => {
                    let rest = u32::MAX.checked_shr(length).unwrap_or(0);
                    v4.push((first.to_bits(), first.to_bits() | rest));
                }
                IpAddr::V6(first) => {
                    let rest = u128::MAX.checked_shr(length).unwrap_or(0);
                    v6.push((first.to_bits(), first.to_bits() | rest));
                }
            }
        }
        AddressSet { v4: joined(v4), v6: joined(v6) }
    }

    /// Whether one of the ranges contains this canonical address.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => is_in(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => is_in(&self.v6, ip.to_bits()),
        }
    }
}

/// Ranges lie within each other or apart; of those within each other the widest is kept.
fn joined<A: Copy + Ord>(mut runs: Vec<(A, A)>) -> Box<[(A, A)]> {
    runs.sort_unstable_by_key(|&(first, last)| (first, std::cmp::Reverse(last)));
    runs.dedup_by(|next, kept| next.1 <= kept.1);
    runs.into_boxed_slice()
}

fn is_in<A: Copy + Ord>(runs: &[(A, A)], address: A) -> bool {
    let behind = runs.partition_point(|&(first, _)| first <= address);
    behind > 0 && address <= runs[behind - 1].1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::fixture::cidr;

    #[test]
    fn ranges_within_each_other_are_one() {
        let set = AddressSet::of(&["10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/30"].map(cidr));
        assert_eq!(set.v4.len(), 1);
        assert!(set.contains("10.255.255.255".parse().unwrap()));
        assert!(!set.contains("11.0.0.0".parse().unwrap()));
    }

    #[test]
    fn a_range_of_mapped_addresses_is_one_of_ipv4() {
        let set = AddressSet::of(&[cidr("::ffff:10.0.0.0/104")]);
        assert!(set.contains("10.9.9.9".parse().unwrap()));
        assert!(!set.contains("::a09:909".parse().unwrap()), "compatible is not mapped");
        let all = AddressSet::of(&[cidr("::/0")]);
        assert!(all.contains("::1".parse().unwrap()));
        assert!(!all.contains("10.9.9.9".parse().unwrap()), "another family");
    }

    #[test]
    fn the_widest_and_the_narrowest() {
        let set = AddressSet::of(&["0.0.0.0/0", "fd00::7/128"].map(cidr));
        for (ip, is_in) in
            [("0.0.0.0", true), ("255.255.255.255", true), ("fd00::7", true), ("fd00::8", false)]
        {
            assert_eq!(set.contains(ip.parse().unwrap()), is_in, "{ip}");
        }
        assert!(!AddressSet::of(&[]).contains("10.0.0.1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn a_set_contains_what_one_of_its_ranges_does(
            ranges in prop::collection::vec((0..16u32, 24..=32u8), 0..12),
            address in 0..16u32,
        ) {
            let ip = |n: u32| IpAddr::from((0x0a00_0000 | n << 5).to_be_bytes());
            let ranges: Vec<Cidr> =
                ranges.into_iter().map(|(n, length)| Cidr::new(ip(n), length).unwrap()).collect();
            let one_does = ranges.iter().any(|range| range.contains(ip(address)));
            prop_assert_eq!(AddressSet::of(&ranges).contains(ip(address)), one_does);
        }
    }
}
