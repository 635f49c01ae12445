//! `rules[]`: who (`from`), to what (`to`), under which conditions (`when`).
//!
//! A rule becomes a list of clauses that must all hold. What of it needs L7 is noted: an ALLOW rule with any of it never
//! matches at L4, so nobody is let in by mistake; a DENY rule is judged without it, so it denies more.

use ringway_engine::snapshot::{PolicyAction, PolicyClause, PolicyMatch, PolicyRule};

use super::values::{address, anything, pattern, port, principal, service_account};
use crate::source::diagnostics::suggest::did_you_mean;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::nonempty;
use crate::source::yaml::value::{Value, shortened};

/// The rules of a policy.
pub(super) fn rules(
    value: &Value,
    action: PolicyAction,
    namespace: &str,
    reporter: &mut Reporter,
) -> Option<Vec<PolicyRule>> {
    list(value, reporter, |value, reporter| {
        let mut reading = Reading { namespace, application: Vec::new() };
        let rule = reading.rule(value, reporter)?;
        match reading.report(action, &rule, reporter) {
            Matches::AtL4 => Some(rule),
            Matches::Never => Some(never()),
        }
    })
}

/// Keeps the place of a rule, so that the others keep their numbers: a match without any entry never matches.
fn never() -> PolicyRule {
    PolicyRule { clauses: vec![PolicyClause { matches: vec![PolicyMatch::default()] }] }
}

enum Matches {
    AtL4,
    Never,
}

/// A rule that is being read.
struct Reading<'p> {
    /// Of the policy.
    namespace: &'p str,
    /// What needs L7.
    application: Vec<(Box<str>, Place)>,
}

/// Reads one entry of a list.
pub(crate) type Entry<'r, T> = &'r dyn Fn(&Value, &mut Reporter) -> Option<T>;

