//! Every variable there is: its name, its default, and what it means. `docs/environment.md` is made from this.

/// One variable.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name; a `*` at the end stands for any ending.
    pub name: &'static str,
    /// What holds when it is not set; empty: nothing.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

const fn row(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default, meaning }
}

/// Groups of variables: a title, and the variables.
pub const GROUPS: &[(&str, &[Variable])] = &[
    ("Who and where", WHO),
    ("Control plane", CONTROL_PLANE),
    ("Identities", IDENTITIES),
    ("What is carried, and how", TRAFFIC),
    ("Threads and time", THREADS),
    ("Log", LOG),
    ("Ringway's own", OWN),
];

const WHO: &[Variable] = &[
    row(
        "PROXY_MODE",
        "shared",
        "`shared`: the pods the CNI plugin enrols. `dedicated`: one workload, in this process's own network namespace",
    ),
    row(
        "PROXY_WORKLOAD_INFO",
        "",
        "`namespace/name/service-account` of the workload of a dedicated process; required there",
    ),
    row("NODE_NAME", "", "The node this process is on. Unset: every workload counts as local"),
    row("NETWORK", "", "The network this node is in"),
    row("CLUSTER_ID", "Kubernetes", "The cluster this node is in"),
    row("ISTIO_META_CLUSTER_ID", "", "The same, and wins over `CLUSTER_ID`"),
    row("CLUSTER_DOMAIN", "cluster.local", "The domain of service names"),
    row("TRUST_DOMAIN", "cluster.local", "The trust domain of this process's own identity"),
    row("POD_NAME", "", "The pod of this process: a part of its node id"),
    row("POD_NAMESPACE", "", "The namespace of that pod"),
    row("NAMESPACE", "", "The same; `POD_NAMESPACE` wins"),
    row(
        "GATEWAY",
        "",
        "The Gateway whose waypoint or gateway the pod is; required by `ringway proxy waypoint`, and without effect elsewhere",
    ),
    row(
        "SERVICE_ACCOUNT",
        "",
        "The service account of that pod. With the two above it gives the process an identity of its own",
    ),
    row("INSTANCE_IP", "1.1.1.1", "The address of that pod: a part of its node id"),
    row(
        "ISTIO_META_*",
        "",
        "Metadata of the node, text. `DNS_CAPTURE` other than `true` switches the DNS proxy off, `DNS_PROXY_ADDR` (`localhost:<port>` or an address with a port) moves it from `localhost:15053`; of an address only the port counts, because the loopback addresses are those that every pod has and that the redirect rules lead to, `ISTIO_VERSION` is told in `istio_build`",
    ),
    row("ISTIO_METAJSON_*", "", "Metadata of the node, JSON"),
    row(
        "KUBERNETES_SERVICE_HOST",
        "",
        "Kubernetes sets it in every pod: the control plane is looked for at its usual place in a cluster",
    ),
    row("PROXY_CONFIG", "", "YAML, see below"),
    row("INPOD_ENABLED", "", "Understood and ignored: Istio's chart sets it"),
];

const CONTROL_PLANE: &[Variable] = &[
    row(
        "XDS_ADDRESS",
        "https://istiod.istio-system.svc:15012, https://localhost:15012 outside of Kubernetes",
        "Where the mesh is described. Without a scheme it is `https`. Empty: nowhere, and only the local file counts",
    ),
    row(
        "XDS_ROOT_CA",
        "./var/run/secrets/istio/root-cert.pem",
        "Roots that server must show: a file, `SYSTEM`, or PEM text",
    ),
    row("ALT_XDS_HOSTNAME", "", "A second name that server may show"),
    row(
        "XDS_ON_DEMAND",
        "false",
        "Learn of workloads when they are asked for. Does not go together with the DNS proxy",
    ),
    row(
        "XDS_HEADER_*",
        "",
        "A header of every request to that server. Its value is not shown anywhere",
    ),
    row("LOCAL_XDS_PATH", "", "A file of workloads, services and policies, read at the start"),
    row("LOCAL_XDS", "", "The same as text. Not both"),
    row(
        "AUTH_TOKEN",
        "./var/run/secrets/tokens/istio-token, if there is one",
        "The token for both servers: a file, read again for every request, or the token. What begins with `/` or `./` is a file. Not shown anywhere unless it is a file's name",
    ),
    row("INPOD_UDS", "/var/run/ztunnel/ztunnel.sock", "The socket of the CNI plugin"),
    row(
        "PREFERED_SERVICE_NAMESPACE",
        "",
        "The namespace whose service is meant where several have one name. Sic; the two are one",
    ),
    row("PREFERRED_SERVICE_NAMESPACE", "", "The same, spelled as English is"),
];

