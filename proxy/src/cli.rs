//! The command line. Every flag has a twin in the environment; a flag wins over its twin, the twin over the file.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ringway_control::policy::Client;
use ringway_control::run::{STATE_DIRECTORY, WorkloadName};
use ringway_control::source::Cores;

use crate::output::Format;
use crate::values::{self, Listener, Workload};

/// Where the configuration is looked for when nothing is said.
pub(crate) const CONFIGURATION: &str = "/etc/ringway";

/// Where the certificate authority is when nothing is said.
pub(crate) const CA_DIRECTORY: &str = "/var/lib/ringway/ca";

const TEMPLATE: &str =
    "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

#[derive(Debug, Parser)]
#[command(
    name = "ringway",
    version,
    about = "A service mesh without sidecars: mutual TLS for every workload of a host.",
    help_template = TEMPLATE,
    before_help = "Examples:\n  \
        ringway run -f mesh.yaml --node host-a     capture the workloads of host-a\n  \
        ringway validate -f mesh.d/                check a configuration, all mistakes at once\n  \
        ringway ca show                            the root of the mesh and who trusts it\n\n",
    after_help = "Exit codes: 0 done, 1 failed, 64 usage, 65 configuration, 69 something is missing, 77 permission, \
        130 interrupted.",
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Capture the workloads of this host and carry their connections
    Run(Box<RunArguments>),
    /// Be the waypoint before some services: HTTP routing, policies and telemetry for who asks for it
    #[cfg(feature = "waypoint")]
    #[command(
        help_template = TEMPLATE,
        before_help = "Examples:\n  \
            ringway waypoint -f mesh.d/ --name default/reviews\n  \
            ringway waypoint -f mesh.d/ --name default/reviews --traces http://collector:4317 --traces-share 0.1\n  \
            ringway waypoint -f mesh.d/ --name default/reviews --access-log json --print-config\n\n",
        after_help = "It runs in a network namespace of its own, as one workload of the mesh (docs/waypoint.md). SIGHUP \
            reads the\nconfiguration again (a change of the files does, too); SIGTERM drains and ends, twice ends at \
            once. Nothing is handed over."
    )]
    Waypoint(Box<L7Arguments>),
    /// Be a gateway into the mesh: HTTP and TLS from outside, by the listeners of a Gateway
    #[cfg(feature = "waypoint")]
    #[command(
        help_template = TEMPLATE,
        before_help = "Examples:\n  \
            ringway gateway -f mesh.d/ --name default/ingress\n  \
            ringway gateway -f mesh.d/ --name default/ingress --workload default/ingress-1\n  \
            ringway gateway -f mesh.d/ --name default/ingress --access-log istio --print-config\n\n",
        after_help = "It runs in a network namespace of its own, as one workload of the mesh (docs/waypoint.md). SIGHUP \
            reads the\nconfiguration again (a change of the files does, too); SIGTERM drains and ends, twice ends at \
            once. Nothing is handed over."
    )]
    Gateway(Box<L7Arguments>),
    /// Tell whether a new version does worse than the old one, by what a waypoint counts
    #[cfg(feature = "waypoint")]
    Canary(CanaryArguments),
    /// Tell how the answers of mirrors differ from those that clients got
    #[cfg(feature = "waypoint")]
    Mirrors(MirrorsArguments),
    /// Take the place of Istio's node proxy: told by the environment, istiod and istio-cni
    Proxy(ProxyArguments),
    /// Have the running node start its successor and hand everything over to it
    Handover(HandoverArguments),
    /// Check a configuration without starting anything
    Validate(ValidateArguments),
    /// Tell whether a client may connect to a workload, without starting anything
    Authorize(AuthorizeArguments),
    /// Turn the config_dump of a node elsewhere into files that are read here
    Import(ImportArguments),
    /// The embedded certificate authority
    Ca(CaArguments),
    /// What this program is
    Version(VersionArguments),
    /// Completions for a shell
    Completions(CompletionsArguments),
    /// The same as --help
    #[command(hide = true)]
    Help,
}

