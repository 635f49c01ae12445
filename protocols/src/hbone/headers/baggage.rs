//! The `baggage` header: who the workload at the other end says it is, for telemetry only.
//!
//! Written as ztunnel writes it: `key=value` joined by commas, nothing encoded, absent where empty.
//! Read more tolerantly: the W3C form allows white space around its delimiters and properties after
//! `;`, both dropped here.

use std::fmt;

/// The kind of the workload, which is part of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WorkloadType {
    /// `k8s.deployment.name`
    #[default]
    Deployment,
    /// `k8s.cronjob.name`
    CronJob,
    /// `k8s.pod.name`
    Pod,
    /// `k8s.job.name`
    Job,
}

impl WorkloadType {
    fn key(self) -> &'static str {
        match self {
            Self::Deployment => "k8s.deployment.name",
            Self::CronJob => "k8s.cronjob.name",
            Self::Pod => "k8s.pod.name",
            Self::Job => "k8s.job.name",
        }
    }

    fn from_key(key: &str) -> Option<Self> {
        [Self::Deployment, Self::CronJob, Self::Pod, Self::Job]
            .into_iter()
            .find(|kind| kind.key() == key)
    }
}

/// What the header says. It is a claim of the peer; nothing may be authorized by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Baggage {
    /// `k8s.cluster.name`
    pub cluster: Option<Box<str>>,
    /// `k8s.namespace.name`
    pub namespace: Option<Box<str>>,
    /// Which key named the workload.
    pub workload_type: WorkloadType,
    /// `k8s.<type>.name`
    pub workload_name: Option<Box<str>>,
    /// `service.name`
    pub service_name: Option<Box<str>>,
    /// `service.version`
    pub service_version: Option<Box<str>>,
    /// `cloud.region`
    pub region: Option<Box<str>>,
    /// `cloud.availability_zone`
    pub zone: Option<Box<str>>,
}

impl Baggage {
    /// Takes in the value of one `baggage` header line; a later line or entry wins over an earlier
    /// one. Returns `false` for a line that is not ASCII, upon which the whole baggage is to be
    /// ignored.
    pub fn add_line(&mut self, line: &[u8]) -> bool {
        let Some(line) = ascii(line) else { return false };
        for entry in line.split(',') {
            let entry = entry.split_once(';').map_or(entry, |(entry, _properties)| entry);
            let mut pieces = entry.split('=');
            let (Some(key), Some(value)) = (pieces.next(), pieces.next()) else { continue };
            let value = trim(value);
            let value = (!value.is_empty()).then(|| value.into());
            match trim(key) {
                "k8s.cluster.name" => self.cluster = value,
                "k8s.namespace.name" => self.namespace = value,
                "service.name" => self.service_name = value,
                "service.version" => self.service_version = value,
                "cloud.region" => self.region = value,
                "cloud.availability_zone" => self.zone = value,
                key => {
                    if let Some(kind) = WorkloadType::from_key(key) {
                        self.workload_type = kind;
                        self.workload_name = value;
                    }
                }
            }
        }
        true
    }

    fn entries(&self) -> [(&'static str, Option<&str>); 7] {
        [
            ("k8s.cluster.name", self.cluster.as_deref()),
            ("k8s.namespace.name", self.namespace.as_deref()),
            (self.workload_type.key(), self.workload_name.as_deref()),
            ("service.name", self.service_name.as_deref()),
            ("service.version", self.service_version.as_deref()),
            ("cloud.region", self.region.as_deref()),
            ("cloud.availability_zone", self.zone.as_deref()),
        ]
    }
}

/// The header's value. A text that would not come back as it is (because it holds a delimiter,
/// white space at an end, or anything but printable ASCII) is left out.
impl fmt::Display for Baggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (key, value) in self.entries() {
            if let Some(value) = value.filter(|value| travels(value)) {
                write!(f, "{separator}{key}={value}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

fn travels(value: &str) -> bool {
    !value.is_empty()
        && trim(value).len() == value.len()
        && value
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b';' | b'='))
}

/// Printable ASCII and tabs, as header values are when they are text.
pub(super) fn ascii(bytes: &[u8]) -> Option<&str> {
    if !bytes.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

/// Without optional white space at the ends (RFC 9110 §5.6.3).
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &[&str]) -> Option<Baggage> {
        let mut baggage = Baggage::default();
        lines.iter().all(|line| baggage.add_line(line.as_bytes())).then_some(baggage)
    }

    fn some(text: &str) -> Option<Box<str>> {
        Some(text.into())
    }

