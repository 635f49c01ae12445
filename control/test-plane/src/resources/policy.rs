//! Policies as resources.

use ringway_control::proto::security as wire;
use ringway_engine::snapshot::{
    AuthorizationPolicy, Cidr, PolicyAction, PolicyMatch, PolicyScope, ServiceAccountMatch,
    TextMatch,
};

use super::{AUTHORIZATION, Resource, octets};

/// A policy.
pub(crate) fn policy(policy: &AuthorizationPolicy) -> Resource {
    let scope = match policy.scope {
        PolicyScope::Global => wire::Scope::Global,
        PolicyScope::Namespace => wire::Scope::Namespace,
        PolicyScope::WorkloadSelector => wire::Scope::WorkloadSelector,
    };
    let action = match policy.action {
        PolicyAction::Allow => wire::Action::Allow,
        PolicyAction::Deny => wire::Action::Deny,
    };
    let rules = policy.rules.iter().map(|rule| {
        let clauses = rule
            .clauses
            .iter()
            .map(|clause| wire::Clause { matches: clause.matches.iter().map(one_match).collect() });
        wire::Rule { clauses: clauses.collect() }
    });
    let message = wire::Authorization {
        name: policy.name.to_string(),
        namespace: policy.namespace.to_string(),
        scope: scope.into(),
        action: action.into(),
        rules: rules.collect(),
        dry_run: policy.dry_run,
        extensions: Vec::new(),
    };
    let name = format!("{}/{}", policy.namespace, policy.name);
    Resource::of(name, Vec::new(), AUTHORIZATION, &message)
}

fn one_match(one: &PolicyMatch) -> wire::Match {
    wire::Match {
        namespaces: texts(&one.namespaces),
        not_namespaces: texts(&one.not_namespaces),
        principals: texts(&one.principals),
        not_principals: texts(&one.not_principals),
        source_ips: ranges(&one.source_ips),
        not_source_ips: ranges(&one.not_source_ips),
        destination_ips: ranges(&one.destination_ips),
        not_destination_ips: ranges(&one.not_destination_ips),
        destination_ports: ports(&one.destination_ports),
        not_destination_ports: ports(&one.not_destination_ports),
        service_accounts: accounts(&one.service_accounts),
        not_service_accounts: accounts(&one.not_service_accounts),
        extensions: Vec::new(),
    }
}

fn texts(texts: &[TextMatch]) -> Vec<wire::StringMatch> {
    let of = |text: &TextMatch| match text {
        TextMatch::Exact(text) => wire::string_match::MatchType::Exact(text.to_string()),
        TextMatch::Prefix(text) => wire::string_match::MatchType::Prefix(text.to_string()),
        TextMatch::Suffix(text) => wire::string_match::MatchType::Suffix(text.to_string()),
        TextMatch::Presence => wire::string_match::MatchType::Presence(()),
    };
    texts.iter().map(|text| wire::StringMatch { match_type: Some(of(text)) }).collect()
}

fn ranges(ranges: &[Cidr]) -> Vec<wire::Address> {
    let of = |range: &Cidr| wire::Address {
        address: octets(range.first()),
        length: range.length().into(),
    };
    ranges.iter().map(of).collect()
}

fn ports(ports: &[u16]) -> Vec<u32> {
    ports.iter().copied().map(u32::from).collect()
}

fn accounts(accounts: &[ServiceAccountMatch]) -> Vec<wire::ServiceAccountMatch> {
    let of = |account: &ServiceAccountMatch| wire::ServiceAccountMatch {
        namespace: account.namespace.to_string(),
        service_account: account.service_account.to_string(),
    };
    accounts.iter().map(of).collect()
}
