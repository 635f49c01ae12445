//! Endpoints against servers that are right, wrong, and not there.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use prost::Message;
use prost_types::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use tonic::client::Grpc;
use tonic::{Code, Request, Status};

use super::fake::{Answer, Call, Server, ServerPki, endpoint, run, serve_unix, stream};
use super::*;

async fn ask(channel: &Channel, seconds: i64) -> Result<i64, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await?;
    let path = hyper::http::uri::PathAndQuery::from_static("/test.Echo/Say");
    let codec: tonic_prost::ProstCodec<Timestamp, Timestamp> = Default::default();
    let request = Request::new(Timestamp { seconds, nanos: 0 });
    Ok(client.unary(request, path, codec).await?.into_inner().seconds)
}

/// Doubles what it is told.
fn double(call: &Call) -> Answer {
    let mut told = Timestamp::decode(&*call.message).unwrap();
    told.seconds *= 2;
    Answer::Message(told.encode_to_vec())
}

#[test]
fn a_call_carries_who_we_are_and_the_token_of_its_moment() {
    run(async {
        let pki = ServerPki::new(&["localhost"]);
        let seen = Rc::new(RefCell::new(Vec::new()));
        let noted = seen.clone();
        let server = Server::start(Some(&pki), 0, move |call| {
            let text =
                |name: &str| call.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let all = ["authorization", "clusterid", "x-extra"].map(text);
            noted.borrow_mut().push((call.path.clone(), all));
            double(&call)
        })
        .await;
        let home = tempfile::tempdir().unwrap();
        let token = home.path().join("token");
        std::fs::write(&token, "first\n").unwrap();
        let endpoint = Endpoint {
            token: Some(TokenSource::File(token.clone())),
            cluster_id: "east".to_owned(),
            headers: vec![header("X-Extra", "1").unwrap()],
            ..endpoint("https", "localhost", server.address.port(), &pki.root)
        };
        let channel = connect(&endpoint).await.unwrap();
        assert_eq!(ask(&channel, 21).await.unwrap(), 42);
        std::fs::write(&token, "second").unwrap();
        assert_eq!(ask(&channel, 1).await.unwrap(), 2);
        std::fs::write(&token, "").unwrap();
        let refused = ask(&channel, 1).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert!(refused.message().contains("is empty"), "{refused}");
        let want = |token: &str| {
            let headers = [format!("Bearer {token}"), "east".to_owned(), "1".to_owned()];
            ("/test.Echo/Say".to_owned(), headers.map(Some))
        };
        assert_eq!(*seen.borrow(), [want("first"), want("second")]);
    });
}

#[test]
fn without_a_token_nothing_is_said_about_us() {
    run(async {
        let server = Server::start(None, 0, |call| {
            assert!(!call.headers.contains_key("authorization"));
            assert!(!call.headers.contains_key("clusterid"));
            double(&call)
        })
        .await;
        let endpoint = endpoint("http", "127.0.0.1", server.address.port(), "");
        let channel = connect(&endpoint).await.unwrap();
        assert_eq!(ask(&channel, 2).await.unwrap(), 4);
    });
}

#[test]
fn a_server_is_believed_by_its_root_and_one_of_two_names() {
    run(async {
        let (pki, other) = (ServerPki::new(&["istiod.test"]), ServerPki::new(&["istiod.test"]));
        let server = Server::start(Some(&pki), 0, |call| double(&call)).await;
        let port = server.address.port();
        //  name                     roots        alternative            want in the message
        let rows = [
            ("another name", &pki.root, None, Some("another name")),
            ("the second name", &pki.root, Some("istiod.test"), None),
            ("neither name", &pki.root, Some("else.test"), Some("another name")),
            ("another root", &other.root, Some("istiod.test"), Some("none of the roots")),
        ];
        for (name, root, alternative, want) in rows {
            let endpoint = Endpoint {
                alternative_hostname: alternative.map(str::to_owned),
                ..endpoint("https", "localhost", port, root)
            };
            match (connect(&endpoint).await, want) {
                (Ok(channel), None) => assert_eq!(ask(&channel, 3).await.unwrap(), 6, "{name}"),
                (Err(error), Some(want)) => {
                    assert!(error.to_string().contains(want), "{name}: {error}");
                }
                (got, _) => panic!("{name}: {got:?}"),
            }
        }
    });
}

