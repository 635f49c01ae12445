//! A waypoint before a service: Ringway's nodes on both hosts, and between them Ringway's waypoint or Envoy as Istio
//! configures one.
//!
//! ```text
//!  near ── its node ── HBONE ──▶ middle: the waypoint ── HBONE ──▶ the far node ── far
//! ```
//!
//! Nodes and certificates are the same for both, so that what differs is the waypoint alone. Envoy terminates HBONE on 15008,
//! passes each stream through an internal listener to the HTTP connection manager of the service, and from there through
//! another one into an HBONE tunnel, as in Istio's waypoints. Istio's own filters are missing and would cost more. Neither
//! writes an access log.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::envoy_config::{address, common_tls, no_limits, typed};
use super::ringway::{Ringway, Way};
use super::service_mesh::{PATIENCE, file, path, port_of_server, wait_until_ready};
use super::{Bench, Group, Options, Pair, Programs, Rules, Subject, WORKERS};
use crate::lab::{Process, Program};

/// One kind of waypoint.
pub(super) struct Waypoint {
    nodes: Ringway,
    /// None: Ringway's own.
    envoy: Option<PathBuf>,
}

impl Waypoint {
    pub(super) fn ringway(programs: &Programs) -> Waypoint {
        Waypoint { nodes: Ringway::new(programs, Way::Alone), envoy: None }
    }

    pub(super) fn envoy(programs: &Programs) -> Waypoint {
        let envoy = Some(programs.envoy.clone());
        Waypoint { nodes: Ringway::new(programs, Way::Alone), envoy }
    }

    fn start_ringway(&self, bench: &Bench) -> Result<Process> {
        let program = Program::new(&self.nodes.program)
            .arguments(["waypoint", "--name", "default/middle", "--node", "middle"])
            .arguments(["--access-log", "off", "--file"])
            .argument(file(bench));
        bench.lab.start("middle", "ringway-waypoint", &program)
    }

    fn start_envoy(&self, bench: &Bench, program: &PathBuf, rules: u32) -> Result<Process> {
        ensure!(
            program.exists(),
            "there is no Envoy at {}; scripts/get-envoy puts it there, or name one with --envoy",
            program.display()
        );
        let file = bench.lab.directory().join("envoy-waypoint.json");
        fs::write(&file, envoy_configuration(bench, rules).to_string())?;
        let program = Program::new(program)
            .arguments(["--concurrency", &WORKERS.to_string(), "--disable-hot-restart"])
            .arguments(["--log-level", "warning", "--config-path"])
            .argument(&file);
        let mut process = bench.lab.start("middle", "envoy-waypoint", &program)?;
        bench.wait_for_port("middle", 15008, &mut process, PATIENCE)?;
        Ok(process)
    }
}

impl Subject for Waypoint {
    fn name(&self) -> &str {
        if self.envoy.is_some() { "envoy-waypoint" } else { "ringway-waypoint" }
    }

    fn group(&self) -> Group {
        Group::L7
    }

    fn programs(&self) -> Vec<PathBuf> {
        std::iter::once(self.nodes.program.clone()).chain(self.envoy.clone()).collect()
    }

    fn rules(&self) -> Rules {
        Rules::Own
    }

    fn start(&self, _bench: &Bench, _options: &Options) -> Result<Pair> {
        anyhow::bail!("it stands before a service, which only the experiment waypoint has")
    }

    fn start_before_service(&self, bench: &Bench, rules: u32) -> Result<Pair> {
        let mut pair = self.nodes.start_nodes(bench, rules, true)?;
        let mut process = match &self.envoy {
            Some(program) => self.start_envoy(bench, program, rules)?,
            None => self.start_ringway(bench)?,
        };
        if self.envoy.is_none() {
            wait_until_ready(bench, "middle", &mut process)?;
        } else {
            let text = serde_json::to_string_pretty(&envoy_configuration(bench, 0))?;
            pair.configurations.push(("waypoint.json".to_owned(), text));
        }
        pair.middle.push(process);
        Ok(pair)
    }
}

const INTERNAL_LISTENER: &str = "envoy.bootstrap.internal_listener";
const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn envoy_configuration(bench: &Bench, rules: u32) -> Value {
    let internal = typed(
        INTERNAL_LISTENER,
        "envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
        json!({}),
    );
    json!({
        "node": {"id": "middle", "cluster": "bench"},
        "admin": {"address": address("127.0.0.1", 15000)},
        "bootstrap_extensions": [internal],
        "static_resources": {
            "listeners": [terminate(bench), service(rules), originate(bench)],
            "clusters": [
                internal_cluster("main_internal", "main_internal", &json!({})),
                internal_cluster("web", "connect_originate", &json!({
                    OPTIONS: {
                        "@type": format!("type.googleapis.com/{OPTIONS}"),
                        "use_downstream_protocol_config": {"http2_protocol_options": {}},
                    },
                })),
                hbone(bench),
            ],
        },
        "stats_config": {"use_all_default_tags": false},
    })
}

