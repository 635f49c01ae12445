//! Everything xDS tells at one moment, and the place where the next moment is put together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock};

use prost::Message;
use ringway_control::proto::workload::Address;
use ringway_control::proto::workload::address::Type;
use ringway_engine::snapshot::Snapshot;
use tokio::sync::watch;

use crate::mesh::Pod;
use crate::resources::{self, ADDRESS, AGENT, AUTHORIZATION, Resource};
use crate::tokens::GatewayCaller;

/// Everything that is told, by type and name.
#[derive(Default)]
pub(crate) struct World {
    addresses: BTreeMap<String, Arc<Resource>>,
    authorizations: BTreeMap<String, Arc<Resource>>,
    /// What is told to the processes of each Gateway, by what [`World::part`] says.
    gateways: BTreeMap<String, BTreeMap<String, Arc<Resource>>>,
    /// Names by alias; made when somebody asks on demand.
    aliases: OnceLock<HashMap<String, Vec<String>>>,
    /// Names of workloads by service; made then, too.
    members: OnceLock<HashMap<String, Vec<String>>>,
    /// Which namespaces and service accounts run on which node.
    accounts: BTreeSet<(String, String, String)>,
    /// The cluster callers must name.
    pub(crate) cluster: String,
}

/// The world as it was last put together, and what it is put together from.
#[derive(Default)]
pub(crate) struct Worlds {
    parts: Mutex<Parts>,
    current: watch::Sender<Arc<World>>,
}

#[derive(Default)]
struct Parts {
    mesh: Vec<Arc<Resource>>,
    gateways: BTreeMap<String, BTreeMap<String, Arc<Resource>>>,
    accounts: BTreeSet<(String, String, String)>,
    cluster: String,
    synthetic: Vec<Arc<Resource>>,
    /// By type and name; they win over the others.
    injected: BTreeMap<(String, String), Arc<Resource>>,
}

impl World {
    /// All resources of a type; of a type nobody knows, none.
    pub(crate) fn of_type(&self, type_url: &str) -> &BTreeMap<String, Arc<Resource>> {
        static NONE: BTreeMap<String, Arc<Resource>> = BTreeMap::new();
        match type_url {
            ADDRESS => &self.addresses,
            AUTHORIZATION => &self.authorizations,
            part => self.gateways.get(part).unwrap_or(&NONE),
        }
    }

    /// What of a type is told to a caller. Node proxies are told everything; the processes of a Gateway the mesh and what
    /// is their Gateway's, and no policies.
    pub(crate) fn part(type_url: &str, gateway: Option<&GatewayCaller>) -> String {
        match (type_url, gateway) {
            (AGENT, Some(gateway)) => format!("{AGENT}#{}", gateway.file()),
            (AGENT, None) | (AUTHORIZATION, Some(_)) => "nothing".to_owned(),
            (other, _) => other.to_owned(),
        }
    }

    /// What somebody gets who asks for `name`: the resource of that name or alias; with a service its workloads.
    pub(crate) fn lookup(&self, name: &str) -> Vec<&Arc<Resource>> {
        let aliases = self.aliases.get_or_init(|| {
            let mut aliases: HashMap<String, Vec<String>> = HashMap::new();
            for resource in self.addresses.values() {
                for alias in &resource.aliases {
                    aliases.entry(alias.clone()).or_default().push(resource.name.clone());
                }
            }
            aliases
        });
        let by_alias = aliases.get(name).into_iter().flatten();
        let found = by_alias.filter_map(|name| self.addresses.get(name));
        let found: Vec<_> = found.chain(self.addresses.get(name)).collect();
        let workloads = found.iter().filter_map(|found| self.workloads_of(&found.name)).flatten();
        let workloads: Vec<_> = workloads.filter_map(|name| self.addresses.get(name)).collect();
        found.into_iter().chain(workloads).collect()
    }

