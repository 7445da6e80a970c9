"""The units that roles write: each runs its own program, comes back when it ends, and waits only for what exists."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed.paths import VENV_BIN

ROLES = Path(__file__).resolve().parents[4] / "roles"
TUNNEL = ROLES.parent / "files" / "tunnel" / "tfgateway-tunnel@.service"  # for the machines of users
ROOT = "/opt/tfgateway"
RELEASE = {
    "facts": {"distribution": "Debian", "distribution_version": "12", "os_family": "Debian"},
    "release_root": ROOT,
    "release_user": "tfgateway",
    "release_group": "tfgateway",
    "release_version": "1.0",
    "wireguard_enabled": True,
    "wireguard_endpoint": "192.0.2.1:3443",
}
PLANES = {
    "tfgateway": "reconcile",
    "tfgateway-dns": "dns",
    "tfgateway-proxy": "proxy",
    "tfgateway-4to6": "fourtosix",
}
# Those of systemd itself (systemd.special(7)).
SYSTEMD = {"network.target", "network-online.target", "multi-user.target", "timers.target"}
# What systemd-analyze(1) calls exposure, from 0 to 10: what a unit could do if its program were taken over.
EXPOSURE = 2.0
EXPOSED_MORE = {
    "tfgateway-masquerade@.service": (10.0, "changes the firewall, once, and may have to load modules for that"),
    "tfgateway-undo@.service": (10.0, "undoes, as root, whatever a role changed"),
}
DEPENDENCIES = {"After", "Before", "BindsTo", "Conflicts", "PartOf", "Requires", "Requisite", "WantedBy", "Wants"}

Unit = dict[str, list[str]]


def parse(text: str) -> Unit:
    """Values by directive, in their order; continued lines joined (systemd.syntax(7))."""
    unit: Unit = {}
    for line in text.replace("\\\n", " ").splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith(("#", ";")):
            unit.setdefault(name, []).append(value.strip())
    return unit


def template(role: str, name: str, **variables: str) -> str:
    """The expression that is a role's file; ``variables`` are expressions too."""
    given = ", ".join(f"'{key}': {value}" for key, value in variables.items())
    return f"lookup('ansible.builtin.template', '{ROLES / role / 'templates' / name}', template_vars={{ {given} }})"


def of_role(name: str) -> dict[str, Any]:
    """Variables of a node; Ansible gives a role's own templates the path of the role."""
    return RELEASE | {"role_path": str(ROLES / name)}


@pytest.fixture(scope="module")
def files(evaluate: Callable[..., dict[str, dict[str, Any]]]) -> dict[str, str]:
    """Every unit file of a gateway and of an explorer, as Ansible writes it, by its name."""
    written: dict[str, str] = {}
    planes = {
        f"_gateway_units[{index}].name ~ '.service'": template(
            "gateway", "unit.service.j2", item=f"_gateway_units[{index}]"
        )
        for index in range(len(PLANES))
    }
    pairs = {"all": "[" + ", ".join(f"[{name}, {text}]" for name, text in planes.items()) + "]"}
    written |= dict(evaluate("gateway", pairs, {"node": of_role("gateway")})["node"]["all"])
    for path in ROLES.glob("*/templates/*.j2"):
        name = path.name.removesuffix(".j2")
        if name.endswith((".service", ".timer")) and name != "unit.service":
            role = path.parents[1].name
            written[name] = evaluate(role, {"unit": template(role, path.name)}, {"node": of_role(role)})["node"]["unit"]
    return written


@pytest.fixture(scope="module")
def units(files: dict[str, str]) -> dict[str, Unit]:
    """Their values."""
    return {name: parse(text) for name, text in files.items()}


def test_there_is_a_unit_for_each_plane(units: dict[str, Unit]) -> None:
    assert {f"{name}.service" for name in PLANES} | {"tfredis.service", "tfgateway-explorer.service"} < units.keys()


def test_i11_what_serves_comes_back_by_itself_however_often_it_ends(units: dict[str, Unit]) -> None:
    serving = {name: unit for name, unit in units.items() if unit.get("Type") in (["simple"], ["notify"])}
    assert serving.keys() == {f"{name}.service" for name in [*PLANES, "tfredis", "tfsentinel", "tfgateway-explorer"]}
    for name, unit in serving.items():
        assert unit["Restart"] == ["always"], name
        assert unit["StartLimitIntervalSec"] == ["0"], name


