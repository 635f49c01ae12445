"""Requests that two readers may take for different ones, sent through a waypoint to real servers that count.

A case is some bytes on a connection of its own; its targets and headers carry its number. Whatever a server reads of a case must be
answered to whoever sent it: as many lines with its number in the server's file as answers with `x-seen` here. One more
there is a request that was smuggled past whoever stands between, `/hidden` above all; one more here is somebody else's
answer."""

import argparse
import collections
import concurrent.futures
import itertools
import json
import pathlib
import random
import re
import socket
import time

SEEN = re.compile(rb"\r\nx-seen:", re.I)
# What is hidden in bodies, to be taken for a request.
HIDDEN = b"GET /hidden/%d HTTP/1.1\r\nHost: h\r\n\r\n"


def lines(*fields):
    return b"".join(field + b"\r\n" for field in fields)


def request(number, fields, body=b"", method=b"POST", version=b"HTTP/1.1", target=None, host=b"Host: h"):
    target = target if target is not None else b"/case/%d" % number
    first = method + b" " + target + b" " + version
    return lines(first, *([host] if host else []), b"X-Case: %d" % number, *fields) + b"\r\n" + body


def chunks(*parts):
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


# Ways of writing Transfer-Encoding: chunked that some take for it and some do not.
CODINGS = [
    b"Transfer-Encoding: chunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding:chunked",
    b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: chunked ", b"Transfer-Encoding: CHUNKED", b"transfer-encoding: chunked",
    b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: identity, chunked", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: \"chunked\"", b"Transfer-Encoding: 'chunked'",
    b"Transfer-Encoding:\x0bchunked", b"Transfer-Encoding: \x00chunked", b"Transfer-Encoding: chunked\x00", b" Transfer-Encoding: chunked",
    b"\tTransfer-Encoding: chunked", b"X: y\r\n Transfer-Encoding: chunked", b"X: y\nTransfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked", b"Transfer-Encoding\r\n: chunked", b"Transfer-Encoding:\r\n chunked", b"Transfer_Encoding: chunked",
    b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding: cow", b"Transfer-Encoding: ", b"Transfer-Encoding: \xffchunked",
    b"Transfer-Encoding: chun\x80ked", b"Transfer\x00-Encoding: chunked", b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
]
# What may be said of a length of n.
LENGTHS = [
    b"Content-Length: %d", b"Content-Length: +%d", b"Content-Length: -%d", b"Content-Length: 0%d", b"Content-Length: %d, %d",
    b"Content-Length: %d\r\nContent-Length: %d", b"Content-Length: %d\r\nContent-Length: 0", b"Content-Length: 0\r\nContent-Length: %d",
    b"Content-Length : %d", b"Content-Length:\t%d", b"Content-Length: %d ", b"Content-Length: 0x%x", b"Content-Length: %d.0",
    b"Content-Length: %d\x00", b"Content-Length: %d;", b"Content-Length: '%d'", b"Content-Length: %d 1", b"content-length: %d",
    b"Content_Length: %d", b" Content-Length: %d", b"X: y\nContent-Length: %d", b"X: y\rContent-Length: %d", b"Content-Length:\r\n %d",
    b"Content-Length: 18446744073709551616", b"Content-Length: 9223372036854775808", b"Content-Length: ", b"Content-Length: %d\r\nContent-Length: x",
    b"Connection: Content-Length\r\nContent-Length: %d",
]


def length(pattern, size):
    return pattern % ((size,) * (pattern.count(b"%d") + pattern.count(b"%x")))


def lengths_against_codings(number):
    hidden = HIDDEN % number
    for coding, pattern in itertools.product(CODINGS, LENGTHS):
        for size, body in ((len(chunks(hidden)), chunks(hidden)), (4, b"0\r\n\r\n" + hidden)):
            fields = [length(pattern, size), coding]
            yield "length and coding", request(number, fields, body)
            yield "coding and length", request(number, fields[::-1], body)


def codings(number):
    hidden = HIDDEN % number
    for coding in CODINGS:
        for body in (chunks(hidden), chunks(b"a") + hidden, b"0\r\n\r\n" + hidden, b"5\r\nabcde\r\n" + hidden):
            for version in (b"HTTP/1.1", b"HTTP/1.0"):
                yield "coding", request(number, [coding], body, version=version)


def lengths(number):
    hidden = HIDDEN % number
    for pattern in LENGTHS:
        for size, body in ((len(hidden), hidden), (0, hidden), (5, b"abcde" + hidden), (len(hidden) + 5, hidden)):
            for method in (b"POST", b"GET", b"HEAD", b"OPTIONS"):
                yield "length", request(number, [length(pattern, size)], body, method)


