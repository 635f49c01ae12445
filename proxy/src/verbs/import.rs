//! `ringway import`: a mesh elsewhere, as files of ours.

use std::io::Read;

use ringway_control::import::{ImportError, ImportOptions, Imported, config_dump};

use crate::cli::ImportArguments;
use crate::exit::{Exit, Failure};
use crate::output;

/// Reads a dump and writes the documents; what was left out is told beside them.
pub(crate) fn run(arguments: &ImportArguments) -> Result<Exit, Failure> {
    let text = read(arguments)?;
    let options = ImportOptions {
        nodes: arguments.nodes.clone(),
        network_namespace: arguments.network_namespace.clone(),
    };
    let imported = config_dump(&text, &options).map_err(failure)?;
    match &arguments.out {
        None => output::print(&imported.text)?,
        Some(path) => std::fs::write(path, &imported.text).map_err(|error| {
            Failure::new(Exit::Failed, format!("{} cannot be written: {error}", path.display()))
        })?,
    }
    tell(&imported);
    Ok(Exit::Ok)
}

fn read(arguments: &ImportArguments) -> Result<Vec<u8>, Failure> {
    let path = &arguments.dump;
    let mut text = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().read_to_end(&mut text).map(|_| text),
        false if path.is_dir() => {
            let message = format!("{} is a directory, and no config_dump", path.display());
            return Err(Failure::new(Exit::Usage, message).next(
                "Ringway reads directories of objects as they are: try `ringway validate -f` with it",
            ));
        }
        false => std::fs::read(path),
    };
    read.map_err(|error| {
        Failure::new(Exit::Unavailable, format!("{} cannot be read: {error}", path.display()))
    })
}

fn failure(error: ImportError) -> Failure {
    match &error {
        ImportError::NoSuchNode(..) => Failure::new(Exit::Usage, error.to_string()),
        ImportError::Refused(mistakes) => Failure::configuration(mistakes),
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
    let Imported { workloads, services, policies, captured, notes, .. } = imported;
    for note in notes {
        eprintln!("note: {note}");
    }
    eprintln!(
        "imported: workloads: {workloads}, services: {services}, policies: {policies}; captured here: {captured}"
    );
}