/// The arguments as they are meant: istiod starts the image of a waypoint or gateway with `--config {}` and no verb.
pub(crate) fn as_deployed(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    if arguments.get(1).is_some_and(|first| first == "--config") {
        arguments.splice(1..1, ["proxy".into(), "waypoint".into()]);
    }
    arguments
}

/// Where the configuration is, and whose part of it is meant.
#[derive(Debug, Args)]
pub(crate) struct SourceArguments {
    /// File or directory of YAML documents, or - for standard input; may be repeated [default: /etc/ringway]
    #[arg(short, long = "file", value_name = "PATH", env = "RINGWAY_FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Name of the Node document that is this host [default: the host's name, or the only one]
    #[arg(long, value_name = "NAME", env = "RINGWAY_NODE")]
    pub(crate) node: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    help_template = TEMPLATE,
    before_help = "Examples:\n  \
        ringway run -f mesh.yaml --node host-a\n  \
        ringway run -f mesh.yaml --reactor epoll --cores 2 --log-level access=debug,info\n  \
        ringway run -f mesh.yaml --dedicated --workload shop/web --print-config\n\n",
    after_help = "SIGHUP reads the configuration again (a change of the files does, too); SIGUSR2 hands over to a new \
        process;\nSIGTERM drains and ends, twice ends at once.\nPROXY_MODE, PROXY_WORKLOAD_INFO, NODE_NAME, \
        LOCAL_XDS_PATH, CRL_PATH, RUST_LOG and LOG_FORMAT are understood as Istio's node proxy does."
)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) source: SourceArguments,

    /// Serve one workload, in whose network namespace this process is
    #[arg(long, env = "RINGWAY_DEDICATED")]
    pub(crate) dedicated: bool,

    /// The workload of a dedicated process: namespace/name[/service-account]
    #[arg(long, value_name = "WORKLOAD", env = "RINGWAY_WORKLOAD")]
    pub(crate) workload: Option<WorkloadName>,

    /// Who installs the redirect rules
    #[arg(long, value_enum, env = "RINGWAY_REDIRECT", conflicts_with = "no_redirect")]
    pub(crate) redirect: Option<Redirect>,

    /// Install no redirect rules: the same as --redirect none
    #[arg(long, env = "RINGWAY_NO_REDIRECT")]
    pub(crate) no_redirect: bool,

    #[command(flatten)]
    pub(crate) process: ProcessArguments,
}

/// What every process that serves is told, whatever its role.
#[derive(Debug, Args)]
pub(crate) struct ProcessArguments {
    /// What the shards wait on
    #[arg(long, value_enum, env = "RINGWAY_REACTOR")]
    pub(crate) reactor: Option<Reactor>,

    /// Cores of the shards: auto, a number, or a list such as 0,2,4-7
    #[arg(long, value_parser = values::cores, env = "RINGWAY_CORES")]
    pub(crate) cores: Option<Cores>,

    /// Directory of the certificate authority
    #[arg(long, value_name = "DIR", env = "RINGWAY_CA_DIRECTORY")]
    pub(crate) ca_directory: Option<PathBuf>,

