//! What AuthorizationPolicies and PeerAuthentications come to.

use ringway_engine::decide::{Facts, authorize};
use ringway_engine::snapshot::{
    AuthorizationPolicy, Cidr, Interner, PolicyAction, PolicyClause, PolicyMatch, PolicyRule,
    PolicyScope, ServiceAccountMatch, Snapshot, TextMatch, WorkloadDescription,
};
use ringway_protocols::identity::Identity;

use crate::source::{Diagnostics, MeshConfig, Source, load};

fn load_text(text: &str) -> Result<MeshConfig, Diagnostics> {
    let source = Source::Text { name: "mesh.yaml".to_owned(), text: text.to_owned() };
    load(&[source], Some("host-a"))
}

fn read(text: &str) -> MeshConfig {
    load_text(text).unwrap_or_else(|diagnostics| panic!("{diagnostics}\n{text}"))
}

/// The policy `shop/p` with this `spec`, and how many warnings there were.
fn policy_of(spec: &str) -> (AuthorizationPolicy, usize) {
    let mesh = read(&format!(
        "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: p, namespace: shop}}, spec: {spec}}}"
    ));
    let policy = mesh.snapshot.policy("shop", "p").unwrap_or_else(|| panic!("no policy of {spec}"));
    ((**policy).clone(), mesh.warnings.warnings())
}

/// Clauses of alternatives.
fn rule<const N: usize>(clauses: [Vec<PolicyMatch>; N]) -> PolicyRule {
    let clauses = clauses.into_iter().map(|matches| PolicyClause { matches });
    PolicyRule { clauses: clauses.collect() }
}

fn matching(fill: impl FnOnce(&mut PolicyMatch)) -> PolicyMatch {
    let mut one = PolicyMatch::default();
    fill(&mut one);
    one
}

fn exact(text: &str) -> TextMatch {
    TextMatch::Exact(text.into())
}

fn account(namespace: &str, service_account: &str) -> ServiceAccountMatch {
    ServiceAccountMatch { namespace: namespace.into(), service_account: service_account.into() }
}

fn cidr(text: &str) -> Cidr {
    let (ip, length) = text.split_once('/').unwrap();
    Cidr::new(ip.parse().unwrap(), length.parse().unwrap()).unwrap()
}

