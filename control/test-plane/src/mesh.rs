//! The mesh as the files say it: what is told through xDS, and which pods the agent of each node has.
//!
//! The files are Ringway's own, so that one mesh serves both ways of running it: a `Node` document's `workloads` are
//! the pods that istio-cni would know, their `networkNamespace` the namespace it would have opened.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use ringway_control::source::{self, NetworkNamespace, Source};
use ringway_engine::snapshot::Snapshot;
use ringway_http::model::HttpConfig;
use serde::{Deserialize, Serialize};

/// What the files say.
pub(crate) struct Mesh {
    /// Workloads, services and policies.
    pub(crate) snapshot: Snapshot,
    /// The pods of all nodes that have an agent here.
    pub(crate) pods: Vec<Pod>,
    /// The cluster that callers must name.
    pub(crate) cluster: String,
    /// What is configured at L7.
    pub(crate) http: HttpConfig,
}

/// A pod as its node's agent knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pod {
    /// The Kubernetes uid, which is not the workload's uid in xDS.
    #[serde(default)]
    pub(crate) uid: String,
    /// Its name.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its service account.
    pub(crate) service_account: String,
    /// The node it runs on.
    pub(crate) node: String,
    /// Where its network namespace is mounted.
    pub(crate) network_namespace: PathBuf,
}

impl Mesh {
    /// Reads `sources` as each of `nodes` would.
    ///
    /// # Errors
    /// Every mistake, as text.
    pub(crate) fn load(sources: &[Source], nodes: &[String]) -> Result<Mesh> {
        let first = load(sources, nodes.first().map(String::as_str))?;
        let mut pods = Vec::new();
        for node in nodes {
            let config = load(sources, Some(node))?;
            pods.extend(config.enrollments.iter().filter_map(|enrollment| {
                let NetworkNamespace::Path(path) = &enrollment.network_namespace else {
                    return None;
                };
                let workload = config.snapshot.workload_by_uid(&enrollment.uid)?;
                let pod = Pod {
                    uid: String::new(),
                    name: workload.name().to_owned(),
                    namespace: workload.namespace().to_owned(),
                    service_account: workload.service_account().to_owned(),
                    node: node.clone(),
                    network_namespace: path.clone(),
                };
                Some(pod.with_uid())
            }));
        }
        let cluster = first.node.cluster.to_string();
        Ok(Mesh { snapshot: first.snapshot, pods, cluster, http: first.http })
    }
}

impl Pod {
    /// With a uid that follows from its name, unless it has one.
    #[must_use]
    pub(crate) fn with_uid(mut self) -> Pod {
        if self.uid.is_empty() {
            let (high, low) = (self.hash_with(1), self.hash_with(2));
            self.uid = format!(
                "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
                high >> 32,
                (high >> 16) & 0xffff,
                high & 0xffff,
                low >> 48,
                low & 0xffff_ffff_ffff
            );
        }
        self
    }

    fn hash_with(&self, salt: u8) -> u64 {
        let mut hasher = DefaultHasher::new();
        (salt, &self.namespace, &self.name).hash(&mut hasher);
        hasher.finish()
    }
}

fn load(sources: &[Source], node: Option<&str>) -> Result<source::MeshConfig> {
    source::load(sources, node).map_err(|diagnostics| anyhow!("{diagnostics}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: ringway.dev/v1alpha1
kind: Node
metadata: {name: host-a}
spec:
  workloads: [{name: web, networkNamespace: /run/netns/web}]
---
apiVersion: ringway.dev/v1alpha1
kind: Node
metadata: {name: host-b}
spec:
  workloads: [{name: db, networkNamespace: /run/netns/db}]
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec: {nodeName: host-a, serviceAccountName: web-account}
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: db}
spec: {nodeName: host-b, serviceAccountName: db-account}
status: {podIP: 10.2.0.1}
";

    #[test]
    fn every_node_has_its_pods_and_there_is_one_world() {
        let source = Source::Text { name: "mesh".to_owned(), text: FILE.to_owned() };
        let mesh = Mesh::load(&[source], &["host-a".to_owned(), "host-b".to_owned()]).unwrap();
        let pods: Vec<_> = mesh.pods.iter().map(|pod| (&*pod.node, &*pod.name)).collect();
        assert_eq!(pods, [("host-a", "web"), ("host-b", "db")]);
        assert_eq!(mesh.pods[1].service_account, "db-account");
        assert_eq!(mesh.pods[1].network_namespace, PathBuf::from("/run/netns/db"));
        assert_eq!(mesh.snapshot.workload_count(), 2);
        assert_eq!(mesh.cluster, "Kubernetes");
    }

    #[test]
    fn uids_look_like_kubernetes_and_stay_the_same() {
        let pod = |name: &str| {
            Pod {
                uid: String::new(),
                name: name.to_owned(),
                namespace: "default".to_owned(),
                service_account: "default".to_owned(),
                node: "host-a".to_owned(),
                network_namespace: PathBuf::from("/run/netns/x"),
            }
            .with_uid()
        };
        let parts: Vec<usize> = pod("one").uid.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(pod("one"), pod("one"));
        assert_ne!(pod("one").uid, pod("two").uid);
    }
}