#[test]
fn roots_are_read_again_for_every_connection() {
    run(async {
        let (pki, other) = (ServerPki::new(&["localhost"]), ServerPki::new(&["localhost"]));
        let server = Server::start(Some(&pki), 0, |call| double(&call)).await;
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("root-cert.pem");
        let endpoint = Endpoint {
            roots: Roots::File(file.clone()),
            ..endpoint("https", "localhost", server.address.port(), "")
        };
        let missing = connect(&endpoint).await.unwrap_err().to_string();
        assert!(missing.contains("root-cert.pem"), "{missing}");
        std::fs::write(&file, &other.root).unwrap();
        connect(&endpoint).await.unwrap_err();
        std::fs::write(&file, format!("{}{}", other.root, pki.root)).unwrap();
        connect(&endpoint).await.unwrap();
    });
}

#[test]
fn what_is_not_there_or_no_such_server_is_told_with_what_to_do() {
    run(async {
        let pki = ServerPki::new(&["localhost"]);
        let plain = Server::start(None, 0, |call| double(&call)).await;
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = free.local_addr().unwrap().port();
        drop(free);
        let port = plain.address.port();
        //  name             host                        port    want in the message
        let rows = [
            ("nobody", "127.0.0.1", nobody, "nothing listens on that port"),
            ("no such host", "istiod.invalid", 15012, "does the Service exist"),
            ("a plaintext port", "localhost", port, "plaintext port"),
        ];
        for (name, host, port, want) in rows {
            let endpoint = endpoint("https", host, port, &pki.root);
            let error = connect(&endpoint).await.expect_err(name);
            assert!(error.to_string().contains(want), "{name}: {error}");
            assert_eq!(Status::from(error).code(), Code::Unavailable, "{name}");
        }
    });
}

