"""Services outside that a waypoint asks, with gRPC's own library and Envoy's own messages.

An external authorizer (gRPC) and a rate limit service on port 9000, an authorizer by HTTP on port 9001, and on port 9002 the
keys of an issuer. Each prints what it is asked, a line of JSON each.
"""

import http.server
import json
import sys
import threading
from concurrent import futures

import grpc
from envoy.service.auth.v3 import external_auth_pb2 as auth
from envoy.service.auth.v3 import external_auth_pb2_grpc as auth_grpc
from envoy.service.ratelimit.v3 import rls_pb2 as limits
from envoy.service.ratelimit.v3 import rls_pb2_grpc as limits_grpc
from google.rpc import code_pb2

KEYS = {
    "keys": [
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    ]
}


def tell(**what):
    print(json.dumps(what), flush=True)


class Authorizer(auth_grpc.AuthorizationServicer):
    """Lets pass who says `x-pass: yes`; sends everybody else to the login."""

    def Check(self, request, context):
        attributes = request.attributes
        asked = attributes.request.http
        tell(
            check=asked.path,
            method=asked.method,
            source=attributes.source.principal,
            destination=attributes.destination.principal,
            body=asked.body,
        )
        answer = auth.CheckResponse()
        if asked.headers.get("x-pass") == "yes":
            answer.status.code = code_pb2.OK
            added = answer.ok_response.headers.add()
            added.header.key, added.header.value = "x-user", "somebody"
            answer.ok_response.headers_to_remove.append("x-pass")
            told = answer.ok_response.response_headers_to_add.add()
            told.header.key, told.header.value = "x-checked", "yes"
        else:
            answer.status.code = code_pb2.PERMISSION_DENIED
            answer.denied_response.status.code = 401
            answer.denied_response.body = "who are you?"
        return answer


class Limiter(limits_grpc.RateLimitServiceServicer):
    """Lets every user pass twice."""

    def __init__(self):
        self.seen = {}
        self.lock = threading.Lock()

    def ShouldRateLimit(self, request, context):
        entries = [[(entry.key, entry.value) for entry in one.entries] for one in request.descriptors]
        tell(limit=request.domain, descriptors=entries)
        with self.lock:
            count = self.seen[str(entries)] = self.seen.get(str(entries), 0) + 1
        answer = limits.RateLimitResponse()
        over = count > 2
        code = limits.RateLimitResponse.OVER_LIMIT if over else limits.RateLimitResponse.OK
        answer.overall_code = code
        status = answer.statuses.add()
        status.code = code
        status.current_limit.requests_per_unit = 2
        status.current_limit.unit = limits.RateLimitResponse.RateLimit.HOUR
        status.limit_remaining = max(0, 2 - count)
        status.duration_until_reset.seconds = 1800
        return answer


class Http(http.server.BaseHTTPRequestHandler):
    """By HTTP: `/check…` is the authorizer, `/keys` the keys."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        tell(http=self.path, headers=dict(self.headers))
        if self.path == "/keys":
            return self.answer(200, json.dumps(KEYS), {})
        if self.headers.get("x-pass") == "yes":
            return self.answer(200, "", {"x-user": "somebody"})
        self.answer(403, "not you", {"x-reason": "unknown"})

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    auth_grpc.add_AuthorizationServicer_to_server(Authorizer(), server)
    limits_grpc.add_RateLimitServiceServicer_to_server(Limiter(), server)
    server.add_insecure_port("0.0.0.0:9000")
    server.start()
    for port in (9001, 9002):
        listener = http.server.ThreadingHTTPServer(("0.0.0.0", port), Http)
        threading.Thread(target=listener.serve_forever, daemon=True).start()
    tell(ready=sys.version)
    server.wait_for_termination()


main()
