//! The shape of a dump as `istioctl` and Kiali read it, and whether a value has it.
//!
//! Written down from what those two decode, not from how a dump is made. A key that is not here is an error, too: a new
//! one must be looked up in both readers first, for a wrong type in one field empties Kiali's whole page.

use serde_json::Value;

/// What may stand somewhere.
pub(crate) enum Shape {
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number up to this.
    Number(u64),
    Bool,
    List(&'static Shape),
    /// Keys are free; of ports, numbers.
    Map(&'static Shape),
    Ports,
    /// Keys, each with whether it must be there.
    Object(&'static [(&'static str, Presence, Shape)]),
    /// An object with one key: the kind of match, and its text; nothing, for presence.
    Match,
    /// An address and a port.
    Endpoint,
    /// A text, or null.
    Nullable(&'static Shape),
    /// Digits only: istioctl stops at anything else.
    Decimal,
    /// RFC 3339 to the second, in UTC.
    Moment,
    /// For people only.
    Anything,
}

/// Whether a key must be there.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Presence {
    Always,
    Perhaps,
}

use Presence::{Always, Perhaps};
use Shape::{
    Anything, Bool, Decimal, Endpoint, List, Map, Match, Moment, Nullable, Number, Object, Ports,
    Text, Word,
};

const PORT: Shape = Number(65_535);

const GATEWAY: Shape = Object(&[("destination", Always, Text), ("hboneMtlsPort", Always, PORT)]);

const ENDPOINT: Shape =
    Object(&[("workloadUid", Always, Text), ("port", Always, Ports), ("status", Always, HEALTH)]);

const HEALTH: Shape = Word(&["Healthy", "Unhealthy"]);

const WORKLOAD: Shape = Object(&[
    ("uid", Always, Text),
    ("workloadIps", Always, List(&Text)),
    ("waypoint", Perhaps, GATEWAY),
    ("networkGateway", Perhaps, GATEWAY),
    ("protocol", Always, Word(&["HBONE", "TCP"])),
    ("networkMode", Always, Word(&["Standard", "HostNetwork"])),
    ("name", Always, Text),
    ("namespace", Always, Text),
    ("serviceAccount", Always, Text),
    ("workloadName", Perhaps, Text),
    ("workloadType", Perhaps, Word(&["deployment", "cronjob", "pod", "job"])),
    ("canonicalName", Perhaps, Text),
    ("canonicalRevision", Perhaps, Text),
    ("clusterId", Always, Text),
    ("trustDomain", Perhaps, Text),
    (
        "locality",
        Perhaps,
        Object(&[("region", Perhaps, Text), ("zone", Perhaps, Text), ("subzone", Perhaps, Text)]),
    ),
    ("node", Perhaps, Text),
    ("nativeTunnel", Perhaps, Bool),
    ("network", Perhaps, Text),
    ("status", Always, HEALTH),
    ("hostname", Perhaps, Text),
    ("capacity", Always, Number(u32::MAX as u64)),
    (
        "applicationTunnel",
        Perhaps,
        Object(&[
            ("protocol", Always, Word(&["NONE", "PROXY"])),
            ("port", Perhaps, Nullable(&PORT)),
        ]),
    ),
    ("authorizationPolicies", Perhaps, List(&Text)),
    ("services", Perhaps, List(&Text)),
]);

const SERVICE: Shape = Object(&[
    ("name", Always, Text),
    ("namespace", Always, Text),
    ("hostname", Always, Text),
    ("vips", Always, List(&Text)),
    ("cidrVips", Perhaps, List(&Object(&[("network", Always, Text), ("cidr", Always, Text)]))),
    ("ports", Always, Ports),
    (
        "loadBalancer",
        Perhaps,
        Object(&[
            ("mode", Always, Word(&["Standard", "Strict", "Failover", "Passthrough"])),
            (
                "routingPreferences",
                Always,
                List(&Word(&["Region", "Zone", "Subzone", "Node", "Cluster", "Network"])),
            ),
            ("healthPolicy", Always, Word(&["OnlyHealthy", "AllowAll"])),
        ]),
    ),
    ("waypoint", Perhaps, GATEWAY),
    (
        "weightedWaypoints",
        Perhaps,
        List(&Object(&[
            ("destination", Always, GATEWAY),
            ("weight", Always, Number(u32::MAX as u64)),
        ])),
    ),
    ("endpoints", Always, Map(&ENDPOINT)),
    ("subjectAltNames", Always, List(&Text)),
    ("ipFamilies", Perhaps, Word(&["Dual", "IPv4", "IPv6"])),
    ("canonical", Always, Bool),
    ("visibility", Always, Word(&["Public", "Namespace"])),
]);

const ACCOUNTS: Shape =
    List(&Object(&[("namespace", Always, Text), ("serviceAccount", Always, Text)]));

