//! From the engine's queue of requests to the access log and the collector of traces.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringway_engine::Engine;
use ringway_engine::telemetry::Telemetry;

use super::L7Options;
use crate::source::NodeConfig;
use crate::telemetry::log::Log;
use crate::telemetry::requests::RequestLog;
use crate::telemetry::traces::{Exporter, Origin, SpanCounts};

/// Records written before anything else on this thread gets its turn.
const BATCH_MAX: usize = 256;

/// A quiet process is looked at less and less often, down to this.
const INTERVAL_MAX: Duration = Duration::from_millis(200);

/// Writes and sends what is told of requests. Lives on the control thread.
#[derive(Clone)]
pub(in crate::run) struct Requests {
    engine: Arc<Engine>,
    log: Log,
    form: RequestLog,
    exporter: Option<Rc<RefCell<Exporter>>>,
}

impl Requests {
    /// Begins. Must run in a `LocalSet`.
    pub(in crate::run) fn start(
        options: &L7Options,
        node: &NodeConfig,
        version: &str,
        engine: Arc<Engine>,
        log: Log,
    ) -> Self {
        let exporter = options.traces.clone().map(|traces| {
            tracing::info!(collector = %traces.endpoint, "traces are sent");
            Rc::new(RefCell::new(Exporter::start(traces, origin(options, node, version))))
        });
        engine.telemetry().http().set_tracing(options.tracing());
        // Nobody would take them.
        engine.telemetry().http().set_recording(options.request_log.is_on() || exporter.is_some());
        let requests = Self { engine, log, form: options.request_log.clone(), exporter };
        tokio::task::spawn_local(requests.clone().pump());
        requests
    }

    /// Tells what became of spans.
    pub(in crate::run) fn teller(&self) -> Arc<dyn Fn() -> SpanCounts + Send + Sync> {
        match &self.exporter {
            Some(exporter) => exporter.borrow().teller(),
            None => Arc::new(SpanCounts::default),
        }
    }

    /// Writes and sends what there still is.
    pub(in crate::run) async fn finish(&self) {
        while self.write_batch() > 0 {}
        if let Some(exporter) = &self.exporter {
            let flushing = exporter.borrow_mut().flush();
            flushing.await;
        }
    }

    async fn pump(self) {
        let mut interval = Telemetry::RECORDS_INTERVAL;
        loop {
            match self.write_batch() {
                0 => {
                    tokio::time::sleep(interval).await;
                    interval = (interval * 2).min(INTERVAL_MAX);
                }
                BATCH_MAX => tokio::task::yield_now().await,
                _ => {
                    interval = Telemetry::RECORDS_INTERVAL;
                    tokio::time::sleep(interval).await;
                }
            }
        }
    }

    fn write_batch(&self) -> usize {
        let http = self.engine.telemetry().http();
        let records = std::iter::from_fn(|| http.next_record()).take(BATCH_MAX);
        let write = |record| {
            self.form.write(&self.log, &record);
            if let Some(exporter) = &self.exporter {
                exporter.borrow().offer(&record);
            }
        };
        records.map(write).count()
    }
}

fn origin(options: &L7Options, node: &NodeConfig, version: &str) -> Origin {
    let (name, namespace) = (&options.gateway.name, &options.gateway.namespace);
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let address = std::env::var("INSTANCE_IP").unwrap_or_default();
    let instance = std::env::var("POD_NAME").unwrap_or_else(|_| name.to_string());
    let kind = options.kind.as_str();
    Origin {
        service_name: format!("{name}.{namespace}"),
        node_id: format!(
            "{kind}~{address}~{instance}.{namespace}~{namespace}.svc.{}",
            node.cluster_domain
        ),
        namespace: namespace.to_string(),
        name: name.to_string(),
        cluster: node.cluster.to_string(),
        mesh: node.trust_domain.to_string(),
        hostname: hostname.trim_end().to_owned(),
        version: version.to_owned(),
    }
}
