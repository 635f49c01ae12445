//! Routes: to what they attach, and what their rules come to.

use ringway_http::model::{
    Backend, BackendTarget, Filter, Mirror, Parent, Route, RouteName, Rule, WeightedBackend,
};

use ringway_http::path::PathMode;
use ringway_http::tables::{CompileError, check_route};

use super::backends::{Unresolved, resolve};
use super::gateways::Gateways;
use super::known_listener::kind_name;
use super::parents::attach;
use super::registry::Registry;
use super::warn;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::gateway::objects::routed::{
    BackendObject, BackendReference, FilterObject, ParentReference, RouteObject, RuleObject,
};
use crate::source::gateway::status::{Condition, ObjectStatus, ParentStatus};
use crate::source::gateway::values::GATEWAY_GROUP;

/// The oldest first. Those of one second go by name, as the standard says; those without a time in the order of the
/// documents, after those with one.
pub(super) fn by_age(routes: &[RouteObject]) -> Vec<&RouteObject> {
    let mut sorted: Vec<&RouteObject> = routes.iter().collect();
    sorted.sort_by(|a, b| match (a.created, b.created) {
        (Some(first), Some(second)) => {
            (first, &a.namespace, &a.name).cmp(&(second, &b.namespace, &b.name))
        }
        (first, second) => second.is_some().cmp(&first.is_some()),
    });
    sorted
}

/// Compiles one route after another.
pub(super) struct RouteCompiler<'c, 'o> {
    pub(super) registry: &'c Registry<'o>,
    pub(super) gateways: &'c mut Gateways<'o>,
    pub(super) reporter: &'c mut Reporter,
}

/// What was found while the rules of a route were compiled.
#[derive(Default)]
struct Findings {
    /// The first reference that leads nowhere.
    unresolved: Option<(&'static str, String)>,
    /// The first thing that Ringway does not have.
    unsupported: Option<String>,
    /// Rules that are refused for it.
    rules_refused: usize,
}

impl RouteCompiler<'_, '_> {
    /// `None`: it attaches to nothing.
    pub(super) fn route(&mut self, object: &RouteObject) -> (Option<Route>, ObjectStatus) {
        let mut findings = Findings::default();
        let rules = object.rules.iter().enumerate();
        let rules: Vec<Rule> = rules.map(|rule| self.rule(object, rule, &mut findings)).collect();
        let mut parents: Vec<Parent> = Vec::new();
        let mut statuses = Vec::new();
        for reference in &object.parents {
            let Some(attached) = attach(object, reference, self.registry, self.gateways) else {
                continue;
            };
            let accepted = match attached {
                Ok(attached) => {
                    for parent in attached {
                        if !parents.contains(&parent) {
                            parents.push(parent);
                        }
                    }
                    findings.accepted(rules.len())
                }
                Err(refused) => {
                    warn(reference.place, &refused.message, refused.help, self.reporter);
                    Condition::bad("Accepted", refused.reason, refused.message)
                }
            };
            let conditions = findings.conditions(accepted, rules.len());
            statuses.push(parent_status(reference, conditions));
        }
        if object.parents.is_empty() {
            let message = format!("`{}` has no `parentRefs`: nothing comes by it", object.name);
            warn(object.place, &message, None, self.reporter);
        }
        let kind = kind_name(object.kind);
        let status = ObjectStatus {
            kind,
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            generation: object.generation,
            conditions: Vec::new(),
            listeners: Vec::new(),
            attached_sets: None,
            parents: statuses,
        };
        let name = RouteName {
            kind: object.kind,
            namespace: object.namespace.clone(),
            name: object.name.clone(),
        };
        let hostnames = object.hostnames.clone();
        let route = Route { name, parents, hostnames, rules };
        self.report_mistakes(object, &route);
        ((!route.parents.is_empty()).then_some(route), status)
    }

    /// What no table can be made of is a mistake, of whoever asks for it.
    fn report_mistakes(&mut self, object: &RouteObject, route: &Route) {
        for error in check_route(route.clone(), PathMode::default()) {
            let (place, message) = match &error {
                CompileError::Rule { rule, mistake, .. } => {
                    let rule = object.rules.get(*rule);
                    (rule.map_or(object.place, |rule| rule.place), mistake.to_string())
                }
                _ => (object.place, error.to_string()),
            };
            self.reporter.report(Problem::error(place, message));
        }
    }

