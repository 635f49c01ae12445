//! The listeners of a gateway: plain, TLS that ends here, and TLS that passes by its server name.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc};

use ringway_http::model::{ListenerKey, ListenerProtocol, ListenerTls};

use super::{
    serve::{Activity, Downstream, Target, serve_connection},
    tcp,
    tls::{self, Terminated},
};
use crate::{
    accounts::AdmittedConnection,
    capture::{EnrollError, Pod},
    close::CloseReason,
    connect,
    connection::Connection,
    decide::Refusal,
    limits::HANDSHAKE_TIMEOUT,
    role::{GatewayRole, Role},
    runtime::{self, ListenOptions, Task, TcpListener, TcpStream},
    shard::Shard,
    telemetry::{Direction, http::SourceMemo},
};

/// One listener, and the task that accepts from it.
pub(crate) struct Listening {
    port: u16,
    listener: Rc<TcpListener>,
    accepting: Task,
}

/// Binds the ports of a gateway and begins to accept; nothing for pods of other roles.
///
/// # Errors
/// The first port that cannot be bound; then none is.
pub(crate) fn listen(shard: &Rc<Shard>, pod: &Rc<Pod>) -> Result<(), EnrollError> {
    let Role::Gateway(gateway) = &pod.role else { return Ok(()) };
    listen_on(shard, pod, &gateway.ports)
}

/// Listens on these ports of a gateway from here on, and on no others. What a port that goes has in its queue is served.
///
/// # Errors
/// The first new port that cannot be bound; then nothing changes.
pub(crate) fn listen_on(
    shard: &Rc<Shard>,
    pod: &Rc<Pod>,
    ports: &[u16],
) -> Result<(), EnrollError> {
    let Role::Gateway(_) = &pod.role else { return Ok(()) };
    let listening = &pod.l7.kept().listening;
    let had: Vec<u16> = listening.borrow().iter().map(|one| one.port).collect();
    let new = ports.iter().filter(|port| !had.contains(port));
    let bound = new.map(|port| bind(shard, pod, *port)).collect::<Result<Vec<_>, _>>()?;
    let accepting = bound.into_iter().map(|(port, listener)| Listening {
        port,
        accepting: pod.spawn(accept(shard.clone(), pod.clone(), port, listener.clone())),
        listener,
    });
    listening.borrow_mut().extend(accepting);
    let gone = listening.borrow_mut().extract_if(.., |one| !ports.contains(&one.port)).collect();
    stop(shard, pod, gone);
    Ok(())
}

fn bind(shard: &Shard, pod: &Pod, port: u16) -> Result<(u16, Rc<TcpListener>), EnrollError> {
    let options = ListenOptions {
        mark: shard.config.packet_mark,
        transparent: false,
        patience: shard.config.patience,
        ..ListenOptions::default()
    };
    let address = TcpListener::wildcard(shard.config.ipv6, port);
    TcpListener::bind(&pod.namespace, address, &options)
        .map(|listener| (port, Rc::new(listener)))
        .map_err(|error| EnrollError { port, error })
}

/// Stops listening; what the kernel has accepted by now is still served.
pub(crate) fn stop_listening(shard: &Rc<Shard>, pod: &Rc<Pod>) {
    let Role::Gateway(_) = &pod.role else { return };
    let all = pod.l7.kept().listening.take();
    stop(shard, pod, all);
}

/// The same when the process ends: others may listen on the same ports, and lose nobody by it.
pub(crate) async fn retire_listeners(shard: &Rc<Shard>, pod: &Rc<Pod>) {
    let Role::Gateway(_) = &pod.role else { return };
    let all = pod.l7.kept().listening.take();
    for Listening { port, listener, accepting } in all {
        accepting.abort();
        for (socket, from) in listener.close().await {
            serve(shard, pod, port, socket, from);
        }
    }
}

fn stop(shard: &Rc<Shard>, pod: &Rc<Pod>, listening: Vec<Listening>) {
    for Listening { port, listener, accepting } in listening {
        accepting.abort();
        while let Ok((socket, from)) = listener.try_accept() {
            serve(shard, pod, port, socket, from);
        }
    }
}

async fn accept(shard: Rc<Shard>, pod: Rc<Pod>, port: u16, listener: Rc<TcpListener>) {
    // Shortages and vanished peers are dealt with by the listener; an error is its end.
    while let Ok((socket, from)) = listener.accept().await {
        serve(&shard, &pod, port, socket, from);
    }
}

fn serve(shard: &Rc<Shard>, pod: &Rc<Pod>, port: u16, socket: TcpStream, from: SocketAddr) {
    let Role::Gateway(gateway) = &pod.role else { return };
    match pod.account.admit_connection() {
        Ok(admitted) => {
            let accepted = Accepted {
                shard: shard.clone(),
                pod: pod.clone(),
                gateway: gateway.clone(),
                port,
                from,
                local: socket.local_addr().unwrap_or(from),
            };
            pod.spawn(accepted.serve(socket, admitted));
        }
        Err(_counted) => socket.abort(),
    }
}

/// A connection to a gateway.
struct Accepted {
    shard: Rc<Shard>,
    pod: Rc<Pod>,
    gateway: Arc<GatewayRole>,
    port: u16,
    from: SocketAddr,
    local: SocketAddr,
}

/// What is done with what a port gets.
enum Speaks {
    Http,
    Tls,
    Tcp,
}

/// TLS of a client, as far as the listener has looked into it.
struct Ended {
    server_name: Box<str>,
    listener: ListenerKey,
    certificate: Option<Rc<str>>,
}

