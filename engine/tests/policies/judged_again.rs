//! Connections that are open when policies change.

use std::{io::ErrorKind, time::Duration};

use ringway_engine::{
    close::CloseReason,
    runtime::{sleep, yield_now},
    snapshot::{PolicyAction, PolicyMatch, TextMatch},
};

use crate::mesh::{Mesh, everything, namespace_policy, play, policy, uid, when};

const SOON: Duration = Duration::from_millis(100);
const CUT: Option<ErrorKind> = Some(ErrorKind::ConnectionReset);

/// Somebody who is not on the far host's mind.
fn from_elsewhere() -> PolicyMatch {
    PolicyMatch { namespaces: vec![TextMatch::Exact("elsewhere".into())], ..Default::default() }
}

fn not_alice() -> PolicyMatch {
    let alice = TextMatch::Exact("cluster.local/ns/shop/sa/alice".into());
    PolicyMatch { not_principals: vec![alice], ..Default::default() }
}

async fn all_talk(mesh: &Mesh) -> [crate::mesh::Call; 3] {
    let calls =
        [mesh.connect("alice").await, mesh.connect("bob").await, mesh.connect("outside").await];
    for call in &calls {
        assert_eq!(call.echo().await, Ok(()));
    }
    calls
}

#[test]
fn who_is_denied_now_is_cut_and_nobody_else() {
    play(async |mesh| {
        let [alice, bob, outside] = all_talk(mesh).await;
        let rules = vec![when(from_elsewhere()), when(not_alice())];
        mesh.change(|far| far.upsert_policy(namespace_policy("no", PolicyAction::Deny, rules)));
        assert_eq!(bob.end_within(SOON).await, CUT, "an abort, not an end");
        assert_eq!(outside.end_within(SOON).await, CUT);
        for record in mesh.records(2).await {
            assert!(matches!(record.reason, CloseReason::PolicyChanged(_)));
            assert_eq!(record.reason.response_flag(), "DENY");
            assert_eq!(record.reason.policy(), Some(("shop/no", Some(1))));
            assert_eq!(
                record.reason.to_string(),
                "connection closed due to policy change: explicitly denied by: shop/no"
            );
            assert_eq!((record.received_bytes, record.sent_bytes), (4, 4));
        }
        assert_eq!(alice.end_within(SOON).await, None);
        assert_eq!(alice.echo().await, Ok(()));
    });
}

/// To close a socket takes longer than all else: no connection waits to be cut because others are closed.
#[test]
fn all_are_cut_before_their_sockets_are_closed() {
    const CALLS: usize = 1500;
    play(async |mesh| {
        let mut calls = Vec::new();
        for _ in 0..CALLS {
            calls.push(mesh.connect("alice").await);
            assert_eq!(calls.last().unwrap().echo().await, Ok(()));
        }
        // The node's end to the application and the application's own.
        let before = mesh.ends_in("web");
        assert!(before > 2 * CALLS, "and those of tunnels: {before}");
        let deny = namespace_policy("no", PolicyAction::Deny, vec![everything()]);
        mesh.change(|far| far.upsert_policy(deny));
        let mut cut = 0;
        while cut < CALLS {
            while let Some(record) = mesh.far.telemetry().next_record() {
                assert!(matches!(record.reason, CloseReason::PolicyChanged(_)), "{record:?}");
                cut += 1;
            }
            yield_now().await;
        }
        let closed = before - mesh.ends_in("web");
        assert!(closed < CALLS / 8, "{closed} sockets were closed before the last was cut");
        for call in &calls {
            assert_eq!(call.end_within(SOON).await, CUT);
        }
        sleep(SOON).await;
        assert!(mesh.ends_in("web") <= before - 2 * CALLS, "all are closed");
        assert_eq!(mesh.application_ends(), [0, CALLS], "with an abort each");
    });
}

#[test]
fn a_first_allow_policy_cuts_whom_it_does_not_say() {
    play(async |mesh| {
        let [alice, bob, outside] = all_talk(mesh).await;
        let alice_only = PolicyMatch {
            principals: vec![TextMatch::Suffix("/sa/alice".into())],
            ..Default::default()
        };
        let rules = vec![when(alice_only)];
        mesh.change(|far| far.upsert_policy(namespace_policy("yes", PolicyAction::Allow, rules)));
        assert_eq!(bob.end_within(SOON).await, CUT);
        assert_eq!(outside.end_within(SOON).await, CUT);
        assert_eq!(alice.echo().await, Ok(()));
    });
}

#[test]
fn a_policy_that_is_newly_attached_cuts() {
    play(async |mesh| {
        let deny = policy("no", PolicyAction::Deny, vec![when(not_alice())]);
        mesh.change(|far| far.upsert_policy(deny));
        let [alice, bob, outside] = all_talk(mesh).await;
        assert_eq!(bob.end_within(SOON).await, None, "nobody names it");
        mesh.change_web(|web| web.authorization_policies = vec!["shop/no".to_owned()]);
        assert_eq!(bob.end_within(SOON).await, CUT);
        assert_eq!(outside.end_within(SOON).await, CUT);
        assert_eq!(alice.echo().await, Ok(()));
    });
}

