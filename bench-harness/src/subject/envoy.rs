//! A pair of Envoys as Istio's sidecars: one in each pod, connections led to it by the rules of
//! istio-iptables, TLS 1.3 with both sides' SPIFFE identities between the two.
//!
//! `envoy-tcp` is what Istio makes of a port it knows nothing about, `envoy-http` what it makes of an
//! HTTP port, without Istio's own filters (metadata exchange, its statistics), which are in no plain
//! Envoy and would cost more. Neither writes an access log.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::company::{self, Company, Service};
use super::envoy_config::{address, common_tls, marked, no_limits, original_destination, typed};
use super::{
    Bench, Changing, Group, Handshakes, InMesh, Options, Pair, Populating, Programs, Resumption,
    Rules, Subject, envoy_mesh,
};
use crate::http::get_from;
use crate::lab::{Process, Program};
use crate::mesh::Mesh;
use crate::pki;

/// The address from which an inbound sidecar dials its own pod; its rules leave it alone.
const PASSTHROUGH: &str = "127.0.0.6";
/// The port of its own pages.
const ADMIN: u16 = 15000;

/// Envoy, with or without an understanding of HTTP.
pub(super) struct Envoy {
    program: PathBuf,
    http: bool,
}

impl Envoy {
    pub(super) fn new(programs: &Programs, http: bool) -> Envoy {
        Envoy { program: programs.envoy.clone(), http }
    }

    fn start_side(
        &self,
        bench: &Bench,
        name: &str,
        configuration: &str,
        options: &Options,
    ) -> Result<Process> {
        let file = bench.lab.directory().join(format!("envoy-{name}.json"));
        fs::write(&file, configuration)?;
        bench.lab.start(name, &format!("envoy-{name}"), &self.with_configuration(&file, options))
    }

    fn with_configuration(&self, file: &Path, options: &Options) -> Program {
        let program = Program::new(&self.program)
            .arguments(["--concurrency", &options.workers().to_string(), "--disable-hot-restart"])
            .arguments(["--log-level", "warning", "--config-path"])
            .argument(file);
        options.placed(program)
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.program.exists(),
            "there is no Envoy at {}; scripts/get-envoy puts it there, or name one with --envoy",
            self.program.display()
        );
        Ok(())
    }

    /// The sidecar of a service, which knows those that the service calls, and nobody else.
    fn company_configuration(&self, company: &Company, number: usize) -> Value {
        let own = &company.services()[number];
        let tls = |peer: Value| common_tls(company.lab.directory(), &own.name, peer);
        let (mut chains, mut clusters) = (Vec::new(), vec![inbound_cluster()]);
        for called in company.calls(number) {
            let (name, to) = (format!("outbound-{}", called.name), called.address.to_string());
            chains.push(json!({
                "filter_chain_match": {"prefix_ranges": [{"address_prefix": to, "prefix_len": 32}]},
                "filters": [self.filter(&name)],
            }));
            let peer = json!({"san_type": "URI", "matcher": {"exact": called.identity()}});
            let host = format!("{}.{}.svc.cluster.local", called.name, called.group);
            let socket = typed(
                "envoy.transport_sockets.tls",
                "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                json!({"sni": format!("outbound_.8080_._.{host}"), "common_tls_context": tls(peer)}),
            );
            let endpoint = json!({"endpoint": {"address": address(&to, company::PORT)}});
            clusters.push(json!({
                "name": name,
                "type": "STATIC",
                "connect_timeout": "10s",
                "circuit_breakers": no_limits(),
                "transport_socket": socket,
                "upstream_bind_config": marked("0.0.0.0"),
                "load_assignment": {
                    "cluster_name": name,
                    "endpoints": [{"lb_endpoints": [endpoint]}],
                },
            }));
        }
        let mut outbound = self.outbound_listener();
        outbound["filter_chains"] = chains.into();
        let anybody = json!({"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/"}});
        json!({
            "node": {"id": own.name, "cluster": "bench"},
            "admin": {"address": address("127.0.0.1", ADMIN)},
            "static_resources": {
                "listeners": [outbound, self.inbound_listener(&tls(anybody))],
                "clusters": clusters,
            },
            "stats_config": {"use_all_default_tags": false},
        })
    }

    fn configuration(
        &self,
        bench: &Bench,
        [near, far]: [&str; 2],
        name: &str,
        options: &Options,
    ) -> String {
        let (listener, cluster) = if name == near {
            (self.outbound_listener(), outbound_cluster(bench, near, far, options))
        } else {
            (self.inbound_listener(&tls_context(bench, far, near)), inbound_cluster())
        };
        let mut configuration = json!({
            "node": {"id": name, "cluster": "bench"},
            "admin": {"address": address("127.0.0.1", ADMIN)},
            "static_resources": {"listeners": [listener], "clusters": [cluster]},
            "stats_config": {"use_all_default_tags": false},
        });
        if options.changing {
            configuration["static_resources"]["clusters"] = json!([]);
            let path = clusters_file(bench, name);
            configuration["dynamic_resources"] =
                json!({"cds_config": {"path_config_source": {"path": path}}});
        }
        serde_json::to_string_pretty(&configuration).expect("it is made of text and numbers")
    }

    fn outbound_listener(&self) -> Value {
        json!({
            "name": "virtualOutbound",
            "traffic_direction": "OUTBOUND",
            "address": address("0.0.0.0", 15001),
            "listener_filters": [original_destination()],
            "filter_chains": [{"filters": [self.filter("outbound")]}],
        })
    }

    fn inbound_listener(&self, tls_context: &Value) -> Value {
        let inspector = typed(
            "envoy.filters.listener.tls_inspector",
            "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
            json!({}),
        );
        let tls = typed(
            "envoy.transport_sockets.tls",
            "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            json!({
                "require_client_certificate": true,
                "common_tls_context": tls_context,
            }),
        );
        json!({
            "name": "virtualInbound",
            "traffic_direction": "INBOUND",
            "address": address("0.0.0.0", 15006),
            "listener_filters": [original_destination(), inspector],
            "filter_chains": [{
                "filter_chain_match": {
                    "transport_protocol": "tls",
                    "application_protocols": ["istio"],
                },
                "transport_socket": tls,
                "filters": [self.filter("inbound")],
            }],
        })
    }

    fn filter(&self, cluster: &str) -> Value {
        if !self.http {
            return typed(
                "envoy.filters.network.tcp_proxy",
                "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                json!({"stat_prefix": cluster, "cluster": cluster}),
            );
        }
        let router = typed(
            "envoy.filters.http.router",
            "envoy.extensions.filters.http.router.v3.Router",
            json!({}),
        );
        let fault = typed(
            "envoy.filters.http.fault",
            "envoy.extensions.filters.http.fault.v3.HTTPFault",
            json!({}),
        );
        let cors = typed(
            "envoy.filters.http.cors",
            "envoy.extensions.filters.http.cors.v3.Cors",
            json!({}),
        );
        typed(
            "envoy.filters.network.http_connection_manager",
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            json!({
                "stat_prefix": cluster,
                "codec_type": "AUTO",
                "use_remote_address": cluster.starts_with("outbound"),
                "generate_request_id": true,
                "http_filters": [fault, cors, router],
                "route_config": {
                    "name": cluster,
                    "validate_clusters": false,
                    "virtual_hosts": [{
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{
                            "match": {"prefix": "/"},
                            "route": {"cluster": cluster, "timeout": "0s"},
                        }],
                    }],
                },
            }),
        )
    }
}

