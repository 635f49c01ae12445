"""A gRPC server and its client, by Google's own library: every kind of call, trailers, deadlines, and codes.

    grpc_echo.py server ADDRESS
    grpc_echo.py client ADDRESS      prints `all is well`, or what is not
"""

import concurrent.futures
import sys
import time

import grpc

SERVICE = "told.Echo"
# Of a message that is more than a window and more than a frame.
LARGE = 600_000


class Echo(grpc.GenericRpcHandler):
    """Messages are bytes."""

    def service(self, details):
        name = details.method.rpartition("/")[2]
        if details.method != f"/{SERVICE}/{name}":
            return None
        return {
            "One": grpc.unary_unary_rpc_method_handler(one),
            "Many": grpc.unary_stream_rpc_method_handler(many),
            "Sum": grpc.stream_unary_rpc_method_handler(add),
            "Talk": grpc.stream_stream_rpc_method_handler(talk),
            "Slow": grpc.unary_unary_rpc_method_handler(slow),
            "Fail": grpc.unary_unary_rpc_method_handler(fail),
        }.get(name)


def one(request, context):
    sent = dict(context.invocation_metadata())
    context.send_initial_metadata([("x-initial", sent.get("x-asked", "nothing"))])
    context.set_trailing_metadata([("x-trailing", str(len(request))), ("x-bytes-bin", b"\0\xff")])
    return request


def many(request, _context):
    for number in range(int(request)):
        yield b"%d" % number


def add(requests, _context):
    return b"%d" % sum(int(number) for number in requests)


def talk(requests, _context):
    for request in requests:
        yield request[::-1]


def slow(request, context):
    until = time.monotonic() + 30
    while context.is_active() and time.monotonic() < until:
        time.sleep(0.02)
    return request


def fail(_request, context):
    context.set_trailing_metadata([("x-why", "on purpose")])
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not like this: \u00e4")


def serve(address):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(16), handlers=[Echo()])
    server.add_insecure_port(address)
    server.start()
    print("listening", flush=True)
    server.wait_for_termination()


def status(call, *arguments, **options):
    """The code, details and trailers that a call ends with."""
    try:
        call(*arguments, **options)
    except grpc.RpcError as error:
        return error.code(), error.details(), dict(error.trailing_metadata() or ())
    return grpc.StatusCode.OK, "", {}


def ask(address):
    channel = grpc.insecure_channel(address)
    unary = channel.unary_unary(f"/{SERVICE}/One")
    for message in (b"", b"hello", b"x" * LARGE):
        answer, call = unary.with_call(message, timeout=20, metadata=[("x-asked", "yes")])
        assert answer == message, len(answer)
        assert dict(call.initial_metadata())["x-initial"] == "yes"
        trailing = dict(call.trailing_metadata())
        assert trailing["x-trailing"] == str(len(message)) and trailing["x-bytes-bin"] == b"\0\xff", trailing
    many = channel.unary_stream(f"/{SERVICE}/Many")(b"500", timeout=20)
    assert [int(number) for number in many] == list(range(500))
    total = channel.stream_unary(f"/{SERVICE}/Sum")((b"%d" % number for number in range(500)), timeout=20)
    assert int(total) == sum(range(500))
    turn_by_turn(channel)
    at_once(unary)
    code, details, trailers = status(channel.unary_unary(f"/{SERVICE}/Fail"), b"", timeout=20)
    assert code == grpc.StatusCode.FAILED_PRECONDITION and details == "not like this: \u00e4", (code, details)
    assert trailers["x-why"] == "on purpose", trailers
    # What the server has not, and what the rule has not.
    for method in (f"/{SERVICE}/None", "/other.Service/None"):
        code, details, _ = status(channel.unary_unary(method), b"", timeout=20)
        assert code == grpc.StatusCode.UNIMPLEMENTED, (method, code, details)
    code, _, _ = status(channel.unary_unary(f"/{SERVICE}/Slow"), b"", timeout=0.5)
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED, code
    cancelled = channel.unary_unary(f"/{SERVICE}/Slow").future(b"", timeout=20)
    cancelled.cancel()
    assert unary(b"still", timeout=20) == b"still"
    print("all is well", flush=True)


def turn_by_turn(channel):
    """Each message is answered before the next is sent."""
    answered = []

    def messages():
        for number in range(50):
            while len(answered) < number:
                time.sleep(0.001)
            yield b"%03d" % number

    for answer in channel.stream_stream(f"/{SERVICE}/Talk")(messages(), timeout=20):
        answered.append(answer)
    assert answered == [(b"%03d" % number)[::-1] for number in range(50)], answered


def at_once(unary):
    calls = [unary.future(b"%d" % number, timeout=20) for number in range(200)]
    assert [int(call.result()) for call in calls] == list(range(200))


def one_call(address, method):
    """The code of one call, by a name; for what a waypoint answers itself."""
    code, details, _ = status(grpc.insecure_channel(address).unary_unary(method), b"", timeout=20)
    print(code.name, details, flush=True)


what, where, *rest = sys.argv[1:]
{"server": serve, "client": ask, "call": one_call}[what](where, *rest)
