//! `ringway import`: a mesh elsewhere, as files of ours.

use ringway_control::import::{ImportError, ImportOptions, Imported, import};

use crate::cli::ImportArguments;
use crate::exit::{Exit, Failure};
use crate::output;

/// Reads a dump or objects and writes the documents; what was taken and what was left out is told beside them.
pub(crate) fn run(arguments: &ImportArguments) -> Result<Exit, Failure> {
    let options = ImportOptions {
        nodes: arguments.nodes.clone(),
        network_namespace: arguments.network_namespace.clone(),
    };
    let imported = import(&arguments.inputs, &options).map_err(failure)?;
    match &arguments.out {
        None => output::print(&imported.text)?,
        Some(path) => std::fs::write(path, &imported.text).map_err(|error| {
            Failure::new(Exit::Failed, format!("{} cannot be written: {error}", path.display()))
        })?,
    }
    tell(&imported);
    Ok(Exit::Ok)
}

fn failure(error: ImportError) -> Failure {
    match &error {
        ImportError::NoSuchNode(..) | ImportError::Pattern(_) => {
            Failure::new(Exit::Usage, error.to_string())
        }
        ImportError::Refused(mistakes) => Failure::configuration(mistakes),
        ImportError::Unreadable(..) => Failure::new(Exit::Unavailable, error.to_string()),
        ImportError::NoFiles(_) => Failure::new(Exit::Data, error.to_string()),
        ImportError::NoObjects(_) => Failure::new(Exit::Data, error.to_string()).next(
            "get objects with `kubectl get pods,services,namespaces,… -A -o yaml`, or a dump with \
             `istioctl ztunnel-config all -o json`",
        ),
        ImportError::NotJson(_) | ImportError::NotADump(_) => Failure::new(
            Exit::Data,
            error.to_string(),
        )
        .next(
            "get one with `istioctl ztunnel-config all -o json`, or from port 15000: /config_dump",
        ),
    }
}

fn tell(imported: &Imported) {
    let Imported { workloads, services, policies, captured, .. } = imported;
    if !imported.warnings.is_empty() {
        eprintln!("{}", imported.warnings);
    }
    for note in &imported.notes {
        eprintln!("note: {note}");
    }
    if !imported.taken.is_empty() {
        let taken: Vec<String> =
            imported.taken.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
        eprintln!("taken: {}", taken.join(", "));
    }
    eprintln!(
        "imported: workloads: {workloads}, services: {services}, policies: {policies}; captured here: {captured}"
    );
}
