//! The client, and the whole way from store to authority, against an authority in this process.

use std::time::{Duration, SystemTime};

use ringway_protocols::tls::Options;
use tonic::Code;

use super::fake::{FakeCa, Mood};
use super::*;
use crate::grpc::fake::{Server, run};
use crate::grpc::{Roots, TokenSource};
use crate::identity::certifier::{Authority, Certifier, IstioAuthority};
use crate::identity::store::{ASKED_MAX, CredentialChange, IdentityStore};

fn identity(name: &str) -> Identity {
    Identity::new("cluster.local", "shop", name).unwrap()
}

async fn served(ca: &FakeCa) -> (Server, IstioCa) {
    let server = ca.serve(0).await;
    let client = IstioCa::new(FakeCa::config(&server));
    (server, client)
}

fn certifier(client: IstioCa) -> Certifier {
    let store = IdentityStore::new(Options::default(), 7);
    Certifier::new(store, Authority::Istio(IstioAuthority::new(client).unwrap()))
}

/// Polls until `done`, and returns what changed: `+` for credentials, `-` for none any more.
async fn drive(certifier: &mut Certifier, mut done: impl FnMut(&Certifier) -> bool) -> Vec<String> {
    let mut changes = Vec::new();
    loop {
        for change in certifier.poll(SystemTime::now()) {
            changes.push(match change {
                CredentialChange::Set(held) => format!("+{}", held.identity().service_account()),
                CredentialChange::Removed(identity) => format!("-{}", identity.service_account()),
            });
        }
        if done(certifier) {
            return changes;
        }
        // What the authority holds back must be seen, too, when nothing changes here.
        let _ = timeout(Duration::from_millis(5), certifier.changed(|| None)).await;
    }
}

fn none_lacks(certifier: &Certifier) -> bool {
    certifier.counts().without == 0
}

#[test]
fn a_request_says_for_whom_and_how_long() {
    run(async {
        let ca = FakeCa::new();
        let server = ca.serve(0).await;
        let mut config = FakeCa::config(&server);
        config.lifetime = Duration::from_secs(3600);
        config.endpoint.token = Some(TokenSource::of_setting("who-we-are"));
        IstioCa::new(config.clone()).issue(&identity("web")).await.unwrap();
        config.impersonates = false;
        config.endpoint.token = None;
        IstioCa::new(config).issue(&identity("web")).await.unwrap();

        let uri = "spiffe://cluster.local/ns/shop/sa/web";
        let [shared, dedicated] = <[_; 2]>::try_from(ca.asked()).unwrap();
        assert_eq!((&*shared.uri, shared.impersonated.as_deref()), (uri, Some(uri)));
        assert_eq!((shared.seconds, shared.token.as_deref()), (3600, Some("Bearer who-we-are")));
        assert_eq!((&*dedicated.uri, dedicated.impersonated, dedicated.token), (uri, None, None));
    });
}

#[test]
fn what_is_no_good_is_refused_and_says_why() {
    run(async {
        let ca = FakeCa::new();
        let (_server, client) = served(&ca).await;
        let other_domain = "spiffe://elsewhere.local/ns/shop/sa/web";
        let root = client.issue(&identity("x")).await.unwrap().trust_anchors.remove(0);
        let root = certificate::to_pem(&root);
        let say = |texts: &[&str]| Mood::Say(texts.iter().map(|text| (*text).to_owned()).collect());
        //  name                    mood                                            want in the message
        let rows = [
            ("an empty chain", say(&[]), "an empty chain"),
            ("no root", say(&[&root]), "no root"),
            ("garbage", say(&["garbage", &root]), "part 1"),
            ("a root as leaf", say(&[&root, &root]), "cannot be used"),
            (
                "somebody else",
                Mood::SignFor("spiffe://cluster.local/ns/shop/sa/db"),
                "sa/db, not for",
            ),
            ("another trust domain", Mood::SignFor(other_domain), "elsewhere.local"),
            ("no identity", Mood::SignFor("https://example.com"), "names no SPIFFE identity"),
            ("another key", Mood::SignAnotherKey, "cannot be used"),
            ("expired at once", Mood::SignFrom(-60, -1), "has expired"),
            ("not valid yet", Mood::SignFrom(3600, 7200), "not valid before"),
            ("refused", Mood::Refuse(Code::Unauthenticated, "no such pod"), "no such pod"),
            ("forbidden", Mood::Refuse(Code::PermissionDenied, "no"), "trusted node accounts"),
            ("no authority", Mood::Refuse(Code::Unimplemented, "no"), "certificate authority?"),
            ("a broken authority", Mood::Refuse(Code::Internal, "no signer"), "no signer"),
            ("away", Mood::Refuse(Code::Unavailable, "starting"), "no certificates now"),
        ];
        let mut certifier = certifier(client);
        for (name, mood, want) in rows {
            ca.will([mood]);
            let who = identity("web");
            certifier.keep([], SystemTime::now());
            certifier.keep([&who], SystemTime::now());
            let failed = certifier.counts().failed;
            drive(&mut certifier, |certifier| certifier.counts().failed > failed).await;
            let status = certifier.statuses().remove(0);
            assert!(status.credentials.is_none(), "{name}");
            let why = status.error.expect(name);
            assert!(why.contains(want), "{name}: {why}");
            let away = certifier.counts().unreachable_since.is_some();
            assert_eq!(away, name == "away", "{name}");
        }
    });
}