const MATCHES: Shape = Object(&[
    ("namespaces", Perhaps, List(&Match)),
    ("notNamespaces", Perhaps, List(&Match)),
    ("principals", Perhaps, List(&Match)),
    ("notPrincipals", Perhaps, List(&Match)),
    ("serviceAccounts", Perhaps, ACCOUNTS),
    ("notServiceAccounts", Perhaps, ACCOUNTS),
    ("sourceIps", Perhaps, List(&Text)),
    ("notSourceIps", Perhaps, List(&Text)),
    ("destinationIps", Perhaps, List(&Text)),
    ("notDestinationIps", Perhaps, List(&Text)),
    ("destinationPorts", Perhaps, List(&PORT)),
    ("notDestinationPorts", Perhaps, List(&PORT)),
]);

const POLICY: Shape = Object(&[
    ("name", Always, Text),
    ("namespace", Always, Text),
    ("scope", Always, Word(&["Global", "Namespace", "WorkloadSelector"])),
    ("action", Always, Word(&["Allow", "Deny"])),
    ("rules", Always, List(&List(&List(&MATCHES)))),
    ("dryRun", Always, Bool),
]);

const PEM: Shape = Object(&[
    ("pem", Always, Text),
    ("serialNumber", Always, Decimal),
    ("validFrom", Always, Moment),
    ("expirationTime", Always, Moment),
]);

const CERTIFICATE: Shape = Object(&[
    ("identity", Always, Text),
    ("state", Always, Text),
    ("certChain", Always, List(&PEM)),
    ("rootCerts", Always, List(&PEM)),
]);

const fn connection(protocols: &'static [&'static str]) -> [(&'static str, Presence, Shape); 4] {
    [
        ("src", Always, Endpoint),
        ("originalDst", Always, Nullable(&Text)),
        ("actualDst", Always, Endpoint),
        ("protocol", Always, Word(protocols)),
    ]
}

const INBOUND: [(&str, Presence, Shape); 4] = connection(&["HBONE", "TCP"]);
const OUTBOUND: [(&str, Presence, Shape); 4] = connection(&["HBONE", "TCP", "DOUBLEHBONE"]);

const STATE: Shape = Object(&[
    ("state", Always, Word(&["Pending", "Up"])),
    // Ours: why it is pending. Both readers leave it alone.
    ("error", Perhaps, Text),
    (
        "connections",
        Perhaps,
        Object(&[
            ("inbound", Always, List(&Object(&INBOUND))),
            ("outbound", Always, List(&Object(&OUTBOUND))),
        ]),
    ),
    (
        "info",
        Always,
        Object(&[
            ("name", Always, Text),
            ("namespace", Always, Text),
            ("trustDomain", Perhaps, Text),
            ("serviceAccount", Always, Text),
        ]),
    ),
]);

/// What there is none of may be null: Go leaves the field as it is.
const NO_TEXT: Shape = Nullable(&Text);

const DURATION: Shape =
    Object(&[("secs", Always, Number(u64::MAX)), ("nanos", Always, Number(999_999_999))]);

const ON_LOCALHOST: Shape = Object(&[("Localhost", Perhaps, List(&Anything))]);

const SOCKET: Shape = Object(&[("SocketAddr", Always, Text)]);

const ROOTS: Shape = Object(&[("File", Perhaps, Text)]);

const SIZE: Shape = Number(u32::MAX as u64);

/// ztunnel's own settings as Kiali decodes them. What it shows of ztunnel's name resolution is not here: there is none.
const CONFIG: Shape = Object(&[
    ("adminAddr", Always, ON_LOCALHOST),
    ("altCaHostname", Always, NO_TEXT),
    ("altXdsHostname", Always, NO_TEXT),
    ("caAddress", Always, NO_TEXT),
    ("caRootCert", Always, ROOTS),
    ("clusterDomain", Always, Text),
    ("clusterId", Always, Text),
    ("connectionWindowSize", Always, SIZE),
    ("dnsProxy", Always, Bool),
    ("dnsProxyAddr", Always, ON_LOCALHOST),
    ("fakeCa", Always, Bool),
    ("fakeSelfInbound", Always, Bool),
    ("frameSize", Always, SIZE),
    ("illegalPorts", Always, List(&PORT)),
    ("inboundAddr", Always, Endpoint),
    ("inboundPlaintextAddr", Always, Endpoint),
    ("inpodPortReuse", Always, Bool),
    ("inpodUds", Always, Text),
    ("localNode", Always, NO_TEXT),
    ("network", Always, Text),
    ("numWorkerThreads", Always, SIZE),
    ("outboundAddr", Always, Endpoint),
    ("packetMark", Always, Nullable(&SIZE)),
    ("poolMaxStreamsPerConn", Always, SIZE),
    ("poolUnusedReleaseTimeout", Always, DURATION),
    ("proxy", Always, Bool),
    ("proxyArgs", Always, Text),
    ("proxyMetadata", Always, Map(&Text)),
    ("proxyMode", Always, Word(&["Shared", "Dedicated"])),
    ("proxyWorkloadInformation", Always, NO_TEXT),
    ("readinessAddr", Always, SOCKET),
    ("requireOriginalSource", Always, NO_TEXT),
    ("secretTtl", Always, DURATION),
    ("selfTerminationDeadline", Always, DURATION),
    ("socks5Addr", Always, NO_TEXT),
    ("statsAddr", Always, SOCKET),
    ("windowSize", Always, SIZE),
    ("xdsAddress", Always, NO_TEXT),
    ("xdsOnDemand", Always, Bool),
    ("xdsRootCert", Always, ROOTS),
    // Ours, as they were said and by whom. Both readers leave it alone.
    ("settings", Always, Anything),
]);

/// A whole dump.
pub(crate) const DUMP: Shape = Object(&[
    ("workloads", Always, List(&WORKLOAD)),
    ("services", Always, List(&SERVICE)),
    ("policies", Always, List(&POLICY)),
    ("stagedServices", Always, Map(&Map(&ENDPOINT))),
    ("certificates", Always, List(&CERTIFICATE)),
    ("workloadState", Always, Map(&STATE)),
    ("config", Always, CONFIG),
    (
        "staticConfig",
        Always,
        Object(&[
            ("workloads", Always, List(&WORKLOAD)),
            ("policies", Always, List(&POLICY)),
            ("services", Always, List(&SERVICE)),
        ]),
    ),
    (
        "version",
        Always,
        Object(&[
            ("version", Always, Text),
            ("gitRevision", Always, Text),
            ("rustVersion", Always, Text),
            ("buildProfile", Always, Text),
            ("buildStatus", Always, Text),
            ("istioVersion", Always, Text),
            ("cryptoProvider", Always, Text),
        ]),
    ),
]);

/// Whether `value` has this shape; every place where it has not.
pub(crate) fn check(shape: &Shape, value: &Value, place: &str, wrong: &mut Vec<String>) {
    let text = |accept: fn(&str) -> bool| value.as_str().is_some_and(accept);
    let fits = match shape {
        Anything => true,
        Text => value.is_string(),
        Word(words) => value.as_str().is_some_and(|word| words.contains(&word)),
        Number(most) => value.as_u64().is_some_and(|number| number <= *most),
        Bool => value.is_boolean(),
        Decimal => text(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())),
        Moment => text(is_moment),
        Endpoint => text(|text| text.parse::<std::net::SocketAddr>().is_ok()),
        Match => is_match(value),
        Ports => is_ports(value),
        Nullable(inner) => {
            if !value.is_null() {
                check(inner, value, place, wrong);
            }
            true
        }
        List(inner) => value.as_array().is_some_and(|items| {
            for (index, item) in items.iter().enumerate() {
                check(inner, item, &format!("{place}[{index}]"), wrong);
            }
            true
        }),
        Map(inner) => value.as_object().is_some_and(|entries| {
            for (key, item) in entries {
                check(inner, item, &format!("{place}[{key}]"), wrong);
            }
            true
        }),
        Object(fields) => value.as_object().is_some_and(|object| {
            for (key, item) in object {
                match fields.iter().find(|(name, ..)| name == key) {
                    Some((_, _, inner)) => check(inner, item, &format!("{place}.{key}"), wrong),
                    None => wrong.push(format!("{place}.{key} is not in the tables")),
                }
            }
            for (name, ..) in fields.iter().filter(|(_, presence, _)| *presence == Always) {
                if !object.contains_key(*name) {
                    wrong.push(format!("{place}.{name} is missing"));
                }
            }
            true
        }),
    };
    if !fits {
        wrong.push(format!("{place} is {value}"));
    }
}

