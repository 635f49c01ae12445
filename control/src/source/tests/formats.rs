//! What correct files mean.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringway_engine::snapshot::{
    AppProtocol, GatewayDestination, Health, HealthPolicy, IpFamilies, LoadBalancerMode,
    NamespacedHostname, NetworkMode, PolicyAction, PolicyScope, Scope, Service, Snapshot,
    TextMatch, TunnelProtocol, Workload, WorkloadType,
};
use tempfile::TempDir;

use crate::source::node::SPEC_KEYS;
use crate::source::{
    Cores, LogFormat, MeshConfig, Mode, NetworkNamespace, NodeConfig, OriginalSource, Reactor,
    Redirect, Source, load,
};

fn read(text: &str) -> MeshConfig {
    let source = Source::Text { name: "mesh.yaml".to_owned(), text: text.to_owned() };
    let mesh = load(&[source], None).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    assert!(mesh.warnings.is_empty(), "{}", mesh.warnings);
    mesh
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

fn read_example(name: &str, node: &str) -> MeshConfig {
    let mesh = load(&[Source::Path(example(name))], Some(node));
    let mesh = mesh.unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    assert!(mesh.warnings.is_empty(), "{}", mesh.warnings);
    mesh
}

fn workload<'s>(snapshot: &'s Snapshot, name: &str) -> &'s Workload {
    let mut found = snapshot.workloads().filter(|workload| workload.name() == name);
    found.next().unwrap_or_else(|| panic!("no workload {name}"))
}

fn service<'s>(snapshot: &'s Snapshot, name: &str) -> &'s Service {
    let mut found = snapshot.services().filter(|service| &*service.name == name);
    found.next().unwrap_or_else(|| panic!("no service {name}"))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn two_services_fit_on_a_page() {
    let text = fs::read_to_string(example("two-services/mesh.yaml")).unwrap();
    assert!(text.lines().count() <= 30, "the promise is 30 lines");
    for (node, name, namespace) in [("host-a", "shop", "rw-shop"), ("host-b", "stock", "rw-stock")]
    {
        let mesh = read_example("two-services/mesh.yaml", node);
        assert_eq!(&*mesh.node.name, node);
        let [enrollment] = &mesh.enrollments[..] else { panic!("{:?}", mesh.enrollments) };
        assert_eq!(*enrollment.uid, format!("Kubernetes//Pod/default/{name}"));
        assert_eq!(
            enrollment.identity.to_string(),
            format!("spiffe://cluster.local/ns/default/sa/{name}")
        );
        let path = Path::new("/var/run/netns").join(namespace);
        assert_eq!(enrollment.network_namespace, NetworkNamespace::Path(path));
        let authority = &mesh.node.certificate_authority.directory;
        assert_eq!(*authority, example("two-services").join("./ca"), "relative to the file");
        assert_eq!((mesh.snapshot.workload_count(), mesh.snapshot.service_count()), (2, 2));
    }
}

#[test]
fn bookinfo_has_three_reviews_behind_one_address() {
    let mesh = read_example("bookinfo", "host-b");
    assert_eq!((mesh.snapshot.workload_count(), mesh.snapshot.service_count()), (6, 4));
    assert_eq!(mesh.enrollments.len(), 3);
    assert_eq!(mesh.node.cores, Cores::Count(2));
    let reviews = mesh.snapshot.service_by_vip("", ip("10.96.0.12"), "bookinfo").unwrap();
    assert_eq!(reviews.hostname(), "reviews.bookinfo.svc.cluster.local");
    let mut endpoints: Vec<_> = mesh
        .snapshot
        .endpoints(&reviews.id)
        .map(|(workload, membership)| {
            let placed = (workload.node().to_string(), membership.target_port(9080));
            (workload.canonical_revision().to_string(), placed)
        })
        .collect();
    endpoints.sort();
    let on = |host: &str| (host.to_owned(), Some(9080));
    assert_eq!(
        endpoints,
        [("v1".into(), on("host-a")), ("v2".into(), on("host-b")), ("v3".into(), on("host-a"))]
    );
    assert!(mesh.snapshot.workloads().all(|workload| workload.protocol() == TunnelProtocol::Hbone));
    let policies =
        |name| -> Vec<&str> { workload(&mesh.snapshot, name).authorization_policies().collect() };
    let strict = "istio-system/istio_converted_static_strict";
    let page = "bookinfo/converted_peer_authentication_page-for-everybody";
    assert_eq!(policies("productpage-v1"), [page]);
    assert_eq!(policies("ratings-v1"), ["bookinfo/ratings-for-the-reviews", strict]);
    for version in ["reviews-v1", "reviews-v2", "reviews-v3"] {
        assert_eq!(policies(version), ["bookinfo/reviews-for-the-page", strict]);
    }
    assert_eq!(mesh.snapshot.policies().count(), 5);
}

