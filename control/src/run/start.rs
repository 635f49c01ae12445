//! From a configuration to a node that serves, step by step.

use std::collections::BTreeMap;
use std::mem::take;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::SystemTime;

use ringway_engine::{EngineConfig, PACKET_MARK, Role};
use ringway_protocols::tls;

use super::enroller::Enroller;
use super::error::RunError;
use super::foundation::{Foundation, begin, engine_config, packet_mark, seed};
use super::hardening::Hardened;
use super::host::Host;
use super::hostnames::{Hostnames, NameServers};
use super::node::Node;
use super::options::RunOptions;
use super::revocation::Revocation;
use super::servers::Control;
use super::systemd::ServiceManager;
#[cfg(feature = "waypoint")]
use super::waypoint;
use crate::dns::{Dns, DnsConfig, LookupSettings, Search};
use crate::handover::control_socket;
use crate::handover::predecessor::Launch;
use crate::handover::successor::Inheritance;
use crate::identity::{Authority, CaOptions, Certifier, EmbeddedCa, IdentityStore, WorkloadApi};
use crate::redirect::{Ledger, RedirectMode, RedirectOptions};
use crate::source::{MeshConfig, Mode, NodeConfig, Redirect};
use crate::state_files::{Kind, remove_stale};
use crate::telemetry::log::Log;

/// What does not need the control thread's runtime yet.
pub(super) struct Prepared {
    pub(super) log: Log,
    options: RunOptions,
    mesh: MeshConfig,
    /// Where an agent gives the identities, there is none.
    ca: Option<EmbeddedCa>,
    revocation: Revocation,
    hardened: Hardened,
}

/// The log, what the process is allowed, and the certificate authority.
pub(super) fn prepare(
    options: RunOptions,
    mesh: MeshConfig,
    hardened: Hardened,
) -> Result<Prepared, RunError> {
    let log = begin(&mesh.node, &hardened, &options.version)?;
    for warning in mesh.warnings.iter() {
        tracing::warn!("{}:{}: {}", warning.file(), warning.line(), warning.message());
    }
    let authority = &mesh.node.certificate_authority;
    let lists = &authority.revocation_lists;
    let (ca, revocation) = match &authority.workload_api {
        Some(_) => (None, Revocation::open(None, lists)?),
        None => {
            let leaf_lifetime = authority.leaf_lifetime;
            let ca_options = CaOptions { leaf_lifetime, ..CaOptions::default() };
            let ca = EmbeddedCa::open(&authority.directory, ca_options, SystemTime::now())
                .map_err(RunError::Authority)?;
            let published = ca.revocation_list();
            (Some(ca), Revocation::open(Some(published), lists)?)
        }
    };
    Ok(Prepared { log, options, mesh, ca, revocation, hardened })
}

/// Leaves, engine, servers; the workloads follow while it serves.
///
/// With an inheritance it does so beside its predecessor, and serves when that lets it.
pub(super) async fn start(
    prepared: Prepared,
    launch: Launch,
    inherited: Option<Inheritance>,
) -> Result<Node, RunError> {
    let Prepared { log, options, mesh, ca, revocation, hardened } = prepared;
    let resumption = mesh.node.session_resumption;
    let lists = Arc::clone(revocation.lists());
    let tls = tls::Options { resumption, revocation: lists, ..tls::Options::default() };
    let mut certifier = Certifier::new(IdentityStore::new(tls, seed()), authority(ca, &mesh.node));
    let identities = mesh.enrollments.iter().map(|one| &one.identity);
    certifier.keep(identities, SystemTime::now());

    let config =
        EngineConfig { collect: options.collect, resolver: true, ..engine_config(&mesh.node) };
    let snapshot = mesh.snapshot.clone().with_generation(1);
    let mut inherited = inherited;
    let mut handed = inherited.as_mut().map(|one| take(&mut one.servers)).unwrap_or_default();
    let laying = Foundation::lay(
        log,
        &mesh.node,
        config,
        snapshot,
        &hardened,
        options.version.clone(),
        &mut handed,
    );
    let Foundation { log, engine, readiness, view, mut servers, requests } = laying.await?;
    servers.control = listen_for_control(&options, &mesh.node, &mut handed);

    let ledger = Kind::Ledger
        .path(&options.state_directory, &options.process_name(&mesh.node))
        .map_err(RunError::System)?;
    let removed =
        remove_stale(&options.state_directory, &ledger, Ledger::is_stale).unwrap_or_default();
    tracing::debug!(removed, "files of nodes that are no more");
    let ledger = Ledger::open(&ledger);
    let dns = match mesh.node.dns.capture {
        true => Some(Arc::new(
            Dns::start(dns_config(&mesh.node), mesh.snapshot.clone()).map_err(RunError::System)?,
        )),
        false => None,
    };
    if let Some(metrics) = dns.as_ref().map(|dns| Arc::clone(dns.metrics())) {
        view.update(|seen| seen.dns = Some(Arc::new(move || metrics.facts())));
    }
    let servers_of_names = match &dns {
        Some(dns) => NameServers::Running(dns.resolver()),
        None => NameServers::NotYet(dns_config(&mesh.node)),
    };
    let hostnames = Hostnames::new(Arc::clone(&engine), servers_of_names, mesh.node.ipv6, false);
    let role = role(&options, &mesh);
    let redirect = redirect_options(&mesh.node);
    let host = Host::new(Arc::clone(&engine), dns.clone(), redirect, ledger, role);
    #[cfg(feature = "waypoint")]
    let l7 = options.l7.as_ref().map(|l7| {
        let version = &options.version.version;
        let requests =
            waypoint::Requests::start(l7, &mesh.node, version, Arc::clone(&engine), log.clone());
        view.update(|seen| {
            seen.spans = Some(requests.teller());
            seen.mirrors = Some(requests.mirrors());
        });
        requests
    });
    let host = Arc::new(host);
    let node = Node {
        options,
        config: mesh.node.clone(),
        log,
        engine,
        dns,
        hostnames,
        host,
        call_filter: hardened.call_filter(),
        revocation,
        certifier,
        enroller: Enroller::default(),
        readiness,
        view,
        servers,
        requests,
        service_manager: ServiceManager::from_environment(),
        reloads: Default::default(),
        generation: 1,
        launch,
        #[cfg(feature = "waypoint")]
        requests_told: l7,
        #[cfg(feature = "waypoint")]
        lingering: Default::default(),
        keys: Default::default(),
    };
    match inherited {
        None => Ok(node.begin(mesh).await),
        Some(inherited) => node.inherit(mesh, inherited).await,
    }
}

