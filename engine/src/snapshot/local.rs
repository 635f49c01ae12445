//! Which workload a pod of this host is.
//!
//! Who enrols a pod names its workload by uid, or by what a node agent knows of it: name, namespace and service
//! account. Those three are looked for among the workloads of this host only, in an index of their own, so that a
//! hundred thousand workloads of other hosts cost nothing.

use std::fmt;
use std::sync::Arc;

use super::Snapshot;
use super::address::key_of;
use super::index::Index;
use super::workload::Workload;

/// What a pod's workload is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkloadKey {
    /// The workload's uid.
    Uid(Arc<str>),
    /// What it is called on this host.
    Local(Arc<LocalName>),
}

/// Name, namespace and service account of a workload of this host; all three have to fit.
#[derive(Debug, PartialEq, Eq)]
pub struct LocalName {
    key: u64,
    namespace: Box<str>,
    name: Box<str>,
    service_account: Box<str>,
}

/// Whose workloads a pod of this host may be, when it is named by [`LocalName`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Locals {
    /// No pod is named so.
    #[default]
    Nobody,
    /// Those of the host of this name.
    Of(Arc<str>),
    /// Those of all hosts: this one does not know its name.
    Everybody,
}

impl LocalName {
    /// A name.
    pub fn new(namespace: &str, name: &str, service_account: &str) -> LocalName {
        LocalName {
            key: local_key(namespace, name, service_account),
            namespace: namespace.into(),
            name: name.into(),
            service_account: service_account.into(),
        }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name of the pod.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The service account.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }

    fn is_of(&self, workload: &Workload) -> bool {
        *workload.name() == *self.name
            && *workload.namespace() == *self.namespace
            && *workload.service_account() == *self.service_account
    }
}

impl fmt::Display for LocalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, name, service_account, .. } = self;
        write!(f, "{namespace}/{name} with service account {service_account}")
    }
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkloadKey::Uid(uid) => f.write_str(uid),
            WorkloadKey::Local(name) => name.fmt(f),
        }
    }
}

impl Locals {
    fn include(&self, workload: &Workload) -> bool {
        match self {
            Locals::Nobody => false,
            Locals::Of(node) => **workload.node() == **node,
            Locals::Everybody => true,
        }
    }
}

impl Snapshot {
    /// The workload that a pod of this host is; a pod rather than anything else of that name.
    pub fn workload_of(&self, key: &WorkloadKey) -> Option<&Arc<Workload>> {
        match key {
            WorkloadKey::Uid(uid) => self.workload_by_uid(uid),
            WorkloadKey::Local(name) => {
                let named = self.locals.all(name.key).filter(|workload| name.is_of(workload));
                named.max_by_key(|workload| workload.is_pod())
            }
        }
    }

    /// The workloads that pods of this host may be, as [`Settings::locals`](super::Settings::locals) says.
    pub fn local_workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.locals.iter()
    }

    pub(super) fn add_local(&mut self, workload: &Arc<Workload>) {
        if self.settings.locals.include(workload) {
            self.locals.insert(key_of_workload(workload), workload);
        }
    }

    pub(super) fn remove_local(&mut self, workload: &Arc<Workload>) {
        if self.settings.locals.include(workload) {
            self.locals.remove_value(key_of_workload(workload), workload);
        }
    }

    /// Looks at every workload: other workloads are this host's from now on.
    pub(super) fn find_locals(&mut self) {
        self.locals = Index::default();
        if self.settings.locals != Locals::Nobody {
            let workloads = self.workloads.clone();
            workloads.iter().for_each(|workload| self.add_local(workload));
        }
    }
}

fn key_of_workload(workload: &Workload) -> u64 {
    local_key(workload.namespace(), workload.name(), workload.service_account())
}

fn local_key(namespace: &str, name: &str, service_account: &str) -> u64 {
    key_of((namespace, name, service_account))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{With, mesh, pod, upsert};
    use super::super::{Settings, WorkloadDescription};
    use super::*;

    fn on(node: &str, name: &str, ip: &str) -> WorkloadDescription {
        pod(name, ip).with(|pod| pod.node = node.to_owned())
    }

    fn key(name: &str, account: &str) -> WorkloadKey {
        WorkloadKey::Local(Arc::new(LocalName::new("shop", name, account)))
    }

    fn of(locals: Locals) -> Snapshot {
        let mut snapshot = mesh([], []);
        snapshot.set_settings(Settings { locals, ..Settings::new("") });
        for (node, name, ip) in [("a", "web-1", "10.1.0.1"), ("b", "web-2", "10.1.0.2")] {
            upsert(&mut snapshot, on(node, name, ip));
        }
        snapshot
    }

    #[test]
    fn a_pod_is_the_workload_of_its_host_that_fits_in_all_three() {
        let of_a = || Locals::Of("a".into());
        //  name                       whose                 key                   found
        let rows = [
            ("this host's", of_a(), key("web-1", "web"), true),
            ("another account", of_a(), key("web-1", "api"), false),
            ("another name", of_a(), key("web-3", "web"), false),
            ("another host's", of_a(), key("web-2", "web"), false),
            ("any host's", Locals::Everybody, key("web-2", "web"), true),
            ("nobody's", Locals::Nobody, key("web-1", "web"), false),
            ("by uid, any host's", of_a(), WorkloadKey::Uid("c1//Pod/shop/web-2".into()), true),
        ];
        for (name, locals, key, found) in rows {
            assert_eq!(of(locals).workload_of(&key).is_some(), found, "{name}");
        }
    }

    #[test]
    fn who_is_local_follows_every_change() {
        let mut snapshot = of(Locals::Of("a".into()));
        let names = |snapshot: &Snapshot| {
            let names = snapshot.local_workloads().map(|workload| workload.name().to_owned());
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        };
        assert_eq!(names(&snapshot), ["web-1"]);
        upsert(&mut snapshot, on("a", "web-2", "10.1.0.2"));
        assert_eq!(names(&snapshot), ["web-1", "web-2"], "it moved here");
        upsert(&mut snapshot, on("b", "web-1", "10.1.0.1"));
        assert_eq!(names(&snapshot), ["web-2"], "it moved away");
        let older = snapshot.clone();
        snapshot.remove_workload("c1//Pod/shop/web-2");
        assert_eq!(names(&snapshot), [""; 0]);
        assert_eq!(names(&older), ["web-2"], "an older clone stays as it was");
        snapshot.set_settings(Settings { locals: Locals::Of("b".into()), ..Settings::new("") });
        assert_eq!(names(&snapshot), ["web-1"], "another host's view");
    }

    #[test]
    fn a_pod_goes_before_anything_else_of_its_name() {
        let mut snapshot = of(Locals::Everybody);
        let entry = on("a", "web-1", "10.9.0.1").with(|entry| entry.uid = "entry/web-1".to_owned());
        upsert(&mut snapshot, entry);
        let found = snapshot.workload_of(&key("web-1", "web")).unwrap();
        assert_eq!(found.uid(), "c1//Pod/shop/web-1");
    }
}
