//! Who is let in, row by row.

use std::net::SocketAddr;

use ringway_protocols::identity::Identity;

use crate::decide::{DryRun, Facts, Matched, Verdict, authorize};
use crate::snapshot::fixture::{With, cidr, mesh, pod};
use crate::snapshot::{
    AuthorizationPolicy, PolicyAction, PolicyClause, PolicyMatch, PolicyRule, PolicyScope,
    ServiceAccountMatch, Snapshot, TextMatch,
};

/// A client of `shop/web-1` (10.1.0.1, port 8080) and what it gets.
struct Row {
    name: &'static str,
    policies: Vec<AuthorizationPolicy>,
    client: &'static str,
    want: &'static str,
}

fn row<const N: usize>(
    name: &'static str,
    policies: [AuthorizationPolicy; N],
    client: &'static str,
    want: &'static str,
) -> Row {
    Row { name, policies: policies.into(), client, want }
}

fn check(rows: impl IntoIterator<Item = Row>) {
    for Row { name, policies, client, want } in rows {
        let mut snapshot = mesh([pod("web-1", "10.1.0.1")], []);
        policies.into_iter().for_each(|policy| snapshot.upsert_policy(policy));
        assert_eq!(ask(&snapshot, client, "10.1.0.1:8080"), want, "{name}");
    }
}

/// What a client gets that is told as `address` or `address namespace/account`.
fn ask(snapshot: &Snapshot, client: &str, destination: &str) -> String {
    let local = snapshot.workload_by_uid("c1//Pod/shop/web-1").unwrap();
    let (address, account) = client.split_once(' ').unwrap_or((client, ""));
    let identity = account
        .split_once('/')
        .map(|(namespace, account)| Identity::new("cluster.local", namespace, account).unwrap());
    let destination: SocketAddr = destination.parse().unwrap();
    let facts = Facts::new(address.parse().unwrap(), destination, identity.as_ref());
    tell(&authorize(snapshot, local, &facts))
}

fn tell(verdict: &Verdict<'_>) -> String {
    let by = |matched: &Matched<'_>| format!("{} rule {}", matched.policy.name, matched.rule);
    let mut told = match &verdict.outcome {
        Ok(None) => "allowed".to_owned(),
        Ok(Some(matched)) => format!("allowed by {}", by(matched)),
        Err(refusal) => {
            let rule = refusal.policy().and_then(|(_, rule)| rule);
            let rule = rule.map(|rule| format!(" rule {rule}")).unwrap_or_default();
            format!("{}: {refusal}{rule}", refusal.status())
        }
    };
    for dry_run in &verdict.dry_runs {
        told += &match dry_run {
            DryRun::Denied(matched) => format!("; {} would deny", by(matched)),
            DryRun::Allowed(matched) => format!("; {} would allow", by(matched)),
            DryRun::NotAllowed => "; none would allow".to_owned(),
        };
    }
    told
}

/// A policy of namespace `shop`, for all of it.
fn policy<const N: usize>(
    name: &str,
    action: PolicyAction,
    rules: [PolicyRule; N],
) -> AuthorizationPolicy {
    AuthorizationPolicy {
        name: name.into(),
        namespace: "shop".into(),
        scope: PolicyScope::Namespace,
        action,
        rules: rules.into(),
        dry_run: false,
    }
}

fn allow<const N: usize>(rules: [PolicyRule; N]) -> AuthorizationPolicy {
    policy("allow", PolicyAction::Allow, rules)
}

fn deny<const N: usize>(rules: [PolicyRule; N]) -> AuthorizationPolicy {
    policy("deny", PolicyAction::Deny, rules)
}

fn dry(policy: &mut AuthorizationPolicy) {
    policy.dry_run = true;
}

/// One clause with one match.
fn when(fill: impl FnOnce(&mut PolicyMatch)) -> PolicyRule {
    let mut one = PolicyMatch::default();
    fill(&mut one);
    all([any([one])])
}

fn all<const N: usize>(clauses: [PolicyClause; N]) -> PolicyRule {
    PolicyRule { clauses: clauses.into() }
}

fn any<const N: usize>(matches: [PolicyMatch; N]) -> PolicyClause {
    PolicyClause { matches: matches.into() }
}

fn everything() -> PolicyRule {
    all([])
}

fn from_ip(ip: &'static str) -> PolicyMatch {
    PolicyMatch { source_ips: vec![cidr(ip)], ..PolicyMatch::default() }
}

fn to_port(port: u16) -> PolicyMatch {
    PolicyMatch { destination_ports: vec![port], ..PolicyMatch::default() }
}

fn exact(text: &str) -> Vec<TextMatch> {
    vec![TextMatch::Exact(text.into())]
}

