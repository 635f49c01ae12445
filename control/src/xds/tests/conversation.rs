//! What is said, and what is answered.

use super::mesh::{Story, Told, identity, pod, policy, resource, service, service_name, uid};
use crate::proto::discovery::DeltaDiscoveryRequest;
use crate::xds::Refused;
use crate::xds::reader::Piece;
use crate::xds::session::{Finished, PART_BYTES_MAX};
use crate::xds::state::Kind;

fn versions(request: &DeltaDiscoveryRequest) -> Vec<(&str, &str)> {
    let versions = request.initial_resource_versions.iter();
    versions.map(|(name, version)| (name.as_str(), version.as_str())).collect()
}

fn complaint(finished: &Finished) -> &str {
    finished.request.error_detail.as_ref().map_or("", |status| &status.message)
}

fn bad(name: &str) -> crate::proto::discovery::Resource {
    let mut workload = pod(name, "10.0.0.66");
    workload.addresses = vec![vec![1, 2, 3]];
    workload.told("bad")
}

#[test]
fn a_stream_begins_with_one_request_of_each_type() {
    let [addresses, authorizations] = Story::new().open();
    assert_eq!(addresses.type_url, "type.googleapis.com/istio.workload.Address");
    assert_eq!(authorizations.type_url, "type.googleapis.com/istio.security.Authorization");
    for request in [addresses, authorizations] {
        let node = request.node.clone().unwrap();
        assert_eq!(
            node.id,
            "ztunnel~10.0.0.9~ztunnel-x.istio-system~istio-system.svc.cluster.local"
        );
        assert_eq!((node.cluster.as_str(), node.build_version.as_str()), ("", ""));
        let fields = node.metadata.unwrap().fields;
        let told: Vec<_> = fields.into_iter().map(|(key, value)| (key, value.kind)).collect();
        let text = |text: &str| prost_types::Value::from(text).kind;
        assert_eq!(
            told,
            [
                ("CLUSTER_ID".to_owned(), text("c1")),
                ("INSTANCE_IPS".to_owned(), text("10.0.0.9")),
                ("NAME".to_owned(), text("ztunnel-x")),
                ("NAMESPACE".to_owned(), text("istio-system")),
                ("NODE_NAME".to_owned(), text("node-a")),
            ]
        );
        // Wildcard: neither list has a name. Nothing is known, nothing is answered.
        assert_eq!(
            request,
            DeltaDiscoveryRequest {
                node: request.node.clone(),
                type_url: request.type_url.clone(),
                ..DeltaDiscoveryRequest::default()
            }
        );
    }
}

#[test]
fn metadata_that_is_set_wins() {
    let mut identity = identity();
    identity.metadata.insert("NAME".to_owned(), "another".into());
    identity.node_name = None;
    let fields = identity.node().metadata.unwrap().fields;
    assert_eq!(fields["NAME"], "another".into());
    assert!(!fields.contains_key("NODE_NAME"));
}

#[test]
fn every_response_has_one_answer_without_names() {
    let mut story = Story::new();
    story.open();
    let finished = story.tells(Kind::Address, vec![pod("a", "10.0.0.1").told("1")]);
    assert_eq!(
        finished.request,
        DeltaDiscoveryRequest {
            type_url: Kind::Address.type_url().to_owned(),
            response_nonce: "nonce-1".to_owned(),
            ..DeltaDiscoveryRequest::default()
        }
    );
    let finished = story.removes(Kind::Authorization, &["shop/none"]);
    assert_eq!(finished.request.type_url, Kind::Authorization.type_url());
    assert_eq!(finished.request.response_nonce, "nonce-2");
    assert_eq!(finished.request.error_detail, None);
}

#[test]
fn a_bad_resource_is_refused_by_name_and_the_rest_applies() {
    let mut story = Story::new();
    story.open();
    story.knows(vec![pod("b", "10.0.0.2").told("1")]);
    let two_bad = vec![bad("a"), bad("b"), pod("c", "10.0.0.3").told("1")];
    let finished = story.says(Kind::Address, two_bad, &["unheard-of"]);
    assert_eq!(
        complaint(&finished),
        "c1//Pod/shop/a: addresses has an address of 3 bytes, not of 4 or 16; \
         c1//Pod/shop/b: addresses has an address of 3 bytes, not of 4 or 16"
    );
    assert_eq!(finished.request.error_detail.unwrap().code, 0);
    // The one that was never good is not there, the one that was good is as it was.
    assert!(story.world().workload_by_uid(&uid("a")).is_none());
    let kept = story.world().workload_by_uid(&uid("b")).unwrap();
    assert_eq!(kept.addresses(), ["10.0.0.2".parse::<std::net::IpAddr>().unwrap()]);
    assert!(story.world().workload_by_uid(&uid("c")).is_some());
}

