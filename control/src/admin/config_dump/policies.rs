//! Policies in a dump: rules as lists of clauses, clauses as lists of matches, texts as `{"Exact": "…"}`.

use ringway_engine::snapshot::{
    AuthorizationPolicy, Cidr, PolicyAction, PolicyMatch, PolicyScope, ServiceAccountMatch,
    TextMatch,
};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PolicyView<'a> {
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
    scope: &'static str,
    action: &'static str,
    rules: Vec<Vec<Vec<MatchView<'a>>>>,
    dry_run: bool,
}

impl<'a> PolicyView<'a> {
    pub(super) fn of(policy: &'a AuthorizationPolicy) -> Self {
        let rules = policy.rules.iter().map(|rule| {
            let clauses = rule.clauses.iter();
            clauses.map(|clause| clause.matches.iter().map(MatchView::of).collect()).collect()
        });
        Self {
            name: &policy.name,
            namespace: &policy.namespace,
            scope: match policy.scope {
                PolicyScope::Global => "Global",
                PolicyScope::Namespace => "Namespace",
                PolicyScope::WorkloadSelector => "WorkloadSelector",
            },
            action: match policy.action {
                PolicyAction::Allow => "Allow",
                PolicyAction::Deny => "Deny",
            },
            rules: rules.collect(),
            dry_run: policy.dry_run,
        }
    }
}

/// What is empty is left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MatchView<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    namespaces: Vec<TextView<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_namespaces: Vec<TextView<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    principals: Vec<TextView<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_principals: Vec<TextView<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    service_accounts: Vec<ServiceAccountView<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_service_accounts: Vec<ServiceAccountView<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    source_ips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_source_ips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    destination_ips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_destination_ips: Vec<String>,
    #[serde(skip_serializing_if = "<[u16]>::is_empty")]
    destination_ports: &'a [u16],
    #[serde(skip_serializing_if = "<[u16]>::is_empty")]
    not_destination_ports: &'a [u16],
}

impl<'a> MatchView<'a> {
    fn of(one: &'a PolicyMatch) -> Self {
        let texts = |texts: &'a [TextMatch]| texts.iter().map(TextView::of).collect();
        let accounts = |accounts: &'a [ServiceAccountMatch]| {
            accounts.iter().map(ServiceAccountView::of).collect()
        };
        let ranges = |ranges: &[Cidr]| ranges.iter().map(Cidr::to_string).collect();
        Self {
            namespaces: texts(&one.namespaces),
            not_namespaces: texts(&one.not_namespaces),
            principals: texts(&one.principals),
            not_principals: texts(&one.not_principals),
            service_accounts: accounts(&one.service_accounts),
            not_service_accounts: accounts(&one.not_service_accounts),
            source_ips: ranges(&one.source_ips),
            not_source_ips: ranges(&one.not_source_ips),
            destination_ips: ranges(&one.destination_ips),
            not_destination_ips: ranges(&one.not_destination_ips),
            destination_ports: &one.destination_ports,
            not_destination_ports: &one.not_destination_ports,
        }
    }
}

/// An object with one key.
#[derive(Serialize)]
enum TextView<'a> {
    Exact(&'a str),
    Prefix(&'a str),
    Suffix(&'a str),
    Presence([(); 0]),
}

impl<'a> TextView<'a> {
    fn of(text: &'a TextMatch) -> Self {
        match text {
            TextMatch::Exact(text) => Self::Exact(text),
            TextMatch::Prefix(text) => Self::Prefix(text),
            TextMatch::Suffix(text) => Self::Suffix(text),
            TextMatch::Presence => Self::Presence([]),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceAccountView<'a> {
    namespace: &'a str,
    service_account: &'a str,
}

impl<'a> ServiceAccountView<'a> {
    fn of(account: &'a ServiceAccountMatch) -> Self {
        Self { namespace: &account.namespace, service_account: &account.service_account }
    }
}
