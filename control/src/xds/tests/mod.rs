//! The client against control planes of every kind: what they say, and how.
//!
//! * `mesh`: the words that stories are told in;
//! * `conversation`: the session without a connection;
//! * `world`: what resources do to the snapshot;
//! * `streams`: the whole client against a server in this process.

mod conversation;
mod mesh;
mod server;
mod streams;
mod world;
