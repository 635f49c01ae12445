//! The resources of a Gateway by name, and what became of those that were refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{L7Resource, NamedL7, read};
use crate::xds::decode::Rejection;
use crate::xds::told::{Resource, Told};

/// Refused resources that are remembered for whoever asks; each is told when it is refused.
const REFUSED_MAX: usize = 1000;

/// See the module's text. Clones share everything.
#[derive(Clone, Debug, Default)]
pub struct ToldL7 {
    told: Told,
    refused: Arc<BTreeMap<Box<str>, Box<str>>>,
}

impl ToldL7 {
    /// What is in force, in no particular order.
    pub fn resources(&self) -> impl Iterator<Item = &L7Resource> {
        self.named().filter_map(|named| named.resource.as_ref())
    }

    /// What is refused, or in force not as it was told: name and why.
    pub fn complaints(&self) -> impl Iterator<Item = (&str, &str)> {
        let refused = self.refused.iter().map(|(name, why)| (&**name, &**why));
        let warned = self.named().flat_map(|named| {
            named.warnings.iter().map(|warning| (&*named.name, warning.as_str()))
        });
        refused.chain(warned)
    }

    /// How many resources are in force.
    pub fn len(&self) -> usize {
        self.told.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether both are the very same, so that nothing has to be compared.
    pub fn is_same(&self, other: &ToldL7) -> bool {
        self.told.is_same(&other.told) && Arc::ptr_eq(&self.refused, &other.refused)
    }

    pub(in crate::xds) fn told(&self) -> &Told {
        &self.told
    }

    /// Takes a resource. A refused one leaves its predecessor, or has what stands in its place.
    pub(in crate::xds) fn tell(
        &mut self,
        name: &str,
        version: &str,
        bytes: &[u8],
    ) -> Result<Vec<String>, Rejection> {
        match read(bytes) {
            Ok(read) => {
                self.set(name, version, read.resource, read.warnings.clone());
                if self.refused.contains_key(name) {
                    Arc::make_mut(&mut self.refused).remove(name);
                }
                Ok(read.warnings)
            }
            Err(refused) => {
                if let Some(instead) = refused.instead
                    && self.told.find(name).is_none()
                {
                    self.set(name, version, Some(instead), Vec::new());
                }
                if self.refused.len() < REFUSED_MAX || self.refused.contains_key(name) {
                    let why = refused.why.to_string().into();
                    Arc::make_mut(&mut self.refused).insert(name.into(), why);
                }
                Err(refused.why)
            }
        }
    }

    pub(in crate::xds) fn remove(&mut self, name: &str) {
        self.told.remove(name);
        if self.refused.contains_key(name) {
            Arc::make_mut(&mut self.refused).remove(name);
        }
    }

    fn set(
        &mut self,
        name: &str,
        version: &str,
        resource: Option<L7Resource>,
        warnings: Vec<String>,
    ) {
        let named = NamedL7 { name: name.into(), resource, warnings };
        self.told.set(name, version, Resource::L7(Arc::new(named)));
    }

    fn named(&self) -> impl Iterator<Item = &NamedL7> {
        self.told.from(0).filter_map(|known| match known.resource() {
            Resource::L7(named) => Some(&**named),
            _ => None,
        })
    }
}
