//! How connections are carried: marks, addresses, tunnels, threads, the end; and the process's own servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ringway_engine::TunnelOptions;
use ringway_engine::runtime::{Keepalive, PeerPatience};

use super::layers::Layers;
use super::reader::{Origin, Reader};
use super::threads::{CpuBudget, WorkerThreads, drain_deadline, threads};
use super::values::{Cpus, Form, Levels};
use crate::source::{Listen, LogConfig, LogFormat, Mode, OriginalSource};

const ADMIN_PORT: u16 = 15000;
const STATS_PORT: u16 = 15020;

/// Probes of charts name it; it cannot be moved.
const READINESS_PORT: u16 = 15021;

pub(super) fn packet_mark(reader: &mut Reader, mode: Mode) -> Option<u32> {
    let given = reader.number("PACKET_MARK", 0, u64::from(u32::MAX)).map(|mark| mark as u32);
    if given == Some(0) && mode == Mode::Shared {
        reader.wrong(
            "PACKET_MARK",
            "0",
            "a mark other than 0, without one our own packets are captured",
        );
    }
    let origin = given.map_or(Origin::Default, |_| Origin::Variable("PACKET_MARK".to_owned()));
    let mark = given.or(mode.packet_mark()).filter(|mark| *mark != 0);
    let shown = mark.map_or_else(|| "none".to_owned(), |mark| mark.to_string());
    reader.note("PACKET_MARK", shown, origin);
    mark
}

pub(super) fn original_source(reader: &mut Reader) -> OriginalSource {
    let given = reader.unnoted::<bool>("ENABLE_ORIG_SRC");
    let (source, shown) = match given {
        None => (OriginalSource::Auto, None),
        Some(true) => (OriginalSource::Always, Some("true".to_owned())),
        Some(false) => (OriginalSource::Never, Some("false".to_owned())),
    };
    match shown {
        Some(shown) => reader.note_variable("ENABLE_ORIG_SRC", Some(shown)),
        None => reader.note("ENABLE_ORIG_SRC", "where it works".to_owned(), Origin::Default),
    }
    source
}

/// Keep-alive, and the bound for data without an acknowledgement that follows from it: ztunnel's, not ours.
pub(super) fn peer_patience(reader: &mut Reader) -> PeerPatience {
    let on = reader.or("KEEPALIVE_ENABLED", true);
    let three_minutes = Duration::from_secs(180);
    let keep_alive = Keepalive {
        idle: reader.or("KEEPALIVE_TIME", three_minutes),
        interval: reader.or("KEEPALIVE_INTERVAL", three_minutes),
        // The kernel takes no more.
        probes: reader.number_or("KEEPALIVE_RETRIES", 9, 1, 127) as u32,
    };
    let bounded = reader.or("USER_TIMEOUT_ENABLED", false);
    PeerPatience {
        keepalive: on.then_some(keep_alive),
        user_timeout: bounded.then(|| keep_alive.patience()),
        resend_pause_max: None,
    }
}

/// What tunnels ask of peers, and how they are shared.
pub(super) fn tunnels(reader: &mut Reader) -> TunnelOptions {
    let defaults = TunnelOptions::default();
    let mut number = |name, default: u32, range: RangeInclusive<u32>| {
        let (least, most) = (u64::from(*range.start()), u64::from(*range.end()));
        reader.number_or(name, u64::from(default), least, most) as u32
    };
    let windows = TunnelOptions::WINDOW_BYTES;
    TunnelOptions {
        stream_window_bytes: number(
            "HTTP2_STREAM_WINDOW_SIZE",
            defaults.stream_window_bytes,
            windows.clone(),
        ),
        connection_window_bytes: number(
            "HTTP2_CONNECTION_WINDOW_SIZE",
            defaults.connection_window_bytes,
            windows,
        ),
        frame_bytes_max: number(
            "HTTP2_FRAME_SIZE",
            defaults.frame_bytes_max,
            TunnelOptions::FRAME_BYTES,
        ),
        streams_max: number(
            "POOL_MAX_STREAMS_PER_CONNECTION",
            u32::from(defaults.streams_max),
            1..=u32::from(u16::MAX),
        ) as u16,
        idle_timeout: reader.or("POOL_UNUSED_RELEASE_TIMEOUT", defaults.idle_timeout),
    }
}

