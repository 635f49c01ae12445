//! Which policies are for which workloads.
//!
//! A policy without a selector is for its namespace, or, in the root namespace, for the mesh; the data plane finds it
//! by its scope. One with a selector is named by the workloads it selects, as is what the PeerAuthentications come to.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ringway_engine::snapshot::{AuthorizationPolicy, PolicyScope, TextMatch};

use super::label_index::{EVERYWHERE, LabelIndex};
use super::mutual_tls::MutualTlsModes;
use crate::source::diagnostics::suggest::one_of;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::objects::Template;
use crate::source::security::{AuthorizationObject, PeerAuthenticationObject};
use crate::source::world::World;

/// All policies of objects.
pub(super) struct Policies<'o> {
    authorizations: &'o [AuthorizationObject],
    root_namespace: &'o str,
    selecting: Vec<Selecting<'o>>,
    index: LabelIndex<'o>,
    mutual_tls: MutualTlsModes<'o>,
    /// Where the first PeerAuthentication is.
    peer_authentication: Option<Place>,
    /// By the address of the template, of which there is one for all equal workloads, and which outlives this.
    names: HashMap<usize, Vec<String>>,
}

/// A policy with a selector.
struct Selecting<'o> {
    object: &'o AuthorizationObject,
    /// A workload of the mesh is among those it selects.
    in_mesh: bool,
    outside: bool,
}

impl<'o> Policies<'o> {
    pub(super) fn new(
        authorizations: &'o [AuthorizationObject],
        peer_authentications: &'o [PeerAuthenticationObject],
        root_namespace: &'o str,
        reporter: &mut Reporter,
    ) -> Policies<'o> {
        let selecting = || authorizations.iter().filter(|object| object.selector.is_some());
        let index = LabelIndex::new(selecting().filter_map(|object| {
            let namespace = &*object.policy.namespace;
            let namespace = if namespace == root_namespace { EVERYWHERE } else { namespace };
            Some((namespace, object.selector.as_ref()?))
        }));
        Policies {
            authorizations,
            root_namespace,
            selecting: selecting()
                .map(|object| Selecting { object, in_mesh: false, outside: false })
                .collect(),
            index,
            mutual_tls: MutualTlsModes::new(peer_authentications, root_namespace, reporter),
            peer_authentication: peer_authentications.iter().map(|object| object.place).min(),
            names: HashMap::new(),
        }
    }

    /// What a workload has to name, as `namespace/name`. Outside the mesh nobody would look.
    pub(super) fn names(&mut self, template: &Arc<Template>, in_mesh: bool) -> Vec<String> {
        if !in_mesh {
            for number in self.index.select(&template.namespace, &template.labels) {
                self.selecting[number].outside = true;
            }
            return Vec::new();
        }
        let key = Arc::as_ptr(template) as usize;
        if let Some(known) = self.names.get(&key) {
            return known.clone();
        }
        let selected = self.index.select(&template.namespace, &template.labels);
        let mut names = Vec::with_capacity(selected.len() + 1);
        for number in selected {
            let Selecting { object, in_mesh, .. } = &mut self.selecting[number];
            *in_mesh = true;
            names.push(format!("{}/{}", object.policy.namespace, object.policy.name));
        }
        names.extend(self.mutual_tls.name(template));
        self.names.insert(key, names.clone());
        names
    }

    /// Reports what selects nobody, or nobody for whom it could be enforced.
    pub(super) fn report(&self, reporter: &mut Reporter) {
        self.mutual_tls.report(reporter);
        for Selecting { object, in_mesh, outside } in &self.selecting {
            if *in_mesh || reporter.has_errors() {
                continue;
            }
            let whom = match outside {
                true => "only workloads outside the mesh, for whom nobody enforces it",
                false => "no workload",
            };
            let message = format!("the selector of `{}` selects {whom}", object.policy.name);
            reporter.report(Problem::warning(object.place, message));
        }
    }

    /// Principals of a trust domain that nobody of this mesh is of match nobody.
    pub(super) fn report_trust_domains(
        authorizations: &[AuthorizationObject],
        known: &BTreeSet<&str>,
        reporter: &mut Reporter,
    ) {
        for AuthorizationObject { place, policy, .. } in authorizations {
            let unknown = principals(policy).filter_map(trust_domain);
            let unknown: BTreeSet<&str> = unknown.filter(|name| !known.contains(name)).collect();
            for name in unknown {
                let message = format!(
                    "`{}` names the trust domain `{name}`, of which nobody is",
                    policy.name
                );
                let help = format!("this mesh has {}", one_of(known.iter().copied()));
                reporter.report(Problem::warning(*place, message).help(help));
            }
        }
    }

    /// Workloads of a local file have the policies they name, and no labels by which they could be selected.
    pub(super) fn report_unreached(&self, world: &World, reporter: &mut Reporter) {
        let Some(place) = self.peer_authentication else { return };
        let unreached = world.local_in_mesh();
        if unreached > 0 {
            let message = format!(
                "PeerAuthentications say nothing about the {unreached} workloads of ztunnel's local file"
            );
            let help = "these have exactly the policies that their `authorizationPolicies` name"
                .to_owned();
            reporter.report(Problem::warning(place, message).help(help));
        }
    }

    /// Adds every policy.
    pub(super) fn add(self, world: &mut World) {
        for object in self.authorizations {
            let scope = match &object.selector {
                Some(_) => PolicyScope::WorkloadSelector,
                None if *object.policy.namespace == *self.root_namespace => PolicyScope::Global,
                None => PolicyScope::Namespace,
            };
            world.add_policy(AuthorizationPolicy { scope, ..object.policy.clone() });
        }
        for policy in self.mutual_tls.into_policies() {
            world.add_policy(policy);
        }
    }
}

fn principals(policy: &AuthorizationPolicy) -> impl Iterator<Item = &TextMatch> {
    let clauses = policy.rules.iter().flat_map(|rule| &rule.clauses);
    let matches = clauses.flat_map(|clause| &clause.matches);
    matches.flat_map(|one| one.principals.iter().chain(&one.not_principals))
}

/// The part before the first `/`, where there is no wildcard in it.
fn trust_domain(principal: &TextMatch) -> Option<&str> {
    match principal {
        TextMatch::Exact(text) | TextMatch::Prefix(text) => Some(text.split_once('/')?.0),
        TextMatch::Suffix(_) | TextMatch::Presence => None,
    }
}
