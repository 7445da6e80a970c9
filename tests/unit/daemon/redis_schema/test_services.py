from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tfgateway.errors import SchemaError
from tfgateway.redis_schema.services import Service, _any, _usual, decode_service, encode_service

INT64 = st.integers(-(2**63), 2**63 - 1)


def wrapped(inner: bytes | str, **outer: object) -> bytes:
    raw = inner.encode() if isinstance(inner, str) else inner
    return json.dumps({"Value": base64.b64encode(raw).decode(), **outer}).encode()


def test_vector_14_services(known: dict[str, Any]) -> None:
    for entry in known["services"]:
        service = Service(**{name: value for name, value in entry.items() if name not in ("domain", "stored")})
        assert encode_service(entry["domain"], service) == entry["stored"].encode()
        assert decode_service(entry["stored"].encode()) == service


@pytest.mark.parametrize(
    ("raw", "service"),
    [
        (
            wrapped('{"ADDR":"192.0.2.1","TLSPort":443,"httpPort":80}', Key="x", LastIndex=3),
            Service("192.0.2.1", "", 443, 80),
        ),
        (wrapped('{"addr":"192.0.2.1","sni":"a","name":"b","user":null}'), Service("192.0.2.1")),
        (wrapped("{}"), Service()),
        (wrapped("null"), Service()),
        (json.dumps({"value": base64.b64encode(b"{}").decode()}).encode(), Service()),
        (wrapped('{"addr":"x"} \n'), Service("x")),
        (wrapped('{"tlsport":70000,"httpport":-1}'), Service(tlsport=70000, httpport=-1)),
    ],
)
def test_entries_of_other_writers_are_read(raw: bytes, service: Service) -> None:
    assert decode_service(raw) == service


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"{}",
        b"[]",
        b'{"Value":5}',
        b'{"Value":"="}',
        b'{"Value":"e30"}',
        b'{"Value":"e3\\u00e9="}',
        wrapped("[]"),
        wrapped('{"addr":5}'),
        wrapped('{"tlsport":"443"}'),
        wrapped('{"tlsport":443.0}'),
        wrapped('{"tlsport":true}'),
        wrapped('{"httpport":9223372036854775808}'),
        wrapped('{"addr":"192.0.2.1"}x'),
        wrapped("[" * 5000),
        b'{"Value":"' + b"A" * 65536 + b'"}',
    ],
)
def test_a_damaged_entry_is_a_layout_error(raw: bytes) -> None:
    with pytest.raises(SchemaError, match="service"):
        decode_service(raw)


def test_a_secret_is_not_printed_nor_in_an_error() -> None:
    assert "s3cr3t" not in repr(Service(clientsecret="7:s3cr3t"))
    with pytest.raises(SchemaError) as caught:
        decode_service(wrapped('{"clientsecret":"7:s3cr3t","tlsport":"443"}'))
    assert "s3cr3t" not in f"{caught.value!r} {caught.value.__cause__!r}"


@given(st.builds(Service, st.text(), st.text(), INT64, INT64, st.text()), st.text())
def test_services_round_trip(service: Service, domain: str) -> None:
    raw = encode_service(domain, service)
    assert decode_service(raw) == service
    assert json.loads(raw)["Key"] == f"/tcprouter/service/{domain}"


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
PORTS = st.integers(0, 65535)
NAMES = st.sampled_from(["addr", "Addr", "clientsecret", "tlsport", "TLSPort", "httpport", "user", "other"])
USUAL = {"addr": st.text(), "clientsecret": st.text(), "tlsport": PORTS, "httpport": PORTS | VALUES}


@given(st.fixed_dictionaries(USUAL, optional={"user": VALUES, "Addr": VALUES}) | st.dictionaries(NAMES, VALUES))
@example({"addr": "a", "clientsecret": "", "tlsport": 1, "httpport": 2, "Addr": "b"})
def test_the_quick_way_agrees_with_the_other(members: dict[str, Any]) -> None:
    raw = wrapped(json.dumps(members), Key="/tcprouter/service/a.example")
    quick = _usual(raw)
    assert quick is None or quick == _any(raw)


def test_the_quick_way_takes_what_gateways_write() -> None:
    service = Service("192.0.2.1", "", 443, 80, "7")
    assert _usual(encode_service("a.example", service)) == service


@given(st.binary(max_size=100) | st.binary(max_size=100).map(wrapped))
def test_any_bytes_are_a_service_or_a_layout_error(raw: bytes) -> None:
    with contextlib.suppress(SchemaError):
        assert isinstance(decode_service(raw), Service)
