"""CDN-Loop: what is added changes nothing else of a request, and is found again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.proxy.parse.cdn_loop import CdnLoop
from tfgateway.proxy.parse.httphead import RequestHeadParser

LOOP, OTHER = CdnLoop(b"one"), CdnLoop(b"other")


@given(
    st.sampled_from([b"", b"\r\n", b"\n\r\n"]),
    st.sampled_from([b"\r\n", b"\n"]),
    st.lists(st.sampled_from([b"X: y", b"CDN-Loop: other.example; v=1", b"Accept:"]), max_size=4),
    st.binary(max_size=40),
)
def test_the_head_is_read_as_before_and_the_rest_is_the_same(
    empty: bytes, end: bytes, fields: list[bytes], body: bytes
) -> None:
    data = empty + end.join([b"POST /a?b HTTP/1.1", b"Host: web.example", *fields, b"", b""]) + body
    added = LOOP.added(data, "web.example")
    assert added is not None
    assert RequestHeadParser().feed(added) == RequestHeadParser().feed(data)
    assert added.endswith(body)
    assert LOOP.added(added, "web.example") is None
    assert LOOP.added(added, "other.example")
    assert OTHER.added(added, "web.example")


@pytest.mark.parametrize("before", [b"X-Copy: ", b"GET-CDN-Loop: ", b"\r\n\r\nCDN-Loop: "])
def test_the_token_elsewhere_says_nothing(before: bytes) -> None:
    added = LOOP.added(b"GET / HTTP/1.1\r\n\r\n", "web.example")
    assert added is not None
    field = added.split(b"\r\n")[1]
    token = field.removeprefix(b"CDN-Loop: ")
    head = b"POST / HTTP/1.1\r\nHost: web.example\r\n"
    assert LOOP.added(head + b"cdn-loop: other.example, " + token + b"\r\n\r\n", "web.example") is None
    assert LOOP.added(head + before + token + b"\r\n\r\n", "web.example")


@given(st.binary(max_size=200))
def test_whatever_came_is_searched_without_an_error(data: bytes) -> None:
    assert LOOP.added(b"GET / HTTP/1.1\r\n" + data, "web.example")
