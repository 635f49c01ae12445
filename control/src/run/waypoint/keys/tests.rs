use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::slice;
use std::sync::Mutex;

use ringway_engine::limits::TOKEN_KEYS_BYTES_MAX;
use ringway_http::model::policy::{Attached, JwtRule, Policies, PolicyName, RequestAuthentication};

use super::*;

const SET: &str = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "ed",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn config(sources: &[KeySource]) -> HttpConfig {
    let rule = |from: &KeySource| JwtRule {
        issuer: "https://issuer".into(),
        audiences: Vec::new(),
        keys: Keys::Fetched { from: from.clone(), timeout: Duration::from_secs(20), text: None },
        from_headers: Vec::new(),
        from_params: Vec::new(),
        from_cookies: Vec::new(),
        output_payload: None,
        output_claims: Vec::new(),
        forward: false,
    };
    let policy = RequestAuthentication { rules: sources.iter().map(rule).collect() };
    let name = PolicyName { namespace: "shop".into(), name: "tokens".into() };
    let authentications = vec![Attached { name, targets: Vec::new(), policy }];
    HttpConfig {
        policies: Policies { authentications, ..Policies::default() },
        ..Default::default()
    }
}

fn follow(keys: &mut TokenKeys, sources: &[KeySource]) -> Option<Arc<Tables>> {
    let http = config(sources);
    keys.follow(|| http.clone(), &http)
}

/// Answers requests by path, each on a connection of its own. Returns where it is.
fn serve(answer: impl Fn(&str, &str) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = format!("http://{}", listener.local_addr().unwrap());
    let base = own.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = read_head(&mut stream);
            let path = head.split(' ').nth(1).unwrap();
            let (status, body) = answer(&base, path);
            let length = body.len();
            let reply = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}");
            // Who reads no further is gone.
            let _ = stream.write_all(reply.as_bytes());
        }
    });
    own
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn url(text: String) -> KeySource {
    KeySource::Url(text.into())
}

#[tokio::test]
async fn keys_are_fetched_and_stay_when_a_fetch_fails() {
    let broken = Arc::new(Mutex::new(false));
    let breaks = broken.clone();
    let base = serve(move |_, path| match (*breaks.lock().unwrap(), path) {
        (false, "/keys?a=b") => (200, SET.to_owned()),
        _ => (500, "oh".to_owned()),
    });
    let from = url(format!("{base}/keys?a=b"));
    let mut keys = TokenKeys::default();
    assert!(follow(&mut keys, slice::from_ref(&from)).is_none(), "nothing is known yet");
    keys.changed().await;
    assert_eq!(keys.entries[&from].text.as_deref(), Some(SET));
    assert!(keys.tables().is_some());
    assert!(keys.entries[&from].due > Instant::now() + TOKEN_KEYS_REFRESH - TOKEN_KEYS_RETRY_MAX);

    *broken.lock().unwrap() = true;
    keys.entries.get_mut(&from).unwrap().due = Instant::now();
    // What is there stays, so that nothing is new; and it is tried again soon.
    keys.begin_due();
    let (ended, fetched) = keys.fetches.join_next().await.unwrap().unwrap();
    assert!(!keys.ended(&ended, fetched));
    let entry = &keys.entries[&from];
    assert_eq!((entry.text.as_deref(), entry.failures), (Some(SET), 1));
    assert!(entry.due <= Instant::now() + TOKEN_KEYS_RETRY_MIN);
    // A reload knows them.
    assert!(follow(&mut keys, slice::from_ref(&from)).is_some());
    assert!(follow(&mut keys, &[]).is_none());
    assert!(keys.http.is_none() && keys.entries.is_empty());
}

