"""A fleet in containers: one network, an explorer, a web server and gateway nodes; created, kept and removed.

A fleet is described by a small TOML file (``demo/fleet.toml``, ``molecule/*/fleet.toml``); creating is idempotent.
"""

from __future__ import annotations

import hashlib
import io
import ipaddress
import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from testbed.containers import image, podman
from testbed.containers.image import Image
from testbed.errors import FleetError
from testbed.paths import ROOT

_WEB_SERVER = Path(__file__).with_name("web_server.py")
_ARGUMENTS_LABEL = "tfgrid.arguments"
_EXPLORER_HOST = 5
_WEB_HOST = 6
_HOME_HOST = 7
EXPLORER_PORT = 8080
SYSTEM_VARIABLE = "TFGATEWAY_NODE_SYSTEM"
"""Names the image of nodes whose fleet names none, to run a scenario on another distribution."""


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One gateway to be: its inventory name, the last part of its addresses, and what it runs."""

    name: str
    host: int
    resolved: bool = False
    system: str = msgspec.field(default_factory=lambda: os.environ.get(SYSTEM_VARIABLE) or "debian-12")
    """Which image of ``image.SYSTEMS``."""
    own_python: bool = True
    """False: the inventory leaves the stand-in's old Python out, as if there were none."""
    group: str = ""
    """Gateways with the same one are one gateway."""
    sentinel: bool = False
    """It is no gateway, and runs a Sentinel of its group."""


class Fleet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the TOML file says."""

    prefix: str
    """Name of the network; the explorer's and the web server's containers begin with it."""
    state: str
    """Directory below the repository root: key, known hosts, inventory, the explorer's database."""
    ipv4: str
    ipv6: str
    nodes: tuple[Node, ...]
    open_registration: bool = False
    """Gateways register as at older explorers: where old programs take part, which no farm has admitted."""
    accept_any: bool = False
    """The explorer lets workloads through that a gateway has to refuse itself, as older explorers do."""

    @property
    def directory(self) -> Path:
        return ROOT / self.state

    @property
    def explorer_url(self) -> str:
        return f"http://{self.address(_EXPLORER_HOST)}:{EXPLORER_PORT}/api/v1"

    @property
    def web_address(self) -> str:
        return self.address(_WEB_HOST)

    @property
    def web_address6(self) -> str:
        return self.address6(_WEB_HOST)

    @property
    def key(self) -> Path:
        return self.directory / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    def address(self, host: int) -> str:
        """IPv4 address of a host of the network."""
        return str(ipaddress.ip_network(self.ipv4)[host])

    def address6(self, host: int) -> str:
        """IPv6 address of a host of the network; 11 is ``::11``, as a person expects it."""
        return str(ipaddress.ip_network(self.ipv6)[int(str(host), 16)])

    def names(self) -> list[str]:
        """Every container of the fleet."""
        services = [f"{self.prefix}-{service}" for service in ("explorer", "web", "home")]
        return [*services, *(node.name for node in self.nodes)]


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of this machine, shown read-only (or writable) in a container."""

    source: Path
    target: str
    writable: bool = False

    def option(self) -> str:
        return f"--volume={self.source}:{self.target}:{'rw' if self.writable else 'ro'}"


def load(path: Path) -> Fleet:
    """Read a fleet's description, without the nodes whose images cannot be had here. Errors: ``FleetError``."""
    described = load_all(path)
    return msgspec.structs.replace(described, nodes=tuple(node for node in described.nodes if not left_out(node)))


def load_all(path: Path) -> Fleet:
    """Read a fleet's description, with all nodes. Errors: ``FleetError``."""
    try:
        described = msgspec.toml.decode(path.read_bytes(), type=Fleet)
    except (OSError, msgspec.DecodeError) as error:
        raise FleetError(f"{path}: {error}") from error
    unknown = sorted({node.system for node in described.nodes} - image.SYSTEMS.keys())
    if unknown:
        raise FleetError(f"{path}: no system {', '.join(unknown)}, only {', '.join(image.SYSTEMS)}")
    return described


