//! A certificate authority for tests, behind a server in this process: it signs as it is told, and notes who asked.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use prost::Message;
use prost_types::value::Kind;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use ringway_protocols::identity::Identity;
use tokio::sync::oneshot;

use super::{IMPERSONATED, IstioCaConfig};
use crate::grpc::fake::{Answer, Call, Server, ServerPki, endpoint};
use crate::proto::ca::{IstioCertificateRequest, IstioCertificateResponse};

type Signer = CertifiedIssuer<'static, KeyPair>;

/// Who waits for which answer.
type Held = (oneshot::Sender<Vec<u8>>, Vec<u8>);

/// What the authority does with the next request; after the last it signs.
pub(crate) enum Mood {
    /// Signs as asked.
    Sign,
    /// Says no.
    Refuse(tonic::Code, &'static str),
    /// Never answers.
    Hang,
    /// Answers with these texts.
    Say(Vec<String>),
    /// Signs for somebody else.
    SignFor(&'static str),
    /// Signs another key.
    SignAnotherKey,
    /// Signs with this validity, relative to now: seconds before and after.
    SignFrom(i64, i64),
}

/// A request as the authority saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) uri: String,
    pub(crate) impersonated: Option<String>,
    pub(crate) seconds: i64,
    pub(crate) token: Option<String>,
}

/// The authority; clones are the same.
#[derive(Clone)]
pub(crate) struct FakeCa(Rc<State>);

struct State {
    roots: RefCell<Vec<Signer>>,
    intermediate: RefCell<Option<Signer>>,
    moods: RefCell<VecDeque<Mood>>,
    asked: RefCell<Vec<Asked>>,
    /// Requests wait until they are let go.
    holds: Cell<bool>,
    held: RefCell<Vec<Held>>,
    /// The most that waited side by side.
    most_held: Cell<usize>,
    lifetime: Cell<Duration>,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn root(name: &str) -> Signer {
    CertifiedIssuer::self_signed(authority(name), KeyPair::generate().unwrap()).unwrap()
}

impl FakeCa {
    pub(crate) fn new() -> Self {
        Self(Rc::new(State {
            roots: RefCell::new(vec![root("first root")]),
            intermediate: RefCell::default(),
            moods: RefCell::default(),
            asked: RefCell::default(),
            holds: Cell::new(false),
            held: RefCell::default(),
            most_held: Cell::new(0),
            lifetime: Cell::new(Duration::from_secs(24 * 3600)),
        }))
    }

    /// Serves on a port of its own, or of an earlier server.
    pub(crate) async fn serve(&self, port: u16) -> Server {
        let ca = self.clone();
        Server::start(None, port, move |call| ca.answer(&call)).await
    }

    pub(crate) async fn serve_tls(&self, pki: &ServerPki) -> Server {
        let ca = self.clone();
        Server::start(Some(pki), 0, move |call| ca.answer(&call)).await
    }

    /// How a client is told where it is.
    pub(crate) fn config(server: &Server) -> IstioCaConfig {
        IstioCaConfig::new(endpoint("http", "127.0.0.1", server.address.port(), ""))
    }

    pub(crate) fn will(&self, moods: impl IntoIterator<Item = Mood>) {
        self.0.moods.borrow_mut().extend(moods);
    }

    /// From now on an intermediate signs.
    pub(crate) fn use_intermediate(&self) {
        let roots = self.0.roots.borrow();
        let key = KeyPair::generate().unwrap();
        let signed = CertifiedIssuer::signed_by(authority("intermediate"), key, &roots[0]);
        self.0.intermediate.replace(Some(signed.unwrap()));
    }

    /// One more root is to be trusted; it does not sign.
    pub(crate) fn add_root(&self) {
        let name = format!("root {}", self.0.roots.borrow().len());
        self.0.roots.borrow_mut().push(root(&name));
    }

    pub(crate) fn set_lifetime(&self, lifetime: Duration) {
        self.0.lifetime.set(lifetime);
    }

    /// Answers no request until it is let go.
    pub(crate) fn hold(&self) {
        self.0.holds.set(true);
    }

