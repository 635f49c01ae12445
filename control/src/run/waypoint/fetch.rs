//! Fetches a JSON Web Key Set: from a URL, from a file, or from where its issuer says (OpenID Connect Discovery 1.0).
//!
//! Each fetch is a connection of its own, with TLS 1.3 and the roots of the system (`SSL_CERT_FILE` names others). Redirections are
//! not followed: what a configuration names is what is asked.

use std::path::Path;
use std::str::FromStr;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use ringway_engine::limits::TOKEN_KEYS_BYTES_MAX;
use ringway_http::model::policy::KeySource;

use crate::grpc::{self, Address, Endpoint, Roots};

/// The text of a key set.
///
/// # Errors
/// Why it cannot be had, in a sentence.
pub(super) async fn fetch(from: &KeySource) -> Result<String, String> {
    match from {
        KeySource::Url(url) => match url.strip_prefix("file://") {
            Some(path) => read(path.to_owned()).await,
            None => get(url).await,
        },
        KeySource::Issuer(issuer) => {
            let found = discover(issuer).await;
            get(&found.map_err(|why| format!("the issuer does not say where they are: {why}"))?)
                .await
        }
    }
}

/// Where an issuer's configuration says its keys are.
async fn discover(issuer: &str) -> Result<String, String> {
    let base = issuer.trim_end_matches('/');
    let text = get(&format!("{base}/.well-known/openid-configuration")).await?;
    let said: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let text = |key: &str| said.get(key).and_then(serde_json::Value::as_str);
    // §4.3: who asks must look whether it is the issuer's.
    match text("issuer") {
        Some(own) if own.trim_end_matches('/') == base => {}
        Some(other) => return Err(format!("its configuration is of the issuer {other:?}")),
        None => return Err("its configuration names no issuer".to_owned()),
    }
    let uri = text("jwks_uri").ok_or("its configuration has no `jwks_uri`")?;
    if issuer.starts_with("https://") && !uri.starts_with("https://") {
        return Err(format!("{uri:?} is not reached over TLS, though the issuer is"));
    }
    Ok(uri.to_owned())
}

async fn get(url: &str) -> Result<String, String> {
    let uri = Uri::from_str(url).map_err(|error| format!("{url:?} is no URL: {error}"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(format!("{url:?} is no URL"));
    };
    let default_port = if scheme == "https" { 443 } else { 80 };
    let server = match authority.port_u16() {
        Some(_) => format!("{scheme}://{authority}"),
        None => format!("{scheme}://{authority}:{default_port}"),
    };
    let endpoint = Endpoint {
        uri: Address::from_str(&server).map_err(|error| error.to_string())?,
        roots: Roots::System,
        alternative_hostname: None,
        token: None,
        cluster_id: String::new(),
        headers: Vec::new(),
        post_quantum_only: false,
    };
    let connected = grpc::connect_http1::<Empty<Bytes>>(&endpoint).await;
    let mut sender = connected.map_err(|error| error.to_string())?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let request = Request::get(target)
        .header(HOST, authority.as_str())
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, "ringway")
        .body(Empty::new());
    let request = request.map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let (head, body) = answer.into_parts();
    if head.status != StatusCode::OK {
        return Err(format!("{url} has answered {}", head.status.as_u16()));
    }
    let body = Limited::new(body, TOKEN_KEYS_BYTES_MAX).collect().await;
    let body = body.map_err(|error| format!("the answer of {url} cannot be read: {error}"))?;
    String::from_utf8(body.to_bytes().into()).map_err(|_| format!("what {url} has is no text"))
}

async fn read(path: String) -> Result<String, String> {
    let reading = tokio::task::spawn_blocking(move || read_here(Path::new(&path)));
    reading.await.unwrap_or_else(|panic| Err(panic.to_string()))
}

fn read_here(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let refused = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    // Neither a pipe, which may never end, nor a device.
    if !std::fs::metadata(path).map_err(refused)?.is_file() {
        return Err(format!("{} is no file", path.display()));
    }
    let file = std::fs::File::open(path).map_err(refused)?;
    let mut text = String::new();
    file.take(TOKEN_KEYS_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(refused)?;
    match text.len() > TOKEN_KEYS_BYTES_MAX {
        true => Err(format!("{} is too long for a set of keys", path.display())),
        false => Ok(text),
    }
}
