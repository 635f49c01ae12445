//! Authorization policies. An entry that is not understood refuses the whole policy: it is never left out.

use ringway_engine::snapshot::{
    AuthorizationPolicy, Cidr, PolicyAction, PolicyClause, PolicyMatch, PolicyRule, PolicyScope,
    ServiceAccountMatch, TextMatch,
};

use super::Rejection;
use super::values::{bits, ip, nonempty, port, value};
use crate::proto::security as told;
use crate::proto::security::string_match::MatchType;

pub(super) fn read(policy: told::Authorization) -> Result<AuthorizationPolicy, Rejection> {
    const SCOPES: &[PolicyScope] =
        &[PolicyScope::Global, PolicyScope::Namespace, PolicyScope::WorkloadSelector];
    const ACTIONS: &[PolicyAction] = &[PolicyAction::Allow, PolicyAction::Deny];
    Ok(AuthorizationPolicy {
        name: nonempty("name", policy.name)?.into(),
        namespace: nonempty("namespace", policy.namespace)?.into(),
        scope: value("scope", policy.scope, SCOPES)?,
        action: value("action", policy.action, ACTIONS)?,
        rules: each(policy.rules, rule)?,
        dry_run: policy.dry_run,
    })
}

fn rule(rule: told::Rule) -> Result<PolicyRule, Rejection> {
    Ok(PolicyRule { clauses: each(rule.clauses, clause)? })
}

fn clause(clause: told::Clause) -> Result<PolicyClause, Rejection> {
    Ok(PolicyClause { matches: each(clause.matches, policy_match)? })
}

fn policy_match(one: told::Match) -> Result<PolicyMatch, Rejection> {
    let source = |address| range("source_ips", address);
    let destination = |address| range("destination_ips", address);
    let port = |number| port("destination_ports", number);
    Ok(PolicyMatch {
        namespaces: each(one.namespaces, text)?,
        not_namespaces: each(one.not_namespaces, text)?,
        principals: each(one.principals, text)?,
        not_principals: each(one.not_principals, text)?,
        service_accounts: each(one.service_accounts, service_account)?,
        not_service_accounts: each(one.not_service_accounts, service_account)?,
        source_ips: each(one.source_ips, source)?,
        not_source_ips: each(one.not_source_ips, source)?,
        destination_ips: each(one.destination_ips, destination)?,
        not_destination_ips: each(one.not_destination_ips, destination)?,
        destination_ports: each(one.destination_ports, port)?,
        not_destination_ports: each(one.not_destination_ports, port)?,
    })
}

fn each<T, U>(list: Vec<T>, read: impl Fn(T) -> Result<U, Rejection>) -> Result<Vec<U>, Rejection> {
    list.into_iter().map(read).collect()
}

fn text(text: told::StringMatch) -> Result<TextMatch, Rejection> {
    match text.match_type {
        Some(MatchType::Exact(text)) => Ok(TextMatch::Exact(text.into())),
        Some(MatchType::Prefix(text)) => Ok(TextMatch::Prefix(text.into())),
        Some(MatchType::Suffix(text)) => Ok(TextMatch::Suffix(text.into())),
        Some(MatchType::Presence(())) => Ok(TextMatch::Presence),
        None => Err(Rejection::Missing("match_type")),
    }
}

fn service_account(told: told::ServiceAccountMatch) -> Result<ServiceAccountMatch, Rejection> {
    Ok(ServiceAccountMatch {
        namespace: told.namespace.into(),
        service_account: told.service_account.into(),
    })
}

/// Clients' addresses are never IPv4 addresses mapped into IPv6, so ranges of them must not be either.
fn range(field: &'static str, address: told::Address) -> Result<Cidr, Rejection> {
    let ip = ip(field, &address.address)?;
    let range = Cidr::new(ip, bits(field, address.length)?);
    range.map(Cidr::canonical).ok_or(Rejection::RangeLength(field, address.length))
}
