"""Says texts that are made to break a log: as authority, as header values, as protocol names."""

import wire

TEXTS = [
    b"\x1b[31mforged", b"forged\r\nforged line", b"forged\nforged line", b"forged\x00", b"\xff\xfeforged",
    b"\xe2\x80\xaeforged", b"forged\x7f", b"forged\t\ttab", b'forged"quoted"', b"forged\\n", b"forged=x y=z",
    b"forged" * 50, b"forged" * 1000, b"\xf0\x9f\x98\x80forged",
]
FIELDS = [b":authority", b"baggage", b"traceparent", b"tracestate", b"forwarded", b"x-forwarded-for", b"user-agent"]
HEADERS = 1


def main():
    told = wire.arguments(__doc__).parse_args()
    host = wire.address(told)[0].encode()
    made = wire.context(told)
    said = 0
    for text in TEXTS:
        for field in FIELDS:
            for authority in (host + b":8080", host + b":1"):
                stream = wire.connect(told, made)
                reader = wire.Reader(stream)
                block = wire.literal(b":method", b"CONNECT")
                if field == b":authority":
                    authority = text + b":80"
                block += wire.literal(b":authority", authority)
                if field != b":authority":
                    block += wire.literal(field, text)
                stream.sendall(wire.PREFACE + wire.EMPTY_SETTINGS + wire.frame(HEADERS, 5, 1, block))
                for _ in range(20):
                    if any(kind in (HEADERS, 3, 7) for kind, *_ in reader.poll(0.05)) or reader.closed:
                        break
                stream.close()
                said += 1
    wire.tell(texts=said)


main()
