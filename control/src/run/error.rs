//! Why a run did not start, in sentences that end with what to do.

use std::io;
use std::net::SocketAddr;

use ringway_engine::StartError;

use super::memory::Shortage;
use super::options::OverrideError;
use super::privileges::Capability;
use crate::identity::{CaError, RevocationError};
use crate::source::Diagnostics;
use crate::telemetry::log::FilterError;

/// Why a run did not start.
#[derive(Debug)]
pub enum RunError {
    /// The configuration has mistakes.
    Configuration(Diagnostics),
    /// What is given elsewhere does not go with it.
    Override(OverrideError),
    /// Routes or policies cannot be made ready.
    #[cfg(feature = "waypoint")]
    Routes(ringway_http::tables::CompileErrors),
    /// The log level is none.
    LogLevel(FilterError),
    /// Capabilities are missing.
    Privileges(Vec<Capability>),
    /// The certificate authority cannot be used.
    Authority(CaError),
    /// The revocation lists cannot be used.
    Revocation(RevocationError),
    /// Something that was required to be given up could not be.
    Hardening(Vec<String>),
    /// It is allowed less memory than it needs.
    Memory(Shortage),
    /// The engine cannot start.
    Engine(StartError),
    /// A server cannot listen.
    Listen {
        /// Which.
        server: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The process this one was to take over from does not hand over.
    HandOver(io::Error),
    /// The system refused something every process may do.
    System(io::Error),
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Configuration(diagnostics) => diagnostics.fmt(f),
            Self::Override(error) => error.fmt(f),
            #[cfg(feature = "waypoint")]
            Self::Routes(errors) => errors.fmt(f),
            Self::LogLevel(error) => write!(f, "the log level cannot be used: {error}"),
            Self::Privileges(missing) => {
                f.write_str("this process lacks")?;
                for (index, capability) in missing.iter().enumerate() {
                    let separator = if index == 0 { "" } else { " and" };
                    write!(f, "{separator} {} ({})", capability.name, capability.purpose)?;
                }
                f.write_str(
                    "; run it as root, or give them with `AmbientCapabilities=` or `setcap`",
                )
            }
            Self::Authority(error) => {
                write!(f, "the certificate authority cannot be used: {error}")
            }
            Self::Revocation(error) => error.fmt(f),
            Self::Hardening(undone) => write!(
                f,
                "`hardening: required`, and this could not be done: {}; allow it, or write `hardening: auto`",
                undone.join(", ")
            ),
            Self::Memory(shortage) => shortage.fmt(f),
            Self::Engine(error) => error.fmt(f),
            Self::Listen { server, address, error } => {
                write!(f, "the {server} server cannot listen on {address}: {error}")?;
                match error.kind() {
                    io::ErrorKind::AddrInUse => write!(
                        f,
                        "; another process has the port (`ss -ltnp 'sport = :{}'`): end it, or give `--{server}-address`",
                        address.port()
                    ),
                    _ => write!(f, "; give another `--{server}-address`, or `none`"),
                }
            }
            Self::HandOver(error) => write!(f, "nothing was taken over: {error}"),
            Self::System(error) => write!(f, "the system refused: {error}"),
        }
    }
}

impl std::error::Error for RunError {}