#[test]
fn intermediates_are_sent_and_all_roots_are_trusted() {
    run(async {
        let ca = FakeCa::new();
        ca.use_intermediate();
        ca.add_root();
        let (_server, client) = served(&ca).await;
        let mut certifier = certifier(client);
        certifier.keep([&identity("web")], SystemTime::now());
        drive(&mut certifier, none_lacks).await;
        let held = certifier.statuses().remove(0).credentials.unwrap();
        assert_eq!((held.chain().len(), held.trust_anchors().len()), (2, 2));
    });
}

#[test]
fn each_identity_is_asked_for_once_and_few_at_a_time() {
    run(async {
        let ca = FakeCa::new();
        let (_server, client) = served(&ca).await;
        let mut certifier = certifier(client);
        let all: Vec<_> = (0..40).map(|n| identity(&format!("n{n:02}"))).collect();
        certifier.keep(&all, SystemTime::now());
        ca.hold();
        drive(&mut certifier, |_| ca.held() == ASKED_MAX).await;
        // Whatever happens meanwhile, nobody is asked for twice.
        for identity in &all {
            certifier.demand(identity, SystemTime::now());
        }
        certifier.keep(&all, SystemTime::now());
        certifier.poll(SystemTime::now());
        assert_eq!(certifier.counts().asked, ASKED_MAX);
        ca.let_go(true);
        drive(&mut certifier, |_| ca.held() == ASKED_MAX).await;
        ca.let_go(false);
        drive(&mut certifier, none_lacks).await;
        assert_eq!((ca.asked().len(), ca.most_held()), (all.len(), ASKED_MAX));
        assert_eq!(certifier.counts().issued, 40);
    });
}

#[test]
fn who_is_waited_for_comes_first() {
    run(async {
        let ca = FakeCa::new();
        let (_server, client) = served(&ca).await;
        let mut certifier = certifier(client);
        let all: Vec<_> = (0..30).map(|n| identity(&format!("n{n:02}"))).collect();
        ca.hold();
        certifier.keep(&all, SystemTime::now());
        drive(&mut certifier, |_| ca.held() == ASKED_MAX).await;
        // It is the last of those that are warmed up, and now a connection waits for it.
        certifier.demand(&all[29], SystemTime::now());
        ca.let_go(false);
        drive(&mut certifier, none_lacks).await;
        let order = ca.asked_for();
        assert_eq!(order[ASKED_MAX], "n29", "{order:?}");
    });
}

#[test]
fn who_is_forgotten_while_asked_for_gets_nothing() {
    run(async {
        let ca = FakeCa::new();
        let (_server, client) = served(&ca).await;
        let mut certifier = certifier(client);
        let (a, b) = (identity("a"), identity("b"));
        ca.hold();
        certifier.keep([&a, &b], SystemTime::now());
        drive(&mut certifier, |_| ca.held() == 2).await;
        assert!(certifier.keep([&b], SystemTime::now()).is_empty());
        ca.let_go(false);
        let changes = drive(&mut certifier, |certifier| certifier.counts().asked == 0).await;
        assert_eq!(changes, ["+b"]);
        assert_eq!(certifier.statuses().len(), 1);
    });
}

