//! Connections that a workload asks for by SOCKS5 instead of being captured, on loopback in its own namespace.
//!
//! What follows the handshake is the story of any outbound connection. The client is told that it is connected when it
//! is, and why if it is not.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    rc::Rc,
};

use ringway_protocols::socks5::{
    self, Error, GREETING_ANSWER, MESSAGE_BYTES_MAX, Parsed, Reply, Target,
};

use crate::{
    accounts::AdmittedConnection,
    capture::Pod,
    close::CloseReason,
    connection::{Connection, OpenSocket},
    decide::Refusal,
    limits::SOCKS5_TIMEOUT,
    outbound,
    reach::Reached,
    relay::write_all,
    runtime::{self, TcpStream},
    shard::Shard,
    snapshot::Snapshot,
    telemetry::{Direction, Reporter},
};

/// Serves one connection to the SOCKS5 port.
pub(crate) async fn serve(
    shard: Rc<Shard>,
    pod: Rc<Pod>,
    client: TcpStream,
    from: SocketAddr,
    admitted: AdmittedConnection,
) {
    // Boxed: a connection at rest must not carry the size of its beginning.
    let destination = match Box::pin(agree(&shard, &pod, &client)).await {
        Ok(destination) => destination,
        Err(reason) => {
            let _open = OpenSocket::new(&shard, Reporter::Source);
            let here = client.local_addr().unwrap_or(from);
            return Connection::begin(&shard, &pod.uid, Direction::Outbound, from, here)
                .end(reason);
        }
    };
    let serving = outbound::serve(shard, pod, client, from, Some(destination), admitted);
    runtime::spawn(serving);
}

/// Tells the client what came of its request.
///
/// # Errors
/// As `outcome`; or that the client is gone.
pub(crate) async fn answer(
    client: &TcpStream,
    outcome: Result<Reached, CloseReason>,
) -> Result<Reached, CloseReason> {
    let reply = outcome.as_ref().map_or_else(reply_for, |_| Reply::Succeeded);
    let told = write_all(client, &reply.encode()).await;
    let reached = outcome?;
    told.map(|()| reached).map_err(|_| CloseReason::ClientReset)
}

/// Where the client wants to go.
async fn agree(shard: &Shard, pod: &Pod, client: &TcpStream) -> Result<SocketAddr, CloseReason> {
    let target = match runtime::timeout(SOCKS5_TIMEOUT, ask(client)).await {
        Ok(target) => target?,
        Err(_elapsed) => return Err(CloseReason::Socks5("the client is silent".to_owned())),
    };
    match resolve(shard, pod, target).await {
        Ok(destination) => Ok(destination),
        Err(reason) => {
            // A client that is gone is told nothing.
            let _ = write_all(client, &reply_for(&reason).encode()).await;
            Err(reason)
        }
    }
}

async fn ask(client: &TcpStream) -> Result<Target, CloseReason> {
    read(client, socks5::greeting).await?;
    write_all(client, &GREETING_ANSWER).await.map_err(|_| CloseReason::ClientReset)?;
    read(client, socks5::request).await
}

/// Reads one message, and not a byte of what follows it.
async fn read<T>(
    client: &TcpStream,
    parse: impl Fn(&[u8]) -> Result<Parsed<T>, Error>,
) -> Result<T, CloseReason> {
    let (mut message, mut filled) = ([0; MESSAGE_BYTES_MAX], 0);
    loop {
        let needed = match parse(&message[..filled]) {
            Ok(Parsed::Whole(whole)) => return Ok(whole),
            Ok(Parsed::Needs(more)) => filled + more,
            Err(error) => {
                // A client that is gone is told nothing.
                let _ = write_all(client, &error.answer()).await;
                return Err(CloseReason::Socks5(error.to_string()));
            }
        };
        while filled < needed {
            filled += read_some(client, &mut message[filled..needed]).await.map_err(|_| {
                CloseReason::Socks5("the client left before it had asked".to_owned())
            })?;
        }
    }
}

async fn read_some(client: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match client.try_read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => client.readable().await,
            read => return read,
        }
    }
}

/// The address that a target stands for, as our own DNS would tell it: a service's virtual address, an endpoint's of
/// one that has none, or else what control resolves.
async fn resolve(shard: &Shard, pod: &Pod, target: Target) -> Result<SocketAddr, CloseReason> {
    let (host, port) = match target {
        Target::Address(address) => return Ok(address),
        Target::Name { host, port } => (host, port),
    };
    let source = shard.workload(&pod.workload).await?;
    let known = |snapshot: &Snapshot| {
        let random = usize::try_from(shard.random() >> 32).unwrap_or_default();
        if let Some(service) = snapshot.service_by_hostname(&host, source.namespace()) {
            return service.vip_for(source.network()).or_else(|| {
                let endpoints: Vec<_> = snapshot
                    .endpoints(&service.id)
                    .filter_map(|(one, _)| one.addresses().first())
                    .collect();
                endpoints.get(random.checked_rem(endpoints.len())?).map(|ip| **ip)
            });
        }
        let resolved = snapshot.resolution(&host);
        resolved.iter().find(|ip| ip.is_ipv4()).or(resolved.first()).copied()
    };
    let found = known(&shard.snapshot());
    if let Some(ip) = found {
        return Ok(SocketAddr::new(ip, port));
    }
    shard.resolved(&host).await;
    match known(&shard.snapshot()) {
        Some(ip) => Ok(SocketAddr::new(ip, port)),
        None => Err(CloseReason::Refused(Refusal::UnknownHostname { hostname: host })),
    }
}

fn reply_for(reason: &CloseReason) -> Reply {
    match reason {
        CloseReason::Refused(Refusal::SelfCall) | CloseReason::ConnectRefused(401 | 403) => {
            Reply::NotAllowed
        }
        CloseReason::DialFailed(ErrorKind::NetworkUnreachable) => Reply::NetworkUnreachable,
        CloseReason::DialFailed(ErrorKind::ConnectionRefused)
        | CloseReason::ConnectRefused(502..=504) => Reply::ConnectionRefused,
        CloseReason::Refused(_)
        | CloseReason::DialFailed(ErrorKind::HostUnreachable)
        | CloseReason::DialTimedOut
        | CloseReason::TunnelDialTimedOut => Reply::HostUnreachable,
        _ => Reply::GeneralFailure,
    }
}
