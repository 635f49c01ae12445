use http::{HeaderMap, Method};

use super::super::authorization_proto::{
    Flag, HeaderValue as Said, HttpStatus, QueryParameter, Status,
};
use super::*;
use crate::authorize::RequestFacts;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}

fn client() -> Identity {
    Identity::new("cluster.local", "shop", "client").expect("a good name")
}

/// Asks about one request, and hands what is asked to `look`.
fn check<T>(given: &HeaderMap, body: Option<&[u8]>, look: impl FnOnce(&Check<'_>) -> T) -> T {
    let (client, own) = (client(), Identity::new("cluster.local", "shop", "waypoint").unwrap());
    let method = Method::POST;
    let request = RequestFacts {
        method: &method,
        path: "/a",
        authority: Some("web:80"),
        headers: given,
        token: None,
    };
    let facts = Facts::new(Some(&client), [10, 0, 0, 1].into(), ([10, 96, 0, 1], 80).into());
    let facts = facts.with_server_name(Some("web.example")).with_request(request);
    look(&Check {
        facts: &facts,
        source_port: 4711,
        own: Some(&own),
        target: "/a?b=c",
        scheme: "https",
        version: Version::HTTP_2,
        id: "an-id",
        size: Some(5),
        at: Duration::new(1_700_000_000, 7),
        body,
        as_bytes: false,
    })
}

#[test]
fn an_authorizer_learns_who_asks_for_what() {
    let given = headers(&[("host", "web:80"), ("x-a", "1"), ("x-a", "2"), ("cookie", "c=d")]);
    let message = check(&given, Some(b"hello"), |check| check.message());
    let attributes = CheckRequest::decode(&*message).expect("a message").attributes.unwrap();
    let (source, destination) = (attributes.source.unwrap(), attributes.destination.unwrap());
    let address = |peer: &Peer| peer.address.clone().unwrap().socket_address.unwrap();
    assert_eq!(source.principal, "spiffe://cluster.local/ns/shop/sa/client");
    assert_eq!(address(&source), SocketAddress { address: "10.0.0.1".into(), port_value: 4711 });
    assert_eq!(destination.principal, "spiffe://cluster.local/ns/shop/sa/waypoint");
    assert_eq!(address(&destination).port_value, 80);
    assert_eq!(attributes.tls_session.unwrap().sni, "web.example");
    let request = attributes.request.unwrap();
    assert_eq!(request.time, Some(Time { seconds: 1_700_000_000, nanos: 7 }));
    let http = request.http.unwrap();
    let said = [&http.id, &http.method, &http.path, &http.host, &http.scheme, &http.protocol];
    assert_eq!(said, ["an-id", "POST", "/a?b=c", "web:80", "https", "HTTP/2"]);
    assert_eq!((http.size, &*http.body, http.raw_body.len()), (5, "hello", 0));
    let all: Vec<(&str, &str)> = http.headers.iter().map(|(a, b)| (&**a, &**b)).collect();
    let want = [
        (":authority", "web:80"),
        (":method", "POST"),
        (":path", "/a?b=c"),
        (":scheme", "https"),
        ("cookie", "c=d"),
        ("x-a", "1,2"),
    ];
    assert_eq!(all, want);
}

#[test]
fn a_body_that_is_no_text_goes_as_bytes() {
    let message = check(&HeaderMap::new(), Some(&[0xff, 0]), |check| check.message());
    let attributes = CheckRequest::decode(&*message).expect("a message").attributes.unwrap();
    let http = attributes.request.unwrap().http.unwrap();
    assert_eq!((&*http.body, &*http.raw_body), ("", &[0xff, 0][..]));
}

#[test]
fn by_http_only_what_is_chosen_is_sent() {
    let given = headers(&[
        ("authorization", "Bearer x"),
        ("cookie", "secret"),
        ("x-user", "me"),
        ("x-team", "a"),
        ("content-length", "5"),
        ("connection", "x-user"),
    ]);
    let said = HttpAuthorization {
        path_prefix: "/check".into(),
        include: vec![TextMatch::Exact("x-user".into()), TextMatch::Prefix("c".into())],
        add: vec![(HeaderName::from_static("x-mesh"), HeaderValue::from_static("yes"))],
        ..HttpAuthorization::default()
    };
    let parts = check(&given, None, |check| check.head(&said)).expect("a head");
    assert_eq!((&parts.method, parts.uri.to_string()), (&Method::POST, "/check/a?b=c".into()));
    let want = headers(&[
        ("authorization", "Bearer x"),
        ("cookie", "secret"),
        ("x-user", "me"),
        ("x-mesh", "yes"),
        ("host", "web:80"),
    ]);
    assert_eq!(parts.headers, want);
}

fn option(key: &str, value: &str, append: Option<bool>, action: AppendAction) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(Said { key: key.into(), value: value.into(), raw_value: Vec::new() }),
        append: append.map(|value| Flag { value }),
        append_action: action.into(),
    }
}

