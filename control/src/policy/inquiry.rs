//! Who may connect to whom: the very decision of the data plane, about a configuration and a connection that is only
//! thought of.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ringway_engine::decide::{DryRun, Facts, Matched, Refusal, authorize};
use ringway_engine::snapshot::{
    AuthorizationPolicy, PolicyScope, Snapshot, TunnelProtocol, Workload,
};
use ringway_protocols::identity::Identity;

use crate::source::MeshConfig;
use crate::source::did_you_mean;

/// A connection that is thought of.
#[derive(Clone, Debug)]
pub struct Inquiry {
    /// Who connects.
    pub client: Client,
    /// From where; `None`: from any address of the client.
    pub source: Option<IpAddr>,
    /// The namespace of the workload that is connected to.
    pub namespace: String,
    /// Its name.
    pub workload: String,
    /// Its port.
    pub port: u16,
}

/// Who connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// Somebody without an identity.
    Nobody,
    /// A service account of this node's trust domain.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// An identity.
    Identity(Identity),
}

/// What would become of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it is let in.
    pub allowed: bool,
    /// Why, as a sentence without a full stop.
    pub reason: String,
    /// The policy that decided, as `namespace/name`, and which of its rules, counted from 0.
    pub decided_by: Option<(String, Option<usize>)>,
    /// What policies on dry run would do.
    pub dry_runs: Vec<DryRunAnswer>,
}

/// What a policy on dry run would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRunAnswer {
    /// Whether it would let the connection in.
    pub allowed: bool,
    /// The policy and its rule; `None`: ALLOW policies on dry run, of which none matches.
    pub policy: Option<(String, usize)>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// There is no such workload.
    NoWorkload {
        /// Its namespace and name.
        name: String,
        /// What was probably meant.
        help: Option<String>,
    },
    /// Namespace and service account make no identity.
    NoIdentity(String),
    /// It depends on where the client connects from, and that is not known.
    NeedsSource {
        /// The policy that asks for it.
        policy: String,
    },
    /// The client has several addresses, and they are not treated alike.
    DependsOnSource(Vec<IpAddr>),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoAnswer::NoWorkload { name, .. } => write!(f, "there is no workload `{name}`"),
            NoAnswer::NoIdentity(error) => write!(f, "this is no identity: {error}"),
            NoAnswer::NeedsSource { policy } => {
                write!(f, "the policy {policy} asks where the client connects from")
            }
            NoAnswer::DependsOnSource(addresses) => {
                let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
                write!(f, "it depends on the client's address: {}", addresses.join(" or "))
            }
        }
    }
}

/// Answers.
///
/// # Errors
/// [`NoAnswer`] where the question is not complete, or about somebody who is not there.
pub fn ask(mesh: &MeshConfig, inquiry: &Inquiry) -> Result<Answer, NoAnswer> {
    let snapshot = &mesh.snapshot;
    let workload = find(snapshot, &inquiry.namespace, &inquiry.workload)?;
    if workload.protocol() == TunnelProtocol::Tcp {
        let reason = "the workload is outside the mesh, where no policy is enforced".to_owned();
        return Ok(Answer { allowed: true, reason, decided_by: None, dry_runs: Vec::new() });
    }
    let identity = identity(&inquiry.client, &mesh.node.trust_domain)?;
    let sources = sources(snapshot, workload, identity.as_ref(), inquiry.source)?;
    let own = workload.addresses().first().copied();
    let own = own.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let destination = SocketAddr::new(own, inquiry.port);
    let mut answers = sources.iter().map(|source| {
        let facts = Facts::new(*source, destination, identity.as_ref());
        answer(snapshot, workload, &facts)
    });
    let first = answers.next().expect("there is always an address to ask about");
    match answers.all(|other| other == first) {
        true => Ok(first),
        false => Err(NoAnswer::DependsOnSource(sources)),
    }
}

fn find<'s>(snapshot: &'s Snapshot, namespace: &str, name: &str) -> Result<&'s Workload, NoAnswer> {
    let in_namespace = || snapshot.workloads().filter(|each| each.namespace() == namespace);
    if let Some(found) = in_namespace().find(|each| each.name() == name) {
        return Ok(found);
    }
    let mut names: Vec<&str> = in_namespace().map(|each| each.name()).collect();
    names.sort_unstable();
    let help = did_you_mean(name, names);
    Err(NoAnswer::NoWorkload { name: format!("{namespace}/{name}"), help })
}