#[test]
fn an_authority_that_comes_back_is_asked_within_seconds() {
    run(async {
        let ca = FakeCa::new();
        let (server, client) = served(&ca).await;
        let port = server.address.port();
        server.stop();
        drop(server);
        let mut certifier = certifier(client);
        let all: Vec<_> = (0..20).map(|n| identity(&format!("n{n:02}"))).collect();
        certifier.keep(&all, SystemTime::now());
        let away = |certifier: &Certifier| certifier.counts().unreachable >= 10;
        drive(&mut certifier, away).await;
        let counts = certifier.counts();
        assert!(counts.unreachable_since.is_some() && counts.issued == 0, "{counts:?}");
        let why = certifier.statuses().into_iter().find_map(|status| status.error).unwrap();
        assert!(why.contains("nothing listens on that port"), "{why}");

        let back = std::time::Instant::now();
        let _server = ca.serve(port).await;
        drive(&mut certifier, none_lacks).await;
        assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
        assert_eq!(certifier.counts().unreachable_since, None);
        assert!(certifier.statuses().iter().all(|status| status.error.is_none()));
    });
}

#[test]
fn an_authority_that_hangs_is_let_go_of() {
    run(async {
        let ca = FakeCa::new();
        let server = ca.serve(0).await;
        let mut config = FakeCa::config(&server);
        config.answer_timeout = Duration::from_millis(200);
        let client = IstioCa::new(config);
        client.issue(&identity("web")).await.unwrap();
        let before = client.channel().await.unwrap();
        ca.will([Mood::Hang]);
        let refusal = client.issue(&identity("web")).await.err().unwrap();
        assert!(matches!(&refusal, Refusal::Unreachable(why) if why.contains("no answer")));
        client.issue(&identity("web")).await.unwrap();
        assert!(!client.channel().await.unwrap().is_same(&before), "another connection");
    });
}

#[test]
fn who_is_refused_and_has_no_token_hears_that_none_was_sent() {
    run(async {
        let ca = FakeCa::new();
        let server = ca.serve(0).await;
        for (token, want) in [(None, true), (Some(TokenSource::of_setting("ours")), false)] {
            let mut config = FakeCa::config(&server);
            config.endpoint.token = token;
            ca.will([Mood::Refuse(Code::Unauthenticated, "authentication failure")]);
            let refusal = IstioCa::new(config).issue(&identity("web")).await.err().unwrap();
            let Refusal::Refused(why) = &refusal else { panic!("{refusal:?}") };
            assert!(why.contains("authentication failure"), "{why}");
            assert_eq!(why.contains("no token was sent"), want, "{why}");
        }
    });
}

#[test]
fn without_a_token_nobody_is_asked() {
    run(async {
        let (ca, home) = (FakeCa::new(), tempfile::tempdir().unwrap());
        let server = ca.serve(0).await;
        let token = home.path().join("istio-token");
        let mut config = FakeCa::config(&server);
        config.endpoint.token = Some(TokenSource::File(token.clone()));
        let client = IstioCa::new(config);
        let missing = client.issue(&identity("web")).await.err().unwrap();
        assert!(matches!(&missing, Refusal::Unreachable(why) if why.contains("istio-token")));
        assert!(ca.asked().is_empty());
        std::fs::write(&token, "now").unwrap();
        client.issue(&identity("web")).await.unwrap();
        assert_eq!(ca.asked()[0].token.as_deref(), Some("Bearer now"));
    });
}

#[test]
fn new_roots_of_one_certificate_reach_all_others() {
    run(async {
        let ca = FakeCa::new();
        let (_server, client) = served(&ca).await;
        let mut certifier = certifier(client);
        let all: Vec<_> = (0..12).map(|n| identity(&format!("n{n:02}"))).collect();
        certifier.keep(&all, SystemTime::now());
        drive(&mut certifier, none_lacks).await;
        let trusted = |certifier: &Certifier| -> Vec<usize> {
            let statuses = certifier.statuses();
            statuses
                .iter()
                .map(|one| one.credentials.as_ref().unwrap().trust_anchors().len())
                .collect()
        };
        assert!(trusted(&certifier).iter().all(|roots| *roots == 1));

        ca.add_root();
        let new = identity("new");
        certifier.keep(all.iter().chain([&new]), SystemTime::now());
        ca.hold();
        drive(&mut certifier, |_| ca.held() == 1).await;
        ca.let_go(true);
        // Before anybody has a new certificate, everybody trusts the new root.
        let changes = drive(&mut certifier, |_| ca.held() == ASKED_MAX).await;
        assert_eq!(changes.len(), 13);
        assert!(trusted(&certifier).iter().all(|roots| *roots == 2), "{:?}", trusted(&certifier));
        ca.let_go(false);
        drive(&mut certifier, |certifier| certifier.counts().issued == 25).await;
        assert_eq!((ca.asked().len(), certifier.counts().roots_learned), (25, 1));
        // And that was all: nobody is renewed again for it.
        assert!(certifier.next_deadline().unwrap() > SystemTime::now() + Duration::from_secs(3600));
    });
}