fn account(namespace: &str, service_account: &str) -> Vec<ServiceAccountMatch> {
    vec![ServiceAccountMatch {
        namespace: namespace.into(),
        service_account: service_account.into(),
    }]
}

impl With for AuthorizationPolicy {}

const NOT_ALLOWED: &str = "401: allow policies exist, but none allowed";
const DENIED: &str = "401: explicitly denied by: shop/deny rule 0";

#[test]
fn the_order_of_policies() {
    let never = || all([any([PolicyMatch::default()])]);
    check([
        row("no policy allows everyone", [], "10.1.0.9", "allowed"),
        row(
            "an ALLOW policy allows whom it says",
            [allow([everything()])],
            "10.1.0.9",
            "allowed by allow rule 0",
        ),
        row("and nobody else", [allow([never()])], "10.1.0.9", NOT_ALLOWED),
        row("one without rules allows nobody", [allow([])], "10.1.0.9", NOT_ALLOWED),
        row("one without rules denies nobody", [deny([])], "10.1.0.9", "allowed"),
        row(
            "DENY goes before ALLOW",
            [allow([everything()]), deny([everything()])],
            "10.1.0.9",
            DENIED,
        ),
        row(
            "a DENY that does not match leaves it to ALLOW",
            [allow([never()]), deny([never()])],
            "10.1.0.9",
            NOT_ALLOWED,
        ),
        row("a DENY that does not match allows", [deny([never()])], "10.1.0.9", "allowed"),
        row(
            "the rule that matched is named",
            [deny([never(), never(), everything()])],
            "10.1.0.9",
            "401: explicitly denied by: shop/deny rule 2",
        ),
    ]);
}

#[test]
fn dry_runs() {
    let never = || all([any([PolicyMatch::default()])]);
    let dry_deny = |rule| policy("dry-deny", PolicyAction::Deny, [rule]).with(dry);
    let dry_allow = |rule| policy("dry-allow", PolicyAction::Allow, [rule]).with(dry);
    check([
        row(
            "a DENY only tells",
            [dry_deny(everything())],
            "10.1.0.9",
            "allowed; dry-deny rule 0 would deny",
        ),
        row(
            "an ALLOW only tells",
            [dry_allow(everything())],
            "10.1.0.9",
            "allowed; dry-allow rule 0 would allow",
        ),
        row(
            "that none would allow is told",
            [dry_allow(never())],
            "10.1.0.9",
            "allowed; none would allow",
        ),
        row(
            "unless an ALLOW policy in force decides",
            [dry_allow(never()), allow([everything()])],
            "10.1.0.9",
            "allowed by allow rule 0",
        ),
        row(
            "an ALLOW on dry run allows nobody",
            [dry_allow(everything()), allow([never()])],
            "10.1.0.9",
            "401: allow policies exist, but none allowed; dry-allow rule 0 would allow",
        ),
        row(
            "of what is denied only DENY is told",
            [dry_deny(everything()), dry_allow(everything()), deny([everything()])],
            "10.1.0.9",
            "401: explicitly denied by: shop/deny rule 0; dry-deny rule 0 would deny",
        ),
    ]);
}

#[test]
fn rules_clauses_and_matches() {
    let nobody = || from_ip("192.0.2.0/24");
    let somebody = || from_ip("10.1.0.0/16");
    check([
        row(
            "any rule",
            [deny([all([any([nobody()])]), all([any([somebody()])])])],
            "10.1.0.9",
            "401: explicitly denied by: shop/deny rule 1",
        ),
        row(
            "all clauses",
            [deny([all([any([somebody()]), any([nobody()])])])],
            "10.1.0.9",
            "allowed",
        ),
        row(
            "all of them",
            [deny([all([any([somebody()]), any([to_port(8080)])])])],
            "10.1.0.9",
            DENIED,
        ),
        row("any match", [deny([all([any([nobody(), somebody()])])])], "10.1.0.9", DENIED),
        row("a clause without matches", [deny([all([any([])])])], "10.1.0.9", DENIED),
        row("beside another", [deny([all([any([]), any([nobody()])])])], "10.1.0.9", "allowed"),
        row("a match without lists", [deny([when(|_| {})])], "10.1.0.9", "allowed"),
        row(
            "beside another match",
            [deny([all([any([PolicyMatch::default(), somebody()])])])],
            "10.1.0.9",
            DENIED,
        ),
        row(
            "all lists of a match",
            [deny([when(|one| {
                one.source_ips = vec![cidr("10.1.0.0/16")];
                one.destination_ports = vec![9090];
            })])],
            "10.1.0.9",
            "allowed",
        ),
    ]);
}