fn identity(client: &Client, trust_domain: &str) -> Result<Option<Identity>, NoAnswer> {
    match client {
        Client::Nobody => Ok(None),
        Client::Identity(identity) => Ok(Some(identity.clone())),
        Client::ServiceAccount { namespace, name } => {
            let identity = Identity::new(trust_domain, namespace, name);
            identity.map(Some).map_err(|error| NoAnswer::NoIdentity(error.to_string()))
        }
    }
}

/// The addresses to ask about: what was said, else those of the client's workloads, else any, if nobody cares.
fn sources(
    snapshot: &Snapshot,
    workload: &Workload,
    identity: Option<&Identity>,
    said: Option<IpAddr>,
) -> Result<Vec<IpAddr>, NoAnswer> {
    if let Some(said) = said {
        return Ok(vec![said]);
    }
    let Some(policy) = policies_of(snapshot, workload).find(|policy| asks_for_source(policy))
    else {
        return Ok(vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)]);
    };
    let mut sources: Vec<IpAddr> = snapshot
        .workloads()
        .filter(|each| identity == Some(each.identity()))
        .flat_map(|each| each.addresses().iter().copied())
        .collect();
    sources.sort_unstable();
    sources.dedup();
    match sources.is_empty() {
        true => Err(NoAnswer::NeedsSource { policy: name_of(policy) }),
        false => Ok(sources),
    }
}

fn policies_of<'s>(
    snapshot: &'s Snapshot,
    workload: &'s Workload,
) -> impl Iterator<Item = &'s AuthorizationPolicy> {
    snapshot.policies().map(|policy| &**policy).filter(|policy| match policy.scope {
        PolicyScope::Global => true,
        PolicyScope::Namespace => *policy.namespace == *workload.namespace(),
        PolicyScope::WorkloadSelector => {
            let name = name_of(policy);
            workload.authorization_policies().any(|named| named == name)
        }
    })
}

fn asks_for_source(policy: &AuthorizationPolicy) -> bool {
    let clauses = policy.rules.iter().flat_map(|rule| &rule.clauses);
    let mut matches = clauses.flat_map(|clause| &clause.matches);
    matches.any(|one| !one.source_ips.is_empty() || !one.not_source_ips.is_empty())
}

fn answer(snapshot: &Snapshot, workload: &Workload, facts: &Facts<'_>) -> Answer {
    let verdict = authorize(snapshot, workload, facts);
    let dry_runs = verdict.dry_runs.iter().map(dry_run).collect();
    let (allowed, reason, decided_by) = match verdict.outcome {
        Ok(None) => {
            let reason = "no policy denies it, and no ALLOW policy is for this workload";
            (true, reason.to_owned(), None)
        }
        Ok(Some(matched)) => {
            let (policy, rule) = named(matched);
            (true, format!("by {policy}, rule {rule}"), Some((policy, Some(rule))))
        }
        Err(refusal) => {
            let decided_by = refusal.policy().map(|(policy, rule)| (policy.to_owned(), rule));
            let reason = match (&refusal, &decided_by) {
                (Refusal::Denied { .. }, Some((policy, Some(rule)))) => {
                    format!("by {policy}, rule {rule}")
                }
                (Refusal::NotAllowed, _) => {
                    let reason = "there are ALLOW policies for this workload, and none matches";
                    reason.to_owned()
                }
                _ => refusal.to_string(),
            };
            (false, reason, decided_by)
        }
    };
    Answer { allowed, reason, decided_by, dry_runs }
}

fn dry_run(run: &DryRun<'_>) -> DryRunAnswer {
    match *run {
        DryRun::Denied(matched) => DryRunAnswer { allowed: false, policy: Some(named(matched)) },
        DryRun::Allowed(matched) => DryRunAnswer { allowed: true, policy: Some(named(matched)) },
        DryRun::NotAllowed => DryRunAnswer { allowed: false, policy: None },
    }
}

fn named(matched: Matched<'_>) -> (String, usize) {
    (name_of(matched.policy), matched.rule)
}

fn name_of(policy: &AuthorizationPolicy) -> String {
    format!("{}/{}", policy.namespace, policy.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Source, load};

    const MESH: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}, spec: {serviceAccountName: web}, status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-2, namespace: shop}, spec: {serviceAccountName: web}, status: {podIP: 10.0.1.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: db, namespace: shop, labels: {app: db}}, status: {podIP: 10.0.0.2}}
