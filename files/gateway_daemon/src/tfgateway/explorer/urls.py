"""URLs of an explorer: where its API is, and what a request for it is addressed to. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit, urlunsplit

API = "/api/v1"
_PORTS = {"http": 80, "https": 443}


def api_url(url: str) -> str:
    """The URL of the API: a path that does not end in ``/api/v1`` is replaced by it."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path if path.endswith(API) else API, "", ""))


@dataclass(frozen=True, slots=True)
class PublicUrl:
    """The URL that clients use, where a reverse proxy hands on another path or host.

    host: as clients send it in ``Host``, without the scheme's own port. path: of the API.
    """

    host: str
    path: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """The public form of an explorer's URL. Errors: ``ValueError``."""
        parts = urlsplit(api_url(url))
        if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
            raise ValueError(f"'{url}' is not http(s)://HOST[:PORT][/PATH]")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = parts.port
        return cls(host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}", parts.path)

    def target(self, received: str) -> str:
        """The request target that a client signed, of the one that arrived here."""
        return self.path + received.removeprefix(API) if received.startswith(f"{API}/") else received
