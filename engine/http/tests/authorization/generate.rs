//! Random policies and requests, out of few words so that they meet.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ipnet::IpNet;
use ringway_http::authorize::{Facts, RequestFacts};
use ringway_http::model::policy::{
    Action, Attached, AuthorizationPolicy, AuthorizationRule, Condition, Operation, PathPattern,
    PolicyName, ServiceAccount, Source, TextMatch, Wanted,
};
use ringway_protocols::identity::Identity;

const NAMESPACES: [&str; 3] = ["shop", "bank", "shop-two"];
const ACCOUNTS: [&str; 3] = ["web", "web-two", "db"];
const TRUST_DOMAINS: [&str; 2] = ["cluster.local", "elsewhere.example"];
const HOSTS: [&str; 6] = [
    "shop.example",
    "Shop.Example:8080",
    "shop.example.",
    "bank.example:443",
    "[fd00::1]:80",
    "bank",
];
const METHODS: [&str; 3] = ["GET", "POST", "OPTIONS"];
const PATHS: [&str; 8] = ["/", "/a", "/a/", "/a/b", "/a/b/c", "/c/b", "/a/x/c", "/b.txt"];
const TEMPLATES: [&str; 6] = ["/a/{*}", "/{*}/b", "/a/{**}", "/{**}/c", "/{*}/{*}/c", "/{**}"];
const HEADERS: [&str; 3] = ["x-team", "x-user", "cookie"];
const VALUES: [&str; 4] = ["red", "blue", "red,blue", ""];
const PORTS: [u16; 3] = [80, 443, 8080];
const PROVIDERS: [&str; 2] = ["login", "quota"];
const NAMES: [&str; 4] = ["", "shop.example", "bank.example", "x"];

/// Numbers from a seed (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Less than `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn some<T>(&mut self, lengths: &[usize], mut one: impl FnMut(&mut Random) -> T) -> Vec<T> {
        (0..self.pick(lengths)).map(|_| one(self)).collect()
    }

    /// Mostly nothing.
    fn wanted<T>(&mut self, mut one: impl FnMut(&mut Random) -> T) -> Wanted<T> {
        const LENGTHS: [usize; 8] = [0, 0, 0, 0, 0, 0, 1, 3];
        Wanted { any: self.some(&LENGTHS, &mut one), none: self.some(&LENGTHS, &mut one) }
    }

    /// Something, for a condition.
    fn required<T>(&mut self, mut one: impl FnMut(&mut Random) -> T) -> Wanted<T> {
        match self.below(3) {
            0 => Wanted { any: self.some(&[1, 2, 3], &mut one), none: Vec::new() },
            1 => Wanted { any: Vec::new(), none: self.some(&[1, 2], &mut one) },
            _ => Wanted { any: self.some(&[1, 3], &mut one), none: self.some(&[1], &mut one) },
        }
    }
}

/// A request, or a connection that carries none, in plain words.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) identity: Option<Identity>,
    pub(crate) source: IpAddr,
    pub(crate) remote: Option<IpAddr>,
    pub(crate) destination: SocketAddr,
    pub(crate) server_name: Option<&'static str>,
    pub(crate) http: Option<Http>,
}

#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) authority: Option<&'static str>,
    pub(crate) headers: HeaderMap,
}

impl Request {
    pub(crate) fn some(random: &mut Random) -> Request {
        let identity = (!random.one_in(4)).then(|| {
            let (domain, namespace) = (random.pick(&TRUST_DOMAINS), random.pick(&NAMESPACES));
            Identity::new(domain, namespace, random.pick(&ACCOUNTS)).unwrap()
        });
        let source = some_address(random);
        Request {
            identity,
            source,
            remote: random.one_in(2).then(|| some_address(random)),
            destination: SocketAddr::new(some_address(random), random.pick(&PORTS)),
            server_name: random.one_in(2).then(|| random.pick(&NAMES)),
            http: (!random.one_in(5)).then(|| Http::some(random)),
        }
    }

    pub(crate) fn facts(&self) -> Facts<'_> {
        let facts = Facts::new(self.identity.as_ref(), self.source, self.destination);
        let facts = facts.with_server_name(self.server_name);
        let facts = match self.remote {
            Some(remote) => facts.with_remote_ip(remote),
            None => facts,
        };
        match &self.http {
            None => facts,
            Some(Http { method, path, authority, headers }) => facts.with_request(RequestFacts {
                method,
                path,
                authority: *authority,
                headers,
                token: None,
            }),
        }
    }
}

