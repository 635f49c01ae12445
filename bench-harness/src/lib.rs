//! What Ringway is tried and measured with: laboratories of network namespaces, applications that
//! know nothing of a mesh, load, a reference relay, and experiments with all of them.
//!
//! **Invariant:** nothing here depends on any other crate of this repository. Everything under test
//! is a built program that is started, talked to and watched from outside.

pub mod app;
pub mod awake;
pub mod bench;
pub mod calibrate;
pub mod capture;
pub mod compare;
pub mod demo;
pub mod experiment;
pub mod get;
pub mod handover;
pub mod histogram;
pub mod http;
pub mod lab;
pub mod load;
pub mod manifest;
pub mod measure;
pub mod mesh;
pub mod null_server;
pub mod observe;
pub mod pattern;
pub mod pki;
mod polled;
pub mod probe;
mod processors;
pub mod profile;
pub mod record;
pub mod relay;
pub mod report;
pub mod runtimes;
pub mod statistics;
pub mod stop;
pub mod subject;
pub mod tcp;
pub mod torture;
