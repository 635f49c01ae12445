//! Applications: clients that say how much they will send and how much they want, and servers that check
//! every byte, and that nobody reaches them who may not.

use std::{
    cell::{Cell, RefCell},
    io::ErrorKind,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use ringway_engine::runtime::{
    ConnectOptions, ListenOptions, NetNamespace, TcpListener, TcpStream, random, sleep, spawn,
    timeout,
};

use crate::{
    mesh::{Mesh, PORT, at, pod_at},
    oracle::{self, Attempt},
};

/// Connections each client opens.
pub(crate) const CONNECTIONS: usize = 6;
/// The most one side sends on a connection.
const BYTES_MAX: u64 = 100_000;
/// What a client says first: seed, bytes up, bytes down, when it dialled, whether it was captured then.
const HEAD_BYTES: usize = 40;
/// How long after a swap a connection that is denied by it may still deliver bytes: the bound for
/// cutting, and what was under way.
const CUT_WITHIN: Duration = Duration::from_millis(150);

/// What the applications saw.
#[derive(Default)]
pub(crate) struct Tally {
    /// Connections that Ringway's outbound side accepted.
    pub(crate) captured: Cell<usize>,
    pub(crate) finished: Cell<usize>,
    pub(crate) broken: Cell<usize>,
    /// Answers that did not end in order although every byte arrived, and the like.
    pub(crate) problems: RefCell<Vec<String>>,
    /// Connections a server was reached by.
    pub(crate) judged: Cell<usize>,
}

impl Tally {
    pub(crate) fn problem(&self, text: String) {
        self.problems.borrow_mut().push(text);
    }
}

fn count(counter: &Cell<usize>) {
    counter.set(counter.get() + 1);
}

/// A client that opens one connection after the other.
pub(crate) struct Client {
    pub(crate) mesh: Rc<Mesh>,
    /// A pod, or `outside`.
    pub(crate) from: &'static str,
    pub(crate) to: SocketAddr,
    pub(crate) tally: Rc<Tally>,
    /// The longest pause between two connections.
    pub(crate) pause_ms: u64,
}

impl Client {
    pub(crate) async fn run(self) {
        for _ in 0..CONNECTIONS {
            sleep(Duration::from_millis(random() % self.pause_ms)).await;
            let namespace = match self.from {
                "outside" => &self.mesh.outside,
                pod => self.mesh.namespace(pod),
            };
            let captured = self.mesh.is_captured(self.from);
            let dialled_at = self.mesh.world.elapsed();
            let options = ConnectOptions::default();
            let dial = TcpStream::connect(namespace, &options, self.to);
            let Ok(Ok(stream)) = timeout(Duration::from_secs(5), dial).await else { continue };
            if captured {
                count(&self.tally.captured);
            }
            // A connection whose peer died without a word is the client's to give up.
            let talk = self.talk(stream, dialled_at, captured);
            if timeout(Duration::from_secs(120), talk).await.is_err() {
                count(&self.tally.broken);
            }
        }
    }

    /// Says how much it will send and how much it wants, sends that, and checks what comes.
    async fn talk(&self, stream: TcpStream, dialled_at: Duration, captured: bool) {
        let seed = random();
        let (up, down) = (random() % BYTES_MAX, random() % BYTES_MAX);
        let aborts = random().is_multiple_of(8);
        let stream = Rc::new(stream);
        let request = request(seed, up, down, dialled_at, captured);
        let sending = spawn(send(stream.clone(), request, aborts));
        if aborts {
            sending.await;
            return;
        }
        let (bytes, ended) = read_to_end(&stream).await;
        let wanted = |at: usize| pattern(!seed, at as u64);
        let wrong =
            bytes.iter().take(down as usize).enumerate().find(|(at, byte)| **byte != wanted(*at));
        if let Some((at, _)) = wrong {
            self.tally.problem(format!("byte {at} of {down} from {} is wrong", self.to));
        }
        match ended {
            // The server answers with exactly `down` bytes and then says how much it got.
            Ok(()) if bytes.len() as u64 == down + 8 => {
                let got =
                    u64::from_be_bytes(bytes[down as usize..].try_into().expect("eight bytes"));
                if got != up {
                    self.tally.problem(format!("{} got {got} of {up} bytes", self.to));
                }
                count(&self.tally.finished);
            }
            Ok(()) => self.tally.problem(format!(
                "{} bytes of {down} from {} look like an end in order",
                bytes.len(),
                self.to
            )),
            Err(_) => count(&self.tally.broken),
        }
        sending.abort();
    }
}

/// What a client sends.
pub(crate) fn request(
    seed: u64,
    up: u64,
    down: u64,
    dialled_at: Duration,
    captured: bool,
) -> Vec<u8> {
    let mut request = Vec::new();
    for number in [seed, up, down, dialled_at.as_nanos() as u64, u64::from(captured)] {
        request.extend_from_slice(&number.to_be_bytes());
    }
    request.extend((0..up).map(|at| pattern(seed, at)));
    request
}

async fn send(stream: Rc<TcpStream>, request: Vec<u8>, aborts: bool) {
    let cut = if aborts { request.len() / 2 } else { request.len() };
    if write_all(&stream, &request[..cut]).await.is_ok() {
        if aborts {
            stream.reset_on_close();
        } else {
            // Whether the end can still be told shows in what is read.
            let _ = stream.shutdown_write();
        }
    }
}

/// A server that answers every request of [`Client::talk`], and aborts what does not end in order.
pub(crate) async fn serve(mesh: Rc<Mesh>, namespace: NetNamespace, tally: Rc<Tally>) {
    let any = TcpListener::wildcard(false, PORT);
    let listener = TcpListener::bind(&namespace, any, &ListenOptions::default()).expect("a port");
    while let Ok((stream, from)) = listener.accept().await {
        let (mesh, tally) = (mesh.clone(), tally.clone());
        spawn(async move {
            let answering = answer(&mesh, &tally, &stream, from);
            if timeout(Duration::from_secs(150), answering).await != Ok(Ok(())) {
                stream.abort();
            }
        });
    }
}

async fn answer(
    mesh: &Mesh,
    tally: &Tally,
    stream: &TcpStream,
    from: SocketAddr,
) -> Result<(), ErrorKind> {
    let mut head = [0; HEAD_BYTES];
    read_exactly(stream, &mut head).await?;
    let number = |at: usize| u64::from_be_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let (seed, up, down) = (number(0), number(8), number(16));
    let guard = Guard::new(mesh, tally, stream, from, number(32) == 1);
    guard.check(Duration::from_nanos(number(24)));
    let mut buffer = vec![0; 8192];
    let mut got: u64 = 0;
    loop {
        match read_some(stream, &mut buffer).await? {
            0 => break,
            more => {
                guard.check(mesh.world.elapsed().saturating_sub(CUT_WITHIN));
                let right =
                    buffer[..more].iter().zip(got..).all(|(byte, at)| *byte == pattern(seed, at));
                assert!(right, "the server got other bytes than were sent");
                got += more as u64;
            }
        }
    }
    // An end in order means that everything has arrived, and nothing else.
    assert_eq!(got, up, "an abort looks like an end in order");
    let mut reply: Vec<u8> = (0..down).map(|at| pattern(!seed, at)).collect();
    reply.extend_from_slice(&got.to_be_bytes());
    write_all(stream, &reply).await?;
    stream.shutdown_write().map_err(|error| error.kind())
}

/// Judges whether a server may hear from a client.
struct Guard<'a> {
    mesh: &'a Mesh,
    tally: &'a Tally,
    attempt: Option<Attempt>,
}

