//! Meshes whose names have no room in a first request: everything is told again, and what is not is gone.

use std::collections::BTreeSet;

use super::mesh::{Story, Told, pod, policy, service, uid};
use super::server::{Server, client, run, until};
use crate::proto::discovery::{DeltaDiscoveryRequest, Resource};
use crate::xds::request::REQUEST_BYTES_MAX;
use crate::xds::state::Kind;

/// Names in requests of these bytes: a few of the pods, whatever the rest of a request takes.
const ROOM: usize = 600;
const PODS: usize = 40;

fn name(number: usize) -> String {
    format!("pod-{number}")
}

fn pods(numbers: impl IntoIterator<Item = usize>) -> Vec<Resource> {
    numbers.into_iter().map(|number| pod(&name(number), "10.0.0.1").told("1")).collect()
}

fn known(request: &DeltaDiscoveryRequest) -> BTreeSet<String> {
    request.initial_resource_versions.keys().cloned().collect()
}

/// A client that knows all pods and a policy comes again; which of the pods it has room to name, and which not.
fn returned() -> (Story, Vec<usize>, Vec<usize>) {
    let mut story = Story::new();
    story.open();
    story.knows(pods(0..PODS));
    story.tells(Kind::Authorization, vec![policy("p", "ns").told("")]);
    story.session.lost();
    let said = story.open_with_room_for(ROOM);
    assert_eq!(said.len(), 2, "one request of each type");
    let named = known(&said[0]);
    let (named, unnamed): (Vec<_>, Vec<_>) =
        (0..PODS).partition(|number| named.contains(&uid(&name(*number))));
    assert!(named.len() > 2 && unnamed.len() > 2, "{named:?}");
    assert_eq!(known(&said[1]), ["shop/p".to_owned()].into(), "this has room");
    (story, named, unnamed)
}

fn is_known(story: &Story, number: usize) -> bool {
    story.world().workload_by_uid(&uid(&name(number))).is_some()
}

#[test]
fn no_request_is_larger_than_a_control_plane_reads() {
    assert_eq!(REQUEST_BYTES_MAX, 4 << 20);
    let mut story = Story::new();
    story.open();
    story.knows(pods(0..PODS));
    // `open_with_room_for` looks at the sizes.
    let mut named_before = 0;
    for room in (300..3000).step_by(37) {
        story.session.lost();
        let all = story.open_with_room_for(room);
        assert_eq!(all.len(), 2);
        let named = known(&all[0]).len();
        assert!(named >= named_before && named <= PODS, "{named} in {room}");
        named_before = named;
    }
    assert!(named_before > PODS / 2, "{named_before}");
    assert_eq!(known(&story.open_with_room_for(REQUEST_BYTES_MAX)[0]).len(), PODS);
}

#[test]
fn what_is_not_told_again_is_gone_once_the_control_plane_had_its_time() {
    let (mut story, named, unnamed) = returned();
    let (stays, goes) = unnamed.split_at(unnamed.len() / 2);
    let finished = story.tells(Kind::Address, pods(stays.iter().copied()));
    assert!(finished.is_settling);
    assert!((0..PODS).all(|number| is_known(&story, number)), "it has time");
    assert_eq!(story.settles(), goes.len());
    for number in 0..PODS {
        // What was named and is not spoken of is as it was.
        let is_there = named.contains(&number) || stays.contains(&number);
        assert_eq!(is_known(&story, number), is_there, "{number}");
    }
    let revision = story.session.revision();
    assert_eq!((story.settles(), story.session.revision()), (0, revision), "only once");
    assert!(story.world().policy("shop", "p").is_some());
}

#[test]
fn who_tells_everything_in_parts_is_waited_for() {
    let (mut story, _, unnamed) = returned();
    let (first, then) = unnamed.split_at(unnamed.len() / 2);
    assert!(story.tells(Kind::Address, pods(first.iter().copied())).is_settling);
    // Nothing that is waited for, so the time goes on.
    assert!(!story.tells(Kind::Address, vec![service("web", "10.9.0.1").told("1")]).is_settling);
    assert!(!story.tells(Kind::Address, pods(first.iter().copied())).is_settling);
    let (last, more) = then.split_last().unwrap();
    assert!(story.tells(Kind::Address, pods(more.iter().copied())).is_settling);
    // With the last of them there is nothing to wait for.
    assert!(!story.tells(Kind::Address, pods([*last])).is_settling);
    assert_eq!(story.settles(), 0);
    assert!((0..PODS).all(|number| is_known(&story, number)));
}

