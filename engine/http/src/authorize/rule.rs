//! A rule in the form that requests are compared with: clauses that must all hold, each of alternatives of which one
//! must, each of tests that must all pass.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;

use super::facts::{Facts, header_text};
use super::template::{PathTemplate, TemplateError};
use super::texts::TextSet;
use crate::model::policy::{
    AuthorizationRule, Condition, Operation, PathPattern, ServiceAccount, Source, TextMatch, Wanted,
};

/// What becomes of a test that asks for a part of a request where there is none: a connection that carries something
/// else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    /// It does not count; what is left decides, so that a DENY policy denies more than it says.
    Ignored,
    /// It fails, so that an ALLOW policy allows nothing by it.
    Fails,
}

#[derive(Debug)]
pub(super) struct CompiledRule(Box<[Clause]>);

/// Alternatives; without any it holds.
type Clause = Box<[Alternative]>;

type Alternative = Box<[Test]>;

/// A list of values, one of which an attribute must be, or none.
#[derive(Debug)]
struct Test {
    is_not: bool,
    asks: Asks,
}

#[derive(Debug)]
enum Asks {
    Principal(TextSet),
    Namespace(TextSet),
    TrustDomain(TextSet),
    ServiceAccount(Box<[ServiceAccount]>),
    SourceIp(Box<[IpNet]>),
    RemoteIp(Box<[IpNet]>),
    DestinationIp(Box<[IpNet]>),
    DestinationPort(Box<[u16]>),
    ServerName(TextSet),
    /// Of the request.
    Request(AsksRequest),
}

#[derive(Debug)]
enum AsksRequest {
    Principal(TextSet),
    Audience(TextSet),
    Presenter(TextSet),
    Claim(Box<[Arc<str>]>, TextSet),
    Host(TextSet),
    Method(TextSet),
    Path(TextSet, Box<[PathTemplate]>),
    Header(HeaderName, TextSet),
}

impl CompiledRule {
    pub(super) fn of(rule: &AuthorizationRule) -> Result<CompiledRule, TemplateError> {
        let from: Clause = rule.from.iter().map(source).collect();
        let to: Clause = rule.to.iter().map(operation).collect::<Result<_, _>>()?;
        let when = rule.when.iter().map(|one| Box::from([condition(one)]));
        Ok(CompiledRule([from, to].into_iter().chain(when).collect()))
    }

    pub(super) fn matches(&self, facts: &Facts<'_>, without: Without) -> bool {
        let holds =
            |alternative: &Alternative| alternative.iter().all(|test| test.passes(facts, without));
        self.0.iter().all(|clause| clause.is_empty() || clause.iter().any(holds))
    }
}

impl Test {
    fn passes(&self, facts: &Facts<'_>, without: Without) -> bool {
        match (&self.asks, facts.request()) {
            (Asks::Request(_), None) => without == Without::Ignored,
            (asks, _) => asks.is_met(facts) != self.is_not,
        }
    }
}

impl Asks {
    /// Whether the attribute is there, and one of these.
    fn is_met(&self, facts: &Facts<'_>) -> bool {
        let identity = facts.source();
        match self {
            Asks::Principal(texts) => facts.principal().is_some_and(|text| texts.contains(text)),
            Asks::Namespace(texts) => identity.is_some_and(|id| texts.contains(id.namespace())),
            Asks::TrustDomain(texts) => {
                identity.is_some_and(|id| texts.contains(id.trust_domain()))
            }
            Asks::ServiceAccount(accounts) => identity.is_some_and(|id| {
                let own = (id.namespace(), id.service_account());
                accounts.binary_search_by(|one| (&*one.namespace, &*one.name).cmp(&own)).is_ok()
            }),
            Asks::SourceIp(ranges) => contain(ranges, facts.source_ip()),
            Asks::RemoteIp(ranges) => contain(ranges, facts.remote_ip()),
            Asks::DestinationIp(ranges) => contain(ranges, facts.destination().ip()),
            Asks::DestinationPort(ports) => {
                ports.binary_search(&facts.destination().port()).is_ok()
            }
            Asks::ServerName(texts) => facts.server_name().is_some_and(|name| texts.contains(name)),
            Asks::Request(asks) => asks.is_met(facts).unwrap_or(false),
        }
    }
}

impl AsksRequest {
    /// None: what is asked for is not there.
    fn is_met(&self, facts: &Facts<'_>) -> Option<bool> {
        let request = facts.request()?;
        Some(match self {
            AsksRequest::Principal(texts) => texts.contains(request.token?.principal()?),
            AsksRequest::Audience(texts) => {
                request.token?.audiences().any(|audience| texts.contains(audience))
            }
            AsksRequest::Presenter(texts) => texts.contains(request.token?.presenter()?),
            AsksRequest::Claim(path, texts) => {
                request.token?.claim_texts(path).iter().any(|text| texts.contains(text))
            }
            AsksRequest::Host(texts) => facts.hosts()?.iter().any(|host| texts.contains(host)),
            AsksRequest::Method(texts) => texts.contains(request.method.as_str()),
            AsksRequest::Path(texts, templates) => {
                texts.contains(request.path)
                    || templates.iter().any(|template| template.matches(request.path))
            }
            AsksRequest::Header(name, texts) => {
                texts.contains(&header_text(request.headers, name)?)
            }
        })
    }
}

fn contain(ranges: &[IpNet], address: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(&address))
}