    /// Lets all go that wait, in the order in which they came. `false`: requests wait no more.
    pub(crate) fn let_go(&self, go_on_holding: bool) {
        self.0.holds.set(go_on_holding);
        for (sender, response) in self.0.held.take() {
            let _gone = sender.send(response);
        }
    }

    pub(crate) fn held(&self) -> usize {
        let mut held = self.0.held.borrow_mut();
        held.retain(|(sender, _)| !sender.is_closed());
        held.len()
    }

    pub(crate) fn most_held(&self) -> usize {
        self.0.most_held.get()
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.0.asked.borrow().clone()
    }

    /// The service accounts that were asked for, in this order.
    pub(crate) fn asked_for(&self) -> Vec<String> {
        let account =
            |asked: Asked| Identity::parse(&asked.uri).unwrap().service_account().to_owned();
        self.asked().into_iter().map(account).collect()
    }

    fn answer(&self, call: &Call) -> Answer {
        assert_eq!(call.path, "/istio.v1.auth.IstioCertificateService/CreateCertificate");
        let request = IstioCertificateRequest::decode(&*call.message).unwrap();
        let csr = CertificateSigningRequestParams::from_pem(&request.csr).unwrap();
        let [SanType::URI(uri)] = csr.params.subject_alt_names.as_slice() else {
            panic!("{:?}", csr.params.subject_alt_names);
        };
        let text = |name: &str| {
            let value = request.metadata.as_ref()?.fields.get(name)?;
            let Some(Kind::StringValue(text)) = &value.kind else { return None };
            Some(text.clone())
        };
        let token = call.headers.get("authorization");
        self.0.asked.borrow_mut().push(Asked {
            uri: uri.to_string(),
            impersonated: text(IMPERSONATED),
            seconds: request.validity_duration,
            token: token.map(|token| token.to_str().unwrap().to_owned()),
        });
        let mood = self.0.moods.borrow_mut().pop_front().unwrap_or(Mood::Sign);
        let lifetime = i64::try_from(self.0.lifetime.get().as_secs()).unwrap();
        let chain = match mood {
            Mood::Sign => self.sign(csr, -60, lifetime),
            Mood::SignFrom(from, until) => self.sign(csr, from, until),
            Mood::SignAnotherKey => {
                let mut params = csr.params;
                params.distinguished_name = DistinguishedName::new();
                let key = KeyPair::generate().unwrap();
                let roots = self.0.roots.borrow();
                vec![params.signed_by(&key, &roots[0]).unwrap().pem(), roots[0].pem()]
            }
            Mood::SignFor(other) => {
                let mut csr = csr;
                csr.params.subject_alt_names = vec![SanType::URI(other.try_into().unwrap())];
                self.sign(csr, -60, lifetime)
            }
            Mood::Say(texts) => texts,
            Mood::Refuse(code, why) => return Answer::Status(code, why),
            Mood::Hang => return Answer::Silence,
        };
        let response = IstioCertificateResponse { cert_chain: chain }.encode_to_vec();
        if !self.0.holds.get() {
            return Answer::Message(response);
        }
        let (sender, receiver) = oneshot::channel();
        self.0.held.borrow_mut().push((sender, response));
        self.0.most_held.set(self.0.most_held.get().max(self.held()));
        Answer::Later(receiver)
    }

    fn sign(&self, mut csr: CertificateSigningRequestParams, from: i64, until: i64) -> Vec<String> {
        let now = time::OffsetDateTime::from(SystemTime::now());
        csr.params.not_before = now + time::Duration::seconds(from);
        csr.params.not_after = now + time::Duration::seconds(until);
        csr.params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let (roots, intermediate) = (self.0.roots.borrow(), self.0.intermediate.borrow());
        let signer = intermediate.as_ref().unwrap_or(&roots[0]);
        let leaf = csr.signed_by(signer).unwrap().pem();
        let middle = intermediate.as_ref().map(|intermediate| intermediate.pem());
        let trusted = roots.iter().map(|root| root.pem()).collect::<String>();
        [Some(leaf), middle, Some(trusted)].into_iter().flatten().collect()
    }
}
