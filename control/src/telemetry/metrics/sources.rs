//! What other parts of the process count, as facts for an answer.

use super::DiscoveryFacts;
use crate::xds::{Counts, Termination};

impl From<&Counts> for DiscoveryFacts {
    fn from(counts: &Counts) -> Self {
        let terminations = Termination::ALL.map(|one| (one.as_str(), counts.terminations(one)));
        // A type that never came is left out: an unknown one mostly never does.
        let messages = counts.messages().filter(|(_, messages, _)| *messages > 0);
        Self {
            terminations: terminations.to_vec(),
            messages: messages
                .map(|(url, messages, bytes)| (url.to_owned(), messages, bytes))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_told_from_the_start_and_types_once_they_came() {
        let facts = DiscoveryFacts::from(&Counts::default());
        let reasons: Vec<_> = facts.terminations.iter().map(|(reason, _)| *reason).collect();
        assert_eq!(reasons, ["ConnectionError", "Error", "Reconnect", "Complete"]);
        assert!(facts.messages.is_empty());
    }
}
