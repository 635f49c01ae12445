//! A fake agent on a real SEQPACKET socket, and whoever runs pods as the story says.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use prost::Message;
use rustix::net::sockopt::Timeout;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketType,
};
use tokio::sync::watch;

use crate::cni::{Job, Namespace, Outcome, Pods, Seen, drive};
use crate::proto::zds;
use crate::proto::zds::workload_request::Payload;

/// No wait is longer: the machine that runs the tests may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the agent listens on.
struct Agent {
    listener: OwnedFd,
    path: PathBuf,
}

/// One connection of it.
struct Peer(OwnedFd);

impl Agent {
    fn listen(path: &Path) -> Agent {
        let _ = std::fs::remove_file(path);
        let listener =
            rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(path).unwrap()).unwrap();
        rustix::net::listen(&listener, 5).unwrap();
        let patience = Some(PATIENCE);
        rustix::net::sockopt::set_socket_timeout(&listener, Timeout::Recv, patience).unwrap();
        Agent { listener, path: path.to_owned() }
    }

    /// Accepts, and takes the greeting.
    fn greet(&self) -> Peer {
        let peer = rustix::net::accept(&self.listener).unwrap();
        rustix::net::sockopt::set_socket_timeout(&peer, Timeout::Recv, Some(PATIENCE)).unwrap();
        let peer = Peer(peer);
        assert_eq!(peer.receive().unwrap(), [8, 1], "the greeting");
        peer
    }
}

impl Peer {
    fn add(&self, name: &str, namespace: &File) -> String {
        self.ask(add(name), &[namespace.as_fd()])
    }

    fn snapshot_sent(&self) -> String {
        self.ask(Payload::SnapshotSent(zds::SnapshotSent {}), &[])
    }

    /// Asks, and hears the answer: empty for success.
    fn ask(&self, payload: Payload, descriptors: &[BorrowedFd<'_>]) -> String {
        self.send(&encode(payload), descriptors);
        self.answer()
    }

    fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        let pieces = [io::IoSlice::new(bytes)];
        rustix::net::sendmsg(&self.0, &pieces, &mut ancillary, SendFlags::empty()).unwrap();
    }

    fn answer(&self) -> String {
        let bytes = self.receive().unwrap();
        let payload = zds::WorkloadResponse::decode(&*bytes).unwrap().payload.unwrap();
        let zds::workload_response::Payload::Ack(ack) = payload;
        ack.error
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 2048];
        let flags = rustix::net::RecvFlags::empty();
        let (length, _) = rustix::net::recv(&self.0, &mut bytes[..], flags)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Fails unless we have ended the connection.
    fn assert_ended(&self) {
        let left = self.receive();
        let is_reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
        assert!(
            left.as_ref().is_ok_and(Vec::is_empty) || left.as_ref().is_err_and(is_reset),
            "{left:?}"
        );
    }
}

fn add(name: &str) -> Payload {
    let info = zds::WorkloadInfo {
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        service_account: "default".to_owned(),
    };
    Payload::Add(zds::AddWorkload { uid: format!("uid-{name}"), workload_info: Some(info) })
}

fn encode(payload: Payload) -> Vec<u8> {
    zds::WorkloadRequest { payload: Some(payload) }.encode_to_vec()
}

/// Runs pods by holding their namespaces; those named `busy` fail as often as is said.
#[derive(Default, Clone)]
struct Host {
    running: Rc<RefCell<BTreeMap<String, Namespace>>>,
    failures: Rc<RefCell<u32>>,
}

impl Pods for Host {
    async fn work(&self, job: Job<Namespace>) -> Outcome {
        match job {
            Job::Start { info, .. } if info.name == "busy" && *self.failures.borrow() > 0 => {
                *self.failures.borrow_mut() -= 1;
                Outcome::Failed("cannot listen on port 15008".repeat(100))
            }
            Job::Start { uid, namespace, .. } => {
                self.running.borrow_mut().insert(uid.to_string(), namespace);
                Outcome::Done
            }
            Job::Stop(uids) => {
                uids.iter().for_each(|uid| drop(self.running.borrow_mut().remove(&**uid)));
                Outcome::Done
            }
        }
    }
}