    /// File of certificate revocation lists, PEM or DER; may be repeated
    #[arg(
        long = "revocation-list",
        value_name = "FILE",
        env = "RINGWAY_REVOCATION_LIST",
        value_delimiter = ','
    )]
    pub(crate) revocation_lists: Vec<PathBuf>,

    /// Lifetime of the workloads' certificates
    #[arg(long, value_name = "TIME", value_parser = values::duration, env = "RINGWAY_LEAF_LIFETIME")]
    pub(crate) leaf_lifetime: Option<Duration>,

    /// How long open connections may go on at the end
    #[arg(long, value_name = "TIME", value_parser = values::duration, env = "RINGWAY_DRAIN_DEADLINE")]
    pub(crate) drain_deadline: Option<Duration>,

    /// Address of the admin server, or none
    #[arg(long, value_name = "ADDR", value_parser = values::listener, env = "RINGWAY_ADMIN_ADDRESS")]
    pub(crate) admin_address: Option<Listener>,

    /// Address of the metrics server, or none
    #[arg(long, value_name = "ADDR", value_parser = values::listener, env = "RINGWAY_METRICS_ADDRESS")]
    pub(crate) metrics_address: Option<Listener>,

    /// Address of the readiness server, or none
    #[arg(long, value_name = "ADDR", value_parser = values::listener, env = "RINGWAY_READINESS_ADDRESS")]
    pub(crate) readiness_address: Option<Listener>,

    /// What is logged: a level, or levels by scope
    #[arg(long, value_name = "LEVELS", env = "RINGWAY_LOG_LEVEL")]
    pub(crate) log_level: Option<String>,

    /// How log lines look
    #[arg(long, value_enum, env = "RINGWAY_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,

    /// Directory for what must survive a restart, but not a reboot
    #[arg(long, value_name = "DIR", default_value = STATE_DIRECTORY, env = "RINGWAY_STATE_DIRECTORY")]
    pub(crate) state_directory: PathBuf,

    /// Print every setting with its value and where it comes from, and end
    #[arg(long)]
    pub(crate) print_config: bool,

    /// Form of --print-config
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// What a waypoint and a gateway are told.
#[cfg(feature = "waypoint")]
#[derive(Debug, Args)]
pub(crate) struct L7Arguments {
    #[command(flatten)]
    pub(crate) source: SourceArguments,

    /// The Gateway that this process is: namespace/name
    #[arg(long, value_name = "GATEWAY", value_parser = ringway_control::run::waypoint::gateway_name, env = "RINGWAY_GATEWAY")]
    pub(crate) name: ringway_control::run::waypoint::GatewayName,

    /// The workload that this process is: namespace/name[/service-account] [default: the one named as the Gateway]
    #[arg(long, value_name = "WORKLOAD", env = "RINGWAY_WORKLOAD")]
    pub(crate) workload: Option<WorkloadName>,

    /// Lines of requests: text, istio, json, off, or a template with Envoy's operators
    #[arg(long, value_name = "FORM", default_value_t, env = "RINGWAY_ACCESS_LOG")]
    pub(crate) access_log: ringway_control::telemetry::requests::RequestLog,

    /// Collector of traces, http://host:4317 [default: OTEL_EXPORTER_OTLP_ENDPOINT]
    #[arg(long, value_name = "URL", env = "RINGWAY_TRACES")]
    pub(crate) traces: Option<String>,

    /// How the collector is spoken to [default: OTEL_EXPORTER_OTLP_PROTOCOL, or grpc]
    #[arg(long, value_enum, env = "RINGWAY_TRACES_PROTOCOL")]
    pub(crate) traces_protocol: Option<TraceProtocol>,

    /// Share of requests that are traced, from 0 to 1, of those whose trace begins here [default: 0.01]
    #[arg(long, value_name = "SHARE", value_parser = values::share, env = "RINGWAY_TRACES_SHARE")]
    pub(crate) traces_share: Option<f64>,

    #[command(flatten)]
    pub(crate) process: ProcessArguments,
}

#[cfg(feature = "waypoint")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TraceProtocol {
    /// gRPC, mostly on port 4317
    Grpc,
    /// HTTP, mostly on port 4318
    Http,
}

#[cfg(feature = "waypoint")]
#[derive(Debug, Args)]
#[command(
    help_template = TEMPLATE,
    before_help = "Examples:\n  \
        ringway canary --baseline v1 --canary v2 --service shop/reviews --duration 10m\n  \
        ringway canary --baseline workload=reviews-v1 --canary workload=reviews-v2 --slow 250ms -o json\n  \
        ringway canary --baseline v1 --canary v2 --metrics 10.2.0.12:15020 --metrics 10.2.0.13:15020\n\n",
    after_help = "Two tests that may be looked at as often as one likes, of failures and of slow requests \
        (docs/waypoint.md#canaries). It ends\nas soon as the canary is worse for certain.\nExit codes: 0 the canary \
        is not worse, 1 it is worse, 2 too few requests were seen; 64, 65, 69: there is no answer."
)]
pub(crate) struct CanaryArguments {
    /// The version that is known: a version or workload, or KEY=VALUE of version, workload, namespace, app,
    /// canonical-service, principal; joined by commas
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) baseline: ringway_control::canary::Selector,

    /// The version that is tried
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) canary: ringway_control::canary::Selector,

    /// Only requests to this service: name or namespace/name
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<ringway_control::canary::Service>,

    /// Metrics server of the waypoint; may be repeated, for each of its processes
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15020", env = "RINGWAY_METRICS")]
    pub(crate) metrics: Vec<std::net::SocketAddr>,

    /// How long both are watched
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "5m")]
    pub(crate) duration: Duration,

    /// How often they are looked at
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "5s")]
    pub(crate) interval: Duration,

    /// One minus the probability of calling a canary worse that is not
    #[arg(long, value_name = "SHARE", value_parser = values::confidence, default_value = "0.95")]
    pub(crate) confidence: f64,

    /// Requests of each that there is no verdict without
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub(crate) min_requests: u64,

    /// A request that takes longer is slow; the end of the histogram's bucket counts [default: what nine of ten of the
    /// baseline's first requests stay within]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) slow: Option<Duration>,

    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[cfg(feature = "waypoint")]
