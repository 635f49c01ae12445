//! What policies say of connections: one line each, in scope `authorization`, at level debug; at info when
//! `AUTHZ_POLICY_INFO_LOGGING` asks for it. Policies on dry run are told the same way.

use std::time::SystemTime;

use ringway_engine::telemetry::{DryRunRecord, JudgedRecord};

use super::log::{Line, Log};

const SCOPE: &str = "authorization";

/// Whether the lines are wanted.
pub fn are_wanted(log: &Log) -> bool {
    log.wants(SCOPE, log.decision_level())
}

/// Writes what policies in force say of a connection, if that is wanted.
pub fn write(log: &Log, record: &JudgedRecord) {
    if !are_wanted(log) {
        return;
    }
    let message = match &record.verdict {
        Ok(Some(_)) => "a policy allows the connection",
        Ok(None) => "no policy says whom to allow: the connection is allowed",
        Err(_) => "the connection is refused",
    };
    let mut line = log.line(record.time, log.decision_level(), SCOPE, message);
    line.bare("src.addr", super::access_log::canonical(record.source));
    line.text("dst.uid", &record.workload);
    match &record.verdict {
        Ok(allowed) => named(&mut line, allowed.as_ref()),
        Err(refusal) => line.text("reason", &refusal.to_string()),
    }
    log.write(line);
}

/// Writes what a policy on dry run would have done, if that is wanted.
pub fn write_dry_run(log: &Log, record: &DryRunRecord) {
    if !are_wanted(log) {
        return;
    }
    let message = match (record.denied, &record.policy) {
        (true, Some(_)) => "dry run: the policy would deny the connection",
        (true, None) => "dry run: the connection would be denied, no ALLOW policy matches",
        (false, _) => "dry run: the policy would allow the connection",
    };
    let mut line = log.line(SystemTime::now(), log.decision_level(), SCOPE, message);
    line.bare("src.addr", super::access_log::canonical(record.source));
    line.text("dst.uid", &record.workload);
    named(&mut line, record.policy.as_ref());
    log.write(line);
}

fn named(line: &mut Line, policy: Option<&(Box<str>, usize)>) {
    if let Some((policy, rule)) = policy {
        line.text("policy", policy);
        line.number("policy.rule", *rule as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringway_engine::decide::Refusal;

    use super::*;
    use crate::telemetry::access_log::tests::Sink;
    use crate::telemetry::log::{LogFilter, LogFormat, LogWriter};

    const TO: &str = "c1//Pod/shop/web-1";

    /// What stands behind the time.
    fn written(filter: &str, write: impl FnOnce(&Log)) -> String {
        let sink = Sink::default();
        let writer = LogWriter::new(sink.clone()).unwrap();
        let log = Log::new(LogFormat::Plain, LogFilter::parse(filter).unwrap(), writer.clone());
        write(&log);
        assert!(writer.flush(Duration::from_secs(20)));
        sink.text().split_once('\t').map(|(_, rest)| rest.to_owned()).unwrap_or_default()
    }

    fn judged(verdict: Result<Option<(Box<str>, usize)>, Refusal>) -> JudgedRecord {
        let source = "[::ffff:10.0.0.2]:40000".parse().unwrap();
        JudgedRecord { time: SystemTime::now(), workload: TO.into(), source, verdict }
    }

    #[test]
    fn a_dry_run_names_policy_and_rule() {
        let record = DryRunRecord {
            workload: TO.into(),
            source: "[::ffff:10.0.0.2]:40000".parse().unwrap(),
            policy: Some(("shop/soon".into(), 1)),
            denied: true,
        };
        let write = |log: &Log| write_dry_run(log, &record);
        assert_eq!(written("info", write), "");
        assert_eq!(
            written("info,authorization=debug", write),
            "debug\tauthorization\tdry run: the policy would deny the connection\t\
             src.addr=10.0.0.2:40000 dst.uid=\"c1//Pod/shop/web-1\" policy=\"shop/soon\" \
             policy.rule=1\n"
        );
    }

    #[test]
    fn decisions_are_told_at_debug_and_at_info_when_asked_for() {
        let refused = Refusal::NotAllowed;
        let reason = refused.to_string();
        let rows = [
            (
                Ok(Some(("shop/allow".into(), 2))),
                "a policy allows the connection",
                " policy=\"shop/allow\" policy.rule=2".to_owned(),
            ),
            (Ok(None), "no policy says whom to allow: the connection is allowed", String::new()),
            (Err(refused), "the connection is refused", format!(" reason={reason:?}")),
        ];
        for (verdict, message, rest) in rows {
            let record = judged(verdict);
            let write = |log: &Log| super::write(log, &record);
            assert_eq!(written("info", write), "", "{message}");
            let fields = format!("src.addr=10.0.0.2:40000 dst.uid=\"{TO}\"{rest}\n");
            let debug = format!("debug\tauthorization\t{message}\t{fields}");
            assert_eq!(written("authorization=debug", write), debug);
            let at_info = |log: &Log| {
                log.tell_decisions_at_info();
                super::write(log, &record);
            };
            let info = format!("info\tauthorization\t{message}\t{fields}");
            assert_eq!(written("info", at_info), info);
            assert_eq!(written("authorization=warn", at_info), "", "{message}");
        }
    }
}