#[test]
fn a_node_without_settings_has_the_defaults() {
    let mesh = read("apiVersion: ringway.dev/v1alpha1\nkind: Node\nmetadata: {name: host-a}\n");
    assert_eq!(mesh.node, NodeConfig { name: "host-a".into(), ..NodeConfig::default() });
    assert_eq!(mesh.node.packet_mark, Some(1337));
}

#[test]
fn every_setting_of_a_node_is_read() {
    let mesh = read(
        "apiVersion: ringway.dev/v1alpha1
kind: Node
metadata: {name: host-a}
spec:
  mode: dedicated
  cores: [0, 2]
  pinCores: false
  reactor: epoll
  trustDomain: example.org
  clusterDomain: mesh.example
  cluster: c1
  network: west
  locality: eu/west/a
  certificateAuthority: {directory: /ca, leafLifetime: 1h30m}
  sessionResumption: false
  drainDeadline: 500ms
  redirect: none
  packetMark: 7
  originalSource: never
  ipv6: false
  ports: {outbound: 1, inbound: 2, tunnel: 3, dns: 4}
  dns: {capture: true, resolvConf: /etc/own.conf, preferredNamespace: shop}
  listen: {admin: none, metrics: '127.0.0.1:9', readiness: '[::1]:10'}
  log: {level: 'info,access=off', format: json}
  workloads: [{name: vm-0, namespace: shop}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-0, namespace: shop}
spec: {address: 10.1.0.10, serviceAccount: vm}
",
    );
    let node = &mesh.node;
    assert_eq!((node.mode, node.pin_cores, node.reactor), (Mode::Dedicated, false, Reactor::Epoll));
    assert_eq!(node.cores, Cores::List(vec![0, 2]));
    assert_eq!(
        (&*node.trust_domain, &*node.cluster_domain, &*node.cluster),
        ("example.org", "mesh.example", "c1")
    );
    assert_eq!((&*node.network, &*node.locality), ("west", "eu/west/a"));
    assert_eq!(node.certificate_authority.directory, Path::new("/ca"));
    assert_eq!(node.certificate_authority.leaf_lifetime, Duration::from_secs(5400));
    assert!(!node.session_resumption);
    assert_eq!(node.drain_deadline, Duration::from_millis(500));
    assert_eq!((node.redirect, node.original_source), (Redirect::None, OriginalSource::Never));
    assert_eq!((node.packet_mark, node.ipv6), (Some(7), false));
    assert_eq!((node.ports.outbound, node.ports.inbound, node.ports.tunnel), (1, 2, 3));
    assert_eq!((node.ports.dns, node.dns.capture), (4, true));
    assert_eq!(node.dns.resolv_conf, Path::new("/etc/own.conf"));
    assert_eq!(node.dns.preferred_namespace.as_deref(), Some("shop"));
    assert_eq!(node.listen.admin, None);
    assert_eq!(node.listen.metrics, Some("127.0.0.1:9".parse().unwrap()));
    assert_eq!((node.log.level.as_str(), node.log.format), ("info,access=off", LogFormat::Json));

    let [enrollment] = &mesh.enrollments[..] else { panic!("{:?}", mesh.enrollments) };
    assert_eq!(enrollment.network_namespace, NetworkNamespace::Own);
    assert_eq!(&*enrollment.uid, "c1/networking.istio.io/WorkloadEntry/shop/vm-0");
    assert_eq!(enrollment.identity.to_string(), "spiffe://example.org/ns/shop/sa/vm");
    let vm = workload(&mesh.snapshot, "vm-0");
    assert_eq!((&**vm.network(), &*vm.locality().zone, &**vm.node()), ("west", "west", "host-a"));
    let settings = mesh.snapshot.settings();
    assert_eq!((settings.hbone_port, settings.own_ports.as_slice()), (3, &[1, 2, 3][..]));
}

