//! What the tests say things in.

use prost::Message;
use ringway_engine::snapshot::{
    GatewayAddress, GatewayDestination, Interner, Membership, NamespacedHostname, Service,
    Snapshot, WorkloadDescription,
};
use ringway_http::model::GatewayName;

use crate::proto::agent as told;
use crate::proto::agent::resource::Kind;
use crate::proto::agent::traffic_policy_spec;
use crate::xds::l7::{Compiled, L7Resource, Place, Read, Refused, compile, read};

/// The listener of our waypoint, by key.
pub(super) const MESH: &str = "shop/wp.mesh";

/// A listener of our gateway.
pub(super) const WEB: &str = "shop/wp.web";

/// A field with some bytes.
pub(super) fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(u64::from(number) << 3 | 2, &mut bytes);
    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
    bytes.extend(content);
    bytes
}

pub(super) fn bytes(kind: Kind) -> Vec<u8> {
    told::Resource { kind: Some(kind) }.encode_to_vec()
}

pub(super) fn take(kind: Kind) -> Result<Read, Box<Refused>> {
    read(&bytes(kind))
}

/// What is understood, without a warning.
pub(super) fn understood(kind: Kind) -> L7Resource {
    let read = take(kind).unwrap_or_else(|refused| panic!("{refused:?}"));
    assert_eq!(read.warnings, [""; 0]);
    read.resource.expect("it is something to us")
}

pub(super) fn policy(policy: told::Policy) -> Vec<u8> {
    policy.encode_to_vec()
}

/// A policy for a service, that says nothing yet.
pub(super) fn for_service() -> told::Policy {
    let service = told::policy_target::Service {
        namespace: "shop".to_owned(),
        hostname: "web.example".to_owned(),
        port: Some(80),
    };
    told::Policy {
        key: "shop/p".to_owned(),
        name: Some(told::TypedResourceName {
            name: "p".to_owned(),
            namespace: "shop".to_owned(),
            kind: "X".to_owned(),
        }),
        target: Some(told::PolicyTarget {
            kind: Some(told::policy_target::Kind::Service(service)),
        }),
        ..told::Policy::default()
    }
}

/// A rule of the HTTPRoute `shop/web`: everything goes to `web-1`, port 80.
pub(super) fn route(rule: u32, matched: u32) -> told::Route {
    told::Route {
        key: format!("shop/web.{rule}.{matched}.mesh"),
        listener_key: MESH.to_owned(),
        name: Some(told::RouteName {
            kind: "HTTPRoute".to_owned(),
            name: "web".to_owned(),
            namespace: "shop".to_owned(),
            rule_name: None,
        }),
        matches: vec![path_prefix(&format!("/{rule}/{matched}"))],
        backends: vec![to("web-1", 1)],
        ..told::Route::default()
    }
}

pub(super) fn path(kind: told::path_match::Kind) -> told::RouteMatch {
    let path = Some(told::PathMatch { kind: Some(kind) });
    told::RouteMatch { path, ..told::RouteMatch::default() }
}

pub(super) fn path_prefix(prefix: &str) -> told::RouteMatch {
    path(told::path_match::Kind::PathPrefix(prefix.to_owned()))
}

pub(super) fn reference(service: &str) -> told::BackendReference {
    let service = told::backend_reference::Service {
        namespace: "shop".to_owned(),
        hostname: format!("{service}.example"),
    };
    told::BackendReference { kind: Some(told::backend_reference::Kind::Service(service)), port: 80 }
}

pub(super) fn to(service: &str, weight: i32) -> told::RouteBackend {
    told::RouteBackend {
        backend: Some(reference(service)),
        weight,
        ..told::RouteBackend::default()
    }
}

pub(super) fn does(kind: traffic_policy_spec::Kind) -> told::TrafficPolicySpec {
    told::TrafficPolicySpec { kind: Some(kind), ..told::TrafficPolicySpec::default() }
}

pub(super) fn bind(port: u32, tunnel: told::bind::TunnelProtocol) -> told::Bind {
    told::Bind {
        key: format!("{port}/shop/wp"),
        port,
        tunnel_protocol: tunnel as i32,
        ..told::Bind::default()
    }
}

pub(super) fn listener(name: &str, port: u32, protocol: told::Protocol) -> told::Listener {
    told::Listener {
        key: format!("shop/wp.{name}"),
        bind_key: format!("{port}/shop/wp"),
        name: Some(told::ListenerName {
            gateway_name: "wp".to_owned(),
            gateway_namespace: "shop".to_owned(),
            listener_name: name.to_owned(),
            listener_set: None,
        }),
        protocol: protocol as i32,
        ..told::Listener::default()
    }
}

/// The port and listener of a waypoint.
pub(super) fn waypoint() -> Vec<Kind> {
    vec![
        Kind::Bind(bind(15008, told::bind::TunnelProtocol::HboneWaypoint)),
        Kind::Listener(listener("mesh", 15008, told::Protocol::Hbone)),
    ]
}

/// Compiled with everything in the mesh of [`mesh`].
pub(super) fn together(kinds: Vec<Kind>) -> Compiled {
    let resources: Vec<L7Resource> = kinds
        .into_iter()
        .filter_map(|kind| match take(kind) {
            Ok(read) => read.resource,
            Err(refused) => refused.instead,
        })
        .collect();
    let mesh = mesh();
    let gateway = GatewayName { namespace: "shop".into(), name: "wp".into() };
    let workload = mesh.workload_by_uid("wp");
    let place = Place { gateway: &gateway, workload: workload.map(|one| &**one), snapshot: &mesh };
    compile(resources.iter(), &place)
}

/// Behind the waypoint `wp` of `shop` are `web` and `db`, and `bank/pay`; `web-1` and `web-2` are behind nothing.
fn mesh() -> Snapshot {
    let mut mesh = Snapshot::new("");
    let own = NamespacedHostname::new("shop", "wp.shop.example");
    mesh.upsert_service(Service::new(own.clone()));
    for (namespace, name, is_behind) in [
        ("shop", "web", true),
        ("shop", "db", true),
        ("bank", "pay", true),
        ("shop", "web-1", false),
        ("shop", "web-2", false),
    ] {
        let id = NamespacedHostname::new(namespace, format!("{name}.example"));
        let mut service = Service::new(id);
        service.waypoint = is_behind.then(|| GatewayAddress {
            destination: GatewayDestination::Hostname(own.clone()),
            hbone_mtls_port: 15008,
        });
        mesh.upsert_service(service);
    }
    let description = WorkloadDescription {
        uid: "wp".to_owned(),
        name: "wp-1".to_owned(),
        namespace: "shop".to_owned(),
        addresses: vec!["10.0.0.9".parse().unwrap()],
        services: vec![Membership { service: own, ports: Box::default() }],
        ..WorkloadDescription::default()
    };
    mesh.upsert_workload(Interner::new().workload(description).unwrap());
    mesh
}
