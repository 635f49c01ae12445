//! From the engine's queue of requests to the access log and the collector of traces.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use ringway_engine::Engine;

use super::L7Options;
use super::failed_open::FailedOpen;
use crate::run::records;
use crate::source::NodeConfig;
use crate::telemetry::log::Log;
use crate::telemetry::mirrors::Mirrors;
use crate::telemetry::requests::RequestLog;
use crate::telemetry::traces::{Exporter, Origin, SpanCounts};

/// Writes and sends what is told of requests. Lives on the control thread.
#[derive(Clone)]
pub(in crate::run) struct Requests {
    engine: Arc<Engine>,
    log: Log,
    form: RequestLog,
    exporter: Option<Rc<RefCell<Exporter>>>,
    mirrors: Arc<Mirrors>,
    failed_open: Rc<RefCell<FailedOpen>>,
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
        let (form, mirrors) = (options.request_log.clone(), Arc::default());
        let requests = Self { engine, log, form, exporter, mirrors, failed_open: Rc::default() };
        let told = requests.clone();
        tokio::task::spawn_local(records::pump(move || told.write_batch()));
        requests
    }

    /// Tells what became of spans.
    pub(in crate::run) fn teller(&self) -> Arc<dyn Fn() -> SpanCounts + Send + Sync> {
        match &self.exporter {
            Some(exporter) => exporter.borrow().teller(),
            None => Arc::new(SpanCounts::default),
        }
    }

    /// What became of copies.
    pub(in crate::run) fn mirrors(&self) -> Arc<Mirrors> {
        Arc::clone(&self.mirrors)
    }

    /// Writes and sends what there still is.
    pub(in crate::run) async fn finish(&self) {
        while self.write_batch() > 0 {}
        self.failed_open.borrow_mut().tell_rest(Instant::now());
        if let Some(exporter) = &self.exporter {
            let flushing = exporter.borrow_mut().flush();
            flushing.await;
        }
    }

    fn write_batch(&self) -> usize {
        let http = self.engine.telemetry().http();
        let records = std::iter::from_fn(|| http.next_record()).take(records::BATCH_MAX);
        let write = |record| {
            self.form.write(&self.log, &record);
            if let Some(exporter) = &self.exporter {
                exporter.borrow().offer(&record);
            }
        };
        let written = records.map(write).count();
        let copies = std::iter::from_fn(|| http.next_mirrored()).take(records::BATCH_MAX);
        let counted = copies.map(|copy| self.mirrors.count(copy)).count();
        let mut failed_open = self.failed_open.borrow_mut();
        let passed = std::iter::from_fn(|| http.next_failed_open()).take(records::BATCH_MAX);
        let noted = passed.map(|record| failed_open.note(record)).count();
        failed_open.tell(Instant::now());
        written.max(counted).max(noted)
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
