//! End-to-end tests: the built program, real network namespaces, applications that know nothing.
//!
//! Every test runs twice, as `ring::name` and `epoll::name`, in a laboratory of its own. They need
//! root, or `scripts/test`, which gives them a user namespace.

mod support;

mod abused;
mod agent;
mod backend_tls;
mod canary;
mod chart;
mod clients;
mod closing;
mod confined;
mod dns;
mod endpoints;
mod environment;
mod gateways;
mod handover;
mod hostile;
mod hostnames;
mod in_pod;
mod interop;
mod lifecycle;
mod limits;
mod memory;
mod modes;
mod neighbours;
mod outside;
mod policy;
mod sessions;
mod spiffe;
mod succession;
mod tenants;
mod traffic;
mod trust;
mod waypoint;
mod waypoints;
