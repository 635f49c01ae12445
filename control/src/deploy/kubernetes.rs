//! The DaemonSet, the chart, and the values for other people's charts.

use std::collections::BTreeSet;

use super::{at, documents, is_variable, list, path, string};
use crate::environment::Environment;
use crate::run::names_of_capabilities;
use crate::source::{Mode, NodeConfig, Redirect};

const DAEMON_SET: &str = "kubernetes/daemonset.yaml";

/// The environment of the DaemonSet, with something for what the cluster fills in.
fn variables() -> Vec<(String, String)> {
    let documents = documents(DAEMON_SET);
    let filled = |name: &str| match name {
        "INSTANCE_IP" => "10.0.0.7".to_owned(),
        "ZTUNNEL_CPU_LIMIT" => "8".to_owned(),
        name => name.to_ascii_lowercase(),
    };
    let env = list(&documents[1], "spec.template.spec.containers.0.env").iter();
    env.map(|entry| {
        let name = string(entry, "name").to_owned();
        let value = entry.get("value").map(|value| value.text().unwrap().to_owned());
        let value = value.unwrap_or_else(|| filled(&name));
        (name, value)
    })
    .collect()
}

#[test]
fn the_daemon_set_is_what_istios_tools_look_for() {
    let documents = documents(DAEMON_SET);
    let set = &documents[1];
    assert_eq!(string(set, "metadata.name"), "ztunnel");
    for labels in ["metadata.labels", "spec.template.metadata.labels"] {
        assert_eq!(string(set, &format!("{labels}.app")), "ztunnel");
        assert_eq!(at(set, labels).get("app.kubernetes.io/name").unwrap().text(), Some("ztunnel"));
    }
    let pod = at(set, "spec.template.spec");
    assert_eq!(string(pod, "containers.0.name"), "istio-proxy");
    let arguments: Vec<_> = list(pod, "containers.0.args").iter().map(|one| one.text()).collect();
    assert_eq!(arguments, [Some("proxy"), Some("ztunnel")]);
    assert_eq!(string(pod, "serviceAccountName"), string(&documents[0], "metadata.name"));
    assert_eq!(string(pod, "containers.0.readinessProbe.httpGet.port"), "15021");
    assert_eq!(string(pod, "containers.0.readinessProbe.httpGet.path"), "/healthz/ready");
}

#[test]
fn its_variables_are_understood() {
    let variables = variables();
    for (name, _) in &variables {
        assert!(is_variable(name), "{name} is not in docs/environment.md");
    }
    let environment = Environment {
        variables: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        mesh_file: "/no/such/file".into(),
        token_file: "/no/such/file".into(),
        cpus: 4,
    };
    let config = environment.read().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.drain_deadline.as_secs(), 25);
    assert_eq!(
        config.node.id(),
        "ztunnel~10.0.0.7~pod_name.pod_namespace~pod_namespace.svc.cluster.local"
    );
    let grace =
        string(&documents(DAEMON_SET)[1], "spec.template.spec.terminationGracePeriodSeconds")
            .to_owned();
    let told =
        variables.iter().find(|(name, _)| name == "TERMINATION_GRACE_PERIOD_SECONDS").unwrap();
    assert_eq!(told.1, grace);
}

#[test]
fn its_ports_and_places_are_the_programs() {
    let documents = documents(DAEMON_SET);
    let pod = at(&documents[1], "spec.template.spec");
    let config = Environment {
        variables: Vec::new(),
        mesh_file: "/no/such/file".into(),
        token_file: "/no/such/file".into(),
        cpus: 4,
    };
    let config = config.read().unwrap();
    let stats = config.listen.metrics.unwrap().port().to_string();
    assert_eq!(string(pod, "containers.0.ports.0.containerPort"), stats);
    let annotations = at(&documents[1], "spec.template.metadata.annotations");
    assert_eq!(annotations.get("prometheus.io/port").unwrap().text(), Some(&*stats));
    let mounted: BTreeSet<_> = list(pod, "containers.0.volumeMounts")
        .iter()
        .map(|mount| (string(mount, "name"), string(mount, "mountPath")))
        .collect();
    let socket_directory = config.cni_socket.parent().unwrap().to_str().unwrap();
    let roots = config.discovery.unwrap().roots.file().unwrap();
    let roots_directory = roots.parent().unwrap().to_str().unwrap().replacen("./", "/", 1);
    for place in [socket_directory, &roots_directory, "/var/run/secrets/tokens", "/tmp"] {
        assert!(mounted.iter().any(|(_, path)| *path == place), "{place} in {mounted:?}");
    }
    let volumes: BTreeSet<_> = list(pod, "volumes").iter().map(|one| string(one, "name")).collect();
    assert_eq!(volumes, mounted.iter().map(|(name, _)| *name).collect());
}