const IDENTITIES: &[Variable] = &[
    row("CA_ADDRESS", "as for `XDS_ADDRESS`", "Who signs certificates. Not asked with `FAKE_CA`"),
    row(
        "CA_ROOT_CA",
        "./var/run/secrets/istio/root-cert.pem",
        "Roots that server must show: a file, `SYSTEM`, or PEM text",
    ),
    row("ALT_CA_HOSTNAME", "", "A second name that server may show"),
    row(
        "CA_HEADER_*",
        "",
        "A header of every request to that server. Its value is not shown anywhere",
    ),
    row("SECRET_TTL", "24h", "The lifetime that is asked for"),
    row(
        "FAKE_CA",
        "false",
        "Sign with the embedded authority instead. For tests: other nodes do not know its root",
    ),
    row("CRL_PATH", "", "A file of revocation lists"),
    row(
        "COMPLIANCE_POLICY",
        "",
        "`pqc`: keys are agreed on by X25519MLKEM768 only, with peers and with the control plane; who does not know it is refused. Without it that is preferred",
    ),
    row(
        "TLS12_ENABLED",
        "false",
        "Understood, and on purpose not obeyed: `true` is told as a warning. Ringway speaks TLS 1.3 only. Every peer does, too (ztunnel always, Envoy's waypoints nothing else, istiod since it is written in a Go that has it), so TLS 1.2 would reach nobody more; it would let whoever stands between two nodes read their certificates, and attack what TLS 1.3 has left out",
    ),
];

const TRAFFIC: &[Variable] = &[
    row(
        "ENABLE_PROXY",
        "true",
        "Carry connections. `false`: only names are answered, and the control plane is asked for no certificates. Not together with the DNS proxy off",
    ),
    row(
        "PACKET_MARK",
        "1337 in shared mode",
        "The mark of every packet of ours. Not 0 in shared mode",
    ),
    row(
        "INPOD_PORT_REUSE",
        "true",
        "Ports are shared with the process that comes next. `false`: nobody else may have them, so a pod is without its proxy from the end of one process to the start of the next; and one thread listens for each pod, as threads share ports by the same means",
    ),
    row(
        "ENABLE_ORIG_SRC",
        "where it works",
        "`true`: applications see the client's address, or the workload is not served. `false`: they never do",
    ),
    row("IPV6_ENABLED", "true", "Listen on IPv6 too"),
    row("KEEPALIVE_ENABLED", "true", "TCP keep-alive"),
    row("KEEPALIVE_TIME", "180s", "How long a connection is silent before the first probe"),
    row("KEEPALIVE_INTERVAL", "180s", "The time between probes"),
    row("KEEPALIVE_RETRIES", "9", "Probes without an answer after which the connection ends"),
    row(
        "USER_TIMEOUT_ENABLED",
        "false",
        "Data without an acknowledgement ends a connection after the same time as silence: time + retries × interval",
    ),
    row(
        "HTTP2_STREAM_WINDOW_SIZE",
        "4194304",
        "Bytes a peer may send ahead on a stream, once that is taken quickly; a stream begins with its share of half of the tunnel's",
    ),
    row("HTTP2_CONNECTION_WINDOW_SIZE", "16777216", "Bytes a peer may send ahead in a tunnel"),
    row("HTTP2_FRAME_SIZE", "1048576", "The largest frame a peer may send"),
    row("POOL_MAX_STREAMS_PER_CONNECTION", "100", "Streams in one tunnel. Waypoints allow 100"),
    row("POOL_UNUSED_RELEASE_TIMEOUT", "300s", "How long a tunnel without streams stays open"),
    row("UNSTABLE_ENABLE_SOCKS5", "false", "A SOCKS5 server on port 15080 of every pod"),
    row(
        "LOCALHOST_APP_TUNNEL",
        "true",
        "Applications that ask for the PROXY protocol are reached at their loopback address",
    ),
    row("ENABLE_RESPONSE_BAGGAGE", "true", "Tell peers, and take from them, who answers"),
    row(
        "AUTHZ_POLICY_INFO_LOGGING",
        "false",
        "`true`: what policies say of each connection is logged (scope `authorization`) at level info, not debug. The access log names the policy and rule that refuse a connection in any case",
    ),
];

