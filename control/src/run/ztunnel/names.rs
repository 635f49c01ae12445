//! Names: what pods ask the DNS proxy.

use std::sync::Arc;
use std::time::Duration;

use ringway_engine::runtime::NetNamespace;
use ringway_engine::snapshot::{Snapshot, WorkloadKey};

use crate::dns::{Dns, DnsConfig, DnsMetrics, FindWorkload, LookupSettings, Resolver, Search};
use crate::environment::{DnsAddress, ZtunnelConfig};
use crate::source::Mode;

/// Where the host's name servers are named.
pub(in crate::run) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Shared with the threads that serve pods.
#[derive(Clone)]
pub(in crate::run) struct NameServer {
    dns: Arc<Dns>,
    /// Whether pods' queries are taken.
    is_on: bool,
}

impl NameServer {
    /// Starts it; no pod's queries come to it yet.
    pub(in crate::run) fn start(config: &ZtunnelConfig, known: Snapshot) -> std::io::Result<Self> {
        let dns = Arc::new(Dns::start(dns_config(config), known)?);
        Ok(Self { dns, is_on: config.dns.is_some() })
    }

    /// Takes a pod's queries, if pods' queries are taken.
    pub(in crate::run) fn enroll(
        &self,
        uid: &Arc<str>,
        key: WorkloadKey,
        namespace: &NetNamespace,
    ) -> std::io::Result<()> {
        if !self.is_on {
            return Ok(());
        }
        let find: FindWorkload = Arc::new(move |world| world.workload_of(&key).cloned());
        self.dns.enroll(Arc::clone(uid), namespace, find)
    }

    /// Takes no more queries of a pod.
    pub(in crate::run) fn withdraw(&self, uid: &str) {
        if self.is_on {
            self.dns.withdraw(uid);
        }
    }

    /// Answers from this from now on.
    pub(in crate::run) fn publish(&self, world: Snapshot) {
        self.dns.publish(world);
    }

    /// Waits until what was asked is answered, or `patience` is over. Blocks.
    pub(in crate::run) fn drain(&self, patience: Duration) {
        self.dns.drain(patience);
    }

    /// For the names of hosts outside.
    pub(in crate::run) fn resolver(&self) -> Resolver {
        self.dns.resolver()
    }

    /// What was counted.
    pub(in crate::run) fn metrics(&self) -> &Arc<DnsMetrics> {
        self.dns.metrics()
    }
}

fn dns_config(config: &ZtunnelConfig) -> DnsConfig {
    DnsConfig {
        lookup: LookupSettings {
            cluster_domain: config.cluster_domain.clone(),
            search: match config.mode {
                Mode::Shared => Search::OfKubernetes,
                // The host is the pod.
                Mode::Dedicated => Search::OfHost,
            },
            ipv6: config.ipv6,
            preferred_namespace: config.preferred_service_namespace.clone(),
        },
        port: match config.dns {
            Some(DnsAddress::Loopback(port)) => port,
            Some(DnsAddress::Address(address)) => address.port(),
            None => crate::dns::PORT,
        },
        shared_ports: config.port_reuse,
        mark: config.packet_mark,
        resolv_conf: RESOLV_CONF.into(),
    }
}
