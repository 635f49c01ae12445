//! ServiceEntries whose endpoints are names, and those that have none.

use std::collections::BTreeSet;

use ringway_engine::snapshot::{LoadBalancerMode, Snapshot, TunnelProtocol};

use crate::source::{Source, load};

fn world(spec: &str, others: &str) -> Snapshot {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: shop}}\n\
         spec: {{ports: [{{number: 443, name: tls}}], {spec}}}\n{others}"
    );
    let source = Source::Text { name: "mesh.yaml".to_owned(), text };
    load(&[source], None).unwrap_or_else(|error| panic!("{error}")).snapshot
}

/// Each workload: what it is reached at, and which hosts it is an endpoint of.
fn endpoints(world: &Snapshot) -> BTreeSet<(String, Vec<&str>)> {
    let one = |at: String, services: Vec<_>| (at, services);
    let all = world.workloads().map(|workload| {
        let at = match workload.addresses() {
            [ip] => ip.to_string(),
            _ => workload.hostname().to_owned(),
        };
        one(at, workload.services().iter().map(|each| each.service.hostname()).collect())
    });
    all.collect()
}

#[test]
fn endpoints_are_found_as_the_resolution_says() {
    const VM: &str = "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
        metadata: {name: vm, namespace: shop}\n\
        spec: {address: vm.example.net, labels: {app: vm}, serviceAccount: vm}\n";
    type Want<'w> = &'w [(&'w str, &'w [&'w str])];
    //  name                              spec                                              others  want
    let rows: [(&str, &str, &str, Want<'_>); 7] = [
        (
            "hosts stand for themselves",
            "hosts: [a.example, b.example], resolution: DNS",
            "",
            &[("a.example", &["a.example"]), ("b.example", &["b.example"])],
        ),
        (
            "endpoints stand for all hosts",
            "hosts: [a.example, b.example], resolution: DNS, endpoints: [{address: c.example}, {address: 192.0.2.1}]",
            "",
            &[
                ("192.0.2.1", &["a.example", "b.example"]),
                ("c.example", &["a.example", "b.example"]),
            ],
        ),
        (
            "a wildcard that has an endpoint",
            "hosts: ['*.example'], resolution: DNS, endpoints: [{address: c.example}]",
            "",
            &[("c.example", &["*.example"])],
        ),
        (
            "one after the other",
            "hosts: [a.example], resolution: DNS_ROUND_ROBIN",
            "",
            &[("a.example", &["a.example"])],
        ),
        (
            "a selected name",
            "hosts: [a.example], resolution: DNS, workloadSelector: {labels: {app: vm}}",
            VM,
            &[("vm.example.net", &["a.example"])],
        ),
        (
            "a selected name, whatever its own word",
            "hosts: [a.example], resolution: STATIC, workloadSelector: {labels: {app: vm}}",
            VM,
            &[("vm.example.net", &["a.example"])],
        ),
        ("nobody", "hosts: [a.example], addresses: [10.0.0.0/8], resolution: NONE", "", &[]),
    ];
    for (name, spec, others, want) in rows {
        let world = world(spec, others);
        let want: BTreeSet<_> =
            want.iter().map(|(at, of)| ((*at).to_owned(), of.to_vec())).collect();
        assert_eq!(endpoints(&world), want, "{name}");
    }
}

#[test]
fn without_a_resolution_connections_go_on() {
    for (spec, mode) in [
        ("hosts: [a.example]", LoadBalancerMode::Passthrough),
        ("hosts: [a.example], resolution: NONE", LoadBalancerMode::Passthrough),
        ("hosts: [a.example], resolution: DNS", LoadBalancerMode::Standard),
    ] {
        let world = world(spec, "");
        let service = world.service_by_hostname("a.example", "shop").unwrap();
        assert_eq!(service.load_balancer.mode, mode, "{spec}");
        assert_eq!(world.has_hostnames(), mode == LoadBalancerMode::Standard, "{spec}");
    }
}

/// A name says nothing of whether somebody serves it: the object does.
#[test]
fn a_name_is_in_the_mesh_when_it_says_so() {
    let vm = |labels: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: vm, namespace: shop, \
             labels: {{{labels}}}}}\nspec: {{address: vm.example.net}}\n"
        )
    };
    for (labels, protocol) in
        [("istio.io/dataplane-mode: ambient", TunnelProtocol::Hbone), ("", TunnelProtocol::Tcp)]
    {
        let world = world("hosts: [a.example]", &vm(labels));
        assert_eq!(world.workloads().next().unwrap().protocol(), protocol, "{labels}");
    }
}