impl Accepted {
    async fn serve(self, socket: TcpStream, _admitted: AdmittedConnection) {
        let Self { shard, pod, from, local, .. } = &self;
        let connection = Connection::begin(shard, &pod.uid, Direction::Inbound, *from, *local);
        match self.speaks() {
            Some(Speaks::Http) => {
                let downstream = self.downstream(None);
                serve_connection(downstream, Rc::new(socket), connection, None).await;
            }
            Some(Speaks::Tcp) => {
                let downstream = self.downstream(None);
                let early = bytes::Bytes::new();
                tcp::pass(&downstream, Rc::new(socket), early, false, connection, None).await;
            }
            Some(Speaks::Tls) => self.serve_tls(socket, connection).await,
            None => {
                socket.reset_on_close();
                connection.end(self.nobody());
            }
        }
    }

    /// What the listeners of the port say; they are of one kind.
    fn speaks(&self) -> Option<Speaks> {
        let snapshot = self.shard.snapshot();
        let port = snapshot.http()?.for_port(&self.gateway.name, self.port)?;
        let protocol = port.listeners().next().map(|table| table.listener.protocol)?;
        Some(match protocol {
            ListenerProtocol::Http | ListenerProtocol::Hbone => Speaks::Http,
            ListenerProtocol::Https | ListenerProtocol::Tls => Speaks::Tls,
            ListenerProtocol::Tcp => Speaks::Tcp,
        })
    }

    fn nobody(&self) -> CloseReason {
        CloseReason::Refused(Refusal::NoHealthyUpstream { destination: self.local })
    }

    async fn serve_tls(&self, socket: TcpStream, connection: Connection) {
        let accepting = Box::pin(runtime::timeout(HANDSHAKE_TIMEOUT, tls::client_hello(&socket)));
        let hello = match connection.unless_cut(accepting).await {
            Ok(Ok(Ok(hello))) => hello,
            Ok(Ok(Err(reason))) | Err(reason) => {
                socket.reset_on_close();
                return connection.end(reason);
            }
            Ok(Err(_elapsed)) => {
                socket.reset_on_close();
                return connection.end(CloseReason::HandshakeTimedOut);
            }
        };
        let Some((key, protocol, tls)) = self.listener(hello.server_name.as_deref()) else {
            socket.reset_on_close();
            return connection.end(self.nobody());
        };
        let server_name = hello.server_name.clone().unwrap_or_default();
        match tls {
            ListenerTls::Passthrough => {
                let ended = Ended { server_name, listener: key, certificate: None };
                let downstream = self.downstream(Some(ended));
                let early = hello.bytes.into();
                tcp::pass(&downstream, Rc::new(socket), early, false, connection, None).await;
            }
            ListenerTls::Terminate { .. } | ListenerTls::Broken(_) => {
                let accepting = Box::pin(self.terminate(socket, hello, &tls, &connection));
                let Terminated { near, certificate } = match accepting.await {
                    Ok(terminated) => terminated,
                    Err(reason) => return connection.end(reason),
                };
                let ended = Ended { server_name, listener: key, certificate };
                let downstream = self.downstream(Some(ended));
                if protocol == ListenerProtocol::Https {
                    serve_connection(downstream, near, connection, None).await;
                } else {
                    let early = bytes::Bytes::new();
                    tcp::pass(&downstream, near, early, false, connection, None).await;
                }
            }
        }
    }

    async fn terminate(
        &self,
        socket: TcpStream,
        hello: tls::Hello,
        tls: &ListenerTls,
        connection: &Connection,
    ) -> Result<Terminated, CloseReason> {
        let terminators: &RefCell<tls::Terminators> = &self.pod.l7.kept().terminators;
        let terminator = terminators.borrow_mut().of(tls);
        let terminator = terminator.inspect_err(|_| socket.reset_on_close())?;
        let shaking = tls::terminate(socket, hello, &terminator, &self.pod.account);
        let shaking = Box::pin(runtime::timeout(HANDSHAKE_TIMEOUT, shaking));
        match connection.unless_cut(shaking).await? {
            Ok(terminated) => terminated,
            Err(_elapsed) => Err(CloseReason::HandshakeTimedOut),
        }
    }

    /// The listener for a server name.
    fn listener(
        &self,
        server_name: Option<&str>,
    ) -> Option<(ListenerKey, ListenerProtocol, ListenerTls)> {
        let snapshot = self.shard.snapshot();
        let port = snapshot.http()?.for_port(&self.gateway.name, self.port)?;
        let listener = &port.by_server_name(server_name)?.listener;
        Some((listener.key.clone(), listener.protocol, listener.tls.clone()?))
    }

    /// `tls`: what was learnt of a client that speaks it.
    fn downstream(&self, tls: Option<Ended>) -> Rc<Downstream> {
        let (mut server_name, mut ended_for, mut certificate) = (None, None, None);
        if let Some(ended) = tls {
            server_name = Some(ended.server_name);
            ended_for = Some(ended.listener);
            certificate = ended.certificate;
        }
        let snapshot = self.shard.snapshot();
        let network = &snapshot.settings().network;
        Rc::new(Downstream {
            shard: self.shard.clone(),
            pod: self.pod.clone(),
            source: self.from,
            called: self.local,
            identity: None,
            workload: snapshot.workload_by_address(network, self.from.ip()).cloned(),
            baggage: None,
            server_name,
            certificate,
            trace_id: connect::fresh_trace_id(&self.shard),
            target: Target::Listener {
                gateway: self.gateway.name.clone(),
                port: self.port,
                ended_for,
            },
            activity: Activity::new(),
            upgraded: RefCell::default(),
            source_memo: SourceMemo::default(),
        })
    }
}
