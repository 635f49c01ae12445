//! From variables and files to a [`ZtunnelConfig`]: group by group, then what must go together.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::layers::{Layers, metadata};
use super::reader::{Origin, Reader};
use super::servers::{self, Caller};
use super::unread::{PREFIXES, TWINS, unread};
use super::values::{Form, PostQuantum};
use super::{DnsAddress, EnvironmentError, NodeDescription, ZtunnelConfig, table, traffic};
use crate::grpc::TOKEN_FILE;
use crate::run::STATE_DIRECTORY;
use crate::source::{Hardening, LogFormat, Mode, Reactor, Source};

/// Where Istio's charts mount the settings of the mesh, from the working directory.
pub const MESH_FILE: &str = "./etc/istio/config/mesh";

const DNS_PORT: u16 = 15053;
const CA_DIRECTORY: &str = "/var/lib/ringway/ca";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What settings are read from.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The variables.
    pub variables: Vec<(OsString, OsString)>,
    /// The file of the mesh; it need not be there.
    pub mesh_file: PathBuf,
    /// The file of the token that is used if it is there and nothing is said.
    pub token_file: PathBuf,
    /// CPUs of this machine.
    pub cpus: usize,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            mesh_file: MESH_FILE.into(),
            token_file: TOKEN_FILE.into(),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// Every mistake, when there is one.
    pub fn read(self) -> Result<ZtunnelConfig, EnvironmentError> {
        let mut reader = Reader::new(self.variables.clone());
        let config = self.read_with(&mut reader);
        let (settings, mistakes, _) = reader.finish();
        match mistakes.is_empty() {
            true => Ok(ZtunnelConfig { settings, ..config }),
            false => Err(EnvironmentError { mistakes }),
        }
    }

    /// Group by group. Where something is wrong the reader knows, and what is returned is not used.
    pub(super) fn read_with(&self, reader: &mut Reader) -> ZtunnelConfig {
        let files = Layers::read(reader, &self.mesh_file);
        let extra = metadata(reader, &files);
        let mode = reader.or("PROXY_MODE", Mode::Shared);
        let workload = reader.optional("PROXY_WORKLOAD_INFO");
        let node = node(reader, extra);
        let cluster_domain = reader.or("CLUSTER_DOMAIN", "cluster.local".to_owned());
        let dns = dns(reader, &node.extra);

        let token = servers::token(reader, &self.token_file);
        let post_quantum_only = reader.optional::<PostQuantum>("COMPLIANCE_POLICY").is_some();
        let caller = Caller { cluster: node.cluster.clone(), token, post_quantum_only };
        let discovery = servers::discovery(reader, &files, &caller);
        let on_demand = reader.or("XDS_ON_DEMAND", false);
        let fake_ca = reader.or("FAKE_CA", false);
        let certificate_authority = servers::certificate_authority(reader, fake_ca, &caller);
        let peer_patience = traffic::peer_patience(reader);
        let ipv6 = reader.or("IPV6_ENABLED", true);

        let config = ZtunnelConfig {
            proxy: reader.or("ENABLE_PROXY", true),
            mode,
            workload,
            node,
            cluster_domain,
            discovery,
            on_demand,
            certificate_authority,
            certificate_lifetime: reader.or("SECRET_TTL", DAY),
            revocation_list: reader.optional("CRL_PATH"),
            post_quantum_only,
            local: local(reader),
            preferred_service_namespace: preferred_namespace(reader),
            dns,
            cni_socket: reader.or("INPOD_UDS", "/var/run/ztunnel/ztunnel.sock".into()),
            packet_mark: traffic::packet_mark(reader, mode),
            port_reuse: reader.or("INPOD_PORT_REUSE", true),
            original_source: traffic::original_source(reader),
            ipv6,
            peer_patience,
            tunnels: traffic::tunnels(reader),
            socks5: reader.or("UNSTABLE_ENABLE_SOCKS5", false),
            localhost_application_tunnel: reader.or("LOCALHOST_APP_TUNNEL", true),
            response_baggage: reader.or("ENABLE_RESPONSE_BAGGAGE", true),
            log_policies: reader.or("AUTHZ_POLICY_INFO_LOGGING", false),
            gateway: reader.optional("GATEWAY"),
            cpu_limit: traffic::cpu_limit(reader),
            worker_threads: traffic::worker_threads(reader, &files, self.cpus),
            drain_deadline: traffic::drain(reader),
            listen: traffic::listen(reader, &files, ipv6),
            log: traffic::log(reader),
            reactor: reader.or("RINGWAY_REACTOR", Reactor::Auto),
            hardening: reader.or("RINGWAY_HARDENING", Hardening::Auto),
            ca_directory: reader.or("RINGWAY_CA_DIRECTORY", CA_DIRECTORY.into()),
            state_directory: reader.or("RINGWAY_STATE_DIRECTORY", STATE_DIRECTORY.into()),
            settings: Vec::new(),
            warnings: Vec::new(),
        };
        let older_tls = reader.or("TLS12_ENABLED", false);
        let warnings = warnings(reader, &config, older_tls);
        let config = ZtunnelConfig { warnings, ..config };
        check_together(reader, &config);
        // Somebody else's way to say what is always so.
        reader.text("INPOD_ENABLED");
        config
    }
}