#[derive(Debug, Args)]
#[command(
    help_template = TEMPLATE,
    before_help = "Examples:\n  \
        ringway mirrors                               of the waypoint in this network namespace\n  \
        ringway mirrors -o json                       the same for programs\n\n",
    after_help = "Samples have methods, paths and statuses: no bodies, no headers, nothing behind a question mark."
)]
pub(crate) struct MirrorsArguments {
    /// Admin server of the waypoint
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:15000",
        env = "RINGWAY_ADMIN_ADDRESS"
    )]
    pub(crate) admin: std::net::SocketAddr,

    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
#[command(
    help_template = TEMPLATE,
    before_help = "Examples:\n  \
        ringway proxy ztunnel                         as charts start Istio's node proxy\n  \
        ringway proxy ztunnel --print-config          every variable with its value and where it comes from\n  \
        ringway proxy waypoint                        as istiod starts an agentgateway waypoint or gateway\n\n",
    after_help = "It takes the variables, files, ports and sockets of Istio's node proxy (docs/ztunnel.md, \
        docs/environment.md), and no\nconfiguration of its own. As a waypoint or gateway (docs/waypoint.md) it is started \
        by `--config {}` alone, too; istiod\ntells which of the two it is. SIGTERM drains and ends, twice ends at once."
)]
pub(crate) struct ProxyArguments {
    /// Whose place it takes
    #[arg(
        value_enum,
        value_name = "ztunnel|waypoint|gateway",
        required_unless_present_any = ["config", "print_config"]
    )]
    pub(crate) role: Option<ProxyRole>,

    /// Further words, which ztunnel does not look at either
    #[arg(value_name = "WORD", hide = true)]
    pub(crate) words: Vec<String>,

    /// What istiod says to a waypoint or gateway; nothing else is understood
    #[arg(long, value_name = "{}", value_parser = values::nothing)]
    pub(crate) config: Option<()>,

    /// Lines of requests at a waypoint or gateway: text, istio, json, off, or a template with Envoy's operators
    #[cfg(feature = "waypoint")]
    #[arg(long, value_name = "FORM", default_value_t, env = "RINGWAY_ACCESS_LOG")]
    pub(crate) access_log: ringway_control::telemetry::requests::RequestLog,

    /// Print every setting with its value and where it comes from, and end
    #[arg(long)]
    pub(crate) print_config: bool,

    /// Form of --print-config
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Whose place `ringway proxy` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProxyRole {
    /// Istio's node proxy
    Ztunnel,
    /// A waypoint or gateway: istiod tells which of the two it is
    Waypoint,
    /// The same
    Gateway,
    /// The same
    Agentgateway,
}

#[derive(Debug, Args)]
#[command(
    help_template = TEMPLATE,
    before_help = "Examples:\n  \
        ringway handover                              after the program's file was replaced\n  \
        ringway handover --binary /opt/ringway-2      to another file\n  \
        ringway handover --node host-a                where several nodes run\n\n",
    after_help = "The running process starts the program at its own path with its own arguments and hands over \
        listening sockets, then\nlive plain connections; tunnels drain. Whatever goes wrong before the new process \
        serves, the old one goes on.\nSIGUSR2 to the running process asks for the same, and only its log answers."
)]
pub(crate) struct HandoverArguments {
    /// Program of the new process [default: the file the running one was started from]
    #[arg(long, value_name = "PATH")]
    pub(crate) binary: Option<PathBuf>,

