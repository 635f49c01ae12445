//! Every bound of the data plane, in one place: what may grow, how far, what happens there, and why.
//!
//! What an operator may want to change is in [`Limits`]; everything else is a constant here. The bounds of the
//! wire protocols (frames, header lists, handshakes) stand beside their state machines in
//! `ringway_protocols::{hbone::budget, tls::bounds, dns::bounds}` and are listed with these. [`documentation`] makes
//! `docs/limits.md` out of all of them.

mod configured;
mod dns;
mod http;
mod memory;
mod page;

use std::time::Duration;

pub(crate) use self::configured::Bounds;
pub use self::{
    configured::{AUTOMATIC, Limits, Setting},
    dns::{
        DNS_CONNECTIONS_PER_PROCESS_MAX, DNS_CONNECTIONS_PER_WORKLOAD_MAX, DNS_FORWARD_TIMEOUT,
        DNS_IDLE_TIMEOUT, DNS_PIPELINED_MAX, DNS_REPLIES_REFUSED_MAX, DNS_RESOLUTION_TTL_MAX,
        DNS_RESOLUTION_TTL_MIN, DNS_RESOLUTIONS_MAX, DNS_SERIES_MAX, DNS_SERVER_AVOIDED_TIME,
        DNS_SERVER_TIMEOUT, DNS_SERVER_TIMEOUT_MAX, DNS_SERVERS_MAX, DNS_WAITING_PER_PROCESS_MAX,
        DNS_WAITING_PER_WORKLOAD_MAX, HOSTNAME_AGE_MAX, HOSTNAME_UNUSED_MAX,
        HOSTNAMES_ASKED_AGAIN_MAX, HOSTNAMES_ASKED_MAX, HOSTNAMES_MAX, HOSTNAMES_WANTED_INTERVAL,
    },
    http::*,
    memory::{SHARD_MEMORY_BYTES, START_MEMORY_BYTES},
    page::documentation,
};

