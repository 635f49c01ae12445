//! TLS towards servers that are not of the mesh: by which authorities and names one is believed, and who we say we are.
//!
//! rustls keeps the whole session: what such a server is sent goes through a relay of the engine's, and not through
//! [`Records`](super::Records). A session is never resumed, so that each connection is judged by a certificate that was
//! shown for it.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use webpki::EndEntityCert;

use super::{
    error::Error,
    revocation::RevocationLists,
    trust::{PeerRole, Trust},
};

/// How a server is told from any other, and what it is shown.
#[derive(Clone, Debug)]
pub struct Origination<'a> {
    /// Who may sign for it, in PEM. One that cannot be read is passed over: systems have such.
    pub authorities: &'a [u8],
    /// Which of their certificates count no more: any number of lists in PEM. Of what no list speaks, nothing is revoked.
    pub revoked: &'a [u8],
    /// By what it is known.
    pub belief: Belief<'a>,
    /// A certificate chain and its key, in PEM, for servers that ask who we are.
    pub client: Option<(&'a [u8], &'a [u8])>,
}

/// By what a server is known.
#[derive(Clone, Debug)]
pub enum Belief<'a> {
    /// An authority has signed for the name that it is called by.
    ServerName,
    /// An authority has signed for one of these.
    OneOf(Vec<AlternativeName<'a>>),
    /// An authority has signed for whatever it is.
    AnyName,
    /// It has answered: whoever is in the middle may be it.
    Anybody,
}

/// A name in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlternativeName<'a> {
    /// `example.com`, or `*.example.com`: one label in front, whichever it is; or an address.
    Host(&'a str),
    /// `spiffe://…`, letter by letter.
    Uri(&'a str),
}

impl Origination<'_> {
    /// What sessions with such a server are made of.
    ///
    /// # Errors
    /// [`Error::Credentials`]: authorities, names or the client's certificate cannot be used; [`Error::Revocation`]: the
    /// lists of what is revoked cannot.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = OutsideVerifier::new(self, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match self.client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
                let chain = chain.map_err(|error| unusable_because("certificate", &error))?;
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|error| unusable_because("private key", &error))?;
                builder.with_client_auth_cert(chain, key).map_err(unusable)?
            }
        };
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// None: whoever answers is believed.
    fn trust(&self, provider: &CryptoProvider) -> Result<Option<Trust>, Error> {
        if matches!(self.belief, Belief::Anybody) {
            return Ok(None);
        }
        let read = |certificate: CertificateDer<'_>| {
            webpki::anchor_from_trusted_cert(&certificate).map(|anchor| anchor.to_owned()).ok()
        };
        let certificates = CertificateDer::pem_slice_iter(self.authorities).filter_map(Result::ok);
        let anchors: Vec<_> = certificates.filter_map(read).collect();
        if anchors.is_empty() {
            return Err(unusable("no certificate of an authority is there"));
        }
        let revocation = Arc::new(RevocationLists::from_pem(self.revoked)?);
        Ok(Some(Trust::of_anchors(anchors, revocation, provider)))
    }
}

fn unusable(why: impl fmt::Display) -> Error {
    Error::Credentials(why.to_string())
}

fn unusable_because(what: &str, error: &dyn fmt::Display) -> Error {
    Error::Credentials(format!("the {what} cannot be read: {error}"))
}

impl Belief<'_> {
    fn owned(&self) -> Result<Believed, Error> {
        Ok(match self {
            Belief::ServerName => Believed::ServerName,
            Belief::OneOf(names) => {
                Believed::OneOf(names.iter().map(Wanted::of).collect::<Result<_, _>>()?)
            }
            Belief::AnyName => Believed::AnyName,
            Belief::Anybody => Believed::Anybody,
        })
    }
}

/// [`Belief`], ready to be asked.
#[derive(Debug)]
enum Believed {
    ServerName,
    OneOf(Vec<Wanted>),
    AnyName,
    Anybody,
}

