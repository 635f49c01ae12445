//! What Helm makes of the chart in `deploy/helm/ringway`: without values it says what the plain files say, every value arrives,
//! and what nobody knows is refused.
//!
//! Helm, and a Python that reads YAML, are put under `target/tools` by `scripts/get-clients`. The stories have its name in
//! theirs, so that `scripts/test` can leave them out, and say so, where it is not to be had.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Map, Value, json};

use crate::clients::tool;

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn helm(arguments: &[&str], values: &Value) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("values.yaml");
    // JSON is YAML.
    fs::write(&file, values.to_string()).unwrap();
    let mut helm = Command::new(tool("helm"));
    helm.args(arguments).arg(deploy("helm/ringway")).arg("--values").arg(file);
    helm.args(["--namespace", "istio-system"]).output().unwrap()
}

/// The objects that the chart says with these values, in the order of their kinds and names.
fn rendered(values: &Value) -> Vec<Value> {
    let output = helm(&["template", "ringway"], values);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rendered.yaml");
    fs::write(&file, output.stdout).unwrap();
    objects(&file)
}

fn objects(file: &Path) -> Vec<Value> {
    let read = "import json, sys, yaml\n\
                objects = yaml.safe_load_all(open(sys.argv[1]))\n\
                print(json.dumps([one for one in objects if one is not None]))";
    let mut python = Command::new(tool("clients-python/bin/python"));
    let output = python.args(["-c", read]).arg(file).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{}", file.display());
    let mut objects: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    objects.sort_by_key(|one| format!("{} {}", one["kind"], one["metadata"]["name"]));
    objects
}

/// The plain file says nothing of when images are pulled: what the chart says is what Kubernetes takes then.
fn without_pull_policy(mut objects: Vec<Value>) -> Vec<Value> {
    for object in &mut objects {
        if let Some(containers) = object.pointer_mut("/spec/template/spec/containers") {
            for container in containers.as_array_mut().unwrap() {
                let policy = container.as_object_mut().unwrap().remove("imagePullPolicy");
                assert!(policy.is_none_or(|policy| policy == "IfNotPresent"));
            }
        }
    }
    objects
}

