//! Which node this is, and which workloads the nodes capture.

use std::collections::HashMap;
use std::sync::Arc;

use ringway_engine::snapshot::{Snapshot, TunnelProtocol};

use crate::identity::{RevocationError, RevocationFiles};
use crate::source::diagnostics::suggest::{did_you_mean, one_of};
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::mesh::{NetworkNamespace, WorkloadEnrollment};
use crate::source::node::NodeDocument;
use crate::source::node::captured::CapturedWorkload;
use crate::source::node::config::NodeConfig;
use crate::source::objects::Unreadable;
use crate::source::world::World;

/// A workload that some node captures.
#[derive(Clone, Copy, Debug)]
pub(super) struct CaptureId(usize);

/// All nodes, seen from this one.
pub(super) struct Nodes<'n> {
    own: NodeConfig,
    own_document: Option<&'n NodeDocument>,
    captures: Vec<Capture<'n>>,
    by_name: HashMap<(&'n str, &'n str), CaptureId>,
}

struct Capture<'n> {
    node: &'n NodeDocument,
    workload: &'n CapturedWorkload,
    /// Once it was found.
    uid: Option<Arc<str>>,
}

/// What a workload has from the node it is on.
#[derive(Clone, Copy)]
pub(super) struct Placement<'n> {
    pub(super) config: &'n NodeConfig,
    /// Whether that node captures it; otherwise it is not known where it is, and `config` is this node's.
    pub(super) is_captured: bool,
}

impl<'n> Nodes<'n> {
    pub(super) fn new(
        documents: &'n [NodeDocument],
        name: Option<&str>,
        reporter: &mut Reporter,
    ) -> Nodes<'n> {
        let own_document = choose(documents, name, reporter);
        let own = match own_document {
            Some(document) => document.config.clone(),
            None => {
                let name = name.map_or_else(host_name, str::to_owned);
                NodeConfig { name: name.into(), ..NodeConfig::default() }
            }
        };
        let (captures, by_name) = (Vec::new(), HashMap::new());
        let mut nodes = Nodes { own, own_document, captures, by_name };
        for document in documents {
            document.workloads.iter().for_each(|workload| nodes.add(document, workload, reporter));
        }
        nodes
    }

    /// The settings of this node.
    pub(super) fn own(&self) -> &NodeConfig {
        &self.own
    }

    /// The capture of a workload, if there is one.
    pub(super) fn capture(&self, namespace: &str, name: &str) -> Option<CaptureId> {
        self.by_name.get(&(namespace, name)).copied()
    }

    pub(super) fn placement(&self, capture: Option<CaptureId>) -> Placement<'_> {
        match capture {
            Some(CaptureId(id)) => {
                Placement { config: &self.captures[id].node.config, is_captured: true }
            }
            None => Placement { config: &self.own, is_captured: false },
        }
    }

    /// There is such a workload.
    pub(super) fn found(&mut self, capture: Option<CaptureId>, uid: &str) {
        if let Some(CaptureId(id)) = capture {
            self.captures[id].uid = Some(uid.into());
        }
    }

    /// Finds captured workloads that local files described.
    pub(super) fn report_captured(&mut self, world: &World, reporter: &mut Reporter) {
        for workload in world.snapshot().workloads().filter(|each| world.describes(each)) {
            let capture = self.capture(workload.namespace(), workload.name());
            self.found(capture, workload.uid());
            if let (Some(CaptureId(id)), TunnelProtocol::Tcp) = (capture, workload.protocol()) {
                let CapturedWorkload { place, name, namespace, .. } = self.captures[id].workload;
                let message =
                    format!("`{namespace}/{name}` cannot be captured, its protocol is TCP");
                let help = "write `protocol: HBONE` where it is described".to_owned();
                reporter.report(Problem::error(*place, message).help(help));
            }
        }
    }

    /// Reports captured workloads that do not exist.
    pub(super) fn report_dangling(
        &self,
        snapshot: &Snapshot,
        unreadable: &Unreadable,
        reporter: &mut Reporter,
    ) {
        if unreadable.files {
            return;
        }
        for capture in self.captures.iter().filter(|capture| capture.uid.is_none()) {
            let CapturedWorkload { place, namespace, name, .. } = capture.workload;
            if unreadable.names.iter().any(|known| known == &(namespace.clone(), name.clone())) {
                continue;
            }
            let message = format!("there is no workload `{name}` in the namespace `{namespace}`");
            let mut help = nearest_workload(namespace, name, snapshot);
            if unreadable.nameless {
                help = Some("unless it is in the document that could not be read".to_owned());
            }
            reporter.report(Problem::error(*place, message).help(help));
        }
    }

    /// Reads this node's revocation lists, as a start would, and reports each that would keep it from starting. A file that
    /// is not here may be on the node's own host.
    pub(super) fn report_revocation_lists(&self, reporter: &mut Reporter) {
        let Some(own) = self.own_document else { return };
        for (place, path) in &own.revocation_lists {
            let Err(error) = RevocationFiles::open(None, std::slice::from_ref(path)) else {
                continue;
            };
            let problem = match &error {
                RevocationError::Io(..) => Problem::warning(*place, error.to_string())
                    .help("a node does not start without a list that it names".to_owned()),
                _ => Problem::error(*place, error.to_string()),
            };
            reporter.report(problem);
        }
    }

    /// What this node captures.
    pub(super) fn into_enrollments(self, snapshot: &Snapshot) -> Vec<WorkloadEnrollment> {
        let Some(own) = self.own_document else { return Vec::new() };
        let captures = self.captures.into_iter().filter(|capture| std::ptr::eq(capture.node, own));
        captures
            .filter_map(|Capture { workload, uid, .. }| {
                let uid = uid?;
                let identity = snapshot.workload_by_uid(&uid)?.identity().clone();
                let path = workload.network_namespace.clone();
                let network_namespace = path.map_or(NetworkNamespace::Own, NetworkNamespace::Path);
                Some(WorkloadEnrollment { uid, identity, network_namespace })
            })
            .collect()
    }

    fn add(
        &mut self,
        node: &'n NodeDocument,
        workload: &'n CapturedWorkload,
        reporter: &mut Reporter,
    ) {
        let CapturedWorkload { namespace, name, place, .. } = workload;
        if let Some(CaptureId(first)) = self.capture(namespace, name) {
            let message = format!("`{namespace}/{name}` is captured twice");
            let first = self.captures[first].workload.place;
            reporter.report(Problem::error(*place, message).related(first, "first captured here"));
            return;
        }
        self.by_name.insert((namespace, name), CaptureId(self.captures.len()));
        self.captures.push(Capture { node, workload, uid: None });
    }
}

