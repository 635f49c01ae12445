//! ListenerSets: which Gateway they add listeners to, which listener wins, and whose routes come to them.

use super::http::https_gateway;
use super::world::{NOT_FOUND, World, get, route, route_in, to};
use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row("ListenerSetAllowedNamespaceNone", || admission("", &[])),
    row("ListenerSetAllowedNamespaceSame", || admission("{from: Same}", &["near"])),
    row("ListenerSetAllowedNamespaceAll", || admission("{from: All}", &["far", "near"])),
    row("ListenerSetAllowedNamespaceSelector", || {
        admission("{from: Selector, selector: {matchLabels: {backend: 'yes'}}}", &["far"]);
    }),
    row("ListenerSetHTTPRouting", routing),
    row("ListenerSetHostnameConflict", hostname_conflict),
    row("ListenerSetProtocolConflict", protocol_conflict),
    row("ListenerSetAllowedRoutesNamespaces", routes_namespaces),
    row("ListenerSetReferenceGrant", reference_grant),
];

fn gateway(allowed: &str, listeners: &str) -> String {
    let allowed = match allowed {
        "" => String::new(),
        namespaces => format!("allowedListeners: {{namespaces: {namespaces}}}, "),
    };
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: front, namespace: infra}}\n\
         spec: {{gatewayClassName: ringway, {allowed}listeners: [{listeners}]}}\n---\n"
    )
}

const OWN: &str = "{name: own, port: 80, protocol: HTTP, hostname: own.example}";

/// A set for `front`.
fn set(namespace: &str, metadata: &str, listeners: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {{{metadata}, namespace: {namespace}}}\n\
         spec: {{parentRef: {{name: front, namespace: infra}}, listeners: [{listeners}]}}\n---\n"
    )
}

fn http(name: &str, hostname: &str) -> String {
    format!("{{name: {name}, port: 80, protocol: HTTP, hostname: {hostname}}}")
}

const TO_V1: &str = "rules: [{backendRefs: [{name: v1, port: 8080}]}]";

impl World {
    /// `Accepted=True/Accepted`, of a set and then of its listeners, by name.
    fn set(&self, name: &str) -> Vec<String> {
        let set = self
            .mesh
            .status
            .iter()
            .find(|one| one.kind.ends_with("ListenerSet") && &*one.name == name);
        let all = set.unwrap().conditions.iter();
        all.map(|one| format!("{}={}/{}", one.kind, one.status(), one.reason)).collect()
    }

    /// The same of one of its listeners.
    fn of_set(&self, set: &str, name: &str) -> Vec<String> {
        let listeners = &self.status("ListenerSet", set).listeners;
        let listener = listeners.iter().find(|listener| &*listener.name == name).unwrap();
        let all = listener.conditions.iter();
        all.map(|one| format!("{}={}/{}", one.kind, one.status(), one.reason)).collect()
    }

    /// How many sets add to `front`.
    fn attached_sets(&self) -> serde_json::Value {
        self.status("Gateway", "front").as_json()["status"]["attachedListenerSets"].clone()
    }
}

const ACCEPTED: [&str; 2] = ["Accepted=True/Accepted", "Programmed=True/Programmed"];

fn admission(allowed: &str, admitted: &[&str]) {
    let names = ["far", "near"];
    let documents = [
        gateway(allowed, OWN),
        set("infra", "name: near", &http("a", "near.example")),
        set("web", "name: far", &http("a", "far.example")),
        route_in(
            "infra",
            "HTTPRoute",
            "near",
            &format!("{{parentRefs: [{{kind: ListenerSet, name: near}}], {TO_V1}}}"),
        ),
        route_in(
            "web",
            "HTTPRoute",
            "far",
            "{parentRefs: [{kind: ListenerSet, name: far}], rules: [{backendRefs: [{name: far, port: 8080}]}]}",
        ),
    ];
    let world = World::new(&documents.concat());
    for name in names {
        let is_in = admitted.contains(&name);
        let refused = ["Accepted=False/NotAllowed", "Programmed=False/NotAllowed"];
        assert_eq!(world.set(name), if is_in { ACCEPTED } else { refused }, "{name}");
        let backend = if name == "near" { to("v1") } else { to("far") };
        let answer = world.gateway("front", get(&format!("http://{name}.example/"), &[])).answer;
        assert_eq!(answer, if is_in { backend } else { NOT_FOUND }, "{name}");
        let route = &world.conditions("HTTPRoute", name)[0];
        let want = if is_in { "Accepted=True/Accepted" } else { "Accepted=False/NoMatchingParent" };
        assert_eq!(route, want, "{name}");
    }
    assert_eq!(world.attached_sets(), admitted.len());
}

