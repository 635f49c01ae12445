"""Many peers that dawdle: each says its part of a handshake or request and then nothing, or next to
nothing. Tells how many were cut and when the last of them was."""

import selectors
import socket
import ssl
import time

import wire

# A peer that is not cut by then never is.
PATIENCE_SECONDS = 30.0

HELLO_BEGIN = b"\x16\x03\x01\x02\x00\x01"


def main():
    parser = wire.arguments(__doc__)
    parser.add_argument("--kind", required=True)
    parser.add_argument("--peers", type=int, required=True)
    told = parser.parse_args()
    made = wire.context(told)
    opened = {}
    for _ in range(told.peers):
        peer = introduce(told, made)
        peer.setblocking(False)
        opened[peer] = time.monotonic()
    print("all there", flush=True)
    cut = watch(opened, trickle(told.kind))
    last = max(cut, default=None)
    wire.tell(cut=len(cut), last_cut_seconds=last, first_cut_seconds=min(cut, default=None))


def introduce(told, made):
    """What a peer of this kind says before it falls silent."""
    if told.kind in ("silent", "partial-hello"):
        peer = socket.create_connection(wire.address(told), timeout=10.0)
        if told.kind == "partial-hello":
            peer.sendall(HELLO_BEGIN)
        return peer
    peer = wire.connect(told, made)
    if told.kind == "preface-only":
        peer.sendall(wire.PREFACE)
    elif told.kind == "idle":
        # Without a stream it would be asked to leave.
        block = wire.connect_block(f"{wire.address(told)[0]}:8080")
        peer.sendall(wire.PREFACE + wire.EMPTY_SETTINGS + wire.frame(1, 4, 1, block))
    elif told.kind == "header-trickle":
        # The head of a HEADERS frame of a hundred bytes, which then come one by one.
        head = wire.frame(1, 4, 1, bytes(100))[:9]
        peer.sendall(wire.PREFACE + wire.EMPTY_SETTINGS + head)
    elif told.kind != "tls-silence":
        raise SystemExit(f"no kind of peer is called {told.kind}")
    return peer


def trickle(kind):
    """The byte that is sent once a second, if any."""
    return b"\x00" if kind == "header-trickle" else None


def watch(opened, drop):
    """Seconds after its beginning at which each peer was cut."""
    selector = selectors.DefaultSelector()
    for peer in opened:
        selector.register(peer, selectors.EVENT_READ)
    began = next_drop = time.monotonic()
    cut = []
    while opened and time.monotonic() - began < PATIENCE_SECONDS:
        for key, _ in selector.select(0.2):
            if ended(key.fileobj):
                selector.unregister(key.fileobj)
                cut.append(time.monotonic() - opened.pop(key.fileobj))
                key.fileobj.close()
        if drop and time.monotonic() >= next_drop:
            next_drop = time.monotonic() + 1.0
            for peer in opened:
                try:
                    peer.send(drop)
                except OSError:
                    # Its end is seen by the read.
                    pass
    return cut


def ended(peer):
    try:
        while True:
            if not peer.recv(65536):
                return True
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True


main()
