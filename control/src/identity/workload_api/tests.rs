//! The client against an agent in this process.

use std::cell::RefCell;

use prost::Message;
use ringway_protocols::tls::Options;
use tokio::net::UnixListener;
use tokio::sync::mpsc::UnboundedSender;

use super::message::ToldSvid;
use super::*;
use crate::grpc::fake::{Answer, run, serve_unix, stream as pushes};
use crate::identity::certifier::{Authority, Certifier};
use crate::identity::embedded_ca::{CaOptions, EmbeddedCa};
use crate::identity::store::IdentityStore;

/// That of the authority below.
const LEAF_LIFETIME: Duration = Duration::from_secs(24 * 3600);

fn identity(name: &str) -> Identity {
    Identity::new("cluster.local", "shop", name).unwrap()
}

/// An agent with an authority of its own; it notes the streams that are open.
struct Agent {
    home: tempfile::TempDir,
    ca: EmbeddedCa,
    open: Rc<RefCell<Vec<UnboundedSender<Vec<u8>>>>>,
    denies: Rc<std::cell::Cell<bool>>,
}

impl Agent {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("ca");
        let ca = EmbeddedCa::open(&path, CaOptions::default(), SystemTime::now()).unwrap();
        Self { home, ca, open: Rc::default(), denies: Rc::default() }
    }

    fn socket(&self) -> PathBuf {
        self.home.path().join("agent.sock")
    }

    fn listen(&self) {
        let _gone = std::fs::remove_file(self.socket());
        let (open, denies) = (Rc::clone(&self.open), Rc::clone(&self.denies));
        serve_unix(UnixListener::bind(self.socket()).unwrap(), move |call| {
            assert_eq!(call.path, METHOD);
            if call.headers.get(HEADER.0).is_none_or(|value| value != HEADER.1) {
                return Answer::Status(Code::InvalidArgument, "security header missing");
            }
            if denies.get() {
                return Answer::Status(Code::PermissionDenied, "no identity issued");
            }
            let (sender, answer) = pushes();
            open.borrow_mut().push(sender);
            answer
        });
    }

    fn svid(&self, name: &str) -> ToldSvid {
        let material = self.ca.issue(&identity(name), SystemTime::now()).unwrap();
        ToldSvid {
            spiffe_id: identity(name).to_string(),
            x509_svid: concatenated(&material.chain),
            x509_svid_key: material.key.secret_der().to_vec(),
            bundle: concatenated(&material.trust_anchors),
        }
    }

    async fn push(&self, svids: Vec<ToldSvid>) {
        while self.open.borrow().is_empty() {
            sleep(Duration::from_millis(2)).await;
        }
        let push = Response { svids, crl: Vec::new() }.encode_to_vec();
        self.open.borrow().last().unwrap().send(push).unwrap();
    }
}

