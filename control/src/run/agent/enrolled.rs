//! Where this process listens: a waypoint's port for tunnels, or each port of a gateway by itself, so that one comes or
//! goes without the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringway_engine::runtime::NetNamespace;
use ringway_engine::snapshot::WorkloadKey;
use ringway_engine::{Engine, GatewayRole, Role};
use ringway_http::model::GatewayName;

use super::world::key;
use crate::environment::L7Config;
use crate::xds::l7::ToldRole;

/// See the module's text.
pub(super) struct Enrolled {
    engine: Arc<Engine>,
    gateway: GatewayName,
    workload: WorkloadKey,
    pod: Arc<str>,
    /// By the uid of the enrolment.
    roles: BTreeMap<Arc<str>, Role>,
}

impl Enrolled {
    pub(super) fn new(engine: Arc<Engine>, gateway: GatewayName, config: &L7Config) -> Self {
        let pod = format!("{}/{}", config.namespace, config.pod).into();
        Self { engine, gateway, workload: key(config), pod, roles: BTreeMap::new() }
    }

    /// Whether it listens at all.
    pub(super) fn is_any(&self) -> bool {
        !self.roles.is_empty()
    }

    /// Listens where `role` says, and nowhere else. True when it does; what failed is told, and tried again when this is
    /// asked for once more.
    pub(super) async fn follow(&mut self, role: Option<&ToldRole>) -> bool {
        // Before anything is told there is nothing to end.
        let Some(role) = role else { return self.is_any() };
        let wanted = self.wanted(role);
        let gone: Vec<_> =
            self.roles.iter().filter(|(uid, role)| wanted.get(*uid) != Some(*role)).collect();
        let gone: Vec<_> = gone.into_iter().map(|(uid, _)| Arc::clone(uid)).collect();
        for uid in gone {
            self.roles.remove(&uid);
            let (engine, withdrawn) = (Arc::clone(&self.engine), Arc::clone(&uid));
            // A panic has been told.
            let _ = tokio::task::spawn_blocking(move || engine.withdraw(&withdrawn)).await;
            tracing::info!(%uid, "no longer listening");
        }
        let mut listens = true;
        for (uid, role) in wanted {
            if !self.roles.contains_key(&uid) {
                listens &= self.enroll(uid, role).await;
            }
        }
        listens
    }

    fn wanted(&self, role: &ToldRole) -> BTreeMap<Arc<str>, Role> {
        match role {
            ToldRole::Waypoint => BTreeMap::from([(Arc::clone(&self.pod), Role::Waypoint)]),
            ToldRole::Gateway(ports) => {
                let one = |port: &u16| {
                    let gateway = GatewayRole { name: self.gateway.clone(), ports: vec![*port] };
                    (format!("{}:{port}", self.pod).into(), Role::Gateway(Arc::new(gateway)))
                };
                ports.iter().map(one).collect()
            }
        }
    }

    async fn enroll(&mut self, uid: Arc<str>, role: Role) -> bool {
        let (engine, workload) = (Arc::clone(&self.engine), self.workload.clone());
        let (own, of) = (Arc::clone(&uid), role.clone());
        let enrolling = tokio::task::spawn_blocking(move || {
            let namespace = NetNamespace::current().map_err(|error| error.to_string())?;
            engine.enroll_as(own, workload, namespace, of).map_err(|error| error.to_string())
        });
        match enrolling.await.unwrap_or_else(|panic| Err(panic.to_string())) {
            Ok(()) => {
                tracing::info!(%uid, "listening");
                self.roles.insert(uid, role);
                true
            }
            Err(error) => {
                tracing::warn!(%uid, error, "not listening; tried again");
                false
            }
        }
    }
}
