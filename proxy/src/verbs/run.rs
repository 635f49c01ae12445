//! `ringway run`: settings from flags, environment and files, then the control thread.

use std::ffi::OsStr;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory};
use ringway_control::environment::unread;
use ringway_control::handover::VARIABLE as HANDOVER_VARIABLE;
use ringway_control::identity::workload_api::socket_path;
use ringway_control::run::settings::{Setting, settings};
use ringway_control::run::{self, Ending, Overrides, RunOptions};
use ringway_control::source::{self, Mode, NodeConfig};
use serde_json::{Value, json};

use super::{node, sources, version, warn};
use crate::allocator;
use crate::cli::{Cli, LogFormat, ProcessArguments, Reactor, Redirect, RunArguments};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

/// Runs the node, or prints what it would run with.
pub(crate) fn run(arguments: &RunArguments, given: &ArgMatches) -> Result<Exit, Failure> {
    let istio = IstioEnvironment::read()?;
    let options = RunOptions {
        sources: sources(&arguments.source)?,
        node: node(&arguments.source),
        overrides: overrides(arguments, &istio),
        #[cfg(feature = "waypoint")]
        l7: None,
        state_directory: arguments.process.state_directory.clone(),
        version: version::info(),
        collect: Some(allocator::collect),
    };
    go(options, &arguments.process, given, &istio, Vec::new())
}

/// Runs it, or prints what it would run with: the settings, and `more` of them as name, value and origin.
pub(super) fn go(
    options: RunOptions,
    process: &ProcessArguments,
    given: &ArgMatches,
    istio: &IstioEnvironment,
    more: Vec<[String; 3]>,
) -> Result<Exit, Failure> {
    warn(&unread_variables());
    if process.print_config {
        print_config(&options, process.output, given, istio, more)?;
        return Ok(Exit::Ok);
    }
    match run::run(options)? {
        Ending::Drained => Ok(Exit::Ok),
        Ending::Forced => Ok(Exit::Interrupted),
    }
}

/// Variables of ours that are misspelt: those of other verbs are none, as one file may hold the variables of several.
fn unread_variables() -> Vec<String> {
    let command = Cli::command();
    let arguments =
        command.get_subcommands().flat_map(|verb| verb.get_arguments().filter_map(Arg::get_env));
    let twins: Vec<&str> = arguments.filter_map(OsStr::to_str).chain([HANDOVER_VARIABLE]).collect();
    let set: Vec<String> =
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    unread(&set, &["RINGWAY_"], &twins)
}

/// Where clients of the SPIFFE Workload API find the agent.
const ENDPOINT_SOCKET: &str = "SPIFFE_ENDPOINT_SOCKET";

/// What other programs are told by the environment, Istio's node proxy above all, and we understand, too.
#[derive(Debug, Default)]
pub(super) struct IstioEnvironment {
    dedicated: Option<bool>,
    workload: Option<run::WorkloadName>,
    revocation_list: Option<std::path::PathBuf>,
    workload_api: Option<std::path::PathBuf>,
    log_level: Option<String>,
    log_format: Option<LogFormat>,
}

impl IstioEnvironment {
    pub(super) fn read() -> Result<Self, Failure> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let wrong = |name: &str, value: &str, want: &str| {
            Failure::new(Exit::Usage, format!("{name}={value:?} is not understood; {want}"))
        };
        let dedicated = match variable("PROXY_MODE").as_deref() {
            None => None,
            Some("dedicated") => Some(true),
            Some("shared") => Some(false),
            Some(other) => return Err(wrong("PROXY_MODE", other, "use shared or dedicated")),
        };
        let workload = match variable("PROXY_WORKLOAD_INFO") {
            None => None,
            Some(text) => {
                let want = "use namespace/name/service-account";
                Some(text.parse().map_err(|_| wrong("PROXY_WORKLOAD_INFO", &text, want))?)
            }
        };
        let log_format = match variable("LOG_FORMAT").as_deref() {
            None => None,
            Some("json") => Some(LogFormat::Json),
            Some(_) => Some(LogFormat::Plain),
        };
        Ok(Self {
            dedicated,
            workload,
            revocation_list: variable("CRL_PATH").map(Into::into),
            workload_api: variable(ENDPOINT_SOCKET)
                .map(|socket| socket_path(&socket))
                .transpose()
                .map_err(|why| Failure::new(Exit::Usage, format!("{ENDPOINT_SOCKET}: {why}")))?,
            log_level: variable("RUST_LOG"),
            log_format,
        })
    }
}

