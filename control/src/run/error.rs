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

/// What a run is told its settings by: there they are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToldBy {
    /// Flags, their twins and files.
    Flags,
    /// The variables of a process in ztunnel's place.
    Environment,
}

impl ToldBy {
    /// How it is said that the process gives up what it does not need.
    fn hardening(self, how: &str) -> String {
        match self {
            Self::Flags => format!("`hardening: {how}`"),
            Self::Environment => format!("`RINGWAY_HARDENING={how}`"),
        }
    }

    /// How another place is said for this server; `None` where it cannot be.
    fn elsewhere(self, server: &str) -> Option<String> {
        match (self, server) {
            (Self::Flags, _) => Some(format!("give `--{server}-address`, or `none` for it")),
            (Self::Environment, "admin") => Some("set `proxyAdminPort` in PROXY_CONFIG".to_owned()),
            (Self::Environment, "metrics") => Some("set `statsPort` in PROXY_CONFIG".to_owned()),
            // Probes of charts name its port.
            (Self::Environment, _) => None,
        }
    }
}

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
    Hardening {
        /// What, and what the system said.
        undone: Vec<String>,
        /// What it was required by.
        told_by: ToldBy,
    },
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
        /// What it was told by.
        told_by: ToldBy,
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
            Self::Hardening { undone, told_by } => write!(
                f,
                "{}, and this could not be done: {}; allow it, or write {}",
                told_by.hardening("required"),
                undone.join(", "),
                told_by.hardening("auto")
            ),
            Self::Memory(shortage) => shortage.fmt(f),
            Self::Engine(error) => error.fmt(f),
            Self::Listen { server, address, error, told_by } => {
                write!(f, "the {server} server cannot listen on {address}: {error}")?;
                let elsewhere = told_by.elsewhere(server);
                if error.kind() == io::ErrorKind::AddrInUse {
                    let port = address.port();
                    write!(
                        f,
                        "; another process has the port (`ss -ltnp 'sport = :{port}'`): end it"
                    )?;
                    return elsewhere.map_or(Ok(()), |elsewhere| write!(f, ", or {elsewhere}"));
                }
                elsewhere.map_or(Ok(()), |elsewhere| write!(f, "; {elsewhere}"))
            }
            Self::HandOver(error) => write!(f, "nothing was taken over: {error}"),
            Self::System(error) => write!(f, "the system refused: {error}"),
        }
    }
}

impl std::error::Error for RunError {}

impl RunError {
    /// The same of a run that is told by variables, which has no flags.
    #[must_use]
    pub fn told_by_environment(mut self) -> Self {
        if let Self::Listen { told_by, .. } | Self::Hardening { told_by, .. } = &mut self {
            *told_by = ToldBy::Environment;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_required_is_said_as_this_run_was_told_it() {
        let error = || RunError::Hardening {
            undone: vec!["system calls (no)".to_owned(), "no core files (no)".to_owned()],
            told_by: ToldBy::Flags,
        };
        let undone = "and this could not be done: system calls (no), no core files (no); allow it";
        let file = format!("`hardening: required`, {undone}, or write `hardening: auto`");
        assert_eq!(error().to_string(), file);
        let told = error().told_by_environment().to_string();
        let variable =
            format!("`RINGWAY_HARDENING=required`, {undone}, or write `RINGWAY_HARDENING=auto`");
        assert_eq!(told, variable);
    }

    #[test]
    fn what_to_do_about_a_port_is_what_this_run_can_be_told() {
        use io::ErrorKind::{AddrInUse, AddrNotAvailable};
        let flags = |server, kind: io::ErrorKind| RunError::Listen {
            server,
            address: "127.0.0.1:15000".parse().unwrap(),
            error: kind.into(),
            told_by: ToldBy::Flags,
        };
        let environment = |server, kind| flags(server, kind).told_by_environment();
        //  error                                         how it ends
        let rows = [
            (flags("admin", AddrInUse), "end it, or give `--admin-address`, or `none` for it"),
            (
                flags("readiness", AddrNotAvailable),
                "; give `--readiness-address`, or `none` for it",
            ),
            (environment("admin", AddrInUse), "end it, or set `proxyAdminPort` in PROXY_CONFIG"),
            (environment("metrics", AddrInUse), "end it, or set `statsPort` in PROXY_CONFIG"),
            (environment("metrics", AddrNotAvailable), "; set `statsPort` in PROXY_CONFIG"),
            (environment("readiness", AddrInUse), "(`ss -ltnp 'sport = :15000'`): end it"),
        ];
        for (error, want) in rows {
            assert!(error.to_string().ends_with(want), "{want}: {error}");
        }
    }
}
