//! The certificates of listeners.

use ringway_http::model::ListenerTls;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::registry::Registry;
use crate::source::gateway::objects::routed::Reference;
use crate::source::gateway::objects::{
    GatewayObject, ListenerObject, SecretReference, SpokenAtListener,
};
use crate::source::gateway::values::GATEWAY_GROUP;

/// Why a listener has no certificate.
#[derive(Clone)]
pub(super) struct NoCertificate {
    /// One word of the standard.
    pub(super) reason: &'static str,
    pub(super) message: String,
}

fn invalid(message: impl Into<String>) -> NoCertificate {
    NoCertificate { reason: "InvalidCertificateRef", message: message.into() }
}

/// How TLS ends at a listener; `None`: there is none.
pub(super) fn listener_tls(
    gateway: &GatewayObject,
    listener: &ListenerObject,
    registry: &Registry<'_>,
) -> Option<Result<ListenerTls, NoCertificate>> {
    let is_tls = match listener.protocol {
        SpokenAtListener::Https | SpokenAtListener::Tls => true,
        SpokenAtListener::Hbone
        | SpokenAtListener::Http
        | SpokenAtListener::Tcp
        | SpokenAtListener::Other(_) => false,
    };
    if !is_tls {
        return None;
    }
    let Some(tls) = &listener.tls else {
        return Some(Err(invalid(format!("the listener `{}` has no `tls`", listener.name))));
    };
    if tls.passthrough {
        return Some(match listener.protocol {
            SpokenAtListener::Tls => Ok(ListenerTls::Passthrough),
            _ => Err(invalid("HTTPS ends here: `mode: Passthrough` is for the protocol TLS")),
        });
    }
    Some(match &tls.certificates[..] {
        [] => Err(invalid(format!("the listener `{}` has no `certificateRefs`", listener.name))),
        [one] => terminate(gateway, one, registry),
        _ => Err(invalid(format!(
            "the listener `{}` has several `certificateRefs`, of which only one is supported: make a listener for each hostname",
            listener.name
        ))),
    })
}

fn terminate(
    gateway: &GatewayObject,
    reference: &SecretReference,
    registry: &Registry<'_>,
) -> Result<ListenerTls, NoCertificate> {
    let SecretReference { group, kind, namespace, name, .. } = reference;
    if (&**group, &**kind) != ("", "Secret") {
        return Err(invalid(format!(
            "certificates are in Secrets, not in objects of the kind `{kind}`"
        )));
    }
    let namespace = namespace.clone().unwrap_or_else(|| gateway.namespace.clone());
    let to = Reference {
        group: group.clone(),
        kind: kind.clone(),
        namespace: namespace.clone(),
        name: name.clone(),
    };
    if namespace != gateway.namespace
        && !registry.is_granted((GATEWAY_GROUP, "Gateway"), &gateway.namespace, &to)
    {
        return Err(NoCertificate {
            reason: "RefNotPermitted",
            message: format!(
                "no ReferenceGrant of the namespace `{namespace}` lets a Gateway of `{}` refer to the Secret `{name}`",
                gateway.namespace
            ),
        });
    }
    let secret = registry.secret("Secret", &namespace, name).ok_or_else(|| {
        invalid(format!("there is no Secret `{name}` in the namespace `{namespace}`"))
    })?;
    let part = |key: &str| {
        let part = secret.data.get(key);
        part.cloned().ok_or_else(|| invalid(format!("the Secret `{name}` has no `{key}`")))
    };
    let (certificate_chain, private_key) = (part("tls.crt")?, part("tls.key")?);
    let mut chain = CertificateDer::pem_slice_iter(&certificate_chain);
    if chain.next().is_none_or(|first| first.is_err()) {
        return Err(invalid(format!(
            "`tls.crt` of the Secret `{name}` holds no certificate in PEM"
        )));
    }
    if PrivateKeyDer::from_pem_slice(&private_key).is_err() {
        return Err(invalid(format!(
            "`tls.key` of the Secret `{name}` holds no private key in PEM"
        )));
    }
    Ok(ListenerTls::Terminate { certificate_chain, private_key, client_authorities: None })
}