fn overrides(arguments: &RunArguments, istio: &IstioEnvironment) -> Overrides {
    let dedicated = if arguments.dedicated { Some(true) } else { istio.dedicated };
    // Istio's variable means nothing to a shared process; our own flag would be a mistake there.
    let istio_workload = istio.workload.clone().filter(|_| dedicated == Some(true));
    let redirect = match (arguments.no_redirect, arguments.redirect) {
        (true, _) | (false, Some(Redirect::None)) => Some(source::Redirect::None),
        (false, Some(Redirect::Auto)) => Some(source::Redirect::Auto),
        (false, Some(Redirect::Nftables)) => Some(source::Redirect::Nftables),
        (false, Some(Redirect::Iptables)) => Some(source::Redirect::Iptables),
        (false, None) => None,
    };
    Overrides {
        mode: dedicated.map(|dedicated| if dedicated { Mode::Dedicated } else { Mode::Shared }),
        workload: arguments.workload.clone().or(istio_workload),
        redirect,
        ..of_process(&arguments.process, istio)
    }
}

/// What is the same for all roles.
pub(super) fn of_process(arguments: &ProcessArguments, istio: &IstioEnvironment) -> Overrides {
    Overrides {
        cores: arguments.cores.clone(),
        reactor: arguments.reactor.map(|reactor| match reactor {
            Reactor::Auto => source::Reactor::Auto,
            Reactor::Ring => source::Reactor::Ring,
            Reactor::Epoll => source::Reactor::Epoll,
        }),
        ca_directory: arguments.ca_directory.clone(),
        revocation_lists: match arguments.revocation_lists.as_slice() {
            [] => istio.revocation_list.clone().map(|file| vec![file]),
            files => Some(files.to_vec()),
        },
        workload_api: istio.workload_api.clone(),
        leaf_lifetime: arguments.leaf_lifetime,
        drain_deadline: arguments.drain_deadline,
        admin: arguments.admin_address.map(|listener| listener.0),
        metrics: arguments.metrics_address.map(|listener| listener.0),
        readiness: arguments.readiness_address.map(|listener| listener.0),
        log_level: arguments.log_level.clone().or_else(|| istio.log_level.clone()),
        log_format: arguments.log_format.or(istio.log_format).map(|format| match format {
            LogFormat::Plain => source::LogFormat::Plain,
            LogFormat::Json => source::LogFormat::Json,
        }),
        ..Overrides::default()
    }
}

fn print_config(
    options: &RunOptions,
    format: Format,
    given: &ArgMatches,
    istio: &IstioEnvironment,
    more: Vec<[String; 3]>,
) -> Result<(), Failure> {
    let mesh = run::load(options)?;
    let defaults = settings(&NodeConfig::default());
    let of_node = settings(&mesh.node).into_iter().zip(defaults).map(|(setting, default)| {
        let origin = match is_of_role(options, setting.name) {
            true => "role".to_owned(),
            false => origin(&setting, &default, given, istio),
        };
        [setting.name.to_owned(), setting.value, origin]
    });
    let rows: Vec<[String; 3]> = of_node.chain(more).collect();
    match format {
        Format::Json => {
            let settings: serde_json::Map<String, Value> = rows
                .into_iter()
                .map(|[name, value, origin]| (name, json!({ "value": value, "origin": origin })))
                .collect();
            output::json(&Value::Object(settings))?;
        }
        Format::Table => {
            let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
            output::table(&["setting", "value", "origin"], &rows)?;
        }
    }
    Ok(())
}

