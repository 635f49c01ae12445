//! The client of the SPIFFE Workload API: identities from an agent on this host, such as SPIRE's.
//!
//! The agent knows us by our process and pushes what we may be: it makes the keys, and renews. A task holds the stream
//! open, and opens it again when it has ended; [`WorkloadApi`] answers at once with what came last, so to the store it is
//! an authority like the embedded one, whose epoch changes with each push.
//!
//! **Invariant:** what the agent takes back is not given out again: a push replaces all that came before it. What the store
//! has of it by then is in force until it ends.

mod message;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use ringway_protocols::identity::Identity;
use ringway_protocols::tls::Material;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep};
use tonic::client::Grpc;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use self::message::{Request as FetchRequest, Response, Svid};
use super::certificate;
use super::store::{Epoch, Issuer, Refusal};
use crate::grpc;

/// What the agent is asked, and the header without which it must refuse (SPIFFE Workload API §3, §5.2.1).
const METHOD: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
const HEADER: (&str, &str) = ("workload.spiffe.io", "true");

/// First pause before the stream is opened again; it doubles from there.
const RETRY_FIRST: Duration = Duration::from_millis(250);

/// Longest pause: an agent is on this host, and its restart takes a moment.
const RETRY_MAX: Duration = Duration::from_secs(4);

/// A push larger than this is not read.
const PUSH_BYTES_MAX: usize = 4 << 20;

/// Identities that one process is given; an agent with more has been told to give everybody everything.
const SVIDS_MAX: usize = 1024;

/// See the module's text. Dropping it ends the stream.
pub struct WorkloadApi {
    told: watch::Receiver<Rc<Told>>,
    task: JoinHandle<()>,
}

/// What the agent said last.
struct Told {
    svids: BTreeMap<Identity, Svid>,
    epoch: Epoch,
    /// Why there is nothing, or nothing new.
    why: Option<Refusal>,
}

impl WorkloadApi {
    /// Opens the stream, and keeps it open. Needs a `LocalSet`.
    pub fn start(socket: PathBuf) -> Self {
        let why = format!("the SPIFFE agent at {} has not answered yet", socket.display());
        let told = Told {
            svids: BTreeMap::new(),
            epoch: Epoch::default(),
            why: Some(Refusal::Unreachable(why)),
        };
        let (sender, told) = watch::channel(Rc::new(told));
        Self { told, task: spawn_local(follow(socket, sender)) }
    }

