//! What the data plane knows about the world, at one moment.
//!
//! Control builds the next [`Snapshot`] from the last one and publishes it; a connection is decided on exactly
//! one. A snapshot is a handful of persistent trees: its clone is a handful of reference counts, and a
//! change to one workload among 150,000 copies a few nodes, so both generations share the rest.
//!
//! Workloads say which services they are endpoints of; services say how endpoints are chosen. The relation
//! is kept whichever of the two comes first, goes or comes back.
//!
//! **Invariant:** what a decision hands out ([`Arc<Workload>`], [`Arc<Service>`]) holds no tree, so a shard that
//! drops one frees a few hundred bytes at most. Whole snapshots are dropped by control.

mod address;
mod credentials;
mod endpoints;
mod footprint;
mod index;
mod interner;
mod service;
mod settings;
mod tree;
mod vocabulary;
mod workload;

use std::net::IpAddr;
use std::sync::Arc;

use ringway_protocols::identity::Identity;

pub use self::address::{
    Cidr, GatewayAddress, GatewayDestination, NamespacedHostname, NetworkAddress, NetworkCidr,
    NotNamespacedHostname,
};
pub use self::credentials::Credentials;
pub(crate) use self::endpoints::{Endpoint, Endpoints};
pub use self::footprint::Footprint;
pub use self::interner::Interner;
pub use self::service::{LoadBalancer, Service, ServicePort, SubjectAltName, WeightedWaypoint};
pub use self::settings::Settings;
pub(crate) use self::tree::{Entry, Tree};
pub use self::vocabulary::{
    AppProtocol, ApplicationTunnelProtocol, Health, HealthPolicy, IpFamilies, LoadBalancerMode,
    NetworkMode, Scope, TunnelProtocol, Visibility, WorkloadType,
};
pub use self::workload::{
    ApplicationTunnel, CLUSTER_DEFAULT, Locality, Membership, Placement, PortMapping,
    SERVICE_ACCOUNT_DEFAULT, TRUST_DOMAIN_DEFAULT, Workload, WorkloadDescription, WorkloadError,
    WorkloadKind,
};

use self::address::key_of;
use self::index::{Index, RangeLengths};

/// One generation of everything that decisions depend on.
#[derive(Clone, Debug)]
pub struct Snapshot {
    generation: u64,
    settings: Arc<Settings>,
    credentials: Index<Credentials>,

    workloads: Index<Workload>,
    workloads_by_address: Index<Workload>,
    workloads_by_hostname: Index<Workload>,
    resolutions: Index<Resolution>,

    services: Index<Service>,
    services_by_vip: Index<Service>,
    services_by_cidr_vip: Index<Service>,
    services_by_hostname: Index<Service>,
    /// The lengths of prefixes that `services_by_cidr_vip` holds any of.
    cidr_vip_lengths: Arc<RangeLengths>,
    /// Of every service that any workload names, whether it is there or not.
    endpoints: Index<Endpoints>,
}

/// What a hostname resolves to at present.
#[derive(Debug)]
struct Resolution {
    hostname: Box<str>,
    addresses: Box<[IpAddr]>,
}

impl Snapshot {
    /// An empty world, seen from this network.
    pub fn new(network: &str) -> Snapshot {
        Snapshot {
            generation: 0,
            settings: Arc::new(Settings::new(network)),
            credentials: Index::default(),
            workloads: Index::default(),
            workloads_by_address: Index::default(),
            workloads_by_hostname: Index::default(),
            resolutions: Index::default(),
            services: Index::default(),
            services_by_vip: Index::default(),
            services_by_cidr_vip: Index::default(),
            services_by_hostname: Index::default(),
            cidr_vip_lengths: Arc::default(),
            endpoints: Index::default(),
        }
    }

    /// The number of this generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The same world under another number.
    pub fn with_generation(mut self, generation: u64) -> Snapshot {
        self.generation = generation;
        self
    }

    /// What this process is told about itself.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Tells this process about itself.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = Arc::new(settings);
    }
}

/// Changes.
impl Snapshot {
    /// Adds a workload, or replaces the one with its uid.
    pub fn upsert_workload(&mut self, workload: Workload) {
        let workload = Arc::new(workload);
        self.remove_workload(workload.uid());
        self.workloads.insert(workload.key(), &workload);
        for ip in indexed_addresses(&workload) {
            let key = NetworkAddress::key(workload.network(), ip);
            self.workloads_by_address.insert(key, &workload);
        }
        if !workload.hostname().is_empty() {
            self.workloads_by_hostname.insert(hostname_key(&workload), &workload);
        }
        for (index, membership) in workload.services().iter().enumerate() {
            self.change_endpoints(&membership.service, |endpoints| {
                endpoints.insert(&workload, index as u32);
            });
        }
    }