impl Subject for Envoy {
    fn name(&self) -> &str {
        if self.http { "envoy-http" } else { "envoy-tcp" }
    }

    fn group(&self) -> Group {
        if self.http { Group::L7 } else { Group::L4 }
    }

    fn programs(&self) -> Vec<PathBuf> {
        vec![self.program.clone()]
    }

    fn rules(&self) -> Rules {
        Rules::Sidecar
    }

    fn resumption(&self) -> Resumption {
        Resumption::Optional
    }

    fn start(&self, bench: &Bench, options: &Options) -> Result<Pair> {
        self.check()?;
        if options.changing {
            write_clusters(bench, 0)?;
        }
        let mut pair = Pair::default();
        for pods in Bench::pairs(options) {
            let [near, far] = *pods;
            for name in [far, near] {
                let configuration = self.configuration(bench, *pods, name, options);
                let mut process = self.start_side(bench, name, &configuration, options)?;
                // It logs nothing at this level when all is well; the port tells that it listens.
                let port = if name == near { 15001 } else { 15006 };
                bench.wait_for_port(name, port, &mut process, Duration::from_secs(30))?;
                let side = if name == near { &mut pair.near } else { &mut pair.far };
                side.push(process);
                pair.configurations.push((format!("{name}.json"), configuration));
            }
        }
        Ok(pair)
    }

    fn changing(&self) -> Option<&dyn Changing> {
        Some(self)
    }

    fn populating(&self) -> Option<&dyn Populating> {
        Some(self)
    }

    fn serves_neighbours(&self) -> bool {
        true
    }

    fn start_in_mesh(&self, bench: &Bench, mesh: &Mesh) -> Result<InMesh> {
        ensure!(!self.http, "its mesh would be that of envoy-tcp");
        envoy_mesh::start(&self.program, bench, mesh)
    }
}

