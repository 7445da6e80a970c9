from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.versioned import Version, join, split


@pytest.mark.parametrize(
    ("raw", "version", "payload"),
    [
        (b'"1.0.0"data', Version(1, 0, 0), b"data"),
        (b' \t\r\n"1.1.0" data\n', Version(1, 1, 0), b" data\n"),
        (b'"0.0.0"', Version(0, 0, 0), b""),
        (b'"1.0.0-rc.1"x', Version(1, 0, 0, "rc.1"), b"x"),
        (b'"1.0.0+build"x', Version(1, 0, 0), b"x"),
        (b'"1.0.0""2.0.0"', Version(1, 0, 0), b'"2.0.0"'),
    ],
)
def test_the_payload_is_everything_after_the_quote(raw: bytes, version: Version, payload: bytes) -> None:
    assert split(raw) == (version, payload)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"data",
        b"1.0.0",
        b'"1.0"',
        b'"v1.0.0"',
        b'"01.0.0"',
        b'"1.0.0',
        b'"one"',
        b'"1.0.0 "',
        b'x"1.0.0"',
        b"\xff" * 32,
    ],
)
def test_without_a_semantic_version_everything_is_payload(raw: bytes) -> None:
    assert split(raw) == (None, raw)


@given(st.integers(0, 9999), st.integers(0, 9999), st.integers(0, 9999), st.binary(max_size=50))
def test_streams_round_trip(major: int, minor: int, patch: int, payload: bytes) -> None:
    version = Version(major, minor, patch)
    assert split(join(version, payload)) == (version, payload)


@given(st.binary(max_size=100))
def test_any_bytes_are_split_without_loss(raw: bytes) -> None:
    version, payload = split(raw)
    assert raw.endswith(payload)
    assert version is not None or payload == raw
