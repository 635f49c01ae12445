//! TLS to a service's endpoints, as a BackendTLSPolicy comes to it.

use std::sync::Arc;

use ringway_http::model::traffic::{
    AlternativeName, Belief, ClientCertificate, TlsOrigination, TlsSettings,
};

use super::values::Wrong;
use crate::grpc;
use crate::proto::agent as told;
use crate::proto::agent::backend_tls::Verification;
use crate::proto::agent::policy_target::Kind as TargetKind;

/// What stands where something cannot be had: connections must fail.
const INVALID: &[u8] = b"invalid";

pub(super) fn backend_tls(
    told: &told::BackendTls,
    target: Option<&told::PolicyTarget>,
) -> Result<TlsOrigination, Wrong> {
    let Some(TargetKind::Service(service)) = target.and_then(|target| target.kind.as_ref()) else {
        return Err("backend_tls is for a Service".to_owned());
    };
    if told.certificate_source != 0 {
        return Err("backend_tls with the certificate of the mesh is not supported".to_owned());
    }
    if told.alpn.is_some() || !told.key_exchange_groups.is_empty() {
        return Err("backend_tls with alpn or key_exchange_groups is not supported".to_owned());
    }
    let parts = [&told.root, &told.cert, &told.key];
    if parts.into_iter().flatten().any(|part| part == INVALID) {
        let why = "a certificate of the BackendTLSPolicy cannot be had";
        return Ok(TlsOrigination::Broken(why.into()));
    }
    let client = match (&told.cert, &told.key) {
        (Some(chain), Some(key)) => {
            let (chain, key) = (chain.as_slice().into(), key.as_slice().into());
            Some(ClientCertificate { chain, key })
        }
        (None, None) => None,
        _ => return Err("backend_tls has a certificate without its key, or a key alone".to_owned()),
    };
    let verification = Verification::try_from(told.verification)
        .map_err(|_| "backend_tls verifies in a way that is not known".to_owned())?;
    let names = told.verify_subject_alt_names.iter().map(|name| AlternativeName::read(name));
    let belief = match (verification, told.verify_subject_alt_names.is_empty()) {
        (Verification::InsecureAll, _) => Belief::Anybody,
        (Verification::InsecureHost, _) => Belief::AnyName,
        (Verification::Strict, true) => Belief::ServerName,
        (Verification::Strict, false) => Belief::OneOf(names.collect()),
    };
    let authorities: Arc<[u8]> = match &told.root {
        Some(root) => root.as_slice().into(),
        None if belief == Belief::Anybody => Arc::from(&b""[..]),
        None => match grpc::system_roots() {
            Ok(roots) => roots.into(),
            Err(why) => return Ok(TlsOrigination::Broken(why.into())),
        },
    };
    let server_name = told.hostname.as_deref().unwrap_or(&service.hostname).into();
    let settings = TlsSettings { server_name, authorities, revoked: None, belief, client };
    Ok(TlsOrigination::By(Arc::new(settings)))
}
