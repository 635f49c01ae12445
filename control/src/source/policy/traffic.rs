//! `networking.istio.io DestinationRule`: how requests are passed on to a service.
//!
//! What of a `trafficPolicy` is honoured is read here. The rest is refused by name: a limit that is left out in silence is
//! none.

use std::path::Path;
use std::sync::Arc;

use ringway_http::model::traffic::{
    Balancing, ConnectionLimits, ConsistentHash, Distribution, HashKey, HashSpread, LocalityPolicy,
    OutlierDetection, TrafficPolicy,
};

use super::PolicyObject;
use super::client_tls::client_tls;
use super::tokens::header;
use crate::source::context::Context;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::kubernetes::metadata;
use crate::source::security::TargetReference;
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{boolean, duration, integer, nonempty, some_time, word};
use crate::source::yaml::value::Value;

/// The kind by which the target of a rule goes: not one of the standard's, for it is named by its host.
pub(super) const HOST: &str = "host";

/// Places of a table of hashes at most, as Envoy has it.
const PLACES_MAX: u64 = 5_000_011;

/// Points of a ring at most, as Envoy has it.
const POINTS_MAX: u64 = 8 * 1024 * 1024;

pub(crate) fn destination_rule(
    value: &Value,
    directory: &Path,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<PolicyObject<TrafficPolicy>> {
    mapping("DestinationRule", value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind", "status"]);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        let read = fields.required("spec", |value, reporter| spec(value, directory, reporter));
        let (metadata, (target, policy)) = (metadata?, read?);
        let (place, name, namespace) = (metadata.place, metadata.name, metadata.namespace);
        Some(PolicyObject { place, name, namespace, targets: vec![target], policy })
    })?
}

fn spec(
    value: &Value,
    directory: &Path,
    reporter: &mut Reporter,
) -> Option<(TargetReference, TrafficPolicy)> {
    mapping("spec", value, reporter, |fields| {
        let host = fields.required("host", nonempty);
        let place = fields.value_place("host");
        let policy = fields.optional("trafficPolicy", |value, reporter| {
            policy(value, host.unwrap_or_default(), directory, reporter)
        });
        let policy = policy.unwrap_or_default();
        fields.refuse(&["subsets", "workloadSelector"]);
        // Who may use it is the same everywhere: it is read where the service's waypoint is.
        fields.ignore(&["exportTo"]);
        let (group, kind, name) = ("".into(), HOST.into(), host?.into());
        Some((TargetReference { place, group, kind, name, section: None }, policy))
    })?
}

fn policy(
    value: &Value,
    host: &str,
    directory: &Path,
    reporter: &mut Reporter,
) -> Option<TrafficPolicy> {
    mapping("trafficPolicy", value, reporter, |fields| {
        let limits = fields.optional("connectionPool", connection_pool).unwrap_or_default();
        let outliers = fields.optional("outlierDetection", outliers);
        let (balancing, locality) =
            fields.optional("loadBalancer", load_balancer).unwrap_or_default();
        let tls =
            fields.optional("tls", |value, reporter| client_tls(value, host, directory, reporter));
        fields.refuse(&["portLevelSettings", "tunnel", "proxyProtocol", "retryBudget"]);
        let tls = tls.flatten();
        TrafficPolicy { limits, outliers, balancing, locality, tls, ..TrafficPolicy::default() }
    })
}

fn connection_pool(value: &Value, reporter: &mut Reporter) -> Option<ConnectionLimits> {
    let count = integer(0..=u64::from(u32::MAX));
    // 0 is Istio's word for its default, which is no bound.
    let number = |fields: &mut Fields<'_, '_>, key| {
        fields.optional(key, &count).map(|number| number as u32).filter(|number| *number > 0)
    };
    mapping("connectionPool", value, reporter, |fields| {
        let mut limits = ConnectionLimits::default();
        fields.optional("tcp", |value, reporter| {
            mapping("tcp", value, reporter, |fields| {
                limits.connections = number(fields, "maxConnections");
                limits.connect = fields.optional("connectTimeout", some_time);
                limits.age = fields.optional("maxConnectionDuration", some_time);
                fields.refuse(&["tcpKeepalive", "idleTimeout"]);
            })
        });
        fields.optional("http", |value, reporter| {
            mapping("http", value, reporter, |fields| {
                limits.pending = number(fields, "http1MaxPendingRequests");
                limits.requests = number(fields, "http2MaxRequests");
                limits.requests_per_connection = number(fields, "maxRequestsPerConnection");
                limits.retries = number(fields, "maxRetries");
                limits.idle = fields.optional("idleTimeout", some_time);
                fields.refuse(&["h2UpgradePolicy", "useClientProtocol", "maxConcurrentStreams"]);
            })
        });
        limits
    })
}

