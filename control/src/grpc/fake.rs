//! A gRPC server for tests, in this process: it answers as it is told, and notes what it was asked.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;

use super::{Address, Endpoint, Roots};

/// What a server does with a call.
pub(crate) enum Answer {
    /// One message, and the end.
    Message(Vec<u8>),
    /// A stream of messages that ends when the sender is dropped.
    Stream(UnboundedReceiver<Vec<u8>>),
    /// A status that is not OK.
    Status(tonic::Code, &'static str),
    /// Nothing, ever.
    Silence,
    /// A message, once the channel says so.
    Later(tokio::sync::oneshot::Receiver<Vec<u8>>),
}

/// A call as the server saw it.
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) message: Vec<u8>,
}

type Handler = Rc<dyn Fn(Call) -> Answer>;

/// An authority for servers, and a certificate for `name` from it.
pub(crate) struct ServerPki {
    pub(crate) root: String,
    pub(crate) config: Arc<ServerConfig>,
}

impl ServerPki {
    pub(crate) fn new(names: &[&str]) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &root).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self { root: root.pem(), config: Arc::new(config) }
    }
}

/// A server; it ends, and cuts what is open, when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    tasks: Rc<RefCell<JoinSet<()>>>,
}

impl Server {
    /// Listens on a port of its own, or of an earlier server. Needs a `LocalSet`.
    pub(crate) async fn start(
        pki: Option<&ServerPki>,
        port: u16,
        handler: impl Fn(Call) -> Answer + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = pki.map(|pki| TlsAcceptor::from(pki.config.clone()));
        let handler: Handler = Rc::new(handler);
        let tasks = Rc::new(RefCell::new(JoinSet::new()));
        let weak = Rc::downgrade(&tasks);
        tasks.borrow_mut().spawn_local(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (tls, handler) = (tls.clone(), handler.clone());
                let Some(tasks) = weak.upgrade() else { return };
                tasks.borrow_mut().spawn_local(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(tcp).await {
                                serve(stream, handler).await;
                            }
                        }
                        None => serve(tcp, handler).await,
                    }
                });
            }
        });
        Self { address, tasks }
    }

    /// Cuts every connection and listens no more.
    pub(crate) fn stop(&self) {
        self.tasks.borrow_mut().abort_all();
    }
}

/// The same on a Unix socket.
pub(crate) fn serve_unix(listener: UnixListener, handler: impl Fn(Call) -> Answer + 'static) {
    let handler: Handler = Rc::new(handler);
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(serve(stream, handler.clone()));
        }
    });
}

/// What a test says to a stream of [`Answer::Stream`].
pub(crate) fn stream() -> (UnboundedSender<Vec<u8>>, Answer) {
    let (sender, receiver) = unbounded_channel();
    (sender, Answer::Stream(receiver))
}

/// An endpoint for a server on this host.
pub(crate) fn endpoint(scheme: &str, host: &str, port: u16, root: &str) -> Endpoint {
    let uri: Address = format!("{scheme}://{host}:{port}").parse().unwrap();
    Endpoint {
        uri,
        roots: Roots::Pem(root.to_owned()),
        alternative_hostname: None,
        token: None,
        cluster_id: "Kubernetes".to_owned(),
        headers: Vec::new(),
        post_quantum_only: false,
    }
}

/// Runs a test that has local tasks; one that hangs fails.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test hangs")
    })
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(stream: S, handler: Handler) {
    let service = service_fn(move |request| answer(request, handler.clone()));
    let connection = hyper::server::conn::http2::Builder::new(LocalExecutor)
        .serve_connection(TokioIo::new(stream), service);
    let _ended = connection.await;
}

#[derive(Clone)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

async fn answer(
    request: Request<Incoming>,
    handler: Handler,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(Response::new(http_body_util::Empty::new().boxed()));
    };
    let message = body.to_bytes().get(5..).unwrap_or_default().to_vec();
    let path = head.uri.path().to_owned();
    let (messages, status) = match handler(Call { path, headers: head.headers, message }) {
        Answer::Message(message) => (Messages::Ready(VecDeque::from([message])), None),
        Answer::Stream(receiver) => (Messages::ToCome(receiver), None),
        Answer::Status(code, text) => (Messages::Ready(VecDeque::new()), Some((code, text))),
        Answer::Silence => std::future::pending().await,
        Answer::Later(message) => match message.await {
            Ok(message) => (Messages::Ready(VecDeque::from([message])), None),
            Err(_) => std::future::pending().await,
        },
    };
    let mut response = Response::new(BodyExt::boxed(body_of(messages, status)));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    Ok(response)
}

enum Messages {
    Ready(VecDeque<Vec<u8>>),
    ToCome(UnboundedReceiver<Vec<u8>>),
}

fn body_of(
    messages: Messages,
    status: Option<(tonic::Code, &'static str)>,
) -> impl hyper::body::Body<Data = Bytes, Error = Infallible> + Send + Sync {
    struct Frames(Messages, Option<Frame<Bytes>>);
    impl tokio_stream::Stream for Frames {
        type Item = Result<Frame<Bytes>, Infallible>;

        fn poll_next(
            self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            let this = self.get_mut();
            let message = match &mut this.0 {
                Messages::Ready(messages) => std::task::Poll::Ready(messages.pop_front()),
                Messages::ToCome(receiver) => receiver.poll_recv(context),
            };
            message.map(|message| match message {
                Some(message) => Some(Ok(framed(&message))),
                None => this.1.take().map(Ok),
            })
        }
    }
    let mut trailers = HeaderMap::new();
    let (code, text) = status.unwrap_or((tonic::Code::Ok, ""));
    trailers.insert("grpc-status", HeaderValue::from(code as i32));
    trailers.insert("grpc-message", HeaderValue::from_static(text));
    StreamBody::new(Frames(messages, Some(Frame::trailers(trailers))))
}

fn framed(message: &[u8]) -> Frame<Bytes> {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    Frame::data(Bytes::from(frame))
}
