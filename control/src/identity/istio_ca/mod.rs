//! The client of Istio's certificate service, and of whatever stands in its place.
//!
//! For each certificate a key is made here, and a request for it is sent to the control plane, in the name of a workload
//! of this host where the process serves many. The connection is shared by all requests, and made anew when it has
//! ended or the file of roots has changed; one that works is kept when a new one cannot be made.
//!
//! **Invariant:** a private key never leaves the process, and is in no request.

#[cfg(test)]
pub(crate) mod fake;
mod request;
mod response;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use aws_lc_rs::digest;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use ringway_protocols::identity::Identity;
use ringway_protocols::tls::Material;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tonic::{Code, Status};

use self::request::SigningRequest;
use super::certificate;
use super::embedded_ca::LEAF_LIFETIME;
use super::store::{Epoch, Refusal};
use crate::grpc::{self, Channel, Endpoint};
use crate::proto::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use crate::proto::ca::{IstioCertificateRequest, IstioCertificateResponse};

/// How long an answer may take: a signature is a matter of milliseconds, on a busy control plane of seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Larger than any chain with its roots; what comes after it is not read.
const RESPONSE_BYTES_MAX: usize = 1 << 20;

/// By this a control plane is told for whom a node asks.
const IMPERSONATED: &str = "ImpersonatedIdentity";

/// How certificates are asked for.
#[derive(Debug, Clone)]
pub struct IstioCaConfig {
    /// Where, and what is said about us.
    pub endpoint: Endpoint,
    /// How long certificates are to be valid; the authority may decide otherwise.
    pub lifetime: Duration,
    /// Whether we ask in the name of workloads. `false`: for ourselves, as one workload's own proxy does.
    pub impersonates: bool,
    /// How long an answer may take.
    pub answer_timeout: Duration,
}

impl IstioCaConfig {
    /// As a node asks that serves many workloads.
    pub fn new(endpoint: Endpoint) -> Self {
        let (lifetime, answer_timeout) = (LEAF_LIFETIME, ANSWER_TIMEOUT);
        Self { endpoint, lifetime, impersonates: true, answer_timeout }
    }
}

/// See the module's text.
pub struct IstioCa {
    config: IstioCaConfig,
    connection: Mutex<Option<Channel>>,
    /// The roots changed since the connection was made.
    is_stale: Cell<bool>,
    /// How many connections were tried, and how the last one failed.
    tried: Cell<u64>,
    failed: RefCell<Option<Refusal>>,
    epoch: RefCell<Epoch>,
}

impl IstioCa {
    /// A client that connects with its first request.
    pub fn new(config: IstioCaConfig) -> Self {
        let client = Self {
            config,
            connection: Mutex::default(),
            is_stale: Cell::new(false),
            tried: Cell::new(0),
            failed: RefCell::default(),
            epoch: RefCell::default(),
        };
        client.look_at_roots();
        client
    }

    /// A fresh key for `identity`, and what the authority says about it.
    ///
    /// # Errors
    /// [`Refusal`], with what to do about it.
    pub async fn issue(&self, identity: &Identity) -> Result<Material, Refusal> {
        // Without a token nobody is asked; and it is not the identity that is at fault.
        if let Some(token) = &self.config.endpoint.token {
            token.check().map_err(|error| Refusal::Unreachable(error.to_string()))?;
        }
        let signing = SigningRequest::new(identity).map_err(Refusal::Refused)?;
        let channel = self.channel().await?;
        let answer = self.ask(channel.clone(), &signing, identity).await;
        let response = match answer {
            Ok(response) => response,
            Err(status) => {
                let is_lost = channel.is_closed() || status.code() == Code::DeadlineExceeded;
                if is_lost {
                    self.forget(&channel).await;
                }
                return Err(self.refusal(&status, is_lost));
            }
        };
        let received = response::read(&response.cert_chain)
            .map_err(|why| Refusal::Refused(format!("{} answered with {why}", self.server())))?;
        Ok(signing.complete(received))
    }