fn node(reader: &mut Reader, extra: Map<String, Value>) -> NodeDescription {
    let instance_ip: IpAddr = reader.or("INSTANCE_IP", IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)));
    NodeDescription {
        node_name: reader.optional("NODE_NAME"),
        network: reader.or("NETWORK", String::new()),
        cluster: cluster(reader),
        trust_domain: reader.or("TRUST_DOMAIN", "cluster.local".to_owned()),
        pod_name: reader.optional("POD_NAME"),
        pod_namespace: namespace(reader),
        service_account: reader.optional("SERVICE_ACCOUNT"),
        instance_ip: super::canonical(instance_ip),
        extra,
    }
}

/// Charts of node proxies say the one, the control plane's own deployments both.
fn namespace(reader: &mut Reader) -> Option<String> {
    let (own, short) = (reader.text("POD_NAMESPACE"), reader.text("NAMESPACE"));
    reader.note_variable("POD_NAMESPACE", own.clone());
    reader.note_variable("NAMESPACE", short.clone());
    own.or(short)
}

fn cluster(reader: &mut Reader) -> String {
    for name in ["ISTIO_META_CLUSTER_ID", "CLUSTER_ID"] {
        if let Some(cluster) = reader.text(name) {
            reader.note("CLUSTER_ID", cluster.clone(), Origin::Variable(name.to_owned()));
            return cluster;
        }
    }
    reader.note("CLUSTER_ID", "Kubernetes".to_owned(), Origin::Default);
    "Kubernetes".to_owned()
}

/// The DNS proxy is on unless the metadata says otherwise.
fn dns(reader: &mut Reader, extra: &Map<String, Value>) -> Option<DnsAddress> {
    let said = |key: &str| match extra.get(key)? {
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let on = said("DNS_CAPTURE").is_none_or(|capture| capture == "true");
    let address = match said("DNS_PROXY_ADDR") {
        None => DnsAddress::Loopback(DNS_PORT),
        Some(text) => DnsAddress::parse(&text).unwrap_or_else(|| {
            reader.wrong("ISTIO_META_DNS_PROXY_ADDR", &text, DnsAddress::EXPECTED);
            DnsAddress::Loopback(DNS_PORT)
        }),
    };
    let shown = if on { address.show() } else { "none".to_owned() };
    reader.note("dnsProxy", shown, Origin::Computed);
    on.then_some(address)
}

fn local(reader: &mut Reader) -> Option<Source> {
    let path: Option<PathBuf> = reader.optional("LOCAL_XDS_PATH");
    let text = reader.text("LOCAL_XDS");
    let shown = text.as_ref().map(|text| format!("YAML, {} bytes", text.len()));
    reader.note_variable("LOCAL_XDS", shown);
    match (path, text) {
        (Some(_), Some(_)) => {
            reader.mistake("LOCAL_XDS", "is set, and LOCAL_XDS_PATH too: use one of them");
            None
        }
        (Some(path), None) => Some(Source::Path(path)),
        (None, Some(text)) => Some(Source::Text { name: "LOCAL_XDS".to_owned(), text }),
        (None, None) => None,
    }
}

/// The name is misspelled in ztunnel, and that is what people set.
fn preferred_namespace(reader: &mut Reader) -> Option<String> {
    let [usual, english] = ["PREFERED_SERVICE_NAMESPACE", "PREFERRED_SERVICE_NAMESPACE"];
    let (sic, right) = (reader.text(usual), reader.text(english));
    if let (Some(sic), Some(right)) = (&sic, &right)
        && sic != right
    {
        reader
            .mistake(english, format!("says {right:?}, and {usual} says {sic:?}: use one of them"));
    }
    let name = if right.is_some() { english } else { usual };
    let namespace = right.or(sic);
    reader.note_variable(name, namespace.clone());
    namespace
}

/// What is asked for and not done as it was asked for.
fn warnings(reader: &mut Reader, config: &ZtunnelConfig, older_tls: bool) -> Vec<String> {
    let elsewhere = config.dns.is_some_and(
        |dns| matches!(dns, DnsAddress::Address(address) if !address.ip().is_loopback()),
    );
    let rows = [
        (
            elsewhere,
            "ISTIO_META_DNS_PROXY_ADDR: the DNS proxy listens on that port of the loopback addresses, and on no other",
        ),
        (older_tls, "TLS12_ENABLED=true: Ringway speaks TLS 1.3 only"),
    ];
    let mut warnings: Vec<String> =
        rows.into_iter().filter(|(is, _)| *is).map(|(_, text)| text.to_owned()).collect();
    let format = reader.text("LOG_FORMAT").filter(|word| LogFormat::parse(word).is_none());
    warnings.extend(format.map(|word| {
        format!(
            "LOG_FORMAT={word:?}: expected {}; it is `plain`, as in ztunnel",
            LogFormat::EXPECTED
        )
    }));
    let known: Vec<&str> = table::all().map(|variable| variable.name).chain(TWINS).collect();
    warnings.extend(unread(&reader.names(), &PREFIXES, &known));
    warnings
}

/// What is right by itself and does not go together.
fn check_together(reader: &mut Reader, config: &ZtunnelConfig) {
    if config.mode == Mode::Dedicated && config.workload.is_none() {
        let message =
            "names the one workload of a dedicated process: namespace/name/service-account";
        if reader.text("PROXY_WORKLOAD_INFO").is_none() {
            reader.mistake("PROXY_WORKLOAD_INFO", message);
        }
    }
    if !config.proxy && config.dns.is_none() {
        reader.mistake(
            "ENABLE_PROXY",
            "is false, and the DNS proxy is off: there is nothing left to do",
        );
    }
    if config.on_demand && config.dns.is_some() {
        let message = "does not go together with the DNS proxy, which must know every service: \
            set ISTIO_META_DNS_CAPTURE=false too";
        reader.mistake("XDS_ON_DEMAND", message);
    }
}
