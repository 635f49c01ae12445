//! The resources of a response that are refused, as the control plane is told.

use std::fmt;

use super::decode::Rejection;

/// Refusals that are told one by one; of a response that is all wrong, the first few tell what is wrong.
const TOLD_MAX: usize = 100;

/// Bytes of a name, and of a reason, that are told.
const TEXT_BYTES_MAX: usize = 256;

/// What of a response is refused, and why.
#[derive(Debug, Default)]
pub(super) struct RefusedNames {
    told: Vec<(String, String)>,
    count: usize,
    /// What applies, but not all of it.
    #[cfg(feature = "waypoint")]
    warnings: Vec<(String, String)>,
}

impl RefusedNames {
    /// Adds a resource; one without a name is told by its place in the response.
    pub(super) fn add(&mut self, name: &str, place: usize, rejection: &Rejection) {
        self.count += 1;
        if self.told.len() < TOLD_MAX {
            let name = match name {
                "" => format!("resource {place}"),
                name => shortened(name),
            };
            self.told.push((name, shortened(&rejection.to_string())));
        }
    }

    /// Adds something about a resource that applies.
    #[cfg(feature = "waypoint")]
    pub(super) fn warn(&mut self, name: &str, warning: &str) {
        if self.warnings.len() < TOLD_MAX {
            self.warnings.push((shortened(name), shortened(warning)));
        }
    }

    /// The first few warnings: name and what is to be said.
    #[cfg(feature = "waypoint")]
    pub(super) fn warnings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.warnings.iter().map(|(name, warning)| (name.as_str(), warning.as_str()))
    }

    /// Refusals and warnings, in the form in which a control plane knows those of its Gateways' processes.
    #[cfg(feature = "waypoint")]
    pub(super) fn as_json(&self) -> serde_json::Value {
        let refused = self.iter().map(|(name, why)| serde_json::json!({"key": name, "error": why}));
        let warned =
            self.warnings().map(|(name, what)| serde_json::json!({"key": name, "warn": what}));
        refused.chain(warned).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The first few: name and reason.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.told.iter().map(|(name, reason)| (name.as_str(), reason.as_str()))
    }
}

impl fmt::Display for RefusedNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, reason)) in self.told.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{name}: {reason}")?;
        }
        match self.count - self.told.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().find(|(index, _)| *index >= TEXT_BYTES_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
