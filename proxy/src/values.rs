//! Values of flags, as people write them.

use std::net::SocketAddr;
use std::time::Duration;

use ringway_control::policy::Client;
use ringway_control::source::Cores;
use ringway_protocols::identity::Identity;

/// A duration: `500ms`, `5s`, `1m30s`, `24h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is no duration; write for example 500ms, 5s, 1m30s, 24h or 7d");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u32 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            "d" => Duration::from_secs(24 * 3600),
            _ => return Err(wrong()),
        };
        total =
            unit.checked_mul(number).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = &rest[end..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

/// A share: a number from 0 to 1.
#[cfg(feature = "waypoint")]
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let parsed = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    parsed.ok_or_else(|| format!("{text:?} is no share; write a number from 0 to 1, such as 0.01"))
}

/// A confidence: a number from 0.5 to less than 1.
#[cfg(feature = "waypoint")]
pub(crate) fn confidence(text: &str) -> Result<f64, String> {
    let parsed = text.parse::<f64>().ok().filter(|share| (0.5..1.0).contains(share));
    parsed.ok_or_else(|| {
        format!("{text:?} is no confidence; write a number from 0.5 to less than 1, such as 0.95")
    })
}

/// Cores: `auto`, a number of them, or a list such as `0,2,4-7`; one core as a list is `2,`.
pub(crate) fn cores(text: &str) -> Result<Cores, String> {
    let wrong = || {
        format!(
            "{text:?} names no cores; write auto, a number such as 4, or a list such as 0,2,4-7"
        )
    };
    if text == "auto" {
        return Ok(Cores::Automatic);
    }
    if let Ok(count) = text.parse::<usize>() {
        return if count == 0 { Err(wrong()) } else { Ok(Cores::Count(count)) };
    }
    let mut list = Vec::new();
    for part in text.strip_suffix(',').unwrap_or(text).split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.parse().map_err(|_| wrong())?;
        let last: usize = last.parse().map_err(|_| wrong())?;
        // As many processors as Linux supports.
        if last < first || last >= 8192 {
            return Err(wrong());
        }
        list.extend(first..=last);
    }
    Ok(Cores::List(list))
}

/// An address with its port, or `none`.
pub(crate) fn listener(text: &str) -> Result<Listener, String> {
    if text == "none" {
        return Ok(Listener(None));
    }
    let address = text.parse().map_err(|_| {
        format!("{text:?} is no address; write for example 127.0.0.1:15000, [::]:15020 or none")
    })?;
    Ok(Listener(Some(address)))
}

/// Who connects: `none`, an identity, or `namespace/service-account`.
pub(crate) fn client(text: &str) -> Result<Client, String> {
    if text == "none" {
        return Ok(Client::Nobody);
    }
    if text.starts_with("spiffe://") {
        let identity = text.parse::<Identity>().map_err(|error| error.to_string())?;
        return Ok(Client::Identity(identity));
    }
    let parts =
        text.split_once('/').filter(|(namespace, name)| is_part(namespace) && is_part(name));
    let (namespace, name) = parts.ok_or_else(|| {
        format!("{text:?} is nobody; write namespace/service-account, an identity, or none")
    })?;
    Ok(Client::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() })
}

/// `namespace/name` of a workload.
pub(crate) fn workload(text: &str) -> Result<Workload, String> {
    let parts =
        text.split_once('/').filter(|(namespace, name)| is_part(namespace) && is_part(name));
    let (namespace, name) =
        parts.ok_or_else(|| format!("{text:?} is no workload; write namespace/name"))?;
    Ok(Workload { namespace: namespace.to_owned(), name: name.to_owned() })
}

fn is_part(text: &str) -> bool {
    !text.is_empty() && !text.contains('/')
}

/// The name of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Where a server listens; nowhere if it is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listener(pub(crate) Option<SocketAddr>);

/// The empty configuration, which is all that istiod says.
pub(crate) fn nothing(text: &str) -> Result<(), String> {
    match text.trim() {
        "" | "{}" => Ok(()),
        _ => Err("a waypoint or gateway under istiod has no configuration but `{}`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let rows = [
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("7d", Some(604_800_000)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("s", None),
            ("1w", None),
            ("99999999999s", None),
            ("4294967295d4294967295d", Some(742_170_348_576_000_000)),
        ];
        for (text, want) in rows {
            assert_eq!(duration(text).ok(), want.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn cores_are_a_number_or_a_list() {
        let rows = [
            ("auto", Some(Cores::Automatic)),
            ("2", Some(Cores::Count(2))),
            ("2,", Some(Cores::List(vec![2]))),
            ("0,2,4-6", Some(Cores::List(vec![0, 2, 4, 5, 6]))),
            ("0", None),
            ("", None),
            ("3-1", None),
            ("0-99999", None),
            ("a", None),
            ("-1", None),
        ];
        for (text, want) in rows {
            assert_eq!(cores(text).ok(), want, "{text:?}");
        }
    }

    #[test]
    fn listeners() {
        assert_eq!(listener("none"), Ok(Listener(None)));
        assert_eq!(listener("[::]:15020"), Ok(Listener("[::]:15020".parse().ok())));
        assert!(listener("15020").unwrap_err().contains("127.0.0.1:15000"));
    }

    #[test]
    fn clients_and_workloads() {
        let account = Client::ServiceAccount { namespace: "a".into(), name: "b".into() };
        assert_eq!(client("a/b"), Ok(account));
        assert_eq!(client("none"), Ok(Client::Nobody));
        let identity = Identity::new("cluster.local", "a", "b").unwrap();
        assert_eq!(client(&identity.to_string()), Ok(Client::Identity(identity)));
        for wrong in ["", "a", "a/", "/b", "a/b/c", "spiffe://a"] {
            assert!(client(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(workload("a/b"), Ok(Workload { namespace: "a".into(), name: "b".into() }));
        for wrong in ["", "a", "a/", "/b", "a/b/c"] {
            assert!(workload(wrong).is_err(), "{wrong:?}");
        }
    }
}