#[test]
fn an_agent_takes_the_place_of_the_embedded_authority() {
    let node = |authority: &str| Source::Text {
        name: "node.yaml".to_owned(),
        text: format!(
            "apiVersion: ringway.dev/v1alpha1\nkind: Node\nmetadata: {{name: a}}\nspec:\n  certificateAuthority: {{{authority}}}\n"
        ),
    };
    let mesh = load(&[node("workloadApi: 'unix:///run/spire/agent.sock'")], None).unwrap();
    let socket = mesh.node.certificate_authority.workload_api;
    assert_eq!(socket.as_deref(), Some(Path::new("/run/spire/agent.sock")));
    //  name              certificateAuthority                                         want
    let rows = [
        ("no socket", "workloadApi: 'tcp://127.0.0.1:1'", "socket only"),
        ("no path", "workloadApi: agent.sock", "unix:///PATH"),
        (
            "a directory",
            "workloadApi: 'unix:///a', directory: ./ca",
            "`directory` is for the embedded",
        ),
        (
            "a lifetime",
            "workloadApi: 'unix:///a', leafLifetime: 1h",
            "`leafLifetime` is for the embedded",
        ),
    ];
    for (name, authority, want) in rows {
        let Err(mistakes) = load(&[node(authority)], None) else { panic!("{name}: taken") };
        let mistakes = mistakes.to_string();
        assert!(mistakes.contains(want), "{name}: {mistakes}");
    }
}

#[test]
fn a_dedicated_node_needs_no_mark() {
    let text = "apiVersion: ringway.dev/v1alpha1
kind: Node
metadata: {name: a}
spec: {mode: dedicated, workloads: [{name: web}]}
---
{apiVersion: v1, kind: Pod, metadata: {name: web}, status: {podIP: 10.0.0.1}}
";
    assert_eq!(read(text).node.packet_mark, None);
    assert_eq!(
        read(&text.replace("dedicated,", "dedicated, packetMark: 5,")).node.packet_mark,
        Some(5)
    );
    assert_eq!(NodeConfig::default().packet_mark, Some(1337));
}

#[test]
fn a_workload_is_in_the_mesh_when_somebody_says_so() {
    let mesh = read(
        "{apiVersion: ringway.dev/v1alpha1, kind: Node, metadata: {name: a}, spec: {workloads: [{name: captured, networkNamespace: x}]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: mesh, labels: {istio.io/dataplane-mode: ambient}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: captured}, status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: plain}, status: {podIP: 10.0.0.2}}
---
{apiVersion: v1, kind: Pod, metadata: {name: labelled, labels: {istio.io/dataplane-mode: ambient}}, status: {podIP: 10.0.0.3}}
---
{apiVersion: v1, kind: Pod, metadata: {name: in-namespace, namespace: mesh}, status: {podIP: 10.0.0.4}}
---
{apiVersion: v1, kind: Pod, metadata: {name: opted-out, namespace: mesh, labels: {istio.io/dataplane-mode: none}}, status: {podIP: 10.0.0.5}}
---
{apiVersion: v1, kind: Pod, metadata: {name: annotated, annotations: {ambient.istio.io/redirection: enabled}}, status: {podIP: 10.0.0.6}}
---
{apiVersion: v1, kind: Pod, metadata: {name: host, namespace: mesh}, spec: {hostNetwork: true}, status: {podIP: 10.0.0.7}}
",
    );
    for (name, protocol) in [
        ("captured", TunnelProtocol::Hbone),
        ("plain", TunnelProtocol::Tcp),
        ("labelled", TunnelProtocol::Hbone),
        ("in-namespace", TunnelProtocol::Hbone),
        ("opted-out", TunnelProtocol::Tcp),
        ("annotated", TunnelProtocol::Hbone),
        ("host", TunnelProtocol::Tcp),
    ] {
        assert_eq!(workload(&mesh.snapshot, name).protocol(), protocol, "{name}");
    }
    assert_eq!(workload(&mesh.snapshot, "host").network_mode(), NetworkMode::HostNetwork);
}