#[test]
fn addresses_and_ports() {
    let source = |ip| deny([when(|one| one.source_ips = vec![cidr(ip)])]);
    let not_source = |ip| deny([when(|one| one.not_source_ips = vec![cidr(ip)])]);
    let to = |ip| deny([when(|one| one.destination_ips = vec![cidr(ip)])]);
    let not_to = |ip| deny([when(|one| one.not_destination_ips = vec![cidr(ip)])]);
    let ports = |list: &[u16]| deny([when(|one| one.destination_ports = list.into())]);
    let not_ports = |list: &[u16]| deny([when(|one| one.not_destination_ports = list.into())]);
    check([
        row("a source", [source("10.1.0.0/24")], "10.1.0.9", DENIED),
        row("another source", [source("10.2.0.0/24")], "10.1.0.9", "allowed"),
        row("not a source", [not_source("10.1.0.0/24")], "10.1.0.9", "allowed"),
        row("not another source", [not_source("10.2.0.0/24")], "10.1.0.9", DENIED),
        row("a mapped source", [source("10.1.0.9/32")], "::ffff:10.1.0.9", DENIED),
        row("a mapped range", [source("::ffff:10.1.0.0/120")], "10.1.0.9", DENIED),
        row("of the other family", [source("::/0")], "10.1.0.9", "allowed"),
        row("IPv6", [source("fd00::/8")], "fd00::9", DENIED),
        row("a destination", [to("10.1.0.1/32")], "10.1.0.9", DENIED),
        row("another destination", [to("10.1.0.9/32")], "10.1.0.9", "allowed"),
        row("not a destination", [not_to("10.1.0.1/32")], "10.1.0.9", "allowed"),
        row("not another destination", [not_to("10.1.0.9/32")], "10.1.0.9", DENIED),
        row("a port", [ports(&[9090, 8080])], "10.1.0.9", DENIED),
        row("another port", [ports(&[9090, 80])], "10.1.0.9", "allowed"),
        row("not a port", [not_ports(&[9090, 8080])], "10.1.0.9", "allowed"),
        row("not another port", [not_ports(&[9090])], "10.1.0.9", DENIED),
    ]);
}

#[test]
fn who_the_client_is() {
    let namespace = |list| deny([when(|one| one.namespaces = list)]);
    let not_namespace = |list| deny([when(|one| one.not_namespaces = list)]);
    let principal = |list| deny([when(|one| one.principals = list)]);
    let not_principal = |list| deny([when(|one| one.not_principals = list)]);
    let accounts = |list| deny([when(|one| one.service_accounts = list)]);
    let not_accounts = |list| deny([when(|one| one.not_service_accounts = list)]);
    let prefix = |text: &str| vec![TextMatch::Prefix(text.into())];
    let suffix = |text: &str| vec![TextMatch::Suffix(text.into())];
    let presence = || vec![TextMatch::Presence];
    let full = "cluster.local/ns/bank/sa/web";
    let client = "10.1.0.9 bank/web";
    check([
        row("a namespace", [namespace(exact("bank"))], client, DENIED),
        row("another namespace", [namespace(exact("ban"))], client, "allowed"),
        row("the start of a namespace", [namespace(prefix("ba"))], client, DENIED),
        row("the end of a namespace", [namespace(suffix("nk"))], client, DENIED),
        row("not a namespace", [not_namespace(exact("bank"))], client, "allowed"),
        row("without identity the namespace is empty", [namespace(exact(""))], "10.1.0.9", DENIED),
        row("which is not a presence", [namespace(presence())], "10.1.0.9", "allowed"),
        row("and not another namespace", [not_namespace(exact("bank"))], "10.1.0.9", DENIED),
        row("a principal", [principal(exact(full))], client, DENIED),
        row(
            "with its scheme it is another",
            [principal(exact(&format!("spiffe://{full}")))],
            client,
            "allowed",
        ),
        row(
            "the start of a principal",
            [principal(prefix("cluster.local/ns/bank/"))],
            client,
            DENIED,
        ),
        row("the end of a principal", [principal(suffix("/sa/web"))], client, DENIED),
        row("any principal", [principal(presence())], client, DENIED),
        row(
            "without identity there is no principal",
            [principal(prefix(""))],
            "10.1.0.9",
            "allowed",
        ),
        row("strict: not any principal", [not_principal(presence())], "10.1.0.9", DENIED),
        row("strict lets identities in", [not_principal(presence())], client, "allowed"),
        row("a service account", [accounts(account("bank", "web"))], client, DENIED),
        row("of another namespace", [accounts(account("shop", "web"))], client, "allowed"),
        row("without identity there is none", [accounts(account("", ""))], "10.1.0.9", "allowed"),
        row("not a service account", [not_accounts(account("bank", "web"))], client, "allowed"),
        row("not another", [not_accounts(account("bank", "web"))], "10.1.0.9", DENIED),
    ]);
}

