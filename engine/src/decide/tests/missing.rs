//! What must be asked about, one thing after the other, where only that is told.

use ringway_protocols::hbone::Authority;

use super::{
    elsewhere, gateway_pod, named_by_service, through_waypoint, waypoint_pod, waypoint_service,
    web, web_service,
};
use crate::decide::{missing, missing_inbound};
use crate::snapshot::fixture::{With, gateway, mesh, pod, serves, service};
use crate::snapshot::{
    AnsweredNames, ApplicationTunnel, ApplicationTunnelProtocol, Service, Snapshot,
    WeightedWaypoint, WorkloadDescription,
};

fn asked<const P: usize, const S: usize>(
    pods: [WorkloadDescription; P],
    services: [Service; S],
    destination: &str,
    answered: &[&str],
) -> Option<String> {
    let pods = pods.into_iter().chain([pod("client", "10.1.0.99")]);
    let snapshot = knowing(mesh(pods, services), answered);
    let source = snapshot.workload_by_uid("c1//Pod/shop/client").unwrap();
    missing(&snapshot, source, destination.parse().unwrap())
}

fn knowing(mut snapshot: Snapshot, answered: &[&str]) -> Snapshot {
    let mut names = AnsweredNames::default();
    answered.iter().for_each(|name| names.insert(name));
    snapshot.set_answered(names);
    snapshot
}

#[test]
fn the_destination_then_who_is_on_the_way() {
    let guarded = || web().with(|pod| pod.waypoint = Some(gateway("10.1.0.40")));
    let behind = || web_service().with(through_waypoint);
    let (far, there) = (|| web().with(elsewhere), || web_service().with(named_by_service));
    let far_waypoint = || waypoint_pod().with(elsewhere);
    let weighted = |weight| {
        let destination = gateway("10.1.0.40");
        let waypoints = Box::new([WeightedWaypoint { destination, weight }]);
        web_service().with(|service| service.weighted_waypoints = waypoints)
    };
    let name = |name: &str| Some(name.to_owned());
    //    what is known, destination, answered                          asked about
    let rows = [
        ("nothing", asked([], [], "10.1.0.1:80", &[]), name("/10.1.0.1")),
        ("mapped", asked([], [], "[::ffff:10.1.0.1]:80", &[]), name("/10.1.0.1")),
        ("another answer", asked([], [], "10.1.0.1:80", &["/10.1.0.2"]), name("/10.1.0.1")),
        ("nobody has it", asked([], [], "10.1.0.1:80", &["/10.1.0.1"]), None),
        ("ourselves", asked([], [], "127.0.0.1:80", &[]), None),
        ("a workload", asked([web()], [], "10.1.0.1:80", &[]), None),
        ("a service", asked([web()], [web_service()], "10.2.0.1:80", &[]), None),
        ("a workload's waypoint", asked([guarded()], [], "10.1.0.1:80", &[]), name("/10.1.0.40")),
        ("it is there", asked([guarded(), waypoint_pod()], [], "10.1.0.1:80", &[]), None),
        (
            "a service's waypoint",
            asked([web()], [behind()], "10.2.0.1:80", &[]),
            name("shop/waypoint.example"),
        ),
        (
            "it is there",
            asked([web(), waypoint_pod()], [behind(), waypoint_service()], "10.2.0.1:80", &[]),
            None,
        ),
        (
            "it was deleted",
            asked([web()], [behind()], "10.2.0.1:80", &["shop/waypoint.example"]),
            None,
        ),
        ("a gateway", asked([far()], [there()], "10.2.0.1:80", &[]), name("/10.8.0.1")),
        ("it is there", asked([far(), gateway_pod()], [there()], "10.2.0.1:80", &[]), None),
        (
            "a far waypoint's gateway",
            asked([web(), far_waypoint()], [behind(), waypoint_service()], "10.2.0.1:80", &[]),
            name("/10.8.0.1"),
        ),
        (
            "it is there",
            asked(
                [web(), far_waypoint(), gateway_pod()],
                [behind(), waypoint_service()],
                "10.2.0.1:80",
                &[],
            ),
            None,
        ),
        (
            "nobody has it",
            asked(
                [web(), far_waypoint()],
                [behind(), waypoint_service()],
                "10.2.0.1:80",
                &["/10.8.0.1"],
            ),
            None,
        ),
        (
            "the gateway of who is behind a waypoint is for that to know",
            asked([far(), waypoint_pod()], [behind(), waypoint_service()], "10.2.0.1:80", &[]),
            None,
        ),
        ("a weighted one", asked([], [weighted(1)], "10.2.0.1:80", &[]), name("/10.1.0.40")),
        ("one that is never drawn", asked([], [weighted(0)], "10.2.0.1:80", &[]), None),
    ];
    for (row, asked, want) in rows {
        assert_eq!(asked, want, "{row}");
    }
}

