"""CONNECT to everything there is, written in every way there is, as an authenticated peer. Only the
workload's own address and a port of its application, written plainly, may be reached."""

import sys

import wire

HEADERS, RST = 1, 3
PER_CONNECTION = 15
REACHED = "10.2.0.10:8080"

ADDRESSES = [
    "10.2.0.10", "127.0.0.1", "127.8.8.8", "0.0.0.0", "255.255.255.255", "224.0.0.1",
    "10.2.0.11", "10.2.0.99", "10.1.0.10", "10.255.2.2", "169.254.1.1", "169.254.169.254",
    "10.96.0.1", "::1", "::", "::ffff:127.0.0.1", "::ffff:10.2.0.10", "fe80::1", "localhost",
    "0x0a.2.0.10", "012.2.0.10", "167903242", "10.2.10",
]
PORTS = ["8080", "15000", "15001", "15006", "15008", "15020", "15021", "0", "65536", "-1", "080", ""]
FORMS = [
    "{a}:{p}", "[{a}]:{p}", "user@{a}:{p}", "{a}%eth0:{p}", "http://{a}:{p}", "{a}.:{p}", "{a}:{p}/",
    " {a}:{p}", "{a}",
]


def main():
    told = wire.arguments(__doc__).parse_args()
    made = wire.context(told)
    cells = [form.format(a=a, p=p) for a in ADDRESSES for p in PORTS for form in FORMS]
    cells = list(dict.fromkeys(cells))
    wrong, admin = [], 0
    for start in range(0, len(cells), PER_CONNECTION):
        for authority, status, body in ask(told, made, cells[start : start + PER_CONNECTION]):
            if b"configDump" in body or b"HTTP/1.1 200" in body and authority != REACHED:
                admin += 1
            if (status == "200") != (authority == REACHED):
                wrong.append(f"{authority!r} is answered with {status}")
    for cell in wrong:
        print(cell, file=sys.stderr)
    wire.tell(cells=len(cells), wrong=wrong, admin=admin)


def ask(told, made, authorities):
    """Each authority on a stream of its own: the status, and what comes of a request."""
    stream = wire.connect(told, made)
    reader = wire.Reader(stream)
    data = wire.PREFACE + wire.EMPTY_SETTINGS
    for number, authority in enumerate(authorities):
        data += wire.frame(HEADERS, 4, 2 * number + 1, wire.connect_block(authority))
    stream.sendall(data)
    answers, bodies = {}, {}
    decoder = wire.Decoder()
    for _ in range(100):
        if len(answers) == len(authorities) or reader.closed:
            break
        for kind, _, number, payload in reader.poll(0.1):
            if kind == HEADERS:
                answers[number] = decoder.status(payload)
            elif kind == RST:
                answers.setdefault(number, "reset")
    for number, status in answers.items():
        if status == "200":
            request = b"GET /config_dump HTTP/1.1\r\nhost: a\r\n\r\n"
            stream.sendall(wire.frame(0, 0, number, request))
    for kind, _, number, payload in reader.poll(0.2) if "200" in answers.values() else []:
        if kind == 0:
            bodies[number] = bodies.get(number, b"") + payload
    stream.close()
    for number, authority in enumerate(authorities):
        key = 2 * number + 1
        yield authority, answers.get(key), bodies.get(key, b"")


main()
