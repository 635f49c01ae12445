//! End-to-end tests: the built program, real network namespaces, applications that know nothing.
//!
//! Every test runs twice, as `ring::name` and `epoll::name`, in a laboratory of its own. They need
//! root, or `scripts/test`, which gives them a user namespace.

mod support;

mod closing;
mod confined;
mod dns;
mod endpoints;
mod environment;
mod handover;
mod hostile;
mod in_pod;
mod interop;
mod lifecycle;
mod limits;
mod modes;
mod neighbours;
mod policy;
mod succession;
mod traffic;
mod trust;
mod waypoint;
mod waypoints;
