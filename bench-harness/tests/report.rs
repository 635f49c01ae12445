//! The report of a made-up folder: that it is well-formed, stands alone, and says what was measured.
//!
//! `KEEP_REPORT=/tmp/report cargo test -p ringway-bench --test report` keeps the folder, to be looked at.

use std::path::{Path, PathBuf};

use ringway_bench::record::{Origin, Recorder};
use ringway_bench::{histogram, report};
use serde_json::json;

const L4: [&str; 6] = ["none", "ringway", "ringway-epoll", "envoy-tcp", "reference", "reference-1"];

/// Draws numbers for a folder of results.
struct Inventor {
    recorder: Recorder,
    random: fastrand::Rng,
    repetitions: u32,
}

/// What one subject costs, beside Ringway.
fn weight(subject: &str) -> f64 {
    match subject {
        "none" => 0.12,
        "ringway" => 1.0,
        "ringway-epoll" => 1.02,
        "envoy-tcp" => 2.9,
        "envoy-http" => 7.5,
        "reference" => 1.9,
        "reference-1" | "tokio" => 1.6,
        "monoio" => 1.2,
        _ => 1.4,
    }
}

impl Inventor {
    fn new(folder: &Path, seed: u64, repetitions: u32) -> Inventor {
        let recorder = Recorder::create(folder).unwrap();
        let manifest = json!({
            "commit": "0123456789abcdef0123456789abcdef01234567",
            "date": "2026-11-21T06:00:00Z",
            "machine": {"processor": "AMD <EPYC> & \"friends\"", "cores": 2, "kernel": "Linux 6.18.44 #1 SMP"},
            "conditions": {"cipher_suite": "TLS_AES_128_GCM_SHA256"},
            "programs": {"ringway": {"version": "ringway 0.1.0", "sha256": "ab".repeat(32)}},
            "arguments": ["ringway-bench", "bench", "--note", "two words"],
        });
        recorder.manifest(&manifest).unwrap();
        Inventor { recorder, random: fastrand::Rng::with_seed(seed), repetitions }
    }

    /// Samples of all subjects at one point, interleaved; `typical` is Ringway's value.
    fn invent(
        &mut self,
        experiment: &str,
        subjects: &[&str],
        point: &str,
        metrics: &[(&str, &str, f64)],
    ) {
        for repetition in 1..=self.repetitions {
            let common = 1.0 + 0.1 * self.random.f64();
            for subject in subjects {
                let origin = origin(experiment, subject, repetition, point);
                for (metric, unit, typical) in metrics {
                    let weight = match *metric {
                        "rate" => 1.0 / weight(subject),
                        _ if metric.starts_with("rate-") => 1.0 / common,
                        _ => weight(subject),
                    };
                    let value = typical * weight * common * (1.0 + 0.06 * self.random.f64());
                    self.recorder.sample(&origin, metric, unit, value).unwrap();
                }
            }
        }
    }

    fn latencies(&mut self, subjects: &[&str], point: &str, typical_us: f64) {
        for repetition in 1..=self.repetitions {
            for subject in subjects {
                let mut latencies = histogram::empty();
                for _ in 0..4000 {
                    let tail = -(1.0 - self.random.f64()).ln();
                    let value =
                        typical_us * (0.4 + 0.3 * weight(subject)) * (1.0 + 0.2 * tail.powi(2));
                    latencies.record(value as u64).unwrap();
                }
                let text = histogram::encode(&latencies).unwrap();
                let origin = origin("latency", subject, repetition, point);
                self.recorder.latencies(&origin, &text).unwrap();
            }
        }
    }

