//! Policies at a waypoint, on whole requests and connections.

use std::{io::Read, time::Duration};

use http::StatusCode;
use ringway_engine::{
    close::CloseReason, decide::Refusal, snapshot::AppProtocol, telemetry::http::ResponseFlag,
};
use ringway_http::model::{
    policy::{
        Action, Attached, AuthorizationPolicy, AuthorizationRule, Descriptor, DescriptorValue,
        JwtRule, Keys, LocalRateLimit, Operation, PathPattern, Policies, PolicyName,
        RateLimitPolicy, RequestAuthentication, Source, Target, TextMatch, Wanted,
    },
    traffic::{FaultAbort, FaultDelay, FaultPolicy, Share},
};

use crate::{
    application::{Client, ok, serve, serve_http},
    mesh::{Mesh, Plan, connection_record, on_both, web},
};

fn attached<P>(name: &str, target: Target, policy: P) -> Attached<P> {
    let name = PolicyName { namespace: "shop".into(), name: name.into() };
    Attached { name, targets: vec![target], policy }
}

fn service() -> Target {
    Target::Service { service: web(), port: None }
}

fn waypoint() -> Target {
    Target::Gateway { namespace: "shop".into(), name: "waypoint".into(), listener: None }
}

fn authorization(action: Action, rule: AuthorizationRule) -> AuthorizationPolicy {
    AuthorizationPolicy { action, rules: vec![rule], dry_run: false }
}

fn any<T>(one: T) -> Wanted<T> {
    Wanted { any: vec![one], none: Vec::new() }
}

fn below(prefix: &str) -> AuthorizationRule {
    let paths = any(PathPattern::Text(TextMatch::Prefix(prefix.into())));
    let to = vec![Operation { paths, ..Operation::default() }];
    AuthorizationRule { to, ..AuthorizationRule::default() }
}

fn of_client(principal: &str) -> AuthorizationRule {
    let principals = any(TextMatch::Exact(principal.into()));
    let from = vec![Source { principals, ..Source::default() }];
    AuthorizationRule { from, ..AuthorizationRule::default() }
}

/// However it is written: what is compared is what is passed on.
#[test]
fn a_path_that_is_denied() {
    on_both(|reactor| {
        let (port, _requests) = serve_http(|_, _| ok("found"));
        let authorizations = vec![
            attached("no-admin", service(), authorization(Action::Deny, below("/admin"))),
            attached(
                "clients",
                waypoint(),
                authorization(Action::Allow, of_client("cluster.local/ns/shop/sa/client")),
            ),
        ];
        let policies = Policies { authorizations, ..Policies::default() };
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11).under(policies));
        let mut client = Client::new(mesh.connect(80));
        for (path, status) in [
            ("/", 200),
            ("/admin", 403),
            ("/public/../admin/users", 403),
            ("/%61dmin", 403),
            ("/./admin", 403),
            ("/admi", 200),
        ] {
            let answer = client.get(path);
            assert_eq!(answer.status(), status, "{path}");
            let record = mesh.record();
            assert_eq!(record.code, status);
            if status == 403 {
                assert_eq!(answer.text(), "RBAC: access denied");
                let details =
                    "rbac_access_denied_matched_policy[ns[shop]-policy[no-admin]-rule[0]]";
                assert_eq!(&*record.details, details);
            }
        }
    });
}

#[test]
fn whoever_is_not_allowed_gets_nothing() {
    on_both(|reactor| {
        let other = authorization(Action::Allow, of_client("cluster.local/ns/shop/sa/another"));
        let authorizations = vec![attached("another", waypoint(), other)];
        let policies = Policies { authorizations, ..Policies::default() };

        let (port, requests) = serve_http(|_, _| ok("found"));
        let plan = Plan::of(port, AppProtocol::Http11).under(policies.clone());
        let mesh = Mesh::start(reactor, &plan);
        assert_eq!(Client::new(mesh.connect(80)).get("/").status(), 403);
        assert_eq!(&*mesh.record().details, "rbac_access_denied_matched_policy[none]");
        assert!(requests.try_recv().is_err(), "nothing reached the service");

        let port = serve(|_, _| panic!("nothing reaches the service"));
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Tcp).under(policies));
        let mut nothing = Vec::new();
        let ended = mesh.connect(80).read_to_end(&mut nothing);
        assert!(ended.is_err() || nothing.is_empty());
        let record = connection_record(&mesh.waypoint);
        let refused = CloseReason::Refused(Refusal::NotAllowed);
        assert_eq!(record.reason.to_string(), refused.to_string());
    });
}

/// Believes tokens of an issuer by the key of RFC 8037, appendix A, and says `x-user` of them.
fn believing(issuer: &str) -> RequestAuthentication {
    const KEYS: &str = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "ed",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let rule = JwtRule {
        issuer: issuer.into(),
        audiences: Vec::new(),
        keys: Keys::Inline(KEYS.into()),
        from_headers: Vec::new(),
        from_params: Vec::new(),
        from_cookies: Vec::new(),
        output_payload: None,
        output_claims: vec![(http::HeaderName::from_static("x-user"), vec!["sub".into()])],
        forward: false,
    };
    RequestAuthentication { rules: vec![rule] }
}

