//! RFC 9110, 9112 and 9113, line by line: what is left of them when a parser has read a head.

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};

use ringway_protocols::tls::LeafNames;

use super::forwarding::{Standing, described, say_certificate, say_client, say_origin};
use super::hops;
use super::hops::Underscores;
use super::request::{HeadRules, Refusal, check_request, check_response};

/// `GET 1.1 /target`, then headers.
fn head(line: &str, headers: &[&str]) -> Parts {
    let mut words = line.splitn(3, ' ');
    let mut parts = Request::new(()).into_parts().0;
    parts.method = words.next().and_then(|it| it.parse().ok()).expect("a method");
    parts.version = match words.next() {
        Some("1.0") => Version::HTTP_10,
        Some("1.1") => Version::HTTP_11,
        _ => Version::HTTP_2,
    };
    parts.uri = words.next().and_then(|it| it.parse().ok()).expect("a target");
    parts.headers = map(headers);
    parts
}

fn map(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').expect("a header");
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        headers.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    headers
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn requests_that_can_be_read_in_two_ways_are_refused() {
    use Refusal::*;
    type Row = (&'static str, &'static str, &'static [&'static str], Result<(), Refusal>);
    #[rustfmt::skip]
    let rows: &[Row] = &[
        ("plain",                                    "GET 1.1 /a?b",        &["host:a"],                                    Ok(())),
        ("RFC 9112 6.3: a length",                   "POST 1.1 /",          &["host:a", "content-length:5"],                Ok(())),
        ("RFC 9112 6.1: chunked",                    "POST 1.1 /",          &["host:a", "transfer-encoding:Chunked"],       Ok(())),
        ("RFC 9112 6.1: both",                       "POST 1.1 /",          &["host:a", "content-length:5", "transfer-encoding:chunked"], Err(LengthAndCoding)),
        ("RFC 9112 6.3: two lengths that differ",    "POST 1.1 /",          &["host:a", "content-length:5", "content-length:6"], Err(Length)),
        ("RFC 9112 6.3: two lengths alike",          "POST 1.1 /",          &["host:a", "content-length:5", "content-length:5"], Err(Length)),
        ("RFC 9112 6.3: a list of lengths",          "POST 1.1 /",          &["host:a", "content-length:5, 5"],             Err(Length)),
        ("RFC 9110 8.6: a sign",                     "POST 1.1 /",          &["host:a", "content-length:+5"],               Err(Length)),
        ("RFC 9110 8.6: no digits",                  "POST 1.1 /",          &["host:a", "content-length:"],                 Err(Length)),
        ("RFC 9110 8.6: more than a number holds",   "POST 1.1 /",          &["host:a", "content-length:18446744073709551616"], Err(Length)),
        ("RFC 9110 8.6: hexadecimal",                "POST 1.1 /",          &["host:a", "content-length:0x5"],              Err(Length)),
        ("RFC 9112 6.1: chunked twice",              "POST 1.1 /",          &["host:a", "transfer-encoding:chunked, chunked"], Err(Coding)),
        ("RFC 9112 6.1: chunked in two lines",       "POST 1.1 /",          &["host:a", "transfer-encoding:chunked", "transfer-encoding:chunked"], Err(Coding)),
        ("RFC 9112 6.1: chunked not last",           "POST 1.1 /",          &["host:a", "transfer-encoding:chunked, gzip"], Err(Coding)),
        ("RFC 9112 6.1: identity",                   "POST 1.1 /",          &["host:a", "transfer-encoding:identity"],      Err(Coding)),
        ("RFC 9112 6.1: another coding before",      "POST 1.1 /",          &["host:a", "transfer-encoding:gzip, chunked"], Err(UnknownCoding)),
        ("RFC 9112 6.1: something like chunked",     "POST 1.1 /",          &["host:a", "transfer-encoding:xchunked"],      Err(Coding)),
        ("RFC 9112 3.2: no host",                    "GET 1.1 /",           &[],                                            Err(HostCount)),
        ("RFC 9112 3.2: two hosts",                  "GET 1.1 /",           &["host:a", "host:a"],                          Err(HostCount)),
        ("RFC 9112 3.2: two hosts beside a target",  "GET 1.1 http://a/",   &["host:a", "host:b"],                          Err(HostCount)),
        ("RFC 9112 3.2: an empty host is one",       "GET 1.1 /",           &["host:"],                                     Ok(())),
        ("RFC 9112 3.2.2: the target says the host", "GET 1.1 http://a/",   &["host:b"],                                    Ok(())),
        ("RFC 9112 3.2.2: no path behind it",        "GET 1.1 http://a",    &["host:a"],                                    Ok(())),
        ("RFC 9110 7.2: two hosts in one",           "GET 1.1 /",           &["host:a, b"],                                 Err(Host)),
        ("RFC 9110 7.2: a path in it",               "GET 1.1 /",           &["host:a/b"],                                  Err(Host)),
        ("RFC 9110 4.2.4: a user in it",             "GET 1.1 /",           &["host:u@a"],                                  Err(Host)),
        ("RFC 9110 4.2.4: a user in the target",     "GET 1.1 http://u@a/", &["host:a"],                                    Err(Host)),
        ("RFC 3986 3.2.3: a port that is none",      "GET 1.1 /",           &["host:a:b"],                                  Err(Host)),
        ("RFC 3986 3.2.3: only a port",              "GET 1.1 /",           &["host::80"],                                  Err(Host)),
        ("RFC 3986 3.2.2: an address with port",     "GET 1.1 /",           &["host:[::1]:80"],                             Ok(())),
        ("RFC 3986 3.2.2: no address in brackets",   "GET 1.1 /",           &["host:[a.b]x"],                               Err(Host)),
        ("RFC 9112 3.2.4: asterisk of OPTIONS",      "OPTIONS 1.1 *",       &["host:a"],                                    Ok(())),
        ("RFC 9112 3.2.4: asterisk of GET",          "GET 1.1 *",           &["host:a"],                                    Err(Target)),
        ("RFC 9112 3.2.3: authority of GET",         "GET 1.1 a:80",        &["host:a"],                                    Err(Target)),
        ("RFC 9110 4.2: another scheme",             "GET 1.1 ftp://a/",    &["host:a"],                                    Err(Scheme)),
        ("RFC 9110 9.3.6: CONNECT",                  "CONNECT 1.1 a:80",    &["host:a:80"],                                 Err(Method)),
        ("RFC 9110 9.3.8: TRACE",                    "TRACE 1.1 /",         &["host:a"],                                    Err(Method)),
        ("RFC 9110 10.1.1: 100-continue",            "PUT 1.1 /",           &["host:a", "expect:100-Continue"],             Ok(())),
        ("RFC 9110 10.1.1: anything else",           "PUT 1.1 /",           &["host:a", "expect:200-ok"],                   Err(Expectation)),
        ("HTTP/1.0",                                 "GET 1.0 /",           &["host:a"],                                    Err(Version)),
        ("underscores are allowed unless told",      "GET 1.1 /",           &["host:a", "x_y:1"],                           Ok(())),
        ("RFC 9113 8.3.1: an authority",             "GET 2 https://a/",    &[],                                            Ok(())),
        ("RFC 9113 8.3.1: the same host",            "GET 2 https://a/",    &["host:A"],                                    Ok(())),
        ("RFC 9113 8.3.1: another host",             "GET 2 https://a/",    &["host:b"],                                    Err(HostConflict)),
        ("RFC 9113 8.3.1: another port",             "GET 2 https://a/",    &["host:a:80"],                                 Err(HostConflict)),
        ("RFC 9113 8.3.1: only a host",              "GET 2 /",             &["host:a"],                                    Ok(())),
        ("RFC 9113 8.3.1: neither",                  "GET 2 /",             &[],                                            Err(HostCount)),
        ("RFC 9113 8.2.2: connection",               "GET 2 https://a/",    &["connection:close"],                          Err(ConnectionHeader)),
        ("RFC 9113 8.2.2: keep-alive",               "GET 2 https://a/",    &["keep-alive:5"],                              Err(ConnectionHeader)),
        ("RFC 9113 8.2.2: proxy-connection",         "GET 2 https://a/",    &["proxy-connection:x"],                        Err(ConnectionHeader)),
        ("RFC 9113 8.2.2: transfer-encoding",        "GET 2 https://a/",    &["transfer-encoding:chunked"],                 Err(ConnectionHeader)),
        ("RFC 9113 8.2.2: upgrade",                  "GET 2 https://a/",    &["upgrade:h2c"],                               Err(ConnectionHeader)),
        ("RFC 9113 8.2.2: te: trailers",             "GET 2 https://a/",    &["te:trailers"],                               Ok(())),
        ("RFC 9113 8.2.2: te: gzip",                 "GET 2 https://a/",    &["te:trailers, gzip"],                         Err(ConnectionHeader)),
        ("RFC 9113 8.2.1: a space in front",         "GET 2 https://a/",    &["x: 1"],                                      Err(Padded)),
        ("RFC 9113 8.2.1: a tab behind",             "GET 2 https://a/",    &["x:1\t"],                                     Err(Padded)),
        ("RFC 9113 8.1.1: two lengths",              "POST 2 https://a/",   &["content-length:1", "content-length:2"],      Err(Length)),
    ];
    for (name, line, headers, want) in rows {
        let got = check_request(&head(line, headers), &HeadRules::default());
        assert_eq!(got, *want, "{name}");
    }
}

