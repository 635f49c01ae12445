//! New connections.

use std::{io::ErrorKind, time::Duration};

use ringway_engine::{
    runtime::sleep,
    snapshot::{
        ApplicationTunnel, ApplicationTunnelProtocol, PolicyAction, PolicyMatch, TextMatch,
    },
    telemetry::{Direction, SecurityPolicy},
};

use crate::mesh::{PORT, everything, namespace_policy, play, policy, uid, when};

const REFUSED: Result<(), ErrorKind> = Err(ErrorKind::ConnectionReset);

fn from(account: &str) -> PolicyMatch {
    let principal = format!("cluster.local/ns/shop/sa/{account}");
    PolicyMatch { principals: vec![TextMatch::Exact(principal.into())], ..Default::default() }
}

#[test]
fn who_is_denied_never_reaches_the_application() {
    play(async |mesh| {
        let rules = vec![
            when(from("bob")),
            when(PolicyMatch { not_principals: vec![TextMatch::Presence], ..Default::default() }),
        ];
        mesh.change(|far| far.upsert_policy(namespace_policy("no", PolicyAction::Deny, rules)));
        assert_eq!(mesh.call("bob").await, REFUSED);
        assert_eq!(mesh.call("outside").await, REFUSED, "it has no identity");
        assert_eq!(mesh.application_saw(), (0, 0));
        for (record, rule) in mesh.records(2).await.iter().zip(0..) {
            assert_eq!(record.direction, Direction::Inbound);
            assert!(!record.early, "it is known who talks to whom");
            assert_eq!(record.reason.response_flag(), "DENY");
            assert_eq!(record.reason.policy(), Some(("shop/no", Some(rule))));
            assert_eq!(
                record.reason.to_string(),
                "connection closed due to policy rejection: explicitly denied by: shop/no"
            );
        }
        let series = mesh.far.telemetry().series();
        let denied = |security| {
            let of = series.iter().filter(|(labels, _)| {
                labels.response_flags == "DENY" && labels.security_policy == security
            });
            of.map(|(_, totals)| totals.closed).sum::<u64>()
        };
        assert_eq!((denied(SecurityPolicy::MutualTls), denied(SecurityPolicy::Unknown)), (1, 1));

        assert_eq!(mesh.call("alice").await, Ok(()), "others do");
        assert_eq!(mesh.application_saw(), (1, 4));
    });
}

#[test]
fn each_stream_of_a_tunnel_is_decided_anew() {
    play(async |mesh| {
        let open = mesh.connect("alice").await;
        assert_eq!(open.echo().await, Ok(()));
        let other_port = PolicyMatch { destination_ports: vec![PORT + 1], ..Default::default() };
        let allow = |one| namespace_policy("yes", PolicyAction::Allow, vec![when(one)]);
        mesh.change(|far| far.upsert_policy(allow(other_port)));
        assert_eq!(mesh.call("alice").await, REFUSED, "in the tunnel that is there");
        let port = PolicyMatch { destination_ports: vec![PORT], ..Default::default() };
        mesh.change(|far| far.upsert_policy(allow(port)));
        assert_eq!(mesh.call("alice").await, Ok(()), "and again");
    });
}

/// An application that tells for itself is dialled at its tunnel's port, whatever was asked for.
#[test]
fn policies_see_the_port_that_is_dialled() {
    const ASKED: u16 = PORT + 1;
    play(async |mesh| {
        mesh.change_web(|web| {
            let protocol = ApplicationTunnelProtocol::None;
            web.application_tunnel = Some(ApplicationTunnel { protocol, port: Some(PORT) });
        });
        //  denied port  what a call to ASKED gets
        for (port, want) in [(ASKED, Ok(())), (PORT, REFUSED)] {
            let denied = PolicyMatch { destination_ports: vec![port], ..Default::default() };
            let no = namespace_policy("no", PolicyAction::Deny, vec![when(denied)]);
            mesh.change(|far| far.upsert_policy(no));
            assert_eq!(mesh.connect_at("alice", ASKED).await.echo().await, want, "{port}");
        }
    });
}

