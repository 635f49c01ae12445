//! `ringway.dev/v1alpha1 Node`: the settings of a process, and the workloads it captures.

pub(crate) mod captured;
pub(crate) mod config;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringway_engine::limits::{AUTOMATIC, Limits};
use ringway_protocols::identity::Identity;

use self::captured::{CapturedWorkload, captured, report_shared_namespaces};
use self::config::{
    CertificateAuthorityConfig, Cores, DnsConfig, Hardening, Listen, LogConfig, LogFormat, Mode,
    NodeConfig, OriginalSource, Ports, Reactor, Redirect,
};
use crate::identity::workload_api::socket_path;
use crate::source::context::Context;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::kubernetes::{locality, metadata};
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{
    boolean, duration, integer, name, nonempty, port, socket_address, text, word,
};
use crate::source::yaml::value::{Content, Value};
use crate::telemetry::log::LogFilter;

/// Highest number of a core. Linux supports 8192 processors.
const CORE_MAX: u64 = 8191;

/// The longest drain; what waits longer is not a drain.
pub(super) const DRAIN_DEADLINE_MAX: Duration = Duration::from_secs(60 * 60);

/// A certificate is renewed at half its life. So short a life is for tests.
pub(super) const LEAF_LIFETIME_MIN: Duration = Duration::from_secs(2);
/// Below this most of the work of a node would be to renew certificates.
const LEAF_LIFETIME_SENSIBLE: Duration = Duration::from_secs(60);
pub(super) const LEAF_LIFETIME_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A Node document.
pub(crate) struct NodeDocument {
    /// Of the name.
    pub(crate) place: Place,
    pub(crate) config: NodeConfig,
    pub(crate) workloads: Vec<CapturedWorkload>,
    /// The revocation lists of its configuration, each with its place.
    pub(crate) revocation_lists: Vec<(Place, PathBuf)>,
}

/// Reads a Node document; relative paths in it are relative to `directory`.
pub(crate) fn node(
    value: &Value,
    directory: &Path,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<NodeDocument> {
    mapping("Node", value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind"]);
        fields.nest("spec", SPEC_KEYS);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        let spec =
            fields.optional("spec", |value, reporter| spec(value, directory, context, reporter));
        let metadata = metadata?;
        let (config, workloads) = spec.unwrap_or_default();
        let config = NodeConfig { name: metadata.name, ..config };
        let revocation_lists = revocation_lists(fields, directory);
        Some(NodeDocument { place: metadata.place, config, workloads, revocation_lists })
    })?
}

/// Where each list that [`authority`] reads is named.
fn revocation_lists(fields: &mut Fields<'_, '_>, directory: &Path) -> Vec<(Place, PathBuf)> {
    let authority = fields.value("spec").and_then(|spec| spec.get("certificateAuthority"));
    let lists = authority.and_then(|authority| authority.get("revocationLists"));
    let Some(Content::Sequence(lists)) = lists.map(|lists| &lists.content) else {
        return Vec::new();
    };
    let named = lists.iter().filter_map(|list| Some((list.place, list.text()?)));
    named.map(|(place, path)| (place, directory.join(path))).collect()
}

/// Told apart from other unknown keys when they stand beside `spec`.
pub(crate) const SPEC_KEYS: &[&str] = &[
    "certificateAuthority",
    "cluster",
    "clusterDomain",
    "cores",
    "dns",
    "drainDeadline",
    "hardening",
    "ipv6",
    "limits",
    "listen",
    "locality",
    "log",
    "mode",
    "network",
    "originalSource",
    "packetMark",
    "pinCores",
    "ports",
    "reactor",
    "redirect",
    "rootNamespace",
    "sessionResumption",
    "trustDomain",
    "workloads",
];

