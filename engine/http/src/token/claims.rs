//! What a token says.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::TokenError;

/// A token whose signature, times and audience were verified, by what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    claims: Map<String, Value>,
    /// `issuer/subject`; none without a subject.
    principal: Option<String>,
    payload: String,
}

impl Token {
    /// The claims of a token, whose payload is this in base64url.
    ///
    /// # Errors
    /// It does not say who issued it.
    pub(super) fn of(claims: Map<String, Value>, payload: &str) -> Result<Token, TokenError> {
        let text = |name| claims.get(name).and_then(Value::as_str);
        let issuer = text("iss").ok_or(TokenError::UnknownIssuer)?;
        let principal = text("sub").map(|subject| format!("{issuer}/{subject}"));
        Ok(Token { claims, principal, payload: payload.to_owned() })
    }

    /// The claim `iss`.
    pub fn issuer(&self) -> &str {
        self.text("iss").unwrap_or_default()
    }

    /// `issuer/subject`.
    pub fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }

    /// The claim `aud`, one text or a list of them.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        texts(self.claims.get("aud"))
    }

    /// The claim `azp`.
    pub fn presenter(&self) -> Option<&str> {
        self.text("azp")
    }

    /// A claim, or one inside others, as what policies compare: a text and each of its words, as in `scope`; a number
    /// or boolean as it is written; of a list each element.
    pub fn claim_texts(&self, path: &[Arc<str>]) -> Vec<Cow<'_, str>> {
        let values = match self.claim(path) {
            None => return Vec::new(),
            Some(Value::Array(values)) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
        };
        let mut found = Vec::new();
        for value in values {
            found.extend(scalar(value));
            if let Value::String(text) = value
                && text.contains(' ')
            {
                found.extend(text.split(' ').filter(|word| !word.is_empty()).map(Cow::Borrowed));
            }
        }
        found
    }

    /// A claim, or one inside others, as one text.
    pub fn claim_text(&self, path: &[Arc<str>]) -> Option<Cow<'_, str>> {
        self.claim(path).and_then(scalar)
    }

    /// The claims as they were signed, in base64url.
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// Seconds since 1970.
    pub(super) fn expires(&self) -> Result<Option<f64>, TokenError> {
        self.seconds("exp")
    }

    /// Seconds since 1970.
    pub(super) fn begins(&self) -> Result<Option<f64>, TokenError> {
        self.seconds("nbf")
    }

    fn seconds(&self, name: &str) -> Result<Option<f64>, TokenError> {
        match self.claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(TokenError::Malformed),
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }

    fn claim(&self, path: &[Arc<str>]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.claims.get(&**first)?, |value, name| value.get(&**name))
    }
}

fn texts(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let values = match value {
        Some(Value::Array(values)) => values.as_slice(),
        Some(value) => std::slice::from_ref(value),
        None => &[],
    };
    values.iter().filter_map(Value::as_str)
}

fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(boolean) => Some(Cow::Borrowed(if *boolean { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
