//! Every bound of the data plane, in one place: what may grow, how far, and why.
//!
//! The bounds of the wire protocols themselves (frames, header lists, abuse budgets) stand beside
//! their state machines in `ringway_protocols::hbone` and `ringway_protocols::tls`.

use std::time::Duration;

/// A TCP dial, to a peer's HBONE port or to the application, is given up after this long.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer's HBONE port that refuses is tried again: its host may be enrolling the workload right
/// now, or restarting.
pub const HBONE_REFUSED_PATIENCE: Duration = Duration::from_secs(2);

/// The pause between two such tries.
pub const HBONE_REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// How long an endpoint may be silent before another one is tried, if there is one: long enough for one
/// lost SYN (sent again after one second), short against any client's own patience.
pub const ENDPOINT_PATIENCE: Duration = Duration::from_secs(2);
const _: () = assert!(ENDPOINT_PATIENCE.as_secs() < DIAL_TIMEOUT.as_secs());

/// Endpoints one connection tries. With one in three gone this leaves one connection in 27, and those gone
/// are remembered.
pub const ENDPOINT_TRIES_MAX: usize = 3;

/// No endpoint is tried any more once a connection has waited this long.
pub const ENDPOINT_TRIES_TIME: Duration = Duration::from_secs(15);

/// An endpoint that could not be reached is avoided for this long, as long as there is another; then one
/// connection tries it.
pub const UNREACHABLE_TIME: Duration = Duration::from_secs(5);

/// An endpoint that nobody has tried again for this much longer is forgotten.
pub const UNREACHABLE_MEMORY_TIME: Duration = Duration::from_secs(60);

/// Unreachable endpoints one workload remembers on one shard; above it the oldest is forgotten, and found
/// out again.
pub const UNREACHABLE_MAX: usize = 32;

/// A TLS handshake is cut after this long, so that silent peers cannot pile up.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an opened stream waits for the CONNECT answer: the peer dials the application for up to
/// [`DIAL_TIMEOUT`] before it answers, so this must be longer.
pub const CONNECT_RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);
const _: () = assert!(CONNECT_RESPONSE_TIMEOUT.as_secs() > DIAL_TIMEOUT.as_secs());

/// How long a new connection waits for its own workload or its certificate to become known.
pub const WORKLOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection waits for a policy that its workload names and nobody has told us of: the workload may have
/// been told a moment earlier. After that it is refused.
pub const POLICY_TIMEOUT: Duration = Duration::from_secs(1);
const _: () = assert!(POLICY_TIMEOUT.as_secs() < WORKLOAD_TIMEOUT.as_secs());
const _: () = assert!(
    WORKLOAD_TIMEOUT.as_secs() + POLICY_TIMEOUT.as_secs() < CONNECT_RESPONSE_TIMEOUT.as_secs()
);

/// Streams on one outbound tunnel. Envoy waypoints advertise 100 and ztunnel never uses more.
pub const STREAMS_PER_TUNNEL_MAX: usize = 100;

/// Tunnels from one shard to one destination. With 100 streams each this carries 102,400
/// connections; above it a new connection is refused.
pub const TUNNELS_PER_DESTINATION_MAX: usize = 1024;

/// Tunnels that are still being dialled, on one shard to one destination: a storm of connections
/// opens tunnels at the pace at which handshakes complete, not one for each.
pub const DIALS_PER_DESTINATION_MAX: usize = 1;

/// A tunnel without streams is kept this long for the next connection.
pub const TUNNEL_IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// The same once the workload or the whole process is ending: just long enough for a connection that is
/// being opened in it.
pub const ENDING_TUNNEL_IDLE_TIMEOUT: Duration = Duration::from_millis(50);

/// A tunnel on which one stream moved this much within [`BULK_WINDOW`] gets no new streams.
pub const BULK_BYTES: u64 = 1 << 20;

/// The window in which [`BULK_BYTES`] are counted.
pub const BULK_WINDOW: Duration = Duration::from_millis(100);

/// Streams to one destination from which on it counts as busy, while its home shard has much to do:
/// every shard then opens its own tunnel to it.
pub const BUSY_STREAMS: usize = 8;

/// The same while its home shard has little to do. Streams that share a tunnel share records, writes
/// and wake-ups: 64 connections cost a fifth less on one shard than on two.
pub const BUSY_STREAMS_WHEN_QUIET: usize = 64;
const _: () = assert!(BUSY_STREAMS < BUSY_STREAMS_WHEN_QUIET);
// The table of destinations counts no further.
const _: () = assert!(BUSY_STREAMS_WHEN_QUIET <= u8::MAX as usize);

/// How often the certificates of open tunnels are held against the clock although none is known to be due:
/// the clock itself may be set. Below the five seconds in which a tunnel must be cut after its end.
pub const TUNNEL_RECHECK_INTERVAL: Duration = Duration::from_secs(4);

