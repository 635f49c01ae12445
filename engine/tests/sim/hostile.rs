//! Peers that mean harm, or are broken: on the HBONE port of a pod, with and without a stolen certificate.
//!
//! Whatever they do, the host gets rid of them, or has told them so, within its deadlines.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ringway_engine::runtime::{ConnectOptions, TcpStream, random, sleep, timeout};
use ringway_protocols::{
    hbone::frame::kind,
    tls::{Credentials, Handshake},
};

use crate::{
    applications::{Tally, read_to_end, write_all},
    authority::Authority,
    mesh::{Mesh, PODS, at, identity},
    peer::{Peer, frame},
};

/// Frames of a flood: more than any burst that is allowed.
const FLOOD: usize = 1000;
/// Every deadline of a peer is shorter: handshake 10 s, preface, PING 10 + 20 s; and what the network may
/// hold up.
const RID_WITHIN: Duration = Duration::from_secs(60);

/// What a hostile peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Attack {
    Silence,
    Garbage,
    HalfAHello,
    StrangeRoot,
    Vanishes,
    NoPreface,
    GarbageForHttp2,
    SlowPreface,
    Pings,
    Settings,
    EmptyData,
    Resets,
    WindowOverflow,
    EndlessHeaders,
    HugeFrame,
    SomebodyElsesAddress,
}

const ATTACKS: [Attack; 16] = [
    Attack::Silence,
    Attack::Garbage,
    Attack::HalfAHello,
    Attack::StrangeRoot,
    Attack::Vanishes,
    Attack::NoPreface,
    Attack::GarbageForHttp2,
    Attack::SlowPreface,
    Attack::Pings,
    Attack::Settings,
    Attack::EmptyData,
    Attack::Resets,
    Attack::WindowOverflow,
    Attack::EndlessHeaders,
    Attack::HugeFrame,
    Attack::SomebodyElsesAddress,
];

/// What attackers share.
pub(crate) struct Hostile {
    pub(crate) mesh: Rc<Mesh>,
    pub(crate) tally: Rc<Tally>,
    /// Of a pod that was broken into.
    pub(crate) stolen: Arc<Credentials>,
    /// Of a mesh that is not ours.
    pub(crate) strange: Arc<Credentials>,
    pub(crate) carried_out: RefCell<BTreeMap<String, u64>>,
    /// Whose turn it is in [`ATTACKS`]: what is left to chance is met too seldom now and then.
    turn: Cell<usize>,
}

impl Hostile {
    pub(crate) fn new(
        mesh: &Rc<Mesh>,
        tally: &Rc<Tally>,
        authority: &Authority,
        strange: &Authority,
        seed: u64,
    ) -> Rc<Self> {
        Rc::new(Self {
            mesh: mesh.clone(),
            tally: tally.clone(),
            stolen: authority.issue(&identity("a2")),
            strange: strange.issue(&identity("a2")),
            carried_out: RefCell::default(),
            // Half of them in one seed, the other half in the next.
            turn: Cell::new((seed % 2) as usize * (ATTACKS.len() / 2)),
        })
    }

    /// Attacks a few times, one after the other.
    pub(crate) async fn run(self: Rc<Self>) {
        for _ in 0..4 {
            sleep(Duration::from_millis(random() % 300)).await;
            let attack = ATTACKS[self.turn.get() % ATTACKS.len()];
            self.turn.set(self.turn.get() + 1);
            let (name, address, _) = PODS[(random() % PODS.len() as u64) as usize];
            let options = ConnectOptions::default();
            let dial = TcpStream::connect(&self.mesh.outside, &options, at(address, 15008));
            let Ok(Ok(stream)) = timeout(Duration::from_secs(5), dial).await else { continue };
            match timeout(RID_WITHIN, self.attack(attack, name, stream)).await {
                Ok(true) => {
                    *self.carried_out.borrow_mut().entry(format!("{attack:?}")).or_default() += 1
                }
                // The network, or a missing certificate, was in the way.
                Ok(false) => {}
                Err(_) if self.mesh.world.faults_met().lost > 0 => {}
                Err(_) => self.tally.problem(format!("{attack:?} is put up with for ever")),
            }
        }
    }

