//! The rules, read aloud.
//!
//! * A policy matches if any of its rules does; with none it never does.
//! * A rule matches if one of `from` holds, or there is none; one of `to`, or there is none; and all of `when`.
//! * What is said holds if each of its lists does: one that is empty; one of what must be, if the attribute is there and
//!   one entry is true of it; one of what must not be, unless the attribute is there and one entry is true of it.
//! * On a connection without a request, a list about requests holds in a policy that denies, audits or asks, and does not in
//!   one that allows.
//! * All CUSTOM policies that match have their provider asked. Any DENY policy that matches denies. Then, without ALLOW
//!   policies, anybody may; with them, if one matches. Policies on dry run, and those that audit, only tell.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

use http::HeaderName;
use ipnet::IpNet;
use regex::Regex;
use ringway_http::model::policy::{
    Action, Attached, AuthorizationPolicy, AuthorizationRule, Condition, Operation, PathPattern,
    ServiceAccount, Source, TextMatch, Wanted,
};

use crate::generate::Request;

/// What must be met, true and false.
pub(crate) const WANTED: [&str; 16] = [
    "allowed",
    "asked",
    "audited",
    "claims of connections",
    "denied",
    "dry run",
    "header",
    "host",
    "ip",
    "method",
    "not",
    "path",
    "path template",
    "port",
    "service account",
    "text",
];