    /// Notes that the file of roots may have changed: with other roots in it, the next request makes a connection of its
    /// own, and every certificate is asked for again. Returns whether that is so.
    pub fn look_at_roots(&self) -> bool {
        // What cannot be read now changes nothing; a connection that needs it will say so.
        let Some(roots) =
            self.config.endpoint.roots.file().and_then(|path| std::fs::read(path).ok())
        else {
            return false;
        };
        let fingerprint = certificate::hex(digest::digest(&digest::SHA256, &roots).as_ref());
        let epoch = Epoch::new([fingerprint]);
        if *self.epoch.borrow() == epoch {
            return false;
        }
        self.is_stale.set(*self.epoch.borrow() != Epoch::default());
        self.epoch.replace(epoch);
        true
    }

    /// Changes with the roots.
    pub fn epoch(&self) -> Epoch {
        self.epoch.borrow().clone()
    }

    /// The configuration.
    pub fn config(&self) -> &IstioCaConfig {
        &self.config
    }

    async fn ask(
        &self,
        channel: Channel,
        signing: &SigningRequest,
        identity: &Identity,
    ) -> Result<IstioCertificateResponse, Status> {
        let seconds = self.config.lifetime.as_secs();
        let request = IstioCertificateRequest {
            csr: signing.pem(),
            validity_duration: i64::try_from(seconds).unwrap_or(i64::MAX),
            metadata: self.config.impersonates.then(|| impersonating(identity)),
        };
        let mut client = IstioCertificateServiceClient::new(channel)
            .max_decoding_message_size(RESPONSE_BYTES_MAX);
        match timeout(self.config.answer_timeout, client.create_certificate(request)).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Status::deadline_exceeded("no answer")),
        }
    }

    /// The connection that there is, or a new one.
    async fn channel(&self) -> Result<Channel, Refusal> {
        let tried = self.tried.get();
        let mut held = self.connection.lock().await;
        let usable = held.clone().filter(|channel| !channel.is_closed());
        if let Some(channel) = &usable
            && !self.is_stale.get()
        {
            return Ok(channel.clone());
        }
        // Whoever waited for an attempt of somebody else's shares its outcome.
        if self.tried.get() != tried
            && let Some(refusal) = self.failed.borrow().clone()
        {
            return Err(refusal);
        }
        let connected = grpc::connect(&self.config.endpoint).await;
        self.tried.set(self.tried.get() + 1);
        match (connected, usable) {
            (Ok(channel), _) => {
                self.is_stale.set(false);
                self.failed.replace(None);
                *held = Some(channel.clone());
                Ok(channel)
            }
            (Err(error), Some(channel)) => {
                tracing::warn!(%error, "no connection with the new roots; the one before is kept");
                Ok(channel)
            }
            (Err(error), None) => {
                let refusal = Refusal::Unreachable(error.to_string());
                self.failed.replace(Some(refusal.clone()));
                *held = None;
                Err(refusal)
            }
        }
    }

    /// Lets go of a connection that does not answer, if it is still the one.
    async fn forget(&self, channel: &Channel) {
        let mut held = self.connection.lock().await;
        if held.as_ref().is_some_and(|held| held.is_same(channel)) {
            *held = None;
        }
    }

    fn refusal(&self, status: &Status, is_lost: bool) -> Refusal {
        let (server, code, why) = (self.server(), status.code(), status.message());
        let away = matches!(
            code,
            Code::Unavailable
                | Code::DeadlineExceeded
                | Code::Cancelled
                | Code::ResourceExhausted
                | Code::Aborted
        );
        if is_lost || away {
            let code = describe(code);
            return Refusal::Unreachable(format!(
                "{server} gives no certificates now ({code}): {why}"
            ));
        }
        let hint = match code {
            Code::Unauthenticated if self.config.endpoint.token.is_none() => &grpc::no_token(),
            Code::Unauthenticated | Code::PermissionDenied => {
                "does a workload of this identity run on this node, is our service account among the control plane's trusted node accounts, and is our token for it?"
            }
            Code::Unimplemented => "is that the address of a certificate authority?",
            _ => "the control plane's log may say more",
        };
        Refusal::Refused(format!("{server} refuses ({}): {why}; {hint}", describe(code)))
    }

    fn server(&self) -> String {
        self.config.endpoint.uri.to_string()
    }
}

/// As operators find it in the other side's log.
fn describe(code: Code) -> String {
    format!("{code:?}")
}

fn impersonating(identity: &Identity) -> Struct {
    let value = Value { kind: Some(Kind::StringValue(identity.to_string())) };
    Struct { fields: [(IMPERSONATED.to_owned(), value)].into() }
}
