//! Resources as xDS carries them: a name, a version, the other names it answers to, and the message.

pub mod gateway;
mod policy;
mod synthetic;
mod vocabulary;
mod workload;

use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;

use prost::Message;
use ringway_control::proto::discovery;

pub(crate) use self::policy::policy;
pub(crate) use self::synthetic::synthetic;
pub(crate) use self::workload::{service, workload};

/// The type of workloads and services.
pub const ADDRESS: &str = "type.googleapis.com/istio.workload.Address";
/// The type of policies.
pub const AUTHORIZATION: &str = "type.googleapis.com/istio.security.Authorization";

/// The type of what is told to the processes of a Gateway.
pub const AGENT: &str = "type.googleapis.com/agentgateway.dev.resource.Resource";

/// One resource.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resource {
    /// Its primary key.
    pub(crate) name: String,
    /// Other names it is found by, on demand.
    pub(crate) aliases: Vec<String>,
    /// The hash of what it says.
    pub(crate) hash: u64,
    /// The type its message has on the wire.
    pub(crate) type_url: String,
    /// The message.
    pub(crate) message: Vec<u8>,
}

impl Resource {
    fn of(name: String, aliases: Vec<String>, type_url: &str, message: &impl Message) -> Resource {
        Resource::raw(name, aliases, type_url, message.encode_to_vec())
    }

    /// Of bytes as they are, which may be nonsense.
    pub(crate) fn raw(
        name: String,
        aliases: Vec<String>,
        type_url: &str,
        message: Vec<u8>,
    ) -> Resource {
        let mut hasher = DefaultHasher::new();
        hasher.write(&message);
        let (hash, type_url) = (hasher.finish(), type_url.to_owned());
        Resource { name, aliases, hash, type_url, message }
    }

    /// What stands for its content on the wire. Policies and Gateways' resources have none, as istiod's do not.
    pub(crate) fn version(&self) -> String {
        match self.type_url.as_str() {
            AUTHORIZATION | AGENT => String::new(),
            _ => format!("{:016x}", self.hash),
        }
    }

    /// As it is sent.
    pub(crate) fn to_wire(&self) -> discovery::Resource {
        let (type_url, value) = (self.type_url.clone(), self.message.clone());
        discovery::Resource {
            version: self.version(),
            resource: Some(prost_types::Any { type_url, value }),
            name: self.name.clone(),
            aliases: self.aliases.clone(),
            ..discovery::Resource::default()
        }
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
