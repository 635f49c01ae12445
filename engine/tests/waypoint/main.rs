//! A waypoint between two nodes, on the real kernel and on both reactors: three engines in one namespace, a client that
//! comes by SOCKS5, and services behind the waypoint.

mod abuse;
mod application;
mod backend_tls;
mod bodies;
mod clients;
mod gateway;
mod http1;
mod http2;
mod interim;
mod mesh;
mod mirrors;
mod outside;
mod policies;
mod retries;
mod tcp;
mod traffic;
mod upgrades;
mod websockets;
