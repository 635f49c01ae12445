//! Where tokens stand in a request.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::model::policy::{JwtRule, TokenHeader};

/// Where a rule looks.
#[derive(Debug)]
pub(super) struct Places {
    headers: Box<[TokenHeader]>,
    params: Box<[Arc<str>]>,
    cookies: Box<[Arc<str>]>,
}

/// Where a token stood.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    Header(&'a HeaderName),
    Param(&'a str),
    Cookie(&'a str),
}

impl Places {
    pub(super) fn of(rule: &JwtRule) -> Places {
        let JwtRule { from_headers, from_params, from_cookies, .. } = rule;
        if from_headers.is_empty() && from_params.is_empty() && from_cookies.is_empty() {
            // RFC 6750 §2.
            let header = TokenHeader { name: header::AUTHORIZATION, prefix: "Bearer ".into() };
            let params = ["access_token".into()];
            return Places { headers: [header].into(), params: params.into(), cookies: [].into() };
        }
        Places {
            headers: from_headers.as_slice().into(),
            params: from_params.as_slice().into(),
            cookies: from_cookies.as_slice().into(),
        }
    }

    /// All tokens of a request, and where each stands.
    pub(super) fn find(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Vec<(Place<'_>, String)> {
        let mut found = Vec::new();
        for TokenHeader { name, prefix } in &self.headers {
            let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            let tokens = values.filter_map(|value| behind(prefix, value));
            found.extend(tokens.map(|token| (Place::Header(name), token.to_owned())));
        }
        for wanted in &self.params {
            let values = params(query).filter(|(name, _)| **name == **wanted);
            found.extend(values.map(|(_, token)| (Place::Param(wanted), token.to_owned())));
        }
        for wanted in &self.cookies {
            let values = headers.get_all(header::COOKIE).iter();
            let all = values.filter_map(|value| value.to_str().ok()).flat_map(cookies);
            let own = all.filter(|(name, _)| **name == **wanted);
            found.extend(own.map(|(_, token)| (Place::Cookie(wanted), token.to_owned())));
        }
        found.retain(|(_, token)| !token.is_empty());
        found
    }
}

impl<'a> Place<'a> {
    /// Takes it out, but for parameters, which are no headers.
    pub(super) fn remove(self, headers: &mut HeaderMap) {
        match self {
            Place::Header(name) => {
                headers.remove(name);
            }
            Place::Cookie(name) => remove_cookie(headers, name),
            Place::Param(_) => {}
        }
    }

    pub(super) fn param(self) -> Option<&'a str> {
        match self {
            Place::Param(name) => Some(name),
            Place::Header(_) | Place::Cookie(_) => None,
        }
    }
}

/// What stands behind a prefix; names of schemes have no case (RFC 9110 §11.1).
fn behind<'v>(prefix: &str, value: &'v str) -> Option<&'v str> {
    let value = value.trim_ascii();
    let (start, rest) = value.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then(|| rest.trim_ascii())
}

fn params(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Names and values of a `Cookie` header (RFC 6265 §4.2).
pub(crate) fn cookies(value: &str) -> impl Iterator<Item = (&str, &str)> {
    value.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((name.trim_ascii(), value.trim_ascii()))
    })
}

/// The value of a cookie.
pub(crate) fn cookie<'v>(value: &'v str, name: &str) -> Option<&'v str> {
    cookies(value).find(|(own, _)| *own == name).map(|(_, value)| value)
}

/// A query without these parameters; none: there is nothing left.
pub fn without_params(query: &str, names: &[&str]) -> Option<String> {
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| !names.contains(&pair.split_once('=').map_or(*pair, |(name, _)| name)))
        .collect();
    let kept = kept.join("&");
    (!kept.is_empty()).then_some(kept)
}

/// Takes a cookie out of all `Cookie` headers.
pub(crate) fn remove_cookie(headers: &mut HeaderMap, name: &str) {
    let values: Vec<HeaderValue> = headers.get_all(header::COOKIE).iter().cloned().collect();
    headers.remove(header::COOKIE);
    for value in values {
        let Ok(text) = value.to_str() else {
            headers.append(header::COOKIE, value);
            continue;
        };
        let kept: Vec<&str> = text
            .split(';')
            .map(str::trim_ascii)
            .filter(|pair| pair.split_once('=').is_none_or(|(own, _)| own.trim_ascii() != name))
            .filter(|pair| !pair.is_empty())
            .collect();
        if let Ok(value) = HeaderValue::from_str(&kept.join("; "))
            && !kept.is_empty()
        {
            headers.append(header::COOKIE, value);
        }
    }
}
