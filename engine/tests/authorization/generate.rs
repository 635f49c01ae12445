//! Random policies, workloads and connections, out of few names and addresses so that they meet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ringway_engine::snapshot::{
    AuthorizationPolicy, Cidr, PolicyAction, PolicyClause, PolicyMatch, PolicyRule, PolicyScope,
    ServiceAccountMatch, TextMatch, WorkloadDescription,
};
use ringway_protocols::identity::Identity;

use crate::coverage::Coverage;

const NAMESPACES: [&str; 3] = ["shop", "bank", "shop-two"];
const ACCOUNTS: [&str; 3] = ["web", "web-two", "db"];
const TRUST_DOMAINS: [&str; 2] = ["cluster.local", "elsewhere.example"];
const POLICIES: [&str; 4] = ["a", "b", "c", "d"];
const PORTS: [u16; 5] = [80, 443, 8080, 0, 65535];

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

    pub(crate) fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    pub(crate) fn one_of<T>(&mut self, all: impl ExactSizeIterator<Item = T>) -> Option<T> {
        let (count, mut all) = (all.len(), all);
        if count == 0 { None } else { all.nth(self.below(count)) }
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Mostly none, sometimes a few, seldom many.
    fn list<T>(&mut self, mut one: impl FnMut(&mut Random) -> T) -> Vec<T> {
        let length = match self.below(40) {
            0..=33 => 0,
            34..=36 => 1,
            37..=38 => 1 + self.below(4),
            _ => 1 + self.below(30),
        };
        (0..length).map(|_| one(self)).collect()
    }
}

/// A connection, in plain words.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) source: IpAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) account: Option<Account>,
}

/// Who the client proved to be.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) trust_domain: String,
    pub(crate) namespace: String,
    pub(crate) service_account: String,
}

impl Connection {
    pub(crate) fn some(random: &mut Random) -> Connection {
        let account = (!random.one_in(3)).then(|| Account {
            trust_domain: random.pick(&TRUST_DOMAINS).to_owned(),
            namespace: random.pick(&NAMESPACES).to_owned(),
            service_account: random.pick(&ACCOUNTS).to_owned(),
        });
        let source = some_address(random);
        let destination = SocketAddr::new(some_address(random), random.pick(&PORTS));
        Connection { source, destination, account }
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        self.account.as_ref().map(|account| Identity::parse(&account.uri()).unwrap())
    }

    pub(crate) fn count(&self, coverage: &mut Coverage) {
        let family = |address: IpAddr| match (address, address.to_canonical()) {
            (IpAddr::V4(_), _) => 0,
            (IpAddr::V6(_), IpAddr::V6(_)) => 1,
            (IpAddr::V6(_), IpAddr::V4(_)) => 2,
        };
        let from = ["connection: from IPv4", "connection: from IPv6", "connection: from mapped"];
        let to = ["connection: to IPv4", "connection: to IPv6", "connection: to mapped"];
        coverage.count(from[family(self.source)]);
        coverage.count(to[family(self.destination.ip())]);
        coverage.count(match self.account {
            Some(_) => "connection: with identity",
            None => "connection: without identity",
        });
    }
}

impl Account {
    pub(crate) fn uri(&self) -> String {
        let Account { trust_domain, namespace, service_account } = self;
        format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}")
    }
}

pub(crate) fn some_workload(random: &mut Random, uid: &str) -> WorkloadDescription {
    let names = (0..random.below(4)).map(|_| some_policy_name(random)).collect();
    WorkloadDescription {
        uid: uid.to_owned(),
        name: "one".to_owned(),
        namespace: random.pick(&NAMESPACES).to_owned(),
        authorization_policies: names,
        ..WorkloadDescription::default()
    }
}

fn some_policy_name(random: &mut Random) -> String {
    format!("{}/{}", random.pick(&NAMESPACES), random.pick(&POLICIES))
}

