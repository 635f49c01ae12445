//! What one client wants of one type, and what it has been sent.
//!
//! Time and sockets are elsewhere: a request or a new world goes in, the response that is due comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringway_control::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use crate::resources::Resource;
use crate::world::World;

/// One type of one stream.
pub(super) struct Subscription {
    type_url: String,
    /// What is told of this type to this client: of a Gateway's resources its own.
    part: String,
    /// Everything is wanted, not only `names`.
    wildcard: bool,
    names: BTreeSet<String>,
    /// What the client has, as far as we know.
    sent: BTreeMap<String, Held>,
    /// The nonce of the last response.
    nonce: Option<String>,
}

/// What the client has of a resource.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    /// What we sent.
    Hash(u64),
    /// Something of which only the name counts: it told us the name, and its version is not this one.
    Other,
}

/// What is due: resources and removals.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Due {
    /// Resources that are new or have changed.
    pub(super) resources: Vec<Arc<Resource>>,
    /// Names that are gone.
    pub(super) removed: Vec<String>,
}

impl Subscription {
    /// Begins with the first request of this type, and answers it.
    #[cfg(test)]
    pub(super) fn begin(request: &DeltaDiscoveryRequest, world: &World) -> (Subscription, Due) {
        Subscription::begin_part(request, request.type_url.clone(), world)
    }

    /// The same of what is told to this client only, see [`World::part`].
    pub(super) fn begin_part(
        request: &DeltaDiscoveryRequest,
        part: String,
        world: &World,
    ) -> (Subscription, Due) {
        let known = request.initial_resource_versions.iter();
        let sent = known.map(|(name, version)| (name.clone(), held(&part, name, version, world)));
        let mut subscription = Subscription {
            type_url: request.type_url.clone(),
            part: part.clone(),
            wildcard: request.resource_names_subscribe.is_empty(),
            names: BTreeSet::new(),
            sent: sent.collect(),
            nonce: None,
        };
        subscription.change(request);
        let due = match subscription.wildcard {
            true => subscription.update(world),
            false => {
                // What a client has, or still waits for, it wants; what it has as it is need not come again.
                let is_current =
                    |name: &String| matches!(subscription.sent.get(name), Some(Held::Hash(_)));
                let known = request.initial_resource_versions.keys();
                let outdated = known.filter(|name| !is_current(name));
                let wanted = request.resource_names_subscribe.iter().chain(outdated);
                let wanted: Vec<String> = wanted.cloned().collect();
                subscription.named(&wanted, world)
            }
        };
        (subscription, due)
    }

    /// Whether everything is wanted.
    pub(super) fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// Whether `nonce` is that of the last response.
    pub(super) fn is_current(&self, nonce: &str) -> bool {
        self.nonce.as_deref() == Some(nonce)
    }

    /// A later request that changes what is wanted; what is due now.
    pub(super) fn request(&mut self, request: &DeltaDiscoveryRequest, world: &World) -> Due {
        self.change(request);
        self.named(&request.resource_names_subscribe, world)
    }

    /// What is due because the world has changed, or the client has only begun.
    pub(super) fn update(&mut self, world: &World) -> Due {
        let all = world.of_type(&self.part);
        let wanted = |name: &String| self.wildcard || self.sent.contains_key(name);
        let changed = all.iter().filter(|(name, resource)| {
            wanted(name) && self.sent.get(*name) != Some(&Held::Hash(resource.hash))
        });
        let resources: Vec<_> = changed.map(|(_, resource)| Arc::clone(resource)).collect();
        let gone = self.sent.keys().filter(|name| !all.contains_key(*name));
        let removed = gone.cloned().collect();
        self.note(Due { resources, removed })
    }

    /// The response for `due` under a fresh nonce.
    pub(super) fn respond(&mut self, due: &Due, nonce: String) -> DeltaDiscoveryResponse {
        self.nonce = Some(nonce.clone());
        DeltaDiscoveryResponse {
            resources: due.resources.iter().map(|resource| resource.to_wire()).collect(),
            removed_resources: due.removed.clone(),
            type_url: self.type_url.clone(),
            nonce,
            ..DeltaDiscoveryResponse::default()
        }
    }

    /// What is due to somebody who asks for these by name; a name nobody has is answered as gone.
    fn named(&mut self, names: &[String], world: &World) -> Due {
        let mut due = Due::default();
        for name in names.iter().filter(|name| *name != "*") {
            let found = world.lookup(name);
            if found.is_empty() {
                due.removed.push(name.clone());
            }
            due.resources.extend(found.into_iter().cloned());
        }
        self.note(due)
    }

    fn change(&mut self, request: &DeltaDiscoveryRequest) {
        for name in &request.resource_names_subscribe {
            match name.as_str() {
                "*" => self.wildcard = true,
                name => drop(self.names.insert(name.to_owned())),
            }
        }
        // Both in one request: subscribed to nothing, for now.
        for name in &request.resource_names_unsubscribe {
            match name.as_str() {
                "*" => self.wildcard = false,
                name => drop(self.names.remove(name)),
            }
        }
    }

    fn note(&mut self, due: Due) -> Due {
        for resource in &due.resources {
            self.sent.insert(resource.name.clone(), Held::Hash(resource.hash));
        }
        for name in &due.removed {
            self.sent.remove(name);
        }
        due
    }
}

impl Due {
    /// Whether nothing is due.
    pub(super) fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.removed.is_empty()
    }
}

