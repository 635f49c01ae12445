//! A `Node` that captures here what one host captures there.

use std::collections::{BTreeMap, BTreeSet};

use ringway_engine::snapshot::{NetworkMode, TunnelProtocol, Workload};
use serde_json::{Value, json};

use super::{ImportError, ImportOptions};

/// Where namespaces are looked for when nothing is said: as `ip netns add NAME` makes them.
const NETWORK_NAMESPACE: &str = "{name}";

pub(super) struct Node {
    pub(super) document: String,
    pub(super) captured: usize,
}

/// What of a workload is looked at here, as a local file would say it.
pub(super) fn described(workload: &Workload) -> Value {
    json!({
        "name": workload.name(),
        "namespace": workload.namespace(),
        "node": **workload.node(),
        "network": **workload.network(),
        "trustDomain": workload.trust_domain(),
        "clusterId": **workload.cluster(),
        "protocol": if workload.protocol() == TunnelProtocol::Hbone { "HBONE" } else { "TCP" },
        "networkMode": match workload.network_mode() {
            NetworkMode::HostNetwork => "HostNetwork",
            NetworkMode::Standard => "Standard",
        },
    })
}

/// The Node of this name, with its workloads that are in the mesh and have an address of their own.
pub(super) fn node(
    name: &str,
    workloads: &[Value],
    options: &ImportOptions,
) -> Result<Node, ImportError> {
    let text = |workload: &Value, key: &str| workload[key].as_str().unwrap_or_default().to_owned();
    let is_captured = |workload: &&Value| {
        text(workload, "node") == name
            && text(workload, "protocol").eq_ignore_ascii_case("HBONE")
            && !text(workload, "networkMode").eq_ignore_ascii_case("HostNetwork")
    };
    let captured: Vec<&Value> = workloads.iter().filter(is_captured).collect();
    let Some(first) = captured.first() else {
        let nodes: BTreeSet<String> =
            workloads.iter().map(|one| text(one, "node")).filter(|node| !node.is_empty()).collect();
        return Err(ImportError::NoSuchNode(name.to_owned(), nodes.into_iter().collect()));
    };
    let pattern = options.network_namespace.as_deref().unwrap_or(NETWORK_NAMESPACE);
    let names =
        captured.iter().map(|workload| (text(workload, "name"), text(workload, "namespace")));
    let paths = paths(pattern, names).map_err(ImportError::Pattern)?;
    let entries: Vec<Value> = paths
        .into_iter()
        .map(|(path, (name, namespace))| {
            json!({"name": name, "namespace": namespace, "networkNamespace": path})
        })
        .collect();
    let document = json!({
        "apiVersion": "ringway.dev/v1alpha1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {
            "network": text(first, "network"),
            "trustDomain": text(first, "trustDomain"),
            "cluster": text(first, "clusterId"),
            "certificateAuthority": {"directory": "./ca"},
            "workloads": entries,
        },
    });
    let document = serde_json::to_string_pretty(&document).expect("plain data serializes") + "\n";
    Ok(Node { document, captured: captured.len() })
}

/// Where the network namespace of each workload of one host is, by its name and namespace; or why that cannot be told.
fn paths(
    pattern: &str,
    workloads: impl Iterator<Item = (String, String)>,
) -> Result<BTreeMap<String, (String, String)>, String> {
    let other = pattern.replace("{name}", "").replace("{namespace}", "");
    if other.contains(['{', '}']) {
        return Err(format!(
            "`--network-namespace {pattern}`: in braces stand `{{name}}` or `{{namespace}}`, and nothing else"
        ));
    }
    let mut paths: BTreeMap<String, (String, String)> = BTreeMap::new();
    for (name, namespace) in workloads {
        let path = pattern.replace("{name}", &name).replace("{namespace}", &namespace);
        if let Some((other, others)) = paths.get(&path) {
            return Err(format!(
                "`--network-namespace {pattern}` leads to `{path}` for {others}/{other} and for {namespace}/{name}, and each \
                 has one of its own: give a pattern with both names, such as '{{namespace}}-{{name}}'"
            ));
        }
        paths.insert(path, (name, namespace));
    }
    Ok(paths)
}