fn object<'o>(objects: &'o [Value], kind: &str, name: &str) -> &'o Value {
    let is_it = |one: &&Value| one["kind"] == kind && one["metadata"]["name"] == name;
    objects.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn helm_lint_has_nothing_to_say() {
    let output = helm(&["lint", "--strict"], &json!({}));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn helm_without_values_says_what_the_plain_daemon_set_says() {
    let chart = without_pull_policy(rendered(&json!({})));
    assert_eq!(json!(chart), json!(objects(&deploy("kubernetes/daemonset.yaml"))));
}

#[test]
fn helm_says_of_waypoints_and_gateways_what_the_plain_file_says() {
    let one =
        |name: &str| json!({"name": name, "namespace": "default", "configMap": "ringway-mesh"});
    let mut ingress = one("ingress");
    ingress["ports"] = json!([80, 443]);
    let chart = without_pull_policy(rendered(&json!({
        "waypoints": [one("waypoint")],
        "gateways": [ingress],
        "networkPolicy": {"enabled": true},
        "l7": {"gatewayClasses": true},
    })));
    let chart: Vec<_> =
        chart.into_iter().filter(|one| one["metadata"]["name"] != "ztunnel").collect();
    assert_eq!(json!(chart), json!(objects(&deploy("kubernetes/waypoint.yaml"))));
}

#[test]
fn helm_brings_every_value_where_it_belongs() {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let localhost = json!({"type": "Localhost", "localhostProfile": "ringway.json"});
    let one =
        |name: &str| json!({"name": name, "namespace": "shop", "configMap": "mesh", "replicas": 3});
    let mut gateway = one("entry");
    gateway["ports"] = json!([80, 9000]);
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "mesh", "operator": "Exists"}]}]
    }}});
    let objects = rendered(&json!({
        "image": {"repository": "registry.example/ringway", "digest": digest, "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}],
        "xdsAddress": "xds.example:15012",
        "caAddress": "ca.example:15012",
        "clusterName": "east",
        "network": "network-1",
        "env": {"ENABLE_ORIG_SRC": false, "RINGWAY_REACTOR": "epoll"},
        "logLevel": "debug",
        "logAsJson": true,
        "resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
        "nodeSelector": {"pool": "mesh"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": affinity,
        "podAnnotations": {"example.com/a": "b"},
        "podLabels": {"team": "net"},
        "priorityClassName": "mine",
        "terminationGracePeriodSeconds": 60,
        "updateStrategy": {"type": "OnDelete", "rollingUpdate": null},
        "seccompProfile": localhost,
        "networkPolicy": {"enabled": true},
        "serviceMonitor": {"enabled": true, "interval": "30s"},
        "waypoints": [one("way")],
        "gateways": [gateway],
        "l7": {"seccompProfile": localhost, "spiffeDriver": "csi.example"},
    }));

    let set = object(&objects, "DaemonSet", "ztunnel");
    assert_eq!(set["spec"]["updateStrategy"], json!({"type": "OnDelete"}));
    let pod = &set["spec"]["template"];
    assert_eq!(pod["metadata"]["labels"]["team"], "net");
    assert_eq!(pod["metadata"]["annotations"]["example.com/a"], "b");
    assert_eq!(pod["metadata"]["annotations"]["prometheus.io/port"], "15020");
    let spec = &pod["spec"];
    assert_eq!(spec["priorityClassName"], "mine");
    assert_eq!(spec["terminationGracePeriodSeconds"], 60);
    assert_eq!(spec["nodeSelector"]["pool"], "mesh");
    assert_eq!(spec["tolerations"], json!([{"operator": "Exists"}]));
    assert_eq!(spec["affinity"], affinity);
    let container = &spec["containers"][0];
    assert_eq!(container["resources"]["limits"], json!({"cpu": "2", "memory": "1Gi"}));
    assert_eq!(container["securityContext"]["seccompProfile"], localhost);
    let environment: Map<String, Value> = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["name"].as_str().unwrap().to_owned(), one["value"].clone()))
        .collect();
    for (name, value) in [
        ("XDS_ADDRESS", "xds.example:15012"),
        ("CA_ADDRESS", "ca.example:15012"),
        ("ISTIO_META_CLUSTER_ID", "east"),
        ("NETWORK", "network-1"),
        ("ENABLE_ORIG_SRC", "false"),
        ("RINGWAY_REACTOR", "epoll"),
        ("RUST_LOG", "debug"),
        ("LOG_FORMAT", "json"),
        ("TERMINATION_GRACE_PERIOD_SECONDS", "60"),
    ] {
        assert_eq!(environment[name], value, "{name}");
    }
    let named = environment.len();
    assert_eq!(named, container["env"].as_array().unwrap().len(), "no variable is given twice");

    let image = format!("registry.example/ringway@{digest}");
    assert_eq!(container["image"], image);
    for (name, ports) in
        [("way", &[("hbone", 15008)][..]), ("entry", &[("http", 80), ("port-9000", 9000)])]
    {
        let deployment = object(&objects, "Deployment", name);
        assert_eq!(deployment["metadata"]["namespace"], "shop");
        assert_eq!(deployment["spec"]["replicas"], 3);
        let spec = &deployment["spec"]["template"]["spec"];
        let container = &spec["containers"][0];
        assert_eq!(container["image"], image);
        assert_eq!(container["imagePullPolicy"], "Always");
        assert_eq!(container["securityContext"]["seccompProfile"], localhost);
        assert_eq!(spec["volumes"][0]["configMap"]["name"], "mesh");
        assert_eq!(spec["volumes"][1]["csi"]["driver"], "csi.example");
        let offered: Vec<_> =
            ports.iter().map(|(name, port)| json!({"name": name, "port": port})).collect();
        assert_eq!(object(&objects, "Service", name)["spec"]["ports"], json!(offered));
    }
    for name in ["ztunnel", "way", "entry"] {
        let account = object(&objects, "ServiceAccount", name);
        assert_eq!(account["imagePullSecrets"], json!([{"name": "registry"}]), "{name}");
        object(&objects, "NetworkPolicy", name);
    }
    let monitor = object(&objects, "ServiceMonitor", "ztunnel");
    assert_eq!(monitor["spec"]["endpoints"][0]["interval"], "30s");
    object(&objects, "Service", "ztunnel-metrics");
}

#[test]
fn helm_refuses_what_the_chart_does_not_know() {
    for (values, complaint) in [
        (json!({"imge": {"tag": "1"}}), "imge"),
        (json!({"image": {"digest": "latest"}}), "image.digest"),
        (json!({"logAsJson": "yes"}), "logAsJson"),
        (json!({"waypoints": [{"name": "a", "namespace": "b"}]}), "configMap is required"),
        (
            json!({"gateways": [{"name": "a", "namespace": "b", "configMap": "c", "ports": []}]}),
            "gateways.0.ports",
        ),
    ] {
        let output = helm(&["template", "ringway"], &values);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{values}");
        assert!(said.contains(complaint), "{values}: {said}");
    }
}