#[test]
fn what_can_be_allowed_or_refused() {
    let all =
        HeadRules { http10: true, trace: true, connect: true, underscores: Underscores::Reject };
    for (line, headers, want) in [
        ("GET 1.0 /", &[][..], Ok(())),
        ("TRACE 1.1 /", &["host:a"], Ok(())),
        ("CONNECT 1.1 a:80", &["host:a:80"], Ok(())),
        ("GET 1.1 /", &["host:a", "x_y:1"], Err(Refusal::Underscore)),
    ] {
        assert_eq!(check_request(&head(line, headers), &all), want, "{line}");
    }
    let mut headers = map(&["x_y:1", "x-y:2"]);
    hops::drop_underscores(&mut headers, Underscores::Allow);
    assert_eq!(names(&headers), ["x-y", "x_y"]);
    hops::drop_underscores(&mut headers, Underscores::Drop);
    assert_eq!(names(&headers), ["x-y"]);
}

#[test]
fn refusals_say_how_they_are_answered() {
    for (refusal, status, closes) in [
        (Refusal::LengthAndCoding, 400, true),
        (Refusal::Coding, 400, true),
        (Refusal::UnknownCoding, 501, true),
        (Refusal::HostCount, 400, false),
        (Refusal::Method, 405, false),
        (Refusal::Expectation, 417, false),
        (Refusal::Version, 426, false),
    ] {
        assert_eq!((refusal.status().as_u16(), refusal.closes()), (status, closes), "{refusal}");
    }
}