struct Play {
    host: Host,
    seen: watch::Receiver<Seen>,
    path: PathBuf,
}

impl Play {
    async fn until(&mut self, what: &str, fits: impl Fn(&Seen) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, self.seen.wait_for(|seen| fits(seen))).await;
        waited.unwrap_or_else(|_| panic!("{what} does not come about")).unwrap();
    }
}

/// Plays what the agent does, on a thread of its own, against the driver.
fn play(agent: impl FnOnce(Agent) + Send + 'static) -> Host {
    play_with(Host::default(), agent)
}

fn play_with(host: Host, agent: impl FnOnce(Agent) + Send + 'static) -> Host {
    let home = tempfile::TempDir::new().unwrap();
    let path = home.path().join("agent.sock");
    let listening = Agent::listen(&path);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let played = host.clone();
    runtime.block_on(async {
        let (sender, _seen) = watch::channel(Seen::default());
        let playing = tokio::task::spawn_blocking(move || agent(listening));
        tokio::select! {
            () = drive(&path, &played, &sender) => unreachable!("it goes on for ever"),
            end = playing => end.unwrap(),
        }
    });
    host
}

fn namespace(number: u8) -> File {
    // Any file is as good: what it is, is for whoever runs pods to find out.
    let file = tempfile::tempfile().unwrap();
    file.set_len(number.into()).unwrap();
    file
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_pod_is_acknowledged_and_its_namespace_arrives() {
    let host = play(|agent| {
        let peer = agent.greet();
        assert_eq!(peer.add("web", &namespace(7)), "");
        assert_eq!(peer.snapshot_sent(), "");
    });
    let running = host.running.borrow();
    let web = File::from(running["uid-web"].as_fd().try_clone_to_owned().unwrap());
    assert_eq!(web.metadata().unwrap().len(), 7);
    let flags = rustix::io::fcntl_getfd(&running["uid-web"]).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "no child of ours inherits it");
}

#[test]
fn an_error_that_is_long_fits_the_agents_buffer_and_it_is_tried_again() {
    let host = Host::default();
    *host.failures.borrow_mut() = 1;
    let host = play_with(host, |agent| {
        let peer = agent.greet();
        let error = peer.add("busy", &namespace(1));
        assert!(error.starts_with("cannot listen") && error.len() < 1000, "{}", error.len());
        assert_eq!(peer.add("busy", &namespace(1)), "", "as the plugin does");
        assert_eq!(peer.snapshot_sent(), "");
    });
    assert!(host.running.borrow().contains_key("uid-busy"));
}

#[test]
fn an_agent_that_restarts_is_found_again_soon_and_pods_stay() {
    let host = play(|agent| {
        let (kept, added) = (namespace(1), namespace(2));
        let first = agent.greet();
        assert_eq!(
            (first.add("kept", &kept), first.add("added", &added)),
            (String::new(), String::new())
        );
        assert_eq!(first.add("gone", &namespace(3)), "");
        assert_eq!(first.snapshot_sent(), "");
        let path = agent.path.clone();
        // In the middle of a request, and nobody is there for so long that pauses have grown.
        first.send(&encode(add("half")), &[kept.as_fd()]);
        drop((first, agent));
        let away = Instant::now();
        while away.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let agent = Agent::listen(&path);
        let back = Instant::now();
        let second = agent.greet();
        // The pause had grown to more than a second; the new socket ended it.
        assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
        let keep = |name: &str| Payload::Keep(zds::KeepWorkload { uid: format!("uid-{name}") });
        assert_eq!(second.ask(keep("kept"), &[]), "");
        assert_eq!(second.add("added", &added), "");
        assert_eq!(second.snapshot_sent(), "");
    });
    let names: Vec<String> = host.running.borrow().keys().cloned().collect();
    assert_eq!(names, ["uid-added", "uid-kept"]);
}

