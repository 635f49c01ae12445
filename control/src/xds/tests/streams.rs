//! The whole client against a server: streams that begin, end, break and begin again.

use tonic::Status;

use super::mesh::{Told, pod, response, uid};
use super::server::{Server, client, run, until};
use crate::xds::end::End;
use crate::xds::state::Kind;
use crate::xds::{Outage, Refused, Termination};

#[test]
fn what_is_told_is_known_and_answered() {
    run(async {
        let mut server = Server::start().await;
        let client = client(server.address, false);
        let (mut stream, [addresses, authorizations]) = server.stream().await;
        assert_eq!(addresses.type_url, Kind::Address.type_url());
        assert_eq!(authorizations.type_url, Kind::Authorization.type_url());
        assert_eq!(stream.token.as_deref(), Some("Bearer the-token"));
        assert!(!client.updates().borrow().is_synced);
        let told = response(Kind::Address, "n1", vec![pod("a", "10.0.0.1").told("1")], &[]);
        let bytes = told.resources[0].resource.as_ref().unwrap().value.len() as u64;
        let answer = stream.tell(told).await;
        assert_eq!((&*answer.response_nonce, answer.error_detail), ("n1", None));
        let update = until(&client, |update| update.snapshot.workload_count() == 1).await;
        assert!(!update.is_synced);
        assert!(update.local.find("a", "shop", "default").is_some());
        stream.tell(response(Kind::Authorization, "n2", Vec::new(), &[])).await;
        until(&client, |update| update.is_synced).await;
        let counted: Vec<_> = client.counts().messages().collect();
        let url = Kind::Address.type_url();
        assert_eq!(counted[0], (url, 1, bytes));
        assert_eq!(counted[1], (Kind::Authorization.type_url(), 1, 0));
    });
}

#[test]
fn every_end_is_followed_by_a_stream_that_goes_on_from_what_is_known() {
    run(async {
        let mut server = Server::start().await;
        let client = client(server.address, false);
        let (mut stream, _) = server.stream().await;
        stream.greet().await;
        let closing = Status::unavailable("transport is closing");
        let ends = [
            ("in order", None, Termination::Complete),
            ("restarts", Some(closing), Termination::Reconnect),
            ("complains", Some(Status::permission_denied("no")), Termination::Error),
        ];
        for (name, end, reason) in ends {
            let before = client.counts().terminations(reason);
            stream.end(end).await;
            let (next, [addresses, authorizations]) = server.stream().await;
            let known = addresses.initial_resource_versions;
            assert_eq!(known, [(uid("a"), "1".to_owned())].into(), "{name}");
            let known = authorizations.initial_resource_versions;
            assert_eq!(known, [("shop/p".to_owned(), String::new())].into(), "{name}");
            assert_eq!(client.counts().terminations(reason), before + 1, "{name}");
            let update = client.updates().borrow().clone();
            assert!(update.is_synced && update.snapshot.workload_count() == 1, "{name}");
            stream = next;
        }
    });
}

#[test]
fn a_control_plane_that_was_away_is_found_again() {
    run(async {
        let mut server = Server::start().await;
        let address = server.address;
        let client = client(address, false);
        let (mut stream, _) = server.stream().await;
        stream.greet().await;
        drop((stream, server));
        // Refused a few times, so that the delay has grown.
        let refused = || client.counts().terminations(Termination::ConnectionError);
        while refused() < 3 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let known = client.updates().borrow().clone();
        assert_eq!(known.snapshot.workload_count(), 1, "it goes on with what it knows");
        let mut server = Server::start_at(address).await;
        let back = std::time::Instant::now();
        let (mut stream, _) = server.stream().await;
        stream.tell(response(Kind::Address, "n", Vec::new(), &[&uid("a")])).await;
        until(&client, |update| update.snapshot.workload_count() == 0).await;
        assert!(back.elapsed().as_secs() < 5, "a working state within five seconds");
    });
}

#[test]
fn a_response_with_bad_resources_ends_no_stream() {
    run(async {
        let mut server = Server::start().await;
        let client = client(server.address, false);
        let (mut stream, _) = server.stream().await;
        for round in 0..20 {
            let mut bad = pod("bad", "10.0.0.1");
            bad.tunnel_protocol = 7;
            let good = pod(&format!("good-{round}"), "10.0.0.2");
            let told = vec![bad.told("1"), good.told("1")];
            let answer = stream.tell(response(Kind::Address, "n", told, &[])).await;
            let complaint = answer.error_detail.unwrap().message;
            assert_eq!(complaint, "c1//Pod/shop/bad: tunnel_protocol is unknown: 7");
        }
        until(&client, |update| update.snapshot.workload_count() == 20).await;
        assert_eq!(client.counts().refused(), 20);
        assert!(Termination::ALL.iter().all(|reason| client.counts().terminations(*reason) == 0));
    });
}

#[test]
fn who_demands_finds_what_was_told() {
    run(async {
        let mut server = Server::start().await;
        let client = client(server.address, true);
        let (mut stream, [addresses, _]) = server.stream().await;
        assert_eq!(addresses.resource_names_subscribe, ["*"]);
        let asked = tokio::spawn(client.demand("/10.0.0.1"));
        assert_eq!(stream.request().await.resource_names_subscribe, ["/10.0.0.1"]);
        let mut told = pod("a", "10.0.0.1").told("1");
        told.aliases = vec!["/10.0.0.1".to_owned()];
        stream.tell(response(Kind::Address, "n", vec![told], &[])).await;
        let revision = asked.await.unwrap().unwrap();
        let update = client.updates().borrow().clone();
        assert!(update.revision >= revision);
        assert!(update.snapshot.workload_by_address("", "10.0.0.1".parse().unwrap()).is_some());
    });
}

#[test]
fn who_demands_without_a_stream_is_asked_for_by_the_next() {
    run(async {
        let mut server = Server::start().await;
        let client = client(server.address, true);
        let (stream, _) = server.stream().await;
        drop(stream);
        let asked = tokio::spawn(client.demand("shop/web.example"));
        tokio::task::yield_now().await;
        client.hurry();
        let (mut stream, [addresses, _]) = server.stream().await;
        if !addresses.initial_resource_versions.contains_key("shop/web.example") {
            // It was a moment later than the stream.
            assert_eq!(stream.request().await.resource_names_subscribe, ["shop/web.example"]);
        }
        stream.tell(response(Kind::Address, "n", Vec::new(), &["shop/web.example"])).await;
        assert!(asked.await.unwrap().is_ok());
    });
}

#[test]
fn nobody_waits_for_ever() {
    run(async {
        let mut server = Server::start().await;
        let client = client(server.address, true);
        let (mut stream, _) = server.stream().await;
        let asked = tokio::spawn(client.demand("/10.0.0.1"));
        stream.request().await;
        assert_eq!(asked.await.unwrap(), Err(Refused::TooLate));
    });
}

#[test]
fn an_outage_is_told_when_its_reason_changes_and_rarely_otherwise() {
    let refused = || End::Unreachable("nothing listens".to_owned()).reason();
    let too_large = || End::Status(Status::out_of_range("too large")).reason();
    let mut outage = Outage::default();
    let told: Vec<u64> = (1..=20).filter(|_| outage.is_news(refused())).collect();
    assert_eq!(told, [1, 2, 4, 8, 16]);
    assert!(outage.is_news(too_large()), "nobody would look for it behind the other");
    assert!(!outage.is_news(too_large()));
    assert!(outage.is_news(refused()));
}
