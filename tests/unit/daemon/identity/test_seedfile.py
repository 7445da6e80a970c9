from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfgateway.errors import IdentityError
from tfgateway.identity import seedfile
from tfgateway.identity.seedfile import SeedFile, format_seed_file, parse_seed_file
from tfgateway.identity.words import words_from_seed

SEED = bytes(range(32))
SEEDS = st.binary(min_size=32, max_size=32)
TIDS = st.none() | st.integers(0, 2**63 - 1)


def test_vector_1_version_1_0_0_is_39_bytes(known: dict[str, Any]) -> None:
    raw = bytes.fromhex(known["gateway"]["seed_file"])
    assert parse_seed_file(raw) == SeedFile(SEED)
    assert format_seed_file(SeedFile(SEED)) == raw


def test_vector_2_version_1_1_0_with_words_and_tid(known: dict[str, Any]) -> None:
    user = known["user"]
    content = SeedFile(bytes.fromhex(user["seed"]), 7)
    assert parse_seed_file(user["seed_file"].encode()) == content
    assert format_seed_file(content) == user["seed_file"].encode()


@pytest.mark.parametrize("wrap", ["{}\n", "  {}", "\n\t{}\r\n\n", "{} "])
def test_a_file_written_by_hand_may_have_white_space_around(known: dict[str, Any], wrap: str) -> None:
    assert parse_seed_file(wrap.format(known["user"]["seed_file"]).encode()).tid == 7


@pytest.mark.parametrize(
    ("name", "rest", "tid"),
    [
        ("mnemonic", {}, None),
        ("Mnemonic", {"ThreebotID": 9}, 9),
        ("mnemonic", {"threebotid": None}, None),
        ("mnemonic", {"threebotid": "7"}, None),
        ("mnemonic", {"threebotid": -1}, None),
        ("mnemonic", {"threebotid": True}, None),
        ("mnemonic", {"threebotid": 0, "email": "a@example.com"}, 0),
    ],
)
def test_only_the_words_must_be_right(name: str, rest: dict[str, Any], tid: int | None) -> None:
    raw = b'"1.1.0" ' + json.dumps({name: words_from_seed(SEED), **rest}, indent=1).encode()
    assert parse_seed_file(raw) == SeedFile(SEED, tid)


def test_an_unversioned_file_is_the_raw_seed() -> None:
    assert parse_seed_file(SEED) == SeedFile(SEED)


def test_a_payload_that_begins_with_white_space_keeps_it() -> None:
    seed = b" \n" + bytes(30)
    assert parse_seed_file(b'"1.0.0"' + seed).seed == seed


def test_c1_the_broken_form_left_by_the_old_gateway_loads() -> None:
    assert parse_seed_file(b'"1.1.0"' + SEED) == SeedFile(SEED)


@pytest.mark.parametrize("size", [31, 33])
def test_c1_the_broken_form_has_exactly_32_bytes(size: int) -> None:
    with pytest.raises(IdentityError, match="JSON object with the mnemonic"):
        parse_seed_file(b'"1.1.0"' + b"\xff" * size)


def test_c1_loading_never_writes(tmp_path: Path) -> None:
    for name, raw in {"raw": SEED, "broken": b'"1.1.0"' + SEED, "ordinary": b'"1.0.0"' + SEED}.items():
        path = tmp_path / name
        path.write_bytes(raw)
        os.utime(path, ns=(1, 1))
        before = path.stat()
        assert seedfile.load(path).seed == SEED
        assert path.read_bytes() == raw
        assert path.stat().st_mtime_ns == before.st_mtime_ns
        assert path.stat().st_mode == before.st_mode


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "wrong size 0 and should be 32"),
        (SEED + b"\n", "wrong size 33"),
        (SEED[:-1], "wrong size 31"),
        (b'"1.0.0"' + SEED + b"\n", "wrong size 33"),
        (b'"1.0.0"', "wrong size 0"),
        (b'"2.0.0"' + SEED, "unknown seed version"),
        (b'"1.0.1"' + SEED, "unknown seed version"),
        (b'"1.0.0-rc1"' + SEED, "unknown seed version"),
        (b'"1.1.0"', "JSON object with the mnemonic"),
        (b'"1.1.0"[]', "JSON object with the mnemonic"),
        (b'"1.1.0"{}', "no mnemonic"),
        (b'"1.1.0"{"mnemonic":["abandon"]}', "no mnemonic"),
        (b'"1.1.0"{"mnemonic":"abandon"}', "24 words, not 1"),
        (b'"one"' + SEED, "wrong size 37"),
        (b'"1.1.0"' + b"[" * 3000, "JSON object with the mnemonic"),
    ],
)
def test_what_is_no_seed_file_is_refused_with_a_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(IdentityError, match=reason):
        parse_seed_file(raw)