/// Every key of a rule that a node proxy can judge.
#[test]
fn rules_become_clauses() {
    let source = |fill: fn(&mut PolicyMatch)| vec![rule([vec![matching(fill)]])];
    let rows: Vec<(&str, Vec<PolicyRule>)> = vec![
        ("[]", vec![]),
        ("[{}]", vec![rule([])]),
        ("[{}, {}]", vec![rule([]), rule([])]),
        (
            "[{from: [{source: {principals: ['*', 'cluster.local/*', '*/sa/b', cluster.local/ns/a/sa/b]}}]}]",
            source(|one| {
                one.principals = vec![
                    TextMatch::Presence,
                    TextMatch::Prefix("cluster.local/".into()),
                    TextMatch::Suffix("/sa/b".into()),
                    exact("cluster.local/ns/a/sa/b"),
                ];
            }),
        ),
        (
            "[{from: [{source: {notPrincipals: ['*']}}]}]",
            source(|one| one.not_principals = vec![TextMatch::Presence]),
        ),
        (
            "[{from: [{source: {namespaces: [a, 'b*']}}]}]",
            source(|one| one.namespaces = vec![exact("a"), TextMatch::Prefix("b".into())]),
        ),
        (
            "[{from: [{source: {notNamespaces: ['*b']}}]}]",
            source(|one| one.not_namespaces = vec![TextMatch::Suffix("b".into())]),
        ),
        (
            "[{from: [{source: {serviceAccounts: [web, other/web]}}]}]",
            source(|one| {
                one.service_accounts = vec![account("shop", "web"), account("other", "web")];
            }),
        ),
        (
            "[{from: [{source: {notServiceAccounts: [web]}}]}]",
            source(|one| one.not_service_accounts = vec![account("shop", "web")]),
        ),
        (
            "[{from: [{source: {ipBlocks: [10.1.2.3, 10.0.0.0/8, '::1', 'fd00::/8']}}]}]",
            source(|one| {
                one.source_ips =
                    ["10.1.2.3/32", "10.0.0.0/8", "::1/128", "fd00::/8"].map(cidr).into();
            }),
        ),
        (
            "[{from: [{source: {ipBlocks: ['::ffff:10.1.2.3', '::ffff:10.0.0.0/104']}}]}]",
            source(|one| one.source_ips = ["10.1.2.3/32", "10.0.0.0/8"].map(cidr).into()),
        ),
        (
            "[{from: [{source: {notIpBlocks: [0.0.0.0/0]}}]}]",
            source(|one| one.not_source_ips = vec![cidr("0.0.0.0/0")]),
        ),
        (
            "[{to: [{operation: {ports: ['80', \"65535\"]}}]}]",
            source(|one| one.destination_ports = vec![80, 65535]),
        ),
        (
            "[{to: [{operation: {notPorts: ['1']}}]}]",
            source(|one| one.not_destination_ports = vec![1]),
        ),
        (
            "[{when: [{key: source.ip, values: [10.0.0.0/8], notValues: [10.1.0.0/16]}]}]",
            source(|one| {
                one.source_ips = vec![cidr("10.0.0.0/8")];
                one.not_source_ips = vec![cidr("10.1.0.0/16")];
            }),
        ),
        (
            "[{when: [{key: source.namespace, values: [a], notValues: [b]}]}]",
            source(|one| {
                one.namespaces = vec![exact("a")];
                one.not_namespaces = vec![exact("b")];
            }),
        ),
        (
            "[{when: [{key: source.principal, values: ['*'], notValues: ['*/sa/b']}]}]",
            source(|one| {
                one.principals = vec![TextMatch::Presence];
                one.not_principals = vec![TextMatch::Suffix("/sa/b".into())];
            }),
        ),
        (
            "[{when: [{key: source.serviceAccount, values: [a/b], notValues: [c]}]}]",
            source(|one| {
                one.service_accounts = vec![account("a", "b")];
                one.not_service_accounts = vec![account("shop", "c")];
            }),
        ),
        (
            "[{when: [{key: destination.ip, values: [10.0.0.1], notValues: [10.0.0.2]}]}]",
            source(|one| {
                one.destination_ips = vec![cidr("10.0.0.1/32")];
                one.not_destination_ips = vec![cidr("10.0.0.2/32")];
            }),
        ),
        (
            "[{when: [{key: destination.port, values: ['80'], notValues: ['81']}]}]",
            source(|one| {
                one.destination_ports = vec![80];
                one.not_destination_ports = vec![81];
            }),
        ),
        // Sources are alternatives, and so are operations; both must hold, and every condition.
        (
            "[{from: [{source: {namespaces: [a], ipBlocks: [10.0.0.1]}}, {source: {namespaces: [b]}}],
               to: [{operation: {ports: ['1']}}, {operation: {ports: ['2'], notPorts: ['3']}}],
               when: [{key: source.namespace, values: [c]}, {key: destination.port, values: ['4']}]}]",
            vec![rule([
                vec![
                    matching(|one| {
                        one.namespaces = vec![exact("a")];
                        one.source_ips = vec![cidr("10.0.0.1/32")];
                    }),
                    matching(|one| one.namespaces = vec![exact("b")]),
                ],
                vec![
                    matching(|one| one.destination_ports = vec![1]),
                    matching(|one| {
                        one.destination_ports = vec![2];
                        one.not_destination_ports = vec![3];
                    }),
                ],
                vec![matching(|one| one.namespaces = vec![exact("c")])],
                vec![matching(|one| one.destination_ports = vec![4])],
            ])],
        ),
    ];
    for (rules, want) in rows {
        for (text, action) in [("ALLOW", PolicyAction::Allow), ("DENY", PolicyAction::Deny)] {
            let (policy, warnings) = policy_of(&format!("{{action: {text}, rules: {rules}}}"));
            assert_eq!(policy.rules, want, "{text} {rules}");
            assert_eq!(policy.action, action, "{text} {rules}");
            let denies_nobody = action == PolicyAction::Deny && want.is_empty();
            assert_eq!(warnings, usize::from(denies_nobody), "{text} {rules}");
        }
    }
}

