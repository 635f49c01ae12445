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
