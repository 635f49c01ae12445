//! What can be ordered of each service, and how the services learn of it.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};
use tonic::{Code, Status};

/// The parts that can be stopped and slowed down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Service {
    /// The TLS port, with everything on it.
    Port,
    /// The xDS streams.
    Xds,
    /// The certificate service.
    Ca,
    /// The agents of all nodes.
    Agent,
}

/// The state of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// Whether it does its work at all.
    pub(crate) running: bool,
    /// How long it thinks before it answers.
    pub(crate) delay: Duration,
    /// Until when it refuses.
    pub(crate) refusing_until: Option<Instant>,
}

/// What ends connections and streams before their time.
#[derive(Clone, Debug)]
pub(crate) enum Cut {
    /// TCP connections are reset.
    Connections,
    /// Connections get a GOAWAY, and end when their streams have.
    Goaway,
    /// Streams end with this status.
    Streams(Code, String),
}

/// The switches of one plane.
pub(crate) struct Controls {
    port: watch::Sender<State>,
    xds: watch::Sender<State>,
    ca: watch::Sender<State>,
    agent: watch::Sender<State>,
    cuts: broadcast::Sender<Cut>,
}

/// Cuts that a connection may be behind with; one that is ends anyway.
const CUTS_MAX: usize = 64;

impl Default for Controls {
    fn default() -> Controls {
        let running = State { running: true, delay: Duration::ZERO, refusing_until: None };
        let switch = || watch::Sender::new(running.clone());
        Controls {
            port: switch(),
            xds: switch(),
            ca: switch(),
            agent: switch(),
            cuts: broadcast::Sender::new(CUTS_MAX),
        }
    }
}

impl Controls {
    /// Changes the state of a service.
    pub(crate) fn change(&self, service: Service, change: impl FnOnce(&mut State)) {
        self.switch(service).send_modify(change);
    }

    /// To be told of changes.
    pub(crate) fn watch(&self, service: Service) -> watch::Receiver<State> {
        self.switch(service).subscribe()
    }

    /// Waits until `service` runs, or until it does not.
    pub(crate) async fn wait(&self, service: Service, running: bool) {
        let mut state = self.watch(service);
        let reached = state.wait_for(|state| state.running == running).await.is_ok();
        assert!(reached, "a switch lives as long as we do");
    }

    /// The state at present.
    pub(crate) fn state(&self, service: Service) -> State {
        self.switch(service).borrow().clone()
    }

    /// Ends connections or streams now.
    pub(crate) fn cut(&self, cut: Cut) {
        // With nobody connected there is nobody to hear it.
        let _ = self.cuts.send(cut);
    }

    /// To be told of cuts from now on.
    pub(crate) fn cuts(&self) -> broadcast::Receiver<Cut> {
        self.cuts.subscribe()
    }

    /// Waits as long as `service` is to think; shorter when it is told so meanwhile.
    pub(crate) async fn think(&self, service: Service) {
        let mut state = self.watch(service);
        let began = Instant::now();
        loop {
            let delay = state.borrow_and_update().delay;
            let Some(left) = delay.checked_sub(began.elapsed()).filter(|left| !left.is_zero())
            else {
                return;
            };
            tokio::select! {
                () = tokio::time::sleep(left) => return,
                changed = state.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Whether `service` works at present.
    ///
    /// # Errors
    /// The status it refuses with.
    pub(crate) fn check(&self, service: Service) -> Result<(), Status> {
        let state = self.state(service);
        if !state.running {
            return Err(Status::unavailable("the service is stopped"));
        }
        match state.refusing_until {
            Some(until) if Instant::now() < until => {
                Err(Status::unauthenticated("authentication failure"))
            }
            _ => Ok(()),
        }
    }

    fn switch(&self, service: Service) -> &watch::Sender<State> {
        match service {
            Service::Port => &self.port,
            Service::Xds => &self.xds,
            Service::Ca => &self.ca,
            Service::Agent => &self.agent,
        }
    }
}
