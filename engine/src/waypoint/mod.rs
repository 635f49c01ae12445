//! The L7 roles: waypoints and gateways.
//!
//! ```text
//!  inbound ─ a stream for a waypoint ─▶ serve ─ what is it for, what does it speak ┬▶ tcp ──────────────▶ connect
//!                                                                                  └▶ server ─▶ exchange ─▶ upstream
//!                                                                                                ├▶ mirror ─▶ upstream
//!                                                                                                └▶ outside ▶ upstream
//! ```
//!
//! Read [`serve`], then [`exchange`]: a connection, and one request. HTTP/1 itself is hyper's and HTTP/2 h2's, on this shard's
//! executor and over whatever bytes come through ([`io`]): the user-facing side of HTTP meets hostile input, and theirs is
//! hardened. What a peer sends is [`incoming`], what it is sent [`download`] or [`upload`].
//! What is decided about a request is `ringway_http`'s; what is done about it is here.
//!
//! **Invariant:** a request never leaves the shard its connection came to, and no lock is taken on its path.
//!
//! **Invariant:** what a waypoint sends never goes to another waypoint.
//!
//! **Invariant:** each request has exactly one record, whoever ends it; a connection that speaks HTTP has none of its own.

mod comparison;
mod download;
mod draining;
mod exchange;
mod gateway;
mod handoff;
mod incoming;
mod interim;
mod io;
mod messages;
mod mirror;
mod outside;
mod places;
mod plan;
mod policy;
mod record;
mod reply;
mod sending;
mod serve;
mod server;
mod speech;
mod tcp;
mod tls;
mod traffic;
mod tries;
mod upload;
mod upstream;
mod websocket;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use self::{
    draining::Draining,
    gateway::Listening,
    tcp::ServerFirst,
    tls::{Originators, Terminators},
    traffic::Services,
    upstream::Upstreams,
};
pub(crate) use self::{
    gateway::{listen, listen_on, retire_listeners, stop_listening},
    serve::serve_stream,
    traffic::Common as CommonTraffic,
};

/// What goes wrong with a body.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a pod that is a waypoint or a gateway keeps on one shard. For others it is next to nothing.
#[derive(Default)]
pub(crate) struct State(std::cell::OnceCell<Box<Kept>>);

/// See [`State`].
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) upstreams: Rc<Upstreams>,
    draining: Rc<Draining>,
    server_first: RefCell<ServerFirst>,
    listening: RefCell<Vec<Listening>>,
    terminators: RefCell<Terminators>,
    originators: RefCell<Originators>,
    /// Of bodies that may have to be sent once more, or to somebody else.
    replay_bytes: Rc<Cell<usize>>,
    services: Services,
    /// Copies of requests that are under way.
    mirrored: Rc<Cell<usize>>,
    /// Services outside that are being asked.
    asked: Rc<Cell<usize>>,
}

impl State {
    /// Made when it is first asked for.
    pub(crate) fn kept(&self) -> &Kept {
        self.0.get_or_init(Box::default)
    }

    /// Lets every connection end in order.
    pub(crate) fn drain(&self) {
        if let Some(kept) = self.0.get() {
            kept.draining.begin();
            kept.upstreams.end();
        }
    }
}
