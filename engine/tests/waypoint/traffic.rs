//! How requests are passed on, as policies say.

use std::{
    collections::BTreeMap,
    io::{BufReader, Write},
    net::{IpAddr, Ipv4Addr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use http::HeaderName;
use ringway_engine::{
    runtime::ReactorChoice, snapshot::AppProtocol, telemetry::http::ResponseFlag,
};
use ringway_http::model::{
    policy::{Attached, Policies, PolicyName, Target},
    traffic::{
        Balancing, ConnectionLimits, ConsistentHash, HashKey, HashSpread, LocalityPolicy,
        OutlierDetection, RetryBudget, SessionCarrier, SessionPersistence, TrafficPolicy,
    },
};

use crate::{
    application::{Client, Message, ok, read_message, serve, serve_at, serve_http},
    mesh::{Mesh, PATIENCE, Plan, SERVER, on_both, retrying, rule, wait_for, web},
};

const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4));
const THIRD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 5));

/// The service, under a policy of its own.
fn under(policy: TrafficPolicy, plan: Plan) -> Plan {
    let name = PolicyName { namespace: "shop".into(), name: "web".into() };
    let targets = vec![Target::Service { service: web(), port: None }];
    let traffic = vec![Attached { name, targets, policy }];
    plan.under(Policies { traffic, ..Policies::default() })
}

fn limited(limits: ConnectionLimits) -> TrafficPolicy {
    TrafficPolicy { limits, ..TrafficPolicy::default() }
}

/// An application that answers `/hold` when it is told to: its port, how many it holds or has held, and who tells it.
fn holding() -> (u16, Arc<AtomicUsize>, Sender<()>) {
    let (release, released) = channel::<()>();
    let (held, released) = (Arc::new(AtomicUsize::new(0)), Mutex::new(released));
    let counted = held.clone();
    let (port, _requests) = serve_http(move |connection, request| {
        if request.line.contains("/hold") {
            counted.fetch_add(1, Relaxed);
            released.lock().expect("whole").recv_timeout(PATIENCE).expect("told");
        }
        ok(&connection.to_string())
    });
    (port, held, release)
}

const HOLD: &str = "GET /hold HTTP/1.1\r\nhost: web\r\n\r\n";

/// Sends until the answer is this.
fn get_until(client: &mut Client, status: u16) -> Message {
    loop {
        let answer = client.get("/");
        if answer.status() == status {
            return answer;
        }
    }
}

#[test]
fn as_many_requests_as_may_be_under_way() {
    on_both(|reactor| {
        let (port, held, release) = holding();
        let limits = ConnectionLimits { requests: Some(1), ..ConnectionLimits::default() };
        let plan = under(limited(limits), Plan::of(port, AppProtocol::Http11));
        let mesh = Mesh::start(reactor, &plan);
        let (mut one, mut other) = (Client::new(mesh.connect(80)), Client::new(mesh.connect(80)));
        one.send(HOLD);
        wait_for(|| (held.load(Relaxed) == 1).then_some(()));
        let answer = get_until(&mut other, 503);
        assert!(answer.text().ends_with("reset reason: overflow"), "{}", answer.text());
        let record = wait_for(|| {
            mesh.waypoint.telemetry().http().next_record().filter(|record| record.code == 503)
        });
        assert!(record.flags.has(ResponseFlag::UpstreamOverflow));
        assert_eq!(&*record.details, "upstream_reset_before_response_started{overflow}");
        release.send(()).expect("it waits");
        assert_eq!(one.receive().status(), 200);
        // Its place is there again.
        get_until(&mut other, 200);
    });
}

