//! Equal strings, stored once.
//!
//! 150,000 workloads have few namespaces, hosts and label sets between them; sharing those is what lets the mesh fit in
//! memory, while loading and afterwards.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// A set of shared values.
pub(crate) struct Shared<T: ?Sized>(HashSet<Arc<T>>);

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Shared(HashSet::new())
    }
}

impl<T: Eq + Hash> Shared<T> {
    pub(crate) fn share(&mut self, value: T) -> Arc<T> {
        if let Some(shared) = self.0.get(&value) {
            return shared.clone();
        }
        let shared = Arc::new(value);
        self.0.insert(shared.clone());
        shared
    }
}

impl<T: ?Sized + Eq + Hash> Shared<T>
where
    for<'a> Arc<T>: From<&'a T>,
{
    pub(crate) fn share_ref(&mut self, value: &T) -> Arc<T> {
        if let Some(shared) = self.0.get(value) {
            return shared.clone();
        }
        let shared: Arc<T> = value.into();
        self.0.insert(shared.clone());
        shared
    }
}

/// Shared text.
pub(crate) type Names = Shared<str>;