#[test]
fn a_service_account_is_the_same_in_every_trust_domain() {
    let mut snapshot = mesh([pod("web-1", "10.1.0.1")], []);
    snapshot.upsert_policy(deny([when(|one| one.service_accounts = account("bank", "web"))]));
    let local = snapshot.workload_by_uid("c1//Pod/shop/web-1").unwrap();
    let identity = Identity::new("elsewhere.example", "bank", "web").unwrap();
    let to = "10.1.0.1:8080".parse().unwrap();
    let facts = Facts::new("10.1.0.9".parse().unwrap(), to, Some(&identity));
    assert_eq!(tell(&authorize(&snapshot, local, &facts)), DENIED);
}

#[test]
fn which_policies_are_for_a_workload() {
    let of = |scope, namespace: &str| {
        deny([everything()]).with(|policy| {
            policy.scope = scope;
            policy.namespace = namespace.into();
        })
    };
    check([
        row(
            "a global one of any namespace",
            [of(PolicyScope::Global, "root")],
            "10.1.0.9",
            "401: explicitly denied by: root/deny rule 0",
        ),
        row("one of its namespace", [of(PolicyScope::Namespace, "shop")], "10.1.0.9", DENIED),
        row("not one of another", [of(PolicyScope::Namespace, "bank")], "10.1.0.9", "allowed"),
        row(
            "not one it does not name",
            [of(PolicyScope::WorkloadSelector, "shop")],
            "10.1.0.9",
            "allowed",
        ),
    ]);
    let names = |names: &[&str]| {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        mesh([pod("web-1", "10.1.0.1").with(|pod| pod.authorization_policies = names)], [])
    };
    let mut named = names(&["shop/deny"]);
    named.upsert_policy(of(PolicyScope::WorkloadSelector, "shop"));
    assert_eq!(ask(&named, "10.1.0.9", "10.1.0.1:8080"), DENIED, "one it names");
    let mut elsewhere = names(&["bank/deny"]);
    elsewhere.upsert_policy(of(PolicyScope::WorkloadSelector, "bank"));
    let denied = "401: explicitly denied by: bank/deny rule 0";
    assert_eq!(ask(&elsewhere, "10.1.0.9", "10.1.0.1:8080"), denied, "of any namespace");
    let mut twice = names(&["shop/deny"]);
    twice.upsert_policy(of(PolicyScope::Namespace, "shop").with(dry));
    let told = "allowed; deny rule 0 would deny";
    assert_eq!(ask(&twice, "10.1.0.9", "10.1.0.1:8080"), told, "each is asked once");
}

#[test]
fn a_policy_that_is_named_and_unknown_lets_nobody_in() {
    let named = pod("web-1", "10.1.0.1")
        .with(|pod| pod.authorization_policies = vec!["shop/late".to_owned()]);
    let mut snapshot = mesh([named.clone()], []);
    let unknown = "401: the workload names a policy that is not known: shop/late";
    let asked = |snapshot: &Snapshot| ask(snapshot, "10.1.0.9", "10.1.0.1:8080");
    snapshot.upsert_policy(allow([everything()]));
    assert_eq!(asked(&snapshot), unknown, "though another allows");

    let late = policy("late", PolicyAction::Deny, []).with(|policy| {
        policy.scope = PolicyScope::WorkloadSelector;
    });
    snapshot.upsert_policy(late.clone());
    assert_eq!(asked(&snapshot), "allowed by allow rule 0", "known now");

    snapshot.remove_policy("shop", "late");
    assert_eq!(asked(&snapshot), "allowed by allow rule 0", "removed, and still named");
    crate::snapshot::fixture::upsert(&mut snapshot, named.clone());
    assert_eq!(asked(&snapshot), "allowed by allow rule 0", "named again by the same workload");

    snapshot.remove_workload("c1//Pod/shop/web-1");
    crate::snapshot::fixture::upsert(&mut snapshot, named);
    assert_eq!(asked(&snapshot), unknown, "nobody named it for a while, so it is forgotten");

    snapshot.upsert_policy(deny([everything()]));
    assert_eq!(asked(&snapshot), DENIED, "an explicit refusal tells more");
}

#[test]
fn a_name_that_is_none_lets_nobody_in() {
    let named =
        pod("web-1", "10.1.0.1").with(|pod| pod.authorization_policies = vec!["late".to_owned()]);
    let told = ask(&mesh([named], []), "10.1.0.9", "10.1.0.1:8080");
    assert_eq!(told, "401: the workload names a policy that is not known: late");
}