#[test]
fn a_workload_that_nobody_knows_is_awaited_and_lets_nobody_in() {
    play(async |mesh| {
        assert_eq!(mesh.call("alice").await, Ok(()), "there is a tunnel");
        let known = mesh.application_saw();
        mesh.records(1).await;
        mesh.change(|far| {
            far.remove_workload(&uid("web"));
        });
        assert_eq!(mesh.call("alice").await, REFUSED);
        assert_eq!(mesh.call("outside").await, REFUSED);
        assert_eq!(mesh.application_saw(), known, "not a byte");
        for record in mesh.records(2).await {
            assert!(record.early, "{record:?}");
            assert!(record.duration >= Duration::from_secs(5), "{:?}", record.duration);
        }
        let early = mesh.connect("alice").await;
        sleep(Duration::from_secs(2)).await;
        mesh.change_web(|_| {});
        assert_eq!(early.echo().await, Ok(()), "it was told of in time");
    });
}

#[test]
fn a_policy_that_is_named_is_awaited_for_a_while() {
    play(async |mesh| {
        mesh.change_web(|web| web.authorization_policies = vec!["shop/late".to_owned()]);
        let call = mesh.connect("alice").await;
        sleep(Duration::from_millis(500)).await;
        assert_eq!(mesh.application_saw(), (0, 0));
        let late = policy("late", PolicyAction::Allow, vec![when(from("alice"))]);
        mesh.change(|far| far.upsert_policy(late));
        assert_eq!(call.echo().await, Ok(()));
        assert_eq!(mesh.call("outside").await, REFUSED);
    });
}

#[test]
fn a_policy_that_never_comes_lets_nobody_in() {
    play(async |mesh| {
        mesh.change_web(|web| web.authorization_policies = vec!["shop/late".to_owned()]);
        assert_eq!(mesh.call("alice").await, REFUSED);
        assert_eq!(mesh.call("outside").await, REFUSED);
        assert_eq!(mesh.application_saw(), (0, 0), "not a byte");
        for record in mesh.records(2).await {
            assert_eq!(record.reason.response_flag(), "DENY");
            assert_eq!(record.reason.policy(), Some(("shop/late", None)));
            assert!(record.duration >= Duration::from_secs(1), "{:?}", record.duration);
        }
    });
}

#[test]
fn a_policy_that_was_removed_breaks_nothing() {
    play(async |mesh| {
        mesh.change_web(|web| web.authorization_policies = vec!["shop/once".to_owned()]);
        let once = policy("once", PolicyAction::Allow, vec![when(from("alice"))]);
        mesh.change(|far| far.upsert_policy(once));
        let open = mesh.connect("alice").await;
        assert_eq!(open.echo().await, Ok(()));
        assert_eq!(mesh.call("bob").await, REFUSED);
        mesh.change(|far| {
            far.remove_policy("shop", "once");
        });
        assert_eq!(open.echo().await, Ok(()));
        assert_eq!(mesh.call("bob").await, Ok(()), "nothing says whom to allow");
    });
}

#[test]
fn a_dry_run_tells_and_decides_nothing() {
    play(async |mesh| {
        let mut soon = namespace_policy("soon", PolicyAction::Deny, vec![everything()]);
        soon.dry_run = true;
        mesh.change(|far| far.upsert_policy(soon));
        let open = mesh.connect("alice").await;
        assert_eq!(open.echo().await, Ok(()));
        assert_eq!(open.echo().await, Ok(()));
        let told = mesh.far.telemetry().next_dry_run().expect("it is told");
        assert_eq!(told.policy, Some(("shop/soon".into(), 0)));
        assert!(told.denied);
        assert_eq!(&*told.workload, crate::mesh::uid("web"));
        assert_eq!(mesh.far.telemetry().next_dry_run(), None, "once for each connection");
        assert_eq!(mesh.far.telemetry().dry_run_totals(), (1, 0));
    });
}

#[test]
fn what_a_workload_opens_is_not_its_policies_matter() {
    play(async |mesh| {
        // Of `web`, which dials as well as it serves.
        mesh.change(|far| {
            far.upsert_policy(namespace_policy("no", PolicyAction::Deny, vec![everything()]));
        });
        let outbound = mesh.connect_out().await;
        assert_eq!(outbound.echo().await, Ok(()));
    });
}
