//! The client against control planes of every kind: what they say, and how.
//!
//! * `mesh`: the words that stories are told in;
//! * `conversation`: the session without a connection;
//! * `world`: what resources do to the snapshot;
//! * `values`: every field as it is read; `bad_resources`: what is refused;
//! * `framing`: bytes cut anywhere;
//! * `unnamed`: meshes whose names have no room in one request;
//! * `streams`: the whole client against a server in this process.

mod bad_resources;
mod conversation;
mod framing;
pub(super) mod mesh;
mod server;
mod streams;
mod unnamed;
mod values;
mod world;
