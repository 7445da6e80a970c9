"""What a controller lacks is said with what to install."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.tfgrid.gateway.plugins.plugin_utils import _controller


def test_a_controller_with_everything_has_no_problem() -> None:
    names = ["python", "ansible-core", "uv", "tfgateway", "dnspython", "mnemonic", "ansible.posix", "community.general"]
    looks = [_controller.look(name) for name in names]
    assert [look["problem"] for look in looks] == [""] * len(names)
    assert all(look["found"] for look in looks)


def test_an_old_python_and_an_old_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_controller, "PYTHON", (3, 99))
    monkeypatch.setattr(_controller, "CORE", "2.99")
    monkeypatch.setattr(_controller, "DAEMON", (3, 98))
    assert "install it with 3.99 or newer" in _controller.look("python")["problem"]
    assert "install Ansible with 3.98 or newer" in _controller.look("tfgateway")["problem"]
    assert _controller.look("ansible-core")["problem"].endswith("pip install 'ansible-core>=2.99'")


def test_no_uv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _controller.look("uv")["problem"].endswith("pip install uv")
    (tmp_path / "uv").touch(0o755)
    assert _controller.look("uv")["found"] == str(tmp_path / "uv")


def test_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_controller.PACKAGES, "mnemonic", "tfgateway_nobody_has_this")
    assert _controller.look("mnemonic")["problem"].endswith("has no package mnemonic: pip install mnemonic")


def test_a_collection_for_a_newer_core(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "ansible_collections" / "community" / "general"
    (folder / "meta").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "MANIFEST.json").write_text(json.dumps({"collection_info": {"version": "99.1.0"}}))
    (folder / "meta" / "runtime.yml").write_text("requires_ansible: '>=2.99.0'\n")
    monkeypatch.setattr(
        _controller, "import_module", lambda _name: type("module", (), {"__path__": [str(folder)]}), raising=True
    )
    problem = _controller.look("community.general")["problem"]
    assert problem.startswith("community.general 99.1.0 needs ansible-core 2.99.0, this is ")
    assert problem.endswith("ansible-galaxy collection install 'community.general:<99.0.0'")


def test_a_collection_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(_controller, "import_module", absent)
    assert _controller.look("ansible.posix")["problem"].endswith("ansible-galaxy collection install ansible.posix")


def test_another_name_is_an_error() -> None:
    with pytest.raises(AnsibleFilterError, match="unknown tool 'gcc'"):
        _controller.look("gcc")
