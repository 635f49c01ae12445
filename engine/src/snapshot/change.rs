//! Changes a snapshot, in place: what an older clone shares is copied as it is touched.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_protocols::identity::Identity;

use super::address::{NamespacedHostname, NetworkAddress, NetworkCidr, key_of};
use super::credentials::Credentials;
use super::endpoints::Endpoints;
use super::policy::AuthorizationPolicy;
use super::service::Service;
use super::vocabulary::NetworkMode;
use super::workload::Workload;
use super::{AnsweredNames, Resolutions, Snapshot};

impl Snapshot {
    /// Adds a workload, or replaces the one with its uid.
    pub fn upsert_workload(&mut self, workload: Workload) {
        let workload = Arc::new(workload);
        // In this order, so that a name that both give is never without a workload that gives it.
        self.policies.mention(workload.authorization_policies());
        self.remove_workload(workload.uid());
        self.workloads.insert(workload.key(), &workload);
        for ip in indexed_addresses(&workload) {
            let key = NetworkAddress::key(workload.network(), ip);
            self.workloads_by_address.insert(key, &workload);
        }
        if !workload.hostname().is_empty() {
            self.workloads_by_hostname.insert(hostname_key(&workload), &workload);
        }
        self.add_local(&workload);
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
        self.remove_local(&workload);
        for membership in workload.services() {
            self.change_endpoints(&membership.service, |endpoints| endpoints.remove(&workload));
        }
        self.policies.unmention(workload.authorization_policies());
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

    /// Adds a policy, or replaces the one of its name.
    pub fn upsert_policy(&mut self, policy: AuthorizationPolicy) {
        self.policies.upsert(policy);
    }

    /// Removes a policy. Workloads that go on naming it are judged without it.
    pub fn remove_policy(
        &mut self,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<AuthorizationPolicy>> {
        self.policies.remove(namespace, name).map(|policy| policy.description().clone())
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

    /// Tells what hostnames resolve to; others do not any more.
    pub fn set_resolutions(&mut self, resolutions: Resolutions) {
        self.resolutions = resolutions;
    }

    /// Tells which names were asked about, where only what was asked for is told.
    pub fn set_answered(&mut self, names: AnsweredNames) {
        self.answered = names;
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

/// The addresses a workload is found by.
fn indexed_addresses(workload: &Workload) -> impl Iterator<Item = IpAddr> {
    let is_its_own = workload.network_mode() == NetworkMode::Standard;
    workload.addresses().iter().copied().filter(move |_| is_its_own)
}

fn hostname_key(workload: &Workload) -> u64 {
    NamespacedHostname::key_of(workload.namespace(), workload.hostname())
}
