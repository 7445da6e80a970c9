"""Host names brought to the form that services are looked up by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import ParseError
from tfgateway.proxy.parse.hosts import authority_host, host_name


@pytest.mark.parametrize(
    ("raw", "host"),
    [
        (b"web.example", "web.example"),
        (b"WEB.Example", "web.example"),
        (b"web.example.", "web.example"),
        (b"_acme.web-1.example", "_acme.web-1.example"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        (b"192.0.2.1", "192.0.2.1"),
        (b"2001:DB8:0:0::1", "2001:db8::1"),
        (b"a%7Eb", "a%7eb"),
        (b"x" * 255, "x" * 255),
    ],
)
def test_a_name_gets_one_form(raw: bytes, host: str) -> None:
    assert host_name(raw) == host


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b".",
        b"a b",
        b"a\x00b",
        b"a\nb",
        b"b\xc3\xbccher.example",
        b"a/b",
        b"user@web.example",
        b"a%zz",
        b"[::1]",
        b"::1::",
        b"fe80::1%eth0",
        b"web.example:80",
        b"x" * 256,
    ],
)
def test_what_is_no_name_is_refused(raw: bytes) -> None:
    with pytest.raises(ParseError):
        host_name(raw)


@pytest.mark.parametrize(
    ("raw", "host"),
    [
        (b"", ""),
        (b"web.example", "web.example"),
        (b"web.example:80", "web.example"),
        (b"web.example:", "web.example"),
        (b"WEB.example.:8080", "web.example"),
        (b"[2001:db8:0::1]", "2001:db8::1"),
        (b"[2001:db8::1]:443", "2001:db8::1"),
    ],
)
def test_t6_a_port_is_dropped_and_ipv6_stands_in_brackets(raw: bytes, host: str) -> None:
    assert authority_host(raw) == host


@pytest.mark.parametrize(
    "raw",
    [
        b"web.example:http",
        b"web.example:123456",
        b"web.example:80:80",
        b":80",
        b"[::1",
        b"::1",
        b"[web.example]",
        b"[]",
        b"[fe80::1%25eth0]",
        b"a,b:80 ",
        b"user:word@web.example",
    ],
)
def test_what_is_no_authority_is_refused(raw: bytes) -> None:
    with pytest.raises(ParseError):
        authority_host(raw)


@given(st.binary(max_size=300) | st.text("aA1.:[]%-_@/ ", max_size=20).map(str.encode))
def test_any_bytes_give_a_plain_name_or_a_parse_error(raw: bytes) -> None:
    for parse in (host_name, authority_host):
        try:
            host = parse(raw)
        except ParseError:
            continue
        assert host == host.lower()
        assert host.isascii()
        assert host.isprintable()
        assert len(host) <= 255