fn spec(
    value: &Value,
    directory: &Path,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<(NodeConfig, Vec<CapturedWorkload>)> {
    mapping("spec", value, reporter, |fields| {
        let config = config(fields, directory, context);
        let dedicated = config.mode == Mode::Dedicated;
        let workloads = fields.optional("workloads", |value, reporter| {
            list(value, reporter, |value, reporter| {
                captured(value, directory, dedicated, context, reporter)
            })
        });
        let workloads = workloads.unwrap_or_default();
        if dedicated && workloads.len() != 1 {
            let message = "a dedicated node captures exactly one workload";
            fields.reporter.report(Problem::error(fields.place("workloads"), message));
        }
        report_shared_namespaces(&workloads, fields.reporter);
        (config, workloads)
    })
}

fn config(fields: &mut Fields<'_, '_>, directory: &Path, context: &mut Context) -> NodeConfig {
    let default = NodeConfig::default();
    let mode = fields.optional("mode", word(MODES)).unwrap_or(default.mode);
    let mut shared =
        |text: Option<&str>, default| text.map_or(default, |t| context.names.share_ref(t));
    NodeConfig {
        name: default.name,
        mode,
        cores: fields.optional("cores", cores).unwrap_or(default.cores),
        pin_cores: fields.optional("pinCores", boolean).unwrap_or(default.pin_cores),
        reactor: fields.optional("reactor", word(REACTORS)).unwrap_or(default.reactor),
        trust_domain: shared(fields.optional("trustDomain", trust_domain), default.trust_domain),
        cluster_domain: shared(fields.optional("clusterDomain", name), default.cluster_domain),
        root_namespace: shared(fields.optional("rootNamespace", name), default.root_namespace),
        cluster: shared(fields.optional("cluster", nonempty), default.cluster),
        network: shared(fields.optional("network", text), default.network),
        locality: shared(fields.optional("locality", locality), default.locality),
        certificate_authority: fields
            .optional("certificateAuthority", |value, reporter| {
                authority(value, directory, reporter)
            })
            .unwrap_or(default.certificate_authority),
        session_resumption: fields
            .optional("sessionResumption", boolean)
            .unwrap_or(default.session_resumption),
        drain_deadline: fields
            .optional("drainDeadline", bounded(Duration::ZERO, DRAIN_DEADLINE_MAX))
            .unwrap_or(default.drain_deadline),
        hardening: fields.optional("hardening", word(HARDENINGS)).unwrap_or(default.hardening),
        redirect: fields.optional("redirect", word(REDIRECTS)).unwrap_or(default.redirect),
        packet_mark: fields.optional("packetMark", mark).unwrap_or(mode.packet_mark()),
        original_source: fields
            .optional("originalSource", word(ORIGINAL_SOURCES))
            .unwrap_or(default.original_source),
        ipv6: fields.optional("ipv6", boolean).unwrap_or(default.ipv6),
        limits: fields.optional("limits", limits).unwrap_or(default.limits),
        dns: fields
            .optional("dns", |value, reporter| dns(value, directory, context, reporter))
            .unwrap_or(default.dns),
        ports: fields.optional("ports", ports).unwrap_or(default.ports),
        listen: fields.optional("listen", listen).unwrap_or(default.listen),
        log: fields.optional("log", log).unwrap_or(default.log),
    }
}

const MODES: &[(&str, Mode)] = &[("shared", Mode::Shared), ("dedicated", Mode::Dedicated)];

const REACTORS: &[(&str, Reactor)] =
    &[("auto", Reactor::Auto), ("ring", Reactor::Ring), ("epoll", Reactor::Epoll)];

const HARDENINGS: &[(&str, Hardening)] =
    &[("auto", Hardening::Auto), ("off", Hardening::Off), ("required", Hardening::Required)];

const REDIRECTS: &[(&str, Redirect)] = &[
    ("auto", Redirect::Auto),
    ("nftables", Redirect::Nftables),
    ("iptables", Redirect::Iptables),
    ("none", Redirect::None),
];

const ORIGINAL_SOURCES: &[(&str, OriginalSource)] = &[
    ("auto", OriginalSource::Auto),
    ("always", OriginalSource::Always),
    ("never", OriginalSource::Never),
];

const FORMATS: &[(&str, LogFormat)] = &[("plain", LogFormat::Plain), ("json", LogFormat::Json)];

fn cores(value: &Value, reporter: &mut Reporter) -> Option<Cores> {
    if value.text() == Some("auto") {
        return Some(Cores::Automatic);
    }
    if !matches!(value.content, Content::Sequence(_)) {
        let count = integer(1..=CORE_MAX + 1)(value, reporter)?;
        return Some(Cores::Count(count as usize));
    }
    let mut cores: Vec<usize> = Vec::new();
    list(value, reporter, |value, reporter| {
        let core = integer(0..=CORE_MAX)(value, reporter)? as usize;
        if cores.contains(&core) {
            reporter.report(Problem::error(value.place, format!("core {core} is given twice")));
        }
        cores.push(core);
        Some(())
    });
    if cores.is_empty() {
        let message = "at least one core is needed";
        reporter.report(
            Problem::error(value.place, message)
                .help("leave the key out for as many as the CPU quota allows".to_owned()),
        );
    }
    Some(Cores::List(cores))
}

/// Checked by the type it becomes a part of.
fn trust_domain<'v>(value: &'v Value, reporter: &mut Reporter) -> Option<&'v str> {
    let text = nonempty(value, reporter)?;
    match Identity::new(text, "default", "default") {
        Ok(_) => Some(text),
        Err(error) => {
            let help = "a trust domain has small letters, digits, `.`, `-` and `_`";
            let problem = Problem::error(value.place, error.to_string());
            reporter.report(problem.help(help.to_owned()));
            None
        }
    }
}

