//! What became of each object of the Gateway API, as `/config/status` tells it.

use serde_json::{Value, json};

use crate::run::RunError;
use crate::source::{Diagnostics, MeshConfig};

/// The conditions that a cluster would show, and what is wrong with the files that nobody refuses.
pub(in crate::run) fn status(mesh: &MeshConfig, generation: u64) -> Value {
    json!({
        "generation": generation,
        "valid": true,
        "objects": mesh.status.iter().map(|object| object.as_json()).collect::<Vec<_>>(),
        "warnings": mistakes(&mesh.warnings),
    })
}

/// What is in force stays, and why what came since is not.
pub(in crate::run) fn refused(status: &mut Value, error: &RunError) {
    status["valid"] = false.into();
    status["errors"] = match error {
        RunError::Configuration(diagnostics) => mistakes(diagnostics),
        other => json!([{ "message": other.to_string() }]),
    };
}

fn mistakes(diagnostics: &Diagnostics) -> Value {
    let told = diagnostics.iter().map(|one| {
        json!({
            "file": one.file(),
            "line": one.line(),
            "message": one.message(),
            "help": one.help(),
        })
    });
    told.collect()
}
