//! gRPC, and connections that are not HTTP to us.

use std::collections::BTreeMap;

use super::http::https_gateway;
use super::world::{Answer, BROKEN, NOT_FOUND, World, request, route, route_in, to};
use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row("GRPCExactMethodMatching", grpc_methods),
    row("GRPCRouteHeaderMatching", grpc_headers),
    row("GRPCRouteListenerHostnameMatching", grpc_listeners),
    row("GRPCRouteWeight", grpc_weight),
    row("GRPCRouteRequestHeaderModifier", grpc_header_modifier),
    row("GRPCRouteNamedRule", grpc_named_rule),
    row("TLSRouteSimpleSameNamespace", tls_simple),
    row("TLSRouteHostnameIntersection", tls_hostnames),
    row("TLSRouteTerminateSimpleSameNamespace", tls_terminate),
    row("TCPRouteParentRefAttachAll", tcp_attach_all),
    row("TCPRouteParentRefPortAndSectionName", tcp_port_and_section),
    row("TCPRouteReferenceGrant", tcp_reference_grant),
    row("TCPRouteWeightedRouting", tcp_weight),
    row("TCPRouteMultipleRoutesAttachment", tcp_oldest),
];

fn grpc(rules: &str) -> World {
    World::new(&route(
        "GRPCRoute",
        "r",
        &format!("{{parentRefs: [{{name: same}}], rules: {rules}}}"),
    ))
}

fn call(path: &str, headers: &[(&str, &str)]) -> http::request::Parts {
    let mut all = vec![("content-type", "application/grpc")];
    all.extend(headers);
    request("POST", &format!("http://any{path}"), &all)
}

fn grpc_methods() {
    let world = grpc(
        "[{matches: [{method: {service: test.Echo, method: Echo}}], backendRefs: [{name: v1, port: 8080}]},
          {matches: [{method: {service: test.Echo, method: EchoTwo}}], backendRefs: [{name: v2, port: 8080}]},
          {matches: [{method: {service: test.Whole}}], backendRefs: [{name: v3, port: 8080}]},
          {matches: [{method: {method: Anywhere}}], backendRefs: [{name: v1, port: 8080}]},
          {matches: [{method: {type: RegularExpression, service: 'x\\..*', method: 'Get.+'}}], backendRefs: [{name: v2, port: 8080}]}]",
    );
    for (path, want) in [
        ("/test.Echo/Echo", to("v1")),
        ("/test.Echo/EchoTwo", to("v2")),
        ("/test.Echo/EchoThree", NOT_FOUND),
        ("/test.Whole/Any", to("v3")),
        ("/test.Wholesome/Any", NOT_FOUND),
        ("/a.B/Anywhere", to("v1")),
        ("/x.Y/GetZ", to("v2")),
        ("/x.Y/Set", NOT_FOUND),
    ] {
        assert_eq!(world.gateway("same", call(path, &[])).answer, want, "{path}");
    }
}

fn grpc_headers() {
    let world = grpc(
        "[{matches: [{headers: [{name: version, value: one}]}], backendRefs: [{name: v1, port: 8080}]},
          {matches: [{headers: [{name: version, value: two}, {name: color, value: orange}]}], backendRefs: [{name: v2, port: 8080}]}]",
    );
    let ask = |headers: &[(&str, &str)]| world.gateway("same", call("/a.B/C", headers)).answer;
    assert_eq!(ask(&[("version", "one")]), to("v1"));
    assert_eq!(ask(&[("version", "two"), ("color", "orange")]), to("v2"));
    assert_eq!(ask(&[("version", "two")]), NOT_FOUND);
}

fn grpc_listeners() {
    let at = |name: &str, section: &str, backend: &str| {
        route(
            "GRPCRoute",
            name,
            &format!(
                "{{parentRefs: [{{name: hosts, sectionName: {section}}}], rules: [{{backendRefs: [{{name: {backend}, port: 8080}}]}}]}}"
            ),
        )
    };
    let world = World::new(&[at("a", "exact", "v1"), at("b", "wide", "v2")].concat());
    let ask = |host: &str| {
        world.gateway("hosts", request("POST", &format!("http://{host}/a.B/C"), &[])).answer
    };
    assert_eq!(
        (ask("abc.foo.example.com"), ask("x.example.com"), ask("example.org")),
        (to("v1"), to("v2"), NOT_FOUND)
    );
}

fn grpc_weight() {
    let world = grpc(
        "[{backendRefs: [{name: v1, port: 8080, weight: 70}, {name: v2, port: 8080, weight: 30}, {name: v3, port: 8080, weight: 0}]}]",
    );
    let shares = world.shares(|draw| world.gateway_port("same", 80, call("/a.B/C", &[]), draw));
    assert_eq!(shares, BTreeMap::from([(to("v1"), 70), (to("v2"), 30)]));
}

fn grpc_header_modifier() {
    let world = grpc(
        "[{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: a, value: '1'}]}}], backendRefs: [{name: v1, port: 8080}]}]",
    );
    assert_eq!(
        world.gateway("same", call("/a.B/C", &[("a", "0")])).header("a").as_deref(),
        Some("0,1")
    );
}

fn grpc_named_rule() {
    let world = grpc("[{name: named, backendRefs: [{name: v1, port: 8080}]}]");
    assert_eq!(world.tables.rules()[0].rule.name.as_deref(), Some("named"));
}

const PASSTHROUGH: &str = "tls: {mode: Passthrough}";

