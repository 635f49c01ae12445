//! Who issues certificates: how it is asked, and what it answers.

use std::sync::Arc;
use std::time::SystemTime;

use ringway_protocols::identity::Identity;
use ringway_protocols::tls::Material;

/// Who issues certificates, and answers at once.
pub trait Issuer {
    /// A fresh key and certificate for `identity`.
    ///
    /// # Errors
    /// Why not.
    fn issue(&self, identity: &Identity, now: SystemTime) -> Result<Material, Refusal>;

    /// What credentials made at `now` look like.
    fn epoch(&self, now: SystemTime) -> Epoch;
}

/// What decides how credentials look: a change means that they are to be made anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Epoch(Arc<[String]>);

impl Epoch {
    /// An epoch is equal to another when all of this is.
    pub fn new(parts: impl IntoIterator<Item = String>) -> Self {
        Self(parts.into_iter().collect())
    }
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The authority was not reached, or could not answer anybody: nothing is said about the identity.
    Unreachable(String),
    /// It said no, or what it gave cannot be used.
    Refused(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Unreachable(why) | Self::Refused(why)) = self;
        f.write_str(why)
    }
}

/// How urgent a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// There is a valid one already.
    Background,
    /// A workload will need it.
    Warmup,
    /// A connection waits for it.
    RealTime,
}

/// For whom to ask.
#[derive(Debug)]
#[must_use = "its identity is not asked for again before `finish`"]
pub struct Job {
    /// Whose certificate.
    pub identity: Identity,
    /// How urgent it was when it was given out.
    pub priority: Priority,
    pub(super) epoch: Epoch,
}
