//! The settings in a dump: ours as they were said, and ztunnel's keys with the types that Kiali decodes them by.
//!
//! Kiali shows nothing of a dump in which one key has another type. It compares names without regard to case, so what we
//! call ours stands in an object of its own.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{DnsAddress, Setting, ZtunnelConfig};
use crate::grpc::{Endpoint, Roots};
use crate::source::{Mode, OriginalSource};

/// Ports of ours in every pod, which nobody may be led to.
const ILLEGAL_PORTS: [u16; 3] = [15008, 15006, 15001];

/// The port of the SOCKS5 server.
const SOCKS5_PORT: u16 = 15080;

impl ZtunnelConfig {
    /// Every setting with its value and origin under `settings`, for `--print-config` and the configuration dump, and what
    /// ztunnel's own dump has.
    pub fn dump(&self) -> Value {
        let settings = self.settings.iter().map(|Setting { name, value, origin }| {
            (name.clone(), json!({"value": value, "origin": origin.to_string()}))
        });
        let mut dump = self.as_ztunnel_has_it();
        dump["settings"] = Value::Object(settings.collect::<Map<_, _>>());
        dump
    }

    fn as_ztunnel_has_it(&self) -> Value {
        let any = if self.ipv6 { "[::]" } else { "0.0.0.0" };
        let localhost = |port: u16| json!({"Localhost": [self.ipv6, port]});
        let server = |address: Option<std::net::SocketAddr>| json!({"SocketAddr": address.map(|address| address.to_string()).unwrap_or_default()});
        let alternative = |endpoint: &Option<Endpoint>| {
            endpoint.as_ref().and_then(|endpoint| endpoint.alternative_hostname.clone())
        };
        let mut illegal_ports = ILLEGAL_PORTS.to_vec();
        illegal_ports.extend(self.socks5.then_some(SOCKS5_PORT));
        json!({
            "adminAddr": localhost(self.listen.admin.map_or(0, |address| address.port())),
            "altCaHostname": alternative(&self.certificate_authority),
            "altXdsHostname": alternative(&self.discovery),
            "caAddress": address(&self.certificate_authority),
            "caRootCert": roots(&self.certificate_authority),
            "clusterDomain": self.cluster_domain,
            "clusterId": self.node.cluster,
            "connectionWindowSize": self.tunnels.connection_window_bytes,
            "dnsProxy": self.dns.is_some(),
            "dnsProxyAddr": match self.dns {
                Some(DnsAddress::Loopback(port)) => localhost(port),
                Some(DnsAddress::Address(address)) => localhost(address.port()),
                None => json!({}),
            },
            "fakeCa": self.certificate_authority.is_none(),
            "fakeSelfInbound": false,
            "frameSize": self.tunnels.frame_bytes_max,
            "illegalPorts": illegal_ports,
            "inboundAddr": format!("{any}:15008"),
            "inboundPlaintextAddr": format!("{any}:15006"),
            "inpodPortReuse": self.port_reuse,
            "inpodUds": self.cni_socket,
            "localNode": self.node.node_name,
            "network": self.node.network,
            "numWorkerThreads": self.worker_threads,
            "outboundAddr": format!("{any}:15001"),
            "packetMark": self.packet_mark,
            "poolMaxStreamsPerConn": self.tunnels.streams_max,
            "poolUnusedReleaseTimeout": duration(self.tunnels.idle_timeout),
            "proxy": self.proxy,
            "proxyArgs": "proxy ztunnel",
            "proxyMetadata": self.texts_of_metadata(),
            "proxyMode": match self.mode {
                Mode::Shared => "Shared",
                Mode::Dedicated => "Dedicated",
            },
            "proxyWorkloadInformation": self.workload.as_ref().map(ToString::to_string),
            "readinessAddr": server(self.listen.readiness),
            "requireOriginalSource": match self.original_source {
                OriginalSource::Auto => None,
                OriginalSource::Always => Some("true"),
                OriginalSource::Never => Some("false"),
            },
            "secretTtl": duration(self.certificate_lifetime),
            "selfTerminationDeadline": duration(self.drain_deadline),
            "socks5Addr": self.socks5.then(|| format!("127.0.0.1:{SOCKS5_PORT}")),
            "statsAddr": server(self.listen.metrics),
            "windowSize": self.tunnels.stream_window_bytes,
            "xdsAddress": address(&self.discovery),
            "xdsOnDemand": self.on_demand,
            "xdsRootCert": roots(&self.discovery),
        })
    }

    /// Those that are no texts are told to the control plane only.
    fn texts_of_metadata(&self) -> Map<String, Value> {
        let texts = self.node.extra.iter().filter(|(_, value)| value.is_string());
        texts.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

fn address(endpoint: &Option<Endpoint>) -> Option<String> {
    endpoint.as_ref().map(|endpoint| endpoint.uri.to_string())
}

fn roots(endpoint: &Option<Endpoint>) -> Value {
    match endpoint.as_ref().map(|endpoint| &endpoint.roots) {
        Some(Roots::File(path)) => json!({"File": path}),
        _ => json!({}),
    }
}

fn duration(duration: Duration) -> Value {
    json!({"secs": duration.as_secs(), "nanos": duration.subsec_nanos()})
}
