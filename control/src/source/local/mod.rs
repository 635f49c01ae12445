//! ztunnel's local file (`LOCAL_XDS_PATH`): workloads, services and policies as its control plane would send them.
//!
//! Unlike there, no default is applied: a workload that is reached through HBONE must say its trust domain and its
//! service account.

mod policy;
mod service;
mod workload;

pub(crate) use policy::policy;
pub(crate) use service::service;
pub(crate) use workload::workload;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ringway_engine::snapshot::{
    AuthorizationPolicy, Cidr, GatewayAddress, GatewayDestination, NamespacedHostname,
    NetworkAddress, NetworkCidr, Service,
};

use super::diagnostics::{Place, Problem, Reporter};
use super::yaml::fields::mapping;
use super::yaml::scalars::{nonempty, port};
use super::yaml::value::{Value, shortened};

/// What local files say besides workloads, which need nothing else to be understood.
#[derive(Default)]
pub(crate) struct LocalObjects {
    pub(crate) services: Vec<(Place, Service)>,
    pub(crate) policies: Vec<(Place, AuthorizationPolicy)>,
    /// Policies that workloads name, and where first.
    pub(crate) named_policies: BTreeMap<String, Place>,
}

/// `network/address`, of which the network may be empty; or `namespace/hostname`.
fn gateway(value: &Value, reporter: &mut Reporter) -> Option<GatewayAddress> {
    mapping("waypoint", value, reporter, |fields| {
        let destination = fields.required("destination", destination);
        let hbone_mtls_port = fields.required("hboneMtlsPort", port);
        Some(GatewayAddress { destination: destination?, hbone_mtls_port: hbone_mtls_port? })
    })?
}

fn destination(value: &Value, reporter: &mut Reporter) -> Option<GatewayDestination> {
    let text = nonempty(value, reporter)?;
    if let Some((network, ip)) = text.split_once('/')
        && let Ok(ip) = ip.parse::<IpAddr>()
    {
        return Some(GatewayDestination::Address(NetworkAddress::new(network, ip)));
    }
    hostname(value, reporter).map(GatewayDestination::Hostname)
}

fn hostname(value: &Value, reporter: &mut Reporter) -> Option<NamespacedHostname> {
    let text = nonempty(value, reporter)?;
    match text.parse() {
        Ok(hostname) => Some(hostname),
        Err(_) => {
            report_no_hostname(text, value.place, reporter);
            None
        }
    }
}

fn report_no_hostname(text: &str, place: Place, reporter: &mut Reporter) {
    let message = format!("expected namespace/hostname, found {:?}", shortened(text));
    let help = "for example shop/web.shop.svc.cluster.local".to_owned();
    reporter.report(Problem::error(place, message).help(help));
}

/// The address of a service on a network: one, or a range of them.
pub(crate) enum VirtualAddress {
    One(NetworkAddress),
    Range(NetworkCidr),
}

impl VirtualAddress {
    /// One address; or, with a length that leaves bits open, a range. Nothing when the family has fewer bits.
    pub(crate) fn new(network: &str, ip: IpAddr, length: Option<u8>) -> Option<VirtualAddress> {
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        match length {
            None => Some(VirtualAddress::One(NetworkAddress::new(network, ip))),
            Some(length) if length == bits => VirtualAddress::new(network, ip, None),
            Some(length) => {
                let cidr = Cidr::new(ip, length)?.canonical();
                Some(VirtualAddress::Range(NetworkCidr { network: network.into(), cidr }))
            }
        }
    }

    /// Gives a service these addresses.
    pub(crate) fn assign(addresses: Vec<VirtualAddress>, service: &mut Service) {
        let (mut vips, mut ranges) = (Vec::new(), Vec::new());
        for address in addresses {
            match address {
                VirtualAddress::One(address) => vips.push(address),
                VirtualAddress::Range(range) => ranges.push(range),
            }
        }
        service.vips = vips.into();
        service.cidr_vips = ranges.into();
    }
}

fn virtual_address(value: &Value, reporter: &mut Reporter) -> Option<VirtualAddress> {
    let text = nonempty(value, reporter)?;
    let parsed = parse_virtual_address(text);
    if parsed.is_none() {
        let message = format!("expected network/address, found {:?}", shortened(text));
        let help =
            text.parse::<IpAddr>().ok().map(|ip| format!("an empty network is meant? /{ip}"));
        reporter.report(Problem::error(value.place, message).help(help));
    }
    parsed
}

fn parse_virtual_address(text: &str) -> Option<VirtualAddress> {
    let (network, address) = text.split_once('/')?;
    let (ip, length) = match address.split_once('/') {
        None => (address, None),
        Some((ip, length)) => (ip, Some(length.parse().ok()?)),
    };
    VirtualAddress::new(network, ip.parse().ok()?, length)
}
