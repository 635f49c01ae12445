//! `ringway version`

use ringway_control::admin::config_dump::VersionInfo;
use serde_json::to_value;

use crate::cli::VersionArguments;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

/// Tells what this program is.
pub(crate) fn run(arguments: &VersionArguments) -> Result<Exit, Failure> {
    let info = info();
    match arguments.output {
        Format::Json => output::json(&to_value(&info).expect("plain data serializes"))?,
        Format::Table => output::print(&format!(
            "ringway {} (revision {}, {}, {}, {})\n",
            info.version,
            info.git_revision,
            info.build_status.to_lowercase(),
            info.build_profile,
            info.rust_version
        ))?,
    }
    Ok(Exit::Ok)
}

/// What this program is.
pub(crate) fn info() -> VersionInfo {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    VersionInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        git_revision: env!("RINGWAY_GIT_REVISION").to_owned(),
        rust_version: env!("RINGWAY_RUST_VERSION").to_owned(),
        build_profile: profile.to_owned(),
        build_status: env!("RINGWAY_BUILD_STATUS").to_owned(),
        istio_version: std::env::var("ISTIO_META_ISTIO_VERSION")
            .unwrap_or_else(|_| "unknown".to_owned()),
        crypto_provider: "aws-lc-rs".to_owned(),
    }
}