impl<'a> Guard<'a> {
    fn new(
        mesh: &'a Mesh,
        tally: &'a Tally,
        stream: &TcpStream,
        from: SocketAddr,
        captured: bool,
    ) -> Self {
        count(&tally.judged);
        let local = stream.local_addr().ok();
        let attempt = local.and_then(|local| {
            let to = pod_at(local.ip())?;
            let client = pod_at(from.ip()).filter(|_| captured);
            Some(Attempt { client, from: from.ip(), to, at: local })
        });
        Self { mesh, tally, attempt }
    }

    /// Somewhen since `since` the connection must have been allowed.
    fn check(&self, since: Duration) {
        let Some(attempt) = &self.attempt else { return };
        let now = self.mesh.world.elapsed();
        let allowed = |one: &crate::mesh::InForce| {
            !one.captured.contains(attempt.to) || oracle::allows(&one.policies, attempt)
        };
        if !self.mesh.in_force(since, now).iter().any(allowed) {
            self.tally.problem(format!("{attempt:?} delivered bytes at {now:?} and is denied"));
        }
    }
}

/// Where each client calls, and from where.
pub(crate) fn clients() -> Vec<(&'static str, SocketAddr)> {
    use crate::mesh::{CLOSED_PORT, OUTSIDE, VIP};
    vec![
        ("a1", at("10.2.0.1", PORT)),
        ("a1", at(VIP, 80)),
        ("a2", at("10.2.0.2", PORT)),
        ("a2", at(VIP, 80)),
        ("b1", at("10.2.0.2", PORT)),
        ("a1", at(OUTSIDE, PORT)),
        // What fails for sure, whatever faults a seed draws.
        ("a2", at(OUTSIDE, CLOSED_PORT)),
        ("outside", at("10.2.0.1", PORT)),
    ]
}

pub(crate) fn pattern(seed: u64, at: u64) -> u8 {
    (seed.wrapping_add(at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

pub(crate) async fn read_some(stream: &TcpStream, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
    loop {
        match stream.try_read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.readable().await,
            other => return other.map_err(|error| error.kind()),
        }
    }
}

async fn read_exactly(stream: &TcpStream, mut buffer: &mut [u8]) -> Result<(), ErrorKind> {
    while !buffer.is_empty() {
        let got = read_some(stream, buffer).await?;
        if got == 0 {
            return Err(ErrorKind::UnexpectedEof);
        }
        buffer = &mut buffer[got..];
    }
    Ok(())
}

pub(crate) async fn read_to_end(stream: &TcpStream) -> (Vec<u8>, Result<(), ErrorKind>) {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 8192]);
    loop {
        match read_some(stream, &mut buffer).await {
            Ok(0) => return (all, Ok(())),
            Ok(got) => all.extend_from_slice(&buffer[..got]),
            Err(error) => return (all, Err(error)),
        }
    }
}

pub(crate) async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> Result<(), ErrorKind> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await,
            Err(error) => return Err(error.kind()),
            Ok(taken) => bytes = &bytes[taken..],
        }
    }
    Ok(())
}
