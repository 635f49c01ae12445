//! From a configuration to a node that serves, step by step.

use std::collections::BTreeMap;
use std::mem::take;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use ringway_engine::runtime::ReactorChoice;
use ringway_engine::{Engine, EngineConfig, OriginalSource, PACKET_MARK, Ports, ShardHook};
use ringway_protocols::tls;

use super::cores::cores_of;
use super::enroller::Enroller;
use super::error::RunError;
use super::hardening::Hardened;
use super::host::Host;
use super::limits;
use super::node::Node;
use super::options::RunOptions;
use super::privileges::{self, NET_ADMIN, SYS_ADMIN};
use super::records;
use super::revocation::Revocation;
use super::servers::{Control, Listening, Servers};
use super::signals::Requests;
use super::systemd::ServiceManager;
use super::watchdog;
use crate::admin::readiness::Readiness;
use crate::admin::server::{self, Handler};
use crate::admin::view::View;
use crate::admin::{admin_handler, metrics_handler, readiness_handler};
use crate::dns::{Dns, DnsConfig, LookupSettings, Search};
use crate::handover::control_socket;
use crate::handover::predecessor::Launch;
use crate::handover::successor::Inheritance;
use crate::identity::{Authority, CaOptions, Certifier, EmbeddedCa, IdentityStore, WorkloadApi};
use crate::redirect::{APPLICATION_MARK, Ledger, RedirectMode, RedirectOptions};
use crate::source::{
    self, MeshConfig, Mode, NodeConfig, OriginalSource as ConfiguredSource, Reactor, Redirect,
};
use crate::state_files::{Kind, remove_stale};
use crate::telemetry::log::{Log, LogFilter, LogFormat, LogWriter};

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
    let log = start_log(&mesh.node)?;
    tracing::info!(
        version = options.version.version,
        revision = options.version.git_revision,
        node = &*mesh.node.name,
        "ringway starts"
    );
    for warning in mesh.warnings.iter() {
        tracing::warn!("{}:{}: {}", warning.file(), warning.line(), warning.message());
    }
    hardened.log();
    match privileges::raise_descriptor_limit() {
        Ok(limit) => tracing::debug!(limit, "descriptor limit raised"),
        Err(error) => tracing::warn!(%error, "the descriptor limit could not be raised"),
    }
    let missing = privileges::missing(needed(&mesh.node));
    if !missing.is_empty() {
        return Err(RunError::Privileges(missing));
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
    let requests = Requests::new().map_err(RunError::System)?;
    let readiness = Readiness::default();
    readiness.set_step("proxy", true);

    let resumption = mesh.node.session_resumption;
    let lists = Arc::clone(revocation.lists());
    let tls = tls::Options { resumption, revocation: lists, ..tls::Options::default() };
    let mut certifier = Certifier::new(IdentityStore::new(tls, seed()), authority(ca, &mesh.node));
    let identities = mesh.enrollments.iter().map(|one| &one.identity);
    certifier.keep(identities, SystemTime::now());

    let on_start = hardened.shards();
    let config = EngineConfig {
        on_start: on_start.clone(),
        collect: options.collect,
        ..engine_config(&mesh.node)
    };
    let snapshot = mesh.snapshot.clone().with_generation(1);
    let engine = Arc::new(Engine::start(config, snapshot).map_err(RunError::Engine)?);
    log_reactors(&engine);
    for why in on_start.iter().flat_map(ShardHook::failures) {
        tracing::warn!(why, "shards are not hardened");
    }

    let view = Rc::new(View::new(
        Arc::clone(&engine),
        log.clone(),
        readiness.clone(),
        options.version.clone(),
    ));
    let mut inherited = inherited;
    let mut handed = inherited.as_mut().map(|one| take(&mut one.servers)).unwrap_or_default();
    let mut servers = listen(&mesh.node, &view, &log, &requests, &mut handed).await?;
    servers.control = listen_for_control(&options, &mesh.node, &mut handed);
    tokio::task::spawn_local(records::pump(Arc::clone(&engine), log.clone()));
    tokio::task::spawn_local(limits::tell(Arc::clone(&engine)));
    tokio::task::spawn_local(watchdog::watch(Arc::clone(&engine)));

    let ledger =
        Kind::Ledger.path(&options.state_directory, &mesh.node.name).map_err(RunError::System)?;
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
    let host = Host::new(Arc::clone(&engine), dns.clone(), redirect_options(&mesh.node), ledger);
    let host = Arc::new(host);
    let node = Node {
        options,
        config: mesh.node.clone(),
        log,
        engine,
        dns,
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
    };
    match inherited {
        None => Ok(node.begin(mesh).await),
        Some(inherited) => node.inherit(mesh, inherited).await,
    }
}