ringway_protocols::bounds! {
    /// A TCP dial, to a peer's HBONE port or to the application, is given up after this long.
    pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
    Time per Stream: "the connection is reset, or its request answered 503"

    /// How long a peer's HBONE port that refuses is tried again: its host may be enrolling the workload right now, or
    /// restarting.
    pub const HBONE_REFUSED_PATIENCE: Duration = Duration::from_secs(2);
    Time per Destination: "the connections that wait for the tunnel are reset"

    /// The pause between two such tries.
    pub const HBONE_REFUSED_PAUSE: Duration = Duration::from_millis(50);
    Time per Destination: "the next try"

    /// How long an endpoint may be silent before another one is tried, if there is one: long enough for one lost SYN
    /// (sent again after one second), short against any client's own patience.
    pub const ENDPOINT_PATIENCE: Duration = Duration::from_secs(2);
    Time per Stream: "another endpoint is tried beside it"

    /// Endpoints one connection tries. With one in three gone this leaves one connection in 27, and those gone are
    /// remembered.
    pub const ENDPOINT_TRIES_MAX: usize = 3;
    Count per Stream: "the connection is reset"

    /// How long a connection may have waited for an endpoint that answers.
    pub const ENDPOINT_TRIES_TIME: Duration = Duration::from_secs(15);
    Time per Stream: "no further endpoint is tried"

    /// An endpoint that could not be reached is avoided for this long, as long as there is another.
    pub const UNREACHABLE_TIME: Duration = Duration::from_secs(5);
    Time per Workload: "one connection tries it"

    /// An endpoint that nobody has tried again for this much longer is forgotten.
    pub const UNREACHABLE_MEMORY_TIME: Duration = Duration::from_secs(60);
    Time per Workload: "it counts as reachable"

    /// Unreachable endpoints one workload remembers on one shard.
    pub const UNREACHABLE_MAX: usize = 32;
    Count per Workload: "the oldest is forgotten, and found out again"

    /// Connections on one shard from which on it looks whether they have gone, to give their memory back: below it
    /// there is less than a MiB to give.
    pub const SPIKE_CONNECTIONS_MIN: usize = 256;
    Count per Shard: "the shard looks every `SPIKE_LOOK_INTERVAL`"

    /// How often it looks. Giving back costs a few milliseconds, and half of the connections must have gone.
    pub const SPIKE_LOOK_INTERVAL: Duration = Duration::from_secs(1);
    Time per Shard: "freed memory is given back to the system"

    /// After this long below `SPIKE_CONNECTIONS_MIN`, of several tunnels to one destination without streams all but one end; and as long after
    /// that memory is given back once more. Who comes in larger waves than these pays for handshakes again.
    pub const SPIKE_REST: Duration = Duration::from_secs(3);
    Time per Shard: "tunnels that are not needed end"

    /// A TLS handshake is cut after this long, so that silent peers cannot pile up.
    pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
    Time per Tunnel: "the connection is reset"

    /// A peer that has opened a tunnel to a workload here has a connection to carry: one that opens no stream for this
    /// long only holds what the tunnel costs.
    pub const FIRST_STREAM_TIMEOUT: Duration = Duration::from_secs(5);
    Time per Tunnel: "the tunnel is asked to end, and cut after `LEAVE_TIMEOUT`"

    /// How long a peer that was asked to end an idle tunnel may take to leave.
    pub const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
    Time per Tunnel: "the tunnel is closed"

    /// How long an opened stream waits for the CONNECT answer: the peer dials the application for up to `DIAL_TIMEOUT`
    /// before it answers, so this must be longer.
    pub const CONNECT_RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);
    Time per Stream: "the connection is reset"

    /// How long a new connection waits for its own workload or its certificate to become known.
    pub const WORKLOAD_TIMEOUT: Duration = Duration::from_secs(5);
    Time per Stream: "the connection is reset, or its request answered 503"

    /// How long a withdrawal waits until the connections that it cut are closed. Then the workload's redirect rules may
    /// go: without them the kernel translates nothing any more, and whoever was not told by then of its end never is.
    pub const WITHDRAWAL_TIMEOUT: Duration = Duration::from_secs(2);
    Time per Workload: "the rules are taken away all the same"

    /// How long a connection waits for a policy that its workload names and nobody has told us of: the workload may have
    /// been told a moment earlier.
    pub const POLICY_TIMEOUT: Duration = Duration::from_secs(1);
    Time per Stream: "the connection is refused"

    /// Envoy waypoints advertise 100 and ztunnel never uses more.
    pub const STREAMS_PER_TUNNEL_MAX: u16 = 100;
    Count per Tunnel: "one more tunnel is opened"

    /// Tunnels from one shard to one destination. With 100 streams each this carries 102,400 connections.
    pub const TUNNELS_PER_DESTINATION_MAX: usize = 1024;
    Count per Destination: "the new connection is reset"

    /// Tunnels that are still being dialled: a storm of connections opens tunnels at the pace at which handshakes
    /// complete, not one for each.
    pub const DIALS_PER_DESTINATION_MAX: usize = 1;
    Count per Destination: "the connection waits for the dial that is under way"

    /// A TCP connection that is silent for this long, with nothing on its way, is asked whether its peer is still there
    /// (`TCP_KEEPIDLE`).
    pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
    Time per Stream: "its peer is asked; the connection goes on"

    /// How long such a question waits for its answer (`TCP_KEEPINTVL`).
    pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
    Time per Stream: "it is asked again"

    /// Questions in a row without an answer (`TCP_KEEPCNT`): a peer that is gone is noticed after 50 seconds, and a network
    /// may be gone for 20.
    pub const KEEPALIVE_PROBES_MAX: u32 = 4;
    Count per Stream: "the connection ends, on both sides, as an abort"

    /// A stream whose application's socket has taken nothing for this long stands still: while its workload holds three quarters of `bufferBytesPerWorkload` (or
    /// its process of `bufferBytesPerProcess`), those streams are reset that have stood still longest.
    pub const STALLED_PATIENCE: Duration = Duration::from_secs(10);
    Time per Stream: "it may have to make room"

    /// How often it is looked who stands still, while anybody may.
    pub const STALLED_LOOK_INTERVAL: Duration = Duration::from_secs(1);
    Time per Workload: "room is made"

    /// The pause before what a peer has not acknowledged is sent again grows to this (`TCP_RTO_MAX_MS`; before Linux 6.15 to
    /// 120 s). With `net.ipv4.tcp_retries2` at 15, as it usually is, a peer that is gone is given up within a minute instead
    /// of a quarter of an hour. One that answers and takes nothing is never given up by it.
    pub const RESEND_PAUSE_MAX: Duration = Duration::from_secs(4);
    Time per Stream: "it is sent again"

    /// A tunnel without streams is kept this long for the next connection.
    pub const TUNNEL_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
    Time per Tunnel: "the tunnel ends in order"

    /// The same once the workload or the whole process is ending: just long enough for a connection that is being
    /// opened in it.
    pub const ENDING_TUNNEL_IDLE_TIMEOUT: Duration = Duration::from_millis(50);
    Time per Tunnel: "the tunnel ends in order"

    /// How often the certificates of open tunnels are held against the clock although none is known to be due: the clock
    /// itself may be set. Below the five seconds in which a tunnel must be cut after its end.
    pub const TUNNEL_RECHECK_INTERVAL: Duration = Duration::from_secs(4);
    Time per Shard: "the tunnels are judged again"

    /// A tunnel takes no new streams for about this long before a certificate of it ends, or for a tenth of what the
    /// certificate had left, if that is less.
    pub const TUNNEL_FAREWELL_MAX: Duration = Duration::from_secs(10 * 60);
    Time per Tunnel: "one more tunnel is opened"

    /// How long a tunnel may be without a certificate of its own identity. A workload that is withdrawn loses both, and
    /// its connections end by that.
    pub const IDENTITY_GONE_PATIENCE: Duration = Duration::from_secs(1);
    Time per Tunnel: "the tunnel is cut"

    /// Tunnels that are judged again in one turn of the shard's loop. Nearly always that is comparing some names; where
    /// signatures are verified it takes up to 0.5 ms each.
    pub const RECHECKED_PER_TURN: usize = 8;
    Count per Shard: "the next turn goes on"

    /// A tunnel on which one stream moved this much within `BULK_WINDOW` carries bulk.
    pub const BULK_BYTES: u64 = 1 << 20;
    Bytes per Stream: "the tunnel gets no new streams while it lasts"

    /// The window in which `BULK_BYTES` are counted.
    pub const BULK_WINDOW: Duration = Duration::from_millis(100);
    Time per Stream: "counting begins anew"

    /// Streams to one destination from which on it counts as busy, while its home shard has much to do.
    pub const BUSY_STREAMS: usize = 8;
    Count per Destination: "every shard opens its own tunnel to it"

    /// The same while its home shard has little to do. Streams that share a tunnel share records, writes and wake-ups:
    /// 64 connections cost a fifth less on one shard than on two.
    pub const BUSY_STREAMS_WHEN_QUIET: usize = 64;
    Count per Destination: "every shard opens its own tunnel to it"

    /// A step of a handshake costs up to 0.35 ms, the longest thing a shard does; a turn of its own costs next to
    /// nothing beside that.
    pub const HANDSHAKE_STEPS_PER_TURN: usize = 1;
    Count per Shard: "the handshake waits for a later turn; workloads take turns"

    /// A handshake that has waited less than this for its peer is left alone, however many there are: an honest peer
    /// at the other end of the world answers in less.
    pub const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(1);
    Time per Tunnel: "it may be cut to make room for another"

    /// How often accepting looks for room again while it holds back.
    pub const ADMISSION_PAUSE: Duration = Duration::from_millis(10);
    Time per Workload: "it looks again"

    /// Bytes of a handshake a peer may send before its records are dealt with.
    pub const HANDSHAKE_RECEIVE_BYTES_MAX: usize = 64 * 1024;
    Bytes per Tunnel: "the handshake is not read further"

    /// Sealed bytes a tunnel holds while its socket takes no more.
    pub const TUNNEL_BACKLOG_BYTES_MAX: usize = 512 * 1024;
    Bytes per Tunnel: "its streams stop reading their applications"

    /// The same while its workload's buffers are used up: one record and a bit, so that every tunnel goes on.
    pub const TUNNEL_BACKLOG_BYTES_SCARCE: usize = 20 * 1024;
    Bytes per Tunnel: "its streams stop reading their applications"

    /// Bytes that a tunnel inside another holds, in each direction, until the outer one takes them, or it has read
    /// them: some reads' worth.
    pub const INNER_TUNNEL_BYTES_MAX: usize = 128 * 1024;
    Bytes per Tunnel: "whoever would write more waits"

    /// In such steps what is held so counts for its workload: less than one is not counted, so that messages which pass at once touch nothing
    /// that shards share.
    pub const PAIR_ACCOUNT_STEP_BYTES: usize = 16 * 1024;
    Bytes per Tunnel: "it counts"

    /// Tasks of one workload that are polled before the next workload's turn. More than one, because tasks of one
    /// workload often share a tunnel, and what they send in one turn leaves in one write.
    pub const TENANT_TASKS_MAX: usize = 8;
    Count per Workload: "the next workload's turn"

    /// Tasks of one turn of a shard's loop.
    pub const TASKS_PER_TURN_MAX: usize = 1024;
    Count per Shard: "the reactor is asked who else is ready; the rest goes on in the next turn"

    /// The same while workloads share the shard: whoever becomes ready is seen sooner.
    pub const TASKS_PER_SHARED_TURN_MAX: usize = 128;
    Count per Shard: "the reactor is asked who else is ready; the rest goes on in the next turn"

    /// Bytes after which a turn ends while workloads share the shard: who has bulk to move delays the others by that
    /// much.
    pub const BYTES_PER_SHARED_TURN_MAX: usize = 64 * 1024;
    Bytes per Shard: "the reactor is asked who else is ready; the workload whose turn it was goes on behind the others"

    /// Turns for which a shard counts as shared after two workloads had tasks ready at once: about a tenth of a second
    /// where bulk is moved, so that one which asks twenty times a second meets no long turn.
    pub const SHARED_TURNS: u64 = 2048;
    Count per Shard: "turns and visits may be long again"

    /// Bytes that a workload moves in one turn to count as one with bulk to move.
    pub const BULK_BYTES_MIN: usize = 32 * 1024;
    Bytes per Workload: "it has no turns before the others"

    /// Turns for which it counts so.
    pub const BULK_TURNS: u64 = 2048;
    Count per Workload: "it has turns before those who have bulk to move again"

    /// Bytes one visit to a connection may move before the next connection's turn.
    pub const VISIT_BYTES_MAX: usize = 512 * 1024;
    Bytes per Stream: "the next connection's turn"

    /// The same while workloads share the shard.
    pub const SHARED_VISIT_BYTES_MAX: usize = 64 * 1024;
    Bytes per Stream: "the next connection's turn"

    /// A message up to this size is copied into the tunnel's shared record, so that the frames of many small streams
    /// leave in one record and one write; a larger one is sealed where it was read. All that leaves room in a record: a copy of it costs a tenth of
    /// a write.
    pub const COALESCE_BYTES_MAX: usize = 16_374;
    Bytes per Stream: "the message is sealed where it was read"

    /// So much of one turn leaves before the turn's end: what is larger fits no spare buffer.
    pub const COALESCED_BYTES_MAX: usize = 48 * 1024;
    Bytes per Tunnel: "it is written at once"

    /// What is read at once of a plain connection while its workload may hold no more.
    pub const SCARCE_VISIT_BYTES_MAX: usize = 4096;
    Bytes per Stream: "the next connection's turn"

    /// A read of a plain direction from this size on is one of bulk. A relay that keeps up with its sender seldom finds
    /// more at once.
    pub const BULK_READ_BYTES_MIN: usize = 32 * 1024;
    Bytes per Stream: "the read counts as one of bulk"

    /// Bytes of bulk in a row after which a plain direction changes to splicing.
    pub const SPLICE_AFTER_BYTES: usize = 1024 * 1024;
    Bytes per Stream: "the direction is spliced"

    /// Pipes one shard splices through at a time. Pages in pipes count against a bound of the system, 64 MiB per user
    /// by default.
    pub const PIPES_MAX: usize = 32;
    Count per Shard: "a direction that finds none goes on copying"

    /// Access records waiting to be written: more than a second of the busiest host. When half of the places are taken,
    /// each workload may have its even share of the others, so that one of them cannot cost the others their lines.
    pub const ACCESS_RECORDS_MAX: usize = 16_384;
    Count per Process: "records are lost, and counted; `ringway_limit_reached_total` calls it `accessRecords`"

    /// Requests of waypoints and gateways, more than a tenth of a second of the busiest.
    pub const REQUEST_RECORDS_MAX: usize = 16_384;
    Count per Process: "records are lost, and counted"

    /// Copies of requests whose outcome waits to be counted.
    pub const MIRROR_RECORDS_MAX: usize = 2048;
    Count per Process: "they are not compared, and counted"

    /// Requests that passed because a service outside did not answer, waiting to be summed up for the log.
    pub const FAILED_OPEN_RECORDS_MAX: usize = 1024;
    Count per Process: "they are counted only"

    /// Hostnames, and names of workloads and services, that connections wait for and control has not yet looked at: it looks
    /// many times a second.
    pub const WANTED_NAMES_MAX: usize = 1024;
    Count per Process: "the connection waits in vain; the next one asks again"

    /// Things one connection asks the control plane about, one after the other: the destination, each of its waypoints, the
    /// gateways to them.
    pub const LOOKUPS_MAX: usize = 8;
    Count per Stream: "the decision is made on what is known then"

    /// How long a client of the SOCKS5 port may take to say what it wants.
    pub const SOCKS5_TIMEOUT: Duration = Duration::from_secs(10);
    Time per Stream: "the connection is closed"

    /// Distinct label sets one shard keeps counters for.
    pub const SERIES_MAX: usize = 20_000;
    Count per Shard: "a connection is counted under the label set in which every name is `unknown`"

    /// Distinct callers and hostnames of workloads without an address that one shard keeps counters for.
    pub const HOSTNAME_SERIES_MAX: usize = 5_000;
    Count per Shard: "a connection is counted under the label set in which every name is `unknown`"

    /// Messages waiting for one shard (commands from control, connections handed over by others).
    pub const MAILBOX_MAX: usize = 1024;
    Count per Shard: "a connection stays where it was accepted; control tries again"

    /// Open connections that are judged again, after a change of policies, before the shard's other work has its turn: a
    /// fraction of a millisecond.
    pub const JUDGED_PER_SLICE: usize = 256;
    Count per Shard: "the other work has its turn"

    /// Sockets that are closed, when policies have cut many connections at once, before the shard's other work has its
    /// turn: half a millisecond.
    pub const CLOSED_PER_SLICE: usize = 64;
    Count per Shard: "the other work has its turn"

    /// The same while connections are still to be cut, which comes first: so few that it does not delay them, and not
    /// none, so that no connection that takes long keeps the sockets of the others.
    pub const CLOSED_AMID_CUTS: usize = 4;
    Count per Shard: "the other work has its turn"

    /// Connections that have opened, and words of policies, waiting to be written for who listens to them; so many of each.
    pub const EARLY_RECORDS_MAX: usize = 1024;
    Count per Process: "they are lost, and counted with the access records"

    /// Outcomes of policies on dry run waiting to be written.
    pub const DRY_RUN_RECORDS_MAX: usize = 1024;
    Count per Process: "they are counted only"

    /// Identities that connections wait for and control has not looked at yet.
    pub const WANTED_IDENTITIES_MAX: usize = 1024;
    Count per Process: "the connection waits on, but its certificate is asked for no sooner than others"

    /// A shard tells control once in this time that connections wait for an identity, however many do: those of one
    /// workload must not keep control from hearing of another's. Control looks as often.
    pub const WANTED_AGAIN_PAUSE: Duration = Duration::from_millis(50);
    Time per Shard: "the connection waits with the others"

    /// A turn of a shard's loop lasts microseconds. One that lasts this long does not end by itself.
    pub const SHARD_TURN_MAX: Duration = Duration::from_secs(5);
    Time per Shard: "the error names what the shard does, and the service manager gets no more signs of life"

    /// Who only looks (metrics, `config_dump`) waits so long for a shard's answer: one that is stuck must not keep the
    /// others from being seen.
    pub const SHARD_LOOK_TIMEOUT: Duration = Duration::from_secs(1);
    Time per Shard: "it is left out of what is told; its counters stay where they were"

    /// A new process that was started to take over says hello within this time, or it is none that can.
    pub const HANDOVER_HELLO_TIMEOUT: Duration = Duration::from_secs(5);
    Time per Process: "the new process is ended, and the old one goes on"

    /// A new process is ready to take over within this time after its hello: the largest configurations load in a few
    /// seconds.
    pub const HANDOVER_READY_TIMEOUT: Duration = Duration::from_secs(30);
    Time per Process: "the new process is ended, and the old one goes on"

    /// The old process gathers what it gives, and the new one waits for it, this long.
    pub const HANDOVER_GATHERING_TIMEOUT: Duration = Duration::from_secs(20);
    Time per Process: "the new process ends, and the old one goes on"

    /// Every other answer between the two processes of a hand-over comes within this time.
    pub const HANDOVER_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
    Time per Process: "the hand-over fails"

    /// How soon the old process looks again for connections that can be moved, while there are none.
    pub const HANDOVER_LOOK_INTERVAL: Duration = Duration::from_millis(10);
    Time per Process: "it looks again"

    /// Live connections of one shard that are between two processes at a time: few, so that none waits long for the
    /// others.
    pub const HANDOVER_CONNECTIONS_MAX: usize = 32;
    Count per Shard: "the others follow"

    /// Descriptors of one frame between the two processes; the kernel takes 253 at a time.
    pub const HANDOVER_DESCRIPTORS_MAX: usize = 250;
    Count per Process: "the others follow in another frame"

    /// Text of one frame between the two processes: a configuration that came by standard input is the longest.
    pub const HANDOVER_TEXT_BYTES_MAX: usize = 64 << 20;
    Bytes per Process: "the hand-over fails"

    /// Bytes that relays hold of the connections in one frame. One connection holds at most a pipe and a visit for each
    /// direction.
    pub const HANDOVER_RAW_BYTES_MAX: usize = 8 << 20;
    Bytes per Process: "the hand-over fails"

    /// Spare buffers one shard keeps for tunnels that have something to send.
    pub const SPARE_BUFFERS_MAX: usize = 64;
    Count per Shard: "the buffer is freed"

    /// A spare buffer larger than this is given back to the allocator instead of being kept.
    pub const SPARE_BUFFER_BYTES_MAX: usize = 72 * 1024;
    Bytes per Shard: "the buffer is freed"
}