fn outliers(value: &Value, reporter: &mut Reporter) -> Option<OutlierDetection> {
    let count = integer(0..=u64::from(u32::MAX));
    let number =
        |fields: &mut Fields<'_, '_>, key| fields.optional(key, &count).map(|number| number as u32);
    let percent = |fields: &mut Fields<'_, '_>, key| {
        fields.optional(key, integer(0..=100)).map(|percent| percent as u8)
    };
    mapping("outlierDetection", value, reporter, |fields| {
        let otherwise = OutlierDetection::default();
        let split = fields.optional("splitExternalLocalOriginErrors", boolean).unwrap_or(false);
        let local = number(fields, "consecutiveLocalOriginFailures");
        let base =
            fields.optional("baseEjectionTime", some_time).unwrap_or(otherwise.base_ejection);
        let consecutive_5xx = number(fields, "consecutive5xxErrors");
        let consecutive_gateway = number(fields, "consecutiveGatewayErrors");
        let max_percent = percent(fields, "maxEjectionPercent");
        let min_health_percent = percent(fields, "minHealthPercent");
        fields.refuse(&["consecutiveErrors"]);
        OutlierDetection {
            consecutive_5xx: consecutive_5xx.unwrap_or(otherwise.consecutive_5xx),
            consecutive_gateway: consecutive_gateway.unwrap_or(otherwise.consecutive_gateway),
            // Istio's default where they are told apart.
            consecutive_local: if split { local.unwrap_or(5) } else { 0 },
            interval: fields.optional("interval", some_time).unwrap_or(otherwise.interval),
            base_ejection: base,
            max_ejection: otherwise.max_ejection.max(base),
            // 0 is Istio's word for its default here, too.
            max_percent: max_percent.filter(|most| *most > 0).unwrap_or(otherwise.max_percent),
            min_health_percent: min_health_percent.unwrap_or(otherwise.min_health_percent),
        }
    })
}

type Balance = (Option<Balancing>, Option<LocalityPolicy>);

fn load_balancer(value: &Value, reporter: &mut Reporter) -> Option<Balance> {
    #[derive(Clone, Copy)]
    enum Simple {
        LeastRequest,
        RoundRobin,
        Random,
        Unspecified,
    }
    const SIMPLE: &[(&str, Simple)] = &[
        ("LEAST_REQUEST", Simple::LeastRequest),
        ("LEAST_CONN", Simple::LeastRequest),
        ("ROUND_ROBIN", Simple::RoundRobin),
        ("RANDOM", Simple::Random),
        ("UNSPECIFIED", Simple::Unspecified),
    ];
    mapping("loadBalancer", value, reporter, |fields| {
        let simple = match fields.optional("simple", word(SIMPLE)) {
            Some(Simple::LeastRequest) => Some(Balancing::LeastRequest),
            Some(Simple::RoundRobin) => Some(Balancing::RoundRobin),
            Some(Simple::Random) => Some(Balancing::Random),
            Some(Simple::Unspecified) | None => None,
        };
        let hash = fields.optional("consistentHash", consistent_hash);
        if simple.is_some() && hash.is_some() {
            let message = "`simple` and `consistentHash` say two things of who gets a request";
            let place = fields.place("simple");
            fields.reporter.report(Problem::error(place, message));
        }
        let locality = fields.optional("localityLbSetting", locality).flatten();
        fields.refuse(&["warmupDurationSecs", "warmup"]);
        (hash.map(Balancing::ConsistentHash).or(simple), locality)
    })
}

