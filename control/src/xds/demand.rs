//! Resources that somebody waits for, in on-demand mode.

use std::collections::BTreeSet;
use std::fmt;

/// Names that may be waited for at once. Each is asked for again when a stream begins.
const DEMANDS_MAX: usize = 4096;

/// Bytes a name may have: a hostname in a namespace, or an address on a network.
const NAME_BYTES_MAX: usize = 1024;

/// Names that were asked for and not answered yet.
#[derive(Debug, Default)]
pub(super) struct Demands {
    names: BTreeSet<String>,
}

/// Why a resource is not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Everything is told anyway.
    NotOnDemand,
    /// Too many others are waited for.
    TooMany,
    /// No resource has such a name.
    NoName,
    /// Nobody asks any more: the client has ended.
    Ended,
    /// There was no answer in time.
    TooLate,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::NotOnDemand => "the control plane tells everything without being asked",
            Refused::TooMany => "too many resources are waited for already",
            Refused::NoName => "no resource has such a name",
            Refused::Ended => "the control plane is not asked any more",
            Refused::TooLate => "the control plane has not answered in time",
        })
    }
}

impl std::error::Error for Refused {}

impl Demands {
    /// True when it has to be asked for.
    pub(super) fn add(&mut self, name: &str) -> Result<bool, Refused> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name == "*" {
            return Err(Refused::NoName);
        }
        if self.names.contains(name) {
            return Ok(false);
        }
        if self.names.len() >= DEMANDS_MAX {
            return Err(Refused::TooMany);
        }
        Ok(self.names.insert(name.to_owned()))
    }

    /// True when it was waited for.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.names.remove(name)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}
