//! What is asked for, what is answered, and what stays in force.

use prost::Message;
use ringway_engine::snapshot::Snapshot;

use super::words::{bytes, path, route};
use crate::proto::agent as told;
use crate::proto::agent::resource::Kind as Told;
use crate::proto::discovery::{DeltaDiscoveryRequest, Resource};
use crate::xds::l7::L7Resource;
use crate::xds::reader::Reader;
use crate::xds::session::{Finished, Session};
use crate::xds::state::Kind;
use crate::xds::tests::mesh::{Told as _, framed, pod, resource, response};
use crate::xds::{NodeIdentity, NodeType};

/// A session of a waypoint.
struct Story {
    session: Session,
    nonce: u32,
}

impl Story {
    fn new() -> Story {
        let node = NodeIdentity {
            node_type: NodeType::L7,
            ip: "10.0.0.9".parse().unwrap(),
            pod_name: "wp-1".to_owned(),
            pod_namespace: "shop".to_owned(),
            node_name: None,
            metadata: [("role".to_owned(), "shop~wp".into())].into(),
        };
        let kinds = node.node_type.kinds();
        let session = Session::new(node.node(), kinds, None, false, Snapshot::new(""));
        Story { session, nonce: 0 }
    }

    fn open(&mut self) -> [DeltaDiscoveryRequest; 2] {
        self.session.open().map(|mut first| {
            while !first.write(3) {}
            DeltaDiscoveryRequest::decode(&first.finish().bytes[5..]).unwrap()
        })
    }

    fn hears(&mut self, kind: Kind, resources: Vec<Resource>, removed: &[&str]) -> Finished {
        self.nonce += 1;
        let response = response(kind, &self.nonce.to_string(), resources, removed);
        let mut reader = Reader::default();
        reader.feed(&framed(&response));
        let mut finished = None;
        while let Some(piece) = reader.next().unwrap() {
            finished = self.session.handle(piece).or(finished);
        }
        finished.expect("the response is over")
    }

    fn rules(&self) -> Vec<String> {
        let rules = self.session.l7().resources().filter_map(|resource| match resource {
            L7Resource::Rule(rule) => Some(format!("{:?}", rule.rule.matches[0].path)),
            _ => None,
        });
        rules.collect()
    }
}

fn told_route(route: told::Route) -> Resource {
    let name = format!("route/{}", route.key);
    resource(&name, "", Kind::L7, bytes(Told::Route(route)))
}

fn bad(rule: u32) -> told::Route {
    let regex = path(told::path_match::Kind::Regex("(".to_owned()));
    told::Route { matches: vec![regex], ..route(rule, 0) }
}

#[test]
fn the_mesh_and_the_gateway_are_asked_for_and_nothing_else() {
    let mut story = Story::new();
    let [addresses, resources] = story.open();
    assert_eq!(addresses.type_url, "type.googleapis.com/istio.workload.Address");
    let want = "type.googleapis.com/agentgateway.dev.resource.Resource";
    assert_eq!(resources.type_url, want);
    for request in [&addresses, &resources] {
        assert!(request.resource_names_subscribe.is_empty(), "everything is wanted");
        let node = request.node.as_ref().unwrap();
        assert_eq!(node.id, "agentgateway~10.0.0.9~wp-1.shop~shop.svc.cluster.local");
        assert_eq!(node.metadata.as_ref().unwrap().fields["role"], "shop~wp".into());
    }
    // Policies of nodes are none of ours.
    let finished = story.hears(Kind::Authorization, Vec::new(), &[]);
    assert_eq!(finished.kind, None);
}

#[test]
fn a_refused_route_leaves_its_predecessor_and_is_told_in_json() {
    let mut story = Story::new();
    story.open();
    assert_eq!(
        story.hears(Kind::L7, vec![told_route(route(0, 0))], &[]).request.error_detail,
        None
    );
    let before = story.rules();
    let finished = story.hears(Kind::L7, vec![told_route(bad(0)), told_route(route(1, 0))], &[]);
    let message = finished.request.error_detail.unwrap().message;
    let message: serde_json::Value = serde_json::from_str(&message).unwrap();
    assert_eq!(message[0]["key"], "route/shop/web.0.0.mesh");
    assert!(message[0]["error"].as_str().unwrap().contains("regular expression"), "{message}");
    assert_eq!(message.as_array().unwrap().len(), 1);
    assert!(story.rules().contains(&before[0]), "the last good one stays");
    assert_eq!(story.rules().len(), 2, "and the others come");
    assert_eq!(story.session.l7().complaints().count(), 1);
    // Mended, nothing is left of it.
    story.hears(
        Kind::L7,
        vec![told_route(told::Route { hostnames: vec!["a.b".into()], ..route(0, 0) })],
        &[],
    );
    assert_eq!(story.session.l7().complaints().count(), 0);
}

#[test]
fn what_was_never_good_has_a_stand_in_until_it_is_removed() {
    let mut story = Story::new();
    story.open();
    story.hears(Kind::L7, vec![told_route(bad(0))], &[]);
    assert_eq!(story.rules().len(), 1, "a rule that nobody meets");
    // So that its removal is told even if that happens between two streams.
    let [_, resources] = story.open();
    let held: Vec<_> = resources.initial_resource_versions.into_iter().collect();
    assert_eq!(held, [("route/shop/web.0.0.mesh".to_owned(), String::new())]);
    story.hears(Kind::L7, Vec::new(), &["route/shop/web.0.0.mesh"]);
    assert!(story.rules().is_empty() && story.session.l7().complaints().count() == 0);
}

#[test]
fn what_applies_in_part_is_a_warning_and_counts() {
    let mut story = Story::new();
    story.open();
    let backend = told::RouteBackend {
        backend_policies: vec![told::BackendPolicySpec { kind: None }],
        ..super::words::to("web-1", 1)
    };
    let partly = told::Route { backends: vec![backend], ..route(0, 0) };
    let finished = story.hears(Kind::L7, vec![told_route(partly)], &[]);
    let message = finished.request.error_detail.unwrap().message;
    let message: serde_json::Value = serde_json::from_str(&message).unwrap();
    assert!(message[0]["warn"].as_str().unwrap().contains("500"), "{message}");
    assert_eq!((finished.refused.count(), story.rules().len()), (0, 1));
}

#[test]
fn both_must_have_been_told_before_it_is_ready() {
    let mut story = Story::new();
    story.open();
    assert!(!story.session.is_synced());
    // One that is refused keeps nobody from being served.
    story.hears(Kind::L7, vec![told_route(bad(0))], &[]);
    assert!(!story.session.is_synced());
    story.hears(Kind::Address, vec![pod("a", "10.0.0.1").told("1")], &[]);
    assert!(story.session.is_synced());
}