    fn everything(&mut self) {
        let with_http: Vec<&str> = L4.into_iter().chain(["envoy-http"]).collect();
        for (connections, rate) in [2, 4, 8, 16, 32, 64]
            .map(|connections| (connections, 1000))
            .into_iter()
            .chain([2000, 4000, 8000].map(|rate| (16, rate)))
        {
            let point = format!("connections={connections} rate={rate}");
            let slow = 1.0 + f64::from(connections) / 60.0 + f64::from(rate) / 6000.0;
            self.invent(
                "latency",
                &with_http,
                &point,
                &[
                    ("p50", "us", 130.0 * slow),
                    ("p90", "us", 190.0 * slow),
                    ("p99", "us", 320.0 * slow),
                    ("p999", "us", 800.0 * slow),
                    ("max", "us", 3000.0 * slow),
                    ("rate-achieved", "1/s", f64::from(rate)),
                ],
            );
            let proxies = &with_http[1..];
            self.invent(
                "latency",
                proxies,
                &point,
                &[
                    ("cpu", "CPU-us/request", 60.0 / slow),
                    ("cpu-near", "CPU-us/request", 30.0 / slow),
                    ("cpu-far", "CPU-us/request", 30.0 / slow),
                    ("near-pss", "MiB", 11.0),
                    ("far-pss", "MiB", 10.0),
                ],
            );
            self.latencies(&with_http, &point, 130.0 * slow);
        }
        for point in ["connections=16 rate=1000 size=16384", "connections=16 rate=100 size=1048576"]
        {
            self.invent("latency", &L4, point, &[("p50", "us", 400.0), ("p99", "us", 900.0)]);
        }
        let promise = "connections=64 p99-at-most=5ms";
        self.invent("capacity", &L4, promise, &[("rate", "requests/s", 24_000.0)]);
        for connections in [1, 64, 1000] {
            self.invent(
                "capacity",
                &L4,
                &format!("connections={connections}"),
                &[("rate", "requests/s", 30_000.0), ("cpu", "CPU-us/request", 22.0)],
            );
        }
        for streams in [1, 8, 64] {
            for direction in ["upload", "download"] {
                let point = format!("streams={streams} direction={direction}");
                let metrics = [("cpu", "CPU-s/GB", 0.52), ("rate", "Gbit/s", 13.0)];
                self.invent("throughput", &L4, &point, &metrics);
            }
        }
        for kind in ["tunnel-live", "handshake-full", "handshake-resumed", "storm rate=1200"] {
            self.invent(
                "connections",
                &L4[1..],
                &format!("kind={kind}"),
                &[
                    ("cpu", "CPU-us/connection", 210.0),
                    ("rate", "connections/s", 1200.0),
                    ("failures", "connections", 0.0),
                ],
            );
        }
        self.invent(
            "idle",
            &L4[1..],
            "connections=10000",
            &[
                ("near-per-connection", "B", 2100.0),
                ("far-per-connection", "B", 2400.0),
                ("kernel-per-connection", "B", 4100.0),
                ("near-rss", "MiB", 7.5),
                ("far-rss", "MiB", 7.7),
                ("return-time", "s", 1.5),
                ("idle-cpu", "CPU-ms/s", 0.02),
                ("wake-ups", "1/s", 0.5),
            ],
        );
        for workloads in [10, 1000, 50_000, 150_000] {
            let size = f64::from(workloads) / 150_000.0;
            self.invent(
                "scale",
                &["ringway"],
                &format!("workloads={workloads}"),
                &[
                    ("rss", "MB", 9.0 + 50.0 * size),
                    ("peak", "MB", 10.0 + 80.0 * size),
                    ("load-time", "s", 0.01 + 1.2 * size),
                    ("change-visible", "ms", 0.4 + 0.2 * size),
                ],
            );
        }
        let subjects = ["none", "ringway", "envoy-tcp"];
        self.invent(
            "cost",
            &subjects,
            "services=150 rate=1",
            &[("cpu", "CPU-ms/s", 40.0), ("memory", "MiB", 24.0), ("nodes", "nodes", 3.0)],
        );
        self.invent(
            "config-swap",
            &["ringway"],
            "",
            &[
                ("requests", "requests", 40_000.0),
                ("failed", "requests", 0.0),
                ("swaps", "swaps", 1000.0),
                ("p99", "us", 500.0),
            ],
        );
        for replaced in ["never", "again"] {
            let point = format!("replaced={replaced}");
            let metrics =
                [("failed", "connections", 0.0), ("connections", "connections", 30_000.0)];
            self.invent("hand-over", &["ringway"], &point, &metrics);
        }
        for cores in [1, 2, 4] {
            let point = format!("cores={cores} connections=64");
            let rate = 20_000.0 * f64::from(cores);
            let metrics = [("cpu", "CPU-us/request", 20.0), ("rate", "requests/s", rate)];
            self.invent("cores", &L4[1..], &point, &metrics);
        }
        for neighbour in ["quiet", "elephants", "storm"] {
            let point = format!("neighbour={neighbour}");
            let metrics = [("p50", "us", 150.0), ("p99", "us", 900.0)];
            self.invent("noisy-neighbour", &L4, &point, &metrics);
        }
        for (point, typical) in
            [("connections=1 filter=none", 6.0), ("connections=64 filter=none", 3.0)]
        {
            let subjects = ["ringway", "ringway-epoll", "tokio", "tokio-256k", "monoio", "glommio"];
            self.invent("runtimes", &subjects, point, &[("cpu", "CPU-us/message", typical)]);
        }
        let bulk = ["ringway", "ringway-epoll", "tokio", "tokio-256k", "monoio", "glommio"];
        self.invent("runtimes", &bulk, "bulk=16 filter=none", &[("cpu", "CPU-s/GB", 0.2)]);
        let void = origin("latency", "envoy-tcp", 3, "connections=64 rate=1000");
        self.recorder.void(&void, "achieved 98.2 % of the rate, 99.5 % are needed <slow>").unwrap();
    }
}