impl Populating for Envoy {
    fn populate(&self, company: &Company, go_on: &dyn Fn() -> Result<()>) -> Result<Vec<Process>> {
        self.check()?;
        company.install(Rules::Sidecar)?;
        let folder = company.lab.directory();
        pki::Root { name: folder.join("root") }.write()?;
        for service in company.services() {
            let leaf = pki::Leaf {
                name: folder.join(&service.name),
                root: folder.join("root.pem"),
                root_key: folder.join("root.key"),
                identity: service.identity(),
            };
            leaf.write()?;
        }
        let start = |(number, service): (usize, &Service)| {
            go_on()?;
            let file = folder.join(format!("envoy-{}.json", service.name));
            fs::write(&file, self.company_configuration(company, number).to_string())?;
            let name = format!("envoy-{}", service.name);
            company.lab.start(
                &service.name,
                &name,
                &self.with_configuration(&file, &Options::default()),
            )
        };
        company.services().iter().enumerate().map(start).collect()
    }
}

impl Changing for Envoy {
    fn swap(&self, bench: &Bench, number: u32) -> Result<()> {
        write_clusters(bench, number)
    }

    fn taken(&self, bench: &Bench) -> Result<u64> {
        let of_side = |name: &str| {
            let admin = SocketAddr::from(([127, 0, 0, 1], ADMIN));
            let target = "/stats?filter=^cluster_manager.cds.update_success$";
            let (_, text) = get_from(bench.lab.namespace(name), admin, target)
                .with_context(|| format!("no statistics of Envoy on the {name} side"))?;
            let count = text
                .lines()
                .find_map(|line| line.trim().strip_prefix("cluster_manager.cds.update_success: "))
                .with_context(|| format!("Envoy does not count its updates: {text:?}"))?;
            Ok::<u64, anyhow::Error>(count.parse()?)
        };
        Ok(of_side("near")?.min(of_side("far")?))
    }
}

fn clusters_file(bench: &Bench, name: &str) -> PathBuf {
    bench.lab.directory().join(format!("clusters-{name}.json"))
}

/// Renames a new list of clusters into place on both sides. As when a mesh changes, the cluster that
/// is used is in it as before; another one's labels change, and a third comes or goes.
fn write_clusters(bench: &Bench, version: u32) -> Result<()> {
    let guest = |name: &str, host: &str| {
        let endpoint = json!({"endpoint": {"address": address(host, 8080)}});
        json!({
            "name": format!("outbound|8080||{name}.default.svc.cluster.local"),
            "type": "STATIC",
            "connect_timeout": "10s",
            "metadata": {"filter_metadata": {"istio": {"version": version.to_string()}}},
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [endpoint]}],
            },
        })
    };
    let options = Options::default();
    let used =
        [("near", outbound_cluster(bench, "near", "far", &options)), ("far", inbound_cluster())];
    for (name, cluster) in used {
        let mut resources = vec![cluster, guest("far", "10.9.0.2")];
        if version % 2 == 1 {
            resources.push(guest("guest", "10.9.0.9"));
        }
        for resource in &mut resources {
            resource["@type"] = "type.googleapis.com/envoy.config.cluster.v3.Cluster".into();
        }
        let clusters = json!({"version_info": version.to_string(), "resources": resources});
        let file = clusters_file(bench, name);
        let next = file.with_extension("next");
        fs::write(&next, clusters.to_string())?;
        fs::rename(next, file).context("cannot rename the clusters")?;
    }
    Ok(())
}

/// Connects to where the application wanted to go, over TLS.
fn outbound_cluster(bench: &Bench, near: &str, far: &str, options: &Options) -> Value {
    let mut context = json!({
        "sni": format!("outbound_.8080_._.{far}.default.svc.cluster.local"),
        "common_tls_context": tls_context(bench, near, far),
    });
    if options.handshakes == Handshakes::Full {
        context["max_session_keys"] = json!(0);
    }
    let tls = typed(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        context,
    );
    json!({
        "name": "outbound",
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "10s",
        "circuit_breakers": no_limits(),
        "transport_socket": tls,
        "upstream_bind_config": marked("0.0.0.0"),
    })
}

/// Connects to the pod's own application.
fn inbound_cluster() -> Value {
    json!({
        "name": "inbound",
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "10s",
        "circuit_breakers": no_limits(),
        "upstream_bind_config": marked(PASSTHROUGH),
    })
}

fn tls_context(bench: &Bench, own: &str, peer: &str) -> Value {
    let peer = json!({"san_type": "URI", "matcher": {"exact": bench.identity(peer)}});
    common_tls(bench.lab.directory(), own, peer)
}
