//! `rules[]` of an AuthorizationPolicy at a waypoint, with all that requests have.

use http::HeaderName;
use ipnet::IpNet;
use ringway_http::authorize::PathTemplate;
use ringway_http::model::policy::{
    AuthorizationRule, Condition, Operation, PathPattern, ServiceAccount, Source, TextMatch, Wanted,
};

use super::text_match;
use crate::source::diagnostics::suggest::did_you_mean;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::security::{
    address, elements, entries, pattern, port, principal, report_two_ways_to_name_accounts,
    service_account,
};
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::nonempty;
use crate::source::yaml::value::{Value, shortened};

/// The rules of a policy.
pub(crate) fn rules(
    value: &Value,
    namespace: &str,
    reporter: &mut Reporter,
) -> Option<Vec<AuthorizationRule>> {
    list(value, reporter, |value, reporter| {
        mapping("rules[]", value, reporter, |fields| {
            let from = elements("from", fields, |value, reporter| {
                inside("from[]", "source", value, reporter, |value, reporter| {
                    source(value, namespace, reporter)
                })
            });
            let to = elements("to", fields, |value, reporter| {
                inside("to[]", "operation", value, reporter, operation)
            });
            let when =
                elements("when", fields, |value, reporter| condition(value, namespace, reporter));
            AuthorizationRule {
                from: from.unwrap_or_default(),
                to: to.unwrap_or_default(),
                when: when.unwrap_or_default(),
            }
        })
    })
}

fn inside<T>(
    what: &'static str,
    key: &'static str,
    value: &Value,
    reporter: &mut Reporter,
    read: impl FnOnce(&Value, &mut Reporter) -> Option<T>,
) -> Option<T> {
    mapping(what, value, reporter, |fields| fields.required(key, read))?
}

fn source(value: &Value, namespace: &str, reporter: &mut Reporter) -> Option<Source> {
    let account =
        |value: &Value, reporter: &mut Reporter| service_account_of(value, namespace, reporter);
    let source = mapping("source", value, reporter, |fields| {
        report_two_ways_to_name_accounts(fields);
        Source {
            principals: wanted("principals", "notPrincipals", &principal_text, fields),
            namespaces: wanted("namespaces", "notNamespaces", &text, fields),
            service_accounts: wanted("serviceAccounts", "notServiceAccounts", &account, fields),
            trust_domains: wanted("trustDomains", "notTrustDomains", &text, fields),
            request_principals: wanted("requestPrincipals", "notRequestPrincipals", &text, fields),
            ips: wanted("ipBlocks", "notIpBlocks", &range, fields),
            remote_ips: wanted("remoteIpBlocks", "notRemoteIpBlocks", &range, fields),
        }
    })?;
    says_something("source", source == Source::default(), value, reporter);
    Some(source)
}

fn operation(value: &Value, reporter: &mut Reporter) -> Option<Operation> {
    let operation = mapping("operation", value, reporter, |fields| Operation {
        hosts: wanted("hosts", "notHosts", &text, fields),
        ports: wanted("ports", "notPorts", &port, fields),
        methods: wanted("methods", "notMethods", &text, fields),
        paths: wanted("paths", "notPaths", &path, fields),
    })?;
    says_something("operation", operation == Operation::default(), value, reporter);
    Some(operation)
}

/// What could not be read was told already, and is not nothing.
fn says_something(what: &str, nothing: bool, value: &Value, reporter: &mut Reporter) {
    if nothing && !reporter.has_errors() {
        let help = "leave it out to mean any".to_owned();
        let message = format!("this {what} says nothing");
        reporter.report(Problem::error(value.place, message).help(help));
    }
}

