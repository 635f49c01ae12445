"""What the hostile clients share: mutual TLS, HTTP/2 frames, and the command line.

None of it is Ringway's: TLS is OpenSSL's or tlslite-ng's, frames are hyperframe's, header blocks
hpack's.
"""

import argparse
import functools
import json
import socket
import ssl
import sys
import time

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EMPTY_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def arguments(description):
    """A parser that knows what every client is told."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--target", required=True, help="address:port of tunnels")
    parser.add_argument("--plain", action="store_true", help="without TLS, as a user of a waypoint")
    for name in ("--certificate", "--key", "--roots"):
        parser.add_argument(name, required="--plain" not in sys.argv)
    return parser


def address(told):
    host, _, port = told.target.rpartition(":")
    return host, int(port)


def tell(**outcome):
    """The line that the row reads."""
    print(json.dumps(outcome), flush=True)


def context(told):
    """Mutual TLS 1.3; the name of a workload is not one of DNS."""
    return context_of(told.certificate, told.key, told.roots)


@functools.cache
def context_of(certificate, key, roots):
    """Files are read once: who connects thousands of times has no time for more."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.load_verify_locations(roots)
    made.load_cert_chain(certificate, key)
    made.set_alpn_protocols(["h2"])
    return made


def connect(told, made=None, timeout=10.0):
    """A connection after its handshake."""
    plain = socket.create_connection(address(told), timeout=timeout)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if told.plain:
        return plain
    return (made or context(told)).wrap_socket(plain, server_hostname="name.invalid")


def frame(kind, flags=0, stream=0, payload=b""):
    """One frame as it is on the wire, legal or not (RFC 9113 section 4.1)."""
    return (
        len(payload).to_bytes(3, "big")
        + bytes([kind, flags])
        + stream.to_bytes(4, "big")
        + payload
    )


def literal(name, value):
    """One field, without compression and not indexed (RFC 7541 section 6.2.2)."""

    def text(data):
        length, prefix = len(data), b""
        if length < 127:
            prefix = bytes([length])
        else:
            length -= 127
            prefix = b"\x7f"
            while length >= 128:
                prefix += bytes([length % 128 + 128])
                length //= 128
            prefix += bytes([length])
        return prefix + data

    return b"\x00" + text(name) + text(value)


def connect_block(authority):
    """The header block of a CONNECT request."""
    return literal(b":method", b"CONNECT") + literal(b":authority", authority.encode())


def request_block(authority, method="POST", path="/abused"):
    """The header block of a request as users of a waypoint send it."""
    values = (("method", method), ("scheme", "http"), ("path", path), ("authority", authority))
    fields = ((f":{name}".encode(), value.encode()) for name, value in values)
    return b"".join(literal(name, value) for name, value in fields)


class Reader:
    """Frames that arrive, and how the connection ended."""

    def __init__(self, stream):
        self.stream = stream
        self.buffer = b""
        self.closed = None
        self.goaway = None

    def poll(self, seconds, awaited=None):
        """Frames that come within so many seconds, or until one of the awaited kind has come; at least one look."""
        frames = []
        until = time.monotonic() + seconds
        while self.closed is None:
            self.stream.settimeout(max(0.001, until - time.monotonic()))
            try:
                piece = self.stream.recv(65536)
            except (TimeoutError, ssl.SSLWantReadError):
                break
            except OSError as error:
                self.closed = type(error).__name__
                break
            if not piece:
                self.closed = "end"
                break
            self.buffer += piece
            frames += self.cut()
            if time.monotonic() >= until or any(kind == awaited for kind, *_ in frames):
                break
        return frames

    def cut(self):
        frames = []
        while len(self.buffer) >= 9:
            length = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + length:
                break
            kind, flags = self.buffer[3], self.buffer[4]
            stream = int.from_bytes(self.buffer[5:9], "big") & 0x7FFFFFFF
            payload = self.buffer[9 : 9 + length]
            self.buffer = self.buffer[9 + length :]
            if kind == 7 and len(payload) >= 8:
                self.goaway = int.from_bytes(payload[4:8], "big")
            frames.append((kind, flags, stream, payload))
        return frames


def status(block):
    """`:status` of a response that is the first of its connection, else of any that does not refer
    to earlier ones."""
    try:
        fields = hpack.Decoder().decode(block)
    except hpack.HPACKError:
        return None
    return dict(fields).get(":status")


class Decoder:
    """The responses of one connection, in order."""

    def __init__(self):
        self.decoder = hpack.Decoder()

    def status(self, block):
        return dict(self.decoder.decode(block)).get(":status")
