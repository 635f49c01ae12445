//! U1: every socket is in the namespace it was asked for, whatever else is going on; and what comes
//! with namespaces: redirected destinations, marks, foreign source addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use ringway_engine::runtime::{
    ConnectOptions, ListenOptions, NetNamespace, ReactorChoice, Runtime, TaskEnd, TcpListener,
    TcpStream, UdpOptions, UdpSocket, counters, random, spawn, timeout, yield_now,
};
use rustix::net::sockopt;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::super::harness::{Case, Need};
use super::super::support::{
    TestNamespace, descriptors, echo, here, local, read_exact, run_on, write_all,
};

/// The mark that redirection lets pass, and the one it gives to what belongs to such a connection.
const OURS: u32 = 0x539;

pub(crate) fn cases(choice: ReactorChoice, name: impl Fn(&str) -> String) -> Vec<Case> {
    let case = |title: &str, test: fn(ReactorChoice)| {
        let case = Case::new(name(title), move || test(choice));
        case.needs(Need::Root).needs(Need::Program("unshare")).needs(Need::Program("nsenter"))
    };
    vec![
        case("u1_ten_thousand_sockets_in_their_places", ten_thousand_sockets_in_their_places),
        case("u1_a_planted_violation_is_caught", a_planted_violation_is_caught),
        case("u1_a_panic_inside_still_comes_home", a_panic_inside_still_comes_home),
        case("the_original_destination_is_known", the_original_destination_is_known)
            .needs(Need::Program("iptables")),
        case("a_foreign_source_address_is_worn", a_foreign_source_address_is_worn)
            .needs(Need::Program("iptables")),
        case("what_is_no_namespace_is_refused", what_is_no_namespace_is_refused),
    ]
}

/// Ten namespaces, sockets of every kind in random order, while other namespaces come and go and a
/// ring is busy on this very thread. Each socket is asked anew where it is.
fn ten_thousand_sockets_in_their_places(choice: ReactorChoice) {
    const SOCKETS: usize = 10_000;
    let before = descriptors();
    let others = std::thread::spawn(|| (0..30).for_each(|_| drop(TestNamespace::new())));
    let places: Vec<TestNamespace> = (0..10).map(|_| TestNamespace::new()).collect();
    run_on(choice, async {
        // Work for the reactor in between, with sockets of its own.
        let busy = spawn(async {
            loop {
                let (near, far) = super::super::support::pair().await;
                spawn(echo(far));
                write_all(&near, b"x").await.expect("room");
                read_exact(&near, &mut [0]).await.expect("an echo");
                yield_now().await;
            }
        });
        let options = ListenOptions::default();
        let servers: Vec<(TcpListener, SocketAddr)> = places
            .iter()
            .map(|place| {
                let server = TcpListener::bind(&place.namespace, local(0), &options);
                let server = server.expect("a listener");
                let address = server.local_addr().expect("bound");
                (server, address)
            })
            .collect();
        let dialling = ConnectOptions::default();
        let mut wrong = 0;
        for number in 0..SOCKETS {
            let chosen = random() as usize % places.len();
            let (place, (server, address)) = (&places[chosen].namespace, &servers[chosen]);
            let found = match number % 3 {
                0 => {
                    let listener = TcpListener::bind(place, local(0), &options);
                    where_is(listener.expect("a listener").into_fd().expect("real"))
                }
                1 => {
                    let dialled = TcpStream::connect(place, &dialling, *address).await;
                    let dialled = dialled.expect("its own server is there");
                    let (accepted, _) = server.accept().await.expect("accepted");
                    assert_eq!(where_is(accepted.into_fd().expect("real")), place.cookie());
                    where_is(dialled.into_fd().expect("real"))
                }
                _ => {
                    let socket = UdpSocket::bind(place, local(0), &UdpOptions::default());
                    where_is(socket.expect("a socket"))
                }
            };
            wrong += usize::from(found != place.cookie());
            if number % 100 == 0 {
                yield_now().await;
            }
        }
        assert_eq!(wrong, 0, "of {SOCKETS}");
        assert_eq!(counters().wrong_namespace, 0);
        assert!(!busy.is_finished());
    });
    others.join().expect("the other namespaces came and went");
    drop(places);
    assert_eq!(descriptors(), before);
}

fn where_is(socket: impl AsFd) -> u64 {
    NetNamespace::cookie_of(socket).expect("a socket")
}

/// The thread is moved behind the runtime's back: the next socket "at home" would be in a
/// stranger's namespace. The check must catch it at once.
fn a_planted_violation_is_caught(choice: ReactorChoice) {
    let stranger = TestNamespace::new();
    run_on(choice, async {
        let home = here();
        let options = ListenOptions::default();
        TcpListener::bind(&home, local(0), &options).expect("at home");
        move_into_link_name_space(stranger.namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("the violation");
        let error = TcpListener::bind(&home, local(0), &options).expect_err("caught");
        assert!(error.to_string().contains("was made in namespace"), "{error}");
        assert_eq!(counters().wrong_namespace, 1);
        let dialled = TcpStream::connect(&home, &ConnectOptions::default(), local(9)).await;
        assert!(dialled.expect_err("caught").to_string().contains("was made in namespace"));
        move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network)).expect("back");
        TcpListener::bind(&home, local(0), &options).expect("at home again");
    });
}

