//! Describes a Pod, WorkloadEntry or endpoint as Istio's control plane would.

use std::collections::HashMap;
use std::sync::Arc;

use ringway_engine::snapshot::{
    Health, Locality, Membership, NetworkMode, TunnelProtocol, WorkloadDescription, WorkloadType,
};

use super::nodes::Placement;
use crate::source::diagnostics::suggest::did_you_mean;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::objects::{NamespaceObject, Origin, Owner, Template, WorkloadObject, find};

/// Whether a workload is part of the mesh: `ambient` or `none`.
const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";

/// What namespaces say about their workloads.
pub(super) struct Workloads<'n> {
    modes: HashMap<&'n str, &'n Arc<str>>,
}

impl<'n> Workloads<'n> {
    pub(super) fn new(namespaces: &'n [NamespaceObject], reporter: &mut Reporter) -> Workloads<'n> {
        let mut modes = HashMap::new();
        for namespace in namespaces {
            report_labels(namespace.place, |key| find(&namespace.labels, key), reporter);
            if let Some(mode) = find(&namespace.labels, DATAPLANE_MODE) {
                modes.insert(&*namespace.name, mode);
            }
        }
        Workloads { modes }
    }

    pub(super) fn description(
        &self,
        name: &str,
        object: &WorkloadObject,
        placement: Placement<'_>,
        services: Vec<Membership>,
        reporter: &mut Reporter,
    ) -> WorkloadDescription {
        let template = &*object.template;
        report_labels(object.place, |key| template.label(key), reporter);
        report_contradictions(object, placement, reporter);
        let (workload_name, workload_type) = workload_name(name, template);
        let config = placement.config;
        let locality = template.locality.as_ref().unwrap_or(match placement.is_captured {
            true => &config.locality,
            false => &NOWHERE,
        });
        WorkloadDescription {
            uid: uid(&config.cluster, template, name),
            name: name.into(),
            namespace: template.namespace.as_ref().into(),
            service_account: template.service_account.as_ref().into(),
            trust_domain: config.trust_domain.as_ref().into(),
            network: template.network.as_ref().unwrap_or(&config.network).as_ref().into(),
            cluster: config.cluster.as_ref().into(),
            node: node(object, placement).into(),
            locality: parse_locality(locality),
            addresses: object.addresses.as_slice().to_vec(),
            hostname: object.addresses.hostname().to_owned(),
            protocol: self.protocol(template, placement),
            network_mode: match template.host_network {
                true => NetworkMode::HostNetwork,
                false => NetworkMode::Standard,
            },
            health: if template.ready { Health::Healthy } else { Health::Unhealthy },
            capacity: template.weight,
            canonical_name: canonical_name(template, &workload_name),
            canonical_revision: canonical_revision(template),
            workload_name,
            workload_type,
            services,
            ..WorkloadDescription::default()
        }
    }

    fn protocol(&self, template: &Template, placement: Placement<'_>) -> TunnelProtocol {
        let mode = template
            .label(DATAPLANE_MODE)
            .or_else(|| self.modes.get(&*template.namespace).copied());
        let is_member = match mode.map(|mode| &**mode) {
            // An endpoint that is only listed is no workload of this mesh.
            _ if template.host_network || template.listed_by.is_some() => false,
            Some("ambient") => true,
            Some("none") => placement.is_captured,
            _ => placement.is_captured || template.captured,
        };
        if is_member { TunnelProtocol::Hbone } else { TunnelProtocol::Tcp }
    }
}

fn report_labels<'l>(
    place: crate::source::diagnostics::Place,
    label: impl Fn(&str) -> Option<&'l Arc<str>>,
    reporter: &mut Reporter,
) {
    if let Some(mode) = label(DATAPLANE_MODE).filter(|mode| !matches!(&***mode, "ambient" | "none"))
    {
        let message = format!("the label `{DATAPLANE_MODE}: {mode}` has no effect");
        let help = did_you_mean(mode, ["ambient", "none"]);
        reporter.report(Problem::warning(place, message).help(help));
    }
}

