//! The bounds of waypoints and gateways.

use std::time::Duration;

ringway_protocols::bounds! {
    /// How long a connection to a port whose protocol is not declared may be silent before it counts as one whose
    /// server speaks first: long against a client's own delay, short against a person's patience.
    pub const SNIFF_TIMEOUT: Duration = Duration::from_millis(100);
    Time per Stream: "the connection is passed on as TCP"

    /// Bytes that are looked at to tell what a connection speaks.
    pub const SNIFF_BYTES_MAX: usize = 17 * 1024;
    Bytes per Stream: "the connection is passed on as TCP"

    /// How long it is remembered that the servers behind a port speak first.
    pub const SERVER_FIRST_TIME: Duration = Duration::from_secs(60);
    Time per Destination: "the next connection is waited for again"

    /// Ports of which one pod remembers that, on each shard.
    pub const SERVER_FIRST_MAX: usize = 1024;
    Count per Workload: "all are forgotten, and found out again"

    /// Of a request's or an answer's head. Envoy allows 60 KiB.
    pub const HTTP_HEAD_BYTES_MAX: usize = 64 * 1024;
    Bytes per Stream: "a request is answered 431, an answer 502"

    /// Header lines of a head.
    pub const HTTP_HEADERS_MAX: usize = 100;
    Count per Stream: "a request is answered 431, an answer 502"

    /// From the first byte of an HTTP/1 head to its last.
    pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(30);
    Time per Stream: "the connection is closed"

    /// How long a client's connection may have no request under way.
    pub const HTTP_IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
    Time per Stream: "the connection ends in order"

    /// Requests of one HTTP/2 connection of a client.
    pub const HTTP2_STREAMS_MAX: u32 = 250;
    Count per Stream: "a further one is refused with REFUSED_STREAM"

    /// What a peer may send on one HTTP/2 stream before it is passed on; a client four times that on all of a connection, a backend that on each.
    pub const HTTP2_WINDOW_BYTES: u32 = 256 * 1024;
    Bytes per Stream: "the peer waits"

    /// What is held for one HTTP/2 stream that its peer does not take.
    pub const HTTP2_SEND_BYTES_MAX: usize = 256 * 1024;
    Bytes per Stream: "the other side is not read further"

    /// Of a body, what is given to HTTP/2 before anybody has asked for room: few peers have none for it, and asking takes
    /// longer than it is worth.
    pub const HTTP2_FIRST_PIECE_BYTES_MAX: usize = 16 * 1024;
    Bytes per Stream: "it waits until the peer has room"

    /// Streams that a client has reset and that are still to be looked at (rapid reset).
    pub const HTTP2_RESETS_PENDING_MAX: usize = 20;
    Count per Stream: "the connection is closed with ENHANCE_YOUR_CALM"

    /// Streams of one connection that were reset here because of what the client sent. Each is a request that may have gone out
    /// already, and none comes of traffic that HTTP/2 allows.
    pub const HTTP2_RESETS_LOCAL_MAX: usize = 128;
    Count per Stream: "the connection is closed with ENHANCE_YOUR_CALM"

    /// How long a client may take its last bytes after its connection has ended here.
    pub const HTTP_LINGER_TIME: Duration = Duration::from_secs(60);
    Time per Stream: "the rest is given up, and the stream reset"

    /// How long what a client still sends is taken and forgotten after a head that was refused: who closes with bytes unread
    /// resets the connection, and the client may never read why (RFC 9112 §9.6).
    pub const HTTP_REFUSED_LINGER_TIME: Duration = Duration::from_secs(2);
    Time per Stream: "the connection is closed, or reset if there is more"

    /// Of a request's body, kept to be sent once more.
    pub const REPLAY_BYTES_MAX: usize = 256 * 1024;
    Bytes per Stream: "the request is not tried again"

    /// The same for all requests of a pod on one shard.
    pub const REPLAY_BYTES_PER_SHARD_MAX: usize = 32 << 20;
    Bytes per Shard: "further requests are not tried again"

    /// Tries of one request beside the first, whatever a rule says.
    pub const RETRIES_MAX: u32 = 16;
    Count per Stream: "the request is answered with what the last try came to"

    /// Connections without a request that are kept to one endpoint.
    pub const UPSTREAM_IDLE_MAX: usize = 128;
    Count per Destination: "a further one is closed"

    /// How long such a connection is kept: less than the minute that servers keep theirs.
    pub const UPSTREAM_IDLE_TIME: Duration = Duration::from_secs(45);
    Time per Destination: "the connection is closed"

    /// Requests of one HTTP/2 connection to an endpoint.
    pub const UPSTREAM_STREAMS_MAX: usize = 100;
    Count per Destination: "one more connection is opened"

    /// How long a request waits to be woken for a connection to a service that may have no more: what other shards give
    /// back wakes nobody.
    pub const UPSTREAM_ROOM_TIME: Duration = Duration::from_millis(5);
    Time per Stream: "it looks again"

    /// Of a TLS client's first message, and of one read after it.
    pub const CLIENT_HELLO_BYTES_MAX: usize = 64 * 1024;
    Bytes per Stream: "the connection is reset"

    /// Of a TLS client's later messages that are read at once: what it says after its handshake fits into a record, and so
    /// into the session.
    pub const HANDSHAKE_READ_BYTES_MAX: usize = 16 * 1024;
    Bytes per Stream: "the rest is read later"

    /// Certificates of listeners that a shard keeps ready.
    pub const TERMINATORS_MAX: usize = 1024;
    Count per Shard: "all are made anew as they are needed"

    /// Settings of TLS to backends that a shard keeps ready.
    pub const ORIGINATORS_MAX: usize = 1024;
    Count per Shard: "all are made anew as they are needed"

    /// Copies of requests that are under way, of one pod on one shard.
    pub const MIRRORED_MAX: usize = 256;
    Count per Workload: "further requests are not copied"

    /// How long a copy may take, its answer included.
    pub const MIRRORED_TIMEOUT: Duration = Duration::from_secs(15);
    Time per Stream: "the copy is given up"

    /// Interim answers of an HTTP/1 backend that are not looked at yet.
    pub const INTERIM_ANSWERS_MAX: usize = 16;
    Count per Stream: "further ones are left out"

    /// Interim answers to one request over HTTP/2: whether its client takes them cannot be seen.
    pub const HTTP2_INTERIM_ANSWERS_MAX: usize = 64;
    Count per Stream: "further ones are left out"

    /// Interim answers that a client over HTTP/1 has not taken yet: one head as large as heads may be, and what was there;
    /// over HTTP/2, all of one request.
    pub const INTERIM_BYTES_MAX: usize = HTTP_HEAD_BYTES_MAX;
    Bytes per Stream: "further ones are left out"

    /// Of a body that is compared with what a mirror answered: most bodies are shorter, and hashing as much takes a shard
    /// less than a millisecond.
    pub const MIRROR_DIGEST_BYTES: usize = 256 * 1024;
    Bytes per Stream: "what follows is compared by its length only"

    /// Of the path of a copied request.
    pub const MIRROR_PATH_BYTES_MAX: usize = 256;
    Bytes per Stream: "samples show its beginning"

    /// Services outside, authorizers and rate limits, that are being asked, of one pod on one shard.
    pub const OUTSIDE_CALLS_MAX: usize = 1024;
    Count per Workload: "a further one counts as not answered"

    /// Of what such a service answers: a denial may be a page.
    pub const OUTSIDE_ANSWER_BYTES_MAX: usize = 256 * 1024;
    Bytes per Stream: "a denial is given without its body; anything else counts as not answered"

    /// How long a client may take for the part of a body that an external authorizer is to have.
    pub const OUTSIDE_BODY_TIME: Duration = Duration::from_secs(30);
    Time per Stream: "the request is answered 408"

    /// How long an external authorizer may take when its provider does not say it. Istio waits for ten minutes, which no
    /// client does.
    pub const OUTSIDE_AUTHORIZATION_TIMEOUT: Duration = Duration::from_secs(1);
    Time per Stream: "the request is refused with `statusOnError`, or passes by `failOpen`"

    /// How long a rate limit service may take when its policy does not say it: longer than two hosts are apart.
    pub const OUTSIDE_RATE_LIMIT_TIMEOUT: Duration = Duration::from_millis(100);
    Time per Stream: "the request passes, or is answered 500 without `failOpen`"

    /// What a document may say of either: all that while a client waits, and the call takes one of the thread's places.
    pub const OUTSIDE_TIMEOUT_MAX: Duration = Duration::from_secs(60);
    Time per Process: "the configuration is refused"

    /// Of a key set that is fetched, or of the configuration of an issuer: a few hundred keys with their certificates.
    pub const TOKEN_KEYS_BYTES_MAX: usize = 1 << 20;
    Bytes per Process: "the fetch has failed: keys that were there stay, and without any the issuer's tokens are refused"

    /// How long such a fetch may take when its rule does not say it.
    pub const TOKEN_KEYS_TIMEOUT: Duration = Duration::from_secs(5);
    Time per Process: "the fetch has failed, as above"

    /// What a rule may say of that.
    pub const TOKEN_KEYS_TIMEOUT_MAX: Duration = Duration::from_secs(60);
    Time per Process: "the configuration is refused"

    /// How long keys are used before they are fetched again: as long as Envoy keeps them.
    pub const TOKEN_KEYS_REFRESH: Duration = Duration::from_secs(5 * 60);
    Time per Process: "they are fetched again"

    /// The same for a file, which costs next to nothing to read.
    pub const TOKEN_KEYS_REFRESH_FILE: Duration = Duration::from_secs(5);
    Time per Process: "it is read again"

    /// The pause after a fetch that failed, twice as long after each further one.
    pub const TOKEN_KEYS_RETRY_MIN: Duration = Duration::from_secs(1);
    Time per Process: "they are fetched again"

    /// The longest such pause.
    pub const TOKEN_KEYS_RETRY_MAX: Duration = Duration::from_secs(60);
    Time per Process: "they are fetched again"

    /// How long a backend may take to answer `Expect: 100-continue` (RFC 9110 §10.1.1).
    pub const CONTINUE_TIME: Duration = Duration::from_secs(1);
    Time per Stream: "the body is sent"
}
