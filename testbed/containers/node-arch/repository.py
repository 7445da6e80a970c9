"""Makes a pacman repository out of Debian packages, inside the image that is being built: ``repository.py DIRECTORY``.

Standard library only. Each Debian package that the root does not have yet becomes one package, under the name that Arch
gives it; what the root has already becomes a package without files.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DEBS = Path("/var/cache/apt/archives")
# Arch's name, and the Debian package that stands in for it.
WANTED = {"redis": "redis-server", "ufw": "ufw", "wireguard-tools": "wireguard-tools", "wireguard-go": "wireguard-go"}
# In the root already.
PRESENT = ["base", "ca-certificates", "iproute2", "iptables", "openssh", "procps-ng", "python", "sudo"]
# What Debian's maintainer scripts would do.
AFTER = {
    "redis": "useradd --system --home-dir /var/lib/redis --shell /usr/bin/nologin redis",
    "ufw": "cp -n /usr/share/ufw/iptables/*.rules /usr/share/ufw/ufw.conf /etc/ufw/; chmod 0640 /etc/ufw/*.rules",
}
RENAMED = {"usr/lib/systemd/system/redis-server.service": "usr/lib/systemd/system/redis.service"}


def main(repository: Path) -> None:
    """Fill ``repository`` and its database."""
    repository.mkdir(parents=True)
    apt = ["apt-get", "install", "--yes", "--download-only", "--no-install-recommends"]
    subprocess.run([*apt, *WANTED.values()], check=True)
    arch_name = {debian: arch for arch, debian in WANTED.items()}
    built = []
    for deb in sorted(DEBS.glob("*.deb")):
        debian = field(deb, "Package")
        if debian in ("libarchive-tools", "makepkg", "pacman-package-manager", "zstd"):
            continue
        name = arch_name.get(debian, debian)
        needed = [part.split()[0].partition(":")[0] for part in field(deb, "Depends").split(",") if part.strip()]
        there = {field(path, "Package") for path in DEBS.glob("*.deb")}
        built.append(package(repository, name, [arch_name.get(one, one) for one in needed if one in there], deb))
    built += [package(repository, name, [], None) for name in PRESENT]
    subprocess.run(["repo-add", "--quiet", str(repository / "extra.db.tar.gz"), *map(str, built)], check=True)


def field(deb: Path, name: str) -> str:
    """A field of a Debian package; empty when it has none."""
    return subprocess.run(["dpkg-deb", "-f", str(deb), name], check=True, capture_output=True, text=True).stdout.strip()


def package(repository: Path, name: str, needed: list[str], deb: Path | None) -> Path:
    """Write one package; its file."""
    target = repository / f"{name}-1.0-1-any.pkg.tar.zst"
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch)
        if deb is not None:
            subprocess.run(["dpkg-deb", "-x", str(deb), str(tree)], check=True)
            merge(tree)
        lines = [f"pkgname = {name}", f"pkgbase = {name}", "pkgver = 1.0-1", "pkgdesc = stand-in", "size = 1",
                 "arch = any", "builddate = 1", *(f"depend = {one}" for one in needed)]  # fmt: skip
        (tree / ".PKGINFO").write_text("\n".join(lines) + "\n")
        after = AFTER.get(name, ":")
        (tree / ".INSTALL").write_text(f"post_install() {{\n  {after}\n  ldconfig\n}}\n")
        names = sorted(path.name for path in tree.iterdir())
        archived = ["bsdtar", "-c", "--zstd", "-f", str(target), "-C", str(tree), "--uid=0", "--gid=0", *names]
        subprocess.run(archived, check=True)
    return target


def merge(tree: Path) -> None:
    """Arch has one /usr; what the root owns already is left out."""
    for top in ("bin", "sbin", "lib"):
        source = tree / top
        if source.exists():
            shutil.copytree(source, tree / "usr" / top, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(source)
    for old, new in RENAMED.items():
        if (tree / old).exists():
            (tree / old).rename(tree / new)
    for path in sorted(tree.rglob("*"), reverse=True):
        if not path.is_dir() and Path("/", path.relative_to(tree)).exists():
            path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