/// Whom workloads say they are in telemetry: name, type, canonical name, canonical revision.
#[test]
fn workloads_are_named_as_istio_names_them() {
    let pod = |metadata: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {metadata}\nstatus: {{podIP: 10.0.0.1}}\n"
        );
        let mesh = read(&text);
        let workload = mesh.snapshot.workloads().next().unwrap().clone();
        (
            workload.workload_name().to_string(),
            workload.workload_type(),
            workload.canonical_name().to_string(),
            workload.canonical_revision().to_string(),
        )
    };
    let owned = |name: &str, labels: &str, kind: &str, owner: &str| {
        pod(&format!(
            "{{name: {name}, labels: {labels}, ownerReferences: [{{kind: {kind}, name: {owner}, controller: true, apiVersion: v1, uid: u}}]}}"
        ))
    };
    let row = |name: &str, kind, canonical: &str, revision: &str| {
        (name.to_owned(), kind, canonical.to_owned(), revision.to_owned())
    };
    assert_eq!(pod("{name: web-0}"), row("web-0", WorkloadType::Pod, "web-0", "latest"));
    assert_eq!(
        pod("{name: web-0, labels: {app: web, version: v2}}"),
        row("web-0", WorkloadType::Pod, "web", "v2")
    );
    assert_eq!(
        pod(
            "{name: a, labels: {service.istio.io/canonical-name: c, app.kubernetes.io/name: k, app: p, service.istio.io/canonical-revision: r, version: v2}}"
        ),
        row("a", WorkloadType::Pod, "c", "r")
    );
    assert_eq!(
        pod("{name: a, labels: {service.istio.io/workload-name: w}}"),
        row("w", WorkloadType::Pod, "w", "latest")
    );
    assert_eq!(
        owned("web-6f7d-x", "{pod-template-hash: 6f7d}", "ReplicaSet", "web-6f7d"),
        row("web", WorkloadType::Deployment, "web", "latest")
    );
    assert_eq!(
        owned("db-0", "{}", "StatefulSet", "db"),
        row("db", WorkloadType::Pod, "db", "latest")
    );
    assert_eq!(
        owned("j-1", "{}", "Job", "clean-28123456"),
        row("clean", WorkloadType::CronJob, "clean", "latest")
    );
    assert_eq!(
        owned("j-1", "{}", "Job", "clean-once"),
        row("clean-once", WorkloadType::Job, "clean-once", "latest")
    );
}

#[test]
fn a_pod_is_ready_as_its_status_says() {
    let health = |status: &str| {
        let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nstatus: {status}\n");
        let mesh = read(&text);
        mesh.snapshot.workloads().next().map(|workload| workload.health())
    };
    for (status, want) in [
        ("{podIP: 10.0.0.1}", Some(Health::Healthy)),
        ("{podIP: 10.0.0.1, phase: Running}", Some(Health::Healthy)),
        ("{podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}", Some(Health::Healthy)),
        (
            "{podIP: 10.0.0.1, conditions: [{type: Ready, status: 'False'}]}",
            Some(Health::Unhealthy),
        ),
        (
            "{podIP: 10.0.0.1, conditions: [{type: Initialized, status: 'False'}]}",
            Some(Health::Healthy),
        ),
        ("{podIP: 10.0.0.1, phase: Pending}", Some(Health::Unhealthy)),
        ("{phase: Pending}", None),
        ("{podIP: 10.0.0.1, phase: Succeeded}", None),
        ("{podIP: 10.0.0.1, phase: Failed}", None),
    ] {
        assert_eq!(health(status), want, "{status}");
    }
}

#[test]
fn a_pod_has_all_its_addresses_once() {
    let mesh = read(
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}, {ip: '::ffff:10.0.0.2'}]}}",
    );
    let addresses = [ip("10.0.0.1"), ip("fd00::1"), ip("10.0.0.2")];
    assert_eq!(workload(&mesh.snapshot, "a").addresses(), addresses);
}

#[test]
fn services_choose_endpoints_as_they_say() {
    let load_balancer = |spec: &str| {
        let mesh = read(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {spec}\n"
        ));
        let load_balancer = &service(&mesh.snapshot, "web").load_balancer;
        (
            load_balancer.mode,
            load_balancer.routing_preferences.to_vec(),
            load_balancer.health_policy,
        )
    };
    let close = vec![Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone];
    let node = [close.clone(), vec![Scope::Node]].concat();
    let healthy = HealthPolicy::OnlyHealthy;
    assert_eq!(load_balancer("{clusterIP: None}"), (LoadBalancerMode::Standard, vec![], healthy));
    for distribution in ["PreferClose", "PreferSameZone"] {
        let spec = format!("{{trafficDistribution: {distribution}}}");
        assert_eq!(load_balancer(&spec), (LoadBalancerMode::Failover, close.clone(), healthy));
    }
    assert_eq!(
        load_balancer("{trafficDistribution: PreferSameNode}"),
        (LoadBalancerMode::Failover, node, healthy)
    );
    assert_eq!(
        load_balancer("{trafficDistribution: PreferClose, internalTrafficPolicy: Local}"),
        (LoadBalancerMode::Strict, vec![Scope::Node], healthy)
    );
    assert_eq!(
        load_balancer("{internalTrafficPolicy: Cluster, publishNotReadyAddresses: true}"),
        (LoadBalancerMode::Standard, vec![], HealthPolicy::AllowAll)
    );
}

