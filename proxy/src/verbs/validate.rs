//! `ringway validate`: the same reading as a start does, without starting.

use std::io::IsTerminal;

use ringway_control::source::{self, Diagnostics, MeshConfig, Severity};
use serde_json::{Value, json};

use super::{node, sources};
use crate::cli::ValidateArguments;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

/// Checks a configuration.
pub(crate) fn run(arguments: &ValidateArguments) -> Result<Exit, Failure> {
    let sources = sources(&arguments.source)?;
    let loaded = source::load(&sources, node(&arguments.source).as_deref());
    let warned = matches!(&loaded, Ok(mesh) if !mesh.warnings.is_empty());
    let valid = loaded.is_ok() && !(arguments.strict && warned);
    match (arguments.output, &loaded) {
        (Format::Json, loaded) => output::json(&as_json(loaded, valid))?,
        (Format::Table, Ok(mesh)) => {
            tell(&mesh.warnings);
            if valid {
                output::print(&summary(mesh))?;
            }
        }
        (Format::Table, Err(mistakes)) => return Err(Failure::configuration(mistakes)),
    }
    Ok(if valid { Exit::Ok } else { Exit::Data })
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

fn summary(mesh: &MeshConfig) -> String {
    let (workloads, services) = (mesh.snapshot.workload_count(), mesh.snapshot.service_count());
    let node = &mesh.node.name;
    let count = |number: usize, what: &str| {
        let plural = if number == 1 { "" } else { "s" };
        format!("{number} {what}{plural}")
    };
    format!(
        "valid: {}, {}; {} captures {}\n",
        count(workloads, "workload"),
        count(services, "service"),
        if node.is_empty() { "this node" } else { node },
        count(mesh.enrollments.len(), "workload"),
    )
}

fn as_json(loaded: &Result<MeshConfig, Diagnostics>, valid: bool) -> Value {
    let diagnostics = match loaded {
        Ok(mesh) => &mesh.warnings,
        Err(mistakes) => mistakes,
    };
    let list = |severity: Severity| -> Vec<Value> {
        let of = diagnostics.iter().filter(|one| one.severity() == severity);
        of.map(|one| {
            json!({
                "file": one.file(),
                "line": one.line(),
                "column": one.column(),
                "message": one.message(),
                "excerpt": one.excerpt(),
                "help": one.help(),
            })
        })
        .collect()
    };
    let counts = loaded.as_ref().ok().map(|mesh| {
        json!({
            "node": &*mesh.node.name,
            "workloads": mesh.snapshot.workload_count(),
            "services": mesh.snapshot.service_count(),
            "captured": mesh.enrollments.iter().map(|one| &*one.uid).collect::<Vec<_>>(),
        })
    });
    json!({
        "valid": valid,
        "errors": list(Severity::Error),
        "warnings": list(Severity::Warning),
        "mesh": counts,
    })
}
