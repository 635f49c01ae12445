//! This node as the control plane hears of it.

use std::net::IpAddr;

use serde_json::{Map, Value};

/// The type of node that node proxies are, to the control plane.
const NODE_TYPE: &str = "ztunnel";

/// Which node this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDescription {
    /// Its name; without one every workload counts as local.
    pub node_name: Option<String>,
    /// The network it is in.
    pub network: String,
    /// The cluster it is in.
    pub cluster: String,
    /// The trust domain of this process's own identity.
    pub trust_domain: String,
    /// The pod of this process.
    pub pod_name: Option<String>,
    /// The namespace of that pod.
    pub pod_namespace: Option<String>,
    /// The service account of that pod.
    pub service_account: Option<String>,
    /// The address of that pod.
    pub instance_ip: IpAddr,
    /// What else is told of it: texts and JSON by name, the names of [`NodeDescription::metadata`] not among them.
    pub extra: Map<String, Value>,
}

impl NodeDescription {
    /// The id of this node: type, address, pod, domain. The domain is always the same, whatever the cluster's is.
    pub fn id(&self) -> String {
        let pod = self.pod_name.as_deref().unwrap_or_default();
        let namespace = self.pod_namespace.as_deref().unwrap_or_default();
        let address = self.instance_ip;
        format!("{NODE_TYPE}~{address}~{pod}.{namespace}~{namespace}.svc.cluster.local")
    }

    /// What is told of it. What the operator says wins over what we know.
    pub fn metadata(&self) -> Map<String, Value> {
        let text = |text: Option<&str>| Value::String(text.unwrap_or_default().to_owned());
        let mut metadata = Map::new();
        metadata.insert("NAME".to_owned(), text(self.pod_name.as_deref()));
        metadata.insert("NAMESPACE".to_owned(), text(self.pod_namespace.as_deref()));
        metadata.insert("INSTANCE_IPS".to_owned(), Value::String(self.instance_ip.to_string()));
        metadata.insert("NODE_NAME".to_owned(), text(self.node_name.as_deref()));
        metadata.extend(self.extra.clone());
        metadata
    }

    /// The version of Istio this node belongs to, as far as anybody said.
    pub fn istio_version(&self) -> &str {
        self.extra.get("ISTIO_VERSION").and_then(Value::as_str).unwrap_or("unknown")
    }

    /// Pod, namespace and service account of this process, if all three are known: then it has an identity of its own.
    pub fn own_pod(&self) -> Option<(&str, &str, &str)> {
        Some((
            self.pod_name.as_deref()?,
            self.pod_namespace.as_deref()?,
            self.service_account.as_deref()?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node() -> NodeDescription {
        NodeDescription {
            node_name: Some("node-a".to_owned()),
            network: String::new(),
            cluster: "Kubernetes".to_owned(),
            trust_domain: "cluster.local".to_owned(),
            pod_name: Some("ztunnel-x".to_owned()),
            pod_namespace: Some("istio-system".to_owned()),
            service_account: None,
            instance_ip: "10.0.0.7".parse().unwrap(),
            extra: Map::new(),
        }
    }

    #[test]
    fn the_id_has_four_parts() {
        assert_eq!(
            node().id(),
            "ztunnel~10.0.0.7~ztunnel-x.istio-system~istio-system.svc.cluster.local"
        );
        let nobody = NodeDescription { pod_name: None, pod_namespace: None, ..node() };
        assert_eq!(nobody.id(), "ztunnel~10.0.0.7~.~.svc.cluster.local");
    }

    #[test]
    fn what_the_operator_says_wins() {
        let mut node = node();
        node.extra.insert("ISTIO_VERSION".to_owned(), json!("1.31.0"));
        node.extra.insert("NODE_NAME".to_owned(), json!("other"));
        node.extra.insert("LABELS".to_owned(), json!({"app": "ztunnel"}));
        assert_eq!(
            Value::Object(node.metadata()),
            json!({
                "NAME": "ztunnel-x",
                "NAMESPACE": "istio-system",
                "INSTANCE_IPS": "10.0.0.7",
                "NODE_NAME": "other",
                "ISTIO_VERSION": "1.31.0",
                "LABELS": {"app": "ztunnel"},
            })
        );
        assert_eq!(node.istio_version(), "1.31.0");
    }

    #[test]
    fn an_identity_of_its_own_takes_all_three_names() {
        assert_eq!(node().own_pod(), None);
        let whole = NodeDescription { service_account: Some("ztunnel".to_owned()), ..node() };
        assert_eq!(whole.own_pod(), Some(("ztunnel-x", "istio-system", "ztunnel")));
    }
}