/// One of the names that are wanted.
#[derive(Debug)]
enum Wanted {
    Host(ServerName<'static>),
    /// What follows the `*.`, and some name below it: a certificate may have a star there, too.
    Below(Box<str>, ServerName<'static>),
    Uri(Box<str>),
}

impl Wanted {
    fn of(name: &AlternativeName<'_>) -> Result<Self, Error> {
        let read = |host: &str| {
            ServerName::try_from(host.to_owned())
                .map_err(|_| unusable(format!("{host:?} is the name of no host")))
        };
        match *name {
            AlternativeName::Uri(uri) => Ok(Self::Uri(uri.into())),
            AlternativeName::Host(host) => match host.strip_prefix("*.") {
                Some(rest) => {
                    Ok(Self::Below(rest.to_ascii_lowercase().into(), read(&format!("x.{rest}"))?))
                }
                None => read(host).map(Self::Host),
            },
        }
    }

    fn is_in(&self, leaf: &EndEntityCert<'_>, parsed: &ParsedCertificate<'_>) -> bool {
        match self {
            Self::Host(name) => verify_server_name(parsed, name).is_ok(),
            Self::Below(rest, some) => {
                let is_below = |name: &str| {
                    let below = name.split_once('.').map(|(_, below)| below);
                    below.is_some_and(|below| below.eq_ignore_ascii_case(rest))
                };
                leaf.valid_dns_names().any(is_below) || verify_server_name(parsed, some).is_ok()
            }
            Self::Uri(uri) => leaf.valid_uri_names().any(|name| name == &**uri),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => f.write_str(&name.to_str()),
            Self::Below(rest, _) => write!(f, "*.{rest}"),
            Self::Uri(uri) => f.write_str(uri),
        }
    }
}

/// The server proved to be somebody, but nobody we wanted.
#[derive(Debug)]
struct WrongName {
    found: Vec<String>,
    wanted: String,
}

impl fmt::Display for WrongName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, wanted } = self;
        write!(f, "the server's certificate is not for {wanted}, but for [{}]", found.join(", "))
    }
}

impl std::error::Error for WrongName {}

/// Verifies a server that is not of the mesh.
#[derive(Debug)]
struct OutsideVerifier {
    trust: Option<Trust>,
    belief: Believed,
    algorithms: WebPkiSupportedAlgorithms,
}

impl OutsideVerifier {
    fn new(origination: &Origination<'_>, provider: &CryptoProvider) -> Result<Self, Error> {
        Ok(Self {
            trust: origination.trust(provider)?,
            belief: origination.belief.owned()?,
            algorithms: provider.signature_verification_algorithms,
        })
    }

    fn check_names(
        &self,
        leaf: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        called: &ServerName<'_>,
    ) -> Result<(), rustls::Error> {
        let read = EndEntityCert::try_from(leaf)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let (is_it, wanted) = match &self.belief {
            Believed::ServerName => {
                (verify_server_name(parsed, called).is_ok(), called.to_str().into_owned())
            }
            Believed::OneOf(names) => (
                names.iter().any(|name| name.is_in(&read, parsed)),
                names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "),
            ),
            Believed::AnyName | Believed::Anybody => return Ok(()),
        };
        if is_it {
            return Ok(());
        }
        let found = read.valid_dns_names().chain(read.valid_uri_names());
        let found = found.map(str::to_owned).collect();
        let error = OtherError(Arc::new(WrongName { found, wanted }));
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(error)))
    }
}