def test_i12_units_name_only_units_that_exist(units: dict[str, Unit]) -> None:
    named = {
        (name, other)
        for name, unit in units.items()
        for directive in DEPENDENCIES & unit.keys()
        for value in unit[directive]
        for other in value.split()
    }
    assert ("tfgateway-proxy.service", "tfredis.service") in named
    assert {(name, other) for name, other in named if other not in SYSTEMD | units.keys()} == set()


@pytest.mark.parametrize(("name", "command"), PLANES.items())
def test_i13_each_plane_runs_its_own_command_under_its_own_name(
    units: dict[str, Unit], name: str, command: str
) -> None:
    (start,) = units[f"{name}.service"]["ExecStart"]
    assert shlex.split(start) == [f"{ROOT}/current/bin/tfgateway", command]
    help_text = subprocess.run([VENV_BIN / "tfgateway", command, "--help"], capture_output=True, text=True)
    assert help_text.returncode == 0
    assert help_text.stdout.startswith(f"Usage: tfgateway {command} ")


def test_i13_programs_have_whole_paths_without_a_doubled_directory(units: dict[str, Unit]) -> None:
    for name, unit in units.items():
        commands = [value for directive, values in unit.items() if directive.startswith("Exec") for value in values]
        assert commands or name.endswith(".timer")
        for command in commands:
            program = shlex.split(command)[0].lstrip("-+@!:")
            assert program.startswith("/"), command
            assert re.search(r"(/[^/ ]+)\1(/|$)", program) is None, command


def test_least_privilege(files: dict[str, str], tmp_path: Path) -> None:
    exposures = {}
    for name, text in (files | {TUNNEL.name: TUNNEL.read_text()}).items():
        if name.endswith(".service"):
            (tmp_path / name).write_text(text)
            look = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=100", name]
            done = subprocess.run(look, cwd=tmp_path, capture_output=True, text=True)
            found = re.search(r"Overall exposure level for \S+: (\d+\.\d)", done.stdout)
            assert found, done
            exposures[name] = float(found[1])
    assert len(exposures) == len(PLANES) + 7
    allowed = {name: EXPOSED_MORE.get(name, (EXPOSURE, ""))[0] for name in exposures}
    assert {name: found for name, found in exposures.items() if found > allowed[name]} == {}
    assert EXPOSED_MORE.keys() < exposures.keys()


def test_an_old_systemd_gets_no_group_that_it_does_not_know(evaluate: Callable[..., dict[str, dict[str, Any]]]) -> None:
    """Ubuntu 18.04: systemd 237 would leave out @system-service, and then allow next to nothing."""
    facts = {"distribution": "Ubuntu", "distribution_version": "18.04", "os_family": "Debian"}
    for role, unit, variables in (
        ("gateway", "unit.service.j2", {"item": "_gateway_units[0]"}),
        ("explorer", "tfgateway-explorer.service.j2", {}),
        ("tfredis", "tfredis.service.j2", {}),
        ("monitoring", "tfgateway-textfile.service.j2", {}),
    ):
        case = {"node": of_role(role) | {"facts": facts, "_tfredis_fetched": {"stdout": f'{{"sha256": "{"0" * 64}"}}'}}}
        text = evaluate(role, {"unit": template(role, unit, **variables)}, case)["node"]["unit"]
        assert parse(text)["SystemCallFilter"] == ["~@privileged @resources"], role


def test_the_explorer_s_unit_does_not_show_the_url_of_its_database(
    evaluate: Callable[..., dict[str, dict[str, Any]]],
) -> None:
    secret = {"explorer_database": "postgresql://explorer:secret@db.example/explorer", "explorer_drain": 10}
    case = {"node": of_role("explorer") | secret}
    text = evaluate("explorer", {"unit": template("explorer", "tfgateway-explorer.service.j2")}, case)["node"]["unit"]
    unit = parse(text)
    assert "secret" not in text
    assert "explorer.sqlite" not in text
    assert unit["EnvironmentFile"] == ["/etc/tfgateway-explorer/environment"]
    assert unit["TimeoutStopSec"] == ["25"]
    assert "--drain=10" in text
    assert "--ids=/var/lib/tfgateway-explorer/ids" in text
