//! What a name means to a workload: a pure function of the snapshot, the client and the question.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_engine::snapshot::{IpFamilies, Service, Snapshot, Workload};
use ringway_protocols::dns::{Answer, Candidate, Query, names_to_try, record_type, wildcards_of};

use super::random::Random;

/// What lookups depend on besides the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupSettings {
    /// The domain under which services have their host names.
    pub cluster_domain: String,
    /// What clients' resolvers append.
    pub search: Search,
    /// Whether IPv6 is in use at all.
    pub ipv6: bool,
    /// The namespace whose services go before others of the same name, when neither the client's own nor a canonical one
    /// has it.
    pub preferred_namespace: Option<String>,
}

/// The search domains of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Search {
    /// Those that Kubernetes gives a pod: of its namespace, of all services, of the cluster.
    OfKubernetes,
    /// Those of the host's resolver, which is the workload's, too.
    OfHost,
}

/// What is to be done about a question.
#[derive(Clone, Debug)]
pub enum Meaning {
    /// To answer it.
    Known {
        /// Whose name it is.
        service: Arc<Service>,
        /// What to say.
        answer: Answer,
    },
    /// To ask somebody else.
    Forward,
}

/// Addresses of one answer: those that a message over TCP has room for.
const ADDRESSES_MAX: usize = 4000;

/// What `query` means when `client` asks it; `host_search` are the search domains of the host.
pub fn look_up(
    snapshot: &Snapshot,
    client: &Workload,
    query: &Query,
    settings: &LookupSettings,
    host_search: &[String],
    random: &mut Random,
) -> Meaning {
    let Some(name) = query.name().filter(|_| query.is_for_addresses()) else {
        return Meaning::Forward;
    };
    let (namespace, domain) = (client.namespace(), settings.cluster_domain.as_str());
    let candidates = match &settings.search {
        Search::OfKubernetes => {
            let of_namespace = format!("{namespace}.svc.{domain}");
            let of_services = format!("svc.{domain}");
            names_to_try(name, namespace, domain, [&of_namespace, &of_services, domain])
        }
        Search::OfHost => names_to_try(name, namespace, domain, host_search),
    };
    let question = Question { snapshot, client, settings };
    let found = candidates
        .into_iter()
        .find_map(|candidate| Some((question.service(&candidate.name)?, candidate)));
    let Some((service, Candidate { stripped, .. })) = found else { return Meaning::Forward };
    let mut addresses = question.addresses(service, query.record_type());
    random.shuffle(&mut addresses);
    let alias = stripped.filter(|_| !addresses.is_empty() && !service.hostname().starts_with("*."));
    Meaning::Known { service: Arc::clone(service), answer: Answer::known(alias, addresses) }
}

struct Question<'a> {
    snapshot: &'a Snapshot,
    client: &'a Workload,
    settings: &'a LookupSettings,
}

impl<'a> Question<'a> {
    /// The best service of this very name, or else of a wildcard that it falls under.
    fn service(&self, name: &str) -> Option<&'a Arc<Service>> {
        self.best(name).or_else(|| wildcards_of(name).find_map(|wildcard| self.best(&wildcard)))
    }

    /// In order: the client's own namespace's; a canonical one, the last; the preferred namespace's; the first.
    fn best(&self, hostname: &str) -> Option<&'a Arc<Service>> {
        let own = self.client.namespace();
        let preferred = self.settings.preferred_namespace.as_deref();
        let (mut canonical, mut in_preferred, mut first) = (None, None, None);
        let services = self.snapshot.services_by_hostname(hostname);
        for service in services.filter(|one| one.is_visible_to(own) && self.is_resolved(one)) {
            if service.namespace() == own {
                return Some(service);
            }
            if service.canonical {
                canonical = Some(service);
            }
            if preferred == Some(service.namespace()) {
                in_preferred = in_preferred.or(Some(service));
            }
            first = first.or(Some(service));
        }
        canonical.or(in_preferred).or(first)
    }

    /// A service without an address of its own is known by its workloads if the cluster is where its name is from;
    /// others, outside, have records elsewhere.
    fn is_resolved(&self, service: &Service) -> bool {
        let of_cluster = || {
            let rest = service.hostname().strip_suffix(self.settings.cluster_domain.as_str());
            rest.is_some_and(|rest| rest.ends_with(".svc."))
        };
        !service.vips.is_empty() || of_cluster()
    }

    fn addresses(&self, service: &Service, record_type: u16) -> Vec<IpAddr> {
        let ipv4 = record_type == record_type::A;
        let excluded = match service.ip_families {
            IpFamilies::Ipv4 => !ipv4,
            IpFamilies::Ipv6 => ipv4,
            IpFamilies::Automatic | IpFamilies::Dual => false,
        };
        if excluded || (!ipv4 && !self.settings.ipv6) {
            return Vec::new();
        }
        let network = self.client.network();
        let fits = |ip: &IpAddr| ip.is_ipv4() == ipv4;
        if !service.vips.is_empty() {
            let vips = service.vips.iter().filter(|vip| vip.network == *network);
            return vips.map(|vip| vip.ip).filter(fits).take(ADDRESSES_MAX).collect();
        }
        let endpoints = self.snapshot.endpoints(&service.id).map(|(workload, _)| workload);
        // What is on another network cannot be reached at its address.
        let near = endpoints.filter(|workload| workload.network() == network);
        let first = near.filter_map(|workload| workload.addresses().iter().copied().find(fits));
        first.take(ADDRESSES_MAX).collect()
    }
}
