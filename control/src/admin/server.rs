//! The small HTTP server behind the admin, metrics and readiness ports.
//!
//! HTTP/1.1 only. Everything is bounded: the head of a request in size and time, the connections, and the life of a
//! connection. What is asked is answered by one function; request bodies are not read.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// A request's head must arrive within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);

/// A request's head is not larger. The smallest bound hyper allows.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// Connections of one server; scrapers and probes need a handful.
const CONNECTIONS_MAX: usize = 64;

/// A connection lives no longer, whatever its client does.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(120);

/// After an accept that failed, the server pauses.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// At the end, a connection that was accepted and has not asked anything may still do so for this long.
const LAST_QUESTION_TIMEOUT: Duration = Duration::from_millis(300);

/// At the end, how often is looked whether every connection has ended.
const END_LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What is asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The query, without its question mark.
    pub query: String,
    /// The `Accept` headers.
    pub accept: Vec<String>,
}

/// What is answered.
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    content_type: &'static str,
    allow: Option<&'static str>,
    body: Bytes,
}

/// The function that answers.
pub type Handler = Rc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Response>>>>;

impl Response {
    /// A text.
    pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::of(status, "text/plain; charset=utf-8", body)
    }

    /// Any other content.
    pub fn of(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, allow: None, body: body.into() }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The content type.
    pub fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// The content.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// 404.
    pub fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "not found\n")
    }

    /// 405.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let mut response = Self::text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
        response.allow = Some(allow);
        response
    }
}

impl Request {
    /// The values of `key` in the query, percent-decoded; a key without a value has an empty one.
    pub fn parameters(&self, key: &str) -> Vec<String> {
        self.query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .filter(|(name, _)| percent_decode(name) == key)
            .map(|(_, value)| percent_decode(value))
            .collect()
    }
}

/// Binds `address`. A wildcard falls back to IPv4 where there is no IPv6.
///
/// # Errors
/// The system's, when the port is taken or the address is not ours.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    let no_ipv6 = |error: &io::Error| {
        error.kind() == io::ErrorKind::AddrNotAvailable
            || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
    };
    match bound {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && no_ipv6(&error) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

/// Takes over the listening socket of a predecessor, if it is the one for `address`.
///
/// # Errors
/// When it is another, or none.
pub fn inherit(descriptor: OwnedFd, address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(descriptor);
    listener.set_nonblocking(true)?;
    let found = listener.local_addr()?;
    let fell_back = address.ip().is_unspecified() && found.ip().is_unspecified();
    if found.port() != address.port() || !(fell_back || found.ip() == address.ip()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {found}")));
    }
    TcpListener::from_std(listener)
}

/// Serves until `shutdown` becomes true, then finishes the answers under way. Must run in a `LocalSet`.
pub async fn serve(listener: TcpListener, handler: Handler, mut shutdown: watch::Receiver<bool>) {
    let open = Rc::new(Cell::new(0usize));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        match accepted {
            // Too many: whoever it is hears so at once, by a closed connection.
            Ok(_) if open.get() >= CONNECTIONS_MAX => {}
            Ok((stream, _)) => {
                let slot = Slot::take(&open);
                let (handler, shutdown) = (Rc::clone(&handler), shutdown.clone());
                tokio::task::spawn_local(async move {
                    let served = serve_connection(stream, handler, shutdown);
                    let _ = tokio::time::timeout(CONNECTION_LIFETIME, served).await;
                    drop(slot);
                });
            }
            // Out of descriptors or memory: the next attempt would fail the same way at once.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    // Nobody else will answer those that were accepted.
    while open.get() > 0 {
        tokio::time::sleep(END_LOOK_INTERVAL).await;
    }
}

async fn serve_connection(
    stream: TcpStream,
    handler: Handler,
    mut shutdown: watch::Receiver<bool>,
) {
    let asked = Notify::new();
    let service = service_fn(|request: hyper::Request<Incoming>| {
        asked.notify_one();
        let answer = handler(read(&request));
        async move { Ok::<_, Infallible>(write(answer.await)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
    // A client whose question is on its way gets its answer.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = asked.notified() => {}
        () = tokio::time::sleep(LAST_QUESTION_TIMEOUT) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

fn read(request: &hyper::Request<Incoming>) -> Request {
    let accept = request.headers().get_all(hyper::header::ACCEPT).iter();
    Request {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        accept: accept.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect(),
    }
}

fn write(response: Response) -> hyper::Response<Full<Bytes>> {
    let mut answer = hyper::Response::new(Full::new(response.body));
    *answer.status_mut() = response.status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(response.content_type));
    if let Some(allow) = response.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    answer
}

/// One of the connections a server may have.
struct Slot(Rc<Cell<usize>>);

impl Slot {
    fn take(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(Rc::clone(open))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// As in forms: `+` is a blank, `%41` a byte; what is malformed stays as it is.
fn percent_decode(text: &str) -> String {
    let mut bytes = text.as_bytes().iter();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(&byte) = bytes.next() {
        let rest = bytes.as_slice();
        match byte {
            b'+' => decoded.push(b' '),
            b'%' if rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit) => {
                let digits = std::str::from_utf8(&rest[..2]).expect("hex digits are ASCII");
                decoded.push(u8::from_str_radix(digits, 16).expect("two hex digits fit a byte"));
                bytes.nth(1);
            }
            byte => decoded.push(byte),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
                    let body =
                        format!("{} {} {:?}\n", request.method, request.path, request.accept);
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
            let large =
                format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(3 * HEADER_BYTES_MAX));
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
                method: Method::GET, path: String::new(), query, accept: Vec::new(),
            };
            let _ = request.parameters("level");
        }
    }
}
