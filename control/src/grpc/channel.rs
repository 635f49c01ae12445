//! One HTTP/2 connection to a server of the control plane, as the generated clients want it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue, USER_AGENT};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Request, Response, Uri};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;

use super::error::{GrpcError, lost};
use super::token::TokenSource;

/// Tells a control plane whose token it is.
const CLUSTER_ID: HeaderName = HeaderName::from_static("clusterid");

/// Who asks.
const OURSELVES: HeaderValue =
    HeaderValue::from_static(concat!("ringway/", env!("CARGO_PKG_VERSION")));

/// A connection; clones share it. It ends when the last clone and the last call are gone.
#[derive(Debug, Clone)]
pub struct Channel {
    sender: SendRequest<Body>,
    call: Arc<CallHead>,
}

/// What every call has in common.
#[derive(Debug)]
pub(super) struct CallHead {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    pub(super) token: Option<TokenSource>,
    pub(super) cluster_id: HeaderValue,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// There is no TLS, and nobody has answered yet: it may be TLS that is wanted.
    pub(super) may_want_tls: AtomicBool,
}

impl Channel {
    pub(super) fn new(sender: SendRequest<Body>, call: CallHead) -> Self {
        Self { sender, call: Arc::new(call) }
    }

    /// Whether no further call can begin: connect again.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether both are the same connection.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.call, &other.call)
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.sender.poll_ready(context).map_err(|error| self.call.lost(&error))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Err(error) = self.call.complete(&mut request) {
            return Box::pin(std::future::ready(Err(error.into())));
        }
        let (answer, call) = (self.sender.send_request(request), Arc::clone(&self.call));
        Box::pin(async move {
            let answer = answer.await.map_err(|error| call.lost(&error))?;
            call.may_want_tls.store(false, Ordering::Relaxed);
            Ok(answer)
        })
    }
}

impl CallHead {
    fn complete(&self, request: &mut Request<Body>) -> Result<(), GrpcError> {
        let path = request.uri().path_and_query().cloned();
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        *request.uri_mut() = uri.build().expect("all three parts are valid");
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, OURSELVES);
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.authorization()?);
            headers.insert(CLUSTER_ID, self.cluster_id.clone());
        }
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        Ok(())
    }
}

impl CallHead {
    /// Whatever the connection died of: the call may be made again on another.
    fn lost(&self, error: &hyper::Error) -> Status {
        let why = lost(error);
        let hint = match self.may_want_tls.load(Ordering::Relaxed) {
            true => "; is that a port that speaks TLS? Then its address begins with https://",
            false => "",
        };
        Status::unavailable(format!("the connection to the control plane was lost: {why}{hint}"))
    }
}
