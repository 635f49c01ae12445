//! What a run is told beside the configuration: where that is, and what overrides it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::admin::config_dump::VersionInfo;
use crate::source::{
    Cores, Listen, LogFormat, MeshConfig, Mode, NetworkNamespace, NodeConfig, Reactor, Redirect,
    Source, WorkloadEnrollment,
};

/// Where the process keeps what must survive it until the next boot.
pub const STATE_DIRECTORY: &str = "/run/ringway";

/// Everything the `run` verb is told.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Where the configuration is.
    pub sources: Vec<Source>,
    /// Which of its nodes this is.
    pub node: Option<String>,
    /// What the command line and the environment override.
    pub overrides: Overrides,
    /// For a process that is a waypoint or a gateway.
    #[cfg(feature = "waypoint")]
    pub l7: Option<super::waypoint::options::L7Options>,
    /// See [`STATE_DIRECTORY`].
    pub state_directory: PathBuf,
    /// What runs.
    pub version: VersionInfo,
    /// Has the allocator give back what the calling thread has freed.
    pub collect: Option<fn()>,
}

/// Settings that are given elsewhere than in the configuration, and win over it, also after a reload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// One process for many workloads, or for one.
    pub mode: Option<Mode>,
    /// The one workload of a dedicated process.
    pub workload: Option<WorkloadName>,
    /// The cores of the shards.
    pub cores: Option<Cores>,
    /// What shards wait on.
    pub reactor: Option<Reactor>,
    /// Who installs redirect rules.
    pub redirect: Option<Redirect>,
    /// Where the certificate authority is.
    pub ca_directory: Option<PathBuf>,
    /// Files of revocation lists.
    pub revocation_lists: Option<Vec<PathBuf>>,
    /// The socket of a SPIFFE agent.
    pub workload_api: Option<PathBuf>,
    /// How long leaves live.
    pub leaf_lifetime: Option<Duration>,
    /// How long open connections may go on at the end.
    pub drain_deadline: Option<Duration>,
    /// The admin server; the inner `None` switches it off.
    pub admin: Option<Option<SocketAddr>>,
    /// The metrics server.
    pub metrics: Option<Option<SocketAddr>>,
    /// The readiness server.
    pub readiness: Option<Option<SocketAddr>>,
    /// What is logged.
    pub log_level: Option<String>,
    /// How lines look.
    pub log_format: Option<LogFormat>,
}

/// A workload as operators name it: `namespace/name` or `namespace/name/service-account`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its service account, if it was given.
    pub service_account: Option<String>,
}

/// Why overrides and configuration do not go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverrideError {
    /// The workload of a dedicated process is not in the configuration.
    UnknownWorkload(WorkloadName),
    /// It has another service account than was said.
    OtherServiceAccount(WorkloadName, String),
    /// It is not said which one workload a dedicated process serves.
    WhichWorkload(usize),
    /// A shared process serves the workloads its Node document names.
    WorkloadNeedsDedicated,
    /// A setting has a value that no Node document could give it.
    Setting(String),
    /// The Gateway that this process is to be is not in the configuration.
    #[cfg(feature = "waypoint")]
    UnknownGateway {
        /// Which.
        name: ringway_http::model::GatewayName,
        /// As what.
        kind: super::waypoint::options::Kind,
        /// Those there are.
        known: Vec<ringway_http::model::GatewayName>,
    },
    /// It is a gateway and not a waypoint, or the other way round.
    #[cfg(feature = "waypoint")]
    OtherKindOfGateway(ringway_http::model::GatewayName, super::waypoint::options::Kind),
}

impl std::fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl std::str::FromStr for WorkloadName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(format!(
                "{text:?} is not namespace/name or namespace/name/service-account"
            ));
        }
        let (namespace, name, service_account) = match parts.as_slice() {
            [namespace, name] => (namespace, name, None),
            [namespace, name, account] => (namespace, name, Some((*account).to_owned())),
            _ => {
                return Err(format!(
                    "{text:?} is not namespace/name or namespace/name/service-account"
                ));
            }
        };
        Ok(Self { namespace: (*namespace).to_owned(), name: (*name).to_owned(), service_account })
    }
}

