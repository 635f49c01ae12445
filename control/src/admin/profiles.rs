//! Profiles on the admin port: `/debug/flame`, `/debug/pprof/profile`, and what there is to say about the heap.

use std::time::{Duration, Instant, SystemTime};

use hyper::{Method, StatusCode};

use super::broken;
use super::server::{Request, Response};
use crate::profile::{Circumstances, INTERVAL, Profile, Recording, SECONDS_MAX, StartError};
use crate::telemetry::process;

/// What `/debug/pprof/profile` may be asked for, as ztunnel's may.
const PPROF_SECONDS: (u64, std::ops::RangeInclusive<u64>) = (10, 1..=300);
const PPROF_FREQUENCY: (u64, std::ops::RangeInclusive<u64>) = (100, 1..=1000);

const NO_HEAP_PROFILE: &str = "there is no profile of the heap: the allocator (mimalloc) does not sample allocations. \
    process_resident_memory_bytes on the metrics port tells how much memory is in use\n";

/// How a recording is answered.
enum Form {
    Flamegraph,
    Folded,
}

/// Records a profile and answers with a flamegraph, or its text. A client that goes away ends the recording.
pub(super) async fn flame(request: &Request) -> Response {
    if request.method != Method::GET {
        return Response::method_not_allowed("GET");
    }
    let (seconds, form) = match flame_parameters(request) {
        Ok(parameters) => parameters,
        Err(why) => {
            let usage = format!("usage: GET /debug/flame?seconds=1..{SECONDS_MAX}[&format=folded]");
            return Response::text(StatusCode::BAD_REQUEST, format!("{why}\n{usage}\n"));
        }
    };
    let (profile, _) = match record(Duration::from_secs(seconds), INTERVAL).await {
        Ok(recorded) => recorded,
        Err(response) => return response,
    };
    match form {
        Form::Folded => Response::text(StatusCode::OK, profile.folded()),
        Form::Flamegraph => {
            let svg = profile.svg(&format!("Ringway on the CPU, {seconds} s"));
            Response::of(StatusCode::OK, "image/svg+xml", svg)
        }
    }
}

/// Records a profile and answers with what `go tool pprof` reads.
pub(super) async fn pprof(request: &Request) -> Response {
    let number = |key, (usual, range): (u64, std::ops::RangeInclusive<u64>)| {
        let number = match &request.parameters(key)[..] {
            [] => Some(usual),
            [text] => text.parse().ok().filter(|number| range.contains(number)),
            _ => None,
        };
        number.ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            let why = format!("{key} must be one whole number from {least} to {most}\n");
            Response::text(StatusCode::BAD_REQUEST, why)
        })
    };
    let (seconds, frequency) =
        match (number("seconds", PPROF_SECONDS), number("frequency", PPROF_FREQUENCY)) {
            (Ok(seconds), Ok(frequency)) => (seconds, frequency),
            (Err(response), _) | (_, Err(response)) => return response,
        };
    let interval = Duration::from_secs(1) / u32::try_from(frequency).expect("at most 1000");
    match record(Duration::from_secs(seconds), interval).await {
        Ok((profile, circumstances)) => {
            let bytes = profile.pprof(&circumstances);
            Response::of(StatusCode::OK, "application/octet-stream", bytes)
        }
        Err(response) => response,
    }
}

/// What there is to say about the heap.
pub(super) fn heap() -> Response {
    Response::text(StatusCode::INTERNAL_SERVER_ERROR, NO_HEAP_PROFILE)
}

/// Whether the heap is profiled: it never is, and asking for it changes nothing.
pub(super) fn heap_profiling(request: &Request) -> Response {
    match &request.parameters("activate")[..] {
        [] => Response::text(StatusCode::OK, "heap profiling active: false\n"),
        [no] if no == "false" => Response::text(StatusCode::OK, "heap profiling active: false\n"),
        [yes] if yes == "true" => heap(),
        _ => Response::text(StatusCode::BAD_REQUEST, "activate is true or false\n"),
    }
}

/// Records for so long, and looks up the names; or says why not.
async fn record(time: Duration, interval: Duration) -> Result<(Profile, Circumstances), Response> {
    let began = (SystemTime::now(), Instant::now(), process::read().cpu_seconds);
    let recording = Recording::start(interval).map_err(|error| {
        let status = match error {
            StartError::Busy => StatusCode::CONFLICT,
            StartError::System(_) => StatusCode::NOT_IMPLEMENTED,
        };
        Response::text(status, format!("{error}\n"))
    })?;
    tokio::time::sleep(time).await;
    let samples = recording.finish();
    let circumstances = Circumstances {
        began: began.0,
        took: began.1.elapsed(),
        cpu_time: Duration::from_secs_f64((process::read().cpu_seconds - began.2).max(0.0)),
        interval,
    };
    // Reads the program's debug information.
    let resolved = tokio::task::spawn_blocking(move || Profile::resolve(&samples)).await;
    Ok((resolved.map_err(|_| broken())?, circumstances))
}

/// How long, and in which form.
fn flame_parameters(request: &Request) -> Result<(u64, Form), String> {
    let seconds = match &request.parameters("seconds")[..] {
        [] => return Err("for how many seconds? seconds=10 is usual".to_owned()),
        [text] => text.parse().ok().filter(|seconds| (1..=SECONDS_MAX).contains(seconds)),
        _ => None,
    };
    let Some(seconds) = seconds else {
        return Err(format!("seconds must be one whole number from 1 to {SECONDS_MAX}"));
    };
    match &request.parameters("format")[..] {
        [] => Ok((seconds, Form::Flamegraph)),
        [format] if format == "svg" => Ok((seconds, Form::Flamegraph)),
        [format] if format == "folded" => Ok((seconds, Form::Folded)),
        _ => Err("format is svg or folded".to_owned()),
    }
}