impl Reading<'_> {
    fn rule(&mut self, value: &Value, reporter: &mut Reporter) -> Option<PolicyRule> {
        mapping("rules[]", value, reporter, |fields| {
            let from = alternatives("from", "source", fields, |value, reporter| {
                self.source(value, reporter)
            });
            let to = alternatives("to", "operation", fields, |value, reporter| {
                self.operation(value, reporter)
            });
            let mut clauses: Vec<PolicyClause> = [from, to].into_iter().flatten().collect();
            let when = elements("when", fields, |value, reporter| self.condition(value, reporter));
            clauses.extend(when.into_iter().flatten().filter_map(|one| clause(vec![one])));
            PolicyRule { clauses }
        })
    }

    fn source(&mut self, value: &Value, reporter: &mut Reporter) -> Option<PolicyMatch> {
        const APPLICATION: [&str; 4] =
            ["requestPrincipals", "notRequestPrincipals", "remoteIpBlocks", "notRemoteIpBlocks"];
        let namespace = self.namespace;
        let account = move |value: &Value, reporter: &mut Reporter| {
            service_account(value, namespace, reporter)
        };
        let account: Entry<'_, _> = &account;
        self.alternative("source", &APPLICATION, value, reporter, |fields| {
            report_two_ways_to_name_accounts(fields);
            PolicyMatch {
                principals: entries("principals", &principal, fields),
                not_principals: entries("notPrincipals", &principal, fields),
                namespaces: entries("namespaces", &pattern, fields),
                not_namespaces: entries("notNamespaces", &pattern, fields),
                service_accounts: entries("serviceAccounts", account, fields),
                not_service_accounts: entries("notServiceAccounts", account, fields),
                source_ips: entries("ipBlocks", &address, fields),
                not_source_ips: entries("notIpBlocks", &address, fields),
                ..PolicyMatch::default()
            }
        })
    }

    fn operation(&mut self, value: &Value, reporter: &mut Reporter) -> Option<PolicyMatch> {
        const APPLICATION: [&str; 6] =
            ["hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"];
        self.alternative("operation", &APPLICATION, value, reporter, |fields| PolicyMatch {
            destination_ports: entries("ports", &port, fields),
            not_destination_ports: entries("notPorts", &port, fields),
            ..PolicyMatch::default()
        })
    }

    /// Nothing at all is no alternative; nothing but L7 is one that always holds at L4.
    fn alternative<'v>(
        &mut self,
        what: &'static str,
        application: &[&'static str],
        value: &'v Value,
        reporter: &mut Reporter,
        read: impl FnOnce(&mut Fields<'v, '_>) -> PolicyMatch,
    ) -> Option<PolicyMatch> {
        let errors = reporter.errors();
        let (read, application) = mapping(what, value, reporter, |fields| {
            (read(fields), application_keys(application, fields))
        })?;
        let says_nothing = read == PolicyMatch::default() && application.is_empty();
        if says_nothing && reporter.errors() == errors {
            let help = "leave it out to mean any".to_owned();
            reporter.report(
                Problem::error(value.place, format!("this {what} says nothing")).help(help),
            );
        }
        self.application.extend(application);
        Some(read)
    }

    fn condition(&mut self, value: &Value, reporter: &mut Reporter) -> Option<PolicyMatch> {
        let namespace = self.namespace;
        mapping("when[]", value, reporter, |fields| {
            fields.ignore(&["values", "notValues"]);
            let place = fields.value_place("key");
            let key = fields.required("key", nonempty)?;
            let mut read = PolicyMatch::default();
            match key {
                "source.ip" => (read.source_ips, read.not_source_ips) = values(&address, fields),
                "source.namespace" => {
                    (read.namespaces, read.not_namespaces) = values(&pattern, fields);
                }
                "source.principal" => {
                    (read.principals, read.not_principals) = values(&principal, fields);
                }
                "source.serviceAccount" => {
                    let account = |value: &Value, reporter: &mut Reporter| {
                        service_account(value, namespace, reporter)
                    };
                    (read.service_accounts, read.not_service_accounts) = values(&account, fields);
                }
                "destination.ip" => {
                    (read.destination_ips, read.not_destination_ips) = values(&address, fields);
                }
                "destination.port" => {
                    (read.destination_ports, read.not_destination_ports) = values(&port, fields);
                }
                _ => {
                    values(&anything, fields);
                    match needs_application(key) {
                        true => self.application.push((key.into(), place)),
                        false => report_unknown_key(key, place, fields.reporter),
                    }
                }
            }
            if fields.value("values").is_none() && fields.value("notValues").is_none() {
                let message = "this condition has neither `values` nor `notValues`";
                fields.reporter.report(Problem::error(place, message));
            }
            Some(read)
        })?
    }

    /// Says what becomes of a rule that needs L7.
    fn report(&self, action: PolicyAction, rule: &PolicyRule, reporter: &mut Reporter) -> Matches {
        let Some((_, place)) = self.application.first() else { return Matches::AtL4 };
        let names: Vec<String> =
            self.application.iter().map(|(name, _)| format!("`{}`", shortened(name))).collect();
        let (verb, it) = if names.len() == 1 { ("needs", "it") } else { ("need", "them") };
        let names = names.join(", ");
        let (effect, help, matches) = match action {
            PolicyAction::Allow => (
                format!("an ALLOW rule with {it} never matches at L4"),
                "nobody is let in by this rule; say in a rule of its own what may be let in at L4",
                Matches::Never,
            ),
            PolicyAction::Deny if rule.clauses.is_empty() => (
                format!(
                    "at L4 this DENY rule is judged without {it}, and nothing else is left of it"
                ),
                "every connection is denied",
                Matches::AtL4,
            ),
            PolicyAction::Deny => (
                format!("at L4 this DENY rule is judged without {it}"),
                "more is denied than the rule says",
                Matches::AtL4,
            ),
        };
        let message = format!("{names} {verb} a waypoint: {effect}");
        reporter.report(Problem::warning(*place, message).help(help.to_owned()));
        matches
    }
}

