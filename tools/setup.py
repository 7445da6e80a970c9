"""Set this machine up: Debian packages, ``.venv`` from the locked file, the collection on Ansible's path.

Runs on the distribution's Python before anything is installed: standard library only. Repeatable and quick when
nothing is missing. ``setup.py [demo] [test] [bench]`` adds the packages that the demo, the tests or the benchmarks
need.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements" / "dev.lock"
DAEMON = ROOT / "files" / "gateway_daemon"
STAMP = VENV / ".installed"
COLLECTION = ROOT / ".ansible" / "collections" / "ansible_collections" / "tfgrid" / "gateway"
OLDEST, NEWEST = (3, 11), (3, 13)  # what ansible-core 2.19 runs on


@dataclass(frozen=True)
class Package:
    """A Debian package, and the command or file by which it is known to be there, wherever it came from."""

    name: str
    probe: str

    def missing(self) -> bool:
        if self.probe.startswith("/"):
            return not Path(self.probe).exists()
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
        return shutil.which(self.probe, path=path) is None


CONTROLLER = [
    Package("git", "git"),
    Package("openssh-client", "ssh"),
    Package("ca-certificates", "/etc/ssl/certs/ca-certificates.crt"),
]
CONTAINERS = [
    Package("podman", "podman"),
    Package("netavark", "/usr/lib/podman/netavark"),
    Package("aardvark-dns", "/usr/lib/podman/aardvark-dns"),
    Package("iptables", "iptables"),
    Package("debootstrap", "debootstrap"),
    Package("debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg"),
    Package("openssl", "openssl"),
    Package("curl", "curl"),
    Package("dnsutils", "dig"),
]
TESTS = [
    Package("redis-server", "redis-server"),
    Package("postgresql", "/usr/lib/postgresql"),
    Package("libfaketime", "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"),
    Package("knot-dnsutils", "kdig"),
    Package("dnsperf", "dnsperf"),
    Package("nsd", "nsd"),
    Package("certbot", "certbot"),
    Package("python3-certbot-dns-rfc2136", "/usr/lib/python3/dist-packages/certbot_dns_rfc2136"),
    Package("lego", "lego"),
    Package("pebble", "pebble"),
    Package("iproute2", "ip"),
    Package("iptables", "ip6tables"),
    Package("wireguard-tools", "wg"),
    Package("wireguard-go", "wireguard-go"),
    Package("dnsutils", "dig"),
    Package("openssl", "openssl"),
    Package("curl", "curl"),
    Package("golang-go", "go"),
    Package("golang-github-hashicorp-yamux-dev", "/usr/share/gocode/src/github.com/hashicorp/yamux"),
]
BENCH = [
    Package("nsd", "nsd"),
    Package("knot", "knotd"),
    Package("bind9", "named"),
    Package("pdns-server", "pdns_server"),
    Package("pdns-backend-bind", "/usr/lib/x86_64-linux-gnu/pdns/libbindbackend.so"),
    Package("dnsperf", "dnsperf"),
    Package("haproxy", "haproxy"),
    Package("nginx-light", "nginx"),
    Package("libnginx-mod-stream", "/usr/lib/nginx/modules/ngx_stream_module.so"),
    Package("sniproxy", "sniproxy"),
    Package("wrk", "wrk"),
]
"""What parts of the gateway are measured against."""


class SetupError(Exception):
    """One line: what is wrong and what to do."""


def main(wanted: list[str]) -> None:
    """Do what is missing."""
    _continue_with_usable_python()
    packages = list(CONTROLLER)
    if "demo" in wanted:
        if os.geteuid() != 0:
            raise SetupError("systemd in containers needs root; run it as root, for example by sudo")
        packages += CONTAINERS
        # crun refuses hybrid cgroups; with unified ones podman's own choice is right.
        unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
        packages.append(Package("crun", "crun") if unified else Package("runc", "runc"))
    if "test" in wanted:
        packages += TESTS
    if "bench" in wanted:
        packages += BENCH
    names = {package.name for package in packages if package.missing()}
    if not VENV.exists() and not _can_make_venv():
        names.add(f"python{_version()}-venv")
    _install_packages(sorted(names))
    _install_python_packages()
    _link_collection()


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _continue_with_usable_python() -> None:
    """Become a Python that ansible-core supports, if this is none."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            os.execv(found, [found, *sys.argv])  # noqa: S606  (no shell is meant)
    raise SetupError(
        f"Python 3.11, 3.12 or 3.13 is needed, this is {_version()}; install one and say PYTHON3=python3.12"
    )


