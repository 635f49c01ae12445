"""Servers that count: each request that one of them has read to its end is a line `<method> <target> x-case/<number>` in its
file, and one answer with `x-seen`. Python's http.server, an own one on asyncio that keeps to RFC 9112, Node's, and nginx if it is there."""

import argparse
import asyncio
import ctypes
import http.server
import os
import shutil
import signal
import socketserver
import subprocess
import threading

NODE = """
const fs = require('fs'), out = fs.openSync(process.argv[2], 'a');
const server = require('http').createServer({ keepAliveTimeout: 60000 }, (request, answer) => {
  request.on('error', () => {});
  request.resume();
  request.on('end', () => {
    fs.writeSync(out, [request.method, request.url, 'x-case/' + request.headers['x-case']].join(' ') + '\\n');
    answer.setHeader('x-seen', 'node');
    answer.end('seen\\n');
  });
});
server.listen(Number(process.argv[3]), '0.0.0.0');
"""

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.error;
events {{ worker_connections 512; }}
http {{
  log_format seen '$request_method $request_uri x-case/$http_x_case';
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  # The first reads a request to its end before the second counts it.
  server {{ listen 0.0.0.0:{port}; location / {{ proxy_pass http://unix:{folder}/nginx.sock; }} }}
  server {{ listen unix:{folder}/nginx.sock; access_log {folder}/nginx.seen seen;
    location / {{ add_header x-seen nginx always; return 200 "seen\\n"; }} }}
}}
"""


def python(folder, port):
    seen = open(f"{folder}/python.seen", "a", buffering=1)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            if "chunked" in self.headers.get("transfer-encoding", "").lower():
                while size := int(self.rfile.readline(100).split(b";")[0], 16):
                    self.rfile.read(size + 2)
                while (line := self.rfile.readline(8192)).strip():
                    pass
                whole = line != b""
            else:
                length = int(self.headers.get("content-length") or 0)
                whole = len(self.rfile.read(length)) == length
            if not whole:
                raise ConnectionError("the request was cut off")
            seen.write(f"{self.command} {self.path} x-case/{self.headers.get('x-case')}\n")
            self.send_response(200)
            self.send_header("x-seen", "python")
            self.send_header("content-length", "5")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(b"seen\n")

        def log_message(self, *_):
            pass

    for method in ("GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH"):
        setattr(Handler, f"do_{method}", Handler.answer)

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, *_):
            pass

    threading.Thread(target=Server(("0.0.0.0", port), Handler).serve_forever, daemon=True).start()


async def lenient(folder, port):
    """Reads what it can: bare line feeds, spaces before colons, the last of two lengths, a coding that only contains
    `chunked`, and Content-Length before Transfer-Encoding. Whoever stands before it must not let such through."""
    seen = open(f"{folder}/lenient.seen", "a", buffering=1)

    async def serve(reader, writer):
        try:
            while line := await reader.readline():
                words = line.split()
                if len(words) < 2:
                    continue
                length = chunked = case = 0
                while (field := (await reader.readline()).strip()):
                    name, _, value = field.partition(b":")
                    name = name.strip().lower()
                    if name == b"content-length":
                        length = int(value.strip().split(b",")[-1] or 0)
                    if name == b"x-case":
                        case = value.strip().decode("latin1")
                    chunked |= name == b"transfer-encoding" and b"chunked" in value.lower()
                if length:
                    await reader.readexactly(length)
                elif chunked:
                    while size := int((await reader.readline()).split(b";")[0].strip(), 16):
                        await reader.readexactly(size)
                        await reader.readline()
                    while (line := await reader.readline()).strip():
                        pass
                    if not line:
                        break
                seen.write(f"{words[0].decode('latin1')} {words[1].decode('latin1')} x-case/{case}\n")
                body = b"" if words[0] == b"HEAD" else b"seen\n"
                writer.write(b"HTTP/1.1 200 OK\r\nx-seen: lenient\r\ncontent-length: 5\r\n\r\n" + body)
                await writer.drain()
        except (ValueError, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "0.0.0.0", port)
    async with server:
        await server.serve_forever()


def start(*command):
    """Starts a server that ends when we do."""
    return subprocess.Popen(command, preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL))


def main():
    told = argparse.ArgumentParser(description=__doc__)
    told.add_argument("--folder", required=True)
    told.add_argument("--port", type=int, required=True, help="of the first; the others follow")
    told.add_argument("--nginx", default=shutil.which("nginx"))
    told, _ = told.parse_known_args()
    python(told.folder, told.port)
    started, names = [], ["python", "lenient"]
    if node := shutil.which("node"):
        names.append("node")
        started.append(start(node, "-e", NODE, "server", f"{told.folder}/node.seen", str(told.port + 2)))
    if told.nginx:
        names.append("nginx")
        os.makedirs(f"{told.folder}/body", exist_ok=True)
        with open(f"{told.folder}/nginx.conf", "w") as file:
            file.write(NGINX.format(folder=told.folder, port=told.port + 3))
        started.append(start(told.nginx, "-p", told.folder, "-c", f"{told.folder}/nginx.conf"))
    for name in names:
        open(f"{told.folder}/{name}.seen", "a").close()
    print("listening", *names, flush=True)
    asyncio.run(lenient(told.folder, told.port + 1))


main()