fn a_panic_inside_still_comes_home(choice: ReactorChoice) {
    let place = TestNamespace::new();
    run_on(choice, async {
        let inside = || place.namespace.within(|| panic!("inside, on purpose"));
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(inside));
        assert!(panic.is_err());
        TcpListener::bind(&here(), local(0), &ListenOptions::default()).expect("at home");
    });
}

fn the_original_destination_is_known(choice: ReactorChoice) {
    let place = TestNamespace::new();
    place.run("ip", "route add local 10.7.0.0/16 dev lo");
    place.run("ip", "-6 route add local fd07::/16 dev lo");
    let rule = "-t nat -A OUTPUT -p tcp -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15001";
    place.run("iptables", rule);
    place.run("ip6tables", rule);
    run_on(choice, async {
        let wildcard = TcpListener::wildcard(true, 15001);
        let options = ListenOptions { mark: Some(OURS), ..ListenOptions::default() };
        let capture = TcpListener::bind(&place.namespace, wildcard, &options).expect("15001");
        for destination in ["10.7.1.2:80", "[fd07::2]:443"] {
            let destination: SocketAddr = destination.parse().expect("an address");
            let unmarked = ConnectOptions::default();
            let dialled = TcpStream::connect(&place.namespace, &unmarked, destination);
            let (near, accepted) = (dialled.await.expect("redirected"), capture.accept().await);
            let (far, peer) = accepted.expect("captured");
            assert_eq!(far.original_destination().expect("known"), destination);
            assert_eq!(near.peer_addr().expect("the app sees nothing of it"), destination);
            assert_eq!(peer, near.local_addr().expect("connected"));
            let accepted_fd = far.into_fd().expect("real");
            assert_eq!(socket2::SockRef::from(&accepted_fd).mark().expect("asked"), OURS);
        }
        let marked = ConnectOptions { mark: Some(OURS), ..ConnectOptions::default() };
        let direct = "10.7.1.2:80".parse().expect("an address");
        let error = TcpStream::connect(&place.namespace, &marked, direct).await;
        assert_eq!(
            error.expect_err("it passes, and nobody listens there").kind(),
            std::io::ErrorKind::ConnectionRefused
        );
    });
}

/// A dial with the client's own address, as the application shall see it: the rules of the pod
/// bring the answers back to us.
fn a_foreign_source_address_is_worn(choice: ReactorChoice) {
    let place = TestNamespace::new();
    place.run("ip", "addr add 10.8.0.1/32 dev lo");
    // Where a pod has its default route.
    place.run("ip", "route add default dev lo");
    for rule in [
        "-t mangle -A PREROUTING -m mark --mark 0x539/0xfff -j CONNMARK --set-xmark 0x111/0xfff",
        "-t mangle -A OUTPUT -m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark",
    ] {
        place.run("iptables", rule);
    }
    place.run("ip", "rule add fwmark 0x111/0xfff priority 32764 table 100");
    place.run("ip", "route add local 0.0.0.0/0 dev lo table 100");
    run_on(choice, async {
        let application: SocketAddr = (Ipv4Addr::new(10, 8, 0, 1), 8080).into();
        let options = ListenOptions::default();
        let listener = TcpListener::bind(&place.namespace, application, &options);
        let listener = listener.expect("the application");
        let client: IpAddr = Ipv4Addr::new(10, 99, 0, 7).into();
        let wearing = ConnectOptions {
            mark: Some(OURS),
            source: Some(client),
            source_required: true,
            timeout: Some(Duration::from_secs(10)),
            ..ConnectOptions::default()
        };
        let near = TcpStream::connect(&place.namespace, &wearing, application).await;
        let near = near.expect("the answers find back");
        assert!(near.has_foreign_source());
        let (far, peer) = listener.accept().await.expect("accepted");
        assert_eq!(peer.ip(), client);
        let served = spawn(echo(far));
        write_all(&near, b"as the client").await.expect("room");
        read_exact(&near, &mut [0; 13]).await.expect("an echo");
        drop(near);
        assert_eq!(served.await, TaskEnd::Completed);

        // A source of the wrong family cannot be had: an error if required, the caller's choice if
        // not.
        let impossible = ConnectOptions { source: "fd00::1".parse().ok(), ..wearing.clone() };
        assert!(TcpStream::connect(&place.namespace, &impossible, application).await.is_err());
        let lenient = ConnectOptions { source_required: false, ..impossible };
        let near = TcpStream::connect(&place.namespace, &lenient, application).await;
        assert!(!near.expect("from an own address").has_foreign_source());
        let listens = ListenOptions { transparent: true, ..ListenOptions::default() };
        let transparent = TcpListener::bind(&place.namespace, local(0), &listens);
        assert!(transparent.expect("a listener").is_transparent());
    });
}

fn what_is_no_namespace_is_refused(choice: ReactorChoice) {
    let before = descriptors();
    let (runtime, _) = Runtime::new(choice).expect("a runtime");
    runtime.block_on(async {
        assert!(NetNamespace::open("/dev/null").is_err());
        assert!(NetNamespace::open("/proc/self/ns/mnt").is_err(), "of another kind");
        assert!(NetNamespace::open("/run/netns/there-is-none").is_err());
        let home = NetNamespace::open("/proc/thread-self/ns/net").expect("our own");
        assert_eq!(home, here());
        let nothing = timeout(Duration::from_millis(1), std::future::pending::<()>()).await;
        assert!(nothing.is_err() && sockopt::socket_type(&home).is_err());
    });
    drop(runtime);
    assert_eq!(descriptors(), before);
}