def chunk_lines(number):
    hidden = HIDDEN % number
    sizes = [
        b"5", b"05", b"0x5", b"+5", b"-5", b" 5", b"5 ", b"5;x=y", b"5;x=\"y\"", b"5;x\n", b"5;x\r", b"5;\nx", b"5\x00", b"5\t", b"5_", b"g",
        b"", b"fffffffffffffffff", b"ffffffffffffffff", b"10000000000000005", b"0000000000000000000000005", b"5;" + b"x" * 4000, b"5;" + b"x" * 40000,
        b"5.0", b"5,5", b"5\x0b", b"\xff5",
    ]
    ends = [b"\r\n", b"\n", b"\r", b"", b"\r\r\n", b"\n\n", b" \r\n"]
    for size, end, after in itertools.product(sizes, ends, ends):
        body = size + end + b"abcde" + after + b"0\r\n\r\n"
        yield "chunk", request(number, [b"Transfer-Encoding: chunked"], body + hidden)
    for last in (b"0\r\n\r\n", b"0\n\n", b"00\r\n\r\n", b"0\r\n", b"0;x\r\n\r\n", b"0\r\nHost: x\r\n\r\n", b"0\r\nContent-Length: 9\r\n\r\n", b"0\r\nX: y\n\r\n",
                 b"0\r\n X: y\r\n\r\n", b"0\r\nX : y\r\n\r\n", b"0\r\n: y\r\n\r\n", b"0\r\n\r", b"0\r\nGET /hidden/%d HTTP/1.1\r\n\r\n" % number):
        yield "last chunk", request(number, [b"Transfer-Encoding: chunked"], b"5\r\nabcde\r\n" + last + hidden)


def line_ends(number):
    whole = request(number, [b"X: y", b"Content-Length: 5"], b"abcde")
    for end in (b"\n", b"\r", b"\r\r\n", b"\n\r", b"\x0b\r\n", b"\x00\r\n", b"\x85", b" \r\n"):
        yield "line end", whole.replace(b"\r\n", end)
        for at in range(4):
            pieces = whole.split(b"\r\n")
            yield "line end", b"\r\n".join(pieces[: at + 1]) + end + b"\r\n".join(pieces[at + 1:])
    for front in (b"\r\n", b"\n", b"\r\n\r\n", b" ", b"\t", b"\x00", b"\r", b"abcde"):
        yield "in front", front + whole


def fields(number):
    odd = [
        b"X", b": y", b"X Y: z", b"X\x00: y", b"X: \x00", b"X: a\x01b", b"X: \x7f", b"\xffX: y", b"X: \xff", b"X:: y", b" X: y", b"X: a\r\n b", b"X: a\r\n\tb",
        b"X: a\rb", b"X: a\nb", b"(X): y", b"X\t: y", b"X\x0b: y", b"Host: other", b"Host : other", b" Host: other", b"X: a\nHost: other",
        b"Expect: 100-continue", b"Expect: x", b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        b"Upgrade: websocket\r\nConnection: Upgrade", b"Upgrade: x\r\nConnection: Upgrade", b"Connection: Host", b"Connection: close, X-Forwarded-For",
        b"TE: trailers", b"TE: chunked", b"Trailer: Content-Length", b"Proxy-Connection: keep-alive", b"X: " + b"y" * 9000, b"Content-Type: \r\n",
    ]
    for field, method, body in itertools.product(odd, (b"GET", b"POST"), (b"", HIDDEN % number)):
        size = [b"Content-Length: %d" % len(body)] if body else []
        yield "field", request(number, [field, *size], body, method)
        yield "field", request(number, [*size, field], body, method)


def first_lines(number):
    case = b"/case/%d" % number
    targets = [
        case, b"http://h" + case, b"http://other" + case, b"http://u@h" + case, b"https://h" + case, b"ftp://h" + case, b"//h" + case, b"*", b"h:80", b"",
        case + b"#x", case + b"?a b", case + b"\x00", case + b"\t", case + b" HTTP/1.1\r\nX: y", case + b"\xff", b"\\case\\%d" % number,
        b"/x/.." + case, b"/x/%2e%2e" + case, case + b"/%00", case + b"/%zz", case + b"?\xc3\xa9", b"/" * 50 + case[1:], case + b"/" + b"a" * 9000,
    ]
    versions = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/01.1", b"HTTP/1.1 ", b"http/1.1", b"HTTP/1.1\x00", b"HTTP/1,1", b""]
    methods = [b"GET", b"get", b"G ET", b"GET\x00", b"GET\t", b"OPTIONS", b"CONNECT", b"TRACE", b"PRI", b"", b"X" * 300, b"GE\xffT", b"M-SEARCH"]
    for target, version in itertools.product(targets, versions):
        yield "first line", request(number, [], method=b"GET", target=target, version=version)
    for target, method in itertools.product(targets[:9], methods):
        yield "method", request(number, [], method=method, target=target)
    for host in (b"", b"Host:", b"Host: h\r\nHost: h", b"Host: h\r\nHost: x", b"Host: h, x", b"Host: u@h", b"Host: h/x", b"Host: h:x", b"Host: h\tx", b"Host: [::1]:80"):
        for target in targets[:4]:
            yield "host", request(number, [], method=b"GET", target=target, host=host)