impl std::fmt::Display for OverrideError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownWorkload(name) => {
                write!(f, "the configuration has no workload {name}; add it, or name another")
            }
            Self::OtherServiceAccount(name, account) => {
                write!(f, "the workload {name} has the service account {account} in the configuration")
            }
            Self::WhichWorkload(0) => f.write_str(
                "a dedicated process serves one workload, and the configuration captures none: say which with \
                 `--workload namespace/name`",
            ),
            Self::WhichWorkload(count) => write!(
                f,
                "a dedicated process serves one workload, and the configuration captures {count}: say which with \
                 `--workload namespace/name`"
            ),
            #[cfg(feature = "waypoint")]
            Self::UnknownGateway { name, kind, known } => {
                let kind = kind.as_str();
                write!(f, "the configuration has no {kind} {name}: ")?;
                match known.as_slice() {
                    [] => write!(f, "no Gateway in it is a {kind}"),
                    known => {
                        let known: Vec<_> = known.iter().map(ToString::to_string).collect();
                        write!(f, "it has {}", known.join(", "))
                    }
                }
            }
            #[cfg(feature = "waypoint")]
            Self::OtherKindOfGateway(name, super::waypoint::options::Kind::Waypoint) => write!(
                f,
                "the Gateway {name} has no listener with the protocol HBONE, so it is no waypoint: use `ringway gateway`"
            ),
            #[cfg(feature = "waypoint")]
            Self::OtherKindOfGateway(name, super::waypoint::options::Kind::Gateway) => write!(
                f,
                "the Gateway {name} has only listeners with the protocol HBONE, so it is a waypoint: use `ringway waypoint`"
            ),
            Self::Setting(why) => write!(f, "by flag or environment: {why}"),
            Self::WorkloadNeedsDedicated => f.write_str(
                "`--workload` is for a process that serves one workload: add `--dedicated`",
            ),
        }
    }
}

impl std::error::Error for OverrideError {}

impl RunOptions {
    /// What this process is called among those of the host that share a state directory.
    pub(super) fn process_name(&self, node: &NodeConfig) -> String {
        #[cfg(feature = "waypoint")]
        if let (Some(l7), Some(workload)) = (&self.l7, &self.overrides.workload) {
            let WorkloadName { namespace, name, .. } = workload;
            return format!("{}.{}.{namespace}.{name}", node.name, l7.kind.as_str());
        }
        node.name.to_string()
    }

    /// Why this process hands nothing over, if it does not.
    pub(super) fn refuses_handover(&self) -> Option<&'static str> {
        #[cfg(feature = "waypoint")]
        if self.l7.is_some() {
            return Some(
                "waypoints and gateways hand nothing over: start the next beside this one, where the Gateway has \
                 another workload, and end this one when that is ready",
            );
        }
        None
    }
}

impl Overrides {
    /// Puts the overrides over what a load gave.
    ///
    /// # Errors
    /// When they do not go together.
    pub fn apply(&self, mesh: &mut MeshConfig) -> Result<(), OverrideError> {
        let was = mesh.node.mode;
        self.apply_to_node(&mut mesh.node);
        mesh.node.check().map_err(OverrideError::Setting)?;
        match (mesh.node.mode, &self.workload) {
            (Mode::Dedicated, Some(name)) => mesh.enrollments = vec![find_workload(mesh, name)?],
            (Mode::Dedicated, None) if was == Mode::Shared => serve_only(&mut mesh.enrollments)?,
            (Mode::Dedicated, None) => {}
            (Mode::Shared, Some(_)) => return Err(OverrideError::WorkloadNeedsDedicated),
            (Mode::Shared, None) => {}
        }
        Ok(())
    }

    /// Puts those that are settings of the node over `node`.
    pub fn apply_to_node(&self, node: &mut NodeConfig) {
        let Listen { admin, metrics, readiness } = &mut node.listen;
        set(&mut node.mode, self.mode);
        set(&mut node.cores, self.cores.clone());
        set(&mut node.reactor, self.reactor);
        set(&mut node.redirect, self.redirect);
        set(&mut node.certificate_authority.directory, self.ca_directory.clone());
        set(&mut node.certificate_authority.revocation_lists, self.revocation_lists.clone());
        set(&mut node.certificate_authority.leaf_lifetime, self.leaf_lifetime);
        if let Some(socket) = &self.workload_api {
            node.certificate_authority.workload_api = Some(socket.clone());
        }
        set(&mut node.drain_deadline, self.drain_deadline);
        set(admin, self.admin);
        set(metrics, self.metrics);
        set(readiness, self.readiness);
        set(&mut node.log.level, self.log_level.clone());
        set(&mut node.log.format, self.log_format);
    }
}

fn set<T>(value: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *value = given;
    }
}

fn find_workload(
    mesh: &MeshConfig,
    name: &WorkloadName,
) -> Result<WorkloadEnrollment, OverrideError> {
    let named = mesh
        .snapshot
        .workloads()
        .find(|one| one.namespace() == name.namespace && one.name() == name.name)
        .ok_or_else(|| OverrideError::UnknownWorkload(name.clone()))?;
    if name.service_account.as_deref().is_some_and(|account| account != named.service_account()) {
        let account = named.service_account().to_owned();
        return Err(OverrideError::OtherServiceAccount(name.clone(), account));
    }
    Ok(WorkloadEnrollment {
        uid: named.uid().into(),
        identity: named.identity().clone(),
        network_namespace: NetworkNamespace::Own,
    })
}

