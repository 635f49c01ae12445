//! `ringway proxy`: in the place of Istio's node proxy, or of a waypoint or gateway of its, told by the environment.

use ringway_control::environment::{Environment, EnvironmentError, Setting};
use ringway_control::run::{Ending, RunError, ztunnel};
use ringway_control::source::Source;
use serde_json::{Value, json};

use super::{version, warn};
use crate::allocator;
use crate::cli::{ProxyArguments, ProxyRole};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

/// Runs the node, waypoint or gateway, or prints what it would run with.
pub(crate) fn run(arguments: &ProxyArguments) -> Result<Exit, Failure> {
    match (arguments.role, arguments.config) {
        (Some(ProxyRole::Ztunnel), Some(())) => {
            let why = "`--config` is what istiod says to a waypoint or gateway, not to a node proxy: leave it out";
            return Err(Failure::new(Exit::Usage, why));
        }
        (Some(ProxyRole::Ztunnel), None) | (None, None) => {}
        _ => return run_l7(arguments),
    }
    let config = Environment::of_process().read()?;
    if arguments.print_config {
        warn(&config.warnings);
        print_config(&config.settings, arguments.output)?;
        return Ok(Exit::Ok);
    }
    let is_local_file = matches!(config.local, Some(Source::Path(_)));
    let ended = ztunnel::run(config, version::info(), Some(allocator::collect));
    match ended.map_err(|error| failure(error, is_local_file))? {
        Ending::Drained => Ok(Exit::Ok),
        Ending::Forced => Ok(Exit::Interrupted),
    }
}

#[cfg(feature = "waypoint")]
fn run_l7(arguments: &ProxyArguments) -> Result<Exit, Failure> {
    use ringway_control::run::agent::{self, AgentOptions};
    use ringway_control::telemetry::traces::{TraceFlags, TraceOptions};
    let config = Environment::of_process().read_l7()?;
    if arguments.print_config {
        warn(&config.process.warnings);
        print_config(&config.process.settings, arguments.output)?;
        return Ok(Exit::Ok);
    }
    let flags = TraceFlags { endpoint: None, protocol: None, share: None };
    let traces = TraceOptions::read(&flags, |name| std::env::var(name).ok())?;
    let options = AgentOptions { config, request_log: arguments.access_log.clone(), traces };
    let ended = agent::run(options, version::info(), Some(allocator::collect));
    match ended.map_err(|error| failure(error, false))? {
        Ending::Drained => Ok(Exit::Ok),
        Ending::Forced => Ok(Exit::Interrupted),
    }
}

#[cfg(not(feature = "waypoint"))]
fn run_l7(_arguments: &ProxyArguments) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Usage, "this program was built without waypoints and gateways"))
}

/// The only configuration with places in it is the local one, and a variable names that.
fn failure(error: RunError, is_local_file: bool) -> Failure {
    match (error, is_local_file) {
        (RunError::Configuration(mistakes), true) => Failure::mistakes(&mistakes)
            .next("correct what LOCAL_XDS_PATH names, or the variable; `ringway validate -f FILE` checks it"),
        (RunError::Configuration(mistakes), false) => {
            Failure::mistakes(&mistakes).next("correct the YAML in LOCAL_XDS")
        }
        (error, _) => error.told_by_environment().into(),
    }
}

impl From<EnvironmentError> for Failure {
    fn from(error: EnvironmentError) -> Self {
        Failure::new(Exit::Usage, error.to_string())
    }
}

fn print_config(settings: &[Setting], format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => {
            let setting = |one: &Setting| {
                let origin = one.origin.to_string();
                (one.name.clone(), json!({ "value": one.value, "origin": origin }))
            };
            output::json(&Value::Object(settings.iter().map(setting).collect()))?;
        }
        Format::Table => {
            let row =
                |one: &Setting| vec![one.name.clone(), one.value.clone(), one.origin.to_string()];
            let rows: Vec<_> = settings.iter().map(row).collect();
            output::table(&["setting", "value", "origin"], &rows)?;
        }
    }
    Ok(())
}
