"""The request head parser: RFC 9112's cases, refused ones, and rubbish, in every kind of piece."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tfgateway.errors import ParseError
from tfgateway.proxy.parse.httphead import (
    MAX_HEAD,
    MAX_LINES,
    HeadTooLarge,
    Http2Preface,
    NotImplementedHere,
    RequestHead,
    RequestHeadParser,
    VersionNotSupported,
    read_usual_head,
)

NEED_MORE = "need more"


def outcome(chunks: Iterable[bytes]) -> RequestHead | str | type[ParseError]:
    """What the parser says of these chunks. Anything but its three answers fails the test."""
    parser = RequestHeadParser()
    try:
        for chunk in chunks:
            head = parser.feed(chunk)
            if head is not None:
                return head
    except ParseError as error:
        return type(error)
    return NEED_MORE


def bytewise(data: bytes) -> Iterable[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


@pytest.mark.parametrize(
    "field",
    [
        b"Host: web.example",
        b"host: web.example",
        b"HOST:web.example",
        b"hOsT:\t web.example \t",
        b"Host: WEB.example",
        b"Host: web.example.",
        b"Host: web.example:80",
        b"Host: web.example.:8080",
        b"Host: web.example:",
    ],
)
def test_t6_host_field_in_all_its_forms(field: bytes) -> None:
    head = b"GET / HTTP/1.1\r\nAccept: */*\r\n" + field + b"\r\nX: y\r\n\r\n"
    assert outcome([head]) == RequestHead("GET", "web.example")
    assert outcome(bytewise(head)) == RequestHead("GET", "web.example")


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: [2001:DB8::1]:80\r\n\r\n", RequestHead("GET", "2001:db8::1"), id="IPv6"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", RequestHead("GET", "192.0.2.1"), id="IPv4"),
        pytest.param(
            b"GET http://Web.Example:80/x HTTP/1.1\r\nHost: web.example\r\n\r\n",
            RequestHead("GET", "web.example"),
            id="absolute form",
        ),
        pytest.param(
            b"GET http://web.example?q HTTP/1.1\r\nHost:\r\n\r\n", RequestHead("GET", "web.example"), id="no path"
        ),
        pytest.param(b"GET http://web.example HTTP/1.0\r\n\r\n", RequestHead("GET", "web.example"), id="1.0 absolute"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", RequestHead("GET", ""), id="HTTP/1.0 without a host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost:\r\n\r\n", RequestHead("GET", ""), id="empty host"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", RequestHead("OPTIONS", "a"), id="asterisk form"),
        pytest.param(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", RequestHead("GET", "a"), id="leading empty lines"),
        pytest.param(b"GET / HTTP/1.1\nHost: a\n\n", RequestHead("GET", "a"), id="lone LF"),
        pytest.param(b"GET /\xc3\xbc HTTP/1.1\r\nHost: a\r\nX: \xfc\r\n\r\n", RequestHead("GET", "a"), id="obs-text"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \t\r\n\r\n", RequestHead("GET", "a"), id="empty fields"),
        pytest.param(b"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", RequestHead("BREW", "a"), id="unknown method"),
        pytest.param(b"GET / HTTP/1.1\r\nX-Host: b\r\nHost: a\r\n\r\n", RequestHead("GET", "a"), id="X-Host"),
        pytest.param(
            b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            RequestHead("GET", "a"),
            id="upgrade",
        ),
    ],
)
def test_t6_well_formed_head(head: bytes, expected: RequestHead) -> None:
    assert outcome([head]) == expected
    for cut in range(1, len(head)):
        assert outcome([head[:cut]]) == NEED_MORE
        assert outcome([head[:cut], head[cut:]]) == expected


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no Host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two hosts"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nhOST: a\r\n\r\n", id="the same host twice"),
        pytest.param(b"GET / HTTP/1.1\r\nHost:\r\nHost: a\r\n\r\n", id="empty and not"),
        pytest.param(b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", id="target and Host differ"),
        pytest.param(b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", id="absolute form without authority"),
        pytest.param(b"GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n", id="user in the target"),
        pytest.param(b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", id="relative target"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", id="list of hosts"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", id="slash in Host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", id="user in Host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a:http\r\n\r\n", id="named port"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", id="bare IPv6"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", id="open bracket"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: b\xc3\xbccher\r\n\r\n", id="UTF-8 host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", id="space before the colon"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", id="obs-fold"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\tz: y\r\n\r\n", id="obs-fold with a tab"),
        pytest.param(b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", id="space before the first field"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n", id="NUL"),
        pytest.param(b"GET / HTTP/1.1\r\nX: y\rHost: b\r\nHost: a\r\n\r\n", id="bare CR in a field"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", id="two CR"),
        pytest.param(b"GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n", id="bare CR in the request line"),
        pytest.param(b"GET /\r\r\nHost: a\r\n\r\n", id="CR at the end of the target"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", id="no colon"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", id="no name"),
        pytest.param(b"GET /\r\n\r\n", id="HTTP/0.9"),
        pytest.param(b"GET / http/1.1\r\nHost: a\r\n\r\n", id="lower-case version"),
        pytest.param(b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", id="two spaces"),
        pytest.param(b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", id="space in the target"),
        pytest.param(b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", id="leading space"),
        pytest.param(b"\x16\x03\x01", id="TLS, known by its first octet"),
        pytest.param(b"\0", id="NUL at once"),
    ],
)
def test_t6_bad_head_is_a_parse_error(head: bytes) -> None:
    assert outcome([head]) is ParseError
    assert outcome(bytewise(head)) is ParseError


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", VersionNotSupported),
        (b"GET / HTTP/3\r\nHost: a\r\n\r\n", VersionNotSupported),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", NotImplementedHere),
    ],
)
def test_what_http_has_a_status_for_is_told_apart(head: bytes, reason: type[ParseError]) -> None:
    assert outcome([head]) is reason
    assert outcome(bytewise(head)) is reason


def test_http2_preface_is_told_apart() -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    assert outcome([preface]) is Http2Preface
    assert outcome(bytewise(preface)) is Http2Preface


def test_t5_a_head_has_at_most_64_kib() -> None:
    def head(size: int) -> bytes:
        start, end = b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"\r\n\r\n"
        return start + b"x" * (size - len(start) - len(end)) + end

    assert outcome([head(MAX_HEAD)]) == RequestHead("GET", "a")
    assert outcome([head(MAX_HEAD)[:-1]]) == NEED_MORE
    assert outcome([head(MAX_HEAD + 1)]) is HeadTooLarge
    assert outcome([b"x" * (MAX_HEAD - 1)]) == NEED_MORE
    assert outcome([b"x" * MAX_HEAD]) is HeadTooLarge
    assert outcome(bytewise(head(MAX_HEAD))) == RequestHead("GET", "a")
    assert outcome(bytewise(head(MAX_HEAD + 1))) is HeadTooLarge


@pytest.mark.parametrize("line", [b"x: y\r\n", b"x:\n"])
def test_t5_a_head_has_a_bounded_number_of_lines(line: bytes) -> None:
    start = b"GET / HTTP/1.1\r\nHost: a\r\n"
    assert outcome([start + line * (MAX_LINES - 3) + b"\r\n"]) == RequestHead("GET", "a")
    assert outcome([start + line * (MAX_LINES - 2) + b"\r\n"]) is HeadTooLarge
    assert outcome([b"\r\n" * (MAX_LINES + 1)]) is HeadTooLarge


@pytest.mark.parametrize("filler", [b" ", b"\t", b"a", b"a ", b"\r"])
def test_t5_a_full_head_of_one_line_takes_no_quadratic_time(filler: bytes) -> None:
    """Would take minutes with a pattern that backtracks: 32 such heads are read in far less than a second."""
    line = filler * ((MAX_HEAD - 40) // len(filler))
    for end in (b"\0\r\n\r\n", b"\r\n\r\n") * 16:
        outcome([b"GET / HTTP/1.1\r\nHost: a\r\nX: " + line + end])


def test_bytes_after_the_head_are_kept_and_not_read() -> None:
    stream = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nbo\0\r\ndy"
    parser = RequestHeadParser()
    assert parser.feed(stream) == RequestHead("POST", "a")
    assert parser.received == stream


_PIECES = st.sampled_from(
    [
        *(
            b"GET / HTTP/1.1",
            b"GET http://a/ HTTP/1.0",
            b"PRI * HTTP/2.0",
            b"Host: a",
            b"host:b:80",
            b"X: y",
            b"CONNECT",
        ),
        *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b"\0", b":", b"[::1]", b"/", b"\xff"),
    ]
)


@settings(max_examples=5 * settings.default.max_examples)
@given(
    st.binary(max_size=100) | st.lists(_PIECES, max_size=12).map(b"".join),
    st.lists(st.integers(0, 150), max_size=8),
)
def test_t6_three_answers_whatever_the_pieces(stream: bytes, cuts: list[int]) -> None:
    whole = outcome([stream])
    assert outcome(bytewise(stream)) == whole
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    assert outcome(stream[start:end] for start, end in itertools.pairwise(edges)) == whole


_FIELDS = st.sampled_from(
    [
        b"Host: web.example",
        b"hOST:web.example:80\t",
        b"Host: ",
        b"Host: [::1]:80",
        b"Host: a b",
        b"X-Host: other.example",
        b"Accept: */*",
        b" folded: yes",
        b"No-Colon",
        b"Space : x",
        b"X: a\nHost: smuggled.example",
        b"X: \xff\x80",
        b"X: \0",
    ]
)


@settings(max_examples=5 * settings.default.max_examples)
@given(
    st.sampled_from(
        [
            b"GET / HTTP/1.1",
            b"POST /a?b=c HTTP/1.1",
            b"GET / HTTP/1.0",
            b"CONNECT a:1 HTTP/1.1",
            b"GET http://a/ HTTP/1.1",
        ]
    ),
    st.lists(_FIELDS, max_size=5),
    st.sampled_from([b"\r\n\r\n", b"\r\n\r\nbody\r\nHost: body.example\r\n\r\n", b"\r\n", b"\n\n"]),
)
def test_t6_the_quick_way_says_what_the_slow_way_says(line: bytes, fields: list[bytes], end: bytes) -> None:
    head = b"\r\n".join([line, *fields]) + end
    try:
        quick: RequestHead | type[ParseError] | None = read_usual_head(head)
    except ParseError:
        quick = ParseError
    assert quick is None or quick == outcome([head])


def test_t5_the_quick_way_keeps_the_limit_of_lines() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * (MAX_LINES - 3)
    assert read_usual_head(head + b"\r\n") == outcome([head + b"\r\n"]) == RequestHead("GET", "a")
    assert read_usual_head(head + b"X: y\r\n\r\n") is None


def test_the_quick_way_takes_what_browsers_send() -> None:
    head = b"GET /a HTTP/1.1\r\nHost: Web.Example:8080\r\nUser-Agent: x (y; z)\r\nAccept: */*\r\n\r\n"
    assert read_usual_head(head) == RequestHead("GET", "web.example")
