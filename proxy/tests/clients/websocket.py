"""A WebSocket server and its client, by the library websockets; over HTTP/2 (RFC 8441) with the library h2.

    websocket.py server ADDRESS
    websocket.py client ADDRESS      prints `all is well`, or what is not
    websocket.py http2 ADDRESS       the same over one HTTP/2 connection
"""

import asyncio
import socket
import sys

import h2.config
import h2.connection
import h2.events
import h2.settings
import websockets
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

LARGE = 3_000_000


async def serve(host, port):
    async def echo(connection):
        async for message in connection:
            await connection.send(message)

    async with websockets.serve(echo, host, port, subprotocols=["chat"], max_size=2 * LARGE) as server:
        print("listening", flush=True)
        await server.serve_forever()


async def ask(host, port):
    where = f"ws://{host}:{port}/chat?room=1"
    async with websockets.connect(where, subprotocols=["chat"], max_size=2 * LARGE, proxy=None) as connection:
        assert connection.subprotocol == "chat"
        for message in ("hello", "\u00e4" * 100, b"", bytes(range(256)) * 10, b"x" * LARGE):
            await connection.send(message)
            assert await connection.recv() == message
        await asyncio.wait_for(await connection.ping(), 20)
        # Both ways at once.
        await asyncio.gather(*(connection.send(str(number)) for number in range(500)))
        assert [int(await connection.recv()) for _ in range(500)] == list(range(500))
        await connection.close(4000, "enough")
    assert (connection.close_code, connection.close_reason) == (4000, "enough")
    print("all is well", flush=True)


class OverHttp2:
    """One stream of one connection."""

    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port), timeout=20)
        config = h2.config.H2Configuration(client_side=True, validate_outbound_headers=False)
        self.http = h2.connection.H2Connection(config)
        self.http.initiate_connection()
        self.flush()
        self.received = {}
        self.heads = {}
        self.ended = set()
        self.reader = StreamReader()
        self.parsing = Frame.parse(self.reader.read_exact, mask=False)

    def flush(self):
        self.socket.sendall(self.http.data_to_send())

    def step(self):
        data = self.socket.recv(65536)
        assert data, "the connection has ended"
        for event in self.http.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.heads[event.stream_id] = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.received.setdefault(event.stream_id, bytearray()).extend(event.data)
                self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                self.ended.add(event.stream_id)
        self.flush()

    def open(self, headers, end=False):
        stream = self.http.get_next_available_stream_id()
        self.http.send_headers(stream, headers, end_stream=end)
        self.flush()
        while stream not in self.heads:
            self.step()
        return stream, {name.decode(): value.decode() for name, value in self.heads[stream].items()}

    def send(self, stream, data):
        while data:
            room = min(self.http.local_flow_control_window(stream), self.http.max_outbound_frame_size, len(data))
            if room == 0:
                self.step()
                continue
            self.http.send_data(stream, data[:room])
            self.flush()
            data = data[room:]

    def frame(self, stream):
        """The next WebSocket frame."""
        while True:
            try:
                next(self.parsing)
            except StopIteration as parsed:
                self.parsing = Frame.parse(self.reader.read_exact, mask=False)
                return parsed.value
            while not (data := bytes(self.received.pop(stream, b""))):
                assert stream not in self.ended, "the stream has ended"
                self.step()
            self.reader.feed_data(data)


def over_http2(host, port):
    client = OverHttp2(host, int(port))
    while not client.http.remote_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL):
        client.step()
    asks = [
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/chat?room=1"),
        (":authority", f"{host}:{port}"), ("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat"),
    ]
    stream, head = client.open(asks)
    assert head[":status"] == "200" and head["sec-websocket-protocol"] == "chat", head
    assert not {"upgrade", "connection", "sec-websocket-accept"} & set(head), head
    sent = [Frame(Opcode.TEXT, b"hello"), Frame(Opcode.BINARY, b"x" * LARGE), Frame(Opcode.TEXT, b"again")]
    for frame in sent:
        client.send(stream, frame.serialize(mask=True))
        answer = client.frame(stream)
        assert (answer.opcode, answer.data) == (frame.opcode, frame.data), answer
    # Requests go on beside it, and what is no WebSocket is refused.
    _, head = client.open([(":method", "CONNECT"), (":protocol", "connect-udp"), (":scheme", "http"),
                           (":path", "/"), (":authority", f"{host}:{port}")])
    assert head[":status"].startswith(("4", "5")), head
    client.send(stream, Frame(Opcode.CLOSE, Close(4000, "enough").serialize()).serialize(mask=True))
    answer = client.frame(stream)
    assert answer.opcode == Opcode.CLOSE and Close.parse(answer.data).code == 4000, answer
    client.http.end_stream(stream)
    client.flush()
    while stream not in client.ended:
        client.step()
    print("all is well", flush=True)


what, where = sys.argv[1:]
at = where.split(":")
if what == "http2":
    over_http2(*at)
else:
    asyncio.run({"server": serve, "client": ask}[what](*at))
