//! The table of rows.

use std::fmt;

use anyhow::{Result, bail};

use super::trial::Trial;
use super::{faults, handover, inputs, load, outside, ring};

/// One row.
pub(super) struct Row {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// The goals it belongs to.
    pub(super) goals: &'static [&'static str],
    /// Whether it is part of the short form.
    pub(super) short: bool,
    pub(super) run: fn(&mut Trial<'_>) -> Result<()>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = if self.short { "short" } else { "" };
        write!(f, "{:<4} {:<9} {form:<5} {}", self.id, self.goals.join(","), self.title)
    }
}

/// All rows, in the order in which they run.
#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row { id: "F8", goals: &["G13"], short: true, run: faults::aborts,
          title: "resets arrive as resets, in both directions, with and without a tunnel" },
    Row { id: "L4", goals: &["G7"], short: true, run: load::descriptors,
          title: "no descriptors left: quiet, and everything that is open goes on" },
    Row { id: "L3", goals: &["G8"], short: true, run: load::slow,
          title: "thousands of peers that dawdle within the handshake or the first request" },
    Row { id: "B3", goals: &["G10"], short: true, run: inputs::abuse,
          title: "seventeen kinds of HTTP/2 abuse" },
    Row { id: "B3r", goals: &["G10"], short: true, run: inputs::abuse_by_servers,
          title: "the same abuse by a server" },
    Row { id: "B2", goals: &["G11"], short: true, run: inputs::conformance,
          title: "HTTP/2 by the sentences of its standard" },
    Row { id: "B5", goals: &[], short: true, run: inputs::handshakes,
          title: "thousands of TLS handshakes that are not as they should be" },
    Row { id: "B8", goals: &[], short: true, run: inputs::certificates,
          title: "certificates of every kind: names, purposes, times, chains, keys" },
    Row { id: "F18", goals: &["G4"], short: true, run: faults::revoke,
          title: "a permission is revoked that thousands of connections rest on" },
    Row { id: "F4", goals: &["G3"], short: true, run: faults::swaps,
          title: "changes of configuration under load" },
    Row { id: "U5", goals: &["G15"], short: true, run: ring::refused,
          title: "io_uring is refused, in every way in which it can be" },
    Row { id: "U5s", goals: &["G15"], short: false, run: ring::switched_off,
          title: "the system's switch turns io_uring off" },
    Row { id: "U6", goals: &["G15"], short: true, run: ring::memlock,
          title: "hardly any memory may be locked" },
    Row { id: "U7", goals: &[], short: true, run: ring::interrupted,
          title: "the call that waits fails now and then" },
    Row { id: "F5", goals: &["G1"], short: true, run: handover::new_connections,
          title: "proxies are replaced while connections are opened" },
    Row { id: "F5b", goals: &["G2"], short: true, run: handover::live_connections,
          title: "proxies are replaced under live connections" },
    Row { id: "U6b", goals: &["G15"], short: true, run: handover::memlock,
          title: "proxies are replaced while hardly any memory may be locked" },
    Row { id: "F6", goals: &[], short: true, run: faults::bad_network,
          title: "a network that loses packets, and a narrow one" },
    Row { id: "F7", goals: &[], short: false, run: faults::half_open,
          title: "a peer that is gone without a word" },
    Row { id: "F9", goals: &[], short: false, run: faults::backends,
          title: "applications that refuse, and such as never answer" },
    Row { id: "F10", goals: &[], short: true, run: faults::kill,
          title: "a proxy that is killed" },
    Row { id: "F12", goals: &[], short: true, run: faults::stuck,
          title: "a shard that does not come out of one turn" },
    Row { id: "F13", goals: &[], short: true, run: faults::stuck_log,
          title: "a log that nobody takes, and a full disk" },
    Row { id: "F17", goals: &[], short: true, run: faults::memory,
          title: "a system that gives no more memory" },
    Row { id: "F1", goals: &[], short: true, run: faults::plane_away,
          title: "the control plane is killed under load, and comes back" },
    Row { id: "F2", goals: &["G14"], short: true, run: faults::authority_away,
          title: "the certificate authority's directory is away for longer than certificates live" },
    Row { id: "F11", goals: &[], short: false, run: faults::clock,
          title: "the wall clock jumps by ten days, forth and back" },
    Row { id: "F16", goals: &[], short: true, run: faults::reuse,
          title: "a new pod has the address of one that is gone" },
    Row { id: "F19", goals: &[], short: true, run: faults::rotation,
          title: "certificates and the root change; a peer's certificate ends" },
    Row { id: "L1", goals: &["G5"], short: true, run: load::idle,
          title: "idle connections" },
    Row { id: "L1b", goals: &[], short: false, run: load::idle_tunnels,
          title: "idle tunnels of as many peers" },
    Row { id: "L2", goals: &[], short: false, run: load::storm,
          title: "ten thousand new connections a second" },
    Row { id: "L6", goals: &["G9"], short: false, run: load::noisy,
          title: "a neighbour with a storm of connections, and one with bulk" },
    Row { id: "L7", goals: &[], short: true, run: load::churn,
          title: "connections that end in every way leave nothing behind" },
    Row { id: "L8", goals: &[], short: true, run: load::come_and_go,
          title: "workloads that come and go" },
    Row { id: "L9", goals: &[], short: false, run: load::starved,
          title: "no processor time to spare" },
    Row { id: "B7", goals: &[], short: true, run: inputs::matrix,
          title: "who may reach what, in every way of saying it" },
    Row { id: "B9", goals: &[], short: true, run: inputs::sinks,
          title: "text from outside that ends in the log" },
    Row { id: "H1", goals: &["G12"], short: true, run: inputs::smuggling,
          title: "requests that two readers may take for different ones, through a waypoint" },
    Row { id: "H2", goals: &["G10"], short: false, run: inputs::abuse_by_users,
          title: "the abuse of B3 by users of HTTP, at a waypoint and at a gateway" },
    Row { id: "B1", goals: &["G16"], short: false, run: outside::fuzzing,
          title: "every parser under a fuzzer" },
    Row { id: "U1", goals: &[], short: false, run: outside::namespaces,
          title: "no socket is made in another namespace than its workload's" },
    Row { id: "U4", goals: &[], short: false, run: outside::overflow,
          title: "completion queues that overflow, operations that are cancelled" },
    Row { id: "S1", goals: &["G17"], short: false, run: outside::simulation,
          title: "two hosts in one process, from many seeds" },
];

