//! What clients have to show of themselves at a listener, and by whom they are believed.
//!
//! | who says it | of which listeners |
//! |---|---|
//! | `tls.frontend` of the Gateway: its port, else its default | HTTPS |
//! | `tls.frontendValidation` of the listener, which goes before it | HTTPS, and TLS that ends here |
//! | Istio's option of the listener, whose mode goes before theirs; its authority is the one of the listener's own Secret, where nobody has said another | the same |

use ringway_http::model::{ClientCertificates, ClientDemand};

use super::authorities::authorities;
use super::references::{Referrer, Unresolved, permitted};
use super::registry::Registry;
use crate::source::gateway::objects::{
    ClientValidation, GatewayObject, ListenerObject, MutualTls, SecretReference, SpokenAtListener,
    TlsAtListener, ValidationMode,
};
use crate::source::gateway::values::GATEWAY_GROUP;

/// What clients are asked for.
pub(super) struct Asked {
    /// Why nobody can be let in, where somebody was to be asked and cannot be judged.
    pub(super) clients: Result<Option<ClientCertificates>, String>,
    /// The first reference that leads nowhere.
    pub(super) unresolved: Option<Unresolved>,
    /// All of them do.
    pub(super) no_authority: Option<String>,
}

/// What clients of a listener are asked for.
pub(super) fn asked(
    gateway: &GatewayObject,
    referrer: Referrer<'_>,
    listener: &ListenerObject,
    tls: &TlsAtListener,
    registry: &Registry<'_>,
) -> Asked {
    let at_gateway =
        Referrer { group: GATEWAY_GROUP, kind: "Gateway", namespace: &gateway.namespace };
    let of_gateway = match listener.protocol {
        SpokenAtListener::Https => gateway.frontend.of(listener.port),
        _ => None,
    };
    let said = tls.validation.as_ref().map(|validation| (referrer, validation));
    let said = said.or(of_gateway.map(|validation| (at_gateway, validation)));
    let demand = match (tls.mutual, said) {
        (None, None) => return Asked { clients: Ok(None), unresolved: None, no_authority: None },
        (Some(MutualTls::Mutual), _) => ClientDemand::Valid,
        (Some(MutualTls::OptionalMutual), _) => ClientDemand::ValidOrNone,
        (None, Some((_, ClientValidation { mode, .. }))) => match mode {
            ValidationMode::AllowValidOnly => ClientDemand::Valid,
            ValidationMode::AllowInsecureFallback => ClientDemand::Anything,
        },
    };
    let (referrer, references) = match said {
        Some((referrer, validation)) => (referrer, &validation.authorities),
        None => (referrer, &tls.certificates),
    };
    let (mut all, mut unresolved) = (Vec::new(), None);
    for reference in references {
        match authority(referrer, reference, registry) {
            Ok(pem) => {
                all.extend_from_slice(pem);
                all.push(b'\n');
            }
            Err(refused) => _ = unresolved.get_or_insert(refused.at(reference)),
        }
    }
    if !all.is_empty() {
        let clients = Ok(Some(ClientCertificates { authorities: all.into(), demand }));
        return Asked { clients, unresolved, no_authority: None };
    }
    let why = unresolved.as_ref().map(|refused| refused.message.as_str());
    let why =
        why.unwrap_or("the listener has no `certificateRefs`, in which the authority would be");
    let message = format!("no client can be believed: {why}");
    Asked { clients: Err(message.clone()), unresolved, no_authority: Some(message) }
}

fn authority<'r>(
    referrer: Referrer<'_>,
    reference: &SecretReference,
    registry: &'r Registry<'_>,
) -> Result<&'r [u8], Unresolved> {
    let SecretReference { group, kind, name, .. } = reference;
    if !matches!((&**group, &**kind), ("", "ConfigMap" | "Secret")) {
        let message = format!(
            "authorities stand in ConfigMaps and Secrets, not in objects of the kind `{kind}`"
        );
        return Err(Unresolved { reason: "InvalidCACertificateKind", message, place: None });
    }
    let namespace = permitted(referrer, reference, registry)?;
    let found = authorities(registry, kind, &namespace, name);
    found.map(|pem| &**pem).map_err(|message| Unresolved {
        reason: "InvalidCACertificateRef",
        message,
        place: None,
    })
}