#[test]
fn a_lost_connection_is_told_and_does_not_come_back() {
    run(async {
        let server = Server::start(None, 0, |call| double(&call)).await;
        let endpoint = endpoint("http", "127.0.0.1", server.address.port(), "");
        let channel = connect(&endpoint).await.unwrap();
        assert_eq!(ask(&channel, 2).await.unwrap(), 4);
        assert!(!channel.is_closed());
        server.stop();
        let lost = ask(&channel, 2).await.unwrap_err();
        assert_eq!(lost.code(), Code::Unavailable, "{lost}");
        while !channel.is_closed() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn who_speaks_no_tls_to_a_port_that_does_is_told_so() {
    run(async {
        let pki = ServerPki::new(&["localhost"]);
        let server = Server::start(Some(&pki), 0, |call| double(&call)).await;
        let channel = connect(&endpoint("http", "127.0.0.1", server.address.port(), "")).await;
        let refused = ask(&channel.unwrap(), 2).await.unwrap_err();
        assert!(refused.message().contains("its address begins with https://"), "{refused}");
        // Where somebody has answered, that is not what is wrong.
        let plain = Server::start(None, 0, |call| double(&call)).await;
        let endpoint = endpoint("http", "127.0.0.1", plain.address.port(), "");
        let channel = connect(&endpoint).await.unwrap();
        ask(&channel, 2).await.unwrap();
        plain.stop();
        let lost = ask(&channel, 2).await.unwrap_err();
        assert!(!lost.message().contains("https://"), "{lost}");
    });
}

#[test]
fn headers_that_cannot_be_sent_are_refused() {
    //  name                   header            value     want
    let rows = [
        ("fine", "X-Team", "mesh", None),
        ("a space", "x team", "mesh", Some("its name")),
        ("nothing", "", "mesh", Some("its name")),
        ("a line end", "x-team", "a\nb", Some("its value")),
        ("ours", "Authorization", "Bearer x", Some("sets it itself")),
        ("gRPC's", "grpc-timeout", "1S", Some("sets it itself")),
        ("binary", "x-team-bin", "AA", Some("-bin")),
    ];
    for (name, header_name, value, want) in rows {
        match (header(header_name, value), want) {
            (Ok((header_name, _)), None) => assert_eq!(header_name.as_str(), "x-team", "{name}"),
            (Err(error), Some(want)) => {
                assert!(error.to_string().contains(want), "{name}: {error}")
            }
            (got, _) => panic!("{name}: {got:?}"),
        }
    }
}

#[test]
fn a_server_on_this_host_is_reached_by_its_socket() {
    run(async {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("agent.sock");
        let missing = connect_unix(&path, &[]).await.unwrap_err().to_string();
        assert!(missing.contains("agent.sock") && missing.contains("no such socket"), "{missing}");
        serve_unix(tokio::net::UnixListener::bind(&path).unwrap(), |call| {
            if call.headers.get("x-who").is_none_or(|who| who != "me") {
                return Answer::Status(Code::PermissionDenied, "who are you?");
            }
            let (messages, answer) = stream();
            for seconds in 1..=3 {
                messages.send(Timestamp { seconds, nanos: 0 }.encode_to_vec()).unwrap();
            }
            answer
        });
        let stranger = connect_unix(&path, &[]).await.unwrap();
        assert_eq!(ask(&stranger, 1).await.unwrap_err().code(), Code::PermissionDenied);
        let channel = connect_unix(&path, &[("x-who", "me")]).await.unwrap();
        let mut client = Grpc::new(channel);
        client.ready().await.unwrap();
        let path = hyper::http::uri::PathAndQuery::from_static("/test.Echo/Count");
        let codec: tonic_prost::ProstCodec<Timestamp, Timestamp> = Default::default();
        let request = Request::new(Timestamp::default());
        let response = client.server_streaming(request, path, codec).await.unwrap();
        let mut counted = response.into_inner();
        let mut seen = Vec::new();
        while let Some(told) = counted.message().await.unwrap() {
            seen.push(told.seconds);
        }
        assert_eq!(seen, [1, 2, 3]);
    });
}

/// Servers of gRPC's Go library take more than a PING in five minutes for abuse, unless they are told otherwise; SPIRE's
/// agent is one. istiod is told otherwise.
#[test]
fn a_server_on_this_host_is_not_asked_whether_it_is_there() {
    const PING: u8 = 6;
    run(async {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("agent.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let (channel, accepted) = tokio::join!(connect_unix(&path, &[]), listener.accept());
        let quiet = frames_within(Duration::from_millis(2500), accepted.unwrap().0).await;
        assert!(!quiet.contains(&PING), "{quiet:?}");
        assert!(!channel.unwrap().is_closed());

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = endpoint("http", "127.0.0.1", listener.local_addr().unwrap().port(), "");
        let (channel, accepted) = tokio::join!(connect(&endpoint), listener.accept());
        let asked = frames_within(Duration::from_millis(2500), accepted.unwrap().0).await;
        assert!(asked.contains(&PING), "{asked:?}");
        drop(channel);
    });
}

/// The types of the frames that a client sends while nothing is asked of it.
async fn frames_within(time: Duration, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Vec<u8> {
    const PREFACE_BYTES: usize = 24;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stream.write_all(&settings).await.unwrap();
    let deadline = Instant::now() + time;
    let mut bytes = Vec::new();
    while let Ok(Ok(1..)) = timeout_at(deadline, stream.read_buf(&mut bytes)).await {}
    let mut rest = bytes.get(PREFACE_BYTES..).unwrap_or_default();
    let mut kinds = Vec::new();
    while let [high, middle, low, kind, ..] = *rest {
        kinds.push(kind);
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    kinds
}
