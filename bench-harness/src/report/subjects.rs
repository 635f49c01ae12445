//! How subjects are called and coloured, and which may be compared.

/// What a subject understands of what it carries. Only subjects of one layer are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    /// No proxy: the baseline beside all others.
    Baseline,
    /// It carries bytes.
    L4,
    /// It reads HTTP.
    L7,
}

/// The layer of a subject.
pub(super) fn layer(subject: &str) -> Layer {
    match subject {
        "none" => Layer::Baseline,
        _ if subject.ends_with("-http") || subject.ends_with("-waypoint") => Layer::L7,
        _ => Layer::L4,
    }
}

/// What a subject is called in the report.
pub(super) fn title(subject: &str) -> String {
    match subject {
        "none" => "no proxy",
        "ringway" => "Ringway",
        "ringway-epoll" => "Ringway (epoll)",
        "ringway-istio" => "Ringway (Istio's rules)",
        "envoy-tcp" => "Envoy sidecars (TCP)",
        "envoy-http" => "Envoy sidecars (HTTP)",
        "ringway-waypoint" => "Ringway waypoint",
        "envoy-waypoint" => "Envoy waypoint",
        "reference" => "tokio relay, 2 workers",
        "reference-1" => "tokio relay, 1 worker",
        "tokio-256k" => "tokio, 256 KiB buffers",
        other => other,
    }
    .to_owned()
}

/// Colours in light and dark surroundings. The first stand for the subjects in [`KNOWN`].
pub(super) const COLOURS: [(&str, &str); 14] = [
    ("#71717B", "#9F9FA9"),
    ("#1D4ED8", "#60A5FA"),
    ("#38BDF8", "#7DD3FC"),
    ("#DC2626", "#F87171"),
    ("#A21CAF", "#E879F9"),
    ("#D97706", "#FBBF24"),
    ("#B08968", "#D6B98C"),
    ("#059669", "#34D399"),
    ("#1E3A8A", "#93C5FD"),
    ("#7C3AED", "#A78BFA"),
    ("#65A30D", "#A3E635"),
    ("#DB2777", "#F472B6"),
    ("#0E7490", "#22D3EE"),
    ("#854D0E", "#EAB308"),
];

const KNOWN: [&[&str]; 9] = [
    &["none"],
    &["ringway"],
    &["ringway-epoll"],
    &["envoy-tcp"],
    &["envoy-http"],
    &["reference", "tokio"],
    &["reference-1", "tokio-256k"],
    &["ztunnel"],
    &["ringway-istio"],
];

/// The colour of a subject, as an index of [`COLOURS`]; `subjects` are all that stand beside it.
pub(super) fn colour(subject: &str, subjects: &[String]) -> usize {
    let known = |subject: &str| KNOWN.iter().position(|names| names.contains(&subject));
    known(subject).unwrap_or_else(|| {
        let mut others = subjects.iter().filter(|other| known(other).is_none());
        let place = others.position(|other| other == subject).unwrap_or(0);
        KNOWN.len() + place % (COLOURS.len() - KNOWN.len())
    })
}