#[test]
fn whatever_is_said_of_a_name_is_word_of_it() {
    let (mut story, _, unnamed) = returned();
    let mut bad = pod(&name(unnamed[0]), "10.0.0.1");
    bad.addresses = vec![vec![1, 2, 3]];
    let removed = uid(&name(unnamed[1]));
    story.says(Kind::Address, vec![bad.told("2")], &[&removed]);
    assert!(!is_known(&story, unnamed[1]));
    assert_eq!(story.settles(), unnamed.len() - 2);
    assert!(is_known(&story, unnamed[0]), "what is refused leaves what was there");
}

#[test]
fn a_control_plane_that_has_not_answered_takes_nothing_away() {
    let (mut story, ..) = returned();
    story.tells(Kind::Authorization, Vec::new());
    assert_eq!(story.settles(), 0);
    assert!((0..PODS).all(|number| is_known(&story, number)));
    // Nor one that ends in the midst of it: the next stream begins anew.
    story.session.lost();
    story.open_with_room_for(REQUEST_BYTES_MAX);
    story.tells(Kind::Address, Vec::new());
    assert_eq!(story.settles(), 0);
    assert!((0..PODS).all(|number| is_known(&story, number)));
}

#[test]
fn on_demand_the_rest_is_asked_for_by_name() {
    let mut story = Story::on_demand();
    story.open();
    story.knows(pods(0..PODS));
    story.session.lost();
    let said = story.open_with_room_for(ROOM);
    let addresses: Vec<_> =
        said.iter().filter(|request| request.type_url == Kind::Address.type_url()).collect();
    let [first, more @ ..] = &addresses[..] else { panic!("nothing was said") };
    let mut named = known(first);
    assert!(!named.is_empty() && more.len() > 1, "{} requests more", more.len());
    for request in more {
        assert!(request.node.is_none() && request.initial_resource_versions.is_empty());
        named.extend(request.resource_names_subscribe.iter().cloned());
    }
    assert_eq!(named, (0..PODS).map(|number| uid(&name(number))).collect());
    story.tells(Kind::Address, Vec::new());
    assert_eq!(story.settles(), 0, "each is answered by its name");
}

/// The server reads what gRPC servers read when nobody tells them otherwise, as istiod does.
#[test]
fn a_mesh_of_more_names_than_a_request_may_have_comes_back() {
    // With it a name has about a kilobyte.
    let long = "x".repeat(1000);
    let told = |number: usize| pod(&format!("{number}-{long}"), "10.0.0.1").told("1");
    const LARGE: usize = 5000;
    run(async {
        let mut server = Server::start().await;
        let client = client(server.address, false);
        let (mut stream, _) = server.stream().await;
        for part in 0..5 {
            let part = (part * LARGE / 5..(part + 1) * LARGE / 5).map(told).collect();
            stream.tell(super::mesh::response(Kind::Address, "n", part, &[])).await;
        }
        stream.tell(super::mesh::response(Kind::Authorization, "n", Vec::new(), &[])).await;
        until(&client, |update| update.snapshot.workload_count() == LARGE).await;
        stream.end(None).await;
        let (mut stream, [addresses, _]) = server.stream().await;
        let named = known(&addresses);
        assert!(named.len() < LARGE && named.len() > LARGE / 2, "{}", named.len());
        // All are there still, except one of those that it has not named.
        let mut missing: Vec<_> =
            (0..LARGE).map(told).filter(|told| !named.contains(&told.name)).collect();
        let gone = missing.pop().unwrap().name;
        stream.tell(super::mesh::response(Kind::Address, "n", missing, &[])).await;
        let update = until(&client, |update| update.snapshot.workload_count() < LARGE).await;
        assert_eq!(update.snapshot.workload_count(), LARGE - 1);
        assert!(update.snapshot.workload_by_uid(&gone).is_none());
    });
}
