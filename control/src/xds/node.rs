//! Who we say we are.

use std::collections::BTreeMap;
use std::net::IpAddr;

use prost_types::Struct;

use super::state::{KINDS, Kind};
use crate::proto::discovery::Node;

/// What a control plane takes a process for; it decides what is told to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeType {
    /// A node proxy: the mesh, and policies about connections.
    #[default]
    Node,
    /// A waypoint or gateway: the mesh, and what its Gateway says.
    #[cfg(feature = "waypoint")]
    L7,
}

impl NodeType {
    fn as_str(self) -> &'static str {
        match self {
            NodeType::Node => "ztunnel",
            #[cfg(feature = "waypoint")]
            NodeType::L7 => "agentgateway",
        }
    }

    pub(super) fn kinds(self) -> [Kind; KINDS] {
        match self {
            NodeType::Node => Kind::OF_NODE,
            #[cfg(feature = "waypoint")]
            NodeType::L7 => Kind::OF_L7,
        }
    }
}

/// What the control plane is told about this process. It checks the name and namespace against the token's.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeIdentity {
    /// What it is.
    pub node_type: NodeType,
    /// The pod's address.
    pub ip: IpAddr,
    /// The pod's name.
    pub pod_name: String,
    /// The pod's namespace.
    pub pod_namespace: String,
    /// The name of the host.
    pub node_name: Option<String>,
    /// Whatever else it is told; these win over what is told anyway.
    pub metadata: BTreeMap<String, prost_types::Value>,
}

impl NodeIdentity {
    pub(super) fn node(&self) -> Node {
        let NodeIdentity { ip, pod_name, pod_namespace, .. } = self;
        let kind = self.node_type.as_str();
        Node {
            // The last part is fixed, whatever the cluster's domain is.
            id: format!("{kind}~{ip}~{pod_name}.{pod_namespace}~{pod_namespace}.svc.cluster.local"),
            metadata: Some(Struct { fields: self.fields() }),
            ..Node::default()
        }
    }

    fn fields(&self) -> BTreeMap<String, prost_types::Value> {
        let mut fields = BTreeMap::new();
        let mut tell = |key: &str, text: &str| {
            fields.insert(key.to_owned(), prost_types::Value::from(text));
        };
        tell("NAME", &self.pod_name);
        tell("NAMESPACE", &self.pod_namespace);
        tell("INSTANCE_IPS", &self.ip.to_string());
        if let Some(node) = &self.node_name {
            tell("NODE_NAME", node);
        }
        fields.extend(self.metadata.clone());
        fields
    }
}
