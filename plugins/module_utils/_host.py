# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a host says of its units, files and ports: each question by itself, without Ansible."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import glob
import os
import socket
import time

LARGEST_TEXT = 1024 * 1024  # octets of a file that is read
UNIT_PROPERTIES = ("Id", "ActiveState", "UnitFileState", "FragmentPath", "ExecMainStartTimestampMonotonic")
# As `systemctl is-active` and `systemctl is-enabled` count them.
_ACTIVE = ("active", "reloading", "refreshing")
_ENABLED = ("enabled", "enabled-runtime", "static", "alias", "indirect", "generated")
_ROUNDING = 2  # seconds: the clocks of files and of systemd are rounded
_PAUSE = 0.2  # seconds between two attempts to connect


def parse_units(names, text, boot):
    """States of units by ``names``, from what ``systemctl show`` prints of them in that order.

    boot: when the host booted, in seconds since 1970.
    """
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.strip().split("\n\n")]
    blocks += [{}] * (len(names) - len(blocks))
    return {name: _unit(name, block, boot) for name, block in zip(names, blocks)}


def _unit(name, said, boot):
    active = said.get("ActiveState") in _ACTIVE
    path = said.get("FragmentPath", "")
    # One that goes by another name is an alias, and goes away with the unit that it stands for.
    exists = bool(path) and said.get("Id") == name
    started = boot + int(said.get("ExecMainStartTimestampMonotonic") or 0) / 1e6
    return {
        "exists": exists,
        "active": active,
        "enabled": said.get("UnitFileState") in _ENABLED,
        "outdated": active and exists and _modified(path) > started + _ROUNDING,
    }


def booted():
    """When this host booted, in seconds since 1970."""
    with open("/proc/uptime") as file:
        return time.time() - float(file.read().split()[0])


def matches(pattern):
    """Paths that a shell's pattern matches, in their order; symlinks that lead nowhere too."""
    return sorted(glob.glob(pattern))


def read(path):
    """The text of a file, at most its first MiB; None when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(LARGEST_TEXT).decode("utf-8", "replace")
    except (IOError, OSError):
        return None


def accepts(host, port, timeout):
    """Whether something accepts a connection, asked for ``timeout`` seconds at most."""
    deadline = time.time() + timeout
    while True:
        try:
            socket.create_connection((host, port), max(deadline - time.time(), _PAUSE)).close()
            return True
        except (OSError, socket.error):
            if time.time() + _PAUSE > deadline:
                return False
            time.sleep(_PAUSE)


def _modified(path):
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0
