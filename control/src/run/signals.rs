//! What tells the process from outside to reload, to hand over or to end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::handover::control_socket::Ask;

/// Asked for from outside.
#[derive(Debug)]
pub(super) enum Request {
    /// Read the configuration again.
    Reload,
    /// End in order; asked for again: end at once.
    Stop(&'static str),
    /// Hand over to a new process.
    HandOver(Ask),
}

/// Signals, and what the admin server was asked for.
pub(super) struct Requests {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    user: Signal,
    asks: UnboundedReceiver<Ask>,
    ask_sender: UnboundedSender<Ask>,
    quit: UnboundedReceiver<()>,
    quit_sender: UnboundedSender<()>,
}

impl Requests {
    /// Listens from now on.
    pub(super) fn new() -> io::Result<Self> {
        let (quit_sender, quit) = unbounded_channel();
        let (ask_sender, asks) = unbounded_channel();
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            user: signal(SignalKind::user_defined2())?,
            asks,
            ask_sender,
            quit,
            quit_sender,
        })
    }

    /// Where the admin server asks for the end.
    pub(super) fn quit_sender(&self) -> UnboundedSender<()> {
        self.quit_sender.clone()
    }

    /// Where a hand-over is asked for.
    pub(super) fn ask_sender(&self) -> UnboundedSender<Ask> {
        self.ask_sender.clone()
    }

    /// The next one. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.hangup.recv() => Request::Reload,
            _ = self.terminate.recv() => Request::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Request::Stop("SIGINT"),
            _ = self.user.recv() => Request::HandOver(Ask { binary: None, answer: None }),
            // Never `None`: we hold the senders ourselves.
            Some(ask) = self.asks.recv() => Request::HandOver(ask),
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
