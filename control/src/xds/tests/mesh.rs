//! The words that stories are told in.

use std::net::IpAddr;

use prost::Message;
use prost_types::Any;
use ringway_engine::snapshot::{NamespacedHostname, Snapshot};

use crate::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use crate::proto::security::{self, Authorization};
use crate::proto::workload::{self, Address, NetworkAddress, address};
use crate::xds::node::NodeIdentity;
use crate::xds::reader::Reader;
use crate::xds::session::{Finished, Session};
use crate::xds::state::Kind;

pub(super) const NODE: &str = "node-a";

pub(super) fn identity() -> NodeIdentity {
    NodeIdentity {
        node_type: Default::default(),
        ip: "10.0.0.9".parse().unwrap(),
        pod_name: "ztunnel-x".to_owned(),
        pod_namespace: "istio-system".to_owned(),
        node_name: Some(NODE.to_owned()),
        metadata: [("CLUSTER_ID".to_owned(), "c1".into())].into(),
    }
}

/// A pod of namespace `shop`, reached through HBONE.
pub(in crate::xds) fn pod(name: &str, ip: &str) -> workload::Workload {
    workload::Workload {
        uid: uid(name),
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        node: NODE.to_owned(),
        addresses: vec![bytes(ip)],
        tunnel_protocol: workload::TunnelProtocol::Hbone as i32,
        ..workload::Workload::default()
    }
}

pub(super) fn uid(name: &str) -> String {
    format!("c1//Pod/shop/{name}")
}

/// The same workload, as an endpoint of these services: port 80, which is its 8080.
pub(super) fn serving(mut workload: workload::Workload, services: &[&str]) -> workload::Workload {
    for service in services {
        let port =
            workload::Port { service_port: 80, target_port: 8080, ..workload::Port::default() };
        let list = workload::PortList { ports: vec![port] };
        workload.services.insert(service_name(service), list);
    }
    workload
}

pub(super) fn unhealthy(mut workload: workload::Workload) -> workload::Workload {
    workload.status = workload::WorkloadStatus::Unhealthy as i32;
    workload
}

pub(super) fn service(name: &str, vip: &str) -> workload::Service {
    workload::Service {
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        hostname: format!("{name}.example"),
        addresses: vec![vip_of("", vip)],
        ports: vec![workload::Port { service_port: 80, ..workload::Port::default() }],
        ..workload::Service::default()
    }
}

pub(super) fn service_name(name: &str) -> String {
    format!("shop/{name}.example")
}

pub(super) fn service_id(name: &str) -> NamespacedHostname {
    service_name(name).parse().unwrap()
}

/// An address on a network, or `address/length`.
pub(super) fn vip_of(network: &str, vip: &str) -> NetworkAddress {
    let (ip, length) = match vip.split_once('/') {
        Some((ip, length)) => (ip, Some(length.parse().unwrap())),
        None => (vip, None),
    };
    NetworkAddress { network: network.to_owned(), address: bytes(ip), length }
}

