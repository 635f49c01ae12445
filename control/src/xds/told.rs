//! What the control plane has told under which name, and in which version: what it is reminded of when a stream begins
//! anew.
//!
//! A name is the resource's own, mostly, so an entry only points to the resource; and a version is a short text. Both
//! are held in place, in a tree whose clones share everything: a batch that comes to nothing is forgotten by dropping
//! it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use ringway_engine::snapshot::{AuthorizationPolicy, Entry, Service, Tree, Workload};

/// All resources of one type, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    entries: Tree<Known>,
}

/// A resource that is in force.
#[derive(Clone, Debug)]
pub(super) struct Known {
    key: u64,
    resource: Resource,
    label: Label,
}

/// What was made of it.
#[derive(Clone, Debug)]
pub(super) enum Resource {
    Workload(Arc<Workload>),
    Service(Arc<Service>),
    Policy(Arc<AuthorizationPolicy>),
    #[cfg(feature = "waypoint")]
    L7(Arc<super::l7::NamedL7>),
}

/// Bytes of a version that need no memory of their own. A hash of 64 bits has 20 digits.
const VERSION_BYTES_INLINE: usize = 22;

/// The version, and the name where it is not the resource's own.
#[derive(Clone, Debug)]
enum Label {
    Short { length: u8, bytes: [u8; VERSION_BYTES_INLINE] },
    Rare(Box<Rare>),
}

const _: () = assert!(size_of::<Known>() <= 48, "100,000 of them must be small");

#[derive(Clone, Debug)]
struct Rare {
    name: Option<Box<str>>,
    version: Box<str>,
}

impl Told {
    /// Remembers a resource, and gives back what had its name.
    pub(super) fn set(&mut self, name: &str, version: &str, resource: Resource) -> Option<Known> {
        let before = self.remove(name);
        let label = Label::new((!resource.is_named(name)).then_some(name), version);
        self.entries.insert(Known { key: hash(name), resource, label });
        before
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Known> {
        self.entries.remove(hash(name), |known| known.is_named(name))
    }

    #[cfg(any(test, feature = "waypoint"))]
    pub(super) fn find(&self, name: &str) -> Option<&Known> {
        self.entries.find(hash(name), |known| known.is_named(name))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.find(hash(name), |known| known.is_named(name)).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether both are the very same.
    #[cfg(feature = "waypoint")]
    pub(super) fn is_same(&self, other: &Told) -> bool {
        self.entries.is_same(&other.entries)
    }

    /// Entries from a key on, in the order of their keys.
    pub(super) fn from(&self, key: u64) -> impl Iterator<Item = &Known> {
        self.entries.range(key, u64::MAX)
    }
}

impl Known {
    pub(super) fn resource(&self) -> &Resource {
        &self.resource
    }

    pub(super) fn version(&self) -> &str {
        match &self.label {
            Label::Short { length, bytes } => {
                str::from_utf8(&bytes[..usize::from(*length)]).expect("a text was copied whole")
            }
            Label::Rare(rare) => &rare.version,
        }
    }

    /// Writes the name behind what is in `text`.
    pub(super) fn write_name(&self, text: &mut String) {
        match &self.label {
            Label::Rare(rare) if rare.name.is_some() => text.extend(rare.name.as_deref()),
            _ => self.resource.write_name(text),
        }
    }

    fn is_named(&self, name: &str) -> bool {
        match &self.label {
            Label::Rare(rare) if rare.name.is_some() => rare.name.as_deref() == Some(name),
            _ => self.resource.is_named(name),
        }
    }
}

impl Entry for Known {
    fn key(&self) -> u64 {
        self.key
    }
}

impl Resource {
    fn write_name(&self, text: &mut String) {
        match self {
            Resource::Workload(workload) => text.push_str(workload.uid()),
            Resource::Service(service) => join(service.namespace(), service.hostname(), text),
            Resource::Policy(policy) => join(&policy.namespace, &policy.name, text),
            #[cfg(feature = "waypoint")]
            Resource::L7(named) => text.push_str(&named.name),
        }
    }

    fn is_named(&self, name: &str) -> bool {
        match self {
            Resource::Workload(workload) => workload.uid() == name,
            Resource::Service(service) => is_joined(service.namespace(), service.hostname(), name),
            Resource::Policy(policy) => is_joined(&policy.namespace, &policy.name, name),
            #[cfg(feature = "waypoint")]
            Resource::L7(named) => *named.name == *name,
        }
    }
}

impl Label {
    fn new(name: Option<&str>, version: &str) -> Label {
        if name.is_none() && version.len() <= VERSION_BYTES_INLINE {
            let mut bytes = [0; VERSION_BYTES_INLINE];
            bytes[..version.len()].copy_from_slice(version.as_bytes());
            return Label::Short { length: version.len() as u8, bytes };
        }
        Label::Rare(Box::new(Rare { name: name.map(Box::from), version: version.into() }))
    }
}

fn join(namespace: &str, name: &str, text: &mut String) {
    text.push_str(namespace);
    text.push('/');
    text.push_str(name);
}

fn is_joined(namespace: &str, name: &str, joined: &str) -> bool {
    let rest = joined.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('/'));
    rest == Some(name)
}

/// The place of a name in an index. Two names may share one: what is found is compared.
pub(super) fn hash(name: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}