/// What a client has that names a version. Resources without one are sent again in full.
fn held(type_url: &str, name: &str, version: &str, world: &World) -> Held {
    match world.of_type(type_url).get(name) {
        Some(resource) if !version.is_empty() && resource.version() == version => {
            Held::Hash(resource.hash)
        }
        _ => Held::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{ADDRESS, AUTHORIZATION};
    use crate::world::Worlds;

    fn resource(type_url: &str, name: &str, content: &str, alias: &str) -> Resource {
        Resource::raw(name.to_owned(), vec![alias.to_owned()], type_url, content.into())
    }

    /// Two addresses and a policy.
    fn worlds() -> Worlds {
        let worlds = Worlds::default();
        worlds.inject(ADDRESS, resource(ADDRESS, "one", "1", "/10.0.0.1"));
        worlds.inject(ADDRESS, resource(ADDRESS, "two", "2", "/10.0.0.2"));
        worlds.inject(AUTHORIZATION, resource(AUTHORIZATION, "ns/policy", "p", "-"));
        worlds
    }

    fn first(type_url: &str, known: &[(&str, &str)]) -> DeltaDiscoveryRequest {
        let known = known.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned()));
        DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            initial_resource_versions: known.collect(),
            ..DeltaDiscoveryRequest::default()
        }
    }

    fn names(due: &Due) -> Vec<&str> {
        due.resources.iter().map(|resource| &*resource.name).collect()
    }

    #[test]
    fn who_begins_gets_everything_and_then_what_changes() {
        let worlds = worlds();
        let (mut subscription, due) = Subscription::begin(&first(ADDRESS, &[]), &worlds.current());
        assert_eq!((names(&due), due.removed.len()), (vec!["one", "two"], 0));
        assert!(subscription.update(&worlds.current()).is_empty());
        worlds.inject(ADDRESS, resource(ADDRESS, "one", "1, changed", "/10.0.0.1"));
        assert_eq!(names(&subscription.update(&worlds.current())), ["one"]);
        worlds.withdraw_injected();
        assert_eq!(subscription.update(&worlds.current()).removed, ["one", "two"]);
    }

    #[test]
    fn who_returns_gets_what_differs_and_what_is_gone() {
        let world = worlds().current();
        let version = world.of_type(ADDRESS)["one"].version();
        let known = [("one", &*version), ("two", "old"), ("gone", "old"), ("unanswered", "")];
        let (_, due) = Subscription::begin(&first(ADDRESS, &known), &world);
        assert_eq!(names(&due), ["two"]);
        assert_eq!(due.removed, ["gone", "unanswered"]);
    }

    #[test]
    fn policies_have_no_version_and_come_again() {
        let world = worlds().current();
        assert_eq!(world.of_type(AUTHORIZATION)["ns/policy"].version(), "");
        let known = [("ns/policy", ""), ("ns/gone", "")];
        let (_, due) = Subscription::begin(&first(AUTHORIZATION, &known), &world);
        assert_eq!(names(&due), ["ns/policy"]);
        assert_eq!(due.removed, ["ns/gone"]);
    }

    #[test]
    fn on_demand_is_nothing_until_somebody_asks() {
        let worlds = worlds();
        let nothing = DeltaDiscoveryRequest {
            resource_names_subscribe: vec!["*".to_owned()],
            resource_names_unsubscribe: vec!["*".to_owned()],
            ..first(ADDRESS, &[])
        };
        let (mut subscription, due) = Subscription::begin(&nothing, &worlds.current());
        assert!(due.is_empty() && !subscription.is_wildcard());
        let ask = |name: &str| DeltaDiscoveryRequest {
            resource_names_subscribe: vec![name.to_owned()],
            ..DeltaDiscoveryRequest::default()
        };
        let due = subscription.request(&ask("/10.0.0.2"), &worlds.current());
        assert_eq!((names(&due), due.removed.len()), (vec!["two"], 0));
        assert_eq!(due.resources[0].aliases, ["/10.0.0.2"]);
        let due = subscription.request(&ask("/10.9.9.9"), &worlds.current());
        assert!(due.resources.is_empty());
        assert_eq!(due.removed, ["/10.9.9.9"]);
        // What was asked for is kept up to date, what was not is not told.
        worlds.inject(ADDRESS, resource(ADDRESS, "two", "2, changed", "/10.0.0.2"));
        worlds.inject(ADDRESS, resource(ADDRESS, "one", "1, changed", "/10.0.0.1"));
        assert_eq!(names(&subscription.update(&worlds.current())), ["two"]);
    }

    #[test]
    fn who_returns_on_demand_gets_what_differs_and_what_was_never_answered() {
        let world = worlds().current();
        let version = world.of_type(ADDRESS)["one"].version();
        let known = [("one", &*version), ("gone", "old"), ("/10.0.0.2", ""), ("/10.9.9.9", "")];
        let again = DeltaDiscoveryRequest {
            resource_names_subscribe: vec!["*".to_owned()],
            resource_names_unsubscribe: vec!["*".to_owned()],
            ..first(ADDRESS, &known)
        };
        let (_, due) = Subscription::begin(&again, &world);
        assert_eq!(names(&due), ["two"]);
        let removed: BTreeSet<&str> = due.removed.iter().map(|name| &**name).collect();
        assert_eq!(removed, ["/10.9.9.9", "gone"].into());
    }

    #[test]
    fn only_the_last_nonce_counts() {
        let (mut subscription, due) =
            Subscription::begin(&first(ADDRESS, &[]), &worlds().current());
        let first = subscription.respond(&due, "1".to_owned());
        assert_eq!((first.resources.len(), &*first.type_url), (2, ADDRESS));
        subscription.respond(&Due::default(), "2".to_owned());
        assert!(subscription.is_current("2") && !subscription.is_current("1"));
    }
}
