"""What a run leaves on the disk of a node in a container."""

from __future__ import annotations

from testbed.containers import podman

# Records of logins, by sshd itself or by PAM.
_LOGINS = {"/var/log/btmp", "/var/log/lastlog", "/var/log/wtmp", "/var/log/wtmp.db"}


def changed(container: str) -> set[str]:
    """Paths that are not as in its image, without the records of a login and Ansible's temporary folder."""
    paths = {line.split(" ", 1)[1] for line in podman.run("diff", container).splitlines()} - _LOGINS
    return {path for path in paths if not f"{path}/".startswith("/root/.ansible/")}
