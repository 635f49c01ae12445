//! Tokens of keys that are made here, believed and not.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair,
};
use aws_lc_rs::{hmac, signature::RsaEncoding};
use serde_json::json;

use super::*;
use crate::model::policy::{KeySource, TokenHeader};

/// The moment of all tests.
const NOW: u64 = 1_800_000_000;

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An issuer with a key of each kind.
struct Issuer {
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    rsa: RsaKeyPair,
}

impl Issuer {
    fn new() -> Issuer {
        Issuer {
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
        }
    }

    fn keys(&self) -> String {
        let point = self.ec.public_key().as_ref();
        let rsa: PublicKeyComponents<Vec<u8>> = self.rsa.public_key().into();
        json!({"keys": [
            {"kty": "EC", "crv": "P-256", "kid": "ec", "x": encode(&point[1..33]), "y": encode(&point[33..])},
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": encode(self.ed.public_key().as_ref())},
            {"kty": "RSA", "kid": "rsa", "n": encode(&rsa.n), "e": encode(&rsa.e)},
            {"kty": "oct", "kid": "oct", "k": encode(b"nobody knows this")},
            {"kty": "EC", "crv": "P-256", "kid": "secret", "use": "enc", "x": encode(&point[1..33]), "y": encode(&point[33..])},
            {"kty": "a kind of the future", "kid": "x"},
        ]})
        .to_string()
    }

    fn token(&self, header: Value, claims: Value) -> String {
        let signed = format!(
            "{}.{}",
            encode(header.to_string().as_bytes()),
            encode(claims.to_string().as_bytes())
        );
        let signature =
            self.signature(header["alg"].as_str().unwrap_or_default(), signed.as_bytes());
        format!("{signed}.{}", encode(&signature))
    }

    fn signature(&self, algorithm: &str, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(encoding, &random, signed, &mut signature).unwrap();
            signature
        };
        match algorithm {
            "ES256" => self.ec.sign(&random, signed).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed.sign(signed).as_ref().to_vec(),
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "PS256" => rsa(&RSA_PSS_SHA256),
            // As if the public key were a secret that both know.
            "HS256" => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, self.ec.public_key().as_ref());
                hmac::sign(&key, signed).as_ref().to_vec()
            }
            _ => Vec::new(),
        }
    }
}

fn claims() -> Value {
    json!({"iss": "https://issuer", "sub": "alice", "aud": ["shop", "bank"], "exp": NOW + 300, "nbf": NOW - 10})
}

fn rule(keys: &str) -> JwtRule {
    JwtRule {
        issuer: "https://issuer".into(),
        audiences: vec!["shop".into()],
        keys: Keys::Inline(keys.into()),
        from_headers: Vec::new(),
        from_params: Vec::new(),
        from_cookies: Vec::new(),
        output_payload: None,
        output_claims: Vec::new(),
        forward: false,
    }
}

fn set(rules: Vec<JwtRule>) -> Authentications {
    let mut set = Authentications::default();
    set.add(&RequestAuthentication { rules }).unwrap();
    set
}

fn bearer(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    headers
}

