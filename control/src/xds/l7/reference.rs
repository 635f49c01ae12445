//! References to backends.

use ringway_http::model::{Backend, BackendTarget, ServiceName};

use super::values::{Wrong, port};
use crate::proto::agent as told;
use crate::proto::agent::backend_reference::Kind;

/// A reference to a backend.
pub(super) fn backend(reference: Option<&told::BackendReference>) -> Result<Backend, Wrong> {
    let nowhere = "the reference leads nowhere";
    let reference = reference.ok_or(nowhere)?;
    match &reference.kind {
        Some(Kind::Service(service)) => {
            if service.namespace.is_empty() || service.hostname.is_empty() {
                return Err(nowhere.to_owned());
            }
            let service = ServiceName {
                namespace: service.namespace.as_str().into(),
                hostname: service.hostname.as_str().into(),
            };
            let port = port(reference.port)?;
            Ok(Backend { target: BackendTarget::Service { service, port } })
        }
        Some(Kind::Backend(key)) => Err(format!("a Backend ({key}) is not supported")),
        Some(Kind::Inline(_)) => Err("a backend by its hostname is not supported".to_owned()),
        None => Err(nowhere.to_owned()),
    }
}
