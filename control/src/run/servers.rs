//! The servers of the process: HTTP for admin, metrics and readiness, and the control socket. They listen first and
//! serve when the node does, and their sockets can be handed to a successor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::signals::Requests;
use crate::admin::server::{self, Handler};
use crate::handover::control_socket;

/// Answers under way may finish.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module's text.
pub(super) struct Servers {
    /// Those that do not serve yet.
    pub(super) listening: Vec<Listening>,
    pub(super) control: Option<Control>,
    /// Further descriptors of the sockets of those that serve.
    sockets: Vec<(&'static str, OwnedFd)>,
    control_path: Option<PathBuf>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// An HTTP server that only listens.
pub(super) struct Listening {
    pub(super) name: &'static str,
    pub(super) listener: TcpListener,
    pub(super) handler: Handler,
}

/// A control socket that only listens.
pub(super) struct Control {
    pub(super) path: PathBuf,
    pub(super) listener: UnixListener,
}

impl Control {
    /// What it is called among the servers.
    pub(super) const NAME: &str = "control";
}

impl Default for Servers {
    fn default() -> Self {
        Self {
            listening: Vec::new(),
            control: None,
            sockets: Vec::new(),
            control_path: None,
            stop: watch::channel(false).0,
            tasks: Vec::new(),
        }
    }
}

impl Servers {
    /// Serves. Must run in a `LocalSet`.
    pub(super) fn begin(&mut self, requests: &Requests) {
        for Listening { name, listener, handler } in self.listening.drain(..) {
            // Without a further descriptor a successor binds the port itself.
            self.sockets.extend(listener.as_fd().try_clone_to_owned().map(|socket| (name, socket)));
            let served = server::serve(listener, handler, self.stop.subscribe());
            self.tasks.push(tokio::task::spawn_local(served));
        }
        if let Some(Control { path, listener }) = self.control.take() {
            let socket = listener.as_fd().try_clone_to_owned();
            self.sockets.extend(socket.map(|socket| (Control::NAME, socket)));
            self.control_path = Some(path);
            let stopped = self.stop.subscribe();
            let served = control_socket::serve(listener, requests.ask_sender(), stopped);
            self.tasks.push(tokio::task::spawn_local(served));
        }
    }

    /// Further descriptors of all sockets, for a successor.
    ///
    /// # Errors
    /// When descriptors are short.
    pub(super) fn sockets(&self) -> io::Result<Vec<(&'static str, OwnedFd)>> {
        self.sockets.iter().map(|(name, socket)| Ok((*name, socket.try_clone()?))).collect()
    }

    /// Takes the control socket away: nobody will listen there any more.
    pub(super) fn remove_control(&mut self) {
        if let Some(path) = self.control_path.take() {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Accepts nothing more, and lets answers under way finish.
    pub(super) async fn stop(&mut self) {
        self.stop.send_replace(true);
        self.sockets.clear();
        let ended = async {
            for task in self.tasks.drain(..) {
                let _ = task.await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, ended).await;
    }
}
