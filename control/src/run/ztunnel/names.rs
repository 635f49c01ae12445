//! Names: what pods ask the DNS proxy, and the hostnames of workloads that connections wait for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ringway_engine::Engine;
use ringway_engine::runtime::NetNamespace;
use ringway_engine::snapshot::{Snapshot, WorkloadKey};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::dns::{
    Dns, DnsConfig, DnsMetrics, Family, FindWorkload, LookupSettings, Resolver, Search,
};
use crate::environment::{DnsAddress, ZtunnelConfig};
use crate::source::Mode;

/// Where the host's name servers are named.
pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How often the engine is asked which hostnames connections wait for.
const WANTED_INTERVAL: Duration = Duration::from_millis(100);

/// How long a hostname's addresses are used before it is asked for again.
const RESOLUTION_AGE_MAX: Duration = Duration::from_secs(30);

/// Hostnames that are kept resolved. A mesh names a few dozen; the one that was asked for longest ago is forgotten, and
/// asked for anew by the next connection that needs it.
const HOSTNAMES_MAX: usize = 4096;

/// The pods' side: shared with the threads that serve pods.
#[derive(Clone)]
pub(super) struct NameServer {
    dns: Arc<Dns>,
    /// Whether pods' queries are taken.
    is_on: bool,
}

impl NameServer {
    /// Starts it; no pod's queries come to it yet.
    pub(super) fn start(config: &ZtunnelConfig, known: Snapshot) -> std::io::Result<Self> {
        let dns = Arc::new(Dns::start(dns_config(config), known)?);
        Ok(Self { dns, is_on: config.dns.is_some() })
    }

    /// Takes a pod's queries, if pods' queries are taken.
    pub(super) fn enroll(
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
    pub(super) fn withdraw(&self, uid: &str) {
        if self.is_on {
            self.dns.withdraw(uid);
        }
    }

    /// Answers from this from now on.
    pub(super) fn publish(&self, world: Snapshot) {
        self.dns.publish(world);
    }

    /// Waits until what was asked is answered, or `patience` is over. Blocks.
    pub(super) fn drain(&self, patience: Duration) {
        self.dns.drain(patience);
    }

    /// What was counted.
    pub(super) fn metrics(&self) -> &Arc<DnsMetrics> {
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
        mark: config.packet_mark,
        resolv_conf: RESOLV_CONF.into(),
    }
}

/// The connections' side: which hostnames are resolved, and to what.
pub(super) struct Hostnames {
    engine: Arc<Engine>,
    resolver: Resolver,
    ipv6: bool,
    known: BTreeMap<Box<str>, Known>,
    asked: BTreeSet<Box<str>>,
    asking: JoinSet<(Box<str>, Vec<IpAddr>)>,
}

struct Known {
    addresses: Vec<IpAddr>,
    since: Instant,
}

impl Hostnames {
    /// None is known yet.
    pub(super) fn new(engine: Arc<Engine>, names: &NameServer, ipv6: bool) -> Self {
        Self {
            engine,
            resolver: names.dns.resolver(),
            ipv6,
            known: BTreeMap::new(),
            asked: BTreeSet::new(),
            asking: JoinSet::new(),
        }
    }

    /// Waits until the addresses of a hostname have changed. Dropping the future loses nothing.
    pub(super) async fn changed(&mut self) {
        loop {
            while let Some(wanted) = self.engine.next_wanted_hostname() {
                self.ask(wanted);
            }
            self.ask_again();
            tokio::select! {
                Some(Ok((hostname, addresses))) = self.asking.join_next(), if !self.asking.is_empty() => {
                    if self.answered(hostname, addresses) {
                        return;
                    }
                }
                () = tokio::time::sleep(WANTED_INTERVAL) => {}
            }
        }
    }

    /// Tells `world` what is known.
    pub(super) fn tell(&self, world: &mut Snapshot) {
        for (hostname, known) in &self.known {
            world.set_resolution(hostname, &known.addresses);
        }
    }

    fn ask(&mut self, hostname: Box<str>) {
        if !self.asked.insert(hostname.clone()) {
            return;
        }
        let (resolver, ipv6) = (self.resolver.clone(), self.ipv6);
        self.asking.spawn(async move {
            let mut addresses = Vec::new();
            let families = [Some(Family::Ipv4), ipv6.then_some(Family::Ipv6)];
            for family in families.into_iter().flatten() {
                match resolver.resolve(&hostname, family).await {
                    Ok(found) => addresses.extend(found.iter()),
                    Err(error) => tracing::debug!(%hostname, ?family, %error, "no addresses"),
                }
            }
            (hostname, addresses)
        });
    }

    fn ask_again(&mut self) {
        let old = |known: &Known| known.since.elapsed() > RESOLUTION_AGE_MAX;
        let due: Vec<_> = self.known.iter().filter(|(_, known)| old(known)).collect();
        let due: Vec<_> = due.into_iter().map(|(hostname, _)| hostname.clone()).collect();
        due.into_iter().for_each(|hostname| self.ask(hostname));
    }

    /// Whether something is different now. A name without an answer keeps the addresses it had.
    fn answered(&mut self, hostname: Box<str>, addresses: Vec<IpAddr>) -> bool {
        self.asked.remove(&hostname);
        let since = Instant::now();
        if let Some(known) = self.known.get_mut(&hostname) {
            known.since = since;
            let differs = !addresses.is_empty() && known.addresses != addresses;
            if differs {
                known.addresses = addresses;
            }
            return differs;
        }
        if addresses.is_empty() {
            return false;
        }
        if self.known.len() >= HOSTNAMES_MAX {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.since);
            if let Some(oldest) = oldest.map(|(hostname, _)| hostname.clone()) {
                self.known.remove(&oldest);
            }
        }
        self.known.insert(hostname, Known { addresses, since });
        true
    }
}
