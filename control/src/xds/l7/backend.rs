//! Who gets requests.

use ringway_http::model::{Backend, BackendTarget, WeightedBackend};

use super::filter;
use super::reference::backend;
use super::values::Wrong;
use crate::proto::agent as told;
use crate::proto::agent::backend_policy_spec::Kind as PolicyKind;

/// A backend of a rule with its share. What cannot be done for it is told, and its share gets 500.
pub(super) fn weighted(
    told: &told::RouteBackend,
    warnings: &mut Vec<String>,
) -> Result<WeightedBackend, Wrong> {
    let weight = u32::try_from(told.weight).map_err(|_| "a weight below 0".to_owned())?;
    let mut filters = Vec::new();
    let mut read = || {
        if told.route_group_key.is_some() {
            return Err("rules of other routes are not supported".to_owned());
        }
        let backend = backend(told.backend.as_ref())?;
        for policy in &told.backend_policies {
            match &policy.kind {
                Some(PolicyKind::RequestHeaderModifier(changes)) => {
                    filters.push(filter::request_headers(changes)?);
                }
                Some(PolicyKind::ResponseHeaderModifier(changes)) => {
                    filters.push(filter::response_headers(changes)?);
                }
                Some(PolicyKind::RequestRedirect(redirect)) => {
                    filters.push(filter::redirect(redirect)?);
                }
                Some(PolicyKind::RequestMirror(mirrors)) => {
                    filters.extend(filter::mirrors(mirrors, warnings)?);
                }
                other => {
                    let name = super::protocol::backend_policy(other.as_ref());
                    return Err(format!("{name} of a backend is not supported"));
                }
            }
        }
        Ok(backend)
    };
    let read = read();
    let backend = read.unwrap_or_else(|why| {
        // Of a reference that leads nowhere the control plane knows.
        if told.backend.as_ref().is_some_and(|backend| backend.kind.is_some()) {
            warnings.push(format!("{why}: its requests get 500"));
        }
        filters.clear();
        nobody(&why)
    });
    Ok(WeightedBackend { backend, weight, filters })
}

/// One that leads nowhere: its share gets 500.
pub(super) fn nobody(why: &str) -> Backend {
    Backend { target: BackendTarget::Invalid(why.into()) }
}
