//! SPIFFE agents, asked by clients that know nothing of them but the Workload API.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ringway_control::grpc::{Channel, connect_unix};
use ringway_control::proto::spiffe::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use ringway_control::proto::spiffe::{
    X509BundlesRequest, X509svid, X509svidRequest, X509svidResponse,
};
use serde_json::{Value, json};
use tonic::{Code, Status, Streaming};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::support::{run, wait_until};

const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";
const DB: &str = "spiffe://cluster.local/ns/default/sa/db";

/// Two agents in a process of their own.
struct Agents {
    directory: tempfile::TempDir,
    process: Child,
}

impl Agents {
    fn start() -> Agents {
        let directory = tempfile::tempdir().unwrap();
        let socket = |host: &str| format!("{host}={}", socket(directory.path(), host).display());
        let process = Command::new(env!("CARGO_BIN_EXE_ringway-test-plane"))
            .args(["spiffe", "--agent", &socket("host-a"), "--agent", &socket("host-b")])
            .args(["--identity", &format!("host-a={WEB}"), "--directory"])
            .arg(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let agents = Agents { directory, process };
        let orders = agents.directory.path().join(ringway_test_plane::ORDERS_SOCKET);
        wait_until("they take orders", || {
            ringway_test_plane::tell(&orders, &json!({"order": "status"}).to_string()).is_ok()
        });
        agents
    }

    fn tell(&self, order: Value) -> Value {
        let socket = self.directory.path().join(ringway_test_plane::ORDERS_SOCKET);
        ringway_test_plane::tell(&socket, &order.to_string()).unwrap()
    }

    async fn client(&self, host: &str, header: &str) -> SpiffeWorkloadApiClient<Channel> {
        let socket = socket(self.directory.path(), host);
        let channel = connect_unix(&socket, &[("workload.spiffe.io", header)]).await;
        SpiffeWorkloadApiClient::new(channel.unwrap())
    }

    async fn fetch(&self, host: &str) -> Streaming<X509svidResponse> {
        let mut client = self.client(host, "true").await;
        client.fetch_x509svid(X509svidRequest {}).await.unwrap().into_inner()
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn socket(directory: &Path, host: &str) -> PathBuf {
    directory.join(format!("{host}.sock"))
}

/// The only identity of the next push.
async fn only(pushes: &mut Streaming<X509svidResponse>) -> X509svid {
    let mut svids = pushes.message().await.unwrap().unwrap().svids;
    assert_eq!(svids.len(), 1, "{svids:?}");
    svids.remove(0)
}

async fn refusal(pushes: &mut Streaming<X509svidResponse>) -> Status {
    pushes.message().await.unwrap_err()
}

fn certificates(mut der: &[u8]) -> Vec<X509Certificate<'_>> {
    let mut certificates = Vec::new();
    while !der.is_empty() {
        let (rest, certificate) = X509Certificate::from_der(der).unwrap();
        certificates.push(certificate);
        der = rest;
    }
    certificates
}

#[test]
fn an_identity_comes_with_its_chain_and_the_roots() {
    run(async {
        let agents = Agents::start();
        let svid = only(&mut agents.fetch("host-a").await).await;
        assert_eq!(svid.spiffe_id, WEB);
        let (chain, bundle) = (certificates(&svid.x509_svid), certificates(&svid.bundle));
        let ([leaf, intermediate], [root]) = (&chain[..], &bundle[..]) else {
            panic!("{} and {} certificates", chain.len(), bundle.len());
        };
        leaf.verify_signature(Some(intermediate.public_key())).unwrap();
        intermediate.verify_signature(Some(root.public_key())).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert!(matches!(&names.value.general_names[..], [GeneralName::URI(WEB)]));
        let key = rcgen::KeyPair::try_from(&svid.x509_svid_key[..]).unwrap();
        assert_eq!(
            rcgen::PublicKeyData::der_bytes(&key),
            &*leaf.public_key().subject_public_key.data
        );

        let mut client = agents.client("host-a", "true").await;
        let mut bundles = client.fetch_x509_bundles(X509BundlesRequest {}).await.unwrap();
        let told = bundles.get_mut().message().await.unwrap().unwrap().bundles;
        assert_eq!(told, [("spiffe://cluster.local".to_owned(), svid.bundle)].into());
    });
}

#[test]
fn who_does_not_say_that_it_means_an_agent_is_refused() {
    run(async {
        let agents = Agents::start();
        for header in ["false", ""] {
            let mut client = agents.client("host-a", header).await;
            let refused = client.fetch_x509svid(X509svidRequest {}).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{header}: {refused}");
        }
        let channel = connect_unix(&socket(agents.directory.path(), "host-a"), &[]).await.unwrap();
        let mut client = SpiffeWorkloadApiClient::new(channel);
        let refused = client.fetch_x509_bundles(X509BundlesRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    });
}

#[test]
fn what_changes_is_pushed_to_those_whom_it_concerns() {
    run(async {
        let agents = Agents::start();
        let mut pushes = agents.fetch("host-a").await;
        let first = only(&mut pushes).await;
        // Whoever holds nothing denies; it is no affair of the other's.
        assert_eq!(refusal(&mut agents.fetch("host-b").await).await.code(), Code::PermissionDenied);
        let hold = |ids: &[&str]| json!({"order": "hold", "agent": "host-a", "identities": ids});
        agents.tell(hold(&[WEB, DB]));
        let both = pushes.message().await.unwrap().unwrap().svids;
        assert_eq!([&*both[0].spiffe_id, &*both[1].spiffe_id], [DB, WEB]);
        assert_eq!(both[1], first, "what is held already stays");
        agents.tell(hold(&[WEB]));
        assert_eq!(only(&mut pushes).await, first);
        agents.tell(json!({"order": "renew"}));
        let renewed = only(&mut pushes).await;
        assert_ne!(
            (&renewed.x509_svid, &renewed.x509_svid_key),
            (&first.x509_svid, &first.x509_svid_key)
        );
        assert_eq!(renewed.bundle, first.bundle);
        agents.tell(hold(&[]));
        assert_eq!(refusal(&mut pushes).await.code(), Code::PermissionDenied);
    });
}

#[test]
fn a_root_is_trusted_before_it_signs() {
    run(async {
        let agents = Agents::start();
        let mut pushes = agents.fetch("host-a").await;
        let before = only(&mut pushes).await;
        agents.tell(json!({"order": "announce-root"}));
        let announced = only(&mut pushes).await;
        assert_eq!(announced.x509_svid, before.x509_svid);
        let roots = certificates(&announced.bundle);
        assert_eq!(roots.len(), 2);
        agents.tell(json!({"order": "rotate-root", "keep": true}));
        let rotated = only(&mut pushes).await;
        let kept = certificates(&rotated.bundle);
        assert_eq!((&kept[0], &kept[1], kept.len()), (&roots[1], &roots[0], 2));
        let chain = certificates(&rotated.x509_svid);
        chain[1].verify_signature(Some(roots[1].public_key())).unwrap();
    });
}

#[test]
fn an_agent_goes_and_comes_back() {
    run(async {
        let agents = Agents::start();
        let mut pushes = agents.fetch("host-a").await;
        let before = only(&mut pushes).await;
        agents.tell(json!({"order": "stop", "agent": "host-a"}));
        refusal(&mut pushes).await;
        let socket = socket(agents.directory.path(), "host-a");
        let gone = connect_unix(&socket, &[]).await.unwrap_err().to_string();
        assert!(gone.contains("nothing listens") || gone.contains("refused"), "{gone}");
        agents.tell(json!({"order": "start", "agent": "host-a"}));
        wait_until("it is back", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        assert_eq!(only(&mut agents.fetch("host-a").await).await, before);
    });
}