    /// Removes a workload.
    pub fn remove_workload(&mut self, uid: &str) -> Option<Arc<Workload>> {
        let workload = self.workloads.remove(Workload::key_of(uid), |other| other.uid() == uid)?;
        for ip in indexed_addresses(&workload) {
            let key = NetworkAddress::key(workload.network(), ip);
            self.workloads_by_address.remove_value(key, &workload);
        }
        if !workload.hostname().is_empty() {
            self.workloads_by_hostname.remove_value(hostname_key(&workload), &workload);
        }
        for membership in workload.services() {
            self.change_endpoints(&membership.service, |endpoints| endpoints.remove(&workload));
        }
        Some(workload)
    }

    /// Adds a service, or replaces the one of its name; workloads that named it become its endpoints.
    pub fn upsert_service(&mut self, service: Service) {
        let service = Arc::new(service);
        self.remove_service(&service.id);
        let key = service.id.key();
        self.services.insert(key, &service);
        self.services_by_hostname.insert(key_of(service.hostname()), &service);
        for vip in &service.vips {
            self.services_by_vip.insert(NetworkAddress::key(&vip.network, vip.ip), &service);
        }
        for vip in &service.cidr_vips {
            self.services_by_cidr_vip.insert(NetworkCidr::key(&vip.network, vip.cidr), &service);
            Arc::make_mut(&mut self.cidr_vip_lengths).add(vip.cidr);
        }
        if let Some(endpoints) = self.endpoints_named(&service.id)
            && !endpoints.fits(&service.load_balancer)
        {
            let refit = Arc::new(endpoints.refit(&service.load_balancer));
            self.endpoints.remove(key, |other| *other.service() == service.id);
            self.endpoints.insert(key, &refit);
        }
    }

    /// Removes a service; its workloads stay, and would be its endpoints again if it came back.
    pub fn remove_service(&mut self, id: &NamespacedHostname) -> Option<Arc<Service>> {
        let service = self.services.remove(id.key(), |other| other.id == *id)?;
        self.services_by_hostname.remove_value(key_of(service.hostname()), &service);
        for vip in &service.vips {
            let key = NetworkAddress::key(&vip.network, vip.ip);
            self.services_by_vip.remove_value(key, &service);
        }
        for vip in &service.cidr_vips {
            let key = NetworkCidr::key(&vip.network, vip.cidr);
            self.services_by_cidr_vip.remove_value(key, &service);
            Arc::make_mut(&mut self.cidr_vip_lengths).remove(vip.cidr);
        }
        Some(service)
    }

    /// Adds the credentials of an identity, or replaces them.
    pub fn set_credentials(&mut self, credentials: Arc<Credentials>) {
        let key = key_of(credentials.identity());
        self.credentials.remove(key, |other| other.identity() == credentials.identity());
        self.credentials.insert(key, &credentials);
    }

    /// Forgets the credentials of an identity.
    pub fn remove_credentials(&mut self, identity: &Identity) -> Option<Arc<Credentials>> {
        self.credentials.remove(key_of(identity), |other| other.identity() == identity)
    }

    /// Tells what the hostname of workloads without address resolves to; nothing, to forget it.
    pub fn set_resolution(&mut self, hostname: &str, addresses: &[IpAddr]) {
        let key = key_of(hostname);
        self.resolutions.remove(key, |other| *other.hostname == *hostname);
        if !addresses.is_empty() {
            let addresses = addresses.iter().map(IpAddr::to_canonical).collect();
            let hostname = hostname.into();
            self.resolutions.insert(key, &Arc::new(Resolution { hostname, addresses }));
        }
    }

    fn change_endpoints(
        &mut self,
        service: &NamespacedHostname,
        change: impl FnOnce(&mut Endpoints),
    ) {
        let key = service.key();
        let mut endpoints = match self.endpoints.remove(key, |other| other.service() == service) {
            Some(endpoints) => endpoints,
            None => {
                let known = self.service(service);
                let load_balancer =
                    known.map(|known| known.load_balancer.clone()).unwrap_or_default();
                Arc::new(Endpoints::new(service.clone(), &load_balancer))
            }
        };
        change(Arc::make_mut(&mut endpoints));
        if !endpoints.is_empty() {
            self.endpoints.insert(key, &endpoints);
        }
    }
}

/// Questions.
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

    /// The service of this name.
    pub fn service(&self, id: &NamespacedHostname) -> Option<&Arc<Service>> {
        self.services.find(id.key(), |service| service.id == *id)
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

    /// What this hostname is known to resolve to.
    pub fn resolution(&self, hostname: &str) -> &[IpAddr] {
        self.resolutions
            .find(key_of(hostname), |other| *other.hostname == *hostname)
            .map_or(&[], |resolution| &resolution.addresses)
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
    ) -> impl Iterator<Item = (&'a Arc<Workload>, &'a Membership)> {
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

/// The addresses a workload is found by.
fn indexed_addresses(workload: &Workload) -> impl Iterator<Item = IpAddr> {
    let is_its_own = workload.network_mode() == NetworkMode::Standard;
    workload.addresses().iter().copied().filter(move |_| is_its_own)
}

fn hostname_key(workload: &Workload) -> u64 {
    NamespacedHostname::key_of(workload.namespace(), workload.hostname())
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