def _can_make_venv() -> bool:
    """Debian ships venv without ensurepip, in a package of its own."""
    return _succeeds([sys.executable, "-c", "import ensurepip, venv"])


def _install_packages(names: list[str]) -> None:
    if not names:
        return
    if shutil.which("apt-get") is None:
        raise SetupError(f"no apt-get here; install these first: {' '.join(names)}")
    if os.geteuid() != 0:
        raise SetupError(f"Debian packages are missing; run as root, or first: apt-get install {' '.join(names)}")
    _say(f"Debian packages: {' '.join(names)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    log = ROOT / ".cache" / "apt.log"
    log.parent.mkdir(exist_ok=True)
    _run(["apt-get", "update"], environment, log, "is the network up, and does /etc/apt name a reachable mirror?")
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *names]
    with _no_services():
        _run(install, environment, log, "apt-get could not install them")


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Servers that are installed for tests and benchmarks stay stopped: this machine's ports are not theirs."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def _install_python_packages() -> None:
    """Make ``.venv`` hold exactly what the locked file names, and the daemon from this tree."""
    python = VENV / "bin" / "python"
    if VENV.exists() and not _succeeds([str(python), "-c", ""]):
        shutil.rmtree(VENV)  # its interpreter is gone, as after an upgrade of the distribution
    if python.exists():
        wanted = _digest(python)
        if STAMP.exists() and STAMP.read_text() == wanted:
            return
    log = ROOT / ".cache" / "venv.log"
    log.parent.mkdir(exist_ok=True)
    cache = ROOT / ".cache"
    environment = {**os.environ, "PIP_CACHE_DIR": str(cache / "pip"), "UV_CACHE_DIR": str(cache / "uv")}
    hint = "is the Python package index reachable?"
    _say("Python packages from requirements/dev.lock into .venv")
    if not python.exists():
        _run([sys.executable, "-m", "venv", str(VENV)], environment, log, "python3-venv is broken")
    uv = VENV / "bin" / "uv"
    if not uv.exists():
        locked = cache / "uv.lock"
        locked.write_text(_locked("uv"))
        _run(
            [str(python), "-m", "pip", "install", "--require-hashes", f"--requirement={locked}"], environment, log, hint
        )
    install = [str(uv), "pip", "sync", f"--python={python}", "--require-hashes", str(LOCK)]
    _run(install, environment, log, hint)
    editable = ["--no-deps", "--no-build-isolation", "--editable", str(DAEMON)]
    _run([str(uv), "pip", "install", f"--python={python}", *editable], environment, log, "the daemon does not build")
    STAMP.write_text(_digest(python))


def _digest(python: Path) -> str:
    """Of all that decides what ``.venv`` holds."""
    version = subprocess.run([str(python), "--version"], capture_output=True, check=True).stdout
    parts = (LOCK.read_bytes(), (DAEMON / "pyproject.toml").read_bytes(), version)
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _locked(name: str) -> str:
    """The lines of one package in the locked file: version and hashes."""
    lines = LOCK.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{name}=="))
    end = start
    while lines[end].endswith("\\"):
        end += 1
    return "\n".join(lines[start : end + 1]) + "\n"


def _link_collection() -> None:
    """A checkout is found as ``tfgrid.gateway`` without being in a collections folder."""
    if COLLECTION.is_symlink() and COLLECTION.resolve() == ROOT:
        return
    COLLECTION.parent.mkdir(parents=True, exist_ok=True)
    COLLECTION.unlink(missing_ok=True)
    COLLECTION.symlink_to(os.path.relpath(ROOT, COLLECTION.parent))


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def _run(command: list[str], environment: dict[str, str], log: Path, hint: str) -> None:
    with log.open("a") as sink:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
    if done.returncode != 0:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SetupError(f"{Path(command[0]).name} failed: {hint} (all of it: {log.relative_to(ROOT)})\n{end}")


def _say(what: str) -> None:
    print(f"setup: {what}", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (SetupError, OSError) as error:
        sys.exit(f"setup: {error}")
