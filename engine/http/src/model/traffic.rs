//! How requests are passed on to a service, and what is spoilt on purpose.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};

/// How requests are passed on: Istio's `trafficPolicy`, XBackendTrafficPolicy. What is not said is said by the policy
/// of the next wider target, at last by the defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficPolicy {
    /// How much may be under way.
    pub limits: ConnectionLimits,
    /// When an endpoint gets nothing for a while; none: never.
    pub outliers: Option<OutlierDetection>,
    /// Who gets the next request.
    pub balancing: Option<Balancing>,
    /// Endpoints nearby.
    pub locality: Option<LocalityPolicy>,
    /// How much may be tried again.
    pub retry_budget: Option<RetryBudget>,
    /// A client comes back to its endpoint.
    pub session: Option<SessionPersistence>,
    /// TLS to the endpoints, inside the mesh's own.
    pub tls: Option<TlsOrigination>,
}

impl TrafficPolicy {
    /// What `narrow` says, and where it says nothing, what this says.
    #[must_use]
    pub fn narrowed(&self, narrow: &TrafficPolicy) -> TrafficPolicy {
        fn first<T: Clone>(narrow: &Option<T>, wide: &Option<T>) -> Option<T> {
            narrow.as_ref().or(wide.as_ref()).cloned()
        }
        TrafficPolicy {
            limits: self.limits.narrowed(&narrow.limits),
            outliers: first(&narrow.outliers, &self.outliers),
            balancing: first(&narrow.balancing, &self.balancing),
            locality: first(&narrow.locality, &self.locality),
            retry_budget: first(&narrow.retry_budget, &self.retry_budget),
            session: first(&narrow.session, &self.session),
            tls: first(&narrow.tls, &self.tls),
        }
    }
}

impl ConnectionLimits {
    fn narrowed(&self, narrow: &ConnectionLimits) -> ConnectionLimits {
        ConnectionLimits {
            connections: narrow.connections.or(self.connections),
            pending: narrow.pending.or(self.pending),
            requests: narrow.requests.or(self.requests),
            requests_per_connection: narrow
                .requests_per_connection
                .or(self.requests_per_connection),
            retries: narrow.retries.or(self.retries),
            idle: narrow.idle.or(self.idle),
            connect: narrow.connect.or(self.connect),
            age: narrow.age.or(self.age),
        }
    }
}

/// How much may be under way to one service from this process. None: no bound but those of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections; `tcp.maxConnections`.
    pub connections: Option<u32>,
    /// Requests that wait for one; `http.http1MaxPendingRequests`.
    pub pending: Option<u32>,
    /// Requests under way; `http.http2MaxRequests`.
    pub requests: Option<u32>,
    /// Requests that one connection carries; `http.maxRequestsPerConnection`.
    pub requests_per_connection: Option<u32>,
    /// Retries under way; `http.maxRetries`.
    pub retries: Option<u32>,
    /// How long a connection may have nothing to do; `http.idleTimeout`.
    pub idle: Option<Duration>,
    /// How long a connection may take to open; `tcp.connectTimeout`.
    pub connect: Option<Duration>,
    /// How old a connection may become; `tcp.maxConnectionDuration`.
    pub age: Option<Duration>,
}

/// When an endpoint is ejected: it gets nothing for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// So many answers of 500 and above, one after the other; 0: however many.
    pub consecutive_5xx: u32,
    /// So many answers of 502, 503 and 504, failures to connect and timeouts; 0: however many.
    pub consecutive_gateway: u32,
    /// So many failures to connect and timeouts, which are then counted by themselves; 0: they are not told apart.
    pub consecutive_local: u32,
    /// How often endpoints are let in again and counters looked at.
    pub interval: Duration,
    /// How long the first ejection lasts; the n-th lasts n times as long.
    pub base_ejection: Duration,
    /// No ejection lasts longer.
    pub max_ejection: Duration,
    /// So many percent of the endpoints may be ejected, but always one.
    pub max_percent: u8,
    /// When fewer percent of the endpoints are left, all are used, ejected or not.
    pub min_health_percent: u8,
}

impl Default for OutlierDetection {
    /// Istio's.
    fn default() -> OutlierDetection {
        OutlierDetection {
            consecutive_5xx: 5,
            consecutive_gateway: 0,
            consecutive_local: 0,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            max_percent: 10,
            min_health_percent: 0,
        }
    }
}

/// Who gets the next request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Balancing {
    /// Of two that chance picks, the one with less to do.
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// Whoever chance picks.
    Random,
    /// Requests that are alike go to the same one.
    ConsistentHash(ConsistentHash),
}

/// Which requests are alike, and how they are spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistentHash {
    /// What they have in common.
    pub key: HashKey,
    /// How they are spread.
    pub spread: HashSpread,
}

/// What requests have in common that go to the same endpoint. Without it chance picks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// A header.
    Header(HeaderName),
    /// A cookie; with a lifetime, a client without it is given one.
    Cookie {
        /// Its name.
        name: Arc<str>,
        /// Of the cookie.
        path: Arc<str>,
        /// None: nobody is given one. Zero: until the browser ends.
        lifetime: Option<Duration>,
    },
    /// The client's address.
    SourceIp,
    /// A parameter of the query.
    Query(Arc<str>),
}

