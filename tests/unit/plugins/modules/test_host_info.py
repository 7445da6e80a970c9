"""Module ``host_info`` on this machine, and what it makes of systemd's words."""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tfgrid.gateway.plugins.module_utils import _host

from tests.support import ansible_module
from tests.support.ports import free_port


def run(directory: Path, **params: Any) -> dict[str, Any]:
    return ansible_module.run("host_info", directory, **params)


def test_it_may_be_asked_for_nothing(tmp_path: Path) -> None:
    said = run(tmp_path)
    assert not said["changed"]
    assert said["missing_packages"] == []
    assert all(said[kind] == {} for kind in ("units", "paths", "texts", "connections", "commands"))


def test_paths_and_texts(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("text\n")
    (tmp_path / "a").symlink_to("nowhere")
    (tmp_path / "large").write_bytes(b"\xff" + b"x" * 2 * _host.LARGEST_TEXT)
    there, none, all_of_them = (str(tmp_path / name) for name in ("b", "none", "[ab]"))
    said = run(tmp_path, paths=[there, none, all_of_them], texts=[there, none, str(tmp_path), str(tmp_path / "large")])
    assert said["paths"] == {there: [there], none: [], all_of_them: [str(tmp_path / "a"), there]}
    large = said["texts"].pop(str(tmp_path / "large"))
    assert (large[0], len(large)) == ("\ufffd", _host.LARGEST_TEXT)
    assert said["texts"] == {there: "text\n", none: None, str(tmp_path): None}


def test_commands_are_run_in_check_mode_too_and_may_be_missing(tmp_path: Path) -> None:
    script = "import os, sys; print(os.environ['LC_ALL']); sys.exit(3)"
    said = run(tmp_path, check=True, commands={"here": [sys.executable, "-c", script], "away": ["no-such-program", 1]})
    assert said["commands"]["here"] == {"rc": 3, "stdout": "C\n", "stderr": ""}
    assert said["commands"]["away"]["rc"] == 127
    assert "no-such-program" in said["commands"]["away"]["stderr"]


def test_connections(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        there, away = f"127.0.0.1:{listener.getsockname()[1]}", f"127.0.0.1:{free_port()}"
        assert run(tmp_path, connections=[there, away], timeout=1)["connections"] == {there: True, away: False}
    with closing(socket.create_server(("::1", 0), family=socket.AF_INET6)) as listener:
        there = f"[::1]:{listener.getsockname()[1]}"
        assert run(tmp_path, connections=[there])["connections"] == {there: True}
    assert "is not HOST:PORT" in run(tmp_path, connections=["127.0.0.1"])["msg"]


def test_a_connection_is_waited_for() -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))  # bound and not listening: refused
        assert not _host.accepts("127.0.0.1", listener.getsockname()[1], 0.5)
        listener.listen()
        assert _host.accepts("127.0.0.1", listener.getsockname()[1], 60)


def test_packages_of_this_machine(tmp_path: Path) -> None:
    assert run(tmp_path, packages=["dpkg", "no-such-package|dpkg", "no|none"])["missing_packages"] == ["no|none"]


def said_of(name: str, **properties: str) -> str:
    return "".join(f"{key}={value}\n" for key, value in ({"Id": name} | properties).items())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.service"
    path.touch()
    return path


UP = {"ActiveState": "active", "UnitFileState": "enabled"}


def test_units_that_run_stopped_or_do_not_exist(file: Path) -> None:
    text = "\n".join(
        [
            said_of("a.service", FragmentPath=str(file), ExecMainStartTimestampMonotonic="5000000", **UP),
            said_of("b.service", FragmentPath="/b", ActiveState="activating", UnitFileState="disabled"),
            said_of("none.service", FragmentPath="", ActiveState="inactive", UnitFileState=""),
            said_of("d.service", FragmentPath="/d", ActiveState="reloading", UnitFileState="static"),
            said_of("real.service", FragmentPath="/e", **UP),
        ]
    )
    names = ["a.service", "b.service", "none.service", "d.service", "alias.service", "unsaid.service"]
    found = _host.parse_units(names, text, boot=time.time())
    states = {name: (unit["exists"], unit["active"], unit["enabled"]) for name, unit in found.items()}
    assert states == {
        "a.service": (True, True, True),
        "b.service": (True, False, False),
        "none.service": (False, False, False),
        "d.service": (True, True, True),
        "alias.service": (False, True, True),
        "unsaid.service": (False, False, False),
    }
    assert not any(unit["outdated"] for unit in found.values())


@pytest.mark.parametrize(
    ("written", "state", "outdated"),
    [(10, "active", False), (101.5, "active", False), (103, "active", True), (103, "failed", False)],
)
def test_a_file_that_is_newer_than_the_process_is_noticed(
    file: Path, written: float, state: str, outdated: bool
) -> None:
    os.utime(file, (written, written))
    said = said_of(
        "a.service", FragmentPath=str(file), ActiveState=state, ExecMainStartTimestampMonotonic=str(90 * 10**6)
    )
    assert _host.parse_units(["a.service"], said, boot=10)["a.service"]["outdated"] is outdated


def test_a_host_without_systemd_has_no_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    unit = {"exists": False, "active": False, "enabled": False, "outdated": False}
    assert run(tmp_path, units=["a.service"])["units"] == {"a.service": unit}
