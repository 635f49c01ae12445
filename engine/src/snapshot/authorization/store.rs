//! All policies, found by the workload they are for.

use std::sync::Arc;

use super::CompiledPolicy;
use crate::snapshot::address::key_of;
use crate::snapshot::index::Index;
use crate::snapshot::policy::{AuthorizationPolicy, PolicyScope};
use crate::snapshot::workload::Workload;

/// Every policy; a clone shares all of them.
///
/// A workload's policies are found without looking at any other's: the global ones, those of its namespace,
/// those it names.
#[derive(Clone, Debug, Default)]
pub(in crate::snapshot) struct Policies {
    by_name: Index<CompiledPolicy>,
    global: Index<CompiledPolicy>,
    /// Of scope `Namespace`; those of one namespace stand together.
    of_namespaces: Index<CompiledPolicy>,
    /// Every name that a workload gives, whether there is such a policy or not.
    mentions: Index<Mention>,
}

/// A name that workloads give as that of a policy that selects them.
#[derive(Debug)]
struct Mention {
    /// `namespace/name`.
    name: Arc<str>,
    workloads: usize,
    /// The tombstone: where there is no such policy, one was there and was removed, so it is not awaited. It ends with
    /// the mention, so there are never more than names that workloads give.
    was_removed: bool,
}

/// A policy that is for a workload.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Selected<'a> {
    /// It is there.
    Known(&'a Arc<CompiledPolicy>),
    /// The workload names it, and no policy of this name was there while it did: `namespace/name`.
    NeverSeen(&'a str),
}

impl Selected<'_> {
    /// Whether both are the very same policy, or equally unknown.
    pub(crate) fn is_same(&self, other: &Selected<'_>) -> bool {
        match (self, other) {
            (Selected::Known(one), Selected::Known(other)) => Arc::ptr_eq(one, other),
            (Selected::NeverSeen(one), Selected::NeverSeen(other)) => one == other,
            _ => false,
        }
    }
}

impl Policies {
    pub(in crate::snapshot) fn upsert(&mut self, description: AuthorizationPolicy) {
        self.take(&description.namespace, &description.name);
        let key = key(&description.namespace, &description.name);
        let policy = Arc::new(CompiledPolicy::new(description));
        self.by_name.insert(key, &policy);
        if let Some(index) = self.index_of(policy.description().scope) {
            index.insert(key, &policy);
        }
    }

    pub(in crate::snapshot) fn remove(
        &mut self,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<CompiledPolicy>> {
        let policy = self.take(namespace, name)?;
        self.change_mention(&format!("{namespace}/{name}"), |mention| mention.was_removed = true);
        Some(policy)
    }

    pub(in crate::snapshot) fn find(
        &self,
        namespace: &str,
        name: &str,
    ) -> Option<&Arc<CompiledPolicy>> {
        self.by_name.find(key(namespace, name), |policy| policy.is(namespace, name))
    }

    pub(in crate::snapshot) fn iter(&self) -> impl Iterator<Item = &Arc<CompiledPolicy>> {
        self.by_name.iter()
    }

    /// Whether both are the very same policies, not merely equal.
    pub(in crate::snapshot) fn is_same(&self, other: &Policies) -> bool {
        self.by_name.is_same(&other.by_name) && self.mentions.is_same(&other.mentions)
    }

    /// The policies that are for `workload`, each once.
    pub(in crate::snapshot) fn selecting<'a>(
        &'a self,
        workload: &'a Workload,
    ) -> impl Iterator<Item = Selected<'a>> {
        let namespace = workload.namespace();
        let first = half_key(namespace) << 32;
        let of_namespace = self.of_namespaces.between(first, first | u64::from(u32::MAX));
        let of_namespace =
            of_namespace.filter(move |policy| *policy.description().namespace == *namespace);
        let named =
            workload.authorization_policies().filter_map(move |name| self.named(name, namespace));
        self.global.iter().chain(of_namespace).map(Selected::Known).chain(named)
    }

    /// Whether every name that `workload` gives is that of a policy that is there, or was and is removed.
    pub(in crate::snapshot) fn know_those_of(&self, workload: &Workload) -> bool {
        let namespace = workload.namespace();
        let mut named = workload.authorization_policies();
        named.all(|name| !matches!(self.named(name, namespace), Some(Selected::NeverSeen(_))))
    }

    /// Takes note that a workload gives these names.
    pub(in crate::snapshot) fn mention<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        for name in names {
            if !self.change_mention(name, |mention| mention.workloads += 1) {
                let mention = Mention { name: name.into(), workloads: 1, was_removed: false };
                self.mentions.insert(key_of(name), &Arc::new(mention));
            }
        }
    }

    /// Takes note that a workload gives these names no longer.
    pub(in crate::snapshot) fn unmention<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        for name in names {
            self.change_mention(name, |mention| mention.workloads -= 1);
        }
    }

    /// What a workload of this namespace means by `name`; nothing when that is for it anyway, or was
    /// removed.
    fn named<'a>(&'a self, name: &'a str, namespace: &str) -> Option<Selected<'a>> {
        let policy = name.split_once('/').and_then(|(of, name)| self.find(of, name));
        let Some(policy) = policy else {
            let was_removed = self.mention_of(name).is_some_and(|mention| mention.was_removed);
            return (!was_removed).then_some(Selected::NeverSeen(name));
        };
        let is_for_it_anyway = match policy.description().scope {
            PolicyScope::Global => true,
            PolicyScope::Namespace => *policy.description().namespace == *namespace,
            PolicyScope::WorkloadSelector => false,
        };
        (!is_for_it_anyway).then_some(Selected::Known(policy))
    }

    fn take(&mut self, namespace: &str, name: &str) -> Option<Arc<CompiledPolicy>> {
        let key = key(namespace, name);
        let policy = self.by_name.remove(key, |policy| policy.is(namespace, name))?;
        if let Some(index) = self.index_of(policy.description().scope) {
            index.remove_value(key, &policy);
        }
        Some(policy)
    }

    fn index_of(&mut self, scope: PolicyScope) -> Option<&mut Index<CompiledPolicy>> {
        match scope {
            PolicyScope::Global => Some(&mut self.global),
            PolicyScope::Namespace => Some(&mut self.of_namespaces),
            PolicyScope::WorkloadSelector => None,
        }
    }

    fn mention_of(&self, name: &str) -> Option<&Arc<Mention>> {
        self.mentions.find(key_of(name), |mention| *mention.name == *name)
    }

    /// False when no workload gives this name.
    fn change_mention(&mut self, name: &str, change: impl FnOnce(&mut Mention)) -> bool {
        let key = key_of(name);
        let Some(known) = self.mentions.remove(key, |mention| *mention.name == *name) else {
            return false;
        };
        let Mention { ref name, workloads, was_removed } = *known;
        let mut mention = Mention { name: name.clone(), workloads, was_removed };
        change(&mut mention);
        if mention.workloads > 0 {
            self.mentions.insert(key, &Arc::new(mention));
        }
        true
    }
}

/// The place of a policy: those of one namespace stand together, in an order that does not depend on when they
/// came.
fn key(namespace: &str, name: &str) -> u64 {
    half_key(namespace) << 32 | half_key(name)
}

fn half_key(text: &str) -> u64 {
    key_of(text) >> 32
}
