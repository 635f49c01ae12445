//! The access log: one line for each connection that ended, in scope `access`; at level debug another when it opened.
//!
//! Names, order and form of the fields are those of Istio's node proxy; dashboards and `istioctl` match them.

use std::net::SocketAddr;

use ringway_engine::snapshot::Service;
use ringway_engine::snapshot::Workload;
use ringway_engine::telemetry::{AccessRecord, Direction, OpenedRecord, RecordParty};
use ringway_protocols::hbone::Authority;
use tracing::Level;

use super::log::{Line, Log};

const SCOPE: &str = "access";

/// Writes the line of `record`, if its level is wanted.
pub fn write(log: &Log, record: &AccessRecord) {
    let (level, message) = headline(record);
    if !log.wants(SCOPE, level) {
        return;
    }
    // The moment the connection ended, not the one at which the line happens to be written.
    let time = record.opened_at + record.duration;
    let mut line = log.line(time, level, SCOPE, message);
    if record.early {
        early_fields(&mut line, record);
    } else {
        fields(&mut line, record);
    }
    log.write(line);
}

/// Whether the lines of connections that open are wanted.
pub fn wants_opened(log: &Log) -> bool {
    log.wants(SCOPE, Level::DEBUG)
}

/// Writes the line of a connection that has opened, if it is wanted.
pub fn write_opened(log: &Log, record: &OpenedRecord) {
    if !wants_opened(log) {
        return;
    }
    let mut line = log.line(record.time, Level::DEBUG, SCOPE, "connection opened");
    who(&mut line, &Who::from(record));
    log.write(line);
}

/// Who talks to whom, in either record.
struct Who<'a> {
    direction: Direction,
    source: &'a RecordParty,
    destination: &'a RecordParty,
    service: Option<&'a Service>,
    hbone_authority: Option<&'a Authority>,
    mutual_tls: bool,
}

impl<'a> From<&'a AccessRecord> for Who<'a> {
    fn from(record: &'a AccessRecord) -> Self {
        Who {
            direction: record.direction,
            source: &record.source,
            destination: &record.destination,
            service: record.service.as_deref(),
            hbone_authority: record.hbone_authority.as_ref(),
            mutual_tls: record.mutual_tls,
        }
    }
}

impl<'a> From<&'a OpenedRecord> for Who<'a> {
    fn from(record: &'a OpenedRecord) -> Self {
        Who {
            direction: record.direction,
            source: &record.source,
            destination: &record.destination,
            service: record.service.as_deref(),
            hbone_authority: record.hbone_authority.as_ref(),
            mutual_tls: record.mutual_tls,
        }
    }
}

fn headline(record: &AccessRecord) -> (Level, &'static str) {
    match (record.early, record.reason.is_error()) {
        (true, _) => (Level::WARN, "connection failed"),
        (false, true) => (Level::ERROR, "connection complete"),
        (false, false) => (Level::INFO, "connection complete"),
    }
}

/// Before it is known who talks to whom there are only addresses.
fn early_fields(line: &mut Line, record: &AccessRecord) {
    line.bare("src.addr", canonical(record.source.address));
    line.bare("dst.addr", canonical(record.destination.address));
    line.text("direction", direction(record.direction));
    line.text("error", &record.reason.to_string());
}

fn who(line: &mut Line, who: &Who<'_>) {
    line.bare("src.addr", canonical(who.source.address));
    names(line, &SOURCE, who.source, who.mutual_tls);
    line.text_if("src.cluster", cluster(who.source));

    line.bare("dst.addr", canonical(who.destination.address));
    if let Some(authority) = who.hbone_authority {
        line.bare("dst.hbone_addr", authority);
    }
    line.text_if("dst.service", who.service.map(Service::hostname));
    names(line, &DESTINATION, who.destination, who.mutual_tls);
    line.text_if("dst.cluster", cluster(who.destination));

    line.text("direction", direction(who.direction));
}

fn fields(line: &mut Line, record: &AccessRecord) {
    who(line, &Who::from(record));
    // Seen from this proxy: what it sent is what came from its own workload.
    let (sent, received) = match record.direction {
        Direction::Outbound => (record.received_bytes, record.sent_bytes),
        Direction::Inbound => (record.sent_bytes, record.received_bytes),
    };
    line.number("bytes_sent", sent);
    line.number("bytes_recv", received);
    line.text("duration", &format!("{}ms", record.duration.as_millis()));
    if record.reason.is_error() {
        line.text("error", &record.reason.to_string());
    }
    if let Some((policy, rule)) = record.reason.policy() {
        line.text("policy", policy);
        rule.into_iter().for_each(|rule| line.number("policy.rule", rule as u64));
    }
    // Ours, and behind everything that others look for by its place.
    if let Some(trace_id) = record.trace_id {
        line.text("trace_id", &format!("{:032x}", u128::from_be_bytes(trace_id)));
    }
}