fn source(source: &Source) -> Alternative {
    let Source {
        principals,
        namespaces,
        service_accounts,
        trust_domains,
        request_principals,
        ips,
        remote_ips,
    } = source;
    let mut tests = Vec::new();
    add(&mut tests, ips, |list| Asks::SourceIp(ranges(list)));
    add(&mut tests, remote_ips, |list| Asks::RemoteIp(ranges(list)));
    add(&mut tests, namespaces, |list| Asks::Namespace(TextSet::of(list)));
    add(&mut tests, trust_domains, |list| Asks::TrustDomain(TextSet::of(list)));
    add(&mut tests, service_accounts, |list| Asks::ServiceAccount(sorted(list)));
    add(&mut tests, principals, |list| Asks::Principal(TextSet::of(list)));
    add(&mut tests, request_principals, |list| {
        Asks::Request(AsksRequest::Principal(TextSet::of(list)))
    });
    tests.into()
}

fn operation(operation: &Operation) -> Result<Alternative, TemplateError> {
    let Operation { hosts, ports, methods, paths } = operation;
    let mut tests = Vec::new();
    add(&mut tests, ports, |list| Asks::DestinationPort(sorted(list)));
    add(&mut tests, methods, |list| Asks::Request(AsksRequest::Method(TextSet::of(list))));
    for (is_not, list) in [(false, &paths.any), (true, &paths.none)] {
        if !list.is_empty() {
            tests.push(Test { is_not, asks: Asks::Request(path_set(list)?) });
        }
    }
    add(&mut tests, hosts, |list| Asks::Request(AsksRequest::Host(TextSet::of_lower_case(list))));
    Ok(tests.into())
}

fn path_set(list: &[PathPattern]) -> Result<AsksRequest, TemplateError> {
    let texts = list.iter().filter_map(|pattern| match pattern {
        PathPattern::Text(text) => Some(text),
        PathPattern::Template(_) => None,
    });
    let templates = list.iter().filter_map(|pattern| match pattern {
        PathPattern::Text(_) => None,
        PathPattern::Template(text) => Some(PathTemplate::parse(text)),
    });
    Ok(AsksRequest::Path(TextSet::of(texts), templates.collect::<Result<_, _>>()?))
}

fn condition(condition: &Condition) -> Alternative {
    let mut tests = Vec::new();
    let mut texts = |wanted: &Wanted<TextMatch>, asks: &dyn Fn(TextSet) -> Asks| {
        add(&mut tests, wanted, |list| asks(TextSet::of(list)));
    };
    match condition {
        Condition::SourceNamespace(wanted) => texts(wanted, &Asks::Namespace),
        Condition::SourcePrincipal(wanted) => texts(wanted, &Asks::Principal),
        Condition::SourceTrustDomain(wanted) => texts(wanted, &Asks::TrustDomain),
        Condition::Sni(wanted) => texts(wanted, &Asks::ServerName),
        Condition::Header(name, wanted) => {
            texts(wanted, &|set| Asks::Request(AsksRequest::Header(name.clone(), set)));
        }
        Condition::RequestPrincipal(wanted) => {
            texts(wanted, &|set| Asks::Request(AsksRequest::Principal(set)));
        }
        Condition::Audience(wanted) => {
            texts(wanted, &|set| Asks::Request(AsksRequest::Audience(set)));
        }
        Condition::Presenter(wanted) => {
            texts(wanted, &|set| Asks::Request(AsksRequest::Presenter(set)));
        }
        Condition::Claim(path, wanted) => {
            texts(wanted, &|set| Asks::Request(AsksRequest::Claim(path.as_slice().into(), set)));
        }
        Condition::SourceServiceAccount(wanted) => {
            add(&mut tests, wanted, |list| Asks::ServiceAccount(sorted(list)));
        }
        Condition::SourceIp(wanted) => add(&mut tests, wanted, |list| Asks::SourceIp(ranges(list))),
        Condition::RemoteIp(wanted) => add(&mut tests, wanted, |list| Asks::RemoteIp(ranges(list))),
        Condition::DestinationIp(wanted) => {
            add(&mut tests, wanted, |list| Asks::DestinationIp(ranges(list)));
        }
        Condition::DestinationPort(wanted) => {
            add(&mut tests, wanted, |list| Asks::DestinationPort(sorted(list)));
        }
    }
    tests.into()
}

/// Adds a test for each of the two lists that has entries.
fn add<T>(tests: &mut Vec<Test>, wanted: &Wanted<T>, asks: impl Fn(&[T]) -> Asks) {
    for (is_not, list) in [(false, &wanted.any), (true, &wanted.none)] {
        if !list.is_empty() {
            tests.push(Test { is_not, asks: asks(list) });
        }
    }
}

/// Ranges of mapped IPv4 addresses are ranges of the addresses they map.
fn ranges(list: &[IpNet]) -> Box<[IpNet]> {
    list.iter().map(|range| canonical(*range)).collect()
}

fn canonical(range: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    let length = range.prefix_len().checked_sub(MAPPED_BITS);
    match (range.addr(), range.addr().to_canonical(), length) {
        (IpAddr::V6(_), IpAddr::V4(address), Some(length)) => {
            IpNet::new(address.into(), length).unwrap_or(range)
        }
        _ => range,
    }
}

fn sorted<T: Ord + Clone>(list: &[T]) -> Box<[T]> {
    let mut list = list.to_vec();
    list.sort_unstable();
    list.dedup();
    list.into()
}
