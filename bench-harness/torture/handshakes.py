"""TLS handshakes that are not as they should be: mutated, cut into pieces, of the wrong version,
without what is required. Each must end in an alert, a close or (where the mutation does no harm) an
answer, before the deadline of handshakes."""

import random
import selectors
import socket
import threading
import time

from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey

import wire

# The deadline of handshakes, and what a busy machine may add.
DEADLINE_SECONDS = 10.0
LATE_SECONDS = 5.0
AT_ONCE = 200


def main():
    parser = wire.arguments(__doc__)
    parser.add_argument("--mutated", type=int, required=True, help="how many ClientHellos")
    parser.add_argument("--authenticated", type=int, required=True, help="how many later flights")
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    client = Client(told)
    hello = client.hello()
    random_one = random.Random(told.seed)
    crowd = Crowd(wire.address(told))
    for _ in range(told.mutated):
        crowd.add("mutated", mutate(hello, random_one))
    for at in range(1, len(hello)):
        crowd.add("two segments", hello[:at], hello[at:])
    body = hello[5:]
    for at in range(1, len(body)):
        crowd.add("two records", record(body[:at]) + record(body[at:]))
    crowd.add("a record for each byte", b"".join(record(body[at : at + 1]) for at in range(len(body))))
    crowd.add("endless hello", record(b"\x01\xff\xff\xff" + bytes(16380)) * 20)
    crowd.add("SSLv2", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37))
    crowd.add("early data", hello + b"\x17\x03\x03\x40\x00" + bytes(16384))
    crowd.add("two hellos", hello + hello)
    crowd.run()
    later = client.later(told.authenticated, random_one)
    wrong = crowd.wrong() + client.specials()
    wire.tell(
        conversations=len(crowd.ended) + later["conversations"] + len(SPECIALS),
        outcomes=crowd.outcomes(),
        later=later,
        hangs=crowd.hangs() + later["hangs"],
        wrong=wrong,
    )


def record(payload):
    return b"\x16\x03\x01" + len(payload).to_bytes(2, "big") + payload


def mutate(hello, chance):
    """One to four changes: bits, bytes, pieces taken out, doubled or filled with noise."""
    data = bytearray(hello)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        length = chance.randint(1, 12)
        change = chance.randrange(7)
        if change == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif change == 1:
            data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif change == 2 and len(data) > length + 10:
            del data[at : at + length]
        elif change == 3:
            data[at:at] = data[at : at + length]
        elif change == 4:
            data[at:at] = chance.randbytes(length)
        elif change == 5:
            data[at : at + length] = chance.randbytes(min(length, len(data) - at))
        else:
            del data[max(at, 1) :]
    # In most cases the lengths outside are right again, so that what is inside is read.
    if chance.random() < 0.7 and len(data) > 9:
        data[3:5] = (len(data) - 5).to_bytes(2, "big")
        data[6:9] = (len(data) - 9).to_bytes(3, "big")
    return bytes(data)


class Crowd:
    """Many conversations at a time: what is sent, and how each ended."""

    def __init__(self, address):
        self.address = address
        self.waiting = []
        self.ended = []

    def add(self, name, *pieces):
        self.waiting.append((name, pieces))

    def run(self):
        selector = selectors.DefaultSelector()
        under_way = {}
        self.waiting.reverse()
        while self.waiting or under_way:
            while self.waiting and len(under_way) < AT_ONCE:
                name, pieces = self.waiting.pop()
                peer = socket.create_connection(self.address, timeout=10.0)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                under_way[peer] = (name, time.monotonic())
                try:
                    for piece in pieces:
                        peer.sendall(piece)
                        if len(pieces) > 1:
                            time.sleep(0.001)
                except OSError:
                    # It is cut already; the read tells.
                    pass
                peer.setblocking(False)
                selector.register(peer, selectors.EVENT_READ)
            for key, _ in selector.select(0.1):
                self.end(selector, under_way, key.fileobj, outcome(key.fileobj))
            now = time.monotonic()
            late = [p for p, (_, t) in under_way.items() if now - t > DEADLINE_SECONDS + LATE_SECONDS]
            for peer in late:
                self.end(selector, under_way, peer, "hang")

    def end(self, selector, under_way, peer, how):
        name, _ = under_way.pop(peer)
        self.ended.append((name, how))
        selector.unregister(peer)
        peer.close()

    def hangs(self):
        return sum(how == "hang" for _, how in self.ended)

    def outcomes(self):
        count = {}
        for _, how in self.ended:
            count[how] = count.get(how, 0) + 1
        return count

    def wrong(self):
        """A whole hello in pieces is as good as in one; rubbish is not answered with a handshake."""
        pieces = [n for n, how in self.ended if n in ("two segments", "two records") and how != "answer"]
        rubbish = [n for n, how in self.ended if n in ("SSLv2", "endless hello") and how == "answer"]
        return [f"{len(pieces)} whole hellos in pieces were not answered"] * bool(pieces) + rubbish


