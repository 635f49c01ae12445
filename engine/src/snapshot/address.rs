//! How things are named: addresses on a network, ranges of them, hostnames in a namespace, gateways.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// The place of `value` in an index. Two values may share one: what was found is always compared.
pub(crate) fn key_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    // In this crate's own tests there are eight keys, so that forgetting to compare shows.
    if cfg!(test) { hasher.finish() & (0b111 << 61) } else { hasher.finish() }
}

/// An address and the network it means something on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkAddress {
    /// The network; empty for the only one.
    pub network: Arc<str>,
    /// The address, never an IPv4 address mapped into IPv6.
    pub ip: IpAddr,
}

impl NetworkAddress {
    /// Names an address on a network.
    pub fn new(network: impl Into<Arc<str>>, ip: IpAddr) -> NetworkAddress {
        NetworkAddress { network: network.into(), ip: ip.to_canonical() }
    }

    pub(crate) fn key(network: &str, ip: IpAddr) -> u64 {
        key_of((network, ip))
    }
}

impl fmt::Display for NetworkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.ip)
    }
}

/// A range of addresses: those that share the first `length` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    first: IpAddr,
    length: u8,
}

impl Cidr {
    /// The range around `ip`, or nothing when the family has fewer bits than `length`.
    pub fn new(ip: IpAddr, length: u8) -> Option<Cidr> {
        let first = match ip {
            IpAddr::V4(ip) if length <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
            }
            IpAddr::V6(ip) if length <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
            }
            _ => return None,
        };
        Some(Cidr { first, length })
    }

    /// The first address of the range.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// How many bits its addresses share.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// The same range; one of IPv4 addresses mapped into IPv6 is the range of the addresses they map.
    pub fn canonical(self) -> Cidr {
        const MAPPED_BITS: u8 = 96;
        match self.first.to_canonical() {
            first @ IpAddr::V4(_) if self.first.is_ipv6() && self.length >= MAPPED_BITS => {
                Cidr { first, length: self.length - MAPPED_BITS }
            }
            _ => self,
        }
    }

    /// Whether `ip` lies in the range.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.first.is_ipv4() == ip.is_ipv4() && Cidr::new(ip, self.length) == Some(*self)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

/// A range of addresses and the network it means something on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkCidr {
    /// The network; empty for the only one.
    pub network: Arc<str>,
    /// The range.
    pub cidr: Cidr,
}

impl NetworkCidr {
    pub(crate) fn key(network: &str, cidr: Cidr) -> u64 {
        key_of((network, cidr))
    }
}

/// A hostname in a namespace: the name of a service.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamespacedHostname {
    namespace: Arc<str>,
    hostname: Arc<str>,
    key: u64,
}

impl NamespacedHostname {
    /// Names a service.
    pub fn new(
        namespace: impl Into<Arc<str>>,
        hostname: impl Into<Arc<str>>,
    ) -> NamespacedHostname {
        let (namespace, hostname) = (namespace.into(), hostname.into());
        let key = NamespacedHostname::key_of(&namespace, &hostname);
        NamespacedHostname { namespace, hostname, key }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The hostname.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    pub(crate) fn key_of(namespace: &str, hostname: &str) -> u64 {
        key_of((namespace, hostname))
    }

    pub(crate) fn is(&self, namespace: &str, hostname: &str) -> bool {
        *self.hostname == *hostname && *self.namespace == *namespace
    }
}

impl Hash for NamespacedHostname {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.namespace.hash(state);
        self.hostname.hash(state);
    }
}

impl fmt::Display for NamespacedHostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hostname)
    }
}

impl fmt::Debug for NamespacedHostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that should have been `namespace/hostname`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotNamespacedHostname;

impl fmt::Display for NotNamespacedHostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected namespace/hostname")
    }
}

impl std::error::Error for NotNamespacedHostname {}

impl FromStr for NamespacedHostname {
    type Err = NotNamespacedHostname;

    fn from_str(text: &str) -> Result<NamespacedHostname, NotNamespacedHostname> {
        match text.split_once('/') {
            Some((namespace, hostname))
                if !namespace.is_empty() && !hostname.is_empty() && !hostname.contains('/') =>
            {
                Ok(NamespacedHostname::new(namespace, hostname))
            }
            _ => Err(NotNamespacedHostname),
        }
    }
}

/// Where a waypoint or a network's gateway is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GatewayAddress {
    /// Its name.
    pub destination: GatewayDestination,
    /// The port of its HBONE service.
    pub hbone_mtls_port: u16,
}

/// The two ways to name a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GatewayDestination {
    /// By an address: a service's or a workload's.
    Address(NetworkAddress),
    /// By a hostname: a service's or a workload's.
    Hostname(NamespacedHostname),
}

impl fmt::Display for GatewayDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GatewayDestination::Address(address) => address.fmt(f),
            GatewayDestination::Hostname(hostname) => hostname.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_contains_its_addresses_and_no_other_family() {
        let ten = Cidr::new("10.1.2.3".parse().unwrap(), 8).unwrap();
        assert_eq!(ten.to_string(), "10.0.0.0/8");
        assert!(ten.contains("10.255.0.1".parse().unwrap()));
        assert!(!ten.contains("11.0.0.1".parse().unwrap()));
        let everything = Cidr::new("0.0.0.0".parse().unwrap(), 0).unwrap();
        assert!(everything.contains("255.1.1.1".parse().unwrap()));
        assert!(!everything.contains("::1".parse().unwrap()), "another family");
        assert_eq!(Cidr::new("10.0.0.0".parse().unwrap(), 33), None);
    }

    #[test]
    fn a_mapped_address_is_the_address_it_maps() {
        let mapped = NetworkAddress::new("", "::ffff:10.0.0.1".parse().unwrap());
        assert_eq!(mapped.to_string(), "/10.0.0.1");
    }

    #[test]
    fn a_service_key_has_one_slash_and_two_parts() {
        assert_eq!("shop/web.example".parse(), Ok(NamespacedHostname::new("shop", "web.example")));
        for wrong in ["web.example", "shop/", "/web", "a/b/c", ""] {
            assert_eq!(wrong.parse::<NamespacedHostname>(), Err(NotNamespacedHostname), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn names_read_back(text in "[^/]{1,20}/[^/]{1,20}") {
            prop_assert_eq!(text.parse::<NamespacedHostname>().unwrap().to_string(), text);
        }

        #[test]
        fn parsing_any_text_is_safe(text in any::<String>()) {
            let _either = text.parse::<NamespacedHostname>();
        }

        #[test]
        fn a_range_contains_exactly_what_shares_its_bits(a: u128, b: u128, length in 0..=128u8) {
            let cidr = Cidr::new(Ipv6Addr::from_bits(a).into(), length).unwrap();
            let shared = (a ^ b).leading_zeros() >= u32::from(length);
            prop_assert_eq!(cidr.contains(Ipv6Addr::from_bits(b).into()), shared);
        }
    }
}