/// The names of one end's fields.
struct Names {
    workload: &'static str,
    namespace: &'static str,
    identity: &'static str,
}

const SOURCE: Names =
    Names { workload: "src.workload", namespace: "src.namespace", identity: "src.identity" };

const DESTINATION: Names =
    Names { workload: "dst.workload", namespace: "dst.namespace", identity: "dst.identity" };

fn names(line: &mut Line, names: &Names, party: &RecordParty, mutual_tls: bool) {
    let workload = party.workload.as_deref();
    // Behind a network's gateway: who is there, not what stands before it.
    let claims = party.claims.as_deref();
    let claimed =
        claims.and_then(|one| one.workload_name.as_deref().or(one.service_name.as_deref()));
    line.text_if(names.workload, claimed.or(workload.map(shown_name)));
    let claimed = claims.and_then(|one| one.namespace.as_deref());
    line.text_if(names.namespace, claimed.or(workload.map(Workload::namespace)));
    if let (true, Some(identity)) = (mutual_tls, &party.identity) {
        line.text(names.identity, &identity.to_string());
    }
}

fn cluster(party: &RecordParty) -> Option<&str> {
    let claimed = party.claims.as_deref().and_then(|one| one.cluster.as_deref());
    claimed.or_else(|| party.workload.as_deref().map(|one| &**one.cluster()))
}

/// Its own name, else that of the service it belongs to.
fn shown_name(workload: &Workload) -> &str {
    if workload.name().is_empty() { workload.canonical_name() } else { workload.name() }
}