def left_out(node: Node) -> str:
    """Why there is no image for a node here; empty: there is one."""
    if image.SYSTEMS[node.system].from_registry and not image.registry():
        return f"its image comes from a registry, and {image.REGISTRY_VARIABLE} names none"
    return ""


def create_network(fleet: Fleet) -> None:
    """The fleet's network. Errors: ``FleetError``."""
    if podman.succeeds("network", "exists", fleet.prefix):
        return
    podman.run(
        "network", "create", f"--subnet={fleet.ipv4}", "--ipv6", f"--subnet={fleet.ipv6}", fleet.prefix
    )  # fmt: skip


def start_nodes(fleet: Fleet) -> None:
    """Create and boot the nodes that do not run yet; returns when each has booted. Errors: ``FleetError``."""
    public_key = _ensure_key(fleet)
    for node in fleet.nodes:
        options = (*podman.Machine.inspect().init_options(), "--dns=none")
        files = _node_files(fleet, node, public_key)
        _ensure_container(fleet, node.name, node.host, options, ("/sbin/init",), files, image.SYSTEMS[node.system])
    with ThreadPoolExecutor() as pool:
        list(pool.map(_wait_booted, (node.name for node in fleet.nodes)))


def start_explorer(fleet: Fleet, release: Path) -> None:
    """Run ``tfgateway explorer`` out of an unpacked release. Errors: ``FleetError``."""
    database = fleet.directory / "explorer"
    database.mkdir(parents=True, exist_ok=True)
    mounts = (Mount(release, "/opt/tfgateway/current"), Mount(database, "/var/lib/tfgateway-explorer", writable=True))
    command = (
        "/opt/tfgateway/current/bin/tfgateway",
        "explorer",
        f"--listen=0.0.0.0:{EXPLORER_PORT}",
        "--database=/var/lib/tfgateway-explorer/explorer.sqlite",
        *(["--registration=open"] if fleet.open_registration else []),
        *(["--accept-any"] if fleet.accept_any else []),
    )
    options = tuple(mount.option() for mount in mounts)
    _ensure_container(fleet, f"{fleet.prefix}-explorer", _EXPLORER_HOST, options, command)


def start_web(fleet: Fleet, directory: Path) -> None:
    """Run the small web server with the certificate found in ``directory``. Errors: ``FleetError``."""
    mounts = (
        Mount(_WEB_SERVER, "/srv/web_server.py"),
        Mount(directory, "/srv/tls"),
    )
    options = tuple(mount.option() for mount in mounts)
    command = ("/usr/bin/python3", "-I", "/srv/web_server.py", "/srv/tls/certificate.pem", "/srv/tls/key.pem")
    _ensure_container(fleet, f"{fleet.prefix}-web", _WEB_HOST, options, command)


def start_home(fleet: Fleet, release: Path, directory: Path) -> None:
    """Run a web server that no gateway dials, and the tunnel client that makes it reachable. Errors: ``FleetError``.

    directory: holds ``secret``, ``certificate.pem`` and ``key.pem``.
    """
    mounts = (
        Mount(release, "/opt/tfgateway/current"),
        Mount(_WEB_SERVER, "/srv/web_server.py"),
        Mount(directory, "/srv/home"),
    )
    environment = {
        "TRC_SECRET_FILE": "/srv/home/secret",
        "TRC_REMOTE": f"{fleet.address(fleet.nodes[0].host)}:18000",
        "TRC_LOCAL": "127.0.0.1:80",
        "TRC_LOCAL_TLS": "127.0.0.1:443",
    }
    script = (
        "python3 -I /srv/web_server.py /srv/home/certificate.pem /srv/home/key.pem & "
        "exec /opt/tfgateway/current/bin/tfgateway tunnel"
    )
    options = (*(mount.option() for mount in mounts), *(f"--env={name}={value}" for name, value in environment.items()))
    _ensure_container(fleet, f"{fleet.prefix}-home", _HOME_HOST, options, ("/bin/sh", "-c", script))


