//! The workloads of this host, found as a CNI plugin names them.

use std::sync::Arc;

use ringway_engine::snapshot::{Entry, Snapshot, Tree, Workload};

use super::told::hash;

/// The workloads whose node is this one; clones share everything.
#[derive(Clone, Debug, Default)]
pub struct LocalWorkloads {
    tree: Tree<Local>,
}

#[derive(Clone, Debug)]
struct Local {
    key: u64,
    workload: Arc<Workload>,
}

impl Entry for Local {
    fn key(&self) -> u64 {
        self.key
    }
}

impl LocalWorkloads {
    /// Those of a snapshot; without a name of the node, all of them.
    pub(super) fn of(snapshot: &Snapshot, node: Option<&str>) -> LocalWorkloads {
        let mut local = LocalWorkloads::default();
        for workload in snapshot.workloads() {
            local.add(workload, node);
        }
        local
    }

    /// The workload of a pod: name, namespace and service account must all be the same.
    pub fn find(
        &self,
        name: &str,
        namespace: &str,
        service_account: &str,
    ) -> Option<&Arc<Workload>> {
        let key = hash((name, namespace, service_account));
        let is_it = |local: &Local| {
            let workload = &local.workload;
            workload.name() == name
                && workload.namespace() == namespace
                && workload.service_account() == service_account
        };
        self.tree.find(key, is_it).map(|local| &local.workload)
    }

    /// All of them, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.tree.iter().map(|local| &local.workload)
    }

    /// Whether both are the very same, so that nothing has to be compared.
    pub fn is_same(&self, other: &LocalWorkloads) -> bool {
        self.tree.is_same(&other.tree)
    }

    pub(super) fn add(&mut self, workload: &Arc<Workload>, node: Option<&str>) {
        if node.is_none_or(|node| **workload.node() == *node) {
            self.tree.insert(Local { key: key(workload), workload: Arc::clone(workload) });
        }
    }

    pub(super) fn remove(&mut self, workload: &Arc<Workload>) {
        self.tree.remove(key(workload), |local| Arc::ptr_eq(&local.workload, workload));
    }
}

fn key(workload: &Workload) -> u64 {
    hash((workload.name(), workload.namespace(), workload.service_account()))
}
