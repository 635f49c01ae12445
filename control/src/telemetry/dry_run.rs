//! What policies on dry run would have done: one line each, in scope `authorization`, at level debug.

use std::time::SystemTime;

use ringway_engine::telemetry::DryRunRecord;
use tracing::Level;

use super::log::Log;

const SCOPE: &str = "authorization";

/// Writes the line of `record`, if it is wanted.
pub fn write(log: &Log, record: &DryRunRecord) {
    if !log.wants(SCOPE, Level::DEBUG) {
        return;
    }
    let message = match (record.denied, &record.policy) {
        (true, Some(_)) => "dry run: the policy would deny the connection",
        (true, None) => "dry run: the connection would be denied, no ALLOW policy matches",
        (false, _) => "dry run: the policy would allow the connection",
    };
    let mut line = log.line(SystemTime::now(), Level::DEBUG, SCOPE, message);
    line.bare("src.addr", super::access_log::canonical(record.source));
    line.text("dst.uid", &record.workload);
    if let Some((policy, rule)) = &record.policy {
        line.text("policy", policy);
        line.number("policy.rule", *rule as u64);
    }
    log.write(line);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::access_log::tests::Sink;
    use crate::telemetry::log::{LogFilter, LogFormat, LogWriter};

    fn written(filter: &str, record: &DryRunRecord) -> String {
        let sink = Sink::default();
        let writer = LogWriter::new(sink.clone()).unwrap();
        let log = Log::new(LogFormat::Plain, LogFilter::parse(filter).unwrap(), writer.clone());
        write(&log, record);
        assert!(writer.flush(Duration::from_secs(20)));
        sink.text()
    }

    #[test]
    fn a_line_at_debug_names_policy_and_rule() {
        let record = DryRunRecord {
            workload: "c1//Pod/shop/web-1".into(),
            source: "[::ffff:10.0.0.2]:40000".parse().unwrap(),
            policy: Some(("shop/soon".into(), 1)),
            denied: true,
        };
        assert_eq!(written("info", &record), "");
        let line = written("info,authorization=debug", &record);
        let (_, rest) = line.split_once('\t').unwrap();
        assert_eq!(
            rest,
            "debug\tauthorization\tdry run: the policy would deny the connection\t\
             src.addr=10.0.0.2:40000 dst.uid=\"c1//Pod/shop/web-1\" policy=\"shop/soon\" \
             policy.rule=1\n"
        );
    }
}
