//! The machine, without any namespace.

use proptest::prelude::*;
use ringway_protocols::identity::Identity;

use super::*;

fn enrollment(name: &str, namespace: &str) -> WorkloadEnrollment {
    WorkloadEnrollment {
        uid: name.into(),
        identity: Identity::new("cluster.local", "shop", "web").unwrap(),
        network_namespace: NetworkNamespace::Path(namespace.into()),
    }
}

/// Namespaces that stay what they are.
fn same(_: &NetworkNamespace) -> Option<NamespaceFile> {
    None
}

/// Does everything that is due, all of it well, and says what it was.
fn work(enroller: &mut Enroller<()>, now: Instant) -> Vec<String> {
    let mut log = Vec::new();
    while let Some(job) = enroller.next_job(now, same) {
        let done = match job {
            Job::Enroll(one) => {
                log.push(format!("+{}", one.uid));
                Done::Enrolled(one, None, ())
            }
            Job::Replace(one, file, ()) => {
                log.push(format!("={}", one.uid));
                Done::Enrolled(one, file, ())
            }
            Job::Withdraw(uid, ()) => {
                log.push(format!("-{uid}"));
                Done::Withdrawn(uid)
            }
        };
        enroller.done(done, now);
    }
    log
}

#[test]
fn only_what_changed_is_touched_and_what_goes_goes_first() {
    let (mut enroller, now) = (Enroller::default(), Instant::now());
    enroller.want(vec![enrollment("a", "/a"), enrollment("b", "/b"), enrollment("c", "/c")], now);
    assert_eq!(work(&mut enroller, now), ["+a", "+b", "+c"]);
    enroller.want(vec![enrollment("a", "/a"), enrollment("b", "/x"), enrollment("d", "/d")], now);
    assert_eq!(work(&mut enroller, now), ["-b", "-c", "+b", "+d"]);
    assert_eq!(work(&mut enroller, now), [""; 0]);
    assert_eq!(enroller.counts(), (5, 2));
    assert_eq!(enroller.held().count(), 3);
}

fn as_somebody_else(one: WorkloadEnrollment) -> WorkloadEnrollment {
    let identity = Identity::new("cluster.local", "shop", "other").unwrap();
    WorkloadEnrollment { identity, ..one }
}

/// Ending first would open it for a moment: what it says would go out in the clear.
#[test]
fn a_workload_that_becomes_somebody_else_stays_captured() {
    let (mut enroller, now) = (Enroller::default(), Instant::now());
    enroller.want(vec![enrollment("a", "/a")], now);
    assert_eq!(work(&mut enroller, now), ["+a"]);
    enroller.want(vec![as_somebody_else(enrollment("a", "/a"))], now);
    assert_eq!(work(&mut enroller, now), ["=a"]);
    assert_eq!(work(&mut enroller, now), [""; 0]);
    assert_eq!((enroller.counts(), enroller.held().count()), ((2, 1), 1));
    enroller.want(vec![as_somebody_else(enrollment("a", "/b"))], now);
    assert_eq!(
        work(&mut enroller, now),
        ["-a", "+a"],
        "in another namespace it is another capture"
    );
}

/// What holds a capture is the rules in the namespace. Without them, what the workload says would go out in the clear.
#[test]
fn what_cannot_be_captured_as_somebody_else_stays_held_until_it_can_or_goes() {
    let (mut enroller, mut now) = (Enroller::default(), Instant::now());
    enroller.want(vec![enrollment("a", "/a"), enrollment("b", "/b")], now);
    work(&mut enroller, now);
    let others = ["a", "b"].map(|name| as_somebody_else(enrollment(name, &format!("/{name}"))));
    enroller.want(others.to_vec(), now);
    let mut pauses = Vec::new();
    for _ in 0..3 {
        while let Some(Job::Replace(one, file, ())) = enroller.next_job(now, same) {
            enroller.done(Done::Kept(one, file, (), "port taken".to_owned()), now);
        }
        assert!(enroller.statuses().iter().all(|one| !one.up && one.error.is_some()));
        assert_eq!(enroller.held().count(), 0, "nobody serves it");
        let due = enroller.next_deadline().unwrap();
        pauses.push(due - now);
        now = due;
    }
    assert_eq!(pauses, [RETRY_FIRST, 2 * RETRY_FIRST, 4 * RETRY_FIRST]);
    // One is not wanted any more: its rules go. The other is tried again.
    enroller.want(vec![others[0].clone()], now);
    assert_eq!(work(&mut enroller, now), ["=a", "-b"]);
    assert_eq!(enroller.take_held().len(), 1);
}

/// Whoever ends the process ends what is held, too.
#[test]
fn what_waits_and_is_held_is_among_what_is_ended() {
    let (mut enroller, now) = (Enroller::default(), Instant::now());
    enroller.want(vec![enrollment("a", "/a")], now);
    work(&mut enroller, now);
    enroller.want(vec![as_somebody_else(enrollment("a", "/a"))], now);
    let Some(Job::Replace(one, file, ())) = enroller.next_job(now, same) else { panic!() };
    enroller.done(Done::Kept(one, file, (), "no".to_owned()), now);
    assert_eq!(enroller.take_held().len(), 1);
}

