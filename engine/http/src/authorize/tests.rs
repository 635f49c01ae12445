//! Single rules against single requests; whole sets of policies are compared with an oracle in `tests/authorization`.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ringway_protocols::identity::Identity;

use super::*;
use crate::model::policy::{
    AuthorizationRule, Condition, Operation, PathPattern, ServiceAccount, Source, TextMatch, Wanted,
};

fn texts(texts: &[&str]) -> Vec<TextMatch> {
    let one = |text: &&str| match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(""), _) => TextMatch::Presence,
        (Some(rest), _) => TextMatch::Suffix(rest.into()),
        (_, Some(rest)) => TextMatch::Prefix(rest.into()),
        _ => TextMatch::Exact((*text).into()),
    };
    texts.iter().map(one).collect()
}

fn any(list: &[&str]) -> Wanted<TextMatch> {
    Wanted { any: texts(list), none: Vec::new() }
}

fn none(list: &[&str]) -> Wanted<TextMatch> {
    Wanted { any: Vec::new(), none: texts(list) }
}

fn paths(list: &[&str]) -> Vec<PathPattern> {
    let one = |text: &&str| match PathTemplate::is_meant(text) {
        true => PathPattern::Template((*text).into()),
        false => PathPattern::Text(texts(&[text]).remove(0)),
    };
    list.iter().map(one).collect()
}

fn from(source: Source) -> AuthorizationRule {
    AuthorizationRule { from: vec![source], ..AuthorizationRule::default() }
}

fn to(operation: Operation) -> AuthorizationRule {
    AuthorizationRule { to: vec![operation], ..AuthorizationRule::default() }
}

fn when(condition: Condition) -> AuthorizationRule {
    AuthorizationRule { when: vec![condition], ..AuthorizationRule::default() }
}

fn policy(
    name: &str,
    action: Action,
    rules: Vec<AuthorizationRule>,
) -> Attached<AuthorizationPolicy> {
    let name = PolicyName { namespace: "shop".into(), name: name.into() };
    let policy = AuthorizationPolicy { action, rules, dry_run: false };
    Attached { name, targets: Vec::new(), policy }
}

fn dry(policy: Attached<AuthorizationPolicy>) -> Attached<AuthorizationPolicy> {
    let said = AuthorizationPolicy { dry_run: true, ..policy.policy };
    Attached { policy: said, ..policy }
}

fn set(policies: Vec<Attached<AuthorizationPolicy>>) -> Authorizations {
    let mut set = Authorizations::default();
    policies.iter().for_each(|policy| set.add(policy).unwrap());
    set
}

/// `GET http://shop.example:8080/a/b?c` from `shop/web` at 10.0.0.1 to 10.9.0.1:80.
struct Asking {
    identity: Option<Identity>,
    method: Method,
    path: &'static str,
    authority: &'static str,
    headers: HeaderMap,
}

impl Asking {
    fn new() -> Asking {
        let mut headers = HeaderMap::new();
        headers.append("x-team", HeaderValue::from_static("red"));
        headers.append("x-team", HeaderValue::from_static("blue"));
        headers.insert("x-empty", HeaderValue::from_static(""));
        Asking {
            identity: Some(Identity::new("cluster.local", "shop", "web").unwrap()),
            method: Method::GET,
            path: "/a/b",
            authority: "Shop.Example:8080",
            headers,
        }
    }

    fn facts(&self) -> Facts<'_> {
        let request = RequestFacts {
            method: &self.method,
            path: self.path,
            authority: Some(self.authority),
            headers: &self.headers,
            token: None,
        };
        self.connection().with_request(request)
    }

    fn connection(&self) -> Facts<'_> {
        let source = "10.0.0.1".parse().unwrap();
        Facts::new(self.identity.as_ref(), source, "10.9.0.1:80".parse().unwrap())
    }
}

fn header(name: &'static str, wanted: Wanted<TextMatch>) -> Condition {
    Condition::Header(HeaderName::from_static(name), wanted)
}