#[test]
fn services_have_the_ports_and_families_they_say() {
    let mesh = read(
        "apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, 'fd00::60']
  ipFamilies: [IPv4, IPv6]
  ports:
    - {name: http, port: 80, targetPort: 8080}
    - {name: grpc-api, port: 81}
    - {name: anything, port: 82, appProtocol: kubernetes.io/h2c}
    - {name: dns, port: 53, protocol: UDP}
---
{apiVersion: v1, kind: Service, metadata: {name: alias}, spec: {type: ExternalName, externalName: example.com}}
---
{apiVersion: v1, kind: Service, metadata: {name: headless}, spec: {clusterIP: None, ipFamilies: [IPv6]}}
",
    );
    let web = service(&mesh.snapshot, "web");
    assert_eq!(web.id, NamespacedHostname::new("shop", "web.shop.svc.cluster.local"));
    let vips: Vec<IpAddr> = web.vips.iter().map(|vip| vip.ip).collect();
    assert_eq!(vips, [ip("10.96.0.1"), ip("fd00::60")]);
    let ports: Vec<_> = web
        .ports
        .iter()
        .map(|port| (port.service_port, port.target_port, port.app_protocol))
        .collect();
    assert_eq!(
        ports,
        [
            (80, 8080, AppProtocol::Http11),
            (81, 81, AppProtocol::Grpc),
            (82, 82, AppProtocol::Http2)
        ]
    );
    assert!(web.canonical);
    assert_eq!(web.ip_families, IpFamilies::Dual);
    let headless = service(&mesh.snapshot, "headless");
    assert!(headless.vips.is_empty());
    assert_eq!(headless.ip_families, IpFamilies::Ipv6);
    assert_eq!(mesh.snapshot.service_count(), 2, "an alias is nothing a proxy sees");
}

#[test]
fn named_ports_lead_where_each_workload_says() {
    let mesh = read(
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80, targetPort: http}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: pod, labels: {app: web, tier: front}}, spec: {containers: [{name: a}, {name: b, ports: [{name: http, containerPort: 8080}]}]}, status: {podIP: 10.0.0.1}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: vm, labels: {app: other}}, spec: {address: 10.0.0.2, labels: {app: web}, ports: {http: 9090}, weight: 3, network: far, locality: r/z}}
---
{apiVersion: v1, kind: Pod, metadata: {name: stranger, labels: {app: other}}, status: {podIP: 10.0.0.3}}
---
{apiVersion: v1, kind: Pod, metadata: {name: elsewhere, namespace: elsewhere, labels: {app: web}}, status: {podIP: 10.0.0.4}}
",
    );
    let id = service(&mesh.snapshot, "web").id.clone();
    let mut endpoints: Vec<_> = mesh
        .snapshot
        .endpoints(&id)
        .map(|(workload, membership)| {
            (workload.name().to_owned(), membership.target_port(80), workload.capacity())
        })
        .collect();
    endpoints.sort();
    assert_eq!(endpoints, [("pod".to_owned(), Some(8080), 1), ("vm".to_owned(), Some(9090), 3)]);
    let vm = workload(&mesh.snapshot, "vm");
    assert_eq!((&**vm.network(), &*vm.locality().region, &*vm.locality().zone), ("far", "r", "z"));
    assert_eq!(service(&mesh.snapshot, "web").ports[0].target_port, 0);
}