    /// The names of a service's workloads.
    fn workloads_of(&self, service: &str) -> Option<&Vec<String>> {
        let members = self.members.get_or_init(|| {
            let mut members: HashMap<String, Vec<String>> = HashMap::new();
            for resource in self.addresses.values() {
                // What cannot be read has no services.
                let Ok(address) = Address::decode(&*resource.message) else { continue };
                let Some(Type::Workload(workload)) = address.r#type else { continue };
                for service in workload.services.into_keys() {
                    members.entry(service).or_default().push(resource.name.clone());
                }
            }
            members
        });
        members.get(service)
    }

    /// Whether a workload of this namespace and service account runs on `node`.
    pub(crate) fn runs_on(&self, node: &str, namespace: &str, service_account: &str) -> bool {
        let account = (node.to_owned(), namespace.to_owned(), service_account.to_owned());
        self.accounts.contains(&account)
    }
}

impl Worlds {
    /// To be told of each new world.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<World>> {
        self.current.subscribe()
    }

    /// The world at present.
    pub(crate) fn current(&self) -> Arc<World> {
        Arc::clone(&self.current.borrow())
    }

    /// The mesh is like this now.
    pub(crate) fn set_mesh(&self, snapshot: &Snapshot, pods: &[Pod], cluster: &str) {
        let workloads = snapshot.workloads().map(|each| resources::workload(each));
        let services = snapshot.services().map(|each| resources::service(each));
        let policies = snapshot.policies().map(|each| resources::policy(each));
        let mesh = services.chain(workloads).chain(policies).map(Arc::new).collect();
        let account = |node: &str, namespace: &str, account: &str| {
            (node.to_owned(), namespace.to_owned(), account.to_owned())
        };
        let of_workloads = snapshot
            .workloads()
            .map(|each| account(each.node(), each.namespace(), each.service_account()));
        let of_pods =
            pods.iter().map(|pod| account(&pod.node, &pod.namespace, &pod.service_account));
        let accounts = of_workloads.chain(of_pods).collect();
        self.change(|parts| {
            (parts.mesh, parts.accounts, parts.cluster) = (mesh, accounts, cluster.to_owned());
        });
    }

    /// This is told to the processes of a Gateway.
    pub(crate) fn set_gateway(&self, gateway: &GatewayCaller, resources: Vec<Resource>) {
        let told = resources.into_iter().map(|each| (each.name.clone(), Arc::new(each))).collect();
        let part = World::part(AGENT, Some(gateway));
        self.change(|parts| drop(parts.gateways.insert(part, told)));
    }

    /// There are these workloads besides the mesh.
    pub(crate) fn set_synthetic(&self, resources: impl Iterator<Item = Resource>) {
        let synthetic = resources.map(Arc::new).collect();
        self.change(|parts| parts.synthetic = synthetic);
    }

    /// This is told, too, whatever it is, under `type_url`.
    pub(crate) fn inject(&self, type_url: &str, resource: Resource) {
        let key = (type_url.to_owned(), resource.name.clone());
        self.change(|parts| drop(parts.injected.insert(key, Arc::new(resource))));
    }

    /// What was injected is not told any more.
    pub(crate) fn withdraw_injected(&self) {
        self.change(|parts| parts.injected.clear());
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.parts.lock().expect("no holder of the parts panics");
        change(&mut parts);
        let mut world = World {
            accounts: parts.accounts.clone(),
            gateways: parts.gateways.clone(),
            cluster: parts.cluster.clone(),
            ..World::default()
        };
        let told = parts.mesh.iter().chain(&parts.synthetic);
        let told = told.map(|resource| (&*resource.type_url, resource));
        let injected = parts.injected.iter().map(|((type_url, _), each)| (&**type_url, each));
        for (type_url, resource) in told.chain(injected) {
            let resources = match type_url {
                AUTHORIZATION => &mut world.authorizations,
                _ => &mut world.addresses,
            };
            resources.insert(resource.name.clone(), Arc::clone(resource));
        }
        self.current.send_replace(Arc::new(world));
    }
}