#[test]
fn a_new_stream_tells_what_is_in_force_and_nothing_that_was_refused() {
    let mut story = Story::new();
    story.open();
    let resources = vec![
        pod("a", "10.0.0.1").told("a1"),
        pod("b", "10.0.0.2").told("b1"),
        pod("c", "10.0.0.3").told("c1"),
        service("web", "10.9.0.1").told("a-version-that-is-longer-than-any-hash"),
    ];
    story.knows(resources);
    story.says(
        Kind::Address,
        vec![pod("a", "10.0.0.1").told("a2"), bad("b"), bad("d")],
        &[&uid("c")],
    );
    story.tells(Kind::Authorization, vec![policy("p", "ns").told("")]);
    story.session.lost();
    let [addresses, authorizations] = story.open();
    let (a, b, web) = (uid("a"), uid("b"), service_name("web"));
    assert_eq!(
        versions(&addresses),
        [(&*a, "a2"), (&*b, "b1"), (&*web, "a-version-that-is-longer-than-any-hash")]
    );
    assert_eq!(versions(&authorizations), [("shop/p", "")]);
}

#[test]
fn a_response_that_is_not_whole_was_never_there() {
    let mut story = Story::new();
    story.open();
    story.knows(vec![pod("a", "10.0.0.1").told("1"), pod("b", "10.0.0.2").told("1")]);
    let next = vec![pod("a", "10.0.0.99").told("2"), pod("c", "10.0.0.3").told("1")];
    let response = super::mesh::response(Kind::Address, "n", next, &[&uid("b")]);
    let bytes = super::mesh::framed(&response);
    for cut in [6, bytes.len() / 2, bytes.len() - 1] {
        assert!(story.takes(&bytes[..cut]).is_none());
        story.session.lost();
        let [addresses, _] = story.open();
        assert_eq!(versions(&addresses), [(&*uid("a"), "1"), (&*uid("b"), "1")]);
        assert!(story.world().workload_by_address("", "10.0.0.1".parse().unwrap()).is_some());
        assert!(story.world().workload_by_uid(&uid("c")).is_none());
    }
    story.hears(&bytes);
    assert!(story.world().workload_by_uid(&uid("c")).is_some());
    assert!(story.world().workload_by_uid(&uid("b")).is_none());
}

#[test]
fn readers_see_all_of_a_response_or_nothing() {
    let mut story = Story::new();
    story.open();
    let told = [pod("a", "10.0.0.1").told("1"), pod("b", "10.0.0.2").told("1")];
    let before = story.session.revision();
    story.session.handle(Piece::Begin(Some(Kind::Address.type_url())));
    for resource in &told {
        let bytes = prost::Message::encode_to_vec(resource);
        story.session.handle(Piece::Resource(&bytes));
        assert_eq!((story.world().workload_count(), story.session.revision()), (0, before));
    }
    let trailer = crate::xds::reader::Trailer {
        type_url: Kind::Address.type_url().to_owned(),
        nonce: "n".to_owned(),
    };
    story.session.handle(Piece::End(trailer));
    assert_eq!(story.world().workload_count(), 2);
    assert!(story.session.revision() > before);
}

#[test]
fn a_very_large_response_is_in_force_part_by_part_once_everything_was_told() {
    // Four of them are a part.
    const LARGE: usize = PART_BYTES_MAX / 4;
    let pods = |revision: &str| -> Vec<_> {
        let pod = |number| {
            let mut pod = pod(&format!("p{number}"), &format!("10.0.0.{number}"));
            pod.canonical_revision = revision.to_owned();
            pod.told(&revision.repeat(LARGE))
        };
        (1..=6).map(pod).collect()
    };
    let seen = |story: &Story| -> String {
        let pods =
            (1..=6).filter_map(|number| story.world().workload_by_uid(&uid(&format!("p{number}"))));
        pods.map(|pod| pod.canonical_revision().to_string()).collect()
    };
    let mut story = Story::new();
    story.open();
    story.tells(Kind::Address, pods("1"));
    assert_eq!(
        (story.parts, &*seen(&story)),
        (0, "111111"),
        "what is missing would be taken for outside"
    );
    // Policies are together, however many they are.
    let policy = policy("p", "ns").told(&"1".repeat(2 * PART_BYTES_MAX));
    story.tells(Kind::Authorization, vec![policy.clone()]);
    story.tells(Kind::Authorization, vec![policy]);
    assert_eq!((story.parts, story.session.is_synced()), (0, true));
    // A stream that is lost leaves the parts that were whole.
    let response = super::mesh::response(Kind::Address, "n", pods("2"), &[&uid("p1")]);
    let bytes = super::mesh::framed(&response);
    let revision = story.session.revision();
    assert!(story.takes(&bytes[..5 * LARGE + LARGE / 2]).is_none());
    assert_eq!((story.parts, &*seen(&story)), (1, "222211"));
    assert!(story.session.revision() > revision);
    story.session.lost();
    assert_eq!(seen(&story), "222211");
    story.open();
    story.hears(&bytes);
    assert_eq!(
        (story.parts, &*seen(&story)),
        (2, "22222"),
        "and the end of it is what comes of it"
    );
}

