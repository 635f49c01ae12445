//! What resources do to the world, in whatever order they come.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_engine::snapshot::{Interner, Snapshot, WorkloadDescription};

use super::mesh::{
    NODE, Story, Told, identity, pod, policy, service, service_id, service_name, serving, uid,
    unhealthy,
};
use crate::proto::discovery::Resource;
use crate::proto::security::Scope;
use crate::proto::workload::load_balancing::HealthPolicy;
use crate::proto::workload::{LoadBalancing, NetworkMode, Service, TunnelProtocol};
use crate::xds::session::Session;
use crate::xds::state::Kind;
use crate::xds::told::Resource as Known;

/// A step of a story: what is told, what is removed.
type Step = (Vec<Resource>, Vec<String>);

fn tell(resource: impl Told) -> Step {
    (vec![resource.told("")], Vec::new())
}

fn remove(name: String) -> Step {
    (Vec::new(), vec![name])
}

fn web() -> Service {
    service("web", "10.9.0.1")
}

fn allowing_all() -> Service {
    let health_policy = HealthPolicy::AllowAll as i32;
    let load_balancing = Some(LoadBalancing { health_policy, ..LoadBalancing::default() });
    Service { load_balancing, ..web() }
}

#[test]
fn endpoints_are_the_same_whatever_comes_first() {
    let a = || serving(pod("a", "10.0.0.1"), &["web"]);
    let b = || serving(pod("b", "10.0.0.2"), &["web"]);
    let no_more = || pod("a", "10.0.0.1");
    //  name                                        told                                                     endpoints
    let rows: Vec<(&str, Vec<Step>, &[&str])> = vec![
        ("the service first", vec![tell(web()), tell(a()), tell(b())], &["a", "b"]),
        ("the workloads first", vec![tell(a()), tell(b()), tell(web())], &["a", "b"]),
        ("the workload leaves the service", vec![tell(web()), tell(a()), tell(no_more())], &[]),
        ("unhealthy", vec![tell(web()), tell(a()), tell(unhealthy(b()))], &["a"]),
        (
            "unhealthy, the service later",
            vec![tell(unhealthy(a())), tell(b()), tell(web())],
            &["b"],
        ),
        ("unhealthy, all allowed", vec![tell(allowing_all()), tell(unhealthy(a()))], &["a"]),
        ("unhealthy, all allowed, later", vec![tell(unhealthy(a())), tell(allowing_all())], &["a"]),
        ("turns unhealthy", vec![tell(web()), tell(a()), tell(b()), tell(unhealthy(a()))], &["b"]),
        ("turns healthy", vec![tell(web()), tell(unhealthy(a())), tell(a())], &["a"]),
        (
            "the service allows all later",
            vec![tell(web()), tell(unhealthy(a())), tell(allowing_all())],
            &["a"],
        ),
        (
            "the service allows all no longer",
            vec![tell(allowing_all()), tell(unhealthy(a())), tell(web())],
            &[],
        ),
        ("removed before the service came", vec![tell(a()), remove(uid("a")), tell(web())], &[]),
        ("removed", vec![tell(web()), tell(a()), tell(b()), remove(uid("a"))], &["b"]),
        (
            "the service goes and comes back",
            vec![tell(web()), tell(a()), remove(service_name("web")), tell(web())],
            &["a"],
        ),
        (
            "the service goes, a workload too, the service comes back",
            vec![
                tell(web()),
                tell(a()),
                tell(b()),
                remove(service_name("web")),
                remove(uid("a")),
                tell(web()),
            ],
            &["b"],
        ),
    ];
    for (name, steps, endpoints) in rows {
        let mut story = Story::new();
        story.open();
        for (told, removed) in steps {
            let removed: Vec<&str> = removed.iter().map(String::as_str).collect();
            assert_eq!(story.says(Kind::Address, told, &removed).request.error_detail, None);
        }
        assert!(story.world().service(&service_id("web")).is_some(), "{name}");
        assert_eq!(story.endpoints("web"), endpoints, "{name}");
    }
}

