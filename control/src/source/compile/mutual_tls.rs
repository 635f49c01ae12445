//! What the PeerAuthentications mean for each workload, as DENY policies against clients without an identity.
//!
//! What is said for a workload wins over its namespace, that over the mesh. Where nothing is said it is STRICT: who is
//! to be let in without an identity has to be named. A DENY policy cannot be taken back by another one, so workloads
//! name theirs, and there is none for all of them.

use std::collections::{BTreeSet, HashMap};

use ringway_engine::snapshot::{
    AuthorizationPolicy, PolicyAction, PolicyClause, PolicyMatch, PolicyRule, PolicyScope,
    TextMatch,
};

use super::label_index::LabelIndex;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::objects::Template;
use crate::source::security::{MutualTls, PeerAuthenticationObject};

/// Denies every client without an identity; in the root namespace.
const STATIC_STRICT: &str = "istio_converted_static_strict";

/// Before the name of a PeerAuthentication with ports. Names of objects have no `_`, so it is nobody's name.
const CONVERTED: &str = "converted_peer_authentication_";

/// All PeerAuthentications.
pub(super) struct MutualTlsModes<'o> {
    root_namespace: &'o str,
    mesh: MutualTls,
    namespaces: HashMap<&'o str, MutualTls>,
    /// Those with a selector, and what each comes to.
    selecting: Vec<(&'o PeerAuthenticationObject, Outcome)>,
    index: LabelIndex<'o>,
    selected: BTreeSet<usize>,
    /// Pairs that contradict each other.
    conflicts: BTreeSet<(usize, usize)>,
}

/// Whether policies of this name are made here.
pub(super) fn is_converted(name: &str) -> bool {
    name == STATIC_STRICT || name.starts_with(CONVERTED)
}

/// What becomes of a workload.
enum Outcome {
    /// Clients without an identity are let in.
    Open,
    /// They are not.
    Strict,
    /// It depends on the port.
    Policy(Box<AuthorizationPolicy>),
}

impl<'o> MutualTlsModes<'o> {
    pub(super) fn new(
        objects: &'o [PeerAuthenticationObject],
        root_namespace: &'o str,
        reporter: &mut Reporter,
    ) -> MutualTlsModes<'o> {
        report_two_for_one(objects, root_namespace, reporter);
        let (selecting, wide): (Vec<_>, Vec<_>) =
            objects.iter().partition(|object| object.selector.is_some());
        let said = wide.iter().filter_map(|object| Some((&*object.namespace, object.mode?)));
        let mut namespaces: HashMap<&str, MutualTls> = said.collect();
        // Workloads of the root namespace have the mode of the mesh anyway.
        let mesh = namespaces.remove(root_namespace).unwrap_or(MutualTls::Strict);
        let effective = effective(selecting, root_namespace, reporter);
        let index = LabelIndex::new(
            effective
                .iter()
                .filter_map(|object| Some((&*object.namespace, object.selector.as_ref()?))),
        );
        let selecting = effective.into_iter().map(|object| {
            let wider = namespaces.get(&*object.namespace).copied().unwrap_or(mesh);
            (object, outcome(object, wider))
        });
        let selecting = selecting.collect();
        let (selected, conflicts) = (BTreeSet::new(), BTreeSet::new());
        MutualTlsModes { root_namespace, mesh, namespaces, selecting, index, selected, conflicts }
    }

    /// The policy that a workload has to name, as `namespace/name`.
    pub(super) fn name(&mut self, template: &Template) -> Option<String> {
        let numbers = self.index.select(&template.namespace, &template.labels);
        self.selected.extend(&numbers);
        for pair in numbers.windows(2) {
            self.conflicts.insert((pair[0], pair[1]));
        }
        let strict = || format!("{}/{STATIC_STRICT}", self.root_namespace);
        match numbers.first().map(|number| &self.selecting[*number].1) {
            Some(Outcome::Open) => None,
            Some(Outcome::Strict) => Some(strict()),
            Some(Outcome::Policy(policy)) => Some(format!("{}/{}", policy.namespace, policy.name)),
            None => {
                let mode = self.namespaces.get(&*template.namespace).unwrap_or(&self.mesh);
                (*mode == MutualTls::Strict).then(strict)
            }
        }
    }

    /// Two that select one workload, and those that select none.
    pub(super) fn report(&self, reporter: &mut Reporter) {
        for (first, second) in &self.conflicts {
            let (first, second) = (self.selecting[*first].0, self.selecting[*second].0);
            let message = format!(
                "the PeerAuthentications `{}` and `{}` select the same workload",
                first.name, second.name
            );
            let problem =
                Problem::error(second.place, message).related(first.place, "the other one");
            reporter.report(problem.help("only one may say how a workload is reached".to_owned()));
        }
        for (number, (object, _)) in self.selecting.iter().enumerate() {
            if !self.selected.contains(&number) && !reporter.has_errors() {
                let message =
                    format!("the selector of `{}` selects no workload of the mesh", object.name);
                reporter.report(Problem::warning(object.place, message));
            }
        }
    }

    /// The policies that workloads can name.
    pub(super) fn into_policies(self) -> Vec<AuthorizationPolicy> {
        let strict = vec![without_identity()];
        let strict = deny(STATIC_STRICT.to_owned(), self.root_namespace, strict);
        let converted = self.selecting.into_iter().filter_map(|(_, outcome)| match outcome {
            Outcome::Policy(policy) => Some(*policy),
            Outcome::Open | Outcome::Strict => None,
        });
        std::iter::once(strict).chain(converted).collect()
    }
}