/// Nobody is let in because a node proxy cannot see what would have kept him out; and nobody gets around a DENY.
#[test]
fn what_needs_a_waypoint_never_lets_in() {
    let anybody = rule([]);
    let a = || matching(|one| one.namespaces = vec![exact("a")]);
    // What a DENY policy is left with; an ALLOW policy is left with nothing.
    let rows: Vec<(&str, PolicyRule)> = vec![
        ("{to: [{operation: {methods: [GET]}}]}", anybody.clone()),
        ("{to: [{operation: {notMethods: [GET]}}]}", anybody.clone()),
        ("{to: [{operation: {hosts: [a.example]}}]}", anybody.clone()),
        ("{to: [{operation: {notHosts: [a.example]}}]}", anybody.clone()),
        ("{to: [{operation: {paths: [/a]}}]}", anybody.clone()),
        ("{to: [{operation: {notPaths: [/a]}}]}", anybody.clone()),
        ("{from: [{source: {requestPrincipals: ['*']}}]}", anybody.clone()),
        ("{from: [{source: {notRequestPrincipals: ['*']}}]}", anybody.clone()),
        ("{from: [{source: {remoteIpBlocks: [10.0.0.1]}}]}", anybody.clone()),
        ("{from: [{source: {notRemoteIpBlocks: [10.0.0.1]}}]}", anybody.clone()),
        ("{when: [{key: 'request.headers[x]', values: [a]}]}", anybody.clone()),
        ("{when: [{key: remote.ip, notValues: [10.0.0.1]}]}", anybody.clone()),
        ("{when: [{key: connection.sni, values: [a]}]}", anybody.clone()),
        ("{when: [{key: request.auth.principal, values: [a]}]}", anybody.clone()),
        ("{when: [{key: request.auth.audiences, values: [a]}]}", anybody.clone()),
        ("{when: [{key: request.auth.presenter, values: [a]}]}", anybody.clone()),
        ("{when: [{key: 'request.auth.claims[iss]', values: [a]}]}", anybody.clone()),
        ("{when: [{key: experimental.envoy.filters.x, values: [a]}]}", anybody.clone()),
        // The rest of the rule stays.
        (
            "{from: [{source: {namespaces: [a]}}], to: [{operation: {paths: [/a]}}]}",
            rule([vec![a()]]),
        ),
        ("{from: [{source: {namespaces: [a], requestPrincipals: [b]}}]}", rule([vec![a()]])),
        (
            "{to: [{operation: {ports: ['1'], methods: [GET]}}]}",
            rule([vec![matching(|one| one.destination_ports = vec![1])]]),
        ),
        // One of the alternatives always holds.
        (
            "{from: [{source: {namespaces: [a]}}, {source: {requestPrincipals: [b]}}]}",
            anybody.clone(),
        ),
    ];
    let never = || rule([vec![PolicyMatch::default()]]);
    let harmless = "{from: [{source: {namespaces: [a]}}]}";
    for (text, want) in rows {
        let (policy, warnings) = policy_of(&format!("{{action: DENY, rules: [{text}]}}"));
        assert_eq!((&policy.rules[..], warnings), (&[want][..], 1), "DENY {text}");
        let (policy, warnings) = policy_of(&format!("{{rules: [{text}]}}"));
        // It keeps its place, so that the other rules keep their numbers.
        assert_eq!((&policy.rules[..], warnings), (&[never()][..], 1), "ALLOW {text}");
        assert_eq!(policy.action, PolicyAction::Allow, "it still is there, and lets nobody in");
        assert!(!is_let_in(&policy), "ALLOW {text}");
        let (policy, warnings) = policy_of(&format!("{{rules: [{text}, {harmless}]}}"));
        let want = [never(), rule([vec![a()]])];
        assert_eq!((&policy.rules[..], warnings), (&want[..], 1), "ALLOW {text}");
        assert!(is_let_in(&policy), "ALLOW {text}");
    }
}

/// Whether the data plane lets `spiffe://cluster.local/ns/a/sa/b` in when there is only this policy.
fn is_let_in(policy: &AuthorizationPolicy) -> bool {
    let mut snapshot = Snapshot::new("");
    snapshot.upsert_policy(policy.clone());
    let description = WorkloadDescription {
        uid: "web".to_owned(),
        namespace: "shop".to_owned(),
        ..WorkloadDescription::default()
    };
    let workload = Interner::new().workload(description).unwrap();
    let client = Identity::new("cluster.local", "a", "b").unwrap();
    let destination = "10.0.0.2:80".parse().unwrap();
    let facts = Facts::new("10.0.0.1".parse().unwrap(), destination, Some(&client));
    authorize(&snapshot, &workload, &facts).outcome.is_ok()
}