/// A connection that was let in between two changes is judged by the one after it.
#[test]
fn changes_back_and_forth_let_nobody_in() {
    play(async |mesh| {
        let deny = policy("no", PolicyAction::Deny, vec![everything()]);
        mesh.change(|far| far.upsert_policy(deny));
        let names = |policies: &[&str]| {
            let policies: Vec<String> = policies.iter().map(|name| (*name).to_owned()).collect();
            mesh.change_web(|web| web.authorization_policies = policies);
        };
        mesh.shuffle_tasks();
        for _ in 0..200 {
            let outside = mesh.connect("outside").await;
            for _ in 0..8 {
                names(&[]);
                yield_now().await;
                names(&["shop/no"]);
                yield_now().await;
            }
            assert!(outside.end_within(SOON).await.is_some(), "nobody may be let in");
        }
    });
}

#[test]
fn a_workload_of_another_namespace_has_its_policies() {
    play(async |mesh| {
        let mut deny = namespace_policy("no", PolicyAction::Deny, vec![everything()]);
        deny.namespace = "bank".into();
        mesh.change(|far| far.upsert_policy(deny));
        let outside = mesh.connect("outside").await;
        assert_eq!(outside.echo().await, Ok(()));
        mesh.change_web(|web| web.namespace = "bank".to_owned());
        assert_eq!(outside.end_within(SOON).await, CUT);
        assert_eq!(mesh.records(1).await[0].reason.policy(), Some(("bank/no", Some(0))));
    });
}

#[test]
fn a_change_that_denies_nobody_cuts_nobody() {
    play(async |mesh| {
        let calls = all_talk(mesh).await;
        let deny = namespace_policy("no", PolicyAction::Deny, vec![when(from_elsewhere())]);
        mesh.change(|far| far.upsert_policy(deny.clone()));
        let mut of_others = namespace_policy("no", PolicyAction::Deny, vec![everything()]);
        of_others.namespace = "bank".into();
        mesh.change(|far| far.upsert_policy(of_others));
        let mut dry = namespace_policy("dry", PolicyAction::Deny, vec![everything()]);
        dry.dry_run = true;
        mesh.change(|far| far.upsert_policy(dry));
        mesh.change_web(|web| web.capacity = 7);
        mesh.change(|far| {
            far.remove_policy("shop", "no");
        });
        sleep(SOON).await;
        for call in &calls {
            assert_eq!(call.echo().await, Ok(()));
        }
    });
}

#[test]
fn a_workload_that_is_gone_keeps_its_connections_until_it_is_withdrawn() {
    play(async |mesh| {
        let [alice, bob, outside] = all_talk(mesh).await;
        mesh.change(|far| {
            far.remove_workload(&uid("web"));
            far.upsert_policy(namespace_policy("no", PolicyAction::Deny, vec![when(not_alice())]));
        });
        assert_eq!(bob.end_within(SOON).await, None);
        assert_eq!(bob.echo().await, Ok(()));
        mesh.change_web(|_| {});
        assert_eq!(bob.end_within(SOON).await, CUT, "it is back, and so are its policies");
        assert_eq!(outside.end_within(SOON).await, CUT);
        mesh.far.withdraw(&uid("web")).await;
        assert_eq!(alice.end_within(SOON).await, CUT);
    });
}

#[test]
fn an_unknown_policy_is_borne_for_a_second_and_then_cuts() {
    play(async |mesh| {
        let [alice, _bob, _outside] = all_talk(mesh).await;
        mesh.change_web(|web| web.authorization_policies = vec!["shop/late".to_owned()]);
        assert_eq!(alice.end_within(Duration::from_millis(900)).await, None);
        // Another publication begins no new second.
        mesh.change_web(|web| {
            web.authorization_policies = vec!["shop/late".to_owned(), "shop/later".to_owned()];
        });
        assert_eq!(alice.end_within(2 * SOON).await, CUT);
        for record in mesh.records(3).await {
            assert_eq!(record.reason.policy(), Some(("shop/late", None)));
        }
    });
}

#[test]
fn an_unknown_policy_that_comes_within_a_second_decides() {
    play(async |mesh| {
        let [alice, bob, _outside] = all_talk(mesh).await;
        mesh.change_web(|web| web.authorization_policies = vec!["shop/late".to_owned()]);
        assert_eq!(bob.end_within(SOON).await, None);
        let late = policy("late", PolicyAction::Deny, vec![when(not_alice())]);
        mesh.change(|far| far.upsert_policy(late));
        assert_eq!(bob.end_within(SOON).await, CUT);
        assert_eq!(alice.end_within(Duration::from_secs(2)).await, None);
        assert_eq!(alice.echo().await, Ok(()));
    });
}

#[test]
fn a_connection_that_is_being_dialled_is_cut_too() {
    play(async |mesh| {
        // What is held back until its policy is known is dialled when nobody answers any more.
        mesh.change_web(|web| web.authorization_policies = vec!["shop/late".to_owned()]);
        let dialling = [mesh.connect("alice").await, mesh.connect("outside").await];
        sleep(SOON).await;
        mesh.answer_dials(false);
        mesh.change(|far| far.upsert_policy(policy("late", PolicyAction::Deny, Vec::new())));
        for call in &dialling {
            assert_eq!(call.end_within(SOON).await, None);
        }
        mesh.change(|far| {
            far.upsert_policy(namespace_policy("no", PolicyAction::Deny, vec![everything()]));
        });
        for call in &dialling {
            assert_eq!(call.end_within(SOON).await, CUT);
        }
        for record in mesh.records(2).await {
            assert!(matches!(record.reason, CloseReason::PolicyChanged(_)), "{:?}", record.reason);
        }
        assert_eq!(mesh.application_saw(), (0, 0));
        mesh.answer_dials(true);
    });
}