    /// Waits until the agent has said something new. Dropping the future loses nothing.
    pub async fn changed(&mut self) {
        if self.told.changed().await.is_err() {
            // The task ends only with us.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for WorkloadApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Issuer for WorkloadApi {
    fn issue(&self, identity: &Identity, now: SystemTime) -> Result<Material, Refusal> {
        let told = self.told.borrow();
        match (told.svids.get(identity), &told.why) {
            // That it has ended is no wonder when nobody was there to renew it.
            (Some(svid), Some(why)) if svid.has_ended(now) => return Err(why.clone()),
            (Some(svid), _) => return Ok(svid.material()),
            (None, _) => {}
        }
        if let Some(why) = &told.why {
            return Err(why.clone());
        }
        let given: Vec<String> = told.svids.keys().map(ToString::to_string).collect();
        let given = if given.is_empty() { "nothing".to_owned() } else { given.join(", ") };
        Err(Refusal::Refused(format!(
            "the SPIFFE agent does not give us {identity}, but {given}; register an entry for it with selectors that this process meets"
        )))
    }

    fn epoch(&self, _now: SystemTime) -> Epoch {
        self.told.borrow().epoch.clone()
    }
}

/// Where a setting says the agent is: `unix:///run/spire/agent.sock`.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn socket_path(setting: &str) -> Result<PathBuf, String> {
    let expected = "the agent's socket is written as unix:///PATH";
    let path = setting.strip_prefix("unix:").ok_or_else(|| match setting.split_once(':') {
        Some(("tcp", _)) => format!("an agent is reached over its socket only; {expected}"),
        _ => format!("{setting:?} is not the address of a SPIFFE agent; {expected}"),
    })?;
    let path = path.strip_prefix("//").unwrap_or(path);
    match Path::new(path).is_absolute() {
        true => Ok(path.into()),
        false => Err(format!("{setting:?} names no absolute path; {expected}")),
    }
}

/// Follows the agent for ever.
async fn follow(socket: PathBuf, told: watch::Sender<Rc<Told>>) {
    let mut pause = RETRY_FIRST;
    loop {
        let began = Instant::now();
        let status = stream(&socket, &told).await;
        let why = explain(&socket, &status);
        tracing::warn!(error = %why, "the SPIFFE agent is not heard");
        told.send_modify(|before| {
            // Certificates that are held stay until they end; without an agent there are none to be had.
            let denied = status.code() == Code::PermissionDenied;
            let svids = if denied { BTreeMap::new() } else { before.svids.clone() };
            let epoch = before.epoch.clone();
            *before = Rc::new(Told { svids, epoch, why: Some(why) });
        });
        if began.elapsed() > RETRY_MAX {
            pause = RETRY_FIRST;
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// One stream, to its end.
async fn stream(socket: &Path, told: &watch::Sender<Rc<Told>>) -> Status {
    let opened = async {
        let channel = grpc::connect_unix(socket, &[HEADER]).await?;
        let mut client = Grpc::new(channel).max_decoding_message_size(PUSH_BYTES_MAX);
        client.ready().await?;
        let codec: ProstCodec<FetchRequest, Response> = ProstCodec::default();
        let path = hyper::http::uri::PathAndQuery::from_static(METHOD);
        let pushes = client.server_streaming(Request::new(FetchRequest {}), path, codec).await?;
        Ok::<_, Status>(pushes.into_inner())
    };
    let mut pushes = match opened.await {
        Ok(pushes) => pushes,
        Err(status) => return status,
    };
    loop {
        match pushes.message().await {
            Ok(Some(push)) => {
                told.send_replace(Rc::new(read(push)));
            }
            Ok(None) => return Status::unavailable("it has ended the stream"),
            Err(status) => return status,
        }
    }
}

/// What a push says; what of it cannot be used is told and left out.
fn read(mut push: Response) -> Told {
    if !push.crl.is_empty() {
        tracing::warn!(
            "the SPIFFE agent sends revocation lists, which are not used: give them as certificateAuthority.revocationLists"
        );
    }
    let mut svids = BTreeMap::new();
    let mut parts = Vec::new();
    for told in push.svids.iter_mut().take(SVIDS_MAX) {
        let id = told.spiffe_id.clone();
        let svid = Identity::parse(&id)
            .map_err(|error| error.to_string())
            .and_then(|identity| Svid::read(told).map(|svid| (identity, svid)));
        match svid {
            // Of several with one name the first is meant (SPIFFE Workload API §5.3).
            Ok((identity, svid)) => {
                let certificates = svid.certificates();
                parts.extend(certificates.map(certificate::fingerprint));
                svids.entry(identity).or_insert(svid);
            }
            Err(why) => tracing::warn!(id, why, "an identity of the SPIFFE agent cannot be used"),
        }
    }
    Told { svids, epoch: Epoch::new(parts), why: None }
}

fn explain(socket: &Path, status: &Status) -> Refusal {
    let (socket, why) = (socket.display(), status.message());
    match status.code() {
        Code::PermissionDenied => Refusal::Refused(format!(
            "the SPIFFE agent at {socket} has no identity for us ({why}); register an entry with selectors that this process meets, such as unix:uid:0"
        )),
        Code::InvalidArgument | Code::Unimplemented => Refusal::Unreachable(format!(
            "what listens at {socket} is no SPIFFE agent ({why}); is that its Workload API socket?"
        )),
        _ => Refusal::Unreachable(format!("no SPIFFE agent at {socket}: {why}")),
    }
}
