//! Roles by dates, and broken state files.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

fn entry(name: &str, signs_from: u64) -> Entry {
    Entry {
        certificate: format!("{name}-cert.pem"),
        key: format!("{name}-key.pem"),
        root: None,
        fingerprint: name.to_owned(),
        signs_from: at(signs_from),
        trusted_until: None,
    }
}

fn roles(succession: &Succession, now: u64) -> Vec<Role> {
    succession.roles(at(now)).into_iter().map(|(role, _)| role).collect()
}

#[test]
fn the_roles_follow_from_the_dates() {
    use Role::{Current, Next, Previous, Retired};
    let mut succession = Succession::sole(entry("old", 0));
    assert_eq!(roles(&succession, 5), [Current], "one authority signs");

    succession.succeed(entry("new", 100), at(200), at(10)).unwrap();
    //  name                                        now   want
    let rows = [
        ("the new one is trusted before it signs", 10, [Current, Next]),
        ("one second before", 99, [Current, Next]),
        ("they change over at the date", 100, [Previous, Current]),
        ("the old one is trusted to the last", 199, [Previous, Current]),
        ("and retires", 200, [Retired, Current]),
    ];
    for (name, now, want) in rows {
        assert_eq!(roles(&succession, now), want, "{name}");
    }
}

#[test]
fn a_second_rotation_waits_for_the_first_and_drops_the_retired() {
    let mut succession = Succession::sole(entry("a", 0));
    succession.succeed(entry("b", 100), at(200), at(10)).unwrap();
    assert_eq!(
        succession.succeed(entry("c", 120), at(300), at(50)),
        Err(SuccessionError::Pending(at(100)))
    );
    let gone = succession.succeed(entry("c", 400), at(500), at(300)).unwrap();
    assert_eq!(gone.iter().map(|entry| entry.fingerprint.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(succession.entries()[0].trusted_until, Some(at(500)));
}

#[test]
fn an_earlier_end_of_trust_is_not_put_off() {
    let mut succession = Succession::sole(entry("a", 0));
    succession.succeed(entry("b", 0), at(200), at(10)).unwrap();
    succession.succeed(entry("c", 20), at(900), at(20)).unwrap();
    assert_eq!(succession.entries()[0].trusted_until, Some(at(200)));
    assert_eq!(succession.entries()[1].trusted_until, Some(at(900)));
}

#[test]
fn rotations_without_end_are_refused_and_change_nothing() {
    let mut succession = Succession::sole(entry("a", 0));
    for round in 1..AUTHORITIES_MAX as u64 {
        succession.succeed(entry("x", round), at(9_999), at(round)).unwrap();
    }
    let before = succession.clone();
    assert_eq!(
        succession.succeed(entry("y", 50), at(9_999), at(50)),
        Err(SuccessionError::Count(AUTHORITIES_MAX + 1))
    );
    assert_eq!(succession, before);
}

#[test]
fn broken_state_files_are_refused_with_a_reason() {
    let good = Succession::sole(entry("a", 0)).render();
    //  name                      text                                            want in the message
    let rows = [
        ("not JSON", "{".to_owned(), "EOF"),
        ("a later version", good.replace(": 1,", ": 2,"), "version 2"),
        ("no authority", r#"{"version":1,"authorities":[]}"#.to_owned(), "0 authorities"),
        ("an unknown key", good.replace("\"key\"", "\"kee\""), "kee"),
        ("a path that leaves", good.replace("a-key.pem", "../a-key.pem"), "../a-key.pem"),
        ("a date that is none", good.replace("2023-", "20x3-"), "RFC 3339"),
    ];
    for (name, text, want) in rows {
        let error = Succession::parse(text.as_bytes()).expect_err(name).to_string();
        assert!(error.contains(want), "{name}: {error}");
    }
}

#[test]
fn before_the_first_date_nobody_signs() {
    let succession = Succession::sole(entry("a", 10));
    assert_eq!(succession.signer(at(9)), Err(SuccessionError::NobodySigns));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        from in 0u64..1_000_000, until in proptest::option::of(0u64..1_000_000), names in "[a-z]{1,8}"
    ) {
        let mut one = entry(&names, from);
        one.trusted_until = until.map(at);
        let succession = Succession::sole(one);
        prop_assert_eq!(Succession::parse(succession.render().as_bytes()), Ok(succession));
    }

    #[test]
    fn no_bytes_panic_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Succession::parse(&bytes);
    }

    #[test]
    fn at_most_one_signs(starts in proptest::collection::vec(0u64..50, 1..6), now in 0u64..60) {
        let mut succession = Succession::sole(entry("first", starts[0]));
        for start in &starts[1..] {
            let _ = succession.succeed(entry("more", *start), at(start + 20), at(*start));
        }
        let signing = roles(&succession, now).into_iter().filter(|role| *role == Role::Current);
        prop_assert!(signing.count() <= 1);
    }
}