/// RFC 9110 §4.1: no part of a request; the parser of targets leaves them behind.
#[test]
fn fragments_do_not_get_here() {
    for target in ["/a#b", "/a?b=c#d", "http://a/a#b"] {
        let uri: Uri = target.parse().expect("a target");
        assert!(!uri.to_string().contains('#'), "{target}");
        assert_eq!(uri.path(), "/a");
    }
}

#[test]
fn answers_that_can_be_read_in_two_ways_are_refused() {
    type Row = (&'static str, u16, &'static [&'static str], Result<(), Refusal>);
    #[rustfmt::skip]
    let rows: &[Row] = &[
        ("a length",                        200, &["content-length:5"],                              Ok(())),
        ("until the connection ends",       200, &[],                                                Ok(())),
        ("RFC 9112 6.3: both",              200, &["content-length:5", "transfer-encoding:chunked"], Err(Refusal::LengthAndCoding)),
        ("RFC 9112 6.3: two lengths",       200, &["content-length:5", "content-length:6"],          Err(Refusal::Length)),
        ("RFC 9112 6.1: coding of 204",     204, &["transfer-encoding:chunked"],                     Err(Refusal::Coding)),
        ("RFC 9110 8.6: length of 304",     304, &["content-length:5"],                              Ok(())),
        ("RFC 9110 7.8: a WebSocket",       101, &["connection:upgrade", "upgrade:websocket"],       Ok(())),
        ("RFC 9110 7.8: another protocol",  101, &["connection:upgrade", "upgrade:h2c"],             Err(Refusal::ConnectionHeader)),
    ];
    for (name, status, headers, want) in rows {
        let mut parts = http::Response::new(()).into_parts().0;
        parts.status = http::StatusCode::from_u16(*status).expect("a status");
        parts.headers = map(headers);
        assert_eq!(check_response(&parts), *want, "{name}");
    }
}

#[test]
fn what_is_a_hops_own_goes_no_further() {
    type Row = (&'static str, &'static [&'static str], &'static [&'static str]);
    #[rustfmt::skip]
    let rows: &[Row] = &[
        ("RFC 9110 7.6.1: what is named",       &["connection:close, X-Mine", "x-mine:1", "x-other:2"], &["x-other"]),
        ("in several lines",                    &["connection:x-a", "connection:x-b", "x-a:1", "x-b:1"], &[]),
        ("what is so without being named",      &["keep-alive:5", "proxy-connection:x", "te:gzip", "trailer:x", "transfer-encoding:chunked", "upgrade:h2c", "http2-settings:x"], &[]),
        ("RFC 9110 11.7: for proxies",          &["proxy-authorization:x", "proxy-authenticate:x"],     &[]),
        ("RFC 9110 10.1.4: trailers are taken", &["te:gzip, Trailers;q=1, trailers"],                   &["te"]),
        ("in several lines",                    &["te:trailers", "te:gzip"],                             &["te"]),
        ("what others decide by stays",         &["connection:authorization, x-forwarded-for, host, x-envoy-x, cookie, content-length, x-request-id",
                                                  "authorization:a", "x-forwarded-for:b", "host:c", "x-envoy-x:d", "cookie:e", "content-length:1", "x-request-id:f"],
                                                &["authorization", "content-length", "cookie", "host", "x-envoy-x", "x-forwarded-for", "x-request-id"]),
        ("no names in it",                      &["connection:,, ;x,\t", "a:1"],                        &["a"]),
    ];
    for (name, before, want) in rows {
        let mut headers = map(before);
        hops::strip(&mut headers);
        assert_eq!(names(&headers), *want, "{name}");
        assert!(headers.get_all(header::TE).iter().all(|te| te == "trailers"), "{name}");
    }
}

#[test]
fn what_is_named_goes_before_anything_is_put_in() {
    type Row =
        (&'static str, &'static [&'static str], &'static [&'static str], Option<&'static str>);
    #[rustfmt::skip]
    let rows: &[Row] = &[
        ("what is named",            &["connection:X-Mine", "x-mine:1", "x-other:2"],                       &["x-other"],                 None),
        ("the rest of it stays",     &["connection:close, X-Mine", "connection:upgrade", "x-mine:1", "upgrade:websocket"],
                                                                                                           &["connection", "upgrade"],   Some("close, upgrade")),
        ("a connection's own stays", &["connection:te, keep-alive", "te:trailers", "keep-alive:5"],         &["connection", "keep-alive", "te"], Some("te, keep-alive")),
        ("what is protected stays",  &["connection:authorization", "authorization:a"],                      &["authorization", "connection"], Some("authorization")),
        ("nothing is named",         &["a:1"],                                                              &["a"],                       None),
    ];
    for (name, before, want, connection) in rows {
        let mut headers = map(before);
        hops::drop_named(&mut headers);
        assert_eq!(names(&headers), *want, "{name}");
        let left = headers.get(header::CONNECTION).map(|left| left.to_str().expect("text"));
        assert_eq!(left, *connection, "{name}");
        headers.insert("x-mine", HeaderValue::from_static("ours"));
        hops::strip(&mut headers);
        assert_eq!(headers.get("x-mine").expect("it was put in afterwards"), "ours", "{name}");
    }
}

#[test]
fn only_websockets_are_upgrades() {
    let upgrade = |lines: &[&str]| hops::upgrade(&map(lines)).is_some();
    assert!(upgrade(&["connection:keep-alive, Upgrade", "upgrade:WebSocket"]));
    for lines in [
        &["connection:upgrade", "upgrade:h2c"][..],
        &["connection:upgrade", "upgrade:h2c, websocket"],
        &["connection:upgrade", "upgrade:websocket", "upgrade:h2c"],
        &["connection:close", "upgrade:websocket"],
        &["connection:upgrade"],
    ] {
        assert!(!upgrade(lines), "{lines:?}");
    }
}

#[test]
fn trailers_decide_nothing() {
    let mut trailers = map(&[
        "grpc-status:0",
        "x-checksum:1",
        "content-length:9",
        "transfer-encoding:chunked",
        "host:a",
        "authorization:b",
        "x-forwarded-for:c",
        "x-envoy-peer:d",
        "set-cookie:e",
    ]);
    hops::strip_trailers(&mut trailers);
    assert_eq!(names(&trailers), ["grpc-status", "x-checksum"]);
}

#[test]
fn cookies_are_one_line_in_http_1() {
    let mut headers = map(&["cookie:a=1", "cookie:b=2", "x:y"]);
    hops::join_cookies(&mut headers);
    assert_eq!(headers[header::COOKIE], "a=1; b=2");
    assert_eq!(headers.len(), 2);
}

#[test]
fn who_came_before_us() {
    let source: IpAddr = "10.0.0.7".parse().expect("an address");
    let said = || {
        map(&[
            "x-forwarded-for:1.2.3.4",
            "x-forwarded-for:5.6.7.8",
            "x-forwarded-proto:https",
            "x-envoy-peer:x",
            "x-forwarded-client-cert:y",
        ])
    };
    let mut edge = said();
    say_origin(&mut edge, Standing::Edge, source, "http");
    assert_eq!(names(&edge), ["x-forwarded-for", "x-forwarded-proto"]);
    assert_eq!(edge["x-forwarded-for"], "1.2.3.4,5.6.7.8, 10.0.0.7");
    assert_eq!(edge["x-forwarded-proto"], "http");
    let mut mesh = said();
    say_origin(&mut mesh, Standing::Mesh, source, "http");
    assert_eq!(names(&mesh), ["x-envoy-peer", "x-forwarded-for", "x-forwarded-proto"]);
    assert_eq!(mesh["x-forwarded-proto"], "https");
    let mut fresh = HeaderMap::new();
    say_origin(&mut fresh, Standing::Edge, source, "https");
    assert_eq!(fresh["x-forwarded-for"], "10.0.0.7");
    assert_eq!(fresh["x-forwarded-proto"], "https");
}

#[test]
fn the_client_is_told_in_istios_form() {
    let mut headers = map(&["x-forwarded-client-cert:forged"]);
    say_client(&mut headers, "spiffe://td/ns/a/sa/w", "spiffe://td/ns/a/sa/c");
    assert_eq!(headers.len(), 1);
    let want = "By=spiffe://td/ns/a/sa/w;URI=spiffe://td/ns/a/sa/c";
    assert_eq!(headers["x-forwarded-client-cert"], want);
}

#[test]
fn a_certificate_is_told_in_envoys_form() {
    let names = |uris: &[&str], hosts: &[&str]| {
        let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        LeafNames { sha256: [0xab; 32], uris: owned(uris), hosts: owned(hosts) }
    };
    let pem = "-----BEGIN%20CERTIFICATE-----%0AAQI%2B%0A-----END%20CERTIFICATE-----%0A";
    let before = format!("Hash={};Cert=\"{pem}\"", "ab".repeat(32));
    //  URIs                hosts               what is told of them
    let rows: [(&[&str], &[&str], &str); 5] = [
        (&[], &[], ""),
        (
            &["spiffe://a/b", "urn:c"],
            &["d.example", "e.example"],
            ";URI=spiffe://a/b;URI=urn:c;DNS=d.example;DNS=e.example",
        ),
        (&["https://a/?b=c;d,e"], &[], ";URI=\"https://a/?b=c;d,e\""),
        (&["urn:a\";By=b\\"], &[], ";URI=\"urn:a\\\";By=b\\\\\""),
        (&["urn:a b", "urn:\u{e4}", "urn:a\r\nb"], &[], ""),
    ];
    for (uris, hosts, want) in rows {
        let told = described(&[1, 2, 0x3e], &names(uris, hosts));
        assert_eq!(told, format!("{before}{want}"), "{uris:?}");
        let mut headers = map(&["x-forwarded-client-cert:forged"]);
        say_certificate(&mut headers, "spiffe://td/ns/a/sa/g", &told);
        let want = format!("By=spiffe://td/ns/a/sa/g;{told}");
        assert_eq!(headers["x-forwarded-client-cert"], want);
    }
    // Lines of PEM have 64 characters.
    let long = described(&[0; 49], &names(&[], &[]));
    assert!(long.contains(&format!("{}%0AAA%3D%3D%0A-----END", "A".repeat(64))), "{long}");
}

#[test]
fn method_tokens_are_compared_as_they_are() {
    let lower: Method = "get".parse().expect("a token");
    assert_ne!(lower, Method::GET);
}
