//! Variables that have a prefix of ours and that nobody reads: misspelt, most likely, and so without the effect that somebody
//! counts on. They are told and stop no start: this may be a step back from a version that reads them.

use crate::source::nearest;

/// Prefixes whose variables are meant for a process in ztunnel's place.
pub(super) const PREFIXES: [&str; 2] = ["RINGWAY_", "ZTUNNEL_"];

/// What `ringway proxy` reads as twins of its flags, and not by the table.
pub const TWINS: [&str; 1] = ["RINGWAY_ACCESS_LOG"];

/// A sentence for each of the variables `names` that begins with one of `prefixes` and is not one of `known`. What Kubernetes
/// sets for a Service that is named as we are (`RINGWAY_SERVICE_HOST`, `RINGWAY_METRICS_PORT_15020_TCP`) is nobody's mistake.
pub fn unread(names: &[&str], prefixes: &[&str], known: &[&str]) -> Vec<String> {
    let services: Vec<&str> =
        names.iter().filter_map(|name| name.strip_suffix("_SERVICE_HOST")).collect();
    let is_of_a_service = |name: &str| services.iter().any(|service| is_of(name, service));
    let unread = names.iter().filter(|name| !known.contains(name) && !is_of_a_service(name));
    unread.filter_map(|name| told(name, prefixes, known)).collect()
}

/// Whether Kubernetes sets this variable for the Service whose name is written so in variables.
fn is_of(name: &str, service: &str) -> bool {
    name.strip_prefix(service).is_some_and(|rest| {
        rest == "_PORT" || rest.starts_with("_PORT_") || rest.starts_with("_SERVICE_")
    })
}

fn told(name: &str, prefixes: &[&str], known: &[&str]) -> Option<String> {
    let prefix = prefixes.iter().find(|prefix| name.starts_with(**prefix))?;
    let rests = known.iter().filter_map(|known| known.strip_prefix(*prefix));
    Some(match nearest(&name[prefix.len()..], rests) {
        Some(rest) => format!("{name}: this variable is not read; did you mean `{prefix}{rest}`?"),
        None => format!("{name}: this variable is not read here, and has no effect"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["RINGWAY_REACTOR", "RINGWAY_HARDENING", "ZTUNNEL_WORKER_THREADS"];

    #[test]
    fn what_is_misspelt_is_told_and_what_kubernetes_sets_is_not() {
        //  name                        variables                                       want
        type Row = (&'static str, &'static [&'static str], &'static [&'static str]);
        let rows: [Row; 8] = [
            ("all are read", &KNOWN, &[]),
            ("a letter is missing", &["RINGWAY_REACTR"], &["did you mean `RINGWAY_REACTOR`?"]),
            ("ztunnel's", &["ZTUNNEL_WORKER_THREAD"], &["did you mean `ZTUNNEL_WORKER_THREADS`?"]),
            (
                "nothing is near",
                &["RINGWAY_COLOUR"],
                &["RINGWAY_COLOUR: this variable is not read"],
            ),
            ("somebody else's", &["REACTR", "MY_RINGWAY_REACTR", "NODE_NAM"], &[]),
            (
                "Kubernetes', of the Service `ringway`",
                &[
                    "RINGWAY_SERVICE_HOST",
                    "RINGWAY_SERVICE_PORT",
                    "RINGWAY_SERVICE_PORT_METRICS",
                    "RINGWAY_PORT",
                    "RINGWAY_PORT_15020_TCP",
                    "RINGWAY_PORT_15020_TCP_ADDR",
                ],
                &[],
            ),
            (
                "Kubernetes', of the Service `ztunnel-metrics`",
                &["ZTUNNEL_METRICS_SERVICE_HOST", "ZTUNNEL_METRICS_PORT", "ZTUNNEL_METRIC"],
                &["ZTUNNEL_METRIC: this variable is not read"],
            ),
            (
                "it looks like a Service's, and there is none",
                &["RINGWAY_PORT"],
                &["RINGWAY_PORT: this variable is not read"],
            ),
        ];
        for (name, variables, want) in rows {
            let told = unread(variables, &PREFIXES, &KNOWN);
            assert_eq!(told.len(), want.len(), "{name}: {told:?}");
            for (told, want) in told.iter().zip(want) {
                assert!(told.contains(want), "{name}: {told}");
            }
        }
    }
}
