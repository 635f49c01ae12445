//! References of Gateways and ListenerSets to Secrets and ConfigMaps: whose they are, whether they may be, and why they
//! lead nowhere.

use std::sync::Arc;

use super::registry::Registry;
use crate::source::diagnostics::Place;
use crate::source::gateway::objects::SecretReference;
use crate::source::gateway::objects::routed::Reference;

/// Whose references they are.
#[derive(Clone, Copy)]
pub(super) struct Referrer<'o> {
    pub(super) group: &'static str,
    pub(super) kind: &'static str,
    pub(super) namespace: &'o str,
}

/// Where a reference leads nowhere, and why.
#[derive(Clone)]
pub(super) struct Unresolved {
    /// One word of the standard.
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// Of the reference, where there is one.
    pub(super) place: Option<Place>,
}

impl Unresolved {
    pub(super) fn at(self, reference: &SecretReference) -> Unresolved {
        Unresolved { place: Some(reference.place), ..self }
    }
}

/// The namespace of an object that is referred to.
///
/// # Errors
/// It is another one, which permits that to nobody of this namespace.
pub(super) fn permitted(
    referrer: Referrer<'_>,
    reference: &SecretReference,
    registry: &Registry<'_>,
) -> Result<Arc<str>, Unresolved> {
    let Referrer { group: from_group, kind: from, namespace: own } = referrer;
    let SecretReference { group, kind, namespace, name, .. } = reference;
    let namespace = namespace.clone().unwrap_or_else(|| own.into());
    let to = Reference {
        group: group.clone(),
        kind: kind.clone(),
        namespace: namespace.clone(),
        name: name.clone(),
    };
    if *namespace != *own && !registry.is_granted((from_group, from), own, &to) {
        return Err(Unresolved {
            place: None,
            reason: "RefNotPermitted",
            message: format!(
                "no ReferenceGrant of the namespace `{namespace}` lets a {from} of `{own}` refer to the {kind} `{name}`"
            ),
        });
    }
    Ok(namespace)
}