#[tokio::test]
async fn an_issuer_says_where_its_keys_are() {
    let base = serve(|base, path| match path {
        "/realm/.well-known/openid-configuration" => {
            (200, format!(r#"{{"issuer": "{base}/realm", "jwks_uri": "{base}/certs"}}"#))
        }
        "/liar/.well-known/openid-configuration" => {
            (200, format!(r#"{{"issuer": "{base}/realm", "jwks_uri": "{base}/certs"}}"#))
        }
        "/silent/.well-known/openid-configuration" => {
            (200, format!(r#"{{"issuer": "{base}/silent"}}"#))
        }
        "/certs" => (200, SET.to_owned()),
        _ => (404, String::new()),
    });
    let of = |name: &str| KeySource::Issuer(format!("{base}/{name}").into());
    assert_eq!(fetch(&of("realm")).await.as_deref(), Ok(SET));
    assert_eq!(fetch(&of("realm/")).await.as_deref(), Ok(SET));
    for (name, want) in [("liar", "is of the issuer"), ("silent", "no `jwks_uri`"), ("none", "404")]
    {
        let error = fetch(&of(name)).await.unwrap_err();
        assert!(error.contains(want), "{name}: {error}");
    }
}

#[tokio::test]
async fn what_is_no_key_set_is_not_taken() {
    let base = serve(|_, path| match path {
        "/long" => (200, "x".repeat(2 << 20)),
        "/moved" => (302, String::new()),
        _ => (200, r#"{"keys": []}"#.to_owned()),
    });
    let mut keys = TokenKeys::default();
    let sources = ["long", "moved", "empty"].map(|path| url(format!("{base}/{path}")));
    follow(&mut keys, &sources);
    keys.begin_due();
    while let Some(ended) = keys.fetches.join_next().await {
        let (from, fetched) = ended.unwrap();
        assert!(!keys.ended(&from, fetched), "{from}");
        assert!(keys.entries[&from].text.is_none());
    }
}

/// Answers each request with these bytes, and ends its connection if it is said so. Returns where it is.
fn answering(bytes: impl Into<Vec<u8>>, ends: bool) -> String {
    let bytes = bytes.into();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = format!("http://{}/keys", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            read_head(&mut stream);
            // Who reads no further is gone.
            let _ = stream.write_all(&bytes);
            if ends {
                let _ = stream.shutdown(std::net::Shutdown::Write);
            }
            open.push(stream);
        }
    });
    own
}

#[tokio::test]
async fn who_answers_badly_has_no_keys() {
    let head = "HTTP/1.1 200 X\r\n";
    let whole = format!("{head}content-length: {}\r\n\r\n{SET}", SET.len());
    let endless = format!("{head}x: {}", "y".repeat(2 << 20));
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 18, " ".repeat(1 << 18));
    let huge = format!("{head}transfer-encoding: chunked\r\n\r\n{}", chunk.repeat(8));
    #[rustfmt::skip]
    let rows: [(&str, Vec<u8>, bool, &str); 8] = [
        ("it ends at once",              Vec::new(),                             true,  "closed before"),
        ("it speaks something else",     b"SSH-2.0-x\r\n\r\n".to_vec(),          true,  "HTTP"),
        ("its head has no end",          endless.into(),                         false, "too large"),
        ("it ends within its head",      head.into(),                            true,  "closed before"),
        ("it ends half way",             whole.as_bytes()[..150].to_vec(),       true,  "cannot be read"),
        ("it says nothing",              Vec::new(),                             false, "no answer in time"),
        ("it stops half way",            whole.as_bytes()[..150].to_vec(),       false, "no answer in time"),
        ("there is no end of keys",      huge.into(),                            false, "limit"),
    ];
    for (name, bytes, ends, want) in rows {
        let from = url(answering(bytes, ends));
        let silent = want == "no answer in time";
        let timeout = if silent { Duration::from_millis(50) } else { Duration::from_secs(60) };
        let mut keys = TokenKeys::default();
        follow(&mut keys, slice::from_ref(&from));
        keys.entries.get_mut(&from).unwrap().timeout = timeout;
        keys.begin_due();
        let (_, fetched) = keys.fetches.join_next().await.unwrap().unwrap();
        let error = fetched.clone().expect_err(name);
        assert!(error.contains(want), "{name}: {error}");
        assert!(!keys.ended(&from, fetched), "{name}");
        let entry = &keys.entries[&from];
        assert!(entry.text.is_none() && !entry.under_way, "{name}");
        assert!(entry.due <= Instant::now() + TOKEN_KEYS_RETRY_MIN, "{name}");
    }
}

#[tokio::test]
async fn pauses_between_failures_have_an_end() {
    let from = url("http://127.0.0.1:1/keys".to_owned());
    let mut keys = TokenKeys::default();
    follow(&mut keys, slice::from_ref(&from));
    let mut pauses = Vec::new();
    for _ in 0..40 {
        let before = Instant::now();
        keys.ended(&from, Err("it is gone".to_owned()));
        pauses.push(keys.entries[&from].due - before);
    }
    assert!(pauses[0] < pauses[1] && pauses[1] < pauses[2], "{pauses:?}");
    assert!(*pauses.last().unwrap() >= TOKEN_KEYS_RETRY_MAX);
    assert!(*pauses.last().unwrap() < TOKEN_KEYS_RETRY_MAX * 2);
}

#[tokio::test]
async fn what_is_no_file_is_not_read() {
    let home = tempfile::tempdir().unwrap();
    for path in [home.path().display().to_string(), "/dev/zero".to_owned()] {
        let error = fetch(&url(format!("file://{path}"))).await.unwrap_err();
        assert!(error.contains("is no file"), "{error}");
    }
    let long = home.path().join("long");
    std::fs::write(&long, " ".repeat(TOKEN_KEYS_BYTES_MAX + 1)).unwrap();
    let error = fetch(&url(format!("file://{}", long.display()))).await.unwrap_err();
    assert!(error.contains("too long"), "{error}");
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("keys.json");
    let from = url(format!("file://{}", path.display()));
    let error = fetch(&from).await.unwrap_err();
    assert!(error.contains("keys.json cannot be read"), "{error}");
    std::fs::write(&path, SET).unwrap();
    let mut keys = TokenKeys::default();
    follow(&mut keys, slice::from_ref(&from));
    keys.changed().await;
    let entry = keys.entries.get_mut(&from).unwrap();
    assert!(entry.due <= Instant::now() + TOKEN_KEYS_REFRESH_FILE);
    entry.due = Instant::now();
    std::fs::write(&path, SET.replace("\"ed\"", "\"other\"")).unwrap();
    keys.changed().await;
    assert!(keys.entries[&from].text.as_deref().unwrap().contains("other"));
}