/// What must be asked about when a CONNECT for `asked` reaches the pod `web-1`, of these.
fn asked_inbound<const P: usize, const S: usize>(
    pods: [WorkloadDescription; P],
    services: [Service; S],
    asked: &str,
    answered: &[&str],
) -> Option<String> {
    let snapshot = knowing(mesh(pods, services), answered);
    let local = snapshot.workload_by_uid("c1//Pod/shop/web-1").unwrap();
    let authority = match asked.parse() {
        Ok(address) => Authority::Address(address),
        Err(_) => Authority::hostname(asked, 80).unwrap(),
    };
    missing_inbound(&snapshot, local, local.addresses()[0], &authority)
}

#[test]
fn whether_a_request_may_end_here() {
    let other =
        |name: &str| pod("other-1", "10.1.0.2").with(|pod| pod.waypoint = Some(gateway(name)));
    let behind = |name: &str| {
        service("other", "10.2.0.2").with(|service| service.waypoint = Some(gateway(name)))
    };
    let bare = || pod("other-1", "10.1.0.2");
    let tells_for_itself = || {
        let (protocol, port) = (ApplicationTunnelProtocol::None, None);
        web().with(|pod| pod.application_tunnel = Some(ApplicationTunnel { protocol, port }))
    };
    let of_other = || web().with(|pod| pod.services.push(serves("other", [])));
    let name = |name: &str| Some(name.to_owned());
    //    what is known, what is asked for, answered                    asked about
    let rows = [
        ("its own address", asked_inbound([web()], [], "10.1.0.1:80", &[]), None),
        ("mapped", asked_inbound([web()], [], "[::ffff:10.1.0.1]:80", &[]), None),
        ("loopback", asked_inbound([web()], [], "127.0.0.1:80", &[]), None),
        ("another's", asked_inbound([web()], [], "10.1.0.2:80", &[]), name("/10.1.0.2")),
        ("mapped", asked_inbound([web()], [], "[::ffff:10.1.0.2]:80", &[]), name("/10.1.0.2")),
        ("nobody has it", asked_inbound([web()], [], "10.1.0.2:80", &["/10.1.0.2"]), None),
        ("who tells for itself", asked_inbound([tells_for_itself()], [], "10.1.0.2:80", &[]), None),
        ("without a waypoint", asked_inbound([web(), bare()], [], "10.1.0.2:80", &[]), None),
        (
            "a workload's waypoint",
            asked_inbound([web(), other("10.2.0.1")], [], "10.1.0.2:80", &[]),
            name("/10.2.0.1"),
        ),
        (
            "it is there, and we are one of it",
            asked_inbound([web(), other("10.2.0.1")], [web_service()], "10.1.0.2:80", &[]),
            None,
        ),
        (
            "it is somebody else",
            asked_inbound(
                [web(), other("10.2.0.3")],
                [service("gate", "10.2.0.3")],
                "10.1.0.2:80",
                &[],
            ),
            None,
        ),
        (
            "a service's waypoint",
            asked_inbound([web()], [behind("shop/web")], "10.2.0.2:80", &[]),
            name("shop/web.example"),
        ),
        (
            "it was deleted",
            asked_inbound([web()], [behind("shop/web")], "10.2.0.2:80", &["shop/web.example"]),
            None,
        ),
        ("a hostname of nobody's", asked_inbound([web()], [], "other.example", &[]), None),
        (
            "of a service of its own",
            asked_inbound([of_other()], [], "other.example", &[]),
            name("shop/other.example"),
        ),
        (
            "it is there",
            asked_inbound([of_other()], [behind("shop/web")], "other.example", &[]),
            None,
        ),
        (
            "of a service behind an unknown waypoint",
            asked_inbound([web()], [behind("shop/web")], "other.example", &[]),
            name("shop/web.example"),
        ),
    ];
    for (row, asked, want) in rows {
        assert_eq!(asked, want, "{row}");
    }
}