/// A tunnel takes no new streams for about this long before a certificate of it ends, or for a tenth of
/// what the certificate had left, if that is less.
pub const TUNNEL_FAREWELL_MAX: Duration = Duration::from_secs(10 * 60);

/// A tunnel is cut when its own identity has been without a certificate for this long. A workload that is
/// withdrawn loses both, and its connections end by that.
pub const IDENTITY_GONE_PATIENCE: Duration = Duration::from_secs(1);

/// Tunnels that are judged again in one turn of the shard's loop. Nearly always that is comparing some
/// names; where signatures are verified it takes up to 0.5 ms each.
pub const RECHECKED_PER_TURN: usize = 8;

/// Handshakes that may be in progress on one shard; above it the newest is refused. Each holds at
/// most a few KiB, and the deadline clears it.
pub const HANDSHAKES_MAX: usize = 4096;

/// Handshake steps of one loop turn. A step costs up to 0.35 ms, the longest thing a shard does.
pub const HANDSHAKE_STEPS_PER_TURN: usize = 2;

/// Bytes of a handshake a peer may send before its records are dealt with.
pub const HANDSHAKE_RECEIVE_BYTES_MAX: usize = 64 * 1024;

/// Sealed bytes a tunnel holds while its socket takes no more. At the bound its streams stop
/// reading their applications.
pub const TUNNEL_BACKLOG_BYTES_MAX: usize = 512 * 1024;

/// Bytes one visit to a connection may move before the next connection's turn.
pub const VISIT_BYTES_MAX: usize = 256 * 1024;

/// A message up to this size is copied into the tunnel's shared record, so that the frames of many
/// small streams leave in one record and one write; a larger one is sealed where it was read.
pub const COALESCE_BYTES_MAX: usize = 4096;
const _: () = assert!(COALESCE_BYTES_MAX < 16 * 1024);

/// A read of a plain direction from this size on is one of bulk. A relay that keeps up with its
/// sender seldom finds more at once.
pub const BULK_READ_BYTES_MIN: usize = 32 * 1024;

/// Bytes of bulk in a row after which a plain direction changes to splicing.
pub const SPLICE_AFTER_BYTES: usize = 512 * 1024;
const _: () = assert!(SPLICE_AFTER_BYTES > VISIT_BYTES_MAX);

/// Pipes one shard splices through at a time; a direction that finds none goes on copying. Pages in
/// pipes count against a bound of the system, 64 MiB per user by default.
pub const PIPES_MAX: usize = 32;

/// Access records waiting to be written: more than a second of the busiest host. Above it records are
/// lost, and counted.
pub const ACCESS_RECORDS_MAX: usize = 16_384;

/// Open connections that are judged again, after a change of policies, before the shard's other work has its turn: a
/// fraction of a millisecond.
pub const JUDGED_PER_SLICE: usize = 256;

/// Outcomes of policies on dry run waiting to be written; above it they are counted only.
pub const DRY_RUN_RECORDS_MAX: usize = 1024;

/// Distinct label sets one shard keeps counters for; above it a connection is counted under the
/// label set in which every name is `unknown`.
pub const SERIES_MAX: usize = 20_000;

/// Messages waiting for one shard (commands from control, connections handed over by others).
pub const MAILBOX_MAX: usize = 1024;

/// Spare buffers one shard keeps for tunnels that have something to send.
pub const SPARE_BUFFERS_MAX: usize = 64;

/// A spare buffer larger than this is given back to the allocator instead of being kept.
pub const SPARE_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// A new process that was started to take over says hello within this time, or it is none that can.
pub const HANDOVER_HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// A new process is ready to take over within this time after its hello: the largest configurations load
/// in a few seconds. Otherwise it is ended, and the old one goes on.
pub const HANDOVER_READY_TIMEOUT: Duration = Duration::from_secs(30);

/// Every other answer between the two processes of a hand-over comes within this time.
pub const HANDOVER_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How soon the old process looks again for connections that can be moved, while there are none.
pub const HANDOVER_LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Live connections of one shard that are between two processes at a time: few, so that none waits long
/// for the others.
pub const HANDOVER_CONNECTIONS_MAX: usize = 32;

/// Descriptors of one frame between the two processes; the kernel takes 253 at a time.
pub const HANDOVER_DESCRIPTORS_MAX: usize = 250;
const _: () = assert!(2 * HANDOVER_CONNECTIONS_MAX <= HANDOVER_DESCRIPTORS_MAX);

/// Text of one frame between the two processes: a configuration that came by standard input is the
/// longest.
pub const HANDOVER_TEXT_BYTES_MAX: usize = 64 << 20;

/// Bytes that relays hold of the connections in one frame. One connection holds at most a pipe and a
/// visit for each direction.
pub const HANDOVER_RAW_BYTES_MAX: usize = 8 << 20;
const _: () = assert!(2 * ((1 << 20) + VISIT_BYTES_MAX) <= HANDOVER_RAW_BYTES_MAX);
