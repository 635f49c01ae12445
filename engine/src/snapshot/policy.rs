//! Authorization policies as they are told to us, all plain fields: who may connect to a workload.
//!
//! What Istio's `AuthorizationPolicy` and `PeerAuthentication` say is compiled into this form, which its control
//! plane sends as `istio.security.Authorization` (spec node-proxy §5.5, §6.5).

use super::address::Cidr;

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// Its name.
    pub name: Box<str>,
    /// Its namespace.
    pub namespace: Box<str>,
    /// Which workloads it is for.
    pub scope: PolicyScope,
    /// What happens to a connection that matches.
    pub action: PolicyAction,
    /// A connection matches when any rule does; with none it never matches.
    pub rules: Vec<PolicyRule>,
    /// It decides nothing; what it would have decided is told.
    pub dry_run: bool,
}

/// Which workloads a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyScope {
    /// All.
    Global,
    /// Those of its namespace.
    Namespace,
    /// Those that name it.
    WorkloadSelector,
}

/// What happens to a connection that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyAction {
    /// It is let through; any other is not.
    Allow,
    /// It is refused.
    Deny,
}

/// Clauses that must all match; with none, everything does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyRule {
    /// The clauses.
    pub clauses: Vec<PolicyClause>,
}

/// Alternatives of which one must match; with none, everything does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyClause {
    /// The alternatives.
    pub matches: Vec<PolicyMatch>,
}

/// Conditions that must all hold: of each list one entry, of each `not_` list none. One without any entry never
/// matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyMatch {
    /// The namespace of the client's identity, empty without one.
    pub namespaces: Vec<TextMatch>,
    /// The namespace of the client's identity, empty without one.
    pub not_namespaces: Vec<TextMatch>,
    /// The client's identity without `spiffe://`; without one, none of these holds.
    pub principals: Vec<TextMatch>,
    /// The client's identity without `spiffe://`; without one, none of these holds.
    pub not_principals: Vec<TextMatch>,
    /// The service account of the client's identity, whatever its trust domain.
    pub service_accounts: Vec<ServiceAccountMatch>,
    /// The service account of the client's identity, whatever its trust domain.
    pub not_service_accounts: Vec<ServiceAccountMatch>,
    /// The client's address.
    pub source_ips: Vec<Cidr>,
    /// The client's address.
    pub not_source_ips: Vec<Cidr>,
    /// The address that is connected to.
    pub destination_ips: Vec<Cidr>,
    /// The address that is connected to.
    pub not_destination_ips: Vec<Cidr>,
    /// The port that is connected to.
    pub destination_ports: Vec<u16>,
    /// The port that is connected to.
    pub not_destination_ports: Vec<u16>,
}

/// How a text must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextMatch {
    /// This.
    Exact(Box<str>),
    /// Beginning with this.
    Prefix(Box<str>),
    /// Ending in this.
    Suffix(Box<str>),
    /// Not empty.
    Presence,
}

/// A service account of any trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccountMatch {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub service_account: Box<str>,
}
