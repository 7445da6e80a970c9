"""A user at a real explorer, a real reconciler with redis, and the modules that an operator runs there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tfgateway.identity import seedfile
from tfgateway.identity.keys import Identity

from tests.support import ansible_module
from tests.support.processes import CommandLine, Explorer, RedisServer

PROGRAM = str(Path(sys.executable).with_name("tfgateway"))


class World:
    """One explorer, one gateway, one user; ``module`` runs a module with what all of them have in common."""

    def __init__(
        self, directory: Path, tfgateway: CommandLine, explorer: Explorer, redis_server: RedisServer, ports: list[int]
    ) -> None:
        self.directory = directory
        self.tfgateway = tfgateway
        self.explorer = explorer
        self.redis = redis_server
        self._ports = ports
        self.most_removals = 10
        self.endpoint = "192.0.2.1:3443"
        seedfile.create(directory / "gateway.seed", bytes(range(32)))
        self.node = Identity.from_seed(bytes(range(32))).node_id
        self.user_seed = directory / "alice.seed"
        self.config = directory / "node.toml"
        self.config.write_text(self.settings())
        self.reserve("register", "--name", "alice", "--email", "a@example.com", "--output", str(self.user_seed))
        self.reserve("farm", "create", "--name", "farm")
        self.reserve("farm", "admit", "--farm", "1", "--node", self.node, "--managed-domain", "gw1.example")

    def settings(self) -> str:
        reconciler, dns, proxy = self._ports
        return f"""
[identity]
seed = "{self.directory / "gateway.seed"}"
[redis]
url = "{self.redis.url}"
[explorer]
url = "{self.explorer.url}"
poll_interval = 0.2
[gateway]
farm_id = 1
name_servers = ["ns1.gw1.example"]
managed_domains = ["gw1.example"]
[gateway.location]
city = "Gent"
[dns]
listen = []
metrics = "127.0.0.1:{dns}"
[proxy]
allowed_targets = ["203.0.113.0/24"]
listen_http = []
listen_tls = []
metrics = "127.0.0.1:{proxy}"
[reconciler]
max_removal_count = {self.most_removals}
metrics = "127.0.0.1:{reconciler}"
[fourtosix]
endpoint = "{self.endpoint}"
metrics = "127.0.0.1:{proxy}"
"""

    def reserve(self, *arguments: str) -> Any:
        seed = ["--seed", str(self.user_seed)] if self.user_seed.exists() else []
        done = self.tfgateway.run("reserve", "--explorer", self.explorer.url, *seed, *arguments, "--json", config="")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self) -> Any:
        """The reconciler, registered."""
        process = self.tfgateway("reconcile", config=self.settings())
        process.wait_for(lambda: self.reserve("gateways"), "a registered gateway")
        return process

    def on_node(self, name: str, **params: Any) -> dict[str, Any]:
        return ansible_module.run(name, self.directory, program=PROGRAM, config=str(self.config), **params)

    def as_user(self, **params: Any) -> dict[str, Any]:
        given = {"explorer": self.explorer.url, "seed": str(self.user_seed), "node": self.node, "program": PROGRAM}
        return ansible_module.run("reservation", self.directory, **{**given, **params})


@pytest.fixture
def world(
    tmp_path: Path, tfgateway: CommandLine, explorer: Explorer, redis_server: RedisServer, free_port: Callable[[], int]
) -> World:
    return World(tmp_path, tfgateway, explorer, redis_server, [free_port() for _ in range(3)])
