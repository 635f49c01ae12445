//! Whether policies let an inbound connection in.
//!
//! ```text
//!  a DENY policy matches ───────────────▶ denied
//!  a policy the workload names is unknown ▶ denied
//!  no ALLOW policy ─────────────────────▶ allowed
//!  an ALLOW policy matches ─────────────▶ allowed
//!  otherwise ───────────────────────────▶ denied
//! ```
//!
//! A policy on dry run decides nothing; what it would have decided is part of the verdict.

use super::refusal::Refusal;
use crate::snapshot::{
    AuthorizationPolicy, CompiledPolicy, Facts, PolicyAction, Selected, Snapshot, Workload,
};

/// What policies say of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// Whether the connection is let in: because of a policy, or because none says whom to allow.
    pub outcome: Result<Option<Matched<'a>>, Refusal>,
    /// What policies on dry run would have done.
    pub dry_runs: Vec<DryRun<'a>>,
}

/// A policy that matched, and by which of its rules, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched<'a> {
    /// The policy.
    pub policy: &'a AuthorizationPolicy,
    /// The rule.
    pub rule: usize,
}

/// What a policy on dry run would have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DryRun<'a> {
    /// It would have denied the connection.
    Denied(Matched<'a>),
    /// It would have allowed the connection.
    Allowed(Matched<'a>),
    /// There are ALLOW policies on dry run, none matches, and there is no other ALLOW policy: in force they would have
    /// denied the connection.
    NotAllowed,
}

/// Decides whether a connection to `local` is let in.
pub fn authorize<'a>(
    snapshot: &'a Snapshot,
    local: &'a Workload,
    facts: &Facts<'_>,
) -> Verdict<'a> {
    let mut judging = Judging::default();
    for selected in snapshot.policies_selecting(local) {
        match selected {
            Selected::Known(policy) => judging.consider(policy, facts),
            Selected::NeverSeen(name) => judging.unknown = judging.unknown.or(Some(name)),
        }
    }
    judging.verdict()
}

/// What the policies looked at so far say.
#[derive(Default)]
struct Judging<'a> {
    denied: Option<Matched<'a>>,
    unknown: Option<&'a str>,
    has_allow: bool,
    allowed: Option<Matched<'a>>,
    would_deny: Vec<DryRun<'a>>,
    has_dry_allow: bool,
    would_allow: Vec<DryRun<'a>>,
}

impl<'a> Judging<'a> {
    fn consider(&mut self, policy: &'a CompiledPolicy, facts: &Facts<'_>) {
        let description = policy.description();
        let matched =
            || policy.matching_rule(facts).map(|rule| Matched { policy: description, rule });
        match (description.action, description.dry_run) {
            (PolicyAction::Deny, true) => self.would_deny.extend(matched().map(DryRun::Denied)),
            (PolicyAction::Deny, false) => self.denied = self.denied.or_else(matched),
            (PolicyAction::Allow, true) => {
                self.has_dry_allow = true;
                self.would_allow.extend(matched().map(DryRun::Allowed));
            }
            (PolicyAction::Allow, false) => {
                self.has_allow = true;
                self.allowed = self.allowed.or_else(matched);
            }
        }
    }

    fn verdict(mut self) -> Verdict<'a> {
        let mut dry_runs = std::mem::take(&mut self.would_deny);
        if let Some(Matched { policy, rule }) = self.denied {
            let policy = format!("{}/{}", policy.namespace, policy.name).into();
            return Verdict { outcome: Err(Refusal::Denied { policy, rule }), dry_runs };
        }
        if self.has_dry_allow && self.would_allow.is_empty() && !self.has_allow {
            dry_runs.push(DryRun::NotAllowed);
        }
        dry_runs.append(&mut self.would_allow);
        Verdict { outcome: self.outcome(), dry_runs }
    }

    /// The outcome when no policy denies.
    fn outcome(&self) -> Result<Option<Matched<'a>>, Refusal> {
        match (self.unknown, self.allowed) {
            (Some(policy), _) => Err(Refusal::UnknownPolicy { policy: policy.into() }),
            (None, None) if self.has_allow => Err(Refusal::NotAllowed),
            (None, allowed) => Ok(allowed),
        }
    }
}