fn report_contradictions(
    object: &WorkloadObject,
    placement: Placement<'_>,
    reporter: &mut Reporter,
) {
    if !placement.is_captured {
        return;
    }
    let template = &*object.template;
    let name = &placement.config.name;
    let mut report = |message| reporter.report(Problem::error(object.place, message));
    if template.label(DATAPLANE_MODE).is_some_and(|mode| &**mode == "none") {
        report(format!(
            "the Node `{name}` captures this workload, but its label `{DATAPLANE_MODE}` is `none`"
        ));
    }
    if !object.addresses.hostname().is_empty() {
        report(format!(
            "the Node `{name}` captures this workload, but its address is a name: `{}`",
            object.addresses.hostname()
        ));
    }
    if template.host_network {
        report(format!(
            "the Node `{name}` captures this workload, but it is in the network namespace of its host"
        ));
    }
    if let Some(node) = object.node.as_ref().filter(|node| *node != name) {
        report(format!("the Node `{name}` captures this workload, but its `nodeName` is `{node}`"));
    }
}

static NOWHERE: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| "".into());

fn uid(cluster: &str, template: &Template, name: &str) -> String {
    let namespace = &template.namespace;
    match template.origin {
        Origin::Pod => format!("{cluster}//Pod/{namespace}/{name}"),
        Origin::WorkloadEntry => {
            format!("{cluster}/networking.istio.io/WorkloadEntry/{namespace}/{name}")
        }
        Origin::EndpointSlice => {
            format!("{cluster}/discovery.k8s.io/EndpointSlice/{namespace}/{name}")
        }
        Origin::ServiceEntry => {
            format!("{cluster}/networking.istio.io/ServiceEntry/{namespace}/{name}")
        }
    }
}

fn node<'o>(object: &'o WorkloadObject, placement: Placement<'o>) -> &'o str {
    match &object.node {
        Some(node) => node,
        None if placement.is_captured => &placement.config.name,
        None => "",
    }
}

fn parse_locality(text: &str) -> Locality {
    let mut parts = text.split('/').map(Arc::from);
    let mut next = || parts.next().unwrap_or_default();
    Locality { region: next(), zone: next(), subzone: next() }
}

fn canonical_name(template: &Template, workload_name: &str) -> String {
    ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]
        .iter()
        .find_map(|key| template.label(key).filter(|name| !name.is_empty()))
        .map_or(workload_name, |name| name)
        .to_owned()
}

fn canonical_revision(template: &Template) -> String {
    ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]
        .iter()
        .find_map(|key| template.label(key).filter(|revision| !revision.is_empty()))
        .map_or("latest", |revision| revision)
        .to_owned()
}

/// What made the workload; a Pod that nothing made stands for itself.
fn workload_name(name: &str, template: &Template) -> (String, WorkloadType) {
    let (made_by, kind) = match &template.owner {
        Some(owner) => controller(owner, template),
        None => (name.to_owned(), WorkloadType::Pod),
    };
    match template.label("service.istio.io/workload-name").filter(|name| !name.is_empty()) {
        Some(label) => (label.as_ref().into(), kind),
        None => (made_by, kind),
    }
}

/// A ReplicaSet is made by a Deployment, whose name it extends by a hash; a Job perhaps by a CronJob, by the time.
fn controller(owner: &Owner, template: &Template) -> (String, WorkloadType) {
    let name = &*owner.name;
    match &*owner.kind {
        "ReplicaSet" => {
            let hash = template.label("pod-template-hash");
            let deployment = hash.and_then(|hash| name.strip_suffix(&**hash)?.strip_suffix('-'));
            match deployment {
                Some(deployment) => (deployment.to_owned(), WorkloadType::Deployment),
                None => (name.to_owned(), WorkloadType::Pod),
            }
        }
        "Deployment" => (name.to_owned(), WorkloadType::Deployment),
        "CronJob" => (name.to_owned(), WorkloadType::CronJob),
        "Job" => match cron_job(name) {
            Some(cron_job) => (cron_job.to_owned(), WorkloadType::CronJob),
            None => (name.to_owned(), WorkloadType::Job),
        },
        _ => (name.to_owned(), WorkloadType::Pod),
    }
}

fn cron_job(job: &str) -> Option<&str> {
    let (name, time) = job.rsplit_once('-')?;
    let is_time = matches!(time.len(), 8..=10) && time.bytes().all(|byte| byte.is_ascii_digit());
    (is_time && !name.is_empty()).then_some(name)
}
