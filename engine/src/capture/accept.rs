//! What a workload's listeners accept: who has to wait, who is refused, and who serves it.

use std::{cmp::Reverse, net::SocketAddr, rc::Rc, sync::atomic::Ordering::Relaxed};

use super::Pod;
use crate::{
    accounts::{AdmittedConnection, Limit},
    handover::Way,
    inbound,
    limits::ADMISSION_PAUSE,
    outbound,
    rate::Rate,
    runtime::{self, DetachedStream, TcpListener, TcpStream},
    shard::{Command, Shard},
    socks5,
};

/// Serves a connection that another shard accepted for this workload.
pub(crate) fn take_over(
    shard: &Rc<Shard>,
    uid: &str,
    client: DetachedStream,
    from: SocketAddr,
    admitted: AdmittedConnection,
) {
    // Withdrawn meanwhile: dropping the socket closes the connection.
    let Some(pod) = shard.pod(uid) else { return };
    let serving =
        outbound::serve(shard.clone(), pod.clone(), client.attach(), from, None, admitted);
    pod.spawn(serving);
}

pub(super) async fn accept(shard: Rc<Shard>, pod: Rc<Pod>, way: Way, listener: Rc<TcpListener>) {
    loop {
        // Before anything is accepted: who waits, waits in the kernel, and is nobody's to lose.
        match way {
            Way::Hbone => {
                keep_rate(&pod, &pod.rates.handshakes, Limit::HandshakeRate).await;
                make_room_for_handshake(&shard, &pod).await;
            }
            Way::Outbound | Way::InboundPlaintext | Way::Socks5 => {
                keep_rate(&pod, &pod.rates.connections, Limit::ConnectionRate).await;
            }
        }
        // Shortages and vanished peers are dealt with by the listener; an error is its end.
        let Ok((socket, from)) = listener.accept().await else { return };
        serve(&shard, &pod, way, socket, from);
    }
}

/// Waits until the workload may begin one more of these. Whoever comes behind waits in the kernel's queue.
async fn keep_rate(pod: &Pod, rate: &Rate, limit: Limit) {
    while let Err(free_at) = rate.take(runtime::now()) {
        pod.account.refused(limit);
        runtime::sleep_until(free_at).await;
    }
}

/// Waits until one more handshake may begin, and has one that has waited for too long for its peer make room.
async fn make_room_for_handshake(shard: &Shard, pod: &Pod) {
    while let Err(limit) = shard.handshakes.room(&pod.handshakes) {
        pod.account.refused(limit);
        let now = runtime::now();
        let cut = match limit {
            Limit::HandshakesPerProcess => {
                let mut pods = shard.pods();
                pods.sort_by_key(|pod| Reverse(pod.handshakes.len()));
                pods.iter().any(|pod| pod.handshakes.cut_one(now))
            }
            _ => pod.handshakes.cut_one(now),
        };
        if cut {
            return;
        }
        runtime::sleep(ADMISSION_PAUSE).await;
    }
}

pub(super) fn serve(
    shard: &Rc<Shard>,
    pod: &Rc<Pod>,
    way: Way,
    socket: TcpStream,
    from: SocketAddr,
) {
    let (shard, pod) = (shard.clone(), pod.clone());
    // What is refused here has no record: it is counted, and a flood of it must not fill the log.
    if let Way::Hbone = way {
        match pod.account.admit_tunnel() {
            Ok(admitted) => {
                // It counts from now on: one turn may accept many before the first of them is polled.
                let handshaking = shard.handshakes.begin(&pod.handshakes);
                let serving =
                    inbound::serve_tunnel(shard, pod, socket, from, admitted, handshaking);
                runtime::spawn(serving);
            }
            Err(_counted) => socket.abort(),
        }
        return;
    }
    match (pod.account.admit_connection(), way) {
        (Ok(admitted), Way::Outbound) => serve_outbound(&shard, &pod, socket, from, admitted),
        (Ok(admitted), Way::Socks5) => {
            runtime::spawn(socks5::serve(shard, pod, socket, from, admitted));
        }
        (Ok(admitted), _) => {
            runtime::spawn(inbound::serve_plaintext(shard, pod, socket, from, admitted));
        }
        (Err(_counted), _) => socket.abort(),
    }
}

/// Serves the connection here, or hands it to the shard that is better placed, before its first byte.
fn serve_outbound(
    shard: &Rc<Shard>,
    pod: &Rc<Pod>,
    client: TcpStream,
    from: SocketAddr,
    admitted: AdmittedConnection,
) {
    let to = match client.original_destination() {
        Ok(destination) => shard.placement.place(&pod.uid, destination, runtime::now()),
        // Over already: its end is recorded where it was accepted.
        Err(_) => shard.id,
    };
    if to == shard.id {
        runtime::spawn(outbound::serve(shard.clone(), pod.clone(), client, from, None, admitted));
        return;
    }
    let client = client.detach();
    let command = Command::TakeOver { uid: pod.uid.clone(), client, from, admitted };
    match shard.hand_over(to, command) {
        Ok(()) => {
            shard.telemetry.handed_over.fetch_add(1, Relaxed);
        }
        Err(Command::TakeOver { uid, client, from, admitted }) => {
            take_over(shard, &uid, client, from, admitted);
        }
        Err(_) => unreachable!("a mailbox gives back what it was given"),
    }
}