#[test]
fn single_rules() {
    let account = |namespace: &str, name: &str| ServiceAccount {
        namespace: namespace.into(),
        name: name.into(),
    };
    let hosts = |hosts| to(Operation { hosts, ..Operation::default() });
    let path = |list: &[&str]| {
        let paths = Wanted { any: paths(list), none: Vec::new() };
        to(Operation { paths, ..Operation::default() })
    };
    let ip = |range: &str| Wanted { any: vec![range.parse().unwrap()], none: Vec::new() };
    #[rustfmt::skip]
    let rows: Vec<(&str, AuthorizationRule, bool)> = vec![
        ("nothing said",                AuthorizationRule::default(), true),
        ("a source that says nothing",  from(Source::default()), true),
        ("principal",                   from(Source { principals: any(&["cluster.local/ns/shop/sa/web"]), ..Source::default() }), true),
        ("principal with scheme",       from(Source { principals: any(&["spiffe://cluster.local/*"]), ..Source::default() }), false),
        ("not principal",               from(Source { principals: none(&["*"]), ..Source::default() }), false),
        ("namespace",                   from(Source { namespaces: any(&["sh*"]), ..Source::default() }), true),
        ("service account",             from(Source { service_accounts: Wanted { any: vec![account("shop", "web")], none: vec![] }, ..Source::default() }), true),
        ("another account",             from(Source { service_accounts: Wanted { any: vec![account("web", "shop")], none: vec![] }, ..Source::default() }), false),
        ("trust domain",                from(Source { trust_domains: any(&["cluster.local"]), ..Source::default() }), true),
        ("not trust domain",            from(Source { trust_domains: none(&["cluster.local"]), ..Source::default() }), false),
        ("own address",                 from(Source { ips: ip("10.0.0.0/24"), ..Source::default() }), true),
        ("mapped range",                from(Source { ips: ip("::ffff:10.0.0.0/120"), ..Source::default() }), true),
        ("remote address is the own",   from(Source { remote_ips: ip("10.0.0.1/32"), ..Source::default() }), true),
        ("no token, no principal",      from(Source { request_principals: any(&["*"]), ..Source::default() }), false),
        ("no token, no such principal", from(Source { request_principals: none(&["*"]), ..Source::default() }), true),
        ("host, whatever its case",     hosts(any(&["sHop.example"])), true),
        ("host with its port",          hosts(any(&["shop.example:8080"])), true),
        ("host with another port",      hosts(any(&["shop.example:80"])), false),
        ("host begins",                 hosts(any(&["SHOP.*"])), true),
        ("host ends, without port",     hosts(any(&["*.example"])), true),
        ("not host",                    hosts(none(&["shop.example"])), false),
        ("port",                        to(Operation { ports: Wanted { any: vec![80, 81], none: vec![] }, ..Operation::default() }), true),
        ("method",                      to(Operation { methods: any(&["GET"]), ..Operation::default() }), true),
        ("method has case",             to(Operation { methods: any(&["get"]), ..Operation::default() }), false),
        ("path",                        path(&["/a/b"]), true),
        ("path has case",               path(&["/A/b"]), false),
        ("path begins",                 path(&["/a/*"]), true),
        ("path ends",                   path(&["*/b"]), true),
        ("path template",               path(&["/x", "/{*}/b"]), true),
        ("another template",            path(&["/{*}/c"]), false),
        ("any path",                    path(&["*"]), true),
        ("header, joined",              when(header("x-team", any(&["red,blue"]))), true),
        ("header, one of two",          when(header("x-team", any(&["blue"]))), false),
        ("header that is empty",        when(header("x-empty", any(&["*"]))), false),
        ("header that is not there",    when(header("x-none", any(&["*"]))), false),
        ("not, not there",              when(header("x-none", none(&["*"]))), true),
        ("server name, not there",      when(Condition::Sni(any(&["*"]))), false),
        ("not server name, not there",  when(Condition::Sni(none(&["a"]))), true),
        ("claim without a token",       when(Condition::Claim(vec!["a".into()], any(&["*"]))), false),
        ("destination address",         when(Condition::DestinationIp(ip("10.9.0.1/32"))), true),
    ];
    let asking = Asking::new();
    for (name, rule, want) in rows {
        let set = set(vec![policy("p", Action::Allow, vec![rule])]);
        assert_eq!(authorize(&[&set], &asking.facts()).outcome.is_ok(), want, "{name}");
    }
}

#[test]
fn a_dot_at_the_end_of_a_host_makes_it_no_other() {
    let set = set(vec![policy(
        "p",
        Action::Deny,
        vec![to(Operation { hosts: any(&["shop.example"]), ..Operation::default() })],
    )]);
    for authority in ["shop.example.", "SHOP.EXAMPLE.:80", "shop.example:80", "shop.example"] {
        let asking = Asking { authority, ..Asking::new() };
        assert!(authorize(&[&set], &asking.facts()).outcome.is_err(), "{authority}");
    }
}