    /// Which node, where several run in this network namespace
    #[arg(long, value_name = "NAME", env = "RINGWAY_NODE")]
    pub(crate) node: Option<String>,

    /// Directory the node was started with
    #[arg(long, value_name = "DIR", default_value = STATE_DIRECTORY, env = "RINGWAY_STATE_DIRECTORY")]
    pub(crate) state_directory: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reactor {
    /// io_uring where it is allowed, else epoll
    Auto,
    /// io_uring, or fail
    Ring,
    /// epoll
    Epoll,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Redirect {
    /// nftables where it works, else iptables
    Auto,
    /// nft, or fail
    Nftables,
    /// iptables-restore, or fail
    Iptables,
    /// Somebody else
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Columns separated by tabs
    Plain,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Args)]
#[command(
    help_template = TEMPLATE,
    before_help = "Examples:\n  \
        ringway validate -f mesh.yaml\n  \
        ringway validate -f mesh.d/ --node host-b --strict\n  \
        kubectl get pods,services -o yaml | ringway validate -f - -f node.yaml -o json\n\n"
)]
pub(crate) struct ValidateArguments {
    #[command(flatten)]
    pub(crate) source: SourceArguments,

    /// Take warnings for errors
    #[arg(long, env = "RINGWAY_STRICT")]
    pub(crate) strict: bool,

    /// Show the conditions of Gateways and routes, as a cluster would
    #[cfg(feature = "waypoint")]
    #[arg(long)]
    pub(crate) status: bool,

    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
#[command(
    help_template = TEMPLATE,
    before_help = "Examples:\n  \
        ringway authorize -f mesh.d/ --from shop/web --to shop/db-0 --port 5432\n  \
        ringway authorize -f mesh.d/ --from none --source-ip 192.0.2.7 --to shop/web-0 --port 8080\n\n",
    after_help = "Exit codes: 0 allowed, 1 denied; 64, 65, 69: there is no answer."
)]
pub(crate) struct AuthorizeArguments {
    #[command(flatten)]
    pub(crate) source: SourceArguments,

    /// Who connects: namespace/service-account, spiffe://…, or none for a client without an identity
    #[arg(long, value_name = "CLIENT", value_parser = values::client)]
    pub(crate) from: Client,

    /// The address it connects from [default: those of the workloads with this identity]
    #[arg(long, value_name = "IP")]
    pub(crate) source_ip: Option<IpAddr>,

    /// The workload that is connected to: namespace/name
    #[arg(long, value_name = "WORKLOAD", value_parser = values::workload)]
    pub(crate) to: Workload,

    /// The port of the workload, not of a Service before it
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,

    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
#[command(
    help_template = TEMPLATE,
    before_help = "Examples:\n  \
        ringway import config_dump.json --out mesh.yaml\n  \
        kubectl get ns,pods,svc,peerauthentications,authorizationpolicies -A -o yaml | ringway import - --node worker-1 > mesh.yaml\n  \
        curl -s localhost:15000/config_dump | ringway import - | ringway authorize -f - --from shop/web --to shop/db-0 \
        --port 5432\n\n",
    after_help = "What was left out is told on standard error. What is written has been read back, as `ringway validate` \
        would."
)]
pub(crate) struct ImportArguments {
    /// A config_dump of a ztunnel or a Ringway; or objects of a cluster, in files and in directories with all below them; - is
    /// standard input
    #[arg(value_name = "DUMP|FILE|DIR", required = true)]
    pub(crate) inputs: Vec<PathBuf>,

    /// Write a Node that captures here what this host captures there; may be repeated
    #[arg(long = "node", value_name = "NAME")]
    pub(crate) nodes: Vec<String>,

    /// Network namespace of a captured workload; {name} and {namespace} are the workload's [default: {name}]
    #[arg(long, value_name = "PATTERN", requires = "nodes")]
    pub(crate) network_namespace: Option<String>,