fn consistent_hash(value: &Value, reporter: &mut Reporter) -> Option<ConsistentHash> {
    mapping("consistentHash", value, reporter, |fields| {
        let named = fields.optional("httpHeaderName", header).map(HashKey::Header);
        let cookie = fields.optional("httpCookie", cookie);
        let source = fields.optional("useSourceIp", boolean).filter(|is_used| *is_used);
        let query = fields.optional("httpQueryParameterName", nonempty);
        let query = query.map(|name| HashKey::Query(name.into()));
        let source = source.map(|_| HashKey::SourceIp);
        let mut keys = [named, cookie, source, query].into_iter().flatten();
        let (key, other) = (keys.next(), keys.next());
        let ring = fields.optional("ringHash", ring);
        let maglev = fields.optional("maglev", maglev);
        fields.refuse(&["minimumRingSize"]);
        let place = fields.place("consistentHash");
        if key.is_none() || other.is_some() || (ring.is_some() && maglev.is_some()) {
            let message = "expected one of `httpHeaderName`, `httpCookie`, `useSourceIp` and \
                           `httpQueryParameterName`, and at most one of `ringHash` and `maglev`";
            fields.reporter.report(Problem::error(place, message));
        }
        let spread = ring.or(maglev).unwrap_or(HashSpread::Ring { points_min: 1024 });
        Some(ConsistentHash { key: key?, spread })
    })?
}

fn cookie(value: &Value, reporter: &mut Reporter) -> Option<HashKey> {
    mapping("httpCookie", value, reporter, |fields| {
        let name = fields.required("name", token);
        let path = fields.optional("path", nonempty).unwrap_or("/");
        let lifetime = fields.optional("ttl", duration);
        Some(HashKey::Cookie { name: name?, path: path.into(), lifetime })
    })?
}

/// What may name a cookie (RFC 6265 §4.1.1): as a header's name, but upper case is kept.
fn token(value: &Value, reporter: &mut Reporter) -> Option<Arc<str>> {
    header(value, reporter)?;
    nonempty(value, reporter).map(Into::into)
}

fn ring(value: &Value, reporter: &mut Reporter) -> Option<HashSpread> {
    mapping("ringHash", value, reporter, |fields| {
        let points = fields.optional("minimumRingSize", integer(1..=POINTS_MAX));
        HashSpread::Ring { points_min: points.unwrap_or(1024) as u32 }
    })
}

fn maglev(value: &Value, reporter: &mut Reporter) -> Option<HashSpread> {
    mapping("maglev", value, reporter, |fields| {
        let places = fields.optional("tableSize", integer(2..=PLACES_MAX)).unwrap_or(65537);
        let is_prime = (2..).take_while(|one| one * one <= places).all(|one| places % one > 0);
        if !is_prime {
            let message = format!("expected a prime, found {places}");
            let place = fields.value_place("tableSize");
            fields.reporter.report(Problem::error(place, message));
        }
        HashSpread::Maglev { places: places as u32 }
    })
}

/// None: it is switched off.
fn locality(value: &Value, reporter: &mut Reporter) -> Option<Option<LocalityPolicy>> {
    mapping("localityLbSetting", value, reporter, |fields| {
        let enabled = fields.optional("enabled", boolean).unwrap_or(true);
        let distribute =
            fields.optional("distribute", |value, reporter| list(value, reporter, distribution));
        let failover =
            fields.optional("failover", |value, reporter| list(value, reporter, failover));
        fields.refuse(&["failoverPriority"]);
        let (distribute, failover) = (distribute.unwrap_or_default(), failover.unwrap_or_default());
        enabled.then_some(LocalityPolicy { distribute, failover })
    })
}

fn distribution(value: &Value, reporter: &mut Reporter) -> Option<Distribution> {
    mapping("distribute[]", value, reporter, |fields| {
        let from = fields.required("from", nonempty);
        let to = fields.required("to", |value, reporter| {
            let Some(entries) = value.entries() else {
                crate::source::yaml::fields::expected("places and their percent", value, reporter);
                return None;
            };
            let shares = entries.iter().map(|(place, percent)| {
                let percent = integer(0..=100)(percent, reporter)?;
                Some((Arc::from(&*place.text), percent as u32))
            });
            let shares: Option<Vec<_>> = shares.collect();
            let sum: u32 = shares.iter().flatten().map(|(_, percent)| *percent).sum();
            if shares.is_some() && sum != 100 {
                let message = format!("the shares make {sum}, and must make 100");
                reporter.report(Problem::error(value.place, message));
            }
            shares
        });
        Some(Distribution { from: from?.into(), to: to? })
    })?
}

fn failover(value: &Value, reporter: &mut Reporter) -> Option<(Arc<str>, Arc<str>)> {
    mapping("failover[]", value, reporter, |fields| {
        let (from, to) = (fields.required("from", nonempty), fields.required("to", nonempty));
        Some((from?.into(), to?.into()))
    })?
}
