"""``tfgateway backup``: from one redis and seed to another, by the command line."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tfgateway.identity import seedfile
from tfgateway.identity.keys import Identity
from tfgateway.redis_schema.keys import MARKER
from tfgateway.redis_schema.marker import Marker, Mismatch, decode_marker, encode_marker, mismatch

from tests.support.processes import CommandLine, RedisServer

SEED, OTHER = bytes(range(32)), bytes(32)
NODE = Identity.from_seed(SEED).node_id


class Operator:
    """Somebody with a key, at a gateway that is backed up and at another one."""

    def __init__(self, directory: Path, tfgateway: CommandLine, redis_server: RedisServer, spare: Any) -> None:
        self.directory = directory
        self.redis, self.spare = redis_server, spare
        self._tfgateway = tfgateway
        self.key = directory / "operator.key"
        self.seed, self.spare_seed = directory / "a.seed", directory / "b.seed"
        seedfile.create(self.seed, SEED, 12)
        self.archive = directory / "a.backup"
        self.recipient = self.ask("generate-key", "--output", str(self.key))["recipient"]

    def run(self, *arguments: str) -> Any:
        return self._tfgateway.run("backup", *arguments, config="")

    def ask(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def create(self) -> Any:
        own = ("--seed", str(self.seed), "--redis", self.redis.url)
        return self.ask("create", "--recipient", self.recipient, *own, str(self.archive))

    def restore(self, *options: str) -> Any:
        own = ("--seed", str(self.spare_seed), "--redis", self.spare.url, "--key", str(self.key))
        return self.run("restore", *own, *options, str(self.archive), "--json")


@pytest.fixture
def operator(tmp_path: Path, tfgateway: CommandLine, redis_server: RedisServer, free_port: Callable[[], int]) -> Any:
    spare = type(redis_server)(free_port(), tmp_path / "spare")
    spare.start()
    yield Operator(tmp_path, tfgateway, redis_server, spare)
    spare.kill()


def fill(server: Any) -> None:
    with server.client() as client:
        client.hset("zone", "alice.example", '{"owner":"7"}')
        client.hset("alice.example.", mapping={f"n{number}": "x" * 50 for number in range(3000)})
        client.set(b"/tcprouter/service/\xff", b"\0\1\2")
        client.set("passing", "soon", px=600_000)
        client.set("tfgateway:lease", "somebody")
        client.xadd("news", {"a": "b"})


def test_another_node_gets_the_same_data_and_identity(operator: Operator) -> None:
    fill(operator.redis)
    made = operator.create()
    assert made["rows"] == 4
    assert stat.S_IMODE(operator.archive.stat().st_mode) == 0o600
    assert stat.S_IMODE(operator.key.stat().st_mode) == 0o600
    assert b"alice.example" not in operator.archive.read_bytes()
    with operator.spare.client() as client:
        client.set("of its own", "stays")
        client.hset("zone", "gone.example", "x")
    done = operator.restore()
    assert json.loads(done.stdout) | {"created": 0} == {"node_id": NODE, "created": 0, "rows": 4, "seed": "created"}
    assert seedfile.load(operator.spare_seed) == seedfile.SeedFile(SEED, 12)
    with operator.redis.client() as one, operator.spare.client() as two:
        for key in (b"zone", b"alice.example."):
            assert two.hgetall(key) == one.hgetall(key)
        assert two.get(b"/tcprouter/service/\xff") == b"\0\1\2"
        assert 0 < two.pttl("passing") <= 600_000
        assert two.get("of its own") == b"stays"
        assert not two.exists("tfgateway:lease", "news")
    assert json.loads(operator.restore().stdout)["seed"] == "kept"


def test_another_identity_is_replaced_only_on_request_and_kept(operator: Operator) -> None:
    fill(operator.redis)
    operator.create()
    seedfile.create(operator.spare_seed, OTHER)
    refused = operator.restore()
    assert refused.returncode == 1
    assert "holds another identity" in refused.stderr
    with operator.spare.client() as client:
        assert client.dbsize() == 0, "nothing was changed"
    assert json.loads(operator.restore("--replace-seed").stdout)["seed"] == "replaced"
    kept = operator.spare_seed.with_name(f"b.seed.{Identity.from_seed(OTHER).node_id}")
    assert seedfile.load(kept).seed == OTHER
    assert seedfile.load(operator.spare_seed).seed == SEED


def marked(server: Any, marker: Marker) -> None:
    with server.client() as client:
        client.set(MARKER, encode_marker(marker))


def test_planes_do_not_follow_what_comes_back_before_a_full_pass(operator: Operator) -> None:
    """The same identity: what its planes know may be newer than the backup."""
    fill(operator.redis)
    marked(operator.redis, Marker(NODE, "a" * 32, 50, 5))
    operator.create()
    seedfile.create(operator.spare_seed, SEED)
    seen = Marker(NODE, "b" * 32, 900, 90)
    marked(operator.spare, seen)
    assert json.loads(operator.restore().stdout)["seed"] == "kept"
    with operator.spare.client() as client:
        found = decode_marker(client.get(MARKER))
    assert (found.node_id, found.passes, found.previous) == (NODE, 0, seen.incarnation)
    assert mismatch(seen, found) is Mismatch.REPLACED
    assert mismatch(seen, found._replace(passes=1)) is None


def test_planes_follow_at_once_when_another_identity_comes_back(operator: Operator) -> None:
    """What they know is the other gateway's."""
    fill(operator.redis)
    operator.create()
    seedfile.create(operator.spare_seed, OTHER)
    seen = Marker(Identity.from_seed(OTHER).node_id, "b" * 32, 900, 90)
    marked(operator.spare, seen)
    assert json.loads(operator.restore("--replace-seed").stdout)["seed"] == "replaced"
    with operator.spare.client() as client:
        assert mismatch(seen, decode_marker(client.get(MARKER))) is None


def test_a_damaged_backup_changes_nothing(operator: Operator) -> None:
    fill(operator.redis)
    operator.create()
    raw = bytearray(operator.archive.read_bytes())
    raw[-20] ^= 1
    operator.archive.write_bytes(raw)
    refused = operator.restore()
    assert refused.returncode == 1
    assert "damaged" in refused.stderr
    assert not operator.spare_seed.exists()
    with operator.spare.client() as client:
        assert client.dbsize() == 0


def test_the_key_of_one_file_is_enough_for_a_node(operator: Operator) -> None:
    operator.create()
    (operator.directory / "one.key").write_text(
        operator.ask("unwrap", "--key", str(operator.key), str(operator.archive))["file_key"]
    )
    own = ("--seed", str(operator.spare_seed), "--redis", operator.spare.url)
    given = ("--file-key-from", str(operator.directory / "one.key"))
    assert operator.ask("restore", *own, *given, str(operator.archive))["node_id"] == NODE


def test_nothing_is_overwritten_and_no_half_file_is_left(operator: Operator) -> None:
    operator.create()
    again = ("--recipient", operator.recipient, "--seed", str(operator.seed), "--redis", operator.redis.url)
    assert "not overwritten" in operator.run("create", *again, str(operator.archive)).stderr
    operator.redis.kill()
    failed = operator.run("create", *again, str(operator.directory / "b.backup"))
    assert failed.returncode == 1
    assert not list(operator.directory.glob("b.backup*"))
    assert operator.ask("generate-key", "--output", str(operator.key))["recipient"] == operator.recipient
