"""Answers to visitors who are not served."""

from __future__ import annotations

import http.client
import io

import pytest
from tfgateway.proxy import refusals
from tfgateway.proxy.protocol import Protocol
from tfgateway.proxy.refusals import Refusal

PAGES = {
    refusals.BAD_REQUEST: 400,
    refusals.UNKNOWN_HOST: 404,
    refusals.HEAD_TIMEOUT: 408,
    refusals.TARGET_DENIED: 502,
    refusals.DIAL_FAILED: 502,
    refusals.HEAD_TOO_LARGE: 431,
    refusals.NOT_IMPLEMENTED: 501,
    refusals.NO_TARGET: 503,
    refusals.NO_TUNNEL: 503,
    refusals.ERROR: 503,
    refusals.TOO_MANY: 503,
    refusals.DIAL_TIMEOUT: 504,
    refusals.LOOP: 508,
    refusals.VERSION_NOT_SUPPORTED: 505,
}


@pytest.mark.parametrize(("refusal", "status"), PAGES.items())
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_pages_are_complete_answers_for_a_browser(refusal: Refusal, status: int, method: str) -> None:
    received = io.BytesIO(refusal.answer(Protocol.HTTP, method))
    assert received.readline().startswith(f"HTTP/1.1 {status} ".encode())
    fields = http.client.parse_headers(received)
    assert fields["Connection"] == "close"
    assert fields["Content-Type"] == "text/html; charset=utf-8"
    assert fields["Retry-After"] == ("10" if status == 503 else None)
    body = received.read()
    if method == "GET":
        assert f"<h1>{status} ".encode() in body
        assert len(body) == int(fields["Content-Length"])
    else:
        assert body == b""


def test_an_unknown_name_gets_the_alert_unrecognized_name() -> None:
    assert refusals.UNKNOWN_HOST.answer(Protocol.TLS) == bytes([21, 3, 3, 0, 2, 2, 112])


def test_a_bad_hello_gets_the_alert_decode_error() -> None:
    assert refusals.BAD_REQUEST.answer(Protocol.TLS) == bytes([21, 3, 3, 0, 2, 2, 50])


@pytest.mark.parametrize(
    "refusal", [refusals.NO_TUNNEL, refusals.TOO_MANY, refusals.DIAL_FAILED, refusals.DIAL_TIMEOUT]
)
def test_what_has_no_alert_is_closed_without_a_word(refusal: Refusal) -> None:
    assert refusal.answer(Protocol.TLS) == b""


@pytest.mark.parametrize("refusal", [*PAGES, refusals.HTTP2_PREFACE])
def test_whoever_speaks_neither_protocol_hears_nothing(refusal: Refusal) -> None:
    assert refusal.answer(None) == b""


def test_http2_is_told_in_its_own_frames_to_use_http1() -> None:
    """RFC 9113 §4.1: length, type, flags, stream; SETTINGS is 4, GOAWAY 7, HTTP_1_1_REQUIRED 13."""
    frames = io.BytesIO(refusals.HTTP2_PREFACE.answer(Protocol.HTTP))
    seen = []
    while header := frames.read(9):
        assert header[4:] == bytes(5)
        seen.append((header[3], frames.read(int.from_bytes(header[:3]))))
    assert seen == [(4, b""), (7, bytes(4) + (13).to_bytes(4))]