const THREADS: &[Variable] = &[
    row(
        "ZTUNNEL_WORKER_THREADS",
        "computed, see below",
        "Threads that carry connections: a number, `0` for one on each CPU, or a share such as `50%`",
    ),
    row("ZTUNNEL_RESOURCE_CPU_LIMIT", "", "The container's CPU limit: `2`, `1.5`, `500m`"),
    row("ZTUNNEL_RESOURCE_CPU_REQUEST", "", "The container's CPU request"),
    row("ZTUNNEL_CPU_LIMIT", "the CPUs of the machine", "How many CPUs there are"),
    row(
        "CPU_LIMIT",
        "",
        "Of a waypoint or gateway: its CPUs, and so many threads unless another variable says how many",
    ),
    row(
        "CONNECTION_TERMINATION_DEADLINE",
        "",
        "How long open connections may go on at the end; wins over the next",
    ),
    row(
        "TERMINATION_GRACE_PERIOD_SECONDS",
        "",
        "After how many seconds the pod is killed: connections end 5 s before, or 1 s where it is 10 or less. Without either: 5 s",
    ),
];

const LOG: &[Variable] = &[
    row("RUST_LOG", "info", "What is logged: a level, or levels by scope, `info,access=debug`"),
    row(
        "LOG_FORMAT",
        "plain",
        "`json`: one object a line. Every other word is `plain`, as in ztunnel; one that is neither is told as a warning",
    ),
];

const OWN: &[Variable] = &[
    row(
        "RINGWAY_REACTOR",
        "auto",
        "What threads wait on: `ring`, `epoll`, or io_uring where it is allowed",
    ),
    row(
        "RINGWAY_HARDENING",
        "auto",
        "Whether the process gives up what it does not need: `auto`, `off`, `required`",
    ),
    row(
        "RINGWAY_CA_DIRECTORY",
        "/var/lib/ringway/ca",
        "Directory of the embedded authority, which signs with `FAKE_CA=true`",
    ),
    row(
        "RINGWAY_STATE_DIRECTORY",
        "/run/ringway",
        "Understood and ignored: a process in ztunnel's place keeps no state and has no control socket",
    ),
];

/// The variable of this name, or the family whose name begins like this one.
pub(super) fn find(name: &str) -> Option<&'static Variable> {
    all().find(|variable| match variable.name.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => variable.name == name,
    })
}

/// The family of this prefix.
pub(super) fn family(prefix: &str) -> Option<&'static Variable> {
    all().find(|variable| variable.name.strip_suffix('*') == Some(prefix))
}

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static Variable> {
    GROUPS.iter().flat_map(|(_, variables)| variables.iter())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_variable_is_there_once_and_says_what_it_means() {
        let mut seen = BTreeSet::new();
        for variable in GROUPS.iter().flat_map(|(_, variables)| variables.iter()) {
            assert!(seen.insert(variable.name), "{} is there twice", variable.name);
            assert!(variable.meaning.len() > 10, "{}", variable.name);
            assert!(find(variable.name).is_some());
        }
        assert!(find("NO_SUCH_VARIABLE").is_none());
    }
}
