//! Ports and listeners.

use std::sync::Arc;

use ringway_http::model::{
    ClientCertificates, ClientDemand, Listener, ListenerKey, ListenerProtocol, ListenerTls,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::values::{host, port};
use super::{Bind, L7Resource, Read, ToldListener, Tunnel};
use crate::proto::agent as told;
use crate::proto::agent::bind::{Mode, TunnelProtocol};
use crate::proto::agent::tls_config::{CertificateSource, MtlsMode};
use crate::xds::decode::Rejection;

/// What stands for a certificate, key or root that cannot be had.
pub(super) const INVALID: &[u8] = b"invalid";

/// `TLSVersion`: the one above which a listener cannot be told to go.
const TLS_1_2: i32 = 3;
const TLS_1_3: i32 = 4;

pub(super) fn bind(bind: &told::Bind) -> Result<Read, Rejection> {
    if bind.key.is_empty() {
        return Err(Rejection::Missing("key"));
    }
    let unsupported = |what: &str| Err(Rejection::Unsupported(what.to_owned()));
    let tunnel = match TunnelProtocol::try_from(bind.tunnel_protocol) {
        Ok(TunnelProtocol::Direct) => Tunnel::None,
        Ok(TunnelProtocol::HboneWaypoint) => Tunnel::Waypoint,
        Ok(TunnelProtocol::Proxy) => {
            return unsupported("the PROXY protocol at a port of ours");
        }
        Ok(TunnelProtocol::HboneGateway) => {
            return unsupported("tunnels between networks: this is no east-west gateway");
        }
        Ok(TunnelProtocol::Connect) => return unsupported("CONNECT at a port of ours"),
        Err(_) => return Err(Rejection::UnknownValue("tunnel_protocol", bind.tunnel_protocol)),
    };
    match Mode::try_from(bind.mode) {
        Ok(Mode::Standard) => {}
        Ok(Mode::Internal) => return unsupported("a port that nothing reaches from outside"),
        Err(_) => return Err(Rejection::UnknownValue("mode", bind.mode)),
    }
    let port = port(bind.port).map_err(|_| Rejection::Port("port", bind.port))?;
    Ok(L7Resource::Bind(Bind { key: bind.key.as_str().into(), port, tunnel }).into())
}

pub(super) fn listener(told: told::Listener) -> Result<Read, Rejection> {
    if told.key.is_empty() || told.bind_key.is_empty() {
        return Err(Rejection::Missing("key or bind_key"));
    }
    let name = told.name.ok_or(Rejection::Missing("name"))?;
    let protocol = match told::Protocol::try_from(told.protocol) {
        Ok(told::Protocol::Http) => ListenerProtocol::Http,
        Ok(told::Protocol::Https) => ListenerProtocol::Https,
        Ok(told::Protocol::Tls) => ListenerProtocol::Tls,
        Ok(told::Protocol::Tcp) => ListenerProtocol::Tcp,
        Ok(told::Protocol::Hbone) => ListenerProtocol::Hbone,
        Ok(told::Protocol::Unknown) | Err(_) => {
            return Err(Rejection::UnknownValue("protocol", told.protocol));
        }
    };
    let hostname = match told.hostname.as_str() {
        "" | "*" => None,
        text => Some(host(text).map_err(Rejection::Unsupported)?),
    };
    let mut warnings = Vec::new();
    let listener = Listener {
        key: key(&name),
        port: 0,
        protocol,
        hostname,
        tls: tls(protocol, told.tls, &mut warnings),
    };
    let (key, bind) = (told.key.into(), told.bind_key.into());
    let resource = L7Resource::Listener(ToldListener { key, bind, listener });
    Ok(Read { resource: Some(resource), warnings })
}

/// A listener of a set has the set's name before its own: two sets may have listeners of one name.
fn key(name: &told::ListenerName) -> ListenerKey {
    let listener = match &name.listener_set {
        Some(set) => format!("{}/{}.{}", set.namespace, set.name, name.listener_name).into(),
        None => Arc::from(name.listener_name.as_str()),
    };
    ListenerKey {
        namespace: name.gateway_namespace.as_str().into(),
        gateway: name.gateway_name.as_str().into(),
        listener,
    }
}

/// What cannot be kept, such as a bound on versions, makes every handshake fail: it was asked for to keep somebody out.
fn tls(
    protocol: ListenerProtocol,
    tls: Option<told::TlsConfig>,
    warnings: &mut Vec<String>,
) -> Option<ListenerTls> {
    let tls = match (protocol, tls) {
        (ListenerProtocol::Tls, None) => return Some(ListenerTls::Passthrough),
        (ListenerProtocol::Https, None) => {
            return Some(ListenerTls::Broken("HTTPS without a certificate".into()));
        }
        (ListenerProtocol::Https | ListenerProtocol::Tls, Some(tls)) => tls,
        (ListenerProtocol::Http | ListenerProtocol::Tcp | ListenerProtocol::Hbone, _) => {
            return None;
        }
    };
    if tls.cert == INVALID || tls.private_key == INVALID {
        // As the control plane knows: it has told the Gateway's status.
        return Some(ListenerTls::Broken("the control plane has no certificate for it".into()));
    }
    Some(terminate(tls).unwrap_or_else(|why| {
        warnings.push(format!("tls: {why}: every handshake fails"));
        ListenerTls::Broken(why.into())
    }))
}

fn terminate(tls: told::TlsConfig) -> Result<ListenerTls, String> {
    if tls.certificate_source != CertificateSource::Inline as i32 {
        return Err("a certificate that is not told is not supported".to_owned());
    }
    if !tls.cipher_suites.is_empty() || !tls.key_exchange_groups.is_empty() {
        return Err("cipher suites and groups cannot be chosen".to_owned());
    }
    if tls.min_version.is_some_and(|version| !matches!(version, 0 | TLS_1_2)) {
        return Err("TLS 1.2 cannot be switched off".to_owned());
    }
    if tls.max_version.is_some_and(|version| !matches!(version, 0 | TLS_1_3)) {
        return Err("TLS 1.3 cannot be switched off".to_owned());
    }
    let mut chain = CertificateDer::pem_slice_iter(&tls.cert);
    if chain.next().is_none_or(|first| first.is_err()) {
        return Err("`cert` holds no certificate in PEM".to_owned());
    }
    if PrivateKeyDer::from_pem_slice(&tls.private_key).is_err() {
        return Err("`private_key` holds no key in PEM".to_owned());
    }
    let mode = MtlsMode::try_from(tls.mtls_mode)
        .map_err(|_| format!("mtls_mode {} is unknown", tls.mtls_mode))?;
    let root = tls.root.filter(|root| !root.is_empty() && mode != MtlsMode::Disable);
    if root.as_deref() == Some(INVALID) {
        return Err("the control plane has no roots for clients' certificates".to_owned());
    }
    let demand = match mode {
        MtlsMode::AllowInsecureFallback => ClientDemand::Anything,
        MtlsMode::Strict | MtlsMode::Disable => ClientDemand::Valid,
    };
    Ok(ListenerTls::Terminate {
        certificate_chain: tls.cert.into(),
        private_key: tls.private_key.into(),
        clients: root.map(|root| ClientCertificates { authorities: root.into(), demand }),
    })
}