#[test]
fn the_order_of_decisions() {
    let all = || vec![AuthorizationRule::default()];
    let nobody = Vec::new;
    let allow = |name, rules| policy(name, Action::Allow, rules);
    let deny = |name, rules| policy(name, Action::Deny, rules);
    const NOT: &str = "rbac_access_denied_matched_policy[none]";
    #[rustfmt::skip]
    let rows = [
        ("no policy",                      vec![], Ok(None)),
        ("allowed by the second",          vec![allow("a", nobody()), allow("b", all())], Ok(Some("b"))),
        ("allows nobody",                  vec![allow("a", nobody())], Err(NOT)),
        ("denied despite allow",           vec![allow("a", all()), deny("d", all())], Err("rbac_access_denied_matched_policy[ns[shop]-policy[d]-rule[0]]")),
        ("denies nobody",                  vec![deny("d", nobody())], Ok(None)),
        ("dry runs decide nothing",        vec![dry(deny("d", all())), dry(allow("a", nobody()))], Ok(None)),
        ("audits decide nothing",          vec![policy("u", Action::Audit, all())], Ok(None)),
        ("custom ones decide elsewhere",   vec![policy("c", Action::Custom("x".into()), all())], Ok(None)),
    ];
    let asking = Asking::new();
    for (name, policies, want) in rows {
        let set = set(policies);
        let facts = asking.facts();
        let got = authorize(&[&set], &facts).outcome;
        let got = got.map(|matched| matched.map(|matched| matched.policy.name.to_string()));
        let got = got.map_err(|denied| denied.details());
        assert_eq!(got, want.map(|name| name.map(str::to_owned)).map_err(str::to_owned), "{name}");
    }
}

#[test]
fn dry_runs_and_audits_are_told() {
    let all = || vec![AuthorizationRule::default()];
    let asking = Asking::new();
    let told = |policies| {
        let set = set(policies);
        let facts = asking.facts();
        let verdict = authorize(&[&set], &facts);
        (
            format!("{:?}", verdict.dry_runs.iter().map(kind).collect::<Vec<_>>()),
            verdict.audits.len(),
        )
    };
    fn kind(dry_run: &DryRun<'_>) -> &'static str {
        match dry_run {
            DryRun::Denied(_) => "denied",
            DryRun::Allowed(_) => "allowed",
            DryRun::Asked(_) => "asked",
            DryRun::NotAllowed => "not allowed",
        }
    }
    let [allow, deny] = [Action::Allow, Action::Deny];
    assert_eq!(told(vec![dry(policy("d", deny.clone(), all()))]), (r#"["denied"]"#.into(), 0));
    assert_eq!(told(vec![dry(policy("a", allow.clone(), all()))]), (r#"["allowed"]"#.into(), 0));
    assert_eq!(
        told(vec![dry(policy("a", allow.clone(), vec![])), policy("u", Action::Audit, all())]),
        (r#"["not allowed"]"#.into(), 1)
    );
    assert_eq!(
        told(vec![dry(policy("a", allow.clone(), vec![])), policy("b", allow, all())]),
        ("[]".into(), 0)
    );
}

#[test]
fn providers_are_asked_once_each() {
    let all = || vec![AuthorizationRule::default()];
    let custom = |name, provider: &str, rules| policy(name, Action::Custom(provider.into()), rules);
    let sets = [
        set(vec![custom("a", "x", all()), custom("b", "y", vec![]), custom("c", "x", all())]),
        set(vec![custom("d", "z", all()), dry(custom("e", "w", all()))]),
    ];
    let asking = Asking::new();
    let facts = asking.facts();
    let asked = asked(&[&sets[0], &sets[1]], &facts);
    let names: Vec<_> =
        asked.providers.iter().map(|(name, by)| (&***name, &*by.policy.name)).collect();
    assert_eq!(names, [("x", "a"), ("z", "d")]);
    assert_eq!(asked.dry_runs.len(), 1);
}

/// What carries no requests is judged by the rest of a rule: nothing is allowed by it, and more is denied.
#[test]
fn a_connection_without_requests() {
    let get = || to(Operation { methods: any(&["POST"]), ..Operation::default() });
    let not_get = || to(Operation { methods: none(&["GET"]), ..Operation::default() });
    let asking = Asking::new();
    for rule in [get, not_get] {
        let allow = set(vec![policy("p", Action::Allow, vec![rule()])]);
        let deny = set(vec![policy("p", Action::Deny, vec![rule()])]);
        let custom = set(vec![policy("p", Action::Custom("x".into()), vec![rule()])]);
        let facts = asking.connection();
        assert_eq!(authorize(&[&allow], &facts).outcome, Err(Denied::NotAllowed));
        assert!(authorize(&[&deny], &facts).outcome.is_err());
        assert_eq!(asked(&[&custom], &facts).providers.len(), 1);
    }
    let elsewhere = from(Source { namespaces: any(&["bank"]), ..Source::default() });
    let rule = AuthorizationRule { from: elsewhere.from, ..get() };
    let deny = set(vec![policy("p", Action::Deny, vec![rule])]);
    assert!(authorize(&[&deny], &asking.connection()).outcome.is_ok());
}

#[test]
fn a_template_that_is_none_is_a_mistake() {
    let paths = Wanted { any: vec![PathPattern::Template("/{*}x".into())], none: Vec::new() };
    let rule = to(Operation { paths, ..Operation::default() });
    let mut set = Authorizations::default();
    let error = set.add(&policy("p", Action::Allow, vec![rule])).unwrap_err();
    assert_eq!(error, TemplateError::NotWhole);
}
