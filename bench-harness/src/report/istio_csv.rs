//! `istio.csv`: latencies under the names of Istio's own benchmark, so that its plotter reads them
//! (istio/tools, `perf/benchmark/graph_plotter`).
//!
//! One line a subject and point, medians over the repetitions: latencies in microseconds, CPU in
//! thousandths of a core, memory in MiB; client and server are the proxies at either side. The plotter
//! takes the first line that fits, so that of 1000 requests a second of 1 KiB, which its plots against
//! connections are about, comes first. It divides latencies by the rate, which gives milliseconds at
//! that rate and at no other. Against rates it looks for lines whose `ActualQPS` is exactly what it was
//! asked for: that is the rate that was wanted, which was kept, since what was not is void.

use std::cmp::Reverse;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::measurements::Measurements;
use crate::record::Results;

/// The names, and the metric whose median stands there.
const MEASURED: [(&str, &str); 9] = [
    ("p50", "p50"),
    ("p90", "p90"),
    ("p99", "p99"),
    ("p999", "p999"),
    ("max", "max"),
    ("cpu_mili_avg_istio_proxy_fortioclient", "cpu-near"),
    ("cpu_mili_avg_istio_proxy_fortioserver", "cpu-far"),
    ("mem_Mi_avg_istio_proxy_fortioclient", "near-pss"),
    ("mem_Mi_avg_istio_proxy_fortioserver", "far-pss"),
];

/// Writes it beside the other files, if latencies were measured.
pub(super) fn write(folder: &Path, results: &Results, measurements: &Measurements) -> Result<()> {
    let Some(latency) = measurements.experiment("latency") else { return Ok(()) };
    let Some(p50) = latency.metric("p50") else { return Ok(()) };
    let date = results.manifest.get("date").and_then(Value::as_str).unwrap_or("-");
    let mut points: Vec<_> = p50
        .points
        .iter()
        .filter_map(|point| Some((point, point.number("connections")?, point.number("rate")?)))
        .collect();
    points.sort_by_key(|(point, connections, rate)| {
        (point.get("size").is_some(), Reverse(*rate == 1000.0), *rate as u64, *connections as u64)
    });

    let path = folder.join("istio.csv");
    let mut table = csv::Writer::from_path(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let first =
        ["StartTime", "ActualDuration", "Labels", "NumThreads", "RequestedQPS", "ActualQPS"];
    table.write_record(first.into_iter().chain(MEASURED.map(|(name, _)| name)))?;
    for (point, connections, rate) in points {
        for subject in &latency.subjects {
            let median = |name: &str| Some(latency.metric(name)?.estimate(point, subject)?.value);
            if median("p50").is_none() {
                continue;
            }
            let achieved = median("rate-achieved").unwrap_or(rate);
            let duration = median("seconds").map_or("-".to_owned(), |s| s.round().to_string());
            let size = point.get("size").unwrap_or("1024");
            let label = format!("ringway_qps_{rate}_c_{connections}_{size}_{subject}");
            let mut fields = vec![date.to_owned(), duration, label, connections.to_string()];
            fields.extend([rate, rate].map(|rate| rate.round().to_string()));
            fields.extend(MEASURED.map(|(name, metric)| {
                let Some(value) = median(metric) else { return "-".to_owned() };
                match name {
                    // Microseconds a request, times requests a second, are millionths of a core.
                    _ if name.starts_with("cpu") => format!("{:.1}", value * achieved / 1000.0),
                    _ if name.starts_with("mem") => format!("{value:.1}"),
                    _ => value.round().to_string(),
                }
            }));
            table.write_record(&fields)?;
        }
    }
    table.flush().with_context(|| format!("cannot write {}", path.display()))
}