fn condition(value: &Value, namespace: &str, reporter: &mut Reporter) -> Option<Condition> {
    let account =
        |value: &Value, reporter: &mut Reporter| service_account_of(value, namespace, reporter);
    mapping("when[]", value, reporter, |fields| {
        fields.ignore(&["values", "notValues"]);
        let place = fields.value_place("key");
        let key = fields.required("key", nonempty)?;
        if fields.value("values").is_none() && fields.value("notValues").is_none() {
            let message = "this condition has neither `values` nor `notValues`";
            fields.reporter.report(Problem::error(place, message));
        }
        Some(match key {
            "source.ip" => Condition::SourceIp(values(&range, fields)),
            "remote.ip" => Condition::RemoteIp(values(&range, fields)),
            "source.namespace" => Condition::SourceNamespace(values(&text, fields)),
            "source.principal" => Condition::SourcePrincipal(values(&principal_text, fields)),
            "source.serviceAccount" => Condition::SourceServiceAccount(values(&account, fields)),
            "source.trustDomain" => Condition::SourceTrustDomain(values(&text, fields)),
            "request.auth.principal" => Condition::RequestPrincipal(values(&text, fields)),
            "request.auth.audiences" => Condition::Audience(values(&text, fields)),
            "request.auth.presenter" => Condition::Presenter(values(&text, fields)),
            "destination.ip" => Condition::DestinationIp(values(&range, fields)),
            "destination.port" => Condition::DestinationPort(values(&port, fields)),
            "connection.sni" => Condition::Sni(values(&text, fields)),
            _ => return bracketed(key, place, fields),
        })
    })?
}

/// `request.headers[name]`, `request.auth.claims[name][inside]`.
fn bracketed(
    key: &str,
    place: crate::source::diagnostics::Place,
    fields: &mut Fields<'_, '_>,
) -> Option<Condition> {
    let texts = values(&text, fields);
    if let Some(name) = key.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']'))
    {
        let name = name.to_ascii_lowercase();
        if let Ok(name) = HeaderName::try_from(&*name) {
            return Some(Condition::Header(name, texts));
        }
        let message = format!("{:?} is no name of a header", shortened(&name));
        let help =
            "the method, path and host are `methods`, `paths` and `hosts` of `to`".to_owned();
        fields.reporter.report(Problem::error(place, message).help(help));
        return None;
    }
    if let Some(path) = key.strip_prefix("request.auth.claims").and_then(claim_path) {
        return Some(Condition::Claim(path, texts));
    }
    const KEYS: [&str; 14] = [
        "source.ip",
        "remote.ip",
        "source.namespace",
        "source.principal",
        "source.serviceAccount",
        "source.trustDomain",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "request.auth.claims[]",
        "request.headers[]",
        "destination.ip",
        "destination.port",
        "connection.sni",
    ];
    let message = format!("`{}` is no attribute of a request", shortened(key));
    let help = did_you_mean(key, KEYS);
    fields.reporter.report(Problem::error(place, message).help(help));
    None
}

/// `[a][b]`.
fn claim_path(text: &str) -> Option<Vec<std::sync::Arc<str>>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<_> = inner.split("][").map(Into::into).collect();
    names.iter().all(|name: &std::sync::Arc<str>| !name.is_empty()).then_some(names)
}

type Entry<'r, T> = &'r dyn Fn(&Value, &mut Reporter) -> Option<T>;

fn wanted<T>(
    any: &'static str,
    none: &'static str,
    read: Entry<'_, T>,
    fields: &mut Fields<'_, '_>,
) -> Wanted<T> {
    Wanted { any: entries(any, read, fields), none: entries(none, read, fields) }
}

fn values<T>(read: Entry<'_, T>, fields: &mut Fields<'_, '_>) -> Wanted<T> {
    wanted("values", "notValues", read, fields)
}

fn text(value: &Value, reporter: &mut Reporter) -> Option<TextMatch> {
    pattern(value, reporter).map(text_match)
}

fn principal_text(value: &Value, reporter: &mut Reporter) -> Option<TextMatch> {
    principal(value, reporter).map(text_match)
}

/// A path with wildcards, or a template.
pub(super) fn path(value: &Value, reporter: &mut Reporter) -> Option<PathPattern> {
    let written = nonempty(value, reporter)?;
    if !PathTemplate::is_meant(written) {
        return text(value, reporter).map(PathPattern::Text);
    }
    match PathTemplate::parse(written) {
        Ok(_) => Some(PathPattern::Template(written.into())),
        Err(error) => {
            reporter.report(Problem::error(value.place, error.to_string()));
            None
        }
    }
}

fn service_account_of(
    value: &Value,
    namespace: &str,
    reporter: &mut Reporter,
) -> Option<ServiceAccount> {
    let account = service_account(value, namespace, reporter)?;
    let (namespace, name) = (account.namespace.into(), account.service_account.into());
    Some(ServiceAccount { namespace, name })
}

fn range(value: &Value, reporter: &mut Reporter) -> Option<IpNet> {
    let range = address(value, reporter)?;
    IpNet::new(range.first(), range.length()).ok()
}