#[test]
fn an_empty_policy_lets_nobody_in() {
    let (policy, warnings) = policy_of("{}");
    assert_eq!((policy.action, policy.rules.len(), warnings), (PolicyAction::Allow, 0, 0));
    assert!(!is_let_in(&policy));
    assert!(!policy.dry_run);
}

const MESH: &str = "
{apiVersion: ringway.dev/v1alpha1, kind: Node, metadata: {name: host-a}, spec: {rootNamespace: root}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: root, labels: {istio.io/dataplane-mode: ambient}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-1, namespace: shop, labels: {app: web, version: v1}}, status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-2, namespace: shop, labels: {app: web, version: v2}}, status: {podIP: 10.0.0.2}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: db, namespace: shop, labels: {app: db}}, spec: {address: 10.0.0.3}}
---
{apiVersion: v1, kind: Pod, metadata: {name: root, namespace: root, labels: {app: web}}, status: {podIP: 10.0.0.4}}
---
{apiVersion: v1, kind: Pod, metadata: {name: outside, namespace: other, labels: {app: web}}, status: {podIP: 10.0.0.5}}
";

/// What the workload names.
fn named(snapshot: &Snapshot, name: &str) -> Vec<String> {
    let mut found = snapshot.workloads().filter(|workload| workload.name() == name);
    let workload = found.next().unwrap_or_else(|| panic!("no workload {name}"));
    let names: Vec<String> = workload.authorization_policies().map(str::to_owned).collect();
    for name in &names {
        let (namespace, name) = name.split_once('/').unwrap();
        assert!(snapshot.policy(namespace, name).is_some(), "there is no {namespace}/{name}");
    }
    names
}

fn authorization(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: security.istio.io/v1beta1, kind: AuthorizationPolicy, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{{spec}}}}}\n"
    )
}

#[test]
fn a_selector_selects_in_its_namespace_and_the_roots_everywhere() {
    let select = |labels: &str| format!("selector: {{matchLabels: {{{labels}}}}}");
    let text = [
        MESH.to_owned(),
        authorization("web", "shop", &select("app: web")),
        authorization("v2", "shop", &select("version: v2, app: web")),
        authorization("everywhere", "root", &select("app: web")),
        authorization("all-of-shop", "shop", "selector: {}"),
        authorization("all-of-shop-2", "shop", "selector: {matchLabels: {}}"),
        authorization("all", "root", ""),
    ];
    let mesh = read(&text.concat());
    assert!(mesh.warnings.is_empty(), "{}", mesh.warnings);
    let strict = "root/istio_converted_static_strict";
    assert_eq!(named(&mesh.snapshot, "web-1"), ["shop/web", "root/everywhere", strict]);
    assert_eq!(named(&mesh.snapshot, "web-2"), ["shop/web", "shop/v2", "root/everywhere", strict]);
    assert_eq!(named(&mesh.snapshot, "db"), [strict]);
    assert_eq!(named(&mesh.snapshot, "root"), ["root/everywhere", strict]);
    assert!(named(&mesh.snapshot, "outside").is_empty(), "outside the mesh nobody looks");
    let scope = |namespace: &str, name: &str| mesh.snapshot.policy(namespace, name).unwrap().scope;
    assert_eq!(scope("shop", "web"), PolicyScope::WorkloadSelector);
    assert_eq!(scope("root", "everywhere"), PolicyScope::WorkloadSelector);
    assert_eq!(scope("shop", "all-of-shop"), PolicyScope::Namespace);
    assert_eq!(scope("shop", "all-of-shop-2"), PolicyScope::Namespace);
    assert_eq!(scope("root", "all"), PolicyScope::Global);
}