#[test]
fn both_types_must_have_been_accepted() {
    let mut story = Story::new();
    story.open();
    assert!(!story.session.is_synced());
    story.tells(Kind::Address, vec![bad("a")]);
    story.tells(Kind::Authorization, Vec::new());
    assert!(!story.session.is_synced(), "addresses were refused");
    story.tells(Kind::Address, vec![pod("a", "10.0.0.1").told("1")]);
    assert!(story.session.is_synced());
    story.tells(Kind::Address, vec![bad("a")]);
    story.session.lost();
    assert!(story.session.is_synced(), "once is enough");
}

#[test]
fn what_was_not_asked_for_is_answered_and_ignored() {
    let mut story = Story::new();
    story.open();
    let mut response =
        super::mesh::response(Kind::Address, "n", vec![pod("a", "10.0.0.1").told("1")], &["x"]);
    response.type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
    let finished = story.hears(&super::mesh::framed(&response));
    assert_eq!(finished.kind, None);
    assert_eq!(finished.request.type_url, response.type_url);
    assert_eq!((complaint(&finished), &*finished.request.response_nonce), ("", "n"));
    assert_eq!(story.world().workload_count(), 0);
}

#[test]
fn on_demand_begins_with_nothing_and_asks_by_name() {
    let mut story = Story::on_demand();
    let [addresses, authorizations] = story.open();
    assert_eq!(addresses.resource_names_subscribe, ["*"]);
    assert_eq!(addresses.resource_names_unsubscribe, ["*"]);
    assert!(authorizations.resource_names_subscribe.is_empty());
    let asked = story.session.demand("/10.0.0.1").unwrap().unwrap();
    assert_eq!(
        asked,
        DeltaDiscoveryRequest {
            type_url: Kind::Address.type_url().to_owned(),
            resource_names_subscribe: vec!["/10.0.0.1".to_owned()],
            ..DeltaDiscoveryRequest::default()
        }
    );
    assert_eq!(story.session.demand("/10.0.0.1"), Ok(None), "it is under way");
    // Addresses that nobody asks for do not come.
    story.tells(Kind::Authorization, Vec::new());
    assert!(story.session.is_synced());
    // After a new stream it is asked for again.
    story.session.lost();
    let [addresses, _] = story.open();
    assert_eq!(versions(&addresses), [("/10.0.0.1", "")]);
}

#[test]
fn a_demand_is_answered_by_a_name_an_alias_or_a_removal() {
    //  name             demanded                  told                               removed
    let alias = |mut resource: crate::proto::discovery::Resource| {
        resource.aliases = vec!["/10.0.0.7".to_owned(), "/10.0.0.1".to_owned()];
        resource
    };
    let rows = [
        ("by name", uid("a"), Some(pod("a", "10.0.0.1").told("1")), None),
        ("by alias", "/10.0.0.1".to_owned(), Some(alias(pod("a", "10.0.0.1").told("1"))), None),
        ("there is none", "/10.0.0.9".to_owned(), None, Some("/10.0.0.9")),
        ("refused, too", uid("a"), Some(bad("a")), None),
    ];
    for (name, demanded, told, removed) in rows {
        let mut story = Story::on_demand();
        story.open();
        story.session.demand(&demanded).unwrap();
        story.session.demand("shop/another.example").unwrap();
        let removed: Vec<&str> = removed.into_iter().collect();
        let finished = story.says(Kind::Address, told.into_iter().collect(), &removed);
        assert_eq!(finished.answered, [demanded.as_str()], "{name}");
        let [addresses, _] = story.open();
        let unanswered = versions(&addresses).iter().any(|(name, _)| **name == demanded);
        let is_known = story.world().workload_by_uid(&uid("a")).is_some();
        assert_eq!(unanswered, is_known && demanded == uid("a"), "{name}: not asked for again");
    }
}

#[test]
fn demands_are_bounded() {
    assert_eq!(Story::new().session.demand("/10.0.0.1"), Err(Refused::NotOnDemand));
    let mut story = Story::on_demand();
    for name in ["", "*", &"x".repeat(2000)] {
        assert_eq!(story.session.demand(name), Err(Refused::NoName));
    }
    let refused = (0..10_000).find_map(|number| story.session.demand(&format!("n/{number}")).err());
    assert_eq!(refused, Some(Refused::TooMany));
    story.session.forget_demand("n/0");
    assert!(story.session.demand("n/again").is_ok());
}

#[test]
fn an_answer_is_of_bounded_size_however_much_is_wrong() {
    let mut story = Story::new();
    story.open();
    let long = "x".repeat(10_000);
    let resources = (0..1000)
        .map(|number| resource(&format!("{number}-{long}"), "", Kind::Address, vec![0xff]))
        .collect();
    let finished = story.tells(Kind::Address, resources);
    let complaint = complaint(&finished);
    assert!(complaint.len() < 100_000, "{}", complaint.len());
    assert!(complaint.ends_with("; and 900 more"), "{complaint}");
}