/// Names of listeners need to be different within one object only, and a route is for those of the object that it names.
fn routing() {
    let parent = |parents: &str, host: &str, backend: &str| {
        format!(
            "{{parentRefs: [{parents}], hostnames: [{host}], rules: [{{backendRefs: [{{name: {backend}, port: 8080}}]}}]}}"
        )
    };
    let wide = "{name: own, port: 80, protocol: HTTP}, {name: two, port: 8080, protocol: HTTP}";
    let documents = [
        gateway("{from: All}", "{name: own, port: 80, protocol: HTTP, hostname: '*.own.example'}"),
        set("infra", "name: extra", wide),
        set("infra", "name: further", "{name: own, port: 9090, protocol: HTTP}"),
        route("HTTPRoute", "gateway", &parent("{name: front}", "a.own.example", "v1")),
        route(
            "HTTPRoute",
            "all-of-set",
            &parent("{kind: ListenerSet, name: extra}", "set.example", "v2"),
        ),
        route(
            "HTTPRoute",
            "one-of-set",
            &parent("{kind: ListenerSet, name: extra, sectionName: two}", "two.example", "v1"),
        ),
        route(
            "HTTPRoute",
            "port",
            &parent("{kind: ListenerSet, name: extra, port: 8080}", "port.example", "v3"),
        ),
        route(
            "HTTPRoute",
            "both",
            &parent("{name: front}, {kind: ListenerSet, name: extra}", "b.own.example", "v2"),
        ),
        route(
            "HTTPRoute",
            "no-such",
            &parent("{kind: ListenerSet, name: extra, sectionName: three}", "x.example", "v1"),
        ),
        route("HTTPRoute", "gone", &parent("{kind: ListenerSet, name: gone}", "x.example", "v1")),
        route(
            "HTTPRoute",
            "of-the-set",
            &parent("{name: front, sectionName: two}", "x.example", "v1"),
        ),
    ];
    let world = World::new(&documents.concat());
    let ask = |port, host: &str| {
        world.gateway_port("front", port, get(&format!("http://{host}/"), &[]), 0).answer
    };
    //  host              80         8080       9090
    let rows = [
        ("a.own.example", to("v1"), NOT_FOUND, NOT_FOUND),
        ("set.example", to("v2"), to("v2"), NOT_FOUND),
        ("two.example", NOT_FOUND, to("v1"), NOT_FOUND),
        ("port.example", NOT_FOUND, to("v3"), NOT_FOUND),
        // By the Gateway's listener at 80, and by the set's at 8080.
        ("b.own.example", to("v2"), to("v2"), NOT_FOUND),
    ];
    for (host, first, second, third) in rows {
        assert_eq!(
            [ask(80, host), ask(8080, host), ask(9090, host)],
            [first, second, third],
            "{host}"
        );
    }
    for name in ["no-such", "gone", "of-the-set"] {
        assert_eq!(
            world.conditions("HTTPRoute", name)[0],
            "Accepted=False/NoMatchingParent",
            "{name}"
        );
    }
    assert_eq!(world.set("extra"), ACCEPTED);
    let [own] = &world.status("Gateway", "front").listeners[..] else { panic!("its own only") };
    assert_eq!(own.attached_routes, 2);
    let attached: Vec<usize> = world
        .status("ListenerSet", "extra")
        .listeners
        .iter()
        .map(|one| one.attached_routes)
        .collect();
    assert_eq!(attached, [2, 4]);
    let keys: Vec<String> = world
        .mesh
        .http
        .listeners
        .iter()
        .filter(|one| &*one.key.gateway == "front")
        .map(|one| one.key.to_string())
        .collect();
    assert_eq!(
        keys,
        [
            "infra/front.own",
            "infra/front.infra/extra.own",
            "infra/front.infra/extra.two",
            "infra/front.infra/further.own"
        ]
    );
}