#[test]
fn requests_wait_for_a_connection_as_many_as_may() {
    on_both(|reactor| {
        let (port, _held, release) = holding();
        let limits = ConnectionLimits {
            connections: Some(1),
            pending: Some(1),
            ..ConnectionLimits::default()
        };
        let plan = under(limited(limits), Plan::of(port, AppProtocol::Http11));
        let mesh = Mesh::start(reactor, &plan);
        let mut clients = [(); 4].map(|()| Client::new(mesh.connect(80)));
        // Its connection is open from here on, and comes back.
        assert_eq!(clients[0].get("/").text(), "0");
        mesh.record();
        clients[1..].iter_mut().for_each(|client| client.send(HOLD));
        // One is at work and one waits; for the third there is no room.
        let record = mesh.record();
        assert!(record.flags.has(ResponseFlag::UpstreamOverflow), "{}", record.flags);
        release.send(()).expect("it waits");
        release.send(()).expect("the next one waits");
        let answers = clients[1..].iter_mut().map(|client| client.receive());
        let mut statuses: Vec<_> = answers
            .inspect(|answer| assert!(answer.status() == 503 || answer.text() == "0"))
            .map(|answer| answer.status())
            .collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 503]);
    });
}

#[test]
fn a_connection_carries_as_many_requests_as_it_may() {
    on_both(|reactor| {
        let (port, _requests) = serve_http(|connection, _| ok(&connection.to_string()));
        let requests_per_connection = Some(2);
        let limits = ConnectionLimits { requests_per_connection, ..ConnectionLimits::default() };
        let plan = under(limited(limits), Plan::of(port, AppProtocol::Http11));
        let mesh = Mesh::start(reactor, &plan);
        let mut client = Client::new(mesh.connect(80));
        let connections: Vec<_> = (0..6).map(|_| client.get("/").text().to_owned()).collect();
        assert_eq!(connections, ["0", "0", "1", "1", "2", "2"]);
    });
}

#[test]
fn connections_are_closed_that_have_nothing_to_do() {
    on_both(|reactor| {
        let (left, leaves) = channel();
        let left = Mutex::new(left);
        let port = serve(move |number, mut stream| {
            let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
            while read_message(&mut reader, false).is_some() {
                stream.write_all(ok(&number.to_string()).as_bytes()).expect("room");
            }
            left.lock().expect("whole").send(number).expect("heard");
        });
        let idle = Some(Duration::from_millis(50));
        let limits = ConnectionLimits { idle, ..ConnectionLimits::default() };
        let plan = under(limited(limits), Plan::of(port, AppProtocol::Http11));
        let mesh = Mesh::start(reactor, &plan);
        let mut client = Client::new(mesh.connect(80));
        assert_eq!(client.get("/").text(), "0");
        // Long before the minute that it would be kept otherwise.
        assert_eq!(leaves.recv_timeout(Duration::from_secs(20)), Ok(0));
        assert_eq!(client.get("/").text(), "1");
    });
}

