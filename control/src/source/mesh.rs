//! What a configuration means: the result of loading one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use ringway_engine::snapshot::Snapshot;
use ringway_protocols::identity::Identity;

use super::diagnostics::Diagnostics;
use super::node::config::NodeConfig;

/// A configuration without a mistake.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// The settings of this node.
    pub node: NodeConfig,
    /// The mesh, without anybody's credentials.
    pub snapshot: Snapshot,
    /// The workloads this node captures.
    pub enrollments: Vec<WorkloadEnrollment>,
    /// What is allowed but probably not meant.
    pub warnings: Diagnostics,
    /// What is configured at L7.
    #[cfg(feature = "waypoint")]
    pub http: ringway_http::model::HttpConfig,
    /// What became of the objects of the Gateway API.
    #[cfg(feature = "waypoint")]
    pub status: Vec<super::ObjectStatus>,
    /// How many policies that say who may come in are attached to what has no waypoint.
    #[cfg(feature = "waypoint")]
    pub unenforced: usize,
}

/// A workload this node captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadEnrollment {
    /// The id of the workload in the snapshot.
    pub uid: Arc<str>,
    /// Who it is.
    pub identity: Identity,
    /// Where its sockets are.
    pub network_namespace: NetworkNamespace,
}

/// The network namespace of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkNamespace {
    /// The one that is bound to this file.
    Path(PathBuf),
    /// The one this process is in.
    Own,
}

/// What has to be done to get from one configuration's enrollments to another's. Withdraw first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnrollmentChanges {
    /// Ids of workloads that are no longer captured, or not as they were.
    pub withdraw: Vec<Arc<str>>,
    /// Workloads that are now captured, or captured otherwise.
    pub enroll: Vec<WorkloadEnrollment>,
}

impl EnrollmentChanges {
    /// The difference between two configurations; what is the same in both is left alone.
    pub fn between(old: &[WorkloadEnrollment], new: &[WorkloadEnrollment]) -> EnrollmentChanges {
        EnrollmentChanges {
            withdraw: missing_from(new, old).map(|old| old.uid.clone()).collect(),
            enroll: missing_from(old, new).cloned().collect(),
        }
    }

    /// Whether nothing has to be done.
    pub fn is_empty(&self) -> bool {
        self.withdraw.is_empty() && self.enroll.is_empty()
    }
}

/// Those of `these` that are not, exactly so, among `those`.
fn missing_from<'e>(
    those: &'e [WorkloadEnrollment],
    these: &'e [WorkloadEnrollment],
) -> impl Iterator<Item = &'e WorkloadEnrollment> {
    let those: HashMap<&str, &WorkloadEnrollment> =
        those.iter().map(|each| (&*each.uid, each)).collect();
    these.iter().filter(move |each| those.get(&*each.uid) != Some(each))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enrollment(name: &str, path: &str) -> WorkloadEnrollment {
        WorkloadEnrollment {
            uid: format!("Kubernetes//Pod/shop/{name}").into(),
            identity: Identity::new("cluster.local", "shop", name).unwrap(),
            network_namespace: NetworkNamespace::Path(path.into()),
        }
    }

    #[test]
    fn only_what_differs_changes() {
        let old = [enrollment("same", "/a"), enrollment("moved", "/b"), enrollment("gone", "/c")];
        let new = [enrollment("new", "/d"), enrollment("moved", "/e"), enrollment("same", "/a")];
        let changes = EnrollmentChanges::between(&old, &new);
        let names: Vec<&str> =
            changes.withdraw.iter().map(|uid| &uid["Kubernetes//Pod/shop/".len()..]).collect();
        assert_eq!(names, ["moved", "gone"]);
        assert_eq!(changes.enroll, [enrollment("new", "/d"), enrollment("moved", "/e")]);
        assert!(EnrollmentChanges::between(&new, &new).is_empty());
    }
}