#[test]
fn what_is_believed() {
    let issuer = Issuer::new();
    let set = set(vec![rule(&issuer.keys())]);
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    let es = || json!({"alg": "ES256", "kid": "ec"});
    #[rustfmt::skip]
    let rows = vec![
        ("ES256",                 es(), claims(), Ok(())),
        ("EdDSA",                 json!({"alg": "EdDSA", "kid": "ed"}), claims(), Ok(())),
        ("RS256",                 json!({"alg": "RS256", "kid": "rsa"}), claims(), Ok(())),
        ("PS256",                 json!({"alg": "PS256", "kid": "rsa"}), claims(), Ok(())),
        ("no key id",             json!({"alg": "ES256"}), claims(), Ok(())),
        ("no end",                es(), without("exp"), Ok(())),
        ("a fraction of seconds", es(), with("exp", json!(NOW as f64 + 0.5)), Ok(())),
        ("one audience",          es(), with("aud", json!("shop")), Ok(())),
        ("ended, within the skew",es(), with("exp", json!(NOW - 60)), Ok(())),
        ("ended",                 es(), with("exp", json!(NOW - 61)), Err(TokenError::Expired)),
        ("begins, within the skew",es(),with("nbf", json!(NOW + 60)), Ok(())),
        ("not yet",               es(), with("nbf", json!(NOW + 61)), Err(TokenError::NotYet)),
        ("end is a text",         es(), with("exp", json!("tomorrow")), Err(TokenError::Malformed)),
        ("another audience",      es(), with("aud", json!(["bank"])), Err(TokenError::WrongAudience)),
        ("no audience",           es(), without("aud"), Err(TokenError::WrongAudience)),
        ("another issuer",        es(), with("iss", json!("https://other")), Err(TokenError::UnknownIssuer)),
        ("no issuer",             es(), without("iss"), Err(TokenError::UnknownIssuer)),
        ("none",                  json!({"alg": "none"}), claims(), Err(TokenError::WrongAlgorithm)),
        ("None",                  json!({"alg": "None", "kid": "ec"}), claims(), Err(TokenError::WrongAlgorithm)),
        ("public key as secret",  json!({"alg": "HS256", "kid": "ec"}), claims(), Err(TokenError::WrongAlgorithm)),
        ("a shared secret",       json!({"alg": "HS256", "kid": "oct"}), claims(), Err(TokenError::WrongAlgorithm)),
        ("key of another kind",   json!({"alg": "RS256", "kid": "ec"}), claims(), Err(TokenError::UnknownKey)),
        ("key for encryption",    json!({"alg": "ES256", "kid": "secret"}), claims(), Err(TokenError::UnknownKey)),
        ("unknown key",           json!({"alg": "ES256", "kid": "nope"}), claims(), Err(TokenError::UnknownKey)),
        ("key id is a number",    json!({"alg": "ES256", "kid": 1}), claims(), Err(TokenError::Malformed)),
        ("no algorithm",          json!({"kid": "ec"}), claims(), Err(TokenError::Malformed)),
        ("an extension",          json!({"alg": "ES256", "kid": "ec", "crit": ["b64"], "b64": false}), claims(), Err(TokenError::Extension)),
        ("claims are a list",     es(), json!([1]), Err(TokenError::Malformed)),
    ];
    for (name, header, claims, want) in rows {
        let headers = bearer(&issuer.token(header, claims));
        let got = authenticate(&[&set], &headers, None, NOW);
        let principal = got.as_ref().ok().map(|got| got.token.as_ref().unwrap().principal());
        assert_eq!(got.as_ref().map(|_| ()).map_err(|error| *error), want, "{name}");
        assert_eq!(principal, want.ok().map(|()| Some("https://issuer/alice")), "{name}");
    }
}

#[test]
fn what_is_changed_is_not_believed() {
    let issuer = Issuer::new();
    let set = set(vec![rule(&issuer.keys())]);
    let token = issuer.token(json!({"alg": "ES256", "kid": "ec"}), claims());
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        let got = authenticate(&[&set], &bearer(&changed), None, NOW);
        assert!(got.is_err(), "changed at {at}: {changed}");
    }
    for text in ["", ".", "..", "a.b", "a.b.c.d", "e30.e30.", "e30.e30.e30"] {
        let got = authenticate(&[&set], &bearer(&format!("{text}x")), None, NOW);
        assert_eq!(got.err().map(|error| error.status()), Some(StatusCode::UNAUTHORIZED), "{text}");
    }
    let long = "a".repeat(TOKEN_BYTES_MAX + 1);
    assert_eq!(authenticate(&[&set], &bearer(&long), None, NOW).err(), Some(TokenError::Malformed));
}