/// What the workloads of this process are to their connections.
#[cfg_attr(not(feature = "waypoint"), expect(unused_variables, reason = "nodes have one role"))]
fn role(options: &RunOptions, mesh: &MeshConfig) -> Role {
    #[cfg(feature = "waypoint")]
    if let Some(l7) = &options.l7 {
        return l7.role(&mesh.http);
    }
    Role::Workload
}

fn authority(ca: Option<EmbeddedCa>, node: &NodeConfig) -> Authority {
    match (ca, &node.certificate_authority.workload_api) {
        (_, Some(socket)) => Authority::Workload(WorkloadApi::start(socket.clone())),
        (Some(ca), None) => ca.into(),
        (None, None) => unreachable!("without an agent the embedded authority is opened"),
    }
}

fn redirect_options(node: &NodeConfig) -> RedirectOptions {
    RedirectOptions {
        mode: match node.redirect {
            Redirect::Auto => RedirectMode::Auto,
            Redirect::Nftables => RedirectMode::Nftables,
            Redirect::Iptables => RedirectMode::Iptables,
            Redirect::None => RedirectMode::None,
        },
        ipv6: node.ipv6,
        packet_mark: packet_mark(node).unwrap_or(PACKET_MARK),
        outbound_port: node.ports.outbound,
        inbound_plaintext_port: node.ports.inbound,
        hbone_port: node.ports.tunnel,
        dns_port: node.dns.capture.then_some(node.ports.dns),
        ..RedirectOptions::default()
    }
}

fn dns_config(node: &NodeConfig) -> DnsConfig {
    DnsConfig {
        lookup: LookupSettings {
            cluster_domain: node.cluster_domain.to_string(),
            search: match node.mode {
                Mode::Shared => Search::OfKubernetes,
                // The resolver's own file is the workload's, too.
                Mode::Dedicated => Search::OfHost,
            },
            ipv6: node.ipv6,
            preferred_namespace: node.dns.preferred_namespace.as_deref().map(str::to_owned),
        },
        port: node.ports.dns,
        shared_ports: true,
        mark: packet_mark(node),
        resolv_conf: node.dns.resolv_conf.clone(),
    }
}

/// Without it a hand-over is asked for by signal only.
fn listen_for_control(
    options: &RunOptions,
    node: &NodeConfig,
    handed: &mut BTreeMap<String, OwnedFd>,
) -> Option<Control> {
    if options.refuses_handover().is_some() {
        return None;
    }
    let path = control_socket::path(&options.state_directory, &node.name).ok()?;
    let inherited =
        handed.remove(Control::NAME).and_then(|socket| control_socket::inherit(socket).ok());
    let listener = match inherited {
        Some(listener) => Ok(listener),
        None => control_socket::bind(&path),
    };
    match listener {
        Ok(listener) => Some(Control { path, listener }),
        Err(error) => {
            let path = path.display();
            tracing::warn!(%error, "no control socket at {path}: `ringway handover` will not find this process");
            None
        }
    }
}
