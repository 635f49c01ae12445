//! U5: a host that refuses io_uring gets epoll, and says why; a ring that is forced is an error.
//!
//! The refusal is a real one: a seccomp filter on the test's own thread answers the three calls.

use ringway_engine::runtime::{ReactorChoice, ReactorKind, Runtime, RuntimeError, spawn};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use super::super::harness::{Case, Need};
use super::super::support::{echo, pair, read_exact, write_all};

pub(crate) fn cases() -> Vec<Case> {
    let refusals = [
        ("eperm", libc::EPERM),
        ("enosys", libc::ENOSYS),
        ("eacces", libc::EACCES),
        ("enomem", libc::ENOMEM),
    ];
    let mut cases: Vec<Case> = refusals
        .into_iter()
        .map(|(name, errno)| {
            Case::new(format!("rules::u5_{name}_steps_down"), move || steps_down(errno))
        })
        .collect();
    let smaller = Case::new("rules::u5_short_memory_makes_the_ring_smaller", || {
        deny(libc::ENOMEM, vec![more_entries_than(256)]);
        let (_runtime, report) = Runtime::new(ReactorChoice::Auto).expect("a runtime");
        assert_eq!(report.kind(), ReactorKind::Ring, "{report}");
        assert!(report.reason().contains("256/2048 entries"), "{report}");
        serves(ReactorChoice::Ring);
    });
    cases.push(smaller.needs(Need::Ring));
    cases.push(Case::new("rules::u5_only_enter_refused_fails_the_self_test", || {
        // Set-up is granted, use is not: only the self-test can tell.
        let filter = vec![(libc::SYS_io_uring_enter, Vec::new())];
        apply(libc::EPERM, filter);
        let outcome = std::panic::catch_unwind(|| Runtime::new(ReactorChoice::Auto));
        let (_runtime, report) = outcome.expect("no panic").expect("a runtime");
        assert_eq!(report.kind(), ReactorKind::Epoll, "{report}");
    }));
    cases
}

fn steps_down(errno: i32) {
    deny(errno, Vec::new());
    let (_runtime, report) = Runtime::new(ReactorChoice::Auto).expect("auto always finds one");
    assert_eq!(report.kind(), ReactorKind::Epoll);
    let line = report.to_string();
    assert!(line.starts_with("reactor epoll: io_uring cannot be used: ") && !line.contains('\n'));
    let said = rustix::io::Errno::from_raw_os_error(errno).to_string();
    assert!(line.contains(&said), "{line}");
    println!("    {line}");
    let forced = Runtime::new(ReactorChoice::Ring);
    let Err(error @ RuntimeError::RingRefused(_)) = forced else {
        panic!("a forced ring: {forced:?}")
    };
    assert!(error.to_string().contains(&said), "{error}");
    serves(ReactorChoice::Auto);
}

fn serves(choice: ReactorChoice) {
    let (runtime, _) = Runtime::new(choice).expect("a runtime");
    runtime.block_on(async {
        let (near, far) = pair().await;
        spawn(echo(far));
        write_all(&near, b"still here").await.expect("room");
        let mut back = [0; 10];
        read_exact(&near, &mut back).await.expect("an echo");
        assert_eq!(&back, b"still here");
    });
}

/// `io_uring_setup(entries, …)` with more entries than that.
fn more_entries_than(entries: u64) -> SeccompRule {
    let more = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Gt, entries);
    SeccompRule::new(vec![more.expect("a condition")]).expect("a rule")
}

/// Answers `io_uring_setup` with `errno` where one of the rules holds, always without any.
fn deny(errno: i32, setup: Vec<SeccompRule>) {
    let mut calls = vec![(libc::SYS_io_uring_setup, setup.clone())];
    if setup.is_empty() {
        calls.push((libc::SYS_io_uring_enter, Vec::new()));
        calls.push((libc::SYS_io_uring_register, Vec::new()));
    }
    apply(errno, calls);
}

/// For the rest of this thread's life.
fn apply(errno: i32, calls: Vec<(i64, Vec<SeccompRule>)>) {
    let filter = SeccompFilter::new(
        calls.into_iter().collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        std::env::consts::ARCH.try_into().expect("an architecture seccomp knows"),
    );
    let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
    apply_filter(&program).expect("the thread may restrict itself");
}
