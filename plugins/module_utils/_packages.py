# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Packages through the distribution's own command, so that any Python will do: apt-get, pacman."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import os
import re
import shutil
import tempfile
import time

_QUIET = {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l", "UCF_FORCE_CONFFOLD": "1"}
_PAUSE = 2  # seconds between two looks at a lock


class PackageError(Exception):
    """The package manager failed; the text is for an operator."""


class Apt(object):
    """Debian and Ubuntu. run: ``AnsibleModule.run_command``."""

    program = "/usr/bin/apt-get"
    lists = "/var/lib/apt/lists"
    stamp = "/var/lib/apt/periodic/update-success-stamp"
    _keep = ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]

    def __init__(self, run, lock_timeout):
        self._run = run
        self._lock_timeout = lock_timeout

    def missing(self, names):
        """Those of ``names`` (``one|other``: either will do) that are not installed: lists of alternatives."""
        wanted = [name.split("|") for name in names]
        flat = sorted({one for ones in wanted for one in ones})
        form = r"${Package}\t${Status}\n"
        out = self._run(["dpkg-query", "--show", "--showformat", form] + flat, environ_update=_QUIET)[1]
        installed = parse_dpkg(out)
        return [ones for ones in wanted if not installed & set(ones)]

    def refresh(self, valid_for):
        """Fetch the package lists when they are older than ``valid_for`` seconds."""
        fetched = any("_Packages" in name for name in os.listdir(self.lists)) if os.path.isdir(self.lists) else False
        newest = max(_modified(self.stamp), _modified(self.lists))
        if not fetched or time.time() - newest >= valid_for:
            self._apt("update", "-q")

    def install(self, alternatives):
        """Install one of each list of alternatives."""
        names = [ones[0] for ones in alternatives]
        self._apt("install", "--yes", "--no-install-recommends", *(self._keep + names))

    def updates(self):
        """Packages that an upgrade would change or remove."""
        plan = self._apt("upgrade", "--simulate", "--with-new-pkgs") + self._apt("autoremove", "--simulate")
        return parse_simulation(plan)

    def upgrade(self):
        """Install all updates without a question, keep changed configuration files, remove what nothing needs."""
        self._apt("upgrade", "--yes", "--with-new-pkgs", *self._keep)
        self._apt("autoremove", "--yes", *self._keep)

    def _apt(self, *arguments):
        deadline = time.time() + self._lock_timeout
        while True:
            code, out, err = self._run([self.program] + list(arguments), environ_update=_QUIET)
            if code == 0:
                return out
            # apt 1.6 (Ubuntu 18.04) does not wait for a lock itself.
            if "Could not get lock" not in err or time.time() > deadline:
                raise PackageError("apt-get %s failed: %s" % (arguments[0], reason(err or out)))
            time.sleep(_PAUSE)


class Pacman(object):
    """Arch. It has no partial upgrades, so its database is fetched only where there is none yet, or to upgrade."""

    program = "/usr/bin/pacman"
    database = "/var/lib/pacman"

    def __init__(self, run, lock_timeout):
        self._run = run
        self._lock_timeout = lock_timeout

    def missing(self, names):
        """Those of ``names`` (``one|other``: either will do) that are not installed: lists of alternatives."""
        wanted = [name.split("|") for name in names]
        flat = sorted({one for ones in wanted for one in ones})
        absent = set(self._run([self.program, "--deptest"] + flat, environ_update=_QUIET)[1].split())
        return [ones for ones in wanted if set(ones) <= absent]

    def refresh(self, valid_for):
        """Fetch the database when there is none; how old it may be does not matter."""
        del valid_for
        if not os.path.isdir(self.database + "/sync") or not os.listdir(self.database + "/sync"):
            self._pacman("--sync", "--refresh")

    def install(self, alternatives):
        """Install one of each list of alternatives, the first that the database knows."""
        names = [self._known(ones) for ones in alternatives]
        try:
            self._pacman("--sync", "--needed", "--noconfirm", *names)
        except PackageError as error:
            raise PackageError("%s (an old database? an upgrade refreshes it)" % error)

    def updates(self):
        """Packages that an upgrade would change, found with a database of its own, as checkupdates does it."""
        scratch = tempfile.mkdtemp(prefix="tfgateway-pacman-")
        try:
            os.symlink(self.database + "/local", scratch + "/local")
            self._pacman("--sync", "--refresh", "--dbpath", scratch, "--logfile", "/dev/null")
            argv = [self.program, "--query", "--upgrades", "--dbpath", scratch]
            return sorted(line.split()[0] for line in self._run(argv, environ_update=_QUIET)[1].splitlines() if line)
        finally:
            shutil.rmtree(scratch)

    def upgrade(self):
        """Install all updates without a question; changed configuration files stay, the new ones are .pacnew."""
        self._pacman("--sync", "--refresh", "--sysupgrade", "--noconfirm")

    def _known(self, ones):
        for one in ones[:-1]:
            if self._run([self.program, "--sync", "--info", one], environ_update=_QUIET)[0] == 0:
                return one
        return ones[-1]

    def _pacman(self, *arguments):
        deadline = time.time() + self._lock_timeout
        while os.path.exists(self.database + "/db.lck") and time.time() < deadline:
            time.sleep(_PAUSE)
        code, out, err = self._run([self.program] + list(arguments), environ_update=_QUIET)
        if code != 0:
            raise PackageError("pacman %s failed: %s" % (" ".join(arguments), reason(err or out)))
        return out


MANAGERS = [Apt, Pacman]


def manager(run, lock_timeout):
    """The package manager of this host. Errors: PackageError."""
    for kind in MANAGERS:
        if os.path.exists(kind.program):
            return kind(run, lock_timeout)
    raise PackageError("this host has neither apt-get nor pacman")


def parse_dpkg(text):
    """Names of installed packages, from lines ``name TAB status``."""
    return {line.split("\t")[0] for line in text.splitlines() if line.endswith("\tinstall ok installed")}


def parse_simulation(text):
    """Names of packages in the plan that ``apt-get --simulate`` prints."""
    return sorted(set(re.findall(r"(?m)^(?:Inst|Remv) (\S+)", text)))


def reason(text):
    """What went wrong, in one line: apt's and pacman's own errors, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"E:|error:", line)]
    return "; ".join(errors) or (lines[-1] if lines else "no output")


def _modified(path):
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0