@given(SEEDS, TIDS)
def test_what_is_written_is_read(seed: bytes, tid: int | None) -> None:
    assert parse_seed_file(format_seed_file(SeedFile(seed, tid))) == SeedFile(seed, tid)


@given(
    st.binary(max_size=200)
    | st.builds(bytes.__add__, st.sampled_from([b'"1.0.0"', b'"1.1.0"', b' "1.1.0"{', b'"9.9.9"']), st.binary())
)
def test_any_bytes_are_a_seed_or_an_identity_error(raw: bytes) -> None:
    with contextlib.suppress(IdentityError):
        assert len(parse_seed_file(raw).seed) == 32


def test_the_seed_is_not_printed() -> None:
    assert repr(SeedFile(SEED, 7)) == "SeedFile(tid=7)"


def test_an_error_never_repeats_the_words(tmp_path: Path, known: dict[str, Any]) -> None:
    words = known["user"]["words"].split()
    path = tmp_path / "seed"
    path.write_text('"1.1.0"' + json.dumps({"mnemonic": " ".join([*words[:-1], "wrongword"])}))
    with pytest.raises(IdentityError) as caught:
        seedfile.load(path)
    assert str(caught.value).startswith(f"{path}: word 24")
    assert not any(word in str(caught.value) for word in (*words[:-1], "wrongword") if len(word) > 5)


@pytest.mark.parametrize("mode", [0o400, 0o600])
@pytest.mark.parametrize("tid", [None, 7])
def test_a_created_file_has_its_mode_whatever_the_umask(tmp_path: Path, mode: int, tid: int | None) -> None:
    path = tmp_path / "seed"
    for umask in (0o777, 0):
        previous = os.umask(umask)
        try:
            seedfile.create(path, SEED, tid, mode)
        finally:
            os.umask(previous)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert seedfile.load(path) == SeedFile(SEED, tid)
        path.unlink()


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "seed"
    path.write_bytes(b"precious")
    with pytest.raises(IdentityError, match="exists already"):
        seedfile.create(path, SEED)
    assert path.read_bytes() == b"precious"


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "seed"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IdentityError, match="exists already"):
        seedfile.create(path, SEED)
    assert not (tmp_path / "elsewhere").exists()


def test_a_write_that_fails_leaves_no_half_file() -> None:
    """A limit on the size of files makes the write fail for real, as a full disk would."""
    program = (
        "import resource, signal, sys, pathlib, tempfile\n"
        "from tfgateway.errors import IdentityError\n"
        "from tfgateway.identity import seedfile\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "path = pathlib.Path(tempfile.mkdtemp()) / 'seed'\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "try:\n"
        "    seedfile.create(path, bytes(32))\n"
        "except IdentityError as error:\n"
        "    sys.stdout.write(f'{error}|{path.exists()}')\n"
        "path.parent.rmdir()\n"
    )
    done = subprocess.run([sys.executable, "-B", "-c", program], capture_output=True, text=True, check=True)
    assert "cannot be written: File too large|False" in done.stdout


def test_a_missing_directory_and_a_wrong_seed_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="cannot be created: No such file or directory"):
        seedfile.create(tmp_path / "absent" / "seed", SEED)
    with pytest.raises(IdentityError, match="wrong size 5"):
        seedfile.create(tmp_path / "seed", b"short")
    assert not (tmp_path / "seed").exists()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="nothing: cannot be read: No such file or directory"):
        seedfile.load(tmp_path / "nothing")
    with pytest.raises(IdentityError, match="cannot be read: Is a directory"):
        seedfile.load(tmp_path)


def test_a_large_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "seed"
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse: reading it whole would not end well
    with pytest.raises(IdentityError, match="larger than 4096 bytes"):
        seedfile.load(path)


def test_generated_seeds_differ() -> None:
    seeds = {seedfile.generate_seed() for _ in range(10)}
    assert len(seeds) == 10
    assert {len(seed) for seed in seeds} == {32}


def test_c5_seeds_are_made_by_chance() -> None:
    """Part of a digest of the seed is public in 4to6 addresses: nothing that can be guessed will do."""
    made = {seedfile.generate_seed() for _ in range(100)}
    assert len(made) == 100
    assert {len(seed) for seed in made} == {32}
    assert len({byte for seed in made for byte in seed}) > 200
