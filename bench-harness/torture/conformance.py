"""The table of RFC 9113's sentences that the protocol's own tests keep, said once more to the real
server over a real socket: what a raw peer says, and what must come of it."""

import sys
import time

import wire

ECHO, STALL, RESET = 8080, 8091, 8092
HEADERS, RST, PING, GOAWAY = 1, 3, 6, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
ANSWER_SECONDS = 5.0
# The table's machine has small windows, for rows that overrun them; the real server's are larger.
WINDOW_BYTES = 65_000
PONG = (PING, ACK, 0, b"ABCDEFGH")


def main():
    parser = wire.arguments(__doc__)
    parser.add_argument("--table", required=True)
    told = parser.parse_args()
    made = wire.context(told)
    said, left_out, wrong = 0, 0, []
    for line in open(told.table, encoding="utf-8"):
        section, name, at, data, want = line.rstrip("\n").split("\t")
        data = bytes.fromhex(data)
        if "Client" in at or (len(data) > WINDOW_BYTES and data[3] == 0):
            left_out += 1
            continue
        row = Row(told, made)
        problem = row.say(at, data, want.split())
        row.stream.close()
        said += 1
        if problem:
            wrong.append(f"{section} {name} ({at}): {problem}")
    for problem in wrong:
        print(problem, file=sys.stderr)
    wire.tell(said=said, left_out=left_out, wrong=wrong)


class Row:
    def __init__(self, told, made):
        self.host = wire.address(told)[0]
        self.stream = wire.connect(told, made)
        self.reader = wire.Reader(self.stream)
        self.seen = []

    def say(self, at, data, want):
        """What is wrong with the answer, if anything."""
        try:
            self.arrange(at)
        except Unready as error:
            return f"cannot begin: {error}"
        self.seen = []
        try:
            self.stream.sendall(data)
        except OSError:
            # It may have heard enough before all is sent.
            pass
        kind, *rest = want
        if kind == "connection":
            self.until(lambda: self.reader.goaway is not None)
            code = int(rest[0])
            return None if self.reader.goaway == code else f"GOAWAY {self.reader.goaway}, not {code}"
        if kind == "stream":
            frame = (RST, int(rest[0]), int(rest[1]))
            resets = lambda: [(k, s, int.from_bytes(p, "big")) for k, _, s, p in self.seen if k == RST]
            self.until(lambda: frame in resets())
            if frame not in resets():
                return f"no RST_STREAM {rest}, but {resets()} and GOAWAY {self.reader.goaway}"
        if kind == "status":
            status = lambda: [p for k, f, s, p in self.seen if k == HEADERS and s == int(rest[0])]
            self.until(status)
            if not status() or wire.status(status()[0]) != rest[1]:
                return f"no status {rest[1]}, but {[wire.status(p) for p in status()]}"
        if kind == "answer" and rest:
            wanted = bytes.fromhex(rest[0])
            whole = lambda: b"".join(wire.frame(*frame) for frame in self.seen)
            self.until(lambda: wanted in whole())
            if wanted not in whole():
                return "the answer did not come"
        return self.alive()

    def alive(self):
        """The connection is still of use."""
        try:
            self.stream.sendall(wire.frame(PING, 0, 0, PONG[3]))
        except OSError as error:
            return f"the connection is gone: {error}, GOAWAY {self.reader.goaway}"
        self.until(lambda: PONG in self.seen)
        return None if PONG in self.seen else f"no PONG, GOAWAY {self.reader.goaway}"

    def arrange(self, at):
        if at == "FreshServer":
            return
        self.stream.sendall(wire.PREFACE + wire.EMPTY_SETTINGS)
        self.need(lambda: any(k == 4 for k, *_ in self.seen), "no SETTINGS")
        if at == "Server":
            return
        stream = 5 if at == "ServerSkipped" else 1
        port = {"ServerHalfClosed": STALL, "ServerReset": RESET}.get(at, ECHO)
        block = wire.connect_block(f"{self.host}:{port}")
        self.stream.sendall(wire.frame(HEADERS, END_HEADERS, stream, block))
        self.need(lambda: any(k == HEADERS for k, *_ in self.seen), "no response")
        if at in ("ServerHalfClosed", "ServerEnded"):
            self.stream.sendall(wire.frame(0, END_STREAM, stream))
        if at == "ServerEnded":
            ended = lambda: any(k == 0 and f & END_STREAM for k, f, *_ in self.seen)
            self.need(ended, "the stream was not ended")
        if at == "ServerAfterReset":
            self.stream.sendall(wire.frame(RST, 0, stream, (8).to_bytes(4, "big")))
        if at == "ServerReset":
            self.stream.sendall(wire.frame(0, 0, stream, b"x"))
            self.need(lambda: any(k == RST for k, *_ in self.seen), "the stream was not reset")

    def need(self, condition, otherwise):
        self.until(condition)
        if not condition():
            raise Unready(otherwise)

    def until(self, condition):
        until = time.monotonic() + ANSWER_SECONDS
        while not condition() and self.reader.closed is None and time.monotonic() < until:
            self.seen += self.reader.poll(0.02)


class Unready(Exception):
    pass


main()
