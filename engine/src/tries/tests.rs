use std::{io::ErrorKind, time::Duration};

use super::*;
use crate::snapshot::{Interner, fixture::pod};

fn workload(name: &str) -> Arc<Workload> {
    Interner::new().workload(pod(name, "10.1.0.1")).unwrap().into()
}

fn names(avoided: &[Arc<Workload>]) -> Vec<&str> {
    avoided.iter().map(|workload| workload.name()).collect()
}

#[test]
fn only_what_is_the_endpoints_fault_is_tried_elsewhere() {
    use Blame::{Answer, Endpoint, NotTheEndpoint};
    let rows = [
        ("its port refuses", CloseReason::DialFailed(ErrorKind::ConnectionRefused), Endpoint),
        ("its host is gone", CloseReason::DialFailed(ErrorKind::HostUnreachable), Endpoint),
        ("its host is silent", CloseReason::TunnelDialTimedOut, Endpoint),
        ("it is silent itself", CloseReason::DialTimedOut, Endpoint),
        ("its proxy is silent", CloseReason::HandshakeTimedOut, Endpoint),
        ("its proxy hangs up", CloseReason::HandshakeCut, Endpoint),
        ("its tunnel breaks", CloseReason::TunnelLost(String::new()), Endpoint),
        ("its application is not there", CloseReason::ConnectRefused(503), Answer),
        ("its proxy lets go of the stream", CloseReason::DestinationReset, Answer),
        ("its policy says no", CloseReason::ConnectRefused(401), NotTheEndpoint),
        ("its policy forbids", CloseReason::ConnectRefused(403), NotTheEndpoint),
        ("we have no descriptor left", CloseReason::DialFailed(ErrorKind::Other), NotTheEndpoint),
        ("we are at a bound", CloseReason::LimitReached(crate::Limit::Descriptors), NotTheEndpoint),
        ("we have no certificate", CloseReason::IdentityUnavailable(String::new()), NotTheEndpoint),
        ("we are draining", CloseReason::Drained, NotTheEndpoint),
    ];
    for (name, reason, want) in rows {
        assert_eq!(blame(&reason.into()), want, "{name}");
    }
}

#[test]
fn a_gateway_is_not_to_blame_for_whoever_is_behind_it() {
    for reason in [CloseReason::HandshakeTimedOut, CloseReason::HandshakeCut] {
        assert_eq!(blame(&Unreached { reason, behind_gateway: true }), Blame::Answer);
    }
    let refused = Unreached { reason: CloseReason::ConnectRefused(401), behind_gateway: true };
    assert_eq!(blame(&refused), Blame::NotTheEndpoint);
}

#[test]
fn an_unreachable_endpoint_is_avoided_for_a_while() {
    let (unreachable, now) = (Unreachable::default(), Instant::now());
    let (a, b) = (workload("a"), workload("b"));
    assert!(unreachable.avoided(now).is_empty());
    unreachable.note(&a, now);
    unreachable.note(&b, now + Duration::from_secs(1));
    assert_eq!(names(&unreachable.avoided(now + Duration::from_secs(1))), ["a", "b"]);
    assert_eq!(names(&unreachable.avoided(now + UNREACHABLE_TIME)), ["b"]);
    unreachable.forget(&b);
    assert!(unreachable.avoided(now + UNREACHABLE_TIME).is_empty());
}

#[test]
fn one_connection_finds_out_for_all() {
    let (unreachable, now) = (Unreachable::default(), Instant::now());
    let a = workload("a");
    unreachable.note(&a, now);
    let later = now + UNREACHABLE_TIME;
    assert!(unreachable.avoided(later).is_empty(), "somebody may try");
    unreachable.chosen(&a, later);
    assert_eq!(names(&unreachable.avoided(later)), ["a"], "the others wait for what comes of it");
}

#[test]
fn the_memory_is_short_in_both_ways() {
    let (unreachable, now) = (Unreachable::default(), Instant::now());
    for n in 0..=UNREACHABLE_MAX {
        unreachable.note(&workload(&format!("w{n}")), now);
    }
    let avoided = unreachable.avoided(now);
    assert_eq!(avoided.len(), UNREACHABLE_MAX);
    assert!(!names(&avoided).contains(&"w0"), "the oldest goes first");
    unreachable.avoided(now + UNREACHABLE_TIME + UNREACHABLE_MEMORY_TIME);
    assert!(unreachable.noted.borrow().is_empty());
}
