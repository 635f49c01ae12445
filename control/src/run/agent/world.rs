//! What was told, made into a world: the mesh as it is, and tables of what our Gateway says. Tables are made anew only
//! when something that they depend on has changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use ringway_engine::snapshot::{LocalName, Snapshot, WorkloadKey};
use ringway_http::Tables;
use ringway_http::model::{GatewayName, ServiceName};

use crate::environment::L7Config;
use crate::xds::l7::{Compiled, Place, ToldL7, ToldRole, compile, fronted};

/// See the module's text.
pub(super) struct World {
    gateway: GatewayName,
    workload: WorkloadKey,
    /// What the tables were made of.
    of: Option<(ToldL7, Option<Arc<str>>, Vec<ServiceName>)>,
    tables: Option<Arc<Tables>>,
    role: Option<ToldRole>,
    /// What was said of what was told last.
    pub(super) warnings: BTreeSet<String>,
    /// Why what was told last is not in force.
    pub(super) error: Option<String>,
}

impl World {
    pub(super) fn new(gateway: GatewayName, config: &L7Config) -> Self {
        Self {
            gateway,
            workload: key(config),
            of: None,
            tables: None,
            role: None,
            warnings: BTreeSet::new(),
            error: None,
        }
    }

    /// `mesh` with tables of what was told.
    pub(super) fn make(&mut self, mesh: Snapshot, told: &ToldL7) -> Snapshot {
        self.compile(&mesh, told);
        mesh.with_http(self.tables.clone())
    }

    /// The role that follows from what is in force.
    pub(super) fn role(&self) -> Option<&ToldRole> {
        self.role.as_ref()
    }

    fn compile(&mut self, mesh: &Snapshot, told: &ToldL7) {
        let workload = mesh.workload_of(&self.workload);
        let uid: Option<Arc<str>> = workload.map(|own| own.uid().into());
        let place =
            Place { gateway: &self.gateway, workload: workload.map(|own| &**own), snapshot: mesh };
        let services = fronted(&place);
        let is_same = |(before, of, fronted): &(ToldL7, Option<Arc<str>>, Vec<ServiceName>)| {
            before.is_same(told) && *of == uid && *fronted == services
        };
        if self.of.as_ref().is_some_and(is_same) {
            return;
        }
        let Compiled { http, role, warnings, unscoped: _ } = compile(told.resources(), &place);
        self.of = Some((told.clone(), uid, services));
        for warning in warnings.iter().filter(|warning| !self.warnings.contains(*warning)) {
            tracing::warn!("{warning}");
        }
        self.warnings = warnings.into_iter().collect();
        match Tables::compile(http) {
            Ok(tables) => {
                self.tables = Some(Arc::new(tables));
                self.role = role;
                self.error = None;
            }
            Err(error) => {
                tracing::error!(%error, "what was told makes no whole; what is in force stays");
                self.error = Some(error.to_string());
            }
        }
    }
}

/// What our workload is found by.
pub(super) fn key(config: &L7Config) -> WorkloadKey {
    let name = LocalName::new(&config.namespace, &config.pod, &config.service_account);
    WorkloadKey::Local(Arc::new(name))
}