    #[test]
    fn reads_what_peers_write() {
        let none = Baggage::default();
        let namespace = |text| Baggage { namespace: some(text), ..Baggage::default() };
        let workload = |kind, text| Baggage {
            workload_type: kind,
            workload_name: some(text),
            ..Baggage::default()
        };
        #[rustfmt::skip]
        let rows: &[(&str, &[&str], Option<Baggage>)] = &[
            ("nothing",                 &[],                                                 Some(none.clone())),
            ("empty value",             &[""],                                               Some(none.clone())),
            ("one entry",               &["k8s.namespace.name=ns"],                          Some(namespace("ns"))),
            ("unknown key",             &["x=y,k8s.namespace.name=ns"],                      Some(namespace("ns"))),
            ("no equals sign",          &["k8s.namespace.name"],                             Some(none.clone())),
            ("empty entry value",       &["k8s.namespace.name="],                            Some(none.clone())),
            ("more equals signs",       &["k8s.namespace.name=a=b"],                         Some(namespace("a"))),
            ("a later entry wins",      &["k8s.namespace.name=a,k8s.namespace.name=b"],      Some(namespace("b"))),
            ("even an empty one",       &["k8s.namespace.name=a,k8s.namespace.name="],       Some(none.clone())),
            ("several lines",           &["k8s.namespace.name=a", "k8s.namespace.name=b"],   Some(namespace("b"))),
            ("white space",             &["x=1 ,\tk8s.namespace.name = ns "],                Some(namespace("ns"))),
            ("properties",              &["k8s.namespace.name=ns;p=1;q"],                    Some(namespace("ns"))),
            ("property and spaces",     &["k8s.namespace.name = ns ; p = 1 , x=y"],          Some(namespace("ns"))),
            ("deployment",              &["k8s.deployment.name=w"],     Some(workload(WorkloadType::Deployment, "w"))),
            ("cron job",                &["k8s.cronjob.name=w"],        Some(workload(WorkloadType::CronJob, "w"))),
            ("pod",                     &["k8s.pod.name=w"],            Some(workload(WorkloadType::Pod, "w"))),
            ("job",                     &["k8s.job.name=w"],            Some(workload(WorkloadType::Job, "w"))),
            ("not ASCII",               &["k8s.namespace.name=nß"],                          None),
            ("one line not ASCII",      &["k8s.namespace.name=a", "ß"],                      None),
            ("control character",       &["k8s.namespace.name=a\u{1}"],                      None),
            ("only delimiters",         &[",;=,,=;;,"],                                      Some(none)),
        ];
        for (name, lines, want) in rows {
            assert_eq!(&read(lines), want, "{name}");
        }
    }

    #[test]
    fn writes_in_the_order_ztunnel_writes() {
        let baggage = Baggage {
            cluster: some("c1"),
            namespace: some("ns"),
            workload_type: WorkloadType::Deployment,
            workload_name: some("w"),
            service_name: some("s"),
            service_version: some("v1"),
            region: some("r"),
            zone: some("z"),
        };
        let text = "k8s.cluster.name=c1,k8s.namespace.name=ns,k8s.deployment.name=w,service.name=s,service.version=v1,\
                    cloud.region=r,cloud.availability_zone=z";
        assert_eq!(baggage.to_string(), text);
        assert_eq!(Baggage::default().to_string(), "");
        let unfit = Baggage {
            cluster: some("a,b=c"),
            zone: some("z"),
            region: some("\n"),
            ..Baggage::default()
        };
        assert_eq!(unfit.to_string(), "cloud.availability_zone=z");
    }

    proptest! {
        #[test]
        fn what_travels_comes_back(cluster in "[!-~]{0,12}", name in "\\PC{0,12}", zone in " ?[a-z]{0,3} ?") {
            let option = |text: &str| (!text.is_empty()).then(|| text.into());
            let sent = Baggage {
                cluster: option(&cluster), workload_name: option(&name), zone: option(&zone), ..Baggage::default()
            };
            let kept = |value: &Option<Box<str>>| value.clone().filter(|value| travels(value));
            let want = Baggage {
                cluster: kept(&sent.cluster),
                workload_name: kept(&sent.workload_name),
                zone: kept(&sent.zone),
                ..Baggage::default()
            };
            prop_assert_eq!(read(&[&sent.to_string()]), Some(want));
        }

        #[test]
        fn any_bytes_are_read(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut baggage = Baggage::default();
            let text = line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
            prop_assert_eq!(baggage.add_line(&line), text);
        }
    }
}