#[test]
fn a_token_that_is_not_believed() {
    on_both(|reactor| {
        let (port, requests) = serve_http(|_, _| ok("found"));
        let authentications = vec![attached("tokens", service(), believing("https://issuer"))];
        let policies = Policies { authentications, ..Policies::default() };
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11).under(policies));
        let mut client = Client::new(mesh.connect(80));
        client.send("GET / HTTP/1.1\r\nhost: web\r\nx-user: root\r\n\r\n");
        assert_eq!(client.receive().status(), 200, "no token is no mistake");
        let request = requests.recv().expect("it came");
        assert_eq!(request.header("x-user"), None, "only a token says who it is");
        mesh.record();

        client.send("GET / HTTP/1.1\r\nhost: web\r\nauthorization: Bearer a.b.c\r\n\r\n");
        let answer = client.receive();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
        assert!(mesh.record().details.starts_with("jwt_authn_access_denied{Jwt_is_not"));
        assert_eq!(client.get("/").status(), 200, "the connection goes on");
    });
}

/// Of the issuer `https://issuer.example`, for `me`, by the key of RFC 8037, appendix A.
const TOKEN: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6ImVkIn0.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwic3ViIjoibWUifQ.\
                     u7_m5du-GKQDBAWXCK_sUgsjzbJP3h-lZGMJW-rbot7LVbDLSdNbeOvGAqbepxGze7C7ngTbh6ioC5CU-adIBw";

/// By naming it as a connection's own, which such headers do not outlive.
#[test]
fn a_client_cannot_have_taken_out_what_its_token_says() {
    on_both(|reactor| {
        let (port, requests) = serve_http(|_, _| ok("found"));
        let authentications =
            vec![attached("tokens", service(), believing("https://issuer.example"))];
        let policies = Policies { authentications, ..Policies::default() };
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11).under(policies));
        let mut client = Client::new(mesh.connect(80));
        for connection in ["keep-alive", "x-user", "Keep-Alive, X-User, x-other"] {
            client.send(&format!(
                "GET / HTTP/1.1\r\nhost: web\r\nauthorization: Bearer {TOKEN}\r\nconnection: {connection}\r\n\
                 x-user: root\r\nx-other: 1\r\n\r\n"
            ));
            assert_eq!(client.receive().status(), 200, "{connection}");
            let request = requests.recv().expect("it came");
            assert_eq!(request.header("x-user"), Some("me"), "{connection}");
            assert_eq!(request.header("x-other").is_none(), connection.contains("x-other"));
        }
    });
}

#[test]
fn too_many_requests_of_one_path() {
    on_both(|reactor| {
        let (port, _requests) = serve_http(|_, _| ok("found"));
        let path = Descriptor { name: "path".into(), value: DescriptorValue::Path };
        let limit = LocalRateLimit {
            key: vec![path],
            burst: 2,
            requests: 1,
            interval: Duration::from_secs(3600),
        };
        let policy = RateLimitPolicy { local: vec![limit], global: None };
        let rate_limits = vec![attached("slowly", service(), policy)];
        let policies = Policies { rate_limits, ..Policies::default() };
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11).under(policies));
        let mut client = Client::new(mesh.connect(80));
        for (path, status) in [("/a", 200), ("/a", 200), ("/a", 429), ("/b", 200), ("/./a", 429)] {
            let answer = client.get(path);
            assert_eq!(answer.status(), status, "{path}");
            let limited = mesh.record().flags.has(ResponseFlag::RateLimited);
            assert_eq!(limited, status == 429);
            if limited {
                let wait: u64 =
                    answer.header("retry-after").expect("told").parse().expect("a number");
                assert!((1..=3600).contains(&wait), "{wait}");
            }
        }
    });
}

#[test]
fn what_is_spoilt_on_purpose() {
    on_both(|reactor| {
        let (port, requests) = serve_http(|_, _| ok("found"));
        let fault = FaultPolicy {
            delay: Some(FaultDelay { pause: Duration::from_millis(30), share: Share::ALL }),
            abort: Some(FaultAbort {
                status: StatusCode::IM_A_TEAPOT,
                grpc_status: Some(8),
                share: Share::ALL,
            }),
        };
        let policies =
            Policies { faults: vec![attached("chaos", waypoint(), fault)], ..Policies::default() };
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11).under(policies));
        let mut client = Client::new(mesh.connect(80));
        let answer = client.get("/");
        assert_eq!((answer.status(), answer.text()), (418, "fault filter abort"));
        let record = mesh.record();
        assert_eq!(record.flags.to_string(), "DI,FI");
        assert!(record.duration >= Duration::from_millis(30), "{:?}", record.duration);
        client.send("GET / HTTP/1.1\r\nhost: web\r\ncontent-type: application/grpc\r\n\r\n");
        let answer = client.receive();
        assert_eq!((answer.status(), answer.header("grpc-status")), (200, Some("8")));
        assert!(requests.try_recv().is_err(), "nothing reached the service");
    });
}