#[test]
fn it_has_the_capabilities_the_process_keeps_and_no_others() {
    let documents = documents(DAEMON_SET);
    let context = at(&documents[1], "spec.template.spec.containers.0.securityContext");
    let added: BTreeSet<_> = list(context, "capabilities.add")
        .iter()
        .map(|one| one.text().unwrap().to_owned())
        .collect();
    let node = NodeConfig { mode: Mode::Shared, redirect: Redirect::None, ..NodeConfig::default() };
    assert_eq!(added, names_of_capabilities(&node));
    assert_eq!(list(context, "capabilities.drop")[0].text(), Some("ALL"));
    assert_eq!(string(context, "privileged"), "false");
    assert_eq!(string(context, "readOnlyRootFilesystem"), "true");
    assert_eq!((string(context, "runAsUser"), string(context, "runAsGroup")), ("0", "1337"));
}

#[test]
fn templates_are_balanced_and_use_the_values_there_are() {
    let values = documents("helm/ringway/values.yaml");
    let mut used = BTreeSet::new();
    for entry in std::fs::read_dir(path("helm/ringway/templates")).unwrap() {
        let file = entry.unwrap().path();
        let template = std::fs::read_to_string(&file).unwrap();
        let mut depth = 0;
        for action in template.split("{{").skip(1) {
            let (action, _) = action.split_once("}}").expect("an action ends on its line");
            match action.trim_matches(['-', ' ']).split(' ').next() {
                Some("define" | "if" | "with" | "range") => depth += 1,
                Some("end") => depth -= 1,
                _ => {}
            }
            assert!(depth >= 0, "{}: an `end` too many", file.display());
            for name in action.split_whitespace().filter_map(|word| word.strip_prefix(".Values.")) {
                at(&values[0], name);
                used.insert(name.split('.').next().unwrap().to_owned());
            }
        }
        assert_eq!(depth, 0, "{}: an `end` is missing", file.display());
        let variables = template.lines().filter_map(|line| line.trim().strip_prefix("- name: "));
        let of_variables = |name: &&str| name.contains('_') && !name.contains(['{', '.']);
        for name in variables.filter(of_variables) {
            assert!(is_variable(name), "{name}");
        }
    }
    for (key, _) in values[0].entries().unwrap() {
        assert!(used.contains(&*key.text), "no template uses {}", key.text);
    }
    let chart = &documents("helm/ringway/Chart.yaml")[0];
    assert_eq!(string(chart, "appVersion"), env!("CARGO_PKG_VERSION"));
    assert_eq!(string(&values[0], "image.tag"), env!("CARGO_PKG_VERSION"));
}

#[test]
fn other_charts_are_given_the_image_and_nothing_else() {
    let istio = &documents("istio/values.yaml")[0];
    assert_eq!(istio.entries().unwrap().len(), 1);
    let image = string(istio, "image");
    assert!(image.contains('/'), "the chart takes names without a slash for its own");
    assert!(image.ends_with(&format!(":{}", env!("CARGO_PKG_VERSION"))));
    let cilium = &documents("cilium/values.yaml")[0];
    let given = at(cilium, "encryption.ztunnel.image");
    assert_eq!(format!("{}:{}", string(given, "repository"), string(given, "tag")), image);
    let plain = documents(DAEMON_SET);
    assert_eq!(string(&plain[1], "spec.template.spec.containers.0.image"), image);
}
