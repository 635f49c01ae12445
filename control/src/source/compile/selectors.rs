//! Which services a workload belongs to: those of its namespace whose selector its labels fulfil; or the one that lists it.

use std::collections::HashMap;
use std::sync::Arc;

use ringway_engine::snapshot::{Membership, NamespacedHostname, PortMapping};

use super::label_index::LabelIndex;
use crate::source::diagnostics::suggest::{did_you_mean, one_of};
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::objects::{Origin, ServiceObject, TargetPort, Template};

/// The selectors of all services.
pub(super) struct Selectors<'s> {
    services: Vec<Selector<'s>>,
    index: LabelIndex<'s>,
    /// Whether it is a ServiceEntry, namespace and name, of those that may list endpoints.
    by_name: HashMap<(bool, &'s str, &'s str), Vec<usize>>,
    /// By the address of the template, of which there is one for all equal workloads, and which outlives this.
    memberships: HashMap<usize, Vec<Membership>>,
}

struct Selector<'s> {
    service: &'s ServiceObject,
    id: NamespacedHostname,
    selects: bool,
    named: Vec<NamedPort<'s>>,
}

/// A port that leads to a name, and which names there were.
struct NamedPort<'s> {
    service_port: u16,
    name: &'s Arc<str>,
    place: crate::source::diagnostics::Place,
    found: bool,
    others: Vec<Arc<str>>,
}

/// The host name of a Service.
pub(in crate::source) fn host_name(
    service: &ServiceObject,
    cluster_domain: &str,
) -> NamespacedHostname {
    let ServiceObject { name, namespace, hostname, .. } = service;
    match hostname {
        Some(hostname) => NamespacedHostname::new(namespace.clone(), hostname.clone()),
        None => {
            let hostname = format!("{name}.{namespace}.svc.{cluster_domain}");
            NamespacedHostname::new(namespace.clone(), hostname)
        }
    }
}

impl<'s> Selectors<'s> {
    pub(super) fn new(services: &'s [ServiceObject], cluster_domain: &str) -> Selectors<'s> {
        let asked = services.iter().map(|service| (&*service.namespace, &service.selector));
        let index = LabelIndex::new(asked);
        let mut by_name: HashMap<_, Vec<usize>> = HashMap::new();
        for (index, service) in services.iter().enumerate() {
            let key = (service.hostname.is_some(), &*service.namespace, &*service.name);
            by_name.entry(key).or_default().push(index);
        }
        let services = services.iter().map(|service| Selector::new(service, cluster_domain));
        Selectors { services: services.collect(), index, by_name, memberships: HashMap::new() }
    }

    /// The services of a workload, and where their named ports lead.
    pub(super) fn memberships(&mut self, template: &Arc<Template>) -> Vec<Membership> {
        let key = Arc::as_ptr(template) as usize;
        if let Some(known) = self.memberships.get(&key) {
            return known.clone();
        }
        let memberships = self.select(template);
        self.memberships.insert(key, memberships.clone());
        memberships
    }

    fn select(&mut self, template: &Template) -> Vec<Membership> {
        let selected = match &template.listed_by {
            Some(name) => {
                let is_entry = template.origin == Origin::ServiceEntry;
                let key = (is_entry, &*template.namespace, &**name);
                let hosts = self.by_name.get(&key).into_iter().flatten().copied();
                let is_meant = |index: &usize| {
                    let host = &self.services[*index].service.hostname;
                    template.only_host.is_none() || template.only_host == *host
                };
                hosts.filter(is_meant).collect()
            }
            None => self.index.select(&template.namespace, &template.labels),
        };
        selected.into_iter().map(|index| self.services[index].membership(template)).collect()
    }

    /// Reports named ports that no workload has, and services that select nothing.
    pub(super) fn report(&self, reporter: &mut Reporter) {
        for selector in &self.services {
            if selector.selects {
                selector.named.iter().for_each(|port| port.report(reporter));
            } else if !selector.service.selector.is_empty() && !reporter.has_errors() {
                let message =
                    format!("the selector of `{}` selects no workload", selector.service.name);
                reporter.report(Problem::warning(selector.service.place, message));
            }
        }
    }
}

impl<'s> Selector<'s> {
    fn new(service: &'s ServiceObject, cluster_domain: &str) -> Selector<'s> {
        let named = service.ports.iter().filter_map(|port| match &port.target {
            TargetPort::Number(_) => None,
            TargetPort::Named(name, place) => {
                let (service_port, place) = (port.number, *place);
                Some(NamedPort { service_port, name, place, found: false, others: Vec::new() })
            }
        });
        let id = host_name(service, cluster_domain);
        Selector { service, id, selects: false, named: named.collect() }
    }

    fn membership(&mut self, template: &Template) -> Membership {
        let is_entry = self.service.hostname.is_some();
        if template.listed_by.is_some() || (is_entry && template.origin == Origin::WorkloadEntry) {
            return self.listed(template);
        }
        self.selects = true;
        let ports = self.named.iter_mut().filter_map(|port| port.mapping(template)).collect();
        Membership { service: self.id.clone(), ports }
    }

    /// An endpoint says by the names of the service's own ports where each leads.
    fn listed(&mut self, template: &Template) -> Membership {
        self.selects |= template.listed_by.is_none();
        let ports = self.service.ports.iter().filter_map(|port| {
            let (_, target_port) = template.ports.iter().find(|(name, _)| *name == port.name)?;
            Some(PortMapping { service_port: port.number, target_port: *target_port })
        });
        Membership { service: self.id.clone(), ports: ports.collect() }
    }
}

/// Names that are kept for a suggestion.
const OTHERS_MAX: usize = 16;

impl NamedPort<'_> {
    fn mapping(&mut self, template: &Template) -> Option<PortMapping> {
        let target = template.ports.iter().find(|(name, _)| name == self.name);
        if target.is_none() {
            let others = template.ports.iter().map(|(name, _)| name.clone());
            self.others.extend(others.take(OTHERS_MAX.saturating_sub(self.others.len())));
        }
        let (_, target_port) = target?;
        self.found = true;
        Some(PortMapping { service_port: self.service_port, target_port: *target_port })
    }

    fn report(&self, reporter: &mut Reporter) {
        if self.found {
            return;
        }
        let message = format!("no selected workload has a port named `{}`", self.name);
        let mut others: Vec<&str> = self.others.iter().map(|name| &**name).collect();
        others.sort_unstable();
        others.dedup();
        let help = did_you_mean(self.name, others.iter().copied())
            .or_else(|| (!others.is_empty()).then(|| format!("they have {}", one_of(others))));
        // A cluster accepts it, and leads connections to that port nowhere, as is done here.
        reporter.report(Problem::warning(self.place, message).help(help));
    }
}