fn origin(experiment: &str, subject: &str, repetition: u32, point: &str) -> Origin {
    let [experiment, subject, point] = [experiment, subject, point].map(str::to_owned);
    Origin { experiment, subject, repetition, point }
}

/// A folder with everything; kept where the environment says so.
fn folder() -> (Option<tempfile::TempDir>, PathBuf) {
    let (guard, folder) = match std::env::var_os("KEEP_REPORT") {
        Some(folder) => (None, PathBuf::from(folder)),
        None => {
            let guard = tempfile::tempdir().unwrap();
            let folder = guard.path().join("2026-11-21-full-machine");
            (Some(guard), folder)
        }
    };
    Inventor::new(&folder, 7, 10).everything();
    (guard, folder)
}

#[test]
fn the_report_is_well_formed_and_stands_alone() {
    let (_guard, folder) = folder();
    report::finish(&folder).unwrap();
    let text = std::fs::read_to_string(folder.join("report.html")).unwrap();
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let page = roxmltree::Document::parse_with_options(&text, options).unwrap();

    let drawings = page.descendants().filter(|node| node.has_tag_name("svg")).count();
    let tables = page
        .descendants()
        .filter(|node| node.has_tag_name("figure"))
        .map(|figure| figure.descendants().filter(|node| node.has_tag_name("table")).count());
    let tables: Vec<usize> = tables.collect();
    assert!(drawings > 30, "{drawings}");
    assert_eq!(tables, vec![1; drawings], "every drawing has its table");

    for node in page.descendants().filter(|node| node.is_element()) {
        let name = node.tag_name().name();
        assert!(!["script", "link", "img", "iframe", "object", "image"].contains(&name), "{name}");
        for attribute in node.attributes() {
            let value = attribute.value();
            assert!(!value.contains("//"), "{name} refers to {value}");
            if attribute.name() == "href" {
                let beside = value.ends_with(".csv") || value.ends_with(".json");
                let inside = value.strip_prefix('#').is_some_and(|id| {
                    page.descendants().any(|node| node.attribute("id") == Some(id))
                });
                assert!(beside || inside, "{value} leads nowhere");
            }
        }
    }
    for css in ["url(", "@import", "http:", "https:"] {
        assert!(!text.contains(css), "{css}");
    }
    for shown in ["p50 of other sizes", "1 MiB", "Highest rate at which p99", "More processors"] {
        assert!(text.contains(shown), "{shown} is measured, and not shown");
    }
    assert!(text.contains("AMD &lt;EPYC&gt;"), "what the machine says is escaped");
    assert!(text.contains("98.2 % of the rate"), "voids are listed");
    assert!(text.contains("not shown") && text.contains("missed") && text.contains("met"));
}

