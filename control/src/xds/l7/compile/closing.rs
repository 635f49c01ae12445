//! What is closed, because a policy for it was refused.

use ringway_http::model::policy::{Action, Attached, AuthorizationPolicy, Target};
use ringway_http::model::{Backend, BackendTarget, Filter, RouteName, Rule, WeightedBackend};

use crate::xds::l7::Closed;

/// See the module's text.
#[derive(Default)]
pub(super) struct Closing<'r>(Vec<&'r Closed>);

impl<'r> Closing<'r> {
    pub(super) fn add(&mut self, closed: &'r Closed) {
        self.0.push(closed);
    }

    /// Policies by which nobody may ask for what is closed.
    pub(super) fn denials(&self) -> Vec<Attached<AuthorizationPolicy>> {
        let is_asked = |closed: &&&Closed| !matches!(closed.target, Target::Route { .. });
        let nobody =
            || AuthorizationPolicy { action: Action::Allow, rules: Vec::new(), dry_run: false };
        let denial = |closed: &&Closed| Attached {
            name: closed.name.clone(),
            targets: vec![closed.target.clone()],
            policy: nobody(),
        };
        self.0.iter().filter(is_asked).map(denial).collect()
    }

    /// A rule without what is closed: its requests, or the share of a closed service, get 500.
    pub(super) fn close(&self, mut rule: Rule, route: &RouteName) -> Rule {
        if let Some(why) = self.of_route(route, &rule) {
            let backend = Backend { target: BackendTarget::Invalid(why.into()) };
            rule.filters.clear();
            rule.backends = vec![WeightedBackend { backend, weight: 1, filters: Vec::new() }];
            return rule;
        }
        self.close_filters(&mut rule.filters);
        for backend in &mut rule.backends {
            self.close_filters(&mut backend.filters);
            if let Some(why) = self.of_backend(&backend.backend) {
                backend.backend = Backend { target: BackendTarget::Invalid(why.into()) };
            }
        }
        rule
    }

    fn close_filters(&self, filters: &mut Vec<Filter>) {
        filters.retain(|filter| match filter {
            Filter::Mirror(mirror) => self.of_backend(&mirror.backend).is_none(),
            _ => true,
        });
    }

    fn of_route(&self, route: &RouteName, rule: &Rule) -> Option<&str> {
        self.0.iter().find_map(|closed| match &closed.target {
            Target::Route { route: of, rule: named } if of == route => {
                (named.is_none() || *named == rule.name).then_some(&*closed.why)
            }
            _ => None,
        })
    }

    fn of_backend(&self, backend: &Backend) -> Option<&str> {
        let BackendTarget::Service { service, port } = &backend.target else { return None };
        self.0.iter().find_map(|closed| {
            let is_it = matches!(&closed.target, Target::Service { service: of, port: only }
                if of == service && only.is_none_or(|only| only == *port));
            is_it.then_some(&*closed.why)
        })
    }
}
