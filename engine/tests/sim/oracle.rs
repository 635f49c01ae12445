//! Who may connect to whom: an own, naive reading of authorization policies, to judge the engine by.
//!
//! It looks at every policy for every question, and shares nothing with the engine but the types in which
//! policies are told.

use std::net::{IpAddr, SocketAddr};

use ringway_engine::snapshot::{
    AuthorizationPolicy, Cidr, PolicyAction, PolicyClause, PolicyMatch, PolicyRule, PolicyScope,
    TextMatch,
};

use crate::mesh::{NAMESPACE, PODS, PORT, Planned, TRUST_DOMAIN, ip};

/// One connection, as policies see it. Everybody's namespace is the one there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// The service account that was proved, if any was.
    pub(crate) client: Option<&'static str>,
    pub(crate) from: IpAddr,
    pub(crate) to: &'static str,
    pub(crate) at: SocketAddr,
}

/// Whether these policies let it through.
pub(crate) fn allows(policies: &[Planned], attempt: &Attempt) -> bool {
    let applying = |action| {
        policies.iter().filter(move |planned| {
            let policy = &planned.policy;
            !policy.dry_run && policy.action == action && applies(planned, attempt)
        })
    };
    if applying(PolicyAction::Deny).any(|deny| matches(&deny.policy, attempt)) {
        return false;
    }
    let mut allowing = applying(PolicyAction::Allow).peekable();
    allowing.peek().is_none() || allowing.any(|allow| matches(&allow.policy, attempt))
}

fn applies(planned: &Planned, attempt: &Attempt) -> bool {
    match planned.policy.scope {
        PolicyScope::Global => true,
        PolicyScope::Namespace => &*planned.policy.namespace == NAMESPACE,
        PolicyScope::WorkloadSelector => planned.selects.contains(&attempt.to),
    }
}

fn matches(policy: &AuthorizationPolicy, attempt: &Attempt) -> bool {
    let clause = |clause: &PolicyClause| {
        clause.matches.is_empty() || clause.matches.iter().any(|one| holds(one, attempt))
    };
    policy.rules.iter().any(|rule| rule.clauses.iter().all(clause))
}

fn holds(one: &PolicyMatch, attempt: &Attempt) -> bool {
    let namespace = attempt.client.map_or("", |_| NAMESPACE);
    let principal =
        attempt.client.map(|account| format!("{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{account}"));
    let in_namespace = |text: &TextMatch| text_holds(text, namespace);
    let is_principal =
        |text: &TextMatch| principal.as_ref().is_some_and(|own| text_holds(text, own));
    let dimensions = [
        dimension(&one.namespaces, &one.not_namespaces, in_namespace),
        dimension(&one.principals, &one.not_principals, is_principal),
        dimension(&one.service_accounts, &one.not_service_accounts, |account| {
            attempt.client.is_some_and(|own| {
                (&*account.namespace, &*account.service_account) == (NAMESPACE, own)
            })
        }),
        dimension(&one.source_ips, &one.not_source_ips, |range| within(range, attempt.from)),
        dimension(&one.destination_ips, &one.not_destination_ips, |range| {
            within(range, attempt.at.ip())
        }),
        dimension(&one.destination_ports, &one.not_destination_ports, |port| {
            *port == attempt.at.port()
        }),
    ];
    *one != PolicyMatch::default() && dimensions.iter().all(|holds| *holds)
}

fn dimension<T>(yes: &[T], no: &[T], is_it: impl Fn(&T) -> bool) -> bool {
    (yes.is_empty() || yes.iter().any(&is_it)) && !no.iter().any(&is_it)
}

fn text_holds(wanted: &TextMatch, text: &str) -> bool {
    match wanted {
        TextMatch::Exact(wanted) => **wanted == *text,
        TextMatch::Prefix(prefix) => text.starts_with(&**prefix),
        TextMatch::Suffix(suffix) => text.ends_with(&**suffix),
        TextMatch::Presence => !text.is_empty(),
    }
}

fn within(range: &Cidr, address: IpAddr) -> bool {
    // By text, bit by bit: not the way the engine does it.
    let bits = |address: IpAddr| match address {
        IpAddr::V4(four) => format!("{:032b}", u32::from(four)),
        IpAddr::V6(six) => format!("{:0128b}", u128::from(six)),
    };
    let length = usize::from(range.length());
    let same_family = range.first().is_ipv4() == address.is_ipv4();
    same_family && bits(range.first())[..length] == bits(address)[..length]
}

/// A few policies of all kinds, about those who are there.
pub(crate) fn draw(random: &mut impl FnMut(u64) -> u64) -> Vec<Planned> {
    let count = random(4);
    (0..count).map(|n| draw_one(n, random)).collect()
}

fn draw_one(n: u64, random: &mut impl FnMut(u64) -> u64) -> Planned {
    let pod = |random: &mut dyn FnMut(u64) -> u64| PODS[random(4) as usize];
    let mut one = PolicyMatch::default();
    for _ in 0..=random(1) {
        let (name, address, _) = pod(random);
        let principal = format!("{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{name}");
        match random(9) {
            0 => one.principals.push(TextMatch::Exact(principal.into())),
            1 => one.not_principals.push(TextMatch::Suffix(format!("/{name}").into())),
            2 => one.not_principals.push(TextMatch::Presence),
            3 => one.principals.push(TextMatch::Prefix(format!("{TRUST_DOMAIN}/").into())),
            4 => one.source_ips.push(Cidr::new(ip(address), 16).expect("a range")),
            5 => one.not_source_ips.push(Cidr::new(ip(address), 32).expect("a range")),
            6 => one.not_destination_ports.push(PORT),
            7 => one.namespaces.push(TextMatch::Exact(NAMESPACE.into())),
            _ => one.destination_ports.push(PORT),
        }
    }
    let scope = match random(3) {
        0 => PolicyScope::Global,
        1 => PolicyScope::Namespace,
        _ => PolicyScope::WorkloadSelector,
    };
    let selects = match scope {
        PolicyScope::WorkloadSelector => vec![pod(random).0, pod(random).0],
        _ => Vec::new(),
    };
    let clause = PolicyClause { matches: vec![one] };
    let policy = AuthorizationPolicy {
        name: format!("policy-{n}").into(),
        namespace: NAMESPACE.into(),
        scope,
        action: if random(2) == 0 { PolicyAction::Allow } else { PolicyAction::Deny },
        rules: vec![PolicyRule { clauses: vec![clause] }],
        dry_run: random(6) == 0,
    };
    Planned { policy, selects }
}