---
{apiVersion: v1, kind: Pod, metadata: {name: open, namespace: shop, labels: {app: open}}, status: {podIP: 10.0.0.3}}
---
{apiVersion: v1, kind: Pod, metadata: {name: outside}, status: {podIP: 10.0.0.4}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: db, namespace: shop}, spec: {selector: {matchLabels: {app: db}},
  rules: [{from: [{source: {serviceAccounts: [nobody]}}]}, {from: [{source: {serviceAccounts: [web]}}], to: [{operation: {ports: ['5432']}}]}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: block, namespace: shop}, spec: {selector: {matchLabels: {app: open}},
  action: DENY, rules: [{from: [{source: {ipBlocks: [10.0.1.0/24]}}]}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: soon, namespace: shop, annotations: {istio.io/dry-run: 'true'}}, spec: {selector: {matchLabels: {app: open}},
  action: DENY, rules: [{to: [{operation: {ports: ['80']}}]}]}}
---
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: open, namespace: shop}, spec: {selector: {matchLabels: {app: open}}, mtls: {mode: PERMISSIVE}}}
";

    fn asked(from: &str, source: Option<&str>, to: &str, port: u16) -> Result<Answer, NoAnswer> {
        let source_text = Source::Text { name: "mesh.yaml".into(), text: MESH.into() };
        let mesh = load(&[source_text], Some("host-a")).unwrap_or_else(|error| panic!("{error}"));
        let client = match from.split_once('/') {
            None => Client::Nobody,
            Some((namespace, name)) => {
                Client::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() }
            }
        };
        let source = source.map(|source| source.parse().unwrap());
        let (namespace, workload) = to.split_once('/').unwrap();
        let (namespace, workload) = (namespace.to_owned(), workload.to_owned());
        ask(&mesh, &Inquiry { client, source, namespace, workload, port })
    }

    #[test]
    fn the_answer_names_who_decided() {
        let strict = "istio-system/istio_converted_static_strict";
        let rows = [
            ("shop/web", None, "shop/db", 5432, true, Some(("shop/db", Some(1)))),
            ("shop/web", None, "shop/db", 80, false, None),
            ("shop/other", None, "shop/db", 5432, false, None),
            ("none", None, "shop/db", 5432, false, Some((strict, Some(0)))),
            ("shop/db", None, "shop/web", 80, true, None),
            ("none", None, "shop/web", 80, false, Some((strict, Some(0)))),
            ("none", Some("10.9.9.9"), "shop/open", 80, true, None),
            ("none", Some("10.0.1.9"), "shop/open", 80, false, Some(("shop/block", Some(0)))),
            ("shop/web", Some("10.0.1.1"), "shop/open", 8080, false, Some(("shop/block", Some(0)))),
            ("none", None, "default/outside", 80, true, None),
        ];
        for (from, source, to, port, allowed, by) in rows {
            let answer = asked(from, source, to, port).unwrap();
            let want = by.map(|(policy, rule)| (policy.to_owned(), rule));
            assert_eq!(
                (answer.allowed, answer.decided_by),
                (allowed, want),
                "{from} to {to}:{port}"
            );
        }
    }

    #[test]
    fn a_dry_run_is_told_beside_the_answer() {
        let told = |port| asked("none", Some("10.9.9.9"), "shop/open", port).unwrap().dry_runs;
        let denied = DryRunAnswer { allowed: false, policy: Some(("shop/soon".to_owned(), 0)) };
        assert_eq!((told(80), told(81)), (vec![denied], vec![]));
    }

    #[test]
    fn where_it_depends_on_what_was_not_said_there_is_no_answer() {
        let addresses = ["10.0.0.1", "10.0.1.1"].map(|ip| ip.parse().unwrap());
        let rows = [
            ("shop/web", "shop/open", NoAnswer::DependsOnSource(addresses.to_vec())),
            ("none", "shop/open", NoAnswer::NeedsSource { policy: "shop/block".to_owned() }),
            ("shop/x", "shop/open", NoAnswer::NeedsSource { policy: "shop/block".to_owned() }),
            (
                "none",
                "shop/dp",
                NoAnswer::NoWorkload {
                    name: "shop/dp".to_owned(),
                    help: Some("did you mean `db`?".to_owned()),
                },
            ),
        ];
        for (from, to, want) in rows {
            assert_eq!(asked(from, None, to, 8080).unwrap_err(), want, "{from} to {to}");
        }
        let nobody = asked("none", None, "shop/dp", 8080).unwrap_err().to_string();
        assert_eq!(nobody, "there is no workload `shop/dp`");
        assert!(matches!(asked("a/_!", None, "shop/db", 1), Err(NoAnswer::NoIdentity(_))));
    }
}
