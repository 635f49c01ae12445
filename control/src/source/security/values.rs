//! Single entries of the lists of a rule: texts with wildcards, service accounts, ranges of addresses, ports.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use ringway_engine::snapshot::{Cidr, ServiceAccountMatch, TextMatch};
use ringway_protocols::identity::Identity;

use crate::source::diagnostics::{Problem, Reporter};
use crate::source::yaml::scalars::{nonempty, parse_port, text};
use crate::source::yaml::value::{Value, shortened};

/// The identity of a client without `spiffe://`, with wildcards.
pub(crate) fn principal(value: &Value, reporter: &mut Reporter) -> Option<TextMatch> {
    let text = nonempty(value, reporter)?;
    if let Some(rest) = text.strip_prefix("spiffe://") {
        let message = "principals are written without `spiffe://`: like this it matches nobody";
        let help = format!("write {}", shortened(rest));
        reporter.report(Problem::error(value.place, message).help(help));
        return None;
    }
    let pattern = pattern(value, reporter)?;
    if let TextMatch::Exact(text) = &pattern
        && format!("spiffe://{text}").parse::<Identity>().is_err()
    {
        let message = format!("no identity reads {:?}, so this matches nobody", shortened(text));
        let help = "an identity reads TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT".to_owned();
        reporter.report(Problem::warning(value.place, message).help(help));
    }
    Some(pattern)
}

/// `*`: any text but an empty one; `text*`: beginning with it; `*text`: ending in it; `text`: this.
pub(crate) fn pattern(value: &Value, reporter: &mut Reporter) -> Option<TextMatch> {
    let text = nonempty(value, reporter)?;
    let pattern = match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(""), _) => TextMatch::Presence,
        (Some(rest), None) => TextMatch::Suffix(rest.into()),
        (None, Some(rest)) => TextMatch::Prefix(rest.into()),
        (None, None) => TextMatch::Exact(text.into()),
        (Some(_), Some(_)) => return report_wildcard(value, reporter),
    };
    match &pattern {
        TextMatch::Exact(rest) | TextMatch::Prefix(rest) | TextMatch::Suffix(rest)
            if rest.contains('*') =>
        {
            report_wildcard(value, reporter)
        }
        _ => Some(pattern),
    }
}

fn report_wildcard(value: &Value, reporter: &mut Reporter) -> Option<TextMatch> {
    let message = "a `*` may stand at the beginning or at the end, once";
    let help = "`text*` begins with it, `*text` ends in it, `*` is anything".to_owned();
    reporter.report(Problem::error(value.place, message).help(help));
    None
}

/// `name`, of the policy's own namespace, or `namespace/name`.
pub(crate) fn service_account(
    value: &Value,
    own_namespace: &str,
    reporter: &mut Reporter,
) -> Option<ServiceAccountMatch> {
    let text = nonempty(value, reporter)?;
    let (namespace, name) = text.split_once('/').unwrap_or((own_namespace, text));
    if text.contains('*') || Identity::new("cluster.local", namespace, name).is_err() {
        let message = format!("expected a service account, found {:?}", shortened(text));
        let help = "write `name`, or `namespace/name` for one of another namespace; wildcards are \
                    for principals"
            .to_owned();
        reporter.report(Problem::error(value.place, message).help(help));
        return None;
    }
    Some(ServiceAccountMatch { namespace: namespace.into(), service_account: name.into() })
}

/// One address, or a range of them.
pub(crate) fn address(value: &Value, reporter: &mut Reporter) -> Option<Cidr> {
    let text = nonempty(value, reporter)?;
    match text.parse::<IpAddr>() {
        Ok(ip) => cidr(IpNet::from(ip.to_canonical())),
        Err(_) => range(value, reporter),
    }
}

/// A range of addresses.
pub(crate) fn range(value: &Value, reporter: &mut Reporter) -> Option<Cidr> {
    let text = nonempty(value, reporter)?;
    let Ok(range) = IpNet::from_str(text) else {
        let message = format!("expected a range of addresses, found {:?}", shortened(text));
        let help = "for example 10.0.0.0/8, or 10.0.0.1/32 for one address";
        reporter.report(Problem::error(value.place, message).help(help.to_owned()));
        return None;
    };
    if range.trunc() != range {
        let message = format!("{range} is the whole range {}", range.trunc());
        let help = format!("write that, or {} for the one address", IpNet::from(range.addr()));
        reporter.report(Problem::warning(value.place, message).help(help));
    }
    cidr(range)
}

/// Addresses of clients are never IPv4 addresses mapped into IPv6, so ranges of them must not be either.
fn cidr(range: IpNet) -> Option<Cidr> {
    Cidr::new(range.network(), range.prefix_len()).map(Cidr::canonical)
}

/// A port in quotes: Istio has texts here.
pub(crate) fn port(value: &Value, reporter: &mut Reporter) -> Option<u16> {
    let text = text(value, reporter)?;
    let port = parse_port(text);
    if port.is_none() {
        let message = format!("expected a port from 1 to 65535, found {:?}", shortened(text));
        reporter.report(Problem::error(value.place, message));
    }
    port
}

/// Anything that is not empty, for what is only looked at and not used.
pub(crate) fn anything(value: &Value, reporter: &mut Reporter) -> Option<()> {
    nonempty(value, reporter).map(|_| ())
}
