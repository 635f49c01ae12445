//! Scalars of the Gateway API: host names with a wildcard, section names.

use crate::source::diagnostics::{Problem, Reporter};
use crate::source::yaml::scalars::nonempty;
use crate::source::yaml::value::{Value, shortened};

/// The group of the Gateway API's own kinds.
pub(crate) const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// The group of what is tried before it becomes part of the standard.
#[cfg(feature = "waypoint")]
pub(crate) const GATEWAY_X_GROUP: &str = "gateway.networking.x-k8s.io";

/// A host name, or `*.` and one: no address, no port, small letters.
pub(super) fn hostname<'v>(value: &'v Value, reporter: &mut Reporter) -> Option<&'v str> {
    let text = nonempty(value, reporter)?;
    if is_hostname(text.strip_prefix("*.").unwrap_or(text))
        && text.parse::<std::net::IpAddr>().is_err()
    {
        return Some(text);
    }
    let message = format!("expected a host name, found {:?}", shortened(text));
    let lower = text.to_ascii_lowercase();
    let help = match text {
        _ if lower != text && is_hostname(&lower) => format!("did you mean `{lower}`?"),
        _ if text.contains('*') => {
            "a `*` may only be the whole first label: `*.example.com`".into()
        }
        _ if text.contains(':') => "the port does not belong here".into(),
        _ => "for example `example.com` or `*.example.com`".into(),
    };
    reporter.report(Problem::error(value.place, message).help(help));
    None
}

/// RFC 1123 names of at most 253 characters end here.
const HOSTNAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

fn is_hostname(text: &str) -> bool {
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let is_letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        (1..=LABEL_BYTES_MAX).contains(&bytes.len())
            && bytes.iter().all(|byte| is_letter(byte) || *byte == b'-')
            && bytes.first().is_some_and(is_letter)
            && bytes.last().is_some_and(is_letter)
    };
    text.len() <= HOSTNAME_BYTES_MAX && text.split('.').all(is_label)
}