/// A clause of alternatives; `None`: one of them always holds, so there is nothing to check.
fn clause(matches: Vec<PolicyMatch>) -> Option<PolicyClause> {
    let always = matches.iter().any(|one| *one == PolicyMatch::default());
    (!always).then_some(PolicyClause { matches })
}

/// `key: [{inner: …}, …]`, of which one must hold.
fn alternatives(
    key: &'static str,
    inner: &'static str,
    fields: &mut Fields<'_, '_>,
    mut read: impl FnMut(&Value, &mut Reporter) -> Option<PolicyMatch>,
) -> Option<PolicyClause> {
    let matches = elements(key, fields, |value, reporter| {
        mapping(key, value, reporter, |fields| fields.required(inner, &mut read))?
    })?;
    clause(matches)
}

/// The entries of a list that must not be empty.
pub(crate) fn entries<T>(
    key: &'static str,
    read: Entry<'_, T>,
    fields: &mut Fields<'_, '_>,
) -> Vec<T> {
    elements(key, fields, read).unwrap_or_default()
}

pub(crate) fn elements<T>(
    key: &'static str,
    fields: &mut Fields<'_, '_>,
    read: impl FnMut(&Value, &mut Reporter) -> Option<T>,
) -> Option<Vec<T>> {
    const HELP: &str = "an empty list is no condition; leave the key out if that is meant";
    fields.must_not_be_null(key, HELP);
    fields.optional(key, |value, reporter| {
        let errors = reporter.errors();
        let elements = list(value, reporter, read)?;
        if elements.is_empty() && reporter.errors() == errors {
            let message = format!("the list `{key}` is empty");
            reporter.report(Problem::error(value.place, message).help(HELP.to_owned()));
        }
        Some(elements)
    })
}

/// `values` and `notValues` of a condition.
fn values<T>(read: Entry<'_, T>, fields: &mut Fields<'_, '_>) -> (Vec<T>, Vec<T>) {
    (entries("values", read, fields), entries("notValues", read, fields))
}

/// Which of these keys are there, and where.
fn application_keys(keys: &[&'static str], fields: &mut Fields<'_, '_>) -> Vec<(Box<str>, Place)> {
    let mut found = Vec::new();
    for &key in keys {
        if elements(key, fields, anything).is_some() {
            found.push((key.into(), fields.place(key)));
        }
    }
    found
}

/// As in a cluster: a service account is a namespace and a name already.
pub(crate) fn report_two_ways_to_name_accounts(fields: &mut Fields<'_, '_>) {
    let first = |keys: &[&'static str], fields: &mut Fields<'_, '_>| {
        keys.iter().copied().find(|key| fields.value(key).is_some())
    };
    let accounts = first(&["serviceAccounts", "notServiceAccounts"], fields);
    let others = first(&["principals", "notPrincipals", "namespaces", "notNamespaces"], fields);
    if let (Some(accounts), Some(other)) = (accounts, others) {
        let message = format!("`{accounts}` and `{other}` cannot stand in one source");
        let help = "a service account says its namespace itself: `namespace/name`".to_owned();
        fields.reporter.report(Problem::error(fields.place(other), message).help(help));
    }
}

const KEYS: [&str; 6] = [
    "source.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "destination.ip",
    "destination.port",
];

const APPLICATION_KEYS: [&str; 5] = [
    "remote.ip",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "connection.sni",
];

/// Keys of which a part is said in brackets.
const APPLICATION_PREFIXES: [&str; 4] = [
    "request.headers[",
    "request.auth.claims[",
    "experimental.envoy.filters.",
    "experimental.ext_authz.",
];

fn needs_application(key: &str) -> bool {
    APPLICATION_KEYS.contains(&key)
        || APPLICATION_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

fn report_unknown_key(key: &str, place: Place, reporter: &mut Reporter) {
    let message = format!("`{}` is no attribute of a connection", shortened(key));
    let help = did_you_mean(key, KEYS.into_iter().chain(APPLICATION_KEYS));
    reporter.report(Problem::error(place, message).help(help));
}
