//! A policy of ztunnel's local file: who may connect to whom, as a control plane would send it.

use ringway_engine::snapshot::{
    AuthorizationPolicy, PolicyAction, PolicyClause, PolicyMatch, PolicyRule, PolicyScope,
    ServiceAccountMatch, TextMatch,
};

use super::LocalObjects;
use crate::source::diagnostics::suggest::did_you_mean;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::security::range;
use crate::source::yaml::fields::{Fields, expected, list, mapping};
use crate::source::yaml::scalars::{boolean, nonempty, port, word};
use crate::source::yaml::value::{Content, Value, shortened};

pub(crate) fn policy(value: &Value, local: &mut LocalObjects, reporter: &mut Reporter) {
    let policy = mapping("policies[]", value, reporter, |fields| {
        let place = fields.value_place("name");
        read(fields).map(|policy| (place, policy))
    });
    local.policies.extend(policy.flatten());
}

fn read(fields: &mut Fields<'_, '_>) -> Option<AuthorizationPolicy> {
    const SCOPES: &[(&str, PolicyScope)] = &[
        ("Global", PolicyScope::Global),
        ("Namespace", PolicyScope::Namespace),
        ("WorkloadSelector", PolicyScope::WorkloadSelector),
    ];
    const ACTIONS: &[(&str, PolicyAction)] =
        &[("Allow", PolicyAction::Allow), ("Deny", PolicyAction::Deny)];
    let name = fields.required("name", nonempty);
    let namespace = fields.required("namespace", nonempty);
    let scope = fields.required("scope", word(SCOPES));
    let action = fields.required("action", word(ACTIONS));
    let dry_run = fields.required("dryRun", boolean);
    let rules = fields.required("rules", |value, reporter| list(value, reporter, rule));
    Some(AuthorizationPolicy {
        name: name?.into(),
        namespace: namespace?.into(),
        scope: scope?,
        action: action?,
        rules: rules?,
        dry_run: dry_run?,
    })
}

fn rule(value: &Value, reporter: &mut Reporter) -> Option<PolicyRule> {
    Some(PolicyRule { clauses: list(value, reporter, clause)? })
}

fn clause(value: &Value, reporter: &mut Reporter) -> Option<PolicyClause> {
    Some(PolicyClause { matches: list(value, reporter, policy_match)? })
}

fn policy_match(value: &Value, reporter: &mut Reporter) -> Option<PolicyMatch> {
    mapping("matches[]", value, reporter, |fields| PolicyMatch {
        namespaces: entries("namespaces", text_match, fields),
        not_namespaces: entries("notNamespaces", text_match, fields),
        principals: entries("principals", text_match, fields),
        not_principals: entries("notPrincipals", text_match, fields),
        service_accounts: entries("serviceAccounts", service_account, fields),
        not_service_accounts: entries("notServiceAccounts", service_account, fields),
        source_ips: entries("sourceIps", range, fields),
        not_source_ips: entries("notSourceIps", range, fields),
        destination_ips: entries("destinationIps", range, fields),
        not_destination_ips: entries("notDestinationIps", range, fields),
        destination_ports: entries("destinationPorts", port, fields),
        not_destination_ports: entries("notDestinationPorts", port, fields),
    })
}

fn entries<T>(
    key: &'static str,
    read: fn(&Value, &mut Reporter) -> Option<T>,
    fields: &mut Fields<'_, '_>,
) -> Vec<T> {
    fields.must_not_be_null(key, "leave the key out if no condition is meant");
    let entries = fields.optional(key, |value, reporter| list(value, reporter, read));
    entries.unwrap_or_default()
}

fn service_account(value: &Value, reporter: &mut Reporter) -> Option<ServiceAccountMatch> {
    mapping("serviceAccounts[]", value, reporter, |fields| {
        let namespace = fields.required("namespace", nonempty);
        let service_account = fields.required("serviceAccount", nonempty);
        Some(ServiceAccountMatch {
            namespace: namespace?.into(),
            service_account: service_account?.into(),
        })
    })?
}

const MATCHES: [&str; 4] = ["Exact", "Prefix", "Suffix", "Presence"];

/// `!Exact text`, or, where a file has no tags because it is JSON, `{Exact: text}`.
fn text_match(value: &Value, reporter: &mut Reporter) -> Option<TextMatch> {
    let (how, value) = match (&value.tag, &value.content) {
        (Some(tag), _) => (&**tag, value),
        (None, Content::Mapping(entries)) if entries.len() == 1 => {
            (&*entries[0].0.text, &entries[0].1)
        }
        (None, _) => {
            let message =
                format!("expected a tag that says how to compare, found {}", value.found());
            let help =
                value.text().map(|text| format!("write for example `!Exact {}`", shortened(text)));
            reporter.report(Problem::error(value.place, message).help(help));
            return None;
        }
    };
    let text = value.text().map(Box::from);
    match (how, text) {
        ("Presence", _) => Some(TextMatch::Presence),
        ("Exact", Some(text)) => Some(TextMatch::Exact(text)),
        ("Prefix", Some(text)) => Some(TextMatch::Prefix(text)),
        ("Suffix", Some(text)) => Some(TextMatch::Suffix(text)),
        (how, None) if MATCHES.contains(&how) => {
            expected("text", value, reporter);
            None
        }
        (how, _) => {
            let message = format!("`{how}` is no way to compare text");
            let help = did_you_mean(how, MATCHES);
            reporter.report(Problem::error(value.place, message).help(help));
            None
        }
    }
}
