//! What can be chosen for the sessions of an identity, and what is chosen unless somebody says otherwise.

use std::sync::Arc;

use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

use super::{bounds::RECORDS_PER_KEY, revocation::RevocationLists};

/// How sessions are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who seals and opens what follows the handshake.
    pub records: RecordLayer,
    /// Records sealed with one key before it is renewed.
    pub records_per_key: u64,
    /// The clock that certificates are judged by.
    pub time: Arc<dyn TimeProvider>,
    /// Whether sessions are resumed.
    pub resumption: bool,
    /// Certificates that are not accepted any more.
    pub revocation: Arc<RevocationLists>,
    /// Whether keys are agreed on by X25519MLKEM768 alone: who does not know it is refused. Otherwise it is preferred.
    pub post_quantum_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            records: RecordLayer::Own,
            records_per_key: RECORDS_PER_KEY,
            time: Arc::new(DefaultTimeProvider),
            resumption: true,
            revocation: Arc::default(),
            post_quantum_only: false,
        }
    }
}

/// Who seals and opens what follows the handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordLayer {
    /// Ringway itself, in place.
    #[default]
    Own,
    /// rustls, with copies.
    Rustls,
}