#[test]
fn one_folder_gives_one_report() {
    let guard = tempfile::tempdir().unwrap();
    let folder = guard.path().join("2026-11-21-latency-machine");
    let mut inventor = Inventor::new(&folder, 3, 5);
    inventor.invent("latency", &L4, "connections=2 rate=1000", &[("p50", "us", 100.0)]);
    inventor.invent("never-heard-of", &L4, "colour=blue", &[("weight", "kg", 3.0)]);
    let read = || {
        report::finish(&folder).unwrap();
        std::fs::read_to_string(folder.join("report.html")).unwrap()
    };
    let first = read();
    assert!(first.contains("never-heard-of"), "what is new is drawn too");
    assert_eq!(first, read());
}

#[test]
fn requests_of_another_size_are_not_taken_for_istios() {
    let guard = tempfile::tempdir().unwrap();
    let folder = guard.path().join("2026-11-21-latency-machine");
    let mut inventor = Inventor::new(&folder, 3, 5);
    for (point, p50) in [
        ("connections=16 rate=1000 size=16384", 900.0),
        ("connections=16 rate=1000", 130.0),
        ("connections=16 rate=100 size=1048576", 5000.0),
    ] {
        inventor.invent("latency", &["none"], point, &[("p50", "us", p50)]);
    }
    report::finish(&folder).unwrap();
    let text = std::fs::read_to_string(folder.join("istio.csv")).unwrap();
    let labels: Vec<&str> =
        text.lines().skip(1).map(|line| line.split(',').nth(2).unwrap()).collect();
    // The plotter takes the first line of a number of connections.
    assert_eq!(
        labels,
        [
            "ringway_qps_1000_c_16_1024_none",
            "ringway_qps_1000_c_16_16384_none",
            "ringway_qps_100_c_16_1048576_none"
        ]
    );
}

#[test]
fn istios_plotter_finds_its_columns() {
    let guard = tempfile::tempdir().unwrap();
    let folder = guard.path().join("2026-11-21-latency-machine");
    let mut inventor = Inventor::new(&folder, 3, 5);
    for rate in [2000, 1000] {
        let point = format!("connections=16 rate={rate}");
        inventor.invent(
            "latency",
            &["none", "ringway"],
            &point,
            &[
                ("p50", "us", 130.0),
                ("p99", "us", 900.0),
                ("rate-achieved", "1/s", f64::from(rate) * 1.004),
                ("cpu-near", "CPU-us/request", 30.0),
                ("near-pss", "MiB", 11.0),
            ],
        );
    }
    report::finish(&folder).unwrap();
    let mut table = csv::Reader::from_path(folder.join("istio.csv")).unwrap();
    let names = table.headers().unwrap().clone();
    let column = |name: &str| names.iter().position(|found| found == name).unwrap();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 4);
    // The plotter takes the first line of a number of connections: that of 1000 requests a second.
    let first = &rows[0];
    assert_eq!((&first[column("ActualQPS")], &first[column("NumThreads")]), ("1000", "16"));
    assert!(first[column("Labels")].ends_with("_none"));
    let ringway = &rows[1];
    assert!(ringway[column("Labels")].ends_with("_ringway"));
    let p99: f64 = ringway[column("p99")].parse().unwrap();
    assert!((900.0..1100.0).contains(&p99), "{p99}");
    let cpu: f64 = ringway[column("cpu_mili_avg_istio_proxy_fortioclient")].parse().unwrap();
    assert!((30.0..36.0).contains(&cpu), "30 µs a request, 1000 times a second: {cpu}");
    assert_eq!(&ringway[column("p90")], "-", "not measured");
}