/// An IPv4 address is shown as one, also on a socket that takes both families.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Outbound => "outbound",
        Direction::Inbound => "inbound",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, SystemTime};

    use ringway_engine::close::CloseReason;
    use ringway_engine::decide::Refusal;
    use ringway_engine::snapshot::{
        Interner, NamespacedHostname, Service, TunnelProtocol, WorkloadDescription,
    };
    use ringway_protocols::hbone::{Authority, Baggage};
    use ringway_protocols::identity::Identity;

    use super::*;
    use crate::telemetry::log::{LogFilter, LogFormat, LogWriter};

    /// A log that is read back.
    #[derive(Clone, Default)]
    pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Sink {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, filter: &str, record: &AccessRecord) -> String {
        let sink = Sink::default();
        let writer = LogWriter::new(sink.clone()).unwrap();
        let log = Log::new(format, LogFilter::parse(filter).unwrap(), writer.clone());
        write(&log, record);
        assert!(writer.flush(Duration::from_secs(20)));
        sink.text()
    }

    fn workload(name: &str) -> Option<Arc<Workload>> {
        let description = WorkloadDescription {
            uid: format!("c1//Pod/shop/{name}"),
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            service_account: "web".to_owned(),
            cluster: "c1".to_owned(),
            protocol: TunnelProtocol::Hbone,
            ..WorkloadDescription::default()
        };
        Some(Arc::new(Interner::default().workload(description).unwrap()))
    }

    fn record() -> AccessRecord {
        let identity = |account: &str| Identity::new("cluster.local", "shop", account).ok();
        AccessRecord {
            opened_at: SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_456),
            duration: Duration::from_micros(15_700),
            direction: Direction::Outbound,
            early: false,
            source: RecordParty {
                address: "[::ffff:10.0.0.2]:40000".parse().unwrap(),
                workload: workload("client-0"),
                identity: identity("client"),
                claims: None,
            },
            destination: RecordParty {
                address: "10.0.0.1:15008".parse().unwrap(),
                workload: workload("web-0"),
                identity: identity("web"),
                claims: None,
            },
            service: Some(Arc::new(Service::new(NamespacedHostname::new("shop", "web.example")))),
            hbone_authority: Some(Authority::Address("10.0.0.1:8080".parse().unwrap())),
            trace_id: None,
            mutual_tls: true,
            received_bytes: 84,
            sent_bytes: 358,
            reason: CloseReason::Finished,
        }
    }

    #[test]
    fn an_outbound_connection() {
        assert_eq!(
            written(LogFormat::Plain, "info", &record()),
            "2023-11-14T22:13:20.016156Z\tinfo\taccess\tconnection complete\t\
             src.addr=10.0.0.2:40000 src.workload=\"client-0\" src.namespace=\"shop\" \
             src.identity=\"spiffe://cluster.local/ns/shop/sa/client\" src.cluster=\"c1\" \
             dst.addr=10.0.0.1:15008 dst.hbone_addr=10.0.0.1:8080 dst.service=\"web.example\" \
             dst.workload=\"web-0\" dst.namespace=\"shop\" \
             dst.identity=\"spiffe://cluster.local/ns/shop/sa/web\" dst.cluster=\"c1\" \
             direction=\"outbound\" bytes_sent=84 bytes_recv=358 duration=\"15ms\"\n"
        );
    }

    #[test]
    fn the_trace_of_the_tunnels_stream_stands_last() {
        let mut traced = record();
        traced.trace_id = Some([0x0b; 16]);
        let line = written(LogFormat::Plain, "info", &traced);
        let id = "0b".repeat(16);
        assert!(line.ends_with(&format!("duration=\"15ms\" trace_id=\"{id}\"\n")), "{line}");
    }

    #[test]
    fn an_inbound_connection_counts_from_the_other_side() {
        let mut inbound = record();
        inbound.direction = Direction::Inbound;
        let line = written(LogFormat::Plain, "info", &inbound);
        assert!(
            line.contains("direction=\"inbound\" bytes_sent=358 bytes_recv=84 duration=\"15ms\"\n")
        );
    }

    #[test]
    fn behind_a_gateway_who_answered_is_told_and_not_the_gateway() {
        let mut double = record();
        double.hbone_authority = Some(Authority::hostname("web.example", 80).unwrap());
        double.destination.workload = workload("gateway-0");
        double.destination.claims = Some(Arc::new(Baggage {
            cluster: Some("c2".into()),
            namespace: Some("far".into()),
            workload_name: Some("web".into()),
            ..Baggage::default()
        }));
        let line = written(LogFormat::Plain, "info", &double);
        let told = "dst.addr=10.0.0.1:15008 dst.hbone_addr=web.example:80 \
                    dst.service=\"web.example\" dst.workload=\"web\" dst.namespace=\"far\" \
                    dst.identity=\"spiffe://cluster.local/ns/shop/sa/web\" dst.cluster=\"c2\"";
        assert!(line.contains(told), "{line}");
    }

    #[test]
    fn plaintext_proves_nobody() {
        let mut plain = record();
        plain.mutual_tls = false;
        plain.hbone_authority = None;
        let line = written(LogFormat::Plain, "info", &plain);
        assert!(!line.contains("identity") && !line.contains("hbone_addr"), "{line}");
    }

    #[test]
    fn a_failure_is_an_error_with_its_text() {
        let mut failed = record();
        failed.reason = CloseReason::ConnectRefused(401);
        let line = written(LogFormat::Plain, "info", &failed);
        let columns: Vec<_> = line.split('\t').collect();
        assert_eq!(columns[1..4], ["error", "access", "connection complete"]);
        assert!(
            line.ends_with("duration=\"15ms\" error=\"http status: 401 Unauthorized\"\n"),
            "{line}"
        );
    }

    #[test]
    fn what_a_policy_refuses_names_it_and_its_rule() {
        let mut refused = record();
        let denied = Refusal::Denied { policy: "shop/no-bank".into(), rule: 2 };
        refused.reason = CloseReason::Refused(denied.clone());
        let line = written(LogFormat::Plain, "info", &refused);
        assert!(
            line.ends_with(
                "error=\"connection closed due to policy rejection: explicitly denied by: \
                 shop/no-bank\" policy=\"shop/no-bank\" policy.rule=2\n"
            ),
            "{line}"
        );
        refused.reason = CloseReason::PolicyChanged(denied);
        let line = written(LogFormat::Plain, "info", &refused);
        assert!(
            line.contains("error=\"connection closed due to policy change: explicitly"),
            "{line}"
        );
        refused.reason = CloseReason::Refused(Refusal::NotAllowed);
        let line = written(LogFormat::Plain, "info", &refused);
        assert!(line.ends_with("rejection: allow policies exist, but none allowed\"\n"), "{line}");
    }

    #[test]
    fn an_early_denial_has_addresses_and_the_reason_only() {
        let mut early = record();
        early.early = true;
        early.reason = CloseReason::UnknownWorkload("10.0.0.2".to_owned());
        let line = written(LogFormat::Plain, "info", &early);
        let (_, rest) = line.split_once('\t').unwrap();
        assert_eq!(
            rest,
            "warn\taccess\tconnection failed\tsrc.addr=10.0.0.2:40000 dst.addr=10.0.0.1:15008 \
             direction=\"outbound\" error=\"failed to fetch information about local workload: 10.0.0.2\"\n"
        );
    }

    #[test]
    fn json_carries_the_same_as_keys() {
        let line = written(LogFormat::Json, "info", &record());
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(line.starts_with(
            "{\"level\":\"info\",\"time\":\"2023-11-14T22:13:20.016156Z\",\"scope\":\"access\""
        ));
        assert_eq!(parsed["src.workload"], "client-0");
        assert_eq!(parsed["dst.hbone_addr"], "10.0.0.1:8080");
        assert_eq!(parsed["bytes_sent"], 84);
        assert_eq!(parsed["duration"], "15ms");
    }

    #[test]
    fn the_level_of_the_scope_decides() {
        assert_eq!(written(LogFormat::Plain, "info,access=error", &record()), "");
        assert_eq!(written(LogFormat::Plain, "info,access=off", &record()), "");
        let mut failed = record();
        failed.reason = CloseReason::DialTimedOut;
        assert_ne!(written(LogFormat::Plain, "off,access=error", &failed), "");
    }
}
