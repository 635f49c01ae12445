//! Pieces of Envoy's configuration that all of its subjects have.

use std::path::Path;

use serde_json::{Value, json};

use super::MARK;

pub(super) fn common_tls(folder: &Path, own: &str, peer: Value) -> Value {
    let file = |name: String| json!({"filename": folder.join(name)});
    json!({
        "alpn_protocols": ["istio"],
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificates": [{
            "certificate_chain": file(format!("{own}.pem")),
            "private_key": file(format!("{own}.key")),
        }],
        "validation_context": {
            "trusted_ca": file("root.pem".to_owned()),
            "match_typed_subject_alt_names": [peer],
        },
    })
}

/// Envoy's own limits (1024 connections) are lifted, as Istio does.
pub(super) fn no_limits() -> Value {
    let most = u32::MAX;
    json!({"thresholds": [{
        "max_connections": most,
        "max_pending_requests": most,
        "max_requests": most,
        "max_retries": most,
    }]})
}

pub(super) fn marked(source: &str) -> Value {
    json!({
        "source_address": {"address": source, "port_value": 0},
        "socket_options": [{
            "description": "SO_MARK",
            "level": libc::SOL_SOCKET,
            "name": libc::SO_MARK,
            "int_value": MARK,
            "state": "STATE_PREBIND",
        }],
    })
}

pub(super) fn original_destination() -> Value {
    typed(
        "envoy.filters.listener.original_dst",
        "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
        json!({}),
    )
}

pub(super) fn address(address: &str, port: u16) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

pub(super) fn typed(name: &str, kind: &str, mut configuration: Value) -> Value {
    configuration["@type"] = format!("type.googleapis.com/{kind}").into();
    json!({"name": name, "typed_config": configuration})
}
