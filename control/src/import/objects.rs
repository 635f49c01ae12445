//! From the objects of a cluster, as `kubectl get -o yaml` prints them or a repository keeps them, to one file of ours.
//!
//! The objects stay what they are: what only the cluster's server needs is left out, and kinds that Ringway has no use for.
//! What the objects do not say, because Istio has another default than Ringway, is written.

use serde_json::{Value, json};

use super::{ImportError, Imported};
use crate::source::{self, Count, Kept, LeftOut, Sifted, Source};

/// What is understood of the files, and the documents for it.
pub(super) fn objects(sources: &[Source]) -> Result<(Sifted, Imported), ImportError> {
    let mut sifted = source::sift(sources).map_err(ImportError::Refused)?;
    let mut notes: Vec<String> =
        sifted.left_out.iter().map(|(why, count)| left_out(why, count)).collect();
    if sifted.kept.is_empty() {
        return Err(ImportError::NoObjects(notes));
    }
    notes.extend(permissive_by_default(&mut sifted.kept));
    let mut taken = std::collections::BTreeMap::new();
    for kept in &sifted.kept {
        *taken.entry(kept.kind.to_string()).or_default() += 1;
    }
    let snapshot = &sifted.mesh.snapshot;
    let imported = Imported {
        text: list(&sifted.kept),
        workloads: snapshot.workload_count(),
        services: snapshot.service_count(),
        policies: snapshot.policies().count(),
        captured: 0,
        taken: taken.into_iter().collect(),
        notes,
        warnings: sifted.mesh.warnings.clone(),
    };
    Ok((sifted, imported))
}

/// A line for each object, so that two imports can be compared.
fn list(kept: &[Kept]) -> String {
    let lines: Vec<&str> = kept.iter().map(|kept| &*kept.line).collect();
    let lines = lines.join(",\n");
    format!("{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [\n{lines}\n]}}\n")
}

/// The namespace whose policies are for the whole mesh, as Istio is installed.
const ROOT_NAMESPACE: &str = "istio-system";

/// Where nothing is said about clients without an identity, Istio lets them in and Ringway does not.
fn permissive_by_default(kept: &mut Vec<Kept>) -> Option<String> {
    // Somebody's own Nodes: these files were written for Ringway.
    if kept.iter().any(|kept| &*kept.kind == "Node") {
        return None;
    }
    let mut note = format!(
        "written, for it is Istio's default and not Ringway's: a PeerAuthentication in {ROOT_NAMESPACE} that lets in clients without \
         an identity wherever nothing else is said"
    );
    let of_mesh = kept.iter_mut().filter(|kept| &*kept.kind == "PeerAuthentication");
    for kept in of_mesh {
        let Ok(mut object) = serde_json::from_str::<Value>(&kept.line) else { continue };
        if object["metadata"]["namespace"] != ROOT_NAMESPACE || selects(&object["spec"]) {
            continue;
        }
        if !matches!(object["spec"]["mtls"]["mode"].as_str(), None | Some("UNSET")) {
            return None;
        }
        object["spec"]["mtls"] = json!({"mode": "PERMISSIVE"});
        kept.line = object.to_string().into();
        note += &format!(" (`{}` says nothing)", object["metadata"]["name"].as_str()?);
        return Some(note);
    }
    let object = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default-of-istio", "namespace": ROOT_NAMESPACE},
        "spec": {"mtls": {"mode": "PERMISSIVE"}},
    });
    kept.push(Kept { kind: "PeerAuthentication".into(), line: object.to_string().into() });
    Some(note)
}

fn selects(spec: &Value) -> bool {
    spec.get("selector").is_some_and(|selector| !selector.is_null())
}

/// What is made elsewhere, or is enforced elsewhere.
const KINDS: &[(&str, &str)] = &[
    ("CronJob", MAKES_PODS),
    ("DaemonSet", MAKES_PODS),
    ("Deployment", MAKES_PODS),
    ("Job", MAKES_PODS),
    ("ReplicaSet", MAKES_PODS),
    ("StatefulSet", MAKES_PODS),
    ("Endpoints", "EndpointSlices say the same"),
    ("VirtualService", "its routing is not read; an HTTPRoute is, a TLSRoute and a TCPRoute"),
    ("Ingress", "its routing is not read; a Gateway and its HTTPRoutes are"),
    ("Sidecar", "it configures sidecars, and there are none"),
    (
        "EnvoyFilter",
        "it changes Envoy's configuration, and there is no Envoy: what it does is not done",
    ),
    ("WasmPlugin", "it runs in Envoy, and there is none: what it does is not done"),
    ("Telemetry", "it is not read; flags and variables say what is logged and traced"),
    ("NetworkPolicy", "the cluster's network enforces it, before a connection comes to the mesh"),
];

const MAKES_PODS: &str = "it makes Pods, which are read: kubectl get pods -A -o yaml";

fn left_out(why: &LeftOut, count: &Count) -> String {
    let (what, reason) = match why {
        LeftOut::Kind { kind, version } => {
            let known = KINDS.iter().find(|(known, _)| known == kind);
            let reason = known.map_or("Ringway has no use for this kind", |(_, reason)| reason);
            (format!("{kind} ({version})"), reason.to_owned())
        }
        LeftOut::EndedPod => ("Pod".to_owned(), "it has ended, or has no address yet".to_owned()),
        LeftOut::ExternalName => {
            let reason = "it is an ExternalName, an alias for DNS that no proxy sees";
            ("Service".to_owned(), reason.to_owned())
        }
        LeftOut::SliceOfPods => {
            let reason = "its endpoints are Pods, which its Service selects";
            ("EndpointSlice".to_owned(), reason.to_owned())
        }
        LeftOut::Resolution(resolution) => {
            let reason = format!(
                "its resolution is {resolution}: connections to its hosts go where they go without it"
            );
            ("ServiceEntry".to_owned(), reason)
        }
        LeftOut::NoObject => {
            ("a document".to_owned(), "it is no object: it has no apiVersion and kind".to_owned())
        }
        LeftOut::EmptyFile => ("a file".to_owned(), "there is nothing in it".to_owned()),
    };
    let Count { times, names } = count;
    let more = if names.len() < *times && !names.is_empty() { ", …" } else { "" };
    let names = match names.is_empty() {
        true => String::new(),
        false => format!(" [{}{more}]", names.join(", ")),
    };
    let times = if *times == 1 { "once".to_owned() } else { format!("{times} times") };
    format!("left out: {what}, {times}: {reason}{names}")
}
