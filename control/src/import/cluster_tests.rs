//! Objects of a cluster: the example, and everything that may be wrong with others.

use std::fs;
use std::path::{Path, PathBuf};

use ringway_engine::snapshot::{Health, Snapshot, TunnelProtocol, Visibility, Workload};
use tempfile::TempDir;

use super::*;
use crate::source::{MeshConfig, load};

fn example() -> Imported {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/cluster");
    import(&[directory], &ImportOptions::default()).unwrap()
}

fn loaded(text: &str) -> MeshConfig {
    let source = Source::Text { name: "imported".to_owned(), text: text.to_owned() };
    load(&[source], None).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"))
}

fn workload<'s>(mesh: &'s Snapshot, end: &str) -> &'s Workload {
    let mut found = mesh.workloads().filter(|one| one.uid().ends_with(end));
    found.next().unwrap_or_else(|| panic!("there is no {end}"))
}

type Ports = Vec<(u16, u16)>;

/// `service port → own port` in each of its services, and whether connections go there.
fn endpoint(mesh: &Snapshot, end: &str) -> (Vec<(String, Ports)>, Health) {
    let workload = workload(mesh, end);
    assert_eq!(workload.protocol(), TunnelProtocol::Tcp, "{end} is no workload of the mesh");
    let services = workload.services().iter().map(|membership| {
        let ports = membership.ports.iter().map(|port| (port.service_port, port.target_port));
        (membership.service.hostname().to_owned(), ports.collect())
    });
    (services.collect(), workload.health())
}

#[test]
fn endpoints_that_are_listed_lead_to_where_they_say() {
    let mesh = loaded(&example().text).snapshot;
    let database = "database.shop.svc.cluster.local".to_owned();
    let pay = ["pay.example.com", "pay.example.net"].map(str::to_owned);
    //  end of the uid                                  services and ports                              health
    let rows = [
        (
            "EndpointSlice/shop/database-1/192.168.7.1",
            vec![(database.clone(), vec![(5432, 15432)])],
            Health::Healthy,
        ),
        (
            "EndpointSlice/shop/database-1/192.168.7.2",
            vec![(database, vec![(5432, 15432)])],
            Health::Unhealthy,
        ),
        (
            "ServiceEntry/shop/payments/203.0.113.10",
            pay.clone().map(|host| (host, vec![(443, 18443)])).into(),
            Health::Healthy,
        ),
        (
            "ServiceEntry/shop/payments/203.0.113.11",
            pay.map(|host| (host, vec![])).into(),
            Health::Healthy,
        ),
    ];
    for (end, services, health) in rows {
        assert_eq!(endpoint(&mesh, end), (services, health), "{end}");
    }
    let ledger = workload(&mesh, "WorkloadEntry/shop/ledger-1").services();
    assert_eq!(
        (ledger.len(), &*ledger[0].ports.iter().map(|port| port.target_port).collect::<Vec<_>>()),
        (1, &[9443][..])
    );
    assert!(!mesh.workloads().any(|one| one.name().starts_with("migrate")), "it has ended");
}

#[test]
fn service_entries_are_services_under_their_own_names() {
    let mesh = loaded(&example().text).snapshot;
    //  host               addresses                 ranges               443 leads to  who sees it
    let rows = [
        (
            "pay.example.com",
            vec!["/172.16.0.10"],
            vec!["172.17.0.0/16"],
            8443,
            Visibility::Namespace,
        ),
        (
            "pay.example.net",
            vec!["/172.16.0.10"],
            vec!["172.17.0.0/16"],
            8443,
            Visibility::Namespace,
        ),
        ("search.example.org", vec![], vec![], 443, Visibility::Public),
        ("ledger.internal", vec!["/240.240.0.7"], vec![], 443, Visibility::Public),
    ];
    for (host, addresses, ranges, target, visibility) in rows {
        let service = mesh.services().find(|one| one.id.hostname() == host).unwrap();
        let vips: Vec<String> = service.vips.iter().map(ToString::to_string).collect();
        let cidrs: Vec<String> = service.cidr_vips.iter().map(|one| one.cidr.to_string()).collect();
        assert_eq!(
            (vips, cidrs),
            (
                addresses.iter().map(|one| (*one).to_owned()).collect(),
                ranges.iter().map(|one| (*one).to_owned()).collect()
            ),
            "{host}"
        );
        let port = service.ports.iter().find(|port| port.service_port == 443).unwrap();
        assert_eq!(
            (port.target_port, service.visibility, service.canonical),
            (target, visibility, false),
            "{host}"
        );
    }
}

