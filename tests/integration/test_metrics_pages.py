"""What real processes serve as metrics is what docs/reference/metrics.md says: names, types, labels and help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tfgateway.identity import seedfile

from tests.support.metrics import families
from tests.support.processes import CommandLine, RedisServer
from tools.reference import metrics


def served(port: int) -> dict[str, tuple[str, str, set[str]]]:
    """Name -> (type, help, labels of its samples)."""
    # The library adds to each counter when it was made, as a metric of its own that ends with _created.
    return {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            family.documentation,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in families(port)
        if not family.name.endswith("_created")
    }


def compare(port: int, *sources: str) -> None:
    """Both ways. A metric with labels that nothing was counted for has no samples, and says no labels."""
    listed = {one.name: one for source in sources for one in metrics.SOURCES[source].metrics()}
    found = served(port)
    assert set(found) == set(listed)
    for name, (kind, text, labels) in found.items():
        assert (kind, text) == (listed[name].type, listed[name].help), name
        assert not labels or labels == set(listed[name].labels), name


@pytest.mark.parametrize(
    ("plane", "sections"),
    [
        ("dns", 'listen = ["127.0.0.1:{port}"]'),
        ("proxy", 'listen_http = ["127.0.0.1:{port}"]\nlisten_tls = []\nlisten_tunnels = []'),
    ],
)
def test_the_page_of_a_plane_with_workers(
    plane: str, sections: str, tfgateway: CommandLine, redis_server: RedisServer, free_port: Callable[[], int]
) -> None:
    port = free_port()
    own = f'[{plane}]\nworkers = 1\nmetrics = "127.0.0.1:{port}"\n{sections.format(port=free_port())}'
    names = '[gateway]\nname_servers = ["ns1.gw1.example"]'
    tfgateway(plane, config=f'[redis]\nurl = "{redis_server.url}"\n{names}\n{own}\n')
    compare(port, plane, "supervisor")


def test_the_page_of_reconciler_and_explorer(
    tmp_path: Path, tfgateway: CommandLine, redis_server: RedisServer, free_port: Callable[[], int]
) -> None:
    ports = {name: free_port() for name in ("explorer", "explorer metrics", "reconciler")}
    seedfile.create(tmp_path / "identity.seed", bytes(range(32)))
    listen = ("--listen", f"127.0.0.1:{ports['explorer']}", "--metrics", f"127.0.0.1:{ports['explorer metrics']}")
    tfgateway("explorer", *listen, "--database", str(tmp_path / "explorer.db"), config="")
    tfgateway(
        "reconcile",
        config=f"""
            [identity]
            seed = "{tmp_path / "identity.seed"}"
            [redis]
            url = "{redis_server.url}"
            [explorer]
            url = "http://127.0.0.1:{ports["explorer"]}/api/v1"
            [gateway]
            farm_id = 1
            name_servers = ["ns1.gw1.example"]
            managed_domains = ["gw1.example"]
            [gateway.location]
            city = "Gent"
            country = "Belgium"
            continent = "Europe"
            [reconciler]
            metrics = "127.0.0.1:{ports["reconciler"]}"
        """,
    )
    compare(ports["explorer metrics"], "explorer")
    compare(ports["reconciler"], "reconciler")
