//! Whole environments: what they come to, where from, and what is said about wrong ones.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use ringway_engine::runtime::Keepalive;
use serde_json::json;

use super::reader::Reader;
use super::*;
use crate::grpc::TokenSource;
use crate::source::LogFormat;

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment {
        variables: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        mesh_file: "/no/such/mesh".into(),
        token_file: "/no/such/token".into(),
        cpus: 16,
    }
}

fn read(variables: &[(&str, &str)]) -> ZtunnelConfig {
    environment(variables).read().unwrap_or_else(|error| panic!("{error}"))
}

fn mistakes(variables: &[(&str, &str)]) -> String {
    environment(variables).read().expect_err("something is wrong").to_string()
}

fn setting<'c>(config: &'c ZtunnelConfig, name: &str) -> (&'c str, String) {
    let found = config.settings.iter().find(|setting| setting.name == name);
    let setting = found.unwrap_or_else(|| panic!("no setting {name}"));
    (&setting.value, setting.origin.to_string())
}

#[test]
fn nothing_said_gives_the_defaults() {
    let config = read(&[]);
    assert!(config.proxy && config.mode == Mode::Shared && config.workload.is_none());
    assert_eq!(config.node.cluster, "Kubernetes");
    assert_eq!(config.node.id(), "ztunnel~1.1.1.1~.~.svc.cluster.local");
    let discovery = config.discovery.clone().unwrap();
    assert_eq!(discovery.uri.to_string(), "https://localhost:15012");
    assert_eq!(
        discovery.roots.file(),
        Some(PathBuf::from("./var/run/secrets/istio/root-cert.pem"))
    );
    assert_eq!(config.certificate_authority.clone().unwrap().uri, discovery.uri);
    assert!(discovery.token.is_none() && !config.on_demand);
    assert_eq!(config.certificate_lifetime, Duration::from_secs(86_400));
    assert_eq!(config.dns, Some(DnsAddress::Loopback(15053)));
    assert_eq!(config.cni_socket, PathBuf::from("/var/run/ztunnel/ztunnel.sock"));
    assert_eq!(config.packet_mark, Some(1337));
    // ztunnel's, whatever ours are.
    let PeerPatience { keepalive, user_timeout, resend_pause_max } = config.peer_patience;
    let three_minutes = Duration::from_secs(180);
    let probes = 9;
    assert_eq!(keepalive, Some(Keepalive { idle: three_minutes, interval: three_minutes, probes }));
    assert_eq!((user_timeout, resend_pause_max), (None, None));
    let tunnels = &config.tunnels;
    assert_eq!((tunnels.stream_window_bytes, tunnels.connection_window_bytes), (4 << 20, 16 << 20));
    assert_eq!((tunnels.frame_bytes_max, tunnels.streams_max), (1 << 20, 100));
    assert_eq!(tunnels.idle_timeout.as_secs(), 300);
    assert_eq!((config.worker_threads, config.drain_deadline.as_secs()), (4, 5));
    assert_eq!(config.listen, Listen::default());
    assert_eq!(config.log, LogConfig { level: "info".to_owned(), format: LogFormat::Plain });
    assert!(config.localhost_application_tunnel && config.response_baggage && config.port_reuse);
    assert!(!config.socks5 && !config.post_quantum_only && !config.log_policies);
    assert!(config.settings.iter().all(|one| !matches!(one.origin, Origin::Variable(_))));
}

#[test]
fn what_istios_chart_passes_is_understood() {
    let config = read(&[
        ("CA_ADDRESS", "istiod.istio-system.svc:15012"),
        ("XDS_ADDRESS", "istiod.istio-system.svc:15012"),
        ("RUST_LOG", "info"),
        ("RUST_BACKTRACE", "1"),
        ("ISTIO_META_CLUSTER_ID", "east"),
        ("INPOD_ENABLED", "true"),
        ("TERMINATION_GRACE_PERIOD_SECONDS", "30"),
        ("POD_NAME", "ztunnel-abc"),
        ("POD_NAMESPACE", "istio-system"),
        ("NODE_NAME", "node-a"),
        ("INSTANCE_IP", "10.0.0.9"),
        ("SERVICE_ACCOUNT", "ztunnel"),
        ("ZTUNNEL_CPU_LIMIT", "64"),
        ("NETWORK", ""),
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
    ]);
    assert_eq!(config.node.cluster, "east");
    assert_eq!(
        config.node.id(),
        "ztunnel~10.0.0.9~ztunnel-abc.istio-system~istio-system.svc.cluster.local"
    );
    assert_eq!(config.node.metadata()["CLUSTER_ID"], "east");
    assert_eq!(config.node.own_pod(), Some(("ztunnel-abc", "istio-system", "ztunnel")));
    assert_eq!((config.worker_threads, config.drain_deadline.as_secs()), (16, 25));
    assert_eq!(config.discovery.unwrap().uri.to_string(), "https://istiod.istio-system.svc:15012");
}

