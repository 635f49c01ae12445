//! The workloads a Node document captures.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::source::context::Context;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::yaml::fields::{Fields, mapping};
use crate::source::yaml::scalars::{name, nonempty};
use crate::source::yaml::value::Value;

/// Where `ip netns` keeps the namespaces it names.
const NETWORK_NAMESPACES: &str = "/var/run/netns";

/// A workload of this node that Ringway captures.
pub(crate) struct CapturedWorkload {
    /// Of the name.
    pub(crate) place: Place,
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
    /// `None`: the namespace the process is in.
    pub(crate) network_namespace: Option<PathBuf>,
}

pub(crate) fn captured(
    value: &Value,
    directory: &Path,
    dedicated: bool,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<CapturedWorkload> {
    mapping("workloads[]", value, reporter, |fields| {
        let own = fields.required("name", name);
        let namespace = fields.optional("namespace", name).unwrap_or("default");
        let namespace = context.names.share_ref(namespace);
        let network_namespace = match dedicated {
            true => own_namespace(fields),
            false => fields
                .required("networkNamespace", nonempty)
                .map(|path| namespace_path(path, directory)),
        };
        let place = fields.value_place("name");
        Some(CapturedWorkload { place, name: own?.into(), namespace, network_namespace })
    })?
}

fn own_namespace(fields: &mut Fields<'_, '_>) -> Option<PathBuf> {
    if fields.value("networkNamespace").is_some() {
        let message = "a dedicated node is in the network namespace of its workload already";
        let problem = Problem::error(fields.place("networkNamespace"), message);
        fields.reporter.report(problem.help("leave this key out".to_owned()));
    }
    None
}

/// A bare name is one that `ip netns` knows.
fn namespace_path(path: &str, directory: &Path) -> PathBuf {
    match path.contains('/') {
        true => directory.join(path),
        false => Path::new(NETWORK_NAMESPACES).join(path),
    }
}

pub(crate) fn report_shared_namespaces(workloads: &[CapturedWorkload], reporter: &mut Reporter) {
    let mut order: Vec<&CapturedWorkload> =
        workloads.iter().filter(|workload| workload.network_namespace.is_some()).collect();
    order.sort_by_key(|workload| (&workload.network_namespace, workload.place));
    for pair in order.windows(2) {
        if pair[0].network_namespace == pair[1].network_namespace {
            let message =
                format!("`{}` has the network namespace of another workload", pair[1].name);
            let problem = Problem::error(pair[1].place, message);
            reporter.report(problem.related(pair[0].place, "the other one"));
        }
    }
}