fn authority(
    value: &Value,
    directory: &Path,
    reporter: &mut Reporter,
) -> Option<CertificateAuthorityConfig> {
    let default = CertificateAuthorityConfig::default();
    mapping("certificateAuthority", value, reporter, |fields| CertificateAuthorityConfig {
        workload_api: workload_api(fields),
        directory: fields
            .optional("directory", nonempty)
            .map_or(default.directory, |path| directory.join(path)),
        leaf_lifetime: fields
            .optional("leafLifetime", leaf_lifetime)
            .unwrap_or(default.leaf_lifetime),
        revocation_lists: fields
            .optional("revocationLists", |value, reporter| {
                list(value, reporter, |value, reporter| {
                    nonempty(value, reporter).map(|path| directory.join(path))
                })
            })
            .unwrap_or_default(),
    })
}

/// An agent's socket; with one, the embedded authority is not there, and what is said of it is a mistake.
fn workload_api(fields: &mut Fields<'_, '_>) -> Option<PathBuf> {
    let socket = fields.optional("workloadApi", |value, reporter| {
        let setting = text(value, reporter)?;
        socket_path(setting).map_err(|why| reporter.report(Problem::error(value.place, why))).ok()
    })?;
    for key in ["directory", "leafLifetime"] {
        if fields.value(key).is_some() {
            let message =
                format!("`{key}` is for the embedded authority, and `workloadApi` takes its place");
            let help = "leave one of the two out; the agent decides how long certificates live";
            let problem = Problem::error(fields.place(key), message).help(help.to_owned());
            fields.reporter.report(problem);
        }
    }
    Some(socket)
}

fn leaf_lifetime(value: &Value, reporter: &mut Reporter) -> Option<Duration> {
    let lifetime = bounded(LEAF_LIFETIME_MIN, LEAF_LIFETIME_MAX)(value, reporter)?;
    if lifetime < LEAF_LIFETIME_SENSIBLE {
        let message = format!("certificates are renewed every {:?}", lifetime / 2);
        reporter.report(Problem::warning(value.place, message));
    }
    Some(lifetime)
}

fn bounded(
    least: Duration,
    most: Duration,
) -> impl FnOnce(&Value, &mut Reporter) -> Option<Duration> {
    move |value, reporter| {
        let duration = duration(value, reporter)?;
        if duration < least || duration > most {
            let message = format!("expected a duration from {} to {}", shown(least), shown(most));
            reporter.report(Problem::error(value.place, message));
            return None;
        }
        Some(duration)
    }
}

