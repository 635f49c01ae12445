//! The three handlers in front of an engine that runs.

use std::future::Future;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::Arc;

use ringway_engine::runtime::ReactorChoice;
use ringway_engine::snapshot::Snapshot;
use ringway_engine::{Engine, EngineConfig};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::config_dump::VersionInfo;
use super::readiness::Readiness;
use super::*;
use crate::telemetry::log::{LogFilter, LogFormat, LogWriter};

struct Nowhere;

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Lab {
    admin: Handler,
    metrics: Handler,
    readiness_port: Handler,
    readiness: Readiness,
    log: Log,
    quit: UnboundedReceiver<()>,
}

fn with_lab<F: Future<Output = ()>>(work: impl FnOnce(Lab) -> F) {
    let config = EngineConfig { pin: false, reactor: ReactorChoice::Epoll, ..Default::default() };
    let engine = Arc::new(Engine::start(config, Snapshot::new("").with_generation(3)).unwrap());
    let log = Log::new(LogFormat::Plain, LogFilter::default(), LogWriter::new(Nowhere).unwrap());
    let version = VersionInfo {
        version: "0.1.0".to_owned(),
        git_revision: "abc".to_owned(),
        rust_version: String::new(),
        build_profile: String::new(),
        build_status: String::new(),
        istio_version: String::new(),
        crypto_provider: String::new(),
    };
    let readiness = Readiness::default();
    let view = Rc::new(View::new(engine, log.clone(), readiness.clone(), version));
    let (quit_sender, quit) = unbounded_channel();
    let lab = Lab {
        admin: admin_handler(Rc::clone(&view), log.clone(), quit_sender),
        metrics: metrics_handler(Rc::clone(&view)),
        readiness_port: readiness_handler(view),
        readiness,
        log,
        quit,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work(lab));
}

/// Status, content type and body.
async fn ask(handler: &Handler, method: Method, target: &str) -> (u16, &'static str, String) {
    ask_accepting(handler, method, target, &[]).await
}

async fn ask_accepting(
    handler: &Handler,
    method: Method,
    target: &str,
    accept: &[&str],
) -> (u16, &'static str, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let accept = accept.iter().map(|one| (*one).to_owned()).collect();
    let request = Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        accept,
        accept_encoding: Vec::new(),
    };
    let response = handler(request).await;
    let body = String::from_utf8_lossy(response.body()).into_owned();
    (response.status().as_u16(), response.content_type(), body)
}

#[test]
fn readiness_names_what_is_pending() {
    with_lab(|lab| async move {
        let get = async |path: &str| ask(&lab.readiness_port, Method::GET, path).await;
        lab.readiness.set_step("proxy", true);
        lab.readiness.set_parts(["workload shop/web".to_owned()]);
        let (status, _, body) = get("/healthz/ready").await;
        assert_eq!(
            (status, body.as_str()),
            (500, "not ready, pending: proxy, workload shop/web\n")
        );
        assert_eq!(get("/healthz/startup").await.0, 500);
        assert_eq!(get("/healthz/live").await.0, 200);

        lab.readiness.set_step("proxy", false);
        lab.readiness.set_parts([]);
        assert_eq!(
            get("/healthz/ready").await,
            (200, "text/plain; charset=utf-8", "ready\n".into())
        );
        lab.readiness.start_draining();
        let (status, _, body) = get("/healthz/ready").await;
        assert_eq!((status, body.as_str()), (500, "not ready, pending: draining\n"));
        assert_eq!(get("/healthz/startup").await.0, 200, "the start is over once and for all");

        assert_eq!(get("/healthz").await.0, 404);
        assert_eq!(ask(&lab.readiness_port, Method::POST, "/healthz/ready").await.0, 405);
        assert_eq!(ask(&lab.readiness_port, Method::HEAD, "/healthz/startup").await.0, 200);
    });
}

#[test]
fn metrics_come_in_the_format_asked_for() {
    with_lab(|lab| async move {
        for path in ["/metrics", "/stats/prometheus"] {
            let (status, kind, body) = ask(&lab.metrics, Method::GET, path).await;
            assert_eq!((status, kind), (200, "text/plain; version=0.0.4; charset=utf-8"));
            assert!(body.contains("ringway_snapshot_generation 3\n"), "{body}");
            assert!(
                body.contains("ringway_reactor{shard=\"0\",reactor=\"epoll\",reason=\""),
                "{body}"
            );
        }
        let accept = ["application/openmetrics-text"];
        let (_, kind, body) = ask_accepting(&lab.metrics, Method::GET, "/metrics", &accept).await;
        assert_eq!(kind, "application/openmetrics-text;charset=utf-8;version=1.0.0");
        assert!(body.ends_with("# EOF\n"));
        assert_eq!(ask(&lab.metrics, Method::GET, "/").await.0, 404);
    });
}

#[test]
fn the_log_level_is_asked_for_and_changed_by_post() {
    with_lab(|lab| async move {
        let post = async |target: &str| {
            let (status, _, body) = ask(&lab.admin, Method::POST, target).await;
            (status, body)
        };
        let level = |text: &str| (200, format!("current log level is {text}\n"));
        assert_eq!(post("/logging").await, level("info"));
        assert_eq!(post("/logging?level=access:debug").await, level("access=debug,info"));
        assert_eq!(post("/logging?level=warning").await, level("access=debug,warn"));
        assert!(lab.log.wants("access", tracing::Level::DEBUG));
        assert_eq!(post("/logging?level=proxy%3Dtrace&reset").await, level("proxy=trace,info"));
        assert_eq!(post("/logging?reset").await, level("info"));
        let (status, body) = post("/logging?level=loud").await;
        assert_eq!(status, 400);
        assert!(body.contains("\"loud\" is no log level") && body.contains("usage"), "{body}");
        // Envoy's form, which istioctl does not send to a node proxy; and a key that is misspelt.
        for (query, key) in
            [("xds=debug", "xds"), ("levle=debug", "levle"), ("level=info&l%65vle", "levle")]
        {
            let (status, body) = post(&format!("/logging?{query}")).await;
            assert_eq!(status, 400, "{query}");
            let want = format!("Unknown parameter: {key:?}\nusage: POST /logging");
            assert!(body.starts_with(&want), "{query}: {body}");
        }
        assert_eq!(post("/logging?").await, level("info"), "nothing of that was done");
        let (status, _, body) = ask(&lab.admin, Method::GET, "/logging").await;
        assert_eq!((status, &*body), (405, "method not allowed: use POST\n"));
    });
}

