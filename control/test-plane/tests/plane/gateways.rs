//! What a Gateway's processes are told comes to the same as the documents it was written from.

use ringway_control::proto::agent::Resource;
use ringway_control::source::{MeshConfig, Source, load};
use ringway_control::xds::l7::{L7Resource, Place, ToldRole, compile, read};
use ringway_engine::snapshot::{LocalName, WorkloadKey};
use ringway_http::model::traffic::TlsOrigination;
use ringway_http::model::{GatewayName, Parent};
use ringway_http::tables::Tables;
use ringway_test_plane::GatewayCaller;
use ringway_test_plane::gateway::tell;

use prost::Message as _;

/// Services, and the Pods of a waypoint `wp` and a gateway `edge`. `web` is behind the waypoint.
const MESH: &str = "
apiVersion: ringway.dev/v1alpha1
kind: Node
metadata: {name: host-a}
---
apiVersion: v1
kind: Pod
metadata:
  name: wp-1
  labels: {gateway.networking.k8s.io/gateway-name: wp}
  annotations: {ambient.istio.io/redirection: enabled}
spec: {nodeName: host-a, serviceAccountName: wp}
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: edge-1}
spec: {nodeName: host-a, serviceAccountName: edge}
status: {podIP: 10.1.0.2}
---
apiVersion: v1
kind: Service
metadata: {name: web, labels: {istio.io/use-waypoint: wp}}
spec: {clusterIP: 10.96.1.1, selector: {app: a}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-v1}
spec: {clusterIP: 10.96.1.2, selector: {app: b}, ports: [{name: http, port: 80}, {name: raw, port: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-v2}
spec: {clusterIP: 10.96.1.3, selector: {app: c}, ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: wp}
spec:
  gatewayClassName: istio-agentgateway-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: istio-agentgateway
  listeners:
  - {name: any, port: 80, protocol: HTTP}
  - {name: shop, port: 8080, protocol: HTTP, hostname: '*.shop.example'}
  - {name: raw, port: 9000, protocol: TCP}
  - {name: sni, port: 9443, protocol: TLS, tls: {mode: Passthrough}}
---
";

/// Rules with everything that the wire carries; changes of headers are last, as they come.
const RULES: &str = "
  - name: first
    matches:
    - path: {type: Exact, value: /exact}
      method: PUT
      headers: [{name: x-one, value: '1'}, {name: x-two, type: RegularExpression, value: 'a+'}]
      queryParams: [{name: q, value: '1'}, {name: r, type: RegularExpression, value: 'b+'}]
    - path: {type: RegularExpression, value: '/re/[0-9]+'}
    filters:
    - type: URLRewrite
      urlRewrite: {hostname: other.example, path: {type: ReplaceFullPath, replaceFullPath: /new}}
    - type: RequestMirror
      requestMirror: {backendRef: {name: web-v2, port: 80}, percent: 10}
    - type: CORS
      cors:
        allowOrigins: ['https://a.example', 'https://*.b.example']
        allowMethods: [GET]
        allowHeaders: [x-a]
        exposeHeaders: [x-b]
        allowCredentials: true
        maxAge: 7
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: x-set, value: s}], add: [{name: x-add, value: a}], remove: [x-gone]}
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: x-back, value: b}]}
    timeouts: {request: 2s, backendRequest: 1s}
    retry: {codes: [503], attempts: 3, backoff: 25ms}
    backendRefs:
    - {name: web-v1, port: 80, weight: 9}
    - name: web-v2
      port: 80
      weight: 1
      filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x-v2]}}]
  - matches: [{path: {type: PathPrefix, value: /old}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {scheme: https, hostname: b.example, path: {type: ReplaceFullPath, replaceFullPath: /x}, port: 8443, statusCode: 301}
  - matches: [{path: {type: PathPrefix, value: /}}]
    filters:
    - type: URLRewrite
      urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}
    backendRefs: [{name: web-v1, port: 80}]";

fn caller(name: &str) -> GatewayCaller {
    let (namespace, name) = ("default".to_owned(), name.to_owned());
    GatewayCaller { namespace, service_account: name.clone(), name }
}

fn config(routes: &str) -> MeshConfig {
    let source = Source::Text { name: "mesh".to_owned(), text: format!("{MESH}{routes}") };
    load(&[source], None).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// Through the wire: what was said of each resource must be nothing.
fn told(config: &MeshConfig, gateway: &GatewayCaller) -> ringway_control::xds::l7::Compiled {
    let messages = tell(&config.http, &config.snapshot, gateway);
    let resources: Vec<L7Resource> = messages
        .into_iter()
        .map(|(name, message): (String, Resource)| {
            let read = read(&message.encode_to_vec());
            let read = read.unwrap_or_else(|refused| panic!("{name}: {}", refused.why));
            assert_eq!(read.warnings, [""; 0], "{name}");
            read.resource.expect("it is something")
        })
        .collect();
    let name = GatewayName {
        namespace: gateway.namespace.as_str().into(),
        name: gateway.name.as_str().into(),
    };
    let pod = format!("{}-1", gateway.name);
    let mut mesh = config.snapshot.clone();
    mesh.set_settings(ringway_engine::snapshot::Settings {
        locals: ringway_engine::snapshot::Locals::Everybody,
        ..ringway_engine::snapshot::Settings::new("")
    });
    let key = LocalName::new(&gateway.namespace, &pod, &gateway.service_account);
    let workload = mesh.workload_of(&WorkloadKey::Local(key.into())).cloned();
    let workload = workload.as_deref();
    assert!(workload.is_some(), "its own workload is in the mesh");
    compile(resources.iter(), &Place { gateway: &name, workload, snapshot: &mesh })
}

fn http_route(name: &str, parent: &str, hosts: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  \
         parentRefs: [{parent}]\n  hostnames: [{hosts}]\n  rules:{RULES}\n---\n"
    )
}

#[test]
fn tls_to_backends_is_told_for_each_service() {
    let key = rcgen::KeyPair::generate().unwrap();
    let root = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    let root: String = root.lines().map(|line| format!("    {line}\n")).collect();
    let policy = |name: &str, service: &str, authorities: &str, further: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
             targetRefs: [{{group: '', kind: Service, name: {service}}}]\n  validation:\n    \
             caCertificateRefs: [{{group: '', kind: ConfigMap, name: {authorities}}}]\n    \
             hostname: {name}.example\n{further}---\n"
        )
    };
    let names = "    subjectAltNames: [{type: Hostname, hostname: x.example}, {type: URI, uri: 'spiffe://a/b'}]\n";
    let roots = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: roots}}\ndata:\n  ca.crt: |\n{root}---\n"
    );
    let documents = policy("one", "web-v1", "roots", "")
        + &policy("two", "web-v2", "roots", names)
        + &policy("broken", "web", "gone", "")
        + &roots;
    let config = config(&documents);
    let compiled = told(&config, &caller("wp"));
    // Why something cannot be had is not told.
    let described = |http: &ringway_http::model::HttpConfig| {
        let tls = |tls: &TlsOrigination| match tls {
            TlsOrigination::By(settings) => format!("{settings:?}"),
            TlsOrigination::Broken(_) => "broken".to_owned(),
        };
        let policies = http.policies.traffic.iter();
        let mut all: Vec<_> = policies
            .map(|attached| {
                (format!("{:?}", attached.targets), attached.policy.tls.as_ref().map(tls))
            })
            .collect();
        all.sort();
        all
    };
    let want = described(&config.http);
    assert_eq!(want.len(), 3);
    assert_eq!(described(&compiled.http), want);
}