#[test]
fn a_failure_is_tried_again_with_growing_pauses_and_holds_up_nobody() {
    let (mut enroller, mut now) = (Enroller::<()>::default(), Instant::now());
    enroller.want(vec![enrollment("bad", "/bad"), enrollment("good", "/good")], now);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        while let Some(Job::Enroll(one)) = enroller.next_job(now, same) {
            let done = match &*one.uid {
                "good" => Done::Enrolled(one, None, ()),
                _ => Done::Failed(one, "no such namespace".to_owned()),
            };
            enroller.done(done, now);
        }
        let statuses = enroller.statuses();
        assert_eq!(statuses[0].error.as_deref(), Some("no such namespace"));
        assert!(!statuses[0].up && statuses[1].up);
        let due = enroller.next_deadline().unwrap();
        pauses.push(due - now);
        now = due;
    }
    assert_eq!(pauses[0], RETRY_FIRST);
    assert_eq!(pauses[1], 2 * RETRY_FIRST);
    assert_eq!(pauses[9], RETRY_MAX);
    // A new configuration is a new chance.
    enroller.want(vec![enrollment("bad", "/better")], now);
    assert_eq!(enroller.next_deadline(), Some(now));
}

#[test]
fn a_namespace_made_anew_under_the_same_name_is_captured_anew() {
    let home = tempfile::TempDir::new().unwrap();
    let path = home.path().join("pod");
    std::fs::write(&path, "").unwrap();
    let file = NamespaceFile::at(&path).ok();
    let (mut enroller, now) = (Enroller::default(), Instant::now());
    enroller.want(vec![enrollment("pod", path.to_str().unwrap())], now);
    let identify = |_: &NetworkNamespace| NamespaceFile::at(&path).ok();
    let Some(Job::Enroll(one)) = enroller.next_job(now, identify) else { panic!() };
    enroller.done(Done::Enrolled(one, file, ()), now);
    assert!(enroller.next_job(now, identify).is_none());

    std::fs::write(home.path().join("new"), "").unwrap();
    std::fs::rename(home.path().join("new"), &path).unwrap();
    assert!(matches!(enroller.next_job(now, identify), Some(Job::Withdraw(..))));
    assert!(enroller.next_job(now, identify).is_none(), "one thing after the other");
    enroller.done(Done::Withdrawn("pod".into()), now);
    assert!(matches!(enroller.next_job(now, identify), Some(Job::Enroll(_))));
}

#[test]
fn what_is_unwanted_while_it_begins_ends_right_after() {
    let (mut enroller, now) = (Enroller::default(), Instant::now());
    enroller.want(vec![enrollment("a", "/a")], now);
    let Some(Job::Enroll(one)) = enroller.next_job(now, same) else { panic!() };
    enroller.want(vec![], now);
    assert!(enroller.statuses().is_empty());
    enroller.done(Done::Enrolled(one, None, ()), now);
    assert_eq!(work(&mut enroller, now), ["-a"]);
    assert_eq!(enroller.held().count(), 0);
    assert_eq!(enroller.next_deadline(), None);
}

proptest! {
    /// Whatever is wanted in whatever order, with jobs that end late and badly: in the end exactly what is wanted
    /// is captured, and no workload ever has two jobs.
    #[test]
    fn it_converges(
        steps in proptest::collection::vec((0u8..16, 0u8..3, any::<bool>()), 1..40)
    ) {
        let (mut enroller, mut now) = (Enroller::<()>::default(), Instant::now());
        let mut open: Vec<Job<()>> = Vec::new();
        let uid = |job: &Job<()>| match job {
            Job::Enroll(one) | Job::Replace(one, _, ()) => Arc::clone(&one.uid),
            Job::Withdraw(uid, ()) => Arc::clone(uid),
        };
        let mut wanted = Vec::new();
        for (set, action, fails) in steps {
            match action {
                0 => {
                    wanted = (0..4)
                        .filter(|bit| set & 1 << bit != 0)
                        .map(|bit| {
                            let one = enrollment(&format!("w{bit}"), &format!("/{}", set % 2));
                            if set & 4 == 0 { one } else { as_somebody_else(one) }
                        })
                        .collect();
                    enroller.want(wanted.clone(), now);
                }
                1 => {
                    if let Some(job) = enroller.next_job(now, same) {
                        prop_assert!(!open.iter().any(|other| uid(other) == uid(&job)));
                        open.push(job);
                    }
                }
                _ => {
                    if let Some(job) = open.pop() {
                        let done = match job {
                            Job::Enroll(one) if fails => Done::Failed(one, "no".to_owned()),
                            Job::Replace(one, file, ()) if fails => {
                                Done::Kept(one, file, (), "no".to_owned())
                            }
                            Job::Enroll(one) | Job::Replace(one, _, ()) => {
                                Done::Enrolled(one, None, ())
                            }
                            Job::Withdraw(uid, ()) => Done::Withdrawn(uid),
                        };
                        enroller.done(done, now);
                    }
                }
            }
        }
        for job in open {
            let done = match job {
                Job::Enroll(one) | Job::Replace(one, _, ()) => Done::Enrolled(one, None, ()),
                Job::Withdraw(uid, ()) => Done::Withdrawn(uid),
            };
            enroller.done(done, now);
        }
        for _ in 0..3 {
            now += RETRY_MAX;
            work(&mut enroller, now);
        }
        prop_assert!(enroller.statuses().iter().all(|status| status.up));
        let held: Vec<_> = enroller.held().map(|(uid, ())| Arc::clone(uid)).collect();
        let mut uids: Vec<_> = wanted.iter().map(|one| Arc::clone(&one.uid)).collect();
        uids.sort();
        prop_assert_eq!(held, uids);
    }
}