/// Two for the whole mesh or for one namespace: which one counts would be a guess.
fn report_two_for_one(
    objects: &[PeerAuthenticationObject],
    root_namespace: &str,
    reporter: &mut Reporter,
) {
    let mut first: HashMap<&str, &PeerAuthenticationObject> = HashMap::new();
    for object in objects.iter().filter(|object| object.selector.is_none()) {
        let Some(other) = first.get(&*object.namespace) else {
            first.insert(&object.namespace, object);
            continue;
        };
        let what = match &*object.namespace {
            namespace if namespace == root_namespace => "the whole mesh".to_owned(),
            namespace => format!("the whole namespace `{namespace}`"),
        };
        let message = format!("two PeerAuthentications are for {what}");
        let problem = Problem::error(object.place, message).related(other.place, "the other one");
        reporter.report(problem.help("keep one, or give one of them a `selector`".to_owned()));
    }
}

/// As in Istio, one of the root namespace is for the whole mesh or for nobody.
fn effective<'o>(
    selecting: Vec<&'o PeerAuthenticationObject>,
    root_namespace: &str,
    reporter: &mut Reporter,
) -> Vec<&'o PeerAuthenticationObject> {
    let (without, with): (Vec<_>, Vec<_>) =
        selecting.into_iter().partition(|object| *object.namespace == *root_namespace);
    for object in without {
        let message = format!(
            "`{}` has no effect: in the root namespace `{root_namespace}` a selector selects nobody",
            object.name
        );
        let help = "put it into the namespace of the workloads".to_owned();
        reporter.report(Problem::warning(object.place, message).help(help));
    }
    with
}

fn outcome(object: &PeerAuthenticationObject, wider: MutualTls) -> Outcome {
    let base = object.mode.unwrap_or(wider);
    let others = object.ports.iter().filter(|(_, mode)| *mode != base);
    let others: Vec<u16> = others.map(|(port, _)| *port).collect();
    let ports = match (base, others.is_empty()) {
        (MutualTls::Permissive, true) => return Outcome::Open,
        (MutualTls::Strict, true) => return Outcome::Strict,
        (MutualTls::Permissive, false) => {
            PolicyMatch { destination_ports: others, ..PolicyMatch::default() }
        }
        (MutualTls::Strict, false) => {
            PolicyMatch { not_destination_ports: others, ..PolicyMatch::default() }
        }
    };
    let clauses = vec![without_identity(), PolicyClause { matches: vec![ports] }];
    let name = format!("{CONVERTED}{}", object.name);
    Outcome::Policy(Box::new(deny(name, &object.namespace, clauses)))
}

/// "Not any principal": who has no identity.
fn without_identity() -> PolicyClause {
    let anybody = vec![TextMatch::Presence];
    PolicyClause {
        matches: vec![PolicyMatch { not_principals: anybody, ..PolicyMatch::default() }],
    }
}

fn deny(name: String, namespace: &str, clauses: Vec<PolicyClause>) -> AuthorizationPolicy {
    AuthorizationPolicy {
        name: name.into(),
        namespace: namespace.into(),
        scope: PolicyScope::WorkloadSelector,
        action: PolicyAction::Deny,
        rules: vec![PolicyRule { clauses }],
        dry_run: false,
    }
}
