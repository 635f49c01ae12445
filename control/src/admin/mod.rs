//! The three HTTP servers of the process: admin (15000, loopback), metrics (15020), readiness (15021).

pub mod config_dump;
mod profiles;
pub mod readiness;
pub mod server;
pub mod view;

#[cfg(test)]
mod tests;

use std::rc::Rc;

use hyper::{Method, StatusCode};
use tokio::sync::mpsc::UnboundedSender;

use self::server::{Handler, Request, Response};
use self::view::View;
use crate::telemetry::exposition::TextFormat;
use crate::telemetry::log::Log;
use crate::telemetry::metrics;

const INDEX: &str = "<!doctype html>
<html><head><title>Ringway</title></head><body>
<h1>Ringway</h1>
<table>
<tr><td><a href=\"config_dump\">/config_dump</a></td><td>what the process knows, JSON</td></tr>
<tr><td><a href=\"config/status\">/config/status</a></td><td>of a waypoint or gateway: what became of each route, as kubectl would show it</td></tr>
<tr><td><a href=\"mirrors\">/mirrors</a></td><td>of a waypoint or gateway: how the answers of mirrors differ from those of clients</td></tr>
<tr><td>POST /logging?level=info,access=debug</td><td>change what is logged; &amp;reset starts from the default</td></tr>
<tr><td><a href=\"debug/flame?seconds=10\">/debug/flame?seconds=10</a></td><td>where the CPU time goes, a flamegraph; &amp;format=folded</td></tr>
<tr><td><a href=\"debug/pprof/profile?seconds=10\">/debug/pprof/profile?seconds=10</a></td><td>the same for go tool pprof; &amp;frequency=100</td></tr>
<tr><td><a href=\"debug/pprof/heap\">/debug/pprof/heap</a></td><td>why there is no profile of the heap</td></tr>
<tr><td>POST /quitquitquit</td><td>drain and end</td></tr>
</table></body></html>
";

const JSON: &str = "application/json";

/// Answers on the admin port. Whoever asks to end is told to `quit`.
pub fn admin_handler(view: Rc<View>, log: Log, quit: UnboundedSender<()>) -> Handler {
    Rc::new(move |request| {
        let (view, log, quit) = (Rc::clone(&view), log.clone(), quit.clone());
        Box::pin(async move {
            match request.path.as_str() {
                "/" => Response::of(StatusCode::OK, "text/html; charset=utf-8", INDEX),
                "/config_dump" => dump(&view).await.compressed_for(&request),
                #[cfg(feature = "waypoint")]
                "/config/status" => match view.status() {
                    Some(status) => Response::of(StatusCode::OK, JSON, format!("{status:#}\n"))
                        .compressed_for(&request),
                    None => Response::not_found(),
                },
                #[cfg(feature = "waypoint")]
                "/mirrors" => match view.mirrors() {
                    Some(mirrors) => Response::of(StatusCode::OK, JSON, format!("{mirrors:#}\n"))
                        .compressed_for(&request),
                    None => Response::not_found(),
                },
                "/logging" => logging(&request, &log),
                "/debug/flame" => profiles::flame(&request).await,
                "/debug/pprof/profile" => profiles::pprof(&request).await,
                "/debug/pprof/heap" => profiles::heap(),
                "/debug/pprof/heap/profiling" => profiles::heap_profiling(&request),
                "/quitquitquit" if request.method == Method::POST => {
                    // The other end listens as long as the process lives.
                    let _ = quit.send(());
                    Response::text(StatusCode::OK, "shutdown now\n")
                }
                "/quitquitquit" => Response::method_not_allowed("POST"),
                _ => Response::not_found(),
            }
        })
    })
}

/// Answers on the metrics port.
pub fn metrics_handler(view: Rc<View>) -> Handler {
    Rc::new(move |request| {
        let view = Rc::clone(&view);
        Box::pin(async move {
            if !matches!(request.path.as_str(), "/metrics" | "/stats/prometheus") {
                return Response::not_found();
            }
            let format = TextFormat::negotiate(request.accept.iter().map(String::as_str));
            let seen = view.capture();
            // Summing many series and counting many descriptors takes a while: not on the control thread.
            let text =
                tokio::task::spawn_blocking(move || metrics::render(&seen.into_facts(), format));
            match text.await {
                Ok(text) => {
                    let response = Response::of(StatusCode::OK, format.content_type(), text);
                    response.compressed_for(&request)
                }
                Err(_) => broken(),
            }
        })
    })
}

/// Answers on the readiness port.
pub fn readiness_handler(view: Rc<View>) -> Handler {
    Rc::new(move |request| {
        let view = Rc::clone(&view);
        Box::pin(async move {
            let readiness = view.readiness();
            let answer = |ok: bool| {
                if ok {
                    return Response::text(StatusCode::OK, "ready\n");
                }
                let body = format!("not ready, pending: {}\n", readiness.pending().join(", "));
                Response::text(StatusCode::INTERNAL_SERVER_ERROR, body)
            };
            let response = match request.path.as_str() {
                "/healthz/ready" => answer(readiness.is_ready()),
                "/healthz/startup" => answer(readiness.was_ready()),
                // Whoever answers is alive.
                "/healthz/live" => Response::text(StatusCode::OK, "alive\n"),
                _ => return Response::not_found(),
            };
            match request.method {
                Method::GET | Method::HEAD => response,
                _ => Response::method_not_allowed("GET, HEAD"),
            }
        })
    })
}

async fn dump(view: &View) -> Response {
    let seen = view.capture();
    match tokio::task::spawn_blocking(move || config_dump::render(&seen.into_dump())).await {
        Ok(json) => Response::of(StatusCode::OK, JSON, json),
        Err(_) => broken(),
    }
}

fn logging(request: &Request, log: &Log) -> Response {
    if request.method != Method::POST {
        return Response::method_not_allowed("POST");
    }
    if let Some(unknown) = request.other_parameter(&["level", "reset"]) {
        return logging_usage(&format!("Unknown parameter: {unknown:?}"));
    }
    let levels = request.parameters("level").join(",");
    let reset = !request.parameters("reset").is_empty();
    if levels.is_empty() && !reset {
        return Response::text(StatusCode::OK, format!("current log level is {}\n", log.filter()));
    }
    match log.change_filter(reset, &levels) {
        Ok(filter) => Response::text(StatusCode::OK, format!("current log level is {filter}\n")),
        Err(error) => logging_usage(&format!("Invalid level provided: {error}")),
    }
}

fn logging_usage(why: &str) -> Response {
    Response::text(
        StatusCode::BAD_REQUEST,
        format!(
            "{why}\nusage: POST /logging\t\t(show the level)\n\
             usage: POST /logging?level=<level>\t\t(change it: info,access=debug)\n\
             usage: POST /logging?level=<level>&reset\t\t(change it, starting from the default)\n"
        ),
    )
}

fn broken() -> Response {
    Response::text(StatusCode::INTERNAL_SERVER_ERROR, "internal error; see the log\n")
}
