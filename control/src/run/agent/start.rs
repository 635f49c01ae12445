//! From the environment to a process that listens to its control plane.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost_types::Value;
use ringway_engine::EngineConfig;
use ringway_engine::snapshot::{Locals, Settings, Snapshot};
use ringway_http::model::GatewayName;
use ringway_protocols::identity::Identity;

use super::AgentOptions;
use super::enrolled::Enrolled;
use super::node::Node;
use super::world::World;
use crate::admin::config_dump::VersionInfo;
use crate::environment::{L7Config, ZtunnelConfig};
use crate::identity::Authority;
use crate::run::error::RunError;
use crate::run::foundation::{Foundation, begin};
use crate::run::hardening::Hardened;
use crate::run::hostnames::{Hostnames, NameServers};
use crate::run::revocation::Revocation;
use crate::run::systemd::ServiceManager;
use crate::run::ztunnel::names::NameServer;
use crate::run::ztunnel::start::{authority, certifier, engine_config_of};
use crate::run::ztunnel::told::{identity, teller};
use crate::source::{NodeConfig, OriginalSource};
use crate::telemetry::log::Log;
use crate::xds::{NodeIdentity, NodeType, XdsClient, XdsConfig};

/// What does not need the control thread's runtime yet.
pub(super) struct Prepared {
    pub(super) log: Log,
    options: AgentOptions,
    settings: NodeConfig,
    hardened: Hardened,
    version: VersionInfo,
    authority: Authority,
    revocation: Revocation,
}

/// As settings of a node, for what all runs have in common.
pub(super) fn settings(config: &ZtunnelConfig) -> NodeConfig {
    NodeConfig { original_source: OriginalSource::Never, ..config.node_config() }
}

/// The log, what the process is allowed, and who signs its certificate.
pub(super) fn prepare(
    options: AgentOptions,
    settings: NodeConfig,
    hardened: Hardened,
    version: VersionInfo,
) -> Result<Prepared, RunError> {
    let log = begin(&settings, &hardened, &version)?;
    let config = &options.config.process;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    tracing::warn!(
        "istiod tells processes of this kind no AuthorizationPolicy, RequestAuthentication or Telemetry: here nobody's \
         requests are held against them"
    );
    let (authority, revocation) = authority(config)?;
    Ok(Prepared { log, options, settings, hardened, version, authority, revocation })
}

/// Engine and servers; what is served is told while it runs.
pub(super) async fn start(prepared: Prepared, collect: Option<fn()>) -> Result<Node, RunError> {
    let Prepared { log, options, settings, hardened, version, authority, revocation } = prepared;
    let config = &options.config.process;
    let certifier = certifier(config, authority, &revocation);
    let engine_config = EngineConfig { collect, ..engine_config_of(config, &settings) };
    let known = known(config);
    let world = known.clone().with_generation(1);
    let mut none = BTreeMap::new();
    let told = version.clone();
    let laying = Foundation::lay(log, &settings, engine_config, world, &hardened, told, &mut none);
    let foundation = laying.await?;
    let names = NameServer::start(config, known.clone()).map_err(RunError::System)?;
    let servers = NameServers::Running(names.resolver());
    let hostnames = Hostnames::new(Arc::clone(&foundation.engine), servers, config.ipv6, false);
    let gateway = gateway(&options.config);
    let client = XdsClient::start(XdsConfig {
        endpoint: config.discovery.clone().expect("the environment names a control plane"),
        node: node_identity(&options.config),
        is_on_demand: false,
        known,
    });
    foundation.view.update(|seen| {
        seen.config = config.dump();
        seen.discovery = Some(teller(&client));
    });
    let enrolled = Enrolled::new(Arc::clone(&foundation.engine), gateway.clone(), &options.config);
    Ok(Node {
        own: own_identity(&options.config)?,
        world: World::new(gateway, &options.config),
        updates: client.updates(),
        _client: client,
        settings,
        options,
        version: version.version,
        foundation,
        names,
        hostnames,
        certifier,
        revocation,
        service_manager: ServiceManager::from_environment(),
        enrolled,
        requests: None,
        lingering: Default::default(),
        generation: 1,
    })
}

fn gateway(config: &L7Config) -> GatewayName {
    GatewayName {
        namespace: config.namespace.as_str().into(),
        name: config.gateway.as_str().into(),
    }
}

fn own_identity(config: &L7Config) -> Result<Identity, RunError> {
    let trust_domain = &config.process.node.trust_domain;
    let identity = Identity::new(trust_domain, &config.namespace, &config.service_account);
    identity.map_err(|error| RunError::System(std::io::Error::other(error.to_string())))
}

/// How istiod finds our Gateway: by the pod's labels, else by the role.
fn node_identity(config: &L7Config) -> NodeIdentity {
    let node = &config.process.node;
    let mut identity = NodeIdentity { node_type: NodeType::L7, ..identity(node) };
    let role = format!("{}~{}", config.namespace, config.gateway);
    let known = [
        ("role", role.as_str()),
        ("GATEWAY_NAME", &config.gateway),
        ("CLUSTER_ID", &node.cluster),
        ("NETWORK", &node.network),
        ("SERVICE_ACCOUNT", &config.service_account),
    ];
    for (name, value) in known.into_iter().filter(|(_, value)| !value.is_empty()) {
        let entry = identity.metadata.entry(name.to_owned());
        entry.or_insert_with(|| Value::from(value));
    }
    identity
}

/// The world before anything was told. Which host we are on does not matter: every workload may be ours.
fn known(config: &ZtunnelConfig) -> Snapshot {
    let network = &*config.node.network;
    let mut known = Snapshot::new(network);
    known.set_settings(Settings { locals: Locals::Everybody, ..Settings::new(network) });
    known
}
