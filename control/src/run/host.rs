//! Capturing one workload on this host: listeners first, then the rules that lead connections to them, so that none
//! is lost in between; and back in the reverse order.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringway_engine::runtime::NetNamespace;
use ringway_engine::snapshot::WorkloadKey;
use ringway_engine::{Engine, Role};

use super::enroller::{Done, Job};
use crate::dns::{Dns, FindWorkload};
use crate::handover::successor::InheritedWorkload;
use crate::redirect::ledger::NamespaceFile;
use crate::redirect::{self, Ledger, Redirect, RedirectOptions};
use crate::source::{NetworkNamespace, WorkloadEnrollment};

/// The namespace of the process itself.
const OWN_NAMESPACE: &str = "/proc/self/ns/net";

/// Does the jobs of the [`Enroller`](super::enroller::Enroller). Blocks; shared between threads that may.
pub(super) struct Host {
    engine: Arc<Engine>,
    dns: Option<Arc<Dns>>,
    options: RedirectOptions,
    ledger: Mutex<Ledger>,
    /// What enrolled workloads are to their connections.
    role: Mutex<Role>,
}

/// A workload whose listening sockets were taken over.
pub(super) struct Inherited {
    pub(super) enrollment: WorkloadEnrollment,
    pub(super) file: Option<NamespaceFile>,
    path: PathBuf,
    namespace: NetNamespace,
    tool: Option<redirect::Tool>,
}

impl Held {
    /// The tool that installed the rules.
    pub(super) fn tool(&self) -> Option<String> {
        self.redirect.tool().map(|tool| tool.to_string())
    }

    /// Leaves the rules to a successor.
    pub(super) fn leave(self) {
        self.redirect.leave();
    }
}

/// What holds a capture.
#[derive(Debug)]
pub(super) struct Held {
    redirect: Redirect,
}

impl Host {
    /// A host whose workloads `engine` serves.
    pub(super) fn new(
        engine: Arc<Engine>,
        dns: Option<Arc<Dns>>,
        options: RedirectOptions,
        ledger: Ledger,
        role: Role,
    ) -> Self {
        Self { engine, dns, options, ledger: Mutex::new(ledger), role: Mutex::new(role) }
    }

    /// Takes a gateway to the ports that its listeners have now. Blocks.
    ///
    /// # Errors
    /// When one cannot be bound; it is tried again with the next configuration.
    #[cfg(feature = "waypoint")]
    pub(super) fn follow(&self, role: Role) -> Result<(), String> {
        let Role::Gateway(gateway) = &role else { return Ok(()) };
        let known = self.role.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known == role {
            return Ok(());
        }
        for uid in self.engine.enrolled() {
            let listening = self.engine.listen_on(&uid, &gateway.ports);
            listening.map_err(|error| error.to_string())?;
        }
        tracing::info!(ports = ?gateway.ports, "the gateway's ports have changed");
        *self.role.lock().unwrap_or_else(PoisonError::into_inner) = role;
        Ok(())
    }

    /// Does one job.
    pub(super) fn work(&self, job: Job<Held>) -> Done<Held> {
        match job {
            Job::Enroll(enrollment) => match self.enroll(&enrollment) {
                Ok((file, held)) => Done::Enrolled(enrollment, file, held),
                Err(error) => Done::Failed(enrollment, error),
            },
            Job::Replace(enrollment, file, held) => self.replace(enrollment, file, held),
            Job::Withdraw(uid, held) => {
                self.withdraw(&uid, held);
                Done::Withdrawn(uid)
            }
        }
    }

    /// What is redirected and how, to be compared with a predecessor's.
    pub(super) fn redirects(&self) -> String {
        format!("{:?}", self.options)
    }

