//! One file per verb.

pub(crate) mod authorize;
pub(crate) mod ca;
#[cfg(feature = "waypoint")]
pub(crate) mod canary;
pub(crate) mod completions;
pub(crate) mod handover;
pub(crate) mod import;
#[cfg(feature = "waypoint")]
pub(crate) mod mirrors;
pub(crate) mod proxy;
pub(crate) mod run;
pub(crate) mod validate;
pub(crate) mod version;
#[cfg(feature = "waypoint")]
pub(crate) mod waypoint;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use ringway_control::source::{Diagnostics, Source};

use crate::cli::{CONFIGURATION, SourceArguments};
use crate::exit::{Exit, Failure};

/// Where the configuration is: what was said, else what Istio's node proxy is told, else the usual place.
pub(crate) fn sources(arguments: &SourceArguments) -> Result<Vec<Source>, Failure> {
    let mut files = arguments.files.clone();
    files.extend(istios_file(arguments));
    if files.is_empty() {
        let usual = Path::new(CONFIGURATION);
        if !usual.exists() {
            return Err(Failure::new(Exit::Usage, "no configuration was given").next(format!(
                "give a file or directory with `-f PATH`, or put it into {CONFIGURATION}"
            )));
        }
        files.push(usual.to_owned());
    }
    if files.iter().filter(|file| file.as_os_str() == "-").count() > 1 {
        return Err(
            Failure::new(Exit::Usage, "standard input was given twice").next("give `-f -` once")
        );
    }
    Ok(files.into_iter().map(Source::from_argument).collect())
}

/// The file that Istio's node proxy is told, where nothing else was said.
fn istios_file(arguments: &SourceArguments) -> Option<PathBuf> {
    let file = || std::env::var_os("LOCAL_XDS_PATH").map(PathBuf::from);
    arguments.files.is_empty().then(file).flatten()
}

/// Which node this is, if that was said.
pub(crate) fn node(arguments: &SourceArguments) -> Option<String> {
    let istio = || std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    arguments.node.clone().or_else(istio)
}

/// What is not as was asked for, a sentence each: beside the answer, too.
fn warn(warnings: &[String]) {
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
}

/// Warnings go beside the answer, not into it.
fn tell(warnings: &Diagnostics) {
    if warnings.is_empty() {
        return;
    }
    if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        eprint!("{}", warnings.coloured());
    } else {
        eprint!("{warnings}");
    }
}