#[test]
fn what_has_no_effect_is_left_out_and_told() {
    let audit = "action: AUDIT, rules: [{to: [{operation: {methods: [GET]}}]}]";
    let attached = [
        "targetRefs: [{kind: Service, group: '', name: web}]",
        "targetRef: {kind: Gateway, group: gateway.networking.k8s.io, name: web}",
    ];
    // Of a program with waypoints they have one.
    let attached = attached.into_iter().filter(|_| !cfg!(feature = "waypoint"));
    for spec in [audit].into_iter().chain(attached) {
        let mesh = read(&(MESH.to_owned() + &authorization("p", "shop", spec)));
        assert!(mesh.snapshot.policy("shop", "p").is_none(), "{spec}");
        assert_eq!(mesh.warnings.warnings(), 1, "{spec}: {}", mesh.warnings);
        assert!(mesh.warnings.to_string().contains("no effect"), "{}", mesh.warnings);
    }
}

#[test]
fn a_dry_run_is_annotated() {
    for (value, want) in [("true", true), ("false", false)] {
        let text = format!(
            "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: p, namespace: shop, annotations: {{istio.io/dry-run: '{value}'}}}}, spec: {{}}}}"
        );
        assert_eq!(read(&text).snapshot.policy("shop", "p").unwrap().dry_run, want);
    }
}

fn peer(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{{spec}}}}}\n"
    )
}

/// What is said for fewer workloads wins; where nothing is said nobody gets in without an identity.
#[test]
fn mutual_tls_is_strict_unless_somebody_says_otherwise() {
    let web = "selector: {matchLabels: {app: web}}";
    let mode = |mode: &str| format!("mtls: {{mode: {mode}}}");
    let web_is = |how: &str| format!("{web}, {}", mode(how));
    // mesh, namespace `shop`, workload `web`: whether `web-1`, `db` and `root` are closed to plaintext.
    let rows = [
        (None, None, None, [true, true, true]),
        (Some(mode("STRICT")), None, None, [true, true, true]),
        (Some(mode("PERMISSIVE")), None, None, [false, false, false]),
        (Some(mode("DISABLE")), None, None, [false, false, false]),
        (Some(mode("UNSET")), None, None, [true, true, true]),
        (Some(String::new()), None, None, [true, true, true]),
        (Some("mtls: {}".to_owned()), None, None, [true, true, true]),
        (None, Some(mode("PERMISSIVE")), None, [false, false, true]),
        (Some(mode("PERMISSIVE")), Some(mode("STRICT")), None, [true, true, false]),
        (Some(mode("PERMISSIVE")), Some(mode("UNSET")), None, [false, false, false]),
        (None, None, Some(web_is("PERMISSIVE")), [false, true, true]),
        (Some(mode("PERMISSIVE")), None, Some(web_is("STRICT")), [true, false, false]),
        (None, Some(mode("PERMISSIVE")), Some(web_is("STRICT")), [true, false, true]),
        (None, Some(mode("PERMISSIVE")), Some(web_is("UNSET")), [false, false, true]),
        (None, Some(mode("PERMISSIVE")), Some(web.to_owned()), [false, false, true]),
        (Some(mode("PERMISSIVE")), Some(mode("STRICT")), Some(web.to_owned()), [true, true, false]),
    ];
    for (mesh, namespace, workload, want) in rows {
        let mut text = MESH.to_owned();
        for (name, at, spec) in
            [("a", "root", &mesh), ("b", "shop", &namespace), ("c", "shop", &workload)]
        {
            text.extend(spec.as_ref().map(|spec| peer(name, at, spec)));
        }
        let read = read(&text);
        for (workload, want) in ["web-1", "db", "root"].into_iter().zip(want) {
            let names = named(&read.snapshot, workload);
            let strict: &[&str] = if want { &["root/istio_converted_static_strict"] } else { &[] };
            assert_eq!(names, strict, "{workload} of {text}");
        }
    }
    let strict = read(MESH).snapshot.policy("root", "istio_converted_static_strict").cloned();
    let strict = strict.unwrap();
    assert_eq!(strict.rules, [rule([vec![nobody()]])]);
    assert_eq!((strict.action, strict.dry_run), (PolicyAction::Deny, false));
    assert_eq!(strict.scope, PolicyScope::WorkloadSelector);
}

