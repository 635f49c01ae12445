//! From a dump to ztunnel's local file.
//!
//! Both say the same in nearly the same words. The dump has lists or mappings where the file has lists; it tells beside each service
//! which workloads are its endpoints and on which ports, where the file tells that beside the workload.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::ImportError;

/// The lists of a local file.
pub(super) struct LocalFile {
    pub(super) workloads: Vec<Value>,
    pub(super) services: Vec<Value>,
    pub(super) policies: Vec<Value>,
}

impl LocalFile {
    /// A line for each entry, so that two imports can be compared.
    pub(super) fn into_text(self) -> String {
        let lists = [
            ("workloads", self.workloads),
            ("services", self.services),
            ("policies", self.policies),
        ];
        let mut text = String::from("{\n");
        for (index, (name, list)) in lists.into_iter().enumerate() {
            text += if index > 0 { ",\n" } else { "" };
            text += &format!("\"{name}\": [\n");
            let lines: Vec<String> = list.iter().map(Value::to_string).collect();
            text += &lines.join(",\n");
            text += "\n]";
        }
        text + "\n}\n"
    }
}

/// What a file says of a workload; everything but its services, which are put together.
const WORKLOAD_KEYS: &[&str] = &[
    "applicationTunnel",
    "authorizationPolicies",
    "canonicalName",
    "canonicalRevision",
    "capacity",
    "clusterId",
    "hostname",
    "locality",
    "name",
    "namespace",
    "nativeTunnel",
    "network",
    "networkGateway",
    "networkMode",
    "node",
    "protocol",
    "serviceAccount",
    "status",
    "trustDomain",
    "uid",
    "waypoint",
    "workloadIps",
    "workloadName",
    "workloadType",
];

/// What a file says of a service; everything but its addresses, which are put together.
const SERVICE_KEYS: &[&str] = &[
    "canonical",
    "hostname",
    "ingressUseWaypoint",
    "ipFamilies",
    "loadBalancer",
    "name",
    "namespace",
    "ports",
    "subjectAltNames",
    "visibility",
    "waypoint",
    "weightedWaypoints",
];

const POLICY_KEYS: &[&str] = &["action", "dryRun", "name", "namespace", "rules", "scope"];

/// Parts of a dump that say how one process is, not what the mesh is.
const OF_THE_PROCESS: &[&str] = &["certificates", "workloadState", "config", "version"];

/// What a control plane leaves out of a workload because it goes without saying.
const WORKLOAD_DEFAULTS: &[(&str, &str)] =
    &[("trustDomain", "cluster.local"), ("serviceAccount", "default"), ("clusterId", "Kubernetes")];

/// Ports of a workload as endpoint of a service: uid, then `namespace/hostname`, then service port to own port.
type Memberships = BTreeMap<String, BTreeMap<String, Map<String, Value>>>;

pub(super) fn local_file(dump: &Value, notes: &mut Vec<String>) -> Result<LocalFile, ImportError> {
    let Value::Object(top) = dump else {
        return Err(ImportError::NotADump("it is not an object".to_owned()));
    };
    let mut left_out = LeftOut::default();
    let services = entries(top, "services")?;
    let memberships = memberships(top, &services)?;
    let workloads = entries(top, "workloads")?
        .into_iter()
        .map(|one| workload(one, &memberships, &mut left_out))
        .collect::<Result<_, _>>()?;
    let services =
        services.into_iter().map(|one| service(one, &mut left_out)).collect::<Result<_, _>>()?;
    let policies = match find(top, "policies") {
        Some(_) => entries(top, "policies")?,
        None => {
            notes.push("the dump has no policies: whoever has an identity may connect".to_owned());
            Vec::new()
        }
    };
    let policies = policies.into_iter().map(|one| policy(one, &mut left_out)).collect();
    let of_process = OF_THE_PROCESS.iter().filter(|key| find(top, key).is_some());
    let of_process: Vec<&str> = of_process.copied().collect();
    if !of_process.is_empty() {
        let parts = of_process.join(", ");
        notes.push(format!("left out, for it is about the process that was asked: {parts}"));
    }
    if find(top, "staticConfig").is_some_and(|value| !value.is_null()) {
        notes.push(
            "left out, for it is among the workloads, services and policies: staticConfig"
                .to_owned(),
        );
    }
    left_out.tell(notes);
    Ok(LocalFile { workloads, services, policies })
}

fn workload(
    workload: &Map<String, Value>,
    memberships: &Memberships,
    left_out: &mut LeftOut,
) -> Result<Value, ImportError> {
    let mut read = keep(workload, WORKLOAD_KEYS);
    left_out.other_keys("workloads", workload, WORKLOAD_KEYS, &["services"]);
    for (key, default) in WORKLOAD_DEFAULTS {
        read.entry(*key).or_insert_with(|| json!(default));
    }
    read.entry("workloadIps").or_insert_with(|| json!([]));
    let uid = text(workload, "uid")?;
    let mut services = memberships.get(uid).cloned().unwrap_or_default();
    // A dump names all services of a workload, and tells the ports of those it is ready to serve.
    for name in find(workload, "services").and_then(Value::as_array).into_iter().flatten() {
        if let Some(name) = name.as_str()
            && !services.contains_key(name)
        {
            left_out.without_ports += 1;
            services.insert(name.to_owned(), Map::new());
        }
    }
    read.insert("services".to_owned(), json!(services));
    Ok(Value::Object(read))
}