/// The rows that are meant: by id, by goal, all of them, or those of the short form.
pub(super) fn select(wanted: &[String], short: bool) -> Result<Vec<&'static Row>> {
    if wanted.is_empty() {
        return Ok(ROWS.iter().filter(|row| row.short || !short).collect());
    }
    let means = |row: &Row, name: &str| {
        row.id.eq_ignore_ascii_case(name)
            || row.goals.iter().any(|goal| goal.eq_ignore_ascii_case(name))
    };
    if let Some(name) = wanted.iter().find(|name| !ROWS.iter().any(|row| means(row, name))) {
        let known: Vec<&str> = ROWS.iter().map(|row| row.id).collect();
        bail!("there is no row {name}; there are {}", known.join(", "));
    }
    Ok(ROWS.iter().filter(|row| wanted.iter().any(|name| means(row, name))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_id_and_by_goal() {
        let ids = |wanted: &[&str], short| -> Vec<&str> {
            let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            select(&wanted, short).unwrap().iter().map(|row| row.id).collect()
        };
        assert_eq!(ids(&["f8", "G7"], false), ["F8", "L4"]);
        assert!(ids(&[], true).len() <= ids(&[], false).len());
        let error = select(&["F99".to_owned()], false).err().expect("refused").to_string();
        assert!(error.contains("F99") && error.contains("F8"), "{error}");
    }

    #[test]
    fn no_two_rows_have_the_same_id() {
        for (index, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..index].iter().all(|other| other.id != row.id), "{}", row.id);
        }
    }
}