#[test]
fn of_several_workloads_with_one_address_a_pod_goes_first() {
    let entry = |name: &str| {
        let mut entry = pod(name, "10.0.0.1");
        entry.uid = format!("c1/networking.istio.io/WorkloadEntry/shop/{name}");
        entry
    };
    let plain = |mut workload: crate::proto::workload::Workload| {
        workload.tunnel_protocol = TunnelProtocol::None as i32;
        workload
    };
    let on_host = || {
        let mut workload = pod("host", "10.0.0.1");
        workload.network_mode = NetworkMode::HostNetwork as i32;
        workload
    };
    //  name                         told                                                    found
    let rows = [
        ("a pod", vec![pod("pod", "10.0.0.1"), entry("entry")], Some("pod")),
        ("a plain pod, too", vec![entry("entry"), plain(pod("pod", "10.0.0.1"))], Some("pod")),
        ("HBONE", vec![entry("hbone"), plain(entry("plain"))], Some("hbone")),
        ("the last", vec![entry("first"), entry("last")], Some("last")),
        ("the host's is nobody's", vec![on_host()], None),
        ("nor does it hide others", vec![plain(entry("entry")), on_host()], Some("entry")),
    ];
    for (name, told, found) in rows {
        let mut story = Story::new();
        story.open();
        let count = told.len();
        story.knows(told.into_iter().map(|workload| workload.told("")).collect());
        assert_eq!(story.world().workload_count(), count, "{name}");
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        let workload = story.world().workload_by_address("", ip);
        assert_eq!(workload.map(|workload| workload.name()), found, "{name}");
    }
}

#[test]
fn a_name_that_is_removed_is_a_uid_or_a_service() {
    let mut odd = pod("odd", "10.0.0.3");
    // A uid that could be a service's name.
    odd.uid = service_name("web");
    let odd_name = odd.uid.clone();
    let mut story = Story::new();
    story.open();
    story.knows(vec![
        pod("a", "10.0.0.1").told(""),
        web().told(""),
        service("db", "10.9.0.2").told(""),
    ]);
    for unknown in ["", "x", "a/b/c", "shop/none.example", "c1//Pod/shop/none", "/10.0.0.1"] {
        story.removes(Kind::Address, &[unknown]);
        assert_eq!((story.world().workload_count(), story.world().service_count()), (1, 2));
    }
    story.removes(Kind::Address, &[&uid("a"), &service_name("db")]);
    assert_eq!((story.world().workload_count(), story.world().service_count()), (0, 1));
    // What was told last under a name is what is removed with it.
    story.knows(vec![odd.told("")]);
    assert_eq!((story.world().workload_count(), story.world().service_count()), (1, 0));
    story.removes(Kind::Address, &[&odd_name]);
    assert_eq!((story.world().workload_count(), story.world().service_count()), (0, 0));
}

#[test]
fn what_is_told_under_another_name_is_removed_by_that() {
    let mut story = Story::new();
    story.open();
    let renamed = |mut resource: Resource| {
        resource.name = "alpha".to_owned();
        resource
    };
    story.knows(vec![renamed(pod("a", "10.0.0.1").told("1"))]);
    let [addresses, _] = story.open();
    assert_eq!(addresses.initial_resource_versions, [("alpha".to_owned(), "1".to_owned())].into());
    // Another resource under this name takes its place.
    story.knows(vec![renamed(pod("b", "10.0.0.2").told("2"))]);
    assert!(story.world().workload_by_uid(&uid("a")).is_none());
    story.removes(Kind::Address, &["alpha"]);
    assert_eq!(story.world().workload_count(), 0);
    let [addresses, _] = story.open();
    assert!(addresses.initial_resource_versions.is_empty());
}

#[test]
fn what_is_told_again_stays_the_very_same() {
    let mut story = Story::new();
    story.open();
    let told = || {
        vec![
            serving(pod("a", "10.0.0.1"), &["web"]).told("1"),
            web().told("1"),
            serving(pod("b", "10.0.0.2"), &["web"]).told("1"),
        ]
    };
    story.knows(told());
    story.tells(Kind::Authorization, vec![policy("p", "ns").told("")]);
    let before = story.world().clone();
    story.knows(told());
    story.tells(Kind::Authorization, vec![policy("p", "ns").told("")]);
    assert_eq!(story.world().footprint_beside(&before).nodes, 0);
    let uid = uid("a");
    let (one, other) = (before.workload_by_uid(&uid), story.world().workload_by_uid(&uid));
    assert!(Arc::ptr_eq(one.unwrap(), other.unwrap()));
    let (one, other) = (before.policy("shop", "p"), story.world().policy("shop", "p"));
    assert!(Arc::ptr_eq(one.unwrap(), other.unwrap()));
}