fn service(service: &Map<String, Value>, left_out: &mut LeftOut) -> Result<Value, ImportError> {
    let mut read = keep(service, SERVICE_KEYS);
    left_out.other_keys("services", service, SERVICE_KEYS, &["vips", "cidrVips", "endpoints"]);
    read.entry("ports").or_insert_with(|| json!({}));
    let mut vips = match find(service, "vips") {
        Some(Value::Array(vips)) => vips.clone(),
        _ => Vec::new(),
    };
    for vip in find(service, "cidrVips").and_then(Value::as_array).into_iter().flatten() {
        let vip = object(vip, "cidrVips")?;
        let network = find(vip, "network").and_then(Value::as_str).unwrap_or_default();
        vips.push(json!(format!("{network}/{}", text(vip, "cidr")?)));
    }
    read.insert("vips".to_owned(), Value::Array(vips));
    Ok(Value::Object(read))
}

fn policy(policy: &Map<String, Value>, left_out: &mut LeftOut) -> Value {
    left_out.other_keys("policies", policy, POLICY_KEYS, &[]);
    let mut read = keep(policy, POLICY_KEYS);
    read.entry("dryRun").or_insert(json!(false));
    read.entry("rules").or_insert_with(|| json!([]));
    Value::Object(read)
}

/// From beside the services, and from beside those that are not there.
fn memberships(
    top: &Map<String, Value>,
    services: &[&Map<String, Value>],
) -> Result<Memberships, ImportError> {
    let mut memberships = Memberships::new();
    let mut add = |service: String, endpoints: &Value| {
        let all: Vec<(&str, &Value)> = match endpoints {
            Value::Object(endpoints) => endpoints.iter().map(|(key, one)| (&**key, one)).collect(),
            Value::Array(endpoints) => endpoints.iter().map(|one| ("", one)).collect(),
            _ => Vec::new(),
        };
        for (key, endpoint) in all {
            let endpoint = object(endpoint, "endpoints")?;
            let uid = find(endpoint, "workloadUid").and_then(Value::as_str).unwrap_or(key);
            let ports = find(endpoint, "port").and_then(Value::as_object).cloned();
            let of_workload = memberships.entry(uid.to_owned()).or_default();
            of_workload.insert(service.clone(), ports.unwrap_or_default());
        }
        Ok(())
    };
    for service in services {
        let name = format!("{}/{}", text(service, "namespace")?, text(service, "hostname")?);
        if let Some(endpoints) = find(service, "endpoints") {
            add(name, endpoints)?;
        }
    }
    if let Some(Value::Object(staged)) = find(top, "stagedServices") {
        for (name, endpoints) in staged {
            add(name.clone(), endpoints)?;
        }
    }
    Ok(memberships)
}

/// The keys a file has, spelled as there; what is null is not said.
fn keep(object: &Map<String, Value>, keys: &[&str]) -> Map<String, Value> {
    let kept = keys.iter().filter_map(|key| {
        let value = find(object, key).filter(|value| !value.is_null())?;
        Some(((*key).to_owned(), without_nulls(value)))
    });
    kept.collect()
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(entries) => {
            let said = entries.iter().filter(|(_, value)| !value.is_null());
            said.map(|(key, value)| (key.clone(), without_nulls(value))).collect()
        }
        Value::Array(elements) => elements.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// A list of objects; or a mapping to them, whose keys say nothing more.
fn entries<'d>(
    top: &'d Map<String, Value>,
    key: &str,
) -> Result<Vec<&'d Map<String, Value>>, ImportError> {
    match find(top, key) {
        Some(Value::Array(list)) => list.iter().map(|one| object(one, key)).collect(),
        Some(Value::Object(mapping)) => mapping.values().map(|one| object(one, key)).collect(),
        Some(_) => Err(ImportError::NotADump(format!("`{key}` is neither a list nor a mapping"))),
        None => Err(ImportError::NotADump(format!("it has no `{key}`"))),
    }
}

fn object<'d>(value: &'d Value, of: &str) -> Result<&'d Map<String, Value>, ImportError> {
    let not = || ImportError::NotADump(format!("an entry of `{of}` is not an object"));
    value.as_object().ok_or_else(not)
}

fn text<'d>(object: &'d Map<String, Value>, key: &str) -> Result<&'d str, ImportError> {
    let missing = || ImportError::NotADump(format!("an entry has no `{key}`"));
    find(object, key).and_then(Value::as_str).ok_or_else(missing)
}

/// Whoever reads dumps does not care about the case of their keys.
fn find<'d>(object: &'d Map<String, Value>, key: &str) -> Option<&'d Value> {
    object.get(key).or_else(|| {
        object.iter().find(|(other, _)| other.eq_ignore_ascii_case(key)).map(|(_, value)| value)
    })
}

/// What a file has no words for.
#[derive(Default)]
struct LeftOut {
    keys: BTreeMap<String, usize>,
    /// Memberships of which a dump tells no ports.
    without_ports: usize,
}

impl LeftOut {
    fn other_keys(&mut self, of: &str, object: &Map<String, Value>, kept: &[&str], used: &[&str]) {
        let is = |keys: &[&str], key: &str| keys.iter().any(|one| one.eq_ignore_ascii_case(key));
        for (key, value) in object {
            if !value.is_null() && !is(kept, key) && !is(used, key) {
                *self.keys.entry(format!("{of}[].{key}")).or_default() += 1;
            }
        }
    }

    fn tell(self, notes: &mut Vec<String>) {
        for (key, count) in self.keys {
            notes.push(format!("left out, for a file has no such key: {key} ({count} times)"));
        }
        if self.without_ports > 0 {
            let count = self.without_ports;
            notes.push(format!(
                "{count} times a workload is not ready to serve a service: a dump does not tell its ports there, and those of the \
                 service are used"
            ));
        }
    }
}
