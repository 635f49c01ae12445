//! Who may do what, who they prove to be, and how often: policies, and what they are attached to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use ipnet::IpNet;

use super::ServiceName;
use super::backend::Backend;
use super::route::RouteName;

/// The name of a policy's document. Of two kinds of document both may have the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a policy is attached to: a `targetRef` with its namespace, its port and its hosts resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// Every waypoint of the mesh: a GatewayClass, named from the root namespace.
    Class,
    /// What comes by a Gateway.
    Gateway {
        /// Its namespace.
        namespace: Arc<str>,
        /// Its name.
        name: Arc<str>,
        /// One of its listeners; none: all.
        listener: Option<Arc<str>>,
    },
    /// What is addressed to a service: a Service, or a host of a ServiceEntry.
    Service {
        /// Which.
        service: ServiceName,
        /// One of its ports; none: all.
        port: Option<u16>,
    },
    /// What a route is found for.
    Route {
        /// Which.
        route: RouteName,
        /// One of its named rules; none: all.
        rule: Option<Arc<str>>,
    },
}

/// A policy with its name and what it is attached to. Without a target it has no effect.
#[derive(Clone, Debug)]
pub struct Attached<P> {
    /// Of its document.
    pub name: PolicyName,
    /// Any of them.
    pub targets: Vec<Target>,
    /// What it says.
    pub policy: P,
}

/// Values of which one must be met, and values of which none may be; an empty list asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted<T> {
    /// One of them.
    pub any: Vec<T>,
    /// None of them. What is not there at all is none of them.
    pub none: Vec<T>,
}

impl<T> Default for Wanted<T> {
    fn default() -> Wanted<T> {
        Wanted { any: Vec::new(), none: Vec::new() }
    }
}

impl<T> Wanted<T> {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.any.is_empty() && self.none.is_empty()
    }
}

/// How a text must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextMatch {
    /// This.
    Exact(Arc<str>),
    /// Beginning with this.
    Prefix(Arc<str>),
    /// Ending in this.
    Suffix(Arc<str>),
    /// Not empty.
    Presence,
}

impl TextMatch {
    /// Whether a text is so.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            TextMatch::Exact(exact) => *text == **exact,
            TextMatch::Prefix(prefix) => text.starts_with(&**prefix),
            TextMatch::Suffix(suffix) => text.ends_with(&**suffix),
            TextMatch::Presence => !text.is_empty(),
        }
    }
}

/// Who may do what: Istio's AuthorizationPolicy at a waypoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// What becomes of a request that matches.
    pub action: Action,
    /// A request matches when any rule does; with none it never matches.
    pub rules: Vec<AuthorizationRule>,
    /// It decides nothing; what it would have decided is told.
    pub dry_run: bool,
}

/// What becomes of a request that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It may pass; if any policy allows, any other request may not.
    Allow,
    /// It is refused.
    Deny,
    /// It is told of; nothing is decided.
    Audit,
    /// This provider is asked, by its name in [`Policies::providers`].
    Custom(Arc<str>),
}

/// One of `from`, one of `to`, and all of `when`; each holds when it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationRule {
    /// Who asks.
    pub from: Vec<Source>,
    /// What for.
    pub to: Vec<Operation>,
    /// Under which conditions.
    pub when: Vec<Condition>,
}

/// Who asks; everything that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The identity that the client's certificate proves, without `spiffe://`.
    pub principals: Wanted<TextMatch>,
    /// Its namespace.
    pub namespaces: Wanted<TextMatch>,
    /// Its service account, whatever its trust domain.
    pub service_accounts: Wanted<ServiceAccount>,
    /// Its trust domain.
    pub trust_domains: Wanted<TextMatch>,
    /// `issuer/subject` of the token.
    pub request_principals: Wanted<TextMatch>,
    /// The client's own address.
    pub ips: Wanted<IpNet>,
    /// The address that trusted proxies before us say the client has.
    pub remote_ips: Wanted<IpNet>,
}

/// A service account of any trust domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// What is asked for; everything that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// The authority, whatever its case; it is compared as it is and without its port.
    pub hosts: Wanted<TextMatch>,
    /// The service's port.
    pub ports: Wanted<u16>,
    /// As they are.
    pub methods: Wanted<TextMatch>,
    /// The canonical path, without query.
    pub paths: Wanted<PathPattern>,
}

