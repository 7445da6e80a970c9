"""What a visitor that is not served gets: a page on the plain port, an alert on the TLS port."""

from __future__ import annotations

from dataclasses import dataclass

from tfgateway.proxy.protocol import Protocol

_RETRY = "Retry-After: 10\r\n"  # seconds: a tunnel, or a target that is checked, is back by then or stays away longer
_ACCESS_DENIED, _DECODE_ERROR, _INTERNAL_ERROR, _UNRECOGNIZED_NAME = 49, 50, 80, 112  # AlertDescription, RFC 8446 §6


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason for not serving a visitor, with its answers."""

    outcome: str
    """The label in metrics and access log."""
    page: bytes = b""
    """A complete answer in the protocol of the plain port; empty: close without an answer."""
    alert: bytes = b""
    """A complete TLS record; empty: close without an answer."""

    def answer(self, protocol: Protocol | None, method: str = "") -> bytes:
        """What to send; ``protocol`` None: it is not known. A HEAD request gets no body (RFC 9110 §9.3.2)."""
        if protocol is None:
            return b""
        if protocol is Protocol.TLS:
            return self.alert
        head, separator, _ = self.page.partition(b"\r\n\r\n")
        return head + separator if method == "HEAD" else self.page


class Refused(Exception):
    """Raised where a connection turns out not to be served; ``detail`` is for the access log."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        super().__init__(refusal.outcome)
        self.refusal = refusal
        self.detail = detail


def _page(status: int, reason: str, sentence: str) -> bytes:
    body = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{status} {reason}</title></head>\n'
        f"<body><h1>{status} {reason}</h1><p>{sentence}</p></body></html>\n"
    )
    return (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        # RFC 9209: a probe from outside can distinguish this page from one of a target.
        f"Cache-Control: no-store\r\nProxy-Status: tfgateway\r\n{_RETRY if status == 503 else ''}"
        f"Connection: close\r\n\r\n{body}"
    ).encode("ascii")


def _alert(description: int) -> bytes:
    """A fatal alert as one unencrypted record (RFC 8446 §5.1, §6)."""
    return bytes((21, 3, 3, 0, 2, 2, description))


HEAD_TOO_LARGE = Refusal(
    "bad_request", _page(431, "Request Header Fields Too Large", "The head of the request is too large.")
)
VERSION_NOT_SUPPORTED = Refusal(
    "bad_request", _page(505, "HTTP Version Not Supported", "This port takes HTTP/1.0 and HTTP/1.1.")
)
NOT_IMPLEMENTED = Refusal("bad_request", _page(501, "Not Implemented", "The method of the request is not served."))
BAD_REQUEST = Refusal(
    "bad_request",
    _page(400, "Bad Request", "The request cannot be understood."),
    _alert(_DECODE_ERROR),
)
# Empty SETTINGS, then GOAWAY with HTTP_1_1_REQUIRED (RFC 9113 §3.4, §6.8, §7).
HTTP2_PREFACE = Refusal("http2_preface", bytes.fromhex("000000040000000000000008070000000000000000000000000d"))
BAD_PROXY_HEADER = Refusal("bad_proxy_header")
ERROR = Refusal(
    "error",
    _page(503, "Service Unavailable", "The gateway cannot serve the request at the moment."),
    _alert(_INTERNAL_ERROR),
)
FORBIDDEN = Refusal(
    "forbidden",
    _page(403, "Forbidden", "The service is not for visitors from your address."),
    _alert(_ACCESS_DENIED),
)
UNKNOWN_HOST = Refusal(
    "unknown_host",
    _page(404, "Not Found", "No service of this gateway has this name."),
    _alert(_UNRECOGNIZED_NAME),
)
HEAD_TIMEOUT = Refusal("head_timeout", _page(408, "Request Timeout", "The request did not arrive in time."))
TARGET_DENIED = Refusal("target_denied", _page(502, "Bad Gateway", "The service is set to an address it may not use."))
DIAL_FAILED = Refusal("dial_failed", _page(502, "Bad Gateway", "The service cannot be reached."))
LOOP = Refusal(
    "loop", _page(508, "Loop Detected", "The service leads back to this gateway."), _alert(_INTERNAL_ERROR)
)  # RFC 5842 §7.2
NO_TUNNEL = Refusal("no_tunnel", _page(503, "Service Unavailable", "The service is not connected at the moment."))
NO_TARGET = Refusal("no_target", _page(503, "Service Unavailable", "No target of the service works at the moment."))
TOO_MANY = Refusal("too_many", _page(503, "Service Unavailable", "There are too many connections at the moment."))
DIAL_TIMEOUT = Refusal("dial_timeout", _page(504, "Gateway Timeout", "The service does not answer."))