def outcome(peer):
    try:
        first = peer.recv(5)
    except OSError:
        return "reset"
    if not first:
        return "close"
    return {0x15: "alert", 0x16: "answer"}.get(first[0], "rubbish")


class Client:
    def __init__(self, told):
        self.address = wire.address(told)
        self.chain = X509CertChain()
        self.chain.parsePemList(open(told.certificate, encoding="ascii").read())
        self.key = parsePEMKey(open(told.key, encoding="ascii").read(), private=True)

    def shake(self, settings=None, alpn=(b"h2",), spoil=None, timeout=DEADLINE_SECONDS + LATE_SECONDS):
        """A handshake, and whether the server then goes on: it says so after our side is done."""
        plain = socket.create_connection(self.address, timeout=10.0)
        plain.settimeout(timeout)
        connection = TLSConnection(plain)
        if spoil:
            connection._sendMsg = spoil(connection._sendMsg)
        try:
            connection.handshakeClientCert(
                self.chain, self.key, settings=settings or modern(), alpn=list(alpn) or None
            )
            connection.write(wire.PREFACE + wire.EMPTY_SETTINGS)
            return "accepted" if connection.read(max=9, min=9) else "refused"
        except TimeoutError:
            return "hang"
        except Exception:  # whatever tlslite makes of a refusal
            return "refused"
        finally:
            plain.close()

    def hello(self):
        """The bytes of a ClientHello that is as it should be."""

        class Caught(Exception):
            pass

        class Recorder:
            def __init__(self):
                self.data = b""

            def send(self, data):
                self.data += bytes(data)
                return len(data)

            def sendall(self, data):
                self.data += bytes(data)

            def recv(self, _):
                raise Caught

            def close(self):
                pass

        recorder = Recorder()
        try:
            TLSConnection(recorder).handshakeClientCert(
                self.chain, self.key, settings=modern(), alpn=[b"h2"]
            )
        except Caught:
            pass
        return recorder.data

    def later(self, count, chance):
        """Handshakes whose encrypted flight is spoiled: certificate, its verification, the end."""
        outcomes = {"accepted": 0, "refused": 0, "hang": 0}
        for _ in range(count):
            outcomes[self.shake(spoil=spoiler(chance))] += 1
        return dict(conversations=count, hangs=outcomes["hang"], accepted=outcomes["accepted"])

    def specials(self):
        """Whole handshakes that must succeed or must not."""
        wrong = []
        for name, want, settings, alpn in SPECIALS:
            got = self.shake(settings(), alpn)
            if got != want:
                wrong.append(f"{name}: {got}, not {want}")
        return wrong


def spoiler(chance):
    """Changes one byte of one message of the second flight, before it is encrypted."""
    victim = chance.choice((0, 1, 2))
    seen = [0]

    def spoil(send):
        def sending(message, *rest, **named):
            if type(message).__name__ in ("Certificate", "CertificateVerify", "Finished"):
                if seen[0] == victim:
                    message = Spoiled(message, chance)
                seen[0] += 1
            return send(message, *rest, **named)

        return sending

    return spoil


class Spoiled:
    def __init__(self, message, chance):
        self.contentType = message.contentType
        data = bytearray(message.write())
        at = chance.randrange(len(data))
        data[at] ^= 1 << chance.randrange(8)
        if chance.random() < 0.2:
            del data[chance.randrange(1, len(data)) :]
        self.data = data

    def write(self):
        return self.data


def modern(**changes):
    settings = HandshakeSettings()
    settings.minVersion = settings.maxVersion = (3, 4)
    settings.eccCurves = settings.keyShares = ["secp256r1"]
    for name, value in changes.items():
        setattr(settings, name, value)
    return settings


def ciphers(name):
    return lambda: modern(cipherNames=[name])


def old():
    settings = HandshakeSettings()
    settings.minVersion = settings.maxVersion = (3, 3)
    return settings


SPECIALS = [
    ("as it should be", "accepted", modern, (b"h2",)),
    ("TLS 1.2", "refused", old, (b"h2",)),
    ("no ALPN", "refused", modern, ()),
    ("another ALPN", "refused", modern, (b"http/1.1",)),
    ("h2 among others", "accepted", modern, (b"http/1.1", b"h2")),
    ("AES-128-GCM", "accepted", ciphers("aes128gcm"), (b"h2",)),
    ("AES-256-GCM", "accepted", ciphers("aes256gcm"), (b"h2",)),
    ("ChaCha20-Poly1305", "refused", ciphers("chacha20-poly1305"), (b"h2",)),
    ("no key share at first", "accepted", lambda: modern(keyShares=[]), (b"h2",)),
]

main()