/// Whether a setting is as it is because of what the process is, whatever is said elsewhere.
#[cfg_attr(not(feature = "waypoint"), expect(unused_variables, reason = "nodes have one role"))]
fn is_of_role(options: &RunOptions, setting: &str) -> bool {
    #[cfg(feature = "waypoint")]
    if options.l7.is_some() {
        let fixed = ["mode", "redirect", "packetMark", "originalSource", "dns.capture"];
        return fixed.contains(&setting);
    }
    false
}

/// A flag: its id, what it is called, and its twin in the environment.
type Flag = (&'static str, &'static str, &'static str);

/// The flags of each setting; and the variable of Istio's node proxy, if there is one.
const FLAGS: &[(&str, &[Flag], Option<&str>)] = &[
    ("mode", &[("dedicated", "--dedicated", "RINGWAY_DEDICATED")], Some("PROXY_MODE")),
    ("cores", &[("cores", "--cores", "RINGWAY_CORES")], None),
    ("reactor", &[("reactor", "--reactor", "RINGWAY_REACTOR")], None),
    (
        "redirect",
        &[
            ("redirect", "--redirect", "RINGWAY_REDIRECT"),
            ("no_redirect", "--no-redirect", "RINGWAY_NO_REDIRECT"),
        ],
        None,
    ),
    (
        "certificateAuthority.directory",
        &[("ca_directory", "--ca-directory", "RINGWAY_CA_DIRECTORY")],
        None,
    ),
    (
        "certificateAuthority.leafLifetime",
        &[("leaf_lifetime", "--leaf-lifetime", "RINGWAY_LEAF_LIFETIME")],
        None,
    ),
    (
        "certificateAuthority.revocationLists",
        &[("revocation_lists", "--revocation-list", "RINGWAY_REVOCATION_LIST")],
        Some("CRL_PATH"),
    ),
    ("certificateAuthority.workloadApi", &[], Some(ENDPOINT_SOCKET)),
    ("drainDeadline", &[("drain_deadline", "--drain-deadline", "RINGWAY_DRAIN_DEADLINE")], None),
    ("listen.admin", &[("admin_address", "--admin-address", "RINGWAY_ADMIN_ADDRESS")], None),
    (
        "listen.metrics",
        &[("metrics_address", "--metrics-address", "RINGWAY_METRICS_ADDRESS")],
        None,
    ),
    (
        "listen.readiness",
        &[("readiness_address", "--readiness-address", "RINGWAY_READINESS_ADDRESS")],
        None,
    ),
    ("log.level", &[("log_level", "--log-level", "RINGWAY_LOG_LEVEL")], Some("RUST_LOG")),
    ("log.format", &[("log_format", "--log-format", "RINGWAY_LOG_FORMAT")], Some("LOG_FORMAT")),
];

fn origin(
    setting: &Setting,
    default: &Setting,
    given: &ArgMatches,
    istio: &IstioEnvironment,
) -> String {
    let row = FLAGS.iter().find(|(name, ..)| *name == setting.name);
    if let Some((_, flags, variable)) = row {
        for (id, flag, twin) in *flags {
            match given.value_source(id) {
                Some(ValueSource::CommandLine) => return format!("flag {flag}"),
                Some(ValueSource::EnvVariable) => return format!("environment {twin}"),
                _ => {}
            }
        }
        let told = match setting.name {
            "mode" => istio.dedicated.is_some(),
            "certificateAuthority.revocationLists" => istio.revocation_list.is_some(),
            "certificateAuthority.workloadApi" => istio.workload_api.is_some(),
            "log.level" => istio.log_level.is_some(),
            "log.format" => istio.log_format.is_some(),
            _ => false,
        };
        if let (Some(variable), true) = (variable, told) {
            return format!("environment {variable}");
        }
    }
    let origin = if setting.value == default.value { "default" } else { "file" };
    origin.to_owned()
}