/// A policy that is for nobody protects nobody; most often its namespace is mistyped.
#[test]
fn a_policy_for_a_namespace_without_workloads_is_told() {
    let described = "---\n{apiVersion: v1, kind: Namespace, metadata: {name: later}}\n";
    let none = "which has no workload";
    //  name                        namespace  help or message
    #[rustfmt::skip]
    let rows = [
        ("somebody is there",       "shop",    None),
        ("the whole mesh",          "root",    None),
        ("yet to come, as is said", "later",   None),
        ("nearly the root",         "rooot",   Some([none, "did you mean `root`?"])),
        ("nearly a namespace",      "shpo",    Some([none, "did you mean `shop`?"])),
        ("no such namespace",       "nowhere", Some([none, "a `Namespace` says so"])),
        ("nobody of the mesh",      "other",   Some(["which has only workloads", "outside the mesh"])),
    ];
    for (name, namespace, want) in rows {
        let deny = authorization("p", namespace, "action: DENY, rules: [{}]");
        for policy in [deny, peer("p", namespace, "mtls: {mode: STRICT}")] {
            let said = read(&(MESH.to_owned() + described + &policy)).warnings;
            assert_eq!(said.warnings(), usize::from(want.is_some()), "{name}: {said}");
            for part in want.into_iter().flatten() {
                assert!(said.to_string().contains(part), "{name}: {said}");
            }
        }
    }
    // Where nobody is in the mesh, it may be in other files.
    let alone = read(&authorization("p", "nowhere", ""));
    assert!(alone.warnings.is_empty(), "{}", alone.warnings);
    // A workload of a local file has the policies of its namespace.
    let local = read(&(LOCAL.replace("NAMED", "") + &authorization("p", "shop", "")));
    assert!(local.warnings.is_empty(), "{}", local.warnings);
}

/// What was to be tried out would be enforced.
#[test]
fn an_annotation_that_is_nearly_a_dry_run_is_told() {
    //  annotation                                             told
    #[rustfmt::skip]
    let rows = [
        ("istio.io/dry-run",                                   false),
        ("istio.io/dryrun",                                    true),
        ("istio.io/dry_run",                                   true),
        ("istio.io/Dry-Run",                                   true),
        ("isto.io/dry-run",                                    true),
        ("istio.io/rev",                                       false),
        ("istio.io/reason",                                    false),
        ("security.istio.io/dry-run",                          false),
        ("dry-run",                                            false),
        ("kubectl.kubernetes.io/last-applied-configuration",   false),
    ];
    for (annotation, told) in rows {
        let mesh = read(&format!(
            "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: p, annotations: {{{annotation}: 'true'}}}}, spec: {{}}}}"
        ));
        let said = mesh.warnings.to_string();
        assert_eq!(said.contains("did you mean `istio.io/dry-run`?"), told, "{annotation}: {said}");
        assert_eq!(mesh.warnings.is_empty(), !told, "{annotation}: {said}");
    }
}

#[test]
fn a_port_is_written_in_one_way() {
    for (port, is_one) in [
        ("80", true),
        ("65535", true),
        ("08", false),
        ("+80", false),
        ("0", false),
        ("65536", false),
    ] {
        let text = authorization(
            "p",
            "shop",
            &format!("rules: [{{to: [{{operation: {{ports: ['{port}']}}}}]}}]"),
        );
        let said = load_text(&text).map_err(|mistakes| mistakes.to_string());
        assert_eq!(said.is_ok(), is_one, "{port}: {:?}", said.err());
    }
}

fn nobody() -> PolicyMatch {
    matching(|one| one.not_principals = vec![TextMatch::Presence])
}