fn concatenated(certificates: &[rustls_pki_types::CertificateDer<'_>]) -> Vec<u8> {
    certificates.iter().flat_map(|certificate| certificate.to_vec()).collect()
}

fn certifier(agent: &Agent, names: &[&str]) -> Certifier {
    let store = IdentityStore::new(Options::default(), 7);
    let client = WorkloadApi::start(agent.socket());
    let mut certifier = Certifier::new(store, Authority::Workload(client));
    let identities: Vec<_> = names.iter().map(|name| identity(name)).collect();
    certifier.keep(&identities, SystemTime::now());
    certifier
}

async fn drive(certifier: &mut Certifier, mut done: impl FnMut(&Certifier) -> bool) -> usize {
    let mut changes = 0;
    loop {
        changes += certifier.poll(SystemTime::now()).len();
        if done(certifier) {
            return changes;
        }
        certifier.changed(|| None).await;
    }
}

fn serials(certifier: &Certifier) -> Vec<Option<String>> {
    let serial = |status: super::super::IdentityStatus| {
        let held = status.credentials?;
        Some(certificate::fingerprint(&held.chain()[0]))
    };
    certifier.statuses().into_iter().map(serial).collect()
}

fn error(certifier: &Certifier) -> String {
    certifier.statuses().into_iter().find_map(|status| status.error).unwrap_or_default()
}

#[test]
fn identities_come_from_the_agent_and_are_replaced_by_the_next_push() {
    run(async {
        let agent = Agent::new();
        agent.listen();
        let mut certifier = certifier(&agent, &["a", "b"]);
        agent.push(vec![agent.svid("b"), agent.svid("a"), agent.svid("stranger")]).await;
        drive(&mut certifier, |certifier| certifier.counts().without == 0).await;
        let before = serials(&certifier);
        // The same again is no change.
        certifier.poll(SystemTime::now());
        assert_eq!((serials(&certifier), certifier.counts().issued), (before.clone(), 2));
        agent.push(vec![agent.svid("a"), agent.svid("b")]).await;
        drive(&mut certifier, |certifier| {
            serials(certifier).iter().zip(&before).all(|(now, before)| now != before)
        })
        .await;
    });
}

#[test]
fn an_agent_that_comes_later_or_restarts_is_found() {
    run(async {
        let agent = Agent::new();
        let mut certifier = certifier(&agent, &["a"]);
        drive(&mut certifier, |certifier| error(certifier).contains("no such socket")).await;
        agent.listen();
        agent.push(vec![agent.svid("a")]).await;
        drive(&mut certifier, |certifier| certifier.counts().without == 0).await;
        let before = serials(&certifier);
        // It restarts: what is held stays, and is followed by what the new one gives.
        agent.open.borrow_mut().clear();
        agent.push(vec![agent.svid("a")]).await;
        drive(&mut certifier, |certifier| {
            assert_eq!(certifier.counts().without, 0);
            serials(certifier) != before
        })
        .await;
    });
}

#[test]
fn what_ends_while_the_agent_is_away_is_told_as_that() {
    run(async {
        let agent = Agent::new();
        agent.listen();
        let mut client = WorkloadApi::start(agent.socket());
        agent.push(vec![agent.svid("a")]).await;
        while client.told.borrow().why.is_some() {
            client.changed().await;
        }
        let (now, after_its_end) = (SystemTime::now(), SystemTime::now() + 2 * LEAF_LIFETIME);
        // While the agent is there, it is the store that says what is wrong with what it gives.
        client.issue(&identity("a"), after_its_end).unwrap();
        agent.open.borrow_mut().clear();
        while client.told.borrow().why.is_none() {
            client.changed().await;
        }
        client.issue(&identity("a"), now).unwrap();
        let Err(Refusal::Unreachable(why)) = client.issue(&identity("a"), after_its_end) else {
            panic!("it has ended, and nobody is there");
        };
        assert!(why.contains("no SPIFFE agent at"), "{why}");
    });
}

/// As others have compiled them.
#[test]
fn messages_are_those_of_the_specification() {
    use crate::proto::spiffe::{X509svid, X509svidResponse};

    let svid = X509svid {
        spiffe_id: identity("a").to_string(),
        x509_svid: vec![1],
        x509_svid_key: vec![2],
        bundle: vec![3],
        hint: "internal".to_owned(),
    };
    let federated_bundles = [("spiffe://other".to_owned(), vec![4])].into();
    let push = X509svidResponse { svids: vec![svid], crl: vec![vec![5]], federated_bundles };
    let read = Response::decode(&*push.encode_to_vec()).unwrap();
    let want = ToldSvid {
        spiffe_id: identity("a").to_string(),
        x509_svid: vec![1],
        x509_svid_key: vec![2],
        bundle: vec![3],
    };
    assert_eq!((&read.svids, &read.crl), (&vec![want], &vec![vec![5]]));
    let service = crate::proto::spiffe::spiffe_workload_api_server::SERVICE_NAME;
    assert_eq!(METHOD, format!("/{service}/FetchX509SVID"));
}

#[test]
fn what_it_does_not_give_is_said_with_what_it_gives() {
    run(async {
        let agent = Agent::new();
        agent.listen();
        let mut certifier = certifier(&agent, &["a"]);
        agent.push(vec![agent.svid("b")]).await;
        drive(&mut certifier, |certifier| error(certifier).contains("register an entry")).await;
        assert!(error(&certifier).contains("but spiffe://cluster.local/ns/shop/sa/b"));
        // Once it does, there is no long pause.
        agent.push(vec![agent.svid("a")]).await;
        drive(&mut certifier, |certifier| certifier.counts().without == 0).await;

        let agent = Agent::new();
        agent.denies.set(true);
        agent.listen();
        let mut certifier = self::certifier(&agent, &["a"]);
        drive(&mut certifier, |certifier| error(certifier).contains("no identity for us")).await;
    });
}

#[test]
fn keys_are_taken_or_wiped() {
    let agent = Agent::new();
    let good = agent.svid("a");
    let key = good.x509_svid_key.clone();
    let nobodys = ToldSvid { spiffe_id: "spiffe://x/nobody".to_owned(), ..agent.svid("b") };
    let mut push = Response { svids: vec![good, nobodys], crl: Vec::new() };
    let svid = Svid::read(&mut push.svids[0]).unwrap();
    assert_eq!(svid.material().key.secret_der(), key);
    assert!(push.svids[0].x509_svid_key.is_empty(), "it has one owner");
    assert!(!push.svids[1].x509_svid_key.is_empty());
    // What happens to it when it is dropped.
    push.wipe();
    assert!(push.svids[1].x509_svid_key.is_empty());
}

#[test]
fn what_cannot_be_used_is_left_out() {
    let agent = Agent::new();
    let good = || agent.svid("a");
    let with = |change: &dyn Fn(&mut ToldSvid)| {
        let mut svid = good();
        change(&mut svid);
        svid
    };
    //  name                    svid                                                     usable
    let rows = [
        ("as it should be", good(), true),
        ("no SPIFFE ID of ours", with(&|svid| svid.spiffe_id = "spiffe://x/other".into()), false),
        ("no ID", with(&|svid| svid.spiffe_id.clear()), false),
        ("no chain", with(&|svid| svid.x509_svid.clear()), false),
        ("a chain cut off", with(&|svid| svid.x509_svid.truncate(99)), false),
        ("garbage after it", with(&|svid| svid.x509_svid.extend(b"garbage")), false),
        ("no key", with(&|svid| svid.x509_svid_key.clear()), false),
        ("no bundle", with(&|svid| svid.bundle.clear()), false),
        ("garbage as bundle", with(&|svid| svid.bundle = b"garbage".to_vec()), false),
    ];
    for (name, svid, usable) in rows {
        let told = read(Response { svids: vec![svid, agent.svid("z")], crl: Vec::new() });
        assert_eq!(told.svids.contains_key(&identity("a")), usable, "{name}");
        assert!(told.svids.contains_key(&identity("z")), "{name}: the other stays");
    }
    // A key of somebody else's is found out when the certificate is put to use.
    let mut swapped = ToldSvid { x509_svid_key: agent.svid("z").x509_svid_key, ..good() };
    let material = Svid::read(&mut swapped).unwrap().material();
    ringway_protocols::tls::Credentials::new(material, &Options::default()).unwrap_err();
}

#[test]
fn an_agent_is_named_by_its_socket() {
    //  setting                             want
    let rows = [
        ("unix:///run/spire/agent.sock", Ok("/run/spire/agent.sock")),
        ("unix:/run/spire/agent.sock", Ok("/run/spire/agent.sock")),
        ("unix://run/agent.sock", Err("absolute")),
        ("unix:", Err("absolute")),
        ("tcp://127.0.0.1:8081", Err("socket only")),
        ("/run/spire/agent.sock", Err("unix:///PATH")),
        ("", Err("unix:///PATH")),
    ];
    for (setting, want) in rows {
        match (socket_path(setting), want) {
            (Ok(path), Ok(want)) => assert_eq!(path, Path::new(want), "{setting}"),
            (Err(why), Err(want)) => assert!(why.contains(want), "{setting}: {why}"),
            (got, _) => panic!("{setting}: {got:?}"),
        }
    }
}