#[test]
fn what_is_written_means_what_was_read_and_imports_to_itself() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/cluster");
    let sources = files::find(&[directory]).unwrap();
    let (sifted, imported) = objects::objects(&sources).unwrap();
    let (read, written) = (sifted.mesh.snapshot, loaded(&imported.text).snapshot);
    assert_eq!((written.workload_count(), written.service_count()), (8, 7));
    for workload in read.workloads() {
        let again = written.workload_by_uid(workload.uid()).unwrap();
        assert_eq!(
            (workload.addresses(), workload.protocol(), workload.health(), workload.identity()),
            (again.addresses(), again.protocol(), again.health(), again.identity()),
        );
        assert_eq!(workload.hostname(), again.hostname());
        assert_eq!(workload.services(), again.services());
    }
    let services: Vec<_> = read.services().collect();
    assert!(services.iter().all(|one| written.service(&one.id).is_some_and(|again| again == *one)));

    let home = TempDir::new().unwrap();
    let file = home.path().join("mesh.yaml");
    fs::write(&file, &imported.text).unwrap();
    let again = import(&[file], &ImportOptions::default()).unwrap();
    assert_eq!((again.text, again.notes), (imported.text, vec![]));
}

#[test]
fn only_what_is_needed_is_written_and_the_rest_is_told() {
    let imported = example();
    for hidden in [
        "not-to-be-seen",
        "managedFields",
        "last-applied",
        "newKeyOfAClusterYetToCome",
        "loadBalancer",
    ] {
        assert!(!imported.text.contains(hidden), "{hidden}");
    }
    for told in [
        "left out: Deployment (apps/v1), once: it makes Pods",
        "left out: NetworkPolicy (networking.k8s.io/v1), once",
        "left out: Secret (v1), once",
        "left out: Pod, once: it has ended, or has no address yet [shop/migrate-29418720-8xk2m]",
        "left out: EndpointSlice, once: its endpoints are Pods, which its Service selects [shop/web-abcde]",
        "left out: ServiceEntry, once: its resolution is DYNAMIC_DNS",
        "left out: a document, once: it is no object",
        "written, for it is Istio's default and not Ringway's: a PeerAuthentication in istio-system",
    ] {
        assert!(
            imported.notes.iter().any(|note| note.contains(told)),
            "{told}: {:#?}",
            imported.notes
        );
    }
    let taken: Vec<_> = imported.taken.iter().map(|(kind, count)| (&**kind, *count)).collect();
    assert_eq!(
        taken[..4],
        [
            ("AuthorizationPolicy", 1),
            ("EndpointSlice", 1),
            ("Namespace", 1),
            ("PeerAuthentication", 1)
        ]
    );
    assert_eq!(imported.warnings.warnings(), 1, "{}", imported.warnings);
}

#[test]
fn a_node_captures_what_its_host_captures() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/cluster");
    let options = |node: &str| ImportOptions {
        nodes: vec![node.to_owned()],
        network_namespace: Some("{namespace}-{name}".to_owned()),
    };
    let imported = import(std::slice::from_ref(&directory), &options("worker-2")).unwrap();
    assert_eq!(imported.captured, 1);
    let captured = loaded(&imported.text).enrollments;
    assert_eq!(captured[0].uid.as_ref(), "Kubernetes//Pod/shop/cart-0");
    let error = import(&[directory], &options("worker-3")).unwrap_err();
    assert!(error.to_string().contains("there are worker-1, worker-2"), "{error}");
}

/// The mode of the mesh after an import of these objects, and how many PeerAuthentications there are.
fn mesh_wide(objects: &str) -> (Option<String>, usize) {
    let home = TempDir::new().unwrap();
    fs::write(home.path().join("mesh.yaml"), format!("{objects}\n---\n{POD}")).unwrap();
    let imported = import(&[home.path().to_owned()], &ImportOptions::default());
    let imported = imported.unwrap_or_else(|error| panic!("{error}"));
    let (_, list) = imported.text.split_once("\"items\":").unwrap();
    let items: Vec<Value> = serde_json::from_str(list.trim_end().trim_end_matches('}')).unwrap();
    let modes = items.iter().filter(|item| item["kind"] == "PeerAuthentication");
    let modes: Vec<_> =
        modes.map(|item| item["spec"]["mtls"]["mode"].as_str().map(str::to_owned)).collect();
    (modes.first().cloned().flatten(), modes.len())
}

const POD: &str =
    "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop}, status: {podIP: 10.0.0.1}}";

#[test]
fn where_istio_says_nothing_clients_without_an_identity_are_let_in() {
    let of_mesh = |spec: &str| {
        format!(
            "{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: d, namespace: istio-system}}, spec: {spec}}}"
        )
    };
    let node = "{apiVersion: ringway.dev/v1alpha1, kind: Node, metadata: {name: host-a}, spec: {}}";
    let (permissive, strict) = (Some("PERMISSIVE".to_owned()), Some("STRICT".to_owned()));
    assert_eq!(mesh_wide(""), (permissive.clone(), 1));
    assert_eq!(mesh_wide(&of_mesh("{mtls: {mode: STRICT}}")), (strict, 1));
    assert_eq!(mesh_wide(&of_mesh("{mtls: {mode: UNSET}}")), (permissive.clone(), 1));
    assert_eq!(mesh_wide(&of_mesh("{}")), (permissive, 1));
    assert_eq!(mesh_wide(node), (None, 0), "these files were written for Ringway");
}

