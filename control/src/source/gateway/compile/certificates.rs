//! The certificates of listeners, and those that their clients show.

use std::sync::Arc;

use ringway_http::model::ListenerTls;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::clients::{self, Asked};
use super::references::{Referrer, Unresolved, permitted};
use super::registry::Registry;
use crate::source::gateway::objects::{
    GatewayObject, ListenerObject, SecretReference, SpokenAtListener, TlsAtListener,
};

/// TLS at a listener.
pub(super) struct TlsFound {
    /// Broken where it cannot be had: no other listener gets what was meant for it.
    pub(super) tls: ListenerTls,
    /// The first reference that leads nowhere.
    pub(super) unresolved: Option<Unresolved>,
    /// Clients are to be known by authorities of which none can be read.
    pub(super) no_authority: Option<String>,
}

/// How TLS ends at a listener, whose own references `referrer` makes; `None`: there is none.
pub(super) fn listener_tls(
    gateway: &GatewayObject,
    referrer: Referrer<'_>,
    listener: &ListenerObject,
    registry: &Registry<'_>,
) -> Option<TlsFound> {
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
        return Some(broken(invalid(format!("the listener `{}` has no `tls`", listener.name))));
    };
    if tls.passthrough {
        return Some(match listener.protocol {
            SpokenAtListener::Tls => {
                TlsFound { tls: ListenerTls::Passthrough, unresolved: None, no_authority: None }
            }
            _ => broken(invalid("HTTPS ends here: `mode: Passthrough` is for the protocol TLS")),
        });
    }
    let Asked { clients, unresolved, no_authority } =
        clients::asked(gateway, referrer, listener, tls, registry);
    let own = pair(referrer, &listener.name, tls, registry);
    let (tls, unresolved) = match (own, clients) {
        (Err(own), _) => (ListenerTls::Broken(own.message.as_str().into()), Some(own)),
        (Ok(_), Err(why)) => (ListenerTls::Broken(why.into()), unresolved),
        (Ok((certificate_chain, private_key)), Ok(clients)) => {
            (ListenerTls::Terminate { certificate_chain, private_key, clients }, unresolved)
        }
    };
    Some(TlsFound { tls, unresolved, no_authority })
}

fn broken(unresolved: Unresolved) -> TlsFound {
    let tls = ListenerTls::Broken(unresolved.message.as_str().into());
    TlsFound { tls, unresolved: Some(unresolved), no_authority: None }
}

fn invalid(message: impl Into<String>) -> Unresolved {
    Unresolved { reason: "InvalidCertificateRef", message: message.into(), place: None }
}

/// A certificate chain and its key.
type Pair = (Arc<[u8]>, Arc<[u8]>);

fn pair(
    referrer: Referrer<'_>,
    listener: &str,
    tls: &TlsAtListener,
    registry: &Registry<'_>,
) -> Result<Pair, Unresolved> {
    match &tls.certificates[..] {
        [] => Err(invalid(format!("the listener `{listener}` has no `certificateRefs`"))),
        [one] => in_secret(referrer, one, registry).map_err(|unresolved| unresolved.at(one)),
        _ => Err(invalid(format!(
            "the listener `{listener}` has several `certificateRefs`, of which only one is supported: make a listener for each hostname"
        ))),
    }
}

fn in_secret(
    referrer: Referrer<'_>,
    reference: &SecretReference,
    registry: &Registry<'_>,
) -> Result<Pair, Unresolved> {
    let SecretReference { group, kind, name, .. } = reference;
    if (&**group, &**kind) != ("", "Secret") {
        return Err(invalid(format!(
            "certificates are in Secrets, not in objects of the kind `{kind}`"
        )));
    }
    let namespace = permitted(referrer, reference, registry)?;
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
    Ok((certificate_chain, private_key))
}
