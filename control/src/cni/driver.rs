//! Connects the machine to the agent's socket, again and again, and to whoever runs pods.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};

use super::backoff::{Backoff, Ended};
use super::session::{Job, Outcome, Seen, Session, Step};
use super::socket::{Namespace, Packet, Socket};

/// How often the agent's socket is looked at while a pause lasts: one that was made anew ends the pause.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Whoever runs pods.
#[allow(async_fn_in_trait, reason = "it is called on the control thread only")]
pub trait Pods {
    /// Does a job to its end.
    async fn work(&self, job: Job<Namespace>) -> Outcome;
}

/// Listens to the agent at `path` for ever, has its pods run, and tells what can be seen of it.
pub async fn drive(path: &Path, pods: &impl Pods, seen: &watch::Sender<Seen>) {
    let mut driver = Driver { session: Session::new(), pods, seen };
    let mut backoff = Backoff::default();
    let mut told = None;
    loop {
        let (since, file) = (Instant::now(), identify(path));
        let ended = match Socket::connect(path) {
            Ok(socket) => {
                told = None;
                driver.serve(&socket).await
            }
            Err(error) => {
                // Once for each reason: it is tried many times.
                let reason = Some(error.to_string());
                if told != reason {
                    let path = path.display();
                    tracing::warn!(%error, "the CNI agent is not reached at {path}: no pod can start; tried again");
                    told = reason;
                }
                Ended::NotConnected
            }
        };
        pause(backoff.pause(ended, since, Instant::now()), path, file).await;
    }
}

struct Driver<'a, P> {
    session: Session<Namespace>,
    pods: &'a P,
    seen: &'a watch::Sender<Seen>,
}

impl<P: Pods> Driver<'_, P> {
    /// Serves one connection to its end.
    async fn serve(&mut self, socket: &Socket) -> Ended {
        let hello = self.session.connected();
        if let Err(error) = socket.send(&hello).await {
            tracing::warn!(%error, "the CNI agent does not take our greeting; tried again");
            self.session.disconnected();
            return Ended::NotConnected;
        }
        tracing::info!("connected to the CNI agent");
        let end = self.obey(socket).await;
        let had_snapshot = self.session.has_snapshot();
        self.session.disconnected();
        self.show();
        match end {
            End::Refused(why) => {
                tracing::error!(why, "the CNI agent said what cannot be; its connection is ended");
                Ended::Refused
            }
            End::Left(error) => {
                let error = error.map(|error| error.to_string()).unwrap_or_default();
                tracing::warn!(error, "the CNI agent has left: pods go on, no other can start");
                if had_snapshot { Ended::Left } else { Ended::Early }
            }
        }
    }

    async fn obey(&mut self, socket: &Socket) -> End {
        loop {
            self.show();
            let step = match self.next(socket).await {
                Ok(Next::Packet(packet)) => self.session.handle_packet(packet),
                Ok(Next::Deadline) => self.session.handle_deadline(Instant::now()),
                Ok(Next::End) => return End::Left(None),
                Err(error) => return End::Left(Some(error)),
            };
            match self.work_off(step).await {
                Step::Answer(answer) => {
                    // What the answer says is true before it is said.
                    self.show();
                    if let Err(error) = socket.send(&answer).await {
                        return End::Left(Some(error));
                    }
                }
                Step::Refuse(answer, why) => {
                    // Whether it hears why is its business.
                    let _ = socket.send(&answer).await;
                    return End::Refused(why);
                }
                Step::Wait | Step::Work(_) => {}
            }
        }
    }

    async fn next(&self, socket: &Socket) -> io::Result<Next> {
        let deadline = self.session.next_deadline();
        let due = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // What the agent says may make a second attempt unnecessary.
            biased;
            packet = socket.receive() => Ok(packet?.map_or(Next::End, Next::Packet)),
            () = due => Ok(Next::Deadline),
        }
    }

    /// Does the jobs of a step.
    async fn work_off(&mut self, mut step: Step<Namespace>) -> Step<Namespace> {
        while let Step::Work(job) = step {
            let outcome = self.pods.work(job).await;
            step = self.session.done(outcome, Instant::now());
        }
        step
    }

    fn show(&self) {
        let now = self.session.seen();
        self.seen.send_if_modified(|seen| {
            let is_news = *seen != now;
            *seen = now;
            is_news
        });
    }
}

enum Next {
    Packet(Packet<Namespace>),
    Deadline,
    End,
}

enum End {
    Left(Option<io::Error>),
    Refused(String),
}

/// Waits, but not beyond the moment when another socket is there than the one that did not work.
async fn pause(pause: Duration, path: &Path, file: Option<(u64, u64, i64)>) {
    let until = Instant::now() + pause;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        sleep(left.min(LOOK_INTERVAL)).await;
        if left <= LOOK_INTERVAL || identify(path) != file {
            return;
        }
    }
}

fn identify(path: &Path) -> Option<(u64, u64, i64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.ctime_nsec()))
}
