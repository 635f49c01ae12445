//! JSON Web Tokens: whether one that a request carries is believed, and what of it the service gets.
//!
//! ```text
//!  no token in any place ───────────────────────────────▶ passes, without a principal
//!  form ─▶ issuer ─▶ key and algorithm ─▶ signature ─▶ times ─▶ audience ─▶ believed
//!    └───────┴───────────────┴───────────────┴──────────┴──────────┴──────▶ refused: 401, of the audience 403
//! ```
//!
//! * Every token in a place where a rule looks must be believed, not only one of them.
//! * The algorithm is one of those that the key is for (RFC 8725 §3.1): what a token says of itself never turns a
//!   public key into a shared secret, and `none` is no algorithm. Symmetric keys are not used.
//! * A token that asks for extensions (`crit`, RFC 7515 §4.1.11) is not understood.

mod claims;
mod keys;
mod places;

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

pub use self::claims::Token;
pub use self::keys::{KeySet, KeysError};
pub use self::places::without_params;
pub(crate) use self::places::{cookie, cookies, remove_cookie};

use self::places::{Place, Places};
use crate::model::policy::{JwtRule, Keys, RequestAuthentication};

/// Bytes of a token. What is longer does not fit beside other headers anyway.
pub const TOKEN_BYTES_MAX: usize = 32 * 1024;

/// Tokens of one request that are looked at; more are refused.
pub const TOKENS_MAX: usize = 8;

/// By how much the clocks of an issuer and of this host may differ.
const SKEW_SECONDS: f64 = 60.0;

/// The RequestAuthentications that are attached to one target.
#[derive(Debug, Default)]
pub struct Authentications(Vec<CompiledRule>);

#[derive(Debug)]
struct CompiledRule {
    said: JwtRule,
    places: Places,
    /// None: they are to be fetched, and are not here yet.
    keys: Option<KeySet>,
}

impl Authentications {
    /// Adds a policy.
    ///
    /// # Errors
    /// Keys that stand in the document are none. Of fetched ones that is no mistake of the document: no token
    /// is believed until better ones come.
    pub fn add(&mut self, policy: &RequestAuthentication) -> Result<(), KeysError> {
        for rule in &policy.rules {
            let keys = match &rule.keys {
                Keys::Inline(text) => Some(KeySet::parse(text)?),
                Keys::Fetched { text, .. } => {
                    text.as_deref().and_then(|text| KeySet::parse(text).ok())
                }
            };
            self.0.push(CompiledRule { said: rule.clone(), places: Places::of(rule), keys });
        }
        Ok(())
    }
}

/// What became of the tokens of a request.
#[derive(Debug, Default)]
pub struct Authenticated<'a> {
    /// The first token that is believed.
    pub token: Option<Token>,
    /// By which rule each was, and where it stood.
    accepted: Vec<(&'a CompiledRule, Place<'a>)>,
    rules: Vec<&'a CompiledRule>,
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It is not three parts in base64url with JSON in two of them, or longer than any token.
    Malformed,
    /// There are more than anybody needs.
    TooMany,
    /// No rule is for its issuer.
    UnknownIssuer,
    /// The keys of its issuer cannot be had.
    NoKeys,
    /// It is signed by an algorithm that no key of its issuer is for.
    WrongAlgorithm,
    /// No key of its issuer has the id that it names.
    UnknownKey,
    /// Its signature is not by that key.
    WrongSignature,
    /// It asks for an extension.
    Extension,
    /// It ended.
    Expired,
    /// It begins later.
    NotYet,
    /// It is for somebody else.
    WrongAudience,
}