impl ServerCertVerifier for OutsideVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        called: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(trust) = &self.trust {
            let parsed = ParsedCertificate::try_from(leaf)?;
            trust.verify(leaf, intermediates, now, PeerRole::Server)?;
            self.check_names(leaf, &parsed, called)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
        DnType, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
        SerialNumber, date_time_ymd,
    };

    use super::*;

    /// Signs for `names`; URIs among them have a colon.
    struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        fn new() -> Self {
            Self::called("one")
        }

        fn called(name: &str) -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().expect("a key");
            Self(CertifiedIssuer::self_signed(params, key).expect("a root"))
        }

        fn leaf(&self, names: &[&str]) -> CertificateDer<'static> {
            self.leaf_numbered(names, 1)
        }

        fn leaf_numbered(&self, names: &[&str], serial: u64) -> CertificateDer<'static> {
            let mut params = CertificateParams::default();
            params.serial_number = Some(SerialNumber::from(serial));
            params.subject_alt_names = names
                .iter()
                .map(|name| match name.contains(':') {
                    true => SanType::URI((*name).try_into().expect("ASCII")),
                    false => SanType::DnsName((*name).try_into().expect("ASCII")),
                })
                .collect();
            params.not_after = date_time_ymd(2040, 1, 1);
            let key = KeyPair::generate().expect("a key");
            params.signed_by(&key, &self.0).expect("signed").der().clone()
        }

        /// Its list of these serial numbers, in PEM; its next update was due long ago.
        fn revoke(&self, serials: &[u64]) -> String {
            let revoked = |serial: &u64| RevokedCertParams {
                serial_number: SerialNumber::from(*serial),
                revocation_time: date_time_ymd(2024, 1, 1),
                reason_code: None,
                invalidity_date: None,
            };
            let params = CertificateRevocationListParams {
                this_update: date_time_ymd(2024, 1, 1),
                next_update: date_time_ymd(2024, 2, 1),
                crl_number: SerialNumber::from(1_u64),
                issuing_distribution_point: None,
                revoked_certs: serials.iter().map(revoked).collect(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            params.signed_by(&self.0).expect("signed").pem().expect("a list")
        }
    }

    fn verify(
        authorities: &str,
        belief: &Belief<'_>,
        leaf: &CertificateDer<'_>,
        year: u64,
    ) -> Result<(), Error> {
        let origination = Origination {
            authorities: authorities.as_bytes(),
            revoked: b"",
            belief: belief.clone(),
            client: None,
        };
        judge(&origination, leaf, year)
    }

    fn judge(
        origination: &Origination<'_>,
        leaf: &CertificateDer<'_>,
        year: u64,
    ) -> Result<(), Error> {
        let verifier = OutsideVerifier::new(origination, &aws_lc_rs::default_provider())?;
        let called = ServerName::try_from("web.called.example").expect("a name");
        let now = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 365 * 86_400));
        let verified = verifier.verify_server_cert(leaf, &[], &called, &[], now);
        verified.map(|_| ()).map_err(Error::from)
    }

    type Judged<'r> = (&'r str, Belief<'r>, &'r [&'r str], &'r str, u64, bool);
    type Unusable<'r> = (&'r str, &'r str, &'r str, Option<(&'r str, &'r str)>, Option<&'r str>);

    #[test]
    fn a_server_is_believed_by_its_authority_its_names_and_its_time() {
        use AlternativeName::{Host, Uri};
        let (ours, other) = (Authority::new(), Authority::new());
        let (trusted, stranger) = (ours.0.pem(), other.0.pem());
        let one_of = |names: &[AlternativeName<'static>]| Belief::OneOf(names.to_vec());
        let spiffe = "spiffe://mesh/ns/shop/sa/web";
        //  name                                belief                       names shown           roots      year  want
        let rows: [Judged<'_>; 17] = [
            ("its name", Belief::ServerName, &["web.called.example"], &trusted, 2030, true),
            (
                "a name below a star",
                Belief::ServerName,
                &["*.called.example"],
                &trusted,
                2030,
                true,
            ),
            ("another name", Belief::ServerName, &["other.example"], &trusted, 2030, false),
            ("no name", Belief::ServerName, &[], &trusted, 2030, false),
            (
                "another authority",
                Belief::ServerName,
                &["web.called.example"],
                &stranger,
                2030,
                false,
            ),
            ("past its end", Belief::ServerName, &["web.called.example"], &trusted, 2042, false),
            (
                "a name that is wanted",
                one_of(&[Host("a.example")]),
                &["a.example"],
                &trusted,
                2030,
                true,
            ),
            (
                "names that are wanted replace the one it is called by",
                one_of(&[Host("a.example")]),
                &["web.called.example"],
                &trusted,
                2030,
                false,
            ),
            (
                "one of several",
                one_of(&[Host("a.example"), Uri(spiffe)]),
                &["b.example", spiffe],
                &trusted,
                2030,
                true,
            ),
            (
                "another URI",
                one_of(&[Uri(spiffe)]),
                &["spiffe://mesh/ns/shop/sa/weber"],
                &trusted,
                2030,
                false,
            ),
            (
                "a URI is no host",
                one_of(&[Host("a.example")]),
                &["dns:a.example"],
                &trusted,
                2030,
                false,
            ),
            ("a star", one_of(&[Host("*.b.example")]), &["a.b.example"], &trusted, 2030, true),
            (
                "a star for a star",
                one_of(&[Host("*.b.example")]),
                &["*.b.example"],
                &trusted,
                2030,
                true,
            ),
            (
                "a star is one label",
                one_of(&[Host("*.example")]),
                &["a.b.example"],
                &trusted,
                2030,
                false,
            ),
            ("whatever it is called", Belief::AnyName, &["x.example"], &trusted, 2030, true),
            (
                "whatever it is called, by another",
                Belief::AnyName,
                &["x.example"],
                &stranger,
                2030,
                false,
            ),
            ("anybody", Belief::Anybody, &["x.example"], "", 2042, true),
        ];
        for (name, belief, shown, roots, year, want) in rows {
            let verified = verify(roots, &belief, &ours.leaf(shown), year);
            assert_eq!(verified.is_ok(), want, "{name}: {verified:?}");
        }
        let told = verify(&trusted, &Belief::ServerName, &ours.leaf(&["other.example"]), 2030);
        let want =
            "the server's certificate is not for web.called.example, but for [other.example]";
        assert_eq!(told.expect_err("another name").to_string(), want);
    }

    #[test]
    fn a_server_is_not_believed_whose_authority_has_revoked_its_certificate() {
        let (ours, other) = (Authority::called("ours"), Authority::called("other"));
        let both = ours.revoke(&[7]) + &other.revoke(&[8]);
        //  name                            belief              lists               serial  want
        let rows: [(&str, Belief<'_>, &str, u64, bool); 6] = [
            ("no list", Belief::ServerName, "", 7, true),
            ("in its authority's list", Belief::ServerName, &ours.revoke(&[6, 7]), 7, false),
            ("in none", Belief::ServerName, &both, 8, true),
            ("in one of several", Belief::ServerName, &both, 7, false),
            ("whatever it is called", Belief::AnyName, &both, 7, false),
            ("anybody is believed", Belief::Anybody, &both, 7, true),
        ];
        let root = ours.0.pem();
        for (name, belief, lists, serial, want) in rows {
            let origination = Origination {
                authorities: root.as_bytes(),
                revoked: lists.as_bytes(),
                belief,
                client: None,
            };
            let leaf = ours.leaf_numbered(&["web.called.example"], serial);
            let judged = judge(&origination, &leaf, 2030);
            assert_eq!(judged.is_ok(), want, "{name}: {judged:?}");
            if let Err(error) = judged {
                assert!(error.to_string().contains("Revoked"), "{name}: {error}");
            }
        }
    }

    #[test]
    fn lists_that_are_none_are_not_passed_over() {
        let root = Authority::new().0.pem();
        for (name, lists) in [("garbage", "garbage"), ("a certificate", root.as_str())] {
            let origination = Origination {
                authorities: root.as_bytes(),
                revoked: lists.as_bytes(),
                belief: Belief::ServerName,
                client: None,
            };
            let error = origination.client_config().expect_err(name);
            assert!(matches!(error, Error::Revocation(_)), "{name}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_before_anybody_is_called() {
        let root = Authority::new().0.pem();
        let key = KeyPair::generate().expect("a key").serialize_pem();
        //  name                       authorities  names                    client              want
        let rows: [Unusable<'_>; 6] = [
            ("all of it", &root, "a.example", None, None),
            ("no authority", "", "a.example", None, Some("no certificate of an authority")),
            (
                "one that is none",
                "garbage",
                "a.example",
                None,
                Some("no certificate of an authority"),
            ),
            ("a name that is none", &root, "a b", None, Some("the name of no host")),
            ("no certificate of ours", &root, "a.example", Some(("", &key)), Some("")),
            ("no key of ours", &root, "a.example", Some((&root, "")), Some("private key")),
        ];
        for (name, authorities, host, client, want) in rows {
            let origination = Origination {
                authorities: authorities.as_bytes(),
                revoked: b"",
                belief: Belief::OneOf(vec![AlternativeName::Host(host)]),
                client: client.map(|(chain, key)| (chain.as_bytes(), key.as_bytes())),
            };
            match (origination.client_config(), want) {
                (Ok(_), None) => {}
                (Err(error), Some(want)) => {
                    assert!(error.to_string().contains(want), "{name}: {error}")
                }
                (got, want) => panic!("{name}: {got:?}, {want:?}"),
            }
        }
    }
}
