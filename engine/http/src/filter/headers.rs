//! Changes of headers.

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::head::{is_framing, joined};
use crate::model::HeaderChanges;

/// Sets, then adds, then removes. What holds the message together is left alone, whatever is configured.
pub fn change(changes: &HeaderChanges, headers: &mut HeaderMap) {
    for it in changes.set.iter().filter(|it| !is_framing(&it.name)) {
        headers.insert(it.name.clone(), it.value.clone());
    }
    for it in changes.add.iter().filter(|it| !is_framing(&it.name)) {
        add(headers, &it.name, &it.value);
    }
    for name in changes.remove.iter().filter(|name| !is_framing(name)) {
        headers.remove(name);
    }
}

/// To one value, with commas (RFC 9110 §5.3): whoever reads the first line only reads all of it.
fn add(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    if *name == SET_COOKIE {
        headers.append(name.clone(), value.clone());
        return;
    }
    let Some(before) = joined(headers, name) else {
        headers.insert(name.clone(), value.clone());
        return;
    };
    let separator: &[u8] = if *name == COOKIE { b"; " } else { b"," };
    let all = [&*before, separator, value.as_bytes()].concat();
    let all = HeaderValue::from_bytes(&all).expect("values with a comma between are a value");
    headers.insert(name.clone(), all);
}
