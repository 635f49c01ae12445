//! Where `ringway handover` asks the running node: a Unix socket in the state directory, for root and for the user
//! the node runs as.
//!
//! One line of JSON asks, one line answers. Nothing else is served here.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{oneshot, watch};

use crate::state_files::Kind;

/// A question is not longer.
const QUESTION_BYTES_MAX: u64 = 16 * 1024;

/// Whoever connects asks within this time.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// After an accept that failed, the server pauses.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Somebody asks for a hand-over.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The program to start, if not the one at this process's own path.
    pub(crate) binary: Option<PathBuf>,
    /// Where the outcome is told.
    pub(crate) answer: Option<oneshot::Sender<Answer>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    handover: QuestionedHandover,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct QuestionedHandover {
    binary: Option<PathBuf>,
}

/// How a hand-over went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Answer {
    /// Another process is the node now.
    HandedOver {
        /// The process that was.
        from: u32,
        /// The process that is.
        to: u32,
    },
    /// There is none.
    RolledBack {
        /// Why, and what is so now.
        why: String,
    },
}

/// The socket of the node called `node` in the network namespace of this thread: several may run on one machine.
///
/// # Errors
/// Without `/proc`.
pub fn path(state_directory: &Path, node: &str) -> io::Result<PathBuf> {
    Kind::Control.path(state_directory, node)
}

/// The sockets of all nodes in the network namespace of this thread.
///
/// # Errors
/// When the directory cannot be read.
pub fn paths(state_directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Kind::Control.here(state_directory)?;
    // One that nobody listens on was left by a kill.
    paths.retain(|path| StdUnixStream::connect(path).is_ok());
    Ok(paths)
}

/// Asks the node behind `socket` to hand over, and waits for the outcome.
///
/// # Errors
/// When nobody answers.
pub fn ask(socket: &Path, binary: Option<PathBuf>, patience: Duration) -> io::Result<Answer> {
    let mut stream = StdUnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    let question = Question { handover: QuestionedHandover { binary } };
    stream.write_all(&serde_json::to_vec(&question)?)?;
    stream.write_all(b"\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&line)?)
}

/// Listens at `path`, in place of what an earlier process left there.
///
/// # Errors
/// When the directory cannot be written, or another process listens there.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    if StdUnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Takes over the socket of a predecessor.
///
/// # Errors
/// When it is none.
pub(crate) fn inherit(descriptor: OwnedFd) -> io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::from(descriptor);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Serves until `shutdown` becomes true. Must run in a `LocalSet`.
pub(crate) async fn serve(
    listener: UnixListener,
    asks: UnboundedSender<Ask>,
    mut shutdown: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, _)) if may_ask(&stream) => {
                let asks = asks.clone();
                tokio::task::spawn_local(async move {
                    // Whoever does not ask properly, or leaves, hears nothing.
                    let _ = answer(stream, asks).await;
                });
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Root, and the user this process runs as: what is asked for starts a program with all this process may do.
fn may_ask(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

async fn answer(stream: UnixStream, asks: UnboundedSender<Ask>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = tokio::io::BufReader::new(read.take(QUESTION_BYTES_MAX));
    tokio::time::timeout(QUESTION_TIMEOUT, read.read_line(&mut line)).await??;
    let Question { handover: QuestionedHandover { binary } } = serde_json::from_str(&line)?;
    let (sender, outcome) = oneshot::channel();
    let ask = Ask { binary, answer: Some(sender) };
    asks.send(ask).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
    let answer = outcome
        .await
        .unwrap_or_else(|_| Answer::RolledBack { why: "the process is ending".to_owned() });
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    write.write_all(&text).await?;
    write.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// A server whose node answers every question the same way; `client` runs on a thread beside it.
    fn with_server(reply: Answer, client: impl FnOnce(&Path) + Send) -> Vec<Option<PathBuf>> {
        let home = tempfile::TempDir::new().unwrap();
        let path = home.path().join("state").join("control-a-1.sock");
        let mut asked = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::scope(|scope| {
            tokio::task::LocalSet::new().block_on(&runtime, async {
                let listener = bind(&path).unwrap();
                let (asks, mut questions) = tokio::sync::mpsc::unbounded_channel();
                let (_stop, stopped) = watch::channel(false);
                tokio::task::spawn_local(serve(listener, asks, stopped));
                let client = scope.spawn(|| client(&path));
                while !client.is_finished() {
                    let patience = Duration::from_millis(5);
                    if let Ok(Some(ask)) = tokio::time::timeout(patience, questions.recv()).await {
                        asked.push(ask.binary);
                        ask.answer.unwrap().send(reply.clone()).unwrap();
                    }
                }
                client.join().unwrap();
            });
        });
        asked
    }

    #[test]
    fn a_question_is_answered_with_the_outcome() {
        for reply in [
            Answer::HandedOver { from: 1, to: 2 },
            Answer::RolledBack { why: "it \"broke\"\n".to_owned() },
        ] {
            let want = reply.clone();
            let asked = with_server(reply, move |path| {
                let mode = std::fs::metadata(path).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "nobody else may ask");
                let binary = Some(PathBuf::from("/new/ringway"));
                assert_eq!(ask(path, binary, Duration::from_secs(5)).unwrap(), want);
                assert_eq!(ask(path, None, Duration::from_secs(5)).unwrap(), want);
            });
            assert_eq!(asked, [Some(PathBuf::from("/new/ringway")), None]);
        }
    }

    #[test]
    fn what_is_no_question_is_not_answered() {
        let reply = Answer::HandedOver { from: 1, to: 2 };
        let asked = with_server(reply, |path| {
            let long = format!("{{\"handover\":{{\"binary\":\"{}\"}}}}\n", "x".repeat(20_000));
            for text in ["\n", "{}\n", "[1]\n", "{\"handover\":{\"other\":1}}\n", &long] {
                let mut stream = StdUnixStream::connect(path).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let _ = stream.write_all(text.as_bytes());
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer);
                assert!(answer.is_empty(), "{text}");
            }
        });
        assert_eq!(asked.len(), 0);
    }

    #[test]
    fn a_socket_nobody_listens_on_is_replaced_and_one_in_use_is_not() {
        let home = tempfile::TempDir::new().unwrap();
        let path = home.path().join("control-a-1.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let _listener = bind(&path).unwrap();
            assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        });
    }
}