def pipelines(number):
    one = request(number, [], method=b"GET")
    posted = request(number, [b"Content-Length: 5"], b"abcde")
    chunked = request(number, [b"Transfer-Encoding: chunked"], chunks(b"abc", b"de"))
    for several in itertools.product((one, posted, chunked), repeat=3):
        yield "pipeline", b"".join(several)
        yield "pipeline, last cut", b"".join(several)[:-7]


# What disagreed once; they come first in every form of the run.
def found_before(number):
    case = b"/case/%d" % number
    yield "no line feed", b"POST %b HTTP/1.1\rHost: h\rX-Case: %d\rX: y\rContent-Length: 5\r\rabcde" % (case, number)
    yield "no line end", b"GET " + case
    yield "no line end", b"GET %b HTTP/1.1" % case


FAMILIES = [lengths_against_codings, codings, lengths, chunk_lines, line_ends, fields, first_lines, pipelines]


# Numbers are as long as each other, so that a case may have another one.
FIRST, AGAIN = 1000000, 2000000


def numbered(sent, number):
    return sent.replace(b"%d" % FIRST, b"%d" % number)


def cases(count, seed):
    """All of the families' cases in an order of chance, then the same with one byte altered, until there are enough."""
    chance = random.Random(seed)
    made = [case for family in FAMILIES for case in family(FIRST)]
    chance.shuffle(made)
    made = list(found_before(FIRST)) + made
    for at in range(count):
        kind, sent = made[at % len(made)]
        if at >= len(made):
            place = chance.randrange(len(sent))
            sent = sent[:place] + bytes([chance.choice(b"\r\n\x00 :,;09af\xff")]) + sent[place + chance.randrange(2):]
        yield kind, sent


def play(address, number, sent, patience):
    """Sends a case and reads until nothing more is answered. How many answers came from a server, and all their codes."""
    answers = b""
    try:
        with socket.create_connection(address, timeout=20) as connection:
            connection.sendall(numbered(sent, number))
            connection.settimeout(patience)
            while more := connection.recv(65536):
                answers += more
    except OSError:
        pass
    return len(SEEN.findall(answers)), re.findall(rb"HTTP/1\.[01] (\d{3})", answers)


def read_seen(folder, name):
    """How often each case was read, and which hidden ones."""
    read, hidden = collections.Counter(), collections.Counter()
    for line in (folder / f"{name}.seen").read_bytes().splitlines():
        # The first is the target's; where that has no number, the header's.
        if found := re.search(rb"(case|hidden)[/\\](\d+)", line):
            (hidden if found[1] == b"hidden" else read)[int(found[2])] += 1
    return read, hidden


def run(told, name, address, made, outcome):
    """Plays all cases against one service. What disagrees is played again alone and with more patience: only a slow
    machine answers late."""
    with concurrent.futures.ThreadPoolExecutor(told.at_once) as pool:
        under_way = [pool.submit(play, address, FIRST + at, sent, told.patience) for at, (_, sent) in enumerate(made)]
        played = [one.result() for one in under_way]
    time.sleep(1)
    read, hidden = read_seen(told.folder, name)
    outcome[name] = {"read": read.total(), "hidden": hidden.total()}
    for at, ((kind, sent), (answers, codes)) in enumerate(zip(made, played)):
        outcome["cases"] += 1
        outcome["answered"] += answers > 0
        outcome["refused"] += any(code[:1] in b"45" for code in codes)
        outcome["silent"] += not codes
        if read[FIRST + at] + hidden[FIRST + at] == answers:
            continue
        outcome["repeated"] += 1
        answers, codes = play(address, AGAIN + at, sent, 3 * told.patience + 2)
        time.sleep(0.3)
        read_again, hidden_again = read_seen(told.folder, name)
        seen = read_again[AGAIN + at] + hidden_again[AGAIN + at]
        if seen != answers:
            outcome["disagreements"] += 1
            outcome["which"].append(f"{name} {at} {kind}: {seen} read, {answers} answered, {codes}")
            if told.save:
                (told.save / f"{name}-{at}").write_bytes(sent)


def main():
    told = argparse.ArgumentParser(description=__doc__)
    told.add_argument("--services", required=True, nargs="+", help="name=host:port, each a server behind the waypoint")
    told.add_argument("--folder", required=True, type=pathlib.Path, help="where the servers write what they have read")
    told.add_argument("--cases", type=int, default=5000, help="for each server")
    told.add_argument("--seed", type=int, default=1)
    told.add_argument("--at-once", type=int, default=48)
    told.add_argument("--patience", type=float, default=0.5)
    told.add_argument("--save", type=pathlib.Path, help="where to write what disagreed")
    told, _ = told.parse_known_args()
    made = list(cases(told.cases, told.seed))
    outcome = dict.fromkeys(("cases", "disagreements", "answered", "refused", "silent", "repeated"), 0) | {"which": []}
    for service in told.services:
        name, _, at = service.partition("=")
        host, _, port = at.rpartition(":")
        run(told, name, (host, int(port)), made, outcome)
    outcome["which"] = outcome["which"][:20]
    print(json.dumps(outcome))


main()
