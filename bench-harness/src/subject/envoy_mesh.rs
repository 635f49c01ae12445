//! A sidecar Envoy with a large mesh: for each service a cluster with its endpoints, and a filter chain
//! that leads the service's address to it.
//!
//! That is what Istio makes of a service, less much of what makes Istio's dearer: a listener for each
//! service, transport sockets and metadata of clusters, metadata of endpoints, routes, Istio's own
//! filters. Statistics of clusters are off, as with Istio. So this is the least that a sidecar costs.
//!
//! Only the service that changes has its endpoints in a file of their own, which is all that is read
//! again, where Ringway reads its whole mesh. (With such a file for each of thousands of services Envoy
//! aborts: every file takes an inotify instance, of which a user has 128 by default.)

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::envoy_config::{address, marked, no_limits, original_destination, typed};
use super::{Bench, ECHO, InMesh, PROBE, Rules, WORKERS, tail};
use crate::http::get_from;
use crate::lab::{Program, wait_until};
use crate::mesh::Mesh;

const PATIENCE: Duration = Duration::from_secs(300);
const PROBED: &str = "probe.default.svc.cluster.local";

pub(super) fn start(program: &Path, bench: &Bench, mesh: &Mesh) -> Result<InMesh> {
    ensure!(
        program.exists(),
        "there is no Envoy at {}; scripts/get-envoy puts it there, or name one with --envoy",
        program.display()
    );
    let probe: SocketAddr = PROBE.parse()?;
    let server: SocketAddr = ECHO.parse()?;
    let (mut clusters, mut chains) = (Vec::new(), Vec::new());
    for (hostname, vip, workloads) in mesh.endpoints() {
        let sockets = workloads.iter().map(|workload| (workload.to_string(), 8080));
        let mut cluster = cluster(&hostname);
        cluster["type"] = "STATIC".into();
        cluster["load_assignment"] = assignment(&hostname, sockets);
        clusters.push(cluster);
        chains.push(chain(&hostname, &vip.to_string(), 80));
    }
    let folder = bench.lab.directory();
    let (now, next) = (folder.join("endpoints.json"), folder.join("endpoints-next.json"));
    fs::write(&now, answer(assignment(PROBED, std::iter::empty())))?;
    fs::write(&next, answer(assignment(PROBED, [(server.ip().to_string(), server.port())])))?;
    let mut probed = cluster(PROBED);
    probed["type"] = "EDS".into();
    probed["eds_cluster_config"] = json!({
        "service_name": PROBED,
        "eds_config": {"resource_api_version": "V3", "path_config_source": {"path": &now}},
    });
    clusters.push(probed);
    chains.push(chain(PROBED, &probe.ip().to_string(), probe.port()));
    let listener = json!({
        "name": "virtualOutbound",
        "traffic_direction": "OUTBOUND",
        "address": address(&Ipv4Addr::UNSPECIFIED.to_string(), 15001),
        "listener_filters": [original_destination()],
        "filter_chains": chains,
    });
    let kept =
        ["cluster_manager", "listener_manager", "server"].map(|name| json!({"prefix": name}));
    let configuration = json!({
        "node": {"id": "near", "cluster": "bench"},
        "admin": {"address": address("127.0.0.1", 15000)},
        "static_resources": {"listeners": [listener], "clusters": clusters},
        "stats_config": {
            "use_all_default_tags": false,
            "stats_matcher": {"inclusion_list": {"patterns": kept}},
        },
    });
    let file = bench.lab.directory().join("envoy-scale.json");
    fs::write(&file, configuration.to_string())?;
    drop(configuration);

    bench.install_in(&["near"], Rules::Sidecar)?;
    bench.install_in(&["far"], Rules::None)?;
    let program = Program::new(program)
        .arguments(["--concurrency", &WORKERS.to_string(), "--disable-hot-restart"])
        .arguments(["--log-level", "warning", "--config-path"])
        .argument(&file);
    let began = Instant::now();
    let mut process = bench.lab.start("near", "envoy-scale", &program)?;
    let admin = SocketAddr::from(([127, 0, 0, 1], 15000));
    let near = bench.lab.namespace("near");
    let waited = wait_until("Envoy is ready", PATIENCE, || {
        !process.is_running()
            || bench.go_on().is_err()
            || get_from(near, admin, "/ready").is_ok_and(|(code, _)| code == 200)
    });
    waited.with_context(|| tail(&process.log()))?;
    bench.go_on()?;
    ensure!(process.is_running(), "Envoy ended at once: {}", tail(&process.log()));
    Ok(InMesh { process, load_time: began.elapsed(), change: (next, now) })
}

/// The endpoints of a cluster.
fn assignment(name: &str, sockets: impl IntoIterator<Item = (String, u16)>) -> Value {
    let endpoints = sockets
        .into_iter()
        .map(|(ip, port)| json!({"endpoint": {"address": address(&ip, port)}}))
        .collect::<Vec<Value>>();
    json!({"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]})
}

/// What a control plane would send, as a file has it.
fn answer(mut assignment: Value) -> String {
    assignment["@type"] =
        "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment".into();
    json!({"resources": [assignment]}).to_string()
}

fn cluster(name: &str) -> Value {
    json!({
        "name": name,
        "connect_timeout": "10s",
        "circuit_breakers": no_limits(),
        "upstream_bind_config": marked("0.0.0.0"),
    })
}

fn chain(cluster: &str, vip: &str, port: u16) -> Value {
    let proxy = typed(
        "envoy.filters.network.tcp_proxy",
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        json!({"stat_prefix": "outbound", "cluster": cluster}),
    );
    json!({
        "filter_chain_match": {
            "destination_port": port,
            "prefix_ranges": [{"address_prefix": vip, "prefix_len": 32}],
        },
        "filters": [proxy],
    })
}