    fn rule(
        &mut self,
        route: &RouteObject,
        (place, rule): (usize, &RuleObject),
        findings: &mut Findings,
    ) -> Rule {
        let compiled = Rule {
            session: rule.session.as_ref().map(|session| session.of(&owner(route, place, rule))),
            name: rule.name.clone(),
            matches: rule.matches.clone(),
            timeouts: rule.timeouts,
            retry: rule.retry.clone(),
            ..Rule::default()
        };
        // Whose requests a filter was for that is not there are not served without it.
        if let Err(message) = self.supported(&rule.filters, findings) {
            findings.rules_refused += 1;
            let backend = Backend { target: BackendTarget::Invalid(message.into()) };
            let backend = WeightedBackend { backend, weight: 1, filters: Vec::new() };
            return Rule { backends: vec![backend], ..compiled };
        }
        let filters = self.filters(route, &rule.filters, findings);
        let backends = rule.backends.iter().map(|each| self.backend(route, each, findings));
        Rule { backends: backends.collect(), filters, ..compiled }
    }

    fn supported(
        &mut self,
        filters: &[FilterObject],
        findings: &mut Findings,
    ) -> Result<(), String> {
        for filter in filters {
            if let FilterObject::Unsupported(place, kind) = filter {
                let message = format!("the filter {kind} is not supported: its requests get 500");
                warn(*place, &message, None, self.reporter);
                findings.unsupported.get_or_insert(message.clone());
                return Err(message);
            }
        }
        Ok(())
    }

    fn filters(
        &mut self,
        route: &RouteObject,
        filters: &[FilterObject],
        findings: &mut Findings,
    ) -> Vec<Filter> {
        let mut compiled = Vec::with_capacity(filters.len());
        for filter in filters {
            match filter {
                FilterObject::Plain(filter) => compiled.push(filter.clone()),
                FilterObject::Mirror { backend, numerator, denominator } => {
                    // A copy for nobody is not sent; the request itself goes on.
                    if let Ok(backend) = self.resolve(route, backend, findings) {
                        let (numerator, denominator) = (*numerator, *denominator);
                        compiled.push(Filter::Mirror(Mirror { backend, numerator, denominator }));
                    }
                }
                FilterObject::Unsupported(..) => {}
            }
        }
        compiled
    }

    fn backend(
        &mut self,
        route: &RouteObject,
        object: &BackendObject,
        findings: &mut Findings,
    ) -> WeightedBackend {
        let weight = object.weight;
        let resolved = self.resolve(route, &object.reference, findings);
        if let Err(message) = self.supported(&object.filters, findings) {
            let backend = Backend { target: BackendTarget::Invalid(message.into()) };
            return WeightedBackend { backend, weight, filters: Vec::new() };
        }
        let filters = self.filters(route, &object.filters, findings);
        let backend = resolved.unwrap_or_else(|unresolved| unresolved.backend());
        WeightedBackend { backend, weight, filters }
    }

    fn resolve(
        &mut self,
        route: &RouteObject,
        reference: &BackendReference,
        findings: &mut Findings,
    ) -> Result<Backend, Unresolved> {
        let kind = (GATEWAY_GROUP, kind_name(route.kind));
        let resolved = resolve(self.registry, kind, &route.namespace, reference);
        if let Err(unresolved) = &resolved {
            warn(reference.place, &unresolved.message, unresolved.help.clone(), self.reporter);
            findings
                .unresolved
                .get_or_insert_with(|| (unresolved.reason, unresolved.message.clone()));
        }
        resolved
    }
}

/// Whose the sessions of a rule are.
fn owner(route: &RouteObject, place: usize, rule: &RuleObject) -> String {
    let named = rule.name.as_ref().map_or_else(|| place.to_string(), ToString::to_string);
    format!("{}/{}/{}/{named}", route.kind, route.namespace, route.name)
}

impl Findings {
    fn accepted(&self, rules: usize) -> Condition {
        match &self.unsupported {
            Some(message) if self.rules_refused == rules => {
                Condition::bad("Accepted", "UnsupportedValue", message.clone())
            }
            _ => Condition::good("Accepted", "Accepted"),
        }
    }

    fn conditions(&self, accepted: Condition, rules: usize) -> Vec<Condition> {
        let resolved = match &self.unresolved {
            Some((reason, message)) => Condition::bad("ResolvedRefs", reason, message.clone()),
            None => Condition::good("ResolvedRefs", "ResolvedRefs"),
        };
        let partially = self.unsupported.as_ref().filter(|_| self.rules_refused < rules);
        let partially = partially.map(|message| Condition {
            message: message.clone(),
            ..Condition::good("PartiallyInvalid", "UnsupportedValue")
        });
        [accepted, resolved].into_iter().chain(partially).collect()
    }
}

fn parent_status(reference: &ParentReference, conditions: Vec<Condition>) -> ParentStatus {
    let to = &reference.to;
    ParentStatus {
        group: to.group.clone(),
        kind: to.kind.clone(),
        namespace: to.namespace.clone(),
        name: to.name.clone(),
        section: reference.section.clone(),
        port: reference.port,
        conditions,
    }
}