    /// Where to write it [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    help_template = TEMPLATE,
    before_help = "Examples:\n  \
        ringway ca import --certificate ca-cert.pem --key ca-key.pem --root root-cert.pem\n  \
        ringway ca rotate --new-signs-after 1h --old-trusted-for 7d\n  \
        ringway ca revoke cert-chain.pem\n\n"
)]
pub(crate) struct CaArguments {
    /// Directory of the authority
    #[arg(
        short, long, value_name = "DIR", default_value = CA_DIRECTORY, env = "RINGWAY_CA_DIRECTORY", global = true
    )]
    pub(crate) directory: PathBuf,

    #[command(subcommand)]
    pub(crate) verb: CaVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CaVerb {
    /// Fingerprints, dates and roles, and the roots that are trusted
    Show {
        /// Form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Make a root; `run` does so by itself on the first start
    Create {
        /// How long it is valid
        #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "3652d")]
        lifetime: Duration,
    },
    /// Replace the root without an interruption
    Rotate {
        /// How long the new root is only trusted before it signs
        #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "24h")]
        new_signs_after: Duration,
        /// How long the old root stays trusted from then on
        #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "7d")]
        old_trusted_for: Duration,
        /// Certificate of an authority that is to be the next, PEM [default: a new root is made]
        #[arg(long, value_name = "FILE", requires = "key")]
        certificate: Option<PathBuf>,
        /// Its private key, PEM
        #[arg(long, value_name = "FILE", requires = "certificate")]
        key: Option<PathBuf>,
        /// Its root, PEM, where the certificate is an intermediate
        #[arg(long, value_name = "FILE", requires = "certificate")]
        root: Option<PathBuf>,
    },
    /// Take certificates back: every node that reads this directory cuts who shows them
    Revoke {
        /// Serial number (decimal, hex behind 0x, or hex with colons), or a file with the certificate, PEM
        #[arg(value_name = "SERIAL|FILE", required = true)]
        what: Vec<String>,
    },
    /// Bring an authority that exists already
    Import(PemArguments),
    /// A certificate for an identity, for clients outside of Ringway
    Issue {
        /// The identity: spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT
        #[arg(value_name = "SPIFFE-ID")]
        identity: String,
        /// Directory for cert-chain.pem, key.pem and root-cert.pem
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// How long it is valid
        #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "24h")]
        lifetime: Duration,
        /// Replace files that an earlier one wrote there
        #[arg(long)]
        replace: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PemArguments {
    /// Certificate of the authority, and what leads to the root, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: PathBuf,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The root, PEM, where the certificate is an intermediate
    #[arg(long, value_name = "FILE")]
    pub(crate) root: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct VersionArguments {
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
#[command(
    help_template = TEMPLATE,
    before_help = "Examples:\n  \
        ringway completions bash > /etc/bash_completion.d/ringway\n  \
        ringway completions zsh > \"${fpath[1]}/_ringway\"\n  \
        ringway completions fish > ~/.config/fish/completions/ringway.fish\n\n"
)]
pub(crate) struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    /// Else a variable that is read would be told as one that is not.
    #[test]
    fn the_twins_of_proxy_are_known_as_variables() {
        let command = Cli::command();
        let proxy = command.find_subcommand("proxy").unwrap();
        let twins = proxy.get_arguments().filter_map(clap::Arg::get_env);
        for twin in twins.map(|twin| twin.to_str().unwrap()) {
            assert!(ringway_control::environment::TWINS.contains(&twin), "{twin}");
        }
    }

    #[test]
    fn every_flag_of_run_has_its_twin() {
        let command = Cli::command();
        let without = ["help", "print_config", "output"];
        for verb in ["run", "waypoint", "gateway"] {
            let Some(verb) = command.find_subcommand(verb) else { continue };
            let arguments = verb.get_arguments();
            for argument in arguments.filter(|one| !without.contains(&one.get_id().as_str())) {
                let twin = argument.get_env().unwrap_or_else(|| panic!("{}", argument.get_id()));
                assert!(twin.to_string_lossy().starts_with("RINGWAY_"));
            }
        }
    }
}
