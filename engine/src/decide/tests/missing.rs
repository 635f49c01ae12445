//! What must be asked about, one thing after the other, where only that is told.

use super::{
    elsewhere, gateway_pod, named_by_service, through_waypoint, waypoint_pod, waypoint_service,
    web, web_service,
};
use crate::decide::missing;
use crate::snapshot::fixture::{With, gateway, mesh, pod};
use crate::snapshot::{AnsweredNames, Service, Snapshot, WorkloadDescription};

fn asked<const P: usize, const S: usize>(
    pods: [WorkloadDescription; P],
    services: [Service; S],
    destination: &str,
    answered: &[&str],
) -> Option<String> {
    let pods = pods.into_iter().chain([pod("client", "10.1.0.99")]);
    let mut snapshot: Snapshot = mesh(pods, services);
    let mut names = AnsweredNames::default();
    answered.iter().for_each(|name| names.insert(name));
    snapshot.set_answered(names);
    let source = snapshot.workload_by_uid("c1//Pod/shop/client").unwrap();
    missing(&snapshot, source, destination.parse().unwrap())
}

#[test]
fn the_destination_then_who_is_on_the_way() {
    let guarded = || web().with(|pod| pod.waypoint = Some(gateway("10.1.0.40")));
    let behind = || web_service().with(through_waypoint);
    let (far, there) = (|| web().with(elsewhere), || web_service().with(named_by_service));
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
    ];
    for (row, asked, want) in rows {
        assert_eq!(asked, want, "{row}");
    }
}
