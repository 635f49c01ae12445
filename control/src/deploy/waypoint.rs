//! Waypoints and gateways in a cluster.

use super::{at, documents, list, string, text};
use crate::run::waypoint::Kind;
use crate::source::yaml::value::Value;
use crate::source::{NodeConfig, Source, load};

const FILE: &str = "kubernetes/waypoint.yaml";

/// The roles, their names, and the ports that their clients come to.
const ROLES: [(Kind, &str, &[&str]); 2] =
    [(Kind::Waypoint, "waypoint", &["15008"]), (Kind::Gateway, "ingress", &["80", "443"])];

fn object<'d>(documents: &'d [Value], kind: &str, name: &str) -> &'d Value {
    let is_it = |one: &&Value| string(one, "kind") == kind && string(one, "metadata.name") == name;
    documents.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn texts<'v>(value: &'v Value, keys: &str) -> Vec<&'v str> {
    list(value, keys).iter().map(|one| one.text().unwrap()).collect()
}

#[test]
fn each_is_the_workload_of_its_gateway() {
    let documents = documents(FILE);
    for (kind, name, ports) in ROLES {
        let deployment = object(&documents, "Deployment", name);
        let pod = at(deployment, "spec.template");
        let labels = at(pod, "metadata.labels");
        let gateway = labels.get("gateway.networking.k8s.io/gateway-name").unwrap();
        assert_eq!(gateway.text(), Some(name));
        let arguments = texts(pod, "spec.containers.0.args");
        assert_eq!(arguments[0], kind.as_str());
        let of = |flag: &str| {
            let place = arguments.iter().position(|one| *one == flag);
            arguments[place.unwrap_or_else(|| panic!("no {flag}")) + 1]
        };
        assert_eq!(of("--name"), format!("default/{name}"));
        of("--access-log").parse::<crate::telemetry::requests::RequestLog>().unwrap();
        let account = object(&documents, "ServiceAccount", name);
        assert_eq!(string(pod, "spec.serviceAccountName"), string(account, "metadata.name"));

        // What is read, and what is written, is there.
        let mounts = list(pod, "spec.containers.0.volumeMounts");
        for place in [of("--file"), of("--state-directory")] {
            assert!(mounts.iter().any(|one| string(one, "mountPath") == place), "{place}");
        }
        let volumes = list(pod, "spec.volumes").iter().map(|one| string(one, "name"));
        let mounted = mounts.iter().map(|one| string(one, "name"));
        assert_eq!(volumes.collect::<Vec<_>>(), mounted.collect::<Vec<_>>());

        let service = object(&documents, "Service", name);
        let offered = list(service, "spec.ports").iter().map(|one| string(one, "port"));
        assert_eq!(offered.collect::<Vec<_>>(), ports);
        assert_eq!(string(service, "spec.selector.app"), string(labels, "app"));
    }
}

#[test]
fn ports_are_the_programs_and_the_network_policy_lets_them_in() {
    let documents = documents(FILE);
    let listen = NodeConfig::default().listen;
    let own = [listen.metrics, listen.readiness].map(|one| one.unwrap().port().to_string());
    for (_, name, ports) in ROLES {
        let pod = at(object(&documents, "Deployment", name), "spec.template");
        let annotations = at(pod, "metadata.annotations");
        assert_eq!(annotations.get("prometheus.io/port").unwrap().text(), Some(&*own[0]));
        assert_eq!(string(pod, "spec.containers.0.readinessProbe.httpGet.port"), own[1]);
        assert_eq!(string(pod, "spec.containers.0.readinessProbe.httpGet.path"), "/healthz/ready");
        let policy = object(&documents, "NetworkPolicy", name);
        let let_in = list(policy, "spec.ingress.0.ports").iter().map(|one| string(one, "port"));
        let want: Vec<&str> = ports.iter().copied().chain(own.iter().map(String::as_str)).collect();
        assert_eq!(let_in.collect::<Vec<_>>(), want, "{name}");
    }
}

/// What `restricted` of the Pod Security Standards asks for.
#[test]
fn they_fit_the_restricted_pod_security_standard() {
    let documents = documents(FILE);
    for (kind, name, _) in ROLES {
        let pod = at(object(&documents, "Deployment", name), "spec.template.spec");
        let context = at(pod, "containers.0.securityContext");
        assert_eq!(texts(context, "capabilities.drop"), ["ALL"]);
        assert!(at(context, "capabilities").get("add").is_none(), "{name}");
        for (key, want) in [
            ("allowPrivilegeEscalation", "false"),
            ("privileged", "false"),
            ("readOnlyRootFilesystem", "true"),
            ("runAsNonRoot", "true"),
            ("seccompProfile.type", "RuntimeDefault"),
        ] {
            assert_eq!(string(context, key), want, "{name}: {key}");
        }
        assert_ne!(string(context, "runAsUser"), "0");
        for key in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod.get(key).is_none(), "{name}: {key}");
        }
        let allowed = ["configMap", "csi", "emptyDir", "projected", "secret"];
        for volume in list(pod, "volumes") {
            let kinds = volume.entries().unwrap().iter().map(|(key, _)| &*key.text);
            let wrong: Vec<_> =
                kinds.filter(|kind| *kind != "name" && !allowed.contains(kind)).collect();
            assert!(wrong.is_empty(), "{name}: {wrong:?}");
        }
        // Without a capability, low ports take this, which is on the list of safe sysctls.
        let sysctls = pod.get("securityContext").map(|context| string(context, "sysctls.0.name"));
        let low = (kind == Kind::Gateway).then_some("net.ipv4.ip_unprivileged_port_start");
        assert_eq!(sysctls, low);
    }
}

#[test]
fn the_classes_are_those_that_are_served() {
    let classes: Vec<String> = text(FILE)
        .split("---\n")
        .filter(|one| {
            one.contains("\nkind: GatewayClass\n") || one.starts_with("kind: GatewayClass\n")
        })
        .map(str::to_owned)
        .collect();
    assert_eq!(classes.len(), ROLES.len());
    let gateways = [("ringway-waypoint", "HBONE", 15008), ("ringway", "HTTP", 80)];
    let gateways = gateways.map(|(class, protocol, port)| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: of-{class}}}\n\
             spec: {{gatewayClassName: {class}, listeners: [{{name: a, port: {port}, protocol: {protocol}}}]}}\n"
        )
    });
    let all = [classes, gateways.to_vec()].concat().join("---\n");
    let source = Source::Text { name: "classes.yaml".to_owned(), text: all };
    let mesh = load(&[source], None).unwrap_or_else(|wrong| panic!("{wrong}"));
    let names: Vec<_> = mesh.http.listeners.iter().map(|one| one.key.gateway().name).collect();
    assert_eq!(names, ["of-ringway-waypoint".into(), "of-ringway".into()], "both are ours");
}