    /// Takes over a workload's listening sockets from a predecessor; nothing is accepted yet, and the rules are the
    /// predecessor's still.
    pub(super) fn inherit(
        &self,
        enrollment: &WorkloadEnrollment,
        inherited: InheritedWorkload,
    ) -> Result<Inherited, String> {
        let InheritedWorkload { listening, tool } = inherited;
        let (path, namespace) = open(&enrollment.network_namespace)?;
        if namespace != listening.namespace {
            return Err(format!(
                "{} leads to another network namespace than before",
                path.display()
            ));
        }
        let tool = tool.map(|tool| tool.parse()).transpose()?;
        let file = NamespaceFile::at(&path).ok();
        self.engine.take_listeners(listening).map_err(|error| error.to_string())?;
        Ok(Inherited { enrollment: enrollment.clone(), path, namespace, file, tool })
    }

    /// Answers the names of a workload that was taken over.
    pub(super) fn listen_for_names_of(&self, inherited: &Inherited) -> Result<(), String> {
        self.listen_for_names(&inherited.enrollment.uid, &inherited.namespace)
    }

    /// The rules of a workload that was taken over are ours from now on. They stay as they are when `same`, and are
    /// replaced in one step otherwise.
    pub(super) fn hold(&self, inherited: &Inherited, same: bool) -> Result<Held, String> {
        let Inherited { enrollment, path, namespace, tool, .. } = inherited;
        note(self.ledger().record(&enrollment.uid, path));
        let redirect = if same {
            Redirect::inherit(namespace, *tool).map_err(|error| error.to_string())?
        } else {
            redirect::install(namespace, &self.options).map_err(|error| error.to_string())?
        };
        tracing::info!(workload = &*enrollment.uid, namespace = %path.display(), "workload taken over");
        Ok(Held { redirect })
    }

    /// From now on new connections of this workload go direct.
    pub(super) fn release(&self, uid: &str, held: &Held) {
        if let Err(error) = held.redirect.release() {
            tracing::warn!(workload = uid, %error, "new connections may still be captured");
        }
    }

    /// Takes away everything that is ours in this workload's namespace.
    pub(super) fn remove(&self, uid: &str, held: Held) {
        match held.redirect.remove() {
            Ok(()) => note(self.ledger().forget(uid)),
            Err(error) => tracing::warn!(workload = uid, %error, "redirect rules remain"),
        }
    }

    /// Removes what an earlier process left in namespaces that nobody wants any more.
    pub(super) fn remove_leftovers(&self, wanted: &[WorkloadEnrollment]) {
        let is_wanted = |uid: &str| wanted.iter().any(|one| &*one.uid == uid);
        let leftovers = self.ledger().leftovers(is_wanted);
        for (uid, path) in leftovers {
            let removed =
                std::fs::File::open(&path).map_err(|error| error.to_string()).and_then(|file| {
                    redirect::remove_leftovers(file).map_err(|error| error.to_string())
                });
            match removed {
                Ok(()) => tracing::info!(workload = uid, "removed the rules of an earlier process"),
                Err(error) => {
                    tracing::warn!(workload = uid, error, "rules of an earlier process remain");
                }
            }
        }
        note(self.ledger().retain(is_wanted));
    }

    fn enroll(
        &self,
        enrollment: &WorkloadEnrollment,
    ) -> Result<(Option<NamespaceFile>, Held), String> {
        let uid = &enrollment.uid;
        let (path, namespace) = open(&enrollment.network_namespace)?;
        // Taken before the rules go in: should the path lead elsewhere a moment later, that is noticed as a change.
        let file = NamespaceFile::at(&path).ok();
        self.enroll_in_engine(uid, namespace.clone())?;
        if let Err(error) = self.listen_for_names(uid, &namespace) {
            self.engine.withdraw(uid);
            return Err(error);
        }
        // Noted before they are there, so that a kill in between leaves nothing unknown.
        note(self.ledger().record(uid, &path));
        match redirect::install(&namespace, &self.options) {
            Ok(redirect) => {
                let tool =
                    redirect.tool().map_or_else(|| "none".to_owned(), |tool| tool.to_string());
                tracing::info!(workload = &**uid, namespace = %path.display(), redirect = tool, "workload captured");
                Ok((file, Held { redirect }))
            }
            Err(error) => {
                self.engine.withdraw(uid);
                self.stop_listening_for_names(uid);
                note(self.ledger().forget(uid));
                Err(error.to_string())
            }
        }
    }

