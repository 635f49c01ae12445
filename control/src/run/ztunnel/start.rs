//! From the environment to a node that serves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use ringway_engine::EngineConfig;
use ringway_engine::snapshot::{Locals, Settings, Snapshot};
use ringway_protocols::tls;
use tokio::sync::watch;

use super::super::error::RunError;
use super::super::foundation::{Foundation, begin, engine_config, seed};
use super::super::hardening::Hardened;
use super::super::hostnames::{Hostnames, NameServers};
use super::super::revocation::Revocation;
use super::super::systemd::ServiceManager;
use super::demanded::Demanded;
use super::names::NameServer;
use super::node::Node;
use super::pods::PodHost;
use super::told::Told;
use super::untold::Untold;
use crate::admin::config_dump::{VersionInfo, static_config};
use crate::cni::{self, PodInfo, PodSeen, Seen};
use crate::environment::ZtunnelConfig;
use crate::identity::{
    Authority, CaOptions, Certifier, EmbeddedCa, IdentityStore, IstioAuthority, IstioCa,
    IstioCaConfig,
};
use crate::source::{self, Mode, NodeConfig};
use crate::telemetry::log::Log;

/// What does not need the control thread's runtime yet.
pub(super) struct Prepared {
    pub(super) log: Log,
    config: ZtunnelConfig,
    settings: NodeConfig,
    hardened: Hardened,
    version: VersionInfo,
    known: Snapshot,
    authority: Authority,
    revocation: Revocation,
}

/// The log, what the process is allowed, what the local file says, and who signs certificates.
pub(super) fn prepare(
    config: ZtunnelConfig,
    settings: NodeConfig,
    hardened: Hardened,
    version: VersionInfo,
) -> Result<Prepared, RunError> {
    let log = begin(&settings, &hardened, &version)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if config.log_policies {
        log.tell_decisions_at_info();
    }
    let known = known(&config)?;
    let (authority, revocation) = authority(&config)?;
    Ok(Prepared { log, config, settings, hardened, version, known, authority, revocation })
}

/// Engine and servers; pods, workloads and certificates come while it serves.
pub(super) async fn start(prepared: Prepared, collect: Option<fn()>) -> Result<Node, RunError> {
    let Prepared { log, config, settings, hardened, version, known, authority, revocation } =
        prepared;
    let certifier = certifier(&config, authority, &revocation);
    let engine_config = EngineConfig {
        socks5: config.socks5,
        shared_ports: config.port_reuse,
        on_demand: config.on_demand && config.discovery.is_some(),
        collect,
        ..engine_config_of(&config, &settings)
    };
    let world = known.clone().with_generation(1);
    let mut none = BTreeMap::new();
    let laying =
        Foundation::lay(log, &settings, engine_config, world, &hardened, version, &mut none);
    let foundation = laying.await?;
    let local = static_config(config.local.as_ref().map(|_| &known));
    let names = NameServer::start(&config, known.clone()).map_err(RunError::System)?;
    let metrics = Arc::clone(names.metrics());
    foundation.readiness.set_step(super::node::NAMES, true);
    let servers = NameServers::Running(names.resolver());
    let hostnames =
        Hostnames::new(Arc::clone(&foundation.engine), servers, config.ipv6, config.socks5);
    let pods = pods(&config, &foundation, &names).await?;
    let told = Told::listen_to(&config, known);
    let client = told.client().filter(|_| config.on_demand);
    let demanded = Demanded::new(Arc::clone(&foundation.engine), client);
    foundation.view.update(|seen| {
        seen.config = config.dump();
        seen.static_config = local;
        seen.discovery = told.teller();
        seen.dns = Some(Arc::new(move || metrics.facts()));
    });
    Ok(Node {
        config,
        foundation,
        told,
        names,
        hostnames,
        demanded,
        pods,
        enrolled: BTreeMap::new(),
        untold: Untold::default(),
        certifier,
        revocation,
        service_manager: ServiceManager::from_environment(),
        generation: 1,
    })
}

/// The world without a control plane: what the local file says, and what we are told about ourselves.
fn known(config: &ZtunnelConfig) -> Result<Snapshot, RunError> {
    let node = config.node.node_name.as_deref();
    let mut known = match &config.local {
        None => Snapshot::new(&config.node.network),
        Some(local) => {
            let mesh =
                source::load(std::slice::from_ref(local), node).map_err(RunError::Configuration)?;
            mesh.snapshot
        }
    };
    let mut own_ports: BTreeSet<u16> = [15001, 15006, 15008].into();
    if config.socks5 {
        own_ports.insert(15080);
    }
    known.set_settings(Settings {
        locals: node.map_or(Locals::Everybody, |node| Locals::Of(node.into())),
        own_ports: own_ports.into_iter().collect(),
        application_tunnel_over_loopback: config.localhost_application_tunnel,
        ..Settings::new(&*config.node.network)
    });
    Ok(known)
}

/// How the engine runs by what the environment says, whoever is served.
pub(in crate::run) fn engine_config_of(
    config: &ZtunnelConfig,
    settings: &NodeConfig,
) -> EngineConfig {
    EngineConfig {
        tunnels: config.tunnels.clone(),
        patience: config.peer_patience,
        response_baggage: config.response_baggage,
        resolver: true,
        ..engine_config(settings)
    }
}