const ADD: AppendAction = AppendAction::AppendIfExistsOrAdd;

fn answer(code: i32, http_response: Option<HttpResponse>) -> Vec<u8> {
    let status = Some(Status { code, message: String::new() });
    CheckResponse { status, http_response }.encode_to_vec()
}

#[test]
fn a_yes_changes_the_request() {
    let said = OkHttpResponse {
        headers: vec![
            option("x-user", "me", None, ADD),
            option("x-role", "b", Some(true), ADD),
            option("x-new", "1", None, AppendAction::AddIfAbsent),
            option(":path", "/other", None, ADD),
            option("host", "other", None, ADD),
        ],
        headers_to_remove: vec!["authorization".into(), ":method".into(), "host".into()],
        response_headers_to_add: vec![option("set-cookie", "a=b", None, ADD)],
        query_parameters_to_set: vec![QueryParameter { key: "u".into(), value: "me".into() }],
        query_parameters_to_remove: vec!["token".into()],
    };
    let message = answer(0, Some(HttpResponse::OkResponse(said)));
    let Ok(Verdict::Allowed(allowed)) = by_grpc(&message) else { panic!("it is a yes") };
    let mut request = headers(&[
        ("host", "web"),
        ("authorization", "x"),
        ("x-user", "root"),
        ("x-role", "a"),
        ("x-new", "0"),
    ]);
    allowed.request.apply(&mut request);
    let want = headers(&[
        ("host", "web"),
        ("x-user", "me"),
        ("x-role", "a"),
        ("x-role", "b"),
        ("x-new", "0"),
    ]);
    assert_eq!(request, want);
    assert_eq!(allowed.query.apply(Some("token=x&v=1")).as_deref(), Some("v=1&u=me"));
    let mut response = headers(&[("set-cookie", "c=d")]);
    allowed.response.apply(&mut response);
    assert_eq!(response, headers(&[("set-cookie", "c=d"), ("set-cookie", "a=b")]));
}

#[test]
fn a_no_is_the_answer() {
    let said = DeniedHttpResponse {
        status: Some(HttpStatus { code: 302 }),
        headers: vec![
            option("location", "/login", None, ADD),
            option("set-cookie", "a=b", None, ADD),
            option("set-cookie", "c=d", None, ADD),
        ],
        body: "go and log in".into(),
    };
    let message = answer(7, Some(HttpResponse::DeniedResponse(said)));
    let Ok(Verdict::Denied(denial)) = by_grpc(&message) else { panic!("it is a no") };
    assert_eq!((denial.status, &*denial.body), (StatusCode::FOUND, &b"go and log in"[..]));
    let mut told = HeaderMap::new();
    denial.headers.apply(&mut told);
    let want = [("location", "/login"), ("set-cookie", "a=b"), ("set-cookie", "c=d")];
    assert_eq!(told, headers(&want));
}

