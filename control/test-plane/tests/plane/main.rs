//! The plane, driven by clients that know nothing of it but the protocols.

mod agent;
mod certificates;
mod client;
mod discovery;
mod gateways;
mod spiffe;
mod support;