pub(super) fn shown(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds > 0 && seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds > 0 && seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// A number, or `none`.
fn mark(value: &Value, reporter: &mut Reporter) -> Option<Option<u32>> {
    match &value.content {
        Content::Scalar(scalar) if &*scalar.text == "none" => Some(None),
        _ => integer(1..=u64::from(u32::MAX))(value, reporter).map(|mark| Some(mark as u32)),
    }
}

/// What one workload may have is never more than what all may have together.
const PER_WORKLOAD_AND_PROCESS: &[(&str, &str)] = &[
    ("connectionsPerWorkload", "connectionsPerProcess"),
    ("handshakesPerWorkload", "handshakesPerProcess"),
    ("bufferBytesPerWorkload", "bufferBytesPerProcess"),
];

fn limits(value: &Value, reporter: &mut Reporter) -> Option<Limits> {
    mapping("limits", value, reporter, |fields| {
        let mut limits = Limits::default();
        let mut given = Vec::new();
        for setting in Limits::SETTINGS {
            if let Some(value) = fields.optional(setting.key, integer(setting.range.clone())) {
                *limits.value_mut(setting.key) = value;
                given.push(setting.key);
            }
        }
        for (one, all) in PER_WORKLOAD_AND_PROCESS {
            let most = *limits.value_mut(all);
            let of_one = limits.value_mut(one);
            if most == AUTOMATIC || *of_one <= most {
                continue;
            }
            if given.contains(one) {
                let message = format!("`{one}` is more than `{all}`, which is {most}");
                fields.reporter.report(Problem::error(fields.place(one), message));
            } else {
                // Only the default of the one is too much for what was given for all.
                *of_one = most;
            }
        }
        limits
    })
}

fn dns(
    value: &Value,
    directory: &Path,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<DnsConfig> {
    let default = DnsConfig::default();
    mapping("dns", value, reporter, |fields| DnsConfig {
        capture: fields.optional("capture", boolean).unwrap_or(default.capture),
        resolv_conf: fields
            .optional("resolvConf", nonempty)
            .map_or(default.resolv_conf, |path| directory.join(path)),
        preferred_namespace: fields
            .optional("preferredNamespace", name)
            .map(|namespace| context.names.share_ref(namespace)),
    })
}

fn ports(value: &Value, reporter: &mut Reporter) -> Option<Ports> {
    let default = Ports::default();
    mapping("ports", value, reporter, |fields| {
        let ports = Ports {
            outbound: fields.optional("outbound", port).unwrap_or(default.outbound),
            inbound: fields.optional("inbound", port).unwrap_or(default.inbound),
            tunnel: fields.optional("tunnel", port).unwrap_or(default.tunnel),
            dns: fields.optional("dns", port).unwrap_or(default.dns),
        };
        let Ports { outbound, inbound, tunnel, dns } = ports;
        let mut all = [outbound, inbound, tunnel, dns];
        all.sort_unstable();
        if all.windows(2).any(|pair| pair[0] == pair[1]) {
            let message = "the ports `outbound`, `inbound`, `tunnel` and `dns` must differ";
            fields.reporter.report(Problem::error(value.place, message));
        }
        ports
    })
}

fn listen(value: &Value, reporter: &mut Reporter) -> Option<Listen> {
    let default = Listen::default();
    mapping("listen", value, reporter, |fields| {
        let listen = Listen {
            admin: fields.optional("admin", listener).unwrap_or(default.admin),
            metrics: fields.optional("metrics", listener).unwrap_or(default.metrics),
            readiness: fields.optional("readiness", listener).unwrap_or(default.readiness),
        };
        if let Some(message) = listen.conflict() {
            fields.reporter.report(Problem::error(value.place, message));
        }
        listen
    })
}

/// An address, or `none`.
fn listener(value: &Value, reporter: &mut Reporter) -> Option<Option<SocketAddr>> {
    match &value.content {
        Content::Scalar(scalar) if &*scalar.text == "none" => Some(None),
        _ => socket_address(value, reporter).map(Some),
    }
}

fn log(value: &Value, reporter: &mut Reporter) -> Option<LogConfig> {
    let default = LogConfig::default();
    mapping("log", value, reporter, |fields| LogConfig {
        level: fields.optional("level", level).unwrap_or(default.level),
        format: fields.optional("format", word(FORMATS)).unwrap_or(default.format),
    })
}

fn level(value: &Value, reporter: &mut Reporter) -> Option<String> {
    let text = nonempty(value, reporter)?;
    match LogFilter::parse(text) {
        Ok(_) => Some(text.to_owned()),
        Err(error) => {
            reporter.report(Problem::error(value.place, error.to_string()));
            None
        }
    }
}