    fn enroll_in_engine(&self, uid: &Arc<str>, namespace: NetNamespace) -> Result<(), String> {
        let workload = WorkloadKey::Uid(Arc::clone(uid));
        let role = self.role.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let enrolled = self.engine.enroll_as(Arc::clone(uid), workload, namespace, role);
        enrolled.map_err(|error| error.to_string())
    }

    /// The rules stay, whatever comes: what the workload opens while nobody listens is refused, and does not go out in
    /// the clear. `file` is the namespace they are in.
    fn replace(
        &self,
        enrollment: WorkloadEnrollment,
        file: Option<NamespaceFile>,
        held: Held,
    ) -> Done<Held> {
        let uid = &enrollment.uid;
        self.engine.withdraw(uid);
        let enrolled = open(&enrollment.network_namespace)
            .and_then(|(_, namespace)| self.enroll_in_engine(uid, namespace));
        match enrolled {
            Ok(()) => {
                let identity = enrollment.identity.to_string();
                tracing::info!(workload = &**uid, identity, "workload captured as somebody else");
                Done::Enrolled(enrollment, file, held)
            }
            Err(error) => Done::Kept(enrollment, file, held, error),
        }
    }

    /// The same names mean the same to whoever the workload is now: it is looked up for every query.
    fn listen_for_names(&self, uid: &Arc<str>, namespace: &NetNamespace) -> Result<(), String> {
        let Some(dns) = &self.dns else { return Ok(()) };
        let own = Arc::clone(uid);
        let find: FindWorkload = Arc::new(move |world| world.workload_by_uid(&own).cloned());
        dns.enroll(Arc::clone(uid), namespace, find).map_err(|error| error.to_string())
    }

    fn stop_listening_for_names(&self, uid: &str) {
        if let Some(dns) = &self.dns {
            dns.withdraw(uid);
        }
    }

    fn withdraw(&self, uid: &str, held: Held) {
        self.release(uid, &held);
        self.stop_listening_for_names(uid);
        self.engine.withdraw(uid);
        self.remove(uid, held);
        tracing::info!(workload = uid, "workload no longer captured");
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which namespace is where a workload's is expected.
pub(super) fn identify(namespace: &NetworkNamespace) -> Option<NamespaceFile> {
    NamespaceFile::at(path_of(namespace)).ok()
}

fn path_of(namespace: &NetworkNamespace) -> &Path {
    match namespace {
        NetworkNamespace::Path(path) => path,
        NetworkNamespace::Own => Path::new(OWN_NAMESPACE),
    }
}

fn open(namespace: &NetworkNamespace) -> Result<(PathBuf, NetNamespace), String> {
    let path = path_of(namespace);
    let own = NetNamespace::current().map_err(|error| format!("the own namespace: {error}"))?;
    let opened = match namespace {
        NetworkNamespace::Own => own,
        NetworkNamespace::Path(path) => {
            let opened = NetNamespace::open(path).map_err(|error| explain(path, &error))?;
            if opened.cookie() == own.cookie() {
                return Err(format!(
                    "{} is the namespace Ringway itself runs in: capturing it would capture the whole host; use a \
                     dedicated process for that",
                    path.display()
                ));
            }
            opened
        }
    };
    Ok((path.to_owned(), opened))
}

fn explain(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("the network namespace {path} does not exist (yet); `ip netns add` makes one")
        }
        io::ErrorKind::InvalidInput => format!("{path} is no network namespace"),
        io::ErrorKind::PermissionDenied => {
            format!("the network namespace {path} may not be entered: CAP_SYS_ADMIN is needed")
        }
        _ => format!("the network namespace {path} cannot be opened: {error}"),
    }
}

/// Without the ledger a later start may miss rules in namespaces it does not serve; nothing else depends on it.
fn note(written: io::Result<()>) {
    if let Err(error) = written {
        tracing::debug!(%error, "the ledger of redirect rules could not be written");
    }
}
