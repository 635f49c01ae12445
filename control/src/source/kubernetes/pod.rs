//! `v1 Pod`: a workload with an address of its own.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Metadata, metadata};
use crate::source::context::Context;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::objects::{Addresses, Origin, Template, WorkloadObject, find};
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{boolean, ip, name, nonempty, port, text};
use crate::source::yaml::value::Value;

/// `Some(None)`: a Pod that has run to its end, or has not begun to run.
pub(crate) fn pod(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<Option<(Arc<str>, WorkloadObject)>> {
    mapping("Pod", value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind"]);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        let spec = fields.optional("spec", |value, reporter| spec(value, context, reporter));
        let status = fields.required("status", status);
        Some(object(metadata?, spec.unwrap_or_default(), status?, context))
    })?
}

fn object(
    metadata: Metadata,
    spec: Spec,
    status: Status,
    context: &mut Context,
) -> Option<(Arc<str>, WorkloadObject)> {
    if !status.runs {
        return None;
    }
    let redirection = find(&metadata.annotations, "ambient.istio.io/redirection");
    let template = Template {
        origin: Origin::Pod,
        namespace: metadata.namespace,
        service_account: spec.service_account.unwrap_or_else(|| context.names.share_ref("default")),
        captured: redirection.is_some_and(|redirection| &**redirection == "enabled"),
        labels: metadata.labels,
        listed_by: None,
        only_host: None,
        owner: metadata.owner,
        ports: spec.ports.into(),
        ready: status.ready,
        host_network: spec.host_network,
        network: None,
        locality: None,
        weight: 1,
    };
    let object = WorkloadObject {
        place: metadata.place,
        addresses: status.addresses,
        node: spec.node,
        template: context.templates.share(template),
    };
    Some((metadata.name, object))
}

#[derive(Default)]
struct Spec {
    node: Option<Arc<str>>,
    service_account: Option<Arc<str>>,
    ports: Vec<(Arc<str>, u16)>,
    host_network: bool,
}

fn spec(value: &Value, context: &mut Context, reporter: &mut Reporter) -> Option<Spec> {
    mapping("spec", value, reporter, |fields| {
        fields.ignore(SPEC_IGNORED);
        let mut ports = Vec::new();
        for key in ["containers", "initContainers"] {
            let found =
                fields.optional(key, |value, reporter| containers(value, context, reporter));
            ports.extend(found.into_iter().flatten());
        }
        ports.sort();
        ports.dedup();
        let node = fields.optional("nodeName", name);
        let service_account = fields.optional("serviceAccountName", name);
        Spec {
            node: node.map(|name| context.names.share_ref(name)),
            service_account: service_account.map(|name| context.names.share_ref(name)),
            ports,
            host_network: fields.optional("hostNetwork", boolean).unwrap_or(false),
        }
    })
}

const SPEC_IGNORED: &[&str] = &[
    "activeDeadlineSeconds",
    "affinity",
    "automountServiceAccountToken",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "ephemeralContainers",
    "hostAliases",
    "hostIPC",
    "hostPID",
    "hostUsers",
    "hostname",
    "hostnameOverride",
    "imagePullSecrets",
    "nodeSelector",
    "os",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "resourceClaims",
    "resources",
    "restartPolicy",
    "runtimeClassName",
    "schedulerName",
    "schedulingGates",
    "securityContext",
    "serviceAccount",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "subdomain",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
];

/// The named ports of all containers.
fn containers(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<Vec<(Arc<str>, u16)>> {
    let containers = list(value, reporter, |value, reporter| {
        mapping("containers[]", value, reporter, |fields| {
            fields.ignore(CONTAINER_IGNORED);
            fields.optional("name", nonempty);
            fields.optional("ports", |value, reporter| {
                list(value, reporter, |value, reporter| container_port(value, context, reporter))
            })
        })
    })?;
    Some(containers.into_iter().flatten().flatten().flatten().collect())
}

const CONTAINER_IGNORED: &[&str] = &[
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "readinessProbe",
    "resizePolicy",
    "resources",
    "restartPolicy",
    "restartPolicyRules",
    "securityContext",
    "startupProbe",
    "stdin",
    "stdinOnce",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "volumeDevices",
    "volumeMounts",
    "workingDir",
];

/// `Some(None)`: a port without a name, which nobody refers to.
fn container_port(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<Option<(Arc<str>, u16)>> {
    mapping("ports[]", value, reporter, |fields| {
        fields.ignore(&["hostIP", "hostPort", "protocol"]);
        let name = fields.optional("name", nonempty);
        let port = fields.required("containerPort", port)?;
        Some(name.map(|name| (context.names.share_ref(name), port)))
    })?
}

struct Status {
    addresses: Addresses,
    ready: bool,
    /// It has an address and may have connections.
    runs: bool,
}

fn status(value: &Value, reporter: &mut Reporter) -> Option<Status> {
    mapping("status", value, reporter, |fields| {
        fields.ignore(STATUS_IGNORED);
        let phase = fields.optional("phase", text).unwrap_or("Running").to_owned();
        let ready = fields.optional("conditions", ready).flatten().unwrap_or(true);
        let addresses = addresses(fields);
        let runs = phase == "Running" || (phase == "Pending" && !addresses.is_empty());
        if runs && addresses.is_empty() {
            report_no_address(fields);
            return None;
        }
        Some(Status { addresses: addresses.into(), ready: ready && phase == "Running", runs })
    })?
}

const STATUS_IGNORED: &[&str] = &[
    "allocatedResources",
    "containerStatuses",
    "ephemeralContainerStatuses",
    "extendedResourceClaimStatus",
    "hostIP",
    "hostIPs",
    "initContainerStatuses",
    "message",
    "nominatedNodeName",
    "observedGeneration",
    "qosClass",
    "reason",
    "resize",
    "resourceClaimStatuses",
    "resources",
    "startTime",
];

fn addresses(fields: &mut Fields<'_, '_>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = fields.optional("podIP", ip).into_iter().collect();
    let more = fields.optional("podIPs", |value, reporter| {
        list(value, reporter, |value, reporter| {
            mapping("podIPs[]", value, reporter, |fields| fields.required("ip", ip))?
        })
    });
    for address in more.into_iter().flatten() {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// A wrong address was reported already; only one that is not there is missing.
fn report_no_address(fields: &mut Fields<'_, '_>) {
    if fields.value("podIP").is_none() && fields.value("podIPs").is_none() {
        fields.required("podIP", ip);
    }
}

/// What the `Ready` condition says.
fn ready(value: &Value, reporter: &mut Reporter) -> Option<Option<bool>> {
    let conditions = list(value, reporter, |value, reporter| {
        mapping("conditions[]", value, reporter, |fields| {
            fields.ignore(&[
                "lastProbeTime",
                "lastTransitionTime",
                "message",
                "observedGeneration",
                "reason",
            ]);
            let kind = fields.required("type", nonempty)?.to_owned();
            let place = fields.value_place("status");
            let status = fields.required("status", text)?;
            if !matches!(status, "True" | "False" | "Unknown") {
                let message = "expected `True`, `False` or `Unknown`";
                fields.reporter.report(Problem::error(place, message));
            }
            Some((kind, status == "True"))
        })?
    })?;
    Some(conditions.into_iter().find(|(kind, _)| kind == "Ready").map(|(_, status)| status))
}