// What must hold between them.
const _: () = assert!(CONNECT_RESPONSE_TIMEOUT.as_secs() > DIAL_TIMEOUT.as_secs());
const _: () = assert!(ENDPOINT_PATIENCE.as_secs() < DIAL_TIMEOUT.as_secs());
// A peer that is gone is noticed within a minute.
const _: () = assert!(
    KEEPALIVE_IDLE.as_secs() + KEEPALIVE_INTERVAL.as_secs() * (KEEPALIVE_PROBES_MAX as u64) < 60
);
const _: () = assert!(POLICY_TIMEOUT.as_secs() < WORKLOAD_TIMEOUT.as_secs());
const _: () = assert!(
    WORKLOAD_TIMEOUT.as_secs() + POLICY_TIMEOUT.as_secs() < CONNECT_RESPONSE_TIMEOUT.as_secs()
);
const _: () = assert!(HTTP2_FIRST_PIECE_BYTES_MAX <= HTTP2_SEND_BYTES_MAX);
const _: () = assert!(BUSY_STREAMS < BUSY_STREAMS_WHEN_QUIET);
// The table of destinations counts no further.
const _: () = assert!(BUSY_STREAMS_WHEN_QUIET <= u8::MAX as usize);
const _: () = assert!(SCARCE_VISIT_BYTES_MAX <= SHARED_VISIT_BYTES_MAX);
const _: () = assert!(COALESCED_BYTES_MAX + COALESCE_BYTES_MAX <= SPARE_BUFFER_BYTES_MAX);
const _: () = assert!(INNER_TUNNEL_BYTES_MAX.is_multiple_of(PAIR_ACCOUNT_STEP_BYTES));
const _: () = assert!(STALLED_LOOK_INTERVAL.as_millis() < STALLED_PATIENCE.as_millis());
// A visit to a tunnel takes a record at least.
const _: () = assert!(SHARED_VISIT_BYTES_MAX >= 32 * 1024);
const _: () = assert!(TASKS_PER_SHARED_TURN_MAX <= TASKS_PER_TURN_MAX);
const _: () = assert!(SPLICE_AFTER_BYTES > VISIT_BYTES_MAX);
const _: () = assert!(2 * HANDOVER_CONNECTIONS_MAX <= HANDOVER_DESCRIPTORS_MAX);
const _: () = assert!(2 * ((1 << 20) + VISIT_BYTES_MAX) <= HANDOVER_RAW_BYTES_MAX);
const _: () = assert!(TUNNEL_BACKLOG_BYTES_SCARCE < TUNNEL_BACKLOG_BYTES_MAX);
const _: () = assert!(HANDSHAKE_PATIENCE.as_secs() < HANDSHAKE_TIMEOUT.as_secs());
