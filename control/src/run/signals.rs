//! What tells the process from outside to reload or to end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Asked for from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// Read the configuration again.
    Reload,
    /// End in order; asked for again: end at once.
    Stop(&'static str),
}

/// Signals, and what the admin server was asked for.
pub(super) struct Requests {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    quit: UnboundedReceiver<()>,
    quit_sender: UnboundedSender<()>,
}

impl Requests {
    /// Listens from now on.
    pub(super) fn new() -> io::Result<Self> {
        let (quit_sender, quit) = unbounded_channel();
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit,
            quit_sender,
        })
    }

    /// Where the admin server asks for the end.
    pub(super) fn quit_sender(&self) -> UnboundedSender<()> {
        self.quit_sender.clone()
    }

    /// The next one. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.hangup.recv() => Request::Reload,
            _ = self.terminate.recv() => Request::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Request::Stop("SIGINT"),
            // Never `None`: we hold a sender ourselves.
            _ = self.quit.recv() => Request::Stop("/quitquitquit"),
        }
    }

    /// The next that asks to end.
    pub(super) async fn stop(&mut self) -> &'static str {
        loop {
            if let Request::Stop(who) = self.next().await {
                return who;
            }
        }
    }
}
