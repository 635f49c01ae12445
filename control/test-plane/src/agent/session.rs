//! One node proxy on one connection: its hello, the snapshot, then what changes, each answered before the next.
//!
//! ```text
//!   proxy ── ZdsHello ──▶ agent
//!         ◀── Add or Keep, each pod ──   ── Ack ──▶
//!         ◀── SnapshotSent ──            ── Ack ──▶
//!         ◀── Add, Del, as they come ──  ── Ack ──▶
//! ```

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use prost::Message;
use ringway_control::proto::zds::workload_request::Payload;
use ringway_control::proto::zds::{
    AddWorkload, DelWorkload, KeepWorkload, SnapshotSent, Version, WorkloadInfo, WorkloadRequest,
    WorkloadResponse, ZdsHello, workload_response,
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::packet::PacketSocket;
use crate::controls::{Controls, Service};
use crate::journal::Journal;
use crate::mesh::Pod;

/// How long an answer may take.
pub(crate) const ACK_PATIENCE: Duration = Duration::from_secs(5);

/// What a proxy is told.
#[derive(Clone)]
pub(crate) enum Telling {
    /// A pod is there, with its network namespace.
    Add(Pod, Arc<OwnedFd>),
    /// A pod is there that the proxy has already; its namespace is not known any more.
    Keep(Pod),
    /// A pod is gone.
    Del(Pod),
}

/// Something to tell, and who wants to know what the answer was.
pub(crate) struct Order {
    /// What to tell.
    pub(crate) telling: Telling,
    /// The answer: an empty text is success.
    pub(crate) answered: oneshot::Sender<String>,
}

/// A connection of a node proxy.
pub(crate) struct Session {
    /// Its socket.
    pub(crate) socket: PacketSocket,
    /// Tells it apart in the journal.
    pub(crate) name: String,
    /// Where what happens is written down.
    pub(crate) journal: Arc<Journal>,
    /// Whether to think before telling.
    pub(crate) controls: Arc<Controls>,
}

impl Session {
    /// Waits for the first packet, which must say the version.
    ///
    /// # Errors
    /// When it says something else, or nothing in time.
    pub(crate) async fn hello(&self) -> Result<()> {
        let packet = timeout(ACK_PATIENCE, self.socket.receive()).await;
        let packet = packet.context("no hello within 5 s")??;
        let (packet, descriptors) = packet.context("it closed before its hello")?;
        ensure!(descriptors.is_empty(), "a hello comes without descriptors");
        let hello = ZdsHello::decode(&*packet).context("the hello cannot be decoded")?;
        self.journal.record("hello", json!({"session": self.name, "version": hello.version}));
        ensure!(hello.version == i32::from(Version::V1), "version {}", hello.version);
        Ok(())
    }

    /// Tells the snapshot, then orders until the proxy goes.
    ///
    /// # Errors
    /// When the proxy goes, says something unasked, or does not answer.
    pub(crate) async fn serve(
        &self,
        snapshot: Vec<Telling>,
        mut orders: mpsc::UnboundedReceiver<Order>,
        told: impl Fn(&Telling, &str),
    ) -> Result<()> {
        for telling in snapshot {
            let answer = self.tell(&telling).await?;
            told(&telling, &answer);
        }
        let sent = Payload::SnapshotSent(SnapshotSent {});
        self.exchange("snapshot", "", sent, None).await?;
        loop {
            tokio::select! {
                order = orders.recv() => {
                    let Some(Order { telling, answered }) = order else { return Ok(()) };
                    let answer = self.tell(&telling).await?;
                    told(&telling, &answer);
                    // Who asked may have given up meanwhile.
                    let _ = answered.send(answer);
                }
                packet = self.socket.receive() => match packet? {
                    None => return Ok(()),
                    Some(_) => bail!("it said something without being asked"),
                },
            }
        }
    }

    async fn tell(&self, telling: &Telling) -> Result<String> {
        match telling {
            Telling::Add(pod, namespace) => {
                let info = WorkloadInfo {
                    name: pod.name.clone(),
                    namespace: pod.namespace.clone(),
                    service_account: pod.service_account.clone(),
                };
                let add = AddWorkload { uid: pod.uid.clone(), workload_info: Some(info) };
                self.exchange("add", &pod.name, Payload::Add(add), Some(namespace)).await
            }
            Telling::Keep(pod) => {
                let keep = KeepWorkload { uid: pod.uid.clone() };
                self.exchange("keep", &pod.name, Payload::Keep(keep), None).await
            }
            Telling::Del(pod) => {
                let del = DelWorkload { uid: pod.uid.clone() };
                self.exchange("del", &pod.name, Payload::Del(del), None).await
            }
        }
    }

    /// Sends one message and waits for its answer; the text of it, empty for success.
    async fn exchange(
        &self,
        what: &str,
        pod: &str,
        payload: Payload,
        namespace: Option<&OwnedFd>,
    ) -> Result<String> {
        self.controls.think(Service::Agent).await;
        let packet = WorkloadRequest { payload: Some(payload) }.encode_to_vec();
        self.socket.send(&packet, namespace.map(AsFd::as_fd)).await?;
        let answer = match timeout(ACK_PATIENCE, self.socket.receive()).await {
            Err(_) => bail!("no answer to {what} {pod} within 5 s"),
            Ok(received) => received?,
        };
        let (packet, descriptors) = answer.with_context(|| format!("it closed at {what} {pod}"))?;
        ensure!(descriptors.is_empty(), "an answer comes without descriptors");
        let response = WorkloadResponse::decode(&*packet).context("an answer cannot be decoded")?;
        let Some(workload_response::Payload::Ack(ack)) = response.payload else {
            bail!("an answer without an ack");
        };
        let line = json!({"session": self.name, "told": what, "pod": pod, "error": ack.error});
        self.journal.record("ack", line);
        Ok(ack.error)
    }
}
