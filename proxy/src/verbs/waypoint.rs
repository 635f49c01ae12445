//! `ringway waypoint` and `ringway gateway`: the L7 roles, each a process of its own.

use clap::ArgMatches;
use clap::parser::ValueSource;
use ringway_control::run::waypoint::{Kind, L7Options};
use ringway_control::run::{Overrides, RunOptions, WorkloadName};
use ringway_control::source::{Mode, Redirect};
use ringway_control::telemetry::traces::{Protocol, TraceError, TraceFlags, TraceOptions};

use super::run::{IstioEnvironment, go, of_process};
use super::{node, sources, version};
use crate::allocator;
use crate::cli::{L7Arguments, TraceProtocol};
use crate::exit::{Exit, Failure};

/// Runs the waypoint or gateway, or prints what it would run with.
pub(crate) fn run(
    kind: Kind,
    arguments: &L7Arguments,
    given: &ArgMatches,
) -> Result<Exit, Failure> {
    let istio = IstioEnvironment::read()?;
    let l7 = L7Options {
        kind,
        gateway: arguments.name.clone(),
        request_log: arguments.access_log.clone(),
        traces: traces(arguments)?,
    };
    let options = RunOptions {
        sources: sources(&arguments.source)?,
        node: node(&arguments.source),
        overrides: Overrides {
            mode: Some(Mode::Dedicated),
            workload: Some(workload(arguments)),
            redirect: Some(Redirect::None),
            ..of_process(&arguments.process, &istio)
        },
        state_directory: arguments.process.state_directory.clone(),
        version: version::info(),
        collect: Some(allocator::collect),
        l7: Some(l7.clone()),
    };
    go(options, &arguments.process, given, &istio, settings(&l7, arguments, given))
}

/// Whoever starts the process says as which of the Gateway's workloads, where there are several.
fn workload(arguments: &L7Arguments) -> WorkloadName {
    arguments.workload.clone().unwrap_or_else(|| WorkloadName {
        namespace: arguments.name.namespace.as_ref().to_owned(),
        name: arguments.name.name.as_ref().to_owned(),
        service_account: None,
    })
}

fn traces(arguments: &L7Arguments) -> Result<Option<TraceOptions>, Failure> {
    let flags = TraceFlags {
        endpoint: arguments.traces.clone(),
        protocol: arguments.traces_protocol.map(|protocol| match protocol {
            TraceProtocol::Grpc => Protocol::Grpc,
            TraceProtocol::Http => Protocol::Http,
        }),
        share: arguments.traces_share,
    };
    TraceOptions::read(&flags, |name| std::env::var(name).ok()).map_err(Failure::from)
}

impl From<TraceError> for Failure {
    fn from(error: TraceError) -> Self {
        Failure::new(Exit::Usage, error.to_string())
    }
}

/// What is set beside the settings that every run has.
fn settings(l7: &L7Options, arguments: &L7Arguments, given: &ArgMatches) -> Vec<[String; 3]> {
    let origin = |id: &str, flag: &str, twin: &str| match given.value_source(id) {
        Some(ValueSource::CommandLine) => format!("flag {flag}"),
        Some(ValueSource::EnvVariable) => format!("environment {twin}"),
        _ => "default".to_owned(),
    };
    let (collector, share) = match &l7.traces {
        None => ("none".to_owned(), "0".to_owned()),
        Some(traces) => (traces.endpoint.to_string(), (f64::from(traces.share) / 1e6).to_string()),
    };
    // Without a flag of ours it was one of OpenTelemetry's variables, or nothing.
    let of_traces = |id: &str, flag: &str, twin: &str| match origin(id, flag, twin) {
        from if from == "default" && l7.traces.is_some() => "environment OTEL_*".to_owned(),
        from => from,
    };
    let row = |name: &str, value: String, origin: String| [name.to_owned(), value, origin];
    vec![
        row("gateway", l7.gateway.to_string(), origin("name", "--name", "RINGWAY_GATEWAY")),
        row(
            "workload",
            workload(arguments).to_string(),
            origin("workload", "--workload", "RINGWAY_WORKLOAD"),
        ),
        row(
            "accessLog",
            l7.request_log.to_string(),
            origin("access_log", "--access-log", "RINGWAY_ACCESS_LOG"),
        ),
        row("traces.collector", collector, of_traces("traces", "--traces", "RINGWAY_TRACES")),
        row(
            "traces.share",
            share,
            of_traces("traces_share", "--traces-share", "RINGWAY_TRACES_SHARE"),
        ),
    ]
}
