//! Pods that are served, and of which the control plane has not told: each is warned about once.
//!
//! Their connections wait and are refused one by one, which says little of a cause that all of them have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringway_engine::limits::WORKLOAD_TIMEOUT;
use ringway_engine::snapshot::{Snapshot, Workload};
use tokio::time::Instant;

use crate::cni::PodInfo;

/// The pods that are waited for, by uid.
#[derive(Default)]
pub(super) struct Untold(BTreeMap<Arc<str>, Waiting>);

struct Waiting {
    since: Instant,
    is_warned: bool,
}

impl Untold {
    /// These are served and not told of, and no others. Returns those of which that holds for as long as a connection
    /// waits, each once.
    pub(super) fn overdue(&mut self, pods: &BTreeSet<Arc<str>>, now: Instant) -> Vec<Arc<str>> {
        self.0.retain(|uid, _| pods.contains(uid));
        for uid in pods {
            let waiting = || Waiting { since: now, is_warned: false };
            self.0.entry(Arc::clone(uid)).or_insert_with(waiting);
        }
        let is_overdue =
            |waiting: &Waiting| !waiting.is_warned && now - waiting.since >= WORKLOAD_TIMEOUT;
        let overdue = self.0.iter_mut().filter(|(_, waiting)| is_overdue(waiting));
        let warned = overdue.map(|(uid, waiting)| {
            waiting.is_warned = true;
            Arc::clone(uid)
        });
        warned.collect()
    }
}

/// What the control plane tells instead of a pod of this node, and the likeliest cause.
pub(super) fn why(world: &Snapshot, node: Option<&str>, cluster: &str, pod: &PodInfo) -> String {
    let PodInfo { name, namespace, service_account } = pod;
    let is_it = |one: &&Arc<Workload>| one.name() == name && one.namespace() == namespace;
    // Clusters may have pods of the same name.
    let told = world.workloads().filter(is_it).max_by_key(|one| **one.cluster() == *cluster);
    let here = node.map_or_else(|| "on any node".to_owned(), |node| format!("on node {node}"));
    match (told, node) {
        (Some(told), Some(node)) if **told.node() != *node => format!(
            "the control plane tells of {namespace}/{name} on node {}, and this is node {node}: is NODE_NAME right?",
            told.node()
        ),
        (Some(told), _) => format!(
            "the control plane tells of {namespace}/{name} with service account {}, and the agent with \
             {service_account}: is the pod being replaced?",
            told.service_account()
        ),
        (None, _) => format!(
            "the control plane tells of no {namespace}/{name} (service account {service_account}) {here}: is NODE_NAME \
             right, and does the control plane see its namespace?"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringway_engine::snapshot::{Interner, WorkloadDescription};

    use super::*;

    fn pods(uids: &[&str]) -> BTreeSet<Arc<str>> {
        uids.iter().map(|uid| Arc::from(*uid)).collect()
    }

    #[test]
    fn a_pod_that_nobody_tells_of_is_overdue_once() {
        let (mut untold, start) = (Untold::default(), Instant::now());
        let second = Duration::from_secs(1);
        let mut overdue = |uids: &[&str], seconds: u32| -> Vec<String> {
            let overdue = untold.overdue(&pods(uids), start + second * seconds);
            overdue.iter().map(ToString::to_string).collect()
        };
        assert_eq!(overdue(&["a", "b"], 0), Vec::<String>::new());
        assert_eq!(overdue(&["a", "b"], 4), Vec::<String>::new());
        // Of b it was told; c has come.
        assert_eq!(overdue(&["a", "c"], 5), ["a"]);
        assert_eq!(overdue(&["a", "c"], 9), Vec::<String>::new(), "a was told, c is young");
        assert_eq!(overdue(&["a", "c"], 60), ["c"]);
        // Another pod by its uid, or the same that came again.
        assert_eq!(overdue(&[], 61), Vec::<String>::new());
        assert_eq!(overdue(&["a"], 62), Vec::<String>::new());
        assert_eq!(overdue(&["a"], 67), ["a"]);
    }

    #[test]
    fn what_is_told_instead_says_what_is_wrong() {
        let mut world = Snapshot::new("");
        let mut interner = Interner::default();
        for (cluster, node, service_account) in [("c1", "host-a", "web"), ("c2", "far", "other")] {
            let description = WorkloadDescription {
                uid: format!("{cluster}//Pod/default/web"),
                name: "web".to_owned(),
                namespace: "default".to_owned(),
                cluster: cluster.to_owned(),
                node: node.to_owned(),
                service_account: service_account.to_owned(),
                ..WorkloadDescription::default()
            };
            world.upsert_workload(interner.workload(description).unwrap());
        }
        let pod = |name: &str, service_account: &str| PodInfo {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            service_account: service_account.to_owned(),
        };
        //  this node        the pod               what is told
        let rows = [
            (
                Some("host-z"),
                pod("web", "web"),
                "default/web on node host-a, and this is node host-z: is NODE_NAME right?",
            ),
            (
                Some("host-a"),
                pod("web", "new"),
                "default/web with service account web, and the agent with new",
            ),
            (
                Some("host-a"),
                pod("db", "db"),
                "no default/db (service account db) on node host-a: is NODE_NAME right",
            ),
            (
                None,
                pod("web", "new"),
                "default/web with service account web, and the agent with new",
            ),
            (None, pod("db", "db"), "no default/db (service account db) on any node"),
        ];
        for (node, pod, want) in rows {
            let told = why(&world, node, "c1", &pod);
            assert!(told.contains(want), "{node:?}, {pod:?}: {told}");
        }
    }
}