/// How a path must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// As a text.
    Text(TextMatch),
    /// Elements, some of them `{*}`, for any one, and the last of them perhaps `{**}`, for whatever is there.
    Template(Arc<str>),
}

/// A condition: an attribute and what it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `request.headers[name]`; several of one name are joined with a comma.
    Header(HeaderName, Wanted<TextMatch>),
    /// `source.ip`.
    SourceIp(Wanted<IpNet>),
    /// `remote.ip`.
    RemoteIp(Wanted<IpNet>),
    /// `source.namespace`.
    SourceNamespace(Wanted<TextMatch>),
    /// `source.principal`.
    SourcePrincipal(Wanted<TextMatch>),
    /// `source.serviceAccount`.
    SourceServiceAccount(Wanted<ServiceAccount>),
    /// `source.trustDomain`.
    SourceTrustDomain(Wanted<TextMatch>),
    /// `request.auth.principal`.
    RequestPrincipal(Wanted<TextMatch>),
    /// `request.auth.audiences`: any of them.
    Audience(Wanted<TextMatch>),
    /// `request.auth.presenter`: the claim `azp`.
    Presenter(Wanted<TextMatch>),
    /// `request.auth.claims[a][b]`: a text, a number or a boolean as text, or any element of a list.
    Claim(Vec<Arc<str>>, Wanted<TextMatch>),
    /// `destination.ip`.
    DestinationIp(Wanted<IpNet>),
    /// `destination.port`.
    DestinationPort(Wanted<u16>),
    /// `connection.sni`.
    Sni(Wanted<TextMatch>),
}

/// Which tokens are believed: Istio's RequestAuthentication. A request without any passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestAuthentication {
    /// The rules; a token must hold before the one of its issuer.
    pub rules: Vec<JwtRule>,
}

/// Tokens of one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtRule {
    /// The claim `iss`.
    pub issuer: Arc<str>,
    /// One of them must be in `aud`; empty: whatever it says.
    pub audiences: Vec<Arc<str>>,
    /// What its signatures are checked with.
    pub keys: Keys,
    /// Where the token stands. All empty: `authorization: Bearer`, then the parameter `access_token`.
    pub from_headers: Vec<TokenHeader>,
    /// Parameters of the query.
    pub from_params: Vec<Arc<str>>,
    /// Cookies.
    pub from_cookies: Vec<Arc<str>>,
    /// Gets the claims as they were signed, in base64url.
    pub output_payload: Option<HeaderName>,
    /// Headers that get claims; a claim that is not there, or is no text, number or boolean, removes the header.
    pub output_claims: Vec<(HeaderName, Vec<Arc<str>>)>,
    /// The token goes on to the service; else it is taken out.
    pub forward: bool,
}

/// What signatures are checked with: a JSON Web Key Set (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// As it stands in the document.
    Inline(Arc<str>),
    /// From elsewhere; control fetches it, and tells it here as it has it. Without text no token of this issuer is believed.
    Fetched {
        /// Where from.
        from: KeySource,
        /// How long that may take.
        timeout: Duration,
        /// What was there.
        text: Option<Arc<str>>,
    },
}

/// Where a key set is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeySource {
    /// `http:`, `https:` or `file:`.
    Url(Arc<str>),
    /// Where the configuration of this issuer says (OpenID Connect Discovery 1.0 §4).
    Issuer(Arc<str>),
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::Url(url) => f.write_str(url),
            KeySource::Issuer(issuer) => write!(f, "the configuration of {issuer}"),
        }
    }
}

/// A header with a token in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenHeader {
    /// Its name.
    pub name: HeaderName,
    /// What stands before the token.
    pub prefix: Arc<str>,
}

/// How often: limits of this process, and limits that a service keeps for many. The local ones are asked first.
#[derive(Clone, Debug, Default)]
pub struct RateLimitPolicy {
    /// Kept here, in order; all of them are asked.
    pub local: Vec<LocalRateLimit>,
    /// Kept elsewhere.
    pub global: Option<GlobalRateLimit>,
}

/// A token bucket for each value of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalRateLimit {
    /// What is told apart; empty: nothing, there is one bucket.
    pub key: Vec<Descriptor>,
    /// Requests at once.
    pub burst: u32,
    /// Requests per [`LocalRateLimit::interval`].
    pub requests: u32,
    /// In which the requests come back.
    pub interval: Duration,
}

