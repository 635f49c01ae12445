//! A configuration that is asked.

use std::collections::BTreeMap;

use http::request::Parts;
use http::{HeaderMap, Request};
use ringway_http::filter::{self, Backward, Entrance};
use ringway_http::head::RequestHead;
use ringway_http::model::{BackendTarget, GatewayName, ServiceName};
use ringway_http::tables::{Attached, AttachedStream, Found, RouteRule, RouteTable, Tables};

use crate::source::{MeshConfig, ObjectStatus, Source, load};

/// The namespaces `infra` and `web`; Services `v1`, `v2`, `v3` of the first and `far` of the second; the Gateway
/// `same` (port 80), `all` (port 80, for every namespace) and `hosts` (listeners by hostname).
const BASE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: infra}
---
apiVersion: v1
kind: Namespace
metadata: {name: web, labels: {backend: 'yes'}}
---
apiVersion: v1
kind: Service
metadata: {name: v1, namespace: infra}
spec: {clusterIP: 10.0.0.1, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: v2, namespace: infra}
spec: {clusterIP: 10.0.0.2, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: v3, namespace: infra}
spec: {clusterIP: None, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: infra}
spec: {clusterIP: 10.0.0.9, ports: [{name: http, port: 80}, {name: other, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: web}
spec: {clusterIP: 10.0.0.5, ports: [{port: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: same, namespace: infra}
spec:
  gatewayClassName: ringway
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: all, namespace: infra}
spec:
  gatewayClassName: ringway
  listeners:
    - {name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}
    - {name: alt, port: 8080, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {backend: 'yes'}}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: hosts, namespace: infra}
spec:
  gatewayClassName: ringway
  listeners:
    - {name: empty, port: 80, protocol: HTTP}
    - {name: wide, port: 80, protocol: HTTP, hostname: '*.example.com'}
    - {name: foo, port: 80, protocol: HTTP, hostname: '*.foo.example.com'}
    - {name: exact, port: 80, protocol: HTTP, hostname: abc.foo.example.com}
---
";

pub(super) struct World {
    pub(super) mesh: MeshConfig,
    pub(super) tables: Tables,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answer {
    /// Passed to a service, by its short name.
    To(String),
    /// Answered.
    Status(u16),
    /// Nothing is attached: it goes where it was going.
    PassedThrough,
}

pub(super) fn to(name: &str) -> Answer {
    Answer::To(name.to_owned())
}

pub(super) const NOT_FOUND: Answer = Answer::Status(404);
pub(super) const BROKEN: Answer = Answer::Status(500);

/// What became of a request, and the request and answer as the filters left them.
pub(super) struct Asked {
    pub(super) answer: Answer,
    pub(super) request: Parts,
    pub(super) response: HeaderMap,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let values = self.request.headers.get_all(name).iter();
        let values: Vec<&str> = values.map(|value| value.to_str().unwrap()).collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    pub(super) fn answered(&self, name: &str) -> Option<&str> {
        self.response.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A request: `GET http://host/path`, with headers `name: value`.
pub(super) fn get(target: &str, headers: &[(&str, &str)]) -> Parts {
    request("GET", target, headers)
}

pub(super) fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut builder = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

/// A route of any kind, in `infra`.
pub(super) fn route(kind: &str, name: &str, spec: &str) -> String {
    route_in("infra", kind, name, spec)
}

pub(super) fn route_in(namespace: &str, kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n---\n"
    )
}

/// An HTTPRoute of the Gateway `same`.
pub(super) fn at_same(rules: &str) -> World {
    World::new(&route(
        "HTTPRoute",
        "r",
        &format!("{{parentRefs: [{{name: same}}], rules: {rules}}}"),
    ))
}

impl World {
    pub(super) fn new(text: &str) -> World {
        let text = format!("{BASE}{text}");
        let source = Source::Text { name: "mesh.yaml".to_owned(), text };
        let mesh = load(&[source], None).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        let tables = Tables::compile(mesh.http.clone()).unwrap_or_else(|errors| panic!("{errors}"));
        World { mesh, tables }
    }

    /// A request to port 80 of a Gateway of `infra`.
    pub(super) fn gateway(&self, gateway: &str, request: Parts) -> Asked {
        self.gateway_port(gateway, 80, request, 0)
    }

    pub(super) fn gateway_port(
        &self,
        gateway: &str,
        port: u16,
        request: Parts,
        draw: u64,
    ) -> Asked {
        let host = host_of(&request);
        match self.tables.for_listener(&gateway_name(gateway), port, &host) {
            Some(listener) => self.routed(listener.routes(), port, request, draw),
            None => asked(NOT_FOUND, request),
        }
    }

    /// A request to a Service of `infra`, from a client of the namespace `web`.
    pub(super) fn service(&self, name: &str, port: u16, request: Parts) -> Asked {
        self.service_from("web", name, port, request, 0)
    }

    pub(super) fn service_from(
        &self,
        namespace: &str,
        name: &str,
        port: u16,
        request: Parts,
        draw: u64,
    ) -> Asked {
        match self.tables.for_service(&service_name(name), port, Some(namespace)) {
            Attached::None => asked(Answer::PassedThrough, request),
            Attached::Routes(table) => self.routed(table, port, request, draw),
        }
    }

    fn routed(&self, table: &RouteTable, port: u16, mut request: Parts, draw: u64) -> Asked {
        let original = request.clone();
        let head = RequestHead::read(&original, self.tables.paths()).unwrap();
        let Some(Found { rule, .. }) = table.find(&head) else { return asked(NOT_FOUND, request) };
        let found = table.find(&head).unwrap();
        let (host, path) = (head.host().to_owned(), head.path().to_owned());
        let prefix = found.prefix();
        let entrance = Entrance { scheme: "http", port, host: &host, path: &path, prefix };
        let mut back = Backward::new(rule, &original);
        let mut response = HeaderMap::new();
        let done = |answer, request, response| Asked { answer, request, response };
        let replied = |reply: filter::Reply, request, back: &Backward| {
            let mut headers = reply.headers;
            // Of origins, the answer to a preflight says all there is to say.
            if !filter::is_preflight(&original) {
                back.apply(&mut headers);
            }
            done(Answer::Status(reply.status.as_u16()), request, headers)
        };
        if let Some(reply) = filter::apply(&rule.rule.filters, &mut request, &entrance) {
            return replied(reply, request, &back);
        }
        let (at, backend) = match filter::choose(&rule.rule, draw) {
            Ok(chosen) => chosen,
            Err(_) => return done(BROKEN, request, response),
        };
        back.chosen(at);
        if let Some(reply) = filter::apply(&backend.filters, &mut request, &entrance) {
            return replied(reply, request, &back);
        }
        back.apply(&mut response);
        done(target(&backend.backend.target), request, response)
    }

    /// How many of a hundred requests that are drawn evenly come to whom.
    pub(super) fn shares(&self, ask: impl Fn(u64) -> Asked) -> BTreeMap<Answer, u32> {
        let mut shares = BTreeMap::new();
        for hundredth in 0..100_u64 {
            let draw = u64::MAX / 100 * hundredth + u64::MAX / 200;
            *shares.entry(ask(draw).answer).or_default() += 1;
        }
        shares
    }

    /// A TLS or TCP connection to a listener.
    pub(super) fn connection(&self, gateway: &str, port: u16, server_name: Option<&str>) -> Answer {
        let table = self.tables.for_port(&gateway_name(gateway), port);
        let listener = table.and_then(|port| port.by_server_name(server_name));
        let rule = listener.and_then(|listener| listener.stream(server_name));
        rule.map_or(NOT_FOUND, |rule| stream(rule, 0))
    }

    pub(super) fn service_connection(
        &self,
        name: &str,
        port: u16,
        server_name: Option<&str>,
        draw: u64,
    ) -> Answer {
        let name = service_name(name);
        match self.tables.for_service_stream(&name, port, Some("infra"), server_name) {
            AttachedStream::None => Answer::PassedThrough,
            AttachedStream::NoMatch => NOT_FOUND,
            AttachedStream::Rule(rule) => stream(rule, draw),
        }
    }

    pub(super) fn status(&self, kind: &str, name: &str) -> &ObjectStatus {
        let mut all = self.mesh.status.iter();
        all.find(|status| (status.kind, &*status.name) == (kind, name)).unwrap()
    }

    /// `Accepted=True/Accepted`, of the first parent of a route.
    pub(super) fn conditions(&self, kind: &str, name: &str) -> Vec<String> {
        let first = &self.status(kind, name).parents[0];
        let all = first.conditions.iter();
        all.map(|one| format!("{}={}/{}", one.kind, one.status(), one.reason)).collect()
    }

    /// The same of a listener.
    pub(super) fn listener(&self, gateway: &str, name: &str) -> Vec<String> {
        let listeners = &self.status("Gateway", gateway).listeners;
        let listener = listeners.iter().find(|listener| &*listener.name == name).unwrap();
        let all = listener.conditions.iter();
        all.map(|one| format!("{}={}/{}", one.kind, one.status(), one.reason)).collect()
    }
}

fn stream(rule: &RouteRule, draw: u64) -> Answer {
    filter::choose(&rule.rule, draw).map_or(BROKEN, |(_, chosen)| target(&chosen.backend.target))
}

fn asked(answer: Answer, request: Parts) -> Asked {
    Asked { answer, request, response: HeaderMap::new() }
}

fn target(target: &BackendTarget) -> Answer {
    match target {
        BackendTarget::Service { service, .. } => {
            Answer::To(service.hostname.split('.').next().unwrap().to_owned())
        }
        BackendTarget::Invalid(_) => BROKEN,
    }
}

fn host_of(request: &Parts) -> String {
    let authority = request.uri.authority().map(|authority| authority.as_str().to_owned());
    let header = request.headers.get("host").map(|host| host.to_str().unwrap().to_owned());
    authority.or(header).unwrap_or_default()
}

fn gateway_name(name: &str) -> GatewayName {
    GatewayName { namespace: "infra".into(), name: name.into() }
}

fn service_name(name: &str) -> ServiceName {
    let hostname = format!("{name}.infra.svc.cluster.local");
    ServiceName { namespace: "infra".into(), hostname: hostname.into() }
}