#[test]
fn a_misdeed_is_answered_and_ends_the_connection_only() {
    play(|agent| {
        let file = namespace(1);
        let misdeeds: [(&[u8], usize, &str); 5] = [
            (b"\xff\xff\xff", 0, "cannot be decoded"),
            (&encode(add("x")), 0, "brings 0 descriptors"),
            (&encode(add("x")), 3, "brings 3 descriptors"),
            (&[0; 1500], 0, "longer than 1024"),
            (b"\x0a\x03\x0a\x01u", 1, "does not say who"),
        ];
        for (bytes, descriptors, why) in misdeeds {
            let peer = agent.greet();
            assert_eq!(peer.add("web", &file), "");
            assert_eq!(peer.snapshot_sent(), "");
            peer.send(bytes, &vec![file.as_fd(); descriptors]);
            let answer = peer.answer();
            assert!(answer.contains(why), "{answer}");
            peer.assert_ended();
        }
    });
}

#[test]
fn no_descriptor_is_left_behind() {
    play(|agent| {
        let file = namespace(1);
        let mut peer = agent.greet();
        assert_eq!(peer.snapshot_sent(), "");
        let before = open_descriptors();
        for _ in 0..200 {
            assert_eq!(peer.add("web", &namespace(2)), "");
            assert_eq!(peer.add("same", &file), "");
            assert_eq!(peer.ask(Payload::Del(zds::DelWorkload { uid: "uid-web".into() }), &[]), "");
        }
        for bytes in [encode(add("many")), b"\x3a\x00".to_vec(), b"\xff".to_vec()] {
            // As many as one packet may have.
            peer.send(&bytes, &[file.as_fd(); 253]);
            assert_ne!(peer.answer(), "");
            peer.assert_ended();
            peer = agent.greet();
            assert_eq!(peer.add("same", &file), "");
            assert_eq!(peer.snapshot_sent(), "");
        }
        let after = open_descriptors();
        // Other tests of this process come and go meanwhile; what leaks here does so hundreds of times.
        assert!(after < before + 150, "{before} before, {after} after");
    });
}

#[test]
fn it_waits_for_an_agent_that_is_not_there_yet_and_says_nothing_unasked() {
    let home = tempfile::TempDir::new().unwrap();
    let path = home.path().join("later.sock");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (sender, seen) = watch::channel(Seen::default());
        let mut play = Play { host: Host::default(), seen, path: path.clone() };
        let host = play.host.clone();
        let driving = drive(&path, &host, &sender);
        let story = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(!play.seen.borrow().is_ready());
            let path = play.path.clone();
            let (tell, told) = tokio::sync::oneshot::channel();
            let agent = tokio::task::spawn_blocking(move || {
                let agent = Agent::listen(&path);
                let peer = agent.greet();
                assert_eq!(peer.add("web", &namespace(1)), "");
                assert_eq!(peer.snapshot_sent(), "");
                let poll = Some(Duration::from_millis(300));
                rustix::net::sockopt::set_socket_timeout(&peer.0, Timeout::Recv, poll).unwrap();
                let silence = peer.receive().unwrap_err();
                assert_eq!(silence.kind(), io::ErrorKind::WouldBlock);
                let _ = told.blocking_recv();
                drop(peer);
            });
            play.until("ready", Seen::is_ready).await;
            assert!(play.seen.borrow().pods.contains_key("uid-web"));
            let _ = tell.send(());
            play.until("unready without the agent", |seen| !seen.is_ready()).await;
            assert!(play.seen.borrow().pods.contains_key("uid-web"), "it goes on");
            agent.await.unwrap();
        };
        tokio::select! {
            () = driving => unreachable!("it goes on for ever"),
            () = story => {}
        }
    });
}
