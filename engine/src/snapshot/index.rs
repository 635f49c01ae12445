//! Hash indexes over the persistent tree, and the rules for choosing among what they find.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::address::Cidr;
use super::footprint::Footprint;
use super::service::Service;
use super::tree::{Entry, Tree};

/// Finds shared values by the hash of a name. Two names may have one hash, and one name may belong to several
/// values: whoever looks something up compares what is found.
#[derive(Debug)]
pub(super) struct Index<V> {
    tree: Tree<Slot<V>>,
}

#[derive(Debug)]
struct Slot<V> {
    key: u64,
    value: Arc<V>,
}

impl<V> Clone for Slot<V> {
    fn clone(&self) -> Slot<V> {
        Slot { key: self.key, value: Arc::clone(&self.value) }
    }
}

impl<V> Entry for Slot<V> {
    fn key(&self) -> u64 {
        self.key
    }
}

impl<V> Clone for Index<V> {
    fn clone(&self) -> Index<V> {
        Index { tree: self.tree.clone() }
    }
}

impl<V> Default for Index<V> {
    fn default() -> Index<V> {
        Index { tree: Tree::default() }
    }
}

impl<V> Index<V> {
    /// Adds `value` behind those of the same key.
    pub(super) fn insert(&mut self, key: u64, value: &Arc<V>) {
        self.tree.insert(Slot { key, value: Arc::clone(value) });
    }

    pub(super) fn remove(&mut self, key: u64, is_it: impl Fn(&V) -> bool) -> Option<Arc<V>> {
        self.tree.remove(key, |slot| is_it(&slot.value)).map(|slot| slot.value)
    }

    /// Removes this very value.
    pub(super) fn remove_value(&mut self, key: u64, value: &Arc<V>) {
        let removed = self.tree.remove(key, |slot| Arc::ptr_eq(&slot.value, value));
        debug_assert!(removed.is_some(), "what is indexed once is removed once");
    }

    pub(super) fn find(&self, key: u64, is_it: impl Fn(&V) -> bool) -> Option<&Arc<V>> {
        self.tree.find(key, |slot| is_it(&slot.value)).map(|slot| &slot.value)
    }

    /// Everything of this key, in the order in which it came.
    pub(super) fn all(&self, key: u64) -> impl Iterator<Item = &Arc<V>> {
        self.tree.range(key, key).map(|slot| &slot.value)
    }

    /// Everything of these keys, in their order.
    pub(super) fn between(&self, first: u64, last: u64) -> impl Iterator<Item = &Arc<V>> {
        self.tree.range(first, last).map(|slot| &slot.value)
    }

    /// Whether both are the very same, not merely equal.
    pub(super) fn is_same(&self, other: &Index<V>) -> bool {
        self.tree.is_same(&other.tree)
    }

    pub(super) fn len(&self) -> usize {
        self.tree.len()
    }

    pub(super) fn footprint_beside(&self, other: &Index<V>) -> Footprint {
        self.tree.footprint_beside(&other.tree)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<V>> {
        self.tree.iter().map(|slot| &slot.value)
    }
}

/// The best of several services of one address or hostname, for clients of this namespace: their own;
/// or else a canonical one, the last; or else the first.
pub(super) fn best<'a>(
    services: impl Iterator<Item = &'a Arc<Service>>,
    client_namespace: &str,
) -> Option<&'a Arc<Service>> {
    let mut first = None;
    let mut canonical = None;
    for service in services.filter(|service| service.is_visible_to(client_namespace)) {
        if service.namespace() == client_namespace {
            return Some(service);
        }
        if service.canonical {
            canonical = Some(service);
        }
        first = first.or(Some(service));
    }
    canonical.or(first)
}

/// How many ranges of each family and length there are: a lookup probes these lengths and no others.
#[derive(Clone, Debug, Default)]
pub(super) struct RangeLengths {
    counts: BTreeMap<(bool, u8), usize>,
}

impl RangeLengths {
    pub(super) fn add(&mut self, cidr: Cidr) {
        *self.counts.entry((cidr.first().is_ipv4(), cidr.length())).or_default() += 1;
    }

    pub(super) fn remove(&mut self, cidr: Cidr) {
        let length = (cidr.first().is_ipv4(), cidr.length());
        if let Some(count) = self.counts.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&length);
            }
        }
    }

    /// The ranges around `ip` that could be there.
    pub(super) fn around(&self, ip: IpAddr) -> impl Iterator<Item = Cidr> {
        let family = ip.is_ipv4();
        self.counts
            .range((family, 0)..=(family, u8::MAX))
            .filter_map(move |(&(_, length), _)| Cidr::new(ip, length))
    }
}
