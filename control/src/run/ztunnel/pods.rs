//! Serving a pod: listeners in its network namespace, and no rules.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use ringway_engine::runtime::NetNamespace;
use ringway_engine::snapshot::{LocalName, WorkloadKey};
use ringway_engine::{Engine, Role};

use super::names::NameServer;
use crate::cni::{Job, Namespace, Outcome, PodInfo, Pods};

/// Does the agent's jobs.
#[derive(Clone)]
pub(super) struct PodHost {
    engine: Arc<Engine>,
    names: NameServer,
    /// Whether connections are carried; otherwise only names are answered.
    proxy: bool,
}

impl PodHost {
    /// The connections of pods are served by `engine`, their queries by `names`.
    pub(super) fn new(engine: Arc<Engine>, names: NameServer, proxy: bool) -> Self {
        Self { engine, names, proxy }
    }

    /// Serves tunnels to the pod this process runs in. No rules lead anything else here. Blocks.
    ///
    /// # Errors
    /// When the port of tunnels is taken.
    pub(super) fn serve_own(&self, info: &PodInfo) -> io::Result<()> {
        let uid = format!("{}/{}", info.namespace, info.name).into();
        let own = NetNamespace::current()?;
        self.engine.enroll_as(uid, key_of(info), own, Role::OwnPod).map_err(io::Error::other)
    }

    /// Serves a pod. Everything listens when this returns. Blocks.
    ///
    /// # Errors
    /// When a port is taken there; then nothing of it is served.
    pub(super) fn serve(
        &self,
        uid: &Arc<str>,
        info: &PodInfo,
        namespace: NetNamespace,
    ) -> Result<(), String> {
        self.names.enroll(uid, key_of(info), &namespace).map_err(|error| error.to_string())?;
        if !self.proxy {
            return Ok(());
        }
        self.engine.enroll_pod(Arc::clone(uid), key_of(info), namespace).map_err(|error| {
            self.names.withdraw(uid);
            error.to_string()
        })
    }

    fn withdraw(&self, uid: &str) {
        self.names.withdraw(uid);
        self.engine.withdraw(uid);
    }
}

/// What the workload of a pod is found by.
pub(super) fn key_of(info: &PodInfo) -> WorkloadKey {
    let name = LocalName::new(&info.namespace, &info.name, &info.service_account);
    WorkloadKey::Local(Arc::new(name))
}

impl Pods for PodHost {
    async fn work(&self, job: Job<Namespace>) -> Outcome {
        let host = self.clone();
        // It waits for every shard.
        let done = tokio::task::spawn_blocking(move || match job {
            Job::Start { uid, info, namespace, replaces } => {
                start(&host, uid, &info, &namespace, replaces)
            }
            Job::Stop(uids) => {
                for uid in uids {
                    host.withdraw(&uid);
                    tracing::info!(pod = &*uid, "pod no longer served");
                }
                Outcome::Done
            }
        });
        done.await.unwrap_or_else(|panic| {
            tracing::error!(%panic, "a job broke");
            Outcome::Failed("serving the pod broke; see Ringway's log".to_owned())
        })
    }
}

fn start(
    host: &PodHost,
    uid: Arc<str>,
    info: &PodInfo,
    namespace: &Namespace,
    replaces: bool,
) -> Outcome {
    let PodInfo { name, namespace: of, service_account } = info;
    let namespace = match open(namespace) {
        Ok(namespace) => namespace,
        Err(Refused::NotOne) => {
            let why = "the descriptor is no network namespace of a pod";
            tracing::error!(pod = &*uid, name, namespace = of, "{why}");
            return Outcome::Refused(why.to_owned());
        }
        Err(Refused::Own) => {
            let why = "the descriptor is the network namespace Ringway itself runs in: serving it would capture the host";
            tracing::error!(pod = &*uid, name, namespace = of, "{why}");
            return Outcome::Refused(why.to_owned());
        }
        Err(Refused::Failed(error)) => {
            if replaces {
                host.withdraw(&uid);
            }
            tracing::warn!(pod = &*uid, name, namespace = of, %error, "pod not served; tried again");
            return Outcome::Failed(format!("the network namespace cannot be entered: {error}"));
        }
    };
    if replaces {
        host.withdraw(&uid);
    }
    match host.serve(&uid, info, namespace) {
        Ok(()) => {
            tracing::info!(pod = &*uid, name, namespace = of, service_account, "pod served");
            Outcome::Done
        }
        Err(error) => {
            tracing::warn!(pod = &*uid, name, namespace = of, error, "pod not served; tried again");
            Outcome::Failed(error)
        }
    }
}

enum Refused {
    NotOne,
    Own,
    Failed(io::Error),
}

/// The kernel lets nobody enter what is no network namespace.
fn open(namespace: &Namespace) -> Result<NetNamespace, Refused> {
    let own = NetNamespace::current().map_err(Refused::Failed)?;
    let descriptor = namespace.as_fd().try_clone_to_owned().map_err(Refused::Failed)?;
    let opened = NetNamespace::from_fd(descriptor).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Refused::NotOne,
        _ => Refused::Failed(error),
    })?;
    if opened == own { Err(Refused::Own) } else { Ok(opened) }
}
