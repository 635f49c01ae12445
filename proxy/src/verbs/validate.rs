//! `ringway validate`: the same reading as a start does, of the files that a Node names too, without starting.

use ringway_control::policy::{PolicySummary, summaries};
use ringway_control::source::{self, Diagnostics, MeshConfig, Severity};
use serde_json::{Value, json};

use super::{istios_file, node, sources, tell};
use crate::cli::{SourceArguments, ValidateArguments};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

/// Checks a configuration.
pub(crate) fn run(arguments: &ValidateArguments) -> Result<Exit, Failure> {
    let sources = sources(&arguments.source)?;
    let loaded = source::check(&sources, node(&arguments.source).as_deref());
    let warned = matches!(&loaded, Ok(mesh) if !mesh.warnings.is_empty());
    let valid = loaded.is_ok() && !(arguments.strict && warned);
    match (arguments.output, &loaded) {
        (Format::Json, loaded) => output::json(&as_json(loaded, valid))?,
        (Format::Table, Ok(mesh)) => {
            tell(&mesh.warnings);
            if valid {
                output::print(&summary(mesh))?;
                policies(mesh)?;
                #[cfg(feature = "waypoint")]
                if arguments.status {
                    conditions(mesh)?;
                }
            }
        }
        (Format::Table, Err(mistakes)) => return Err(refused(mistakes, &arguments.source)),
    }
    Ok(if valid { Exit::Ok } else { Exit::Data })
}

/// It need not be said how to check it; only where it was to be read, if a variable said that.
fn refused(mistakes: &Diagnostics, source: &SourceArguments) -> Failure {
    let failure = Failure::mistakes(mistakes);
    match istios_file(source) {
        Some(_) => {
            failure.next("correct what LOCAL_XDS_PATH names, or the variable, or give `-f PATH`")
        }
        None => failure,
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

/// Whom each policy is for.
fn policies(mesh: &MeshConfig) -> std::io::Result<()> {
    let heading = ["policy", "action", "for", "workloads", "rules", "dry run"];
    let rows: Vec<Vec<String>> = summaries(&mesh.snapshot)
        .into_iter()
        .map(|policy| {
            let dry_run = if policy.dry_run { "dry run" } else { "-" };
            let (workloads, rules) = (policy.workloads.to_string(), policy.rules.to_string());
            vec![
                policy.name,
                policy.action.to_owned(),
                policy.scope.to_owned(),
                workloads,
                rules,
                dry_run.to_owned(),
            ]
        })
        .collect();
    if rows.is_empty() { Ok(()) } else { output::table(&heading, &rows) }
}

/// What became of each Gateway and route.
#[cfg(feature = "waypoint")]
fn conditions(mesh: &MeshConfig) -> std::io::Result<()> {
    let heading = ["object", "of", "condition", "status", "reason", "message"];
    let rows: Vec<Vec<String>> = mesh
        .status
        .iter()
        .flat_map(|object| object.all_conditions().map(move |one| (object.describe(), one)))
        .map(|(object, (part, condition))| {
            let part = if part.is_empty() { "-".to_owned() } else { part };
            let message = if condition.message.is_empty() { "-" } else { &condition.message };
            let (kind, reason) = (condition.kind.to_owned(), condition.reason.to_owned());
            vec![object, part, kind, condition.status().to_owned(), reason, message.to_owned()]
        })
        .collect();
    if rows.is_empty() { Ok(()) } else { output::table(&heading, &rows) }
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
            "policies": summaries(&mesh.snapshot).iter().map(policy_as_json).collect::<Vec<_>>(),
            "captured": mesh.enrollments.iter().map(|one| &*one.uid).collect::<Vec<_>>(),
        })
    });
    #[cfg_attr(not(feature = "waypoint"), expect(unused_mut, reason = "L7 adds to it"))]
    let mut answer = json!({
        "valid": valid,
        "errors": list(Severity::Error),
        "warnings": list(Severity::Warning),
        "mesh": counts,
    });
    #[cfg(feature = "waypoint")]
    if let Ok(mesh) = loaded {
        answer["status"] = source::status_as_json(&mesh.status);
    }
    answer
}

fn policy_as_json(policy: &PolicySummary) -> Value {
    json!({
        "name": policy.name,
        "action": policy.action,
        "for": policy.scope,
        "workloads": policy.workloads,
        "rules": policy.rules,
        "dryRun": policy.dry_run,
    })
}