fn authority(ca: Option<EmbeddedCa>, node: &NodeConfig) -> Authority {
    match (ca, &node.certificate_authority.workload_api) {
        (_, Some(socket)) => Authority::Workload(WorkloadApi::start(socket.clone())),
        (Some(ca), None) => ca.into(),
        (None, None) => unreachable!("without an agent the embedded authority is opened"),
    }
}

fn start_log(node: &NodeConfig) -> Result<Log, RunError> {
    let filter = LogFilter::parse(&node.log.level).map_err(RunError::LogLevel)?;
    let format = match node.log.format {
        source::LogFormat::Plain => LogFormat::Plain,
        source::LogFormat::Json => LogFormat::Json,
    };
    let log = Log::new(format, filter, LogWriter::stdout().map_err(RunError::System)?);
    log.install();
    log_panics();
    Ok(log)
}

/// A panic is a defect: it is told with its place. The message is ours, never what a peer sent.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let payload = panic.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        tracing::error!(target: "panic", thread, place, "{message}");
    }));
}

fn needed(node: &NodeConfig) -> &'static [privileges::Capability] {
    match node.mode {
        Mode::Shared => &[NET_ADMIN, SYS_ADMIN],
        Mode::Dedicated if node.redirect == Redirect::None && node.packet_mark.is_none() => &[],
        Mode::Dedicated => &[NET_ADMIN],
    }
}

/// The mark of our packets: without one, rules of ours would capture us.
fn packet_mark(node: &NodeConfig) -> Option<u32> {
    node.packet_mark.or_else(|| (node.redirect != Redirect::None).then_some(PACKET_MARK))
}

fn engine_config(node: &NodeConfig) -> EngineConfig {
    EngineConfig {
        cores: cores_of(&node.cores),
        pin: node.pin_cores,
        reactor: match node.reactor {
            Reactor::Auto => ReactorChoice::Auto,
            Reactor::Ring => ReactorChoice::Ring,
            Reactor::Epoll => ReactorChoice::Epoll,
        },
        ports: Ports {
            outbound: node.ports.outbound,
            inbound_plaintext: node.ports.inbound,
            hbone: node.ports.tunnel,
            ..Ports::default()
        },
        packet_mark: packet_mark(node),
        // Rules of somebody else's, such as Istio's, know these dials by the mark of all packets.
        application_mark: (node.redirect != Redirect::None).then_some(APPLICATION_MARK),
        original_source: match node.original_source {
            ConfiguredSource::Auto => OriginalSource::Auto,
            ConfiguredSource::Always => OriginalSource::Always,
            ConfiguredSource::Never => OriginalSource::Never,
        },
        ipv6: node.ipv6,
        limits: node.limits.clone(),
        ..EngineConfig::default()
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
        mark: packet_mark(node),
        resolv_conf: node.dns.resolv_conf.clone(),
    }
}

fn log_reactors(engine: &Engine) {
    let mut told: Vec<String> = Vec::new();
    for report in engine.reactor_reports() {
        let report = report.to_string();
        if !told.contains(&report) {
            tracing::info!(shards = engine.shards(), "{report}");
            told.push(report);
        }
    }
}

/// Listens, or takes over what a predecessor listens on; nothing is served yet.
async fn listen(
    node: &NodeConfig,
    view: &Rc<View>,
    log: &Log,
    requests: &Requests,
    handed: &mut BTreeMap<String, OwnedFd>,
) -> Result<Servers, RunError> {
    let admin = admin_handler(Rc::clone(view), log.clone(), requests.quit_sender());
    let mut servers = Servers::default();
    let wanted: [(&'static str, _, Handler); 3] = [
        ("readiness", node.listen.readiness, readiness_handler(Rc::clone(view))),
        ("admin", node.listen.admin, admin),
        ("metrics", node.listen.metrics, metrics_handler(Rc::clone(view))),
    ];
    for (name, address, handler) in wanted {
        let Some(address) = address else { continue };
        let refused = |error| RunError::Listen { server: name, address, error };
        let inherited =
            handed.remove(name).and_then(|socket| server::inherit(socket, address).ok());
        let listener = match inherited {
            Some(listener) => listener,
            None => server::bind(address).await.map_err(refused)?,
        };
        servers.listening.push(Listening { name, listener, handler });
    }
    Ok(servers)
}

/// Without it a hand-over is asked for by signal only.
fn listen_for_control(
    options: &RunOptions,
    node: &NodeConfig,
    handed: &mut BTreeMap<String, OwnedFd>,
) -> Option<Control> {
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

/// Spreads renewals: another number on every host and start.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