#[test]
fn a_local_file_is_read_as_ztunnel_reads_it() {
    let mesh = read(include_str!("local.yaml"));
    let web = workload(&mesh.snapshot, "web-0");
    assert_eq!(web.uid(), "c1//Pod/shop/web-0");
    assert_eq!(web.identity().to_string(), "spiffe://cluster.local/ns/shop/sa/web");
    assert_eq!(
        (web.protocol(), web.workload_type()),
        (TunnelProtocol::Hbone, WorkloadType::Deployment)
    );
    assert_eq!((web.canonical_name(), &**web.canonical_revision()), ("web", "v1"));
    let policies: Vec<&str> = web.authorization_policies().collect();
    assert_eq!(policies, ["shop/only-clients"]);
    let legacy = workload(&mesh.snapshot, "legacy-0");
    assert_eq!(legacy.protocol(), TunnelProtocol::Tcp);
    let waypoint = legacy.waypoint().unwrap();
    assert_eq!(waypoint.hbone_mtls_port, 15008);
    assert!(
        matches!(&waypoint.destination, GatewayDestination::Address(address) if address.ip == ip("10.1.0.40"))
    );

    let service = mesh.snapshot.service_by_vip("", ip("10.2.0.1"), "shop").unwrap();
    assert_eq!(service.load_balancer.mode, LoadBalancerMode::Failover);
    let endpoints: Vec<_> = mesh
        .snapshot
        .endpoints(&service.id)
        .map(|(each, membership)| (each.name(), membership.target_port(80)))
        .collect();
    assert_eq!(endpoints, [("web-0", Some(8080))]);
    assert!(mesh.snapshot.service_by_vip("", ip("10.3.7.7"), "shop").is_some(), "in the range");

    let policy = mesh.snapshot.policy("shop", "only-clients").unwrap();
    assert_eq!(
        (policy.scope, policy.action, policy.dry_run),
        (PolicyScope::WorkloadSelector, PolicyAction::Allow, true)
    );
    let [rule] = &policy.rules[..] else { panic!() };
    let [first, second] = &rule.clauses[..] else { panic!() };
    let principals = &first.matches[0].principals;
    assert_eq!(principals[0], TextMatch::Exact("cluster.local/ns/shop/sa/client".into()));
    assert_eq!(
        (&principals[1], &principals[2]),
        (&TextMatch::Prefix("cluster.local/".into()), &TextMatch::Presence)
    );
    assert_eq!(first.matches[0].namespaces, [TextMatch::Suffix("op".into())]);
    assert_eq!(second.matches[0].destination_ports, [8080]);
}

/// A local file says nothing about network namespaces; a Node document beside it does.
#[test]
fn a_node_captures_workloads_of_a_local_file() {
    let node = "apiVersion: ringway.dev/v1alpha1\nkind: Node\nmetadata: {name: node-a}\nspec: {workloads: [{name: web-0, namespace: shop, networkNamespace: web}]}\n---\n";
    let mesh = read(&(node.to_owned() + include_str!("local.yaml")));
    let [enrollment] = &mesh.enrollments[..] else { panic!("{:?}", mesh.enrollments) };
    assert_eq!(&*enrollment.uid, "c1//Pod/shop/web-0");
}