#[test]
fn places_of_tokens() {
    let issuer = Issuer::new();
    let keys = issuer.keys();
    let token = issuer.token(json!({"alg": "ES256", "kid": "ec"}), claims());
    let header = |name: &'static str, value: String| {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    };
    let own = JwtRule {
        from_headers: vec![TokenHeader {
            name: HeaderName::from_static("x-token"),
            prefix: "T ".into(),
        }],
        from_params: vec!["token".into()],
        from_cookies: vec!["session".into()],
        ..rule(&keys)
    };
    let usual = set(vec![rule(&keys)]);
    let own = set(vec![own]);
    let query = format!("a=b&token={token}");
    let access = format!("access_token={token}&a");
    #[rustfmt::skip]
    let rows = [
        ("nothing there",      &usual, HeaderMap::new(), None, false),
        ("bearer",             &usual, header("authorization", format!("Bearer {token}")), None, true),
        ("bearer, lower-case", &usual, header("authorization", format!("bearer  {token}")), None, true),
        ("another scheme",     &usual, header("authorization", "Basic abc".into()), None, false),
        ("parameter",          &usual, HeaderMap::new(), Some(&*access), true),
        ("own header",         &own,   header("x-token", format!("T {token}")), None, true),
        ("own parameter",      &own,   HeaderMap::new(), Some(&*query), true),
        ("own cookie",         &own,   header("cookie", format!("a=b; session={token}; c=d")), None, true),
        ("not the usual one",  &own,   header("authorization", format!("Bearer {token}")), None, false),
    ];
    for (name, set, headers, query, want) in rows {
        let got = authenticate(&[set], &headers, query, NOW).unwrap();
        assert_eq!(got.token.is_some(), want, "{name}");
    }
}

/// A good token beside one that is not believed does not make that one good.
#[test]
fn every_token_must_be_believed() {
    let issuer = Issuer::new();
    let set = set(vec![rule(&issuer.keys())]);
    let token = issuer.token(json!({"alg": "ES256", "kid": "ec"}), claims());
    let got = authenticate(&[&set], &bearer(&token), Some("access_token=a.b.c"), NOW);
    assert_eq!(got.err(), Some(TokenError::Malformed));
    let mut headers = bearer(&token);
    for number in 0..TOKENS_MAX {
        headers.append("authorization", format!("Bearer {number}").parse().unwrap());
    }
    assert_eq!(authenticate(&[&set], &headers, None, NOW).err(), Some(TokenError::TooMany));
}

#[test]
fn what_the_service_gets() {
    let issuer = Issuer::new();
    let keys = issuer.keys();
    let mut said = claims();
    said["team"] = json!({"name": "red", "size": 3});
    let token = issuer.token(json!({"alg": "ES256", "kid": "ec"}), said);
    let name = HeaderName::from_static;
    let own = JwtRule {
        from_cookies: vec!["session".into()],
        from_headers: vec![TokenHeader { name: name("x-token"), prefix: "".into() }],
        from_params: vec!["t".into()],
        output_payload: Some(name("x-payload")),
        output_claims: vec![
            (name("x-team"), vec!["team".into(), "name".into()]),
            (name("x-size"), vec!["team".into(), "size".into()]),
            (name("x-nothing"), vec!["nothing".into()]),
        ],
        ..rule(&keys)
    };
    let spoofed = || {
        let mut headers = HeaderMap::new();
        for name in ["x-payload", "x-team", "x-size", "x-nothing", "x-other"] {
            headers.insert(name, HeaderValue::from_static("spoofed"));
        }
        headers
    };
    let value = |headers: &HeaderMap, name: &str| {
        headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    };

    let set_of = |forward| set(vec![JwtRule { forward, ..own.clone() }]);
    let set = set_of(false);
    let mut headers = spoofed();
    headers.insert("cookie", format!("a=b; session={token}; c=d").parse().unwrap());
    headers.insert("x-token", token.parse().unwrap());
    let query = format!("a=b&t={token}&c");
    let got = authenticate(&[&set], &headers, Some(&query), NOW).unwrap();
    got.apply(&mut headers);
    assert_eq!(value(&headers, "x-team").as_deref(), Some("red"));
    assert_eq!(value(&headers, "x-size").as_deref(), Some("3"));
    assert_eq!(value(&headers, "x-nothing"), None);
    assert_eq!(value(&headers, "x-token"), None);
    assert_eq!(value(&headers, "cookie").as_deref(), Some("a=b; c=d"));
    assert_eq!(value(&headers, "x-payload").as_deref(), token.split('.').nth(1));
    assert_eq!(without_params(&query, &got.params()).as_deref(), Some("a=b&c"));

    let set = set_of(true);
    let mut headers = spoofed();
    headers.insert("x-token", token.parse().unwrap());
    let got = authenticate(&[&set], &headers, None, NOW).unwrap();
    got.apply(&mut headers);
    assert_eq!(value(&headers, "x-token").as_deref(), Some(&*token));

    // Without a token, what only a token may say is not said by the client.
    let mut headers = spoofed();
    authenticate(&[&set], &headers, None, NOW).unwrap().apply(&mut headers);
    for name in ["x-payload", "x-team", "x-size", "x-nothing"] {
        assert_eq!(value(&headers, name), None, "{name}");
    }
    assert_eq!(value(&headers, "x-other").as_deref(), Some("spoofed"));
}