pub(super) fn worker_threads(reader: &mut Reader, files: &Layers, machine: usize) -> usize {
    let mut cpus = |name| {
        let cpus: Option<Cpus> = reader.optional(name);
        cpus.map(|cpus| cpus.0)
    };
    let budget = CpuBudget {
        limit: cpus("ZTUNNEL_RESOURCE_CPU_LIMIT"),
        request: cpus("ZTUNNEL_RESOURCE_CPU_REQUEST"),
        cpus: cpus("ZTUNNEL_CPU_LIMIT").unwrap_or(machine),
    };
    let variable = reader.unnoted::<WorkerThreads>("ZTUNNEL_WORKER_THREADS");
    let from_file = files.find(|layer| layer.concurrency).map(|(count, origin)| match count {
        0 => (WorkerThreads::EveryCpu, origin),
        count => (WorkerThreads::Count(count), origin),
    });
    let (wanted, origin) = match (variable, from_file) {
        (Some(wanted), _) => (Some(wanted), Origin::Variable("ZTUNNEL_WORKER_THREADS".to_owned())),
        (None, Some((wanted, origin))) => (Some(wanted), origin),
        (None, None) => (None, Origin::Computed),
    };
    let threads = threads(wanted, budget);
    reader.note("ZTUNNEL_WORKER_THREADS", threads.to_string(), origin);
    threads
}

/// Of a waypoint's or gateway's container.
pub(super) fn cpu_limit(reader: &mut Reader) -> Option<usize> {
    let limit: Option<Cpus> = reader.optional("CPU_LIMIT");
    limit.map(|cpus| cpus.0)
}

pub(super) fn drain(reader: &mut Reader) -> Duration {
    let said = reader.optional::<Duration>("CONNECTION_TERMINATION_DEADLINE");
    let grace = reader.number("TERMINATION_GRACE_PERIOD_SECONDS", 0, u64::from(u32::MAX));
    reader.note_variable("TERMINATION_GRACE_PERIOD_SECONDS", grace.map(|grace| grace.to_string()));
    let deadline = drain_deadline(said, grace);
    reader.note("drainDeadline", deadline.show(), Origin::Computed);
    deadline
}

pub(super) fn listen(reader: &mut Reader, files: &Layers, ipv6: bool) -> Listen {
    let wildcard: IpAddr =
        if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let admin = files.port(reader, "proxyAdminPort", ADMIN_PORT, |layer| layer.admin_port);
    let stats = files.port(reader, "statsPort", STATS_PORT, |layer| layer.stats_port);
    Listen {
        admin: Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), admin)),
        metrics: Some(SocketAddr::new(wildcard, stats)),
        readiness: Some(SocketAddr::new(wildcard, READINESS_PORT)),
    }
}

pub(super) fn log(reader: &mut Reader) -> LogConfig {
    let Levels(level) = reader.or("RUST_LOG", Levels("info".to_owned()));
    LogConfig { level, format: log_format(reader) }
}

/// No word stops a start, for none stops ztunnel's; one that is neither form is among the warnings.
fn log_format(reader: &mut Reader) -> LogFormat {
    let said = reader.text("LOG_FORMAT").and_then(|word| LogFormat::parse(&word));
    let origin = said.map_or(Origin::Default, |_| Origin::Variable("LOG_FORMAT".to_owned()));
    let format = said.unwrap_or(LogFormat::Plain);
    reader.note("LOG_FORMAT", format.show(), origin);
    format
}
