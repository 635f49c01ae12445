//! `ringway proxy`: in the place of Istio's node proxy, told by the environment.

use ringway_control::environment::{Environment, EnvironmentError, Setting};
use ringway_control::run::{Ending, ztunnel};
use serde_json::{Value, json};

use super::version;
use crate::allocator;
use crate::cli::ProxyArguments;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

/// Runs the node, or prints what it would run with.
pub(crate) fn run(arguments: &ProxyArguments) -> Result<Exit, Failure> {
    let config = Environment::of_process().read()?;
    if arguments.print_config {
        print_config(&config.settings, arguments.output)?;
        return Ok(Exit::Ok);
    }
    match ztunnel::run(config, version::info(), Some(allocator::collect))? {
        Ending::Drained => Ok(Exit::Ok),
        Ending::Forced => Ok(Exit::Interrupted),
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