pub(super) fn bytes(ip: &str) -> Vec<u8> {
    match ip.parse().unwrap() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// A policy of namespace `shop` that lets in one namespace.
pub(super) fn policy(name: &str, from: &str) -> Authorization {
    let exact = security::string_match::MatchType::Exact(from.to_owned());
    let one = security::Match {
        namespaces: vec![security::StringMatch { match_type: Some(exact) }],
        ..security::Match::default()
    };
    let clause = security::Clause { matches: vec![one] };
    Authorization {
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        scope: security::Scope::WorkloadSelector as i32,
        rules: vec![security::Rule { clauses: vec![clause] }],
        ..Authorization::default()
    }
}

/// Something that is told under its own name.
pub(in crate::xds) trait Told {
    fn told(self, version: &str) -> Resource;
}

impl Told for workload::Workload {
    fn told(self, version: &str) -> Resource {
        let name = self.uid.clone();
        address(&name, version, address::Type::Workload(self))
    }
}

impl Told for workload::Service {
    fn told(self, version: &str) -> Resource {
        let name = format!("{}/{}", self.namespace, self.hostname);
        address(&name, version, address::Type::Service(self))
    }
}

impl Told for Authorization {
    fn told(self, version: &str) -> Resource {
        let name = format!("{}/{}", self.namespace, self.name);
        resource(&name, version, Kind::Authorization, self.encode_to_vec())
    }
}

fn address(name: &str, version: &str, one: address::Type) -> Resource {
    resource(name, version, Kind::Address, Address { r#type: Some(one) }.encode_to_vec())
}

pub(in crate::xds) fn resource(name: &str, version: &str, kind: Kind, value: Vec<u8>) -> Resource {
    Resource {
        name: name.to_owned(),
        version: version.to_owned(),
        resource: Some(Any { type_url: kind.type_url().to_owned(), value }),
        ..Resource::default()
    }
}

pub(in crate::xds) fn response(
    kind: Kind,
    nonce: &str,
    resources: Vec<Resource>,
    removed: &[&str],
) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: kind.type_url().to_owned(),
        nonce: nonce.to_owned(),
        resources,
        removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

/// A message as gRPC sends it.
pub(in crate::xds) fn framed(message: &impl Message) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend((message.encoded_len() as u32).to_be_bytes());
    message.encode(&mut bytes).unwrap();
    bytes
}

/// A session, and the bytes that go in and out of it.
pub(super) struct Story {
    pub(super) session: Session,
    reader: Reader,
    nonce: u32,
    /// How often part of a response was put in force before its end.
    pub(super) parts: usize,
}

impl Story {
    pub(super) fn new() -> Story {
        Story::with(false, Snapshot::new(""))
    }

    pub(super) fn on_demand() -> Story {
        Story::with(true, Snapshot::new(""))
    }

    pub(super) fn with(is_on_demand: bool, known: Snapshot) -> Story {
        let node = identity();
        let kinds = node.node_type.kinds();
        let session = Session::new(node.node(), kinds, node.node_name, is_on_demand, known);
        Story { session, reader: Reader::default(), nonce: 0, parts: 0 }
    }

    /// A stream begins: what is said first.
    pub(super) fn open(&mut self) -> [DeltaDiscoveryRequest; 2] {
        self.reader = Reader::default();
        self.session.open().map(|mut first| {
            while !first.write(3) {}
            DeltaDiscoveryRequest::decode(&first.finish().bytes[5..]).unwrap()
        })
    }

    /// A stream begins: all that is said, however many requests that takes.
    pub(super) fn open_with_room_for(&mut self, bytes: usize) -> Vec<DeltaDiscoveryRequest> {
        self.reader = Reader::default();
        self.session.set_request_bytes_max(bytes);
        let mut said = Vec::new();
        for (kind, first) in Kind::OF_NODE.into_iter().zip(self.session.open()) {
            let mut next = Some(first);
            while let Some(mut request) = next {
                while !request.write(3) {}
                let written = request.finish();
                assert!(written.bytes.len() <= 5 + bytes, "{} of {bytes}", written.bytes.len());
                said.push(DeltaDiscoveryRequest::decode(&written.bytes[5..]).unwrap());
                next = self.session.go_on(kind, &written);
            }
        }
        said
    }

    /// The control plane has had its time to tell again what it was not told that we have. How much is gone.
    pub(super) fn settles(&mut self) -> usize {
        let mut gone = 0;
        while let Some(mut sweep) = self.session.sweep() {
            while !sweep.step(2) {}
            gone += sweep.gone;
            self.session.swept(sweep);
        }
        gone
    }

    /// The control plane tells this, and the answer is looked at by the caller.
    pub(super) fn tells(&mut self, kind: Kind, resources: Vec<Resource>) -> Finished {
        self.says(kind, resources, &[])
    }

    pub(super) fn removes(&mut self, kind: Kind, names: &[&str]) -> Finished {
        self.says(kind, Vec::new(), names)
    }

    pub(super) fn says(
        &mut self,
        kind: Kind,
        resources: Vec<Resource>,
        removed: &[&str],
    ) -> Finished {
        self.nonce += 1;
        let nonce = format!("nonce-{}", self.nonce);
        self.hears(&framed(&response(kind, &nonce, resources, removed)))
    }

    /// Takes bytes that end a response.
    pub(super) fn hears(&mut self, bytes: &[u8]) -> Finished {
        self.takes(bytes).expect("the response is over")
    }

    pub(super) fn takes(&mut self, bytes: &[u8]) -> Option<Finished> {
        self.reader.feed(bytes);
        let mut finished = None;
        while let Some(piece) = self.reader.next().unwrap() {
            finished = self.session.handle(piece).or(finished);
            self.parts += usize::from(self.session.put_part().is_some());
        }
        finished
    }

    /// The control plane tells this, and nothing is wrong with it.
    pub(super) fn knows(&mut self, resources: Vec<Resource>) {
        let finished = self.tells(Kind::Address, resources);
        assert_eq!(finished.request.error_detail, None);
    }

    pub(super) fn world(&self) -> &Snapshot {
        self.session.snapshot()
    }

    /// Names of the workloads behind a service.
    pub(super) fn endpoints(&self, service: &str) -> Vec<String> {
        let endpoints = self.world().endpoints(&service_id(service));
        let mut names: Vec<String> =
            endpoints.map(|(workload, _)| workload.name().to_owned()).collect();
        names.sort();
        names
    }
}
