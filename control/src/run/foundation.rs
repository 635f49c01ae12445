//! What every run stands on, whoever tells it about the world: a log, an engine, servers, and ears for signals.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use ringway_engine::runtime::ReactorChoice;
use ringway_engine::snapshot::Snapshot;
use ringway_engine::{Engine, EngineConfig, OriginalSource, PACKET_MARK, Ports, ShardHook};

use super::cores::cores_of;
use super::error::{RunError, ToldBy};
use super::hardening::Hardened;
use super::privileges::{self, NET_ADMIN, SYS_ADMIN};
use super::records;
use super::servers::{Listening, Servers};
use super::signals::Requests;
use super::watchdog;
use super::{leftovers, limits, memory};
use crate::admin::config_dump::VersionInfo;
use crate::admin::readiness::Readiness;
use crate::admin::server::{self, Handler};
use crate::admin::view::View;
use crate::admin::{admin_handler, metrics_handler, readiness_handler};
use crate::redirect::APPLICATION_MARK;
use crate::source::{
    self, Mode, NodeConfig, OriginalSource as ConfiguredSource, Reactor, Redirect,
};
use crate::telemetry::log::{Log, LogFilter, LogFormat, LogWriter};

/// See the module's text.
pub(super) struct Foundation {
    pub(super) log: Log,
    pub(super) engine: Arc<Engine>,
    /// The step `proxy` is pending.
    pub(super) readiness: Readiness,
    pub(super) view: Rc<View>,
    /// They listen, and serve when they are told to.
    pub(super) servers: Servers,
    pub(super) requests: Requests,
}

/// The log, and what the process is allowed.
pub(super) fn begin(
    node: &NodeConfig,
    hardened: &Hardened,
    version: &VersionInfo,
) -> Result<Log, RunError> {
    let log = start_log(node)?;
    tracing::info!(
        version = version.version,
        revision = version.git_revision,
        node = &*node.name,
        "ringway starts"
    );
    hardened.log();
    match privileges::raise_descriptor_limit() {
        Ok(limit) => tracing::debug!(limit, "descriptor limit raised"),
        Err(error) => tracing::warn!(%error, "the descriptor limit could not be raised"),
    }
    let missing = privileges::missing(needed(node));
    if !missing.is_empty() {
        return Err(RunError::Privileges(missing));
    }
    Ok(log)
}

impl Foundation {
    /// Starts the engine with a first snapshot, and listens where `node` says, on sockets that were handed where there
    /// are any. Must run in a `LocalSet`.
    pub(super) async fn lay(
        log: Log,
        node: &NodeConfig,
        config: EngineConfig,
        snapshot: Snapshot,
        hardened: &Hardened,
        version: VersionInfo,
        handed: &mut BTreeMap<String, OwnedFd>,
    ) -> Result<Self, RunError> {
        let requests = Requests::new().map_err(RunError::System)?;
        let readiness = Readiness::default();
        readiness.set_step("proxy", true);

        let on_start = hardened.shards();
        let config = EngineConfig { on_start: on_start.clone(), ..config };
        let engine = Arc::new(Engine::start(config, snapshot).map_err(RunError::Engine)?);
        log_reactors(&engine);
        for why in on_start.iter().flat_map(ShardHook::failures) {
            tracing::warn!(why, "shards are not hardened");
        }

        let view = View::new(Arc::clone(&engine), log.clone(), readiness.clone(), version);
        let view = Rc::new(view);
        let servers = listen(node, &view, &log, &requests, handed).await?;
        let (told_by, told_to) = (Arc::clone(&engine), log.clone());
        let write_batch = move || records::write_batch(&told_by, &told_to);
        tokio::task::spawn_local(records::pump(write_batch));
        tokio::task::spawn_local(limits::tell(Arc::clone(&engine)));
        tokio::task::spawn_local(leftovers::give_back(Arc::clone(&engine)));
        tokio::task::spawn_local(watchdog::watch(Arc::clone(&engine)));
        Ok(Self { log, engine, readiness, view, servers, requests })
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
        memory::end_if_short(message);
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
pub(super) fn packet_mark(node: &NodeConfig) -> Option<u32> {
    node.packet_mark.or_else(|| (node.redirect != Redirect::None).then_some(PACKET_MARK))
}

/// How the engine runs on this node.
pub(super) fn engine_config(node: &NodeConfig) -> EngineConfig {
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
        let refused =
            |error| RunError::Listen { server: name, address, error, told_by: ToldBy::Flags };
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

/// Spreads renewals: another number on every host and start.
pub(super) fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