/// Every key that may stand in a value of this shape, with its place.
pub(crate) fn keys(shape: &Shape, place: &str, found: &mut Vec<String>) {
    match shape {
        List(inner) | Map(inner) | Nullable(inner) => keys(inner, &format!("{place}[]"), found),
        Object(fields) => {
            for (name, _, inner) in *fields {
                let place = format!("{place}.{name}");
                keys(inner, &place, found);
                found.push(place);
            }
        }
        _ => {}
    }
}

/// `2026-11-21T13:00:00Z`.
fn is_moment(text: &str) -> bool {
    text.len() == 20
        && text.bytes().zip(*b"0000-00-00T00:00:00Z").all(|(byte, want)| match want {
            b'0' => byte.is_ascii_digit(),
            want => byte == want,
        })
}

fn is_match(value: &Value) -> bool {
    let entries: Vec<_> = value.as_object().into_iter().flatten().collect();
    match &entries[..] {
        [(kind, text)] => match kind.as_str() {
            "Exact" | "Prefix" | "Suffix" => text.is_string(),
            "Presence" => text.as_array().is_some_and(Vec::is_empty),
            _ => false,
        },
        _ => false,
    }
}

fn is_ports(value: &Value) -> bool {
    let port = |number: &Value| number.as_u64().is_some_and(|port| port <= 65_535);
    value.as_object().is_some_and(|ports| {
        ports.iter().all(|(key, number)| key.parse::<u16>().is_ok() && port(number))
    })
}