/// An operator of Istio's is told what to write instead, or what is not done.
#[test]
fn istios_kinds_that_are_not_read_are_told_with_a_reason() {
    //  kind              apiVersion                        reason
    let rows = [
        ("VirtualService", "networking.istio.io/v1", "its routing is not read; an HTTPRoute is"),
        ("Sidecar", "networking.istio.io/v1", "it configures sidecars, and there are none"),
        (
            "EnvoyFilter",
            "networking.istio.io/v1alpha3",
            "there is no Envoy: what it does is not done",
        ),
        ("WasmPlugin", "extensions.istio.io/v1alpha1", "it runs in Envoy, and there is none"),
        ("Telemetry", "telemetry.istio.io/v1", "flags and variables say what is logged"),
        ("Ingress", "networking.k8s.io/v1", "a Gateway and its HTTPRoutes are"),
        ("Colour", "example.org/v1", "Ringway has no use for this kind"),
    ];
    for (kind, version, reason) in rows {
        let home = TempDir::new().unwrap();
        let object = format!(
            "---\n{{apiVersion: {version}, kind: {kind}, metadata: {{name: x}}, spec: {{}}}}\n"
        );
        let file = home.path().join("mesh.yaml");
        fs::write(&file, format!("{POD}\n{object}")).unwrap();
        let notes = import(&[file], &ImportOptions::default()).unwrap().notes;
        let start = format!("left out: {kind} ({version}), once: ");
        assert!(
            notes.iter().any(|note| note.starts_with(&start) && note.contains(reason)),
            "{kind}: {notes:?}"
        );
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    let policy = |spec: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n"
        )
    };
    let entry = |spec: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e}}\nspec: {{resolution: STATIC, {spec}}}\n"
        )
    };
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s}\naddressType: IPv9\n";
    //  name                                   second file                                  want
    let rows: [(&str, String, &str); 9] = [
        ("a template", "{{ .Values.name }}: [\n".to_owned(), "b.yaml:1:"),
        (
            "a key of a policy that does not exist",
            policy("{rulez: []}"),
            "b.yaml:4:8: error: unknown key `rulez` in `spec`",
        ),
        (
            "a range that is none",
            policy("{rules: [{from: [{source: {ipBlocks: [10.0.0.0/99]}}]}]}"),
            "b.yaml:4:",
        ),
        (
            "a version of a known kind that is not known",
            policy("{}").replace("/v1\n", "/v9\n"),
            "b.yaml:1:13: error: the kind `AuthorizationPolicy` has no apiVersion",
        ),
        ("an object twice", POD.to_owned(), "b.yaml:1:46: error: two workloads are named `shop/a`"),
        (
            "an object without a kind",
            "apiVersion: v1\nmetadata: {name: x}\n".to_owned(),
            "b.yaml:1:1: error: this object lacks the required key `kind`",
        ),
        (
            "an address that is none",
            entry("hosts: [a.b], endpoints: [{address: a.b}]"),
            "b.yaml:4:",
        ),
        (
            "endpoints and a selector",
            entry("hosts: [a.b], endpoints: [], workloadSelector: {labels: {a: b}}"),
            "cannot stand in one ServiceEntry",
        ),
        (
            "a family that is none",
            slice.to_owned(),
            "b.yaml:4:14: error: expected `IPv4`, `IPv6` or `FQDN`",
        ),
    ];
    for (name, text, want) in rows {
        let home = TempDir::new().unwrap();
        fs::create_dir(home.path().join("deep")).unwrap();
        fs::write(home.path().join("a.yaml"), POD).unwrap();
        fs::write(home.path().join("deep/b.yaml"), text).unwrap();
        let error = import(&[home.path().to_owned()], &ImportOptions::default()).unwrap_err();
        assert!(error.to_string().contains(want), "{name}: {error}");
    }
}

#[test]
fn every_file_below_a_directory_is_read_and_nothing_hidden() {
    let home = TempDir::new().unwrap();
    let at = |path: &str| home.path().join(path);
    for directory in ["one/two/three", ".git", "empty"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    for file in
        ["b.yml", "a.yaml", "one/two/three/c.json", ".git/d.yaml", "one/.e.yaml", "one/readme.md"]
    {
        fs::write(at(file), "").unwrap();
    }
    std::os::unix::fs::symlink(home.path(), at("one/loop")).unwrap();
    let found = files::find(&[home.path().to_owned()]).unwrap();
    let want: Vec<Source> = ["a.yaml", "b.yml", "one/two/three/c.json"]
        .iter()
        .map(|path| Source::Path(at(path)))
        .collect();
    assert_eq!(found, want);
    let nothing = import(&[at("empty")], &ImportOptions::default()).unwrap_err();
    assert!(matches!(nothing, ImportError::NoFiles(_)), "{nothing}");
    let nothing = import(&[home.path().to_owned()], &ImportOptions::default()).unwrap_err();
    assert!(matches!(&nothing, ImportError::NoObjects(notes) if notes.len() == 1), "{nothing}");
    let missing = import(&[PathBuf::from("/nowhere")], &ImportOptions::default()).unwrap_err();
    assert!(matches!(missing, ImportError::Unreadable(..)), "{missing}");
}