#[test]
fn ports_can_differ() {
    let only = |ports: &[u16]| {
        let ports = ports.to_vec();
        Some(rule([vec![nobody()], vec![matching(|one| one.destination_ports = ports)]]))
    };
    let but = |ports: &[u16]| {
        let ports = ports.to_vec();
        Some(rule([vec![nobody()], vec![matching(|one| one.not_destination_ports = ports)]]))
    };
    // Namespace, workload, ports: the rule, or the policy's name without one.
    let rows = [
        ("UNSET", "STRICT", "9: {mode: PERMISSIVE}, 8: {mode: DISABLE}", but(&[8, 9]), ""),
        ("UNSET", "STRICT", "9: {mode: STRICT}", None, "strict"),
        ("UNSET", "UNSET", "9: {mode: PERMISSIVE}", but(&[9]), ""),
        ("UNSET", "PERMISSIVE", "9: {mode: STRICT}, 8: {mode: PERMISSIVE}", only(&[9]), ""),
        ("UNSET", "PERMISSIVE", "9: {mode: UNSET}, 8: {}", None, ""),
        ("PERMISSIVE", "UNSET", "9: {mode: STRICT}", only(&[9]), ""),
        ("STRICT", "UNSET", "'9': {mode: PERMISSIVE}", but(&[9]), ""),
    ];
    for (namespace, workload, ports, want, otherwise) in rows {
        let text = MESH.to_owned()
            + &peer("wide", "shop", &format!("mtls: {{mode: {namespace}}}"))
            + &peer(
                "narrow",
                "shop",
                &format!(
                    "selector: {{matchLabels: {{app: web}}}}, mtls: {{mode: {workload}}}, portLevelMtls: {{{ports}}}"
                ),
            );
        let snapshot = read(&text).snapshot;
        let converted = snapshot.policy("shop", "converted_peer_authentication_narrow");
        let rules = converted.map(|policy| policy.rules.clone());
        assert_eq!(rules, want.clone().map(|rule| vec![rule]), "{text}");
        let names = named(&snapshot, "web-1");
        match (want, otherwise) {
            (Some(_), _) => assert_eq!(names, ["shop/converted_peer_authentication_narrow"]),
            (None, "strict") => assert_eq!(names, ["root/istio_converted_static_strict"]),
            (None, _) => assert!(names.is_empty(), "{names:?} of {text}"),
        }
    }
}

const LOCAL: &str = "
workloads:
- {uid: c//Pod/shop/local, name: local, namespace: shop, trustDomain: cluster.local, serviceAccount: a, protocol: HBONE, workloadIps: [10.0.0.9], services: {}, authorizationPolicies: [NAMED]}
";

/// ztunnel's local file says everything itself: no default, no selector, but the policies of its namespace.
#[test]
fn workloads_of_a_local_file_have_the_policies_they_name() {
    let mesh = read(&LOCAL.replace("NAMED", ""));
    assert!(mesh.warnings.is_empty(), "{}", mesh.warnings);
    assert!(named(&mesh.snapshot, "local").is_empty());

    let strict = "istio-system/istio_converted_static_strict";
    let mesh = read(&LOCAL.replace("NAMED", strict));
    assert_eq!(named(&mesh.snapshot, "local"), [strict]);

    let text = LOCAL.replace("NAMED", "") + &peer("p", "istio-system", "mtls: {mode: STRICT}");
    let mesh = read(&text);
    assert!(named(&mesh.snapshot, "local").is_empty());
    assert!(mesh.warnings.to_string().contains("PeerAuthentications say nothing about the 1"));

    // The copy of a control plane's state has its conversions in it.
    let copy = |principal: &str| {
        LOCAL.replace("NAMED", strict)
            + "policies:\n- {name: istio_converted_static_strict, namespace: istio-system, scope: WorkloadSelector, action: Deny, dryRun: false, rules: [[[{notPrincipals: [!"
            + principal
            + "]}]]]}\n"
    };
    assert_eq!(named(&read(&copy("Presence []")).snapshot, "local"), [strict]);
    let mistakes = load_text(&copy("Exact a")).unwrap_err().to_string();
    assert!(mistakes.contains("is not what the PeerAuthentications"), "{mistakes}");
}

/// 150,000 workloads are a few thousand kinds; naming a policy must not make more of them.
#[test]
fn naming_a_policy_costs_a_kind_not_a_workload() {
    let mut text = MESH.to_owned();
    for number in 0..100 {
        text += &format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: r{number}, namespace: shop, labels: {{app: web, version: v1}}, ownerReferences: [{{kind: Deployment, name: r, controller: true}}]}}, status: {{podIP: 10.1.0.{number}}}}}\n"
        );
    }
    let mesh = read(&text);
    let replicas = mesh.snapshot.workloads().filter(|workload| workload.name().starts_with('r'));
    let mut kinds: Vec<_> = replicas
        .filter(|workload| workload.name() != "root")
        .map(|workload| std::sync::Arc::as_ptr(workload.kind()))
        .collect();
    assert_eq!(kinds.len(), 100);
    kinds.dedup();
    assert_eq!(kinds.len(), 1);
}