/// The Gateway's own goes first, then the older set, then the first by name.
fn hostname_conflict() {
    let documents = [
        gateway("{from: All}", OWN),
        set(
            "infra",
            "name: young, creationTimestamp: '2026-01-02T00:00:00Z'",
            &[http("mine", "young.example"), http("taken", "old.example")].join(", "),
        ),
        set(
            "infra",
            "name: old, creationTimestamp: '2026-01-01T00:00:00Z'",
            &[http("mine", "old.example"), http("parents", "own.example")].join(", "),
        ),
        set("web", "name: undated-b", &http("taken", "undated.example")),
        set("web", "name: undated-a", &http("mine", "undated.example")),
        set(
            "infra",
            "name: within",
            &[http("one", "same.example"), http("two", "same.example")].join(", "),
        ),
    ];
    let world = World::new(&documents.concat());
    let conflict = [
        "Accepted=False/HostnameConflict",
        "Conflicted=True/HostnameConflict",
        "ResolvedRefs=True/ResolvedRefs",
        "Programmed=False/Invalid",
    ];
    let good = [
        "Accepted=True/Accepted",
        "Conflicted=False/NoConflicts",
        "ResolvedRefs=True/ResolvedRefs",
        "Programmed=True/Programmed",
    ];
    assert_eq!(world.listener("front", "own"), good);
    //  set          listener   is served
    let rows = [
        ("old", "mine", true),
        ("old", "parents", false),
        ("young", "mine", true),
        ("young", "taken", false),
        ("undated-a", "mine", true),
        ("undated-b", "taken", false),
        ("within", "one", false),
        ("within", "two", false),
    ];
    for (set, listener, served) in rows {
        assert_eq!(
            world.of_set(set, listener),
            if served { good } else { conflict },
            "{set} {listener}"
        );
    }
    let some = ["Accepted=True/ListenersNotValid", "Programmed=True/Programmed"];
    let none = ["Accepted=False/ListenersNotValid", "Programmed=False/ListenersNotValid"];
    for (set, want) in [
        ("old", some),
        ("young", some),
        ("undated-a", ACCEPTED),
        ("undated-b", none),
        ("within", none),
    ] {
        assert_eq!(world.set(set), want, "{set}");
    }
    assert_eq!(world.attached_sets(), 3);
    // One who has no business there is not told whose it is.
    let told = world.mesh.status.iter().map(|one| one.as_json().to_string()).collect::<String>();
    assert!(told.contains("`taken` and a listener of another ListenerSet are"), "{told}");
    assert!(told.contains("`parents` and `own` of the Gateway are"), "{told}");
    assert!(told.contains("`one` and `two` are"), "{told}");
}

fn protocol_conflict() {
    let documents = [
        gateway("{from: All}", OWN),
        set(
            "infra",
            "name: tcp",
            "{name: a, port: 80, protocol: TCP}, {name: b, port: 81, protocol: TCP}",
        ),
    ];
    let world = World::new(&documents.concat());
    assert_eq!(world.of_set("tcp", "a")[1], "Conflicted=True/ProtocolConflict");
    assert_eq!(world.of_set("tcp", "b")[0], "Accepted=True/Accepted");
    assert_eq!(world.listener("front", "own")[0], "Accepted=True/Accepted");
    assert_eq!(
        world.status("Gateway", "front").conditions[0].reason,
        "Accepted",
        "the set's are not its own"
    );
}

/// `Same` is the set's own namespace.
fn routes_namespaces() {
    let to_far = "{parentRefs: [{kind: ListenerSet, name: far, namespace: web}], rules: [{backendRefs: [{name: far, namespace: web, port: 8080}]}]}";
    let documents = [
        gateway("{from: All}", OWN),
        set("web", "name: far", &http("a", "far.example")),
        route_in("infra", "HTTPRoute", "stranger", to_far),
        route_in("web", "HTTPRoute", "own", to_far),
    ];
    let world = World::new(&documents.concat());
    assert_eq!(
        world.conditions("HTTPRoute", "stranger")[0],
        "Accepted=False/NotAllowedByListeners"
    );
    assert_eq!(world.conditions("HTTPRoute", "own")[0], "Accepted=True/Accepted");
    assert_eq!(world.gateway("front", get("http://far.example/", &[])).answer, to("far"));
}