/// Who signs, and the revocation lists: those that the environment names, and what the authority publishes, if it does.
pub(in crate::run) fn authority(
    config: &ZtunnelConfig,
) -> Result<(Authority, Revocation), RunError> {
    let (authority, published) = signer(config)?;
    let lists: Vec<_> = config.revocation_list.iter().cloned().collect();
    Ok((authority, Revocation::open_forgiving(published, &lists)?))
}

/// Who asks for certificates, and keeps them.
pub(in crate::run) fn certifier(
    config: &ZtunnelConfig,
    authority: Authority,
    revocation: &Revocation,
) -> Certifier {
    let tls = tls::Options {
        revocation: Arc::clone(revocation.lists()),
        post_quantum_only: config.post_quantum_only,
        ..tls::Options::default()
    };
    Certifier::new(IdentityStore::new(tls, seed()), authority)
}

/// Who signs, and where it publishes what it has revoked.
fn signer(config: &ZtunnelConfig) -> Result<(Authority, Option<PathBuf>), RunError> {
    let Some(endpoint) = config.certificate_authority.clone() else {
        let options =
            CaOptions { leaf_lifetime: config.certificate_lifetime, ..CaOptions::default() };
        let ca = EmbeddedCa::open(&config.ca_directory, options, SystemTime::now())
            .map_err(RunError::Authority)?;
        let published = ca.revocation_list();
        return Ok((ca.into(), Some(published)));
    };
    let client = IstioCaConfig {
        lifetime: config.certificate_lifetime,
        // One workload's own proxy asks for itself.
        impersonates: config.mode == Mode::Shared,
        ..IstioCaConfig::new(endpoint)
    };
    let authority = IstioAuthority::new(IstioCa::new(client)).map_err(RunError::System)?;
    Ok((Authority::Istio(authority), None))
}

/// Begins to serve pods: those the agent tells, or the one in whose namespace we are.
async fn pods(
    config: &ZtunnelConfig,
    foundation: &Foundation,
    names: &NameServer,
) -> Result<watch::Receiver<Seen>, RunError> {
    let (sender, seen) = watch::channel(Seen::default());
    let host = PodHost::new(Arc::clone(&foundation.engine), names.clone(), config.proxy);
    match (&config.workload, config.mode) {
        (Some(name), Mode::Dedicated) => {
            let info = PodInfo {
                name: name.name.clone(),
                namespace: name.namespace.clone(),
                service_account: name.service_account.clone().unwrap_or_default(),
            };
            let uid: Arc<str> = name.to_string().into();
            let (of, pod) = (info.clone(), Arc::clone(&uid));
            let enrolling = tokio::task::spawn_blocking(move || {
                let own = ringway_engine::runtime::NetNamespace::current()?;
                host.serve(&pod, &of, own).map_err(std::io::Error::other)
            });
            let enrolled =
                enrolling.await.unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
            enrolled.map_err(RunError::System)?;
            let pods = BTreeMap::from([(uid, PodSeen { info, error: None })]);
            sender.send_replace(Seen { has_snapshot: true, pods, started: 1, stopped: 0 });
        }
        _ => {
            foundation.readiness.set_step(super::node::PODS, true);
            if let Some(own) = config.node.own_pod().filter(|_| config.proxy) {
                serve_own(own, host.clone()).await;
            }
            let path = config.cni_socket.clone();
            tokio::task::spawn_local(async move {
                cni::drive(&path, &host, &sender).await;
            });
        }
    }
    Ok(seen)
}

/// Our own pod is reached through tunnels, too: it is a workload whose metrics others scrape. Not worth failing for.
async fn serve_own((name, namespace, service_account): (&str, &str, &str), host: PodHost) {
    let info = PodInfo {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
    };
    let served = tokio::task::spawn_blocking(move || host.serve_own(&info)).await;
    if let Err(error) = served.unwrap_or_else(|panic| Err(std::io::Error::other(panic))) {
        tracing::warn!(
            %error,
            "no tunnels to this process's own pod: who scrapes its metrics must do it without"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::environment::Environment;

    /// Who comes from ztunnel finds its patience; a node of our own notices within a minute.
    #[test]
    fn a_silent_peer_is_given_up_as_by_ztunnel_or_within_a_minute() {
        let environment = Environment {
            variables: Vec::new(),
            mesh_file: "/no/such/mesh".into(),
            token_file: "/no/such/token".into(),
            cpus: 1,
        };
        let config = environment.read().unwrap();
        let in_its_place = engine_config_of(&config, &config.node_config()).patience;
        let our_own = engine_config(&NodeConfig::default()).patience;
        let [ztunnel, own] = [in_its_place, our_own].map(|patience| patience.keepalive.unwrap());
        assert_eq!(ztunnel.patience(), Duration::from_secs(180 + 9 * 180));
        assert!(own.patience() < Duration::from_secs(60));
        // A peer that answers and takes nothing is left alone.
        assert_eq!((in_its_place.user_timeout, our_own.user_timeout), (None, None));
    }
}