fn serve_only(enrollments: &mut [WorkloadEnrollment]) -> Result<(), OverrideError> {
    match enrollments {
        [one] => {
            one.network_namespace = NetworkNamespace::Own;
            Ok(())
        }
        several => Err(OverrideError::WhichWorkload(several.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::load;

    fn mesh(workloads: &str) -> MeshConfig {
        let text = format!(
            "apiVersion: ringway.dev/v1alpha1\nkind: Node\nmetadata: {{name: a}}\nspec:\n  workloads: [{workloads}]\n\
             ---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: web, namespace: shop}}\n\
             spec: {{address: 10.0.0.1, serviceAccount: web}}\n\
             ---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: api, namespace: shop}}\n\
             spec: {{address: 10.0.0.2, serviceAccount: api}}\n"
        );
        let source = Source::Text { name: "test".to_owned(), text };
        load(&[source], None).unwrap_or_else(|errors| panic!("{errors}"))
    }

    const WEB: &str = "{name: web, namespace: shop, networkNamespace: web}";
    const API: &str = "{name: api, namespace: shop, networkNamespace: api}";

    fn dedicated(workload: Option<&str>) -> Overrides {
        let workload = workload.map(|name| name.parse().unwrap());
        Overrides { mode: Some(Mode::Dedicated), workload, ..Overrides::default() }
    }

    #[test]
    fn what_is_given_wins_and_the_rest_stays() {
        let mut mesh = mesh(WEB);
        let overrides = Overrides {
            reactor: Some(Reactor::Epoll),
            metrics: Some(None),
            drain_deadline: Some(Duration::from_secs(9)),
            ..Overrides::default()
        };
        let before = mesh.node.clone();
        overrides.apply(&mut mesh).unwrap();
        assert_eq!(mesh.node.reactor, Reactor::Epoll);
        assert_eq!(mesh.node.listen, Listen { metrics: None, ..before.listen });
        assert_eq!(mesh.node.drain_deadline, Duration::from_secs(9));
        assert_eq!(mesh.node.cores, before.cores);
    }

    #[test]
    fn a_dedicated_process_serves_the_one_workload_in_its_own_namespace() {
        //  name                          captured             asked for             want
        let rows = [
            ("the only one", WEB.to_owned(), None, "web"),
            ("a named one", format!("{WEB}, {API}"), Some("shop/api"), "api"),
            ("one nobody captures", String::new(), Some("shop/web/web"), "web"),
        ];
        for (name, captured, asked, want) in rows {
            let mut mesh = mesh(&captured);
            dedicated(asked).apply(&mut mesh).expect(name);
            let [one] = &mesh.enrollments[..] else { panic!("{name}: {:?}", mesh.enrollments) };
            assert_eq!(one.identity.service_account(), want, "{name}");
            assert_eq!(one.network_namespace, NetworkNamespace::Own, "{name}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_said() {
        let none = Overrides::default;
        let drain = Overrides { drain_deadline: Some(Duration::from_secs(7200)), ..none() };
        let short = Overrides { leaf_lifetime: Some(Duration::ZERO), ..none() };
        let level = Overrides { log_level: Some("foo".to_owned()), ..none() };
        let twice = Overrides { metrics: Some("[::]:15000".parse().ok()), ..none() };
        let shared = Overrides { workload: "shop/web".parse().ok(), ..Overrides::default() };
        //  name                   captured             overrides                          want
        let rows = [
            ("none", String::new(), dedicated(None), "captures none"),
            ("two", format!("{WEB}, {API}"), dedicated(None), "captures 2"),
            ("unknown", WEB.to_owned(), dedicated(Some("shop/x")), "no workload shop/x"),
            (
                "account",
                WEB.to_owned(),
                dedicated(Some("shop/web/x")),
                "has the service account web",
            ),
            ("shared", WEB.to_owned(), shared, "add `--dedicated`"),
            (
                "too long a drain",
                WEB.to_owned(),
                drain,
                "drainDeadline: expected a duration from 0s to 1h",
            ),
            (
                "too short a life",
                WEB.to_owned(),
                short,
                "leafLifetime: expected a duration from 2s",
            ),
            ("no level", WEB.to_owned(), level, "log.level:"),
            (
                "one port twice",
                WEB.to_owned(),
                twice,
                "`admin` and `metrics` cannot both listen on port 15000",
            ),
        ];
        for (name, captured, overrides, want) in rows {
            let error = overrides.apply(&mut mesh(&captured)).expect_err(name).to_string();
            assert!(error.contains(want), "{name}: {error}");
        }
        for wrong in ["web", "a/b/c/d", "/web", "shop/"] {
            assert!(wrong.parse::<WorkloadName>().is_err(), "{wrong}");
        }
    }
}
