//! Resources that a client should refuse, each for a reason of its own.

use prost::Message;
use ringway_control::proto::{security, workload};
use serde::{Deserialize, Serialize};

use crate::resources::{ADDRESS, AUTHORIZATION, Resource};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Garbage {
    /// Bytes that are no message.
    Undecodable,
    /// A workload with an address of three bytes.
    ShortAddress,
    /// A workload with an enum number nobody knows.
    UnknownEnum,
    /// A workload that belongs to a service without a namespace.
    ServiceWithoutNamespace,
    /// A workload with a waypoint that is nowhere.
    WaypointNowhere,
    /// An address that is neither workload nor service.
    Neither,
    /// A resource of another type than the response's.
    ForeignType,
    /// A policy with an unknown action.
    UnknownAction,
    /// A policy with a range longer than an address.
    LongRange,
}

impl Garbage {
    /// Under which type it is told.
    pub(crate) fn type_url(self) -> &'static str {
        match self {
            Garbage::UnknownAction | Garbage::LongRange => AUTHORIZATION,
            _ => ADDRESS,
        }
    }

    /// The resource.
    pub(crate) fn resource(self) -> Resource {
        let name = format!("garbage/{}", self.name());
        let raw = |type_url: &str, bytes| Resource::raw(name.clone(), Vec::new(), type_url, bytes);
        match self {
            Garbage::Undecodable => raw(ADDRESS, vec![0xff; 40]),
            Garbage::Neither => raw(ADDRESS, workload::Address::default().encode_to_vec()),
            Garbage::ForeignType => raw("type.googleapis.com/envoy.config.Unheard", Vec::new()),
            Garbage::UnknownAction | Garbage::LongRange => {
                raw(AUTHORIZATION, self.policy(&name).encode_to_vec())
            }
            _ => {
                let which = workload::address::Type::Workload(self.workload(&name));
                raw(ADDRESS, workload::Address { r#type: Some(which) }.encode_to_vec())
            }
        }
    }

    fn name(self) -> String {
        let name = serde_json::to_value(self).expect("a name is JSON");
        name.as_str().expect("a unit variant is a text").to_owned()
    }

    fn workload(self, uid: &str) -> workload::Workload {
        let mut workload = workload::Workload {
            uid: uid.to_owned(),
            name: "garbage".to_owned(),
            namespace: "garbage".to_owned(),
            addresses: vec![vec![10, 66, 66, 66]],
            ..workload::Workload::default()
        };
        match self {
            Garbage::ShortAddress => workload.addresses = vec![vec![10, 66, 66]],
            Garbage::UnknownEnum => workload.status = 66,
            Garbage::WaypointNowhere => {
                workload.waypoint = Some(workload::GatewayAddress::default());
            }
            _ => {
                let ports = workload::PortList::default();
                workload.services = [("no-namespace".to_owned(), ports)].into();
            }
        }
        workload
    }

    fn policy(self, name: &str) -> security::Authorization {
        let range = security::Address { address: vec![10, 0, 0, 0], length: 33 };
        let matches = vec![security::Match { source_ips: vec![range], ..Default::default() }];
        let clauses = vec![security::Clause { matches }];
        let long_range = self == Garbage::LongRange;
        security::Authorization {
            name: name.trim_start_matches("garbage/").to_owned(),
            namespace: "garbage".to_owned(),
            action: if long_range { 0 } else { 66 },
            rules: if long_range { vec![security::Rule { clauses }] } else { Vec::new() },
            ..security::Authorization::default()
        }
    }
}