/// What the Envoy rate limit service is asked.
#[derive(Clone, Debug)]
pub struct GlobalRateLimit {
    /// Who is asked.
    pub service: Backend,
    /// Which of the service's configurations.
    pub domain: Arc<str>,
    /// Each a list of entries; all that can be filled in are asked at once, and one over its limit is enough.
    pub descriptors: Vec<Vec<Descriptor>>,
    /// How long the answer may take.
    pub timeout: Duration,
    /// Without an answer requests pass.
    pub fail_open: bool,
}

/// An entry of a key: what it is called and what of a request it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its name.
    pub name: Arc<str>,
    /// Its value.
    pub value: DescriptorValue,
}

/// What of a request is told apart. Where it is not there, the limit does not apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DescriptorValue {
    /// Always this.
    Constant(Arc<str>),
    /// A header.
    Header(HeaderName),
    /// The canonical path, without query.
    Path,
    /// The path, if it is so.
    PathIs(PathPattern),
    /// The method.
    Method,
    /// The authority, without port, in lower case.
    Host,
    /// The client's identity.
    SourceIdentity,
    /// Its namespace.
    SourceNamespace,
    /// The client's address.
    SourceIp,
    /// A claim of the token.
    Claim(Vec<Arc<str>>),
}

/// An external authorizer, which policies name.
#[derive(Clone, Debug)]
pub struct AuthorizationProvider {
    /// Its name.
    pub name: Arc<str>,
    /// Who is asked.
    pub service: Backend,
    /// How it is asked.
    pub protocol: AuthorizationProtocol,
    /// How long the answer may take.
    pub timeout: Duration,
    /// Without an answer requests pass.
    pub fail_open: bool,
    /// The status of a request that is refused because there is no answer.
    pub status_on_error: StatusCode,
    /// The request's body is sent along, up to a bound.
    pub body: Option<AuthorizationBody>,
}

/// How an external authorizer is asked.
#[derive(Clone, Debug)]
pub enum AuthorizationProtocol {
    /// `envoy.service.auth.v3.Authorization/Check`.
    Grpc,
    /// A request like the one that is asked about.
    Http(HttpAuthorization),
}

/// What of a request an external authorizer gets by HTTP, and what of its answer goes where. Names are in lower case.
#[derive(Clone, Debug, Default)]
pub struct HttpAuthorization {
    /// Stands before the request's path.
    pub path_prefix: Arc<str>,
    /// Headers of the request that are sent, beside `authorization` and the host.
    pub include: Vec<TextMatch>,
    /// Headers that are sent in any case.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Headers of an answer that allows which the request gets.
    pub upstream: Vec<TextMatch>,
    /// Headers of an answer that allows which the client gets.
    pub downstream_on_allow: Vec<TextMatch>,
    /// Headers of an answer that refuses which the client gets; empty: all.
    pub downstream_on_deny: Vec<TextMatch>,
}

/// How much of a body an external authorizer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthorizationBody {
    /// So much at most.
    pub bytes_max: u32,
    /// Of a longer body its beginning is sent; else the request is refused.
    pub allow_partial: bool,
    /// By gRPC, as bytes even where it is text.
    pub as_bytes: bool,
}

/// A service that is asked about every request of what it is attached to.
#[derive(Clone, Debug)]
pub struct ExternalAuthorization {
    /// Its name in [`Policies::providers`].
    pub provider: Arc<str>,
}

/// All policies, and what they name.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// Who may do what.
    pub authorizations: Vec<Attached<AuthorizationPolicy>>,
    /// Which tokens are believed.
    pub authentications: Vec<Attached<RequestAuthentication>>,
    /// How requests are passed on.
    pub traffic: Vec<Attached<super::traffic::TrafficPolicy>>,
    /// What is spoilt on purpose.
    pub faults: Vec<Attached<super::traffic::FaultPolicy>>,
    /// How often.
    pub rate_limits: Vec<Attached<RateLimitPolicy>>,
    /// Who else is asked.
    pub external: Vec<Attached<ExternalAuthorization>>,
    /// Whom AuthorizationPolicies with the action CUSTOM and [`ExternalAuthorization`] name.
    pub providers: Vec<AuthorizationProvider>,
}