/// Takes HBONE's streams out of their tunnels.
fn terminate(bench: &Bench) -> Value {
    let tls = typed(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        json!({"require_client_certificate": true, "common_tls_context": tls(bench, "near")}),
    );
    let connect = json!([{"upgrade_type": "CONNECT", "connect_config": {}}]);
    let manager = manager(
        "connect_terminate",
        &json!([]),
        &json!([{
            "match": {"connect_matcher": {}},
            "route": {"cluster": "main_internal", "timeout": "0s", "upgrade_configs": connect},
        }]),
    );
    let mut manager = manager;
    manager["typed_config"]["codec_type"] = "HTTP2".into();
    manager["typed_config"]["http2_protocol_options"] = json!({"allow_connect": true});
    manager["typed_config"]["upgrade_configs"] = json!([{"upgrade_type": "CONNECT"}]);
    json!({
        "name": "connect_terminate",
        "address": address("0.0.0.0", 15008),
        "filter_chains": [{"transport_socket": tls, "filters": [manager]}],
    })
}

/// The service's own requests, by the rules that Ringway has as well.
fn service(rules: u32) -> Value {
    let to = json!({"cluster": "web", "timeout": "0s"});
    let mut routes: Vec<Value> = (0..rules)
        .map(|number| json!({"match": {"path_separated_prefix": path(number)}, "route": to}))
        .collect();
    routes.push(json!({"match": {"prefix": "/"}, "route": to}));
    let filters = json!([
        typed(
            "envoy.filters.http.fault",
            "envoy.extensions.filters.http.fault.v3.HTTPFault",
            json!({})
        ),
        typed("envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.Cors", json!({})),
    ]);
    json!({
        "name": "main_internal",
        "internal_listener": {},
        "filter_chains": [{"filters": [manager("web", &filters, &routes.into())]}],
    })
}

fn manager(name: &str, filters: &Value, routes: &Value) -> Value {
    let router = typed(
        "envoy.filters.http.router",
        "envoy.extensions.filters.http.router.v3.Router",
        json!({}),
    );
    let filters: Vec<Value> = filters.as_array().into_iter().flatten().cloned().collect();
    typed(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": name,
            "codec_type": "AUTO",
            "generate_request_id": true,
            "http_filters": filters.into_iter().chain([router]).collect::<Vec<_>>(),
            "route_config": {
                "name": name,
                "validate_clusters": false,
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
            },
        }),
    )
}

/// Puts what goes to the endpoint into a tunnel to its node.
fn originate(bench: &Bench) -> Value {
    let endpoint = format!("{}:{}", bench.lab.namespace("far").address(), port_of_server());
    let filter = typed(
        "envoy.filters.network.tcp_proxy",
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        json!({
            "stat_prefix": "connect_originate",
            "cluster": "connect_originate",
            "tunneling_config": {"hostname": endpoint},
        }),
    );
    json!({
        "name": "connect_originate",
        "internal_listener": {},
        "filter_chains": [{"filters": [filter]}],
    })
}

fn internal_cluster(name: &str, listener: &str, options: &Value) -> Value {
    let raw = typed(
        "envoy.transport_sockets.raw_buffer",
        "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
        json!({}),
    );
    let socket = typed(
        "envoy.transport_sockets.internal_upstream",
        "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
        json!({"transport_socket": raw}),
    );
    let endpoint = json!({"envoy_internal_address": {"server_listener_name": listener}});
    json!({
        "name": name,
        "type": "STATIC",
        "circuit_breakers": no_limits(),
        "transport_socket": socket,
        "typed_extension_protocol_options": options,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": endpoint}}]}],
        },
    })
}

fn hbone(bench: &Bench) -> Value {
    let tls = typed(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        json!({"common_tls_context": tls(bench, "far")}),
    );
    let far = bench.lab.namespace("far").address().to_string();
    let endpoint = json!({"endpoint": {"address": address(&far, 15008)}});
    json!({
        "name": "connect_originate",
        "type": "STATIC",
        "connect_timeout": "10s",
        "circuit_breakers": no_limits(),
        "transport_socket": tls,
        "typed_extension_protocol_options": {
            OPTIONS: {
                "@type": format!("type.googleapis.com/{OPTIONS}"),
                "explicit_http_config": {"http2_protocol_options": {"allow_connect": true}},
            },
        },
        "load_assignment": {
            "cluster_name": "connect_originate",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    })
}

/// The waypoint's own certificate, and who the other side must be.
fn tls(bench: &Bench, peer: &str) -> Value {
    let peer = json!({"san_type": "URI", "matcher": {"exact": bench.identity(peer)}});
    let mut tls = common_tls(bench.lab.directory(), "middle", peer);
    tls["alpn_protocols"] = json!(["h2"]);
    tls
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::SERVICE_PORTS;
    use crate::subject::service_mesh::routes;

    #[test]
    fn both_get_as_many_rules_and_one_for_everything_else() {
        let text = routes(250);
        assert_eq!(text.matches("PathPrefix").count(), 250);
        assert_eq!(text.matches("kind: HTTPRoute").count(), 3 + SERVICE_PORTS.len());
        for (_, port) in SERVICE_PORTS {
            let all = format!("rules:\n  - backendRefs: [{{name: web, port: {port}}}]");
            assert!(text.contains(&all), "nothing for everything else on {port}");
        }
        let listener = service(250);
        let manager = &listener["filter_chains"][0]["filters"][0]["typed_config"];
        let routes = manager["route_config"]["virtual_hosts"][0]["routes"].as_array().unwrap();
        assert_eq!(routes.len(), 251);
        assert_eq!(routes[7]["match"]["path_separated_prefix"], path(7));
        assert_eq!(routes[250]["match"]["prefix"], "/");
    }
}
