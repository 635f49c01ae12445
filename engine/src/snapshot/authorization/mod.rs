//! Authorization policies in the form that decisions are made on.
//!
//! * [`Facts`]: what policies may ask of a connection;
//! * [`CompiledPolicy`]: one policy, its lists sorted so that a long one is searched and not walked;
//! * [`Policies`]: all of them, found by workload.
//!
//! What a policy says is held once, in its description; the compiled form holds places in its lists, and of
//! address ranges and ports a sorted copy.

mod condition;
mod facts;
mod ranges;
mod store;
mod texts;

use std::sync::Arc;

use self::condition::CompiledMatch;
pub use self::facts::Facts;
pub(super) use self::store::Policies;
pub(crate) use self::store::Selected;
use super::policy::{AuthorizationPolicy, PolicyClause, PolicyRule};

/// A policy with what makes it fast.
#[derive(Debug)]
pub(crate) struct CompiledPolicy {
    description: Arc<AuthorizationPolicy>,
    rules: Box<[CompiledRule]>,
}

/// The clauses of a rule.
#[derive(Debug)]
struct CompiledRule(Box<[CompiledClause]>);

/// The alternatives of a clause.
#[derive(Debug)]
struct CompiledClause(Box<[CompiledMatch]>);

impl CompiledPolicy {
    pub(super) fn new(description: AuthorizationPolicy) -> CompiledPolicy {
        let rules = description.rules.iter().map(CompiledRule::of).collect();
        CompiledPolicy { description: Arc::new(description), rules }
    }

    /// The policy as it was told.
    pub(crate) fn description(&self) -> &Arc<AuthorizationPolicy> {
        &self.description
    }

    /// The first rule that matches.
    pub(crate) fn matching_rule(&self, facts: &Facts<'_>) -> Option<usize> {
        let mut rules = self.rules.iter().zip(&self.description.rules);
        rules.position(|(compiled, said)| compiled.matches(said, facts))
    }

    fn is(&self, namespace: &str, name: &str) -> bool {
        *self.description.name == *name && *self.description.namespace == *namespace
    }
}

impl CompiledRule {
    fn of(rule: &PolicyRule) -> CompiledRule {
        CompiledRule(rule.clauses.iter().map(CompiledClause::of).collect())
    }

    fn matches(&self, said: &PolicyRule, facts: &Facts<'_>) -> bool {
        self.0.iter().zip(&said.clauses).all(|(compiled, said)| compiled.matches(said, facts))
    }
}

impl CompiledClause {
    fn of(clause: &PolicyClause) -> CompiledClause {
        CompiledClause(clause.matches.iter().map(CompiledMatch::of).collect())
    }

    fn matches(&self, said: &PolicyClause, facts: &Facts<'_>) -> bool {
        let mut alternatives = self.0.iter().zip(&said.matches);
        self.0.is_empty() || alternatives.any(|(compiled, said)| compiled.matches(said, facts))
    }
}
