//! The mesh that is changed: as the engine knows it, and as plain lists.

use std::collections::{BTreeMap, BTreeSet};

use ringway_engine::snapshot::{AuthorizationPolicy, Interner, Snapshot, WorkloadDescription};

use crate::coverage::Coverage;
use crate::generate::{Random, some_policy, some_workload};

pub(crate) const UIDS: [&str; 2] = ["c1//Pod/shop/one", "c1//Pod/shop/two"];

pub(crate) struct Mesh {
    pub(crate) snapshot: Snapshot,
    /// By `namespace/name`.
    pub(crate) policies: BTreeMap<String, AuthorizationPolicy>,
    pub(crate) workloads: BTreeMap<&'static str, WorkloadDescription>,
    /// What was removed while a workload named it, as long as one does.
    pub(crate) tombstones: BTreeSet<String>,
    interner: Interner,
}

impl Mesh {
    pub(crate) fn new() -> Mesh {
        Mesh {
            snapshot: Snapshot::new(""),
            policies: BTreeMap::new(),
            workloads: BTreeMap::new(),
            tombstones: BTreeSet::new(),
            interner: Interner::new(),
        }
    }

    /// Makes some changes.
    pub(crate) fn change(&mut self, random: &mut Random, coverage: &mut Coverage) {
        // Whoever holds the generation before must not see what comes.
        let before = self.snapshot.clone();
        let (count, first) = (before.policies().count(), before.policies().next().cloned());
        for _ in 0..=random.below(3) {
            match random.below(20) {
                0..=8 => self.tell_policy(some_policy(random), coverage),
                9..=14 => self.remove_policy(random, coverage),
                15..=18 => self.tell_workload(random, coverage),
                _ => self.remove_workload(random, coverage),
            }
        }
        self.tombstones.retain(|name| is_named(&self.workloads, name));
        assert_eq!(before.policies().count(), count);
        assert_eq!(before.policies().next(), first.as_ref());
        if random.one_in(8) {
            self.check_names();
        }
    }

    fn check_names(&self) {
        let told: BTreeSet<String> = self
            .snapshot
            .policies()
            .map(|policy| format!("{}/{}", policy.namespace, policy.name))
            .collect();
        assert!(told.iter().eq(self.policies.keys()), "policies are there that are not");
    }

    fn tell_policy(&mut self, policy: AuthorizationPolicy, coverage: &mut Coverage) {
        let name = format!("{}/{}", policy.namespace, policy.name);
        self.snapshot.upsert_policy(policy.clone());
        self.tombstones.remove(&name);
        let is_known = self.policies.insert(name, policy).is_some();
        coverage.count(if is_known { "change: policy told again" } else { "change: policy told" });
    }

    fn remove_policy(&mut self, random: &mut Random, coverage: &mut Coverage) {
        let Some(name) = random.one_of(self.policies.keys()).cloned() else { return };
        let policy = self.policies.remove(&name).unwrap();
        let removed = self.snapshot.remove_policy(&policy.namespace, &policy.name);
        assert_eq!(removed.as_deref(), Some(&policy));
        if is_named(&self.workloads, &name) {
            self.tombstones.insert(name);
        }
        coverage.count("change: policy removed");
    }

    fn tell_workload(&mut self, random: &mut Random, coverage: &mut Coverage) {
        let uid = UIDS[random.below(UIDS.len())];
        let workload = some_workload(random, uid);
        self.snapshot.upsert_workload(self.interner.workload(workload.clone()).unwrap());
        self.workloads.insert(uid, workload);
        self.tombstones.retain(|name| is_named(&self.workloads, name));
        coverage.count("change: workload told");
    }

    fn remove_workload(&mut self, random: &mut Random, coverage: &mut Coverage) {
        let uid = UIDS[random.below(UIDS.len())];
        self.snapshot.remove_workload(uid);
        self.workloads.remove(uid);
        self.tombstones.retain(|name| is_named(&self.workloads, name));
        coverage.count("change: workload removed");
    }
}

fn is_named(workloads: &BTreeMap<&str, WorkloadDescription>, name: &String) -> bool {
    workloads.values().any(|workload| workload.authorization_policies.contains(name))
}
