//! What is told about the mesh: by the local file, and by the control plane, if there is one.

use std::rc::Rc;
use std::sync::Arc;

use prost_types::value::Kind;
use ringway_engine::snapshot::Snapshot;
use serde_json::Value;
use tokio::sync::watch;

use crate::admin::view::Teller;
use crate::environment::{NodeDescription, ZtunnelConfig};
use crate::telemetry::metrics::DiscoveryFacts;
use crate::xds::{NodeIdentity, Termination, Update, XdsClient, XdsConfig};

/// See the module's text.
pub(super) struct Told {
    /// The mesh, without anybody's credentials.
    snapshot: Snapshot,
    is_synced: bool,
    control_plane: Option<ControlPlane>,
}

struct ControlPlane {
    updates: watch::Receiver<Update>,
    /// It ends when this is dropped.
    client: Rc<XdsClient>,
}

impl Told {
    /// What is known already, and from now on what the control plane says. Must be called on a tokio runtime.
    pub(super) fn listen_to(config: &ZtunnelConfig, known: Snapshot) -> Self {
        let control_plane = config.discovery.clone().map(|endpoint| {
            let client = Rc::new(XdsClient::start(XdsConfig {
                endpoint,
                node: identity(&config.node),
                is_on_demand: config.on_demand,
                known: known.clone(),
            }));
            ControlPlane { updates: client.updates(), client }
        });
        Self { snapshot: known, is_synced: control_plane.is_none(), control_plane }
    }

    /// Waits for news. Dropping the future loses nothing.
    pub(super) async fn changed(&mut self) {
        let Some(control_plane) = &mut self.control_plane else {
            return std::future::pending().await;
        };
        if control_plane.updates.changed().await.is_err() {
            tracing::error!("the control plane's client broke: what is known stays in force");
            return std::future::pending().await;
        }
        self.take();
    }

    /// Takes what there is, waiting for nothing.
    pub(super) fn take(&mut self) {
        let Some(control_plane) = &mut self.control_plane else { return };
        let update = control_plane.updates.borrow_and_update().clone();
        // Once it has told everything, it does not become unready when it leaves.
        self.is_synced |= update.is_synced;
        self.snapshot = update.snapshot;
    }

    /// The control plane, to be asked.
    pub(super) fn client(&self) -> Option<Rc<XdsClient>> {
        self.control_plane.as_ref().map(|control_plane| Rc::clone(&control_plane.client))
    }

    /// What tells how the control plane was heard, if there is one.
    pub(super) fn teller(&self) -> Option<Teller<DiscoveryFacts>> {
        Some(teller(&self.control_plane.as_ref()?.client))
    }

    /// The mesh, without anybody's credentials.
    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether everything was told once.
    pub(super) fn is_synced(&self) -> bool {
        self.is_synced
    }
}

/// Tells what a client counts.
pub(in crate::run) fn teller(client: &XdsClient) -> Teller<DiscoveryFacts> {
    let counts = Arc::clone(client.counts());
    Arc::new(move || DiscoveryFacts {
        terminations: Termination::ALL
            .iter()
            .map(|reason| (reason.as_str(), counts.terminations(*reason)))
            .collect(),
        messages: counts
            .messages()
            .map(|(url, messages, bytes)| (url.to_owned(), messages, bytes))
            .collect(),
    })
}

pub(in crate::run) fn identity(node: &NodeDescription) -> NodeIdentity {
    NodeIdentity {
        node_type: Default::default(),
        ip: node.instance_ip,
        pod_name: node.pod_name.clone().unwrap_or_default(),
        pod_namespace: node.pod_namespace.clone().unwrap_or_default(),
        node_name: node.node_name.clone(),
        metadata: node.extra.iter().map(|(name, value)| (name.clone(), told(value))).collect(),
    }
}

/// The same in the control plane's form.
fn told(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        // What does not fit is metadata of a size nobody has.
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::MAX)),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(values) => {
            let values = values.iter().map(told).collect();
            Kind::ListValue(prost_types::ListValue { values })
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), told(value))).collect();
            Kind::StructValue(prost_types::Struct { fields })
        }
    };
    prost_types::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_is_told_with_its_structure() {
        let value = told(&json!({"app": "ztunnel", "list": [1, true, null]}));
        let Some(Kind::StructValue(fields)) = value.kind else { panic!("{value:?}") };
        assert_eq!(fields.fields["app"], prost_types::Value::from("ztunnel"));
        let list =
            vec![1.0.into(), true.into(), prost_types::Value { kind: Some(Kind::NullValue(0)) }];
        assert_eq!(fields.fields["list"], prost_types::Value::from(list));
    }
}
