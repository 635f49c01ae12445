//! The record of a connection that has ended, and of one that has opened.

use std::time::{Duration, SystemTime};

use super::{Connection, Decided};
use crate::{
    close::CloseReason,
    telemetry::{AccessRecord, ByteCounters, OpenedRecord, RecordParty, SecurityPolicy},
};

impl Connection {
    pub(super) fn full_record(
        &self,
        decided: Decided,
        counters: &ByteCounters,
        duration: Duration,
        reason: CloseReason,
    ) -> AccessRecord {
        let trace_id = decided.trace_id;
        let OpenedRecord {
            time,
            direction,
            source,
            destination,
            service,
            hbone_authority,
            mutual_tls,
        } = self.opened(decided);
        AccessRecord {
            opened_at: time - duration,
            duration,
            direction,
            early: false,
            source,
            destination,
            service,
            hbone_authority,
            trace_id,
            mutual_tls,
            received_bytes: counters.received(),
            sent_bytes: counters.sent(),
            reason,
        }
    }

    pub(super) fn opened_record(&self, decided: &Decided) -> OpenedRecord {
        self.opened(decided.clone())
    }

    fn opened(&self, decided: Decided) -> OpenedRecord {
        let Decided { parties, destination, authority, .. } = decided;
        OpenedRecord {
            time: SystemTime::now(),
            direction: self.entry.direction,
            mutual_tls: parties.security_policy == SecurityPolicy::MutualTls,
            source: RecordParty {
                address: self.entry.source,
                claims: parties.baggage.filter(|_| parties.source.is_none()),
                workload: parties.source,
                identity: parties.source_identity,
            },
            destination: RecordParty {
                address: destination,
                workload: parties.destination,
                identity: parties.destination_identity,
                claims: parties.far_end.and_then(|far_end| far_end.baggage),
            },
            service: parties.service,
            hbone_authority: authority,
        }
    }

    pub(super) fn early_record(&self, duration: Duration, reason: CloseReason) -> AccessRecord {
        let party = |address| RecordParty { address, workload: None, identity: None, claims: None };
        AccessRecord {
            opened_at: SystemTime::now() - duration,
            duration,
            direction: self.entry.direction,
            early: true,
            source: party(self.entry.source),
            destination: party(self.entry.original_destination),
            service: None,
            hbone_authority: None,
            trace_id: None,
            mutual_tls: false,
            received_bytes: 0,
            sent_bytes: 0,
            reason,
        }
    }
}
