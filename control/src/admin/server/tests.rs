//! The server against clients that behave and that do not.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use hyper::{Method, StatusCode};

use super::*;

/// Runs `client` against a server that answers with what it was asked.
fn with_server<F: Future<Output = ()> + 'static>(
    client: impl FnOnce(SocketAddr, watch::Sender<bool>) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler: Handler = Rc::new(|request| {
            Box::pin(async move {
                let body = format!("{} {} {:?}\n", request.method, request.path, request.accept);
                Response::text(StatusCode::OK, body)
            })
        });
        let (stop, stopped) = watch::channel(false);
        let server = tokio::task::spawn_local(serve(listener, handler, stopped));
        client(address, stop.clone()).await;
        stop.send_replace(true);
        server.await.unwrap();
    });
}

async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_request_is_answered_also_after_a_half_close() {
    with_server(|address, _| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /a?b HTTP/1.1\r\nhost: x\r\naccept: y\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("GET /a [\"y\"]\n"), "{answer}");
    });
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    with_server(|address, _| async move {
        let large = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(3 * HEADER_BYTES_MAX));
        let answer = exchange(address, large.as_bytes()).await;
        assert!(!answer.contains("200 OK"), "{answer}");
    });
}

#[test]
fn a_head_that_never_ends_is_cut_off() {
    with_server(|address, _| async move {
        // Returns only because the server closes.
        let answer = exchange(address, b"GET / HTTP/1.1\r\nx: ").await;
        assert!(!answer.contains("200 OK"), "{answer}");
    });
}

#[test]
fn http2_is_not_spoken() {
    with_server(|address, _| async move {
        let answer = exchange(address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        assert!(!answer.contains("200 OK"), "{answer}");
    });
}

#[test]
fn idle_connections_do_not_hold_up_the_end() {
    with_server(|address, stop| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 15];
        stream.read_exact(&mut first).await.unwrap();
        stop.send_replace(true);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
    });
}

#[test]
fn who_was_accepted_before_the_end_is_answered() {
    with_server(|address, stop| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Accepted by now, and nothing asked.
        tokio::time::sleep(Duration::from_millis(20)).await;
        stop.send_replace(true);
        tokio::time::sleep(Duration::from_millis(20)).await;
        stream.write_all(b"GET /last HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("GET /last []\n"), "{answer}");
    });
}

#[test]
fn connections_are_bounded_and_come_back() {
    with_server(|address, _| async move {
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let mut first = [0; 15];
            stream.read_exact(&mut first).await.unwrap();
            open.push(stream);
        }
        let refused = exchange(address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(refused, "");
        drop(open);
        let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        while exchange(address, request).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn parameters_are_decoded() {
    let request = |query: &str| Request {
        method: Method::POST,
        path: "/logging".to_owned(),
        query: query.to_owned(),
        accept: Vec::new(),
        accept_encoding: Vec::new(),
    };
    //  query                                key      want
    let rows: [(&str, &str, &[&str]); 6] = [
        ("level=debug", "level", &["debug"]),
        ("level=access%3Adebug%2Cinfo", "level", &["access:debug,info"]),
        ("level=a&reset&level=b", "level", &["a", "b"]),
        ("level=a&reset", "reset", &[""]),
        ("level=a+b%", "level", &["a b%"]),
        ("", "level", &[]),
    ];
    for (query, key, want) in rows {
        assert_eq!(request(query).parameters(key), want, "{query}");
    }
}

proptest! {
    #[test]
    fn no_query_panics(query in any::<String>()) {
        let request = Request {
            method: Method::GET, path: String::new(), query, accept: Vec::new(), accept_encoding: Vec::new(),
        };
        let _ = request.parameters("level");
    }
}