    /// Returns whether it came to that.
    async fn attack(&self, attack: Attack, pod: &'static str, stream: TcpStream) -> bool {
        match attack {
            Attack::Silence => until_closed(&stream).await,
            Attack::Garbage => {
                let bytes: Vec<u8> = (0..1 + random() % 2000).map(|_| random() as u8).collect();
                let _ = write_all(&stream, &bytes).await;
                until_closed(&stream).await
            }
            Attack::HalfAHello => {
                let expected = Arc::new([identity(pod)]);
                let mut hello = Vec::new();
                let mut handshake =
                    Handshake::client(&self.stolen, expected).expect("good credentials");
                let _ = handshake.advance(&mut Vec::new(), &mut hello);
                let _ = write_all(&stream, &hello[..hello.len() / 2]).await;
                until_closed(&stream).await
            }
            Attack::StrangeRoot => {
                let address = stream.peer_addr().expect("a peer").ip();
                Peer::client(stream, &self.strange, identity(pod), address).await.is_none()
            }
            _ => {
                let address = stream.peer_addr().expect("a peer").ip();
                match Peer::client(stream, &self.stolen, identity(pod), address).await {
                    Some(peer) => abuse(attack, peer).await,
                    None => false,
                }
            }
        }
    }
}

async fn until_closed(stream: &TcpStream) -> bool {
    let _ = read_to_end(stream).await;
    true
}

/// What can be done inside a session.
async fn abuse(attack: Attack, mut peer: Peer) -> bool {
    match attack {
        Attack::Vanishes => {
            peer.abort();
            return true;
        }
        Attack::NoPreface => {}
        Attack::GarbageForHttp2 => {
            let bytes: Vec<u8> = (0..100 + random() % 2000).map(|_| random() as u8).collect();
            let _ = peer.send(&bytes).await;
        }
        Attack::SlowPreface => {
            for byte in b"PRI * HTTP/2.0\r\n" {
                sleep(Duration::from_millis(900)).await;
                if peer.send(&[*byte]).await.is_err() {
                    break;
                }
            }
        }
        _ => {
            if peer.flush().await.is_err() {
                return false;
            }
            let frames = frames_of(attack, &mut peer);
            let _ = peer.send(&frames).await;
            if attack == Attack::SomebodyElsesAddress {
                return peer.receive().await.is_ok();
            }
        }
    }
    peer.until_closed().await;
    true
}

fn frames_of(attack: Attack, peer: &mut Peer) -> Vec<u8> {
    let flood = |one: Vec<u8>| one.repeat(FLOOD);
    match attack {
        Attack::Pings => flood(frame(kind::PING, 0, 0, &[7; 8])),
        Attack::Settings => flood(frame(kind::SETTINGS, 0, 0, &[])),
        Attack::WindowOverflow => {
            frame(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(2)
        }
        Attack::HugeFrame => {
            let mut head = frame(kind::DATA, 0, 1, &[]);
            head[..3].copy_from_slice(&[0xff; 3]);
            head
        }
        Attack::EndlessHeaders => {
            let mut frames = frame(kind::HEADERS, 0, 1, &[]);
            frames.extend(flood(frame(kind::CONTINUATION, 0, 1, &[])));
            frames
        }
        Attack::EmptyData => {
            let mut frames = request(peer, "10.9.9.9:1");
            frames.extend(flood(frame(kind::DATA, 0, 1, &[])));
            frames
        }
        Attack::Resets => (0..FLOOD)
            .flat_map(|_| {
                let mut frames = request(peer, "10.9.9.9:1");
                let stream = u32::from_be_bytes(frames[5..9].try_into().expect("a frame"));
                frames.extend(frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8]));
                peer.machine.reset(
                    ringway_protocols::hbone::StreamId(stream),
                    ringway_protocols::hbone::ErrorCode::CANCEL,
                );
                peer.machine.take_output(&mut Vec::new());
                frames
            })
            .collect(),
        _ => request(peer, "10.9.9.9:1"),
    }
}

/// The frames of a CONNECT request.
fn request(peer: &mut Peer, authority: &str) -> Vec<u8> {
    let mut frames = Vec::new();
    if peer.open(authority).is_some() {
        peer.machine.take_output(&mut frames);
    }
    frames
}