#[test]
fn claims_as_texts() {
    let claims = json!({"iss": "i", "scope": "read write", "level": 3, "admin": true, "groups": ["a b", "c"],
        "deep": {"er": {"est": "x"}}, "nothing": null});
    let Value::Object(claims) = claims else { panic!() };
    let token = Token::of(claims, "").unwrap();
    #[rustfmt::skip]
    let rows: &[(&[&str], &[&str])] = &[
        (&["scope"], &["read write", "read", "write"]),
        (&["level"], &["3"]),
        (&["admin"], &["true"]),
        (&["groups"], &["a b", "a", "b", "c"]),
        (&["deep", "er", "est"], &["x"]),
        (&["deep", "er"], &[]),
        (&["nothing"], &[]),
        (&["absent"], &[]),
        (&["scope", "inside"], &[]),
        (&[], &[]),
    ];
    for (path, want) in rows {
        let path: Vec<std::sync::Arc<str>> = path.iter().map(|name| (*name).into()).collect();
        assert_eq!(token.claim_texts(&path), *want, "{path:?}");
    }
    assert_eq!(token.principal(), None);
}

#[test]
fn keys_that_cannot_be_had() {
    let issuer = Issuer::new();
    let fetched = |text: Option<String>| JwtRule {
        keys: Keys::Fetched {
            from: KeySource::Url("https://issuer/keys".into()),
            timeout: std::time::Duration::from_secs(5),
            text: text.map(Into::into),
        },
        ..rule("")
    };
    let headers = bearer(&issuer.token(json!({"alg": "ES256", "kid": "ec"}), claims()));
    for (text, want) in [
        (None, Some(TokenError::NoKeys)),
        (Some("garbage".to_owned()), Some(TokenError::NoKeys)),
        (Some(issuer.keys()), None),
    ] {
        let set = set(vec![fetched(text)]);
        assert_eq!(authenticate(&[&set], &headers, None, NOW).err(), want);
        assert!(authenticate(&[&set], &HeaderMap::new(), None, NOW).is_ok());
    }
    for (text, want) in [
        ("", KeysError::Malformed),
        ("{}", KeysError::Malformed),
        (r#"{"keys": []}"#, KeysError::NoneUsable),
        (r#"{"keys": [{"kty": "oct", "k": "AAAA"}]}"#, KeysError::NoneUsable),
        (r#"{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}"#, KeysError::NoneUsable),
    ] {
        assert_eq!(KeySet::parse(text).err(), Some(want), "{text}");
        let mut set = Authentications::default();
        assert_eq!(set.add(&RequestAuthentication { rules: vec![rule(text)] }), Err(want));
    }
}
