"""Packages through apt-get and pacman: what they print is understood, and no question is ever asked."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.tfgrid.gateway.plugins.module_utils import _packages
from ansible_collections.tfgrid.gateway.plugins.module_utils._packages import Apt, PackageError, Pacman


class Host:
    """Answers commands by their beginning, and keeps them."""

    def __init__(self, **answers: tuple[int, str, str]) -> None:
        self.answers = answers
        self.called: list[str] = []

    def run(self, argv: list[str], environ_update: dict[str, str]) -> tuple[int, str, str]:
        assert environ_update["DEBIAN_FRONTEND"] == "noninteractive"
        self.called.append(" ".join(argv))
        for word, answer in self.answers.items():
            if any(part.lstrip("-") == word for part in argv):
                return answer
        return 0, "", ""


def test_apt_knows_what_is_installed_and_what_only_was() -> None:
    listed = "ufw\tinstall ok installed\nredis\tdeinstall ok config-files\n"
    host = Host(show=(1, listed, "no packages found matching zzz"))
    assert Apt(host.run, 0).missing(["ufw", "redis", "zzz|ufw", "zzz|redis"]) == [["redis"], ["zzz", "redis"]]


def test_apt_keeps_configuration_files_and_asks_nothing() -> None:
    host = Host()
    Apt(host.run, 0).install([["ufw"]])
    assert "--force-confold" in host.called[0]
    assert "--yes" in host.called[0]
    assert host.called[0].endswith(" ufw")


def test_apt_waits_for_a_lock_as_long_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_packages.time, "sleep", lambda _seconds: None)
    held = (100, "", "E: Could not get lock /var/lib/dpkg/lock-frontend - open (11: Resource temporarily unavailable)")
    answers = iter([held, held, (0, "", "")])
    host = Host()
    monkeypatch.setattr(host, "run", lambda *_arguments, **_more: next(answers))
    Apt(host.run, 60).install([["ufw"]])
    with pytest.raises(PackageError, match="Could not get lock"):
        Apt(lambda *_arguments, **_more: held, -1).install([["ufw"]])


def test_apt_says_what_was_wrong() -> None:
    host = Host(install=(100, "", "W: noise\nE: Unable to locate package zzz\n"))
    with pytest.raises(PackageError, match=r"^apt-get install failed: E: Unable to locate package zzz$"):
        Apt(host.run, 0).install([["zzz"]])


def test_apts_plan_is_read() -> None:
    plan = "Inst libc6 [2.36-9] (2.36-10 Debian:12/stable [amd64])\nConf libc6 (2.36-10)\nRemv old [1.0]\n"
    assert _packages.parse_simulation(plan) == ["libc6", "old"]


def test_pacman_takes_the_alternative_that_is_known() -> None:
    class Arch(Host):
        def run(self, argv: list[str], environ_update: dict[str, str]) -> tuple[int, str, str]:
            super().run(argv, environ_update)
            return (1 if argv[1:] == ["--sync", "--info", "redis"] else 0), "", ""

    host: Any = Arch()
    Pacman(host.run, 0).install([["redis", "valkey"], ["ufw"]])
    assert host.called[-1].endswith("--needed --noconfirm valkey ufw")


def test_pacman_asks_which_are_missing() -> None:
    host = Host(deptest=(127, "redis\nvalkey\nufw\n", ""))
    assert Pacman(host.run, 0).missing(["redis|valkey", "ufw", "iproute2"]) == [["redis", "valkey"], ["ufw"]]
    host = Host(deptest=(127, "redis\n", ""))
    assert Pacman(host.run, 0).missing(["redis|valkey"]) == []


def test_a_host_with_neither_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_packages, "MANAGERS", [])
    with pytest.raises(PackageError, match="neither"):
        _packages.manager(Host().run, 0)