/// What a Gateway may refer to, its sets may not, and the other way about; what is in a set's namespace is its own.
fn reference_grant() {
    let grant = |kind: &str, from: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: g, namespace: infra}}\nspec: {{from: [{{group: gateway.networking.k8s.io, kind: {kind}, namespace: {from}}}], to: [{{group: '', kind: Secret}}]}}\n---\n"
        )
    };
    // The Secret `cert` is in `infra`, and the Gateway `secure`, which this is.
    let own = https_gateway("{name: own, port: 443, protocol: HTTPS, hostname: own.example, tls: {certificateRefs: [{name: cert}]}}")
        .replace("  gatewayClassName: ringway\n", "  gatewayClassName: ringway\n  allowedListeners: {namespaces: {from: All}}\n");
    let tls = |name: &str, namespace: &str| {
        set(namespace, &format!("name: {name}"), &format!("{{name: a, port: 443, protocol: HTTPS, hostname: {name}.example, tls: {{certificateRefs: [{{name: cert, namespace: infra}}]}}}}"))
            .replace("{name: front, namespace: infra}", "{name: secure, namespace: infra}")
    };
    let permitted = "ResolvedRefs=True/ResolvedRefs";
    let refused = "ResolvedRefs=False/RefNotPermitted";
    //  who is granted            of a set beside it  of one elsewhere
    let rows = [
        (String::new(), permitted, refused),
        (grant("Gateway", "web"), permitted, refused),
        (grant("ListenerSet", "web"), permitted, permitted),
    ];
    for (grant, near, far) in rows {
        let world = World::new(
            &[own.clone(), tls("near", "infra"), tls("far", "web"), grant.clone()].concat(),
        );
        assert_eq!(world.of_set("near", "a")[2], near, "{grant}");
        assert_eq!(world.of_set("far", "a")[2], far, "{grant}");
    }
}

/// As it was called before it was part of the standard; and what no set can add to.
#[test]
fn sets_of_other_kinds_and_of_other_parents() {
    let x = set("infra", "name: x", &http("a", "x.example")).replace(
        "gateway.networking.k8s.io/v1\nkind: ListenerSet",
        "gateway.networking.x-k8s.io/v1alpha1\nkind: XListenerSet",
    );
    let to_x = format!(
        "{{parentRefs: [{{group: gateway.networking.x-k8s.io, kind: XListenerSet, name: x}}], {TO_V1}}}"
    );
    let world =
        World::new(&[gateway("{from: Same}", OWN), x, route("HTTPRoute", "r", &to_x)].concat());
    assert_eq!(world.set("x"), ACCEPTED);
    assert_eq!(world.gateway("front", get("http://x.example/", &[])).answer, to("v1"));

    let orphan = set("infra", "name: orphan", &http("a", "x.example"));
    let world = World::new(&orphan);
    let want = ["Accepted=False/ParentNotAccepted", "Programmed=False/ParentNotAccepted"];
    assert_eq!(world.set("orphan"), want);
    assert!(world.mesh.warnings.to_string().contains("there is no Gateway `front`"));

    let waypoint = gateway("{from: All}", "{name: mesh, port: 15008, protocol: HBONE}")
        .replace("gatewayClassName: ringway,", "gatewayClassName: ringway-waypoint,");
    let world = World::new(&(waypoint + &orphan));
    assert_eq!(world.set("orphan")[0], "Accepted=False/NotAllowed");

    let foreign = gateway("{from: All}", OWN)
        .replace("gatewayClassName: ringway,", "gatewayClassName: nginx,");
    let world = World::new(&(foreign + &orphan));
    assert!(
        world.mesh.status.iter().all(|one| one.kind != "ListenerSet"),
        "it is another's to tell"
    );
}
