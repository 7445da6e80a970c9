"""Logins at the node's own redis: a user for each purpose, whose password is a file that its process alone may read.

What each may do is in the role ``tfredis``. A plane has two users where it also writes: what reads all zones must not
be able to write them, and redis before 7 cannot say that of one user.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from redis.credentials import CredentialProvider

_LONGEST = 1024


class RedisUser(NamedTuple):
    """A user of redis."""

    name: str
    secret: str
    """Name of the file with its password, without ``.secret``."""


RECONCILER: Final = RedisUser("reconciler", "reconciler")
DNS: Final = RedisUser("dns", "dns")
DNS_SERIALS: Final = RedisUser("dns-serials", "dns")
PROXY: Final = RedisUser("proxy", "proxy")
PROXY_TUNNELS: Final = RedisUser("proxy-tunnels", "proxy")
FOURTOSIX: Final = RedisUser("fourtosix", "fourtosix")
OPERATOR: Final = RedisUser("operator", "operator")
"""Root, with its commands and its ``redis-cli``."""


class FileLogin(CredentialProvider):
    """Logs in as the first user whose password this process may read; read again for every connection.

    With none it logs in as nobody: what redis lets in without a password, as long as a plane still runs with the group
    of an older unit.
    """

    def __init__(self, directory: Path, users: tuple[RedisUser, ...]) -> None:
        self._files = [(user.name, directory / f"{user.secret}.secret") for user in users]

    def get_credentials(self) -> tuple[str, str]:
        for name, path in self._files:
            try:
                with path.open("r", encoding="ascii") as file:
                    password = file.read(_LONGEST).strip()
            except (OSError, ValueError):
                continue
            if password:
                return name, password
        return ()  # type: ignore[return-value] # redis-py then sends no AUTH

    async def get_credentials_async(self) -> tuple[str, str]:
        return self.get_credentials()