impl TokenError {
    /// What is answered.
    pub fn status(self) -> StatusCode {
        match self {
            TokenError::WrongAudience => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// `WWW-Authenticate` of the answer (RFC 6750 §3).
    pub const CHALLENGE: &'static str = "Bearer error=\"invalid_token\"";

    /// `%RESPONSE_CODE_DETAILS%` of the access log.
    pub fn details(self) -> String {
        format!("jwt_authn_access_denied{{{}}}", self.text().replace(' ', "_"))
    }
}

impl TokenError {
    /// The answer's body, in Istio's words.
    pub fn text(self) -> &'static str {
        match self {
            TokenError::Malformed => {
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
            }
            TokenError::TooMany => "Too many Jwts",
            TokenError::UnknownIssuer => "Jwt issuer is not configured",
            TokenError::NoKeys => "Jwks remote fetch is failed",
            TokenError::WrongAlgorithm => "Jwt header [alg] is not supported",
            TokenError::UnknownKey => "Jwks doesn't have key to match kid or alg from Jwt",
            TokenError::WrongSignature => "Jwt verification fails",
            TokenError::Extension => "Jwt header [crit] is not supported",
            TokenError::Expired => "Jwt is expired",
            TokenError::NotYet => "Jwt not yet valid",
            TokenError::WrongAudience => "Audiences in Jwt are not allowed",
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for TokenError {}

/// Verifies every token of a request, at `now` in seconds since 1970.
///
/// # Errors
/// One of them is not believed.
pub fn authenticate<'a>(
    sets: &[&'a Authentications],
    headers: &HeaderMap,
    query: Option<&str>,
    now: u64,
) -> Result<Authenticated<'a>, TokenError> {
    let rules: Vec<&CompiledRule> = sets.iter().flat_map(|set| &set.0).collect();
    let mut found: Vec<Found<'_>> = Vec::new();
    for &rule in &rules {
        for (place, text) in rule.places.find(headers, query) {
            let known = found.iter().position(|known| known.text == text).unwrap_or(found.len());
            if known == TOKENS_MAX {
                return Err(TokenError::TooMany);
            }
            if known == found.len() {
                found.push(Found { text, by: Vec::new() });
            }
            found[known].by.push((rule, place));
        }
    }
    let mut authenticated = Authenticated { token: None, accepted: Vec::new(), rules };
    for Found { text, by } in found {
        let token = verify(&text, &by, now)?;
        let accepted = by.into_iter().filter(|(rule, _)| *rule.said.issuer == *token.issuer());
        authenticated.accepted.extend(accepted);
        authenticated.token.get_or_insert(token);
    }
    Ok(authenticated)
}

/// A token of a request, and by whom it was found where.
struct Found<'a> {
    text: String,
    by: Vec<(&'a CompiledRule, Place<'a>)>,
}

impl Authenticated<'_> {
    /// Takes out tokens that are not to go on, and sets what rules want to be set. Headers that rules set are never the
    /// client's own.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for rule in &self.rules {
            for (name, _) in &rule.said.output_claims {
                headers.remove(name);
            }
            if let Some(name) = &rule.said.output_payload {
                headers.remove(name);
            }
        }
        for (rule, place) in &self.accepted {
            if !rule.said.forward {
                place.remove(headers);
            }
        }
        let Some(token) = &self.token else { return };
        for (rule, _) in &self.accepted {
            if *rule.said.issuer != *token.issuer() {
                continue;
            }
            for (name, path) in &rule.said.output_claims {
                set(headers, name, token.claim_text(path).as_deref());
            }
            if let Some(name) = &rule.said.output_payload {
                set(headers, name, Some(token.payload()));
            }
        }
    }

    /// Parameters of the query with tokens that are not to go on, for [`without_params`].
    pub fn params(&self) -> Vec<&str> {
        let own = self.accepted.iter().filter(|(rule, _)| !rule.said.forward);
        own.filter_map(|(_, place)| place.param()).collect()
    }
}

fn set(headers: &mut HeaderMap, name: &HeaderName, value: Option<&str>) {
    // A claim with a line break in it is no header.
    if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
        headers.insert(name.clone(), value);
    }
}

/// Verifies one token by the rules that found it; one of those for its issuer must believe it.
fn verify(text: &str, by: &[(&CompiledRule, Place<'_>)], now: u64) -> Result<Token, TokenError> {
    let Parts { header, claims, payload, signed, signature } = Parts::of(text)?;
    let token = Token::of(claims, payload)?;
    let mut failure = TokenError::UnknownIssuer;
    for (rule, _) in by.iter().filter(|(rule, _)| *rule.said.issuer == *token.issuer()) {
        match rule.accepts(&header, signed, signature, &token, now) {
            Ok(()) => return Ok(token),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

impl CompiledRule {
    fn accepts(
        &self,
        header: &Header,
        signed: &str,
        signature: &str,
        token: &Token,
        now: u64,
    ) -> Result<(), TokenError> {
        let keys = self.keys.as_ref().ok_or(TokenError::NoKeys)?;
        keys.verify(header.algorithm, header.key.as_deref(), signed, signature)?;
        let now = now as f64;
        if token.expires()?.is_some_and(|end| now > end + SKEW_SECONDS) {
            return Err(TokenError::Expired);
        }
        if token.begins()?.is_some_and(|start| now + SKEW_SECONDS < start) {
            return Err(TokenError::NotYet);
        }
        let wanted = &self.said.audiences;
        let is_wanted = |audience: &str| wanted.iter().any(|wanted| **wanted == *audience);
        match wanted.is_empty() || token.audiences().any(is_wanted) {
            true => Ok(()),
            false => Err(TokenError::WrongAudience),
        }
    }
}

/// A token in its parts (RFC 7515 §3.1), nothing of it believed yet.
struct Parts<'t> {
    header: Header,
    claims: Map<String, Value>,
    /// As it stands in the token.
    payload: &'t str,
    signed: &'t str,
    signature: &'t str,
}

struct Header {
    algorithm: Algorithm,
    key: Option<String>,
}

impl<'t> Parts<'t> {
    fn of(text: &'t str) -> Result<Parts<'t>, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header = Header::of(&object(header)?)?;
        Ok(Parts { header, claims: object(payload)?, payload, signed, signature })
    }
}

impl Header {
    fn of(header: &Map<String, Value>) -> Result<Header, TokenError> {
        if header.contains_key("crit") {
            return Err(TokenError::Extension);
        }
        let algorithm = header.get("alg").and_then(Value::as_str).ok_or(TokenError::Malformed)?;
        let algorithm = Algorithm::from_str(algorithm).map_err(|_| TokenError::WrongAlgorithm)?;
        let key = match header.get("kid") {
            None => None,
            Some(Value::String(key)) => Some(key.clone()),
            Some(_) => return Err(TokenError::Malformed),
        };
        Ok(Header { algorithm, key })
    }
}

fn object(part: &str) -> Result<Map<String, Value>, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod tests;