pub(crate) fn some_policy(random: &mut Random) -> AuthorizationPolicy {
    let rules = random.pick(&[0, 1, 1, 1, 2, 3]);
    AuthorizationPolicy {
        name: random.pick(&POLICIES).into(),
        namespace: random.pick(&NAMESPACES).into(),
        scope: random.pick(&[
            PolicyScope::Global,
            PolicyScope::Namespace,
            PolicyScope::Namespace,
            PolicyScope::WorkloadSelector,
        ]),
        action: random.pick(&[PolicyAction::Allow, PolicyAction::Allow, PolicyAction::Deny]),
        rules: (0..rules).map(|_| some_rule(random)).collect(),
        dry_run: random.one_in(4),
    }
}

fn some_rule(random: &mut Random) -> PolicyRule {
    let clauses = random.pick(&[0, 1, 1, 1, 1, 1, 2, 2, 3]);
    PolicyRule { clauses: (0..clauses).map(|_| some_clause(random)).collect() }
}

fn some_clause(random: &mut Random) -> PolicyClause {
    let matches = random.pick(&[0, 1, 1, 1, 1, 1, 1, 2, 2, 3]);
    PolicyClause { matches: (0..matches).map(|_| some_match(random)).collect() }
}

fn some_match(random: &mut Random) -> PolicyMatch {
    PolicyMatch {
        namespaces: random.list(some_namespace),
        not_namespaces: random.list(some_namespace),
        principals: random.list(some_principal),
        not_principals: random.list(some_principal),
        service_accounts: random.list(some_account),
        not_service_accounts: random.list(some_account),
        source_ips: random.list(some_range),
        not_source_ips: random.list(some_range),
        destination_ips: random.list(some_range),
        not_destination_ips: random.list(some_range),
        destination_ports: random.list(|random| random.pick(&PORTS)),
        not_destination_ports: random.list(|random| random.pick(&PORTS)),
    }
}

fn some_namespace(random: &mut Random) -> TextMatch {
    let text = random.pick(&NAMESPACES);
    some_text(random, text)
}

fn some_principal(random: &mut Random) -> TextMatch {
    let (trust_domain, namespace) = (random.pick(&TRUST_DOMAINS), random.pick(&NAMESPACES));
    let text = format!("{trust_domain}/ns/{namespace}/sa/{}", random.pick(&ACCOUNTS));
    let text = if random.one_in(8) { format!("spiffe://{text}") } else { text };
    some_text(random, &text)
}

/// The text, a piece of it, or nothing at all.
fn some_text(random: &mut Random, text: &str) -> TextMatch {
    let at = random.below(text.len() + 1);
    let (start, end) = text.split_at(at);
    match random.below(10) {
        0..=2 => TextMatch::Exact(text.into()),
        3 => TextMatch::Exact(start.into()),
        4..=5 => TextMatch::Prefix(start.into()),
        6..=7 => TextMatch::Suffix(end.into()),
        8 => TextMatch::Presence,
        _ => random.pick(&[
            TextMatch::Exact as fn(Box<str>) -> TextMatch,
            TextMatch::Prefix,
            TextMatch::Suffix,
        ])(if random.one_in(4) { "".into() } else { text.into() }),
    }
}

fn some_account(random: &mut Random) -> ServiceAccountMatch {
    ServiceAccountMatch {
        namespace: if random.one_in(20) { "" } else { random.pick(&NAMESPACES) }.into(),
        service_account: random.pick(&ACCOUNTS).into(),
    }
}

fn some_address(random: &mut Random) -> IpAddr {
    let v4 = Ipv4Addr::from_bits(0x0a01_0000 | random.below(16) as u32);
    match random.below(4) {
        0..=1 => v4.into(),
        2 => v4.to_ipv6_mapped().into(),
        _ => Ipv6Addr::from_bits(0xfd00 << 112 | random.below(16) as u128).into(),
    }
}

fn some_range(random: &mut Random) -> Cidr {
    let address = some_address(random);
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let length = match random.below(16) {
        0 => random.below(usize::from(bits) + 1) as u8,
        1 => bits - 32 + random.below(33) as u8,
        _ => bits - random.below(5) as u8,
    };
    let everything = if address.is_ipv4() { 0 } else { 1 };
    let length = if random.one_in(32) { everything } else { length };
    Cidr::new(address, length).unwrap()
}