#[test]
fn the_end_is_asked_for_by_post_only() {
    with_lab(|mut lab| async move {
        assert_eq!(ask(&lab.admin, Method::GET, "/quitquitquit").await.0, 405);
        assert!(lab.quit.try_recv().is_err());
        let (status, _, body) = ask(&lab.admin, Method::POST, "/quitquitquit").await;
        assert_eq!((status, body.as_str()), (200, "shutdown now\n"));
        lab.quit.try_recv().unwrap();
    });
}

#[test]
fn the_index_and_the_dump_are_there_and_nothing_else_is() {
    with_lab(|lab| async move {
        let (status, kind, body) = ask(&lab.admin, Method::GET, "/").await;
        assert_eq!((status, kind), (200, "text/html; charset=utf-8"));
        assert!(body.contains("config_dump"));
        let (status, kind, body) = ask(&lab.admin, Method::GET, "/config_dump").await;
        assert_eq!((status, kind), (200, "application/json"));
        let dump: serde_json::Value = serde_json::from_str(&body).unwrap();
        let keys: Vec<_> = dump.as_object().unwrap().keys().map(String::as_str).collect();
        for key in [
            "workloads",
            "services",
            "policies",
            "stagedServices",
            "certificates",
            "workloadState",
            "config",
            "version",
        ] {
            assert!(keys.contains(&key), "{key} is not in {keys:?}");
        }
        assert_eq!(ask(&lab.admin, Method::GET, "/debug").await.0, 404);
    });
}

#[test]
fn a_profile_is_bounded_and_asked_for_with_care() {
    with_lab(|lab| async move {
        let get = async |target: &str| ask(&lab.admin, Method::GET, target).await;
        //  query                              says
        let rows = [
            ("", "for how many seconds?"),
            ("?seconds=", "from 1 to 60"),
            ("?seconds=0", "from 1 to 60"),
            ("?seconds=61", "from 1 to 60"),
            ("?seconds=-1", "from 1 to 60"),
            ("?seconds=1.5", "from 1 to 60"),
            ("?seconds=1&seconds=2", "from 1 to 60"),
            ("?seconds=1&format=pdf", "svg or folded"),
        ];
        for (query, says) in rows {
            let (status, _, body) = get(&format!("/debug/flame{query}")).await;
            assert_eq!(status, 400, "{query}");
            assert!(body.contains(says) && body.contains("usage: GET"), "{query}: {body}");
        }
        assert_eq!(ask(&lab.admin, Method::POST, "/debug/flame?seconds=1").await.0, 405);
    });
}

#[test]
fn pprof_is_asked_for_as_ztunnels_is() {
    with_lab(|lab| async move {
        let get = async |target: &str| ask(&lab.admin, Method::GET, target).await;
        for query in [
            "?seconds=0",
            "?seconds=301",
            "?seconds=ten",
            "?seconds=1&frequency=0",
            "?seconds=1&frequency=1001",
            "?seconds=1&seconds=1",
        ] {
            let (status, _, body) = get(&format!("/debug/pprof/profile{query}")).await;
            assert_eq!(status, 400, "{query}");
            assert!(body.contains("must be one whole number from 1 to"), "{query}: {body}");
        }
        let (status, _, body) = get("/debug/pprof/heap").await;
        assert!(status == 500 && body.contains("no profile of the heap"), "{status} {body}");
        //  query             status  says
        let rows = [
            ("", 200, "heap profiling active: false\n"),
            ("?activate=false", 200, "heap profiling active: false\n"),
            ("?activate=true", 500, "there is no profile of the heap"),
            ("?activate=yes", 400, "activate is true or false"),
        ];
        for (query, want, says) in rows {
            let (status, _, body) = get(&format!("/debug/pprof/heap/profiling{query}")).await;
            assert!(status == want && body.starts_with(says), "{query}: {status} {body}");
        }
    });
}

#[test]
fn answers_are_compressed_for_who_asks() {
    with_lab(|lab| async move {
        for (handler, path) in [(&lab.metrics, "/metrics"), (&lab.admin, "/config_dump")] {
            let request = |encodings: &[&str]| Request {
                method: Method::GET,
                path: path.to_owned(),
                query: String::new(),
                accept: Vec::new(),
                accept_encoding: encodings.iter().map(|one| (*one).to_owned()).collect(),
            };
            let plain = handler(request(&[])).await;
            assert_eq!(plain.encoding(), None);
            let zipped = handler(request(&["gzip, deflate"])).await;
            if plain.body().len() >= 1024 {
                assert_eq!(zipped.encoding(), Some("gzip"), "{path}");
                assert!(zipped.body().starts_with(&[0x1f, 0x8b]));
                assert!(zipped.body().len() < plain.body().len() / 2);
            } else {
                assert_eq!(zipped.encoding(), None, "not worth it");
            }
        }
    });
}