impl Http {
    fn some(random: &mut Random) -> Http {
        let mut headers = HeaderMap::new();
        for _ in 0..random.below(4) {
            let name = HeaderName::from_static(random.pick(&HEADERS));
            headers.append(name, HeaderValue::from_static(random.pick(&VALUES)));
        }
        Http {
            method: random.pick(&METHODS).parse().unwrap(),
            path: random.pick(&PATHS),
            authority: (!random.one_in(8)).then(|| random.pick(&HOSTS)),
            headers,
        }
    }
}

pub(crate) fn some_policy(random: &mut Random, number: usize) -> Attached<AuthorizationPolicy> {
    let action = match random.below(10) {
        0..=3 => Action::Allow,
        4..=6 => Action::Deny,
        7 => Action::Audit,
        _ => Action::Custom(random.pick(&PROVIDERS).into()),
    };
    let rules = random.some(&[0, 1, 1, 2, 3], some_rule);
    Attached {
        name: PolicyName { namespace: "shop".into(), name: format!("p{number}").into() },
        targets: Vec::new(),
        policy: AuthorizationPolicy { action, rules, dry_run: random.one_in(4) },
    }
}

fn some_rule(random: &mut Random) -> AuthorizationRule {
    AuthorizationRule {
        from: random.some(&[0, 0, 1, 2], some_source),
        to: random.some(&[0, 0, 1, 2], some_operation),
        when: random.some(&[0, 0, 0, 1, 2], some_condition),
    }
}

fn some_source(random: &mut Random) -> Source {
    Source {
        principals: random.wanted(some_principal),
        namespaces: random.wanted(|random| some_text(random, &NAMESPACES)),
        service_accounts: random.wanted(some_account),
        trust_domains: random.wanted(|random| some_text(random, &TRUST_DOMAINS)),
        request_principals: Wanted::default(),
        ips: random.wanted(some_range),
        remote_ips: random.wanted(some_range),
    }
}

fn some_operation(random: &mut Random) -> Operation {
    Operation {
        hosts: random.wanted(|random| some_text(random, &HOSTS)),
        ports: random.wanted(|random| random.pick(&PORTS)),
        methods: random.wanted(|random| some_text(random, &METHODS)),
        paths: random.wanted(|random| match random.one_in(2) {
            true => PathPattern::Template(random.pick(&TEMPLATES).into()),
            false => PathPattern::Text(some_text(random, &PATHS)),
        }),
    }
}

fn some_condition(random: &mut Random) -> Condition {
    match random.below(10) {
        0 => Condition::SourceIp(random.required(some_range)),
        1 => Condition::RemoteIp(random.required(some_range)),
        2 => Condition::SourceNamespace(random.required(|random| some_text(random, &NAMESPACES))),
        3 => Condition::SourcePrincipal(random.required(some_principal)),
        4 => Condition::SourceServiceAccount(random.required(some_account)),
        5 => Condition::SourceTrustDomain(
            random.required(|random| some_text(random, &TRUST_DOMAINS)),
        ),
        6 => Condition::DestinationIp(random.required(some_range)),
        7 => Condition::DestinationPort(random.required(|random| random.pick(&PORTS))),
        8 => Condition::Sni(random.required(|random| some_text(random, &NAMES))),
        _ => {
            let name = HeaderName::from_static(random.pick(&HEADERS));
            Condition::Header(name, random.required(|random| some_text(random, &VALUES)))
        }
    }
}

fn some_principal(random: &mut Random) -> TextMatch {
    let (domain, namespace) = (random.pick(&TRUST_DOMAINS), random.pick(&NAMESPACES));
    let text = format!("{domain}/ns/{namespace}/sa/{}", random.pick(&ACCOUNTS));
    some_text(random, &[&text])
}

fn some_account(random: &mut Random) -> ServiceAccount {
    ServiceAccount {
        namespace: random.pick(&NAMESPACES).into(),
        name: random.pick(&ACCOUNTS).into(),
    }
}

/// One of the texts, a piece of it, or anything at all.
fn some_text(random: &mut Random, texts: &[&str]) -> TextMatch {
    let text = random.pick(texts);
    let (start, end) = text.split_at(random.below(text.len() + 1));
    match random.below(8) {
        0..=3 => TextMatch::Exact(text.into()),
        4 => TextMatch::Prefix(start.into()),
        5..=6 => TextMatch::Suffix(end.into()),
        _ => TextMatch::Presence,
    }
}

fn some_address(random: &mut Random) -> IpAddr {
    let last = random.below(8);
    let text = match random.below(4) {
        0..=1 => format!("10.1.0.{last}"),
        2 => format!("::ffff:10.1.0.{last}"),
        _ => format!("fd00::{last}"),
    };
    text.parse().unwrap()
}

fn some_range(random: &mut Random) -> IpNet {
    let address = some_address(random);
    let bits = if address.is_ipv4() { 32 } else { 128 };
    IpNet::new(address, bits - random.below(4) as u8).unwrap()
}