#[test]
fn the_workloads_of_this_host_are_found_as_pods_are_named() {
    let elsewhere = || {
        let mut workload = pod("b", "10.0.0.2");
        workload.node = "node-b".to_owned();
        workload
    };
    let account = |account: &str| {
        let mut workload = pod("a", "10.0.0.1");
        workload.service_account = account.to_owned();
        workload
    };
    let names = |session: &Session| {
        let mut names: Vec<_> = session.local().iter().map(|one| one.name().to_owned()).collect();
        names.sort();
        names
    };
    let mut story = Story::new();
    story.open();
    story.knows(vec![account("web").told(""), elsewhere().told("")]);
    let local = story.session.local();
    assert!(local.find("a", "shop", "web").is_some());
    for (name, namespace, account) in
        [("a", "shop", "default"), ("a", "bank", "web"), ("b", "shop", "default")]
    {
        assert!(local.find(name, namespace, account).is_none(), "{name} {namespace} {account}");
    }
    let before = story.session.local().clone();
    story.knows(vec![web().told(""), account("web").told("2")]);
    assert!(story.session.local().is_same(&before), "nothing of this host has changed");
    story.knows(vec![account("other").told("")]);
    assert!(story.session.local().find("a", "shop", "web").is_none());
    assert!(story.session.local().find("a", "shop", "other").is_some());
    let mut moved = account("other");
    moved.node = "node-b".to_owned();
    story.knows(vec![moved.told(""), pod("b", "10.0.0.2").told("")]);
    assert_eq!(names(&story.session), ["b"]);
    story.removes(Kind::Address, &[&uid("b")]);
    assert_eq!(names(&story.session), [""; 0]);
    // A node without a name is every workload's.
    let mut anywhere = Story::new();
    anywhere.session =
        Session::new(identity().node(), Kind::OF_NODE, None, false, Snapshot::new(""));
    anywhere.open();
    anywhere.knows(vec![pod("a", "10.0.0.1").told(""), elsewhere().told("")]);
    assert_eq!(names(&anywhere.session), ["a", "b"]);
}

#[test]
fn what_is_known_from_a_file_stays_until_the_control_plane_tells_it() {
    let mut known = Snapshot::new("");
    for name in ["file", "both", "gone"] {
        let description = WorkloadDescription {
            uid: uid(name),
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            node: NODE.to_owned(),
            ..WorkloadDescription::default()
        };
        known.upsert_workload(Interner::new().workload(description).unwrap());
    }
    let mut story = Story::with(false, known);
    let [addresses, _] = story.open();
    assert!(addresses.initial_resource_versions.is_empty(), "it is not the control plane's");
    assert!(story.session.local().find("file", "shop", "default").is_some());
    story.says(Kind::Address, vec![pod("both", "10.0.0.1").told("1")], &[&uid("gone")]);
    assert_eq!(story.world().workload_count(), 2);
    assert_eq!(story.session.local().iter().count(), 2);
    let both = story.world().workload_by_uid(&uid("both")).unwrap();
    assert_eq!(both.addresses().len(), 1, "the control plane's word counts");
    let [addresses, _] = story.open();
    assert_eq!(addresses.initial_resource_versions, [(uid("both"), "1".to_owned())].into());
}

#[test]
fn policies_come_change_and_go() {
    let mut story = Story::new();
    story.open();
    story.tells(Kind::Authorization, vec![policy("p", "a").told(""), policy("q", "a").told("")]);
    let mut wider = policy("p", "b");
    wider.scope = Scope::Global as i32;
    story.says(Kind::Authorization, vec![wider.told("")], &["shop/q", "shop/none", "no-name"]);
    assert!(story.world().policy("shop", "q").is_none());
    let p = story.world().policy("shop", "p").unwrap();
    assert_eq!(p.scope, ringway_engine::snapshot::PolicyScope::Global);
    assert_eq!(story.world().policies().count(), 1);
    // An address and a policy may have one name.
    story.removes(Kind::Address, &["shop/p"]);
    assert!(story.world().policy("shop", "p").is_some());
    story.removes(Kind::Authorization, &["shop/p"]);
    assert_eq!(story.world().policies().count(), 0);
}

#[test]
fn a_version_is_remembered_whatever_its_length() {
    let mut story = Story::new();
    story.open();
    for length in [0, 1, 21, 22, 23, 1000] {
        let version = "v".repeat(length);
        story.knows(vec![pod("a", "10.0.0.1").told(&version)]);
        let [addresses, _] = story.open();
        assert_eq!(addresses.initial_resource_versions[&uid("a")], version);
        assert_eq!(story.session.told(Kind::Address), 1);
    }
}

#[test]
fn what_was_told_is_found_by_its_name() {
    let scene = crate::xds::state::Scene::new(None);
    let mut state = crate::xds::state::State::new(Snapshot::new(""), &scene);
    let read = crate::xds::decode::read_authorization;
    let one = read(&prost::Message::encode_to_vec(&policy("p", "a"))).unwrap();
    state.set_policy("shop/p", "3", one);
    let known = state.told(Kind::Authorization).find("shop/p").unwrap();
    assert!(matches!(known.resource(), Known::Policy(policy) if *policy.name == *"p"));
    assert_eq!(known.version(), "3");
    assert!(state.told(Kind::Authorization).find("shop/q").is_none());
    assert!(state.told(Kind::Address).find("shop/p").is_none());
}