fn choose<'n>(
    documents: &'n [NodeDocument],
    name: Option<&str>,
    reporter: &mut Reporter,
) -> Option<&'n NodeDocument> {
    let first = documents.first()?;
    let host_name = host_name();
    let wanted = name.unwrap_or(&host_name);
    let found = documents.iter().find(|document| *document.config.name == *wanted);
    if found.is_some() || (name.is_none() && documents.len() == 1) {
        return found.or(Some(first));
    }
    let names = || documents.iter().map(|document| &*document.config.name);
    let (message, help) = match name {
        Some(name) => (format!("there is no Node `{name}`"), did_you_mean(name, names())),
        None => (format!("several Nodes, and none is named as this host, `{wanted}`"), None),
    };
    let help = help.unwrap_or_else(|| format!("say which one this is: {}", one_of(names())));
    reporter.report(Problem::error(first.place, message).help(help));
    Some(first)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

fn nearest_workload(namespace: &str, name: &str, snapshot: &Snapshot) -> Option<String> {
    let mut names: Vec<&str> = snapshot
        .workloads()
        .filter(|workload| workload.namespace() == namespace)
        .map(|workload| workload.name())
        .collect();
    names.sort_unstable();
    if let Some(help) = did_you_mean(name, names) {
        return Some(help);
    }
    let mut elsewhere = snapshot.workloads().filter(|workload| workload.name() == name);
    elsewhere
        .next()
        .map(|workload| format!("there is one in the namespace `{}`", workload.namespace()))
}
