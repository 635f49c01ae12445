//! The bounds of the DNS proxy.

use std::time::Duration;

ringway_protocols::bounds! {
    /// Queries of one workload that wait for somebody: for a name server, or for the workload itself to become known. A
    /// resolver has two or three on their way for each name it looks up.
    pub const DNS_WAITING_PER_WORKLOAD_MAX: usize = 256;
    Count per Workload: "a further query is answered SERVFAIL"

    /// Queries of all workloads that wait. Each has a socket of its own.
    pub const DNS_WAITING_PER_PROCESS_MAX: usize = 4096;
    Count per Process: "a further query is answered SERVFAIL"

    /// Connections over which one workload asks.
    pub const DNS_CONNECTIONS_PER_WORKLOAD_MAX: usize = 64;
    Count per Workload: "a further one is closed"

    /// Connections over which all workloads ask.
    pub const DNS_CONNECTIONS_PER_PROCESS_MAX: usize = 1024;
    Count per Process: "a further one is closed"

    /// Queries of one connection that wait for their answers.
    pub const DNS_PIPELINED_MAX: usize = 32;
    Count per Stream: "the connection is not read further"

    /// How long a connection may have nothing to ask, and how long it may not take an answer (RFC 7766 §6.2.3 leaves it to the
    /// server, and asks for seconds).
    pub const DNS_IDLE_TIMEOUT: Duration = Duration::from_secs(5);
    Time per Stream: "the connection is closed"

    /// How long one name server may take when `resolv.conf` does not say: a client's resolver waits five seconds for us, and
    /// another server should have been asked by then.
    pub const DNS_SERVER_TIMEOUT: Duration = Duration::from_secs(2);
    Time per Destination: "the next server is asked"

    /// The same when `resolv.conf` says more; also how long it may take to connect to one.
    pub const DNS_SERVER_TIMEOUT_MAX: Duration = Duration::from_secs(5);
    Time per Destination: "the next server is asked"

    /// How long a query may be on its way, over all servers and attempts. Clients have given up by then.
    pub const DNS_FORWARD_TIMEOUT: Duration = Duration::from_secs(10);
    Time per Stream: "the query is answered SERVFAIL"

    /// Name servers that are asked; the C library reads three.
    pub const DNS_SERVERS_MAX: usize = 3;
    Count per Process: "the others are not asked"

    /// A name server that could not be reached, or did not answer, is asked last for this long.
    pub const DNS_SERVER_AVOIDED_TIME: Duration = Duration::from_secs(10);
    Time per Destination: "it is asked in its turn again"

    /// Messages from a name server that answer another question than was asked. Somebody guesses.
    pub const DNS_REPLIES_REFUSED_MAX: usize = 64;
    Count per Stream: "the next server is asked"

    /// Names of workloads without an address that are remembered with what they resolve to.
    pub const DNS_RESOLUTIONS_MAX: usize = 4096;
    Count per Process: "the one that ends first is forgotten, and asked for again when it is needed"

    /// How long such a name holds at least, and one that does not resolve: a server that says zero must not be asked for
    /// every connection.
    pub const DNS_RESOLUTION_TTL_MIN: Duration = Duration::from_secs(1);
    Time per Process: "it is asked for again when it is needed"

    /// The same at most: what has moved is found after this long.
    pub const DNS_RESOLUTION_TTL_MAX: Duration = Duration::from_secs(300);
    Time per Process: "it is asked for again when it is needed"

    /// How often the control thread looks which hostnames connections wait for: part of what the first of them waits, and
    /// little beside the name server's answer.
    pub const HOSTNAMES_WANTED_INTERVAL: Duration = Duration::from_millis(100);
    Time per Process: "it looks again"

    /// Hostnames that are being asked for, of workloads without an address and of clients of the SOCKS5 port, who may name
    /// what they like. A query for each family, and each has a socket.
    pub const HOSTNAMES_ASKED_MAX: usize = 512;
    Count per Process: "others wait until one is answered, as do their connections"

    /// Of these, hostnames that are known and asked for again: connections wait for the others.
    pub const HOSTNAMES_ASKED_AGAIN_MAX: usize = 256;
    Count per Process: "the rest keep their addresses until their turn"

    /// How long a hostname's addresses are used before it is asked for again: as long as clients keep what is answered here.
    pub const HOSTNAME_AGE_MAX: Duration = Duration::from_secs(30);
    Time per Process: "it is asked for again; without an answer it keeps its addresses"

    /// How long a hostname that no connection goes by is asked for again: its workload may be gone.
    pub const HOSTNAME_UNUSED_MAX: Duration = Duration::from_secs(600);
    Time per Process: "it is forgotten, and asked for again when it is needed"

    /// Hostnames that are kept resolved; a mesh names a few dozen.
    pub const HOSTNAMES_MAX: usize = 4096;
    Count per Process: "those that no connection has gone by for longest, a sixteenth of all, are forgotten, and asked for again when they are needed"

    /// Distinct sets of labels that queries are counted under.
    pub const DNS_SERIES_MAX: usize = 4096;
    Count per Process: "queries are counted under the set in which workloads are `unknown`"
}

const _: () = assert!(HOSTNAMES_ASKED_AGAIN_MAX < HOSTNAMES_ASKED_MAX);
const _: () = assert!(HOSTNAMES_ASKED_MAX * 2 < DNS_RESOLUTIONS_MAX, "a query for each family");
const _: () =
    assert!(HOSTNAMES_ASKED_MAX < HOSTNAMES_MAX / 2, "what was just answered is not forgotten");
const _: () = assert!(HOSTNAME_AGE_MAX.as_secs() < HOSTNAME_UNUSED_MAX.as_secs());
const _: () = assert!(DNS_SERVER_TIMEOUT.as_secs() * 2 < DNS_SERVER_TIMEOUT_MAX.as_secs());
const _: () = assert!(DNS_SERVER_TIMEOUT_MAX.as_secs() <= DNS_FORWARD_TIMEOUT.as_secs());
const _: () = assert!(DNS_WAITING_PER_WORKLOAD_MAX * 4 < DNS_WAITING_PER_PROCESS_MAX);
const _: () = assert!(DNS_CONNECTIONS_PER_WORKLOAD_MAX * 4 < DNS_CONNECTIONS_PER_PROCESS_MAX);
