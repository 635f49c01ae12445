//! Asks a snapshot. Nothing here allocates anything, or changes more than the mark that a hostname is used, so shards ask while
//! control builds the next.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_protocols::identity::Identity;

use super::address::{Cidr, NamespacedHostname, NetworkAddress, NetworkCidr, key_of};
use super::authorization::Selected;
use super::credentials::Credentials;
use super::description::Membership;
use super::endpoints::Endpoints;
use super::policy::AuthorizationPolicy;
use super::service::Service;
use super::vocabulary::TunnelProtocol;
use super::workload::Workload;
use super::{Snapshot, index};

impl Snapshot {
    /// The workload of this uid.
    pub fn workload_by_uid(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.workloads.find(Workload::key_of(uid), |workload| workload.uid() == uid)
    }

    /// The workload that has this address: a pod rather than anything else, then one reached by HBONE,
    /// then the one that came last. A workload on its host's network has no address in this sense.
    pub fn workload_by_address(&self, network: &str, ip: IpAddr) -> Option<&Arc<Workload>> {
        let ip = ip.to_canonical();
        let has_it = |workload: &Workload| {
            *workload.network().as_ref() == *network && workload.addresses().contains(&ip)
        };
        self.workloads_by_address
            .all(NetworkAddress::key(network, ip))
            .filter(|workload| has_it(workload))
            .max_by_key(|workload| {
                (workload.is_pod(), workload.protocol() == TunnelProtocol::Hbone)
            })
    }

    /// The workload of this hostname in this namespace.
    pub fn workload_by_hostname(&self, name: &NamespacedHostname) -> Option<&Arc<Workload>> {
        self.workloads_by_hostname
            .find(name.key(), |workload| name.is(workload.namespace(), workload.hostname()))
    }

    /// Whether there are workloads whose hostname has to be resolved.
    pub fn has_hostnames(&self) -> bool {
        self.workloads_by_hostname.len() > 0
    }

    /// The service of this name.
    pub fn service(&self, id: &NamespacedHostname) -> Option<&Arc<Service>> {
        self.services.find(id.key(), |service| service.id == *id)
    }

    /// The policy of this name.
    pub fn policy(&self, namespace: &str, name: &str) -> Option<&Arc<AuthorizationPolicy>> {
        self.policies.find(namespace, name).map(|policy| policy.description())
    }

