"""HTTPS servers as Python's own library has them: an argument `PORT=CERTIFICATE` for each, with the key in the same file.

`PORT=CERTIFICATE,ROOTS` asks clients for one that these have signed, and says which name it has. `PORT=silent` takes connections and never answers; `PORT=cut` closes when it has heard something.
"""

import http.server
import socket
import ssl
import sys
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        words = [str(self.server.server_port), self.path, self.connection.version()]
        client = self.connection.getpeercert()
        if client:
            words.append(client["subjectAltName"][0][1])
        body = " ".join(words).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def https(port, certificate, roots):
    server = http.server.ThreadingHTTPServer(("0.0.0.0", port), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if roots:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(roots)
    # Each handshake on the thread of its own connection.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    server.serve_forever()


def plain(port, cuts):
    listener = socket.create_server(("0.0.0.0", port))
    kept = []
    while True:
        connection, _ = listener.accept()
        if cuts:
            connection.recv(1)
            connection.close()
        else:
            kept.append(connection)


def main():
    for argument in sys.argv[1:]:
        port, what = argument.split("=", 1)
        if what in ("silent", "cut"):
            target, arguments = plain, (int(port), what == "cut")
        else:
            certificate, _, roots = what.partition(",")
            target, arguments = https, (int(port), certificate, roots)
        threading.Thread(target=target, args=arguments, daemon=True).start()
    print('"ready"', flush=True)
    threading.Event().wait()


main()