/// How hashes are spread over endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashSpread {
    /// Points on a ring, so many at least.
    Ring {
        /// At least.
        points_min: u32,
    },
    /// A table of so many places, a prime.
    Maglev {
        /// Places.
        places: u32,
    },
}

/// Endpoints nearby: Istio's `localityLbSetting`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalityPolicy {
    /// Percent for localities, by that of the client; empty: nearest first.
    pub distribute: Vec<Distribution>,
    /// Which region takes over from which; empty: any.
    pub failover: Vec<(Arc<str>, Arc<str>)>,
}

/// For clients of one place, how much goes where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// `region/zone/subzone`, each part may be `*`.
    pub from: Arc<str>,
    /// Places and their percent, 100 together.
    pub to: Vec<(Arc<str>, u32)>,
}

/// How much may be tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryBudget {
    /// So many percent of the requests of [`RetryBudget::interval`] may be retries.
    pub percent: f64,
    /// What is counted.
    pub interval: Duration,
    /// So many in any case, per [`RetryBudget::floor_interval`].
    pub floor: u32,
    /// In which the floor is granted.
    pub floor_interval: Duration,
}

impl Default for RetryBudget {
    /// The standard's.
    fn default() -> RetryBudget {
        RetryBudget {
            percent: 20.0,
            interval: Duration::from_secs(10),
            floor: 10,
            floor_interval: Duration::from_secs(1),
        }
    }
}

/// A client comes back to its endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPersistence {
    /// What carries the session.
    pub by: SessionCarrier,
    /// How long a session lasts; none: as long as the client keeps it.
    pub absolute: Option<Duration>,
    /// How long a session lasts without a request; none: for ever.
    pub idle: Option<Duration>,
    /// Whose sessions they are: one of another scope is none here, though its name be the same.
    pub scope: u64,
}

/// What carries a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionCarrier {
    /// A cookie.
    Cookie {
        /// Its name.
        name: Arc<str>,
        /// Of the cookie; none: that of the match that a request met, or if a service's policy says it, unsaid.
        path: Option<Arc<str>>,
        /// It outlives the browser; it ends with [`SessionPersistence::absolute`].
        permanent: bool,
    },
    /// A header, of answer and request.
    Header(HeaderName),
}

/// TLS to the endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsOrigination {
    /// By these settings.
    By(Arc<TlsSettings>),
    /// It cannot be had, so that every connection fails. Says why.
    Broken(Arc<str>),
}

/// What a server is told, shown and believed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Sent, and what [`Belief::ServerName`] is about.
    pub server_name: Arc<str>,
    /// Who may sign for it, in PEM.
    pub authorities: Arc<[u8]>,
    /// What those have revoked: their lists, in PEM. None: nothing is held against any.
    pub revoked: Option<Arc<[u8]>>,
    /// By what it is known.
    pub belief: Belief,
    /// PEM of a certificate chain and its key, where the server asks for them.
    pub client: Option<ClientCertificate>,
}

/// By what a server is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Belief {
    /// Its certificate is for the name that is sent.
    ServerName,
    /// It is for one of these instead.
    OneOf(Vec<AlternativeName>),
    /// It is for whatever it is for, but an authority has signed it.
    AnyName,
    /// Whoever answers is believed.
    Anybody,
}

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlternativeName {
    /// `example.com`, `*.example.com`, or an address.
    Host(Arc<str>),
    /// `spiffe://…`
    Uri(Arc<str>),
}

impl AlternativeName {
    /// Reads a name that does not say which of the two it is: of hosts only addresses have a colon.
    pub fn read(text: &str) -> AlternativeName {
        let is_uri = text.contains(':') && text.parse::<std::net::IpAddr>().is_err();
        let kind = if is_uri { AlternativeName::Uri } else { AlternativeName::Host };
        kind(text.into())
    }
}

/// Who we are to a server.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM, leaf first.
    pub chain: Arc<[u8]>,
    /// PEM.
    pub key: Arc<[u8]>,
}

impl std::fmt::Debug for ClientCertificate {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientCertificate({} bytes)", self.chain.len())
    }
}

/// What is spoilt on purpose, before anything is passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPolicy {
    /// Requests wait.
    pub delay: Option<FaultDelay>,
    /// Requests are answered here.
    pub abort: Option<FaultAbort>,
}

/// Requests wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultDelay {
    /// So long.
    pub pause: Duration,
    /// How many.
    pub share: Share,
}

/// Requests are answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultAbort {
    /// With this.
    pub status: StatusCode,
    /// To gRPC requests with this; none: what the status comes to.
    pub grpc_status: Option<u8>,
    /// How many.
    pub share: Share,
}

/// A share of all requests, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// Every request.
    pub const ALL: Share = Share(1_000_000);

    /// Of percents from 0 to 100.
    pub fn of_percent(percent: f64) -> Option<Share> {
        (0.0..=100.0).contains(&percent).then(|| Share((percent * 10_000.0).round() as u32))
    }

    /// Whether a request is of this share, by a number that chance spreads over all of `u64`.
    pub fn takes(self, chance: u64) -> bool {
        // The upper bits times a million, without the bias of a remainder.
        let place = ((u128::from(chance) * 1_000_000) >> 64) as u32;
        place < self.0
    }
}
