//! Whether policies let a request, or a connection that carries none, through.
//!
//! ```text
//!  a CUSTOM policy matches ──▶ its provider is asked (asked), then:
//!  a DENY policy matches ────▶ denied                (authorize)
//!  no ALLOW policy ──────────▶ allowed
//!  an ALLOW policy matches ──▶ allowed
//!  otherwise ────────────────▶ denied
//! ```
//!
//! The policies of all targets that a request belongs to are asked together, as one set. Those on dry run and those
//! that audit decide nothing; what they have to say is part of the verdict.
//!
//! **Invariant:** paths are compared in their canonical form only, which is what routes are found by.

mod facts;
mod rule;
mod template;
mod texts;

use std::sync::Arc;

pub(crate) use self::facts::header_text;
pub use self::facts::{Facts, RequestFacts};
pub use self::template::{PathTemplate, TemplateError};

use self::rule::{CompiledRule, Without};
use crate::model::policy::{Action, Attached, AuthorizationPolicy, PolicyName};

/// The policies that are attached to one target.
#[derive(Debug, Default)]
pub struct Authorizations {
    custom: Vec<CompiledPolicy>,
    deny: Vec<CompiledPolicy>,
    allow: Vec<CompiledPolicy>,
    audit: Vec<CompiledPolicy>,
}

#[derive(Debug)]
struct CompiledPolicy {
    name: PolicyName,
    action: Action,
    dry_run: bool,
    rules: Box<[CompiledRule]>,
}

impl Authorizations {
    /// Adds a policy.
    ///
    /// # Errors
    /// One of its path templates is none.
    pub fn add(&mut self, policy: &Attached<AuthorizationPolicy>) -> Result<(), TemplateError> {
        let Attached { name, policy, .. } = policy;
        let rules = policy.rules.iter().map(CompiledRule::of).collect::<Result<_, _>>()?;
        let compiled = CompiledPolicy {
            name: name.clone(),
            action: policy.action.clone(),
            dry_run: policy.dry_run,
            rules,
        };
        match &policy.action {
            Action::Allow => self.allow.push(compiled),
            Action::Deny => self.deny.push(compiled),
            Action::Audit => self.audit.push(compiled),
            Action::Custom(_) => self.custom.push(compiled),
        }
        Ok(())
    }
}

/// What policies say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// Whether it may pass: because of a policy, or because none says whom to allow.
    pub outcome: Result<Option<Matched<'a>>, Denied<'a>>,
    /// Policies that ask to be told of.
    pub audits: Vec<Matched<'a>>,
    /// What policies on dry run would have done.
    pub dry_runs: Vec<DryRun<'a>>,
}

/// A policy that matched, and by which of its rules, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Matched<'a> {
    /// The policy.
    pub policy: &'a PolicyName,
    /// The rule.
    pub rule: usize,
}

/// Why it may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied<'a> {
    /// A DENY policy matches.
    Matched(Matched<'a>),
    /// There are ALLOW policies, and none matches.
    NotAllowed,
}

impl Denied<'_> {
    /// What is answered with 403.
    pub const BODY: &'static str = "RBAC: access denied";

    /// `%RESPONSE_CODE_DETAILS%` of the access log, in the words that Istio's users search for.
    pub fn details(&self) -> String {
        const PREFIX: &str = "rbac_access_denied_matched_policy";
        match self {
            Denied::NotAllowed => format!("{PREFIX}[none]"),
            Denied::Matched(Matched { policy: PolicyName { namespace, name }, rule }) => {
                format!("{PREFIX}[ns[{namespace}]-policy[{name}]-rule[{rule}]]")
            }
        }
    }
}

/// What a policy on dry run would have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DryRun<'a> {
    /// It would have denied.
    Denied(Matched<'a>),
    /// It would have allowed.
    Allowed(Matched<'a>),
    /// It would have asked its provider.
    Asked(Matched<'a>),
    /// There are ALLOW policies on dry run, none matches, and there is no other ALLOW policy: in force they would have
    /// denied.
    NotAllowed,
}

/// Whom CUSTOM policies want to be asked, before anything else is decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Providers by name, each once, with the policy that wants it first.
    pub providers: Vec<(&'a Arc<str>, Matched<'a>)>,
    /// Policies on dry run that would have had somebody asked.
    pub dry_runs: Vec<DryRun<'a>>,
}

/// Tells whom CUSTOM policies want to be asked.
pub fn asked<'a>(sets: &[&'a Authorizations], facts: &Facts<'_>) -> Asked<'a> {
    let mut asked = Asked::default();
    for policy in sets.iter().flat_map(|set| &set.custom) {
        // What a plain connection does not have must not keep the provider from being asked.
        let Some(matched) = policy.matched(facts, Without::Ignored) else { continue };
        let Action::Custom(provider) = &policy.action else { continue };
        if policy.dry_run {
            asked.dry_runs.push(DryRun::Asked(matched));
        } else if asked.providers.iter().all(|(known, _)| *known != provider) {
            asked.providers.push((provider, matched));
        }
    }
    asked
}

/// Decides by all policies but CUSTOM ones.
pub fn authorize<'a>(sets: &[&'a Authorizations], facts: &Facts<'_>) -> Verdict<'a> {
    let mut dry_runs = Vec::new();
    let audit = sets.iter().flat_map(|set| &set.audit);
    let audits = audit.filter(|policy| !policy.dry_run);
    let audits = audits.filter_map(|policy| policy.matched(facts, Without::Ignored)).collect();

    let mut denied = None;
    for policy in sets.iter().flat_map(|set| &set.deny) {
        if policy.dry_run {
            dry_runs.extend(policy.matched(facts, Without::Ignored).map(DryRun::Denied));
        } else if denied.is_none() {
            denied = policy.matched(facts, Without::Ignored);
        }
    }
    if let Some(matched) = denied {
        return Verdict { outcome: Err(Denied::Matched(matched)), audits, dry_runs };
    }
    let outcome = allowed(sets, facts, &mut dry_runs);
    Verdict { outcome, audits, dry_runs }
}

/// Decides by ALLOW policies; nothing denies.
fn allowed<'a>(
    sets: &[&'a Authorizations],
    facts: &Facts<'_>,
    dry_runs: &mut Vec<DryRun<'a>>,
) -> Result<Option<Matched<'a>>, Denied<'a>> {
    let (mut some, mut some_dry, mut matched) = (false, false, None);
    let told = dry_runs.len();
    for policy in sets.iter().flat_map(|set| &set.allow) {
        if policy.dry_run {
            some_dry = true;
            dry_runs.extend(policy.matched(facts, Without::Fails).map(DryRun::Allowed));
        } else {
            some = true;
            matched = matched.or_else(|| policy.matched(facts, Without::Fails));
        }
    }
    if some_dry && !some && dry_runs.len() == told {
        dry_runs.push(DryRun::NotAllowed);
    }
    match matched {
        None if some => Err(Denied::NotAllowed),
        matched => Ok(matched),
    }
}

impl CompiledPolicy {
    /// The first rule that matches.
    fn matched(&self, facts: &Facts<'_>, without: Without) -> Option<Matched<'_>> {
        let rule = self.rules.iter().position(|rule| rule.matches(facts, without))?;
        Some(Matched { policy: &self.name, rule })
    }
}

#[cfg(test)]
mod tests;
