# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""What this controller has of what a run needs, and what to install where it is missing."""

from __future__ import annotations

import os
import shutil
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils.compat.version import LooseVersion
from ansible.release import __version__ as core

PYTHON = (3, 10)  # that of the oldest controllers with ansible-core 2.16
CORE = "2.16"
DAEMON = (3, 11)  # the daemon's own oldest, in role release too
# Distribution and module.
PACKAGES = {"dnspython": "dns", "mnemonic": "mnemonic"}
COLLECTIONS = ("ansible.posix", "community.general")


def look(name: str) -> dict[str, str]:
    """``name``, what was ``found`` of it, and the ``problem`` with what to do about it, each empty if there is none."""
    if name in PACKAGES:
        found, problem = _package(name)
    elif name in COLLECTIONS:
        found, problem = _collection(name)
    elif name in _OTHERS:
        found, problem = _OTHERS[name]()
    else:
        raise AnsibleFilterError(f"unknown tool {name!r}: one of {', '.join([*_OTHERS, *PACKAGES, *COLLECTIONS])}")
    return {"name": name, "found": found, "problem": problem}


def _python() -> tuple[str, str]:
    found = ".".join(map(str, sys.version_info[:3]))
    wanted = ".".join(map(str, PYTHON))
    problem = "" if sys.version_info >= PYTHON else f"Ansible runs on Python {found}: install it with {wanted} or newer"
    return f"{found} ({sys.executable})", problem


def _tfgateway() -> tuple[str, str]:
    """Whether this Python runs the daemon's command, which a run builds for the controller."""
    found, wanted = (".".join(map(str, version)) for version in (sys.version_info[:3], DAEMON))
    if sys.version_info >= DAEMON:
        return f"for Python {found}", ""
    needs = f"what gateway_farm_seed has this controller run needs Python {wanted}, Ansible runs on {found}"
    return "", f"{needs}: install Ansible with {wanted} or newer"


def _core() -> tuple[str, str]:
    old = LooseVersion(core) < LooseVersion(CORE)
    return core, f"this is ansible-core {core}: pip install 'ansible-core>={CORE}'" if old else ""


def _uv() -> tuple[str, str]:
    """As build_release.py looks for it."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("uv", path=path) or ""
    return found, "" if found else "there is no command uv, beside Ansible or on PATH: pip install uv"


def _package(name: str) -> tuple[str, str]:
    try:
        import_module(PACKAGES[name])
    except ImportError:
        return "", f"the Python of Ansible, {sys.executable}, has no package {name}: pip install {name}"
    try:
        return metadata.version(name), ""
    except metadata.PackageNotFoundError:
        return "of an unknown version", ""


def _collection(name: str) -> tuple[str, str]:
    """Its own meta/runtime.yml says which ansible-core it supports."""
    install = "ansible-galaxy collection install"
    try:
        folder = Path(next(iter(import_module(f"ansible_collections.{name}").__path__)))
    except (ImportError, StopIteration):
        return "", f"there is no collection {name}: {install} {name}"
    manifest = folder / "MANIFEST.json"
    stated = yaml.safe_load(manifest.read_text())["collection_info"]["version"] if manifest.exists() else "unknown"
    runtime = folder / "meta" / "runtime.yml"
    wanted = (yaml.safe_load(runtime.read_text()) or {}).get("requires_ansible") if runtime.exists() else None
    least = str(wanted or "").partition(">=")[2].partition(",")[0].strip()
    if least and LooseVersion(core) < LooseVersion(least):
        older = f"{name}:<{stated.partition('.')[0]}.0.0"
        return stated, f"{name} {stated} needs ansible-core {least}, this is {core}: {install} '{older}'"
    return stated, ""


_OTHERS: dict[str, Any] = {"python": _python, "ansible-core": _core, "uv": _uv, "tfgateway": _tfgateway}