def remove(fleet: Fleet) -> None:
    """Remove containers, network and state directory; nothing there is fine. Errors: ``FleetError``."""
    for name in fleet.names():
        if podman.succeeds("container", "exists", name):
            podman.run("rm", "--force", "--time=0", "--volumes", name)
    if podman.succeeds("network", "exists", fleet.prefix):
        podman.run("network", "rm", fleet.prefix)
    if fleet.directory.exists():
        shutil.rmtree(fleet.directory)


def _ensure_container(
    fleet: Fleet,
    name: str,
    host: int,
    options: Sequence[str],
    command: Sequence[str],
    files: bytes = b"",
    system: Image = image.DEBIAN,
) -> None:
    """A running container; one that was made with other arguments is replaced."""
    arguments = (
        f"--name={name}",
        f"--hostname={name}",
        f"--network={fleet.prefix}:ip={fleet.address(host)},ip={fleet.address6(host)}",
        "--pull=never",
        *options,
        system.name,
        *command,
    )
    digest = hashlib.sha256("\0".join(arguments).encode() + files).hexdigest()[:16]
    there = podman.inspect("container", name)
    stale = there is not None and there["Config"]["Labels"].get(_ARGUMENTS_LABEL) != digest
    # Created and never started: an interrupted run may not have put the files in.
    if there is not None and (stale or there["State"]["Status"] in ("created", "configured")):
        podman.run("rm", "--force", "--time=0", "--volumes", name)
        there = None
    if there is None:
        podman.run("create", f"--label={_ARGUMENTS_LABEL}={digest}", *arguments)
        if files:
            podman.run("cp", "-", f"{name}:/", stdin=files)
    if there is None or there["State"]["Status"] != "running":
        podman.run("start", name)


def _wait_booted(name: str) -> None:
    """Wait until systemd has started everything (a failed unit of the image does not matter here)."""
    script = "until [ -S /run/systemd/private ]; do sleep 0.1; done; systemctl is-system-running --wait; true"
    state = podman.run("exec", name, "timeout", "120", "sh", "-c", script).strip()
    if state not in ("running", "degraded"):
        raise FleetError(f"{name} does not boot (systemd says '{state}'); look with: podman logs {name}")


def _ensure_key(fleet: Fleet) -> str:
    """The operator's ssh key pair of this fleet; its public half."""
    fleet.directory.mkdir(parents=True, exist_ok=True)
    if not fleet.key.exists():
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"operator of {fleet.prefix}", "-f"]
        done = subprocess.run([*command, str(fleet.key)], capture_output=True, text=True)
        if done.returncode != 0:
            raise FleetError(f"ssh-keygen failed: {done.stderr.strip()}")
    return fleet.key.with_suffix(".pub").read_text()


def _node_files(fleet: Fleet, node: Node, public_key: str) -> bytes:
    """A tar archive of what a fresh server has before Ansible comes: the operator's key and a resolver."""
    resolver = fleet.address(1)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        _add_file(archive, "root/.ssh", None, 0o700)
        _add_file(archive, "root/.ssh/authorized_keys", public_key, 0o600)
        if node.resolved:
            _add_file(archive, "etc/systemd/resolved.conf.d", None, 0o755)
            _add_file(archive, "etc/systemd/resolved.conf.d/upstream.conf", f"[Resolve]\nDNS={resolver}\n", 0o644)
            wanted = "etc/systemd/system/sysinit.target.wants/systemd-resolved.service"
            _add_link(archive, wanted, "/lib/systemd/system/systemd-resolved.service")
            _add_link(archive, "etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")
        else:
            _add_file(archive, "etc/resolv.conf", f"nameserver {resolver}\n", 0o644)
    return buffer.getvalue()


def _add_file(archive: tarfile.TarFile, name: str, text: str | None, mode: int) -> None:
    """A file, or a directory when there is no text."""
    member = tarfile.TarInfo(name)
    member.mode = mode
    content = (text or "").encode()
    member.size = len(content)
    if text is None:
        member.type = tarfile.DIRTYPE
    archive.addfile(member, io.BytesIO(content))


def _add_link(archive: tarfile.TarFile, name: str, target: str) -> None:
    member = tarfile.TarInfo(name)
    member.type = tarfile.SYMTYPE
    member.linkname = target
    archive.addfile(member)
