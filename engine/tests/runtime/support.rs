//! What the tests share: runtimes, namespaces that vanish with the test, descriptor counts.

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ringway_engine::runtime::{
    ConnectOptions, ListenOptions, NetNamespace, ReactorChoice, Runtime, RuntimeError, TcpListener,
    TcpStream, timeout,
};

/// No test waits longer than this for one thing.
const PATIENCE: Duration = Duration::from_secs(60);

/// The reactors every test runs on.
pub(crate) const BOTH: [ReactorChoice; 2] = [ReactorChoice::Epoll, ReactorChoice::Ring];

pub(crate) fn name_of(choice: ReactorChoice) -> &'static str {
    if choice == ReactorChoice::Ring { "ring" } else { "epoll" }
}

/// Why a ring cannot be had here, if it cannot.
pub(crate) fn ring_refusal() -> Option<String> {
    match Runtime::new(ReactorChoice::Ring) {
        Ok(_) => None,
        Err(RuntimeError::RingRefused(report)) => Some(report.reason().to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// Runs `test` on a fresh runtime of this thread.
pub(crate) fn run_on<F: Future>(choice: ReactorChoice, test: F) -> F::Output {
    let (runtime, _) = Runtime::new(choice).expect("a runtime");
    runtime.block_on(async { timeout(PATIENCE, test).await.expect("the test came to its end") })
}

pub(crate) fn here() -> NetNamespace {
    NetNamespace::current().expect("the thread's own namespace")
}

pub(crate) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let listener =
        TcpListener::bind(&here(), local(0), &ListenOptions::default()).expect("a listener");
    let address = listener.local_addr().expect("its address");
    (listener, address)
}

pub(crate) async fn dial(address: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect(&here(), &ConnectOptions::default(), address).await
}

/// Two ends of one connection: who dialled, who accepted.
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let (listener, address) = listen();
    let dialled = dial(address).await.expect("a connection");
    let (accepted, _) = listener.accept().await.expect("its other end");
    (dialled, accepted)
}

pub(crate) async fn read(stream: &TcpStream, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.try_read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => stream.readable().await,
            other => return other,
        }
    }
}

pub(crate) async fn read_exact(stream: &TcpStream, mut buffer: &mut [u8]) -> std::io::Result<()> {
    while !buffer.is_empty() {
        match read(stream, buffer).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            got => buffer = &mut buffer[got..],
        }
    }
    Ok(())
}

pub(crate) async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => stream.writable().await,
            Err(error) => return Err(error),
            Ok(taken) => bytes = &bytes[taken..],
        }
    }
    Ok(())
}

/// Sends everything back until the end, then ends too.
pub(crate) async fn echo(stream: TcpStream) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match read(&stream, &mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(got) => {
                if write_all(&stream, &buffer[..got]).await.is_err() {
                    break;
                }
            }
        }
    }
    let _ = stream.shutdown_write();
}

/// Open descriptors of this process.
pub(crate) fn descriptors() -> usize {
    // Each thread keeps one of its own namespace, from the first time it is asked for.
    let _home = here();
    // The folder's own descriptor is in the list too, each time.
    std::fs::read_dir("/proc/self/fd").expect("proc is mounted").count()
}

/// A network namespace of its own, with loopback up, that lives as long as this value: its only
/// process waits for the end of its input.
pub(crate) struct TestNamespace {
    keeper: Child,
    pub(crate) namespace: NetNamespace,
}

impl TestNamespace {
    pub(crate) fn new() -> TestNamespace {
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let mut line = String::new();
        let output = keeper.stdout.as_mut().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("the keeper speaks");
        assert_eq!(line, "ready\n", "loopback could be set up");
        let namespace = NetNamespace::open(format!("/proc/{}/ns/net", keeper.id()));
        TestNamespace { keeper, namespace: namespace.expect("the new namespace") }
    }

    /// Runs a command inside, which must succeed.
    pub(crate) fn run(&self, program: &str, arguments: &str) {
        let status = Command::new("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", self.keeper.id()))
            .arg(program)
            .args(arguments.split_whitespace())
            .status();
        assert!(status.expect("nsenter runs").success(), "{program} {arguments}");
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