#[test]
fn a_gateway_is_told_what_its_documents_say() {
    let others = "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls}
spec:
  parentRefs: [{name: edge, sectionName: any}]
  rules:
  - matches:
    - method: {service: pkg.One, method: Get}
    - method: {service: pkg.Two}
    - method: {method: Get}
    backendRefs: [{name: web-v1, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: raw}
spec:
  parentRefs: [{name: edge, sectionName: raw}]
  rules: [{backendRefs: [{name: web-v1, port: 9000}]}]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TLSRoute
metadata: {name: sni}
spec:
  parentRefs: [{name: edge, sectionName: sni}]
  hostnames: [db.example, '*.db.example']
  rules: [{backendRefs: [{name: web-v1, port: 9000}]}]
---
";
    let documents = http_route("a", "{name: edge, sectionName: any}", "")
        + &http_route("b", "{name: edge, sectionName: shop}", "x.shop.example, '*.y.shop.example'")
        + others;
    let config = config(&documents);
    let of_edge = |listener: &&ringway_http::model::Listener| &*listener.key.gateway == "edge";
    let listeners: Vec<_> = config.http.listeners.iter().filter(of_edge).cloned().collect();
    let compiled = told(&config, &caller("edge"));
    assert_eq!(compiled.role, Some(ToldRole::Gateway(vec![80, 8080, 9000, 9443])));
    assert_eq!(compiled.warnings, [""; 0]);
    let mut got = compiled.http.listeners.clone();
    got.sort_by_key(|listener| listener.port);
    assert_eq!(format!("{got:#?}"), format!("{listeners:#?}"));
    let mut want = config.http.routes.clone();
    want.sort_by(|one, other| one.name.name.cmp(&other.name.name));
    let mut got = compiled.http.routes.clone();
    got.sort_by(|one, other| one.name.name.cmp(&other.name.name));
    assert_eq!(want.len(), 5);
    assert_eq!(format!("{got:#?}"), format!("{want:#?}"));
    Tables::compile(compiled.http).unwrap();
}

/// But for the parents: which service a route is for is not told.
#[test]
fn a_waypoint_is_told_what_its_documents_say() {
    let config = config(&http_route("a", "{group: '', kind: Service, name: web, port: 80}", ""));
    let compiled = told(&config, &caller("wp"));
    assert_eq!(compiled.role, Some(ToldRole::Waypoint));
    let [mut got] = <[_; 1]>::try_from(compiled.http.routes.clone()).unwrap();
    let [want] = <[_; 1]>::try_from(config.http.routes.clone()).unwrap();
    let [Parent::Service { service, port: None, clients_of: None }] = &got.parents[..] else {
        panic!("{:?}", got.parents)
    };
    assert_eq!(&*service.hostname, "web.default.svc.cluster.local");
    got.parents.clone_from(&want.parents);
    assert_eq!(format!("{got:#?}"), format!("{want:#?}"));
    Tables::compile(compiled.http).unwrap();
}

/// A backend that is not there costs its rule all backends, and what is left of it answers 500.
#[test]
fn a_rule_with_a_lost_backend_is_told_without_any() {
    let lost = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: lost}
spec:
  parentRefs: [{name: edge, sectionName: any}]
  hostnames: [a.example]
  rules:
  - matches: [{path: {value: /lost}}]
    backendRefs: [{name: web-v1, port: 80}, {name: nobody, port: 80}]
  - backendRefs: [{name: web-v1, port: 80}]
---
";
    let compiled = told(&config(lost), &caller("edge"));
    let [route] = &compiled.http.routes[..] else { panic!("{:#?}", compiled.http.routes) };
    assert_eq!(route.hostnames.len(), 1, "its hosts are those of the other rule");
    assert!(route.rules[0].backends.is_empty() && route.rules[1].backends.len() == 1);
}