fn tls_simple() {
    let gateway = https_gateway(&format!(
        "{{name: tls, port: 443, protocol: TLS, hostname: abc.example.com, {PASSTHROUGH}}}"
    ));
    let world = World::new(
        &(gateway
            + &route(
                "TLSRoute",
                "r",
                "{parentRefs: [{name: secure}], hostnames: [abc.example.com], rules: [{backendRefs: [{name: v1, port: 8080}]}]}",
            )),
    );
    assert_eq!(world.connection("secure", 443, Some("abc.example.com")), to("v1"));
    assert_eq!(world.connection("secure", 443, Some("other.example.com")), NOT_FOUND);
    assert_eq!(
        world.conditions("TLSRoute", "r"),
        ["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"]
    );
}

fn tls_hostnames() {
    let gateway = https_gateway(&format!(
        "{{name: tls, port: 443, protocol: TLS, hostname: '*.example.com', {PASSTHROUGH}}}"
    ));
    let of = |name: &str, host: &str, backend: &str| {
        route(
            "TLSRoute",
            name,
            &format!(
                "{{parentRefs: [{{name: secure}}], hostnames: ['{host}'], rules: [{{backendRefs: [{{name: {backend}, port: 8080}}]}}]}}"
            ),
        )
    };
    let world = World::new(
        &[
            gateway,
            of("a", "abc.example.com", "v1"),
            of("b", "*.foo.example.com", "v2"),
            of("c", "other.org", "v3"),
        ]
        .concat(),
    );
    let ask = |name| world.connection("secure", 443, Some(name));
    assert_eq!((ask("abc.example.com"), ask("x.foo.example.com")), (to("v1"), to("v2")));
    assert_eq!((ask("x.example.com"), ask("other.org")), (NOT_FOUND, NOT_FOUND));
    assert_eq!(world.conditions("TLSRoute", "c")[0], "Accepted=False/NoMatchingListenerHostname");
}

fn tls_terminate() {
    let gateway = https_gateway(
        "{name: tls, port: 443, protocol: TLS, hostname: abc.example.com, tls: {mode: Terminate, certificateRefs: [{name: cert}]}}",
    );
    let world = World::new(
        &(gateway
            + &route(
                "TLSRoute",
                "r",
                "{parentRefs: [{name: secure}], hostnames: [abc.example.com], rules: [{backendRefs: [{name: v1, port: 8080}]}]}",
            )),
    );
    assert_eq!(world.connection("secure", 443, Some("abc.example.com")), to("v1"));
}

const TCP: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: tcp, namespace: infra}
spec:
  gatewayClassName: ringway
  listeners: [{name: one, port: 7001, protocol: TCP}, {name: two, port: 7002, protocol: TCP}]
---
";

fn tcp(routes: &[String]) -> World {
    World::new(&format!("{TCP}{}", routes.concat()))
}

fn tcp_route(name: &str, parent: &str, backends: &str) -> String {
    route(
        "TCPRoute",
        name,
        &format!("{{parentRefs: [{parent}], rules: [{{backendRefs: [{backends}]}}]}}"),
    )
}

fn tcp_attach_all() {
    let world = tcp(&[tcp_route("r", "{name: tcp}", "{name: v1, port: 8080}")]);
    assert_eq!(
        (world.connection("tcp", 7001, None), world.connection("tcp", 7002, None)),
        (to("v1"), to("v1"))
    );
}

fn tcp_port_and_section() {
    let world = tcp(&[
        tcp_route("a", "{name: tcp, sectionName: one}", "{name: v1, port: 8080}"),
        tcp_route("b", "{name: tcp, port: 7002}", "{name: v2, port: 8080}"),
    ]);
    assert_eq!(
        (world.connection("tcp", 7001, None), world.connection("tcp", 7002, None)),
        (to("v1"), to("v2"))
    );
}

fn tcp_reference_grant() {
    let backend = "{name: far, namespace: web, port: 8080}";
    let refused = tcp(&[tcp_route("r", "{name: tcp}", backend)]);
    assert_eq!(refused.connection("tcp", 7001, None), BROKEN);
    assert_eq!(refused.conditions("TCPRoute", "r")[1], "ResolvedRefs=False/RefNotPermitted");
    let grant = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: web}\nspec: {from: [{group: gateway.networking.k8s.io, kind: TCPRoute, namespace: infra}], to: [{group: '', kind: Service}]}\n---\n";
    let granted = tcp(&[grant.to_owned(), tcp_route("r", "{name: tcp}", backend)]);
    assert_eq!(granted.connection("tcp", 7001, None), to("far"));
}

fn tcp_weight() {
    let world = World::new(&route(
        "TCPRoute",
        "r",
        "{parentRefs: [{group: '', kind: Service, name: echo}], rules: [{backendRefs: [{name: v1, port: 8080, weight: 70}, {name: v2, port: 8080, weight: 30}, {name: v3, port: 8080, weight: 0}]}]}",
    ));
    let mut shares: BTreeMap<Answer, u32> = BTreeMap::new();
    for hundredth in 0..100_u64 {
        let draw = u64::MAX / 100 * hundredth + u64::MAX / 200;
        *shares.entry(world.service_connection("echo", 80, None, draw)).or_default() += 1;
    }
    assert_eq!(shares, BTreeMap::from([(to("v1"), 70), (to("v2"), 30)]));
}

fn tcp_oldest() {
    let older = route_in(
        "infra",
        "TCPRoute",
        "older",
        "{parentRefs: [{name: tcp, sectionName: one}], rules: [{backendRefs: [{name: v1, port: 8080}]}]}",
    );
    let world = tcp(&[
        older,
        tcp_route("younger", "{name: tcp, sectionName: one}", "{name: v2, port: 8080}"),
    ]);
    assert_eq!(world.connection("tcp", 7001, None), to("v1"));
    for name in ["older", "younger"] {
        assert_eq!(world.conditions("TCPRoute", name)[0], "Accepted=True/Accepted");
    }
}