pub(crate) type Met = BTreeMap<(&'static str, bool), u64>;

#[derive(Debug, PartialEq)]
pub(crate) enum Ruling {
    NobodySaysWhom,
    Allowed((String, usize)),
    Denied((String, usize)),
    NotAllowed,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Decision {
    pub(crate) ruling: Ruling,
    /// Sorted, as are the others.
    pub(crate) dry_runs: Vec<(&'static str, Option<(String, usize)>)>,
    pub(crate) audits: Vec<(String, usize)>,
    pub(crate) providers: Vec<String>,
}

pub(crate) fn decide(
    policies: &[Attached<AuthorizationPolicy>],
    request: &Request,
    met: &mut Met,
) -> Decision {
    let (mut denies, mut allows, mut audits) = (Vec::new(), Vec::new(), Vec::new());
    let (mut providers, mut dry_runs) = (Vec::new(), Vec::new());
    let (mut some_allow, mut some_dry_allow, mut dry_allows) = (false, false, Vec::new());
    for Attached { name, policy, .. } in policies {
        let matched = (0..policy.rules.len())
            .find(|&number| rule_matches(&policy.rules[number], &policy.action, request, met))
            .map(|number| (name.name.to_string(), number));
        match (&policy.action, policy.dry_run) {
            (Action::Deny, false) => denies.extend(matched),
            (Action::Deny, true) => {
                dry_runs.extend(matched.map(|matched| ("denied", Some(matched))));
            }
            (Action::Allow, false) => {
                some_allow = true;
                allows.extend(matched);
            }
            (Action::Allow, true) => {
                some_dry_allow = true;
                dry_allows.extend(matched.map(|matched| ("allowed", Some(matched))));
            }
            (Action::Audit, false) => audits.extend(matched),
            (Action::Audit, true) => {}
            (Action::Custom(provider), false) => {
                providers.extend(matched.map(|_| provider.to_string()));
            }
            (Action::Custom(_), true) => {
                dry_runs.extend(matched.map(|matched| ("asked", Some(matched))));
            }
        }
    }
    // Whom ALLOW policies would let in is no question for what is denied already.
    if denies.is_empty() {
        if some_dry_allow && !some_allow && dry_allows.is_empty() {
            dry_runs.push(("not allowed", None));
        }
        dry_runs.append(&mut dry_allows);
    }
    dry_runs.sort();
    audits.sort();
    providers.sort();
    providers.dedup();
    note(met, "asked", !providers.is_empty());
    note(met, "audited", !audits.is_empty());
    note(met, "denied", !denies.is_empty());
    note(met, "allowed", !allows.is_empty());
    note(met, "dry run", !dry_runs.is_empty());
    let ruling = match (denies.first(), allows.first()) {
        (Some(denied), _) => Ruling::Denied(denied.clone()),
        (None, Some(allowed)) => Ruling::Allowed(allowed.clone()),
        (None, None) if some_allow => Ruling::NotAllowed,
        (None, None) => Ruling::NobodySaysWhom,
    };
    Decision { ruling, dry_runs, audits, providers }
}

fn note(met: &mut Met, what: &'static str, is_true: bool) {
    *met.entry((what, is_true)).or_default() += 1;
}

fn rule_matches(
    rule: &AuthorizationRule,
    action: &Action,
    request: &Request,
    met: &mut Met,
) -> bool {
    let mut reader = Reader { request, absent: *action != Action::Allow, met };
    let mut from = rule.from.is_empty();
    for source in &rule.from {
        from |= reader.source(source);
    }
    let mut to = rule.to.is_empty();
    for operation in &rule.to {
        to |= reader.operation(operation);
    }
    let mut when = true;
    for condition in &rule.when {
        when &= reader.condition(condition);
    }
    from && to && when
}

struct Reader<'r> {
    request: &'r Request,
    /// What a list about requests comes to where there is none.
    absent: bool,
    met: &'r mut Met,
}

impl Reader<'_> {
    fn source(&mut self, source: &Source) -> bool {
        self.principal(&source.principals)
            & self.namespace(&source.namespaces)
            & self.account(&source.service_accounts)
            & self.trust_domain(&source.trust_domains)
            & self.ip(&source.ips, self.request.source)
            & self.ip(&source.remote_ips, self.request.remote.unwrap_or(self.request.source))
    }

    fn operation(&mut self, operation: &Operation) -> bool {
        let Operation { hosts, ports, methods, paths } = operation;
        let of_connection = self.port(ports);
        let Some(http) = &self.request.http else {
            let asks = !hosts.is_empty() || !methods.is_empty() || !paths.is_empty();
            note(self.met, "claims of connections", asks);
            return of_connection && (!asks || self.absent);
        };
        let forms = http.authority.map(host_forms);
        let host = wanted(hosts, forms.is_some(), |one| {
            forms.iter().flatten().any(|form| text_matches(&lower(one), form))
        });
        let method = wanted(methods, true, |one| text_matches(one, http.method.as_str()));
        let path = wanted(paths, true, |one| path_matches(one, http.path, self.met));
        if !hosts.is_empty() {
            note(self.met, "host", host);
        }
        if !methods.is_empty() {
            note(self.met, "method", method);
        }
        if !paths.is_empty() {
            note(self.met, "path", path);
        }
        of_connection && host && method && path
    }

    fn condition(&mut self, condition: &Condition) -> bool {
        match condition {
            Condition::SourceIp(list) => self.ip(list, self.request.source),
            Condition::RemoteIp(list) => {
                self.ip(list, self.request.remote.unwrap_or(self.request.source))
            }
            Condition::SourceNamespace(list) => self.namespace(list),
            Condition::SourcePrincipal(list) => self.principal(list),
            Condition::SourceServiceAccount(list) => self.account(list),
            Condition::SourceTrustDomain(list) => self.trust_domain(list),
            Condition::DestinationIp(list) => self.ip(list, self.request.destination.ip()),
            Condition::DestinationPort(list) => self.port(list),
            Condition::Sni(list) => self.text(list, self.request.server_name),
            Condition::Header(name, list) => self.header(name, list),
            other => panic!("not generated: {other:?}"),
        }
    }

    fn header(&mut self, name: &HeaderName, list: &Wanted<TextMatch>) -> bool {
        let Some(http) = &self.request.http else { return self.absent };
        let values: Vec<&str> =
            http.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
        let joined = values.join(if name == "cookie" { "; " } else { "," });
        let holds = self.text(list, (!values.is_empty()).then_some(&joined));
        note(self.met, "header", holds);
        holds
    }

    fn principal(&mut self, list: &Wanted<TextMatch>) -> bool {
        let uri = self.request.identity.as_ref().map(|identity| identity.to_string());
        let text = uri.as_deref().map(|uri| uri.strip_prefix("spiffe://").unwrap());
        self.text(list, text)
    }

    fn namespace(&mut self, list: &Wanted<TextMatch>) -> bool {
        let request = self.request;
        self.text(list, request.identity.as_ref().map(|identity| identity.namespace()))
    }

    fn trust_domain(&mut self, list: &Wanted<TextMatch>) -> bool {
        let request = self.request;
        self.text(list, request.identity.as_ref().map(|identity| identity.trust_domain()))
    }

    fn account(&mut self, list: &Wanted<ServiceAccount>) -> bool {
        let identity = self.request.identity.as_ref();
        let holds = wanted(list, identity.is_some(), |one| {
            let identity = identity.unwrap();
            *one.namespace == *identity.namespace() && *one.name == *identity.service_account()
        });
        note(self.met, "service account", holds);
        holds
    }

    fn ip(&mut self, list: &Wanted<IpNet>, address: IpAddr) -> bool {
        let holds = wanted(list, true, |range| range_contains(range, address));
        note(self.met, "ip", holds);
        holds
    }

    fn port(&mut self, list: &Wanted<u16>) -> bool {
        let holds = wanted(list, true, |port| *port == self.request.destination.port());
        note(self.met, "port", holds);
        holds
    }

    fn text(&mut self, list: &Wanted<TextMatch>, text: Option<&str>) -> bool {
        if !list.none.is_empty() {
            let is_met =
                list.none.iter().any(|one| text.is_some_and(|text| text_matches(one, text)));
            note(self.met, "not", is_met);
        }
        let holds = wanted(list, text.is_some(), |one| text_matches(one, text.unwrap()));
        note(self.met, "text", holds);
        holds
    }
}

fn wanted<T>(list: &Wanted<T>, is_there: bool, mut is_true: impl FnMut(&T) -> bool) -> bool {
    let mut one_of = |list: &[T]| is_there && list.iter().filter(|one| is_true(one)).count() > 0;
    (list.any.is_empty() || one_of(&list.any)) && !one_of(&list.none)
}

fn text_matches(one: &TextMatch, text: &str) -> bool {
    let (text, count) = (text.as_bytes(), text.len());
    match one {
        TextMatch::Exact(exact) => exact.as_bytes() == text,
        TextMatch::Prefix(prefix) => text.get(..prefix.len()) == Some(prefix.as_bytes()),
        TextMatch::Suffix(suffix) => {
            count >= suffix.len() && &text[count - suffix.len()..] == suffix.as_bytes()
        }
        TextMatch::Presence => count > 0,
    }
}

fn lower(one: &TextMatch) -> TextMatch {
    match one {
        TextMatch::Exact(text) => TextMatch::Exact(text.to_lowercase().into()),
        TextMatch::Prefix(text) => TextMatch::Prefix(text.to_lowercase().into()),
        TextMatch::Suffix(text) => TextMatch::Suffix(text.to_lowercase().into()),
        TextMatch::Presence => TextMatch::Presence,
    }
}

/// As it is, and without its port and a dot at its end.
fn host_forms(authority: &str) -> Vec<String> {
    let whole = authority.to_lowercase();
    let digits = whole.chars().rev().take_while(char::is_ascii_digit).count();
    let before = &whole[..whole.len() - digits];
    let host = before.strip_suffix(':').unwrap_or(&whole).to_owned();
    let without_dot = host.strip_suffix('.').unwrap_or(&host).to_owned();
    vec![whole, without_dot]
}

fn path_matches(pattern: &PathPattern, path: &str, met: &mut Met) -> bool {
    match pattern {
        PathPattern::Text(text) => text_matches(text, path),
        PathPattern::Template(template) => {
            let matches = expression(template).is_match(path);
            note(met, "path template", matches);
            matches
        }
    }
}

/// Made once for each.
fn expression(template: &str) -> Regex {
    thread_local! {
        static MADE: RefCell<BTreeMap<String, Regex>> = RefCell::default();
    }
    let make = || {
        let text = regex::escape(template);
        let text = text.replace(r"\{\*\*\}", ".*").replace(r"\{\*\}", "[^/]+");
        Regex::new(&format!("^{text}$")).unwrap()
    };
    MADE.with_borrow_mut(|made| made.entry(template.to_owned()).or_insert_with(make).clone())
}

/// Compares bit by bit. An IPv4 address mapped into IPv6 is the IPv4 address, and so is a range of them.
fn range_contains(range: &IpNet, address: IpAddr) -> bool {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let is_mapped = |octets: &[u8]| {
        octets.len() == 16 && octets[..10] == [0; 10] && octets[10..12] == [0xff, 0xff]
    };
    let (mut first, mut address) = (octets(range.addr()), octets(address));
    let mut length = usize::from(range.prefix_len());
    if is_mapped(&first) && length >= 96 {
        first.drain(..12);
        length -= 96;
    }
    if is_mapped(&address) {
        address.drain(..12);
    }
    let bit = |octets: &[u8], at: usize| octets[at / 8] & (0x80 >> (at % 8)) != 0;
    first.len() == address.len() && (0..length).all(|at| bit(&first, at) == bit(&address, at))
}
