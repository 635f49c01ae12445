//! Values as they stand in variables: what each form accepts, what is said when it is something else, how it is shown.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::environment::{DnsAddress, WorkerThreads};
use crate::grpc::Address;
use crate::run::WorkloadName;
use crate::source::yaml::scalars::parse_duration;
use crate::source::{Hardening, LogFormat, Mode, Reactor};
use crate::telemetry::log::LogFilter;

/// A form of values.
pub(in crate::environment) trait Form: Sized {
    /// What is expected, for a message.
    const EXPECTED: &'static str;

    /// The value of a text that is not empty.
    fn parse(text: &str) -> Option<Self>;

    /// The value as it would be written.
    fn show(&self) -> String;
}

impl Form for bool {
    const EXPECTED: &'static str = "`true` or `false`";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Form for Duration {
    const EXPECTED: &'static str = "a duration such as 90s, 1m30s or 500ms";

    fn parse(text: &str) -> Option<Self> {
        parse_duration(text)
    }

    fn show(&self) -> String {
        match (self.as_secs(), self.subsec_millis()) {
            (seconds, 0) => format!("{seconds}s"),
            (0, millis) => format!("{millis}ms"),
            (seconds, millis) => format!("{seconds}s{millis}ms"),
        }
    }
}

impl Form for IpAddr {
    const EXPECTED: &'static str = "an IP address";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Form for String {
    const EXPECTED: &'static str = "text";

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Form for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn parse(text: &str) -> Option<Self> {
        Some(text.into())
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Form for Mode {
    const EXPECTED: &'static str = "`shared` or `dedicated`";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "shared" => Some(Self::Shared),
            "dedicated" => Some(Self::Dedicated),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Shared => "shared".to_owned(),
            Self::Dedicated => "dedicated".to_owned(),
        }
    }
}

impl Form for Reactor {
    const EXPECTED: &'static str = "`auto`, `ring` or `epoll`";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "ring" => Some(Self::Ring),
            "epoll" => Some(Self::Epoll),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Ring => "ring".to_owned(),
            Self::Epoll => "epoll".to_owned(),
        }
    }
}

impl Form for Hardening {
    const EXPECTED: &'static str = "`auto`, `off` or `required`";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "off" => Some(Self::Off),
            "required" => Some(Self::Required),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Off => "off".to_owned(),
            Self::Required => "required".to_owned(),
        }
    }
}

impl Form for LogFormat {
    const EXPECTED: &'static str = "`plain` or `json`";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "plain" => Some(Self::Plain),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Plain => "plain".to_owned(),
            Self::Json => "json".to_owned(),
        }
    }
}

/// `namespace/name/service-account`, all three.
impl Form for WorkloadName {
    const EXPECTED: &'static str = "namespace/name/service-account";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|name: &Self| name.service_account.is_some())
    }

    fn show(&self) -> String {
        format!("{self}/{}", self.service_account.as_deref().unwrap_or_default())
    }
}

impl Form for WorkerThreads {
    const EXPECTED: &'static str =
        "a number of threads, 0 for one on each CPU, or a share of the CPUs such as 50%";

    fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.parse().ok().filter(|percent| (1..=100).contains(percent));
                percent.map(Self::Percent)
            }
            None => match text.parse().ok()? {
                0 => Some(Self::EveryCpu),
                count => (count <= crate::environment::threads::THREADS_MAX)
                    .then_some(Self::Count(count)),
            },
        }
    }

    fn show(&self) -> String {
        match self {
            Self::EveryCpu => "0".to_owned(),
            Self::Count(count) => count.to_string(),
            Self::Percent(percent) => format!("{percent}%"),
        }
    }
}

/// A Kubernetes quantity of CPUs, rounded up to whole ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::environment) struct Cpus(pub(super) usize);

impl Form for Cpus {
    const EXPECTED: &'static str = "a number of CPUs such as 2, 1.5 or 500m";

    fn parse(text: &str) -> Option<Self> {
        /// A billionth is the smallest step a quantity has.
        const NANOS: u64 = 1_000_000_000;
        const UNITS: [(char, u64); 4] =
            [('m', NANOS / 1_000), ('u', NANOS / 1_000_000), ('n', 1), ('k', NANOS * 1_000)];
        let named = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(*name)?, *unit)));
        let (number, unit) = named.unwrap_or((text, NANOS));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let sensible = digits(whole) && digits(fraction) && fraction.len() <= 9;
        if !sensible || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let scaled: u64 = format!("{whole}{fraction:0<9}").parse().ok()?;
        // Both are billionths: of a unit, and of a CPU in a unit.
        let nanos = u128::from(scaled) * u128::from(unit) / u128::from(NANOS);
        let remainder = u128::from(scaled) * u128::from(unit) % u128::from(NANOS);
        let cpus = (nanos + u128::from(remainder > 0)).div_ceil(u128::from(NANOS));
        usize::try_from(cpus)
            .ok()
            .filter(|cpus| *cpus <= crate::environment::threads::THREADS_MAX)
            .map(Self)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

impl Form for Address {
    const EXPECTED: &'static str = "an address such as https://istiod.istio-system.svc:15012";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Form for DnsAddress {
    const EXPECTED: &'static str = "localhost:<port> or an IP address and port";

    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("localhost:") {
            Some(port) => port.parse().ok().map(Self::Loopback),
            None => text.parse::<SocketAddr>().ok().map(Self::Address),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Loopback(port) => format!("localhost:{port}"),
            Self::Address(address) => address.to_string(),
        }
    }
}

/// What is logged, in the syntax of `RUST_LOG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::environment) struct Levels(pub(super) String);

impl Form for Levels {
    const EXPECTED: &'static str = "a level, or levels by scope, such as info,access=debug";

    fn parse(text: &str) -> Option<Self> {
        LogFilter::parse(text).ok().map(|_| Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// Rules about cryptography that somebody must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::environment) struct PostQuantum;

impl Form for PostQuantum {
    const EXPECTED: &'static str = "`pqc`";

    fn parse(text: &str) -> Option<Self> {
        (text == "pqc").then_some(Self)
    }

    fn show(&self) -> String {
        "pqc".to_owned()
    }
}