#[test]
fn what_ciliums_chart_passes_is_understood() {
    let config = read(&[
        ("XDS_ADDRESS", "https://localhost:15012"),
        ("XDS_ROOT_CA", "/etc/ztunnel/bootstrap-root.crt"),
        ("CA_ROOT_CA", "/etc/ztunnel/bootstrap-root.crt"),
        ("CA_ADDRESS", "https://localhost:15012"),
        ("ISTIO_META_DNS_CAPTURE", "false"),
        ("INPOD_UDS", "/var/run/cilium/ztunnel.sock"),
        ("NODE_NAME", "node-a"),
        ("INSTANCE_IP", "fd00::9"),
        ("ISTIO_META_ENABLE_HBONE", "true"),
    ]);
    assert_eq!(config.dns, None);
    assert_eq!(config.cni_socket, PathBuf::from("/var/run/cilium/ztunnel.sock"));
    assert_eq!(
        config.discovery.unwrap().roots.file(),
        Some("/etc/ztunnel/bootstrap-root.crt".into())
    );
    assert_eq!(config.node.metadata()["ENABLE_HBONE"], "true");
}

#[test]
fn every_mistake_is_told_at_once_with_variable_value_and_what_is_expected() {
    let text = mistakes(&[
        ("ENABLE_PROXY", "yes"),
        ("SECRET_TTL", "86400"),
        ("ZTUNNEL_WORKER_THREADS", "101%"),
        ("ZTUNNEL_RESOURCE_CPU_LIMIT", "a lot"),
        ("POOL_MAX_STREAMS_PER_CONNECTION", "70000"),
        ("HTTP2_FRAME_SIZE", "1"),
        ("INSTANCE_IP", "here"),
        ("XDS_ADDRESS", "ftp://x"),
        ("ISTIO_METAJSON_LABELS", "{"),
        ("XDS_HEADER_a b", "c"),
        ("PROXY_MODE", "both"),
        ("RUST_LOG", "loud"),
        ("PROXY_CONFIG", "concurrency: many"),
        ("TERMINATION_GRACE_PERIOD_SECONDS", "30s"),
    ]);
    for want in [
        "has 14 mistakes",
        "ENABLE_PROXY=\"yes\": expected `true` or `false`",
        "SECRET_TTL=\"86400\": expected a duration such as 90s, 1m30s or 500ms",
        "ZTUNNEL_WORKER_THREADS=\"101%\": expected a number of threads, 0 for",
        "ZTUNNEL_RESOURCE_CPU_LIMIT=\"a lot\": expected a number of CPUs",
        "POOL_MAX_STREAMS_PER_CONNECTION=\"70000\": expected a whole number from 1 to 65535",
        "HTTP2_FRAME_SIZE=\"1\": expected a whole number from 16384 to 16777215",
        "INSTANCE_IP=\"here\": expected an IP address",
        "XDS_ADDRESS=\"ftp://x\": expected an address",
        "ISTIO_METAJSON_LABELS=\"{\": expected JSON",
        "XDS_HEADER_a b: the header \"a b\" cannot be sent",
        "PROXY_MODE=\"both\": expected `shared` or `dedicated`",
        "RUST_LOG=\"loud\": expected a level",
        "PROXY_CONFIG:1:14",
        "TERMINATION_GRACE_PERIOD_SECONDS=\"30s\": expected a whole number",
    ] {
        assert!(text.contains(want), "{want}\n--\n{text}");
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    //  name                    variables                                           want
    type Row = (&'static str, &'static [(&'static str, &'static str)], &'static str);
    let rows: [Row; 8] = [
        ("dedicated, whom", &[("PROXY_MODE", "dedicated")], "PROXY_WORKLOAD_INFO: names the one"),
        (
            "dedicated, without an account",
            &[("PROXY_MODE", "dedicated"), ("PROXY_WORKLOAD_INFO", "a/b")],
            "expected namespace/name/service-account",
        ),
        (
            "nothing to do",
            &[("ENABLE_PROXY", "false"), ("ISTIO_META_DNS_CAPTURE", "false")],
            "ENABLE_PROXY: is false, and the DNS proxy is off",
        ),
        ("on demand, with DNS", &[("XDS_ON_DEMAND", "true")], "set ISTIO_META_DNS_CAPTURE=false"),
        ("both local", &[("LOCAL_XDS", "{}"), ("LOCAL_XDS_PATH", "/x")], "use one of them"),
        ("no mark", &[("PACKET_MARK", "0")], "a mark other than 0"),
        (
            "two spellings, two values",
            &[("PREFERED_SERVICE_NAMESPACE", "a"), ("PREFERRED_SERVICE_NAMESPACE", "b")],
            "PREFERRED_SERVICE_NAMESPACE: says \"b\"",
        ),
        ("DNS nowhere", &[("ISTIO_META_DNS_PROXY_ADDR", "dns")], "expected localhost:<port>"),
    ];
    for (name, variables, want) in rows {
        let text = mistakes(variables);
        assert!(text.contains(want) && text.contains("has 1 mistake;"), "{name}: {text}");
    }
    let fine = read(&[("XDS_ON_DEMAND", "true"), ("ISTIO_META_DNS_CAPTURE", "false")]);
    assert!(fine.on_demand && fine.dns.is_none());
    let dns_only = read(&[("ENABLE_PROXY", "false")]);
    assert!(!dns_only.proxy && dns_only.dns.is_some());
}

#[test]
fn both_spellings_of_the_preferred_namespace_are_known() {
    for name in ["PREFERED_SERVICE_NAMESPACE", "PREFERRED_SERVICE_NAMESPACE"] {
        let config = read(&[(name, "shop")]);
        assert_eq!(config.preferred_service_namespace.as_deref(), Some("shop"));
        assert_eq!(setting(&config, name), ("shop", format!("environment {name}")));
    }
}

#[test]
fn a_dedicated_process_serves_one_workload_without_a_mark() {
    let config = read(&[("PROXY_MODE", "dedicated"), ("PROXY_WORKLOAD_INFO", "shop/web-0/web")]);
    assert_eq!((config.mode, config.packet_mark), (Mode::Dedicated, None));
    assert_eq!(config.workload.unwrap().service_account.as_deref(), Some("web"));
    let zero =
        [("PROXY_MODE", "dedicated"), ("PROXY_WORKLOAD_INFO", "a/b/c"), ("PACKET_MARK", "0")];
    assert_eq!(read(&zero).packet_mark, None);
}

#[test]
fn an_empty_address_is_no_control_plane_and_other_empty_variables_are_not_set() {
    let config = read(&[("XDS_ADDRESS", ""), ("CA_ADDRESS", ""), ("ENABLE_PROXY", "")]);
    assert!(config.discovery.is_none());
    assert_eq!(setting(&config, "XDS_ADDRESS"), ("none", "environment XDS_ADDRESS".to_owned()));
    assert!(config.certificate_authority.is_some() && config.proxy);
    assert!(read(&[("FAKE_CA", "true")]).certificate_authority.is_none());
}

#[test]
fn a_cluster_decides_where_the_control_plane_usually_is() {
    let config = read(&[("KUBERNETES_SERVICE_HOST", "10.96.0.1")]);
    let (discovery, ca) = (config.discovery.unwrap(), config.certificate_authority.unwrap());
    assert_eq!(discovery.uri.to_string(), "https://istiod.istio-system.svc:15012");
    assert_eq!(ca.uri, discovery.uri);
}

#[test]
fn files_give_way_to_the_variable_above_them_and_that_to_variables_of_their_own() {
    let home = tempfile::TempDir::new().unwrap();
    let mesh_file = home.path().join("mesh");
    let mesh = "defaultConfig:\n  discoveryAddress: file:1\n  proxyAdminPort: 16000\n  statsPort: 16020\n  \
                concurrency: 3\n  proxyMetadata: {A: file, B: file, ISTIO_META_C: file, D: file}\n";
    std::fs::write(&mesh_file, mesh).unwrap();
    let layered = |variables: &[(&str, &str)]| {
        let environment = Environment { mesh_file: mesh_file.clone(), ..environment(variables) };
        environment.read().unwrap_or_else(|error| panic!("{error}"))
    };
    let file = format!("file {}", mesh_file.display());
    let proxy_config = (
        "PROXY_CONFIG",
        "{statsPort: 17020, concurrency: 0, proxyMetadata: {B: config, C: config, D: config}}",
    );

    let one = layered(&[]);
    assert_eq!(one.discovery.clone().unwrap().uri.to_string(), "https://file:1");
    assert_eq!(setting(&one, "XDS_ADDRESS"), ("https://file:1", file.clone()));
    assert_eq!(setting(&one, "ZTUNNEL_WORKER_THREADS"), ("3", file.clone()));
    assert_eq!(one.listen.admin.unwrap().port(), 16000);

    let two = layered(&[proxy_config, ("ISTIO_META_C", "env"), ("ISTIO_METAJSON_D", "[1]")]);
    assert_eq!(setting(&two, "statsPort"), ("17020", "environment PROXY_CONFIG".to_owned()));
    assert_eq!(setting(&two, "proxyAdminPort"), ("16000", file));
    assert_eq!(two.worker_threads, 16);
    let metadata = serde_json::Value::Object(two.node.extra.clone());
    assert_eq!(metadata, json!({"A": "file", "B": "config", "C": "env", "D": [1]}));
    assert_eq!(setting(&two, "metadata.C"), ("env", "environment ISTIO_META_C".to_owned()));

    let variables =
        [proxy_config, ("ZTUNNEL_WORKER_THREADS", "50%"), ("XDS_ADDRESS", "http://other:1")];
    let three = layered(&variables);
    assert_eq!(three.worker_threads, 8);
    assert_eq!(three.discovery.unwrap().uri.to_string(), "http://other:1");
}

#[test]
fn secrets_are_not_shown() {
    let config = read(&[
        ("AUTH_TOKEN", "eyJ-hush"),
        ("XDS_HEADER_X-Key", "hush"),
        ("CA_HEADER_authorization2", "hush"),
    ]);
    let shown = format!("{config:?}");
    assert!(!shown.contains("hush"), "{shown}");
    assert_eq!(setting(&config, "AUTH_TOKEN").0, "(set, not shown)");
    assert_eq!(setting(&config, "XDS_HEADER_X-Key").0, "(set, not shown)");
    let discovery = config.discovery.unwrap();
    let [(name, value)] = &discovery.headers[..] else { panic!("{:?}", discovery.headers) };
    assert_eq!((name.as_str(), value.as_bytes()), ("x-key", &b"hush"[..]));
    assert!(matches!(discovery.token, Some(TokenSource::Literal(token)) if *token == "eyJ-hush"));

    let file = read(&[("AUTH_TOKEN", "/var/run/token")]);
    assert_eq!(setting(&file, "AUTH_TOKEN").0, "/var/run/token");
    let wrong = mistakes(&[("XDS_HEADER_A", "hush\n")]);
    assert!(!wrong.contains("hush"), "{wrong}");
}

#[test]
fn the_usual_token_is_used_if_it_is_there() {
    let home = tempfile::TempDir::new().unwrap();
    let token_file = home.path().join("token");
    std::fs::write(&token_file, "t").unwrap();
    let config = Environment { token_file: token_file.clone(), ..environment(&[]) }.read().unwrap();
    let token = config.certificate_authority.unwrap().token;
    assert!(matches!(token, Some(TokenSource::File(path)) if path == token_file));
}

#[test]
fn a_user_timeout_follows_from_keep_alive() {
    let config = read(&[
        ("USER_TIMEOUT_ENABLED", "true"),
        ("KEEPALIVE_TIME", "1m30s"),
        ("KEEPALIVE_INTERVAL", "10s"),
        ("KEEPALIVE_RETRIES", "3"),
    ]);
    assert_eq!(config.peer_patience.user_timeout, Some(Duration::from_secs(120)));
    assert_eq!(read(&[("KEEPALIVE_ENABLED", "false")]).peer_patience.keepalive, None);
}

#[test]
fn what_is_not_done_as_it_was_asked_for_is_said() {
    assert!(read(&[]).warnings.is_empty());
    let rows = [("TLS12_ENABLED", "true")];
    for (name, value) in rows {
        let [warning] = &read(&[(name, value)]).warnings[..] else { panic!("{name} is not told") };
        assert!(warning.starts_with(&format!("{name}={value}: ")), "{warning}");
    }
    let dns = |address| read(&[("ISTIO_META_DNS_PROXY_ADDR", address)]).warnings;
    assert!(dns("127.0.0.1:53").is_empty() && dns("localhost:53").is_empty());
    assert!(dns("10.0.0.1:53")[0].starts_with("ISTIO_META_DNS_PROXY_ADDR: "));
}

#[test]
fn a_word_that_is_no_log_format_stops_nothing_and_is_told() {
    //  word     format               warning
    let rows = [
        ("json", LogFormat::Json, None),
        ("plain", LogFormat::Plain, None),
        ("", LogFormat::Plain, None),
        (
            "xml",
            LogFormat::Plain,
            Some("LOG_FORMAT=\"xml\": expected `plain` or `json`; it is `plain`"),
        ),
        (
            "JSON",
            LogFormat::Plain,
            Some("LOG_FORMAT=\"JSON\": expected `plain` or `json`; it is `plain`"),
        ),
    ];
    for (word, format, want) in rows {
        let config = read(&[("LOG_FORMAT", word)]);
        assert_eq!(config.log.format, format, "{word:?}");
        assert_eq!(config.warnings.len(), usize::from(want.is_some()), "{word:?}");
        assert!(config.warnings.iter().all(|told| told.starts_with(want.unwrap())), "{word:?}");
    }
}

#[test]
fn a_misspelt_variable_is_told() {
    let misspelt = read(&[("RINGWAY_REACTR", "epoll"), ("ZTUNNEL_CPU_LIMITS", "2")]).warnings;
    assert_eq!(
        misspelt,
        [
            "RINGWAY_REACTR: this variable is not read; did you mean `RINGWAY_REACTOR`?",
            "ZTUNNEL_CPU_LIMITS: this variable is not read; did you mean `ZTUNNEL_CPU_LIMIT`?",
        ]
    );
    let fine = [
        ("RINGWAY_ACCESS_LOG", "json"),
        ("ZTUNNEL_SERVICE_HOST", "10.96.0.9"),
        ("ZTUNNEL_PORT_15020_TCP", "tcp://10.96.0.9:15020"),
    ];
    assert_eq!(read(&fine).warnings, [""; 0]);
}

#[test]
fn without_ipv6_servers_listen_on_ipv4() {
    let config = read(&[("IPV6_ENABLED", "false")]);
    assert_eq!(config.listen.metrics, "0.0.0.0:15020".parse().ok());
    assert_eq!(config.listen.readiness, "0.0.0.0:15021".parse().ok());
}

#[test]
fn a_variable_that_is_not_utf8_is_a_mistake_if_it_is_ours() {
    let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let mut environment = environment(&[]);
    environment.variables.push((bytes(b"SOMETHING"), bytes(b"\xff")));
    environment.variables.push((bytes(b"NODE_NAME"), bytes(b"\xff")));
    let error = environment.read().unwrap_err().to_string();
    assert!(
        error.ends_with(
            "has 1 mistake; docs/environment.md names every variable\n  NODE_NAME: is not UTF-8"
        ),
        "{error}"
    );
}

#[test]
fn a_node_is_configured_from_it() {
    let config = read(&[("NODE_NAME", "node-a"), ("RINGWAY_REACTOR", "epoll"), ("NETWORK", "n1")]);
    let node = config.node_config();
    assert_eq!((&*node.name, &*node.network, node.reactor), ("node-a", "n1", Reactor::Epoll));
    assert_eq!((node.cores, node.redirect), (Cores::Count(4), Redirect::None));
}

/// The other half of the invariant, that nothing else is read, is asserted where variables are read.
#[test]
fn every_variable_of_the_table_is_read() {
    let environment = environment(&[]);
    let mut reader = Reader::new(Vec::new());
    environment.read_with(&mut reader);
    let (_, _, asked) = reader.finish();
    for variable in table::GROUPS.iter().flat_map(|(_, variables)| variables.iter()) {
        assert!(asked.contains(variable.name), "nobody asks for {}", variable.name);
    }
}

#[test]
fn every_variable_of_the_table_is_shown() {
    // A value of its own for each shows which setting it goes to; families and those that are only looked at aside.
    let config = read(&[]);
    let silent = [
        "PREFERRED_SERVICE_NAMESPACE",
        "PROXY_CONFIG",
        "INPOD_ENABLED",
        "KUBERNETES_SERVICE_HOST",
        "ISTIO_META_CLUSTER_ID",
    ];
    for variable in table::GROUPS.iter().flat_map(|(_, variables)| variables.iter()) {
        let known = variable.name.ends_with('*') || silent.contains(&variable.name);
        let shown = config.settings.iter().any(|setting| setting.name == variable.name);
        assert!(known || shown, "--print-config says nothing of {}", variable.name);
    }
}