    /// All policies.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<AuthorizationPolicy>> {
        self.policies.iter().map(|policy| policy.description())
    }

    /// The policies that are for `workload`, each once.
    pub(crate) fn policies_selecting<'a>(
        &'a self,
        workload: &'a Workload,
    ) -> impl Iterator<Item = Selected<'a>> {
        self.policies.selecting(workload)
    }

    /// Whether every policy that `workload` names is there, or was and is removed.
    pub(crate) fn knows_policies_of(&self, workload: &Workload) -> bool {
        self.policies.know_those_of(workload)
    }

    /// Whether the same policies are for one workload here and another, perhaps the same, in `other`: then
    /// every verdict is the same.
    pub(crate) fn judges_alike(
        &self,
        workload: &Arc<Workload>,
        other: &Snapshot,
        others: &Arc<Workload>,
    ) -> bool {
        if Arc::ptr_eq(workload, others) && self.policies.is_same(&other.policies) {
            return true;
        }
        let (mut ours, mut theirs) =
            (self.policies_selecting(workload), other.policies_selecting(others));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(one), Some(other)) if one.is_same(&other) => {}
                _ => return false,
            }
        }
    }

    /// The best service, for clients of this namespace, that has this virtual address: by the address
    /// itself, or else by a range around it.
    pub fn service_by_vip(
        &self,
        network: &str,
        ip: IpAddr,
        client_namespace: &str,
    ) -> Option<&Arc<Service>> {
        let ip = ip.to_canonical();
        let has_it = |service: &Service| {
            service.vips.iter().any(|vip| vip.ip == ip && *vip.network == *network)
        };
        let exact = self.services_by_vip.all(NetworkAddress::key(network, ip));
        index::best(exact.filter(|service| has_it(service)), client_namespace)
            .or_else(|| self.service_by_cidr_vip(network, ip, client_namespace))
    }

    /// The best service, for clients of this namespace, that has this hostname.
    pub fn service_by_hostname(
        &self,
        hostname: &str,
        client_namespace: &str,
    ) -> Option<&Arc<Service>> {
        self.service_by_hostname_if(hostname, client_namespace, |_| true)
    }

    /// The best of those that `is_it` accepts.
    pub(crate) fn service_by_hostname_if(
        &self,
        hostname: &str,
        client_namespace: &str,
        is_it: impl Fn(&Service) -> bool,
    ) -> Option<&Arc<Service>> {
        let services = self.services_by_hostname(hostname).filter(|service| is_it(service));
        index::best(services, client_namespace)
    }

    /// Every service that has this hostname, whoever sees it.
    pub fn services_by_hostname<'a>(
        &'a self,
        hostname: &str,
    ) -> impl Iterator<Item = &'a Arc<Service>> {
        self.services_by_hostname
            .all(key_of(hostname))
            .filter(move |service| service.hostname() == hostname)
    }

    /// The credentials of this identity.
    pub fn credentials(&self, identity: &Identity) -> Option<&Arc<Credentials>> {
        self.credentials.find(key_of(identity), |other| other.identity() == identity)
    }

    /// Whether control asked about this name and was answered.
    pub fn is_answered(&self, name: &str) -> bool {
        self.answered.contains(name)
    }

    /// What this hostname is known to resolve to, for a connection that goes by it: control hears that it is used
    /// ([`Resolutions::take_use`](super::Resolutions::take_use)).
    pub fn resolution(&self, hostname: &str) -> &[IpAddr] {
        self.resolutions.look_up(hostname)
    }

    /// Every workload, in no particular order.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.iter()
    }

    /// How many workloads there are.
    pub fn workload_count(&self) -> usize {
        self.workloads.len()
    }

    /// How many services there are.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// Every service, in no particular order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter()
    }

    /// All credentials, in no particular order.
    pub fn all_credentials(&self) -> impl Iterator<Item = &Arc<Credentials>> {
        self.credentials.iter()
    }

    /// The endpoints of a service, in no particular order: each workload and how it belongs to it. When
    /// the service is not there, all workloads that name it: which of them it would use is not known.
    pub fn endpoints<'a>(
        &'a self,
        service: &NamespacedHostname,
    ) -> impl Iterator<Item = (&'a Arc<Workload>, &'a Membership)> + use<'a> {
        let is_missing = self.service(service).is_none();
        let endpoints = self.endpoints_named(service).into_iter();
        endpoints
            .flat_map(move |endpoints| {
                let withheld = endpoints.withheld().iter().filter(move |_| is_missing);
                endpoints.ready().iter().chain(withheld)
            })
            .map(|endpoint| (endpoint.workload(), endpoint.membership()))
    }

    /// The services that workloads name but that are not there.
    pub fn missing_services(&self) -> impl Iterator<Item = &NamespacedHostname> {
        self.endpoints
            .iter()
            .map(|endpoints| endpoints.service())
            .filter(|service| self.service(service).is_none())
    }

    pub(crate) fn endpoints_named(&self, service: &NamespacedHostname) -> Option<&Arc<Endpoints>> {
        self.endpoints.find(service.key(), |endpoints| endpoints.service() == service)
    }

    fn service_by_cidr_vip(
        &self,
        network: &str,
        ip: IpAddr,
        client_namespace: &str,
    ) -> Option<&Arc<Service>> {
        let rank = |(cidr, service): &(Cidr, &Arc<Service>)| {
            (service.namespace() == client_namespace, cidr.length(), service.canonical)
        };
        self.cidr_vip_lengths
            .around(ip)
            .flat_map(|cidr| {
                let has_it = move |service: &&Arc<Service>| {
                    service.cidr_vips.iter().any(|vip| vip.cidr == cidr && *vip.network == *network)
                };
                let services = self.services_by_cidr_vip.all(NetworkCidr::key(network, cidr));
                services.filter(has_it).map(move |service| (cidr, service))
            })
            .filter(|(_, service)| service.is_visible_to(client_namespace))
            .reduce(|best, other| if rank(&other) > rank(&best) { other } else { best })
            .map(|(_, service)| service)
    }
}