#[test]
fn what_a_cluster_prints_can_be_used_as_it_is() {
    let yaml = "apiVersion: v1
items:
- apiVersion: v1
  kind: Pod
  metadata:
    creationTimestamp: \"2026-01-01T00:00:00Z\"
    generateName: web-6f7d-
    labels: {app: web, pod-template-hash: 6f7d}
    annotations: {kubectl.kubernetes.io/restartedAt: \"2026\"}
    managedFields: [{manager: kubelet, fieldsV1: {'f:status': {}}}]
    name: web-6f7d-x
    namespace: shop
    ownerReferences: [{apiVersion: apps/v1, blockOwnerDeletion: true, controller: true, kind: ReplicaSet, name: web-6f7d, uid: 0b}]
    resourceVersion: \"1\"
    uid: 0a
  spec:
    containers:
    - {image: web, name: web, ports: [{containerPort: 8080, name: http, protocol: TCP}], env: [{name: A, value: b}]}
    nodeName: host-a
    serviceAccount: web
    serviceAccountName: web
    tolerations: [{key: a}]
  status:
    conditions: [{lastProbeTime: null, lastTransitionTime: t, status: \"True\", type: Ready}]
    hostIP: 192.168.0.1
    phase: Running
    podIP: 10.0.0.1
    podIPs: [{ip: 10.0.0.1}]
kind: List
metadata: {resourceVersion: \"\"}
";
    let json = r#"{"apiVersion": "v1", "items": [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-6f7d-x", "namespace": "shop"},
	"status": {"podIP": "10.0.0.1"}}], "kind": "PodList"}"#;
    for text in [yaml, json] {
        assert_eq!(workload(&read(text).snapshot, "web-6f7d-x").namespace(), "shop", "{text}");
    }
    let mesh = read(yaml);
    let web = workload(&mesh.snapshot, "web-6f7d-x");
    assert_eq!(
        (web.workload_name(), web.service_account(), &**web.node()),
        ("web", "web", "host-a")
    );
}

#[test]
fn anchors_and_merge_keys_are_resolved() {
    let mesh = read(
        "apiVersion: v1
kind: List
items:
- &first
  apiVersion: v1
  kind: Pod
  metadata: &metadata {name: a, labels: &labels {app: web}}
  status: {podIP: 10.0.0.1}
- {<<: *first, metadata: {<<: *metadata, name: b}, status: {podIP: 10.0.0.2}}
- {<<: [{metadata: {name: c}}, *first], status: {podIP: 10.0.0.3}}
- {apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: None, selector: *labels}}
",
    );
    let id = service(&mesh.snapshot, "web").id.clone();
    let mut names: Vec<&str> = mesh.snapshot.endpoints(&id).map(|(each, _)| each.name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b"], "c has no labels");
    assert_eq!(workload(&mesh.snapshot, "c").addresses(), [ip("10.0.0.3")]);
}

#[test]
fn a_directory_stands_for_its_files() {
    let directory = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write(
        "10-node.yaml",
        "apiVersion: ringway.dev/v1alpha1\nkind: Node\nmetadata: {name: a}\nspec: {certificateAuthority: {directory: ../ca}, workloads: [{name: web, networkNamespace: ./netns/web}]}\n",
    );
    write(
        "20-pod.json",
        r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "status": {"podIP": "10.0.0.1"}}"#,
    );
    write(
        "30-service.yml",
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: None}}",
    );
    write(".40-hidden.yaml", "nonsense");
    write("README.md", "nonsense");
    fs::create_dir(directory.path().join("50-more.yaml")).unwrap();
    let mesh = load(&[Source::Path(directory.path().into())], None).unwrap();
    assert_eq!((mesh.snapshot.workload_count(), mesh.snapshot.service_count()), (1, 1));
    assert_eq!(mesh.node.certificate_authority.directory, directory.path().join("../ca"));
    let path = directory.path().join("./netns/web");
    assert_eq!(mesh.enrollments[0].network_namespace, NetworkNamespace::Path(path));
}

#[test]
fn the_order_of_files_does_not_matter() {
    let texts = [
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.96.0.1, selector: {app: web}}}",
        "{apiVersion: v1, kind: Pod, metadata: {name: web, labels: {app: web}}, status: {podIP: 10.0.0.1}}",
        "{apiVersion: ringway.dev/v1alpha1, kind: Node, metadata: {name: a}, spec: {workloads: [{name: web, networkNamespace: web}]}}",
    ];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let sources = order
            .map(|index| Source::Text { name: index.to_string(), text: texts[index].to_owned() });
        let mesh = load(&sources, None).unwrap();
        let service = mesh.snapshot.service_by_vip("", ip("10.96.0.1"), "default").unwrap();
        assert_eq!(mesh.snapshot.endpoints(&service.id).count(), 1);
        assert_eq!(mesh.enrollments.len(), 1);
    }
}

#[test]
fn nothing_at_all_is_a_mesh_of_nobody() {
    let mesh = load(&[], Some("host-a")).unwrap();
    assert_eq!((mesh.snapshot.workload_count(), &*mesh.node.name), (0, "host-a"));
}

#[test]
fn every_setting_is_documented() {
    let documentation = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let documentation = fs::read_to_string(documentation).unwrap();
    for key in SPEC_KEYS {
        let is_row = |line: &str| {
            line.starts_with(&format!("| `{key}`")) || line.starts_with(&format!("| `{key}."))
        };
        assert!(documentation.lines().any(is_row), "docs/configuration.md lacks `{key}`");
        let text = format!(
            "{{apiVersion: ringway.dev/v1alpha1, kind: Node, metadata: {{name: a}}, spec: {{{key}: }}}}"
        );
        // An unknown key would be a mistake even without a value.
        read(&text);
    }
}
