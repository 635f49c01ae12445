//! What each form accepts.

use super::*;

fn forms<T: Form + PartialEq + std::fmt::Debug>(rows: &[(&str, Option<T>)]) {
    for (text, want) in rows {
        assert_eq!(&T::parse(text), want, "{text:?}");
    }
}

#[test]
fn booleans_are_two_words() {
    forms(&[("true", Some(true)), ("false", Some(false)), ("True", None), ("1", None)]);
    forms::<bool>(&[("yes", None), (" true", None), ("on", None)]);
}

#[test]
fn durations_have_units() {
    let millis = |millis| Some(Duration::from_millis(millis));
    forms(&[
        ("90s", millis(90_000)),
        ("1m30s", millis(90_000)),
        ("500ms", millis(500)),
        ("24h", millis(86_400_000)),
        ("24h0m0s", millis(86_400_000)),
        ("90", None),
        ("s", None),
        ("-1s", None),
        ("1 m", None),
        ("99999999999999999999s", None),
    ]);
    assert_eq!(Duration::from_millis(1_500).show(), "1s500ms");
}

#[test]
fn quantities_are_rounded_up() {
    let rows = [
        ("2", Some(2)),
        ("1.5", Some(2)),
        ("500m", Some(1)),
        ("2000m", Some(2)),
        ("2001m", Some(3)),
        ("0.1", Some(1)),
        ("1n", Some(1)),
        ("0.5n", Some(1)),
        ("100u", Some(1)),
        ("0", Some(0)),
        (".5", Some(1)),
        ("2.", Some(2)),
        ("1k", Some(1000)),
        ("-1", None),
        ("+1", None),
        ("m", None),
        (".", None),
        ("1x", None),
        ("1,5", None),
        ("two", None),
        ("ü", None),
        ("99999999999999999999", None),
        ("100k", None),
    ];
    for (text, want) in rows {
        assert_eq!(Cpus::parse(text), want.map(Cpus), "{text:?}");
    }
}

#[test]
fn threads_are_a_number_all_or_a_share() {
    forms(&[
        ("0", Some(WorkerThreads::EveryCpu)),
        ("3", Some(WorkerThreads::Count(3))),
        ("50%", Some(WorkerThreads::Percent(50))),
        ("100%", Some(WorkerThreads::Percent(100))),
        ("0%", None),
        ("101%", None),
        ("%", None),
        ("-1", None),
        ("1.5", None),
        ("100000", None),
    ]);
}

#[test]
fn the_dns_proxy_listens_on_loopback_or_where_it_is_told() {
    forms(&[
        ("localhost:15053", Some(DnsAddress::Loopback(15053))),
        ("10.0.0.1:53", "10.0.0.1:53".parse().ok().map(DnsAddress::Address)),
        ("[::1]:53", "[::1]:53".parse().ok().map(DnsAddress::Address)),
        ("localhost", None),
        ("dns:53", None),
        ("10.0.0.1", None),
    ]);
}

#[test]
fn logs_have_two_forms() {
    let rows = [
        ("plain", Some(LogFormat::Plain)),
        ("json", Some(LogFormat::Json)),
        ("JSON", None),
        ("xml", None),
    ];
    forms(&rows);
}

#[test]
fn a_workload_has_three_parts() {
    assert!(WorkloadName::parse("shop/web-0").is_none());
    let full = WorkloadName::parse("shop/web-0/web").unwrap();
    assert_eq!(full.show(), "shop/web-0/web");
    assert!(WorkloadName::parse("shop/web-0/web/x").is_none());
}

#[test]
fn what_is_logged_is_checked() {
    assert!(Levels::parse("info,access=debug").is_some());
    assert!(Levels::parse("access:debug").is_some());
    assert!(Levels::parse("loud").is_none());
}
