"""Podman's command line, with the engine settings that this machine needs."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from testbed.errors import FleetError
from testbed.paths import CACHE

# What podman asks for when nothing else is said; without CAP_SYS_RESOURCE more than the hard limit is refused.
_PODMAN_LIMIT = 1048576


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides how systemd runs in a container here."""

    unified_cgroups: bool
    systemd: bool
    open_files: int
    processes: int

    @classmethod
    def inspect(cls) -> Machine:
        """Look at this machine."""
        return cls(
            unified_cgroups=Path("/sys/fs/cgroup/cgroup.controllers").exists(),
            systemd=Path("/run/systemd/system").exists(),
            open_files=_hard_limit(resource.RLIMIT_NOFILE),
            # Podman lowers its own limit to what the kernel can number, and can not hand on more than that.
            processes=min(_hard_limit(resource.RLIMIT_NPROC), int(Path("/proc/sys/kernel/pid_max").read_text())),
        )

    def engine_settings(self) -> str:
        """The text of ``containers.conf``."""
        limits = [
            f'"{name}={hard}:{hard}"'
            for name, hard in (("nofile", self.open_files), ("nproc", self.processes))
            if hard < _PODMAN_LIMIT
        ]
        lines = ["[containers]", f"default_ulimits = [{', '.join(limits)}]"] if limits else []
        lines += ["[engine]", 'events_logger = "file"']
        if not self.unified_cgroups:
            lines.append('runtime = "runc"')  # crun refuses hybrid cgroups
        if not (self.unified_cgroups and self.systemd):
            lines.append('cgroup_manager = "cgroupfs"')
        return "\n".join(lines) + "\n"

    def init_options(self) -> tuple[str, ...]:
        """Options of ``podman create`` under which systemd boots and MemoryMax is enforced."""
        common = ("--privileged", "--env=container=podman", "--stop-signal=SIGRTMIN+3")
        if self.unified_cgroups:
            return (*common, "--systemd=always")
        # On cgroup v1 podman's own systemd mode shares units between containers and leaves MemoryMax without effect.
        return (
            *common,
            "--systemd=false",
            "--cgroupns=private",
            "--tmpfs=/run:rw,mode=755",
            "--tmpfs=/run/lock",
            "--tmpfs=/tmp:rw,mode=1777",
        )


def _hard_limit(which: int) -> int:
    hard = resource.getrlimit(which)[1]
    return _PODMAN_LIMIT if hard == resource.RLIM_INFINITY else hard


def environment() -> dict[str, str]:
    """The environment under which podman (ours, ansible's and testinfra's) finds the engine settings."""
    path = CACHE / "podman" / "containers.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = Machine.inspect().engine_settings()
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    search = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"  # `su` leaves these out
    return {**os.environ, "CONTAINERS_CONF": str(path), "PATH": search}


def run(*arguments: str, log: Path | None = None, stdin: bytes = b"") -> str:
    """Run podman; its standard output. With ``log`` all output goes to that file instead. Errors: ``FleetError``."""
    command = ["podman", *arguments]
    if log is not None:
        with log.open("ab") as sink:
            done = subprocess.run(command, env=environment(), input=stdin, stdout=sink, stderr=subprocess.STDOUT)
    else:
        done = subprocess.run(command, env=environment(), input=stdin, capture_output=True)
    if done.returncode != 0:
        said = (done.stderr or b"").decode(errors="replace").strip().splitlines()
        reason = said[-1] if said else f"exit code {done.returncode}"
        raise FleetError(f"podman {arguments[0]} failed: {reason}", log=log)
    return (done.stdout or b"").decode(errors="replace")


def succeeds(*arguments: str) -> bool:
    """Whether podman exits with 0 (``container exists``, ``image exists`` ...)."""
    done = subprocess.run(["podman", *arguments], env=environment(), stdin=subprocess.DEVNULL, capture_output=True)
    return done.returncode == 0


def inspect(kind: str, name: str) -> dict[str, Any] | None:
    """What ``podman KIND inspect`` says of one object; None when there is none."""
    if not succeeds(kind, "exists", name):
        return None
    return cast(dict[str, Any], json.loads(run(kind, "inspect", name))[0])