/// Whatever does not say yes clearly.
#[test]
fn what_is_not_a_yes() {
    let denied = |code| {
        let status = Some(HttpStatus { code });
        HttpResponse::DeniedResponse(DeniedHttpResponse { status, ..Default::default() })
    };
    let ok = || HttpResponse::OkResponse(OkHttpResponse::default());
    //  name                                    answer                                  status
    let rows = [
        ("no, and nothing else", answer(7, None), 403),
        ("no, whatever else it has", answer(16, Some(ok())), 403),
        ("a status that is none", answer(7, Some(denied(99))), 403),
        ("an answer that is not the last", answer(7, Some(denied(101))), 403),
        ("nothing at all", Vec::new(), 403),
    ];
    for (name, message, want) in rows {
        match by_grpc(&message) {
            Ok(Verdict::Denied(denial)) => assert_eq!(denial.status, want, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(matches!(by_grpc(&answer(0, None)), Ok(Verdict::Allowed(_))));
    let failed = answer(0, Some(HttpResponse::ErrorResponse(DeniedHttpResponse::default())));
    assert!(matches!(by_grpc(&failed), Err(Unreadable::Failed(_))));
    assert!(matches!(by_grpc(&[0xff; 3]), Err(Unreadable::Message(_))));
}

#[test]
fn answers_by_http() {
    let said = HttpAuthorization {
        upstream: vec![TextMatch::Prefix("x-auth-".into())],
        downstream_on_allow: vec![TextMatch::Exact("set-cookie".into())],
        downstream_on_deny: vec![TextMatch::Exact("x-reason".into())],
        ..HttpAuthorization::default()
    };
    let given = headers(&[
        ("x-auth-user", "me"),
        ("set-cookie", "a=b"),
        ("set-cookie", "c=d"),
        ("x-envoy-auth-headers-to-remove", "authorization, cookie"),
        ("x-reason", "none"),
        ("www-authenticate", "Bearer"),
        ("content-length", "2"),
    ]);
    let Ok(Verdict::Allowed(allowed)) = by_http(StatusCode::OK, &given, Vec::new(), &said) else {
        panic!("it is a yes")
    };
    let mut request = headers(&[("authorization", "x"), ("cookie", "y"), ("x-auth-user", "root")]);
    allowed.request.apply(&mut request);
    assert_eq!(request, headers(&[("x-auth-user", "me")]));
    let mut response = headers(&[("set-cookie", "old")]);
    allowed.response.apply(&mut response);
    assert_eq!(response, headers(&[("set-cookie", "a=b"), ("set-cookie", "c=d")]));

    for (status, all, want) in [
        (401, false, &[("x-reason", "none"), ("www-authenticate", "Bearer")][..]),
        (
            403,
            true,
            &[
                ("x-auth-user", "me"),
                ("set-cookie", "a=b"),
                ("set-cookie", "c=d"),
                ("x-envoy-auth-headers-to-remove", "authorization, cookie"),
                ("x-reason", "none"),
                ("www-authenticate", "Bearer"),
            ],
        ),
    ] {
        let said = if all { HttpAuthorization::default() } else { said.clone() };
        let status = StatusCode::from_u16(status).unwrap();
        match by_http(status, &given, b"no".to_vec(), &said) {
            Ok(Verdict::Denied(denial)) => {
                assert_eq!((denial.status, &*denial.body), (status, &b"no"[..]));
                let mut told = HeaderMap::new();
                denial.headers.apply(&mut told);
                assert_eq!(told, headers(want));
            }
            other => panic!("{status}: {other:?}"),
        }
    }
    for status in [500, 503, 599, 101] {
        let status = StatusCode::from_u16(status).unwrap();
        let failed = by_http(status, &given, Vec::new(), &said);
        assert!(matches!(failed, Err(Unreadable::Failed(_))), "{status}");
    }
}