#[test]
fn no_more_is_tried_again_than_the_budget_has() {
    let none = RetryBudget { percent: 0.0, floor: 0, ..RetryBudget::default() };
    let by_budget = TrafficPolicy { retry_budget: Some(none), ..TrafficPolicy::default() };
    let by_limit = limited(ConnectionLimits { retries: Some(0), ..ConnectionLimits::default() });
    let free =
        TrafficPolicy { retry_budget: Some(RetryBudget::default()), ..TrafficPolicy::default() };
    // Of what the budget does not have, 503 is told, whatever the backend has said.
    for (policy, tries, told) in [(by_budget, 1, 503), (by_limit, 1, 500), (free, 4, 500)] {
        on_both(|reactor| {
            let (port, requests) =
                serve_http(|_, _| "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_owned());
            let mut again = rule("/");
            again.retry = retrying(3, &[500]);
            let plan = Plan::of(port, AppProtocol::Http11).with(vec![again]);
            let mesh = Mesh::start(reactor, &under(policy.clone(), plan));
            assert_eq!(Client::new(mesh.connect(80)).get("/").status(), told);
            let record = mesh.record();
            assert_eq!(record.flags.has(ResponseFlag::UpstreamOverflow), tries == 1);
            assert_eq!(requests.try_iter().count(), tries);
        });
    }
}

/// Three endpoints that tell who they are; what `answer` says else.
fn three(answer: impl Fn(IpAddr, &Message) -> Option<String> + Send + Sync + 'static) -> Plan {
    let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let port = serve_at(everywhere, move |_, mut stream: TcpStream| {
        let own = stream.local_addr().expect("connected").ip();
        let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
        while let Some(request) = read_message(&mut reader, false) {
            let answer = answer(own, &request).unwrap_or_else(|| ok(&own.to_string()));
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let others = vec![(SECOND, "us"), (THIRD, "eu")];
    Plan { others, ..Plan::of(port, AppProtocol::Http11) }
}

fn ask(client: &mut Client, headers: &str) -> Message {
    client.send(&format!("GET / HTTP/1.1\r\nhost: web\r\n{headers}\r\n"));
    client.receive()
}

fn by(balancing: Balancing) -> TrafficPolicy {
    TrafficPolicy { balancing: Some(balancing), ..TrafficPolicy::default() }
}

fn start(reactor: ReactorChoice, policy: TrafficPolicy) -> Mesh {
    Mesh::start(reactor, &under(policy, three(|_, _| None)))
}

/// How many of so many requests each endpoint gets.
fn shares(client: &mut Client, count: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        *shares.entry(client.get("/").text().to_owned()).or_default() += 1;
    }
    shares
}

#[test]
fn one_after_the_other() {
    on_both(|reactor| {
        let mesh = start(reactor, by(Balancing::RoundRobin));
        let shares = shares(&mut Client::new(mesh.connect(80)), 12);
        assert_eq!(shares.into_values().collect::<Vec<_>>(), [4, 4, 4]);
    });
}

/// One of three holds what it gets. Of two that chance picks it is taken only if it is both: one time in nine, and not one
/// in three.
#[test]
fn who_has_much_to_do_gets_less() {
    const REQUESTS: usize = 200;
    on_both(|reactor| {
        let (release, released) = channel::<()>();
        let (held, released) = (Arc::new(AtomicUsize::new(0)), Mutex::new(released));
        let counted = held.clone();
        let plan = three(move |own, _| {
            if own == SECOND {
                counted.fetch_add(1, Relaxed);
                // Until there is nobody who could tell.
                let _end = released.lock().expect("whole").recv_timeout(PATIENCE);
            }
            None
        });
        let mesh = Mesh::start(reactor, &under(by(Balancing::LeastRequest), plan));
        let ask = || {
            let before = held.load(Relaxed);
            let mut client = Client::new(mesh.connect(80));
            client.send("GET / HTTP/1.1\r\nhost: web\r\n\r\n");
            client.stream.set_nonblocking(true).expect("set");
            let is_answered = || client.stream.peek(&mut [0]).is_ok();
            wait_for(|| (held.load(Relaxed) > before || is_answered()).then_some(()));
            client
        };
        let clients: Vec<_> = (0..REQUESTS).map(|_| ask()).collect();
        let held = held.load(Relaxed);
        assert!((1..45).contains(&held), "{held} of {REQUESTS}: by chance alone it would be 67");
        drop(release);
        drop(clients);
    });
}

#[test]
fn requests_that_are_alike_go_to_the_same_endpoint() {
    let spreads = [HashSpread::Ring { points_min: 1024 }, HashSpread::Maglev { places: 65537 }];
    for spread in spreads {
        on_both(|reactor| {
            let key = HashKey::Header(HeaderName::from_static("x-user"));
            let hash = ConsistentHash { key, spread };
            let mesh = start(reactor, by(Balancing::ConsistentHash(hash)));
            let mut client = Client::new(mesh.connect(80));
            let mut shares = BTreeMap::<String, usize>::new();
            for user in 0..30 {
                let header = format!("x-user: {user}\r\n");
                let first = ask(&mut client, &header).text().to_owned();
                for _ in 0..3 {
                    assert_eq!(ask(&mut client, &header).text(), first);
                }
                *shares.entry(first).or_default() += 1;
            }
            assert_eq!(shares.len(), 3, "{shares:?}");
        });
    }
}

#[test]
fn a_client_is_given_a_cookie_to_be_like_itself() {
    on_both(|reactor| {
        let key = HashKey::Cookie {
            name: "alike".into(),
            path: "/".into(),
            lifetime: Some(Duration::from_secs(60)),
        };
        let hash = ConsistentHash { key, spread: HashSpread::Maglev { places: 251 } };
        let mesh = start(reactor, by(Balancing::ConsistentHash(hash)));
        let mut client = Client::new(mesh.connect(80));
        let first = ask(&mut client, "");
        let cookie = first.header("set-cookie").expect("a cookie");
        assert!(cookie.ends_with("; Max-Age=60; Path=/; HttpOnly"), "{cookie}");
        let header = format!("cookie: {}\r\n", cookie.split(';').next().expect("a pair"));
        for _ in 0..10 {
            let again = ask(&mut client, &header);
            assert_eq!((again.text(), again.header("set-cookie")), (first.text(), None));
        }
    });
}

#[test]
fn a_client_comes_back_to_its_endpoint() {
    on_both(|reactor| {
        let session = SessionPersistence {
            by: SessionCarrier::Cookie { name: "s".into(), path: None, permanent: false },
            absolute: None,
            idle: None,
            scope: 0,
        };
        let policy = TrafficPolicy { session: Some(session), ..TrafficPolicy::default() };
        let plan = three(|_, request| request.header("cookie").map(ok));
        let mesh = Mesh::start(reactor, &under(policy, plan));
        let mut client = Client::new(mesh.connect(80));
        let mut seen = BTreeMap::new();
        for _ in 0..12 {
            let first = ask(&mut client, "");
            let cookie = first.header("set-cookie").expect("a session").split(';').next();
            let header = format!("cookie: {}\r\n", cookie.expect("a pair"));
            for _ in 0..3 {
                // Nor does the service see the cookie: it would tell.
                let again = ask(&mut client, &header);
                assert_eq!((again.text(), again.header("set-cookie")), (first.text(), None));
            }
            *seen.entry(first.text().to_owned()).or_insert(0) += 1;
        }
        assert!(seen.len() > 1, "{seen:?}");
        assert_eq!(ask(&mut client, "cookie: s=bm9uc2Vuc2U; a=b\r\n").text(), "a=b");
    });
}

#[test]
fn who_fails_gets_nothing_for_a_while() {
    on_both(|reactor| {
        let plan = three(|own, _| {
            let broken = "HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n".to_owned();
            (own == SECOND).then_some(broken)
        });
        let outliers =
            OutlierDetection { consecutive_5xx: 3, max_percent: 50, ..OutlierDetection::default() };
        let policy = TrafficPolicy { outliers: Some(outliers), ..by(Balancing::RoundRobin) };
        let mesh = Mesh::start(reactor, &under(policy, plan));
        let mut client = Client::new(mesh.connect(80));
        let failed = (0..60).filter(|_| client.get("/").status() == 500).count();
        assert_eq!(failed, 3, "then it was thrown out");
    });
}

#[test]
fn when_too_few_are_left_all_are_used() {
    on_both(|reactor| {
        let broken = || "HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n".to_owned();
        let plan = three(move |own, _| (own != SERVER).then(broken));
        let outliers = OutlierDetection {
            consecutive_5xx: 1,
            max_percent: 100,
            min_health_percent: 50,
            ..OutlierDetection::default()
        };
        let policy = TrafficPolicy { outliers: Some(outliers), ..by(Balancing::RoundRobin) };
        let mesh = Mesh::start(reactor, &under(policy, plan));
        let mut client = Client::new(mesh.connect(80));
        let failed = (0..30).filter(|_| client.get("/").status() == 500).count();
        assert!(failed > 10, "{failed} of 30: one in three is fewer than half");
    });
}

#[test]
fn nearby_first() {
    on_both(|reactor| {
        let locality = Some(LocalityPolicy::default());
        let policy = TrafficPolicy { locality, ..by(Balancing::RoundRobin) };
        let mesh = start(reactor, policy);
        let shares = shares(&mut Client::new(mesh.connect(80)), 10);
        assert_eq!(shares, [(SERVER.to_string(), 5), (THIRD.to_string(), 5)].into());
    });
}
