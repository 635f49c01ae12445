//! Tests of HBONE at its public surface: stories of two machines, the sentences of RFC 9113,
//! attacks, and conversations with the `h2` crate.

mod abuse;
mod conformance;
mod conversation;
mod interop;
mod pair;
mod properties;
mod support;
