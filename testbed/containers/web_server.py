"""A small web server as a user's workload: one page over HTTP and HTTPS that says how it was asked for.

Runs alone in its container: ``web_server.py CERTIFICATE KEY``; standard library only.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Page(BaseHTTPRequestHandler):
    """Answers every path with one line of text."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        scheme = "https" if isinstance(self.connection, ssl.SSLSocket) else "http"
        body = f"Hello from the web server behind the gateway: {scheme}://{self.headers['Host']}{self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class DualStackServer(ThreadingHTTPServer):
    """Listens on IPv4 and IPv6; a TLS handshake happens in the connection's own thread."""

    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def main(certificate: str, key: str) -> None:
    """Serve until the container is stopped."""
    plain = DualStackServer(("::", 80), Page)
    secure = DualStackServer(("::", 443), Page)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    secure.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
