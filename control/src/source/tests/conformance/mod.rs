//! The Gateway API's conformance tests, told again as documents, requests and what becomes of them: from YAML over the
//! compiler and the tables to the decision. What only a data path can show (that a copy arrives, that a time limit ends)
//! is asked here as far as it is decided before; end-to-end tests show the rest.
//!
//! `docs/gateway-api.md` is made from the rows here, so that it cannot claim what nothing tries.

mod backend_tls;
mod clients;
mod http;
mod listener_sets;
mod mesh;
mod page;
mod status;
mod streams;
mod world;

/// A test of the standard.
struct Row {
    /// As the standard calls it.
    name: &'static str,
    run: fn(),
}

const fn row(name: &'static str, run: fn()) -> Row {
    Row { name, run }
}

/// All rows, by part.
const PARTS: &[(&str, &[Row])] = &[
    ("HTTP at a gateway", http::ROWS),
    ("gRPC, TLS and TCP", streams::ROWS),
    ("Services (mesh)", mesh::ROWS),
    ("TLS to backends", backend_tls::ROWS),
    ("Certificates of clients", clients::ROWS),
    ("Listeners of sets", listener_sets::ROWS),
    ("Status", status::ROWS),
];

#[test]
fn every_row_holds() {
    let mut failed = Vec::new();
    for row in PARTS.iter().flat_map(|(_, rows)| *rows) {
        if std::panic::catch_unwind(row.run).is_err() {
            failed.push(row.name);
        }
    }
    assert!(failed.is_empty(), "these do not hold: {failed:?}");
}

#[test]
fn no_row_is_told_twice() {
    let mut names: Vec<&str> =
        PARTS.iter().flat_map(|(_, rows)| rows.iter().map(|row| row.name)).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}
