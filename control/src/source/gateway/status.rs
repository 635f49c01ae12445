//! What became of each object: the conditions that a cluster would show with `kubectl get -o yaml`.

use std::sync::Arc;

use serde_json::{Value, json};

/// Who writes these conditions.
pub(crate) const CONTROLLER: &str = "ringway.dev/gateway-controller";

/// One thing that is so, or is not, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `Accepted`, `ResolvedRefs`, …
    pub kind: &'static str,
    /// Whether it is so.
    pub holds: bool,
    /// One word of the standard.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
}

impl Condition {
    pub(crate) fn good(kind: &'static str, reason: &'static str) -> Condition {
        Condition { kind, holds: true, reason, message: String::new() }
    }

    pub(crate) fn bad(
        kind: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Condition {
        Condition { kind, holds: false, reason, message: message.into() }
    }

    /// `True` or `False`, as Kubernetes writes it.
    pub fn status(&self) -> &'static str {
        if self.holds { "True" } else { "False" }
    }

    fn as_json(&self, generation: Option<u64>) -> Value {
        let mut json = json!({
            "type": self.kind,
            "status": self.status(),
            "reason": self.reason,
            "message": self.message,
        });
        if let Some(generation) = generation {
            json["observedGeneration"] = generation.into();
        }
        json
    }
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectStatus {
    /// `Gateway`, `HTTPRoute`, …
    pub kind: &'static str,
    /// Empty where the kind has none.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The generation of the document, where it says one.
    pub generation: Option<u64>,
    /// Of the object itself.
    pub conditions: Vec<Condition>,
    /// Of a Gateway.
    pub listeners: Vec<ListenerStatus>,
    /// Of a route its parents, of a policy its targets or ancestors, in the order of its references.
    pub parents: Vec<ParentStatus>,
    /// Of a Gateway: how many ListenerSets add to it.
    pub attached_sets: Option<usize>,
}

/// What became of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Kinds of routes that may attach.
    pub supported_kinds: Vec<&'static str>,
    /// How many did.
    pub attached_routes: usize,
    /// Its conditions.
    pub conditions: Vec<Condition>,
}

/// What became of a route at one of its parents, of a policy at one of its targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentStatus {
    /// The group of the parent's kind.
    pub group: Arc<str>,
    /// The kind.
    pub kind: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The listener, if one was named.
    pub section: Option<Arc<str>>,
    /// The port, if one was named.
    pub port: Option<u16>,
    /// Its conditions.
    pub conditions: Vec<Condition>,
}

impl ParentStatus {
    /// `Gateway shop/web#http:80`.
    pub fn describe(&self) -> String {
        let section = self.section.as_ref().map_or(String::new(), |name| format!("#{name}"));
        let port = self.port.map_or(String::new(), |port| format!(":{port}"));
        format!("{} {}/{}{section}{port}", self.kind, self.namespace, self.name)
    }

    fn as_json(&self, named: &str, generation: Option<u64>) -> Value {
        let mut reference = json!({
            "group": &*self.group,
            "kind": &*self.kind,
            "namespace": &*self.namespace,
            "name": &*self.name,
        });
        if let Some(section) = &self.section {
            reference["sectionName"] = (**section).into();
        }
        if let Some(port) = self.port {
            reference["port"] = port.into();
        }
        json!({
            named: reference,
            "controllerName": CONTROLLER,
            "conditions": conditions(&self.conditions, generation),
        })
    }
}

impl ObjectStatus {
    /// `HTTPRoute shop/web`.
    pub fn describe(&self) -> String {
        match &*self.namespace {
            "" => format!("{} {}", self.kind, self.name),
            namespace => format!("{} {namespace}/{}", self.kind, self.name),
        }
    }

    /// Every condition of the object, with what of it is meant: empty for all of it.
    pub fn all_conditions(&self) -> impl Iterator<Item = (String, &Condition)> {
        let own = self.conditions.iter().map(|one| (String::new(), one));
        let listeners = self.listeners.iter().flat_map(|listener| {
            listener.conditions.iter().map(|one| (format!("listener {}", listener.name), one))
        });
        let parents = self
            .parents
            .iter()
            .flat_map(|parent| parent.conditions.iter().map(|one| (parent.describe(), one)));
        own.chain(listeners).chain(parents)
    }

    /// As `kubectl get -o json` shows it: what it is of, and `status`.
    pub fn as_json(&self) -> Value {
        let mut metadata = json!({"name": &*self.name});
        if !self.namespace.is_empty() {
            metadata["namespace"] = (*self.namespace).into();
        }
        let mut status = json!({});
        if !self.conditions.is_empty() {
            status["conditions"] = conditions(&self.conditions, self.generation);
        }
        if let Some(sets) = self.attached_sets {
            status["attachedListenerSets"] = sets.into();
        }
        if matches!(self.kind, "Gateway" | "ListenerSet" | "XListenerSet") {
            let listeners = self.listeners.iter().map(|each| each.as_json(self.generation));
            status["listeners"] = listeners.collect();
        }
        if !self.parents.is_empty() {
            let (all, each_as) = match self.kind.ends_with("Policy") {
                true => ("ancestors", "ancestorRef"),
                false => ("parents", "parentRef"),
            };
            let parents = self.parents.iter().map(|each| each.as_json(each_as, self.generation));
            status[all] = parents.collect();
        }
        json!({"kind": self.kind, "metadata": metadata, "status": status})
    }
}

impl ListenerStatus {
    fn as_json(&self, generation: Option<u64>) -> Value {
        let kinds = self
            .supported_kinds
            .iter()
            .map(|kind| json!({"group": super::values::GATEWAY_GROUP, "kind": kind}));
        json!({
            "name": &*self.name,
            "supportedKinds": kinds.collect::<Vec<_>>(),
            "attachedRoutes": self.attached_routes,
            "conditions": conditions(&self.conditions, generation),
        })
    }
}

/// All of them, as a list: for the admin port, and for `ringway validate -o json`.
pub fn status_as_json(status: &[ObjectStatus]) -> Value {
    status.iter().map(ObjectStatus::as_json).collect()
}

fn conditions(conditions: &[Condition], generation: Option<u64>) -> Value {
    conditions.iter().map(|one| one.as_json(generation)).collect()
}