#[test]
fn other_roots_in_the_file_make_a_new_connection_and_new_certificates() {
    run(async {
        let (ca, home) = (FakeCa::new(), tempfile::tempdir().unwrap());
        // As Kubernetes does it: the file is a link to a directory that is swapped as a whole.
        let write = |version: &str, text: &str| {
            std::fs::create_dir(home.path().join(version)).unwrap();
            std::fs::write(home.path().join(version).join("root-cert.pem"), text).unwrap();
            std::os::unix::fs::symlink(version, home.path().join("..data_tmp")).unwrap();
            std::fs::rename(home.path().join("..data_tmp"), home.path().join("..data")).unwrap();
        };
        write("v1", "one");
        let file = home.path().join("root-cert.pem");
        std::os::unix::fs::symlink("..data/root-cert.pem", &file).unwrap();
        let server = ca.serve(0).await;
        let mut config = FakeCa::config(&server);
        config.endpoint.roots = Roots::File(file);
        let mut certifier = certifier(IstioCa::new(config));
        let (a, b) = (identity("a"), identity("b"));
        certifier.keep([&a, &b], SystemTime::now());
        drive(&mut certifier, none_lacks).await;
        // The same content in another place is no change.
        write("v2", "one");
        let quiet = timeout(Duration::from_secs(1), certifier.changed(|| None)).await;
        assert!(quiet.is_err() && ca.asked().len() == 2);

        write("v3", "two");
        drive(&mut certifier, |certifier| certifier.counts().issued == 4).await;
        assert_eq!(ca.asked().len(), 4);
    });
}

#[test]
fn a_connection_is_kept_when_the_new_roots_are_no_good() {
    run(async {
        let (ca, home) = (FakeCa::new(), tempfile::tempdir().unwrap());
        let pki = crate::grpc::fake::ServerPki::new(&["localhost"]);
        let server = ca.serve_tls(&pki).await;
        let file = home.path().join("root-cert.pem");
        std::fs::write(&file, &pki.root).unwrap();
        let mut config = FakeCa::config(&server);
        config.endpoint.uri =
            format!("https://localhost:{}", server.address.port()).parse().unwrap();
        config.endpoint.roots = Roots::File(file.clone());
        let client = IstioCa::new(config);
        client.issue(&identity("web")).await.unwrap();
        let before = client.channel().await.unwrap();

        std::fs::write(&file, "garbage").unwrap();
        assert!(client.look_at_roots(), "other content");
        client.issue(&identity("web")).await.unwrap();
        assert!(client.channel().await.unwrap().is_same(&before), "the one before is kept");

        std::fs::write(&file, format!("{}\n", pki.root)).unwrap();
        assert!(client.look_at_roots() && !client.look_at_roots());
        client.issue(&identity("web")).await.unwrap();
        assert!(!client.channel().await.unwrap().is_same(&before), "made anew");
    });
}

#[test]
fn a_short_life_is_renewed_in_time_and_survives_a_refusal() {
    run(async {
        let ca = FakeCa::new();
        ca.set_lifetime(Duration::from_secs(4));
        let (_server, client) = served(&ca).await;
        let mut certifier = certifier(client);
        certifier.keep([&identity("web")], SystemTime::now());
        drive(&mut certifier, none_lacks).await;
        ca.will([Mood::Refuse(Code::Unauthenticated, "the pod cache lags")]);
        let changes = drive(&mut certifier, |certifier| certifier.counts().failed == 1).await;
        assert!(changes.is_empty(), "the valid one stays: {changes:?}");
        assert!(certifier.statuses()[0].credentials.is_some());
        let changes = drive(&mut certifier, |certifier| certifier.counts().issued == 2).await;
        assert_eq!(changes, ["+web"]);
        assert_eq!(certifier.statuses()[0].error, None);
    });
}
