//! UDP and Unix sockets.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;

use ringway_engine::runtime::{
    ReactorChoice, TaskEnd, UdpOptions, UdpSocket, UnixListener, UnixSeqpacket, UnixStream, spawn,
};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use super::harness::{Case, Need};
use super::support::{here, local, run_on};

pub(crate) fn cases(choice: ReactorChoice, name: impl Fn(&str) -> String) -> Vec<Case> {
    let case = |title: &str, test: fn(ReactorChoice)| Case::new(name(title), move || test(choice));
    vec![
        case("datagrams_come_and_go", datagrams_come_and_go),
        case("a_refused_datagram_does_not_spin", a_refused_datagram_does_not_spin),
        case("unix_streams_come_and_go", unix_streams_come_and_go),
        // It enters the namespace it was sent.
        case("packets_carry_descriptors", packets_carry_descriptors).needs(Need::Root),
    ]
}

fn udp() -> UdpSocket {
    UdpSocket::bind(&here(), local(0), &UdpOptions::default()).expect("a UDP socket")
}

fn datagrams_come_and_go(choice: ReactorChoice) {
    run_on(choice, async {
        let (server, client) = (udp(), udp());
        let address = server.local_addr().expect("bound");
        let answering = spawn(async move {
            let mut buffer = [0; 64];
            for _ in 0..100 {
                let (got, sender) = loop {
                    match server.try_recv_from(&mut buffer) {
                        Ok(received) => break received,
                        Err(_) => server.readable().await,
                    }
                };
                server.try_send_to(&buffer[..got], sender).expect("room");
            }
        });
        client.connect(address).expect("a route");
        let mut buffer = [0; 64];
        // An empty datagram is a datagram, and no end of anything.
        for length in (0..100).map(|number| number % 50) {
            client.try_send(&vec![7; length]).expect("room");
            let (got, sender) = loop {
                match client.try_recv_from(&mut buffer) {
                    Ok(received) => break received,
                    Err(_) => client.readable().await,
                }
            };
            assert_eq!((got, sender), (length, address));
        }
        assert_eq!(answering.await, TaskEnd::Completed);
    });
}

fn a_refused_datagram_does_not_spin(choice: ReactorChoice) {
    run_on(choice, async {
        let client = udp();
        let nobody = udp().local_addr().expect("bound, then closed");
        // A ring lets go of the closed socket at the end of the turn.
        ringway_engine::runtime::yield_now().await;
        client.connect(nobody).expect("a route");
        client.try_send(b"anybody there?").expect("room");
        client.readable().await;
        let error = client.try_recv_from(&mut [0; 8]).expect_err("refused");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        // The error was told: from here on the socket has nothing, and says so by waiting.
        let _ = client.try_recv_from(&mut [0; 8]).expect_err("nothing");
        let limit = std::time::Duration::from_millis(20);
        let waited = ringway_engine::runtime::timeout(limit, client.readable()).await;
        assert!(waited.is_err(), "readable for ever");
        assert_eq!(client.local_addr().expect("bound").ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
    });
}

fn unix_streams_come_and_go(choice: ReactorChoice) {
    run_on(choice, async {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("a listener");
        let server = spawn(async move {
            for _ in 0..3 {
                let stream = listener.accept().await.expect("a connection");
                let mut buffer = [0; 16];
                loop {
                    stream.readable().await;
                    match stream.try_read(&mut buffer) {
                        Ok(0) => break,
                        Ok(got) => assert_eq!(stream.try_write(&buffer[..got]).expect("room"), got),
                        Err(_) => {}
                    }
                }
            }
        });
        for _ in 0..3 {
            let stream = UnixStream::connect(&path).expect("a connection");
            stream.writable().await;
            stream.try_write(b"hello").expect("room");
            let mut buffer = [0; 16];
            let got = loop {
                stream.readable().await;
                if let Ok(got) = stream.try_read(&mut buffer) {
                    break got;
                }
            };
            assert_eq!(&buffer[..got], b"hello");
            stream.shutdown_write().expect("open");
        }
        assert_eq!(server.await, TaskEnd::Completed);
    });
}

fn packets_carry_descriptors(choice: ReactorChoice) {
    run_on(choice, async {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let (near, far) = pair.expect("a pair");
        let near = UnixSeqpacket::from_fd(near);
        assert!(near.try_recv(&mut [0; 8]).is_err(), "nothing yet");
        let sender = spawn(async move {
            let namespace = here();
            let fds = [namespace.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
            let packet = [IoSlice::new(b"add")];
            rustix::net::sendmsg(&far, &packet, &mut ancillary, SendFlags::empty()).expect("sent");
            rustix::net::send(&far, b"too long for it", SendFlags::empty()).expect("sent");
        });
        near.readable().await;
        let (got, descriptors) = near.try_recv(&mut [0; 8]).expect("a packet");
        assert_eq!((got, descriptors.len()), (3, 1));
        let namespace = descriptors.into_iter().next().expect("one");
        let namespace = ringway_engine::runtime::NetNamespace::from_fd(namespace);
        assert_eq!(namespace.expect("a namespace"), here());
        assert_eq!(sender.await, TaskEnd::Completed);
        let error = near.try_recv(&mut [0; 8]).expect_err("it does not fit");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        near.readable().await;
        let (got, _) = near.try_recv(&mut [0; 8]).expect("the end");
        assert_eq!(got, 0);
        assert!(near.try_send(b"too late").is_err());
    });
}
